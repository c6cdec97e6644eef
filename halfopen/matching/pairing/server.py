"""Which end of a connection is the server's, where no role of the check says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from halfopen import address
from halfopen.matching.places.addresses import AddressMap
from halfopen.matching.verdict.table import Seen
from halfopen.model import NetnsRef
from halfopen.tcp import State

EPHEMERAL = 32768  # the first port that a kernel gives to clients (default of ip_local_port_range)


class PortAndState(NamedTuple):
    """One end: its local port, the namespaces where it is or would be, and its state; None if no row shows it.

    peers: how many connections that are looked at have an end at its address and port, as far as they were counted.
    """

    port: int
    namespaces: Sequence[NetnsRef]
    state: Seen | None
    peers: int = 0


def server_is_first(addresses: AddressMap, first: PortAndState, second: PortAndState) -> bool:
    """Whether the first of two ends is the server's.

    By the ports of the check, unless something listens at the other end alone; by handshake, by listener; then by a
    port from which clients do not connect, and by one that several connections have in common, because the order of the
    arguments is easily the other way round; by role, by the lower port.
    """
    asked = [end.port in addresses.ports for end in (first, second)]
    listens = [any((netns, end.port) in addresses.listening for netns in end.namespaces) for end in (first, second)]
    if asked[0] != asked[1] and listens != asked[::-1]:
        return asked[0]
    if first.state is State.SYN_RECV or second.state is State.SYN_SENT:
        return True
    if second.state is State.SYN_RECV or first.state is State.SYN_SENT:
        return False
    if listens[0] != listens[1]:
        return listens[0]
    if (first.port < EPHEMERAL) != (second.port < EPHEMERAL):
        return first.port < EPHEMERAL
    if first.peers != second.peers:
        return first.peers > second.peers
    only_servers = addresses.servers.hosts - addresses.clients.hosts
    roles = [{netns.host for netns in end.namespaces} <= only_servers for end in (first, second)]
    if roles[0] != roles[1]:
        return roles[0]
    return first.port < second.port


def is_asked(addresses: AddressMap, netns: NetnsRef, key: bytes) -> bool:
    """Whether the server's port of a connection is one of the check's, whichever of its ends this is."""
    _, local_port, peer, peer_port = address.split_key(key)
    here = local_port in addresses.ports
    if here == (peer_port in addresses.ports):
        return here
    if here == ((netns, local_port) in addresses.listening):
        return True
    first = PortAndState(local_port, (netns,), None)
    return server_is_first(addresses, first, PortAndState(peer_port, addresses.owners_of(netns, peer), None)) is here


def server_ports(addresses: AddressMap, host: str) -> frozenset[bytes]:
    """The ports that make a host the server of a connection, 2 bytes each: those of the check, and its listeners'."""
    ports = addresses.ports | {port for netns, port in addresses.listening if netns.host == host}
    return frozenset(port.to_bytes(2, "big") for port in ports)
