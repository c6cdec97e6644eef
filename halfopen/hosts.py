"""The hosts of a run: each reached once, kept open, and asked by a thread that waits for it.

Nothing here judges, and nothing of the judgement is imported, so that it can be while the hosts answer. A host that
fails is a value: an error in its snapshot or its look, and a note.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from halfopen import address
from halfopen.environment import Progress
from halfopen.errors import ErrorCode, HostError
from halfopen.inventory import CheckPlan, Host, Inventory
from halfopen.model import Look, Place, Process, Sight, Snapshot, Wanted
from halfopen.reach.agent import Agent
from halfopen.reach.barrier import barrier, late, too_late
from halfopen.reach.channel import Connection
from halfopen.reach.connect import ReachOptions
from halfopen.reach.opening import Opened, open_agent
from halfopen.table import CountBlock

if TYPE_CHECKING:
    from halfopen.reach.machine import MachineAgent
    from halfopen.reach.shell import ShellAgent

T = TypeVar("T")
R = TypeVar("R")

AnyAgent: TypeAlias = "Agent | ShellAgent | MachineAgent"

Known = tuple[dict[str, int], dict[str, int]]
"""Counters and sysctls of a host."""

BY_PARAMIKO = ("auto", "paramiko")

QUESTION_LIMIT = 100_000  # exact look-ups of one request

REFUSED = (ErrorCode.UNSUPPORTED, ErrorCode.NEEDS_PRIVILEGE)

SHARE = 0.75
"""Of the time that is left, what one step may take: whoever hangs in it leaves the others time for the steps after."""


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


class Hosts:
    """Open probes on the hosts of some checks. A context manager: on its way out every probe ends.

    `say` is told what is under way, for a terminal; with "" that nothing is any more. `notes`: host and what a reader
    should know of how it was read. `ports`: what the dump of each host is limited to, empty for all. `agents`: hosts
    that answer; `failed`: why the others do not; `lost`: which of these have answered before. `until`: when the
    step that is under way ends (time.monotonic()).
    """

    def __init__(
        self,
        inventory: Inventory,
        plans: Sequence[CheckPlan],
        options: Options,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.inventory, self.plans, self.options, self.say = inventory, plans, options, say
        self.started_at, self.began = datetime.now(UTC), time.monotonic()
        self.deadline = self.until = self.began + options.timeout
        self.agents: dict[str, AnyAgent] = {}
        self.failed: dict[str, HostError] = {}
        self.lost: set[str] = set()
        self.reached: dict[str, Connection] = {}
        self.own: set[bytes] = set()
        self.opened = Opened()
        self.pool = ThreadPoolExecutor(max(1, options.forks), thread_name_prefix="host")
        self.ports = {name: ports_of(name, plans) for name in hosts_of(plans)}
        self.notes: list[tuple[str, str]] = []
        self.reading: list[tuple[str, Future[Snapshot]]] = []

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self.say("")
        self.opened.close()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def begin(self) -> None:
        """Starts a dump of every host; those that were not reached yet are reached now. `first_look` waits for it."""
        self.step()
        progress = Progress(self.ports, self.say)

        def read(name: str) -> Snapshot:
            snapshot = self.snapshot_of(name)
            progress.done(name)
            return snapshot

        self.reading = [(name, self.pool.submit(read, name)) for name in self.ports]
        ways = {self.inventory.hosts[name].transport for name in self.ports}
        if self.options.transport != "openssh" and not ways.isdisjoint(BY_PARAMIKO):
            from halfopen.reach.library import load_paramiko

            load_paramiko()  # here too, because whatever is imported beside it only keeps everybody waiting

    def first_look(self) -> dict[str, Snapshot]:
        """Every host's snapshot."""
        if not self.reading:
            self.begin()
        missing = late((future for _, future in self.reading), self.until)
        found = {
            name: self.unread(name, too_late()) if future in missing else future.result()
            for name, future in self.reading
        }
        self.reading = []
        self.own |= self.own_connections(found)
        return {name: self.foreign(one) for name, one in found.items()}

    def own_connections(self, snapshots: Mapping[str, Snapshot]) -> set[bytes]:
        """Keys, as either end sees them, of the SSH connections that lead to the hosts: nobody asked about these.

        Each host tells its own, which holds only if it has that socket: on the way there the addresses of this machine
        may have been translated. Our own sockets tell how it looks from here, and on a jump host.
        """
        found = {
            agent.session
            for name, agent in list(self.agents.items())
            if agent.session and any(space.table.has(agent.session) for space in snapshots[name].namespaces)
        }
        near = any(self.inventory.hosts[name].transport in ("local", "exec") for name in snapshots)
        found.update(key for one in list(self.reached.values()) for key in one.sockets(near))
        return found | {address.mirror(key) for key in found}

    def foreign(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot without connections of our own."""
        spaces = tuple(replace(one, table=one.table.without(self.own)) for one in snapshot.namespaces)
        return replace(snapshot, namespaces=spaces)

    def step(self) -> None:
        """Begins a step: what the hosts are asked from now on has its share of the time that is left."""
        now = time.monotonic()
        self.until = now + SHARE * (self.deadline - now)

    def snapshot_of(self, name: str) -> Snapshot:
        """A dump of one host, on its open probe or a new one; an error is a snapshot too."""
        try:
            if name in self.agents:
                with self.asking(name) as agent:
                    return agent.snapshot(self.ports[name])
            with barrier():
                agent, snapshot = self.reach(self.inventory.hosts[name])
        except HostError as error:
            return self.unread(name, error)
        self.agents[name] = agent
        self.failed.pop(name, None)
        self.lost.discard(name)
        return snapshot

    def unread(self, name: str, error: HostError) -> Snapshot:
        """What stands for a host that could not be read."""
        self.drop(name, error)
        return Snapshot(name, None, error=error, transport=self.inventory.hosts[name].transport)

    @contextlib.contextmanager
    def asking(self, name: str) -> Iterator[AnyAgent]:
        """The open conversation with a host, until the step ends. HostError where there is none any more.

        Whoever fails within, whatever its answer does to us, is asked no more; but who refuses a question may answer
        another.
        """
        agent = self.agents.get(name)
        if agent is None:
            raise self.failed[name]
        agent.deadline = self.until
        try:
            with barrier():
                yield agent
        except HostError as error:
            if error.code not in REFUSED:
                self.drop(name, error)
            raise

    def drop(self, name: str, error: HostError) -> None:
        """Asks a host no more."""
        if self.agents.pop(name, None) is not None:
            self.lost.add(name)
        self.failed[name] = error

    def reach(self, host: Host) -> tuple[AnyAgent, Snapshot]:
        """A host's first snapshot by the probe, or by what its shell has where it has no Python that could run it."""
        ports = self.ports[host.name]
        if host.transport == "local" and is_foreign():
            from halfopen.reach.machine import MachineAgent

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
        from halfopen.reach.shell import COMMAND, ShellAgent  # and its decoders, which few hosts need

        connection = self.reached[host.name]
        channel = connection.run(COMMAND)
        channel.deadline = self.until
        agent = ShellAgent(host.name, channel, connection.transport, self.until)
        self.opened.keep(agent)
        agent.start(wait=host.transport == "exec")
        return agent

    def open(self, host: Host) -> Agent:
        """Reaches a host and starts the probe there."""
        reach = ReachOptions(
            connect_timeout=self.options.connect_timeout,
            deadline=self.until,
            host_keys=self.options.host_keys,
            jump=self.options.jump,
            transport=self.options.transport,
            interactive=self.options.interactive,
        )
        agent = open_agent(host, self.inventory, reach, self.opened)
        if agent.connection is not None:
            self.reached[host.name] = agent.connection
        if agent.note:
            self.notes.append((host.name, agent.note))
        agent.start(self.ports[host.name], wait=host.transport == "exec")
        return agent

    def translated(self, name: str, snapshot: Snapshot) -> Snapshot:
        """The snapshot with what translates on its host."""
        try:
            with self.asking(name) as agent:
                return agent.translated(snapshot) if isinstance(agent, Agent) else snapshot
        except HostError as error:
            return replace(snapshot, error=error)

    def read_again(self, name: str, snapshot: Snapshot) -> Snapshot:
        """A wider dump, with the translations that are known already."""
        again = self.foreign(self.snapshot_of(name))
        known = {space.netns: space.rewrites for space in snapshot.namespaces}
        return replace(again, namespaces=tuple(replace(one, rewrites=known.get(one.netns)) for one in again.namespaces))

    def looks(self, asked: Mapping[str, Sequence[Wanted]]) -> list[Look]:
        """One look at each host that is asked, all at once; and an error of each that is asked no more."""
        lost = {name: () for name in self.failed if name not in asked}
        return [look for _, look in self.each({**asked, **lost}, self.look)]

    def look(self, name: str, wanted: Sequence[Wanted]) -> Look:
        """Exact look-ups on one host; an error is a look without sights."""
        sights: dict[tuple[Place, bytes], Sight] = {}
        try:
            with self.asking(name) as agent:
                for at in range(0, len(wanted), QUESTION_LIMIT):
                    sights.update(agent.look(wanted[at : at + QUESTION_LIMIT]).sights)
        except HostError as error:
            return Look(name, {}, error)
        return Look(name, sights)

    def counts(self, name: str) -> tuple[Place | None, Sequence[CountBlock], HostError | None]:
        """A dump with byte counters: of which namespace, and what it gave. A kernel that refuses it gives none."""
        try:
            with self.asking(name) as agent:
                if isinstance(agent, Agent):
                    return agent.place, agent.counts(self.ports[name]), None
        except HostError as error:
            return None, (), None if error.code in REFUSED else error
        return None, (), None

    def involve(self, places: Iterable[Place]) -> None:
        """Tells each host in which of its namespaces there is something to explain."""
        for place in places:
            agent = self.agents.get(place.host)
            if isinstance(agent, Agent):
                agent.involve(place)

    def counters(self, names: Iterable[str]) -> dict[str, Known]:
        """Counters and sysctls of each open host; a host that fails here gives none."""
        return {name: found for name, found in self.each(dict.fromkeys(names, ""), self.counters_of) if found}

    def counters_of(self, name: str, _: str) -> Known | None:
        """Counters and sysctls of one host."""
        if name not in self.agents:
            self.unknown(name, "its counters")
            return None
        try:
            with self.asking(name) as agent:
                return agent.evidence()
        except HostError as error:
            self.unknown(name, "its counters", error)
            return None

    def unknown(self, name: str, what: str, error: HostError | None = None) -> None:
        """Notes what is not known of a host that has been read; of another one its error tells enough."""
        error = error or (self.failed[name] if name in self.lost else None)
        if error is not None:
            self.notes.append((name, f"{what} could not be read: {error.message}"))

    def owners_of(self, name: str, inodes: Sequence[int]) -> dict[int, Process]:
        """Processes that hold these sockets of one host."""
        if not inodes:
            return {}
        if name not in self.agents:
            self.unknown(name, "the processes")
            return {}
        try:
            with self.asking(name) as agent:
                found, unreadable = agent.owners(inodes)
        except HostError as error:
            self.unknown(name, "the processes", error)
            return {}
        # Where /proc hides other users' processes altogether (hidepid), none is counted as unreadable.
        hidden = unreadable or (agent.facts is not None and agent.facts.privileged is False)
        if hidden and len(found) < len(inodes):
            self.notes.append((name, "some processes belong to other users and could not be named; as root they could"))
        return found

    def each(self, asked: Mapping[str, T], do: Callable[[str, T], R]) -> list[tuple[str, R]]:
        """Does something for every host at once, by a method of ours or what is made of them; answers as asked.

        Who is not done when the step ends is given up, and `do` says at once what stands for a host that fails.
        """
        self.step()
        futures = {name: self.pool.submit(do, name, what) for name, what in asked.items()}
        missing = late(futures.values(), self.until)
        for name, future in futures.items():
            if future in missing:
                self.drop(name, too_late())
        return [
            (name, do(name, asked[name]) if future in missing else future.result()) for name, future in futures.items()
        ]


def is_foreign() -> bool:
    """Whether the probe cannot run on this machine."""
    return not sys.platform.startswith("linux")


def hosts_of(plans: Iterable[CheckPlan]) -> list[str]:
    """Every host that a check names, once."""
    return list(dict.fromkeys(name for plan in plans for name in (*plan.clients, *plan.servers, *plan.nat)))


def ports_of(name: str, plans: Iterable[CheckPlan]) -> tuple[int, ...]:
    """The ports that a host's dump is limited to: all that its checks name, or none if one of them names none."""
    asked = [plan.ports for plan in plans if name in (*plan.clients, *plan.servers, *plan.nat)]
    if not all(asked):
        return ()
    return tuple(sorted({port for ports in asked for port in ports}))
