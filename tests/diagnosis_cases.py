"""Findings made by hand, one line each: what the two hosts show, and which causes fit."""

from __future__ import annotations

from typing import Any

from evidence import info, key, sock
from msgspec import Struct, field
from msgspec.structs import replace

from halfopen import address
from halfopen.judge.advice.advised import Advised, advised
from halfopen.judge.confirm.rounds import Confirmed
from halfopen.judge.signs.case import Case, HostEvidence
from halfopen.matching.pairing.connection import EndQuery, Suspect
from halfopen.model import Collector, HostFacts, ListenSocket, NetnsRef, Process, Socket
from halfopen.schema.report import CauseCode, Confidence, Verdict
from halfopen.tcp import State, Timer

ONE = key(40000)
LISTENER = ListenSocket(address.parse("10.0.0.2"), 5432, 2, 0, 0, 128, 0, 500)
FULL = replace(LISTENER, queue=129)
DEFAULTS = {
    "somaxconn": 4096,
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
POSTGRES = Process(812, "postgres")
MINUTES_10 = 600_000  # milliseconds
TALKED: dict[str, Any] = {"bytes_received": 900, "bytes_acked": 401, "bytes_sent": 400, "segs_in": 9, "data_segs_in": 4}


def end(state: State = State.ESTABLISHED, timer: Timer | None = Timer.OFF, **fields: Any) -> Socket:
    """The client's end; a field of TcpInfo goes there, another to the socket. It has been idle for ten minutes."""
    own = {name: fields.pop(name) for name in list(fields) if name in Socket.__struct_fields__}
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


def syn(**fields: Any) -> Socket:
    """A client that has sent its SYN four times."""
    return end(State.SYN_SENT, Timer.RETRANSMIT, retransmits=3, rto_us=1_000_000, **fields)


class Given(Struct):
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
    listening: Process = POSTGRES
    lifetime: int | None = None

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
        lifetimes: dict[int | None, int] = {} if self.lifetime is None else {None: self.lifetime}
        client_after = {**QUIET, **self.client_counters}
        return Case(
            held,
            HostEvidence(self.names[0], near, client_after, client_after, settings, {77: Process(4211, "app")}),
            HostEvidence(self.names[1], distant, before, after, settings, {500: self.listening}, lifetimes=lifetimes),
            self.listener,
        )

    def advised(self) -> Advised:
        (one,) = advised([self.case()])
        return one

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

SYN = Given(Verdict.CONNECT_UNANSWERED, syn())
LEFT_BEHIND = far(end(State.TIME_WAIT, Timer.TIMEWAIT, inode=0, info=None, timer_expires_s=40.0))
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
    "its program was started anew": (
        GONE.without(counters={"EstabResets": 3, "OutRsts": 3}, listening=Process(812, "postgres", age_s=20)),
        {C.PEER_VANISHED},
    ),
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
        Given(V.MISSING_ON_SERVER, end(timer=Timer.KEEPALIVE, retransmits=3, idle_ms=230_000, **TALKED)),
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
    "a new SYN meets what an old connection left behind": (
        SYN.without(client=syn(segs_in=4), server=LEFT_BEHIND),
        {C.TUPLE_REUSED},
    ),
    "a new SYN does not reach what an old connection left behind": (
        SYN.without(client=syn(segs_in=0), server=LEFT_BEHIND),
        {C.CONNECTION_REFUSED_SILENTLY, C.PATH_DEAD},
    ),
    "a new SYN and what an old connection left behind, and no count of answers": (
        SYN.without(client=syn(segs_in=None), server=LEFT_BEHIND),
        {C.TUPLE_REUSED},
    ),
    "a second life that waits in the accept queue": (
        Given(
            V.DESYNCHRONIZED,
            end(**TALKED),
            far(end(bytes_received=7, bytes_acked=9, inode=0)),
            replace(LISTENER, queue=3),
        ),
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
    "deferred, and another listener overflows": (
        DEFERRED.without(counters={"TCPDeferAcceptDrop": 1, "ListenOverflows": 9}, deltas={"ListenOverflows": 2}),
        C.ACCEPT_QUEUE_OVERFLOW,
    ),
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
    "the counters are those of a container that is younger": (
        GONE.without(counters={"EstabResets": 3, "OutRsts": 3}, lifetime=60),
        C.RESET_LOST,
    ),
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
