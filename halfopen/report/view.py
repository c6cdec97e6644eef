"""What the renderers share: how much of a report its reader wants, and the parts of a report as rows and phrases.

Every string that comes out of here may hold text from a host: a renderer escapes it for its own medium.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from halfopen.schema.report import (
    Cause,
    CauseCode,
    Check,
    Command,
    End,
    Finding,
    Group,
    HostPair,
    MatrixRow,
    Severity,
    UnjudgedRow,
)
from halfopen.words import duration, plural

PAIRS = 10  # pairs of hosts, unless all are asked for
NAMES = 4  # of hosts in one sentence
CLIENT, SERVER = "client", "server"


class View(Struct, frozen=True):
    """Columns, and whether to colour, to print every finding, only the headline, or everything that is known."""

    width: int = 100
    colour: bool = False
    all: bool = False
    quiet: bool = False
    verbose: bool = False


def disagreeing(check: Check) -> list[MatrixRow]:
    """The rows of the state matrix with a verdict.

    In a fleet, rows with the same pair of states are merged into one, whatever their hosts.
    """
    rows = [row for row in check.state_matrix if row.verdict is not None]
    if not is_fleet(check):
        return rows
    counts: Counter[MatrixRow] = Counter()
    for row in rows:
        counts[replace(row, client_host=CLIENT, server_host=SERVER, count=0)] += row.count
    merged = [replace(row, count=count) for row, count in counts.items()]
    return sorted(merged, key=lambda row: (list(Severity).index(row.severity or Severity.INFO), -row.count))


def is_fleet(check: Check) -> bool:
    """Whether more than two hosts are compared."""
    return len(check.hosts) - len(check.nat) > 2


def headings(check: Check, rows: Sequence[MatrixRow]) -> tuple[str, str]:
    """What to call the two ends: by their hosts, or by their roles where the rows are of different hosts."""
    pairs = {(row.client_host, row.server_host) for row in rows}
    if is_fleet(check) or len(pairs) != 1:
        return CLIENT, SERVER
    ((client, server),) = pairs
    return (f"{client} ({CLIENT})", f"{server} ({SERVER})") if client == server else (client, server)


def ends_of(finding: Finding, group: Group) -> list[tuple[str, End]]:
    """What to call each end of a finding of this group that is there, and the end."""
    one_host = group.client_host == group.server_host
    ends = ((finding.client, CLIENT), (finding.server, SERVER))
    return [(f"{end.host} ({role})" if one_host else end.host, end) for end, role in ends if end is not None]


def end_states(row: MatrixRow, heads: tuple[str, str]) -> tuple[str, str]:
    """The states of the two ends of a row, with their hosts where rows of different hosts stand together."""
    states = state(row.client), "in accept queue" if row.in_accept_queue else state(row.server)
    if heads != (CLIENT, SERVER) or row.client_host == CLIENT:
        return states
    return f"{row.client_host} {states[0]}", f"{row.server_host} {states[1]}"


def state(name: str | None) -> str:
    """A state, or that there is no socket."""
    return name or "no socket"


def agreement(check: Check) -> str | None:
    """How many connections agree, with each pair of states and its count. None if there is none.

    TIME_WAIT at one end alone is what a closed connection leaves behind: it is not listed.
    """
    counts: Counter[str] = Counter()
    for row in check.state_matrix:
        if row.verdict is None and {row.client, row.server} != {"TIME_WAIT", None}:
            pair = state(row.client) if row.client == row.server else f"{state(row.client)} / {state(row.server)}"
            counts[pair] += row.count
    if not counts:
        return None
    noun = "more connection" if any(row.verdict for row in check.state_matrix) else "connection"
    states = ", ".join(f"{count} {pair}" for pair, count in counts.most_common())
    return f"{plural(check.agreeing, noun)} {'agrees' if check.agreeing == 1 else 'agree'} ({states})"


def severity_counts(pair: HostPair) -> list[str]:
    """Findings of a pair of hosts by severity, the worst first."""
    return [str(pair.critical), str(pair.warning), str(pair.info)]


def programs(group: Group) -> str:
    """The programs of a group's ends, each with its host: `app on web, postgres on db`."""
    ends = ((group.client_process, group.client_host), (group.server_process, group.server_host))
    return ", ".join(f"{process} on {host}" for process, host in ends if process)


def cause_phrase(cause: Cause) -> str:
    """A cause with its summary; `perhaps` where the evidence fits it but does not decide."""
    hedge = "" if cause.decisive or cause.code == CauseCode.UNKNOWN else "perhaps "
    return f"{hedge}{cause.code}: {cause.summary}"


def purpose(command: Command) -> str:
    """Where a command is typed, and what for."""
    return f"{'as root ' if command.root else ''}on {command.host}, to {command.why}"


def end_phrase(end: End, brief: bool = False) -> str:
    """An end in short: state, program, idle time, bytes in its queues.

    `brief` leaves the state out, because the matrix shows it, unless nothing else is known.
    """
    parts = []
    if end.process:
        parts.append(f"{end.process} pid {end.pid}")
    if end.idle_s is not None:
        parts.append(f"idle {duration(end.idle_s)}")
    # A SYN or FIN is counted in the queues like a byte, but it is not data.
    uncounted = 0 if end.state == "ESTABLISHED" else 1
    for queue, what in ((end.recv_q, "unread"), (end.send_q, "unacknowledged")):
        if queue is not None and queue > uncounted:
            parts.append(f"{plural(queue - uncounted, 'byte')} {what}")
    return " ".join([end.state, *parts]) if not brief or not parts else ", ".join(parts)


def unjudged_phrase(row: UnjudgedRow) -> str:
    """A connection that was not judged: its ends, which of them was found, and why it was not judged."""
    return f"{row.client} -> {row.server}   {row.host}: {row.state}   {row.reason}"


def unjudged_count(check: Check) -> str:
    """How many connections were not judged, by reason."""
    reasons = Counter(row.reason for row in check.unjudged)
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{plural(len(check.unjudged), 'connection')} not judged ({listed})"


def elsewhere(check: Check) -> str | None:
    """How many connections of which hosts lead to none of the hosts; None if there is no such connection.

    Also None where a host was not read: they may lead there, since its addresses are not known.
    """
    outside = sum(row.count for row in check.external)
    if not outside or any(host.error for host in check.hosts):
        return None
    names = list(dict.fromkeys(row.host for row in check.external))
    shown = ", ".join(names if len(names) <= NAMES else names[: NAMES - 1])
    more = f" and {len(names) - NAMES + 1} more hosts" if len(names) > NAMES else ""
    verbs = "leads elsewhere and was" if outside == 1 else "lead elsewhere and were"
    return f"{plural(outside, 'connection')} of {shown}{more} {verbs} not judged"


def effort(check: Check) -> str:
    """How long the check took, where that is known, and its rounds: ` in 2.1 s, 2 rounds`."""
    took = f" in {duration(check.elapsed_s)}" if check.elapsed_s is not None else ""
    return f"{took}, {plural(check.rounds, 'round')}"
