"""Tables that were taken at some moment, used in place of looks, for pasted text and saved dumps.

A table is no look-up, and which of two tables was taken first is unknown. So one table of each side is one bracket,
and gives `inferred`; two of each side are two brackets around the same sockets, and give `observed`, never more.

What `collect` saves is better: the sockets of each table were looked up after it, and once more after the last one, so
that every second end was seen strictly between two looks at the first one. Files of one run have that order, because
each step begins when every host has ended the one before. Files of several runs have it by their clocks, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

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


class Moment(Struct, frozen=True):
    """One host at one moment.

    observations: what is known of an end, by (namespace, key), beyond its row in the table. began, ended: of reading
    them, in seconds by the clock of whoever asked, None if unknown. dumped: False if it is a last look at the ends of
    the moment before, whose table it has.
    """

    snapshot: Snapshot
    observations: Mapping[tuple[NetnsRef, bytes], Observation] = {}
    began: float | None = None
    ended: float | None = None
    dumped: bool = True


def number_of_moments(moments: Mapping[str, Sequence[Moment]]) -> int:
    """How many dumps each host has at least that could be read."""
    counts = (sum(moment.dumped for moment in of_host) for of_host in moments.values() if is_read(of_host))
    return min(counts, default=min(1, len(moments)))


def is_read(of_host: Sequence[Moment]) -> bool:
    """Whether a host could be read each time."""
    return of_host[0].snapshot.error is None


def in_tables(
    moments: Mapping[str, Sequence[Moment]], number: int, position: int, wanted: Iterable[Lookup]
) -> list[Look]:
    """One look of round `number` (from 0) at the tables of a moment that all hosts have, host by host.

    `position`: 0 for the first ends, 1 for the other ones, 2 for the first ends again.
    The other end is looked at in that moment, the first end in the one before it and in the one after it. The first
    round has one moment for all.
    """
    found = []
    for name, of_host in moments.items():
        if not is_read(of_host):
            found.append(Look(name, {}, of_host[0].snapshot.error))
            continue
        around = (max(0, number - 1), number, min(number + 1, len(of_host) - 1) if number else 0)
        found.append(look_in_table(name, of_host[around[position]], wanted))
    return found


def look_in_table(host: str, moment: Moment, wanted: Iterable[Lookup]) -> Look:
    """What one moment of a host shows of these ends; UNSEEN in a namespace that it has not."""
    asked = {(lookup.place, lookup.key) for lookup in wanted if lookup.place.host == host}
    keys = {key for _, key in asked}
    found: dict[tuple[NetnsRef, bytes], Observation] = {}
    for namespace in moment.snapshot.namespaces:
        netns = NetnsRef(host, namespace.netns)
        found.update(((netns, key), Absence.ABSENT if namespace.whole else Absence.UNSEEN) for key in keys)
        found.update(((netns, socket.key), socket) for socket in sockets_of(namespace, keys))
    found.update((end, moment.observations[end]) for end in asked if end in moment.observations)
    return Look(host, {end: found.get(end, Absence.UNSEEN) for end in asked})


def seconds_between(moments: Mapping[str, Sequence[Moment]], number: int) -> float | None:
    """Seconds from the moment before to this one, the least of all hosts; None if a file does not tell."""
    found = []
    for of_host in filter(is_read, moments.values()):
        ended, began = of_host[number - 1].ended, of_host[number].began
        if ended is None or began is None:
            return None
        found.append(began - ended)
    return max(0.0, min(found, default=0.0))


def is_around(outer: Sequence[Moment], inner: Sequence[Moment]) -> bool:
    """Whether a moment of `inner` but the first lies between the two moments of `outer` around it, by the clocks of two
    hosts, which may differ by CLOCKS_S.
    """
    return any(
        is_before(outer[number - 1], inner[number]) and is_before(inner[number], outer[number + 1])
        for number in range(1, min(len(outer), len(inner)) - 1)
    )


def is_before(first: Moment, later: Moment) -> bool:
    """Whether one moment had surely ended when the other began. False if that is unknown."""
    return first.ended is not None and later.began is not None and first.ended + CLOCKS_S <= later.began


def how_compared(moments: int) -> str:
    """A sentence on how sure a comparison of so many moments can be."""
    if moments > 1:
        return f"{moments} moments of each host were compared, and only what is in all of them is told"
    return "one moment of each host was compared: what opened or closed between the two looks the same as what is stuck"


def sockets_of(namespace: Namespace, keys: set[bytes]) -> Iterable[Socket]:
    """The rows of a table with these keys, as sockets."""
    for block in namespace.table.blocks:
        for key, number, marks in block.rows():
            state = state_of(number)
            if key in keys and state is not None:
                timer = TIMER_NUMBERS.get(marks & TIMER_MASK)
                inode = 0 if marks & NO_INODE else None
                retransmits = None if marks & RETRANSMITS else 0
                yield Socket(key, state, block.family, block.scope, timer, retransmits=retransmits, inode=inode)


class Dialled(Struct, frozen=True):
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


CLOCKS_S = 0.1
"""What the clocks of two hosts may differ by, if both are kept by NTP."""
