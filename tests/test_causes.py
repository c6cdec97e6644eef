"""Each cause is named where its evidence is, and not where that is missing; outlooks reckon as the kernel does."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from evidence import info, key, sock
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from halfopen import address
from halfopen.judge.confirm.bracket import Confirmed
from halfopen.judge.diagnosis.case import Case, HostEvidence
from halfopen.judge.diagnosis.diagnose import Diagnosis, causes_of_all, diagnose, remedies_of_all
from halfopen.judge.diagnosis.outlook import model_timeout, outlook_of
from halfopen.judge.diagnosis.rules import RULES
from halfopen.judge.diagnosis.rules.commands import end_now, see_program
from halfopen.judge.pairing.connection import EndQuery, Suspect
from halfopen.model import Collector, HostFacts, ListenSocket, NetnsRef, Process, Socket, TcpInfo
from halfopen.schema.report import CauseCode, Command, Confidence, OutlookCode, Verdict
from halfopen.tcp import State, Timer

ONE = key(40000)
LISTENER = ListenSocket(address.parse("10.0.0.2"), 5432, 2, 0, 0, 128, 0, 500)
FULL = replace(LISTENER, queue=129)
DEFAULTS = {
    "somaxconn": 4096,
    "tcp_fin_timeout": 60,
    "tcp_keepalive_intvl": 75,
    "tcp_keepalive_probes": 9,
    "tcp_keepalive_time": 7200,
    "tcp_orphan_retries": 0,
    "tcp_retries2": 15,
    "tcp_syn_linear_timeouts": 4,
    "tcp_syn_retries": 6,
    "tcp_synack_retries": 5,
    "tcp_syncookies": 1,
}
MINUTES_10 = 600_000  # milliseconds
TALKED = {"bytes_received": 900, "bytes_acked": 401, "bytes_sent": 400, "segs_in": 9, "data_segs_in": 4}


def end(state: State = State.ESTABLISHED, timer: Timer | None = Timer.OFF, **fields: Any) -> Socket:
    """The client's end; a field of TcpInfo goes there, another to the socket. It has been idle for ten minutes."""
    own = {name: fields.pop(name) for name in list(fields) if name in Socket.__dataclass_fields__}
    numbers = info(fields.pop("idle_ms", MINUTES_10), **fields)
    made = replace(sock(ONE, state), timer=timer, info=numbers, timer_expires_s=0.1 if timer is not Timer.OFF else None)
    return replace(made, **own)


def far(made: Socket) -> Socket:
    """The same as the server's end."""
    return replace(made, key=address.mirror(made.key))


def request(**fields: Any) -> Socket:
    """A request socket: SYN_RECV, no inode, no tcp_info."""
    made = replace(end(State.SYN_RECV, Timer.RETRANSMIT), inode=0, info=None, retransmits=2, timer_expires_s=3.0)
    return far(replace(made, **fields))


@dataclass
class Given:
    """What the two hosts show. Both have been up for a day unless told otherwise."""

    verdict: Verdict
    client: Socket | None = None
    server: Socket | None = None
    listener: ListenSocket | None = LISTENER
    counters: dict[str, int] = field(default_factory=dict)
    deltas: dict[str, int] = field(default_factory=dict)
    client_counters: dict[str, int] = field(default_factory=dict)
    sysctls: dict[str, int] = field(default_factory=dict)
    uptimes: tuple[float | None, float | None] = (86400.0, 86400.0)
    names: tuple[str, str] = ("web", "db")
    collector: Collector = Collector.NETLINK

    def case(self) -> Case:
        places = NetnsRef(self.names[0], 1), NetnsRef(self.names[1], 1)
        suspect = Suspect(
            EndQuery((places[0],), ONE), EndQuery((places[1],), address.mirror(ONE)), self.client is not None
        )
        held = Confirmed(suspect, self.verdict, Confidence.PROVEN, self.client, self.server, *places)
        near, distant = (
            HostFacts(name, "6.1.0", f"boot-{name}", uptime, True, self.collector)
            for name, uptime in zip(self.names, self.uptimes, strict=True)
        )
        after = {**QUIET, **self.counters}
        before = {name: value - self.deltas.get(name, 0) for name, value in after.items()}
        settings = DEFAULTS | self.sysctls
        client_after = {**QUIET, **self.client_counters}
        return Case(
            held,
            HostEvidence(self.names[0], near, client_after, client_after, settings, {77: Process(4211, "app")}),
            HostEvidence(self.names[1], distant, before, after, settings, {500: Process(812, "postgres")}),
            self.listener,
        )

    def diagnosis(self) -> Diagnosis:
        return diagnose(self.case())

    def without(self, **changes: Any) -> Given:
        return replace(self, **changes)


