"""What a text tells of a host's sockets: rows, and every line that was not understood.

Text is hostile: whoever names a process writes into it. Lines are bounded, nothing of a line is believed but numbers,
addresses and the words of the tables below, and a line that may be a socket and could not be read is a hole: from then
on an absent socket proves nothing (`whole` is False). A line is one row: where two stand on one, where a terminal has
wrapped one, or where the text ends within one, it is refused with its number. A text is one moment: where a second one
begins is told (`Told.second`), since a connection of the first may be gone in the second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import TypeAlias

from halfopen import address
from halfopen.model import Collector, InterfaceAddress, ListenSocket, Namespace, Process, Socket
from halfopen.table import NO_INODE, RECV_QUEUE, RETRANSMITS, SEND_QUEUE, Table
from halfopen.tcp import TIMER_NUMBERS, State, number_of
from halfopen.words import plural

LINE_LIMIT = 1 << 16  # characters
ROW_LIMIT = 2_000_000
SHOWN = 120  # characters of a line that is told as a problem
LISTS = 32  # in which Linux kept listeners, by port, until 5.19: those of one list may stand between each other
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
    """One line that is a socket; `end` None for one that is no end of a connection (bound, other protocol).

    `name`: what no other row of one output has; None where that is the connection itself, or a listener's inode.
    """

    end: Socket | ListenSocket | None
    process: Process | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line with those that belong to it: its row, or `why` it was refused; neither where it is no socket.

    `hides`: it is refused and known to be a row, or a part of one. `heading`: of a table of sockets. `open`: the text
    ends in it, so that something may be missing behind its row.
    """

    number: int
    text: str
    row: Row | None = None
    why: str = ""
    hides: bool = False
    heading: bool = False
    open: bool = False


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
        others = frozenset(one.port for one in self.listeners if ports and one.port not in ports)
        return Namespace(netns, tuple(own), Table.of(rows), listeners, ports, self.whole, other_listeners=others)


@dataclass(frozen=True, slots=True)
class TextFormat:
    """One way in which a program writes its sockets.

    `claims` finds what no other form's lines have. `begins` finds where a row begins, or the heading of a table of
    sockets (its group `heading`), anywhere in a line: twice in one line is two rows on it. `names` finds what others
    chose, which may look like a row. `rows`: a text -> how its lines are read: a line -> what it is, None for a heading
    or the like; ValueError says why a line that should be a socket is none. `lines` may join lines, `complete` fills in
    what only the whole text tells. Sentences: `gaps` what is not told of the sockets, `holes` what sockets it never
    shows, `filtered` what an option may have kept from it (unless the command is known).
    """

    name: str
    collector: Collector
    claims: re.Pattern[str]
    begins: re.Pattern[str]
    rows: Callable[[str], Callable[[str], Row | None]]
    lines: Callable[[Iterable[tuple[int, str]]], Iterator[tuple[int, str]]] = iter
    names: re.Pattern[str] | None = None
    gaps: Callable[[Draft, str], Iterator[str]] = lambda _draft, _text: iter(())
    holes: Callable[[Draft, str], Iterator[str]] = lambda _draft, _text: iter(())
    filtered: Callable[[Draft, str], Iterator[str]] = lambda _draft, _text: iter(())
    complete: Callable[[Draft], None] = lambda _draft: None


