"""What a text tells of a host's sockets, and every line that was not understood.

A line that may be a socket and could not be read is a hole: from then on an absent socket proves nothing (`whole` is
False). A text is one moment: where a second one begins is told (`second`), since a connection of the first may be gone
in the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from halfopen import address
from halfopen.model import Collector, InterfaceAddress, ListenSocket, Namespace, Process, Socket
from halfopen.table import NO_INODE, RECV_QUEUE, RETRANSMITS, SEND_QUEUE, Table
from halfopen.tcp import TIMER_NUMBERS, State, number_of


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that was not understood. `hides`: it may have been a socket."""

    line: int
    text: str
    why: str
    hides: bool


@dataclass(frozen=True, slots=True)
class ParsedText:
    """All that one text tells. `form` names the program for people; `holders`: socket (see `handle`) -> its process.

    `whole`: a socket that is not here was not there. `gaps` are sentences. `second`: where a second moment begins, or
    what shows that there is one; then the text as it stands is true of no moment.
    """

    collector: Collector
    form: str
    sockets: Mapping[bytes, Socket]
    listeners: tuple[ListenSocket, ...]
    holders: Mapping[bytes, Process]
    problems: tuple[Problem, ...]
    gaps: tuple[str, ...]
    whole: bool
    second: Problem | None = None

    def addresses(self) -> tuple[bytes, ...]:
        """The addresses that must be the host's own: a socket has them as its local one."""
        found = {address.split_key(key)[0] for key in self.sockets} | {one.address for one in self.listeners}
        return tuple(sorted(one for one in found if not address.is_loopback(one) and not address.is_unspecified(one)))

    def namespace(
        self,
        addresses: Iterable[InterfaceAddress] | None = None,
        ports: frozenset[int] = frozenset(),
        netns: int | None = None,
    ) -> Namespace:
        """The table of one network namespace; without `addresses`, those that the sockets show."""
        own = [InterfaceAddress(one, ()) for one in self.addresses()] if addresses is None else addresses
        rows = (
            (one.family, one.scope, key, number_of(one.state), marks_of(one))
            for key, one in self.sockets.items()
            if not ports or not ports.isdisjoint(address.split_key(key)[1::2])
        )
        listeners = tuple(one for one in self.listeners if not ports or one.port in ports)
        return Namespace(netns, tuple(own), Table.of(rows), listeners, ports, self.whole)


def handle(end: Socket | ListenSocket) -> bytes:
    """What names a socket within one text: its key, or a listener's address and port."""
    return end.key if isinstance(end, Socket) else listener_handle(end.address, end.port)


def listener_handle(packed: bytes, port: int) -> bytes:
    """The handle of a LISTEN socket."""
    return packed + port.to_bytes(2, "big")


def marks_of(one: Socket) -> int:
    """The mark byte of a row (see `table`)."""
    timer = next((number for number, timer in TIMER_NUMBERS.items() if timer is one.timer), 0)
    queued = NO_INODE if one.inode == 0 and one.state in (State.ESTABLISHED, State.CLOSE_WAIT) else 0
    return (
        timer
        | (RETRANSMITS if one.retransmits else 0)
        | (SEND_QUEUE if one.send_q else 0)
        | (RECV_QUEUE if one.recv_q else 0)
        | queued
    )
