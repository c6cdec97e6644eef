"""The same report for an incident page: it reads as it is, and alike in GitHub, GitLab, Jira and Slack.

So a blank line stands before and after each list, table and fence, and nothing rests on nesting. The first line makes
sense as a chat message on its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from halfopen.report.escape import Markdown, command, fenced, hint, markdown
from halfopen.report.view import (
    PAIRS,
    View,
    agreement,
    cause_phrase,
    disagreeing,
    effort,
    elsewhere,
    end_phrase,
    end_states,
    ends_of,
    headings,
    programs,
    purpose,
    severity_counts,
    unjudged_count,
    unjudged_phrase,
)
from halfopen.schema.report import Check, Group, HostReport, Report
from halfopen.words import plural

LISTED = 10  # connections of a group


def render(report: Report, view: View) -> Markdown:
    """All checks, one after the other."""
    blocks = (Markdown.joined("\n", lines_of(check, report, view)) for check in report.checks)
    return Markdown.literal("{}\n", Markdown.joined("\n\n", blocks))


def lines_of(check: Check, report: Report, view: View) -> list[Markdown]:
    """One check: the answer, what was read and when, the states, and each group."""
    lines = [Markdown.literal("## {}", markdown(check.headline)), BLANK]
    lines += [line for detail in check.details for line in (markdown(detail), BLANK)]
    lines += [markdown(origin(check, report)), BLANK, *map(host_line, check.hosts)]
    for host in check.hosts:
        if host.error and host.error.hint:
            lines += [BLANK, markdown(f"{host.name}, what to do:"), BLANK, *fenced(hint(host.error.hint))]
    if check.findings:
        lines += [BLANK, *pairs(check), *matrix(check)]
        for group in check.groups:
            lines += [BLANK, *section(check, group, view)]
    lines += [BLANK, markdown(outside)] if (outside := elsewhere(check)) else []
    if check.unjudged:
        lines += [BLANK, *unjudged(check, view)]
    if check.notes:
        lines += [BLANK, Markdown.literal("Notes:"), BLANK, *map(item, check.notes)]
    return lines


def origin(check: Check, report: Report) -> str:
    """Which check this is, when it ended, how long it took, and what it comes to."""
    finished = report.finished_at[:19].replace("T", " ")
    return (
        f"Check {check.name}, {finished} UTC{effort(check)}, {check.exit_reason}, "
        f"{report.tool.name} {report.tool.version}"
    )


def host_line(host: HostReport) -> Markdown:
    """One host: its error, or what was read of it."""
    if host.error:
        return item(f"{host.name}: {host.error.code}: {host.error.message}")
    parts = [f"Linux {host.kernel}" if host.kernel else "", plural(host.sockets, "socket") if host.sockets else ""]
    parts.append("read completely" if host.complete else "not read completely")
    return item(f"{host.name}: {', '.join(filter(None, parts))}")


def matrix(check: Check) -> list[Markdown]:
    """The states of the two ends: a table of what does not agree, and a line for what agrees."""
    rows = disagreeing(check)
    ends = headings(check, rows)
    cells = [
        [*end_states(row, ends), str(row.count), row.verdict or "", row.severity or "", row.confidence or ""]
        for row in rows
    ]
    lines = table([*ends, "connections", "verdict", "severity", "confidence"], cells)
    agree = agreement(check)
    return [*lines, BLANK, markdown(agree)] if agree else lines


def pairs(check: Check) -> list[Markdown]:
    """The pairs of hosts with the most findings, where there is more than one."""
    if not check.pairs:
        return []
    rows = [[f"{pair.client} → {pair.server}", *severity_counts(pair)] for pair in check.pairs[:PAIRS]]
    lines = [*table(["worst pairs", "critical", "warning", "info"], rows), BLANK]
    more = len(check.pairs) - len(rows)
    return [*lines, markdown(f"and {plural(more, 'more pair')}"), BLANK] if more else lines


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Markdown]:
    """A pipe table."""
    head, *body = [[markdown(cell) for cell in row] for row in (heads, *rows)]
    return [table_row(cells) for cells in (head, [Markdown.literal("---")] * len(head), *body)]


def table_row(cells: Sequence[Markdown]) -> Markdown:
    """One line of a table."""
    return Markdown.literal("| {} |", Markdown.joined(" | ", cells))


def item(text: str) -> Markdown:
    """One line of a list."""
    return Markdown.literal("- {}", markdown(text))


def unjudged(check: Check, view: View) -> list[Markdown]:
    """The connections that were not judged: how many, or one a line if everything is asked for."""
    if not view.all:
        return [markdown(f"{unjudged_count(check)}: --all, or the JSON report")]
    return [Markdown.literal("### not judged"), BLANK, *(item(unjudged_phrase(row)) for row in check.unjudged)]


def section(check: Check, group: Group, view: View) -> list[Markdown]:
    """One group: what it is, why, its outlook, actions, commands, and some of its connections."""
    where = f" {group.listener}" if group.listener else ""
    who = f" ({programs(group)})" if programs(group) else ""
    grade = ", ".join([group.severity, group.confidence, *(["allowed"] if group.allowed else [])])
    lines = [Markdown.literal("### {}", markdown(f"{group.count} {group.verdict}{where}")), BLANK]
    lines.append(markdown(f"{group.summary}{who}; {grade}"))
    for number, cause in enumerate(group.why):
        label = Markdown.literal("**or**") if number else Markdown.literal("**Why**")
        lines += [BLANK, Markdown.literal("{} {}", label, markdown(cause_phrase(cause)))]
        lines += [BLANK, *(item(f"{fact.host} {fact.fact}") for fact in cause.evidence)] if cause.evidence else []
    if group.outlook:
        lines += [BLANK, Markdown.literal("**Outlook** {}", markdown(group.outlook.summary))]
    if group.remedies:
        lines += [BLANK, Markdown.literal("**Actions**"), BLANK]
        lines += [Markdown.literal("{}. {}", at, markdown(remedy)) for at, remedy in enumerate(group.remedies, 1)]
    for action in group.commands:
        lines += [BLANK, Markdown.literal("{}:", markdown(purpose(action))), BLANK, *fenced(command(action.argv))]
    by_id = {finding.id: finding for finding in check.findings}
    shown = [by_id[example] for example in group.examples if example in by_id][:LISTED]
    lines += [BLANK, Markdown.literal("**Connections**"), BLANK]
    for finding in shown:
        ends = "; ".join(f"{name}: {end_phrase(end)}" for name, end in ends_of(finding, group))
        lines.append(item(f"{finding.connection.client} → {finding.connection.server} ({ends})"))
    if group.count > len(shown):
        rest = "" if view.all else " (-o report.json)"
        lines.append(item(f"and {group.count - len(shown)} more in the JSON report{rest}"))
    return lines


BLANK = Markdown.literal("")
