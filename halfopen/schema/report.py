"""The report: every count, order, grouping, severity and exit status, computed once and rendered many times.

This is the public JSON contract (`halfopen.report/1`): fields and words may be added, none renamed or dropped.
All strings are hostile until a renderer has escaped them for its medium.

Everywhere: unknown is None (null in JSON), never 0 or "". Names that end in `_s` are seconds, queues and counts of
bytes are bytes, all other numbers are counts. `host` is a name of the inventory or of the command line. An address is
canonical (see `address`); where it has a port it reads `10.0.2.9:5432` or `[2001:db8::1]:5432`.
"""

from __future__ import annotations

from halfopen.errors import ErrorCode
from halfopen.model import Collector

# Offered here too: whoever reads a report needs both.
from halfopen.schema.codes import Answer as Answer
from halfopen.schema.codes import CauseCode as CauseCode
from halfopen.schema.codes import Confidence as Confidence
from halfopen.schema.codes import Outcome as Outcome
from halfopen.schema.codes import OutlookCode as OutlookCode
from halfopen.schema.codes import Reason as Reason
from halfopen.schema.codes import Severity as Severity
from halfopen.schema.codes import StepCode as StepCode
from halfopen.schema.codes import Transport as Transport
from halfopen.schema.codes import Verdict as Verdict
from halfopen.schema.finding import Cause as Cause
from halfopen.schema.finding import Command as Command
from halfopen.schema.finding import ConnectionName as ConnectionName
from halfopen.schema.finding import End as End
from halfopen.schema.finding import Evidence as Evidence
from halfopen.schema.finding import Finding as Finding
from halfopen.schema.finding import Group as Group
from halfopen.schema.finding import Outlook as Outlook
from halfopen.schema.finding import Question as Question
from halfopen.schema.kinds import StateName, Struct, Timestamp, TransportName
from halfopen.tcp import State

SCHEMA = "halfopen.report/1"


class Tool(Struct, frozen=True):
    """What wrote the document: `name` is `halfopen`, `version` its version."""

    name: str
    version: str


class Failure(Struct, frozen=True):
    """Why a host could not be read: an error code, what happened, and what to do or type next.

    `hint` is None where nothing general helps.
    """

    code: ErrorCode
    message: str
    hint: str | None


class HostReport(Struct, frozen=True):
    """One host of the check. Lists are empty and values None where `error` kept them from being read.

    `name`: what the inventory or the command line calls it, `hostname` what it calls itself. `addresses`: those of its
    interfaces, of every network namespace that was read. `kernel`: its release, None where the source does not tell it.
    `uptime_s`: seconds since boot, None where not told. `transport`: how it was reached. `collector`: where its sockets
    were read from. `complete`: every socket was read, so that an absent one is absent. `privileged`: it was read as
    root, None where that is not known. `error`: None where it was read. `sockets`: how many it has, those in LISTEN
    among them, `states` the same by state. `gaps`: sentences about what could not be read, and what would grant it.
    `booted_at`: when its kernel started, by its own clock. `counting_s`: for how many seconds its counters have
    counted.
    """

    name: str
    hostname: str | None
    addresses: tuple[str, ...]
    kernel: str | None
    uptime_s: float | None
    transport: TransportName
    collector: Collector | None
    complete: bool
    privileged: bool | None
    error: Failure | None
    sockets: int | None
    states: dict[StateName, int]
    gaps: tuple[str, ...]
    booted_at: Timestamp | None = None
    counting_s: float | None = None


class MatrixRow(Struct, frozen=True):
    """How many connections between these hosts show this pair of states, each end named by its own host.

    `client` and `server` are the states of the two ends, None where there is no socket at that end. `verdict`,
    `severity` and `confidence` are None where the ends agree. `in_accept_queue`: the server's end is established, but
    its program has not accepted it.
    """

    client_host: str
    server_host: str
    client: State | None
    server: State | None
    count: int
    verdict: Verdict | None = None
    severity: Severity | None = None
    confidence: Confidence | None = None
    in_accept_queue: bool = False


