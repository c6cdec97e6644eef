"""What to do about each cause, with the options, numbers and commands for these hosts and this connection.

How to end what is left of the connection is not among it: `advice_for` adds that to each.
"""

from __future__ import annotations

from collections.abc import Iterator

from halfopen.judge.advice.commands import capture, see_filters, see_program, set_now
from halfopen.judge.advice.remedies import (
    Remedy,
    Step,
    accept_apart,
    client_first,
    raise_backlog,
    sooner,
)
from halfopen.judge.diagnosis.rules import decider
from halfopen.judge.diagnosis.rules.application import closer
from halfopen.judge.diagnosis.rules.gone import IDLE_LIMITS
from halfopen.judge.signs.case import Case, HostEvidence, is_full
from halfopen.judge.signs.tcp_signs import (
    alone,
    ends,
    is_orphan,
    nothing_listens,
    other_end,
    over_old,
    quiet_before_s,
    unanswered,
    window_closed,
)
from halfopen.matching.verdict.traits import CAPTURE
from halfopen.model import Process


def remedies_of_overflow(case: Case) -> Iterator[Step]:
    """Remedies for ACCEPT_QUEUE_OVERFLOW: room in the queue, and a client that notices."""
    yield accept_apart(case)
    yield from raise_backlog(case)
    if case.server.value("SyncookiesSent"):
        yield Remedy(f"leave SYN cookies on: they keep {case.server.name} reachable")
    yield from client_first(case)


def remedies_of_lost_ack(case: Case) -> Iterator[Step]:
    """Remedies for SYN_COOKIE_ACK_LOST and FINAL_ACK_LOST: find what drops the ACK, and depend on it less."""
    yield Remedy(
        f"find what drops a bare ACK from {case.client.name} to {case.server.name}: look at packet filters and "
        "captures on both sides"
    )
    yield from see_filters(case)
    yield from capture(case)
    if case.server.sysctls.get("tcp_syncookies") == 2:
        yield Remedy(f"set net.ipv4.tcp_syncookies to 1 on {case.server.name}: 2 sends cookies even when there is room")
        yield from set_now(case.server, case.listener_process, "net.ipv4.tcp_syncookies", 1)
    yield from client_first(case)


def remedies_of_deferral(case: Case) -> Iterator[Step]:
    """Remedies for DEFERRED_ACCEPT."""
    yield Remedy("nothing is broken: the connection is handed over when the client sends its first byte")
    yield Remedy(
        f"if the client waits for the server to speak first, take TCP_DEFER_ACCEPT (nginx: deferred, Apache: "
        f"AcceptFilter) off this listener of {case.server.name}"
    )


def remedies_of_refusal(case: Case) -> Iterator[Step]:
    """Remedies for CONNECTION_REFUSED_SILENTLY: a firewall that rejects is better than one that drops."""
    yield Remedy(
        f"look for a rule that drops it: packet filters of {case.server.name} and {case.client.name}, the security "
        "groups between; let it reject (tcp reset) instead, so that clients fail at once"
    )
    yield from see_filters(case)
    yield from capture(case)
    if nothing_listens(case):
        yield Remedy(f"start the program that should listen on {case.server.name}, or correct the client's address")
    yield from sooner(case.held.client, case.client)


def remedies_of_reboot(case: Case) -> Iterator[Step]:
    """Remedies for PEER_REBOOTED and PEER_VANISHED: only the end that is left can find out, by keepalive."""
    left = alone(case)
    yield from sooner(left.end, left.host) if left else sooner(case.held.server, case.server)


def remedies_of_reset(case: Case) -> Iterator[Step]:
    """Remedies for RESET_LOST: let the RST through, or let the end that is left probe."""
    left = alone(case)
    if left is not None:
        yield Remedy(
            f"find what drops RSTs from {left.other.name} to {left.host.name}: a firewall that counts them as invalid "
            "(nf_conntrack_tcp_be_liberal set to 1 lets late ones pass)"
        )
        yield from see_filters(case)
        yield from sooner(left.end, left.host)


