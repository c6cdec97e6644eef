"""A finding diagnosed: why it is so, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

from halfopen.judge.confirm.asked import answer_of
from halfopen.judge.diagnosis.case import Case
from halfopen.judge.diagnosis.outlook import Prospect, prospect_of
from halfopen.judge.diagnosis.rules import reasons_of
from halfopen.judge.diagnosis.rules.rule import Reason
from halfopen.judge.diagnosis.tcp_signs import alone
from halfopen.schema.report import Answer, CauseCode, OutlookCode


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
    if has_ended(case):
        return Diagnosis(reasons, ENDED)
    return Diagnosis(reasons, prospect_of(case, [reason.code for reason in reasons]))


def has_ended(case: Case) -> bool:
    """Whether the one end that was left was asked, and a RST has ended it: there is nothing to end any more."""
    return any(answer_of(end.reply) is Answer.RST for end in case.held.asked) and alone(case) is not None


ENDED = Prospect(OutlookCode.FAILS_ON_WRITE, ("it has ended: its program gets ECONNRESET at its next call",), 0.0)
