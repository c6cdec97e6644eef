"""The report of a whole run again, from the files that it saved: every check of it, as it was judged then."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from halfopen import address
from halfopen.commands.check import adjusted
from halfopen.evidence.saved import Run, Saved, snapshot_of, unpack_counts
from halfopen.findings import Check, Report
from halfopen.inventory import CheckPlan
from halfopen.judge.analyse import Evidence, Policy, analyse, involved, notes_of, report_of
from halfopen.judge.case import HostEvidence
from halfopen.judge.join import conclude, ground_of, join
from halfopen.judge.match import Matching
from halfopen.judge.rounds import Bracket, through
from halfopen.judge.wide import WIDE_LIMIT, widened
from halfopen.model import Snapshot


def run_of(files: Sequence[Saved | None]) -> Run | None:
    """The run that all these files come from (None: a file of another kind), if they are all that its checks need."""
    runs = [one.run for one in files if one is not None and one.run is not None]
    if len(runs) < len(files) or len({one.id for one in runs}) != 1 or not runs[0].checks:
        return None
    first, here = runs[0], {one.host for one in files if one is not None}
    needed = {name for plan in first.checks for name in (*plan.clients, *plan.servers, *plan.nat)}
    return first if here >= needed else None


def replay(
    run: Run, files: Mapping[str, Saved], brackets: Sequence[Bracket], args: argparse.Namespace, policy: Policy
) -> Report:
    """Every check of a run, with what the options say of it now."""
    checks = [judged(adjusted(plan, args), run, files, brackets, policy) for plan in run.checks]
    times = [datetime.fromisoformat(one.replace("Z", "+00:00")) for one in (run.started_at, run.finished_at)]
    return report_of(checks, times[0], times[1])


def joined(files: Mapping[str, Saved], plan: CheckPlan) -> tuple[dict[str, Snapshot], Matching]:
    """The first look at each host, and what it shows with the byte counters that were saved beside it."""
    snapshots = {name: snapshot_of(one) for name, one in files.items()}
    extra = {name: [address.parse(text) for text in one.addresses] for name, one in files.items()}
    counts = {place: blocks for one in files.values() for place, blocks in unpack_counts(one).items()}
    found = join(plan, snapshots, extra, None if counts else WIDE_LIMIT)
    found = widened(ground_of(plan, snapshots, extra), found, counts)
    return snapshots, conclude(plan, snapshots, extra, found)


def judged(plan: CheckPlan, run: Run, files: Mapping[str, Saved], brackets: Sequence[Bracket], policy: Policy) -> Check:
    """One check."""
    names = list(dict.fromkeys((*plan.clients, *plan.servers, *plan.nat)))
    snapshots, matching = joined({name: files[name] for name in names}, plan)
    suspects, used = through(matching.suspects, brackets[: plan.rounds])
    asked = involved(suspects)
    hosts = {
        name: HostEvidence(name, one.facts, one.before, one.after, one.sysctls, one.owners)
        for name, one in files.items()
        if name in asked
    }
    notes = [(name, note) for name in names for note in files[name].notes]
    return analyse(
        plan,
        Evidence(
            snapshots,
            replace(matching, suspects=tuple(suspects)),
            used,
            hosts,
            notes_of(plan, snapshots, notes),
            run.elapsed_s,
        ),
        policy,
    )
