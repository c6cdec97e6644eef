"""Why a finding is as it is: one rule for each cause, evidence in, cause out.

A rule that lacks its evidence stays silent. All causes that fit are named, those that were seen in the act first. Where
none speaks, `unknown` says what would decide.
"""

from __future__ import annotations

from collections.abc import Sequence

from halfopen.judge.diagnosis.rules.application import APPLICATION_RULES
from halfopen.judge.diagnosis.rules.gone import GONE_RULES
from halfopen.judge.diagnosis.rules.handshake import HANDSHAKE_RULES
from halfopen.judge.diagnosis.rules.path import PATH_RULES
from halfopen.judge.diagnosis.rules.rule import Fact, Reason, Rule, idle_fact, queue_facts
from halfopen.judge.signs.case import Case
from halfopen.judge.signs.tcp_signs import ends, heard_s
from halfopen.matching.verdict.traits import TRAITS
from halfopen.model import Collector
from halfopen.schema.report import CauseCode


def found_by_rules(case: Case) -> list[Reason]:
    """What the rules say of one finding, each by itself."""
    return [reason for rule in RULES if (reason := rule.find(case)) is not None]


def ranked(case: Case, found: Sequence[Reason]) -> tuple[Reason, ...]:
    """Causes that fit a finding, those that were seen in the act first; `unknown` where there is none."""
    return tuple(sorted(found, key=lambda reason: not reason.decisive)) or (unknown(case),)


def unknown(case: Case) -> Reason:
    """What is known all the same, and what would decide."""
    facts: list[Fact] = []
    for end, host in ends(case):
        facts += idle_fact(host.name, heard_s(end))
    return Reason(CauseCode.UNKNOWN, decider(case), (*queue_facts(case), *facts))


def decider(case: Case) -> str:
    """What would tell the cause of a finding of which no rule speaks."""
    bare = [
        host.name
        for end, host in ends(case)
        if end.info is None
        and end.state not in INFOLESS
        and (host.facts is None or host.facts.collector is not Collector.NETLINK)
    ]
    if bare:
        return f"TCP_INFO of {' and '.join(dict.fromkeys(bare))} would tell; it needs netlink (sock_diag) there"
    if not case.server.after and not case.server.before:
        return f"the counters of {case.server.name} would tell, and could not be read"
    return TRAITS[case.held.verdict].decider


RULES: tuple[Rule, ...] = (*HANDSHAKE_RULES, *GONE_RULES, *PATH_RULES, *APPLICATION_RULES)

INFOLESS = ("SYN_RECV", "TIME_WAIT")
