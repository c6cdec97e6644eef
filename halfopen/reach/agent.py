"""What the probe of one host is asked, and its answers as values."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from msgspec.structs import replace

from halfopen import probe
from halfopen.evidence.probe import asked, frames, hello, lookups, proc, tables, wire
from halfopen.model import (
    AskQuery,
    Collector,
    HostFacts,
    InterfaceAddress,
    Look,
    Lookup,
    Namespace,
    NetnsRef,
    Observation,
    Process,
    Reply,
    Rewrites,
    RouteQuery,
    Routing,
    Snapshot,
)
from halfopen.reach.channel import Connection
from halfopen.reach.conversation import KernelNumbers
from halfopen.reach.exchange import Exchange, request
from halfopen.reach.tables import look_in
from halfopen.table import CountBlock

if TYPE_CHECKING:
    from halfopen.evidence.text.parsed import ParsedText


class Agent(Exchange):
    """A `Conversation` with the probe of one host; also the questions of `count` and `doctor`."""

    note: str | None = None
    connection: Connection | None = None
    facts: HostFacts | None = None
    addresses: tuple[InterfaceAddress, ...] = ()
    netns: int | None = None
    tracked: int | None = None
    forwards: bool = False
    session: bytes | None = None  # the key of the SSH connection that led here
    involved: frozenset[int] = frozenset()

    def start(self, ports: Sequence[int], wait: bool = False, asking: bool = False) -> None:
        """Sends the probe with the first questions of a check: HELLO and a dump. `asking`: it may be told to `ask`."""
        self.begin(request(wire.DUMP, pack_ports(ports)), wait, probe.ASKING if asking else ())

    def first_look(self, ports: Sequence[int]) -> Snapshot:
        """The answers to the questions that `start` sent."""
        self._greet()
        return self._snapshot(self._read_dump(ports))

    def snapshot(self, ports: Sequence[int]) -> Snapshot:
        """One more dump on the open session."""
        self._ask(wire.DUMP, pack_ports(ports))
        return self._snapshot(self._read_dump(ports))

    def look(self, wanted: Sequence[Lookup]) -> Look:
        """Exact look-ups, answered in order by the kernel itself; where it answers none, out of whole tables."""
        wanted = sorted(wanted, key=lambda lookup: self._inode(lookup.place))  # the probe enters each namespace once
        if self.facts is not None and self.facts.collector is Collector.PROCFS:
            observed: dict[tuple[NetnsRef, bytes], Observation] = {}
            for inode, group in groupby(wanted, key=lambda lookup: self._inode(lookup.place)):
                observed.update(look_in(self.host, list(group), partial(self._table, inode)).sights)
            return Look(self.host, observed)
        packed = (wire.encode_look(lookup.key, lookup.scope, self._inode(lookup.place)) for lookup in wanted)
        self._ask(wire.LOOK, b"".join(packed))
        parts, count = self._answer(wire.LOOK)
        found = lookups.decode_looks(parts, count, [lookup.key for lookup in wanted])
        ends = ((lookup.place, lookup.key) for lookup in wanted)
        return Look(self.host, dict(zip(ends, found, strict=True)))

    def counts(self, ports: Sequence[int]) -> tuple[CountBlock, ...]:
        """Byte counters of all established sockets, by one wider dump."""
        self._ask(wire.COUNT, pack_ports(ports))
        parts, count = self._answer(wire.COUNT)
        return tables.decode_counts(parts, count)

    def evidence(self) -> KernelNumbers:
        """Counters and sysctls of the host's network namespace, now; also of the others that are `involved`.

        Those of another namespace have its inode and a slash before their name; one that is gone is left out.
        """
        self._ask(wire.EVIDENCE, wire.encode_evidence([0, *sorted(self.involved - {0})]))
        parts, count = self._answer(wire.EVIDENCE)
        return proc.decode_evidence(frames.decode_fields(parts, count))

    def involve(self, netns: NetnsRef) -> None:
        """`evidence` is of this namespace too: there is something to explain in it."""
        self.involved |= {self._inode(netns)}

    def translated(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with what the connection tracking of each of its namespaces translates, now."""
        self._ask(wire.TRANSLATIONS)
        parts, count = self._answer(wire.TRANSLATIONS)
        found, refused = lookups.decode_translations(parts, count)
        spaces = tuple(
            replace(space, rewrites=None if netns in refused else found.get(netns, Rewrites()))
            for space in snapshot.namespaces
            for netns in (self._inode(NetnsRef(self.host, space.netns)),)
        )
        return replace(snapshot, namespaces=spaces)

    def routes(self, wanted: Sequence[RouteQuery]) -> dict[NetnsRef, Routing]:
        """Routes and links of the namespaces that are asked for, of those that the probe can enter and ask."""
        from halfopen.evidence.probe.routes import decode_routes, encode_route_query  # where nothing is wrong, not used

        wanted = sorted(wanted, key=lambda query: self._inode(query.place))
        self._ask(wire.ROUTES, b"".join(encode_route_query(query, self._inode(query.place)) for query in wanted))
        parts, count = self._answer(wire.ROUTES)
        return decode_routes(frames.decode_fields(parts, count), wanted)

    def owners(self, inodes: Sequence[int]) -> tuple[dict[int, Process], int]:
        """Inode -> process that holds it, and how many processes could not be read."""
        self._ask(wire.OWNERS, struct.pack(f">{len(inodes)}Q", *inodes))
        parts, count = self._answer(wire.OWNERS)
        return proc.decode_owners(frames.decode_fields(parts, count))

    def ask(self, wanted: Sequence[AskQuery], seconds: float) -> tuple[list[Reply], dict[int, Process]]:
        """Asks through these sockets whether anybody answers, within so many seconds; and who holds them, by inode."""
        self._ask(asked.ASK, asked.encode_question(wanted, seconds))
        parts, count = self._answer(asked.ASK)
        fields = frames.decode_fields(parts, count)
        return asked.decode(fields, len(wanted)), proc.decode_owners(fields)[0]

    def ask_survey(self, verb: int, payload: bytes = b"", wait: bool = False) -> tuple[list[frames.Frame], int]:
        """Instead of `start` and `first_look`: HELLO and one question of the survey, and its answer undecoded."""
        self.begin(request(verb, payload), wait, probe.SURVEY)
        self._greet()
        return self._answer(verb)

    def ask_more(self, verb: int, payload: bytes) -> tuple[list[frames.Frame], int]:
        """One more question of the survey, and its answer undecoded."""
        self._ask(verb, payload)
        return self._answer(verb)

    def close(self) -> None:
        """Ends the probe with its channel."""
        self.channel.close()

    @property
    def own_netns(self) -> NetnsRef:
        """The namespace that the probe runs in."""
        return NetnsRef(self.host, self.netns)

    def _inode(self, netns: NetnsRef) -> int:
        """A namespace as the probe names it: its inode, 0 for the probe's own."""
        return 0 if netns.netns is None or netns.netns == self.netns else netns.netns

    def _greet(self) -> None:
        parts, count = self._answer(wire.HELLO)
        fields = frames.decode_fields(parts, count)
        self.facts, self.addresses, self.netns = hello.decode_hello(fields)
        _, self.tracked, self.forwards = hello.decode_namespace(fields)
        self.session = hello.session_key(frames.text(dict(fields).get("session", b""), wire.NAME_LIMIT))

    def _snapshot(self, namespaces: tuple[Namespace, ...]) -> Snapshot:
        return Snapshot(self.host, self.facts, namespaces, transport=self.transport)

    def _table(self, netns: int) -> ParsedText | None:
        """The sockets of one namespace as /proc shows them, None where it refused, or is gone."""
        self._ask(wire.TABLE, struct.pack(">Q", netns))
        parts, count = self._answer(wire.TABLE)
        return tables.decode_table(parts, count)

    def _read_dump(self, ports: Sequence[int]) -> tuple[Namespace, ...]:
        assert self.facts is not None
        decoder = tables.DumpDecoder(frozenset(ports))
        for frame in self._frames():
            if frame.type in (frames.END, frames.ERROR):
                count = frames.end_of(frame, wire.DUMP)
                own = decoder.end(count, self.netns, self.addresses)
                own = replace(own, tracked=self.tracked, forwards=self.forwards)
                if decoder.refused and self.facts.sees_namespaces:
                    gap = f"{decoder.refused} other network namespaces could not be entered or read"
                    self.facts = replace(self.facts, gaps=(*self.facts.gaps, gap))
                return (own, *decoder.others)
            decoder.add(frame)
        raise AssertionError("frames end with an exception")


def pack_ports(ports: Sequence[int]) -> bytes:
    """The ports of a DUMP request."""
    return struct.pack(f">{len(ports)}H", *ports)
