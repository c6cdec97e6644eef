"""Rounds over open hosts -> Report. A check is two rounds; nothing here judges.

All hosts at once, each by a thread that waits for it. A host that fails is a value in the report. Clean pairs cost one
dump each; only suspects are asked about again, and only then are counters and processes read.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from msgspec import structs

from halfopen import __version__, address
from halfopen.environment import Progress
from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.saved import SCHEMA as SNAPSHOT_SCHEMA
from halfopen.evidence.saved import Run, Said, Saved, encode, pack_sights
from halfopen.findings import Check, Report
from halfopen.inventory import CheckPlan, Host, Inventory
from halfopen.judge.analyse import (
    Evidence,
    Policy,
    analyse,
    host_error,
    involved,
    notes_of,
    report_of,
    stamp,
    wanted_inodes,
)
from halfopen.judge.case import HostEvidence
from halfopen.judge.join import conclude, join, may_translate, wider_ports
from halfopen.judge.match import Matching, Suspect
from halfopen.judge.rounds import Bracket, merge, questions, through
from halfopen.model import Look, Place, Process, Sight, Snapshot, Wanted
from halfopen.reach.agent import Agent, remote_command
from halfopen.reach.connect import Connection, ReachOptions, connect, refuse_untrusted
from halfopen.reach.machine import MachineAgent, is_foreign
from halfopen.reach.shell import COMMAND, ShellAgent
from halfopen.words import plural

T = TypeVar("T")
R = TypeVar("R")


AnyAgent = Agent | ShellAgent | MachineAgent


class Closing(Protocol):
    """What a session must close on its way out."""

    def close(self) -> None: ...


QUESTION_LIMIT = 100_000  # exact look-ups of one request


@dataclass(frozen=True, slots=True)
class Options:
    """How a run reaches hosts and how long it takes. Durations in seconds."""

    connect_timeout: float = 10.0
    timeout: float = 120.0
    forks: int = 16
    host_keys: str = "strict"
    jump: str | None = None
    transport: str | None = None
    interactive: bool = False
    policy: Policy = field(default_factory=Policy)


class Session:
    """Open probes on the hosts of some checks. A context manager: on its way out every probe ends.

    `say` is told what is under way, for a terminal; with "" that nothing is any more.
    """

    def __init__(
        self,
        inventory: Inventory,
        plans: Sequence[CheckPlan],
        options: Options,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.inventory, self.plans, self.options, self.say = inventory, plans, options, say
        self.deadline = time.monotonic() + options.timeout
        self.agents: dict[str, AnyAgent] = {}
        self.reached: dict[str, Connection] = {}
        self.connections: list[Closing] = []
        self.pool = ThreadPoolExecutor(max(1, options.forks), thread_name_prefix="host")
        self.ports = {name: ports_of(name, plans) for name in hosts_of(plans)}
        self.extra = {name: [address.parse(one) for one in inventory.hosts[name].addresses] for name in self.ports}
        self.notes: list[tuple[str, str]] = []
        self.evidence: list[Evidence] = []
        self.hosts: Mapping[str, HostEvidence] = {}
        self.run = Run(id=secrets.token_hex(8), started_at="", finished_at="", checks=tuple(plans))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.say("")
        for one in self.connections:
            one.close()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def report(self) -> Report:
        """One whole run over all checks."""
        started, began = datetime.now(UTC), time.monotonic()
        snapshots = self.first_look()
        checks = self.judge(snapshots, began)
        report = report_of(checks, started, datetime.now(UTC))
        self.run = structs.replace(self.run, started_at=report.started_at, finished_at=report.finished_at)
        self.say("")
        return report

    def first_look(self) -> dict[str, Snapshot]:
        """Every host's first snapshot; the hosts that were not reached yet are reached now."""
        for name in self.ports:
            refuse_untrusted(self.inventory.hosts[name], self.inventory)
        progress = Progress(self.ports, self.say)

        def read(name: str, _: str) -> Snapshot:
            snapshot = self.snapshot_of(name)
            progress.done(name)
            return snapshot

        return dict(self.each(dict.fromkeys(self.ports, ""), read))

    def snapshot_of(self, name: str) -> Snapshot:
        """A dump of one host, on its open probe or a new one; an error is a snapshot too."""
        transport = self.inventory.hosts[name].transport
        try:
            if name in self.agents:
                return self.agents[name].snapshot(self.ports[name])
            agent, snapshot = self.reach(self.inventory.hosts[name])
            transport = agent.transport
        except HostError as error:
            self.agents.pop(name, None)
            return Snapshot(name, None, error=error, transport=transport)
        self.agents[name] = agent
        return snapshot

    def reach(self, host: Host) -> tuple[AnyAgent, Snapshot]:
        """A host's first snapshot by the probe, or by what its shell has where it has no Python that could run it."""
        ports = self.ports[host.name]
        if host.transport == "local" and is_foreign():
            machine = MachineAgent(host.name)
            return machine, machine.first_look(ports)
        try:
            agent = self.open(host)
            return agent, agent.first_look(ports)
        except HostError as error:
            # An interpreter that the user named is missed, not replaced.
            if error.code is not ErrorCode.NO_INTERPRETER or host.python is not None:
                raise
            missing = error
        try:
            by_shell = self.open_shell(host)
            return by_shell, by_shell.first_look(ports)
        except HostError as error:
            # A login that runs no command, or only its own, tells more by what it said first.
            raise missing if error.code in (ErrorCode.TRUNCATED, ErrorCode.PROTOCOL_ERROR) else error from None

    def open_shell(self, host: Host) -> ShellAgent:
        """Starts the shell script on a connection that stands."""
        connection = self.reached[host.name]
        channel = connection.run(COMMAND)
        channel.deadline = self.deadline
        agent = ShellAgent(host.name, channel, connection.transport, self.options.timeout, self.deadline)
        self.connections.append(agent)
        agent.start(wait=host.transport == "exec")
        return agent

    def open(self, host: Host) -> Agent:
        """Reaches a host and starts the probe there."""
        began = time.monotonic()
        reach = ReachOptions(
            connect_timeout=self.options.connect_timeout,
            deadline=self.deadline,
            host_keys=self.options.host_keys,
            jump=self.options.jump,
            transport=self.options.transport,
            interactive=self.options.interactive,
        )
        connection = connect(host, self.inventory, reach)
        self.connections.append(connection)
        self.reached[host.name] = connection
        if connection.note:
            self.notes.append((host.name, connection.note))
        channel = connection.run(remote_command(host.python))
        channel.deadline = min(self.deadline, began + max(self.options.timeout, self.options.connect_timeout))
        agent = Agent(
            host.name,
            channel,
            connection.transport,
            self.options.timeout,
            last_deadline=self.deadline,
            python=host.python,
        )
        self.connections.append(agent)
        agent.start(self.ports[host.name], wait=host.transport == "exec")
        return agent

    def judge(self, snapshots: Mapping[str, Snapshot], began: float) -> list[Check]:
        """Matching, brackets around what is suspect, and the report of each check."""
        matchings, snapshots = self.matchings(snapshots)
        before: Mapping[str, tuple[dict[str, int], dict[str, int]]] = {}
        asks = [ask for one in matchings for suspect in one.suspects for ask in (suspect.client, suspect.server)]
        for place in {place for ask in asks for place in ask.places}:
            agent = self.agents.get(place.host)
            if isinstance(agent, Agent):  # the others know one namespace alone
                agent.involve(place)
        if any(one.suspects for one in matchings):
            before = self.counters(snapshots)
        brackets: list[Bracket] = []
        while left := self.open_questions(matchings, brackets):
            if brackets:
                self.settle(len(left))
            brackets.append(self.bracket(left))
        self.evidence = []
        for plan, matching in zip(self.plans, matchings, strict=True):
            suspects, used = through(matching.suspects, brackets[: plan.rounds])
            self.evidence.append(Evidence(snapshots, replace(matching, suspects=tuple(suspects)), used))
        self.hosts = self.explained(snapshots, before)
        self.run = structs.replace(self.run, elapsed_s=time.monotonic() - began)
        checks = []
        for plan, evidence in zip(self.plans, self.evidence, strict=True):
            asked = involved(evidence.matching.suspects)
            told = replace(
                evidence,
                hosts={name: self.hosts[name] for name in self.hosts if name in asked},
                notes=notes_of(plan, snapshots, self.notes),
                elapsed_s=self.run.elapsed_s,
            )
            checks.append(analyse(plan, told, self.options.policy))
        return checks

    def open_questions(self, matchings: Sequence[Matching], brackets: Sequence[Bracket]) -> list[Suspect]:
        """The suspects of all checks that want another round, each once."""
        asked = [
            through(matching.suspects, brackets)[0] if len(brackets) < plan.rounds else ()
            for plan, matching in zip(self.plans, matchings, strict=True)
        ]
        return list(dict.fromkeys(one for some in asked for one in some))

    def matchings(self, snapshots: Mapping[str, Snapshot]) -> tuple[list[Matching], Mapping[str, Snapshot]]:
        """The join of each check. Connection tracking is read only where something is left that it could explain."""
        found = [join(plan, snapshots, self.extra) for plan in self.plans]
        names = [may_translate(plan, snapshots, one) for plan, one in zip(self.plans, found, strict=True)]
        asked = dict.fromkeys(name for some in names for name in some if name in self.agents)
        if not asked:
            return self.concluded(found, snapshots), snapshots
        self.say(f"reading what {plural(len(asked), 'host')} translates")
        snapshots = {**snapshots, **dict(self.each({name: snapshots[name] for name in asked}, self.translated))}
        wider: dict[str, set[int]] = {}
        for plan in self.plans:
            for name, ports in wider_ports(plan, snapshots, self.extra).items():
                if self.ports.get(name):
                    wider.setdefault(name, set()).update(ports)
        for name, ports in wider.items():
            self.ports[name] = tuple(sorted({*self.ports[name], *ports}))
        snapshots = {**snapshots, **dict(self.each({name: snapshots[name] for name in wider}, self.read_again))}
        found = [join(plan, snapshots, self.extra) for plan in self.plans]
        # A container that seems gone may have come since its host was read, which was before its peer's perhaps.
        gone = {name: snapshots[name] for one in found for name in one.gone if name in self.agents}
        if gone:
            snapshots = {**snapshots, **dict(self.each(gone, self.read_again))}
            found = [join(plan, snapshots, self.extra) for plan in self.plans]
        return self.concluded(found, snapshots), snapshots

    def concluded(self, found: Sequence[Matching], snapshots: Mapping[str, Snapshot]) -> list[Matching]:
        """The join of each check with what can be inferred beyond it."""
        return [conclude(plan, snapshots, self.extra, one) for plan, one in zip(self.plans, found, strict=True)]

    def translated(self, name: str, snapshot: Snapshot) -> Snapshot:
        """The snapshot with what translates on its host."""
        agent = self.agents[name]
        try:
            return agent.translated(snapshot) if isinstance(agent, Agent) else snapshot
        except HostError as error:
            self.agents.pop(name, None)
            return replace(snapshot, error=error)

    def read_again(self, name: str, snapshot: Snapshot) -> Snapshot:
        """A wider dump, with the translations that are known already."""
        again = self.snapshot_of(name)
        known = {space.netns: space.rewrites for space in snapshot.namespaces}
        return replace(again, namespaces=tuple(replace(one, rewrites=known.get(one.netns)) for one in again.namespaces))

    def settle(self, count: int) -> None:
        """Waits before the next round, but never past the end of the run."""
        self.say(
            f"{count} suspect{'s' * (count != 1)}: looking again after {max(plan.settle for plan in self.plans)} s"
        )
        time.sleep(max(0.0, min(max(plan.settle for plan in self.plans), self.deadline - time.monotonic())))

    def bracket(self, suspects: Sequence[Suspect]) -> Bracket:
        """Three looks in order: first ends, second ends, first ends."""
        first, second = questions(suspects, second=False), questions(suspects, second=True)
        before, errors = merge(self.looks(first))
        between, errors_between = merge(self.looks(second))
        after, errors_after = merge(self.looks(first))
        return Bracket(before, between, after, {**errors, **errors_between, **errors_after})

    def looks(self, asked: Mapping[str, Sequence[Wanted]]) -> list[Look]:
        """One look at each host that is asked, all at once."""
        return [look for _, look in self.each(asked, self.look)]

    def look(self, name: str, wanted: Sequence[Wanted]) -> Look:
        """Exact look-ups on one host; an error is a look without sights."""
        agent = self.agents.get(name)
        if agent is None:
            return Look(name, {})
        sights: dict[tuple[Place, bytes], Sight] = {}
        try:
            for at in range(0, len(wanted), QUESTION_LIMIT):
                sights.update(agent.look(wanted[at : at + QUESTION_LIMIT]).sights)
        except HostError as error:
            self.agents.pop(name, None)
            return Look(name, {}, error)
        return Look(name, sights)

    def counters(self, names: Iterable[str]) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
        """Counters and sysctls of each open host; a host that fails here gives none."""
        return {name: found for name, found in self.each(dict.fromkeys(names, ""), self.counters_of) if found}

    def counters_of(self, name: str, _: str) -> tuple[dict[str, int], dict[str, int]] | None:
        """Counters and sysctls of one host."""
        agent = self.agents.get(name)
        try:
            return agent.evidence() if agent else None
        except HostError as error:
            self.agents.pop(name, None)
            self.notes.append((name, f"its counters could not be read: {error.message}"))
            return None

    def explained(
        self, snapshots: Mapping[str, Snapshot], before: Mapping[str, tuple[dict[str, int], dict[str, int]]]
    ) -> dict[str, HostEvidence]:
        """Counters, and the processes of what is reported, of every host that a check reports something of."""
        names = sorted({name for one in self.evidence for name in involved(one.matching.suspects)})
        inodes: dict[str, set[int]] = {}
        for one in self.evidence:
            for name, found in wanted_inodes(one.matching.suspects, one).items():
                inodes.setdefault(name, set()).update(found)
        after = self.counters(names)
        owners = dict(self.each({name: sorted(found) for name, found in inodes.items()}, self.owners_of))
        return {
            name: host_evidence(name, snapshots[name], before.get(name), after.get(name), owners.get(name))
            for name in names
        }

    def owners_of(self, name: str, inodes: Sequence[int]) -> dict[int, Process]:
        """Processes that hold these sockets of one host."""
        agent = self.agents.get(name)
        if agent is None or not inodes:
            return {}
        try:
            found, unreadable = agent.owners(inodes)
        except HostError as error:
            self.agents.pop(name, None)
            self.notes.append((name, f"the processes could not be read: {error.message}"))
            return {}
        if unreadable and len(found) < len(inodes):
            self.notes.append((name, "some processes belong to other users and could not be named; as root they could"))
        return found

    def saved(self) -> dict[str, bytes]:
        """Host -> the file that holds its evidence of this run."""
        return {name: encode(self.saved_host(name)) for name in self.ports}

    def saved_host(self, name: str) -> Saved:
        """One host's evidence; of the checks that name it, the one that looked most often."""
        own = [one for one in self.evidence if name in one.snapshots]
        evidence = max(own, key=lambda one: len(one.brackets))
        return structs.replace(
            self.saved_look(evidence.snapshots[name], self.hosts.get(name) or HostEvidence(name)),
            error=said(host_error(name, evidence)),
            looks=tuple(
                (pack_sights(name, one.before), pack_sights(name, one.between), pack_sights(name, one.after))
                for one in evidence.brackets
            ),
        )

    def saved_look(self, snapshot: Snapshot, host: HostEvidence) -> Saved:
        """One look at a host, with what is known of it beside its sockets."""
        return Saved(
            schema_=SNAPSHOT_SCHEMA,
            version=__version__,
            host=snapshot.host,
            transport=snapshot.transport,
            taken_at=self.run.finished_at or stamp(datetime.now(UTC)),
            facts=snapshot.facts,
            error=said(snapshot.error),
            namespaces=snapshot.namespaces,
            addresses=self.inventory.hosts[snapshot.host].addresses,
            before=dict(host.before),
            after=dict(host.after),
            sysctls=dict(host.sysctls),
            owners=dict(host.owners),
            notes=tuple(note for name, note in self.notes if name == snapshot.host),
            run=self.run,
        )

    def each(self, asked: Mapping[str, T], do: Callable[[str, T], R]) -> list[tuple[str, R]]:
        """Does something for every host at once; the answers in the order asked."""
        futures = [(name, self.pool.submit(do, name, what)) for name, what in asked.items()]
        return [(name, future.result()) for name, future in futures]


def hosts_of(plans: Iterable[CheckPlan]) -> list[str]:
    """Every host that a check names, once."""
    return list(dict.fromkeys(name for plan in plans for name in (*plan.clients, *plan.servers, *plan.nat)))


def ports_of(name: str, plans: Iterable[CheckPlan]) -> tuple[int, ...]:
    """The ports that a host's dump is limited to: all that its checks name, or none if one of them names none."""
    asked = [plan.ports for plan in plans if name in (*plan.clients, *plan.servers, *plan.nat)]
    if not all(asked):
        return ()
    return tuple(sorted({port for ports in asked for port in ports}))


def host_evidence(
    name: str,
    snapshot: Snapshot,
    first: tuple[dict[str, int], dict[str, int]] | None,
    last: tuple[dict[str, int], dict[str, int]] | None,
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


def said(error: HostError | None) -> Said | None:
    """An error as it is saved."""
    return Said(code=error.code, message=error.message, hint=error.hint) if error else None