@dataclass
class Draft:
    """What has been read so far. `ends_open`: the text ends without a newline; `open`: the key of the socket there."""

    sockets: dict[bytes, Socket] = field(default_factory=dict)
    listeners: dict[Name, ListenSocket] = field(default_factory=dict)
    holders: dict[bytes, Process] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    dropped: int = 0
    ends_open: bool = False
    open: bytes | None = None
    second: Problem | None = None
    pipe: str = ""  # what a command above rows is piped into
    _rows: dict[Name, int] = field(default_factory=dict)  # name of a row -> its line
    _last: Name | None = None
    _run: set[tuple[bytes, int, int, int, int | None]] = field(default_factory=set)  # listeners directly above
    _marks: dict[str, tuple[int, int]] = field(default_factory=dict)  # heading or command -> line, rows before it
    _taken: int = 0
    _time: Problem | None = None  # a time of day that stands below a row
    _pipe: str = ""  # as `pipe`, whether or not a row stands below it

    def take(self, line: Line) -> None:
        """One line, whatever it is."""
        self.ends_open = self.ends_open or line.open
        if line.why:
            self.complain(line)
        if line.row is None:
            self._mark(line)
            return
        self.add(line.row, line.number, line.text)
        if line.open and isinstance(line.row.end, Socket):
            self.open = line.row.end.key

    def add(self, row: Row, number: int, text: str = "") -> None:
        """One socket. A tuple may stand there twice: of a TIME_WAIT and its successor the successor counts."""
        self._taken += 1
        self.pipe = self.pipe or self._pipe
        if self._time is not None:
            self.second = self.second or self._time
        end = row.end
        name: Name | None = row.name
        if isinstance(end, Socket):
            name = name or end.key
            known = self.sockets.get(end.key)
            if known is not None and known.state is not end.state and State.TIME_WAIT not in (known.state, end.state):
                self._again(number, text, f"a connection that stood there before is {end.state}, and was {known.state}")
            if known is None or end.state is not State.TIME_WAIT:
                self.sockets[end.key] = end
        elif end is not None:
            # Several may share an address and port (SO_REUSEPORT), so that only the inode tells one from another.
            key = (end.address, end.port, end.family, end.scope, end.inode)
            name = name or (key if end.inode else None)
            if name is None:
                self._listens(key, number, text)
            self.listeners.setdefault(key, end)
        if not isinstance(end, ListenSocket):
            self._run.clear()
        if name is not None:
            # A kernel that is asked in pieces may repeat the last row of one as the first of the next.
            if name in self._rows and name != self._last:
                self._again(number, text, f"the row of line {self._rows[name]} stands there once more")
            self._rows.setdefault(name, number)
            self._last = name
        if end is not None and row.process is not None:
            self.holders.setdefault(handle(end), row.process)

    def _listens(self, key: tuple[bytes, int, int, int, int | None], number: int, text: str) -> None:
        """A listener that nothing tells from others at its port: a kernel gives these one after another."""
        if self._run and key[1] % LISTS != next(iter(self._run))[1] % LISTS:
            self._run.clear()
        if key in self.listeners and key not in self._run:
            self._again(number, text, f"a listener at port {key[1]} stands there once more, apart from the first")
        self._run.add(key)

    def complain(self, line: Line) -> None:
        """Notes a line that was refused."""
        if len(self.problems) < PROBLEMS:
            hides = line.hides or bool(SOCKET_LIKE.search(line.text[:LINE_LIMIT]))
            self.problems.append(Problem(line.number, line.text.strip()[:SHOWN], line.why, hides))
        else:
            self.dropped += 1

    def _mark(self, line: Line) -> None:
        """A line that is no row: it may begin a second moment, if rows stand above it."""
        text = " ".join(line.text[:LINE_LIMIT].split())
        command = COMMAND.search(text) if line.why else None
        pipe = PIPE.search(command[0]) if command else None
        if pipe:
            self._pipe = self._pipe or pipe[0][:SHOWN]
        if line.heading or command:
            what, key = ("heading", text) if command is None else ("command", command[0].strip())
            before = self._marks.get(key)
            if before is not None and before[1] < self._taken:
                self._again(line.number, text, f"the {what} of line {before[0]} stands there once more")
            self._marks[key] = line.number, self._taken
        if line.why and self._taken and TIME_OF_DAY.search(text) and not SOCKET_LIKE.search(text):
            self._time = Problem(line.number, text[:SHOWN], "a time of day stands between two rows", False)

    def _again(self, number: int, text: str, why: str) -> None:
        """What shows a second moment; the first such line counts, and a time of day that stands above it."""
        self.second = self.second or self._time or Problem(number, text.strip()[:SHOWN], why, True)


