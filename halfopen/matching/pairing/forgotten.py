"""Connections with an address of a host that the check names under `nat`, of which that host knows nothing any more.

A router's address is no end of a connection between client and server: it stands for an end behind the router, and an
entry of its connection tracking says which. Without the entry (it expired, was flushed, or the router started anew)
what the end sends reaches nobody. The router itself is asked for the missing end, because a program there (a proxy)
may have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence

from msgspec.structs import replace

from halfopen import address
from halfopen.matching.pairing.connection import EndQuery, Loss, Suspect
from halfopen.matching.pairing.match import Matching
from halfopen.matching.pairing.records import external_peer
from halfopen.matching.pairing.server import PortAndState, is_asked, server_is_first
from halfopen.matching.places.addresses import AddressMap
from halfopen.model import Namespace, NetnsRef, Snapshot
from halfopen.table import Block
from halfopen.tcp import State, state_of

Explained = Mapping[NetnsRef, Container[bytes]]
"""Namespace -> keys of its sockets that a translation explains."""


def with_forgotten(
    matching: Matching, ground: AddressMap, routers: Sequence[Snapshot], explained: Explained
) -> Matching:
    """The matching with such connections as suspects, no longer counted as external.

    ground: the addresses of all hosts, and the sockets of those that are compared. routers: the hosts under `nat`.
    """
    read = {
        NetnsRef(router.host, space.netns): space
        for router in routers
        for space in router.namespaces
        if space.tracked == 0 or space.rewrites is not None
    }
    suspects = [
        suspect
        for netns, namespace in ground.namespaces().items()
        for block in namespace.table.blocks
        for suspect in forgotten_rows(ground, netns, block, read, explained.get(netns, ()))
    ]
    there = {
        (netns, key)
        for netns, space in (read.items() if suspects else ())
        for block in space.table.blocks
        for key, _, _ in block.rows()
    }
    suspects = [suspect for suspect in suspects if not ends_at_router(suspect, there)]
    external = Counter(dict(matching.external))
    for suspect in suspects:
        end = suspect.client if suspect.client_first else suspect.server
        roles = [side for side in (ground.clients, ground.servers) if end.places[0].host in side.hosts]
        external[end.places[0].host, external_peer(ground, end.places[0], end.key)] -= len(roles)
    return replace(matching, suspects=(*matching.suspects, *suspects), external=+external)


def forgotten_rows(
    ground: AddressMap,
    netns: NetnsRef,
    block: Block,
    routers: Mapping[NetnsRef, Namespace],
    explained: Container[bytes],
) -> Iterator[Suspect]:
    """The rows of one block that lead to an address of a router, and that no translation explains."""
    owners = {peer: tuple(filter(routers.__contains__, ground.owners_of(netns, peer))) for peer in block.peers()}
    if not any(owners.values()):
        return
    for key, number, _ in block.rows():
        _, port, peer, peer_port = address.split_key(key)
        state = state_of(number)
        if not owners[peer] or state in UNDER_WAY or key in explained or not ground.has_end(netns, key):
            continue
        if ground.ports and not is_asked(ground, netns, key):
            continue
        near, far = EndQuery((netns,), key, block.scope), EndQuery(owners[peer], address.mirror(key))
        is_server = server_is_first(
            ground, PortAndState(port, near.places, state), PortAndState(peer_port, far.places, None)
        )
        ends = (far, near) if is_server else (near, far)
        yield Suspect(*ends, client_first=not is_server, loss=Loss.ENTRY_GONE)


def ends_at_router(suspect: Suspect, there: Container[tuple[NetnsRef, bytes]]) -> bool:
    """Whether a socket of the router is the other end. there: (namespace, key) of all of its sockets."""
    far = suspect.server if suspect.client_first else suspect.client
    return any((netns, far.key) in there for netns in far.places)


UNDER_WAY = (None, State.SYN_SENT, State.SYN_RECV, State.TIME_WAIT)
"""States of rows that are passed over: no entry is there yet, or nothing is left to lose."""
