"""How a finding came about, as a picture: time runs down, each host is a line, each step a drawing from one table."""

from __future__ import annotations

import textwrap
from enum import Enum

from msgspec import Struct

from halfopen.report.escape import Html, html
from halfopen.report.view import state
from halfopen.schema.report import Group, StepCode


class End(Enum):
    """What becomes of an arrow."""

    ARRIVES = "arrives"
    LOST = "lost"  # on the way
    DROPPED = "dropped"  # where it arrived
    UNKNOWN = "unknown"  # it was lost, or its answer was
    KEPT = "kept"  # it never left


class Arrow(Struct, frozen=True):
    """Something that one end sends: from the client or not, its name, what becomes of it, and why in some words."""

    from_client: bool
    label: str
    end: End = End.ARRIVES
    note: str = ""


class Event(Struct, frozen=True):
    """Something that happens at one end (`at_client`), or between them (None). `{}`: the name of the host."""

    at_client: bool | None
    words: str


CLIENT, SERVER, BETWEEN = True, False, None
FULL = "no room in the accept queue: dropped, and nobody is told"

DRAWN: dict[StepCode, Arrow | Event] = {
    StepCode.ESTABLISHED: Event(BETWEEN, "established at both ends"),
    StepCode.SYN: Arrow(CLIENT, "SYN"),
    StepCode.SYN_LOST: Arrow(CLIENT, "SYN", End.LOST, "dropped on the way, without an answer"),
    StepCode.SYN_DROPPED: Arrow(CLIENT, "SYN", End.DROPPED, FULL),
    StepCode.SYN_UNANSWERED: Arrow(CLIENT, "SYN", End.UNKNOWN, "it is lost, or its answer is"),
    StepCode.SYN_ACK: Arrow(SERVER, "SYN-ACK"),
    StepCode.COOKIE: Arrow(SERVER, "SYN-ACK (cookie)", note="a SYN cookie: the server keeps nothing of it"),
    StepCode.SYN_ACK_AGAIN: Arrow(SERVER, "SYN-ACK again"),
    StepCode.SYN_ACK_LOST: Arrow(SERVER, "SYN-ACK", End.LOST, "it does not arrive"),
    StepCode.SYN_ACK_UNANSWERED: Arrow(SERVER, "SYN-ACK", End.UNKNOWN, "it is lost, or its answer is"),
    StepCode.ACK: Arrow(CLIENT, "ACK"),
    StepCode.ACK_LOST: Arrow(CLIENT, "ACK", End.LOST, "it does not arrive"),
    StepCode.ACK_DROPPED: Arrow(CLIENT, "ACK", End.DROPPED, FULL),
    StepCode.ACK_IGNORED: Arrow(CLIENT, "ACK", End.DROPPED, "the listener waits for data (TCP_DEFER_ACCEPT)"),
    StepCode.FORGOTTEN: Event(SERVER, "{} gives up, and tells nobody"),
    StepCode.QUEUED: Event(SERVER, "in the accept queue of {}, and not taken from it"),
    StepCode.CLIENT_RESTARTED: Event(CLIENT, "{} restarts, and knows none of its connections"),
    StepCode.SERVER_RESTARTED: Event(SERVER, "{} restarts, and knows none of its connections"),
    StepCode.CLIENT_VANISHED: Event(CLIENT, "the end on {} goes, without FIN or RST"),
    StepCode.SERVER_VANISHED: Event(SERVER, "the end on {} goes, without FIN or RST"),
    StepCode.CLIENT_MOVED: Event(CLIENT, "its address moves to {}, the connection does not"),
    StepCode.SERVER_MOVED: Event(SERVER, "its address moves to {}, the connection does not"),
    StepCode.CLIENT_GAVE_UP: Event(CLIENT, "{} gives up, having had no answer"),
    StepCode.SERVER_GAVE_UP: Event(SERVER, "{} gives up, having had no answer"),
    StepCode.CLIENT_RST_LOST: Arrow(CLIENT, "RST", End.LOST, "it does not arrive"),
    StepCode.SERVER_RST_LOST: Arrow(SERVER, "RST", End.LOST, "it does not arrive"),
    StepCode.BOX_FORGOT: Event(BETWEEN, "something between them forgets the connection"),
    StepCode.CLIENT_SENT: Arrow(CLIENT, "data"),
    StepCode.SERVER_SENT: Arrow(SERVER, "data"),
    StepCode.CLIENT_UNANSWERED: Arrow(CLIENT, "sent again", End.UNKNOWN, "it is lost, or its answer is"),
    StepCode.SERVER_UNANSWERED: Arrow(SERVER, "sent again", End.UNKNOWN, "it is lost, or its answer is"),
    StepCode.CLIENT_KEPT_IN: Arrow(CLIENT, "data", End.KEPT, "it does not leave its own host"),
    StepCode.SERVER_KEPT_IN: Arrow(SERVER, "data", End.KEPT, "it does not leave its own host"),
    StepCode.CLIENT_FIN: Arrow(CLIENT, "FIN"),
    StepCode.SERVER_FIN: Arrow(SERVER, "FIN"),
    StepCode.CLIENT_NOT_CLOSING: Event(CLIENT, "the program on {} does not close"),
    StepCode.SERVER_NOT_CLOSING: Event(SERVER, "the program on {} does not close"),
    StepCode.CLIENT_NOT_READING: Event(CLIENT, "the program on {} does not read"),
    StepCode.SERVER_NOT_READING: Event(SERVER, "the program on {} does not read"),
    StepCode.REUSED: Event(BETWEEN, "the same ports are used again; one end is of the earlier connection"),
    StepCode.SILENCE: Event(BETWEEN, "silence"),
}
"""Step -> its drawing. Nothing else is drawn above the line that says what is now."""

