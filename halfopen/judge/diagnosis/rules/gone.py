"""Causes for a connection that was there on both hosts and now is on one only."""

from __future__ import annotations

from collections.abc import Iterator

from halfopen.judge.confirm.asked import answer_of
from halfopen.judge.diagnosis.case import Case
from halfopen.judge.diagnosis.phrase import seconds, times
from halfopen.judge.diagnosis.rules.commands import see_filters
from halfopen.judge.diagnosis.rules.remedies import KEEPALIVE_SYSCTLS, end_it, keepalive_for
from halfopen.judge.diagnosis.rules.rule import (
    About,
    Fact,
    Needs,
    Reason,
    Remedy,
    Rule,
    Source,
    Step,
    counted,
    idle_fact,
)
from halfopen.judge.diagnosis.tcp_signs import (
    Alone,
    alone,
    ends,
    heard_s,
    is_missing,
    nothing_listens,
    quiet_before_s,
    rebooted_s,
    unanswered,
)
from halfopen.model import Socket
from halfopen.schema.report import Answer, CauseCode, Verdict
from halfopen.tcp import State, Timer


def peer_rebooted(case: Case) -> Reason | None:
    """The host that misses the connection has come up since the other last heard of it."""
    pairs = list(zip(ends(case), reversed(ends(case)), strict=True))
    left = alone(case)
    if left is not None and is_missing(case):
        found = [(left.end, left.host, left.other)]
    elif case.held.verdict is Verdict.DESYNCHRONIZED:
        found = [(end, host, other) for (end, host), (_, other) in pairs if end.state is State.ESTABLISHED]
    else:
        return None
    for end, host, other in found:
        uptime = rebooted_s(end, other)
        if uptime is not None and host.name != other.name:
            facts = (
                Fact(other.name, ("has been up for ", seconds(uptime), " only")),
                *idle_fact(host.name, heard_s(end)),
            )
            summary = f"{other.name} has restarted since {host.name} last heard of it, and has lost its connections"
            return Reason(CauseCode.PEER_REBOOTED, summary, facts, decisive=True)
    return None


def peer_vanished(case: Case) -> Reason | None:
    """The other end went without a FIN or RST: no RST left its host, or the program that held it is gone."""
    left = survivor(case)
    if left is None:
        return None
    facts = [*idle_fact(left.host.name, heard_s(left.end))]
    resets, ended = left.other.value("OutRsts"), left.other.value("EstabResets")
    if left.is_client and nothing_listens(case):
        facts.append(Fact(left.other.name, ("has nothing that listens on this port any more",)))
        summary = (
            f"the program, container or machine that had this end on {left.other.name} is gone, without FIN or RST"
        )
        return Reason(CauseCode.PEER_VANISHED, summary, tuple(facts))
    if resets == 0 and ended and not left.other.value("TCPAbortOnTimeout"):
        facts += counted(left.other, "EstabResets", "OutRsts")
        summary = f"{left.other.name} dropped established connections and sent no RST, as after a failover or migration"
        return Reason(CauseCode.PEER_VANISHED, summary, tuple(facts))
    return None


def reset_lost(case: Case) -> Reason | None:
    """The other end ended the connection by RST, and that did not arrive."""
    left = survivor(case)
    if left is None:
        return None
    resets, ended = left.other.value("OutRsts"), left.other.value("EstabResets")
    grown = left.other.delta("OutRsts")
    answered = bool(grown and unanswered(left.end))
    if not resets or not (ended or answered):
        return None
    facts = [*counted(left.other, "OutRsts", "EstabResets", "TCPAbortOnData", "TCPAbortOnClose")]
    facts += idle_fact(left.host.name, heard_s(left.end))
    summary = f"{left.other.name} has sent RSTs and dropped connections: this one may be among them, and its RST lost"
    if answered:
        facts.append(Fact(left.host.name, ("has tried ", times(unanswered(left.end)), " and had no answer")))
        summary = f"{left.other.name} answers with RST, now as well, and none arrives"
    return Reason(CauseCode.RESET_LOST, summary, tuple(facts), decisive=answered)


