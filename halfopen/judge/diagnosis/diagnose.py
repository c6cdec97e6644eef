"""A finding explained: why it is so, what becomes of it, what to do; and many findings explained as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

from halfopen.judge.confirm.asked import answer_of
from halfopen.judge.diagnosis.case import Case
from halfopen.judge.diagnosis.outlook import Prospect, outlook_of, prospect_of
from halfopen.judge.diagnosis.rules import reasons_of, remedies_of
from halfopen.judge.diagnosis.rules.rule import Reason, Remedy, Step, cause_of, merged
from halfopen.judge.diagnosis.tcp_signs import alone
from halfopen.schema.report import Answer, Cause, Command, Outlook, OutlookCode


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Causes that fit, the surest first; what becomes of it; what to do."""

    reasons: tuple[Reason, ...]
    prospect: Prospect
    todo: tuple[Step, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The causes by name."""
        return tuple(reason.code for reason in self.reasons)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """As a finding tells them."""
        return tuple(cause_of(reason) for reason in self.reasons)

    @property
    def outlook(self) -> Outlook:
        """As a finding tells it."""
        return outlook_of([self.prospect])

    @property
    def remedies(self) -> tuple[str, ...]:
        """What to do, as a finding tells it in prose."""
        return tuple(step.text for step in self.todo if isinstance(step, Remedy))

    @property
    def commands(self) -> tuple[Command, ...]:
        """What to type for it."""
        return tuple(step for step in self.todo if isinstance(step, Command))


def diagnose(case: Case) -> Diagnosis:
    """Explains one finding."""
    reasons = reasons_of(case)
    if has_ended(case):
        remedies = tuple(step for step in remedies_of(case, reasons) if isinstance(step, Remedy))
        return Diagnosis(reasons, ENDED, remedies)
    return Diagnosis(reasons, prospect_of(case, [reason.code for reason in reasons]), remedies_of(case, reasons))


def has_ended(case: Case) -> bool:
    """Whether the one end that was left was asked, and a RST has ended it: there is nothing to end any more."""
    return any(answer_of(end.reply) is Answer.RST for end in case.held.asked) and alone(case) is not None


ENDED = Prospect(OutlookCode.FAILS_ON_WRITE, ("it has ended: its program gets ECONNRESET at its next call",), 0.0)


def causes_of_all(diagnoses: Sequence[Diagnosis]) -> tuple[Cause, ...]:
    """The causes of findings that have the same ones, with the ranges of their numbers."""
    return tuple(merged(list(reasons)) for reasons in zip(*(diagnosis.reasons for diagnosis in diagnoses), strict=True))


def remedies_of_all(diagnoses: Sequence[Diagnosis]) -> tuple[str, ...]:
    """What to do for all of them: each thing once."""
    return tuple(dict.fromkeys(text for diagnosis in diagnoses for text in diagnosis.remedies))


def commands_of_all(diagnoses: Sequence[Diagnosis]) -> tuple[Command, ...]:
    """What to type for all of them: one for each purpose, as an example where it differs from finding to finding."""
    found: dict[str, dict[tuple[str, ...], Command]] = {}
    for diagnosis in diagnoses:
        for command in diagnosis.commands:
            found.setdefault(command.why, {}).setdefault((command.host, *command.argv), command)
    return tuple(example(list(same.values())) for same in found.values())


def example(same: Sequence[Command]) -> Command:
    """The first of some commands with one purpose, marked as an example if it is one."""
    return structs.replace(same[0], why=f"{same[0].why}, each like this") if len(same) > 1 else same[0]