QUIET = dict.fromkeys(
    [
        "ListenOverflows",
        "ListenDrops",
        "SyncookiesSent",
        "SyncookiesRecv",
        "TCPDeferAcceptDrop",
        "OutRsts",
        "EstabResets",
        "TCPAbortOnTimeout",
        "TCPAbortOnData",
        "TCPAbortOnClose",
    ],
    0,
)
"""A host on which nothing has ever gone wrong."""

COOKIES = {"SyncookiesSent": 40, "SyncookiesRecv": 40, "ListenOverflows": 40}
BY_COOKIE = Given(Verdict.MISSING_ON_SERVER, end(), None, FULL, COOKIES)
COOKIE_LOST = Given(Verdict.MISSING_ON_SERVER, end(), None, LISTENER, {"SyncookiesSent": 40, "SyncookiesRecv": 3})
REPEATED = Given(Verdict.HANDSHAKE_STUCK, end(segs_in=3, segs_out=4, idle_ms=4000), request())
STUCK_FULL = REPEATED.without(listener=FULL, counters={"ListenOverflows": 9}, deltas={"ListenOverflows": 2})
DEFERRED = Given(Verdict.HANDSHAKE_STUCK, end(idle_ms=4000), request(retransmits=0), counters={"TCPDeferAcceptDrop": 1})
SYN = Given(Verdict.CONNECT_UNANSWERED, end(State.SYN_SENT, Timer.RETRANSMIT, retransmits=3, rto_us=1_000_000))
GONE = Given(Verdict.MISSING_ON_SERVER, end(idle_ms=100_000, **TALKED))
REBOOTED = GONE.without(uptimes=(86400.0, 60.0))
RETRYING = end(timer=Timer.RETRANSMIT, retransmits=5, backoff=5, rto_us=6_528_000, idle_ms=13_000, **TALKED)
QUEUED = Given(Verdict.NEVER_ACCEPTED, end(idle_ms=9000), far(end(inode=0, idle_ms=9000)), replace(LISTENER, queue=3))
CLOSED = Given(Verdict.HALF_CLOSED, end(State.FIN_WAIT2), far(end(State.CLOSE_WAIT, inode=500, recv_q=1)))
FULL_WINDOW = Given(
    Verdict.CLOSE_LOST, end(State.FIN_WAIT1, Timer.PROBE, send_q=500, retransmits=0), far(end(recv_q=65000))
)
REUSED = Given(Verdict.DESYNCHRONIZED, end(State.SYN_SENT, Timer.RETRANSMIT, retransmits=2), far(end(idle_ms=100_000)))
SILENT = Given(Verdict.MISSING_ON_SERVER, end(idle_ms=360_000, **TALKED))

C, V = CauseCode, Verdict

