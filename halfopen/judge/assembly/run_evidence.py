"""The collected evidence of one check, and the look-up of one finding's evidence in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from msgspec import Struct, field
from msgspec.structs import replace

from halfopen import address
from halfopen.errors import HostError
from halfopen.judge.confirm.asked import Asked, judged
from halfopen.judge.confirm.bracket import Bracket
from halfopen.judge.confirm.byte_counters import Counts
from halfopen.judge.confirm.rounds import Confirmed, Held, held
from halfopen.judge.signs.case import Case, HostEvidence, listener_of
from halfopen.matching.pairing.connection import Suspect
from halfopen.matching.pairing.match import Matching
from halfopen.model import Collector, NetnsRef, Routing, Snapshot
from halfopen.schema.report import Confidence


class Evidence(Struct, frozen=True):
    """The collected evidence of one check: the dump of each host, the matching, and the brackets around its suspects.

    hosts: what was read after the looks, for each host with an end of a suspect. notes: what a reader should know about
    how it was read, a sentence each. elapsed_s: seconds from the first question to the last answer, None if unknown.
    counts: byte counters, by namespace. missing: why "clean" cannot be said, beyond what snapshots and brackets show.
    suspected: connections that looked wrong in the dumps, before the brackets. routing: routes between the ends of
    suspects that lack one; empty where none was asked for, or none could be read. asked: what asking through
    connections brought.
    at_most: the best confidence that it allows. apart: pairs of hosts, either order, of which it shows no two things
    of one time, so that a finding is inferred. unconfirmed: why findings are, in words, and what would confirm them.
    """

    snapshots: Mapping[str, Snapshot]
    matching: Matching
    brackets: Sequence[Bracket] = ()
    hosts: Mapping[str, HostEvidence] = {}
    notes: Sequence[str] = ()
    elapsed_s: float | None = None
    counts: Counts = {}
    missing: Sequence[str] = ()
    suspected: int = 0
    routing: Mapping[NetnsRef, Routing] = {}
    asked: Asked = field(default_factory=Asked)
    at_most: Confidence = Confidence.PROVEN
    apart: frozenset[tuple[str, str]] = frozenset()
    unconfirmed: Sequence[str] = ()

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """Those that the rounds did not clear, and pairs that turned out to be dead when they were asked."""
        return (*self.matching.suspects, *(confirmed.suspect for confirmed in self.asked.silent))


def case_of(confirmed: Confirmed, evidence: Evidence) -> Case:
    """A confirmed suspect with the evidence of its two hosts, and the listener at the server's end."""
    client, server = confirmed.client_place, confirmed.server_place
    listener = listener_of(evidence.snapshots.get(server.host), server, confirmed.suspect.server.key)
    return Case(confirmed, evidence_at(client, evidence), evidence_at(server, evidence), listener)


def cases_of(lasting: Sequence[Confirmed], evidence: Evidence) -> list[Case]:
    """The cases of confirmed suspects, with who had the address of an absent end before."""

    @cache
    def former(packed: bytes, *ends: str) -> str | None:
        others = (name for name in sorted(evidence.snapshots) if name not in ends)
        return next((name for name in others if had(evidence, name, packed)), None)

    found = []
    for confirmed in lasting:
        case, suspect = case_of(confirmed, evidence), confirmed.suspect
        for end, key in ((confirmed.client, suspect.client.key), (confirmed.server, suspect.server.key)):
            packed = address.split_key(key)[0]
            if end is None and not address.is_loopback(packed):
                case = replace(case, former=former(packed, case.client.name, case.server.name))
        found.append(case)
    return found


def had(evidence: Evidence, name: str, packed: bytes) -> bool:
    """Whether a host has sockets with a local address, and the address no more."""
    spaces = evidence.snapshots[name].namespaces
    if any(own.address == packed for space in spaces for own in space.addresses):
        return False
    return any(packed in block.locals() for space in spaces for block in space.table.blocks)


def evidence_at(netns: NetnsRef, evidence: Evidence) -> HostEvidence:
    """The evidence of a host for one of its network namespaces. The first that a snapshot has is the host's own."""
    host = evidence.hosts.get(netns.host) or HostEvidence(netns.host)
    snapshot = evidence.snapshots.get(netns.host)
    own = snapshot is None or not snapshot.namespaces or snapshot.namespaces[0].netns == netns.netns
    return host if own else host.within(netns.netns)


def host_error(name: str, evidence: Evidence) -> HostError | None:
    """Why a host could not be read, in its dump or in a bracket; None if it was read each time."""
    snapshot = evidence.snapshots.get(name)
    if snapshot is not None and snapshot.error is not None:
        return snapshot.error
    return next((bracket.errors[name] for bracket in evidence.brackets if name in bracket.errors), None)


def wanted_inodes(suspects: Sequence[Suspect], evidence: Evidence) -> dict[str, set[int]]:
    """Host -> inodes of the sockets of findings and of their listeners: those whose processes the report names."""
    inodes: dict[str, set[int]] = {}
    found = held(suspects, evidence.brackets) if evidence.brackets else Held([], [], [])
    lasting, _ = judged(found.confirmed, found.unjudged, evidence.asked)
    for confirmed in lasting:
        case = case_of(confirmed, evidence)
        for host, socket in (
            (case.client.name, confirmed.client),
            (case.server.name, confirmed.server),
            (case.server.name, case.listener),
        ):
            if socket is not None and socket.inode:
                inodes.setdefault(host, set()).add(socket.inode)
    return inodes


def involved(suspects: Sequence[Suspect]) -> set[str]:
    """The hosts that have an end of these suspects, or would have it."""
    return {netns.host for suspect in suspects for end in (suspect.client, suspect.server) for netns in end.places}


def is_by_fallback(snapshot: Snapshot) -> bool:
    """Whether a host was read by a collector that gives no socket cookies. False if it was not read."""
    return snapshot.facts is not None and snapshot.facts.collector is not Collector.NETLINK
