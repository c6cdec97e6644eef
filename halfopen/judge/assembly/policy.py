"""What makes a run fail: a policy over findings -> outcome and exit status of a check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from halfopen.errors import Exit
from halfopen.plan import CheckPlan
from halfopen.schema.report import Finding, Outcome, Severity, Verdict

SEVERITIES = list(Severity)


@dataclass(frozen=True, slots=True)
class Policy:
    """What makes a run fail: findings at or above `fail_on` (None: nothing), beside a check's own allow and max."""

    fail_on: Severity | None = Severity.CRITICAL


def over_threshold(findings: Sequence[Finding], plan: CheckPlan, policy: Policy) -> bool:
    """Whether the findings of a check fail the run: by its own limits per verdict (`max`), else by their severity."""
    counts = Counter(finding.verdict for finding in findings)
    if any(counts[Verdict(verdict)] > limit for verdict, limit in plan.max.items()):
        return True
    if policy.fail_on is None:
        return False
    least = SEVERITIES.index(policy.fail_on)
    return any(
        SEVERITIES.index(finding.severity) <= least and not finding.allowed and finding.verdict not in plan.max
        for finding in findings
    )


def outcome_of(findings: Sequence[Finding], failing: bool, missing: Sequence[str]) -> tuple[Outcome, int]:
    """Outcome and exit status of a check. `missing`: reasons why it is incomplete, which never reads as clean."""
    if failing:
        return Outcome.FINDINGS, Exit.FINDINGS
    if missing:
        return Outcome.INCOMPLETE, Exit.INCOMPLETE
    counted = [finding for finding in findings if not finding.allowed]
    return (Outcome.FINDINGS if counted else Outcome.CLEAN), Exit.CLEAN