def middlebox_forgot(case: Case) -> Reason | None:
    """Silence beyond the idle limit of a box between, without a keepalive that would have kept it awake."""
    if case.client.name == case.server.name:
        return None
    if not is_missing(case) and case.held.verdict is not Verdict.STALLED:
        return None
    for end, host in ends(case):
        other = case.server if host is case.client else case.client
        quiet = quiet_before_s(end)
        if quiet is None or end.timer is Timer.KEEPALIVE or rebooted_s(end, other) is not None:
            continue
        if case.held.verdict is Verdict.STALLED and not unanswered(end) and not unheard(case, end):
            continue
        limits = limits_below(case, host.name, quiet)
        if limits:
            facts = [Fact(host.name, ("was silent for ", seconds(quiet), ", with no keepalive timer")), *limits]
            summary = "a firewall, load balancer or NAT between them may have forgotten the connection while it idled"
            return Reason(CauseCode.MIDDLEBOX_FORGOT, summary, tuple(facts))
    return None


def unheard(case: Case, end: Socket) -> bool:
    """Whether this end was asked, and nobody answered."""
    return any(asked.key == end.key and answer_of(asked.reply) is Answer.SILENCE for asked in case.held.asked)


def limits_below(case: Case, silent: str, quiet: float) -> list[Fact]:
    """The idle limits that this silence is beyond: those of the hosts' own conntrack, and the well-known ones."""
    found = []
    for host in (case.client, case.server):
        own = host.sysctls.get("nf_conntrack_tcp_timeout_established")
        if own is not None and quiet > own:
            found.append(Fact(host.name, ("forgets idle connections after ", seconds(own), " in its own conntrack")))
    known = [(limit, who) for limit, who in IDLE_LIMITS if quiet > limit]
    if known:
        words = "is beyond the idle limit of " + ", ".join(f"{who} ({limit} s)" for limit, who in known)
        found.append(Fact(silent, (words,)))
    return found


def survivor(case: Case) -> Alone | None:
    """The end that is left of a connection, on hosts that have both been up all the time."""
    left = alone(case)
    if left is None or not is_missing(case) or left.end.state not in GONE_FROM:
        return None
    return None if rebooted_s(left.end, left.other) is not None else left


def remedies_of_reboot(case: Case) -> Iterator[Step]:
    """Remedies for PEER_REBOOTED and PEER_VANISHED: only the end that is left can find out, by keepalive."""
    left = alone(case)
    yield keepalive_for(left.host if left else case.server, None)
    yield from end_it(case)


def remedies_of_reset(case: Case) -> Iterator[Step]:
    """Remedies for RESET_LOST: let the RST through, or let the end that is left probe."""
    left = alone(case)
    if left is not None:
        yield Remedy(
            f"find what drops RSTs from {left.other.name} to {left.host.name}: a firewall that counts them as invalid "
            "(nf_conntrack_tcp_be_liberal set to 1 lets late ones pass)"
        )
        yield from see_filters(case)
        yield keepalive_for(left.host, None)
    yield from end_it(case)


def remedies_of_middlebox(case: Case) -> Iterator[Step]:
    """Remedies for MIDDLEBOX_FORGOT: keepalive more often than the idle limit of the box."""
    quiet = [found for end, _ in ends(case) if (found := quiet_before_s(end)) is not None]
    limit = min((limit for limit, _ in IDLE_LIMITS if quiet and max(quiet) > limit), default=None)
    for host in dict.fromkeys(host.name for _, host in ends(case)):
        yield keepalive_for(case.client if host == case.client.name else case.server, limit)
    yield Remedy("or raise the idle limit of the box between, and let it send RST to both sides when it forgets")
    yield from end_it(case)


GONE_FROM = (State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING, State.LAST_ACK)

IDLE_LIMITS = (
    (240, "Azure's load balancer"),
    (350, "AWS NAT gateways and network load balancers"),
    (900, "IPVS, so Docker Swarm and kube-proxy in that mode"),
    (3600, "Cisco, Fortinet and Palo Alto firewalls"),
)
"""Seconds of silence after which it forgets a connection unless told otherwise, and what."""

