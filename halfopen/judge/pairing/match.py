"""Snapshots -> connections with one or two ends, and among them the suspects.

A pair of hosts and a fleet are the same code: rows of the hosts of one role, as they see the connection, against the
mirrored rows of the other role. Rows that agree and have nothing odd about them vanish in one set difference, so that
the price of a hundred thousand healthy connections is building two sets.

A dump is no instant and two dumps are two of them, so nothing here is a finding: a suspect is a question for `rounds`.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from operator import itemgetter
from typing import NamedTuple

from halfopen import address
from halfopen.judge.pairing.addresses import AddressMap
from halfopen.judge.verdict.table import THE_TABLE, Accord, Answer, Seen
from halfopen.model import Absence, Namespace, NetnsRef
from halfopen.schema.report import Reason
from halfopen.table import NO_INODE, RETRANSMITS, TIMER_MASK, Block
from halfopen.tcp import State, number_of, state_of


class Agreement(NamedTuple):
    """Where the two ends of a connection are that agree, and their states: None for no socket."""

    client_host: str
    server_host: str
    client: State | None
    server: State | None


@dataclass(frozen=True, slots=True)
class EndQuery:
    """One end of a suspect: where it is or would be, its key there, and the interface it is bound to if known."""

    places: tuple[NetnsRef, ...]
    key: bytes
    scope: int = 0


@dataclass(frozen=True, slots=True)
class Suspect:
    """A connection whose two ends looked different, or odd, in the dumps. `client_first`: the order of the looks.

    `agreed`: the states of the two ends where these agree, and something else is odd about it.
    `translation` says how the keys of the ends correspond where they differ; `ambiguous` that more than one way of it
    fits, `inferred` that no table says so. `doubt` says why an end that is not there may be somewhere all the same:
    if one of `standins` fits it, or always if there are none; `reason` is its word for the report, if it has one.
    """

    client: EndQuery
    server: EndQuery
    client_first: bool
    agreed: tuple[State | None, State | None] | None = None
    translation: str | None = None
    ambiguous: bool = False
    inferred: bool = False
    doubt: str | None = None
    reason: Reason | None = None
    standins: tuple[EndQuery, ...] = ()


@dataclass(frozen=True, slots=True)
class Matching:
    """What one look at all hosts of a check shows.

    agreements: how many connections agree, by what they have in common. A suspect that `agreed` is among them, until it
    is a finding.
    external: (host, peer) -> sockets that lead to no host of the check.
    unjudged: connections with an end on a host that could not be read.
    established: keys, as the client role sees them, of connections that are established at both ends and not suspect;
    left empty where they are more than were asked for, and then `uncounted` is their number.
    notes: what a reader should know about how this was compared, and what was inferred.
    gone: hosts of whose containers one seems to be gone.
    """

    agreements: Mapping[Agreement, int]
    suspects: tuple[Suspect, ...]
    external: Mapping[tuple[str, str], int]
    unjudged: int
    established: frozenset[bytes] = frozenset()
    uncounted: int = 0
    notes: tuple[str, ...] = ()
    gone: frozenset[str] = frozenset()

    @property
    def agreeing(self) -> Mapping[tuple[State | None, State | None], int]:
        """(client's state, server's state) -> connections where the ends agree, whatever their hosts."""
        found: Counter[tuple[State | None, State | None]] = Counter()
        for one, count in self.agreements.items():
            found[one.client, one.server] += count
        return found


def match(ground: AddressMap, most: int | None = 0) -> Matching:
    """The join. One end's rows as they are, the other's mirrored; what is left over is looked at one by one.

    `most`: name the established pairs if there are no more than this; None: however many.
    """
    external: Counter[tuple[str, str]] = Counter()
    near, far = Ends(), Ends()
    for side, others, ends, mirrored in (
        (ground.clients, ground.servers.hosts, near, False),
        (ground.servers, ground.clients.hosts, far, True),
    ):
        for place, namespace in side.namespaces:
            for block in namespace.table.blocks:
                ends.add(place.host, records(ground, place, namespace, block, others, external, mirrored))
    same = near.records & far.records
    repeated = near.repeated | far.repeated
    left = {record[:-2] for record in near.records ^ far.records} | repeated
    # A dump may give a socket twice as it moves: what agrees in one of its states is not left over, unless it may be
    # two sockets, since two hosts have its address.
    left -= {
        key
        for key in left - repeated
        if any(key + plain in same for plain in PLAIN) and ground.shared.keys().isdisjoint(address.split_key(key))
    }
    if repeated:
        same = {record for record in same if record[:-2] not in repeated}  # `resolve` counts them
    if ground.clients.hosts & ground.servers.hosts:
        same = {record for record in same if not seen_from_both_ends(record, same)}
    agreements = agreed(ground, near, far, same)
    suspects, unjudged, late = [], 0, set()
    for connection in resolve(ground, left):
        answer = connection.answer
        if answer is Accord.UNJUDGED:
            unjudged += 1
        elif answer is not Accord.AGREE:
            suspects.append(connection.suspect)
        else:
            agreements[connection.agreement] += 1
            if connection.odd:
                suspects.append(replace(connection.suspect, agreed=connection.states))
            elif connection.states == BOTH_ESTABLISHED:
                key = connection.suspect.client.key
                late.add(key if key in left else address.mirror(key))
    pairs = sum(count for one, count in agreements.items() if one[2:] == BOTH_ESTABLISHED) - sum(
        one.agreed == BOTH_ESTABLISHED for one in suspects
    )
    if most is not None and pairs > most:
        return Matching(+agreements, tuple(suspects), external, unjudged, uncounted=pairs)
    established = {record[:-2] for record in same if record[-2] == number_of(State.ESTABLISHED)} | late
    return Matching(+agreements, tuple(suspects), external, unjudged, frozenset(established))


@dataclass
class Ends:
    """The rows of one role as records of key, state and oddity, and by host. A key in two places is `repeated`."""

    records: set[bytes] = field(default_factory=set)
    repeated: set[bytes] = field(default_factory=set)
    by_host: dict[str, set[bytes]] = field(default_factory=dict)

    def add(self, host: str, found: set[bytes]) -> None:
        if self.records and not self.records.isdisjoint(found):
            self.repeated |= {record[:-2] for record in self.records & found}
        self.records |= found
        self.by_host[host] = self.by_host[host] | found if host in self.by_host else found


def agreed(ground: AddressMap, near: Ends, far: Ends, same: set[bytes]) -> Counter[Agreement]:
    """Records that both sides have alike -> how many connections there are between which hosts, and in which states."""
    found: Counter[Agreement] = Counter()
    for here, there, records in between(ground, near, far, same):
        against = served_here(ground, here, there, records)
        for one, two, some in (here, there, records - against if against else records), (there, here, against):
            for number, count in Counter(map(itemgetter(-2), some)).items():
                found[Agreement(one, two, state_of(number), state_of(number))] += count
    return found


def served_here(ground: AddressMap, here: str, there: str, records: set[bytes]) -> set[bytes]:
    """Those of the records whose local end is the server's. Where all ports are plain that costs two passes."""
    doors = [doors_of(ground, host) for host in (here, there)]
    if doors[0].isdisjoint(map(LOCAL_PORT, records)) and doors[1].issuperset(map(PEER_PORT, records)):
        return set()
    spaces = {**dict(ground.clients.namespaces), **dict(ground.servers.namespaces)}
    places = [[place for place in spaces if place.host == host] for host in (here, there)]

    @cache
    def is_server(local: bytes, peer: bytes) -> bool:
        ports = int.from_bytes(local, "big"), int.from_bytes(peer, "big")
        return server_is_first(ground, ports, places[0], None, places[1], None)

    found = set()
    for record in records:
        local, peer = record[-6:-4], record[-4:-2]
        at_door = local in doors[0], peer in doors[1]
        # Beside a port that tells, the other one is any: so there are few pairs to ask for.
        if at_door[0] != at_door[1]:
            local, peer = (local, ANY_PORT) if at_door[0] else (ANY_PORT, peer)
        if is_server(local, peer):
            found.add(record)
    return found


