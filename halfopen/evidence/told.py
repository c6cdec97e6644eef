"""What a text tells of a host's sockets: rows, and every line that was not understood.

Text is hostile: whoever names a process writes into it. Lines are bounded, nothing of a line is believed but numbers,
addresses and the words of the tables below, and a line that may be a socket and could not be read is a hole: from then
on an absent socket proves nothing (`whole` is False).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from halfopen import address
from halfopen.model import Collector, InterfaceAddress, ListenSocket, Namespace, Process, Socket
from halfopen.table import NO_INODE, RECV_QUEUE, RETRANSMITS, SEND_QUEUE, Table
from halfopen.tcp import TIMER_NUMBERS, State, number_of
from halfopen.words import plural

LINE_LIMIT = 1 << 16  # characters
ROW_LIMIT = 2_000_000
SHOWN = 120  # characters of a line that is told as a problem
PROBLEMS = 1000  # that are kept


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that was not understood. `hides`: it may have been a socket."""

    line: int
    text: str
    why: str
    hides: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One line that is a socket; `end` None for one that is no end of a connection (bound, other protocol)."""

    end: Socket | ListenSocket | None
    process: Process | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """All that one text tells. `form` names the program for people; `holders`: socket (see `handle`) -> its process.

    `whole`: a socket that is not here was not there. `gaps` are sentences.
    """

    collector: Collector
    form: str
    sockets: Mapping[bytes, Socket]
    listeners: tuple[ListenSocket, ...]
    holders: Mapping[bytes, Process]
    problems: tuple[Problem, ...]
    gaps: tuple[str, ...]
    whole: bool

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


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which a program writes its sockets.

    `claims` finds what no other form's lines have. `rows`: a text -> how its lines are read: a line -> what it is, None
    for a heading or the like; ValueError says why a line that should be a socket is none. `lines` may join lines,
    `complete` fills in what only the whole text tells. Sentences: `gaps` what is not told of the sockets, `holes` what
    sockets it never shows, `filtered` what an option may have kept from it (unless the command is known).
    """

    name: str
    collector: Collector
    claims: re.Pattern[str]
    rows: Callable[[str], Callable[[str], Row | None]]
    lines: Callable[[Iterable[tuple[int, str]]], Iterator[tuple[int, str]]] = iter
    gaps: Callable[[Draft, str], Iterator[str]] = lambda _draft, _text: iter(())
    holes: Callable[[Draft, str], Iterator[str]] = lambda _draft, _text: iter(())
    filtered: Callable[[Draft, str], Iterator[str]] = lambda _draft, _text: iter(())
    complete: Callable[[Draft], None] = lambda _draft: None


@dataclass
class Draft:
    """What has been read so far."""

    sockets: dict[bytes, Socket] = field(default_factory=dict)
    listeners: dict[tuple[bytes, int, int, int, int | None], ListenSocket] = field(default_factory=dict)
    holders: dict[bytes, Process] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    dropped: int = 0

    def add(self, row: Row) -> None:
        """One socket. A tuple may stand there twice: of a TIME_WAIT and its successor the successor counts."""
        end = row.end
        if isinstance(end, Socket):
            known = self.sockets.get(end.key)
            if known is None or end.state is not State.TIME_WAIT:
                self.sockets[end.key] = end
        elif end is not None:
            # Several may share an address and port (SO_REUSEPORT).
            self.listeners.setdefault((end.address, end.port, end.family, end.scope, end.inode), end)
        if end is not None and row.process is not None:
            self.holders.setdefault(handle(end), row.process)

    def complain(self, line: int, text: str, why: str) -> None:
        """Notes a line that was not understood."""
        if len(self.problems) < PROBLEMS:
            self.problems.append(Problem(line, text.strip()[:SHOWN], why, bool(SOCKET_LIKE.search(text[:LINE_LIMIT]))))
        else:
            self.dropped += 1