def read(text: str, form: TextFormat, command_known: bool = False) -> ParsedText:
    """A text in a known form -> what it tells. `command_known`: it is all that a command prints which shows all."""
    draft = Draft()
    lines: Iterator[Line | None] = chain(lines_of(text, form), (None,))
    for line, below in pairwise(lines):
        assert line is not None
        if line.row is not None and below is not None and below.why and TAIL.match(below.text):
            line = refused(line, f"it seems to go on in line {below.number}, as if it had been wrapped")
        draft.take(line)
        if len(draft.sockets) > ROW_LIMIT:
            draft.complain(refused(line, f"more than {ROW_LIMIT} sockets; the rest was not read"))
            draft.dropped += 1
            break
    form.complete(draft)
    gaps = tuple(form.gaps(draft, text))
    families = {one.family for one in draft.sockets.values()} | {one.family for one in draft.listeners.values()}
    if not command_known and 10 not in families:
        gaps = (*gaps, "it has no IPv6 socket: printed with -4 it would lack what dual-stack listeners have accepted")
    holes = (*form.holes(draft, text), *(() if command_known else form.filtered(draft, text)))
    hidden = sum(one.hides for one in draft.problems) + draft.dropped
    sign = interrupted(text)
    if sign is not None:
        holes = (f"line {sign[0]} shows that the text was interrupted (`{sign[1]}`), so rows may be missing", *holes)
    if draft.ends_open:
        holes = ("its last line has no newline, so it may be cut there (end it with one if it is whole)", *holes)
    if draft.pipe:
        holes = (f"the command is piped (`{draft.pipe}`), so rows may be missing", *holes)
    if hidden:
        holes = (f"{plural(hidden, 'line')} could not be read, and what is missing may stand there", *holes)
    return ParsedText(
        form.collector,
        form.name,
        draft.sockets,
        tuple(draft.listeners.values()),
        draft.holders,
        tuple(draft.problems),
        (*holes, *gaps),
        not holes,
        draft.second,
    )


def lines_of(text: str, form: TextFormat) -> Iterator[Line]:
    """The lines of a text, each read as one row or refused.

    Of a last line without a newline only what cannot be cut is read: a row that is whole without the rest, or nothing.
    """
    body, cut = unfinished(text)
    last: Line | None = None
    for line in whole_lines(body, form):
        if last is not None:
            yield last
        last = line
    if cut is not None and body.rpartition("\n")[2].strip():  # of its last line something is left, so `last` has it
        assert last is not None
        whole = not last.why and (last.row is None or last.row.end is not None)
        yield replace(last, open=True) if whole else cut
        return
    if last is not None:
        yield last
    if cut is not None:
        yield cut


def whole_lines(text: str, form: TextFormat) -> Iterator[Line]:
    """The lines of a text that is not cut."""
    read_row = form.rows(text)
    width = None  # of the terminal that watch ran in: it cuts each line there, and its heading fills one
    for number, line in form.lines(numbered(text)):
        if WATCH.match(line):
            width = len(line)
        elif len(line) == width:
            yield refused(Line(number, line), "it is as wide as the terminal that watch ran in, so that it may be cut")
            continue
        if len(line) > LINE_LIMIT:
            yield Line(number, line[:LINE_LIMIT], why=f"longer than {LINE_LIMIT >> 10} KiB")
            continue
        bare = form.names.sub(" ", line) if form.names else line
        begins = list(form.begins.finditer(bare))
        heading = any(one.lastgroup == "heading" for one in begins)
        if len(begins) > 1 or heading + len(ENDS.findall(bare)) > 1:
            yield refused(Line(number, line), "more than one row stands on this line")
            continue
        try:
            yield Line(number, line, read_row(line), heading=heading)
        except ValueError as error:
            yield Line(number, line, why=str(error))


def refused(line: Line, why: str) -> Line:
    """A line that is a row, or a part of one, and cannot be read as it stands."""
    return replace(line, row=None, why=why, hides=True)


def unfinished(text: str) -> tuple[str, Line | None]:
    """A text -> what of it is whole, and its last line where no newline ends it, so that it may be cut.

    Of such a line the last word may be cut (a port: 403 of 40314), unless it is one that cannot go on.
    """
    last = text.rpartition("\n")[2]
    if not last.strip() or (PROMPT.search(last) and not SOCKET_LIKE.search(last)):
        return text, None
    dropped = 0 if last[-1].isspace() or FINISHED.search(last) else len(last.split()[-1])
    why = "the text ends within this line, before its newline, so that it may be cut"
    return text[: len(text) - dropped], refused(Line(text.count("\n") + 1, last), why)


def interrupted(text: str) -> tuple[int, str] | None:
    """The first line that shows a text to be a part: of a pager, a signal, a lost connection, or of who copied it."""
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return next((one for one in lines if len(one[1]) <= LONG and INTERRUPTED.fullmatch(one[1])), None)


