"""The report for somebody who is tired: the answer, the proof, why, what becomes of it, what to do."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from halfopen.report.escape import Terminal, command, hint, terminal
from halfopen.report.view import View
from halfopen.schema.report import (
    Cause,
    CauseCode,
    Check,
    Command,
    Confidence,
    End,
    Finding,
    Group,
    HostPair,
    HostReport,
    MatrixRow,
    Outcome,
    Report,
    Severity,
    UnjudgedRow,
)
from halfopen.words import duration, plural

EXAMPLES = 3
NOTES = 6
PAIRS = 10
SCREEN = 56
CLIENT, SERVER = "client", "server"


def render(report: Report, view: View) -> str:
    """All checks, as they are ordered, and a line that sums them up where there is more than one."""
    blocks = [lines_of(check, view) for check in report.checks]
    if len(report.checks) > 1:
        counts = [(word, sum(check.outcome == word for check in report.checks)) for word in Outcome]
        told = ", ".join(f"{count} {word}" for word, count in counts if count)
        blocks.append([terminal(f"{len(report.checks)} checks: {told}")])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def lines_of(check: Check, view: View) -> list[Terminal]:
    """One check."""
    if view.quiet:
        return [coloured(terminal(check.headline), check, view)]
    told: dict[str, str] = {}
    lines = [*headline(check, view), *(line for detail in check.details for line in wrapped(detail, view, "  "))]
    failures = [line for host in check.hosts for line in failure(host, view)]
    if failures:
        lines += [BLANK, *failures]
    if check.findings:
        lines += [BLANK, *pairs(check, view), *matrix(check, view)]
        for number, group in enumerate(check.groups, 1):
            part = paragraph(check, group, number if len(check.groups) > 1 else None, view, told)
            if number > 1 and not view.all and len(lines) + len(part) > SCREEN:
                rest = plural(sum(group.count for group in check.groups[number - 1 :]), "finding")
                lines += [BLANK, *wrapped(f"and {rest} more in lesser groups: --all, or -o report.json", view, "")]
                break
            lines += [BLANK, *part]
        lines += [BLANK, *footer(check, view)]
    elif view.verbose and check.state_matrix:
        lines += [BLANK, *matrix(check, view)]
    lines += [*unjudged(check, view), *notes(check, view)]
    return lines


def headline(check: Check, view: View) -> list[Terminal]:
    """The answer: on one line, or where that is too long for the terminal, one for each of its clauses."""
    clauses = check.headline.split("; ") if len(check.headline) > view.width else [check.headline]
    parts = [terminal(clause + ";" * (clause is not clauses[-1])) for clause in clauses]
    return [coloured(part, check, view) for part in parts]


def coloured(head: Terminal, check: Check, view: View) -> Terminal:
    """The headline in the colour of its outcome, which its words say as well."""
    if not view.colour:
        return head
    return Terminal(f"\x1b[1;{COLOURS[check.outcome]}m{head}\x1b[0m")


def failure(host: HostReport, view: View) -> list[Terminal]:
    """A host that could not be read: why, and what to type."""
    if host.error is None:
        return []
    lines = wrapped(f"{host.name}  {host.error.code}: {host.error.message}", view, "  ")
    return [*lines, *([Terminal(f"    {hint(host.error.hint)}")] if host.error.hint else [])]


def matrix(check: Check, view: View) -> list[Terminal]:
    """The states of the two ends: what does not agree row by row, what agrees in one line."""
    from tabulate import tabulate

    wrong, right = wrong_rows(check), in_agreement(check)
    ends = headings(check, wrong)
    rows = [
        [
            *map(terminal, cells(row, ends)),
            str(row.count),
            terminal(row.verdict or ""),
            terminal(row.severity or ""),
            terminal(row.confidence or ""),
        ]
        for row in wrong
    ]
    heads = [*map(terminal, ends), "connections", "", "", ""]
    table = tabulate(rows, heads, tablefmt="plain", disable_numparse=True, colalign=("left", "left", "right"))
    indent = "" if any(len(line) > view.width - 2 for line in table.splitlines()) else "  "
    lines = [Terminal(f"{indent}{line}".rstrip()) for line in table.splitlines()] if wrong else []
    if right:
        lines.append(terminal(f"  {plural(check.agreeing, 'connection')} more agree: {agreeing(right)}"))
    return lines


def pairs(check: Check, view: View) -> list[Terminal]:
    """The pairs of hosts with the most findings, where there are more than two hosts."""
    from tabulate import tabulate

    shown = check.pairs if view.all else check.pairs[:PAIRS]
    if not shown:
        return []
    rows = [[terminal(f"{one.client} -> {one.server}"), *counted(one)] for one in shown]
    heads = ["worst pairs", "critical", "warning", "info"]
    table = tabulate(rows, heads, tablefmt="plain", disable_numparse=True, colalign=("left", "right", "right", "right"))
    lines = [Terminal(f"  {line}".rstrip()) for line in table.splitlines()]
    if len(check.pairs) > len(shown):
        lines.append(terminal(f"  and {plural(len(check.pairs) - len(shown), 'pair')} more: --all, or -o report.json"))
    return [*lines, BLANK]


def counted(pair: HostPair) -> list[str]:
    """Findings of a pair by severity."""
    return [str(pair.critical), str(pair.warning), str(pair.info)]


def wrong_rows(check: Check) -> list[MatrixRow]:
    """The rows of what does not agree; of a fleet those with one pair of states are one, whatever their hosts."""
    wrong = [row for row in check.state_matrix if row.verdict is not None]
    if not is_fleet(check):
        return wrong
    counts: Counter[MatrixRow] = Counter()
    for row in wrong:
        counts[replace(row, client_host=CLIENT, server_host=SERVER, count=0)] += row.count
    merged = [replace(row, count=count) for row, count in counts.items()]
    return sorted(merged, key=lambda row: (list(Severity).index(row.severity or Severity.INFO), -row.count))


def is_fleet(check: Check) -> bool:
    """Whether more than two hosts are compared."""
    return len(check.hosts) - len(check.nat) > 2


def headings(check: Check, wrong: Sequence[MatrixRow]) -> tuple[str, str]:
    """What to call the two ends: by their hosts, or where these are not the same in all rows by their roles."""
    pairs = {(row.client_host, row.server_host) for row in wrong}
    if is_fleet(check) or len(pairs) != 1:
        return CLIENT, SERVER
    ((client, server),) = pairs
    return (f"{client} (client)", f"{server} (server)") if client == server else (client, server)


def cells(row: MatrixRow, heads: tuple[str, str]) -> tuple[str, str]:
    """The two ends of a row: their states, with their hosts where rows of different hosts stand together."""
    ends = state(row.client), "in accept queue" if row.in_accept_queue else state(row.server)
    if heads != (CLIENT, SERVER) or row.client_host == CLIENT:
        return ends
    return f"{row.client_host} {ends[0]}", f"{row.server_host} {ends[1]}"


def in_agreement(check: Check) -> list[MatrixRow]:
    """The rows of connections that agree: TIME_WAIT alone is what one has left behind."""
    rows = [row for row in check.state_matrix if row.verdict is None]
    return [row for row in rows if {row.client, row.server} != {"TIME_WAIT", None}]


def agreeing(rows: Sequence[MatrixRow]) -> str:
    """Pairs of states that agree, each with its count."""
    counts: Counter[str] = Counter()
    for row in rows:
        pair = state(row.client) if row.client == row.server else f"{state(row.client)} / {state(row.server)}"
        counts[pair] += row.count
    return ", ".join(f"{count} {pair}" for pair, count in counts.most_common())


def state(name: str | None) -> str:
    """A state, or that there is no socket."""
    return name or "no socket"


def paragraph(check: Check, group: Group, number: int | None, view: View, told: dict[str, str]) -> list[Terminal]:
    """One group: what it is, why, what becomes of it, what to do, and a few of its connections.

    `told`: facts and remedies of earlier groups -> where they stand.
    """
    by_id = {one.id: one for one in check.findings}
    index = (number or 1) - 1
    mark = f"{number}. " if number else ""
    where = f" {group.listener}" if group.listener else ""
    # Only where nothing else tells two groups apart; who is at which end stands with the causes and the examples.
    twins = [one for one in check.groups if (one.verdict, one.listener) == (group.verdict, group.listener)]
    who = f", {programs(group)}" if programs(group) and len(twins) > 1 else ""
    # What is proven needs no word; what is less must not read as if it were.
    less = [] if group.confidence is Confidence.PROVEN else [group.confidence]
    grade = f" ({', '.join([*less, *['allowed'] * group.allowed])})" if less or group.allowed else ""
    title = f"{mark}{group.count} {group.verdict}{where}{who}{grade}: {group.summary}"
    lines = wrapped(title, view, "", "   ")
    lines += why(group, mark, view, told)
    if group.outlook:
        lines += labelled("Then", [group.outlook.summary], view)
    todo = labelled("Do", steps(group, number, told), view, hanging=True)
    lines += [*todo, *commands(group, mark, view, told, "" if todo else "Do")]
    members = [one for one in check.findings if one.group == index] if view.all else []
    examples = members or [by_id[one] for one in group.examples if one in by_id][: EXAMPLES if number is None else 1]
    lines += [line for one in examples for line in (example(one, group, view), *way(one, view))]
    if group.count > len(examples):
        lines.append(terminal(f"        and {group.count - len(examples)} more: --all, or -o report.json"))
    return lines


def programs(group: Group) -> str:
    """The programs of a group's ends, each with its host: `app on web, postgres on db`."""
    ends = ((group.client_process, group.client_host), (group.server_process, group.server_host))
    return ", ".join(f"{process} on {host}" for process, host in ends if process)


