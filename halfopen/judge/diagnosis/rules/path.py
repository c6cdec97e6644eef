"""Causes on the path between the hosts, and one tuple that two connections used."""

from __future__ import annotations

from halfopen.judge.confirm.asked import answer_of
from halfopen.judge.confirm.timing import PATIENCE
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
from halfopen.judge.signs.case import Case, is_full
from halfopen.judge.signs.phrase import Amount, Sentence, seconds, times
from halfopen.judge.signs.tcp_signs import (
    alone,
    ends,
    heard_s,
    is_missing,
    kept_in,
    never_confirmed,
    not_answered,
    other_end,
    over_old,
    rebooted_s,
    since_boot,
    tells_trying,
    trying_s,
    unanswered,
)
from halfopen.matching.verdict.traits import TRAITS
from halfopen.model import Socket
from halfopen.schema.report import Answer, CauseCode, Verdict
from halfopen.tcp import State, Timer


def path_dead(case: Case) -> Reason | None:
    """What one end sends, or what it is answered, does not get through, though both hosts are alive."""
    traits = TRAITS[case.held.verdict]
    if traits.handshake:
        return handshake_lost(case)
    if not traits.path_may_fail:
        return None
    facts, asked = in_vain(case), asked_in_vain(case)
    if not facts and not asked:
        return given_up(case)
    summary = "what is sent, or its answer, is lost between these addresses, though both hosts are alive"
    kept = [host.name for end, host in ends(case) if kept_in(end, other_end(case, end)[0])]
    if kept:
        summary = f"what {kept[0]} sends does not leave it: its own packet filter (OUTPUT chain) or route drops it"
    # A box that forgot the connection drops what is asked as well.
    return Reason(CauseCode.PATH_DEAD, summary, (*facts, *asked), tried_often(case))


def handshake_lost(case: Case) -> Reason | None:
    """SYNs, or the SYN-ACKs that answer them, do not get through."""
    client, server, verdict = case.held.client, case.held.server, case.held.verdict
    near, distant = case.client.name, case.server.name
    facts, decisive = [*answers(case), *in_vain(case)], tried_often(case)
    if verdict is Verdict.EMBRYONIC:
        summary = f"neither an ACK nor a RST comes back: what {distant} sends to {near}, or its answer, is lost"
    elif verdict is Verdict.HANDSHAKE_STUCK:
        info = never_confirmed(case)
        if info is None or info.segs_in != 1 or not answers(case):
            return None
        summary = f"{distant} repeats its SYN-ACK, and none of them reaches {near} any more"
    elif over_old(case) is not None and not_answered(case) is not True:
        return None  # the end that is there is of an earlier connection, and answers
    elif over_old(case) is not None:
        summary, decisive = f"packets from {near} to {distant}, or back, are lost between these addresses", False
    elif client is not None and server is not None:
        summary = f"{distant} answers the SYN, and its SYN-ACK does not reach {near}"
    else:
        if case.listener is None or is_full(case.listener):
            return None
        summary, decisive = f"packets from {near} to {distant}, or back, are lost between these addresses", False
    return Reason(CauseCode.PATH_DEAD, summary, tuple(facts), decisive) if facts else None


def given_up(case: Case) -> Reason | None:
    """The end that is missing may have been given up while the path was dead: its host has done that to some."""
    left = alone(case)
    if left is None or not is_missing(case) or rebooted_s(left.end, left.other) is not None:
        return None
    if not left.other.value("TCPAbortOnTimeout") or not since_boot(heard_s(left.end), left.other):
        return None
    facts = [*counted(left.other, "TCPAbortOnTimeout"), *idle_fact(left.host.name, heard_s(left.end))]
    summary = f"{left.other.name} has given up connections that did not answer, and this may be one of them"
    return Reason(CauseCode.PATH_DEAD, summary, tuple(facts), claims=claims(left.other, "TCPAbortOnTimeout"))


def tried_often(case: Case) -> bool:
    """Whether an end has tried so often in vain that ordinary loss does not explain it."""
    return max((unanswered(end) for end, _ in ends(case)), default=0) >= PATIENCE


def in_vain(case: Case) -> list[Fact]:
    """What each end has sent without an answer."""
    tried = [(host, trying(end, kept_in(end, other_end(case, end)[0]))) for end, host in ends(case)]
    return [Fact(host.name, words) for host, words in tried if words]


def asked_in_vain(case: Case) -> list[Fact]:
    """What was asked through an end, and not answered."""
    return [
        Fact(end.place.host, ("has had no answer to ", Amount(end.reply.tries), " keepalive probes of ours"))
        for end in case.held.asked
        if answer_of(end.reply) is Answer.SILENCE
    ]