def between(ground: AddressMap, near: Ends, far: Ends, same: set[bytes]) -> Iterator[tuple[str, str, set[bytes]]]:
    """The records that both sides have, by the hosts of their two ends: that of the client role, that of the other."""
    for here, records in near.by_host.items():
        mine = same if len(near.by_host) == 1 else same & records
        if len(far.by_host) == 1:
            yield from ((here, there, mine) for there in far.by_host)
            continue
        by_peer: dict[bytes, set[bytes]] = {}
        for record in mine:
            half = len(record) // 2 - 3  # of the two addresses; ports, state and oddity are 6 bytes
            by_peer.setdefault(record[half : 2 * half], set()).add(record)
        for peer, some in by_peer.items():
            hosts = {place.host for place in ground.owners.get(peer, ())} or {here}  # loopback has no owner
            for there in sorted(hosts & far.by_host.keys()):
                if part := some if len(hosts) == 1 else some & far.by_host[there]:
                    yield here, there, part


def doors_of(ground: AddressMap, host: str) -> frozenset[bytes]:
    """The ports that make a host the server of a connection: those of the check, and where it listens."""
    ports = ground.ports | {port for place, port in ground.listening if place.host == host}
    return frozenset(port.to_bytes(2, "big") for port in ports)


def records(
    ground: AddressMap,
    place: NetnsRef,
    namespace: Namespace,
    block: Block,
    others: frozenset[str],
    external: Counter[tuple[str, str]],
    mirrored: bool,
) -> set[bytes]:
    """The rows of a block that the check is about, as records. Counts the connections that lead elsewhere.

    TIME_WAIT alone is none: it is what a connection leaves behind.
    """
    peers, locals_ = block.peers(), block.locals()
    inside, outside = set(), set()
    for peer in peers:
        places = ground.homes(place, peer)
        if any(one.host in others for one in places):
            inside.add(peer)
        elif not places:
            outside.add(peer)
    width, size = block.width, 2 * block.width + 6
    own = {one for one in locals_ if place in ground.homes(place, one)}
    rows = block.oddities(FAR_ODD if mirrored else NEAR_ODD).packed(mirrored)
    shared = own & ground.shared.keys()
    every = [record for (record,) in struct.iter_unpack(f"{size}s", rows)]
    first = width if mirrored else 0
    straight = not shared and namespace.covered_ports == ground.ports
    # Most rows are about the check or none is, so that only what is not is looked at one by one.
    found = set(every) if straight else set()
    for record in [every[row] for row in block.having(locals_ - own, peers - inside)] if straight else every:
        found.discard(record)
        local, peer = record[first : first + width], record[width - first : 2 * width - first]
        if ground.ports and not ports_of(record[: 2 * width + 4]) & ground.ports:
            continue
        if peer in inside and local in own and (local not in shared or ground.is_mutual(place, local, peer)):
            found.add(record)
        elif (peer in outside or peer in inside) and record[-2] != TIME_WAIT:
            external[place.host, elsewhere(ground, place, record[: 2 * width + 4], mirrored)] += 1
    return found


