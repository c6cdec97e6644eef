"""The report as text: the answer first, then the states of both ends, causes, outlook and actions."""

from __future__ import annotations

from halfopen.report.escape import Terminal, wrapped
from halfopen.report.lines import lines_of
from halfopen.report.view import View
from halfopen.schema.report import Outcome, Report


def render(report: Report, view: View) -> Terminal:
    """All checks, as they are ordered, and a line that sums them up where there is more than one."""
    blocks = [lines_of(check, view) for check in report.checks]
    if len(report.checks) > 1:
        counts = [(outcome, sum(check.outcome == outcome for check in report.checks)) for outcome in Outcome]
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts if count)
        blocks.append(wrapped(f"{len(report.checks)} checks: {outcomes}; exit {report.exit_code}", view, ""))
    return Terminal.literal("{}\n", Terminal.joined("\n\n", (Terminal.joined("\n", block) for block in blocks)))
