"""What to make of an end that is missing where no table says what translates: a pairing, or nothing.

A gateway may replace the client's address by one of its own (masquerade) or the server's (a published address). Then
each end shows a tuple that the other does not have, and two healthy ends look like two half-open connections. So a
missing end is a finding only if nothing that was seen could be it. Here such ends are paired:

* The same client's port in two connections between two hosts that lack an end each is one connection, translated there.
* Where one far address stands in for the client's, with the client's own ports, the ports say which end is whose.

That another connection between the same hosts has both its ends says nothing of these: what translates may have begun
in between, or for some sources only. What is inferred is marked so. An end that stays alone may be in doubt all the
same: see `doubt`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from msgspec import Struct, field
from msgspec.structs import replace

from halfopen import address
from halfopen.matching.missing.lone_end import Endpoint, EndpointRow, LoneEnd, RowIndex, index_rows, lone_ends
from halfopen.matching.pairing.connection import Agreement, EndQuery, Suspect
from halfopen.matching.pairing.match import Matching
from halfopen.matching.pairing.records import external_peer
from halfopen.matching.places.addresses import AddressMap
from halfopen.matching.verdict.table import THE_TABLE, Accord
from halfopen.model import Namespace, NetnsRef, show_connection
from halfopen.table import NO_INODE, RETRANSMITS
from halfopen.words import plural

PORTS = 28_000  # ports that a host gives to its clients (default of ip_local_port_range)
CHANCE = 1e-4  # the probability beyond which equal ports prove nothing


class Inferred(Struct, frozen=True):
    """A matching with what can be inferred, and the ends of it that stay alone.

    index: the rows at the endpoints of its suspects. used: (namespace, key) of server's ends that were paired.
    """

    matching: Matching
    lones: Sequence[LoneEnd]
    index: RowIndex
    used: AbstractSet[tuple[NetnsRef, bytes]]


def infer(addresses: AddressMap, matching: Matching) -> Inferred:
    """The matching with what can be inferred. `addresses`: those of untranslated sockets."""
    asked = [suspect for suspect in matching.suspects if suspect.translation is None and not is_loopback(suspect)]
    if not asked:
        return Inferred(matching, (), RowIndex(), frozenset())
    index = index_rows(addresses, asked)
    lones = [lone for suspect in asked for lone in lone_ends(suspect, index)]
    guesses = Guesses(addresses, addresses.namespaces(), index, matching)
    guesses.by_client(lones)
    guesses.by_target([lone for lone in lones if not lone.is_client])
    guesses.by_port([lone for lone in lones if lone.is_client])
    alone = [lone for lone in lones if lone.suspect not in guesses.settled]
    return Inferred(guesses.result(), alone, index, guesses.used)


def is_loopback(suspect: Suspect) -> bool:
    """Whether a connection stays within one namespace."""
    return address.is_loopback(address.split_key(suspect.client.key)[0])


class Guesses(Struct):
    """What is inferred so far about the lone ends of one check.

    settled: suspect -> what it has become; None if its ends agree, or if it is part of another suspect.
    agreements: connections to add. inside: (host, peer) -> sockets that no longer count as external.
    notes: how two tuples correspond -> connections. used: (namespace, key) of server's ends that were paired.
    """

    addresses: AddressMap
    namespaces: Mapping[NetnsRef, Namespace]
    index: RowIndex
    matching: Matching
    settled: dict[Suspect, Suspect | None] = {}
    agreements: Counter[Agreement] = field(default_factory=Counter)
    inside: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    used: set[tuple[NetnsRef, bytes]] = set()

    def by_client(self, lones: Sequence[LoneEnd]) -> None:
        """Pairs two suspects with the client's port in common, one with each end, on two hosts that may translate.

        A published port or `redirect` changes the target, masquerade of a container the client's address; where the
        entry was forgotten, both ends are there all the same.
        """
        groups: dict[tuple[str, str], list[LoneEnd]] = {}
        for lone in lones:
            if self.may_translate(lone):
                groups.setdefault((lone.host_of(client=True), lone.host_of(client=False)), []).append(lone)
        for members in groups.values():
            sides = [[lone for lone in members if lone.is_client is client] for client in (True, False)]
            ports = [Counter(lone.client[1] for lone in side) for side in sides]
            common = {port for port in ports[0].keys() & ports[1].keys() if ports[0][port] == ports[1][port] == 1}
            if is_chance(len(common), len(sides[0]) * len(sides[1]) / PORTS):
                continue
            near, far = ({lone.client[1]: lone for lone in side} for side in sides)
            for port in sorted(common):
                self.pair(near[port].row, far[port].row, near[port].suspect, far[port].suspect)

    def may_translate(self, lone: LoneEnd) -> bool:
        """Whether something between the two ends may translate: a host that tracks connections, or a gateway."""
        hosts = {lone.host_of(client) for client in (True, False)}
        tracked = any(namespace.tracked != 0 for netns, namespace in self.namespaces.items() if netns.host in hosts)
        return tracked or not lone.is_on_link(self.namespaces)

    def by_target(self, lones: Sequence[LoneEnd]) -> None:
        """Pairs server's ends with sockets at the clients' endpoints, if these lead to one far, published address."""
        for (client, _), members in self.by_client_and_server(lones).items():
            fitting: dict[Endpoint, list[tuple[LoneEnd, EndpointRow]]] = {}
            for lone in members:
                for row in self.index.local.get(lone.client, ()):
                    if row.outside:
                        fitting.setdefault(row.peer, []).append((lone, row))
            if len(fitting) != 1:
                continue
            ((target, matched),) = fitting.items()
            by_chance = len(members) * self.connected_to(target, client) / PORTS
            if is_chance(len(matched), by_chance) or len({lone.client for lone, _ in matched}) != len(matched):
                continue
            for lone, row in matched:
                self.pair(row, lone.row, lone.suspect)

    def by_client_and_server(self, lones: Sequence[LoneEnd]) -> dict[tuple[bytes, Endpoint], list[LoneEnd]]:
        """Those that are not settled yet, by (client's address, server's endpoint)."""
        groups: dict[tuple[bytes, Endpoint], list[LoneEnd]] = {}
        for lone in lones:
            if lone.suspect not in self.settled:
                groups.setdefault((lone.client[0], lone.server), []).append(lone)
        return groups

    def connected_to(self, target: Endpoint, client: bytes) -> int:
        """How many sockets with a client's address are connected to a target."""
        return sum(
            key[: len(client)] == client and address.split_key(key)[2:] == target
            for namespace in self.namespaces.values()
            for block in namespace.table.blocks
            if block.width == len(client)
            for key, _, _ in block.rows()
            if key[-2:] == target[1].to_bytes(2, "big")
        )

    def by_port(self, lones: Sequence[LoneEnd]) -> None:
        """Pairs client's ends with sockets at the server's endpoint, if one far address has their ports."""
        apart = [lone for lone in lones if not lone.is_on_link(self.namespaces)]
        for (_, server), members in self.by_client_and_server(apart).items():
            rows = [row for row in self.index.local.get(server, ()) if row.outside]
            ports = {lone.client[1] for lone in members}
            fitting: dict[bytes, list[EndpointRow]] = {}
            for row in rows:
                if row.peer[1] in ports:
                    fitting.setdefault(row.peer[0], []).append(row)
            if len(fitting) != 1:
                continue
            ((far, matched),) = fitting.items()
            by_chance = len(members) * sum(row.peer[0] == far for row in rows) / PORTS
            if is_chance(len(matched), by_chance) or len({row.peer[1] for row in matched}) != len(matched):
                continue
            self.replace_client(far, members, {row.peer[1]: row for row in matched})

    def replace_client(self, far: bytes, members: Sequence[LoneEnd], rows: Mapping[int, EndpointRow]) -> None:
        """Pairs ends by client's port; where the server has no such row, its end is missing under the address `far`."""
        for lone in members:
            port = lone.client[1]
            if port in rows:
                self.pair(lone.row, rows[port], lone.suspect)
                continue
            key = address.make_key(*lone.server, far, port)
            self.settled[lone.suspect] = replace(
                lone.suspect,
                server=replace(lone.suspect.server, key=key),
                translation=correspondence(lone.row.key, address.mirror(key)),
                inferred=True,
            )

    def pair(self, client: EndpointRow, server: EndpointRow, *suspects: Suspect) -> None:
        """Takes two rows for the ends of one connection, and settles the suspects that had them as lone ends."""
        for suspect in suspects:
            self.settled[suspect] = None
        self.used.add((server.place, server.key))
        compared = self.addresses.clients.hosts | self.addresses.servers.hosts
        for row, others in ((client, self.addresses.servers), (server, self.addresses.clients)):
            if row.outside and row.place.host in compared - others.hosts:
                self.inside[row.place.host, external_peer(self.addresses, row.place, row.key)] += 1
        source, _, target, port = address.split_key(client.key)
        seen_as = address.split_key(server.key)
        self.notes[
            f"{address.show(source)} -> {address.endpoint(target, port)} is taken for "
            f"{address.show(seen_as[2])} -> {address.endpoint(seen_as[0], seen_as[1])} on {server.place.host}"
        ] += 1
        odd = (client.marks | server.marks) & RETRANSMITS or server.marks & NO_INODE
        states = (client.state, server.state)
        if not odd and None not in states and THE_TABLE[states] is Accord.AGREE:  # type: ignore[index]
            self.agreements[Agreement(client.place.host, server.place.host, *states)] += 1
            return
        self.settled[suspects[0]] = Suspect(
            EndQuery((client.place,), client.key, client.scope),
            EndQuery((server.place,), server.key, server.scope),
            client_first=True,
            translation=correspondence(client.key, address.mirror(server.key)),
            inferred=True,
        )

    def result(self) -> Matching:
        """The matching with all that was inferred."""
        suspects = [self.settled.get(suspect, suspect) for suspect in self.matching.suspects]
        external = Counter(dict(self.matching.external))
        external.subtract(self.inside)
        hint = "; name the box that translates under nat to have it proven"
        inferred = tuple(f"{plural(count, 'connection')} inferred: {what}{hint}" for what, count in self.notes.items())
        return replace(
            self.matching,
            agreements=Counter(self.matching.agreements) + self.agreements,
            suspects=tuple(suspect for suspect in suspects if suspect is not None),
            external=+external,
            notes=(*self.matching.notes, *inferred),
        )


def is_chance(matched: int, expected: float) -> bool:
    """Whether so many equal ports come about by chance with a probability above CHANCE (Poisson).

    matched: how many are equal. expected: how many would be, on average, if ports were random.
    """
    return matched <= expected or matched * math.log(expected) - math.lgamma(matched + 1) > math.log(CHANCE)


def correspondence(client: bytes, arrived: bytes) -> str:
    """How the client's key and the mirrored key of the server's end correspond, as far as can be inferred."""
    return f"{show_connection(client)}; on the server, as it seems: {show_connection(arrived)}"
