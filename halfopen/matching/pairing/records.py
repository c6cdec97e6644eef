"""Rows of one role as records, so that healthy connections vanish in one set difference.

A record is a key, a state byte and an oddity byte; rows of the server role are mirrored, so that the two ends of a
connection give equal records. The oddity is 0 for a row that may cancel against its mirror image.
"""

from __future__ import annotations

import struct
from collections import Counter
from operator import itemgetter

from msgspec import Struct

from halfopen import address
from halfopen.matching.pairing.server import is_asked
from halfopen.matching.places.addresses import AddressMap
from halfopen.model import Namespace, NetnsRef
from halfopen.table import NO_INODE, RETRANSMITS, TIMER_MASK, Block
from halfopen.tcp import State, number_of


class Ends(Struct):
    """The records of one role, all and by host. `repeated`: keys that two namespaces have, or of whose ends two hosts
    say that they have the address.

    `apart`: namespace -> those of connections that stay within it, and whose tuple another one may have as well.
    """

    records: set[bytes] = set()
    repeated: set[bytes] = set()
    by_host: dict[str, set[bytes]] = {}
    apart: dict[NetnsRef, set[bytes]] = {}

    def add(self, host: str, found: set[bytes], contested: set[bytes]) -> None:
        """Adds the records of one block of a host. contested: those whose peer's address several hosts claim."""
        self.repeated |= {record[:-2] for record in contested}
        if self.records and not self.records.isdisjoint(found):
            self.repeated |= {record[:-2] for record in self.records & found}
        self.records |= found
        self.by_host[host] = self.by_host[host] | found if host in self.by_host else found

    def crossing(self, others: Ends, same: set[bytes]) -> set[bytes]:
        """Records that both roles have, but not of one namespace, though their connections stay within one."""
        return {
            record
            for netns, records in self.apart.items()
            for record in (records - others.apart.get(netns, set())) & same
        }


def records_of(
    addresses: AddressMap,
    netns: NetnsRef,
    namespace: Namespace,
    block: Block,
    others: frozenset[str],
    external: Counter[tuple[str, str]],
    apart: dict[NetnsRef, set[bytes]],
    mirrored: bool,
) -> set[bytes]:
    """The rows of a block that the check is about, as records.

    others: the hosts of the other role. mirrored: for the server role. Rows that lead to no host of the check are added
    to `external`, as (host, peer), but for TIME_WAIT: it is what a connection leaves behind. apart: as in `Ends`.
    """
    peers, locals_ = block.peers(), block.locals()
    inside, outside = set(), set()
    for peer in peers:
        owners = addresses.owners_of(netns, peer)
        if any(owner.host in others for owner in owners):
            inside.add(peer)
        elif not owners:
            outside.add(peer)
    left = {peer for peer in outside & addresses.left.keys() if addresses.left[peer].host in others}
    width, size = block.width, 2 * block.width + 6
    own = {local for local in locals_ if netns in addresses.owners_of(netns, local)}
    rows = block.oddities(SERVER_ODDITY if mirrored else CLIENT_ODDITY).packed(mirrored)
    shared = {local for local in own if local in addresses.shared or addresses.is_private(netns, local)}
    every = [record for (record,) in struct.iter_unpack(f"{size}s", rows)]
    first = width if mirrored else 0
    plain = not shared and namespace.covered_ports == addresses.ports
    # Most rows are about the check or none is: where that is plain, a loop runs over the others only.
    found = set(every) if plain else set()
    unsure = {*block.having(locals_ - own, peers - inside), *block.from_ports(unsure_ports(addresses, netns))}
    for record in [every[row] for row in unsure] if plain else every:
        found.discard(record)
        local, peer = record[first : first + width], record[width - first : 2 * width - first]
        key = address.mirror(record[:-2]) if mirrored else record[:-2]
        if addresses.ports and not is_asked(addresses, netns, key):
            continue
        seen = peer in inside and (local not in shared or addresses.is_mutual(netns, local, peer))
        seen = seen or (peer in left and key in addresses.left_ends)
        if seen and local in own:
            found.add(record)
        elif (peer in outside or peer in inside) and record[-2] != TIME_WAIT:
            external[netns.host, external_peer(addresses, netns, key)] += 1
    near, far = ({packed for packed in some if addresses.is_apart(netns, packed)} for some in (own, inside))
    if near and far and len(addresses.own) > 1:
        pairs = ((peer, local) if mirrored else (local, peer) for local in near for peer in far)
        both = {one + two for one, two in pairs}
        within = found if (near, far) == (own, inside) else {one for one in found if one[: 2 * width] in both}
        apart[netns] = apart.get(netns, set()) | within
    return found


def contested(addresses: AddressMap, netns: NetnsRef, block: Block, records: set[bytes], mirrored: bool) -> set[bytes]:
    """Those of the records of a block whose peer's address several hosts claim."""
    peers = {peer for peer in addresses.contested if addresses.claimants(netns, peer)}
    if not peers:
        return set()
    first, width = 0 if mirrored else block.width, block.width
    return {record for record in records if record[first : first + width] in peers}


def unsure_ports(addresses: AddressMap, netns: NetnsRef) -> frozenset[int]:
    """The local ports in a namespace that do not say by themselves whether a row is to one of the check's ports.

    Those of the check on which nothing listens there, which may be a client's, and others on which something does.
    """
    if not addresses.ports:
        return frozenset()
    return addresses.ports ^ {port for where, port in addresses.listening if where == netns}


def external_peer(addresses: AddressMap, netns: NetnsRef, key: bytes) -> str:
    """The name of an external peer in the report: address and port, or the address alone if the local end listens."""
    _, local_port, peer, peer_port = address.split_key(key)
    if (netns, local_port) in addresses.listening:
        return address.show(peer)
    return address.endpoint(peer, peer_port)


def seen_from_both_ends(record: bytes, same: set[bytes]) -> bool:
    """Whether a record is the second of two of one connection, which hosts with both roles give: one for each end."""
    other = address.mirror(record[:-2])
    return record[:-2] > other and other + record[-2:] in same


def unanswered(marks: int) -> bool:
    """Whether the marks of a row say that its data, or its probes, are unanswered so far."""
    return bool(marks & RETRANSMITS) and marks & TIMER_MASK in ASKS


ASKS = (1, 2, 4)
"""Timers that count what was not answered: retransmission, keepalive, probes of a closed window (icsk_probes_out)."""


def oddity(side: int) -> bytes:
    """Mark byte -> 0 if the row may cancel against its mirror image, else a value that differs between the two sides.

    `side`: 0 for the client role, 1 for the server role.
    """
    return bytes(
        2 * (marks & NO_INODE != 0) + 4 * unanswered(marks) + side if marks & NO_INODE or unanswered(marks) else 0
        for marks in range(256)
    )


TIME_WAIT = number_of(State.TIME_WAIT)
CLIENT_ODDITY, SERVER_ODDITY = oddity(0), oddity(1)
PLAIN = tuple(bytes((state, 0)) for state in range(14))
"""The last two bytes (state, 0) of a record that both sides reported alike."""
LOCAL_PORT, PEER_PORT = itemgetter(slice(-6, -4)), itemgetter(slice(-4, -2))
"""The ports of a record, 2 bytes each."""
