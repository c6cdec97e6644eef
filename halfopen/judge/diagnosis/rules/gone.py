"""Causes for a connection that was there on both hosts and now is on one only."""

from __future__ import annotations

from halfopen import address
from halfopen.judge.confirm.asked import answer_of
from halfopen.judge.diagnosis.rules.rule import (
    Fact,
    Needs,
    Reason,
    Rule,
    Source,
    claims,
    counted,
    idle_fact,
)
from halfopen.judge.signs.case import Case
from halfopen.judge.signs.phrase import seconds, times
from halfopen.judge.signs.tcp_signs import (
    Alone,
    alone,
    ends,
    heard_s,
    is_missing,
    never_confirmed,
    nothing_listens,
    quiet_before_s,
    rebooted_s,
    since_boot,
    unanswered,
)
from halfopen.matching.pairing.connection import Loss
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
    if case.former is not None:
        return None  # whoever came up never was the peer
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
    if case.former is not None and (left := alone(case)) is not None and is_missing(case):
        return moved(case.former, left)
    left = survivor(case)
    if left is None:
        return None
    heard = heard_s(left.end)
    facts = [*idle_fact(left.host.name, heard)]
    if case.held.suspect.loss is Loss.PLACE_GONE:
        facts.append(Fact(left.other.name, ("translates to an address that nobody has any more",)))
        summary = f"the container that had this end on {left.other.name} is gone, without FIN or RST"
        return Reason(CauseCode.PEER_VANISHED, summary, tuple(facts), decisive=True)
    resets, ended = resets_sent(case, left), left.other.value("EstabResets")
    if (begun := program_begun(case, left)) is not None:
        facts.append(begun)
        summary = f"the program that had this end on {left.other.name} is gone, and another one listens there since"
        return Reason(CauseCode.PEER_VANISHED, summary, tuple(facts))
    if left.is_client and nothing_listens(case):
        facts.append(Fact(left.other.name, ("has nothing that listens on this port any more",)))
        summary = (
            f"the program, container or machine that had this end on {left.other.name} is gone, without FIN or RST"
        )
        return Reason(CauseCode.PEER_VANISHED, summary, tuple(facts))
    counts = since_boot(heard, left.other)
    if counts and resets == 0 and ended and not left.other.value("TCPAbortOnTimeout"):
        facts += counted(left.other, "EstabResets", "OutRsts")
        until = " until it was asked" if drew_rst(case) else ""
        how = f"sent no RST{until}, as after a failover or migration"
        summary = f"{left.other.name} dropped established connections and {how}"
        claimed = claims(left.other, "EstabResets")
        return Reason(CauseCode.PEER_VANISHED, summary, tuple(facts), claims=claimed)
    return None


def moved(former: str, left: Alone) -> Reason:
    """The address of the missing end has moved to its host, and the connection was another host's."""
    vip = address.show(address.split_key(left.end.key)[2])
    facts = (
        Fact(former, (f"still has sockets with {vip}, which is now an address of {left.other.name}",)),
        *idle_fact(left.host.name, heard_s(left.end)),
    )
    summary = f"{vip} has moved from {former} to {left.other.name}, which never had this connection"
    return Reason(CauseCode.PEER_VANISHED, summary, facts, decisive=True)


def reset_lost(case: Case) -> Reason | None:
    """The other end ended the connection by RST, and that did not arrive."""
    left = survivor(case)
    if left is None:
        return None
    resets, ended = resets_sent(case, left), left.other.value("EstabResets")
    grown = left.other.delta("OutRsts")
    answered = bool(grown and unanswered(left.end))
    if not answered and (program_begun(case, left) is not None or not since_boot(heard_s(left.end), left.other)):
        return None
    if not resets or not (ended or answered):
        return None
    facts = [*counted(left.other, "OutRsts", "EstabResets", "TCPAbortOnData", "TCPAbortOnClose")]
    facts += idle_fact(left.host.name, heard_s(left.end))
    summary = f"{left.other.name} has sent RSTs and dropped connections: this one may be among them, and its RST lost"
    if answered:
        facts.append(Fact(left.host.name, ("has tried ", times(unanswered(left.end)), " and had no answer")))
        summary = f"{left.other.name} answers with RST, now as well, and none arrives"
    claimed = claims(left.other, *(("OutRsts",) if answered else ("OutRsts", "EstabResets")))
    return Reason(CauseCode.RESET_LOST, summary, tuple(facts), answered, claimed)


