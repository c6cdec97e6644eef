"""Causes that lie in the handshake: the client is established, and the server never finished.

The kernel's ways (net/ipv4/tcp_input.c tcp_conn_request, tcp_minisocks.c tcp_check_req, syncookies.c
cookie_v4_check): a server that is short of room answers with a SYN cookie and keeps no trace, or keeps a request
socket that sends its SYN-ACK again and again. The client is established after the first SYN-ACK, whatever becomes of
its ACK. A request socket whose ACK is refused because the accept queue is full stays in SYN_RECV and, after
tcp_synack_retries, is forgotten without a RST; a cookie whose ACK is refused leaves nothing at all.
"""

from __future__ import annotations

from halfopen.judge.diagnosis.rules.rule import (
    Claim,
    Fact,
    Needs,
    Reason,
    Rule,
    Source,
    claims,
    counted,
    queue_facts,
)
from halfopen.judge.signs.case import Case, is_full
from halfopen.judge.signs.phrase import Sentence, seconds, times
from halfopen.judge.signs.tcp_signs import has_sent, heard_s, never_confirmed, not_answered, nothing_listens, since_boot
from halfopen.model import TcpInfo
from halfopen.schema.report import CauseCode, Verdict
from halfopen.tcp import State, Timer


def accept_queue_overflow(case: Case) -> Reason | None:
    """The accept queue had no room when the client's ACK, or its SYN, came."""
    overflows = case.server.value("ListenOverflows")
    if not overflows or case.listener is None:
        return None
    full = is_full(case.listener)
    verdict, lone = case.held.verdict, case.held.server is None
    facts = queue_facts(case)
    if verdict is Verdict.NEVER_ACCEPTED and case.outage:
        summary = "the accept queue is full and stands still, so whoever comes now is turned away"
        facts += counted(case.server, "ListenOverflows")
        return Reason(CauseCode.ACCEPT_QUEUE_OVERFLOW, summary, tuple(facts))
    claimed = claims(case.server, "ListenOverflows")
    if verdict is Verdict.HANDSHAKE_STUCK or (verdict is Verdict.CONNECT_UNANSWERED and lone):
        if not full and (not case.server.delta("ListenOverflows") or deferred_accept(case) is not None):
            return None
        what = "the client's last ACK" if verdict is Verdict.HANDSHAKE_STUCK else "the client's SYN"
        state = "is full, so" if full else "of this listener or another overflows while we look, and then"
        summary = f"the accept queue {state} {what} is dropped each time it comes"
        facts += [*counted(case.server, "ListenOverflows"), *retried(case)]
        return Reason(CauseCode.ACCEPT_QUEUE_OVERFLOW, summary, tuple(facts), bool(full), claimed)
    info = confirmable(case)
    if info is None:
        return None
    when = "the accept queue was full" if full else "the accept queue has room now, and may have been full"
    if by_cookie(case, info):
        if case.server.value("SyncookiesRecv") == 0:
            return None
        summary = f"{when} when the last ACK came, and a SYN cookie leaves no trace"
        facts += counted(case.server, "SyncookiesSent", "ListenOverflows")
        claimed = claims(case.server, "SyncookiesSent", "ListenOverflows")
    elif not repeated(info):
        return None
    else:
        summary = f"{when} each time the last ACK came, until the server gave up in silence (tcp_synack_retries)"
        facts += counted(case.server, "ListenOverflows")
    facts += unconfirmed(case, info)
    return Reason(CauseCode.ACCEPT_QUEUE_OVERFLOW, summary, tuple(facts), bool(full), claimed)


def syn_cookie_ack_lost(case: Case) -> Reason | None:
    """A SYN cookie was sent, and the ACK that carries it back never came."""
    info = confirmable(case)
    sent, back = case.server.value("SyncookiesSent"), case.server.value("SyncookiesRecv")
    if info is None or not by_cookie(case, info) or not sent or back is None or sent <= back or refuses(case):
        return None
    facts = [
        *counted(case.server, "SyncookiesSent", "SyncookiesRecv", "ListenOverflows", "EstabResets"),
        *queue_facts(case),
        *unconfirmed(case, info),
    ]
    summary = "the server answered with a SYN cookie, keeps nothing of it, and the client's ACK did not arrive"
    lost = Claim(case.server.name, case.server.netns, "SyncookiesSent less SyncookiesRecv", sent - back)
    return Reason(CauseCode.SYN_COOKIE_ACK_LOST, summary, tuple(facts), never_dropped(case), (lost,))


