"""Shared by all tests."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("here", deadline=None, max_examples=200)
settings.load_profile("here")
# Nothing of the user's own may change what a test sees.
os.environ.pop("HALFOPEN_INVENTORY", None)
