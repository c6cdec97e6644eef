"""The wide look: byte counters of all connections that agree in state, and the few among them worth a bracket.

Both sides are asked at the same time, so that a connection at full speed may look contradictory: that is a question,
not an answer, and three looks in order (see `counters`) clear it. A true contradiction does not pass, since neither
end takes what the other sends, and is seen at any two moments.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import replace

from halfopen.judge.match import BOTH_ESTABLISHED, Ground, Matching, Side, Suspect, resolve
from halfopen.model import Absence, Place, Sight, Socket, Wanted
from halfopen.table import Count, CountBlock
from halfopen.tcp import number_of
from halfopen.words import plural

Counts = Mapping[Place, Sequence[CountBlock]]
"""What the wide look found. A place that is not in it gave no counters: its kernel or its collector has none."""


def widened(ground: Ground, matching: Matching, counts: Counts) -> Matching:
    """The same with what the counters make suspect, and with a note where they could not be compared."""
    if matching.uncounted:
        note = (
            f"byte counters were not compared: {plural(matching.uncounted, 'connection')} agree in state, more than "
            f"{WIDE_LIMIT}; --deep compares them however many"
        )
        return replace(matching, notes=(*matching.notes, note))
    if not matching.established:
        return matching
    places = {place: None for side in (ground.clients, ground.servers) for place, _ in side.namespaces}
    blind = [place for place in places if place not in counts]
    notes = [
        f"{name}: gave no byte counters, so its connections were compared by state alone"
        for name in dict.fromkeys(place.host for place in blind)
    ]
    keys = contradictions(ground, matching.established, counts, whole=not blind)
    return replace(matching, suspects=(*matching.suspects, *suspects_of(ground, keys)), notes=(*matching.notes, *notes))


def contradictions(ground: Ground, keys: Iterable[bytes], counts: Counts, whole: bool) -> set[bytes]:
    """The keys whose two ends do not fit; and, where all hosts were `whole`, those that were not seen again."""
    near, far = seen(ground.clients, counts, False), seen(ground.servers, counts, True)
    found = set()
    for key in keys:
        one, two = near.get(key), far.get(key)
        if one is None or two is None:
            if whole:
                found.add(key)
        elif not (one[0] - 1 <= two[1] <= one[0] + one[2] and two[0] - 1 <= one[1] <= two[0] + two[2]):
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


def suspects_of(ground: Ground, keys: Collection[bytes]) -> list[Suspect]:
    """Keys of established pairs -> suspects."""
    return [replace(one.suspect, agreed=BOTH_ESTABLISHED) for one in resolve(ground, set(keys))]


def asks(checks: Sequence[tuple[Ground, Matching]], able: Container[str]) -> dict[str, Sequence[Wanted]]:
    """Host -> the look-ups that give the counters of its pairs; none where a dump of all is cheaper.

    A look-up costs a host what five rows of a wide dump cost (7 against 1.4 microseconds), and us as much again.
    """
    found: dict[str, dict[tuple[Place, bytes], Wanted]] = {}
    dumped: set[str] = set()
    for ground, matching in checks:
        if not matching.established:
            continue
        rows: dict[str, int] = {}
        for place, namespace in {**dict(ground.clients.namespaces), **dict(ground.servers.namespaces)}.items():
            rows[place.host] = rows.get(place.host, 0) + len(namespace.table)
        few = {host for host, count in rows.items() if 10 * len(matching.established) < count}
        dumped |= rows.keys() - few
        for suspect in suspects_of(ground, matching.established) if few else ():
            for ask in (suspect.client, suspect.server):
                for place in ask.places:
                    found.setdefault(place.host, {})[place, ask.key] = Wanted(place, ask.key, ask.scope)
    hosts = [host for host in {**found, **dict.fromkeys(sorted(dumped))} if host in able]
    return {host: () if host in dumped else tuple(found[host].values()) for host in hosts}


def counts_in(sights: Mapping[tuple[Place, bytes], Sight]) -> dict[Place, tuple[CountBlock, ...]]:
    """Exact look-ups -> what a wide dump would have given of them."""
    rows: dict[Place, list[tuple[int, int, bytes, int, Count]]] = {}
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
