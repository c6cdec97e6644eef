"""Why a missing end may exist all the same: hosts that did not say what they translate, sockets that could be it.

Sockets that could be the missing end of a connection, behind a translation that no table tells of, are looked at too,
and what they have sent and received, and when, tells whether one fits (`candidates`).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.matching.missing.forgotten import Forgetting
from halfopen.matching.missing.guess import Inferred
from halfopen.matching.missing.lone_end import Endpoint, EndpointRow, LoneEnd, RowIndex
from halfopen.matching.missing.way import Network, is_read, is_relayed, why_unproven
from halfopen.matching.pairing.connection import EndQuery, Suspect
from halfopen.matching.pairing.match import Matching
from halfopen.matching.places.reach import NOT_ENTERED, unentered_of
from halfopen.model import Collector, NetnsRef, Snapshot
from halfopen.schema.report import Reason

CANDIDATES = 2000  # sockets that are looked at in place of one missing end
COMPARISONS = 400_000  # of lone ends with such sockets; beyond that they are doubted together


def doubted(network: Network, inferred: Inferred) -> Matching:
    """The matching with a doubt at each missing end that may exist. network: the ways between its hosts."""
    doubts = Doubts(network, inferred.index, inferred.used)
    for lone in inferred.lones:
        doubts.alone.setdefault((lone.is_client, lone.server), []).append(lone.row)
        doubts.of_client.setdefault((lone.is_client, lone.client), []).append(lone.row)
    forgetting = Forgetting(network, inferred.lones)
    seen = {lone.suspect: forgetting.told(lone, doubts.doubted(lone)) for lone in inferred.lones}
    suspects = tuple(seen.get(suspect, suspect) for suspect in inferred.matching.suspects)
    return replace(inferred.matching, suspects=suspects)


class Doubts(Struct):
    """What the doubts of one check rest on.

    used: (namespace, key) of rows that are an end of another connection already. alone: (whether it is a client's end,
    server's endpoint) -> rows of lone ends; of_client: the same by the client's endpoint. compared: how many rows were
    named as stand-ins so far.
    """

    network: Network
    index: RowIndex
    used: AbstractSet[tuple[NetnsRef, bytes]]
    alone: dict[tuple[bool, Endpoint], list[EndpointRow]] = {}
    of_client: dict[tuple[bool, Endpoint], list[EndpointRow]] = {}
    compared: int = 0

    def doubted(self, lone: LoneEnd) -> Suspect:
        """The suspect with the doubt about its missing end, if there is one; else as it is."""
        suspect = lone.suspect
        missing = suspect.server if lone.is_client else suspect.client
        hidden = [netns.host for netns in missing.places if is_hidden(self.network.snapshots[netns.host])]
        if host := self.not_entered(missing):
            return replace(suspect, doubt=NOT_ENTERED.format(host=host), reason=Reason.NAMESPACE_NOT_ENTERED)
        unread = [name for name in self.network.plan.nat if not is_read(self.network.snapshots.get(name))]
        if unread:
            return replace(suspect, doubt=UNREAD.format(host=unread[0]), reason=Reason.NOT_SHOWN_BY_SOURCE)
        if hidden:
            if sees_all(self.network.snapshots[hidden[0]]):
                return replace(suspect, doubt=UNTOLD.format(host=hidden[0]), reason=Reason.NOT_SHOWN_BY_SOURCE)
            return replace(suspect, doubt=HIDDEN.format(host=hidden[0]), reason=Reason.NAMESPACE_NOT_ENTERED)
        return self.with_standins(lone)

    def not_entered(self, missing: EndQuery) -> str | None:
        """The host of a missing end that may be in a namespace which was not entered, and is not in the host's own."""
        packed = address.split_key(missing.key)[0]
        for netns in missing.places:
            snapshot = self.network.snapshots[netns.host]
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
        direct, readdressed = self.is_direct(lone), self.readdressed(lone)
        rows = readdressed if direct and readdressed else list(dict.fromkeys([*readdressed, *self.standins(lone)]))
        if not rows:
            return lone.suspect
        peers = {address.split_key(row.key)[2] for row in rows}
        local = address.endpoint(*address.split_key(rows[0].key)[:2])
        far = address.show(next(iter(peers))) if len(peers) == 1 else "other addresses"
        self.compared += len(rows)
        few = len(rows) <= CANDIDATES and self.compared <= COMPARISONS
        if not few and direct:
            return lone.suspect
        words = STAND_IN if lone.is_client else HANDED_ON
        return replace(
            lone.suspect,
            doubt=words.format(far=far, local=local, host=rows[0].place.host),
            standins=tuple(EndQuery((row.place,), row.key, row.scope) for row in rows) if few else (),
            # Of many ends of one server some have the same bytes by chance; of one client's port there is one.
            to_the_byte=direct and not readdressed,
        )

    def is_direct(self, lone: LoneEnd) -> bool:
        """Whether nothing on the way between the ends can translate or answer unseen."""
        return why_unproven(lone.suspect, lone.row.place, lone.is_client, self.network) is None

    def readdressed(self, lone: LoneEnd) -> list[EndpointRow]:
        """The rows that are as alone as it is, of the same client's endpoint: its server's may have been rewritten.

        That takes no table: nft and eBPF rewrite without connection tracking, also on one link. None where the plan
        vouches that nothing does.
        """
        rows = self.of_client.get((not lone.is_client, lone.client), ())
        if self.network.plan.direct or not self.tells_bytes(lone.row):
            return []
        return [row for row in rows if self.tells_bytes(row) and (row.place, row.key) not in self.used]

    def unpaired_peers(self, lone: LoneEnd) -> list[EndpointRow]:
        """The rows whose peer is a client's endpoint, without those whose other end is there: a port serves several."""
        paired = {address.mirror(row.key) for row in self.index.local.get(lone.client, ())}
        rows = (row for row in self.index.peered.get(lone.client, ()) if row.key not in paired)
        return [row for row in rows if self.tells_bytes(row)]

    def tells_bytes(self, row: EndpointRow) -> bool:
        """Whether a look at a row tells what it has sent and received, and when."""
        facts = self.network.snapshots[row.place.host].facts
        return facts is not None and facts.collector is Collector.NETLINK

    def standins(self, lone: LoneEnd) -> list[EndpointRow]:
        """The rows without an end of their own that may be the other end of a lone one, each once.

        Those at the endpoint where it should be, with a far peer; those of a local proxy, whose peer is the client's
        endpoint; and ends that are as alone as it is, and of the same server. Where nothing on the way can translate or
        answer, only the last: a host may change ports without a table. Where a program on the way relays, it is the far
        peer, and a row that has its own other end may be the one.
        """
        mutual = self.alone.get((not lone.is_client, lone.server), ())
        rows = [row for row in mutual if self.tells_bytes(row) and self.tells_bytes(lone.row)]
        if not self.is_direct(lone):
            expected = lone.server if lone.is_client else lone.client
            relayed = is_relayed(lone.suspect, lone.row.place, lone.is_client, self.network)
            rows += [row for row in self.index.local.get(expected, ()) if row.outside or relayed]
            rows += self.unpaired_peers(lone) if lone.is_client else ()
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
