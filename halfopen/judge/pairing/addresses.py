"""Which host and network namespace has which address, and who listens where.

Addresses are packed: 4 bytes, or 16 for IPv6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from halfopen import address
from halfopen.model import InterfaceAddress, Namespace, NetnsRef, Snapshot


@dataclass(frozen=True, slots=True)
class Side:
    """One role of a check: its hosts, and their network namespaces with what was read there."""

    hosts: frozenset[str]
    namespaces: tuple[tuple[NetnsRef, Namespace], ...]


@dataclass(frozen=True, slots=True)
class AddressMap:
    """Who has which address, and who listens where: all that the matching needs beside the rows.

    owners: address -> namespaces that have it. shared: the part of `owners` that more than one host has.
    own: namespace -> its addresses, without loopback. listening: (namespace, port) of every listener. full: of those
    with a full accept queue.
    ports: the ports of the check; empty for all. partial: namespaces that were read in part: a row that is missing may
    exist all the same.
    links: the interface addresses of every namespace but a host's own, with their prefixes.
    """

    owners: Mapping[bytes, tuple[NetnsRef, ...]]
    shared: Mapping[bytes, tuple[NetnsRef, ...]]
    own: Mapping[NetnsRef, frozenset[bytes]]
    listening: frozenset[tuple[NetnsRef, int]]
    clients: Side
    servers: Side
    ports: frozenset[int]
    partial: frozenset[NetnsRef] = frozenset()
    links: Mapping[NetnsRef, tuple[InterfaceAddress, ...]] = field(default_factory=dict)
    full: frozenset[tuple[NetnsRef, int]] = frozenset()

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
        if not same_host and owners and netns in self.links:
            owners = tuple(owner for owner in owners if not self.has_namesake(netns, packed, owner.host))
        return same_host or owners or ((netns,) if address.is_loopback(packed) else ())

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
    own: dict[NetnsRef, frozenset[bytes]] = {}
    listening: set[tuple[NetnsRef, int]] = set()
    full: set[tuple[NetnsRef, int]] = set()
    by_host: dict[str, list[tuple[NetnsRef, Namespace]]] = {}
    for snapshot in snapshots:
        by_host[snapshot.host] = [
            (NetnsRef(snapshot.host, namespace.netns), namespace) for namespace in snapshot.namespaces
        ]
        for number, (netns, namespace) in enumerate(by_host[snapshot.host]):
            addresses = {row.address for row in namespace.addresses if not address.is_loopback(row.address)}
            addresses |= set(extra.get(snapshot.host, ())) if number == 0 else set()
            own[netns] = frozenset(addresses)
            for packed in addresses:
                owners.setdefault(packed, []).append(netns)
            listening |= {(netns, listener.port) for listener in namespace.listeners}
            full |= {(netns, listener.port) for listener in namespace.listeners if listener.is_full}
    client_side, server_side = (side_of(names, by_host) for names in (clients, servers))
    every = [row for rows in by_host.values() for row in rows]
    return AddressMap(
        owners={packed: tuple(found) for packed, found in owners.items()},
        shared={packed: tuple(found) for packed, found in owners.items() if len({netns.host for netns in found}) > 1},
        own=own,
        listening=frozenset(listening),
        clients=client_side,
        servers=server_side,
        ports=frozenset(ports),
        partial=frozenset(netns for netns, namespace in every if not namespace.whole),
        full=frozenset(full),
        links={netns: namespace.addresses for rows in by_host.values() for netns, namespace in rows[1:]},
    )


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
