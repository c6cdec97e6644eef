"""The hosts of a run, asked all at once: threads, limits, progress, and the time that each step may take.

Nothing here judges, and nothing of the judgement is imported, so that it can be while the hosts answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.environment import Progress
from halfopen.errors import HostError
from halfopen.model import AskQuery, Look, Lookup, NetnsRef, Process, Reply, Snapshot
from halfopen.plan import ASK_LEVELS, CheckPlan, Inventory
from halfopen.reach.barrier import gather
from halfopen.reach.connect import ReachOptions
from halfopen.reach.conversation import KernelNumbers
from halfopen.reach.opening import Threads
from halfopen.run.host_link import HostLink

T = TypeVar("T")
R = TypeVar("R")

BY_PARAMIKO = ("auto", "paramiko")

SHARE = 0.75
"""The part of the remaining time that one step may take, so that a host that hangs leaves time for later steps."""


class Options(Struct, frozen=True):
    """How a run reaches hosts and how long it takes. Durations in seconds."""

    connect_timeout: float = 10.0
    timeout: float = 120.0
    forks: int = 16
    host_keys: str = "strict"
    jump: str | None = None
    transport: str | None = None
    interactive: bool = False


class Fleet(Threads):
    """The hosts of some checks. A context manager: on its way out every connection is closed.

    `say` is called with what is under way, for a terminal; with "" when all is done. `links`: the hosts by name.
    `deadline`: when the run ends, `until`: when the step that is under way ends (seconds of time.monotonic()).
    `own`: keys of the SSH connections that lead to the hosts, which no answer contains.
    """

    def __init__(
        self,
        inventory: Inventory,
        plans: Sequence[CheckPlan],
        options: Options,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(options.forks)
        self.inventory, self.plans, self.say = inventory, plans, say
        self.started_at, self.began = datetime.now(UTC), time.monotonic()
        self.deadline = self.until = self.began + options.timeout
        self.reach = ReachOptions(
            connect_timeout=options.connect_timeout,
            deadline=self.deadline,
            host_keys=options.host_keys,
            jump=options.jump,
            transport=options.transport,
            interactive=options.interactive,
        )
        self.links = {
            name: HostLink(
                inventory.hosts[name], ports_of(name, plans), inventory, self.reach, self.opened, asks(name, plans)
            )
            for name in hosts_of(plans)
        }
        self.own: set[bytes] = set()
        self.reading: dict[str, Future[Snapshot]] = {}

    def __exit__(self, *_: object) -> None:
        self.say("")
        super().__exit__()

    @property
    def ports(self) -> dict[str, tuple[int, ...]]:
        """Host -> the ports that its dump is limited to, empty for all."""
        return {name: tuple(link.ports) for name, link in self.links.items()}

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(host, what a reader should know of how it was read)."""
        return [(name, note) for name, link in self.links.items() for note in link.notes]

    def begin(self) -> None:
        """Starts a dump of every host; those that are not open are reached now. `first_look` waits for it."""
        self.step()
        progress = Progress(self.links, self.say)

        def read(name: str, link: HostLink) -> Snapshot:
            snapshot = link.dump()
            progress.done(name)
            return snapshot

        self.reading = {name: self.pool.submit(read, name, link) for name, link in self.links.items()}
        transports = {link.host.transport for link in self.links.values()}
        if self.reach.transport != "openssh" and not transports.isdisjoint(BY_PARAMIKO):
            from halfopen.reach.library import load_paramiko

            load_paramiko()  # now: an import beside the threads that need it would slow down all of them

    def first_look(self) -> dict[str, Snapshot]:
        """Every host's snapshot."""
        if not self.reading:
            self.begin()
        answers = gather(list(self.reading.values()), self.until)
        found = {
            name: self.links[name].unread(answer) if isinstance(answer, HostError) else answer
            for name, answer in zip(self.reading, answers, strict=True)
        }
        self.reading = {}
        self.own |= self.own_connections(found)
        return {name: self.foreign(snapshot) for name, snapshot in found.items()}

    def wider_dump(self, before: Mapping[str, Snapshot], ports: Mapping[str, Sequence[int]]) -> dict[str, Snapshot]:
        """Another dump of the hosts that are still open, limited to other ports; translations stay as they were.

        The other hosts' snapshots stay as they are.
        """
        for name, wider in ports.items():
            self.links[name].ports = wider
        again = self.each(self.still_open(before), HostLink.dump_again)
        return {**before, **{name: self.foreign(snapshot) for name, snapshot in again.items()}}

    def translated(self, snapshots: Mapping[str, Snapshot]) -> dict[str, Snapshot]:
        """The snapshots with the translations of each host's connection tracking."""
        return self.each(snapshots, HostLink.translated)

    def looks(self, asked: Mapping[str, Sequence[Lookup]]) -> list[Look]:
        """One look at each of these hosts, all at once; also the error of each host that has failed before."""
        lost = {name: () for name, link in self.links.items() if link.error is not None and name not in asked}
        return list(self.each({**asked, **lost}, HostLink.look).values())

    def involve(self, spaces: Iterable[NetnsRef]) -> None:
        """Names to each host those of its network namespaces in which there is something to explain."""
        for netns in spaces:
            self.links[netns.host].involve(netns)

    def counters(self, names: Iterable[str]) -> dict[str, KernelNumbers]:
        """Counters and sysctls of each open host; a host that fails here gives none."""
        found = self.each(dict.fromkeys(names), lambda link, _: link.kernel_numbers())
        return {name: numbers for name, numbers in found.items() if numbers is not None}

    def owners(self, inodes: Mapping[str, Sequence[int]]) -> dict[str, dict[int, Process]]:
        """Host -> the processes that hold these sockets of it, by inode."""
        return self.each(inodes, HostLink.owners)

    def ask_through(
        self, wanted: Mapping[str, Sequence[AskQuery]]
    ) -> dict[str, tuple[Sequence[Reply], Mapping[int, Process]]]:
        """Host -> what became of asking these sockets of it, and who holds them, by inode."""
        return self.each(wanted, HostLink.ask_through)

    def still_open(self, asked: Mapping[str, T]) -> dict[str, T]:
        """Of these hosts, those that were reached and have not failed."""
        return {name: what for name, what in asked.items() if self.links[name].agent is not None}

    def each(self, asked: Mapping[str, T], do: Callable[[HostLink, T], R]) -> dict[str, R]:
        """Begins a step: does something with every host at once, and gives the answers in the order asked.

        A host that is not done when the step ends is given up, and `do` gives at once the value of a host that failed.
        """
        self.step()
        futures = [self.pool.submit(do, self.links[name], what) for name, what in asked.items()]
        answers = gather(futures, self.until)
        found = {}
        for (name, what), answer in zip(asked.items(), answers, strict=True):
            if isinstance(answer, HostError):
                self.links[name].give_up(answer)
                found[name] = do(self.links[name], what)
            else:
                found[name] = answer
        return found

    def step(self) -> None:
        """Begins a step: what the hosts are asked from now on has its share of the time that is left."""
        now = time.monotonic()
        self.until = now + SHARE * (self.deadline - now)
        for link in self.links.values():
            link.until = self.until

    def own_connections(self, snapshots: Mapping[str, Snapshot]) -> set[bytes]:
        """Keys, as either end sees them, of the SSH connections that lead to the hosts: they are not to be reported.

        Each host says which one leads to it; that is believed only if the host has that socket, because addresses of
        this machine may have been translated between. Our own sockets show how it looks here, and on a jump host.
        """
        sessions = {name: link.agent.session for name, link in self.links.items() if link.agent is not None}
        found = {
            session
            for name, session in sessions.items()
            if session and any(space.table.has(session) for space in snapshots[name].namespaces)
        }
        near = any(link.host.transport in ("local", "exec") for link in self.links.values())
        for link in self.links.values():
            if link.connection is not None:
                found.update(link.connection.sockets(near))
        return found | {address.mirror(key) for key in found}

    def foreign(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot without connections of our own."""
        spaces = tuple(replace(space, table=space.table.without(self.own)) for space in snapshot.namespaces)
        return replace(snapshot, namespaces=spaces)


def hosts_of(plans: Iterable[CheckPlan]) -> list[str]:
    """Every host that a check names, once."""
    return list(dict.fromkeys(name for plan in plans for name in (*plan.clients, *plan.servers, *plan.nat)))


def asks(name: str, plans: Iterable[CheckPlan]) -> bool:
    """Whether a check asks through the connections of a host."""
    return any(plan.ask != ASK_LEVELS[0] and name in (*plan.clients, *plan.servers) for plan in plans)


def ports_of(name: str, plans: Iterable[CheckPlan]) -> tuple[int, ...]:
    """The ports that a host's dump is limited to: all that its checks name, or none if one of them names none."""
    asked = [plan.ports for plan in plans if name in (*plan.clients, *plan.servers, *plan.nat)]
    if not all(asked):
        return ()
    return tuple(sorted({port for ports in asked for port in ports}))
