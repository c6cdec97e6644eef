"""The text of `halfopen count`: who holds which sockets, what waits in accept queues, what lsof would have shown."""

from __future__ import annotations

from collections.abc import Sequence

from halfopen.report.escape import Json, Terminal, ascii_json, columns, terminal, wrapped
from halfopen.report.view import View
from halfopen.schema.count import AcceptQueue, CountReport, Direction, Holder, HolderKind, Row
from halfopen.tcp import State
from halfopen.words import plural

BLANK = Terminal.literal("")
SHOWN = 30  # rows, or listeners, unless all are asked for
NAMED = 3  # pids of one row


def render(tally: CountReport, view: View) -> Terminal:
    """The answer, the rows, the listeners, and the sentence about lsof."""
    head = terminal(tally.headline)
    lines = [Terminal.literal("\x1b[1m{}\x1b[0m", head) if view.colour else head]
    if not view.quiet:
        if tally.rows:
            lines += [BLANK, *rows(tally.rows, view)]
        if tally.listeners:
            lines += [BLANK, *listeners(tally.listeners, view)]
        if view.verbose:
            lines += [BLANK, *(line for text in processes(tally) for line in wrapped(text, view, "  ", "    "))]
        lines += [BLANK, *wrapped(lsof(tally), view, "")]
        lines += [line for note in tally.notes for line in wrapped(f"note: {note}", view, "", "      ")]
    return Terminal.joined("\n", [*lines, BLANK])


def render_json(tally: CountReport, _: View) -> Json:
    """The public contract, in pure ASCII."""
    return ascii_json(tally, indent=2)


def rows(found: Sequence[Row], view: View) -> list[Terminal]:
    """One line a row."""
    cells = [
        [
            terminal(holder(row)),
            terminal(port(row)),
            blank(row.states.get(State.ESTABLISHED, 0) - row.accept_queue.get(State.ESTABLISHED, 0)),
            blank(row.states.get(State.LISTEN, 0)),
            blank(sum(row.accept_queue.values())),
            terminal(others(row)),
        ]
        for row in found
    ]
    heads = ["process", "port", "established", "listen", "accept queue", "other"]
    return table(cells, heads, ("left", "left", "right", "right", "right", "left"), view)


def listeners(found: Sequence[AcceptQueue], view: View) -> list[Terminal]:
    """One line a listener: how many wait, how many may, and who should accept them."""
    cells = []
    for listener in found:
        address = f"[{listener.address}]" if ":" in listener.address else listener.address
        limit = "?" if listener.backlog is None else str(listener.backlog)
        length = "?" if listener.queue is None else str(listener.queue)
        cells.append(
            [
                terminal(f"{address}:{listener.port}"),
                terminal(f"{length} of {limit}{': full' if listener.full else ''}"),
                terminal(who(listener.holder_kind, listener.holders, listener.uid)),
            ]
        )
    return table(cells, ["listener", "waiting of backlog", "process"], ("left", "left", "left"), view)


def table(cells: list[list[Terminal]], heads: list[str], align: Sequence[str], view: View) -> list[Terminal]:
    """Columns, cut to what a screen holds unless all was asked for."""
    shown = cells if view.all else cells[:SHOWN]
    lines = [Terminal.literal("  {}", line) for line in columns(shown, heads, align)]
    if len(cells) > len(shown):
        lines.append(terminal(f"  and {len(cells) - len(shown)} more: --all, or -o count.json"))
    return lines


def blank(count: int) -> Terminal:
    """A count; empty for 0, because a column of zeros is hard to scan."""
    return terminal(str(count) if count else "")


def holder(row: Row) -> str:
    """Who holds a row."""
    return who(row.holder_kind, row.holders, row.uid)


def who(kind: HolderKind, holders: Sequence[Holder], uid: int | None) -> str:
    """Processes by name and pid, or why there is none."""
    if kind is HolderKind.PROCESS:
        more = len(holders) - NAMED
        named = [f"{process.process or '?'} pid {process.pid}" for process in holders[:1]]
        named += [str(process.pid) for process in holders[1:NAMED]]
        return ", ".join(named) + (f" and {more} more" if more > 0 else "") + (" (shared)" if holders[1:] else "")
    return WHO[kind] + (f", uid {uid}" if uid is not None else "")


def processes(tally: CountReport) -> list[str]:
    """Every process of the rows, once: its unit and its command line."""
    found = {process.pid: process for row in tally.rows for process in row.holders}
    return [
        f"{process.process or '?'} pid {process.pid}"
        f"{f' in {process.unit}' if process.unit else ''}: {process.command or 'unknown'}"
        for _, process in sorted(found.items())
    ]


def port(row: Row) -> str:
    """`:5432` for what came in on it, `to :5432` for what went out."""
    number = "other ports" if row.port is None else f":{row.port}"
    return number if row.direction is Direction.IN else f"to {number}"


def others(row: Row) -> str:
    """The states that have no column, and those of what waits that are not ESTABLISHED."""
    parts = [
        f"{left} {state}"
        for state, count in row.states.items()
        if state not in (State.ESTABLISHED, State.LISTEN) and (left := count - row.accept_queue.get(state, 0))
    ]
    parts += [
        f"{count} {state} in the queue" for state, count in row.accept_queue.items() if state != State.ESTABLISHED
    ]
    return ", ".join(parts)


def lsof(tally: CountReport) -> str:
    """What lsof would have shown, and what not."""
    found = tally.lsof
    lines = f" in {plural(found.lines, 'line')}" if found.lines != found.sockets else ""
    hidden = ", ".join(f"{count} {HIDDEN.get(reason, reason)}" for reason, count in found.hidden.items())
    missing = f"; not to be seen there: {hidden}" if hidden else ""
    return f"{found.command} would have shown {found.sockets} of {tally.sockets}{lines}{missing}"


WHO = {
    HolderKind.OTHER_USERS: "other users (needs root)",
    HolderKind.NOBODY: "no process (kernel)",
    HolderKind.NOT_FOUND: "process not found",
}
HIDDEN = {
    "accept queue": "in an accept queue",
    HolderKind.OTHER_USERS: "of other users",
    HolderKind.NOT_FOUND: "of no process to be seen",
}
