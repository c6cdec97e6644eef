"""The text of `halfopen doctor`: which evidence is there, and what is lost without the rest."""

from __future__ import annotations

from halfopen.report.escape import Json, Terminal, ascii_json, hint, terminal, wrapped
from halfopen.report.view import View
from halfopen.schema.doctor import DoctorReport, Item, Patient, Status

BLANK = Terminal.literal("")
NAME = 21  # columns of the name of a kind of evidence
MARGIN = 2 + 9  # before it: the status


def render(checkup: DoctorReport, view: View) -> Terminal:
    """All hosts, as they were named."""
    blocks = (Terminal.joined("\n", lines_of(host, view)) for host in checkup.hosts)
    return Terminal.literal("{}\n", Terminal.joined("\n\n", blocks))


def render_json(checkup: DoctorReport, _: View) -> Json:
    """The public contract, in pure ASCII."""
    return ascii_json(checkup, indent=2)


def lines_of(host: Patient, view: View) -> list[Terminal]:
    """One host: the answer, then a line for each kind of evidence; what was not tried is one line at the end."""
    head = terminal(host.headline)
    lines = [Terminal.literal("\x1b[1m{}\x1b[0m", head) if view.colour else head]
    if view.quiet:
        return lines
    lines.append(BLANK)
    untried = [item for item in host.evidence if item.status is Status.UNKNOWN and not item.detail]
    for item in host.evidence:
        if item not in untried or view.verbose:
            lines += lines_of_item(item, view)
    if untried and not view.verbose:
        left = [item.evidence for item in untried]
        lines += wrapped(f"unknown  not tried: {', '.join(left)}", view, "  ", " " * MARGIN)
    return lines


def lines_of_item(item: Item, view: View) -> list[Terminal]:
    """One kind of evidence; where it is missing, what that costs and how to get it."""
    start = f"  {item.status:<9}{item.evidence:<{NAME}}"
    lines = wrapped(item.detail, view, start, " " * (MARGIN + NAME)) or [terminal(start.rstrip())]
    sentences = []
    if item.conclusions_lost:
        sentences.append(f"conclusions lost: {', '.join(item.conclusions_lost)}")
    if item.costs:
        sentences.append(item.costs)
    for sentence in sentences:
        lines += wrapped(sentence, view, " " * MARGIN, " " * (MARGIN + 2))
    if item.how_to_get:
        lines.append(Terminal.literal("{}to get it: {}", terminal(" " * MARGIN), hint(item.how_to_get)))
    return lines
