"""A finding diagnosed: why it is so, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

from halfopen.judge.diagnosis.case import Case
from halfopen.judge.diagnosis.outlook import Prospect, prospect_of
from halfopen.judge.diagnosis.rules import reasons_of
from halfopen.judge.diagnosis.rules.rule import Reason
from halfopen.judge.diagnosis.severity import severity_of
from halfopen.schema.report import CauseCode, Severity


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Causes that fit, the surest first; what becomes of it; how grave it is."""

    reasons: tuple[Reason, ...]
    prospect: Prospect
    severity: Severity

    @property
    def codes(self) -> tuple[CauseCode, ...]:
        """The causes by name."""
        return tuple(reason.code for reason in self.reasons)


def diagnose(case: Case) -> Diagnosis:
    """The diagnosis of one finding."""
    reasons = reasons_of(case)
    prospect = prospect_of(case, [reason.code for reason in reasons])
    return Diagnosis(reasons, prospect, severity_of(case, reasons))