def remedies_of_middlebox(case: Case) -> Iterator[Step]:
    """Remedies for MIDDLEBOX_FORGOT: keepalive more often than the idle limit of the box."""
    quiet = [found for end, host in ends(case) if (found := quiet_before_s(end, host)) is not None]
    limit = min((limit for limit, _ in IDLE_LIMITS if quiet and max(quiet) > limit), default=None)
    for end, host in ends(case):
        yield from sooner(end, host, limit)
    yield Remedy("or raise the idle limit of the box between, and let it send RST to both sides when it forgets")


def remedies_of_path(case: Case) -> Iterator[Step]:
    """Remedies for PATH_DEAD: where to look, and how to notice sooner."""
    yield Remedy(
        f"look at the way between the data addresses, SSH takes another: packet filters and routes of "
        f"{case.client.name} and {case.server.name}, and a capture of one of these connections on both sides at once"
    )
    yield from see_filters(case)
    yield from capture(case)
    for end, host in ends(case):
        if unanswered(end):
            yield from sooner(end, host)


def remedies_of_reuse(case: Case) -> Iterator[Step]:
    """Remedies for TUPLE_REUSED: prevent another, once the older connection is ended."""
    if over_old(case) is not None:
        # With a newer timestamp, TIME_WAIT gives way to a SYN (RFC 6191; tcp_timewait_state_process).
        yield Remedy("leave net.ipv4.tcp_timestamps on at both hosts: by it TIME_WAIT gives way to a new connection")
    else:
        yield Remedy(
            "let the end of the earlier connection notice that its peer is gone: keepalive, TCP_USER_TIMEOUT or a "
            "heartbeat"
        )
    yield Remedy(
        "let clients take their ports from the whole net.ipv4.ip_local_port_range, and do not bind them to fixed ones"
    )


def remedies_of_not_accepting(case: Case) -> Iterator[Step]:
    """Remedies for APPLICATION_NOT_ACCEPTING."""
    stopped = case.listener_process is not None and case.listener_process.stopped
    yield from look_into(case.server, case.listener_process, "accepting")
    if not stopped:
        yield accept_apart(case)
    if case.listener is not None and is_full(case.listener):
        yield from raise_backlog(case)


def look_into(host: HostEvidence, process: Process | None, instead_of: str) -> Iterator[Step]:
    """What to do about a program that does not do its part: continue it, or see what it does."""
    program = process.name if process else "the program"
    if process is not None and process.stopped:
        yield Remedy(f"let {program} on {host.name} go on: it was stopped by SIGSTOP, or by a debugger")
    else:
        yield Remedy(
            f"see what {program} on {host.name} does instead of {instead_of}: a stack dump shows where it waits"
        )
    yield from see_program(host, process, f"see what it does instead of {instead_of}")


def remedies_of_not_closing(case: Case) -> Iterator[Step]:
    """Remedies for APPLICATION_NOT_CLOSING."""
    found = closer(case)
    if found is None:
        return
    end, host = found
    process = host.owner(end)
    program = process.name if process else "the program"
    if process is not None and process.stopped:
        yield from look_into(host, process, "closing")
        return
    yield Remedy(
        f"let {program} on {host.name} close when a read returns 0 (end of the stream); "
        "leaked sockets exhaust file descriptors (EMFILE)"
    )
    yield Remedy(f"until then a restart of {program} closes them all")


def remedies_of_not_reading(case: Case) -> Iterator[Step]:
    """Remedies for APPLICATION_NOT_READING."""
    for end, host in ends(case):
        if window_closed(end):
            other, at = other_end(case, end)
            yield from look_into(at, at.owner(other), "reading")
            if is_orphan(end):
                yield Remedy(
                    f"let the program on {host.name} close with RST what a peer does not read (SO_LINGER of 0; nginx: "
                    "reset_timedout_connection on), so that nothing is left behind"
                )
            yield from sooner(end, host)


def remedies_of_unknown(case: Case) -> Iterator[Step]:
    """Remedies for UNKNOWN: see the packets, where they would tell the cause."""
    if decider(case) == CAPTURE:
        yield from capture(case)
