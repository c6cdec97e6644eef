"""The report of `halfopen count` (`halfopen.count/1`): what one host's TCP sockets are, and who holds them.

Public, as the report of a check is: fields may be added, none renamed or dropped. Unknown is None, never 0. All
strings are hostile until a renderer has escaped them.
"""

from __future__ import annotations

from enum import StrEnum

from halfopen.schema.report import Struct, Tool

SCHEMA = "halfopen.count/1"


class HolderKind(StrEnum):
    """Who holds the sockets of a row."""

    PROCESS = "process"  # the processes under `holders`, all of them
    OTHER_USERS = "other-users"  # processes that the user who looked may not look into
    NOBODY = "nobody"  # the kernel alone: no descriptor anywhere
    NOT_FOUND = "not-found"  # a descriptor is open, but no process that can be seen from here has it


class Direction(StrEnum):
    """Whether the port of a row is the host's own (`in`) or the peer's (`out`)."""

    IN = "in"
    OUT = "out"


class Holder(Struct, frozen=True):
    """One process."""

    pid: int
    process: str | None
    command: str | None = None
    unit: str | None = None


class Row(Struct, frozen=True):
    """Sockets with the same holders, direction and port; every socket is in exactly one row.

    More than one holder: they share these very sockets, as a server and its forked workers do. `states` counts all of
    the row's sockets, LISTEN among them. `accept_queue` counts, by state, those of them that wait to be accepted: they
    have no descriptor, and stand with the holders of their listener. `uid` is the owner of the sockets where no
    process is known. `port` is None for the sockets on many ports with few on each. `descriptors` is what `lsof` prints
    lines for.
    """

    keeper: HolderKind
    holders: tuple[Holder, ...]
    uid: int | None
    direction: Direction
    port: int | None
    sockets: int
    states: dict[str, int]
    accept_queue: dict[str, int]
    descriptors: int


class AcceptQueue(Struct, frozen=True):
    """A LISTEN socket. Its accept queue holds `backlog` + 1; `queue` also counts what was reset while it waited."""

    address: str
    port: int
    keeper: HolderKind
    holders: tuple[Holder, ...]
    uid: int | None
    queue: int | None
    backlog: int | None
    full: bool | None


class Lsof(Struct, frozen=True):
    """What `command` would have shown to the same user at the same moment.

    `sockets` in `lines`, one line a descriptor; `hidden` is what it could not show, by reason.
    """

    command: str
    sockets: int
    lines: int
    hidden: dict[str, int]


class CountReport(Struct, frozen=True, rename={"schema_": "schema"}):
    """The whole answer. `pid` and `ports` are what was asked for: None and empty for everything."""

    schema_: str
    tool: Tool
    host: str
    hostname: str | None
    kernel: str | None
    transport: str
    collector: str
    privileged: bool
    taken_at: str
    netns: int | None
    pid: int | None
    ports: tuple[int, ...]
    headline: str
    sockets: int
    states: dict[str, int]
    accept_queue: int
    rows: tuple[Row, ...]
    listeners: tuple[AcceptQueue, ...]
    lsof: Lsof
    notes: tuple[str, ...]