def steps(group: Group, number: int | None, told: dict[str, str]) -> list[str]:
    """What to do, numbered; what stands in an earlier group already is only pointed at."""
    again = [told[remedy] for remedy in group.remedies if remedy in told]
    new = [remedy for remedy in group.remedies if remedy not in told]
    for at, remedy in enumerate(new, 1):
        told[remedy] = f"{number or 1}.{at}"
    lines = [f"{told[remedy]} {remedy}" if number else f"{told[remedy][2:]}. {remedy}" for remedy in new]
    if not number and len(new) == 1:
        lines = new
    return [f"as in {', '.join(again)}", *lines] if again else lines


def commands(group: Group, mark: str, view: View, told: dict[str, str], label: str) -> list[Terminal]:
    """What to type: each command whole on a line of its own, however long; those of an earlier group not again."""
    lines: list[Terminal] = []
    for one in group.commands:
        line = command(one.argv)
        if told.setdefault(f"{one.host} {line}", mark) == mark:
            lines += wrapped(f"{purpose(one)}:", view, f"{label:<8}" if not lines else " " * 8, " " * 8)
            lines.append(Terminal(f"{' ' * 10}{line}"))
    return lines


def purpose(one: Command) -> str:
    """Where a command is typed, and what for."""
    return f"{'as root ' if one.root else ''}on {one.host}, to {one.why}"


