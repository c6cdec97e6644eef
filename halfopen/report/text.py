"""The report for somebody who is tired: the answer, the proof, why, what becomes of it, what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from halfopen.findings import Check, End, Finding, Group, HostPair, HostReport, Listener, MatrixRow, Outcome, Report
from halfopen.report.escape import Terminal, terminal
from halfopen.report.view import View
from halfopen.words import duration, plural

EXAMPLES = 3
NOTES = 6
PAIRS = 10
GROUPS = 6


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
    head = coloured(terminal(check.headline), check, view)
    if view.quiet:
        return [head]
    lines = [head, *(line for detail in check.details for line in wrapped(detail, view, "  "))]
    failures = [line for host in check.hosts for line in failure(host, view)]
    if failures:
        lines += [BLANK, *failures]
    if check.findings:
        lines += [BLANK, *pairs(check, view), *matrix(check)]
        shown = check.groups if view.all else check.groups[:GROUPS]
        for number, group in enumerate(shown, 1):
            lines += [BLANK, *paragraph(check, group, number if len(check.groups) > 1 else None, view)]
        if len(check.groups) > len(shown):
            rest = sum(group.count for group in check.groups[len(shown) :])
            lines += [BLANK, terminal(f"and {plural(rest, 'finding')} more in lesser groups: --all, or -o report.json")]
        lines += [BLANK, *footer(check, view)]
    elif view.verbose and check.state_matrix:
        lines += [BLANK, *matrix(check)]
    lines += notes(check, view)
    return lines


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
    return lines + (wrapped(host.error.hint, view, "    ") if host.error.hint else [])


def matrix(check: Check) -> list[Terminal]:
    """The states of the two ends: what does not agree row by row, what agrees in one line."""
    from tabulate import tabulate

    wrong = [row for row in check.state_matrix if row.verdict is not None]
    right = [row for row in check.state_matrix if row.verdict is None]
    rows = [
        [
            terminal(state(row.client)),
            terminal("in accept queue" if row.in_accept_queue else state(row.server)),
            str(row.count),
            terminal(row.verdict or ""),
            terminal(row.severity or ""),
            terminal(row.confidence or ""),
        ]
        for row in wrong
    ]
    heads = [terminal(heading(check, "client")), terminal(heading(check, "server")), "connections", "", "", ""]
    table = tabulate(rows, heads, tablefmt="plain", disable_numparse=True, colalign=("left", "left", "right"))
    lines = [Terminal(f"  {line}".rstrip()) for line in table.splitlines()] if wrong else []
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


def heading(check: Check, role: str) -> str:
    """The name of the one host of a role, or the role."""
    name = (check.client if role == "client" else check.server).name
    if check.client.name == check.server.name:
        return f"{name} ({role})"
    return name if len(check.hosts) - len(check.nat) == 2 else role


def agreeing(rows: Sequence[MatrixRow]) -> str:
    """Pairs of states that agree, each with its count."""
    parts = []
    for row in rows:
        pair = state(row.client) if row.client == row.server else f"{state(row.client)} / {state(row.server)}"
        parts.append(f"{row.count} {pair}")
    return ", ".join(parts)


def state(name: str | None) -> str:
    """A state, or that there is no socket."""
    return name or "no socket"


def paragraph(check: Check, group: Group, number: int | None, view: View) -> list[Terminal]:
    """One group: what it is, why, what becomes of it, what to do, and a few of its connections."""
    by_id = {one.id: one for one in check.findings}
    mark = f"{number}. " if number else ""
    where = f" {group.listener}" if group.listener else ""
    who = f", {group.process}" if group.process else ""
    allowed = ", allowed" if group.allowed else ""
    grade = f"({group.severity}, {group.confidence}{allowed})"
    title = f"{mark}{group.count} {group.verdict}{where}{who} {grade}: {group.summary}"
    lines = wrapped(title, view, "", "   ")
    lines += why(check, group, view)
    if group.outlook:
        lines += labelled("Then", [group.outlook.summary], view)
    if group.remedies:
        steps = (
            [f"{at}. {remedy}" for at, remedy in enumerate(group.remedies, 1)]
            if len(group.remedies) > 1
            else group.remedies
        )
        lines += labelled("Do", steps, view)
    members = [one for one in check.findings if belongs(one, group, by_id)] if view.all else []
    examples = members or [by_id[one] for one in group.examples if one in by_id][:EXAMPLES]
    lines += [line for one in examples for line in (example(one), *way(one, view))]
    if group.count > len(examples):
        lines.append(terminal(f"        and {group.count - len(examples)} more: --all, or -o report.json"))
    return lines


def belongs(finding: Finding, group: Group, by_id: dict[str, Finding]) -> bool:
    """Whether a finding is one of a group's: as its first example in everything that groups are made by."""
    first = by_id[group.examples[0]]

    def traits(one: Finding) -> tuple[object, ...]:
        causes = one.cause.code if one.cause else None
        sides = tuple(end.host if end else None for end in (one.client, one.server))
        return one.verdict, causes, one.connection.server, sides, held_by(one)

    return traits(finding) == traits(first)