def final_ack_lost(case: Case) -> Reason | None:
    """The server repeats its SYN-ACK, the client answers each, and no answer arrives."""
    if refuses(case):
        return None
    client, server = case.held.client, case.held.server
    if case.held.verdict is Verdict.HANDSHAKE_STUCK and client and server:
        if not server.retransmits or client.info is None or not repeated(client.info):
            return None
        if case.server.delta("ListenOverflows"):
            return None
        facts = [*retried(case), *queue_facts(case), *counted(case.server, "ListenOverflows")]
        summary = "the server repeats its SYN-ACK, the client answers each time, and its ACK does not arrive"
        return Reason(CauseCode.FINAL_ACK_LOST, summary, tuple(facts), decisive=True)
    info = confirmable(case)
    if info is None or not repeated(info) or by_cookie(case, info) or case.server.value("ListenOverflows") != 0:
        return None
    facts = [*unconfirmed(case, info), *queue_facts(case), *counted(case.server, "ListenOverflows", "EstabResets")]
    summary = "the server repeated its SYN-ACK, got none of the client's answers, and gave up in silence"
    return Reason(CauseCode.FINAL_ACK_LOST, summary, tuple(facts), decisive=never_dropped(case))


def deferred_accept(case: Case) -> Reason | None:
    """The listener waits for the client's first byte: TCP_DEFER_ACCEPT."""
    client, server = case.held.client, case.held.server
    if case.held.verdict is not Verdict.HANDSHAKE_STUCK or client is None or server is None or refuses(case):
        return None
    info, idle = client.info, heard_s(client)
    if info is None or idle is None or idle < SYN_ACK_REPEATS or has_sent(info) is not False:
        return None
    # While it defers, the timer runs without a SYN-ACK being sent again (inet_connection_sock.c syn_ack_recalc).
    if server.retransmits != 0 or not case.server.value("TCPDeferAcceptDrop"):
        return None
    facts = [
        *counted(case.server, "TCPDeferAcceptDrop"),
        Fact(case.server.name, ("has not repeated its SYN-ACK in ", seconds(idle), ", as it does if an ACK is lost")),
        *queue_facts(case),
        Fact(case.client.name, ("has sent no byte yet",)),
    ]
    summary = "by design: the listener has TCP_DEFER_ACCEPT and waits for the client's first byte"
    claimed = claims(case.server, "TCPDeferAcceptDrop")
    return Reason(CauseCode.DEFERRED_ACCEPT, summary, tuple(facts), True, claimed)


def connection_refused_silently(case: Case) -> Reason | None:
    """SYNs that nobody answers, though the host that they are for is alive."""
    client = case.held.client
    if case.held.verdict is not Verdict.CONNECT_UNANSWERED or client is None:
        return None
    if case.held.server is not None and not not_answered(case):
        return None  # it answers, or nobody knows: what an earlier connection left behind is no answer by itself
    if client.state is not State.SYN_SENT or not client.retransmits or refuses(case):
        return None
    facts = [
        Fact(case.client.name, ("has sent its SYN ", times(client.retransmits + 1), " and heard nothing")),
        *queue_facts(case),
    ]
    closed = nothing_listens(case)
    if closed:
        facts.append(
            Fact(case.server.name, ("has nothing that listens on this port, and its refusal does not arrive",))
        )
        summary = "nothing listens there, and something on the way drops the SYN, or the RST that would say so"
    else:
        facts += counted(case.server, "ListenDrops")
        room = "the port is open and has room, so " if case.listener is not None else ""
        summary = f"{room}something between drops the SYN without an answer"
    return Reason(CauseCode.CONNECTION_REFUSED_SILENTLY, summary, tuple(facts), decisive=closed)


def confirmable(case: Case) -> TcpInfo | None:
    """The numbers of a client whose handshake the server never confirmed, if its counters cover that moment."""
    info, client = never_confirmed(case), case.held.client
    if info is None or client is None or case.held.verdict is not Verdict.MISSING_ON_SERVER:
        return None
    if not since_boot(heard_s(client), case.server) or case.listener is None:
        return None
    # Segments that answer keepalive probes would read as SYN-ACKs.
    return None if client.timer is Timer.KEEPALIVE and info.segs_in != 1 else info