def why(group: Group, mark: str, view: View, told: dict[str, str]) -> list[Terminal]:
    """Causes, each with what speaks for it; a fact that an earlier group has told is not told again."""
    lines: list[Terminal] = []
    for cause in group.why:
        label = "or" if lines else "Why"
        lines += wrapped(named(cause), view, f"{label:<8}", " " * 8)
        for fact in cause.evidence:
            if told.setdefault(f"{fact.host} {fact.fact}", mark) == mark:
                lines += wrapped(f"{fact.host} {fact.fact}", view, " " * 10, " " * 12)
    return lines


def named(cause: Cause) -> str:
    """A cause in a sentence, hedged where it merely fits."""
    hedge = "" if cause.decisive or cause.code == CauseCode.UNKNOWN else "perhaps "
    return f"{hedge}{cause.code}: {cause.summary}"


def example(finding: Finding, group: Group, view: View) -> Terminal:
    """One connection on one line, without what its group has said; with `--all` whole, for who searches in it."""
    brief = not view.all and finding.connection.server == group.listener
    parts = [finding.connection.client if brief else f"{finding.connection.client} -> {finding.connection.server}"]
    for end in (finding.client, finding.server):
        if end is not None:
            parts.append(f"{end.host}: {told(end, brief)}")
    return terminal("        " + "   ".join(parts))


