"""What one connection is whose rows did not simply agree: its two ends, their states, and the verdict of THE TABLE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from msgspec import Struct

from halfopen import address
from halfopen.matching.pairing.records import unanswered
from halfopen.matching.pairing.server import PortAndState, server_is_first
from halfopen.matching.places.addresses import AddressMap
from halfopen.matching.verdict.table import THE_TABLE, Accord, Answer, Seen
from halfopen.model import Absence, NetnsRef
from halfopen.schema.report import Reason
from halfopen.table import NO_INODE
from halfopen.tcp import State, state_of

States = tuple[State | None, State | None]
"""The states of the client's end and the server's; None where there is no socket."""

BOTH_ESTABLISHED = (State.ESTABLISHED, State.ESTABLISHED)


class Agreement(NamedTuple):
    """The hosts and the states of the two ends of a connection that agree. A state is None where there is no socket."""

    client_host: str
    server_host: str
    client: State | None
    server: State | None


class EndQuery(Struct, frozen=True):
    """One end of a suspect: the namespaces where it is or would be, its key there, and its scope.

    `scope`: the index of the interface that the socket is bound to, 0 for none or unknown.
    """

    places: tuple[NetnsRef, ...]
    key: bytes
    scope: int = 0


class Loss(Enum):
    """What is known of how an end of a translated connection was lost.

    PLACE_GONE: nobody has the address any more to which its entry leads. ENTRY_GONE: the entry itself is gone.
    """

    PLACE_GONE = auto()
    ENTRY_GONE = auto()


class Suspect(Struct, frozen=True):
    """A connection whose two ends looked different, or odd, in the dumps.

    client_first: whether the client's end is looked up first: the end that was there.
    agreed: the states of the two ends if these agree, and something else is odd about it.
    contested: several hosts say that the address of one of its ends is theirs, so it may be any of theirs.
    translation: how the keys of the ends correspond where they differ. ambiguous: more than one translation fits.
    inferred: no table says what translates, it was guessed.
    doubt: why an absent end may exist all the same, in words: if one of `standins` could be it, or always if there
    are none. reason: the code of that doubt in the report.
    to_the_byte: whether a stand-in must fit by its byte counters, because nothing on the way hands on.
    queue_full: whether the listener of its server's end had a full accept queue in the dump. opening: whether its
    client's end was in SYN_SENT there, so that a table might not show yet where it leads.
    loss: how an end was lost, as far as translation tells.
    """

    client: EndQuery
    server: EndQuery
    client_first: bool
    agreed: States | None = None
    translation: str | None = None
    ambiguous: bool = False
    inferred: bool = False
    doubt: str | None = None
    reason: Reason | None = None
    standins: tuple[EndQuery, ...] = ()
    contested: bool = False
    to_the_byte: bool = False
    queue_full: bool = False
    opening: bool = False
    loss: Loss | None = None


class SeenRow(Struct, frozen=True):
    """A row of a dump with a given key: its namespace, interface index, state and marks (see `table`)."""

    place: NetnsRef
    scope: int
    state: Seen
    marks: int


class Connection(Struct, frozen=True):
    """One connection of which the rows did not simply agree. `odd`: its states alone do not say that it is healthy."""

    suspect: Suspect
    states: States
    answer: Answer
    odd: bool

    @property
    def agreement(self) -> Agreement:
        """Its hosts and states, if the ends agree."""
        return agreement_of(self.suspect, self.states)


def agreement_of(suspect: Suspect, states: States) -> Agreement:
    """A suspect as an agreement of its two ends in these states."""
    return Agreement(suspect.client.places[0].host, suspect.server.places[0].host, *states)


def resolve(addresses: AddressMap, left: set[bytes]) -> Iterator[Connection]:
    """Keys (as the client role sees them) that did not cancel -> connections, each once."""
    if not left:
        return
    wanted = left | {address.mirror(key) for key in left}
    index: dict[bytes, list[SeenRow]] = {}
    for netns, namespace in addresses.namespaces().items():
        for block in namespace.table.blocks:
            for key, number, marks in block.rows():
                if key in wanted and addresses.has_end(netns, key):
                    state = state_of(number) or Absence.UNSEEN
                    index.setdefault(key, []).append(SeenRow(netns, block.scope, state, marks))
    each = sorted({min(key, address.mirror(key)): key for key in sorted(left, reverse=True)}.values())
    peers = Counter(end for key in each for end in (address.split_key(key)[:2], address.split_key(key)[2:]))
    for key in each:
        other = address.mirror(key)
        if key != other:
            yield from connections_of(addresses, key, index.get(key, []), index.get(other, []), peers)


def connections_of(
    addresses: AddressMap,
    key: bytes,
    near: Sequence[SeenRow],
    far: Sequence[SeenRow],
    peers: Mapping[tuple[bytes, int], int],
) -> Iterator[Connection]:
    """The connections that one tuple stands for: one, and one in each namespace that has both of its addresses apart.

    near: the rows with this key. far: the rows with its mirror image. peers: address and port -> connections there.
    """
    local, _, peer, _ = address.split_key(key)
    places = dict.fromkeys(row.place for row in (*near, *far))
    apart = [netns for netns in places if addresses.is_apart(netns, local) and addresses.is_apart(netns, peer)]
    for netns in apart:
        here = [[row for row in rows if row.place == netns] for rows in (near, far)]
        yield connection_of(addresses, key, here[0], here[1], peers)
    rest = [[row for row in rows if row.place not in apart] for rows in (near, far)]
    if rest[0] or rest[1] or not apart:
        for first, second in split_by_host(rest[0], rest[1]):
            yield connection_of(addresses, key, first, second, peers)


def split_by_host(near: Sequence[SeenRow], far: Sequence[SeenRow]) -> Iterator[tuple[list[SeenRow], list[SeenRow]]]:
    """The rows of the two ends of one tuple, connection by connection.

    Where the tuple is in many namespaces (private networks overlap), the two ends on one host are a connection.
    """
    hosts = []
    if len({row.place for row in near}) > 1 or len({row.place for row in far}) > 1:
        for host in sorted({row.place.host for row in near} & {row.place.host for row in far}):
            here = [[row for row in rows if row.place.host == host] for rows in (near, far)]
            if all(len({row.place for row in rows}) == 1 for rows in here):
                hosts.append(host)
                yield here[0], here[1]
    rest = [[row for row in rows if row.place.host not in hosts] for rows in (near, far)]
    if rest[0] or rest[1] or not hosts:
        yield rest[0], rest[1]


def connection_of(
    addresses: AddressMap,
    key: bytes,
    near: Sequence[SeenRow],
    far: Sequence[SeenRow],
    peers: Mapping[tuple[bytes, int], int],
) -> Connection:
    """One connection from the rows of its two ends, of which one may have none. peers: as in `connections_of`."""
    other = address.mirror(key)
    near_places = tuple(dict.fromkeys(row.place for row in near)) or expected(addresses, key, far)
    far_places = tuple(dict.fromkeys(row.place for row in far)) or expected(addresses, other, near)
    local, local_port, peer, peer_port = address.split_key(key)
    claims = [
        dict.fromkeys(netns for seen_from in places for netns in addresses.claimants(seen_from, packed))
        for places, packed in ((far_places, local), (near_places, peer))
    ]
    near_places, far_places = (
        tuple(dict.fromkeys((*places, *claim))) for places, claim in zip((near_places, far_places), claims, strict=True)
    )
    near_row, far_row = latest(near), latest(far)
    ends = [(key, near_places, near_row), (other, far_places, far_row)]
    if server_is_first(
        addresses,
        PortAndState(local_port, near_places, near_row.state if near_row else None, peers[local, local_port]),
        PortAndState(peer_port, far_places, far_row.state if far_row else None, peers[peer, peer_port]),
    ):
        ends.reverse()
    (client_key, client_places, client), (server_key, server_places, server) = ends
    states = (state_at(addresses, client, client_places), state_at(addresses, server, server_places))
    reason = why_unjudged(addresses, client_places, server_places) if Absence.UNSEEN in states else None
    if not client_places or not server_places:
        reason = Reason.CLAIMED_TWICE
    answer: Answer = Accord.UNJUDGED if reason is not None else THE_TABLE[states]
    is_odd = client and server and (unanswered(client.marks) or unanswered(server.marks) or server.marks & NO_INODE)
    return Connection(
        Suspect(
            EndQuery(client_places, client_key, client.scope if client else 0),
            EndQuery(server_places, server_key, server.scope if server else 0),
            client_first=client is not None,
            contested=any(claims),
            doubt=DOUBTS[reason] if reason is not None else None,
            reason=reason,
            opening=client is not None and client.state is State.SYN_SENT,
            queue_full=any((netns, address.split_key(server_key)[1]) in addresses.full for netns in server_places),
        ),
        (state_or_none(states[0]), state_or_none(states[1])),
        answer,
        odd=bool(is_odd) or any(claims) or len(near) > 1 or len(far) > 1,
    )


def state_at(addresses: AddressMap, row: SeenRow | None, namespaces: Sequence[NetnsRef]) -> Seen:
    """The state of an end. Without a row: ABSENT, or UNSEEN where the table of a namespace may lack rows."""
    if row is not None:
        return row.state
    return Absence.ABSENT if addresses.partial.keys().isdisjoint(namespaces) else Absence.UNSEEN


def why_unjudged(addresses: AddressMap, *ends: Sequence[NetnsRef]) -> Reason:
    """Why an end was not seen: its namespace was read in part, or the state of its row is none that TCP has."""
    partial = (addresses.partial[netns] for places in ends for netns in places if netns in addresses.partial)
    return next(partial, Reason.ROW_DAMAGED)


def expected(addresses: AddressMap, key: bytes, others: Sequence[SeenRow]) -> tuple[NetnsRef, ...]:
    """The namespaces in which the missing end with this key would be.

    Empty if two hosts claim the address of the other end, and the one that has this end's would look for it elsewhere.
    `others`: the rows of the other end.
    """
    local, _, peer, _ = address.split_key(key)
    if not others:
        return ()
    other = others[0].place
    owners = addresses.owners_of(other, local)
    if peer not in addresses.shared:
        return owners
    return tuple(owner for owner in owners if other in addresses.owners_of(owner, peer))


def latest(rows: Sequence[SeenRow]) -> SeenRow | None:
    """The row that counts: a dump may give a socket twice as it moves, and a TIME_WAIT beside its successor."""
    candidates = [row for row in rows if row.state is not State.TIME_WAIT] or rows
    return candidates[-1] if candidates else None


def state_or_none(seen: Seen) -> State | None:
    """The state, None where there is no socket."""
    return seen if isinstance(seen, State) else None


DOUBTS: dict[Reason, str] = {
    Reason.CLAIMED_TWICE: "two hosts claim an address of theirs, so it is not known which connection is whose",
    Reason.ROW_DAMAGED: "their other end may stand in a row that could not be read, or that is missing",
    Reason.NAMESPACE_NOT_ENTERED: "the network namespace of their other end could not be read to its end",
    Reason.NOT_SHOWN_BY_SOURCE: "the source of their other end's host does not show every socket",
}
"""Why an end was not seen in the dumps, after `could not be judged: `."""
