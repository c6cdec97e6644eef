"""Snapshots -> connections with one or two ends, and among them the suspects.

A pair of hosts and a fleet are the same code: rows of the hosts of one role, as they see the connection, against the
mirrored rows of the other role. Rows that agree and have nothing odd about them vanish in one set difference, so that
the price of a hundred thousand healthy connections is building two sets.

A dump takes time, and two dumps are of two moments, so nothing here is a finding: a suspect is a question for
`confirm.bracket`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from operator import itemgetter

from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.matching.pairing.connection import BOTH_ESTABLISHED, Agreement, States, Suspect, resolve
from halfopen.matching.pairing.records import (
    LOCAL_PORT,
    PEER_PORT,
    PLAIN,
    Ends,
    contested,
    records_of,
    seen_from_both_ends,
)
from halfopen.matching.pairing.server import PortAndState, server_is_first, server_ports
from halfopen.matching.places.addresses import AddressMap
from halfopen.matching.verdict.table import Accord
from halfopen.schema.report import Reason
from halfopen.tcp import State, number_of, state_of
from halfopen.words import plural


class Matching(Struct, frozen=True):
    """What one dump of each host of a check shows.

    agreements: how many connections agree, by hosts and states. A suspect that `agreed` is among them, until it is a
    finding. external: (host, peer) -> sockets that lead to no host of the check.
    unjudged: connections of which an end could not be seen, each with its reason.
    established: keys, as the client role sees them, of connections that are established at both ends and not suspect;
    left empty where they are more than were asked for, and then `uncounted` is their number. translated: those among
    them of which each end has a tuple of its own, as suspects are written.
    notes: what a reader should know about how this was compared, and what was inferred.
    gone: hosts of whose containers one seems to be gone.
    """

    agreements: Mapping[Agreement, int]
    suspects: tuple[Suspect, ...]
    external: Mapping[tuple[str, str], int]
    unjudged: tuple[Suspect, ...]
    established: frozenset[bytes] = frozenset()
    uncounted: int = 0
    notes: tuple[str, ...] = ()
    gone: frozenset[str] = frozenset()
    translated: tuple[Suspect, ...] = ()

    @property
    def agreeing(self) -> Mapping[States, int]:
        """(client's state, server's state) -> connections whose ends agree, on whatever hosts."""
        counts: Counter[States] = Counter()
        for agreement, count in self.agreements.items():
            counts[agreement.client, agreement.server] += count
        return counts

    @property
    def compared(self) -> int:
        """How many connections agree, without what closed ones have left behind (`LEFTOVERS`)."""
        return sum(count for states, count in self.agreeing.items() if states not in LEFTOVERS)


def within(matching: Matching, most: int) -> Matching:
    """The matching with no more than `most` suspects; those beyond are not judged.

    Ends that agree by their states and are odd otherwise are the first to be left out.
    """
    if len(matching.suspects) <= most:
        return matching
    ranked = sorted(matching.suspects, key=lambda suspect: suspect.agreed is not None)
    beyond = (replace(suspect, doubt=None, reason=Reason.TOO_MANY_SUSPECTS) for suspect in ranked[most:])
    return replace(matching, suspects=tuple(ranked[:most]), unjudged=(*matching.unjudged, *beyond))


def match(addresses: AddressMap, limit: int | None = 0) -> Matching:
    """The matching of the hosts of an address map.

    `limit`: name the established pairs if there are no more than this; None: however many.
    """
    near, far = Ends(), Ends()
    outside: tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]] = (Counter(), Counter())
    for side, others, ends, external, mirrored in (
        (addresses.clients, addresses.servers.hosts, near, outside[0], False),
        (addresses.servers, addresses.clients.hosts, far, outside[1], True),
    ):
        for netns, namespace in side.namespaces:
            for block in namespace.table.blocks:
                rows = records_of(addresses, netns, namespace, block, others, external, ends.apart, mirrored)
                ends.add(netns.host, rows, contested(addresses, netns, block, rows, mirrored))
    external = outside[0] | outside[1]  # the greater number, because a host with both roles has counted all twice
    notes = notes_on_left(addresses, near.records | far.records) if addresses.left else ()
    same, left = difference(addresses, near, far)
    agreements = agreed(addresses, near, far, same)
    suspects, unjudged, late = [], list[Suspect](), set()
    for connection in resolve(addresses, left):
        answer = connection.answer
        if answer is Accord.UNJUDGED:
            unjudged.append(connection.suspect)
        elif answer is not Accord.AGREE:
            suspects.append(connection.suspect)
        else:
            agreements[connection.agreement] += 1
            if connection.odd:
                suspects.append(replace(connection.suspect, agreed=connection.states))
            elif connection.states == BOTH_ESTABLISHED:
                key = connection.suspect.client.key
                late.add(key if key in left else address.mirror(key))
    pairs = sum(count for agreement, count in agreements.items() if agreement[2:] == BOTH_ESTABLISHED)
    pairs -= sum(suspect.agreed == BOTH_ESTABLISHED for suspect in suspects)
    if limit is not None and pairs > limit:
        return Matching(+agreements, tuple(suspects), external, tuple(unjudged), uncounted=pairs, notes=notes)
    established = {record[:-2] for record in same if record[-2] == number_of(State.ESTABLISHED)} | late
    return Matching(+agreements, tuple(suspects), external, tuple(unjudged), frozenset(established), notes=notes)


def notes_on_left(addresses: AddressMap, records: set[bytes]) -> tuple[str, ...]:
    """A sentence for each address that has left its host, if connections of the check have it. records: of both roles.

    The connections cannot go on, but each end has its socket still.
    """
    found: Counter[bytes] = Counter()
    for key in {min(record[:-2], address.mirror(record[:-2])) for record in records}:
        local, _, peer, _ = address.split_key(key)
        found.update({local, peer} & addresses.left.keys())
    return tuple(
        f"{address.show(packed)} is no longer an address of {addresses.left[packed].host}, whose end of "
        f"{plural(count, 'connection')} still has it"
        for packed, count in sorted(found.items())
    )


def difference(addresses: AddressMap, near: Ends, far: Ends) -> tuple[set[bytes], set[bytes]]:
    """The records that both roles have, one per connection, and the keys of those that did not cancel."""
    same = near.records & far.records
    crossing = near.crossing(far, same) | far.crossing(near, same)
    repeated = near.repeated | far.repeated | {record[:-2] for record in crossing}
    left = {record[:-2] for record in near.records ^ far.records} | repeated
    # A dump may give a socket twice as it moves: what agrees in one of its states is not left over, unless it may be
    # two sockets, since two hosts have its address.
    left -= {
        key
        for key in left - repeated
        if any(key + plain in same for plain in PLAIN) and addresses.shared.keys().isdisjoint(address.split_key(key))
    }
    if repeated:
        same = {record for record in same if record[:-2] not in repeated}  # `resolve` counts them
    if addresses.clients.hosts & addresses.servers.hosts:
        same = {record for record in same if not seen_from_both_ends(record, same)}
    return same, left


def agreed(addresses: AddressMap, near: Ends, far: Ends, same: set[bytes]) -> Counter[Agreement]:
    """Records that both roles have -> number of connections by their hosts and states."""
    counts: Counter[Agreement] = Counter()
    for here, there, records in by_hosts(addresses, near, far, same):
        reverse = served_here(addresses, here, there, records)
        forward = records - reverse if reverse else records
        for client, server, part in (here, there, forward), (there, here, reverse):
            for number, count in Counter(map(itemgetter(-2), part)).items():
                counts[Agreement(client, server, state_of(number), state_of(number))] += count
    return counts


def served_here(addresses: AddressMap, here: str, there: str, records: set[bytes]) -> set[bytes]:
    """Those records whose local end is the server's. Where ports decide it for all, that costs two passes."""
    served = [server_ports(addresses, host) for host in (here, there)]
    if served[0].isdisjoint(map(LOCAL_PORT, records)) and served[1].issuperset(map(PEER_PORT, records)):
        return set()
    namespaces = [[netns for netns in addresses.namespaces() if netns.host == host] for host in (here, there)]

    @cache
    def is_server(local: bytes, peer: bytes) -> bool:
        first = PortAndState(int.from_bytes(local, "big"), namespaces[0], None)
        return server_is_first(addresses, first, PortAndState(int.from_bytes(peer, "big"), namespaces[1], None))

    found = set()
    for record in records:
        local, peer = record[-6:-4], record[-4:-2]
        is_served = local in served[0], peer in served[1]
        # Beside a server's port the other may be any: so few pairs of ports are asked for.
        if is_served[0] != is_served[1]:
            local, peer = (local, ANY_PORT) if is_served[0] else (ANY_PORT, peer)
        if is_server(local, peer):
            found.add(record)
    return found


def by_hosts(addresses: AddressMap, near: Ends, far: Ends, same: set[bytes]) -> Iterator[tuple[str, str, set[bytes]]]:
    """The records that both roles have, as (host of the client role, host of the server role, records)."""
    for here, records in near.by_host.items():
        mine = same if len(near.by_host) == 1 else same & records
        if len(far.by_host) == 1:
            yield from ((here, there, mine) for there in far.by_host)
            continue
        by_peer: dict[bytes, set[bytes]] = {}
        for record in mine:
            width = len(record) // 2 - 3  # of an address, in bytes; ports, state and oddity are 6
            by_peer.setdefault(record[width : 2 * width], set()).add(record)
        for peer, to_peer in by_peer.items():
            hosts = {owner.host for owner in addresses.holders(peer)} or {here}  # loopback has no owner
            for there in sorted(hosts & far.by_host.keys()):
                if part := to_peer if len(hosts) == 1 else to_peer & far.by_host[there]:
                    yield here, there, part


ANY_PORT = b"\xff\xff"

LEFTOVERS = ((State.TIME_WAIT, None), (None, State.TIME_WAIT))
"""Not connections: TIME_WAIT alone is what one end keeps for 60 s after the close (TCP_TIMEWAIT_LEN)."""
