"""The report of `halfopen count` (`halfopen.count/1`): what one host's TCP sockets are, and who holds them.

Public, as the report of a check is, and with the same words and units (see `report`): fields may be added, none
renamed or dropped. Unknown is None, never 0. All strings are hostile until a renderer has escaped them.
"""

from __future__ import annotations

from enum import StrEnum

from halfopen.model import Collector
from halfopen.schema.kinds import StateName, Struct, Timestamp, TransportName
from halfopen.schema.report import Tool

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
    """One process. `process` is its name, None where it ended before that was read.

    `command`: its command line, None where that may not be read. `unit`: its container or systemd unit, None where its
    cgroup names none.
    """

    pid: int
    process: str | None
    command: str | None = None
    unit: str | None = None


class Row(Struct, frozen=True):
    """Sockets with the same holders, direction and port; every socket is in exactly one row.

    `holders`: empty unless `holder_kind` is `process`. More than one: they share these very sockets, as a server and
    its forked workers do. `uid`: the number of the sockets' owner, None where a process is known or nobody holds them.
    `port`: None for the sockets on many ports with few on each. `sockets`: how many; `states`: the same by state,
    LISTEN among them. `accept_queue`: how many of them wait to be accepted, by state; they have no descriptor, and
    stand with the holders of their listener. `descriptors`: how many descriptors are open on them, for each of which
    `lsof` prints a line.
    """

    holder_kind: HolderKind
    holders: tuple[Holder, ...]
    uid: int | None
    direction: Direction
    port: int | None
    sockets: int
    states: dict[StateName, int]
    accept_queue: dict[StateName, int]
    descriptors: int


class AcceptQueue(Struct, frozen=True):
    """A LISTEN socket and its accept queue. `holder_kind`, `holders` and `uid` are as in a row.

    `queue`: how many connections the kernel says wait; it also counts what was reset while it waited. `backlog`: the
    limit that its program set; the kernel lets `backlog` + 1 wait. `full`: no more fit. These three are None where the
    source does not tell them.
    """

    address: str
    port: int
    holder_kind: HolderKind
    holders: tuple[Holder, ...]
    uid: int | None
    queue: int | None
    backlog: int | None
    full: bool | None


class Lsof(Struct, frozen=True):
    """What `command` would have shown to the same user at the same moment.

    `sockets` in `lines`, one line a descriptor. `hidden`: how many it could not show, by reason: `accept queue`,
    `other-users`, `not-found`, `TIME_WAIT`, `SYN_RECV`, or a state and `orphan` for a socket that its program has
    closed.
    """

    command: str
    sockets: int
    lines: int
    hidden: dict[str, int]


class CountReport(Struct, frozen=True, rename={"schema_": "schema"}):
    """The whole answer. `pid` and `ports` are what was asked for: None and empty for everything.

    `host`: what the inventory or the command line calls it; `hostname`: what it calls itself; `kernel`: its release.
    `transport`: how it was reached; `collector`: where its sockets were read from; `privileged`: as root. `taken_at`:
    when they were read. `netns`: the inode of the network namespace that was counted, None where it is not known.
    `headline`: the answer in one line. `sockets`, `states`, `accept_queue`: the sums of the rows. `listeners`: the
    LISTEN sockets, those that are full first. `notes`: sentences that a reader must know to read the numbers right.
    """

    schema_: str
    tool: Tool
    host: str
    hostname: str | None
    kernel: str | None
    transport: TransportName
    collector: Collector
    privileged: bool
    taken_at: Timestamp
    netns: int | None
    pid: int | None
    ports: tuple[int, ...]
    headline: str
    sockets: int
    states: dict[StateName, int]
    accept_queue: int
    rows: tuple[Row, ...]
    listeners: tuple[AcceptQueue, ...]
    lsof: Lsof
    notes: tuple[str, ...]
