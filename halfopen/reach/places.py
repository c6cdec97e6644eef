"""How many handshakes may be under way at a time, and how long to wait when a server has had enough of them.

sshd's MaxStartups counts connections that are not authenticated yet, and drops new ones by chance; our own storm must
never read as a host that is down. So there are a few places at each sshd, and a few through each jump host, whichever
way leads there; a server that throttles all the same is tried again a little later, each host at another moment.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from halfopen.errors import ErrorCode, HostError

AT_ONE_SSHD = 8
THROUGH_ONE_JUMP = 8
TRIES = 3

Address = tuple[str, int]
"""(host, port)"""


@contextlib.contextmanager
def place_at(sshd: Address, deadline: float) -> Iterator[None]:
    """A place for one handshake with this sshd. HostError when the deadline (time.monotonic()) passes before."""
    with taken(AT, sshd, AT_ONE_SSHD, deadline):
        yield


@contextlib.contextmanager
def way_through(jumps: Iterable[Address], deadline: float) -> Iterator[None]:
    """A place through each of these jump hosts, from the first handshake to the last one behind them."""
    with ExitStack() as stack:
        for jump in sorted(set(jumps)):  # in one order everywhere, or two chains could wait for each other
            stack.enter_context(taken(THROUGH, jump, THROUGH_ONE_JUMP, deadline))
        yield


@contextlib.contextmanager
def taken(
    places: dict[Address, threading.BoundedSemaphore], address: Address, most: int, deadline: float
) -> Iterator[None]:
    """One of the places of a table."""
    with GUARD:
        free = places.setdefault(address, threading.BoundedSemaphore(most))
    if not free.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise HostError(
            ErrorCode.THROTTLED,
            f"too many connections to {address[0]} at once",
            "a smaller --forks, a longer --timeout",
        )
    try:
        yield
    finally:
        free.release()


def pause(attempt: int, deadline: float) -> None:
    """Waits before the next attempt (the first is 0): a second, then two, spread so that a fleet does not come back
    together."""
    time.sleep(min(random.uniform(0.5, 1.5) * 2**attempt, max(0.0, deadline - time.monotonic())))


GUARD = threading.Lock()
AT: dict[Address, threading.BoundedSemaphore] = {}
THROUGH: dict[Address, threading.BoundedSemaphore] = {}
