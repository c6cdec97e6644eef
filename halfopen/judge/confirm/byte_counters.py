"""Byte counters of all connections that agree in state: which few among them are worth a bracket.

Both sides are asked at the same time, so that a connection at full speed may look contradictory: that is a question,
not an answer, and three looks in order (see `verdict.sequence`) clear it. A true contradiction does not pass, since
neither end takes what the other sends, and is seen at any two moments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.matching.pairing.connection import BOTH_ESTABLISHED, EndQuery, Suspect, resolve
from halfopen.matching.pairing.match import Matching
from halfopen.matching.places.addresses import AddressMap, Side
from halfopen.model import Absence, Lookup, Namespace, NetnsRef, Observation, Socket
from halfopen.table import Count, CountBlock
from halfopen.tcp import number_of
from halfopen.words import plural

Counts = Mapping[NetnsRef, Sequence[CountBlock]]
"""Namespace -> byte counters of its sockets. One that is missing gave none: its kernel or its collector has none."""

WIDE_LIMIT = 20_000
"""Connections of a check up to which their byte counters are compared unless asked otherwise."""


def widened(addresses: AddressMap, matching: Matching, counts: Counts) -> Matching:
    """The matching with what the counters make suspect, and with a note where they could not be compared."""
    if matching.uncounted:
        note = (
            f"byte counters were not compared: {plural(matching.uncounted, 'connection')} agree in state, more than "
            f"{WIDE_LIMIT}; --deep compares them however many"
        )
        return replace(matching, notes=(*matching.notes, note))
    if not matching.established and not matching.translated:
        return matching
    suspects, uncompared = [], Counter[str]()
    for suspect in (
        *suspects_of(addresses, doubtful(addresses, matching.established, counts)),
        *doubtful_behind(matching.translated, counts),
    ):
        namespaces = (*suspect.client.places, *suspect.server.places)
        lacking = {netns.host for netns in namespaces if netns not in counts}
        uncompared.update(lacking)
        if not lacking:
            suspects.append(suspect)
    notes = [
        f"{host}: gave no byte counters, so only the states of {plural(number, 'connection')} were compared"
        for host, number in sorted(uncompared.items())
    ]
    return replace(matching, suspects=(*matching.suspects, *suspects), notes=(*matching.notes, *notes))


def doubtful(addresses: AddressMap, keys: Iterable[bytes], counts: Counts) -> set[bytes]:
    """The keys whose two ends contradict each other, or of which an end has no counters."""
    near, far = counts_of(addresses.clients, counts, False), counts_of(addresses.servers, counts, True)
    return {key for key in keys if not fitting(near.get(key), far.get(key))}


def doubtful_behind(pairs: Sequence[Suspect], counts: Counts) -> list[Suspect]:
    """Those of the pairs behind a translation whose ends contradict each other, or of which an end has no counters."""
    wanted = {(netns, end.key) for pair in pairs for end in (pair.client, pair.server) for netns in end.places}
    known = {
        (netns, key): count
        for netns in {netns for netns, _ in wanted}
        for block in counts.get(netns, ())
        for key, count in block.counts()
        if (netns, key) in wanted
    }

    def count(end: EndQuery) -> Count | None:
        return next((known[netns, end.key] for netns in end.places if (netns, end.key) in known), None)

    return [pair for pair in pairs if not fitting(count(pair.client), count(pair.server))]


def fitting(first: Count | None, second: Count | None) -> bool:
    """Whether the counters of both ends are known, and each has what the other says."""
    return first is not None and second is not None and consistent(first, second) and consistent(second, first)


def consistent(sender: Count, receiver: Count) -> bool:
    """Whether the receiver has at least what was acknowledged to the sender, and at most what that has written."""
    acknowledged, _, queued = sender
    _, received, _ = receiver
    return acknowledged - 1 <= received <= acknowledged + queued  # an end that connected counts its SYN as acknowledged


def counts_of(side: Side, counts: Counts, mirrored: bool) -> dict[bytes, Count]:
    """Key as the client role sees it -> counters, for the sockets of one role. `mirrored`: for the server role."""
    return {
        key: count
        for netns, _ in side.namespaces
        for block in counts.get(netns, ())
        for key, count in block.counts(mirrored)
    }


def suspects_of(addresses: AddressMap, keys: Collection[bytes]) -> list[Suspect]:
    """Keys of pairs that are established at both ends -> suspects."""
    return [replace(found.suspect, agreed=BOTH_ESTABLISHED) for found in resolve(addresses, set(keys))]


class CountQuery(Struct, frozen=True):
    """What one host is asked for: a dump with counters of its own network namespace, and look-ups beside or instead."""

    dump: bool
    single: tuple[Lookup, ...] = ()

    def answered(self, place: NetnsRef, own: NetnsRef) -> bool:
        """Whether look-ups show all that was asked of namespace `place`: what they do not find is not there.

        `own`: the host's own network namespace.
        """
        return not self.dump or place != own


def asks(checks: Sequence[tuple[AddressMap, Matching]], able: Container[str]) -> dict[str, CountQuery]:
    """Host -> how it is asked for the counters of its pairs: by look-ups, or by a dump where that is cheaper.

    `able`: the hosts that can answer. A look-up costs a host what five rows of a dump with counters cost (7 against 1.4
    microseconds), and us as much again. A dump shows the host's own network namespace only.
    """
    single: dict[str, dict[tuple[NetnsRef, bytes], Lookup]] = {}
    dumped: set[str] = set()
    own: dict[str, NetnsRef] = {}
    for addresses, matching in checks:
        if not matching.established and not matching.translated:
            continue
        namespaces = addresses.namespaces()
        rows: Counter[str] = Counter()
        for netns, namespace in namespaces.items():
            rows[netns.host] += len(namespace.table)
            own.setdefault(netns.host, netns)
        pairs = len(matching.established) + len(matching.translated)
        few = {host for host, count in rows.items() if 10 * pairs < count}
        dumped |= rows.keys() - few
        wanted = matching.established if few else outside_own(matching.established, namespaces, own)
        for suspect in (*suspects_of(addresses, wanted), *matching.translated):
            for end in (suspect.client, suspect.server):
                for netns in end.places:
                    if netns.host in few or netns != own[netns.host]:
                        single.setdefault(netns.host, {})[netns, end.key] = Lookup(netns, end.key, end.scope)
    hosts = [host for host in {**single, **dict.fromkeys(sorted(dumped))} if host in able]
    beside = {
        host: tuple(
            lookup for lookup in single.get(host, {}).values() if host not in dumped or lookup.place != own[host]
        )
        for host in hosts
    }
    return {host: CountQuery(host in dumped, beside[host]) for host in hosts}


def outside_own(
    keys: Collection[bytes], namespaces: Mapping[NetnsRef, Namespace], own: Mapping[str, NetnsRef]
) -> frozenset[bytes]:
    """Those of the keys, as the client role sees them, that have an end in another namespace than a host's own."""
    return frozenset(
        key
        for netns, namespace in namespaces.items()
        if netns != own[netns.host]
        for row_key, _, _ in namespace.table.rows()
        for key in (row_key, address.mirror(row_key))
        if key in keys
    )


def counts_in(sights: Mapping[tuple[NetnsRef, bytes], Observation]) -> dict[NetnsRef, tuple[CountBlock, ...]]:
    """Answers to exact look-ups, by (namespace, key) -> the counters that a dump would have given of them."""
    rows: dict[NetnsRef, list[tuple[int, int, bytes, int, Count]]] = {}
    for (netns, key), seen in sights.items():
        if seen is Absence.ABSENT:
            rows.setdefault(netns, [])
        elif isinstance(seen, Socket) and (count := count_of(seen)) is not None:
            rows.setdefault(netns, []).append((seen.family, seen.scope, key, number_of(seen.state), count))
    return {netns: CountBlock.of(found) for netns, found in rows.items()}


def count_of(socket: Socket) -> Count | None:
    """Bytes acknowledged, bytes received and bytes in the send queue of a socket; None if its kernel does not say."""
    info = socket.info
    if info is None or info.bytes_acked is None or info.bytes_received is None or socket.send_q is None:
        return None
    return info.bytes_acked, info.bytes_received, socket.send_q
