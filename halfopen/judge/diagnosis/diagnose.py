"""A finding diagnosed: why it is so, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

from halfopen.judge.diagnosis.case import Case
from halfopen.judge.diagnosis.outlook import Prospect, prospect_of
from halfopen.judge.diagnosis.rules import reasons_of
from halfopen.judge.diagnosis.rules.rule import Reason
from halfopen.schema.report import CauseCode


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Causes that fit, the surest first; what becomes of it."""

    reasons: tuple[Reason, ...]
    prospect: Prospect

    @property
    def codes(self) -> tuple[CauseCode, ...]:
        """The causes by name."""
        return tuple(reason.code for reason in self.reasons)


def diagnose(case: Case) -> Diagnosis:
    """The diagnosis of one finding."""
    reasons = reasons_of(case)
    return Diagnosis(reasons, prospect_of(case, [reason.code for reason in reasons]))
