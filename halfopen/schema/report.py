"""The report: every count, order, grouping, severity and exit status, computed once and rendered many times.

This is the public JSON contract (`halfopen.report/1`): fields and words may be added, none renamed or dropped.
All strings are hostile until a renderer has escaped them for its medium.

Everywhere: unknown is None (null in JSON), never 0 or "". Names that end in `_s` are seconds, queues and counts of
bytes are bytes, all other numbers are counts. `host` is a name of the inventory or of the command line. An address is
canonical (see `address`); where it has a port it reads `10.0.2.9:5432` or `[2001:db8::1]:5432`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec

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
from halfopen.schema.codes import Transport as Transport
from halfopen.schema.codes import Verdict as Verdict
from halfopen.tcp import State, Timer

SCHEMA = "halfopen.report/1"


def words(enum: type[StrEnum]) -> dict[str, Any]:
    """A JSON Schema of the words of an enum, for text that comes from it without being typed so."""
    return {"enum": sorted(enum)}


Timestamp = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""ISO 8601 in UTC with milliseconds, `2026-01-01T12:00:00.000Z`."""
TransportName = Annotated[str, msgspec.Meta(extra_json_schema=words(Transport))]
CauseName = Annotated[str, msgspec.Meta(extra_json_schema=words(CauseCode))]
StateName = Annotated[str, msgspec.Meta(extra_json_schema={"anyOf": [words(State), {"pattern": "^[0-9]+$"}]})]
"""A state by name, or by the kernel's number where that is none which this version knows."""


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all parts of the report."""


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
    three are None where the source does not tell them.
    """

    host: str
    address: str
    port: int
    process: str | None
    pid: int | None
    queue: int | None
    backlog: int | None
    full: bool | None


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


class ConnectionName(Struct, frozen=True):
    """The connection as the client sees it: its local address and the address that it dialled.

    `community_id` is what Zeek and Suricata call it (Community ID 1, seed 0).
    """

    client: str
    server: str
    community_id: str


class End(Struct, frozen=True):
    """One end of a connection: a socket of a host. All but the first four fields are None where the kernel, the source
    or the rights of the user who looked do not give them.

    `local` and `peer`: the addresses as this host sees them. `pid`, `process`, `command`, `unit`: a process that holds
    it, its command line, and its container or systemd unit; None also where no process holds it. `uid`: the number of
    its owner. `netns`: the inode of its network namespace. `cookie`: the kernel's number of the socket, in hexadecimal.
    `inode`: 0 where it has no descriptor. `recv_q`: bytes that its program has not read. `send_q`: bytes that the peer
    has not acknowledged. `timer`: which one runs, `timer_expires_s`: seconds until it fires. `retransmits`:
    retransmissions that nothing answered, or probes for keepalive and zero-window timers. `bytes_sent`,
    `bytes_received`: since the connection began. `bytes_acked`: of those sent, with the SYN of the end that connected.
    `idle_s`: seconds since data was last sent or received, whichever is later; None during the handshake.
    """

    host: str
    local: str
    peer: str
    state: State
    pid: int | None = None
    process: str | None = None
    command: str | None = None
    unit: str | None = None
    uid: int | None = None
    netns: int | None = None
    cookie: str | None = None
    inode: int | None = None
    recv_q: int | None = None
    send_q: int | None = None
    timer: Timer | None = None
    timer_expires_s: float | None = None
    retransmits: int | None = None
    bytes_sent: int | None = None
    bytes_acked: int | None = None
    bytes_received: int | None = None
    idle_s: float | None = None


class Evidence(Struct, frozen=True):
    """One fact for a cause, seen on `host`: `fact` is a sentence, `value` the number in it, None if it has none.

    In a group the numbers of a sentence are ranges over its findings, and `value` is None where they differ.
    """

    host: str
    fact: str
    value: int | float | None = None


class Cause(Struct, frozen=True):
    """What made it so, in one sentence (`summary`), with the facts that speak for it; `unknown` with what would decide.

    `decisive`: it was seen in the act, or nothing else explains it. Otherwise it fits, and so may others.
    """

    code: CauseCode
    summary: str
    evidence: tuple[Evidence, ...] = ()
    decisive: bool = False


