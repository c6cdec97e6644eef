"""Annotations for a GitHub workflow: one for each check, and one for each of its groups as far as GitHub shows them.

Of each level GitHub shows ten in a step. The job summary is the Markdown report: whoever prints this writes it too.
Commands: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from halfopen.errors import Exit
from halfopen.report.escape import Workflow, command, workflow, workflow_property
from halfopen.report.view import View, cause_phrase, purpose
from halfopen.schema.report import Check, Group, Report, Severity
from halfopen.words import plural

ERROR, WARNING, NOTICE = "error", "warning", "notice"
SHOWN = 10  # annotations of one level in a step
LEVELS = {Severity.CRITICAL: ERROR, Severity.WARNING: WARNING, Severity.INFO: NOTICE}


def render(report: Report, view: View) -> Workflow:
    """The checks first, so that none of them is crowded out by groups."""
    lines = [annotation(level_of(check), check.name, list(answer(check))) for check in report.checks]
    if not view.quiet:
        left = {level: SHOWN - sum(level_of(check) == level for check in report.checks) for level in LEVELS.values()}
        untold: Counter[str] = Counter()
        for check in report.checks:
            for group in check.groups:
                level = NOTICE if group.allowed else LEVELS[group.severity]
                if left[level] > 0:
                    left[level] -= 1
                    lines.append(annotation(level, f"{check.name}: {group.verdict}", list(told(group))))
                else:
                    untold[level] += 1
        if untold:
            lines.append(workflow(f"{plural(untold.total(), 'more group')} in the job summary"))
    return Workflow.literal("{}\n", Workflow.joined("\n", lines))


def level_of(check: Check) -> str:
    """How loud a check is: an error if it fails the run."""
    if check.exit_code != Exit.CLEAN:
        return ERROR
    return WARNING if any(not found.allowed for found in check.findings) else NOTICE


def answer(check: Check) -> Iterator[str]:
    """A check in lines: its headline, and what to do about hosts that could not be read."""
    yield from (check.headline, *check.details)
    for host in check.hosts:
        if host.error:
            yield f"{host.name} {host.error.code}: {host.error.message}"
            yield from [host.error.hint] if host.error.hint else []


def told(group: Group) -> Iterator[str]:
    """A group in lines: what it is, why, what becomes of it, what to do."""
    where = f" {group.listener}" if group.listener else ""
    yield f"{group.count} {group.verdict}{where} ({group.confidence}): {group.summary}"
    for cause in group.why:
        yield cause_phrase(cause)
    if group.outlook:
        yield group.outlook.summary
    yield from group.remedies
    for action in group.commands:
        yield f"{purpose(action)}:"
        yield command(action.argv)


def annotation(level: str, title: str, lines: list[str]) -> Workflow:
    """One workflow command on one line; `%0A` breaks the line in the annotation."""
    message = Workflow.joined("%0A", map(workflow, lines))
    return Workflow.literal("::{} title={}::{}", workflow(level), workflow_property(title), message)
