"""The questions of an inquiry, and what answers them.

A question knows the type of its answer. What answers (open hosts, a saved run, pasted text, simulated hosts in a test)
is an `Answerer`; a host that fails is a value in its answer.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from enum import IntEnum
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct, field

from halfopen.errors import HostError
from halfopen.judge.confirm.byte_counters import CountQuery, Counts
from halfopen.model import AskQuery, Look, Lookup, NetnsRef, Process, Reply, RouteQuery, Routing, Snapshot

T = TypeVar("T")
Snapshots = Mapping[str, Snapshot]


class KernelState(Struct, frozen=True):
    """Counters of /proc/net/{netstat,snmp} and sysctls of one host at one moment, by name (see `HostEvidence`)."""

    counters: Mapping[str, int] = {}
    sysctls: Mapping[str, int] = {}


class Explanation(Struct, frozen=True):
    """One host after the looks. `holders` and `owners` as in `HostEvidence`."""

    kernel: KernelState | None = None
    owners: Mapping[int, Process] = {}
    holders: Mapping[bytes, Process] = {}


class Answerer(Protocol):
    """What answers the questions of an inquiry. A host that fails is a value in the answer, never an exception."""

    def dump(self, question: Dump) -> Snapshots: ...
    def translations(self, question: Translations) -> Snapshots: ...
    def baseline(self, question: Baseline) -> Mapping[str, KernelState]: ...
    def byte_counts(self, question: ByteCounts) -> Mapping[str, tuple[Counts, HostError | None]]: ...
    def pause(self, question: Pause) -> float | None: ...
    def look(self, question: LookUp) -> Sequence[Look]: ...
    def ask(self, question: Ask) -> Mapping[str, tuple[Sequence[Reply], Mapping[int, Process]]]: ...
    def routes(self, question: Routes) -> Mapping[str, tuple[Mapping[NetnsRef, Routing], HostError | None]]: ...
    def explain(self, question: Explain) -> Mapping[str, Explanation]: ...


class Question(Struct, Generic[T], frozen=True):
    """A question whose answer is a T."""

    def put(self, answerer: Answerer) -> T:
        """Calls the method of the answerer for this question, and returns its answer."""
        raise NotImplementedError


class Dump(Question[Snapshots], frozen=True):
    """Every socket of these hosts. `ports`: host -> what its dump is limited to, on either side; empty for all.

    `known`: what was read of a host before, so that what translates there need not be read again.
    """

    ports: Mapping[str, tuple[int, ...]]
    known: Snapshots = field(default_factory=dict)

    def put(self, answerer: Answerer) -> Snapshots:
        return answerer.dump(self)


class Translations(Question[Snapshots], frozen=True):
    """The same snapshots with what the connection tracking of each namespace translates (`Namespace.rewrites`)."""

    snapshots: Snapshots

    def put(self, answerer: Answerer) -> Snapshots:
        return answerer.translations(self)


class Baseline(Question[Mapping[str, KernelState]], frozen=True):
    """Kernel counters and sysctls of these hosts before the looks; `places`: the namespaces with a suspect end."""

    hosts: tuple[str, ...]
    places: frozenset[NetnsRef]

    def put(self, answerer: Answerer) -> Mapping[str, KernelState]:
        return answerer.baseline(self)


class ByteCounts(Question[Mapping[str, tuple[Counts, HostError | None]]], frozen=True):
    """Byte counters of established pairs, host by host. A host without counters is not in the answer.

    asks: host -> what it is asked for. ports: host -> what its dump is limited to; empty for all.
    """

    asks: Mapping[str, CountQuery]
    ports: Mapping[str, tuple[int, ...]]

    def put(self, answerer: Answerer) -> Mapping[str, tuple[Counts, HostError | None]]:
        return answerer.byte_counts(self)


class Pause(Question[float | None], frozen=True):
    """Seconds to wait before round `number` (from 0), with so many suspects left.

    The answer: seconds that have passed since the round before; None if there is no later moment.
    """

    seconds: float
    suspects: int
    number: int

    def put(self, answerer: Answerer) -> float | None:
        return answerer.pause(self)


class Position(IntEnum):
    """Which look of a round it is: the first ends, the second ends, the first ends again."""

    BEFORE = 0
    BETWEEN = 1
    AFTER = 2


class LookUp(Question[Sequence[Look]], frozen=True):
    """Exact look-ups, host by host, all hosts at once. `number`: the round, from 0; SIFT before all of them."""

    number: int
    position: Position
    wanted: Mapping[str, Sequence[Lookup]]

    def put(self, answerer: Answerer) -> Sequence[Look]:
        return answerer.look(self)


class Routes(Question[Mapping[str, tuple[Mapping[NetnsRef, Routing], HostError | None]]], frozen=True):
    """Routes, neighbours and links, host by host. A host that cannot tell them is not in the answer."""

    wanted: Mapping[str, Sequence[RouteQuery]]

    def put(self, answerer: Answerer) -> Mapping[str, tuple[Mapping[NetnsRef, Routing], HostError | None]]:
        return answerer.routes(self)


class Ask(Question[Mapping[str, tuple[Sequence[Reply], Mapping[int, Process]]]], frozen=True):
    """Asking these sockets, host by host, by keepalive probes whether anybody answers: all that ever changes anything.

    The answer: host -> replies in the order asked, and the processes that hold them, by inode.
    """

    wanted: Mapping[str, Sequence[AskQuery]]

    def put(self, answerer: Answerer) -> Mapping[str, tuple[Sequence[Reply], Mapping[int, Process]]]:
        return answerer.ask(self)


class Explain(Question[Mapping[str, Explanation]], frozen=True):
    """Kernel counters after the looks, and the processes that hold these inodes, host by host.

    inodes: host -> socket inodes, empty if only its counters are wanted. places: as in `Baseline`.
    """

    inodes: Mapping[str, tuple[int, ...]]
    places: frozenset[NetnsRef]

    def put(self, answerer: Answerer) -> Mapping[str, Explanation]:
        return answerer.explain(self)


Asking = Generator[Question[Any], Any, T]
"""Yields questions, is sent their answers, and returns a T."""


def put(question: Question[T]) -> Asking[T]:
    """Yields one question, and returns the answer that was sent, with the type that this question promises."""
    answer: T = yield question
    return answer


SIFT = -1
"""The look that comes before the rounds: which suspects were but opened or closed between two dumps."""