FIRES: dict[str, tuple[Given, set[CauseCode]]] = {
    "a cookie's ACK met a full queue": (BY_COOKIE, {C.ACCEPT_QUEUE_OVERFLOW}),
    "a request was given up, the queue was full": (
        BY_COOKIE.without(client=end(segs_in=6, segs_out=7), counters={"ListenOverflows": 9}),
        {C.ACCEPT_QUEUE_OVERFLOW},
    ),
    "in SYN_RECV, and the queue is full": (STUCK_FULL, {C.ACCEPT_QUEUE_OVERFLOW}),
    "a SYN meets a full queue": (
        SYN.without(listener=FULL, counters={"ListenOverflows": 3}),
        {C.ACCEPT_QUEUE_OVERFLOW},
    ),
    "the queue was full once, and cookies were lost as well: both": (
        BY_COOKIE.without(listener=LISTENER, counters={**COOKIES, "SyncookiesRecv": 30}, client=end(idle_ms=9000)),
        {C.ACCEPT_QUEUE_OVERFLOW, C.SYN_COOKIE_ACK_LOST},
    ),
    "the cookie never came back": (COOKIE_LOST.without(client=end(idle_ms=9000)), {C.SYN_COOKIE_ACK_LOST}),
    "the SYN-ACK is repeated and answered in vain": (REPEATED, {C.FINAL_ACK_LOST}),
    "the server gave up after repeating its SYN-ACK": (
        Given(Verdict.MISSING_ON_SERVER, end(segs_in=6, segs_out=7, idle_ms=70_000)),
        {C.FINAL_ACK_LOST},
    ),
    "the listener defers": (DEFERRED, {C.DEFERRED_ACCEPT}),
    "nothing listens and nobody says so": (SYN.without(listener=None), {C.CONNECTION_REFUSED_SILENTLY}),
    "the port has room and the SYN is lost: both": (SYN, {C.CONNECTION_REFUSED_SILENTLY, C.PATH_DEAD}),
    "up for less long than the silence": (REBOOTED, {C.PEER_REBOOTED}),
    "a client that came back dials from its old port": (
        REUSED.without(uptimes=(50.0, 86400.0)),
        {C.PEER_REBOOTED, C.TUPLE_REUSED},
    ),
    "sockets were dropped without a RST": (GONE.without(counters={"EstabResets": 3}), {C.PEER_VANISHED}),
    "nothing listens any more": (GONE.without(listener=None), {C.PEER_VANISHED}),
    "RSTs were sent": (GONE.without(counters={"EstabResets": 3, "OutRsts": 3}), {C.RESET_LOST}),
    "RSTs are sent now, and not one arrives": (
        Given(V.MISSING_ON_SERVER, RETRYING, counters={"OutRsts": 9}, deltas={"OutRsts": 1}),
        {C.RESET_LOST, C.PATH_DEAD},
    ),
    "the missing end may have timed out": (
        GONE.without(counters={"EstabResets": 3, "TCPAbortOnTimeout": 3}),
        {C.PATH_DEAD},
    ),
    "silent beyond 350 s": (SILENT, {C.MIDDLEBOX_FORGOT}),
    "silent beyond the host's own conntrack": (
        GONE.without(sysctls={"nf_conntrack_tcp_timeout_established": 30}),
        {C.MIDDLEBOX_FORGOT},
    ),
    "data is sent again and again": (Given(V.STALLED, RETRYING, far(end(**TALKED))), {C.PATH_DEAD}),
    "keepalive is not answered": (
        Given(V.MISSING_ON_SERVER, end(timer=Timer.KEEPALIVE, retransmits=3, **TALKED)),
        {C.PATH_DEAD},
    ),
    "a FIN is sent again and again": (
        Given(V.CLOSE_LOST, replace(RETRYING, state=State.FIN_WAIT1, send_q=1), far(end())),
        {C.PATH_DEAD},
    ),
    "SYN-ACKs do not arrive": (SYN.without(server=request()), {C.PATH_DEAD}),
    "SYN-ACKs stopped arriving": (REPEATED.without(client=end(idle_ms=4000)), {C.PATH_DEAD}),
    "nobody answers a SYN-ACK": (Given(V.EMBRYONIC, None, request()), {C.PATH_DEAD}),
    "in the accept queue": (QUEUED, {C.APPLICATION_NOT_ACCEPTING}),
    "closed while in the accept queue": (
        CLOSED.without(server=far(end(State.CLOSE_WAIT, inode=0)), listener=QUEUED.listener),
        {C.APPLICATION_NOT_ACCEPTING},
    ),
    "told of the end and not closing": (CLOSED, {C.APPLICATION_NOT_CLOSING}),
    "told of the end, and the other is gone": (
        CLOSED.without(verdict=V.ABANDONED_CLOSE, client=None),
        {C.APPLICATION_NOT_CLOSING},
    ),
    "the window is closed and the other does not read": (FULL_WINDOW, {C.APPLICATION_NOT_READING}),
    "a new SYN from the port of an old connection": (REUSED, {C.TUPLE_REUSED}),
    "a FIN was acknowledged, and the other has none": (
        Given(V.DESYNCHRONIZED, end(State.FIN_WAIT2), far(end())),
        {C.TUPLE_REUSED},
    ),
    "byte counts of two lives": (
        Given(V.DESYNCHRONIZED, end(**TALKED), far(end(bytes_received=7, bytes_acked=9))),
        {C.TUPLE_REUSED},
    ),
}

