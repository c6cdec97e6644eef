"""Shared by all tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# How long an example takes is the machine's matter.
settings.register_profile("here", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")
# Nothing of the user's own may change what a test sees.
os.environ.pop("HALFOPEN_INVENTORY", None)
