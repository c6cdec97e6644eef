"""What has been read of a text so far, and the signs that a second moment begins in it."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from halfopen.evidence.text.parsed import Problem, handle
from halfopen.evidence.text.patterns import COMMAND, PIPE, SOCKET_LIKE, TIME_OF_DAY
from halfopen.evidence.text.rows import Line, Row
from halfopen.model import ListenSocket, Process, Socket
from halfopen.tcp import State

LINE_LIMIT = 1 << 16  # characters
SHOWN = 120  # characters of a line that are shown with a problem
LISTS = 32  # in which Linux kept listeners, by port, until 5.19: those of one list may alternate
PROBLEMS = 1000  # that are kept; more are counted in `dropped`

Name: TypeAlias = "bytes | str | tuple[bytes, int, int, int, int | None]"
"""Of a row: what its form says, the key of a connection, or what a listener is kept by."""


class Draft(Struct):
    """What has been read so far. `ends_open`: the text ends without a newline; `open`: the key of the socket there."""

    sockets: dict[bytes, Socket] = {}
    listeners: dict[Name, ListenSocket] = {}
    holders: dict[bytes, Process] = {}
    problems: list[Problem] = []
    dropped: int = 0
    ends_open: bool = False
    open: bytes | None = None
    second: Problem | None = None
    pipe: str = ""  # what a command above rows is piped into
    _rows: dict[Name, int] = {}  # name of a row -> its line
    _last: Name | None = None
    _run: set[tuple[bytes, int, int, int, int | None]] = set()  # listeners directly above
    _marks: dict[str, tuple[int, int]] = {}  # heading or command -> line, rows before it
    _taken: int = 0
    _time: Problem | None = None  # a time of day below a row
    _pipe: str = ""  # as `pipe`, whether or not a row follows

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
        """Adds one socket. A tuple may be listed twice: of a TIME_WAIT and its successor the successor counts."""
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
                self._again(number, text, f"a connection that an earlier line shows as {known.state} is {end.state}")
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
                self._again(number, text, f"the row of line {self._rows[name]} is repeated")
            self._rows.setdefault(name, number)
            self._last = name
        if end is not None and row.process is not None:
            self.holders.setdefault(handle(end), row.process)

    def _listens(self, key: tuple[bytes, int, int, int, int | None], number: int, text: str) -> None:
        """A listener that looks like others at its port: a kernel lists these one after another."""
        if self._run and key[1] % LISTS != next(iter(self._run))[1] % LISTS:
            self._run.clear()
        if key in self.listeners and key not in self._run:
            self._again(number, text, f"a listener at port {key[1]} is repeated, apart from the first")
        self._run.add(key)

    def complain(self, line: Line) -> None:
        """Adds a refused line to the problems, up to PROBLEMS of them; the rest is counted."""
        if len(self.problems) < PROBLEMS:
            hides = line.hides or bool(SOCKET_LIKE.search(line.text[:LINE_LIMIT]))
            self.problems.append(Problem(line.number, line.text.strip()[:SHOWN], line.why, hides))
        else:
            self.dropped += 1

    def _mark(self, line: Line) -> None:
        """A line that is not a row: it may begin a second moment, if there are rows above it."""
        text = " ".join(line.text[:LINE_LIMIT].split())
        command = COMMAND.search(text) if line.why else None
        pipe = PIPE.search(command[0]) if command else None
        if pipe:
            self._pipe = self._pipe or pipe[0][:SHOWN]
        if line.heading or command:
            what, key = ("heading", text) if command is None else ("command", command[0].strip())
            before = self._marks.get(key)
            if before is not None and before[1] < self._taken:
                self._again(line.number, text, f"the {what} of line {before[0]} is repeated")
            self._marks[key] = line.number, self._taken
        if line.why and self._taken and TIME_OF_DAY.search(text) and not SOCKET_LIKE.search(text):
            self._time = Problem(line.number, text[:SHOWN], "there is a time of day between two rows", False)

    def _again(self, number: int, text: str, why: str) -> None:
        """Notes what shows a second moment: the first such line, or a time of day above it."""
        self.second = self.second or self._time or Problem(number, text.strip()[:SHOWN], why, True)
