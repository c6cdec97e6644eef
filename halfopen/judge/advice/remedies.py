"""Things to do that several causes share: with the options, numbers and commands for these hosts and connections."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from halfopen.judge.advice.commands import end_now, set_now
from halfopen.judge.diagnosis.outlook import notices_s
from halfopen.judge.signs.case import Case, HostEvidence
from halfopen.judge.signs.tcp_signs import ends, is_orphan, window_closed
from halfopen.matching.verdict.traits import TRAITS
from halfopen.model import Socket
from halfopen.schema.report import Command, Confidence, Verdict
from halfopen.tcp import State, Timer
from halfopen.words import duration


class Remedy(Struct, frozen=True):
    """Something to do, in prose: what is to be typed is a Command.

    `topic`: what two causes may both advise; the one that says more, because it knows more, stands for both.
    """

    text: str
    topic: str | None = None


Step = Remedy | Command


def accept_apart(case: Case) -> Remedy:
    """The cure of a program that is late to accept."""
    who = case.listener_process
    where = f"{who.name}, pid {who.pid}, on {case.server.name}" if who else f"the server on {case.server.name}"
    return Remedy(f"accept in a thread of its own ({where})")


def raise_backlog(case: Case) -> Iterator[Step]:
    """Which of the two limits of an accept queue to raise: the argument of listen(), or somaxconn."""
    listener, server = case.listener, case.server
    if listener is None or listener.backlog is None:
        return
    most, backlog = server.sysctls.get("somaxconn"), listener.backlog
    if most is None:
        yield Remedy(f"raise its listen() backlog: {backlog} now; net.core.somaxconn of {server.name} caps it")
    elif backlog < most:
        yield Remedy(f"raise its listen() backlog: {backlog} now, somaxconn allows {most}")
    else:
        wanted = max(4096, 4 * backlog)
        yield Remedy(
            f"raise net.core.somaxconn on {server.name}, which caps the backlog at {most}, to {wanted}; give the "
            "program as large a listen() backlog, and restart it"
        )
        yield from set_now(server, case.listener_process, "net.core.somaxconn", wanted)


def sooner(end: Socket | None, host: HostEvidence, limit_s: float | None = None) -> Iterator[Remedy]:
    """What lets an end notice sooner than by its own timers that nobody answers; nothing where they are as fast, or
    where no program holds it any more.

    limit_s: seconds of silence after which a box between forgets it.
    """
    if end is None or end.state in (State.SYN_RECV, State.TIME_WAIT) or is_orphan(end):
        return
    left = None if window_closed(end) else notices_s(end, host)
    if left is not None and left <= NOTICED_S:
        return
    if end.state is State.SYN_SENT:
        yield Remedy(
            f"let the program on {host.name} give its connect a timeout of its own, or set TCP_USER_TIMEOUT or "
            "TCP_SYNCNT before it connects: keepalive begins only once it is established",
            topic=f"notice {host.name}",
        )
    elif end.timer in (Timer.RETRANSMIT, Timer.PROBE):
        yield Remedy(
            f"let the program on {host.name} set TCP_USER_TIMEOUT=60000, so that what nobody takes fails after a "
            f"minute{'' if left is None else f' and not after {duration(left)}'}",
            topic=f"notice {host.name}",
        )
    else:
        yield keepalive_for(end, host, limit_s, left)


def keepalive_for(end: Socket, host: HostEvidence, limit_s: float | None, left: float | None) -> Remedy:
    """Keepalive that notices a lost peer within a minute and a half, and speaks before `limit_s` of silence.

    left: seconds until the keepalive that it has would notice, None if it has none or nobody knows.
    """
    idle = 60 if limit_s is None or limit_s >= 120 else max(10, int(limit_s / 2))
    below = "" if limit_s is None else f", below the limit of {limit_s:.0f} s"
    found = [host.sysctls.get(name) for name in KEEPALIVE_SYSCTLS]
    now = ""
    if left is not None:
        now = f", not {duration(left)}"
    elif end.timer is not Timer.KEEPALIVE and None not in found:
        first, interval, probes = (float(value or 0) for value in found)
        now = f"; SO_KEEPALIVE alone takes {duration(first + interval * probes)}"
    return Remedy(
        f"SO_KEEPALIVE on {host.name} (TCP_KEEPIDLE={idle} TCP_KEEPINTVL=10 TCP_KEEPCNT=3{below}) and "
        f"TCP_USER_TIMEOUT={(idle + 30) * 1000}: noticed in {idle + 30} s{now}",
        topic=f"notice {host.name}",
    )


def client_first(case: Case) -> Iterator[Step]:
    """What makes a client notice that nobody is there."""
    if case.held.client is not None and case.held.client.state is State.SYN_SENT:
        yield from sooner(case.held.client, case.client)
        return
    yield Remedy("let the client speak first, or add a heartbeat")
    yield from sooner(case.held.client, case.client)


def end_it(case: Case) -> Iterator[Step]:
    """How to end what is left of the connection now, and what not to end. Nothing is ended on an inference alone."""
    found = to_end(case)
    if found is None or case.held.confidence is Confidence.INFERRED:
        return
    yield from end_now(*found)
    if case.held.verdict is Verdict.HANDSHAKE_STUCK:
        yield Remedy(
            f"leave the SYN_RECV on {case.server.name} alone: ending it sends no RST, and leaves the client half-open "
            "for good"
        )


def to_end(case: Case) -> tuple[Socket, HostEvidence] | None:
    """The end that somebody waits at: never a request socket, and nothing that a program still may use."""
    may_end = TRAITS[case.held.verdict].may_end
    return next(((end, host) for end, host in ends(case) if end.state in may_end), None)


NOTICED_S = 90  # what is advised notices within this, in seconds

KEEPALIVE_SYSCTLS = ("tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes")
"""What `keepalive_for` reads."""