GONE_RULES = (
    Rule(
        CauseCode.PEER_REBOOTED,
        Needs(
            vital=(Source.TCP_INFO, Source.UPTIME),
            useful=(Source.SYSCTLS,),
            sysctls=KEEPALIVE_SYSCTLS,
        ),
        peer_rebooted,
        remedies_of_reboot,
        About(
            "The host that misses the connection has restarted since the other end last heard of it.",
            "A host that crashes or loses power sends neither FIN nor RST. When it is up again it knows none of its "
            "old connections, and answers with RST only when it is spoken to. An end that only reads waits for ever.",
            "The uptime of the host is shorter than the time since the other end last heard anything.",
            "Let the end that waits probe: SO_KEEPALIVE, TCP_USER_TIMEOUT or a heartbeat. Or end it: the report has "
            "the command.",
        ),
    ),
    Rule(
        CauseCode.RESET_LOST,
        Needs(
            vital=(Source.COUNTERS,),
            useful=(Source.TCP_INFO, Source.TIMERS, Source.UPTIME, Source.SYSCTLS),
            counters=(
                "OutRsts",
                "EstabResets",
                "TCPAbortOnData",
                "TCPAbortOnClose",
            ),
            sysctls=KEEPALIVE_SYSCTLS,
        ),
        reset_lost,
        remedies_of_reset,
        About(
            "The other end ended the connection with RST, and the RST was lost on the way.",
            "A RST is sent once and never repeated. A firewall that has forgotten the connection, or calls the RST "
            "invalid, drops it, and the other end still takes the connection for open.",
            "The host that misses the connection has sent RSTs (OutRsts) and dropped established connections "
            "(EstabResets); surest where OutRsts grows while the other end sends and hears nothing. The counters are "
            "of the whole host: where they merely fit, another cause may be named beside it.",
            "Let RSTs pass the firewall. Let the end that is left probe: keepalive or a heartbeat.",
        ),
    ),
    Rule(
        CauseCode.PEER_VANISHED,
        Needs(
            useful=(Source.COUNTERS, Source.LISTENERS, Source.TCP_INFO, Source.UPTIME, Source.SYSCTLS),
            counters=(
                "OutRsts",
                "EstabResets",
                "TCPAbortOnTimeout",
            ),
            sysctls=KEEPALIVE_SYSCTLS,
        ),
        peer_vanished,
        remedies_of_reboot,
        About(
            "The other end is gone and said nothing, though its host has been up all the time.",
            "A container or virtual machine that was removed, moved or failed over takes its sockets with it; an "
            "address that moved to another machine leaves them behind. No FIN and no RST was ever sent.",
            "The host has been up for longer than the silence, and nothing listens there any more; or it dropped "
            "established connections (EstabResets) without sending a single RST (OutRsts).",
            "Let the end that is left probe: keepalive, TCP_USER_TIMEOUT or a heartbeat. Let failovers reset what they "
            "leave.",
        ),
    ),
    Rule(
        CauseCode.MIDDLEBOX_FORGOT,
        Needs(
            vital=(Source.TCP_INFO,),
            useful=(Source.TIMERS, Source.UPTIME, Source.SYSCTLS),
            sysctls=("nf_conntrack_tcp_timeout_established", *KEEPALIVE_SYSCTLS),
        ),
        middlebox_forgot,
        remedies_of_middlebox,
        About(
            "A box between the hosts may have forgotten the connection while it was idle.",
            "Firewalls, NAT and load balancers keep a table of connections and drop what has been idle for too long, "
            "mostly without a RST to either side. What either end sends after that is dropped; the end that tries "
            "gives up, and the one that only reads never learns.",
            "The connection was silent beyond a well-known limit (240, 350, 900 or 3600 s) or the conntrack timeout of "
            "one of the hosts, and no keepalive timer runs. It can only fit, never be proven from the two hosts: a "
            "look at the box decides.",
            "SO_KEEPALIVE with TCP_KEEPIDLE well below the limit on either end, or a heartbeat. TCP_USER_TIMEOUT, so "
            "that a write fails in a minute and not after fifteen.",
        ),
    ),
)
