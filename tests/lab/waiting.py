"""Waiting for a state. Standard library only: the programs in lab hosts use it too.

No expectation rests on how fast a machine is. A test waits until what it needs is there, and fails only where that
does not come at all; what it compares is true whenever it looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which a state is taken never to come: many times what a busy machine needs."""


def until(true: Callable[[], T], patience: float = PATIENCE, every: float = 0.03) -> T:
    """Asks every so many seconds until the answer is true, and gives it; AssertionError where it never is."""
    deadline = time.monotonic() + patience
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {patience} s; the last answer was {found!r}"
        time.sleep(every)
    return found