def trying(end: Socket, kept: bool = False) -> Sentence:
    """What an end that sends in vain has done so far; nothing if its first repetitions are still under way.

    kept: what it sends does not leave its host.
    """
    tries = unanswered(end)
    if end.state is State.SYN_RECV or tries < 2:
        return ()
    if end.state is State.SYN_SENT:
        return ("has sent its SYN ", times(tries + 1), " and heard nothing")
    if end.timer is Timer.KEEPALIVE:
        return ("has had no answer to ", Amount(tries), " keepalive probes")
    heard = heard_s(end)
    since: Sentence = () if heard is None else (", and heard nothing for ", seconds(heard))
    if kept:
        return ("could not send in ", Amount(tries), " tries, though the window of the other end is open", *since)
    if end.timer is Timer.PROBE:
        return ("has had no answer to ", Amount(tries), " probes of a closed window", *since)
    what = "its FIN" if end.state in FIN_SENT and (end.send_q or 0) <= 1 else "unacknowledged data"
    within: Sentence = (" in ", seconds(trying_s(end))) if tells_trying(end) else ()
    return (f"has sent {what} again ", times(tries), *within, *since)


def answers(case: Case) -> list[Fact]:
    """SYN-ACKs that nobody answered."""
    server = case.held.server
    if server is None or server.state is not State.SYN_RECV or not server.retransmits:
        return []
    return [Fact(case.server.name, ("has repeated its SYN-ACK ", times(server.retransmits)))]


def tuple_reused(case: Case) -> Reason | None:
    """Two ends that cannot belong to one connection: one is left over from an earlier one with the same ports."""
    client, server, verdict = case.held.client, case.held.server, case.held.verdict
    if client is None or server is None:
        return None
    dialling = over_old(case)
    if (verdict is not Verdict.DESYNCHRONIZED and dialling is None) or not_answered(case):
        return None
    facts = []
    for end, host in ends(case):
        other = server if end is client else client
        if client.state is not server.state:
            facts.append(Fact(host.name, (CONTRADICTIONS.get(end.state, f"is {end.state}"),)))
        if end.state is State.ESTABLISHED and other.state is not State.ESTABLISHED:
            facts += idle_fact(host.name, heard_s(end))
        elif end.state is State.SYN_SENT and end.retransmits:
            facts.append(Fact(host.name, ("has sent its SYN ", times(end.retransmits + 1))))
        elif end.state is State.ESTABLISHED and end.info is not None and end.info.bytes_acked is not None:
            received = other.info.bytes_received if other.info else None
            if received is not None:
                words: Sentence = ("had ", Amount(end.info.bytes_acked), " bytes acknowledged, the other end received ")
                facts.append(Fact(host.name, (*words, Amount(received))))
    summary = "the same addresses and ports have been used again: one end is of an earlier connection, which it never "
    summary += "saw end"
    if dialling is not None:
        asking, keeping = (case.client, case.server) if dialling is client else (case.server, case.client)
        summary = f"the same addresses and ports have been used again: {keeping.name} still keeps the earlier "
        summary += f"connection, closed, in TIME_WAIT, and takes no new one of {asking.name}"
        if dialling.info is not None and dialling.info.segs_in:
            words = ("has had ", Amount(dialling.info.segs_in), " answers, none of them to its SYN")
            facts.append(Fact(asking.name, words))
    states = {client.state, server.state}
    forgeable = states <= {State.ESTABLISHED, State.CLOSE_WAIT}
    if forgeable:
        summary += "; or something between them (a proxy, an inspecting firewall) answers in the other's name"
    decisive = not forgeable and (dialling is None or not_answered(case) is False)
    return Reason(CauseCode.TUPLE_REUSED, summary, tuple(facts), decisive)


FIN_SENT = (State.FIN_WAIT1, State.CLOSING, State.LAST_ACK)

CONTRADICTIONS = {
    State.ESTABLISHED: "is established: it has sent no FIN and received none",
    State.SYN_SENT: "requests a new connection",
    State.SYN_RECV: "is still in the handshake",
    State.FIN_WAIT1: "has sent its FIN",
    State.FIN_WAIT2: "has had its FIN acknowledged",
    State.TIME_WAIT: "has seen both sides close",
    State.CLOSE_WAIT: "has received a FIN",
    State.LAST_ACK: "has received a FIN and sent its own",
    State.CLOSING: "has received a FIN and sent its own",
}
"""What a state says of the connection that it belongs to."""

PATH_RULES = (
    Rule(
        CauseCode.PATH_DEAD,
        Needs(
            useful=(Source.COUNTERS, Source.TIMERS, Source.TCP_INFO, Source.LISTENERS, Source.BACKLOGS, Source.UPTIME),
            counters=("TCPAbortOnTimeout",),
        ),
        path_dead,
    ),
    Rule(
        CauseCode.TUPLE_REUSED,
        Needs(
            useful=(Source.TCP_INFO, Source.TIMERS),
        ),
        tuple_reused,
    ),
)
