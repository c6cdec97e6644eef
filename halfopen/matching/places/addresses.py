"""Which host and network namespace has which address, and who listens where.

Addresses are packed: 4 bytes, or 16 for IPv6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from halfopen import address
from halfopen.matching.places.reach import is_led_to, is_linked, ways_to
from halfopen.model import Collector, InterfaceAddress, Namespace, NetnsRef, Snapshot
from halfopen.schema.report import Reason

BY_PROBE = (Collector.NETLINK, Collector.PROCFS)


class Side(Struct, frozen=True):
    """One role of a check: its hosts, and their network namespaces with what was read there."""

    hosts: frozenset[str]
    namespaces: tuple[tuple[NetnsRef, Namespace], ...]


class AddressMap(Struct, frozen=True):
    """Who has which address, and who listens where: all that the matching needs beside the rows.

    owners: address -> namespaces that have it. shared: the part of `owners` that more than one host has.
    contested: addresses that several hosts say they have; what the inventory says of them is no contradiction.
    inner: address -> namespaces that have it where only namespaces of their own host may see it.
    left: address that no host has any more -> the one namespace that has sockets with it as their local address.
    left_ends: the keys of the other ends of these sockets.
    own: namespace -> its addresses, without loopback. listening: (namespace, port) of every listener. full: of those
    with a full accept queue.
    ports: the ports of the check; empty for all. partial: namespaces that were read in part, so that a row that is
    missing may exist all the same, and why.
    links: the interface addresses of every namespace but a host's own, with their prefixes.
    """

    owners: Mapping[bytes, tuple[NetnsRef, ...]]
    shared: Mapping[bytes, tuple[NetnsRef, ...]]
    own: Mapping[NetnsRef, frozenset[bytes]]
    listening: frozenset[tuple[NetnsRef, int]]
    clients: Side
    servers: Side
    ports: frozenset[int]
    partial: Mapping[NetnsRef, Reason] = {}
    links: Mapping[NetnsRef, tuple[InterfaceAddress, ...]] = {}
    full: frozenset[tuple[NetnsRef, int]] = frozenset()
    inner: Mapping[bytes, tuple[NetnsRef, ...]] = {}
    left: Mapping[bytes, NetnsRef] = {}
    left_ends: frozenset[bytes] = frozenset()
    contested: frozenset[bytes] = frozenset()

    def namespaces(self) -> dict[NetnsRef, Namespace]:
        """Every namespace of both roles, each once."""
        return {**dict(self.clients.namespaces), **dict(self.servers.namespaces)}

    def owners_of(self, netns: NetnsRef, packed: bytes) -> tuple[NetnsRef, ...]:
        """The namespaces in which a socket with this address would be, as seen from a namespace; empty if unknown.

        The kernel keeps a local address to itself, and loopback is every host's own unless one is said to have it.
        Bridge addresses repeat across hosts: from inside a container, resolve the peer on the same host first.
        """
        if packed in self.own[netns]:
            return (netns,)
        owners = self.owners.get(packed, ())
        same_host = tuple(owner for owner in owners if owner.host == netns.host)
        if netns not in self.links:
            return same_host or owners or ((netns,) if address.is_loopback(packed) else ())
        if not same_host:
            owners = tuple(owner for owner in owners if not self.has_namesake(netns, packed, owner.host))
        neighbours = tuple(owner for owner in self.inner.get(packed, ()) if owner.host == netns.host)
        found = (*(same_host or owners), *neighbours)
        return found or ((netns,) if address.is_loopback(packed) else ())

    def claimants(self, netns: NetnsRef, packed: bytes) -> tuple[NetnsRef, ...]:
        """The owners of an address, as seen from a namespace, if several hosts say that it is theirs; else none."""
        if packed not in self.contested:
            return ()
        owners = self.owners_of(netns, packed)
        return owners if len({owner.host for owner in owners}) > 1 else ()

    def holders(self, packed: bytes) -> tuple[NetnsRef, ...]:
        """The namespaces that have an address, as other hosts see it, or had it and still have sockets with it."""
        return self.owners.get(packed) or ((self.left[packed],) if packed in self.left else ())

    def is_private(self, netns: NetnsRef, packed: bytes) -> bool:
        """Whether a namespace has an address under which other hosts do not reach it, if anybody does."""
        return netns in self.links and packed in self.own[netns] and netns not in self.owners.get(packed, ())

    def has_namesake(self, netns: NetnsRef, packed: bytes, host: str) -> bool:
        """Whether a container's link with this address on it is one that another host has too, under the same prefix.

        Two hosts that have the same address on that link, as the bridge of a container engine has, have two links.
        """
        links = [link for link in self.links[netns] if shares_link(link.address, link.prefix, packed)]
        return any(
            shares_link(link.address, link.prefix, gateway) and {netns.host, host} <= {owner.host for owner in owners}
            for link in links
            for gateway, owners in self.shared.items()
        )

    def is_apart(self, netns: NetnsRef, packed: bytes) -> bool:
        """Whether an address of a namespace means another on each host: loopback that none is said to have, or private.

        A connection between two such addresses stays within the namespace, and another one may have its tuple.
        """
        if address.is_loopback(packed):
            return packed not in self.owners
        return self.is_private(netns, packed)

    def has_end(self, netns: NetnsRef, key: bytes) -> bool:
        """Whether a row of a namespace is an end that the owners of its peer's address would see there."""
        local, _, peer, _ = address.split_key(key)
        if self.is_private(netns, local):
            return self.is_mutual(netns, local, peer)
        return netns in self.owners_of(netns, local)

    def is_mutual(self, netns: NetnsRef, local: bytes, peer: bytes) -> bool:
        """Whether the owners of the peer's address, as seen from a namespace, see the local address in that namespace.

        They do not where the peer's host has the local address too: a private network that two hosts call the same.
        """
        return address.is_loopback(peer) or any(
            netns in self.owners_of(owner, local) for owner in self.owners_of(netns, peer)
        )


