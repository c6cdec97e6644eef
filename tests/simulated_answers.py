"""Simulated hosts answer an inquiry, and the world goes on between any two answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace
from simulated import BACKLOG, NETNS, Machine, World

from halfopen.errors import ErrorCode, HostError
from halfopen.judge.assembly.check import analyse
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.confirm.byte_counters import Counts, counts_in
from halfopen.judge.inquiry import drive, inquire
from halfopen.judge.questions import (
    Ask,
    Baseline,
    ByteCounts,
    Dump,
    Explain,
    Explanation,
    KernelState,
    LookUp,
    Pause,
    Question,
    Routes,
    Snapshots,
    Translations,
)
from halfopen.model import Look, NetnsRef, Process, Reply, Routing, Snapshot
from halfopen.plan import CheckPlan
from halfopen.schema.report import Check
from halfopen.table import CountBlock

SYSCTLS = {"tcp_keepalive_time": 7200, "tcp_keepalive_intvl": 75, "tcp_keepalive_probes": 9, "somaxconn": BACKLOG}


@dataclass
class SimulatedHosts:
    """The answers of a world's hosts. `meanwhile` is called before each answer of each host.

    `fails`: host -> the question that its conversation breaks off at; that of a host that boots does too. It is `over`
    at that question then: an error once, and silence from then on.
    """

    world: World
    meanwhile: Callable[[], None] = lambda: None
    fails: Mapping[str, type[Question[Any]]] = field(default_factory=dict)
    asked: list[Question[Any]] = field(default_factory=list)
    over: dict[str, Question[Any]] = field(default_factory=dict)
    boots: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def talk(self, name: str, question: Question[Any]) -> Iterator[Machine]:
        """One host answers. HostError if it cannot, and for good."""
        self.meanwhile()
        host = self.world.hosts[name]
        self.world.advance(host.lag)
        booted = self.boots.setdefault(name, host.boots) != host.boots
        if booted or isinstance(question, self.fails.get(name, ())):
            self.over[name] = question
            raise HostError(ErrorCode.TRUNCATED, "the answer ends in the middle")
        yield host

    def read(self, name: str, question: Question[Any], known: Snapshot | None, ports: Sequence[int]) -> Snapshot:
        """A dump of one host."""
        try:
            with self.talk(name, question) as host:
                return host.snapshot(ports, known is not None and known.namespaces[0].rewrites is not None)
        except HostError as error:
            return Snapshot(name, None, error=error)

    def dump(self, question: Dump) -> Snapshots:
        self.asked.append(question)
        open_ = {name: ports for name, ports in question.ports.items() if name not in self.over}
        kept = {name: question.known[name] for name in question.ports if name in question.known}
        return kept | {name: self.read(name, question, kept.get(name), ports) for name, ports in open_.items()}

    def translations(self, question: Translations) -> Snapshots:
        self.asked.append(question)
        found = {}
        for name, snapshot in question.snapshots.items():
            if name in self.over:
                found[name] = snapshot
                continue
            try:
                with self.talk(name, question) as host:
                    rewrites = host.snapshot((), translations=True).namespaces[0].rewrites
                    spaces = tuple(replace(one, rewrites=rewrites) for one in snapshot.namespaces)
                    found[name] = replace(snapshot, namespaces=spaces)
            except HostError as error:
                found[name] = replace(snapshot, error=error)
        return found

    def baseline(self, question: Baseline) -> Mapping[str, KernelState]:
        self.asked.append(question)
        return {name: state for name in question.hosts if (state := self.kernel(name, question)) is not None}

    def kernel(self, name: str, question: Question[Any]) -> KernelState | None:
        """Counters and sysctls of one host."""
        if name in self.over:
            return None
        try:
            with self.talk(name, question) as host:
                return KernelState(dict(host.counters), SYSCTLS)
        except HostError:
            return None

    def byte_counts(self, question: ByteCounts) -> Mapping[str, tuple[Counts, HostError | None]]:
        self.asked.append(question)
        found: dict[str, tuple[Counts, HostError | None]] = {}
        for name, ask in question.asks.items():
            if name in self.over:
                continue
            counts: dict[NetnsRef, Sequence[CountBlock]] = {}
            try:
                with self.talk(name, question) as host:
                    counts.update(counts_in({(one.place, one.key): host.sight(one.key) for one in ask.single}))
                    if ask.dump and (blocks := host.counts(question.ports[name])):
                        counts[NetnsRef(name, NETNS)] = blocks
            except HostError as error:
                found[name] = (counts, error)
            else:
                found[name] = (counts, None)
        return found

    def pause(self, question: Pause) -> float:
        self.asked.append(question)
        self.meanwhile()
        self.world.advance(question.seconds)
        return question.seconds

    def look(self, question: LookUp) -> Sequence[Look]:
        self.asked.append(question)
        found = []
        for name, wanted in question.wanted.items():
            if name in self.over:
                found.append(Look(name, {}))
                continue
            try:
                with self.talk(name, question) as host:
                    found.append(Look(name, {(one.place, one.key): host.sight(one.key) for one in wanted}))
            except HostError as error:
                found.append(Look(name, {}, error))
        return found

    def routes(self, question: Routes) -> Mapping[str, tuple[Mapping[NetnsRef, Routing], HostError | None]]:
        self.asked.append(question)
        found: dict[str, tuple[Mapping[NetnsRef, Routing], HostError | None]] = {}
        for name, wanted in question.wanted.items():
            if name in self.over:
                continue
            try:
                with self.talk(name, question) as host:
                    found[name] = ({NetnsRef(name, NETNS): host.routing(wanted)}, None)
            except HostError as error:
                found[name] = ({}, error)
        return found

    def ask(self, question: Ask) -> Mapping[str, tuple[Sequence[Reply], Mapping[int, Process]]]:
        self.asked.append(question)
        found: dict[str, tuple[Sequence[Reply], Mapping[int, Process]]] = {}
        for name, wanted in question.wanted.items():
            if name in self.over:
                continue
            try:
                with self.talk(name, question) as host:
                    found[name] = [host.ask(one.key, one.inode) for one in wanted], {}
            except HostError:
                continue
        return found

    def explain(self, question: Explain) -> Mapping[str, Explanation]:
        self.asked.append(question)
        return {
            name: Explanation(self.kernel(name, question), {one: Process(one, "program") for one in inodes})
            for name, inodes in question.inodes.items()
        }

    @property
    def order(self) -> list[str]:
        """The questions that were asked, by name."""
        return [type(one).__name__ for one in self.asked]


def check(hosts: SimulatedHosts, plan: CheckPlan) -> Check:
    """A whole check of a world, and its report."""
    names = dict.fromkeys((*plan.clients, *plan.servers, *plan.nat))
    inquiry = inquire([plan], dict.fromkeys(names, plan.ports), {}, None)
    (evidence,) = drive(inquiry, hosts).evidence
    return analyse(plan, evidence, Policy())
