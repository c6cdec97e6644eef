"""What to make of an end that is missing where no table says what translates: a pairing, a doubt, or nothing.

A box in between may put an address of its own in the place of the client's (masquerade) or hand on what was dialled
(a published address). Then each end shows a tuple that the other does not have, and two healthy ends look like two
half-open connections. So a missing end is a finding only if nothing that was seen could be it:

* The same client's port in two connections between two hosts that lack an end each is one connection, translated there.
* Where one far address stands in for the client's, with the client's own ports, the ports say which end is whose.
* Else the sockets that could be the missing end are looked at too, and their byte counters tell whether one fits.

None of this is asked where a neighbour shows that nothing translates: a connection from the same address to the same
server's port that has both ends, or, for masquerade, both hosts on one link. Pure; what is inferred is called so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from halfopen import address
from halfopen.judge.pairing.addresses import AddressMap, shares_link
from halfopen.judge.pairing.match import Agreement, EndQuery, Matching, Suspect, elsewhere
from halfopen.judge.verdict.table import THE_TABLE, Accord
from halfopen.model import Namespace, NetnsRef, Snapshot, show_connection
from halfopen.plan import CheckPlan
from halfopen.schema.report import Reason
from halfopen.table import NO_INODE, RETRANSMITS
from halfopen.tcp import State, state_of
from halfopen.words import plural

CANDIDATES = 2000  # sockets that are looked at in place of one missing end
COMPARISONS = 400_000  # of survivors with such sockets; beyond that they are doubted together
PORTS = 28_000  # what a host draws its own ports from (ip_local_port_range)

Endpoint = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """A row of a dump."""

    place: NetnsRef
    key: bytes
    state: State | None
    marks: int
    scope: int
    outside: bool  # its peer lives on no host of the check

    @property
    def peer(self) -> Endpoint:
        """Address and port of its other end, as it knows it."""
        return address.split_key(self.key)[2:]


@dataclass(frozen=True, slots=True)
class Lone:
    """A suspect of which the dumps showed one end."""

    suspect: Suspect
    here: Seen
    client_is_here: bool

    @property
    def client(self) -> Endpoint:
        """Address and port of the client's end."""
        return address.split_key(self.suspect.client.key)[:2]

    @property
    def door(self) -> Endpoint:
        """Address and port of the server's end."""
        return address.split_key(self.suspect.server.key)[:2]


@dataclass
class SavedObservations:
    """Rows by their local endpoint, for the endpoints of the suspects only; for the doors among them the addresses that
    the peers of their sockets have, and those from which they are dialled.
    """

    local: dict[Endpoint, list[Seen]] = field(default_factory=dict)
    arrived: dict[Endpoint, set[bytes]] = field(default_factory=dict)
    dialled: dict[Endpoint, set[bytes]] = field(default_factory=dict)


def infer(plan: CheckPlan, snapshots: Mapping[str, Snapshot], ground: AddressMap, matching: Matching) -> Matching:
    """The matching with what can be inferred, and with its doubts. `ground` is that of the sockets as they are."""
    asked = [one for one in matching.suspects if one.translation is None and not is_loopback(one)]
    if not asked:
        return matching
    seen = sightings(ground, asked)
    lone = [one for suspect in asked for one in lone_ends(suspect, seen)]
    work = Guesses(plan, snapshots, ground, seen, matching)
    work.by_client([one for one in lone if not work.is_direct(one)])
    work.by_target([one for one in lone if not one.client_is_here and not work.is_direct(one)])
    work.by_port([one for one in lone if one.client_is_here and not work.is_direct(one)])
    for one in lone:
        if one.suspect not in work.settled:
            work.doubt(one)
    return work.result()


def is_loopback(suspect: Suspect) -> bool:
    """Whether a connection stays within one namespace."""
    return address.is_loopback(address.split_key(suspect.client.key)[0])


def sightings(ground: AddressMap, suspects: Sequence[Suspect]) -> SavedObservations:
    """One pass over all rows."""
    doors = {address.split_key(one.server.key)[:2] for one in suspects}
    wanted = {pack(end) for end in doors | {address.split_key(one.client.key)[:2] for one in suspects}}
    targets = {pack(end) for end in doors}
    found = SavedObservations()
    outside: dict[tuple[NetnsRef, bytes], bool] = {}
    for place, space in spaces(ground):
        for block in space.table.blocks:
            width = block.width
            for key, state, marks in block.rows():
                if key[:width] + key[-4:-2] in wanted:
                    local, port, peer, _ = address.split_key(key)
                    if (place, peer) not in outside:
                        outside[place, peer] = not ground.homes(place, peer)
                    row = Seen(place, key, state_of(state), marks, block.scope, outside[place, peer])
                    found.local.setdefault((local, port), []).append(row)
                    found.arrived.setdefault((local, port), set()).add(peer)
                if key[width : 2 * width] + key[-2:] in targets:
                    local, _, peer, port = address.split_key(key)
                    found.dialled.setdefault((peer, port), set()).add(local)
    return found