LEFT, RIGHT, WIDTH, SLOPE = 90, 390, 480, 22
REACH = {End.ARRIVES: 1.0, End.LOST: 0.62, End.DROPPED: 0.93, End.UNKNOWN: 0.86, End.KEPT: 0.12}


def ladder(group: Group, number: str) -> Html:
    """The picture of a group, with its steps as text for who cannot see it. number: unique on the page."""
    hosts = {CLIENT: group.client_host or "client", SERVER: group.server_host or "server"}
    parts, y = [], 62
    for code in group.steps:
        drawn = DRAWN[code]
        part, height = arrow(drawn, y) if isinstance(drawn, Arrow) else event(drawn, hosts, y)
        parts.append(part)
        y += height
    states = state(group.client_state), state(group.server_state)
    top = Html.joined("", [head(LEFT, hosts[CLIENT]), head(RIGHT, hosts[SERVER])])
    rails = Html.literal(
        '<line class="rail" x1="{}" x2="{}" y1="44" y2="{}"/><line class="rail" x1="{}" x2="{}" y1="44" y2="{}"/>',
        *(LEFT, LEFT, y + 8, RIGHT, RIGHT, y + 8),
    )
    rule = Html.literal(
        '<line class="now" x1="8" x2="{}" y1="{}" y2="{}"/><text class="soft" x="240" y="{}">now</text>',
        *(WIDTH - 8, y, y, y - 6),
    )
    ends = Html.joined("", [box(LEFT, y + 8, states[0]), box(RIGHT, y + 8, states[1])])
    return Html.literal(
        '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{} {}"><title id="{}">Ladder of the connection</title>'
        '<desc id="{}">{}</desc>{}</svg>',
        *(WIDTH, y + 44, html(f"lt{number}"), html(f"ld{number}"), html(f"lt{number}"), html(f"ld{number}")),
        Html.joined(" ", [html(sentence) for sentence in sentences(group, hosts, states)]),
        Html.joined("", [rails, top, *parts, rule, ends]),
    )