SILENCE: dict[str, tuple[Given, CauseCode]] = {
    "the queue never overflowed": (
        BY_COOKIE.without(counters={"SyncookiesSent": 40, "SyncookiesRecv": 40}),
        C.ACCEPT_QUEUE_OVERFLOW,
    ),
    "no cookie ever came back": (BY_COOKIE.without(counters={**COOKIES, "SyncookiesRecv": 0}), C.ACCEPT_QUEUE_OVERFLOW),
    "the client has had data": (BY_COOKIE.without(client=end(**TALKED)), C.ACCEPT_QUEUE_OVERFLOW),
    "the counters are of a later boot": (BY_COOKIE.without(uptimes=(86400.0, 60.0)), C.ACCEPT_QUEUE_OVERFLOW),
    "in SYN_RECV, and the queue has room": (STUCK_FULL.without(listener=LISTENER, deltas={}), C.ACCEPT_QUEUE_OVERFLOW),
    "deferred is not overflowed": (DEFERRED, C.ACCEPT_QUEUE_OVERFLOW),
    "no TCP_INFO": (BY_COOKIE.without(client=replace(end(), info=None)), C.ACCEPT_QUEUE_OVERFLOW),
    "all cookies came back": (COOKIE_LOST.without(counters=COOKIES), C.SYN_COOKIE_ACK_LOST),
    "no cookie was sent": (COOKIE_LOST.without(counters={}), C.SYN_COOKIE_ACK_LOST),
    "the queue is full": (BY_COOKIE.without(counters={**COOKIES, "SyncookiesRecv": 30}), C.SYN_COOKIE_ACK_LOST),
    "the SYN-ACK was repeated, a cookie never is": (
        COOKIE_LOST.without(client=end(segs_in=5)),
        C.SYN_COOKIE_ACK_LOST,
    ),
    "the ACK met a full queue": (STUCK_FULL, C.FINAL_ACK_LOST),
    "no SYN-ACK was repeated": (DEFERRED, C.FINAL_ACK_LOST),
    "segments that answer keepalive": (
        Given(V.MISSING_ON_SERVER, end(timer=Timer.KEEPALIVE, segs_in=6, idle_ms=70_000)),
        C.FINAL_ACK_LOST,
    ),
    "the SYN-ACK is repeated, so nobody defers": (
        REPEATED.without(counters={"TCPDeferAcceptDrop": 1}),
        C.DEFERRED_ACCEPT,
    ),
    "nobody has ever deferred": (DEFERRED.without(counters={}), C.DEFERRED_ACCEPT),
    "full, not deferred": (DEFERRED.without(listener=FULL), C.DEFERRED_ACCEPT),
    "the client has spoken": (DEFERRED.without(client=end(idle_ms=4000, bytes_sent=5)), C.DEFERRED_ACCEPT),
    "the first SYN is still on its way": (
        SYN.without(client=end(State.SYN_SENT, Timer.RETRANSMIT, retransmits=0)),
        C.CONNECTION_REFUSED_SILENTLY,
    ),
    "the SYN was answered": (SYN.without(server=request()), C.CONNECTION_REFUSED_SILENTLY),
    "up for longer than the silence": (GONE, C.PEER_REBOOTED),
    "nobody knows for how long it is up": (GONE.without(uptimes=(None, None)), C.PEER_REBOOTED),
    "one host, one boot": (REBOOTED.without(names=("db", "db"), uptimes=(60.0, 60.0)), C.PEER_REBOOTED),
    "listeners were not listed": (GONE.without(listener=None, collector=Collector.CAPTURE), C.PEER_VANISHED),
    "a reboot explains it": (REBOOTED.without(counters={"EstabResets": 3}), C.PEER_VANISHED),
    "a RST was sent": (GONE.without(counters={"EstabResets": 3, "OutRsts": 1}), C.PEER_VANISHED),
    "counters that were not read": (GONE.without(counters={}), C.PEER_VANISHED),
    "no RST was ever sent": (GONE.without(counters={"EstabResets": 3}), C.RESET_LOST),
    "no connection was dropped": (GONE.without(counters={"OutRsts": 3}), C.RESET_LOST),
    "both ends are there": (Given(V.STALLED, RETRYING, far(end()), counters={"OutRsts": 3}), C.RESET_LOST),
    "silent for 100 s": (GONE, C.MIDDLEBOX_FORGOT),
    "keepalive kept it awake": (
        SILENT.without(client=replace(SILENT.client or end(), timer=Timer.KEEPALIVE, timer_expires_s=5.0)),
        C.MIDDLEBOX_FORGOT,
    ),
    "one host has no box between": (SILENT.without(names=("db", "db")), C.MIDDLEBOX_FORGOT),
    "tried all the time": (
        Given(
            V.STALLED,
            end(timer=Timer.RETRANSMIT, retransmits=11, backoff=11, rto_us=120_000_000, idle_ms=400_000, **TALKED),
            far(end(idle_ms=400_000)),
        ),
        C.MIDDLEBOX_FORGOT,
    ),
    "nothing is outstanding": (GONE, C.PATH_DEAD),
    "timeouts before a reboot": (REBOOTED.without(counters={"TCPAbortOnTimeout": 3}), C.PATH_DEAD),
    "one repetition is no dead path": (
        Given(V.STALLED, replace(RETRYING, retransmits=1), far(end())),
        C.PATH_DEAD,
    ),
    "a closed window is no dead path": (FULL_WINDOW, C.PATH_DEAD),
    "a program has it": (QUEUED.without(server=far(end(inode=500))), C.APPLICATION_NOT_ACCEPTING),
    "the client is the one that does not close": (
        CLOSED.without(server=far(end(State.CLOSE_WAIT, inode=0))),
        C.APPLICATION_NOT_CLOSING,
    ),
    "probes are not answered": (
        FULL_WINDOW.without(client=end(State.FIN_WAIT1, Timer.PROBE, send_q=500, retransmits=4)),
        C.APPLICATION_NOT_READING,
    ),
    "nothing is unread": (FULL_WINDOW.without(server=far(end())), C.APPLICATION_NOT_READING),
    "one end only": (GONE, C.TUPLE_REUSED),
}