def survey(
    snapshots: Sequence[Snapshot],
    clients: Iterable[str],
    servers: Iterable[str],
    ports: Iterable[int],
    extra: Mapping[str, Sequence[bytes]],
) -> AddressMap:
    """The address map of a check. `extra`: host -> addresses that lead to it though none of its interfaces has them."""
    owners: dict[bytes, list[NetnsRef]] = {}
    inner: dict[bytes, list[NetnsRef]] = {}
    claimed: Counter[bytes] = Counter()  # namespaces that say they have it
    own: dict[NetnsRef, frozenset[bytes]] = {}
    listening: set[tuple[NetnsRef, int]] = set()
    full: set[tuple[NetnsRef, int]] = set()
    by_host: dict[str, list[tuple[NetnsRef, Namespace]]] = {}
    for snapshot in snapshots:
        by_host[snapshot.host] = [
            (NetnsRef(snapshot.host, namespace.netns), namespace) for namespace in snapshot.namespaces
        ]
        for netns, namespace in by_host[snapshot.host]:
            own[netns] = frozenset(row.address for row in namespace.addresses if not address.is_loopback(row.address))
            listening |= {(netns, listener.port) for listener in namespace.listeners}
            listening |= {(netns, port) for port in namespace.other_listeners}
            full |= {(netns, listener.port) for listener in namespace.listeners if listener.is_full}
        for netns, _ in by_host[snapshot.host][:1]:
            claimed.update(own[netns])
            own[netns] |= set(extra.get(snapshot.host, ()))
            for packed in own[netns]:
                owners.setdefault(packed, []).append(netns)
    for netns, packed in in_local_routes(by_host.values()):
        claimed[packed] += packed not in own[netns]
        if netns not in owners.get(packed, ()):
            own[netns] |= {packed}
            owners.setdefault(packed, []).append(netns)
    roots = frozenset(owners)
    for spaces in by_host.values():
        ways = ways_to([namespace for _, namespace in spaces])
        for netns, namespace in spaces[1:]:
            if namespace.netns in ways:
                way = ways[namespace.netns]
                for row in namespace.addresses:
                    if row.address in own[netns]:
                        seen = is_led_to(row, way) or (is_linked(row, way) and row.address not in roots)
                        (owners if seen else inner).setdefault(row.address, []).append(netns)
                claimed.update(packed for packed in own[netns] if netns in owners.get(packed, ()))
    left, left_ends = left_addresses([rows[0] for rows in by_host.values() if rows], {*owners, *inner})
    for packed, netns in left.items():
        own[netns] |= {packed}
    client_side, server_side = (side_of(names, by_host) for names in (clients, servers))
    return AddressMap(
        owners={packed: tuple(found) for packed, found in owners.items()},
        inner={packed: tuple(found) for packed, found in inner.items()},
        shared={packed: tuple(found) for packed, found in owners.items() if len({netns.host for netns in found}) > 1},
        own=own,
        listening=frozenset(listening),
        clients=client_side,
        servers=server_side,
        ports=frozenset(ports),
        partial={
            NetnsRef(snapshot.host, namespace.netns): why_partial(snapshot, namespace)
            for snapshot in snapshots
            for namespace in snapshot.namespaces
            if not namespace.whole
        },
        full=frozenset(full),
        links={netns: namespace.addresses for rows in by_host.values() for netns, namespace in rows[1:]},
        left=left,
        left_ends=left_ends,
        contested=frozenset(packed for packed, count in claimed.items() if count > 1),
    )


