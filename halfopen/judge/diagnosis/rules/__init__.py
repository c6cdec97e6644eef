"""Why a finding is as it is: one rule for each cause, evidence in, cause and remedies out.

A rule that lacks its evidence stays silent. Where several causes fit, all are named; where one was seen in the act,
those that merely fit are not. Where none speaks, `unknown` says what would decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from halfopen.judge.diagnosis.case import Case
from halfopen.judge.diagnosis.rules.application import APPLICATION_RULES
from halfopen.judge.diagnosis.rules.commands import capture
from halfopen.judge.diagnosis.rules.gone import GONE_RULES
from halfopen.judge.diagnosis.rules.handshake import HANDSHAKE_RULES
from halfopen.judge.diagnosis.rules.path import PATH_RULES
from halfopen.judge.diagnosis.rules.remedies import end_it
from halfopen.judge.diagnosis.rules.rule import About, Fact, Reason, Remedy, Rule, Step, idle_fact, queue_facts
from halfopen.judge.diagnosis.tcp_signs import ends, heard_s
from halfopen.judge.diagnosis.verdict_traits import CAPTURE, TRAITS
from halfopen.schema.report import CauseCode, Command


def reasons_of(case: Case) -> tuple[Reason, ...]:
    """All causes that fit a finding, those that were seen in the act alone; `unknown` where none does."""
    found = [reason for rule in RULES if (reason := rule.find(case)) is not None]
    return tuple([reason for reason in found if reason.decisive] or found) or (unknown(case),)


def unknown(case: Case) -> Reason:
    """What is known all the same, and what would decide."""
    facts: list[Fact] = []
    for end, host in ends(case):
        facts += idle_fact(host.name, heard_s(end))
    bare = [host.name for end, host in ends(case) if end.info is None and end.state not in INFOLESS]
    if bare:
        summary = f"TCP_INFO of {' and '.join(dict.fromkeys(bare))} would tell; it needs netlink (sock_diag) there"
    elif not case.server.after and not case.server.before:
        summary = f"the counters of {case.server.name} would tell, and could not be read"
    else:
        summary = TRAITS[case.held.verdict].decider
    return Reason(CauseCode.UNKNOWN, summary, (*queue_facts(case), *facts))


def remedies_of(case: Case, reasons: Sequence[Reason]) -> tuple[Step, ...]:
    """What to do, in the order of the causes, each once."""
    by_code = {rule.code: rule for rule in RULES}
    found = [step for reason in reasons if reason.code in by_code for step in by_code[reason.code].remedies(case)]
    if any(reason.summary == CAPTURE for reason in reasons):
        found += capture(case)
    last = list(end_it(case))
    kept: list[Step] = [*said_once(step for step in found if isinstance(step, Remedy))]
    kept += dict.fromkeys(step for step in found if isinstance(step, Command))
    kept = [step for step in kept if step not in last]
    teller = TRAITS[case.held.verdict].teller
    if teller is not None and len(reasons) > 1 and not any(reason.decisive for reason in reasons):
        kept.insert(0, Remedy(f"to tell which: {teller.format(case.client.name, case.server.name)}"))
    return (*kept, *last)


def said_once(remedies: Iterable[Remedy]) -> Iterable[Remedy]:
    """Of those that advise the same, the one that says most."""
    by_topic: dict[str, Remedy] = {}
    for remedy in remedies:
        topic = remedy.topic or remedy.text
        if topic not in by_topic or len(remedy.text) > len(by_topic[topic].text):
            by_topic[topic] = remedy
    return by_topic.values()


RULES: tuple[Rule, ...] = (*HANDSHAKE_RULES, *GONE_RULES, *PATH_RULES, *APPLICATION_RULES)

ABOUT: dict[CauseCode, About] = {rule.code: rule.about for rule in RULES} | {
    CauseCode.UNKNOWN: About(
        "The evidence of the two hosts does not decide.",
        "Every rule that could explain the finding lacked what it rests on, so none of them guessed.",
        "Nothing: the report says what would decide, such as a counter, TCP_INFO, or a capture on both hosts at once.",
        "Get that evidence, then look again.",
    )
}
"""What is to be said of each cause; made from RULES, so that each cause has one rule."""

INFOLESS = ("SYN_RECV", "TIME_WAIT")