@pytest.mark.parametrize("name", FIRES)
def test_a_cause_is_named_where_its_evidence_is(name: str) -> None:
    one, expected = FIRES[name]
    found = one.diagnosis()
    assert set(found.codes) == expected
    for cause in found.causes:
        assert cause.evidence and cause.summary
        assert all(fact.host in one.names and fact.fact for fact in cause.evidence)
    assert found.outlook.summary


@pytest.mark.parametrize("name", SILENCE)
def test_a_rule_without_its_evidence_stays_silent(name: str) -> None:
    one, code = SILENCE[name]
    (rule,) = [rule for rule in RULES if rule.code is code]
    assert rule.find(one.case()) is None


def test_what_merely_fits_is_not_told_as_a_fact() -> None:
    """Counters are of a whole host, and a box between the hosts is seen by neither."""
    fits = {name for name, (given, _) in FIRES.items() if not any(one.decisive for one in given.diagnosis().causes)}
    assert fits == {
        "the queue was full once, and cookies were lost as well: both",
        "the port has room and the SYN is lost: both",
        "sockets were dropped without a RST",
        "nothing listens any more",
        "RSTs were sent",
        "the missing end may have timed out",
        "silent beyond 350 s",
        "silent beyond the host's own conntrack",
        "byte counts of two lives",
    }
    told = {cause.summary for name in fits for cause in FIRES[name][0].diagnosis().causes if name.startswith("RST")}
    assert told == {"db has sent RSTs and dropped connections: this one may be among them, and its RST lost"}


def test_each_rule_is_seen_to_speak_and_to_be_silent() -> None:
    codes = {rule.code for rule in RULES}
    assert set().union(*(expected for _, expected in FIRES.values())) == codes
    assert {code for _, code in SILENCE.values()} == codes
    assert codes | {CauseCode.UNKNOWN} == set(CauseCode)


@pytest.mark.parametrize("verdict", Verdict)
def test_without_evidence_no_rule_guesses(verdict: Verdict) -> None:
    """States alone, from a host that tells no numbers: nothing but what the states themselves prove."""
    client = replace(sock(ONE), timer=None)
    server = far(client) if verdict in (V.STALLED, V.AMBIGUOUS, V.HANDSHAKE_STUCK) else None
    case = Given(verdict, client, server).case()
    bare = replace(
        case,
        client=HostEvidence("web"),
        server=HostEvidence("db"),
        listener=replace(LISTENER, queue=None, backlog=None),
    )
    found = diagnose(bare)
    assert found.codes == ("unknown",)
    assert "tell" in found.causes[0].summary
    assert found.outlook.code in (OutlookCode.UNKNOWN, OutlookCode.NEVER)


def test_the_limit_of_the_queue_is_named() -> None:
    own = " ".join(BY_COOKIE.diagnosis().remedies)
    assert "raise its listen() backlog: 128 now, somaxconn allows 4096" in own and "leave SYN cookies on" in own
    capped = " ".join(BY_COOKIE.without(sysctls={"somaxconn": 128}).diagnosis().remedies)
    assert "which caps the backlog at 128, to 4096" in capped
    (command,) = typed(BY_COOKIE.without(sysctls={"somaxconn": 128}), "sysctl")
    assert (command.host, command.root) == ("db", True)
    assert shlex.join(command.argv) == "sh -c 'sysctl -w net.core.somaxconn=4096'"


def test_keepalive_is_advised_below_the_limit_that_was_seen() -> None:
    (text,) = [one for one in SILENT.diagnosis().remedies if "SO_KEEPALIVE on web" in one]
    assert "TCP_KEEPIDLE=60" in text and "below the limit of 240 s" in text and "2h 11m" in text


