"""Open hosts answer the questions of an inquiry; nothing here judges, and nothing here knows the order."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.errors import HostError
from halfopen.judge.assembly.check import analyse, notes_of, report_of
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.confirm.byte_counters import WIDE_LIMIT, CountQuery, Counts, counts_in
from halfopen.judge.inquiry import Inquired, drive, inquire
from halfopen.judge.questions import (
    Answerer,
    Ask,
    Baseline,
    ByteCounts,
    Dump,
    Explain,
    Explanation,
    KernelState,
    LookUp,
    Pause,
    Routes,
    Snapshots,
    Translations,
)
from halfopen.model import Look, NetnsRef, Process, Reply, Routing
from halfopen.run.fleet import Fleet
from halfopen.run.host_link import HostLink
from halfopen.schema.report import Report
from halfopen.table import CountBlock
from halfopen.words import plural


class LiveHosts:
    """Answers out of open conversations with the hosts of a run. Questions to several hosts are asked at once."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def dump(self, question: Dump) -> Snapshots:
        """The dump that is under way already, or one more."""
        if not question.known:
            return self.fleet.first_look()
        return self.fleet.wider_dump({name: question.known[name] for name in question.ports}, question.ports)

    def translations(self, question: Translations) -> Snapshots:
        """Connection tracking of each host."""
        asked = self.fleet.still_open(question.snapshots)
        self.fleet.say(f"reading the address translations of {plural(len(asked), 'host')}")
        return self.fleet.translated(asked)

    def baseline(self, question: Baseline) -> Mapping[str, KernelState]:
        """Counters and sysctls now."""
        self.fleet.involve(question.places)
        return {name: KernelState(*found) for name, found in self.fleet.counters(question.hosts).items()}

    def byte_counts(self, question: ByteCounts) -> Mapping[str, tuple[Counts, HostError | None]]:
        """Byte counters by a wider dump, by look-ups, or both."""
        return self.fleet.each(self.fleet.still_open(question.asks), counts_of)

    def pause(self, question: Pause) -> float:
        """Waits, but never past the end of the run."""
        seconds = max(0.0, min(question.seconds, self.fleet.deadline - time.monotonic()))
        self.fleet.say(f"{plural(question.suspects, 'suspect')}: looking again after {question.seconds} s")
        time.sleep(seconds)
        return seconds

    def look(self, question: LookUp) -> Sequence[Look]:
        """One look at each host."""
        return self.fleet.looks(question.wanted)

    def routes(self, question: Routes) -> Mapping[str, tuple[Mapping[NetnsRef, Routing], HostError | None]]:
        """Routes now, of the hosts that are still open."""
        return self.fleet.each(self.fleet.still_open(question.wanted), HostLink.routes)

    def ask(self, question: Ask) -> Mapping[str, tuple[Sequence[Reply], Mapping[int, Process]]]:
        """What became of asking each host's sockets, all hosts at once."""
        number = sum(map(len, question.wanted.values()))
        self.fleet.say(f"asking through {plural(number, 'connection')} whether anybody answers")
        return self.fleet.ask_through(question.wanted)

    def explain(self, question: Explain) -> Mapping[str, Explanation]:
        """Counters now, and the processes that hold the inodes."""
        self.fleet.involve(question.places)
        kernel = self.fleet.counters(question.inodes)
        owners = self.fleet.owners(question.inodes)
        return {
            name: Explanation(KernelState(*kernel[name]) if name in kernel else None, owners[name])
            for name in question.inodes
        }


def counts_of(link: HostLink, ask: CountQuery) -> tuple[Counts, HostError | None]:
    """The byte counters of one host that a question asks for, and why some are missing."""
    found: dict[NetnsRef, Sequence[CountBlock]] = {}
    if ask.single:
        look = link.look(ask.single)
        found.update(counts_in(look.sights))
        if look.error is not None:
            return found, look.error
    if not ask.dump:
        return found, None
    blocks, error = link.byte_counters()
    return {**found, **blocks}, error


class CheckRun(Struct):
    """One run of checks. What its report rests on stays in `inquired`, to be saved."""

    fleet: Fleet
    inquired: Inquired
    finished_at: datetime
    elapsed_s: float


def run_checks(fleet: Fleet, deep: bool = False, answerer: Answerer | None = None) -> CheckRun:
    """Asks the hosts all that their checks need. `deep`: byte counters of every pair, however many.

    `answerer`: what answers in their place, LiveHosts if None.
    """
    extra = {name: [address.parse(text) for text in fleet.inventory.hosts[name].addresses] for name in fleet.ports}
    inquiry = inquire(fleet.plans, dict(fleet.ports), extra, None if deep else WIDE_LIMIT)
    inquired = drive(inquiry, answerer or LiveHosts(fleet))
    fleet.say("")
    return CheckRun(fleet, inquired, datetime.now(UTC), time.monotonic() - fleet.began)


def report_of_run(run: CheckRun, policy: Policy | None = None) -> Report:
    """What the run found."""
    checks = [
        analyse(
            plan,
            replace(evidence, notes=notes_of(plan, evidence.snapshots, run.fleet.notes), elapsed_s=run.elapsed_s),
            policy or Policy(),
        )
        for plan, evidence in zip(run.fleet.plans, run.inquired.evidence, strict=True)
    ]
    return report_of(checks, run.fleet.started_at, run.finished_at)