def numbered(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without blank ones. Only newlines end a line: other signs may stand in a name."""
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.rstrip()
        if len(bare) > LONG:  # a pattern that tries each way to share out blanks must not get many of them
            bare = WIDE.sub(" " * 20, bare)
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
        return address.parse(bare), number
    except ValueError:
        raise ValueError(f"{bare[:60]!r} is no address; without -n it may be a name, and a long one cut") from None


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


Name: TypeAlias = "bytes | str | tuple[bytes, int, int, int, int | None]"
"""Of a row: what its form says, the key of a connection, or what a listener is kept by."""

ANY4, ANY6 = bytes(4), bytes(16)
LONG = 200  # characters that no row has without names and the second lines of ss -i
WIDE = re.compile(r"(?<!\s)\s{20,}")

SOCKET_LIKE = re.compile(
    r"(?i)\d\.\d+\.\d+\.\d+[.:]\d|\]:\d|::|(?<!\*)\*[.:]|:[0-9a-f]{4}\s|"
    r"\b(?:ESTAB|LISTEN|TIME.WAIT|CLOSE.WAIT|FIN.WAIT|LAST.ACK|CLOSING|SYN.(?:SENT|RE?CV)|tcp[46]?\s+[\d*\[])|"
    r"^\W*(?:\.{3}|\u2026)|\b(?:snip|omitted|truncated)\b"
)
"""What a line has that may be a socket, in any form, or that stands for rows which somebody left out."""

INTERRUPTED = re.compile(
    r"-- ?More ?--.*|lines \d+-\d+.*|\^[CZ\\].*|(?:\[\d+\]\W*|.*: +\d+ )?(?:Killed|Terminated|Stopped)(?:\s.*)?|"
    r"etc\.?|[(\[<]?(?:and )?\d+ more(?: [a-z]+)?[)\]>]?\.?|"
    r".*(?:\bclosed by remote host\.?|\bBroken pipe|\bConnection reset by peer)|Timeout, server .* not responding\."
)
"""A whole line that is no part of any output: behind it, or where it stands, rows may be missing."""

PROMPT = re.compile(r"[$#%>`]\s*$")
"""How a last line ends that is a prompt, or the end of a block in a page, and needs no newline."""

FINISHED = re.compile(
    r"(?:[)\]>]|\s(?:ESTABLISHED|SYN_SENT|SYN_RECV|SYN_RCVD|SYN_RECEIVED|FIN_WAIT_?[12]|TIME_WAIT|CLOSE_WAIT|LAST_ACK|"
    r"CLOSING|LISTEN(?:ING)?))$"
)
"""How a line ends whose last word cannot go on. CLOSE could: CLOSE_WAIT."""

ZONE = r"(?:%[\w.-]{1,20})?"
ENDPOINT = (
    rf"(?:(?:\d+(?:\.\d+){{3}}|\[?[\da-f]*:[\da-f:.]{{1,40}}{ZONE}\]?|\*){ZONE}[.:](?:\d{{1,5}}|\*)"
    r"|[\dA-F]{8}(?:[\dA-F]{24})?:[\dA-F]{4})"
)
ENDS = re.compile(rf"(?<!\S){ENDPOINT}\s+{ENDPOINT}(?!\S)")
"""Both ends of a row: a second row shows by them on a line, though it has lost its first word."""

TAIL = re.compile(
    r"(?!\s*\d+\s+\d+\s+[\w%\[\]*]*[.:])\s*(?:(?=\S*[\d:\]])[0-9a-fA-F:.%\]]+(?=[\s(]|$)|"
    r"[0-9a-f]+(?=\s*$|\s+(?:<?--?>|cgroup:|v6only:|users:))|_[A-Z0-9])"
)
"""How a line begins that may be the rest of the one above it: half a port, a number, a cookie or a state."""

COMMAND = re.compile(
    r"""(?:^|[\s/|;&('"`$#%>])(?:ss|netstat(?:\.exe)?|lsof|watch|cat /proc/net/tcp6?)(?:[\s|;&)'"`].*)?$"""
)
PIPE = re.compile(r"(?<!\|)\|(?!\|).*")
WATCH = re.compile(r"Every \d[\d.,]*s: .*\d$")
TIME_OF_DAY = re.compile(r"(?<![\w:.])\d{1,2}:\d\d:\d\d(?![\w:])")
