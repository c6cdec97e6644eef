"""The part of the report that tells of one finding, and of a group of them. Its conventions are those of `report`."""

from __future__ import annotations

from halfopen.schema.codes import Answer, CauseCode, Confidence, OutlookCode, Severity, StepCode, Verdict
from halfopen.schema.kinds import CauseName, Struct
from halfopen.tcp import State, Timer


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
    `heard_s`: seconds since anything came from the peer, an acknowledgement too.
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
    heard_s: float | None = None


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
    said so. `known`: the baseline of the run has it, so it does not count for the exit code. `steps`: how it came
    about if its cause is right, in the order of time; empty where several fit and none is decisive, or nothing tells.
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
    known: bool = False
    steps: tuple[StepCode, ...] = ()


class Group(Struct, frozen=True):
    """Findings with one verdict, cause, listener and program: one paragraph of the text report.

    `confidence` is the least of its findings. `cause`: the first of `causes`, which are all that fit, the surest first.
    `why`: the same with their facts, the numbers being those of all members; `evidence`: these facts in one list.
    `listener`: the server's end, as its own host has it. A process is the name of the program at that end, None where
    that is not known or not the same for all of them. `count`: how many findings. A state is None where there is no
    socket at that end. `summary`: what the verdict means for these hosts. `examples`: the `id` of some findings.
    `outlook`: None where nothing tells. `commands`: where they differ from finding to finding, one of them as an
    example. `allowed`: as of a finding. `steps`: of its findings, empty where they differ. `client_first`: whether
    the client's end was looked at before and after the server's, or the other way round; None where that differs.
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
    steps: tuple[StepCode, ...] = ()
    client_first: bool | None = None
