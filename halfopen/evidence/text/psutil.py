"""Rows of psutil.net_connections -> sockets, for this machine where it is not Linux.

psutil has state, addresses and pid, and none of queues, timers, inodes or cookies. On FreeBSD and Windows it reads
the kernel's table; on macOS it walks the descriptors of processes, so that a socket without a process is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from halfopen.evidence.text.draft import Draft
from halfopen.evidence.text.netstat import state_of
from halfopen.evidence.text.parsed import ParsedText, Problem
from halfopen.evidence.text.rows import ANY4, ANY6, Row, end_of, endpoint
from halfopen.model import Collector, Process


class Connection(Protocol):
    """What psutil calls sconn; addresses are (ip, port), or () where there is none."""

    @property
    def family(self) -> int: ...
    @property
    def laddr(self) -> Any: ...
    @property
    def raddr(self) -> Any: ...
    @property
    def status(self) -> str: ...
    @property
    def pid(self) -> int | None: ...


def decode(rows: Iterable[Connection], names: Mapping[int, str], system: str) -> ParsedText:
    """TCP rows, names of processes by pid, and platform.system() -> sockets. `line` of a problem is the row, from 1."""
    draft, problems = Draft(), []
    for number, connection in enumerate(rows, 1):
        try:
            draft.add(row(connection, names), number)
        except ValueError as error:
            problems.append(Problem(number, str(connection)[:120], str(error), hides=True))
    gaps = [f"psutil has no queues, timers, inodes and cookies of {system}: what nobody has accepted looks accepted"]
    if system not in WHOLE:
        gaps.insert(0, f"on {system} psutil shows only what a process holds: what it does not show may be there")
    if problems:
        gaps.insert(0, f"{len(problems)} rows of psutil were not understood")
    return ParsedText(
        Collector.PSUTIL,
        "psutil",
        draft.sockets,
        tuple(draft.listeners.values()),
        draft.holders,
        tuple(problems),
        tuple(gaps),
        system in WHOLE and not problems,
    )


def row(connection: Connection, names: Mapping[int, str]) -> Row:
    """One connection or listener. ValueError for what TCP does not have."""
    # `family` is numbered differently on each system; the text of the address shows it as well.
    local = endpoint("{}:{}".format(*connection.laddr[:2]), ":", ANY6)
    wide = ":" in str(connection.laddr[0])
    peer = (
        endpoint("{}:{}".format(*connection.raddr[:2]), ":", ANY6) if connection.raddr else (ANY6 if wide else ANY4, 0)
    )
    end = None if connection.status == "NONE" else end_of(state_of(connection.status), local, peer, 10 if wide else 2)
    return Row(end, Process(connection.pid, names.get(connection.pid, "")) if connection.pid else None)


WHOLE = frozenset({"Linux", "FreeBSD", "Windows"})
