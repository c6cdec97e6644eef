"""The same report for an incident page; its first line makes sense as a chat message on its own."""

from __future__ import annotations

from collections.abc import Sequence

from halfopen.findings import Check, Group, Outcome, Report
from halfopen.report.escape import Markdown, markdown
from halfopen.report.text import PAIRS, agreeing, counted, heading, in_agreement, named, state, told
from halfopen.report.view import View
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
            hint = Markdown(f" Next: {markdown(host.error.hint)}") if host.error.hint else BLANK
            lines.append(
                Markdown(
                    f"- **{markdown(host.name)}** {markdown(host.error.code)}: {markdown(host.error.message)}{hint}"
                )
            )
    if check.findings:
        lines += [BLANK, *pairs(check), *matrix(check)]
        for group in check.groups:
            lines += [BLANK, *section(check, group, view)]
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
    rows = [
        [
            markdown(state(row.client)),
            markdown("in accept queue" if row.in_accept_queue else state(row.server)),
            Markdown(str(row.count)),
            markdown(row.verdict or ""),
            markdown(row.severity or ""),
            markdown(row.confidence or ""),
        ]
        for row in check.state_matrix
        if row.verdict is not None
    ]
    heads = [markdown(heading(check, "client")), markdown(heading(check, "server"))]
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
    who = f" ({group.process})" if group.process else ""
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
