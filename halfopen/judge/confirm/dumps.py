"""Tables that were taken at some moment, used in place of looks, for pasted text and saved dumps.

A table is no look-up, and which of two tables was taken first is unknown. So one table of each side is one bracket,
and gives `inferred`; two of each side are two brackets around the same sockets, and give `observed`, never more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from halfopen import address
from halfopen.model import (
    Absence,
    InterfaceAddress,
    ListenSocket,
    Look,
    Lookup,
    Namespace,
    NetnsRef,
    Observation,
    Snapshot,
    Socket,
)
from halfopen.table import NO_INODE, RETRANSMITS, TIMER_MASK
from halfopen.tcp import TIMER_NUMBERS, state_of


@dataclass(frozen=True, slots=True)
class Moment:
    """One host at one moment. `sockets`: key -> what is known of that socket beyond its row in the table."""

    snapshot: Snapshot
    sockets: Mapping[bytes, Socket]


def number_of_moments(moments: Mapping[str, Sequence[Moment]]) -> int:
    """How many moments each host has at least."""
    return min((len(of_host) for of_host in moments.values()), default=0)


def in_tables(
    moments: Mapping[str, Sequence[Moment]], number: int, after: bool, wanted: Iterable[Lookup]
) -> list[Look]:
    """One look of round `number` (from 0) at the tables of a moment that all hosts have, host by host.

    The first end is looked at before and `after` the other one: at the same moment, and at the next one, or if there is
    none at the one before.
    """
    count = number_of_moments(moments)
    beside = number + 1 if number + 1 < count else max(0, number - 1)
    return [look_in_table(name, of_host[beside if after else number], wanted) for name, of_host in moments.items()]


def look_in_table(host: str, moment: Moment, wanted: Iterable[Lookup]) -> Look:
    """What the tables of one moment of a host show of these ends; UNSEEN in a namespace that it has not."""
    asked = {(lookup.place, lookup.key) for lookup in wanted if lookup.place.host == host}
    keys = {key for _, key in asked}
    found: dict[tuple[NetnsRef, bytes], Observation] = {}
    for namespace in moment.snapshot.namespaces:
        netns = NetnsRef(host, namespace.netns)
        found.update(((netns, key), Absence.ABSENT if namespace.whole else Absence.UNSEEN) for key in keys)
        found.update(((netns, socket.key), socket) for socket in sockets_of(namespace, moment.sockets, keys))
    return Look(host, {end: found.get(end, Absence.UNSEEN) for end in asked}, moment.snapshot.error)


def how_compared(moments: int) -> str:
    """A sentence on how sure a comparison of so many moments can be."""
    if moments > 1:
        return f"{moments} moments of each host were compared, and only what is in all of them is told"
    return (
        "one moment of each host was compared: what opened or closed between the two looks the same as what is stuck. "
        "Take both again a few seconds later and give all four: --client A1 --client A2 --server B1 --server B2"
    )


def sockets_of(namespace: Namespace, known: Mapping[bytes, Socket], keys: set[bytes]) -> Iterable[Socket]:
    """The rows of a table with these keys, as sockets. `known`: what is known of a socket beyond its row, by key."""
    for block in namespace.table.blocks:
        for key, number, marks in block.rows():
            state = state_of(number)
            if key in keys and state is not None:
                timer = TIMER_NUMBERS.get(marks & TIMER_MASK)
                inode = 0 if marks & NO_INODE else None
                retransmits = None if marks & RETRANSMITS else 0
                yield known.get(key) or Socket(
                    key, state, block.family, block.scope, timer, retransmits=retransmits, inode=inode
                )


@dataclass(frozen=True, slots=True)
class Dialled:
    """A packed address that a host is assumed to have: it listens on any address, and clients use this one only."""

    host: str
    packed: bytes
    port: int


def dialled(
    clients: Sequence[Snapshot], server: Snapshot, ports: Iterable[int], owned: Iterable[bytes]
) -> tuple[list[Dialled], list[str]]:
    """The addresses of a server that only its clients' connections show, and in words why one could not be told.

    `owned`: packed addresses that hosts are known to have.

    A server that listens on any address, and of which no connection to that port is left, does not show its address.
    If its clients connect to one address at that port and no more, it is that one; of two, which one is unknown.
    """
    known, asked = set(owned), set(ports)
    namespaces = server.namespaces
    shown = {key[-4:-2] for namespace in namespaces for block in namespace.table.blocks for key, _, _ in block.rows()}
    open_to_all = {
        listener.port
        for namespace in namespaces
        for listener in namespace.listeners
        if listens_on_any_address(listener)
    }
    taken, doubts = [], []
    for port in sorted(open_to_all & (asked or open_to_all)):
        if port.to_bytes(2, "big") in shown:
            continue
        peers = {
            address.split_key(key)[2]
            for client in clients
            for namespace in client.namespaces
            for block in namespace.table.blocks
            for key, _, _ in block.rows()
            if key[-2:] == port.to_bytes(2, "big")
        }
        strange = sorted(peer for peer in peers - known if not address.is_loopback(peer))
        if len(strange) == 1 and not peers & known:
            taken.append(Dialled(server.host, strange[0], port))
        elif strange and not peers & known:
            doubts.append(
                f"{server.host} listens on every address at port {port}, and nothing in its text shows which of the "
                f"{len(strange)} addresses dialled there are its own: hosts.{server.host}.addresses in "
                "an inventory would"
            )
    return taken, doubts


def listens_on_any_address(listener: ListenSocket) -> bool:
    """Whether a listener is on 0.0.0.0 or ::."""
    return address.is_unspecified(listener.address)


def with_addresses(snapshot: Snapshot, more: Sequence[bytes]) -> Snapshot:
    """A snapshot with more packed addresses in each namespace."""
    if not more:
        return snapshot
    added = tuple(InterfaceAddress(packed, ()) for packed in more)
    spaces = tuple(replace(space, addresses=(*space.addresses, *added)) for space in snapshot.namespaces)
    return replace(snapshot, namespaces=spaces)
