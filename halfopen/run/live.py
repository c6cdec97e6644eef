"""Open hosts answer the questions of an inquiry; nothing here judges, and nothing here knows the order."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from halfopen import address
from halfopen.errors import HostError
from halfopen.judge.assembly.check import analyse, notes_of, report_of
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.inquiry import (
    Answerer,
    Baseline,
    ByteCounts,
    Dump,
    Explain,
    Explanation,
    Inquired,
    KernelState,
    LookUp,
    Pause,
    Snapshots,
    Translations,
    drive,
    inquire,
)
from halfopen.judge.pairing.byte_counters import WIDE_LIMIT, CountQuery, Counts, counts_in
from halfopen.model import Look, NetnsRef
from halfopen.run.fleet import Hosts
from halfopen.schema.report import Report
from halfopen.table import CountBlock
from halfopen.words import plural

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LiveHosts:
    """Answers out of open conversations with the hosts of a run. Questions to several hosts are asked at once."""

    hosts: Hosts

    def dump(self, question: Dump) -> Snapshots:
        """The dump that is under way already, or one more."""
        if not question.known:
            return self.hosts.first_look()
        self.hosts.ports.update(question.ports)
        known = {name: question.known[name] for name in question.ports}
        return {**known, **dict(self.hosts.each(self._open(known), self.hosts.read_again))}

    def translations(self, question: Translations) -> Snapshots:
        """Connection tracking of each host."""
        asked = self._open(question.snapshots)
        self.hosts.say(f"reading the address translations of {plural(len(asked), 'host')}")
        return dict(self.hosts.each(asked, self.hosts.translated))

    def baseline(self, question: Baseline) -> Mapping[str, KernelState]:
        """Counters and sysctls now."""
        self.hosts.involve(question.places)
        return {name: KernelState(*found) for name, found in self.hosts.counters(question.hosts).items()}

    def byte_counts(self, question: ByteCounts) -> Mapping[str, tuple[Counts, HostError | None]]:
        """Byte counters by a wider dump, by look-ups, or both."""
        return dict(self.hosts.each(self._open(question.asks), self._counts_of))

    def pause(self, question: Pause) -> bool:
        """Waits, but never past the end of the run."""
        left = self.hosts.deadline - time.monotonic()
        self.hosts.say(f"{plural(question.suspects, 'suspect')}: looking again after {question.seconds} s")
        time.sleep(max(0.0, min(question.seconds, left)))
        return True

    def look(self, question: LookUp) -> Sequence[Look]:
        """One look at each host."""
        return self.hosts.looks(question.wanted)

    def explain(self, question: Explain) -> Mapping[str, Explanation]:
        """Counters now, and the processes that hold the inodes."""
        self.hosts.involve(question.places)
        kernel = self.hosts.counters(question.inodes)
        owners = dict(self.hosts.each(question.inodes, self.hosts.owners_of))
        return {
            name: Explanation(KernelState(*kernel[name]) if name in kernel else None, owners[name])
            for name in question.inodes
        }

    def _open(self, asked: Mapping[str, T]) -> dict[str, T]:
        """Of these hosts, those whose conversation still goes on."""
        return {name: what for name, what in asked.items() if name in self.hosts.agents}

    def _counts_of(self, name: str, ask: CountQuery) -> tuple[Counts, HostError | None]:
        found: dict[NetnsRef, Sequence[CountBlock]] = {}
        if ask.single:
            look = self.hosts.look(name, ask.single)
            found.update(counts_in(look.sights))
            if look.error is not None:
                return found, look.error
        if ask.dump:
            place, blocks, error = self.hosts.counts(name)
            if error is not None:
                return found, error
            if place is not None and blocks:
                found[place] = blocks
        return found, None


@dataclass
class CheckRun:
    """One run of checks over open hosts. What its report rests on stays in `inquired`, to be saved."""

    hosts: Hosts
    inquired: Inquired
    finished_at: datetime
    elapsed_s: float


def run_checks(hosts: Hosts, deep: bool = False, answerer: Answerer | None = None) -> CheckRun:
    """Asks the hosts all that their checks need. `deep`: byte counters of every pair, however many.

    `answerer`: who answers in their place, LiveHosts if nobody is given.
    """
    extra = {name: [address.parse(one) for one in hosts.inventory.hosts[name].addresses] for name in hosts.ports}
    inquiry = inquire(hosts.plans, dict(hosts.ports), extra, None if deep else WIDE_LIMIT)
    inquired = drive(inquiry, answerer or LiveHosts(hosts))
    hosts.say("")
    return CheckRun(hosts, inquired, datetime.now(UTC), time.monotonic() - hosts.began)


def report_of_run(run: CheckRun, policy: Policy | None = None) -> Report:
    """What the run found."""
    checks = [
        analyse(
            plan,
            replace(one, notes=notes_of(plan, one.snapshots, run.hosts.notes), elapsed_s=run.elapsed_s),
            policy or Policy(),
        )
        for plan, one in zip(run.hosts.plans, run.inquired.evidence, strict=True)
    ]
    return report_of(checks, run.hosts.started_at, run.finished_at)