def spaces(ground: AddressMap) -> Iterator[tuple[NetnsRef, Namespace]]:
    """Every namespace of both roles, each once."""
    yield from {**dict(ground.clients.namespaces), **dict(ground.servers.namespaces)}.items()


def pack(end: Endpoint) -> bytes:
    """An endpoint as the bytes that a key has of it."""
    return end[0] + end[1].to_bytes(2, "big")


def lone_ends(suspect: Suspect, seen: SavedObservations) -> Iterator[Lone]:
    """The suspect, if one of its ends was seen and the other was not."""
    ends = []
    for ask in (suspect.client, suspect.server):
        rows = seen.local.get(address.split_key(ask.key)[:2], ())
        ends.append([row for row in rows if row.key == ask.key and row.place in ask.places])
    if bool(ends[0]) != bool(ends[1]):
        yield Lone(suspect, (ends[0] or ends[1])[0], bool(ends[0]))


@dataclass
class Guesses:
    """What is known so far about the suspects with one end."""

    plan: CheckPlan
    snapshots: Mapping[str, Snapshot]
    ground: AddressMap
    seen: SavedObservations
    matching: Matching
    settled: dict[Suspect, Suspect | None] = field(default_factory=dict)  # None: agrees, or went into another
    agreements: Counter[Agreement] = field(default_factory=Counter)
    inside: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    used: set[tuple[NetnsRef, bytes]] = field(default_factory=set)
    compared: int = 0

    def is_direct(self, one: Lone) -> bool:
        """Whether a neighbour of a connection shows that nothing translates between its client and its server."""
        client = one.client[0]
        if one.client_is_here:
            return client in self.seen.arrived.get(one.door, ())
        return client in self.seen.dialled.get(one.door, ())

    def by_client(self, lone: Sequence[Lone]) -> None:
        """Two suspects with the client's port in common, one with each end, on two hosts that may translate.

        A published port or `redirect` changes the target, masquerade of a container the client's address; where the
        entry was forgotten, both ends are there all the same.
        """
        groups: dict[tuple[str, str], list[Lone]] = {}
        for one in lone:
            if self.may_translate(one):
                client, server = (self.host_of(one, role) for role in (True, False))
                groups.setdefault((client, server), []).append(one)
        for members in groups.values():
            sides = [[one for one in members if one.client_is_here is here] for here in (True, False)]
            ports = [Counter(one.client[1] for one in side) for side in sides]
            common = {port for port in ports[0].keys() & ports[1].keys() if ports[0][port] == ports[1][port] == 1}
            if is_chance(len(common), len(sides[0]) * len(sides[1]) / PORTS):
                continue
            near, far = ({one.client[1]: one for one in side} for side in sides)
            for port in sorted(common):
                self.pair(near[port].here, far[port].here, near[port].suspect, far[port].suspect)

    def host_of(self, one: Lone, client: bool) -> str:
        """The host where an end of a suspect is, or would be."""
        if one.client_is_here is client:
            return one.here.place.host
        return (one.suspect.client if client else one.suspect.server).places[0].host

    def may_translate(self, one: Lone) -> bool:
        """Whether something between the two ends may translate: a host that tracks connections, or a box in between."""
        hosts = {self.host_of(one, role) for role in (True, False)}
        tracked = any(space.tracked != 0 for place, space in spaces(self.ground) if place.host in hosts)
        return tracked or not self.on_link(one)

    def by_target(self, lone: Sequence[Lone]) -> None:
        """The client's endpoints lead to one far address that stands in for the server: a published address."""
        groups: dict[tuple[bytes, Endpoint], list[Lone]] = {}
        for one in lone:
            if one.suspect not in self.settled:
                groups.setdefault((one.client[0], one.door), []).append(one)
        for (client, _), members in groups.items():
            fitting: dict[Endpoint, list[tuple[Lone, Seen]]] = {}
            for one in members:
                for row in self.seen.local.get(one.client, ()):
                    if row.outside:
                        fitting.setdefault(row.peer, []).append((one, row))
            if len(fitting) != 1:
                continue
            ((target, matched),) = fitting.items()
            by_chance = len(members) * self.dialling(client, target) / PORTS
            if is_chance(len(matched), by_chance) or len({one.client for one, _ in matched}) != len(matched):
                continue
            for one, row in matched:
                self.pair(row, one.here, one.suspect)

    def dialling(self, client: bytes, target: Endpoint) -> int:
        """How many sockets with an address are connected to a target."""
        return sum(
            key[: len(client)] == client and address.split_key(key)[2:] == target
            for _, space in spaces(self.ground)
            for block in space.table.blocks
            if block.width == len(client)
            for key, _, _ in block.rows()
            if key[-2:] == target[1].to_bytes(2, "big")
        )

    def by_port(self, lone: Sequence[Lone]) -> None:
        """One far address with the client's own ports stands in for the client at a server's door."""
        groups: dict[tuple[bytes, Endpoint], list[Lone]] = {}
        for one in lone:
            if one.suspect not in self.settled and not self.on_link(one):
                groups.setdefault((one.client[0], one.door), []).append(one)
        for (_, door), members in groups.items():
            rows = [row for row in self.seen.local.get(door, ()) if row.outside]
            ports = {one.client[1] for one in members}
            fitting: dict[bytes, list[Seen]] = {}
            for row in rows:
                if row.peer[1] in ports:
                    fitting.setdefault(row.peer[0], []).append(row)
            if len(fitting) != 1:
                continue
            ((stand_in, matched),) = fitting.items()
            theirs = [row for row in rows if row.peer[0] == stand_in]
            by_chance = len(members) * len(theirs) / PORTS
            if is_chance(len(matched), by_chance) or len({row.peer[1] for row in matched}) != len(matched):
                continue
            self.stand_in(stand_in, members, {row.peer[1]: row for row in matched})

    def stand_in(self, stand_in: bytes, members: Sequence[Lone], rows: Mapping[int, Seen]) -> None:
        """Pairs what the ports pair; whoever is left has its end missing under that address."""
        for one in members:
            port = one.client[1]
            if port in rows:
                self.pair(one.here, rows[port], one.suspect)
                continue
            key = address.make_key(*one.door, stand_in, port)
            self.settled[one.suspect] = replace(
                one.suspect,
                server=replace(one.suspect.server, key=key),
                translation=sentence(one.here.key, address.mirror(key)),
                inferred=True,
            )

    def pair(self, client: Seen, server: Seen, *suspects: Suspect) -> None:
        """Two rows that are one connection, as far as can be inferred."""
        for one in suspects:
            self.settled[one] = None
        self.used.add((server.place, server.key))
        for row, others in ((client, self.ground.servers), (server, self.ground.clients)):
            if row.outside and row.place.host in (self.ground.clients.hosts | self.ground.servers.hosts) - others.hosts:
                self.inside[row.place.host, elsewhere(self.ground, row.place, row.key, False)] += 1
        source, _, target, port = address.split_key(client.key)
        seen_as = address.split_key(server.key)
        self.notes[
            f"{address.show(source)} -> {address.endpoint(target, port)} is taken for "
            f"{address.show(seen_as[2])} -> {address.endpoint(seen_as[0], seen_as[1])} on {server.place.host}"
        ] += 1
        states = (client.state, server.state)
        odd = (client.marks | server.marks) & RETRANSMITS or server.marks & NO_INODE
        if not odd and None not in states and THE_TABLE[states] is Accord.AGREE:  # type: ignore[index]
            self.agreements[Agreement(client.place.host, server.place.host, *states)] += 1
            return
        first = suspects[0]
        self.settled[first] = Suspect(
            EndQuery((client.place,), client.key, client.scope),
            EndQuery((server.place,), server.key, server.scope),
            client_first=True,
            translation=sentence(client.key, address.mirror(server.key)),
            inferred=True,
        )

    def doubt(self, one: Lone) -> None:
        """What else the missing end could be."""
        missing = one.suspect.server if one.client_is_here else one.suspect.client
        hidden = [place.host for place in missing.places if is_hidden(self.snapshots[place.host])]
        unread = [name for name in self.plan.nat if not is_read(self.snapshots.get(name))]
        direct = self.is_direct(one)
        if unread and not direct:
            self.settled[one.suspect] = replace(one.suspect, doubt=UNREAD.format(host=unread[0]))
            return
        if hidden and not (direct and one.client_is_here):
            words, reason = (SILENT, None) if sees_all(self.snapshots[hidden[0]]) else HIDDEN
            self.settled[one.suspect] = replace(one.suspect, doubt=words.format(host=hidden[0]), reason=reason)
            return
        if direct or (one.client_is_here and self.on_link(one)):
            return
        rows = self.seen.local.get(one.door if one.client_is_here else one.client, ())
        others = [row for row in rows if row.outside and (row.place, row.key) not in self.used]
        if others:
            words = STAND_IN if one.client_is_here else HANDED_ON
            far = address.show(others[0].peer[0]) if len({row.peer[0] for row in others}) == 1 else "other addresses"
            door = address.endpoint(*(one.door if one.client_is_here else one.client))
            self.compared += len(others)
            few = len(others) <= CANDIDATES and self.compared <= COMPARISONS
            self.settled[one.suspect] = replace(
                one.suspect,
                doubt=words.format(far=far, door=door, host=others[0].place.host),
                standins=tuple(EndQuery((row.place,), row.key, row.scope) for row in others) if few else (),
            )

    def on_link(self, one: Lone) -> bool:
        """Whether client and server share a link, so that nobody stands between them who could masquerade."""
        there = [place for place in one.suspect.server.places if self.near(place, one.client[0])]
        return bool(there) and self.near(one.here.place, one.door[0])

    def near(self, place: NetnsRef, packed: bytes) -> bool:
        """Whether an address is on a link of a namespace."""
        known = dict(spaces(self.ground)).get(place)
        return known is not None and any(shares_link(one.address, one.prefix, packed) for one in known.addresses)

    def result(self) -> Matching:
        """The matching as it is now."""
        suspects = [self.settled.get(one, one) for one in self.matching.suspects]
        external = Counter(dict(self.matching.external))
        external.subtract(self.inside)
        hint = "; name the box that translates under nat to have it proven"
        return replace(
            self.matching,
            agreements=Counter(self.matching.agreements) + self.agreements,
            suspects=tuple(one for one in suspects if one is not None),
            external=+external,
            notes=tuple(f"{plural(count, 'connection')} inferred: {what}{hint}" for what, count in self.notes.items()),
        )