def resets_sent(case: Case, left: Alone) -> int | None:
    """RSTs that the other host has sent; where an end was asked and one came back, those before anybody was asked."""
    sent = left.other.value("OutRsts")
    return sent - (left.other.delta("OutRsts") or 0) if drew_rst(case) and sent is not None else sent


def drew_rst(case: Case) -> bool:
    """Whether an end was asked, and the answer was a RST."""
    return any(answer_of(asked.reply) is Answer.RST for asked in case.held.asked)


def program_begun(case: Case, left: Alone) -> Fact | None:
    """That the program which listens for a missing server's end began after its peer had last heard of that end."""
    process, heard = case.listener_process, heard_s(left.end)
    if process is None or process.age_s is None or heard is None or not left.is_client:
        return None
    if process.age_s + PROGRAM_MARGIN > heard:
        return None
    return Fact(left.other.name, (f"{process.name} (pid {process.pid}) has run for ", seconds(process.age_s), " only"))


def middlebox_forgot(case: Case) -> Reason | None:
    """Silence beyond the idle limit of a box between, without a keepalive that would have kept it awake."""
    if case.client.name == case.server.name:
        return None
    if not is_missing(case) and case.held.verdict is not Verdict.STALLED:
        return None
    if case.held.suspect.loss is Loss.ENTRY_GONE:
        facts = [fact for end, host in ends(case) for fact in idle_fact(host.name, heard_s(end))]
        summary = "a host between the two translated the connection, and its connection tracking has no entry any more"
        return Reason(CauseCode.MIDDLEBOX_FORGOT, summary, tuple(facts), decisive=True)
    if never_confirmed(case) and (case.server.value("ListenOverflows") or case.server.value("SyncookiesSent")):
        return None  # its handshake was dropped, as others were: there was nothing to forget
    for end, host in ends(case):
        other = case.server if host is case.client else case.client
        quiet = quiet_before_s(end, host)
        if quiet is None or rebooted_s(end, other) is not None:
            continue
        silent = not unanswered(end) and not unheard(case, end)
        if silent and (case.held.verdict is Verdict.STALLED or end.timer is Timer.KEEPALIVE):
            continue
        limits = limits_below(case, host.name, quiet)
        if limits:
            until = " before it probed" if end.timer is Timer.KEEPALIVE else ", with no keepalive timer"
            facts = [Fact(host.name, ("was silent for ", seconds(quiet), until)), *limits]
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


PROGRAM_MARGIN = 1  # seconds that the age of a process may be off by
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
        ),
        peer_rebooted,
    ),
    Rule(
        CauseCode.RESET_LOST,
        Needs(
            vital=(Source.COUNTERS,),
            useful=(Source.TCP_INFO, Source.TIMERS, Source.UPTIME, Source.LISTENERS, Source.PROCESSES),
            counters=(
                "OutRsts",
                "EstabResets",
                "TCPAbortOnData",
                "TCPAbortOnClose",
            ),
        ),
        reset_lost,
    ),
    Rule(
        CauseCode.PEER_VANISHED,
        Needs(
            useful=(Source.COUNTERS, Source.LISTENERS, Source.TCP_INFO, Source.UPTIME, Source.PROCESSES),
            counters=(
                "OutRsts",
                "EstabResets",
                "TCPAbortOnTimeout",
            ),
        ),
        peer_vanished,
    ),
    Rule(
        CauseCode.MIDDLEBOX_FORGOT,
        Needs(
            vital=(Source.TCP_INFO,),
            useful=(Source.COUNTERS, Source.TIMERS, Source.UPTIME, Source.SYSCTLS),
            counters=("ListenOverflows", "SyncookiesSent"),
            sysctls=("nf_conntrack_tcp_timeout_established", "tcp_keepalive_intvl"),
        ),
        middlebox_forgot,
    ),
)
