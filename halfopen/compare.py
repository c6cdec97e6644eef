"""Two reports -> what appeared, what is still there, and what is gone. Pure: it knows the reports alone.

A finding is the same in both if its `id` is: one connection in one life. A connection that was opened anew and is stuck
again is another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from halfopen import __version__
from halfopen.errors import Exit
from halfopen.schema.diff import SCHEMA, Became, CounterChange, DiffReport, QueueChange, Side
from halfopen.schema.report import Check, Counter, Finding, Outcome, Report, Tool
from halfopen.words import plural


def difference(old: Report, new: Report, names: tuple[str, str]) -> DiffReport:
    """What became of the findings of one report until the next. names: of the two files."""
    before, after = by_id(old), by_id(new)
    appeared = [found for key, found in after.items() if key not in before]
    still = [found for key, found in after.items() if key in before]
    left = [found for key, found in before.items() if key not in after]
    hosts = {found.id: hosts_of(found, check) for check in old.checks for found in check.findings}
    gone = [found for found in left if any(has_looked(check, found, hosts[found.id]) for check in new.checks)]
    unknown = [found for found in left if found not in gone]
    counted = [found for found in appeared if not found.allowed]
    incomplete = bool(unknown) or new.outcome is Outcome.INCOMPLETE
    return DiffReport(
        schema_=SCHEMA,
        tool=Tool(name="halfopen", version=__version__),
        headline=headline(len(appeared), len(still), len(gone), len(unknown), incomplete),
        exit_code=Exit.FINDINGS if counted else Exit.INCOMPLETE if incomplete else Exit.CLEAN,
        old=side(old, names[0], len(before)),
        new=side(new, names[1], len(after)),
        appeared=tuple(appeared),
        still=tuple(still),
        became=tuple(Became(was=before[f.id].verdict, finding=f) for f in still if before[f.id].verdict != f.verdict),
        gone=tuple(gone),
        unknown=tuple(unknown),
        queues=tuple(queue_changes(old, new)),
        counters=tuple(counter_changes(old, new)),
    )


def by_id(report: Report) -> dict[str, Finding]:
    """The findings of all checks, each connection once."""
    return {found.id: found for check in report.checks for found in check.findings}


def side(report: Report, name: str, findings: int) -> Side:
    """A report as the difference names it."""
    return Side(
        name=name,
        started_at=report.started_at,
        finished_at=report.finished_at,
        outcome=report.outcome,
        findings=findings,
    )


def headline(appeared: int, still: int, gone: int, unknown: int, incomplete: bool) -> str:
    """The answer in one line."""
    parts = [f"{plural(appeared, 'finding')} appeared" if appeared else "nothing appeared"]
    parts += [f"{count} {what}" for count, what in ((still, "still there"), (gone, "gone")) if count]
    parts += [f"{unknown} of the old report cannot be told"] if unknown else []
    said = ", ".join(parts)
    return f"incomplete  {said}: the new report could not read everything" if incomplete else said


def has_looked(check: Check, found: Finding, hosts: set[str]) -> bool:
    """Whether a check has read these hosts, those of a finding, and has not left its connection unjudged."""
    read = {host.name for host in check.hosts if host.error is None and host.complete}
    name = (found.connection.client, found.connection.server)
    return hosts <= read and not any((row.client, row.server) == name for row in check.unjudged)


def hosts_of(found: Finding, check: Check) -> set[str]:
    """The hosts of both ends of a finding: also that of the end which is not there, which its group tells."""
    names = {end.host for end in (found.client, found.server) if end is not None}
    if found.group is not None:
        group = check.groups[found.group]
        names |= {name for name in (group.client_host, group.server_host) if name is not None}
    return names


def queue_changes(old: Report, new: Report) -> Iterator[QueueChange]:
    """The listeners whose accept queue has another length."""
    before, after = (
        {(one.host, one.address, one.port): one.queue for check in report.checks for one in check.listeners}
        for report in (old, new)
    )
    for host, address, port in sorted(before.keys() | after.keys()):
        lengths = before.get((host, address, port)), after.get((host, address, port))
        if lengths[0] != lengths[1]:
            yield QueueChange(host=host, address=address, port=port, old=lengths[0], new=lengths[1])


def counter_changes(old: Report, new: Report) -> Iterator[CounterChange]:
    """The kernel counters that both reports have, and that differ."""
    before, after = numbered(old.checks), numbered(new.checks)
    for key in sorted(before.keys() & after.keys(), key=lambda key: (key[0], key[1] or 0, key[2])):
        host, netns, name = key
        if before[key] != after[key]:
            yield CounterChange(
                host=host,
                name=name,
                old=before[key],
                new=after[key],
                restarted=after[key] < before[key],
                netns=netns,
            )


def numbered(checks: Sequence[Check]) -> dict[tuple[str, int | None, str], int]:
    """Host, network namespace and name -> value of each counter."""

    def key(counter: Counter) -> tuple[str, int | None, str]:
        return counter.host, counter.netns, counter.name

    return {key(counter): counter.value for check in checks for counter in check.counters}
