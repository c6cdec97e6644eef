"""A finding with its diagnosis and what to do about it, as the report has them; and many findings told as one."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, structs

from halfopen.judge.advice import advice_for
from halfopen.judge.advice.remedies import Remedy, Step
from halfopen.judge.diagnosis.diagnose import Diagnosis, diagnose, has_ended
from halfopen.judge.diagnosis.outlook import GRAVITY, Prospect
from halfopen.judge.diagnosis.rules.rule import Reason
from halfopen.judge.diagnosis.severity import with_outages
from halfopen.judge.signs.case import Case
from halfopen.judge.signs.phrase import Sentence, number, shape, spoken, tell
from halfopen.schema.report import Cause, Command, Evidence, Outlook, OutlookCode


class Advised(Struct, frozen=True):
    """A case with its causes, its outlook and what to do."""

    case: Case
    diagnosis: Diagnosis
    steps: tuple[Step, ...]

    @property
    def causes(self) -> tuple[Cause, ...]:
        """As a finding tells them."""
        return tuple(cause_of(reason) for reason in self.diagnosis.reasons)

    @property
    def outlook(self) -> Outlook:
        """As a finding tells it."""
        return outlook_of([self.diagnosis.prospect])

    @property
    def remedies(self) -> tuple[str, ...]:
        """What to do, as a finding tells it in prose."""
        return tuple(step.text for step in self.steps if isinstance(step, Remedy))

    @property
    def commands(self) -> tuple[Command, ...]:
        """What to type for it."""
        return tuple(step for step in self.steps if isinstance(step, Command))


def advised(cases: Sequence[Case]) -> list[Advised]:
    """The findings of a check, each with its diagnosis, which rests on the others too, and with advice."""
    marked = with_outages(cases)
    return [Advised(*parts, steps_for(*parts)) for parts in zip(marked, diagnose(marked), strict=True)]


def steps_for(case: Case, diagnosis: Diagnosis) -> tuple[Step, ...]:
    """What to do about a finding. Where a RST has ended it, there is nothing left to end."""
    steps = advice_for(case, diagnosis.reasons)
    return tuple(step for step in steps if isinstance(step, Remedy)) if has_ended(case) else steps


def cause_of(reason: Reason) -> Cause:
    """A reason for one finding as the report tells it."""
    evidence = [Evidence(host=fact.host, fact=spoken(fact.words), value=number(fact.words)) for fact in reason.facts]
    return Cause(code=reason.code, summary=reason.summary, evidence=tuple(evidence), decisive=reason.decisive)


def causes_of_all(cases: Sequence[Advised]) -> tuple[Cause, ...]:
    """The causes of findings that have the same ones, with the ranges of their numbers."""
    return tuple(merged(list(same)) for same in zip(*(case.diagnosis.reasons for case in cases), strict=True))


def merged(reasons: list[Reason]) -> Cause:
    """The same cause of many findings: each fact once, its numbers as ranges, and of how many it was true."""
    kinds: dict[tuple[str, tuple[str | None, ...]], list[Sentence]] = {}
    for reason in reasons:
        for fact in reason.facts:
            kinds.setdefault((fact.host, shape(fact.words)), []).append(fact.words)
    evidence = []
    for (host, _), found in kinds.items():
        text = tell(found)
        if len(found) < len(reasons):
            text += f" ({len(found)} of {len(reasons)})"
        values = {number(words) for words in found}
        evidence.append(Evidence(host=host, fact=text, value=values.pop() if len(values) == 1 else None))
    sure = all(reason.decisive for reason in reasons)
    return Cause(code=reasons[0].code, summary=reasons[0].summary, evidence=tuple(evidence), decisive=sure)


def outlook_of(prospects: Sequence[Prospect]) -> Outlook:
    """The outlook of one finding, or of the findings of a group: the gravest, with the range of its numbers."""
    kinds: dict[tuple[OutlookCode, tuple[str | None, ...]], list[Prospect]] = {}
    for prospect in prospects:
        kinds.setdefault((prospect.code, shape(prospect.words)), []).append(prospect)
    ranked = sorted(kinds.values(), key=lambda found: (GRAVITY.index(found[0].code), -len(found)))
    told = [tell([prospect.words for prospect in found]) for found in ranked]
    if len(ranked) > 1:
        told = [f"{len(found)} of {len(prospects)}: {text}" for found, text in zip(ranked, told, strict=True)]
    limits = [prospect.within_s for prospect in prospects]
    known = [limit for limit in limits if limit is not None]
    return Outlook(
        code=ranked[0][0].code,
        within_s=round(max(known), 1) if len(known) == len(limits) else None,
        summary="; ".join(told),
    )


def remedies_of_all(cases: Sequence[Advised]) -> tuple[str, ...]:
    """What to do for all of them: each thing once."""
    return tuple(dict.fromkeys(text for case in cases for text in case.remedies))


def commands_of_all(cases: Sequence[Advised]) -> tuple[Command, ...]:
    """What to type for all of them: one for each purpose, as an example where it differs from finding to finding."""
    found: dict[str, dict[tuple[str, ...], Command]] = {}
    for case in cases:
        for command in case.commands:
            found.setdefault(command.why, {}).setdefault((command.host, *command.argv), command)
    return tuple(example(list(same.values())) for same in found.values())


def example(same: Sequence[Command]) -> Command:
    """The first of some commands with one purpose, marked as an example if it is one."""
    return structs.replace(same[0], why=f"{same[0].why}, each like this") if len(same) > 1 else same[0]