def ports_of(key: bytes) -> frozenset[int]:
    """Both ports of a key."""
    return frozenset((int.from_bytes(key[-4:-2], "big"), int.from_bytes(key[-2:], "big")))


def elsewhere(ground: AddressMap, place: NetnsRef, key: bytes, mirrored: bool) -> str:
    """How the report names the peer of a socket that leads elsewhere: with its port where that is the known one."""
    _, local_port, peer, peer_port = address.split_key(address.mirror(key) if mirrored else key)
    if (place, local_port) in ground.listening:
        return address.show(peer)
    return address.endpoint(peer, peer_port)


def seen_from_both_ends(record: bytes, same: set[bytes]) -> bool:
    """Whether a connection between hosts that have both roles stands there once more, as its other end sees it."""
    other = address.mirror(record[:-2])
    return record[:-2] > other and other + record[-2:] in same


@dataclass(frozen=True, slots=True)
class SeenRow:
    """Where a key was seen, and as what."""

    place: NetnsRef
    scope: int
    state: Seen
    marks: int


@dataclass(frozen=True, slots=True)
class Pairing:
    """One connection of which the rows did not simply agree."""

    suspect: Suspect
    states: tuple[State | None, State | None]
    answer: Answer
    odd: bool

    @property
    def agreement(self) -> Agreement:
        """Where it is, and in which states, if the ends agree."""
        return agreement_of(self.suspect, self.states)


