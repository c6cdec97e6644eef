"""Why a missing end may exist all the same: hosts that did not say what they translate, sockets that could be it.

Sockets that could be the missing end of a connection, behind a translation that no table tells of, are looked at too,
and what they have sent and received, and when, tells whether one fits (`confirm.candidates`).
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from halfopen import address
from halfopen.judge.pairing.connection import EndQuery, Suspect
from halfopen.judge.pairing.guess import Inferred
from halfopen.judge.pairing.lone_end import Endpoint, EndpointRow, LoneEnd, RowIndex
from halfopen.judge.pairing.match import Matching
from halfopen.judge.pairing.pair import Prepared
from halfopen.model import NetnsRef, Snapshot
from halfopen.plan import CheckPlan
from halfopen.schema.report import Reason

CANDIDATES = 2000  # sockets that are looked at in place of one missing end
COMPARISONS = 400_000  # of lone ends with such sockets; beyond that they are doubted together


def doubted(check: Prepared, inferred: Inferred) -> Matching:
    """The matching with a doubt at each missing end that may exist."""
    doubts = Doubts(check.plan, check.snapshots, inferred.index, inferred.used)
    for lone in inferred.lones:
        doubts.alone.setdefault((lone.is_client, lone.server), []).append(lone.row)
    seen = {lone.suspect: doubts.doubted(lone) for lone in inferred.lones}
    suspects = tuple(seen.get(suspect, suspect) for suspect in inferred.matching.suspects)
    return replace(inferred.matching, suspects=suspects)


@dataclass
class Doubts:
    """What the doubts of one check rest on.

    used: (namespace, key) of rows that are an end of another connection already. alone: (whether it is a client's end,
    server's endpoint) -> rows of lone ends. compared: rows that were named as stand-ins so far.
    """

    plan: CheckPlan
    snapshots: Mapping[str, Snapshot]
    index: RowIndex
    used: AbstractSet[tuple[NetnsRef, bytes]]
    alone: dict[tuple[bool, Endpoint], list[EndpointRow]] = field(default_factory=dict)
    compared: int = 0

    def doubted(self, lone: LoneEnd) -> Suspect:
        """The suspect with the doubt about its missing end, if there is one; else as it is."""
        suspect = lone.suspect
        missing = suspect.server if lone.is_client else suspect.client
        hidden = [netns.host for netns in missing.places if is_hidden(self.snapshots[netns.host])]
        unread = [name for name in self.plan.nat if not is_read(self.snapshots.get(name))]
        if unread:
            return replace(suspect, doubt=UNREAD.format(host=unread[0]))
        if hidden:
            if sees_all(self.snapshots[hidden[0]]):
                return replace(suspect, doubt=UNTOLD.format(host=hidden[0]))
            return replace(suspect, doubt=HIDDEN.format(host=hidden[0]), reason=Reason.NAMESPACE_NOT_ENTERED)
        return self.with_standins(lone)

    def with_standins(self, lone: LoneEnd) -> Suspect:
        """The suspect with the sockets that could be its missing end behind a translation; as it is if there are none.

        Where they are too many to look up, the doubt names none.
        """
        rows = self.standins(lone)
        if not rows:
            return lone.suspect
        peers = {address.split_key(row.key)[2] for row in rows}
        local = address.endpoint(*address.split_key(rows[0].key)[:2])
        far = address.show(next(iter(peers))) if len(peers) == 1 else "other addresses"
        self.compared += len(rows)
        few = len(rows) <= CANDIDATES and self.compared <= COMPARISONS
        words = STAND_IN if lone.is_client else HANDED_ON
        return replace(
            lone.suspect,
            doubt=words.format(far=far, local=local, host=rows[0].place.host),
            standins=tuple(EndQuery((row.place,), row.key, row.scope) for row in rows) if few else (),
        )

    def standins(self, lone: LoneEnd) -> list[EndpointRow]:
        """The rows without an end of their own that may be the other end of a lone one, each once.

        Those at the endpoint where it should be, with a far peer; those of a local proxy, whose peer is the client's
        endpoint; and ends that are as alone as it is, and of the same server.
        """
        expected = lone.server if lone.is_client else lone.client
        rows = [row for row in self.index.local.get(expected, ()) if row.outside]
        if lone.is_client:
            rows += self.index.peered.get(lone.client, ())
        rows += self.alone.get((not lone.is_client, lone.server), ())
        there = {(row.place, row.key): row for row in rows if (row.place, row.key) not in self.used}
        return list(there.values())


def is_hidden(snapshot: Snapshot) -> bool:
    """Whether connections of a host may end in a namespace, or by a translation, that could not be read."""
    entered = sees_all(snapshot)
    return any(
        namespace.forwards and namespace.tracked != 0 and (not entered or namespace.rewrites is None)
        for namespace in snapshot.namespaces
    )


def sees_all(snapshot: Snapshot) -> bool:
    """Whether a host was read with the right to enter its network namespaces. True if that is unknown."""
    return snapshot.facts is None or snapshot.facts.sees_namespaces is not False


def is_read(snapshot: Snapshot | None) -> bool:
    """Whether all translations of a host were read. A namespace without connection tracking has none."""
    return (
        snapshot is not None
        and bool(snapshot.namespaces)
        and all(namespace.tracked == 0 or namespace.rewrites is not None for namespace in snapshot.namespaces)
    )


UNREAD = (
    "their other end is not there, but {host}, which the check names under nat, did not tell what it translates: "
    "it needs root there (sudo = true)"
)
HIDDEN = (
    "their other end is not on {host}, but {host} forwards packets and may hide it in a container: "
    "to look there needs root (sudo = true)"
)
UNTOLD = (
    "their other end is not on {host}, but {host} forwards packets and did not tell what it translates: its connection "
    "tracking could not be read, neither by netlink nor in /proc/net/nf_conntrack"
)
STAND_IN = (
    "their other end is not there, but {host} has connections of {far} at {local} that could be theirs behind a box "
    "that translates: name it under nat"
)
HANDED_ON = (
    "their other end is not there, but {host} has a connection from {local} to {far} that could be theirs: "
    "add that address to the server's addresses, or name the box that translates under nat"
)