class Outlook(Struct, frozen=True):
    """What becomes of the connection if nobody acts, in one word and in one sentence.

    `within_s`: seconds until then at the most, None where no running timer tells.
    """

    code: OutlookCode
    within_s: float | None
    summary: str


class Command(Struct, frozen=True):
    """Something to type on `host`, word by word (`argv`), as root or not, and what for (`why`).

    Whatever changes anything comes last in it, or in one word with its value: cut off anywhere, it does nothing.
    """

    host: str
    root: bool
    why: str
    argv: tuple[str, ...]


class Question(Struct, frozen=True):
    """An end on `host` that was asked by keepalive probes, so many (`probes`), and its answer.

    `ended`: the answer was a RST, so the kernel has ended this end, and its program gets ECONNRESET.
    """

    host: str
    answer: Answer
    probes: int
    ended: bool


class Finding(Struct, frozen=True):
    """One connection that lasts in a state that is wrong.

    `id` is the same for the same connection as long as it lives. `client` and `server` are its ends, None where that
    host was looked at and has no such socket. `translation`: a sentence about how the addresses of the two ends
    correspond, None where they are the same. `cause`: None where none was sought, `other_causes`: those that fit as
    well. `outlook`: None where nothing tells. `remedies` is prose; what is to be typed stands in `commands`. `allowed`:
    it is named in `allow`, so it is shown but counts for nothing. `group`: its index in the `groups` of the check, None
    where it is in none. `candidate`: a socket that could be the absent end if something on the way translates or hands
    on, None where there is none. `asked`: those of its ends that were asked and answered, or not; none unless `--ask`
    said so.
    """

    id: str
    verdict: Verdict
    severity: Severity
    confidence: Confidence
    connection: ConnectionName
    client: End | None
    server: End | None
    translation: str | None = None
    cause: Cause | None = None
    other_causes: tuple[Cause, ...] = ()
    outlook: Outlook | None = None
    remedies: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()
    allowed: bool = False
    group: int | None = None
    candidate: str | None = None
    asked: tuple[Question, ...] = ()


class Group(Struct, frozen=True):
    """Findings with one verdict, cause, listener and program: one paragraph of the text report.

    `confidence` is the least of its findings. `cause`: the first of `causes`, which are all that fit, the surest first.
    `why`: the same with their facts, the numbers being those of all members; `evidence`: these facts in one list.
    `listener`: the server's end, as its own host has it. A process is the name of the program at that end, None where
    that is not known or not the same for all of them. `count`: how many findings. A state is None where there is no
    socket at that end. `summary`: what the verdict means for these hosts. `examples`: the `id` of some findings.
    `outlook`: None where nothing tells. `commands`: where they differ from finding to finding, one of them as an
    example. `allowed`: as of a finding.
    """

    verdict: Verdict
    severity: Severity
    confidence: Confidence
    cause: CauseName | None
    listener: str | None
    client_process: str | None
    server_process: str | None
    count: int
    client_host: str | None
    server_host: str | None
    client_state: State | None
    server_state: State | None
    summary: str
    examples: tuple[str, ...]
    outlook: Outlook | None = None
    remedies: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    causes: tuple[CauseName, ...] = ()
    why: tuple[Cause, ...] = ()
    allowed: bool = False


class HostPair(Struct, frozen=True):
    """How many findings there are between one client's host and one server's, those that are allowed left out."""

    client: str
    server: str
    critical: int
    warning: int
    info: int


class Check(Struct, frozen=True):
    """One check: its hosts, what they agree on, and what not.

    `headline` is the answer in one line, `details` the lines that must not be missed beside it. `exit_code`: what the
    run would end with if this were its only check. `client` and `server` are the first host of each role; `hosts` holds
    all, `nat` names those that were read only for what they translate. `rounds`: how often suspects were looked at.
    `connections`: `agreeing` and the findings. `state_matrix`: a row for each pair of states. `counters`: empty where
    no suspect lasted. `groups` holds the findings in paragraphs, the worst first. `notes`: sentences about how the
    hosts were read and what to know about the result. `elapsed_s`: seconds that the run took, None for files of no one
    run. `pairs`: those with findings, the worst first, where the check has more than two hosts; else empty. `direct`:
    the inventory vouches that nothing between the hosts translates, or answers for one of them.
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
