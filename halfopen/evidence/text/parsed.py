"""The sockets that a text shows, and every line of it that was not understood.

A line that may be a socket and could not be read is a hole: from then on an absent socket proves nothing (`whole` is
False). A text is one moment: `second` is where a second one begins, since a connection of the first may be gone there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from halfopen import address
from halfopen.model import Collector, InterfaceAddress, ListenSocket, Namespace, Process, Socket
from halfopen.table import NO_INODE, RECV_QUEUE, RETRANSMITS, SEND_QUEUE, Table
from halfopen.tcp import TIMER_NUMBERS, State, number_of


class Problem(Struct, frozen=True):
    """A line that was not understood. `hides`: it may have been a socket."""

    line: int
    text: str
    why: str
    hides: bool


class ParsedText(Struct, frozen=True):
    """All that one text shows. `form`: its program, for messages. `holders`: socket (see `handle`) -> its process.

    `whole`: a socket that the text does not show did not exist. `damaged`: it is not whole because rows could not be
    read or are cut off. `gaps`: sentences, what the text does not show.
    `second`: where a second moment begins, or what shows that there is one; then no moment was as the text says.
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
    damaged: bool = False

    def addresses(self) -> tuple[bytes, ...]:
        """Packed addresses that must be the host's own, since a socket has them as local address."""
        found = {address.split_key(key)[0] for key in self.sockets} | {listener.address for listener in self.listeners}
        return tuple(
            sorted(packed for packed in found if not address.is_loopback(packed) and not address.is_unspecified(packed))
        )

    def namespace(
        self,
        addresses: Iterable[InterfaceAddress] | None = None,
        ports: frozenset[int] = frozenset(),
        netns: int | None = None,
    ) -> Namespace:
        """The sockets as a network namespace, limited to `ports` if any. `addresses` None: those of its sockets."""
        own = [InterfaceAddress(packed, ()) for packed in self.addresses()] if addresses is None else addresses
        rows = (
            (socket.family, socket.scope, key, number_of(socket.state), marks_of(socket))
            for key, socket in self.sockets.items()
            if not ports or not ports.isdisjoint(address.split_key(key)[1::2])
        )
        listeners = tuple(listener for listener in self.listeners if not ports or listener.port in ports)
        others = frozenset(listener.port for listener in self.listeners if ports and listener.port not in ports)
        table = Table.of(rows)
        return Namespace(
            netns,
            tuple(own),
            table,
            listeners,
            ports,
            self.whole,
            damaged=self.damaged,
            other_listeners=others,
        )


def handle(end: Socket | ListenSocket) -> bytes:
    """What names a socket within one text: its key, or a listener's address and port."""
    return end.key if isinstance(end, Socket) else listener_handle(end.address, end.port)


def listener_handle(packed: bytes, port: int) -> bytes:
    """The handle of a LISTEN socket."""
    return packed + port.to_bytes(2, "big")


def marks_of(socket: Socket) -> int:
    """The mark byte of a row (see `table`)."""
    timer = next((number for number, timer in TIMER_NUMBERS.items() if timer is socket.timer), 0)
    queued = NO_INODE if socket.inode == 0 and socket.state in (State.ESTABLISHED, State.CLOSE_WAIT) else 0
    return (
        timer
        | (RETRANSMITS if socket.retransmits else 0)
        | (SEND_QUEUE if socket.send_q else 0)
        | (RECV_QUEUE if socket.recv_q else 0)
        | queued
    )