def agreement_of(suspect: Suspect, states: tuple[State | None, State | None]) -> Agreement:
    """The ends of a suspect as ends that agree."""
    return Agreement(suspect.client.places[0].host, suspect.server.places[0].host, *states)


def resolve(ground: AddressMap, left: set[bytes]) -> Iterator[Pairing]:
    """Keys (as the client role sees them) that did not cancel -> connections, each once, the client's end first."""
    if not left:
        return
    wanted = left | {address.mirror(key) for key in left}
    index: dict[bytes, list[SeenRow]] = {}
    for place, namespace in {**dict(ground.clients.namespaces), **dict(ground.servers.namespaces)}.items():
        for block in namespace.table.blocks:
            for key, state, marks in block.rows():
                if key in wanted and place in ground.homes(place, address.split_key(key)[0]):
                    seen = state_of(state)
                    index.setdefault(key, []).append(SeenRow(place, block.scope, seen or Absence.UNSEEN, marks))
    done: set[bytes] = set()
    for key in sorted(left):
        other = address.mirror(key)
        if min(key, other) in done or key == other:
            continue
        done.add(min(key, other))
        yield from pairings(ground, key, index.get(key, []), index.get(other, []))


def pairings(ground: AddressMap, key: bytes, near: Sequence[SeenRow], far: Sequence[SeenRow]) -> Iterator[Pairing]:
    """The connections that one tuple stands for: one, or one on each host where the tuple is local to a host."""
    local, _, peer, _ = address.split_key(key)
    if address.is_loopback(local) and local not in ground.owners and peer not in ground.owners:
        for place in dict.fromkeys(row.place for row in (*near, *far)):
            here = [row for row in near if row.place == place], [row for row in far if row.place == place]
            yield pairing(ground, key, *here)
    else:
        for one, two in apart(near, far):
            yield pairing(ground, key, one, two)


def apart(near: Sequence[SeenRow], far: Sequence[SeenRow]) -> Iterator[tuple[list[SeenRow], list[SeenRow]]]:
    """Where one tuple is in many namespaces (private networks overlap), the two ends on one host are a connection."""
    hosts = []
    if len({row.place for row in near}) > 1 or len({row.place for row in far}) > 1:
        for host in sorted({row.place.host for row in near} & {row.place.host for row in far}):
            here = [[row for row in rows if row.place.host == host] for rows in (near, far)]
            if all(len({row.place for row in rows}) == 1 for rows in here):
                hosts.append(host)
                yield here[0], here[1]
    rest = [[row for row in rows if row.place.host not in hosts] for rows in (near, far)]
    if rest[0] or rest[1] or not hosts:
        yield rest[0], rest[1]


def pairing(ground: AddressMap, key: bytes, near: Sequence[SeenRow], far: Sequence[SeenRow]) -> Pairing:
    """One connection from the rows of its two ends, either of which may be missing."""
    other = address.mirror(key)
    near_places = tuple(dict.fromkeys(row.place for row in near)) or expected(ground, key, far)
    far_places = tuple(dict.fromkeys(row.place for row in far)) or expected(ground, other, near)
    ends = [
        (key, near_places, latest(near)),
        (other, far_places, latest(far)),
    ]
    _, local_port, _, peer_port = address.split_key(key)
    if server_is_first(ground, (local_port, peer_port), near_places, latest(near), far_places, latest(far)):
        ends.reverse()
    (client_key, client_places, client), (server_key, server_places, server) = ends
    states = (state_at(ground, client, client_places), state_at(ground, server, server_places))
    unread = not client_places or not server_places
    answer: Answer = Accord.UNJUDGED if unread else THE_TABLE[states]
    return Pairing(
        Suspect(
            EndQuery(client_places, client_key, client.scope if client else 0),
            EndQuery(server_places, server_key, server.scope if server else 0),
            client_first=client is not None,
        ),
        (known(states[0]), known(states[1])),
        answer,
        odd=bool(
            client and server and (unanswered(client.marks) or unanswered(server.marks) or server.marks & NO_INODE)
        )
        or len(near) > 1
        or len(far) > 1,
    )


