"""The difference between two reports as text and as Markdown: what appeared comes first, what is gone last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from halfopen.report.escape import Json, Markdown, Terminal, ascii_json, columns, markdown, terminal
from halfopen.report.view import View, end_phrase
from halfopen.schema.diff import CounterChange, DiffReport, QueueChange
from halfopen.schema.report import Finding

SHOWN = 20  # connections of one kind, unless all are asked for
BLANK = Terminal.literal("")


def render(diff: DiffReport, view: View) -> Terminal:
    """For a terminal."""
    head = terminal(diff.headline)
    lines = [Terminal.literal("\x1b[1m{}\x1b[0m", head) if view.colour else head]
    if not view.quiet:
        lines += [Terminal.literal("  {}", terminal(line)) for line in sides(diff)]
        for title, rows in parts(diff):
            shown = rows if view.all else rows[:SHOWN]
            lines += [BLANK, terminal(title)]
            cells = [[terminal(cell) for cell in row] for row in shown]
            table = columns(cells, (), ["left"] * len(shown[0]))
            lines += [Terminal.literal("  {}", line) for line in table]
            if len(rows) > len(shown):
                lines.append(terminal(f"  and {len(rows) - len(shown)} more: --all, or -o diff.json"))
        lines += [BLANK, terminal(f"exit code {diff.exit_code}")]
    return Terminal.joined("\n", [*lines, BLANK])


def render_markdown(diff: DiffReport, view: View) -> Markdown:
    """For an incident page."""
    lines = [Markdown.literal("## {}", markdown(diff.headline)), MARKDOWN_BLANK]
    lines += [Markdown.literal("- {}", markdown(line)) for line in sides(diff)]
    for title, rows in parts(diff):
        shown = rows if view.all else rows[:SHOWN]
        lines += [MARKDOWN_BLANK, Markdown.literal("### {}", markdown(title)), MARKDOWN_BLANK]
        lines += [Markdown.literal("- {}", Markdown.joined("; ", map(markdown, filter(None, row)))) for row in shown]
        if len(rows) > len(shown):
            lines.append(Markdown.literal("- and {} more in the JSON", len(rows) - len(shown)))
    return Markdown.literal("{}\n", Markdown.joined("\n", lines))


def render_json(diff: DiffReport, _: View) -> Json:
    """The public contract, in pure ASCII."""
    return ascii_json(diff, indent=2)


def sides(diff: DiffReport) -> Iterator[str]:
    """Which two reports are compared."""
    for what, side in (("old", diff.old), ("new", diff.new)):
        yield f"{what}  {side.finished_at}  {side.outcome}, {side.findings} findings  {side.name}"


def parts(diff: DiffReport) -> Iterator[tuple[str, Sequence[tuple[str, ...]]]]:
    """A title and its rows, of what there is."""
    became = {change.finding.id: change.was for change in diff.became}
    for title, found in (
        ("appeared", diff.appeared),
        ("still there", diff.still),
        ("cannot be told: the new report has not read the hosts of", diff.unknown),
        ("gone", diff.gone),
    ):
        if found:
            yield f"{len(found)} {title}", [row_of(one, became.get(one.id)) for one in found]
    if diff.queues:
        yield "accept queues", [queue(one) for one in diff.queues]
    if diff.counters:
        yield "kernel counters", [counter(one) for one in diff.counters]


def row_of(found: Finding, was: str | None) -> tuple[str, ...]:
    """One connection: its ends, its verdict, what it was before, and its end that is there."""
    ends = ", ".join(f"{end.host}: {end_phrase(end)}" for end in (found.client, found.server) if end is not None)
    verdict = f"{found.verdict}, was {was}" if was else str(found.verdict)
    remark = " (allowed)" if found.allowed else ""
    return f"{found.connection.client} -> {found.connection.server}", f"{verdict}{remark}", ends


def queue(change: QueueChange) -> tuple[str, ...]:
    """One listener."""
    where = f"[{change.address}]" if ":" in change.address else change.address
    old, new = ("unknown" if length is None else str(length) for length in (change.old, change.new))
    return change.host, f"{where}:{change.port}", f"{old} -> {new} waiting"


def counter(change: CounterChange) -> tuple[str, ...]:
    """One counter."""
    grown = "counts anew" if change.restarted else f"+{change.new - change.old}"
    return change.host, change.name, f"{change.old} -> {change.new} ({grown})"


MARKDOWN_BLANK = Markdown.literal("")
