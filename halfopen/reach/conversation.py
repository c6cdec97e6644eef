"""What can be asked of a host that was reached, whichever program answers there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from halfopen.model import (
    AskQuery,
    HostFacts,
    Look,
    Lookup,
    NetnsRef,
    Process,
    Reply,
    RouteQuery,
    Routing,
    Snapshot,
    Unasked,
)
from halfopen.reach.tables import look_in
from halfopen.table import CountBlock

if TYPE_CHECKING:
    from halfopen.evidence.text.parsed import ParsedText

KernelNumbers = tuple[dict[str, int], dict[str, int]]
"""Counters and sysctls of a host, by name."""


class Conversation(Protocol):
    """An open conversation with one host, for one thread at a time. Every method raises HostError and nothing else.

    What an agent has no source for it answers with nothing: an unchanged snapshot, an empty table. `deadline`: until
    when the next questions must be answered (time.monotonic()). `session`: the key of the SSH connection to the host,
    as the host sees it. `facts` is known after the first look.
    """

    host: str
    deadline: float

    @property
    def facts(self) -> HostFacts | None:
        """Who answers."""

    @property
    def session(self) -> bytes | None:
        """The key of the SSH connection, None where there is none or it is not known."""

    @property
    def own_netns(self) -> NetnsRef:
        """The network namespace that the agent runs in."""

    def first_look(self, ports: Sequence[int]) -> Snapshot:
        """Who answers, and a dump, limited to these ports if there are any."""

    def snapshot(self, ports: Sequence[int]) -> Snapshot:
        """One more dump."""

    def look(self, wanted: Sequence[Lookup]) -> Look:
        """Exact look-ups."""

    def translated(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the translations of each namespace's connection tracking; unchanged if none can be read."""

    def routes(self, wanted: Sequence[RouteQuery]) -> Mapping[NetnsRef, Routing]:
        """Routes and links of the namespaces that are asked for; one that cannot tell them is not there."""

    def counts(self, ports: Sequence[int]) -> Sequence[CountBlock]:
        """Byte counters of the established sockets of `own_netns`; empty if none can be read."""

    def involve(self, netns: NetnsRef) -> None:
        """From now on `evidence` is of this namespace too, if the agent can enter it."""

    def evidence(self) -> KernelNumbers:
        """Counters and sysctls now; empty if none can be read."""

    def owners(self, inodes: Sequence[int]) -> tuple[dict[int, Process], int]:
        """Inode -> process that holds it, and how many processes could not be read."""

    def ask(self, wanted: Sequence[AskQuery], seconds: float) -> tuple[list[Reply], dict[int, Process]]:
        """Asks through these sockets whether anybody answers; who holds them, by inode. None is asked without a probe.

        `seconds`: how long it may take. An agent that was not opened for it refuses.
        """

    def close(self) -> None:
        """Ends it. Never raises."""


class TableReader(ABC):
    """What agents share that read whole tables of one namespace, and neither byte counters nor translations."""

    host: str
    netns: int | None = None

    @property
    def own_netns(self) -> NetnsRef:
        """The only namespace that is read."""
        return NetnsRef(self.host, self.netns)

    def look(self, wanted: Sequence[Lookup]) -> Look:
        """The sockets that were asked for, out of one more table, or of two where one is not there."""
        return look_in(self.host, wanted, self._table)

    def translated(self, snapshot: Snapshot) -> Snapshot:
        """Unchanged."""
        return snapshot

    def routes(self, _: Sequence[RouteQuery]) -> Mapping[NetnsRef, Routing]:
        """None."""
        return {}

    def counts(self, _: Sequence[int]) -> Sequence[CountBlock]:
        """None."""
        return ()

    def ask(self, wanted: Sequence[AskQuery], _: float) -> tuple[list[Reply], dict[int, Process]]:
        """Nobody."""
        return [Reply(Unasked.NO_PROBE)] * len(wanted), {}

    def involve(self, _: NetnsRef) -> None:
        """Nothing: there is one namespace, whose counters are read anyway."""
        return

    @abstractmethod
    def _table(self) -> ParsedText:
        """The sockets, now."""
