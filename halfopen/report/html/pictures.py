"""The small pictures of a page: the accept queue, since when, and the looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from halfopen.report.escape import Html, html
from halfopen.report.view import state
from halfopen.schema.report import Check, Finding, Group, Listener
from halfopen.words import duration

BINS = 40
WIDTH = 480


def gauge(listener: Listener) -> Html | None:
    """How full an accept queue is; None where the source does not tell."""
    if listener.queue is None or listener.backlog is None:
        return None
    room = listener.backlog + 1
    filled = round(min(1.0, listener.queue / room) * (WIDTH - 2))
    words = f"{listener.queue} wait; listen() allows {listener.backlog}, so {room} fit"
    style = Html.literal("full") if listener.full else Html.literal("part")
    return Html.literal(
        '<svg viewBox="0 0 {} 24" role="img" aria-label="{}"><rect class="frame" x="1" y="2" width="{}" height="20" '
        'rx="5"/><rect class="{}" x="1" y="2" width="{}" height="20" rx="5"/></svg>',
        *(WIDTH, html(words), WIDTH - 2, style, filled),
    )


def heard(findings: Sequence[Finding]) -> list[float]:
    """For how long each finding has heard nothing: the end of it that has for the shorter time."""
    found = []
    for one in findings:
        told = [end.heard_s for end in (one.client, one.server) if end is not None and end.heard_s is not None]
        found += [min(told)] if told else []
    return sorted(found)


def histogram(silent: Sequence[float], words: str) -> Html:
    """When connections were last heard of: the longest ago at the left, now at the right."""
    longest = silent[-1] or 1.0
    counts = Counter(min(BINS - 1, int((1 - seconds / longest) * BINS)) for seconds in silent)
    most, step = max(counts.values()), (WIDTH - 20) / BINS
    bars = [
        Html.literal(
            '<rect class="bar" x="{}" y="{}" width="{}" height="{}"/>',
            *(
                round(10 + at * step),
                44 - (height := max(2, round(36 * count / most))),
                max(2, round(step - 3)),
                height,
            ),
        )
        for at, count in sorted(counts.items())
    ]
    return Html.literal(
        '<svg viewBox="0 0 {} 62" role="img" aria-label="{}"><line class="axis" x1="10" x2="{}" y1="44" y2="44"/>{}'
        '<text class="soft start" x="10" y="58">{}</text><text class="soft end" x="{}" y="58">now</text></svg>',
        *(WIDTH, html(words), WIDTH - 10, Html.joined("", bars), html(f"{duration(longest)} ago"), WIDTH - 10),
    )


def since(silent: Sequence[float], count: int) -> str:
    """The histogram in words."""
    first, last = duration(silent[-1]), duration(silent[0])
    span = f"{first} ago" if first == last else f"between {first} and {last} ago"
    of = "" if len(silent) == count else f", of {len(silent)} that tell"
    return f"Something was last heard {span}{of}."


def looks(check: Check, group: Group) -> Html:
    """The looks at the ends of a group: in each round the first end, the other, and the first again."""
    names = (group.client_host or "client", group.server_host or "server")
    states = (group.client_state, group.server_state)
    order = (0, 1, 0) if group.client_first else (1, 0, 1)
    rounds = check.pauses_s
    step = 370 / max(1, 3 * len(rounds) + (len(rounds) - 1))
    x, marks = 105.0, []
    for number, pause in enumerate(rounds):
        if number:
            marks.append(
                Html.literal('<text class="soft" x="{}" y="42">{}</text>', round(x), html(f"wait {duration(pause)}"))
            )
            x += step
        for end in order:
            style = Html.literal("seen") if states[end] is not None else Html.literal("absent")
            sign = "M-4 0l3 4l6 -8" if states[end] is not None else "M-4 -4l8 8m0 -8l-8 8"
            marks.append(
                Html.literal(
                    '<g class="{}" transform="translate({} {})"><circle r="9"/><path d="{}"/></g>',
                    *(style, round(x), 22 if end == 0 else 56, html(sign)),
                )
            )
            x += step
    rows = [
        Html.literal(
            '<text class="start name" x="4" y="{}">{}</text><line class="axis" x1="90" x2="476" y1="{}" y2="{}"/>',
            *(y + 4, html(name if len(name) <= 11 else name[:10] + "…"), y, y),
        )
        for name, y in zip(names, (22, 56), strict=True)
    ]
    words = f"{len(rounds)} rounds of looks: {looked(group)}"
    return Html.literal(
        '<svg viewBox="0 0 {} 78" role="img" aria-label="{}">{}</svg>',
        WIDTH,
        html(words),
        Html.joined("", rows + marks),
    )


def looked(group: Group) -> str:
    """What the looks found."""
    first, second = (0, 1) if group.client_first else (1, 0)
    names = (group.client_host or "client", group.server_host or "server")
    states = (group.client_state, group.server_state)
    return (
        f"{names[first]} ({state(states[first])}), {names[second]} ({state(states[second])}), and {names[first]} again"
    )
