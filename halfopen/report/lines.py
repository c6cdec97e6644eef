"""One check in lines of text, as a terminal shows them and JUnit quotes them: the answer first, then the proof."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from halfopen.report.escape import Terminal, columns, command, hint, terminal, wrapped
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
from halfopen.schema.report import Check, Confidence, Finding, Group, HostReport, Outcome, Severity
from halfopen.words import plural

EXAMPLES = 3  # connections of a group, unless all are asked for
NOTES = 6
SCREEN = 56  # lines; groups that do not fit are left out, unless all are asked for
LABEL = 8  # columns of a label in the margin


def lines_of(check: Check, view: View) -> list[Terminal]:
    """The whole check."""
    if view.quiet:
        return [coloured(terminal(named(check)), check, view)]
    stated: dict[str, str] = {}
    lines = [*headline(check, view), *(line for detail in check.details for line in wrapped(detail, view, "  "))]
    failures = [line for host in check.hosts for line in failure(host, view)]
    if failures:
        lines += [BLANK, *failures]
    if check.findings:
        lines += [BLANK, *pairs(check, view), *matrix(check, view)]
        for number, group in enumerate(check.groups, 1):
            part = paragraph(check, group, number if len(check.groups) > 1 else None, view, stated)
            if number > 1 and not view.all and len(lines) + len(part) > SCREEN:
                left = check.groups[number - 1 :]
                rest = plural(sum(group.count for group in left), "more finding")
                stated_left = f"{rest} in {plural(len(left), 'group')} not shown (--all, or -o report.json)"
                lines += [BLANK, *wrapped(stated_left, view, "")]
                break
            lines += [BLANK, *part]
        lines += [BLANK, *footer(check, view)]
    else:
        lines += [BLANK, *matrix(check, view)] if view.verbose and check.state_matrix else []
        lines += wrapped(outside, view, "  ") if (outside := elsewhere(check)) else []
    lines += [*unjudged(check, view), *notes(check, view)]
    if check.outcome is not Outcome.CLEAN or view.verbose:
        lines += wrapped(check.exit_reason, view, "")
    return lines


def headline(check: Check, view: View) -> list[Terminal]:
    """The answer: on one line, or where that is too long for the terminal, one for each of its clauses."""
    answer = named(check)
    clauses = answer.split("; ") if len(answer) > view.width else [answer]
    parts = [terminal(clause + ";" * (clause is not clauses[-1])) for clause in clauses]
    return [coloured(part, check, view) for part in parts]


def named(check: Check) -> str:
    """The headline, with the name of the check where the inventory gives it one of its own."""
    is_own = " -> " not in check.name
    return f"{check.name}: {check.headline}" if is_own else check.headline


def coloured(head: Terminal, check: Check, view: View) -> Terminal:
    """The headline in the colour of its outcome, or of its gravest finding, which its words say as well."""
    if not view.colour:
        return head
    gravest = min((found.severity for found in check.findings if not found.allowed), key=SEVERITIES.index, default=None)
    is_finding = check.outcome is Outcome.FINDINGS and gravest is not None
    colour = OF_SEVERITY[gravest] if is_finding and gravest is not None else OF_OUTCOME[check.outcome]
    return Terminal.literal("\x1b[1;{}m{}\x1b[0m", colour, head)


def failure(host: HostReport, view: View) -> list[Terminal]:
    """A host that could not be read: why, and what to type."""
    if host.error is None:
        return []
    lines = wrapped(f"{host.name}  {host.error.code}: {host.error.message}", view, "  ")
    return [*lines, *([Terminal.literal("    {}", hint(host.error.hint))] if host.error.hint else [])]


def matrix(check: Check, view: View) -> list[Terminal]:
    """The states of the two ends: what does not agree row by row, what agrees in one line."""
    lines: list[Terminal] = []
    if rows := disagreeing(check):
        ends = headings(check, rows)
        cells = [
            [*end_states(row, ends), str(row.count), row.verdict or "", row.severity or "", row.confidence or ""]
            for row in rows
        ]
        table = state_table(cells, ends)
        if any(len(line) > view.width for line in table):
            # Which severity a verdict has is said below as well.
            table = state_table([[*row[:4], row[5]] for row in cells], ends)
        lines = table if any(len(line) > view.width - 2 for line in table) else indented(table)
    agree = agreement(check)
    return [*lines, terminal(f"  {agree}")] if agree else lines


def state_table(cells: Sequence[Sequence[str]], ends: Sequence[str]) -> list[Terminal]:
    """Rows of the matrix under the names of the two ends."""
    heads = [*ends, "connections", *[""] * (len(cells[0]) - 3)]
    return columns([[terminal(cell) for cell in row] for row in cells], heads, ("left", "left", "right"))


def pairs(check: Check, view: View) -> list[Terminal]:
    """The pairs of hosts with the most findings, where there is more than one."""
    shown = check.pairs if view.all else check.pairs[:PAIRS]
    if not shown:
        return []
    rows = [[terminal(cell) for cell in (f"{pair.client} -> {pair.server}", *severity_counts(pair))] for pair in shown]
    heads = ("worst pairs", "critical", "warning", "info")
    lines = indented(columns(rows, heads, ("left", "right", "right", "right")))
    if len(check.pairs) > len(shown):
        more = plural(len(check.pairs) - len(shown), "more pair")
        lines.append(terminal(f"  and {more}: --all, or -o report.json"))
    return [*lines, BLANK]


def indented(lines: Iterable[Terminal]) -> list[Terminal]:
    """Lines two columns further right."""
    return [Terminal.literal("  {}", line) for line in lines]


def paragraph(check: Check, group: Group, number: int | None, view: View, stated: dict[str, str]) -> list[Terminal]:
    """One group: what it is, why, what becomes of it, what to do, and a few of its connections.

    `number`: of the group, None if it is the only one. `stated`: facts, remedies and commands that stand in an
    earlier group -> its number, or that of the step; what is stated here is added.
    """
    by_id = {finding.id: finding for finding in check.findings}
    index = (number or 1) - 1
    mark = f"{number}. " if number else ""
    lines = wrapped(f"{mark}{title(check, group)}", view, "", "   ")
    lines += why(group, mark, view, stated)
    if group.outlook:
        lines += wrapped(group.outlook.summary, view, margin("Outlook"), margin())
    actions = steps(group, number, stated)
    for at, action in enumerate(actions):
        hanging = LABEL + 4 if action[0].isdigit() else LABEL  # below the words, behind a number
        lines += wrapped(action, view, margin("" if at else "Actions"), " " * hanging)
    lines += commands(group, mark, view, stated, "" if actions else "Actions")
    members = [finding for finding in check.findings if finding.group == index] if view.all else []
    few = EXAMPLES if number is None else 1
    examples = members or [by_id[example] for example in group.examples if example in by_id][:few]
    for finding in examples:
        lines.append(example_line(finding, group, view))
        if finding.translation:
            lines += wrapped(finding.translation, view, " " * (LABEL + 2))
    if group.count > len(examples):
        lines.append(terminal(f"{margin()}and {group.count - len(examples)} more: --all, or -o report.json"))
    return lines


def title(check: Check, group: Group) -> str:
    """What a group is: count, verdict, listener, and what its findings have in common."""
    where = f" {group.listener}" if group.listener else ""
    # Programs only where nothing else tells two groups apart; otherwise causes and examples name them.
    alike = [other for other in check.groups if (other.verdict, other.listener) == (group.verdict, group.listener)]
    who = f", {programs(group)}" if programs(group) and len(alike) > 1 else ""
    # Proven is the default reading; a weaker confidence is said.
    remarks = [] if group.confidence is Confidence.PROVEN else [str(group.confidence)]
    remarks += ["allowed"] if group.allowed else []
    grade = f" ({', '.join(remarks)})" if remarks else ""
    return f"{group.count} {group.verdict}{where}{who}{grade}: {group.summary}"


def steps(group: Group, number: int | None, stated: dict[str, str]) -> list[str]:
    """What to do, numbered; a step that stands in an earlier group already is only referred to."""
    again = [stated[remedy] for remedy in group.remedies if remedy in stated]
    new = [remedy for remedy in group.remedies if remedy not in stated]
    for at, remedy in enumerate(new, 1):
        stated[remedy] = f"{number or 1}.{at}"
    lines = [f"{stated[remedy]} {remedy}" if number else f"{at}. {remedy}" for at, remedy in enumerate(new, 1)]
    if not number and len(new) == 1:
        lines = new
    return [f"as in {', '.join(again)}", *lines] if again else lines


def commands(group: Group, mark: str, view: View, stated: dict[str, str], label: str) -> list[Terminal]:
    """What to type: each command whole on a line of its own, however long; those of an earlier group not again."""
    lines: list[Terminal] = []
    for action in group.commands:
        line = command(action.argv)
        if stated.setdefault(f"{action.host} {line}", mark) == mark:
            lines += wrapped(f"{purpose(action)}:", view, margin("" if lines else label), margin())
            lines.append(Terminal.literal("          {}", line))
    return lines


def why(group: Group, mark: str, view: View, stated: dict[str, str]) -> list[Terminal]:
    """Causes, each with the facts that speak for it; a fact that stands in an earlier group is left out."""
    lines: list[Terminal] = []
    for cause in group.why:
        lines += wrapped(cause_phrase(cause), view, margin("or" if lines else "Why"), margin())
        for fact in cause.evidence:
            if stated.setdefault(f"{fact.host} {fact.fact}", mark) == mark:
                lines += wrapped(f"{fact.host} {fact.fact}", view, " " * (LABEL + 2), " " * (LABEL + 4))
    return lines


def margin(label: str = "") -> str:
    """The start of a line: a label, or blank."""
    return f"{label:<{LABEL}}"


def example_line(finding: Finding, group: Group, view: View) -> Terminal:
    """One connection on one line, without what its group says already; with `--all` complete, for searching."""
    brief = not view.all and finding.connection.server == group.listener
    parts = [finding.connection.client if brief else f"{finding.connection.client} -> {finding.connection.server}"]
    parts += [f"{name}: {end_phrase(end, brief)}" for name, end in ends_of(finding, group)]
    return terminal(margin() + "   ".join(parts))


def footer(check: Check, view: View) -> list[Terminal]:
    """How this was read, and what was not judged."""
    complete = sum(host.complete for host in check.hosts)
    read = f"{complete} of {len(check.hosts)} hosts" if complete < len(check.hosts) else plural(complete, "host")
    return wrapped("; ".join(filter(None, (f"{read} read completely{effort(check)}", elsewhere(check)))), view, "")


def unjudged(check: Check, view: View) -> list[Terminal]:
    """The connections that were not judged: how many, or one a line if everything is asked for."""
    if not check.unjudged:
        return []
    if not view.all:
        return wrapped(f"{unjudged_count(check)}: --all, or -o report.json", view, "")
    rows = (terminal(f"{margin()}{unjudged_phrase(row)}") for row in check.unjudged)
    return [BLANK, Terminal.literal("not judged"), *rows]


def notes(check: Check, view: View) -> list[Terminal]:
    """Gaps and notes, all of them only if asked for."""
    shown = check.notes if view.verbose or view.all else check.notes[:NOTES]
    lines = [line for note in shown for line in wrapped(f"note: {note}", view, "", "      ")]
    if len(check.notes) > len(shown):
        lines.append(terminal(f"and {plural(len(check.notes) - len(shown), 'more note')}: -v"))
    return lines


BLANK = Terminal.literal("")
SEVERITIES = list(Severity)
# Foreground colours of ECMA-48 SGR.
OF_OUTCOME = {Outcome.CLEAN: 32, Outcome.FINDINGS: 31, Outcome.INCOMPLETE: 35}
OF_SEVERITY = {Severity.CRITICAL: 31, Severity.WARNING: 33, Severity.INFO: 36}