class Listener(Struct, frozen=True):
    """A LISTEN socket that matters to the check: of a finding, of a port that was asked for, or with a full queue.

    `process` and `pid` are None where nobody may look or none was found. `queue`: how many connections wait to be
    accepted, `backlog`: the limit that its program set; the kernel lets `backlog` + 1 wait. `full`: no more fit. These
    three are None where the source does not tell them. `somaxconn`: the most that the kernel lets a program set there;
    None where it was not read.
    """

    host: str
    address: str
    port: int
    process: str | None
    pid: int | None
    queue: int | None
    backlog: int | None
    full: bool | None
    somaxconn: int | None = None


class Counter(Struct, frozen=True):
    """A counter of the host's kernel, by its name in /proc/net/netstat or /proc/net/snmp.

    `value`: since boot, or since its network namespace was made. `delta`: what it grew by during the run, None where it
    was read once. `netns`: the inode of another network namespace of the host that it is of, None for the host's own.
    """

    host: str
    name: str
    value: int
    delta: int | None
    netns: int | None = None


class External(Struct, frozen=True):
    """Connections of a host of the check that lead to none of its hosts: counted, never judged.

    `peer` is where they lead, `count` how many do.
    """

    host: str
    peer: str
    count: int


class UnjudgedRow(Struct, frozen=True):
    """A connection with one end on `host`, in this state, of which nothing is said, and why.

    `client` and `server` are the addresses of its ends as the client sees them.
    """

    client: str
    server: str
    host: str
    state: State
    reason: Reason


class HostPair(Struct, frozen=True):
    """How many findings there are between one client's host and one server's, those that are allowed left out.

    `fails`: some of them fail the run.
    """

    client: str
    server: str
    critical: int
    warning: int
    info: int
    fails: bool = False


class Check(Struct, frozen=True):
    """One check: its hosts, what they agree on, and what not.

    `headline` is the answer in one line, `details` the lines that must not be missed beside it. `exit_code`: what the
    run would end with if this were its only check. `client` and `server` are the first host of each role; `hosts` holds
    all, `nat` names those that were read only for what they translate. `rounds`: how often suspects were looked at.
    `connections`: `agreeing` and the findings. `state_matrix`: a row for each pair of states. `counters`: empty where
    no suspect lasted. `groups` holds the findings in paragraphs, the worst first. `notes`: sentences about how the
    hosts were read and what to know about the result. `elapsed_s`: seconds that the run took, None for files of no one
    run. `pairs`: those with findings, the worst first, where there is more than one pair or more than two hosts; else
    empty. `exit_reason`: why the exit code is that, in one line.
    `direct`: the inventory vouches that nothing between the hosts translates, or answers for one of them.
    `ports`: the server's ports that it is limited to, empty for all. `pauses_s`: how long was waited before each round
    of looks, in seconds; empty where there was none.
    """

    name: str
    headline: str
    details: tuple[str, ...]
    outcome: Outcome
    exit_code: int
    client: HostReport
    server: HostReport
    hosts: tuple[HostReport, ...]
    rounds: int
    connections: int
    agreeing: int
    state_matrix: tuple[MatrixRow, ...]
    listeners: tuple[Listener, ...]
    counters: tuple[Counter, ...]
    external: tuple[External, ...]
    unjudged: tuple[UnjudgedRow, ...]
    findings: tuple[Finding, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    elapsed_s: float | None = None
    pairs: tuple[HostPair, ...] = ()
    nat: tuple[str, ...] = ()
    direct: bool = False
    exit_reason: str = ""
    ports: tuple[int, ...] = ()
    pauses_s: tuple[float, ...] = ()


class Report(Struct, frozen=True, rename={"schema_": "schema"}):
    """The whole answer: the checks, the worst first.

    `started_at` and `finished_at`: when the run began and ended. `outcome` and `exit_code`: of all checks together.
    """

    schema_: str
    tool: Tool
    started_at: Timestamp
    finished_at: Timestamp
    outcome: Outcome
    exit_code: int
    checks: tuple[Check, ...]
