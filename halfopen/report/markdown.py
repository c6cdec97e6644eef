"""The same report for an incident page; its first line makes sense as a chat message on its own."""

from __future__ import annotations

from collections.abc import Sequence

from halfopen.report.escape import Markdown, command, fenced, hint, markdown
from halfopen.report.text import (
    PAIRS,
    agreeing,
    cells,
    counted,
    headings,
    in_agreement,
    named,
    not_judged,
    programs,
    purpose,
    told,
    wrong_rows,
)
from halfopen.report.view import View
from halfopen.schema.report import Check, Group, Outcome, Report
from halfopen.words import duration, plural

LISTED = 10


def render(report: Report, view: View) -> str:
    """All checks, one after the other."""
    return "\n\n".join("\n".join(lines_of(check, report, view)) for check in report.checks) + "\n"


def lines_of(check: Check, report: Report, view: View) -> list[Markdown]:
    """One check."""
    lines = [Markdown(f"**{MARKS[check.outcome]}** {markdown(check.headline)}"), BLANK]
    lines += [Markdown(f"{markdown(detail)}  ") for detail in check.details]
    for host in check.hosts:
        if host.error:
            failed = f"**{markdown(host.name)}** {markdown(host.error.code)}: {markdown(host.error.message)}"
            lines += [Markdown(failed), *(fenced(hint(host.error.hint)) if host.error.hint else [])]
    if check.findings:
        lines += [BLANK, *pairs(check), *matrix(check)]
        for group in check.groups:
            lines += [BLANK, *section(check, group, view)]
    if view.all and check.unjudged:
        lines += [BLANK, Markdown("### not judged"), BLANK]
        lines += [Markdown(f"- {markdown(not_judged(one))}") for one in check.unjudged]
    lines += [BLANK, *(Markdown(f"- note: {markdown(note)}") for note in check.notes)]
    took = f" in {duration(check.elapsed_s)}" if check.elapsed_s is not None else ""
    complete = sum(host.complete for host in check.hosts)
    lines.append(
        markdown(
            f"{complete} of {plural(len(check.hosts), 'host')} read completely{took}, {plural(check.rounds, 'round')}, "
            f"finished {report.finished_at}, {report.tool.name} {report.tool.version}"
        )
    )
    return lines


def matrix(check: Check) -> list[Markdown]:
    """The states of the two ends as a table."""
    wrong = wrong_rows(check)
    ends = headings(check, wrong)
    rows = [
        [
            *map(markdown, cells(row, ends)),
            Markdown(str(row.count)),
            markdown(row.verdict or ""),
            markdown(row.severity or ""),
            markdown(row.confidence or ""),
        ]
        for row in wrong
    ]
    heads = list(map(markdown, ends))
    heads += [Markdown(word) for word in ("connections", "verdict", "severity", "confidence")]
    right = in_agreement(check)
    lines = table(heads, rows)
    if right:
        lines += [BLANK, markdown(f"{plural(check.agreeing, 'connection')} more agree: {agreeing(right)}")]
    return lines


def pairs(check: Check) -> list[Markdown]:
    """The pairs of hosts with the most findings, where there are more than two hosts."""
    if not check.pairs:
        return []
    heads = [Markdown(word) for word in ("worst pairs", "critical", "warning", "info")]
    rows = [
        [markdown(f"{one.client} → {one.server}"), *(Markdown(count) for count in counted(one))]
        for one in check.pairs[:PAIRS]
    ]
    more = len(check.pairs) - len(rows)
    return [*table(heads, rows), *([BLANK, markdown(f"and {plural(more, 'pair')} more")] if more else []), BLANK]


def table(heads: Sequence[Markdown], rows: Sequence[Sequence[Markdown]]) -> list[Markdown]:
    """A pipe table; the cells are escaped already, which no table writer does."""
    lines = [Markdown("| " + " | ".join(row) + " |") for row in (heads, *rows)]
    return [lines[0], Markdown("|" + " --- |" * len(heads)), *lines[1:]]


def section(check: Check, group: Group, view: View) -> list[Markdown]:
    """One group."""
    where = f" {group.listener}" if group.listener else ""
    who = f" ({programs(group)})" if programs(group) else ""
    lines = [markdown(f"{group.count} {group.verdict}{where}{who}: {group.summary}")]
    lines[0] = Markdown(f"### {lines[0]}")
    lines.append(BLANK)
    for number, cause in enumerate(group.why):
        lines.append(Markdown(f"**{'or' if number else 'Why'}** {markdown(named(cause))}"))
        lines += [Markdown(f"- {markdown(f'{fact.host} {fact.fact}')}") for fact in cause.evidence]
    if group.outlook:
        lines += [BLANK, Markdown(f"**Then** {markdown(group.outlook.summary)}")]
    if group.remedies:
        lines += [BLANK, Markdown("**Do**"), *(Markdown(f"1. {markdown(one)}") for one in group.remedies)]
    for one in group.commands:
        lines += [BLANK, Markdown(f"{markdown(purpose(one))}:"), BLANK, *fenced(command(one.argv))]
    by_id = {one.id: one for one in check.findings}
    shown = [by_id[one] for one in group.examples if one in by_id][:LISTED]
    lines.append(BLANK)
    for finding in shown:
        ends = "; ".join(f"{end.host}: {told(end)}" for end in (finding.client, finding.server) if end)
        lines.append(markdown(f"{finding.connection.client} → {finding.connection.server} ({ends})"))
        lines[-1] = Markdown(f"- {lines[-1]}")
    if group.count > len(shown):
        lines.append(
            markdown(
                f"and {group.count - len(shown)} more in the JSON report"
                + (" (-o report.json)" if not view.all else "")
            )
        )
    return lines


BLANK = Markdown("")
MARKS = {Outcome.CLEAN: "clean", Outcome.FINDINGS: "half-open", Outcome.INCOMPLETE: "incomplete"}
