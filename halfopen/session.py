"""Rounds over open hosts -> Report. A check is two rounds; nothing here judges.

Clean pairs cost one dump each; only suspects are asked about again, and only then are counters and processes read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from halfopen import address
from halfopen.errors import HostError
from halfopen.findings import Check, Report
from halfopen.hosts import Hosts, Known
from halfopen.judge.analyse import Policy, analyse, notes_of, report_of
from halfopen.judge.case import HostEvidence
from halfopen.judge.join import conclude, ground_of, join, may_translate, wider_ports
from halfopen.judge.match import Matching, Suspect
from halfopen.judge.rounds import Bracket, merge, questions, through
from halfopen.judge.standing import Evidence, involved, wanted_inodes
from halfopen.judge.wide import WIDE_LIMIT, CountAsk, Counts, asks, counts_in, widened
from halfopen.model import Collector, Place, Process, Snapshot
from halfopen.table import CountBlock
from halfopen.words import plural


class Session:
    """The checks of a run over its hosts. What they rest on stays in `evidence` and `told`, to be saved.

    `deep`: byte counters of every pair, however many.
    """

    def __init__(self, hosts: Hosts, policy: Policy | None = None, deep: bool = False) -> None:
        self.hosts, self.plans, self.policy, self.deep = hosts, hosts.plans, policy or Policy(), deep
        inventory = hosts.inventory
        self.extra = {name: [address.parse(one) for one in inventory.hosts[name].addresses] for name in hosts.ports}
        self.evidence: list[Evidence] = []
        self.told: Mapping[str, HostEvidence] = {}
        self.finished_at = hosts.started_at
        self.elapsed_s = 0.0

    def report(self) -> Report:
        """One whole run over all checks."""
        checks = self.judge(self.hosts.first_look())
        self.finished_at = datetime.now(UTC)
        self.hosts.say("")
        return report_of(checks, self.hosts.started_at, self.finished_at)

    def judge(self, first: Mapping[str, Snapshot]) -> list[Check]:
        """Matching, brackets around what is suspect, and the report of each check."""
        matchings, snapshots = self.matchings(first)
        before: Mapping[str, Known] = {}
        if any(one.suspects for one in matchings):
            self.involve(matchings)
            before = self.hosts.counters(snapshots)
        matchings, snapshots, counts = self.wide_look(matchings, snapshots)
        matchings = self.concluded(matchings, snapshots)
        self.involve(matchings)
        brackets: list[Bracket] = []
        while left := self.open_questions(matchings, brackets):
            if brackets:
                before = before or self.hosts.counters(snapshots)
                self.settle(len(left))
            brackets.append(self.bracket(left))
        self.evidence = []
        for plan, matching in zip(self.plans, matchings, strict=True):
            suspects, used = through(matching.suspects, brackets[: plan.rounds])
            self.evidence.append(Evidence(snapshots, replace(matching, suspects=tuple(suspects)), used, counts=counts))
        self.told = self.explained(snapshots, before)
        self.elapsed_s = time.monotonic() - self.hosts.began
        checks = []
        for plan, evidence in zip(self.plans, self.evidence, strict=True):
            asked = involved(evidence.matching.suspects)
            known = replace(
                evidence,
                hosts={name: one for name, one in self.told.items() if name in asked},
                notes=notes_of(plan, snapshots, self.hosts.notes),
                elapsed_s=self.elapsed_s,
            )
            checks.append(analyse(plan, known, self.policy))
        return checks

    def open_questions(self, matchings: Sequence[Matching], brackets: Sequence[Bracket]) -> list[Suspect]:
        """The suspects of all checks that want another round, each once."""
        asked = [
            through(matching.suspects, brackets)[0] if len(brackets) < plan.rounds else ()
            for plan, matching in zip(self.plans, matchings, strict=True)
        ]
        return list(dict.fromkeys(one for some in asked for one in some))

    def wide_look(
        self, matchings: Sequence[Matching], snapshots: Mapping[str, Snapshot]
    ) -> tuple[list[Matching], Mapping[str, Snapshot], Counts]:
        """Byte counters of the pairs that agree: by a wider dump, or one by one where they are few among the sockets.

        A host that breaks off here keeps its snapshot, with the error.
        """
        able = {
            name
            for name, one in snapshots.items()
            if name in self.hosts.agents and one.facts is not None and one.facts.collector is Collector.NETLINK
        }
        grounds = [ground_of(plan, snapshots, self.extra) for plan in self.plans]
        counts: dict[Place, Sequence[CountBlock]] = {}
        failed: dict[str, Snapshot] = {}
        asked = asks(list(zip(grounds, matchings, strict=True)), able)
        for name, (found, error) in self.hosts.each(asked, self.counts_of):
            if error is not None:
                failed[name] = replace(snapshots[name], error=error)
            places = [Place(name, one.netns) for one in snapshots[name].namespaces]
            counts.update({place: () for place in places if asked[name].answered(place, places[0])})
            counts.update(found)
        wider = [widened(ground, one, counts) for ground, one in zip(grounds, matchings, strict=True)]
        return wider, {**snapshots, **failed}, counts

    def counts_of(self, name: str, ask: CountAsk) -> tuple[Counts, HostError | None]:
        """The wide look at one host."""
        found: dict[Place, Sequence[CountBlock]] = {}
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

    def matchings(self, snapshots: Mapping[str, Snapshot]) -> tuple[list[Matching], Mapping[str, Snapshot]]:
        """The join of each check. Connection tracking is read only where something is left that it could explain."""
        found = self.joined(snapshots)
        names = [may_translate(plan, snapshots, one) for plan, one in zip(self.plans, found, strict=True)]
        asked = dict.fromkeys(name for some in names for name in some if name in self.hosts.agents)
        if not asked:
            return found, snapshots
        hosts = self.hosts
        hosts.say(f"reading what {plural(len(asked), 'host')} translates")
        snapshots = {
            **snapshots,
            **dict(hosts.each({name: snapshots[name] for name in asked}, hosts.translated)),
        }
        wider: dict[str, set[int]] = {}
        for plan in self.plans:
            for name, ports in wider_ports(plan, snapshots, self.extra).items():
                if self.hosts.ports.get(name):
                    wider.setdefault(name, set()).update(ports)
        for name, ports in wider.items():
            self.hosts.ports[name] = tuple(sorted({*self.hosts.ports[name], *ports}))
        snapshots = {
            **snapshots,
            **dict(hosts.each({name: snapshots[name] for name in wider}, hosts.read_again)),
        }
        found = self.joined(snapshots)
        # A container that seems gone may have come since its host was read, which was before its peer's perhaps.
        gone = {name: snapshots[name] for one in found for name in one.gone if name in self.hosts.agents}
        if gone:
            snapshots = {**snapshots, **dict(hosts.each(gone, hosts.read_again))}
            found = self.joined(snapshots)
        return found, snapshots

    def joined(self, snapshots: Mapping[str, Snapshot]) -> list[Matching]:
        """The join of each check."""
        limit = None if self.deep else WIDE_LIMIT
        return [join(plan, snapshots, self.extra, limit) for plan in self.plans]

    def involve(self, matchings: Sequence[Matching]) -> None:
        """Tells each host which of its namespaces the suspects are in."""
        asked = [ask for one in matchings for suspect in one.suspects for ask in (suspect.client, suspect.server)]
        self.hosts.involve({place for ask in asked for place in ask.places})

    def concluded(self, found: Sequence[Matching], snapshots: Mapping[str, Snapshot]) -> list[Matching]:
        """The join of each check with what can be inferred beyond it."""
        return [conclude(plan, snapshots, self.extra, one) for plan, one in zip(self.plans, found, strict=True)]

    def settle(self, count: int) -> None:
        """Waits before the next round, but never past the end of the run."""
        self.hosts.say(
            f"{count} suspect{'s' * (count != 1)}: looking again after {max(plan.settle for plan in self.plans)} s"
        )
        time.sleep(max(0.0, min(max(plan.settle for plan in self.plans), self.hosts.deadline - time.monotonic())))

    def bracket(self, suspects: Sequence[Suspect]) -> Bracket:
        """Three looks in order: first ends, second ends, first ends."""
        first, second = questions(suspects, second=False), questions(suspects, second=True)
        before, errors = merge(self.hosts.looks(first))
        between, errors_between = merge(self.hosts.looks(second))
        after, errors_after = merge(self.hosts.looks(first))
        return Bracket(before, between, after, {**errors, **errors_between, **errors_after})

    def explained(self, snapshots: Mapping[str, Snapshot], before: Mapping[str, Known]) -> dict[str, HostEvidence]:
        """Counters, and the processes of what is reported, of every host that a check reports something of."""
        names = sorted({name for one in self.evidence for name in involved(one.matching.suspects)})
        inodes: dict[str, set[int]] = {}
        for one in self.evidence:
            for name, found in wanted_inodes(one.matching.suspects, one).items():
                inodes.setdefault(name, set()).update(found)
        after = self.hosts.counters(names)
        owners = dict(self.hosts.each({name: sorted(found) for name, found in inodes.items()}, self.hosts.owners_of))
        return {
            name: host_evidence(name, snapshots[name], before.get(name), after.get(name), owners.get(name))
            for name in names
        }


def host_evidence(
    name: str,
    snapshot: Snapshot,
    first: Known | None,
    last: Known | None,
    owners: Mapping[int, Process] | None,
) -> HostEvidence:
    """What is known of a host beside its sockets. `first`, `last`: its counters and sysctls around the looks."""
    return HostEvidence(
        name,
        snapshot.facts,
        first[0] if first else {},
        last[0] if last else {},
        (last or first or ({}, {}))[1],
        owners or {},
    )
