"""One host of a run: reached once, kept open, and asked by one thread at a time.

A host that fails is a value: an error in its snapshot or its look, or nothing and a note. `HostLink.ask` is the one
place where an error becomes that value.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from halfopen.errors import ErrorCode, HostError
from halfopen.model import (
    AskQuery,
    Look,
    Lookup,
    NetnsRef,
    Observation,
    Process,
    Reply,
    RouteQuery,
    Routing,
    Snapshot,
    Unasked,
)
from halfopen.plan import Host, Inventory
from halfopen.reach.barrier import attempt
from halfopen.reach.channel import Connection
from halfopen.reach.connect import ReachOptions
from halfopen.reach.conversation import Conversation, KernelNumbers
from halfopen.reach.opening import Opened, open_agent, open_shell
from halfopen.table import CountBlock

R = TypeVar("R")

ANSWER_TIME = 3.0  # seconds of a step that are kept for an answer to come back, where the host is told how long it has
QUESTION_LIMIT = 100_000  # exact look-ups of one request

REFUSED = (ErrorCode.UNSUPPORTED, ErrorCode.NEEDS_PRIVILEGE)
"""Errors of a question that cannot be answered; the next one may be."""


class HostLink:
    """One host: how it is reached, the conversation with it, and why there is none.

    `ports`: what its dump is limited to, empty for all. `until`: when the step that is under way ends (seconds of
    time.monotonic()). `agent` is None before it was reached and after it failed, `error` says then why. `connection`
    outlives the conversation. `notes`: what a reader should know of how the host was read. `asking`: a check may
    ask through its connections.
    """

    def __init__(
        self,
        host: Host,
        ports: Sequence[int],
        inventory: Inventory,
        options: ReachOptions,
        opened: Opened,
        asking: bool = False,
    ) -> None:
        self.host, self.ports, self.inventory, self.options, self.opened = host, ports, inventory, options, opened
        self.asking = asking
        self.until = options.deadline
        self.agent: Conversation | None = None
        self.error: HostError | None = None
        self.lost = False  # it has answered before, and failed since
        self.connection: Connection | None = None
        self.notes: list[str] = []

    def ask(self, question: Callable[[Conversation], R]) -> R | HostError:
        """What the open conversation gives until the step ends, or why it gives nothing.

        A host that fails here, whatever its answer does to our code, is asked no more.
        """
        agent = self.agent
        if agent is None:
            assert self.error is not None, f"{self.host.name} was never reached"
            return self.error
        agent.deadline = self.until
        answer = attempt(lambda: question(agent))
        if isinstance(answer, HostError) and answer.code not in REFUSED:
            self.give_up(answer)
        return answer

    def give_up(self, error: HostError) -> None:
        """Ends the conversation with the host, for this reason."""
        self.lost = self.lost or self.agent is not None
        self.error, self.agent = error, None

    def dump(self) -> Snapshot:
        """All sockets now; the host is reached if it is not open."""
        found = self.ask(lambda agent: agent.snapshot(self.ports)) if self.agent else self._reach()
        return self.unread(found) if isinstance(found, HostError) else found

    def dump_again(self, before: Snapshot) -> Snapshot:
        """All sockets now, with the translations that an earlier snapshot has."""
        found = self.ask(lambda agent: agent.snapshot(self.ports))
        if isinstance(found, HostError):
            return self.unread(found)
        known = {space.netns: space.rewrites for space in before.namespaces}
        spaces = tuple(replace(space, rewrites=known.get(space.netns)) for space in found.namespaces)
        return replace(found, namespaces=spaces)

    def unread(self, error: HostError) -> Snapshot:
        """The snapshot of a host that could not be read. It is asked no more."""
        self.give_up(error)
        return Snapshot(self.host.name, None, error=error, transport=self.host.transport)

    def translated(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the translations of the host's connection tracking, or with an error."""
        found = self.ask(lambda agent: agent.translated(snapshot))
        return replace(snapshot, error=found) if isinstance(found, HostError) else found

    def look(self, wanted: Sequence[Lookup]) -> Look:
        """Exact look-ups; an error is a look without observations."""
        found = self.ask(lambda agent: look_ups(agent, wanted))
        return Look(self.host.name, {}, found) if isinstance(found, HostError) else Look(self.host.name, found)

    def byte_counters(self) -> tuple[Mapping[NetnsRef, Sequence[CountBlock]], HostError | None]:
        """A dump with byte counters, and why it failed. A kernel that refuses it gives none, which is no failure."""
        found = self.ask(lambda agent: {agent.own_netns: agent.counts(self.ports)})
        if isinstance(found, HostError):
            return {}, None if found.code in REFUSED else found
        return {netns: blocks for netns, blocks in found.items() if blocks}, None

    def routes(self, wanted: Sequence[RouteQuery]) -> tuple[Mapping[NetnsRef, Routing], HostError | None]:
        """Routes, neighbours and links, and why it failed. A kernel that refuses them gives none: no failure."""
        found = self.ask(lambda agent: agent.routes(wanted))
        if isinstance(found, HostError):
            return {}, None if found.code in REFUSED else found
        return found, None

    def involve(self, netns: NetnsRef) -> None:
        """From now on `kernel_numbers` is of this namespace too."""
        if self.agent is not None:
            self.agent.involve(netns)

    def kernel_numbers(self) -> KernelNumbers | None:
        """Counters and sysctls now, None where the host is not open or fails."""
        if self.agent is None:
            self._unknown("its counters")
            return None
        found = self.ask(lambda agent: agent.evidence())
        if isinstance(found, HostError):
            self._unknown("its counters", found)
            return None
        return found

    def owners(self, inodes: Sequence[int]) -> dict[int, Process]:
        """Inode -> process that holds it, of these sockets."""
        if not inodes:
            return {}
        if self.agent is None:
            self._unknown("the processes")
            return {}
        facts = self.agent.facts
        found = self.ask(lambda agent: agent.owners(inodes))
        if isinstance(found, HostError):
            self._unknown("the processes", found)
            return {}
        processes, unreadable = found
        # Where /proc hides other users' processes altogether (hidepid), none is counted as unreadable.
        hidden = unreadable or (facts is not None and facts.privileged is False)
        if hidden and len(processes) < len(inodes):
            self.notes.append("some processes belong to other users and could not be named; as root they could")
        return processes

    def ask_through(self, wanted: Sequence[AskQuery]) -> tuple[Sequence[Reply], Mapping[int, Process]]:
        """What became of asking these sockets, and who holds them, by inode."""
        seconds = self.until - time.monotonic() - ANSWER_TIME
        found = self.ask(lambda agent: agent.ask(wanted, seconds))
        return ([Reply(Unasked.NO_PROBE)] * len(wanted), {}) if isinstance(found, HostError) else found

    def _unknown(self, what: str, error: HostError | None = None) -> None:
        """Notes what could not be read of a host that has answered; of any other host the error says enough."""
        error = error or (self.error if self.lost else None)
        if error is not None:
            self.notes.append(f"{what} could not be read: {error.message}")

    def _reach(self) -> Snapshot | HostError:
        found = attempt(self._open)
        if isinstance(found, HostError):
            return found
        self.agent, snapshot = found
        self.error = None
        return snapshot

    def _open(self) -> tuple[Conversation, Snapshot]:
        """The first snapshot by the probe, or by what the host's shell has where no Python can run the probe."""
        agent: Conversation
        if self.host.transport == "local" and is_foreign():
            from halfopen.reach.machine import MachineAgent

            agent = MachineAgent(self.host.name)
            return agent, agent.first_look(self.ports)
        try:
            agent = self._start_probe()
            return agent, agent.first_look(self.ports)
        except HostError as error:
            # If the user named an interpreter, its absence is an error; nothing else is tried.
            if error.code is not ErrorCode.NO_INTERPRETER or self.host.python is not None or self.connection is None:
                raise
            missing = error
        try:
            agent = open_shell(self.host, self.connection, self.until, self.opened)
            return agent, agent.first_look(self.ports)
        except HostError as error:
            # Of a login that runs no commands, or only its own, the first error says more.
            raise missing if error.code in (ErrorCode.TRUNCATED, ErrorCode.PROTOCOL_ERROR) else error from None

    def _start_probe(self) -> Conversation:
        """Reaches the host and starts the probe there."""
        agent = open_agent(self.host, self.inventory, replace(self.options, deadline=self.until), self.opened)
        self.connection = agent.connection
        if agent.note:
            self.notes.append(agent.note)
        agent.start(self.ports, wait=self.host.transport == "exec", asking=self.asking)
        return agent


def look_ups(agent: Conversation, wanted: Sequence[Lookup]) -> dict[tuple[NetnsRef, bytes], Observation]:
    """(namespace, key) -> what an exact look-up found, in requests of limited size."""
    observed: dict[tuple[NetnsRef, bytes], Observation] = {}
    for at in range(0, len(wanted), QUESTION_LIMIT):
        observed.update(agent.look(wanted[at : at + QUESTION_LIMIT]).sights)
    return observed


def is_foreign() -> bool:
    """Whether this machine does not run Linux, and the probe cannot run on it."""
    return not sys.platform.startswith("linux")