def sentences(group: Group, hosts: dict[bool, str], states: tuple[str, str]) -> list[str]:
    """The steps in words."""
    told = []
    for code in group.steps:
        drawn = DRAWN[code]
        if isinstance(drawn, Event):
            told.append(words_of(drawn, hosts) + ".")
        else:
            why = f": {drawn.note}" if drawn.note else ""
            told.append(f"{hosts[drawn.from_client]} sends {drawn.label}, {FATES[drawn.end]}{why}.")
    return [*told, f"Now: {hosts[CLIENT]} {states[0]}, {hosts[SERVER]} {states[1]}."]


def words_of(event: Event, hosts: dict[bool, str]) -> str:
    """An event with its host."""
    return event.words.replace("{}", hosts[bool(event.at_client)])


def arrow(drawn: Arrow, y: int) -> tuple[Html, int]:
    """An arrow that begins at this height, with what becomes of it; and how much height it takes."""
    start, end = (LEFT + 6, RIGHT - 6) if drawn.from_client else (RIGHT - 6, LEFT + 6)
    reach = REACH[drawn.end]
    x, down = round(start + (end - start) * reach), round(y + SLOPE * reach)
    back = -8 if drawn.from_client else 8
    tip: Html
    if drawn.end is End.ARRIVES:
        tip = Html.literal('<path class="tip" d="M{} {}l{} -6v11z"/>', x, down, back)
    elif drawn.end is End.UNKNOWN:
        tip = Html.literal('<text class="q" x="{}" y="{}">?</text>', x - back, down + 7)
    else:
        tip = Html.literal('<path class="lost" d="M{} {}l12 12m0 -12l-12 12"/>', x - 6, down - 6)
    style = Html.literal("sent") if drawn.end is End.ARRIVES else Html.literal("sent bad")
    line = Html.literal('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>', style, start, y, x, down)
    label = Html.literal('<text class="label" x="240" y="{}">{}</text>', y + 2, html(drawn.label))
    notes = lines(drawn.note, 240, y + SLOPE + 18, 44)
    height = SLOPE + 22 + (14 * len(notes) if notes else 0)
    return Html.joined("", [line, tip, label, *notes]), height


def event(drawn: Event, hosts: dict[bool, str], y: int) -> tuple[Html, int]:
    """Something that happens at a host or between, in a box; and how much height it takes."""
    told = textwrap.wrap(words_of(drawn, hosts), 40)[:3]
    height = 14 * len(told) + 12
    text = lines("\n".join(told), 240, y + 14, 40)
    mark: list[Html] = []
    if drawn.at_client is not None:
        x = LEFT if drawn.at_client else RIGHT
        edge = 110 if drawn.at_client else 370
        mark = [
            Html.literal('<line class="sent" x1="{}" x2="{}" y1="{}" y2="{}"/>', x, edge, y + 12, y + 12),
            Html.literal('<circle class="dot" cx="{}" cy="{}" r="6"/>', x, y + 12),
        ]
    frame = Html.literal('<rect class="event" x="110" y="{}" width="260" height="{}" rx="6"/>', y - 2, height)
    return Html.joined("", [*mark, frame, *text]), height + 16


def lines(words: str, x: int, y: int, width: int) -> list[Html]:
    """Words on as many lines as they need."""
    found = [line for part in words.split("\n") for line in textwrap.wrap(part, width)]
    return [
        Html.literal('<text class="soft" x="{}" y="{}">{}</text>', x, y + 14 * at, html(line))
        for at, line in enumerate(found)
    ]


def head(x: int, name: str) -> Html:
    """The name of a host above its line."""
    return box(x, 10, name if len(name) <= 20 else name[:19] + "…")


def box(x: int, y: int, words: str) -> Html:
    """Words in a frame."""
    style = Html.literal("none") if words == state(None) else Html.literal("box")
    return Html.literal(
        '<rect class="{}" x="{}" y="{}" width="156" height="28" rx="6"/><text class="name" x="{}" y="{}">{}</text>',
        *(style, x - 78, y, x, y + 19, html(words)),
    )


FATES = {
    End.ARRIVES: "which arrives",
    End.LOST: "which is lost",
    End.DROPPED: "which is dropped where it arrives",
    End.UNKNOWN: "without an answer",
    End.KEPT: "which stays on its host",
}
