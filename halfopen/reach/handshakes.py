"""How many handshakes may be under way at a time, and how long to wait when a server has had enough of them.

sshd's MaxStartups counts connections that are not authenticated yet, and drops new ones by chance; a burst of our own
must not make a host look down. So there is a limit for each sshd, and one for each jump host. The limits hold for both
transports; after THROTTLED the limit halves and the host is retried with jitter.
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
FEWEST = 2
TRIES = 4

Address = tuple[str, int]
"""(host, port)"""


class Gate:
    """Lets at most `most` threads through at a time."""

    def __init__(self, most: int) -> None:
        self.most, self.inside, self.changed = most, 0, threading.Condition()

    @contextlib.contextmanager
    def passed(self, name: str, deadline: float) -> Iterator[None]:
        """Waits for a slot until the deadline (time.monotonic()), else HostError. THROTTLED inside halves `most`."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.inside < self.most, max(0.0, deadline - time.monotonic())):
                raise HostError(
                    ErrorCode.THROTTLED,
                    f"too many connections to {name} at once",
                    "a smaller --forks, or more --timeout",
                )
            self.inside += 1
        try:
            yield
        except HostError as error:
            if error.code is ErrorCode.THROTTLED:
                with self.changed:
                    self.most = max(FEWEST, self.most // 2)
            raise
        finally:
            with self.changed:
                self.inside -= 1
                self.changed.notify_all()


@contextlib.contextmanager
def slot_at(sshd: Address, deadline: float) -> Iterator[None]:
    """A slot for one handshake with this sshd. HostError where none is free until the deadline (time.monotonic())."""
    with gate(AT, sshd, AT_ONE_SSHD).passed(sshd[0], deadline):
        yield


@contextlib.contextmanager
def slots_through(jumps: Iterable[Address], deadline: float) -> Iterator[None]:
    """A slot at each of these jump hosts, held from the first handshake to the last one behind them."""
    with ExitStack() as stack:
        for jump in sorted(set(jumps)):  # in one order everywhere, or two chains could wait for each other
            stack.enter_context(gate(THROUGH, jump, THROUGH_ONE_JUMP).passed(jump[0], deadline))
        yield


def gate(gates: dict[Address, Gate], address: Address, most: int) -> Gate:
    """The gate of an address."""
    with GUARD:
        return gates.setdefault(address, Gate(most))


def again(error: HostError, attempt: int, deadline: float) -> bool:
    """Sleeps and gives True if one more attempt is worth it: after `attempt` 0 about 1 s, then 2 s, then 4 s."""
    wait = random.uniform(0.5, 1.5) * 2**attempt
    if error.code is not ErrorCode.THROTTLED or attempt == TRIES - 1 or time.monotonic() + wait >= deadline:
        return False
    time.sleep(wait)
    return True


GUARD = threading.Lock()
AT: dict[Address, Gate] = {}
THROUGH: dict[Address, Gate] = {}