def way(finding: Finding, view: View) -> list[Terminal]:
    """How the tuples of the two ends correspond, where they differ."""
    return wrapped(finding.translation, view, " " * 10) if finding.translation else []


def told(end: End, brief: bool = False) -> str:
    """What is known of an end, shortly; its state goes without saying where the matrix has it and there is more."""
    words = []
    if end.process:
        words.append(f"{end.process} pid {end.pid}")
    if end.idle_s is not None:
        words.append(f"idle {duration(end.idle_s)}")
    # A SYN or FIN takes a place in the queues like a byte, and is none.
    spare = 0 if end.state == "ESTABLISHED" else 1
    for queue, what in ((end.recv_q, "unread"), (end.send_q, "unacknowledged")):
        if queue is not None and queue > spare:
            words.append(f"{plural(queue - spare, 'byte')} {what}")
    return " ".join([end.state, *words]) if not brief or not words else ", ".join(words)


def footer(check: Check, view: View) -> list[Terminal]:
    """How this was read, and what was not judged."""
    complete = sum(host.complete for host in check.hosts)
    read = f"{complete} of {len(check.hosts)} hosts" if complete < len(check.hosts) else plural(complete, "host")
    took = f" in {duration(check.elapsed_s)}" if check.elapsed_s is not None else ""
    line = f"{read} read completely{took}, {plural(check.rounds, 'round')}"
    outside = sum(one.count for one in check.external)
    if outside:
        names = ", ".join(dict.fromkeys(one.host for one in check.external))
        line += f"; {plural(outside, 'connection')} of {names} lead elsewhere and were not judged"
    return wrapped(line, view, "")


def unjudged(check: Check, view: View) -> list[Terminal]:
    """The connections that were not judged, one a line, if everything is asked for."""
    if not view.all or not check.unjudged:
        return []
    return [BLANK, Terminal("not judged"), *(terminal(f"        {not_judged(one)}") for one in check.unjudged)]


def not_judged(row: UnjudgedRow) -> str:
    """A connection that was not judged: its ends, which of them is there, and why."""
    return f"{row.client} -> {row.server}   {row.host}: {row.state}   {row.reason}"


def notes(check: Check, view: View) -> list[Terminal]:
    """Gaps and notes, all of them only if asked for."""
    shown = check.notes if view.verbose or view.all else check.notes[:NOTES]
    lines = [line for note in shown for line in wrapped(f"note: {note}", view, "", "      ")]
    if len(check.notes) > len(shown):
        lines.append(terminal(f"and {plural(len(check.notes) - len(shown), 'note')} more: -v"))
    return lines


def labelled(label: str, facts: Iterable[str], view: View, hanging: bool = False) -> list[Terminal]:
    """Sentences beside a label in the margin; `hanging`: what they go on with stands in by another step."""
    lines: list[Terminal] = []
    for fact in facts:
        lines += wrapped(fact, view, f"{label:<8}" if not lines else " " * 8, " " * (12 if hanging else 8))
    return lines


def wrapped(text: str, view: View, first: str, rest: str | None = None) -> list[Terminal]:
    """Prose in the width of the terminal; words are never cut, so that an address can be copied."""
    safe = terminal(text)
    width = max(view.width, 40)
    lines = textwrap.wrap(
        safe,
        width,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [Terminal(line) for line in lines]


BLANK = Terminal("")
COLOURS = {Outcome.CLEAN: 32, Outcome.FINDINGS: 31, Outcome.INCOMPLETE: 33}
