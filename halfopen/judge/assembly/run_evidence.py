"""All that a check rests on, and one finding of it with what is known of its two hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from halfopen.errors import HostError
from halfopen.judge.confirm.bracket import Bracket, Confirmed, held
from halfopen.judge.diagnosis.case import Case, HostEvidence, listener_of
from halfopen.judge.pairing.byte_counters import Counts
from halfopen.judge.pairing.match import Matching, Suspect
from halfopen.model import Collector, NetnsRef, Snapshot


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a check rests on: the first look at each host, its matching, and the brackets around the suspects."""

    snapshots: Mapping[str, Snapshot]
    matching: Matching
    brackets: Sequence[Bracket] = ()
    hosts: Mapping[str, HostEvidence] = field(default_factory=dict)
    notes: Sequence[str] = ()
    elapsed_s: float | None = None
    counts: Counts = field(default_factory=dict)
    missing: Sequence[str] = ()  # why "clean" cannot be said, beyond what snapshots and brackets show
    suspected: int = 0  # connections that looked wrong in the dumps, before the brackets


def case_of(one: Confirmed, evidence: Evidence) -> Case:
    """A finding with what is known of its two hosts."""
    sides = [evidence_at(place, evidence) for place in (one.client_place, one.server_place)]
    snapshot = evidence.snapshots.get(one.server_place.host)
    return Case(one, sides[0], sides[1], listener_of(snapshot, one.server_place, one.suspect.server.key))


def evidence_at(place: NetnsRef, evidence: Evidence) -> HostEvidence:
    """What is known of a host, as it is in one of its namespaces: the first is the host's own."""
    host = evidence.hosts.get(place.host) or HostEvidence(place.host)
    snapshot = evidence.snapshots.get(place.host)
    own = snapshot is None or not snapshot.namespaces or snapshot.namespaces[0].netns == place.netns
    return host if own else host.within(place.netns)


def host_error(name: str, evidence: Evidence) -> HostError | None:
    """Why a host could not be read, at the first look or at a later one."""
    snapshot = evidence.snapshots.get(name)
    if snapshot is not None and snapshot.error is not None:
        return snapshot.error
    return next((bracket.errors[name] for bracket in evidence.brackets if name in bracket.errors), None)


def wanted_inodes(plan_suspects: Sequence[Suspect], evidence: Evidence) -> dict[str, set[int]]:
    """Host -> inodes whose processes the report needs: those of findings and of their listeners, and no others."""
    found: dict[str, set[int]] = {}
    lasting, _ = held(plan_suspects, evidence.brackets)
    for one in lasting:
        case = case_of(one, evidence)
        for host, socket in (
            (case.client.name, one.client),
            (case.server.name, one.server),
            (case.server.name, case.listener),
        ):
            if socket is not None and socket.inode:
                found.setdefault(host, set()).add(socket.inode)
    return found


def involved(suspects: Sequence[Suspect]) -> set[str]:
    """The hosts that have an end of one of these, or would have it."""
    return {place.host for one in suspects for ask in (one.client, one.server) for place in ask.places}


def is_by_fallback(snapshot: Snapshot) -> bool:
    """Whether a host was read by something that knows no cookies."""
    return snapshot.facts is not None and snapshot.facts.collector is not Collector.NETLINK
