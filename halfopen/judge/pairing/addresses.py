"""What the join stands on: which host and namespace owns which address, and who listens where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from halfopen import address
from halfopen.model import InterfaceAddress, Namespace, NetnsRef, Snapshot


@dataclass(frozen=True, slots=True)
class Side:
    """One role of a check: its places with what was read there."""

    hosts: frozenset[str]
    namespaces: tuple[tuple[NetnsRef, Namespace], ...]


@dataclass(frozen=True, slots=True)
class AddressMap:
    """Who owns which address, and who listens where: all that the matching needs to know beside the rows.

    shared: of the owners, those of addresses that more than one host has. links: the addresses of containers.
    unread: hosts of the check that gave no table; nothing may be said of their ends.
    """

    owners: Mapping[bytes, tuple[NetnsRef, ...]]
    shared: Mapping[bytes, tuple[NetnsRef, ...]]
    own: Mapping[NetnsRef, frozenset[bytes]]
    listening: frozenset[tuple[NetnsRef, int]]
    clients: Side
    servers: Side
    ports: frozenset[int]
    unread: frozenset[str]
    partial: frozenset[NetnsRef] = frozenset()  # read in part: what is not there may be there all the same
    links: Mapping[NetnsRef, tuple[InterfaceAddress, ...]] = field(default_factory=dict)

    def homes(self, place: NetnsRef, packed: bytes) -> tuple[NetnsRef, ...]:
        """Where a socket with this address lives, from where `place` stands.

        The kernel keeps a local address to itself, and loopback is every host's own unless one is said to have it.
        What a container calls its neighbour is its neighbour on the same host, whoever else has that address.
        """
        if packed in self.own[place]:
            return (place,)
        owners = self.owners.get(packed, ())
        near = tuple(one for one in owners if one.host == place.host)
        if not near and owners and place in self.links:
            owners = tuple(one for one in owners if not self.has_namesake(place, packed, one.host))
        return near or owners or ((place,) if address.is_loopback(packed) else ())

    def has_namesake(self, place: NetnsRef, packed: bytes, host: str) -> bool:
        """Whether a container's link with this address on it is one that another host has too, under the same prefix.

        Two hosts that have the same address on that link, as the bridge of a container engine has, have two links.
        """
        around = [one for one in self.links[place] if shares_link(one.address, one.prefix, packed)]
        return any(
            shares_link(one.address, one.prefix, gate) and {place.host, host} <= {owner.host for owner in owners}
            for one in around
            for gate, owners in self.shared.items()
        )

    def is_mutual(self, place: NetnsRef, local: bytes, peer: bytes) -> bool:
        """Whether answers of who has the peer's address come back to this place, as seen from there.

        They do not where the peer's host has the local address too: a private network that two hosts call the same.
        """
        return address.is_loopback(peer) or any(place in self.homes(one, local) for one in self.homes(place, peer))


def survey(
    snapshots: Sequence[Snapshot],
    clients: Iterable[str],
    servers: Iterable[str],
    ports: Iterable[int],
    extra: Mapping[str, Sequence[bytes]],
) -> AddressMap:
    """Reads the ground of a check off its snapshots. `extra`: host -> addresses that lead to it though it has none."""
    owners: dict[bytes, list[NetnsRef]] = {}
    own: dict[NetnsRef, frozenset[bytes]] = {}
    listening: set[tuple[NetnsRef, int]] = set()
    sides: dict[str, list[tuple[NetnsRef, Namespace]]] = {}
    for snapshot in snapshots:
        sides[snapshot.host] = [(NetnsRef(snapshot.host, one.netns), one) for one in snapshot.namespaces]
        for number, (place, namespace) in enumerate(sides[snapshot.host]):
            said = set(extra.get(snapshot.host, ())) if number == 0 else set()
            addresses = {one.address for one in namespace.addresses if not address.is_loopback(one.address)} | said
            own[place] = frozenset(addresses)
            for packed in addresses:
                owners.setdefault(packed, []).append(place)
            listening |= {(place, one.port) for one in namespace.listeners}
    roles = [frozenset(names) for names in (clients, servers)]
    client_side, server_side = (
        Side(names, tuple(one for host in sorted(names) for one in sides.get(host, ()))) for names in roles
    )
    unread = frozenset(name for name in roles[0] | roles[1] if not sides.get(name))
    return AddressMap(
        {packed: tuple(places) for packed, places in owners.items()},
        {packed: tuple(places) for packed, places in owners.items() if len({one.host for one in places}) > 1},
        own,
        frozenset(listening),
        client_side,
        server_side,
        frozenset(ports),
        unread,
        frozenset(place for spaces in sides.values() for place, namespace in spaces if not namespace.whole),
        {place: space.addresses for spaces in sides.values() for place, space in spaces[1:]},
    )


def shares_link(own: bytes, prefix: int | None, packed: bytes) -> bool:
    """Whether an address is within the prefix of an interface's own."""
    if prefix is None or len(own) != len(packed):
        return False
    shift = 8 * len(own) - prefix
    return int.from_bytes(own, "big") >> shift == int.from_bytes(packed, "big") >> shift