def test_where_several_fit_it_is_said_what_tells_them_apart() -> None:
    several = GONE.without(counters={"EstabResets": 3, "OutRsts": 3, "TCPAbortOnTimeout": 3}).diagnosis()
    assert several.codes == ("reset-lost", "path-dead")
    assert several.remedies[0].startswith("to tell which: the log of the program on db when web last heard of it")
    assert not [step for step in BY_COOKIE.diagnosis().remedies if "to tell which" in step]


def test_what_two_causes_advise_is_said_once() -> None:
    both = SILENT.without(counters={"EstabResets": 3, "OutRsts": 3}).diagnosis()
    assert both.codes == ("reset-lost", "middlebox-forgot")
    (keepalive,) = [step for step in both.remedies if "SO_KEEPALIVE" in step]
    assert "below the limit of 240 s" in keepalive


def test_the_end_that_waits_is_ended_and_never_a_request_socket() -> None:
    (command,) = typed(REPEATED, "-K")
    assert (command.host, command.root, command.why) == ("web", True, "end it now")
    assert shlex.join(command.argv) == "ss src 10.0.0.1:40000 dst 10.0.0.2:5432 -t -K"
    assert any("leave the SYN_RECV on db alone" in one for one in REPEATED.diagnosis().remedies)
    for one in (QUEUED, CLOSED, SYN, Given(V.EMBRYONIC, None, request())):
        assert not typed(one, "-K")


def typed(given: Given, word: str) -> list[Command]:
    """The commands of a finding that have a word in them."""
    return [one for one in given.diagnosis().commands if word in " ".join(one.argv).split()]


def test_a_link_local_connection_is_ended_on_its_link_or_not_at_all() -> None:
    both = [address.parse(text) for text in ("fe80::7:1", "fe80::7:2")]
    bound = replace(sock(address.make_key(both[0], 40000, both[1], 5432)), scope=3)
    (command,) = end_now(bound, HostEvidence("web"))
    assert shlex.join(command.argv) == "ss src '[fe80::7:1]:40000' dst '[fe80::7:2]:5432' dev = 3 -t -K"
    assert not [*end_now(replace(bound, scope=0), HostEvidence("web"))]


def test_an_end_in_another_namespace_is_ended_in_there_or_not_at_all() -> None:
    """The host's own namespace may have the same addresses."""
    inside = HostEvidence("web", owners={77: Process(4211, "app")}).within(4026532000)
    (command,) = end_now(sock(ONE), inside)
    assert shlex.join(command.argv[:4]) == "nsenter --target 4211 --net" and command.argv[4] == "ss"
    assert not [*end_now(sock(ONE, inode=0), inside)]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("java", "sh -c 'jstack 812'"),
        ("python3.11", "py-spy dump --pid 812"),
        ("postgres", "cat /proc/812/stack"),
        ("javascript", "cat /proc/812/stack"),
    ],
)
def test_a_program_is_asked_only_what_its_runtime_answers(name: str, line: str) -> None:
    (command,) = see_program(HostEvidence("db"), Process(812, name), "see it")
    assert shlex.join(command.argv) == line


WORDS = (
    "ss -K",
    "sysctl ",
    "nft ",
    "conntrack -",
    "tcpdump",
    "ip route",
    "py-spy",
    "jstack",
    "gdb",
    "kill ",
    "cat /proc",
)


@pytest.mark.parametrize("name", FIRES)
def test_remedies_are_prose_and_commands_are_harmless_wherever_they_are_cut(name: str) -> None:
    given_one, _ = FIRES[name]
    found = given_one.diagnosis()
    told = [*found.remedies, *(one.summary for one in found.causes), found.outlook.summary]
    assert not [text for text in told if any(word in text for word in WORDS)]
    for command in found.commands:
        line = shlex.join(command.argv)
        assert command.host in given_one.names and tuple(shlex.split(line)) == command.argv
        for length in range(len(line)):
            try:
                words = shlex.split(line[:length])
            except ValueError:
                continue  # a quote is open: the shell waits for its end
            assert "-K" not in words and (words[:1] != ["sh"] or len(words) < 3)


def test_what_a_rule_says_in_general_names_no_command_to_type() -> None:
    assert not [rule for rule in RULES if any(word in str(rule.about) for word in WORDS)]


