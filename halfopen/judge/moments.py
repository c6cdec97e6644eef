"""Tables that were taken at some moment, judged as if they were looks: what pasted text and saved dumps allow.

A table is no look-up, and nobody knows which of two tables was taken first. So one table of each side is one bracket,
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
    Namespace,
    Place,
    Sight,
    Snapshot,
    Socket,
    Wanted,
)
from halfopen.table import NO_INODE, RETRANSMITS, TIMER_MASK
from halfopen.tcp import TIMER_NUMBERS, state_of
from halfopen.words import plural


@dataclass(frozen=True, slots=True)
class Moment:
    """One host at one moment. `sockets`: what is known of single sockets beyond the table, if anything."""

    snapshot: Snapshot
    sockets: Mapping[bytes, Socket]


def number_of_moments(moments: Mapping[str, Sequence[Moment]]) -> int:
    """How many moments all hosts have."""
    return min((len(one) for one in moments.values()), default=0)


def in_tables(
    moments: Mapping[str, Sequence[Moment]], number: int, after: bool, wanted: Iterable[Wanted]
) -> list[Look]:
    """One look of round `number` at the tables of a moment that all hosts have.

    The first end is seen before and `after` the other one: at the same moment, and at the next, or else the one before.
    """
    count = number_of_moments(moments)
    beside = number + 1 if number + 1 < count else max(0, number - 1)
    return [look_in_table(name, one[beside if after else number], wanted) for name, one in moments.items()]


def look_in_table(host: str, moment: Moment, wanted: Iterable[Wanted]) -> Look:
    """What the tables of one moment show of these ends."""
    asked = {(one.place, one.key) for one in wanted if one.place.host == host}
    keys = {key for _, key in asked}
    found: dict[tuple[Place, bytes], Sight] = {}
    for space in moment.snapshot.namespaces:
        place = Place(host, space.netns)
        found.update(((place, key), Absence.ABSENT if space.whole else Absence.UNSEEN) for key in keys)
        found.update(((place, one.key), one) for one in sockets_of(space, moment.sockets, keys))
    return Look(host, {where: found.get(where, Absence.UNSEEN) for where in asked}, moment.snapshot.error)


def how_compared(moments: int) -> str:
    """How sure a comparison of tables can be."""
    if moments > 1:
        return f"{moments} moments of each host were compared, and only what is in all of them is told"
    return (
        "one moment of each host was compared: what opened or closed between the two looks the same as what is stuck. "
        "Take both again a few seconds later and give all four: --client A1 --client A2 --server B1 --server B2"
    )


def sockets_of(space: Namespace, known: Mapping[bytes, Socket], keys: set[bytes]) -> Iterable[Socket]:
    """The rows of a table with these keys as sockets, with what else is known of them."""
    for block in space.table.blocks:
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
    """An address that a host is taken to have, because it listens on any address and only this one is dialled."""

    host: str
    packed: bytes
    port: int


def dialled(
    clients: Sequence[Snapshot], server: Snapshot, ports: Iterable[int], owned: Iterable[bytes]
) -> tuple[list[Dialled], list[str]]:
    """The address that clients dial a server at, where no socket of the server shows it, and why none could be taken.

    A server that listens on any address, and of which no connection to that port is left, does not show its address.
    If its clients dial one address at that port and no more, it is that one; of two, nobody knows which.
    """
    known, asked = set(owned), set(ports)
    spaces = server.namespaces
    shown = {key[-4:-2] for space in spaces for block in space.table.blocks for key, _, _ in block.rows()}
    open_to_all = {one.port for space in spaces for one in space.listeners if any_address(one)}
    taken, doubts = [], []
    for port in sorted(open_to_all & (asked or open_to_all)):
        if port.to_bytes(2, "big") in shown:
            continue
        peers = {
            address.split_key(key)[2]
            for one in clients
            for space in one.namespaces
            for block in space.table.blocks
            for key, _, _ in block.rows()
            if key[-2:] == port.to_bytes(2, "big")
        }
        strange = sorted(one for one in peers - known if not address.is_loopback(one))
        if len(strange) == 1 and not peers & known:
            taken.append(Dialled(server.host, strange[0], port))
        elif strange and not peers & known:
            doubts.append(
                f"{server.host} listens on every address at port {port}, and nothing in its text shows which of the "
                f"{plural(len(strange), 'address')[:-1]}es dialled there are its own: hosts.{server.host}.addresses in "
                "an inventory would"
            )
    return taken, doubts


def any_address(one: ListenSocket) -> bool:
    """A listener on 0.0.0.0 or ::"""
    return address.is_unspecified(one.address)


def with_addresses(snapshot: Snapshot, more: Sequence[bytes]) -> Snapshot:
    """A snapshot whose host has these addresses as well."""
    if not more:
        return snapshot
    added = tuple(InterfaceAddress(packed, ()) for packed in more)
    spaces = tuple(replace(one, addresses=(*one.addresses, *added)) for one in snapshot.namespaces)
    return replace(snapshot, namespaces=spaces)
