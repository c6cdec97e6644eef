"""The report: every count, order, grouping, severity and exit status, computed once and rendered many times.

This is the public JSON contract (`halfopen.report/1`): fields may be added, none renamed or dropped. Unknown is None.
All strings are hostile until a renderer has escaped them for its medium.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

SCHEMA = "halfopen.report/1"


class Severity(StrEnum):
    """How bad, in falling order."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Confidence(StrEnum):
    """How sure: what each word promises is in judge/meaning.py and docs/verdicts.md."""

    PROVEN = "proven"
    OBSERVED = "observed"
    INFERRED = "inferred"


class Verdict(StrEnum):
    """What is wrong with one connection, seen from both ends."""

    MISSING_ON_SERVER = "missing-on-server"
    MISSING_ON_CLIENT = "missing-on-client"
    HANDSHAKE_STUCK = "handshake-stuck"
    DESYNCHRONIZED = "desynchronized"
    STALLED = "stalled"
    NEVER_ACCEPTED = "never-accepted"
    HALF_CLOSED = "half-closed"
    ABANDONED_CLOSE = "abandoned-close"
    CLOSE_LOST = "close-lost"
    CONNECT_UNANSWERED = "connect-unanswered"
    CLOSING_ALONE = "closing-alone"
    EMBRYONIC = "embryonic"
    AMBIGUOUS = "ambiguous"


class Reason(StrEnum):
    """Why a connection of the check's hosts was not judged."""

    ANSWERED_ELSEWHERE = "answered-elsewhere"
    CHANGING = "changing"
    NAMESPACE_NOT_ENTERED = "namespace-not-entered"


class CauseCode(StrEnum):
    """Why a connection is as it is."""

    ACCEPT_QUEUE_OVERFLOW = "accept-queue-overflow"
    SYN_COOKIE_ACK_LOST = "syn-cookie-ack-lost"
    FINAL_ACK_LOST = "final-ack-lost"
    DEFERRED_ACCEPT = "deferred-accept"
    PEER_REBOOTED = "peer-rebooted"
    PEER_VANISHED = "peer-vanished"
    RESET_LOST = "reset-lost"
    MIDDLEBOX_FORGOT = "middlebox-forgot"
    PATH_DEAD = "path-dead"
    APPLICATION_NOT_ACCEPTING = "application-not-accepting"
    APPLICATION_NOT_CLOSING = "application-not-closing"
    APPLICATION_NOT_READING = "application-not-reading"
    CONNECTION_REFUSED_SILENTLY = "connection-refused-silently"
    TUPLE_REUSED = "tuple-reused"
    UNKNOWN = "unknown"


class OutlookCode(StrEnum):
    """What becomes of a connection if nobody acts."""

    HEALS = "heals-by-itself"
    FAILS_ON_WRITE = "fails-on-next-write"
    NEVER = "never"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """The answer in one word."""

    CLEAN = "clean"
    FINDINGS = "findings"
    INCOMPLETE = "incomplete"


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all parts of the report."""


class Tool(Struct, frozen=True):
    name: str
    version: str


class Failure(Struct, frozen=True):
    """Why a host could not be read: an error code of the contract, what happened, and what to type next."""

    code: str
    message: str
    hint: str | None


class HostReport(Struct, frozen=True):
    """One host of the check. Lists are empty and values None where `error` kept them from being read."""

    name: str
    hostname: str | None
    addresses: tuple[str, ...]
    kernel: str | None
    uptime_s: float | None
    transport: str
    collector: str | None
    complete: bool
    privileged: bool | None
    error: Failure | None
    sockets: int | None
    states: dict[str, int]
    gaps: tuple[str, ...]


class MatrixRow(Struct, frozen=True):
    """How many connections between these hosts show this pair of states, each end named by its own host.

    None for a state: no socket at that end. `verdict` None: the ends agree.
    """

    client_host: str
    server_host: str
    client: str | None
    server: str | None
    count: int
    verdict: Verdict | None = None
    severity: Severity | None = None
    confidence: Confidence | None = None
    in_accept_queue: bool = False  # the server's end is established, but its program has not accepted it


class Listener(Struct, frozen=True):
    """A LISTEN socket that matters to the check. Its accept queue holds `backlog` + 1."""

    host: str
    address: str
    port: int
    process: str | None
    pid: int | None
    queue: int | None
    backlog: int | None
    full: bool | None


class Counter(Struct, frozen=True):
    """A counter of the host's network namespace since boot, and what it grew by during the run."""

    host: str
    name: str
    value: int
    delta: int | None
    netns: int | None = None  # of another network namespace of the host than its own