def state_at(ground: AddressMap, row: SeenRow | None, places: Sequence[NetnsRef]) -> Seen:
    """The state of an end; where a table may lack rows, an end that is not there is unseen."""
    if row is not None:
        return row.state
    return Absence.UNSEEN if not ground.partial.isdisjoint(places) else Absence.ABSENT


def expected(ground: AddressMap, key: bytes, others: Sequence[SeenRow]) -> tuple[NetnsRef, ...]:
    """Where the missing end with this key would be: the places that own its local address, if all could be read."""
    local, _, peer, _ = address.split_key(key)
    if not others:
        return ()
    there = others[0].place
    found = ground.homes(there, local)
    return tuple(one for one in found if there in ground.homes(one, peer)) if peer in ground.shared else found


def latest(rows: Sequence[SeenRow]) -> SeenRow | None:
    """The row that counts: a dump may give a socket twice as it moves, and a TIME_WAIT beside its successor."""
    alive = [row for row in rows if row.state is not State.TIME_WAIT]
    found = alive or rows
    return found[-1] if found else None


def known(seen: Seen) -> State | None:
    """A state for the matrix: None where there is no socket."""
    return seen if isinstance(seen, State) else None


def unanswered(marks: int) -> bool:
    """Marks of a socket whose data, or whose probes of a closed window, have been answered by nobody so far."""
    return bool(marks & RETRANSMITS) and marks & TIMER_MASK in (1, 4)


def server_is_first(
    ground: AddressMap,
    ports: tuple[int, int],
    near_places: Sequence[NetnsRef],
    near: SeenRow | None,
    far_places: Sequence[NetnsRef],
    far: SeenRow | None,
) -> bool:
    """Whether the near end, whose port is the first, is the server's.

    By the ports of the check, by handshake, by listener; then by a port from which clients do not dial, because the
    order of the arguments is easily the other way round; by role, by the lower port.
    """
    local_port, peer_port = ports
    if (local_port in ground.ports) != (peer_port in ground.ports):
        return local_port in ground.ports
    for one, two in ((near, far), (far, near)):
        passive = one is not None and one.state is State.SYN_RECV
        active = two is not None and two.state is State.SYN_SENT
        if passive or active:
            return one is near
    listens = [
        any((place, port) in ground.listening for place in places)
        for places, port in ((near_places, local_port), (far_places, peer_port))
    ]
    if listens[0] != listens[1]:
        return listens[0]
    if (local_port < EPHEMERAL) != (peer_port < EPHEMERAL):
        return local_port < EPHEMERAL
    roles = [
        {place.host for place in places} <= ground.servers.hosts - ground.clients.hosts
        for places in (near_places, far_places)
    ]
    if roles[0] != roles[1]:
        return roles[0]
    return local_port < peer_port


def oddity(near: bool) -> bytes:
    """Marks -> what keeps a row from cancelling: 0 for a plain row, never the same on both sides otherwise."""
    side = 0 if near else 1
    return bytes(
        2 * (marks & NO_INODE != 0) + 4 * unanswered(marks) + side if marks & NO_INODE or unanswered(marks) else 0
        for marks in range(256)
    )


TIME_WAIT = number_of(State.TIME_WAIT)
NEAR_ODD, FAR_ODD = oddity(True), oddity(False)
PLAIN = tuple(bytes((state, 0)) for state in range(14))  # the ends of records of which both sides have the same
LOCAL_PORT, PEER_PORT = itemgetter(slice(-6, -4)), itemgetter(slice(-4, -2))  # of a record
ANY_PORT = b"\xff\xff"
EPHEMERAL = 32768  # where the ports begin that a kernel gives to clients (ip_local_port_range as Linux comes)
BOTH_ESTABLISHED = (State.ESTABLISHED, State.ESTABLISHED)