def in_local_routes(
    hosts: Collection[Sequence[tuple[NetnsRef, Namespace]]],
) -> Iterator[tuple[NetnsRef, bytes]]:
    """Hosts' own namespaces, and the addresses of sockets of any host that are in their local routes."""
    routes = [(rows[0][0], route) for rows in hosts for route in (rows[0][1].local_routes if rows else ())]
    if not routes:
        return
    blocks = [block for rows in hosts for _, namespace in rows for block in namespace.table.blocks]
    for packed in set[bytes]().union(*(some for block in blocks for some in (block.locals(), block.peers()))):
        for netns, route in routes:
            if shares_link(route.address, route.prefix, packed):
                yield netns, packed


def why_partial(snapshot: Snapshot, namespace: Namespace) -> Reason:
    """Why rows of a namespace may be missing: unreadable, not entered to its end, or never shown by the source."""
    if namespace.damaged:
        return Reason.ROW_DAMAGED
    if snapshot.facts is not None and snapshot.facts.collector in BY_PROBE:
        return Reason.NAMESPACE_NOT_ENTERED
    return Reason.NOT_SHOWN_BY_SOURCE


def left_addresses(
    spaces: Sequence[tuple[NetnsRef, Namespace]], known: Collection[bytes]
) -> tuple[dict[bytes, NetnsRef], frozenset[bytes]]:
    """`left` and `left_ends` of an address map. spaces: the hosts' own namespaces. known: addresses that somebody has.

    An address leaves its host (DHCP, VPN, a service address that moves), and the sockets that have it stay. Another
    host, which nobody named, may have it by now, so it says nothing of connections of which only one end is seen.
    """
    found: dict[bytes, list[NetnsRef]] = {}
    for netns, namespace in spaces:
        for packed in set[bytes]().union(*(block.locals() for block in namespace.table.blocks)):
            if packed not in known and not address.is_loopback(packed):
                found.setdefault(packed, []).append(netns)
    left = {packed: holders[0] for packed, holders in found.items() if len(holders) == 1}
    ends = (
        address.mirror(block.key(row))
        for netns, namespace in spaces
        for packed in [{packed for packed, holder in left.items() if holder == netns}]
        if packed
        for block in namespace.table.blocks
        for row in block.having({one for one in packed if len(one) == block.width}, set())
    )
    return left, frozenset(ends)


def side_of(names: Iterable[str], by_host: Mapping[str, Sequence[tuple[NetnsRef, Namespace]]]) -> Side:
    """The hosts of one role with their namespaces, in the order of their names."""
    hosts = frozenset(names)
    return Side(hosts, tuple(row for host in sorted(hosts) for row in by_host.get(host, ())))


def shares_link(own: bytes, prefix: int | None, packed: bytes) -> bool:
    """Whether an address is in the network of an interface address. `prefix`: its length in bits, None if unknown."""
    if prefix is None or len(own) != len(packed):
        return False
    shift = 8 * len(own) - prefix
    return int.from_bytes(own, "big") >> shift == int.from_bytes(packed, "big") >> shift