def held_by(finding: Finding) -> str | None:
    """The program at the client's end, else at the server's."""
    ends = [end.process for end in (finding.client, finding.server) if end is not None and end.process]
    return ends[0] if ends else None


def why(check: Check, group: Group, view: View) -> list[Terminal]:
    """Causes with their numbers, and the listener with its accept queue."""
    facts = [" or ".join(group.causes or ((group.cause,) if group.cause else ()))] if group.cause else []
    facts += [listener(one) for one in check.listeners if is_of(one, group)]
    for fact in group.evidence:
        value = "" if fact.value is None else f" {fact.value:g}"
        facts.append(f"{fact.host} {fact.fact}{value}")
    return labelled("Why", facts, view) if facts else []


def is_of(one: Listener, group: Group) -> bool:
    """Whether a listener is the one of a group: its host and port."""
    return group.listener is not None and one.host == group.server_host and group.listener.endswith(f":{one.port}")


def listener(one: Listener) -> str:
    """A listener and how full it is."""
    address = f"[{one.address}]" if ":" in one.address else one.address
    who = f" ({one.process}, pid {one.pid})" if one.process else ""
    if one.queue is None:
        return f"{one.host} listens on {address}:{one.port}{who}"
    limit = f" of {one.backlog}" if one.backlog is not None else ""
    full = ": full" if one.full else ""
    return f"{one.host} {address}:{one.port}{who} has {one.queue}{limit} in its accept queue{full}"


def example(finding: Finding) -> Terminal:
    """One connection on one line."""
    parts = [f"{finding.connection.client} -> {finding.connection.server}"]
    for end in (finding.client, finding.server):
        if end is not None:
            parts.append(f"{end.host}: {told(end)}")
    return terminal("        " + "   ".join(parts))


def way(finding: Finding, view: View) -> list[Terminal]:
    """How the tuples of the two ends correspond, where they differ."""
    return wrapped(finding.translation, view, " " * 10) if finding.translation else []


def told(end: End) -> str:
    """What is known of an end, shortly."""
    words = [end.state]
    if end.process:
        words.append(f"{end.process} pid {end.pid}")
    if end.idle_s is not None:
        words.append(f"idle {duration(end.idle_s)}")
    # A SYN or FIN takes a place in the queues like a byte, and is none.
    spare = 0 if end.state == "ESTABLISHED" else 1
    for queue, what in ((end.recv_q, "unread"), (end.send_q, "unacknowledged")):
        if queue is not None and queue > spare:
            words.append(f"{plural(queue - spare, 'byte')} {what}")
    return " ".join(words)


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


def notes(check: Check, view: View) -> list[Terminal]:
    """Gaps and notes, all of them only if asked for."""
    shown = check.notes if view.verbose or view.all else check.notes[:NOTES]
    lines = [line for note in shown for line in wrapped(f"note: {note}", view, "", "      ")]
    if len(check.notes) > len(shown):
        lines.append(terminal(f"and {plural(len(check.notes) - len(shown), 'note')} more: -v"))
    return lines


def labelled(label: str, facts: Iterable[str], view: View) -> list[Terminal]:
    """Sentences beside a label in the margin."""
    lines: list[Terminal] = []
    for fact in facts:
        lines += wrapped(fact, view, f"{label:<8}" if not lines else " " * 8, " " * 8)
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