class External(Struct, frozen=True):
    """Connections of a host of the check that lead to none of its hosts: counted, never judged."""

    host: str
    peer: str
    count: int


class UnjudgedRow(Struct, frozen=True):
    """A connection with one end on `host`, in this state, of which nothing is said, and why."""

    client: str
    server: str
    host: str
    state: str
    reason: Reason


class ConnectionName(Struct, frozen=True):
    """The connection as the client sees it: its local address and the address that it dialled."""

    client: str
    server: str
    community_id: str


class End(Struct, frozen=True):
    """One end of a connection: a socket of a host."""

    host: str
    local: str
    peer: str
    state: str
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
    timer: str | None = None
    timer_expires_s: float | None = None
    retransmits: int | None = None
    bytes_sent: int | None = None
    bytes_acked: int | None = None  # with the SYN of the end that connected
    bytes_received: int | None = None
    idle_s: float | None = None


class Evidence(Struct, frozen=True):
    """One fact for a cause: `fact` is a sentence, `value` the number in it if it has one.

    In a group the numbers of a sentence are ranges over its findings, and `value` is None where they differ.
    """

    host: str
    fact: str
    value: int | float | None = None


class Cause(Struct, frozen=True):
    """What made it so, with the facts that speak for it; `unknown` with what would decide.

    `decisive`: it was seen in the act, or nothing else explains it. Otherwise it fits, and so may others.
    """

    code: CauseCode
    summary: str
    evidence: tuple[Evidence, ...] = ()
    decisive: bool = False


class Outlook(Struct, frozen=True):
    """What becomes of the connection if nobody acts. `within_s` only where a running timer tells."""

    code: OutlookCode
    within_s: float | None
    summary: str


class Command(Struct, frozen=True):
    """Something to type on a host, as root or not, and what for.

    Whatever changes anything comes last in it, or in one word with its value: cut off anywhere, it does nothing.
    """

    host: str
    root: bool
    why: str
    argv: tuple[str, ...]


class Finding(Struct, frozen=True):
    """One connection that lasts in a state that is wrong. `id` is stable for the same connection in the same life."""

    id: str
    verdict: Verdict
    severity: Severity
    confidence: Confidence
    connection: ConnectionName
    client: End | None
    server: End | None
    translation: str | None = None
    cause: Cause | None = None
    other_causes: tuple[Cause, ...] = ()  # that fit as well
    outlook: Outlook | None = None
    remedies: tuple[str, ...] = ()  # prose; what is to be typed stands in `commands`
    commands: tuple[Command, ...] = ()
    allowed: bool = False  # named in `allow`: shown, but counts for nothing
    group: int | None = None  # index among the check's groups


class Group(Struct, frozen=True):
    """Findings with one verdict, cause, listener and program: one paragraph of the text report.

    A process is the name of the program at that end, None where that is not known or not the same for all of them.
    """

    verdict: Verdict
    severity: Severity
    confidence: Confidence
    cause: str | None
    listener: str | None
    client_process: str | None
    server_process: str | None
    count: int
    client_host: str | None
    server_host: str | None
    client_state: str | None
    server_state: str | None
    summary: str
    examples: tuple[str, ...]  # ids of findings
    outlook: Outlook | None = None
    remedies: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()  # where they differ from finding to finding: one of them as an example
    evidence: tuple[Evidence, ...] = ()
    causes: tuple[str, ...] = ()  # all that fit, where more than one does
    why: tuple[Cause, ...] = ()  # the same with the numbers of all members; `evidence` is theirs in one list
    allowed: bool = False


class HostPair(Struct, frozen=True):
    """The findings between one client's host and one server's, those that are allowed left out."""

    client: str
    server: str
    critical: int
    warning: int
    info: int


class Check(Struct, frozen=True):
    """One check: its hosts, what they agree on, and what not.

    `headline` is the answer in one line, `details` the lines that must not be missed beside it.
    `client` and `server` are the first host of each role; `hosts` holds all.
    `pairs` are those with findings, the worst first, where the check has more than two hosts.
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
    nat: tuple[str, ...] = ()  # those of the hosts that were read only for what they translate


class Report(Struct, frozen=True, rename={"schema_": "schema"}):
    """The whole answer. Times are ISO 8601 in UTC."""

    schema_: str
    tool: Tool
    started_at: str
    finished_at: str
    outcome: Outcome
    exit_code: int
    checks: tuple[Check, ...]
