"""Why a missing end may exist all the same: hosts that did not say what they translate, sockets that could be it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from halfopen import address
from halfopen.judge.pairing.connection import EndQuery, Suspect
from halfopen.judge.pairing.lone_end import LoneEnd, RowIndex
from halfopen.judge.pairing.reach import NOT_ENTERED, unentered_of
from halfopen.model import Namespace, NetnsRef, Snapshot
from halfopen.plan import CheckPlan
from halfopen.schema.report import Reason

CANDIDATES = 2000  # sockets that are looked at in place of one missing end
COMPARISONS = 400_000  # of lone ends with such sockets; beyond that they are doubted together


@dataclass
class Doubts:
    """What the doubts of one check rest on.

    namespaces: those of both roles. used: (namespace, key) of rows that are an end of another connection already.
    compared: rows that were named as stand-ins so far.
    """

    plan: CheckPlan
    snapshots: Mapping[str, Snapshot]
    namespaces: Mapping[NetnsRef, Namespace]
    index: RowIndex
    used: AbstractSet[tuple[NetnsRef, bytes]]
    compared: int = 0

    def doubted(self, lone: LoneEnd) -> Suspect:
        """The suspect with the doubt about its missing end, if there is one; else as it is."""
        suspect = lone.suspect
        missing = suspect.server if lone.is_client else suspect.client
        hidden = [netns.host for netns in missing.places if is_hidden(self.snapshots[netns.host])]
        unread = [name for name in self.plan.nat if not is_read(self.snapshots.get(name))]
        if host := self.not_entered(missing):
            return replace(suspect, doubt=NOT_ENTERED.format(host=host), reason=Reason.NAMESPACE_NOT_ENTERED)
        direct = self.index.is_direct(lone)
        if unread and not direct:
            return replace(suspect, doubt=UNREAD.format(host=unread[0]))
        if hidden and not (direct and lone.is_client):
            if sees_all(self.snapshots[hidden[0]]):
                return replace(suspect, doubt=UNTOLD.format(host=hidden[0]))
            return replace(suspect, doubt=HIDDEN.format(host=hidden[0]), reason=Reason.NAMESPACE_NOT_ENTERED)
        if direct or (lone.is_client and lone.is_on_link(self.namespaces)):
            return suspect
        return self.with_standins(lone)

    def not_entered(self, missing: EndQuery) -> str | None:
        """The host of a missing end that may be in a namespace which was not entered, and is not in the host's own."""
        packed = address.split_key(missing.key)[0]
        for netns in missing.places:
            snapshot = self.snapshots[netns.host]
            own = snapshot.namespaces[0]
            if (
                netns.netns == own.netns
                and unentered_of(snapshot)
                and packed not in {row.address for row in own.addresses}
            ):
                return netns.host
        return None

    def with_standins(self, lone: LoneEnd) -> Suspect:
        """The suspect with the sockets that could be its missing end behind a translation; as it is if there are none.

        Where they are too many to look up, the doubt names none.
        """
        local = lone.server if lone.is_client else lone.client
        rows = [row for row in self.index.local.get(local, ()) if row.outside and (row.place, row.key) not in self.used]
        if not rows:
            return lone.suspect
        far = address.show(rows[0].peer[0]) if len({row.peer[0] for row in rows}) == 1 else "other addresses"
        self.compared += len(rows)
        few = len(rows) <= CANDIDATES and self.compared <= COMPARISONS
        words = STAND_IN if lone.is_client else HANDED_ON
        return replace(
            lone.suspect,
            doubt=words.format(far=far, local=address.endpoint(*local), host=rows[0].place.host),
            standins=tuple(EndQuery((row.place,), row.key, row.scope) for row in rows) if few else (),
        )


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