def by_cookie(case: Case, info: TcpInfo) -> bool:
    """Whether the server may have answered with a cookie: it has sent some, and a cookie's SYN-ACK is never repeated.

    A client that had to repeat its SYN may have had an answer to each.
    """
    return bool(case.server.value("SyncookiesSent")) and (info.segs_in or 0) - 1 <= info.total_retrans


def repeated(info: TcpInfo) -> bool:
    """Whether the client has had the SYN-ACK more than once."""
    return info.segs_in is not None and info.segs_in > 1


def never_dropped(case: Case) -> bool:
    """Whether the server has not dropped one established connection since boot, so that it never had this one."""
    return case.server.value("EstabResets") == 0 and case.server.value("ListenOverflows") == 0


def refuses(case: Case) -> bool:
    """Whether the accept queue is full now, or overflows while we look."""
    return case.listener is not None and bool(is_full(case.listener))


def retried(case: Case) -> list[Fact]:
    """How often each side has tried."""
    client, server = case.held.client, case.held.server
    found = []
    if server is not None and server.state is State.SYN_RECV and server.retransmits:
        found.append(Fact(case.server.name, ("has repeated its SYN-ACK ", times(server.retransmits))))
    if client is not None and client.state is State.SYN_SENT and client.retransmits is not None:
        found.append(Fact(case.client.name, ("has sent its SYN ", times(client.retransmits + 1))))
    elif client is not None and client.info is not None and client.info.segs_in is not None:
        answered = " and answered each one" if client.info.segs_in > 1 else " and answered it"
        found.append(Fact(case.client.name, ("received the SYN-ACK ", times(client.info.segs_in), answered)))
    return found


def unconfirmed(case: Case, info: TcpInfo) -> list[Fact]:
    """What shows that the client has the SYN-ACK and nothing else."""
    words: Sentence = ("has had the SYN-ACK ", times(info.segs_in or 0), " and not a byte since")
    return [Fact(case.client.name, words)]


SYN_ACK_REPEATS = 1.5  # seconds after which a lost ACK has had its SYN-ACK repeated: TCP_TIMEOUT_INIT is 1

HANDSHAKE_RULES = (
    Rule(
        CauseCode.ACCEPT_QUEUE_OVERFLOW,
        Needs(
            vital=(Source.COUNTERS, Source.LISTENERS),
            useful=(Source.TCP_INFO, Source.TIMERS, Source.BACKLOGS, Source.UPTIME, Source.SYSCTLS, Source.PROCESSES),
            counters=(
                "ListenOverflows",
                "SyncookiesSent",
                "SyncookiesRecv",
                "TCPDeferAcceptDrop",
            ),
            sysctls=("somaxconn",),
        ),
        accept_queue_overflow,
    ),
    Rule(
        CauseCode.SYN_COOKIE_ACK_LOST,
        Needs(
            vital=(Source.COUNTERS, Source.TCP_INFO, Source.LISTENERS),
            useful=(Source.TIMERS, Source.BACKLOGS, Source.UPTIME, Source.PROCESSES),
            counters=(
                "SyncookiesSent",
                "SyncookiesRecv",
                "ListenOverflows",
                "EstabResets",
            ),
        ),
        syn_cookie_ack_lost,
    ),
    Rule(
        CauseCode.FINAL_ACK_LOST,
        Needs(
            vital=(Source.TCP_INFO,),
            useful=(
                Source.COUNTERS,
                Source.LISTENERS,
                Source.TIMERS,
                Source.BACKLOGS,
                Source.UPTIME,
                Source.PROCESSES,
            ),
            counters=(
                "ListenOverflows",
                "SyncookiesSent",
                "EstabResets",
            ),
        ),
        final_ack_lost,
    ),
    Rule(
        CauseCode.DEFERRED_ACCEPT,
        Needs(
            vital=(Source.COUNTERS, Source.TCP_INFO, Source.TIMERS),
            useful=(Source.LISTENERS, Source.BACKLOGS, Source.PROCESSES),
            counters=("TCPDeferAcceptDrop",),
        ),
        deferred_accept,
    ),
    Rule(
        CauseCode.CONNECTION_REFUSED_SILENTLY,
        Needs(
            vital=(Source.TIMERS,),
            useful=(Source.COUNTERS, Source.TCP_INFO, Source.LISTENERS, Source.BACKLOGS, Source.PROCESSES),
            counters=("ListenDrops",),
        ),
        connection_refused_silently,
    ),
)