def test_many_findings_are_told_as_one() -> None:
    every = [replace(BY_COOKIE, client=end(idle_ms=1000 * number)).diagnosis() for number in range(1, 400)]
    (cause,) = causes_of_all(every)
    assert cause.code == "accept-queue-overflow" and len(cause.evidence) == len(every[0].causes[0].evidence)
    found = [replace(SILENT, client=end(idle_ms=1000 * one, **TALKED)).diagnosis() for one in (360, 400, 5000)]
    (cause,) = causes_of_all(found)
    facts = [fact.fact for fact in cause.evidence]
    assert "was silent for 6m 00s to 1h 23m, with no keepalive timer" in facts
    assert [one for one in facts if one.endswith("(1 of 3)")]
    assert len(remedies_of_all(every)) == len(every[0].remedies)
    assert not [one for one in remedies_of_all(every) if "end it now" in one]


def test_outlooks_that_differ_are_counted() -> None:
    asks = replace(GONE, client=end(timer=Timer.KEEPALIVE, timer_expires_s=30.0, **TALKED))
    told = outlook_of([one.diagnosis().prospect for one in (GONE, GONE, asks)])
    assert told.code is OutlookCode.FAILS_ON_WRITE and told.within_s is None
    assert told.summary.startswith("2 of 3: ") and "1 of 3: ends by itself" in told.summary


OUTLOOKS: dict[str, tuple[Given, OutlookCode, float | None]] = {
    "waits to be spoken to": (BY_COOKIE, OutlookCode.NEVER, None),
    "waits for an answer": (
        GONE.without(client=end(**TALKED, last_data_sent_ms=1000, last_data_recv_ms=2000)),
        OutlookCode.NEVER,
        None,
    ),
    "its turn to speak": (
        GONE.without(client=end(**TALKED, last_data_sent_ms=2000, last_data_recv_ms=1000)),
        OutlookCode.FAILS_ON_WRITE,
        None,
    ),
    "a server that has answered waits for the next question": (
        Given(V.MISSING_ON_CLIENT, None, far(end(**TALKED))),
        OutlookCode.NEVER,
        None,
    ),
    # Asked within 30 s, then 9 probes 75 s apart.
    "keepalive asks": (
        GONE.without(client=end(timer=Timer.KEEPALIVE, timer_expires_s=30.0, **TALKED)),
        OutlookCode.HEALS,
        30 + 9 * 75,
    ),
    "keepalive has asked 4 times": (
        GONE.without(client=end(timer=Timer.KEEPALIVE, timer_expires_s=30.0, retransmits=4, **TALKED)),
        OutlookCode.HEALS,
        30 + 5 * 75,
    ),
    # SYN-ACKs at 1, 3, 7, 15, 31 s, forgotten at 63 s: two repeated, 3 s until the next.
    "a request socket alone": (Given(V.EMBRYONIC, None, request()), OutlookCode.HEALS, 3 + 8 + 16 + 32),
    # SYNs each second up to the fifth, then 2, 4, 8, 16, 32, and 64 s until ETIMEDOUT.
    "a connect": (SYN, OutlookCode.HEALS, 0.1 + 1 + 2 + 4 + 8 + 16 + 32 + 64),
    "a connect before Linux 6.5": (
        SYN.without(
            client=end(State.SYN_SENT, Timer.RETRANSMIT, retransmits=3, rto_us=8_000_000),
            sysctls={"tcp_syn_linear_timeouts": 0},
        ),
        OutlookCode.HEALS,
        0.1 + 16 + 32 + 64,
    ),
    "deferred": (DEFERRED, OutlookCode.HEALS, None),
    "nobody closes": (CLOSED, OutlookCode.NEVER, None),
    "nobody accepts": (QUEUED, OutlookCode.UNKNOWN, None),
    "a FIN_WAIT2 without a program": (
        Given(V.CLOSING_ALONE, end(State.FIN_WAIT2, Timer.TIMEWAIT, inode=0, timer_expires_s=42.0)),
        OutlookCode.HEALS,
        42.0,
    ),
}


@pytest.mark.parametrize("name", OUTLOOKS)
def test_outlooks(name: str) -> None:
    one, code, within = OUTLOOKS[name]
    found = one.diagnosis().outlook
    assert (found.code, found.within_s) == (code, pytest.approx(within) if within else None)


