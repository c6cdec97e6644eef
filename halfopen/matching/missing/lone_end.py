"""Suspects of which the dumps showed one end, and the rows around them that may say where the other is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from halfopen import address
from halfopen.matching.pairing.connection import Suspect
from halfopen.matching.places.addresses import AddressMap, shares_link
from halfopen.model import Namespace, NetnsRef
from halfopen.tcp import State, state_of

Endpoint = tuple[bytes, int]
"""A packed address and a port."""


class EndpointRow(Struct, frozen=True):
    """A row of a dump. `outside`: no host of the check has its peer's address, and it is no end of a suspect itself."""

    place: NetnsRef
    key: bytes
    state: State | None
    marks: int
    scope: int
    outside: bool

    @property
    def peer(self) -> Endpoint:
        """Its peer address and port."""
        return address.split_key(self.key)[2:]


class LoneEnd(Struct, frozen=True):
    """A suspect of which the dumps showed one end: the client's or the server's."""

    suspect: Suspect
    row: EndpointRow
    is_client: bool

    @property
    def client(self) -> Endpoint:
        """Address and port of the client's end."""
        return address.split_key(self.suspect.client.key)[:2]

    @property
    def server(self) -> Endpoint:
        """Address and port of the server's end."""
        return address.split_key(self.suspect.server.key)[:2]

    def host_of(self, client: bool) -> str:
        """The host where the client's end, or else the server's, is or would be."""
        if self.is_client is client:
            return self.row.place.host
        return (self.suspect.client if client else self.suspect.server).places[0].host

    def is_on_link(self, namespaces: Mapping[NetnsRef, Namespace]) -> bool:
        """Whether client and server share a link, so that nothing between them could masquerade."""
        servers = self.suspect.server.places
        return any(has_link(namespaces, netns, self.client[0]) for netns in servers) and has_link(
            namespaces, self.row.place, self.server[0]
        )


def has_link(namespaces: Mapping[NetnsRef, Namespace], netns: NetnsRef, packed: bytes) -> bool:
    """Whether an address is on a link of a namespace."""
    namespace = namespaces.get(netns)
    return namespace is not None and any(shares_link(own.address, own.prefix, packed) for own in namespace.addresses)


class RowIndex(Struct):
    """The rows at the endpoints of suspects.

    local: endpoint -> rows that have it as their local one. peered: client's endpoint -> rows that have it as their
    peer.
    """

    local: dict[Endpoint, list[EndpointRow]] = {}
    peered: dict[Endpoint, list[EndpointRow]] = {}


def index_rows(addresses: AddressMap, suspects: Sequence[Suspect]) -> RowIndex:
    """The rows of all hosts at the endpoints of these suspects, in one pass over all rows."""
    servers = {address.split_key(suspect.server.key)[:2] for suspect in suspects}
    clients = {address.split_key(suspect.client.key)[:2] for suspect in suspects}
    wanted = {pack(endpoint) for endpoint in servers | clients}
    callers = {pack(endpoint) for endpoint in clients}
    ends = {end.key for suspect in suspects for end in (suspect.client, suspect.server)}
    index = RowIndex()
    outside: dict[tuple[NetnsRef, bytes], bool] = {}
    for netns, namespace in addresses.namespaces().items():
        for block in namespace.table.blocks:
            width = block.width
            for key, state, marks in block.rows():
                is_local, is_peered = key[:width] + key[-4:-2] in wanted, key[width : 2 * width] + key[-2:] in callers
                if not is_local and not is_peered:
                    continue
                local, port, peer, peer_port = address.split_key(key)
                if addresses.is_private(netns, local):
                    continue
                if (netns, peer) not in outside:
                    outside[netns, peer] = not addresses.owners_of(netns, peer)
                is_outside = outside[netns, peer] and key not in ends
                row = EndpointRow(netns, key, state_of(state), marks, block.scope, is_outside)
                if is_local:
                    index.local.setdefault((local, port), []).append(row)
                if is_peered:
                    index.peered.setdefault((peer, peer_port), []).append(row)
    return index


def pack(endpoint: Endpoint) -> bytes:
    """An endpoint as bytes: its address, and its port as a key has it."""
    return endpoint[0] + endpoint[1].to_bytes(2, "big")


def lone_ends(suspect: Suspect, index: RowIndex) -> Iterator[LoneEnd]:
    """The suspect as a lone end, if one of its ends was seen and the other was not."""
    ends = []
    for end in (suspect.client, suspect.server):
        rows = index.local.get(address.split_key(end.key)[:2], ())
        ends.append([row for row in rows if row.key == end.key and row.place in end.places])
    if bool(ends[0]) != bool(ends[1]):
        yield LoneEnd(suspect, (ends[0] or ends[1])[0], bool(ends[0]))
