"""A finding diagnosed: why it is so, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from halfopen.judge.confirm.asked import answer_of
from halfopen.judge.diagnosis.coverage import covered
from halfopen.judge.diagnosis.outlook import Prospect, prospect_of
from halfopen.judge.diagnosis.rules import found_by_rules, ranked
from halfopen.judge.diagnosis.rules.rule import Reason
from halfopen.judge.diagnosis.severity import severity_of
from halfopen.judge.signs.case import Case
from halfopen.judge.signs.tcp_signs import alone
from halfopen.schema.report import Answer, CauseCode, OutlookCode, Severity


class Diagnosis(Struct, frozen=True):
    """Causes that fit, the surest first; what becomes of it; how grave it is."""

    reasons: tuple[Reason, ...]
    prospect: Prospect
    severity: Severity

    @property
    def codes(self) -> tuple[CauseCode, ...]:
        """The causes by name."""
        return tuple(reason.code for reason in self.reasons)


def diagnose(cases: Sequence[Case]) -> list[Diagnosis]:
    """The diagnosis of each of the findings of a check."""
    return [of_one(*parts) for parts in zip(cases, covered([found_by_rules(case) for case in cases]), strict=True)]


def of_one(case: Case, found: Sequence[Reason]) -> Diagnosis:
    """The diagnosis of one finding. `found`: the causes that fit it."""
    reasons = ranked(case, found)
    causes = {reason.code: reason.decisive for reason in reasons}
    prospect = ENDED if has_ended(case) else prospect_of(case, causes)
    return Diagnosis(reasons, prospect, severity_of(case, reasons))


def has_ended(case: Case) -> bool:
    """Whether the one end that was left was asked, and a RST has ended it: there is nothing to end any more."""
    return any(answer_of(end.reply) is Answer.RST for end in case.held.asked) and alone(case) is not None


ENDED = Prospect(OutlookCode.FAILS_ON_WRITE, ("it has ended: its program gets ECONNRESET at its next call",), 0.0)
