"""`halfopen doctor` for somebody who is tired: what is there, and what the lack of the rest costs."""

from __future__ import annotations

import json

import msgspec

from halfopen.checkup import Checkup, Item, Patient, Status
from halfopen.report.escape import Terminal, hint, terminal
from halfopen.report.text import BLANK, wrapped
from halfopen.report.view import View

NAME = 21  # columns of the name of a kind of evidence
MARGIN = 2 + 9  # before it: the status


def render(checkup: Checkup, view: View) -> str:
    """All hosts, as they were named."""
    blocks = [lines_of(host, view) for host in checkup.hosts]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def render_json(checkup: Checkup, _: View) -> str:
    """The public contract, in pure ASCII."""
    return json.dumps(msgspec.to_builtins(checkup), indent=2).replace("\x7f", "\\u007f") + "\n"


def lines_of(host: Patient, view: View) -> list[Terminal]:
    """One host: the answer, then a line for each kind of evidence; what was not come to is one line at the end."""
    head = terminal(host.headline)
    lines = [Terminal(f"\x1b[1m{head}\x1b[0m") if view.colour else head]
    if view.quiet:
        return lines
    lines.append(BLANK)
    untried = [item for item in host.evidence if item.status is Status.UNKNOWN and not item.detail]
    for item in host.evidence:
        if item not in untried or view.verbose:
            lines += lines_of_item(item, view)
    if untried and not view.verbose:
        left = [item.evidence for item in untried]
        lines += wrapped(f"unknown  not come to: {', '.join(left)}", view, "  ", " " * MARGIN)
    return lines


def lines_of_item(item: Item, view: View) -> list[Terminal]:
    """One kind of evidence; where it is missing, what that costs and what grants it."""
    start = f"  {item.status:<9}{item.evidence:<{NAME}}"
    lines = wrapped(item.detail, view, start, " " * (MARGIN + NAME)) or [Terminal(start.rstrip())]
    told = []
    if item.rules_out:
        told.append(f"rules out {', '.join(item.rules_out)}")
    if item.costs:
        told.append(item.costs)
    for sentence in told:
        lines += wrapped(sentence, view, " " * MARGIN, " " * (MARGIN + 2))
    if item.grant:
        lines.append(Terminal(f"{' ' * MARGIN}to get it: {hint(item.grant)}"))
    return lines