def test_retransmission_is_given_up_when_the_kernel_does() -> None:
    """tcp_retries2 = 15 is 924.6 s of model_timeout, noticed by the timer that runs at most 120 s later."""
    assert model_timeout(15, 120.0) == pytest.approx(924.6)
    assert model_timeout(8, 120.0) == pytest.approx(102.2)
    for again in range(1, 10):
        rto = 0.2 * 2**again
        one = end(timer=Timer.RETRANSMIT, retransmits=again, backoff=again, rto_us=int(rto * 1e6), **TALKED)
        given = Given(V.MISSING_ON_SERVER, replace(one, timer_expires_s=rto))
        within = given.diagnosis().outlook.within_s
        # Since the first repetition it is the same whenever we look: 0.4 + 0.8 + ... + 102.4 s, and then 120 s each.
        assert within is not None
        assert within + sum(0.2 * 2**i for i in range(1, again)) == pytest.approx(204.4 + 7 * 120, abs=1)


def test_an_orphan_is_given_up_sooner() -> None:
    alone = replace(RETRYING, state=State.FIN_WAIT1, send_q=1)
    held, orphan = (
        Given(V.CLOSING_ALONE, replace(alone, inode=inode)).diagnosis().outlook.within_s for inode in (77, 0)
    )
    assert held is not None and orphan is not None and orphan < 110 < 900 < held


def test_settings_that_could_not_be_read_give_no_time() -> None:
    case = Given(V.EMBRYONIC, None, request()).case()
    found = diagnose(replace(case, server=replace(case.server, sysctls={}))).outlook
    assert (found.code, found.within_s) == (OutlookCode.UNKNOWN, None)


NUMBERS = st.sampled_from([0, 1, 2, 7, 40, 1000, 700_000, 2**32 - 1])
KNOWN = [name for name in TcpInfo.__struct_fields__ if name not in ("options", "ca_state")]
SINCE_41 = {one.name for one in structs.fields(TcpInfo) if one.default is None}


@st.composite
def any_end(draw: st.DrawFn) -> Socket | None:
    """Any socket that a kernel, or a collector that knows less, may show; or none."""
    if draw(st.booleans()) and draw(st.booleans()):
        return None
    fields = {
        name: draw(NUMBERS | st.none()) if name in SINCE_41 else draw(st.sampled_from([0, 1, 3, 15, 200_000]))
        for name in draw(st.lists(st.sampled_from(KNOWN), unique=True, max_size=8))
    }
    fields["backoff"] = draw(st.integers(0, 255))
    maybe = NUMBERS | st.none()
    made = end(draw(st.sampled_from(State)), idle_ms=draw(NUMBERS), **fields)
    made = replace(
        made, timer=draw(st.sampled_from(Timer) | st.none()), timer_expires_s=draw(st.floats(0, 1e6) | st.none())
    )
    made = replace(made, retransmits=draw(st.integers(0, 255) | st.none()), recv_q=draw(maybe), send_q=draw(maybe))
    return replace(made, inode=draw(maybe), info=made.info if draw(st.booleans()) else None)


@settings(max_examples=300)
@given(
    st.sampled_from(Verdict),
    any_end(),
    any_end(),
    st.sampled_from([None, LISTENER, FULL, replace(LISTENER, backlog=None), replace(FULL, queue=None)]),
    st.dictionaries(st.sampled_from(sorted(QUIET)), NUMBERS),
    st.dictionaries(st.sampled_from(sorted(DEFAULTS)), st.sampled_from([0, 1, 8, 255, 10**20, -1])),
    st.tuples(st.none() | st.floats(0, 1e9), st.none() | st.floats(0, 1e9)),
)
def test_whatever_a_kernel_shows_is_explained_or_unknown(
    verdict: Verdict,
    client: Socket | None,
    server: Socket | None,
    listener: ListenSocket | None,
    counters: dict[str, int],
    sysctls: dict[str, int],
    uptimes: tuple[float | None, float | None],
) -> None:
    """No evidence makes the report fail, and what it says holds no word of Python."""
    given_one = Given(verdict, client, far(server) if server else None, listener, counters, sysctls=sysctls)
    found = replace(given_one, uptimes=uptimes).diagnosis()
    assert found.codes and ("unknown" not in found.codes or found.codes == ("unknown",))
    assert len(set(found.codes)) == len(found.codes)
    told = [found.outlook.summary, *found.remedies, *(one.summary for one in found.causes)]
    told += [fact.fact for one in found.causes for fact in one.evidence]
    assert all(text and "None" not in text and "nan" not in text and len(text) < 300 for text in told), told
    assert found.outlook.within_s is None or 0 <= found.outlook.within_s < float("inf")
    assert (found.outlook.code is OutlookCode.HEALS) or found.outlook.within_s is None
    assert causes_of_all([found, found]) and outlook_of([found.prospect] * 2).summary
