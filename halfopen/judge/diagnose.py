"""A finding explained: why it is so, what becomes of it, what to do; and many findings explained as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from halfopen.findings import Cause, Outlook
from halfopen.judge.case import Case
from halfopen.judge.causes import reasons_of, remedies_of
from halfopen.judge.causes.rule import Reason, Remedy, cause_of, merged
from halfopen.judge.outlook import Prospect, outlook_of, prospect_of


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Causes that fit, the surest first; what becomes of it; what to do."""

    reasons: tuple[Reason, ...]
    prospect: Prospect
    todo: tuple[Remedy, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The causes by name."""
        return tuple(one.code for one in self.reasons)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """As a finding tells them."""
        return tuple(cause_of(one) for one in self.reasons)

    @property
    def outlook(self) -> Outlook:
        """As a finding tells it."""
        return outlook_of([self.prospect])

    @property
    def remedies(self) -> tuple[str, ...]:
        """As a finding tells them."""
        return tuple(one.text for one in self.todo)


def diagnose(case: Case) -> Diagnosis:
    """Explains one finding."""
    reasons = reasons_of(case)
    return Diagnosis(reasons, prospect_of(case, [one.code for one in reasons]), remedies_of(case, reasons))


def causes_of_all(diagnoses: Sequence[Diagnosis]) -> tuple[Cause, ...]:
    """The causes of findings that have the same ones, with the ranges of their numbers."""
    return tuple(merged(list(reasons)) for reasons in zip(*(one.reasons for one in diagnoses), strict=True))


def remedies_of_all(diagnoses: Sequence[Diagnosis]) -> tuple[str, ...]:
    """What to do for all of them: each thing once, the connection that it names as an example."""
    if len(diagnoses) == 1:
        return diagnoses[0].remedies
    plain: dict[str, None] = {}
    examples: dict[str, str] = {}
    for one in diagnoses:
        for remedy in one.todo:
            if remedy.many is None:
                plain.setdefault(remedy.text)
            else:
                examples.setdefault(remedy.many.partition(":")[0], remedy.many)
    return (*plain, *examples.values())