def is_chance(matched: int, expected: float) -> bool:
    """Whether so many equal ports come about by themselves more than once in ten thousand times (Poisson)."""
    return matched <= expected or matched * math.log(expected) - math.lgamma(matched + 1) > math.log(1e-4)


def sentence(client: bytes, arrived: bytes) -> str:
    """How the two tuples correspond, as far as can be inferred."""
    return f"{show_connection(client)}; on the server, as it seems: {show_connection(arrived)}"


def is_hidden(snapshot: Snapshot) -> bool:
    """Whether connections of a host may end in a namespace, or by a translation, that could not be read."""
    whole = sees_all(snapshot)
    return any(
        space.forwards and space.tracked != 0 and (not whole or space.rewrites is None) for space in snapshot.namespaces
    )


def sees_all(snapshot: Snapshot) -> bool:
    """Whether a host was read with the right to look into its namespaces."""
    return snapshot.facts is None or snapshot.facts.sees_namespaces is not False


def is_read(snapshot: Snapshot | None) -> bool:
    """Whether a host that translates has told what."""
    return (
        snapshot is not None
        and bool(snapshot.namespaces)
        and all(space.tracked == 0 or space.rewrites is not None for space in snapshot.namespaces)
    )


UNREAD = (
    "their other end is not there, but {host}, which the check names under nat, did not tell what it translates: "
    "it needs root there (sudo = true)"
)
HIDDEN = (
    "their other end is not on {host}, but {host} forwards packets and may hide it in a container: "
    "to look there needs root (sudo = true)",
    Reason.NAMESPACE_NOT_ENTERED,
)
SILENT = (
    "their other end is not on {host}, but {host} forwards packets and did not tell what it translates: its connection "
    "tracking could not be read, neither by netlink nor in /proc/net/nf_conntrack"
)
STAND_IN = (
    "their other end is not there, but {host} has connections of {far} at {door} that could be theirs behind a box "
    "that translates: name it under nat"
)
HANDED_ON = (
    "their other end is not there, but {host} has a connection from {door} to {far} that could be theirs: "
    "add that address to the server's addresses, or name the box that translates under nat"
)
