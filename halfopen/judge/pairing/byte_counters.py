"""The wide look: byte counters of all connections that agree in state, and the few among them worth a bracket.

Both sides are asked at the same time, so that a connection at full speed may look contradictory: that is a question,
not an answer, and three looks in order (see `counters`) clear it. A true contradiction does not pass, since neither
end takes what the other sends, and is seen at any two moments.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from halfopen import address
from halfopen.judge.pairing.addresses import AddressMap, Side
from halfopen.judge.pairing.match import BOTH_ESTABLISHED, Matching, Suspect, resolve
from halfopen.model import Absence, Lookup, Namespace, NetnsRef, Observation, Socket
from halfopen.table import Count, CountBlock
from halfopen.tcp import number_of
from halfopen.words import plural

Counts = Mapping[NetnsRef, Sequence[CountBlock]]
"""What the wide look found. A place that is not in it gave no counters: its kernel or its collector has none."""


def widened(ground: AddressMap, matching: Matching, counts: Counts) -> Matching:
    """The same with what the counters make suspect, and with a note where they could not be compared."""
    if matching.uncounted:
        note = (
            f"byte counters were not compared: {plural(matching.uncounted, 'connection')} agree in state, more than "
            f"{WIDE_LIMIT}; --deep compares them however many"
        )
        return replace(matching, notes=(*matching.notes, note))
    if not matching.established:
        return matching
    suspects, blind = [], Tally[str]()
    for one in suspects_of(ground, doubtful(ground, matching.established, counts)):
        places = (*one.client.places, *one.server.places)
        lacking = {place.host for place in places if place not in counts}
        blind.update(lacking)
        if not lacking:
            suspects.append(one)
    notes = [
        f"{host}: gave no byte counters, so only the states of {plural(number, 'connection')} were compared"
        for host, number in sorted(blind.items())
    ]
    return replace(matching, suspects=(*matching.suspects, *suspects), notes=(*matching.notes, *notes))


def doubtful(ground: AddressMap, keys: Iterable[bytes], counts: Counts) -> set[bytes]:
    """The keys whose two ends do not fit, or were not both seen again."""
    near, far = seen(ground.clients, counts, False), seen(ground.servers, counts, True)
    found = set()
    for key in keys:
        one, two = near.get(key), far.get(key)
        # One end's acknowledged may count its SYN.
        if (
            one is None
            or two is None
            or not one[0] - 1 <= two[1] <= one[0] + one[2]
            or not two[0] - 1 <= one[1] <= two[0] + two[2]
        ):
            found.add(key)
    return found


def seen(side: Side, counts: Counts, mirrored: bool) -> dict[bytes, Count]:
    """Key as the client role sees it -> counters, for the sockets of one role."""
    return {
        key: count
        for place, _ in side.namespaces
        for block in counts.get(place, ())
        for key, count in block.counts(mirrored)
    }


def suspects_of(ground: AddressMap, keys: Collection[bytes]) -> list[Suspect]:
    """Keys of established pairs -> suspects."""
    return [replace(one.suspect, agreed=BOTH_ESTABLISHED) for one in resolve(ground, set(keys))]


@dataclass(frozen=True, slots=True)
class CountQuery:
    """What one host is asked for: a dump with counters of its own network namespace, and look-ups beside or instead."""

    dump: bool
    single: tuple[Lookup, ...] = ()

    def answered(self, place: NetnsRef, own: NetnsRef) -> bool:
        """Whether look-ups tell all there is to tell of a namespace: what they do not find is not there."""
        return not self.dump or place != own


def asks(checks: Sequence[tuple[AddressMap, Matching]], able: Container[str]) -> dict[str, CountQuery]:
    """Host -> how it is asked for the counters of its pairs: by look-ups, or by a dump where that is cheaper.

    A look-up costs a host what five rows of a wide dump cost (7 against 1.4 microseconds), and us as much again. A dump
    shows the host's own network namespace only.
    """
    single: dict[str, dict[tuple[NetnsRef, bytes], Lookup]] = {}
    dumped: set[str] = set()
    own: dict[str, NetnsRef] = {}
    for ground, matching in checks:
        if not matching.established:
            continue
        spaces = {**dict(ground.clients.namespaces), **dict(ground.servers.namespaces)}
        rows: Tally[str] = Tally()
        for place, namespace in spaces.items():
            rows[place.host] += len(namespace.table)
            own.setdefault(place.host, place)
        few = {host for host, count in rows.items() if 10 * len(matching.established) < count}
        dumped |= rows.keys() - few
        wanted = matching.established if few else elsewhere(matching.established, spaces, own)
        for suspect in suspects_of(ground, wanted):
            for ask in (suspect.client, suspect.server):
                for place in ask.places:
                    if place.host in few or place != own[place.host]:
                        single.setdefault(place.host, {})[place, ask.key] = Lookup(place, ask.key, ask.scope)
    hosts = [host for host in {**single, **dict.fromkeys(sorted(dumped))} if host in able]
    beside = {
        host: tuple(one for one in single.get(host, {}).values() if host not in dumped or one.place != own[host])
        for host in hosts
    }
    return {host: CountQuery(host in dumped, beside[host]) for host in hosts}


def elsewhere(
    keys: Collection[bytes], spaces: Mapping[NetnsRef, Namespace], own: Mapping[str, NetnsRef]
) -> frozenset[bytes]:
    """Those of the keys, as the client role sees them, that have an end in another namespace than a host's own."""
    return frozenset(
        one
        for place, namespace in spaces.items()
        if place != own[place.host]
        for key, _, _ in namespace.table.rows()
        for one in (key, address.mirror(key))
        if one in keys
    )


def counts_in(sights: Mapping[tuple[NetnsRef, bytes], Observation]) -> dict[NetnsRef, tuple[CountBlock, ...]]:
    """Exact look-ups -> what a wide dump would have given of them."""
    rows: dict[NetnsRef, list[tuple[int, int, bytes, int, Count]]] = {}
    for (place, key), one in sights.items():
        if one is Absence.ABSENT:
            rows.setdefault(place, [])
        elif isinstance(one, Socket) and (count := count_of(one)) is not None:
            rows.setdefault(place, []).append((one.family, one.scope, key, number_of(one.state), count))
    return {place: CountBlock.of(found) for place, found in rows.items()}


def count_of(one: Socket) -> Count | None:
    """The byte counters of a socket, if its kernel has them."""
    if one.info is None or one.info.bytes_acked is None or one.info.bytes_received is None or one.send_q is None:
        return None
    return one.info.bytes_acked, one.info.bytes_received, one.send_q


WIDE_LIMIT = 20_000
