"""What makes a run fail: a policy over findings -> outcome and exit status of a check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from halfopen.errors import Exit
from halfopen.plan import CheckPlan
from halfopen.schema.report import Confidence, Finding, Outcome, Severity, Verdict
from halfopen.words import plural

SEVERITIES = list(Severity)


class Policy(Struct, frozen=True):
    """What makes a run fail: findings at or above `fail_on` (None: nothing), beside a check's own allow and max.

    known: the `id` of findings that an earlier report has, which fail nothing.
    """

    fail_on: Severity | None = Severity.CRITICAL
    known: frozenset[str] = frozenset()


def failing(findings: Sequence[Finding], plan: CheckPlan, policy: Policy) -> list[Finding]:
    """The findings that fail the run: by a check's own limits per verdict (`max`), else by their severity."""
    findings = [finding for finding in findings if finding.id not in policy.known]
    counts = Counter(finding.verdict for finding in findings)
    over = {verdict for verdict, limit in plan.max.items() if counts[Verdict(verdict)] > limit}
    least = SEVERITIES.index(policy.fail_on) if policy.fail_on is not None else -1
    return [
        finding
        for finding in findings
        if finding.verdict in over
        or (SEVERITIES.index(finding.severity) <= least and not finding.allowed and finding.verdict not in plan.max)
    ]


def is_known(finding: Finding) -> bool:
    """Whether a finding is more than inferred, so that it may fail a run."""
    return finding.confidence is not Confidence.INFERRED


def only_inferred(findings: Sequence[Finding], plan: CheckPlan, policy: Policy, why: Sequence[str]) -> list[str]:
    """Reasons why nothing can be said for sure, if what would fail the run is all inferred; else none.

    why: what was seen that could undo it, if anything was.
    """
    known = [finding for finding in findings if is_known(finding)]
    if failing(known, plan, policy) or not (unsure := failing(findings, plan, policy)):
        return []
    count = sum(not is_known(finding) for finding in unsure)
    return [f"{plural(count, 'finding')} only inferred: {doubt}" for doubt in why or [SECOND_MOMENT]]


def outcome_of(findings: Sequence[Finding], fails: bool, missing: Sequence[str]) -> tuple[Outcome, int]:
    """Outcome and exit status of a check. `missing`: reasons why it is incomplete, which never reads as clean."""
    if fails:
        return Outcome.FINDINGS, Exit.FINDINGS
    if missing:
        return Outcome.INCOMPLETE, Exit.INCOMPLETE
    counted = [finding for finding in findings if not finding.allowed]
    return (Outcome.FINDINGS if counted else Outcome.CLEAN), Exit.CLEAN


def reason_of(findings: Sequence[Finding], plan: CheckPlan, policy: Policy, missing: Sequence[str], code: int) -> str:
    """Why a check ends with this exit code: what fails it, what is missing, and what was let pass.

    `exit 1: 7 critical; max never-accepted=10 kept (3)`. missing: as for `outcome_of`.
    """
    failed = failing([finding for finding in findings if is_known(finding)], plan, policy)
    by_severity = Counter(finding.severity for finding in failed if finding.verdict not in plan.max)
    parts = [f"{by_severity[severity]} {severity}" for severity in SEVERITIES if by_severity[severity]]
    counted = Counter(finding.verdict for finding in findings if finding.id not in policy.known)
    for verdict, limit in sorted(plan.max.items()):
        count = counted[Verdict(verdict)]
        parts.append(f"max {verdict}={limit} {'exceeded' if count > limit else 'kept'} ({count})")
    parts += [f"incomplete: {reason}" for reason in missing[:1]]
    lesser = Counter(
        finding.severity
        for finding in findings
        if not (finding in failed or finding.allowed or finding.known or finding.verdict in plan.max)
    )
    below = f"below --fail-on {policy.fail_on}" if policy.fail_on is not None else "--fail-on never"
    parts += [f"{lesser[severity]} {severity}, {below}" for severity in SEVERITIES if lesser[severity] and not missing]
    allowed = Counter(finding.verdict for finding in findings if finding.allowed)
    parts += [f"{count} {verdict} allowed" for verdict, count in sorted(allowed.items())]
    known = sum(finding.known for finding in findings)
    parts += [f"{known} in the baseline"] if known else []
    return f"exit {code}: {'; '.join(parts or ['nothing found'])}"


def known_note(findings: Sequence[Finding]) -> list[str]:
    """How many findings stood in the baseline already."""
    known = sum(finding.known for finding in findings)
    verb = "stands" if known == 1 else "stand"
    return [f"{known} of {plural(len(findings), 'finding')} {verb} in the baseline: not counted"] if known else []


SECOND_MOMENT = "confirm by a second moment, or by halfopen check"