def read(text: str, form: Form, command_known: bool = False) -> Told:
    """A text in a known form -> what it tells. `command_known`: it is all that a command prints which shows all."""
    draft, read_row = Draft(), form.rows(text)
    for number, line in form.lines(numbered(text)):
        if len(line) > LINE_LIMIT:
            draft.complain(number, line[:LINE_LIMIT], f"longer than {LINE_LIMIT >> 10} KiB")
            continue
        try:
            row = read_row(line)
        except ValueError as error:
            draft.complain(number, line, str(error))
            continue
        if row is not None:
            draft.add(row)
        if len(draft.sockets) > ROW_LIMIT:
            draft.complain(number, line, f"more than {ROW_LIMIT} sockets; the rest was not read")
            draft.dropped += 1
            break
    form.complete(draft)
    gaps = tuple(form.gaps(draft, text))
    families = {one.family for one in draft.sockets.values()} | {one.family for one in draft.listeners.values()}
    if not command_known and 10 not in families:
        gaps = (*gaps, "it has no IPv6 socket: printed with -4 it would lack what dual-stack listeners have accepted")
    holes = (*form.holes(draft, text), *(() if command_known else form.filtered(draft, text)))
    hidden = sum(one.hides for one in draft.problems) + draft.dropped
    if hidden:
        holes = (f"{plural(hidden, 'line')} could not be read, and what is missing may stand there", *holes)
    return Told(
        form.collector,
        form.name,
        draft.sockets,
        tuple(draft.listeners.values()),
        draft.holders,
        tuple(draft.problems),
        (*holes, *gaps),
        not holes,
    )


def numbered(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without blank ones. Only newlines end a line: other signs may stand in a name."""
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.rstrip()
        if WIDE in bare:  # a pattern that tries each way to share out blanks must not get many of them
            bare = re.sub(r"[ \t]{2,}", " ", bare)
        if bare:
            yield number, bare


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


def endpoint(text: str, separator: str, wildcard: bytes) -> tuple[bytes, int]:
    """`10.0.0.1:22`, `[fe80::1]%eth0:22`, `::ffff:10.0.0.1:22`, `10.0.0.1.22`, `*:*` -> address and port (0: any)."""
    host, _, port = text.rpartition(separator)
    if port == "*":
        number = 0
    elif port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536:
        number = int(port)
    else:
        raise ValueError(f"{port[:40]!r} is no port number; names are printed without -n")
    bare = host.partition("%")[0].removeprefix("[").removesuffix("]")
    if bare == "*":
        return wildcard, number
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in bare else socket.AF_INET, bare)
    except (OSError, UnicodeError, ValueError):
        raise ValueError(f"{bare[:60]!r} is no address; without -n it may be a name, and a long one cut") from None
    return address.canonical(packed), number


def end_of(
    state: State,
    local: tuple[bytes, int],
    peer: tuple[bytes, int],
    family: int,
    recv_q: int | None = None,
    send_q: int | None = None,
) -> Socket | ListenSocket | None:
    """A row's words as a socket, which the caller completes. None for a socket that has no peer and does not listen."""
    if state is State.LISTEN:
        return ListenSocket(local[0], local[1], family, queue=recv_q, backlog=send_q)
    if state is State.CLOSE or not peer[1] or address.is_unspecified(peer[0]):
        return None
    if len(local[0]) != len(peer[0]):
        raise ValueError("its two addresses are of two families")
    return Socket(address.make_key(local[0], local[1], peer[0], peer[1]), state, family, recv_q=recv_q, send_q=send_q)


def number(text: str | None, limit: int = 1 << 64) -> int | None:
    """A whole number below a limit, None for anything else."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) >= limit:
        return None
    return int(text)


ANY4, ANY6 = bytes(4), bytes(16)
WIDE = " " * 100

SOCKET_LIKE = re.compile(
    r"(?i)\d\.\d+\.\d+\.\d+[.:]\d|\]:\d|::|\*[.:]|:[0-9a-f]{4}\s|"
    r"\b(?:ESTAB|LISTEN|TIME.WAIT|CLOSE.WAIT|FIN.WAIT|LAST.ACK|SYN.(?:SENT|RE?CV)|tcp[46]?\s)"
)
"""What a line has that may be a socket, in any form."""
