"""The connections of a check's hosts that could not be judged: one row of the report each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from halfopen import address
from halfopen.judge.confirm.bracket import ends
from halfopen.judge.confirm.rounds import Unjudged
from halfopen.matching.pairing.connection import Suspect
from halfopen.matching.pairing.match import Matching
from halfopen.model import NetnsRef, Snapshot
from halfopen.schema.report import UnjudgedRow
from halfopen.tcp import State, state_of

End = tuple[NetnsRef, bytes]
"""A network namespace, and the key of a socket in it."""


def unjudged_of(matching: Matching, looked_at: Sequence[Unjudged]) -> list[Unjudged]:
    """All connections that were not judged: those of which a dump does not show an end, and those that looks left."""
    unseen = [Unjudged(suspect, suspect.doubt, suspect.reason) for suspect in matching.unjudged if suspect.reason]
    return [*unseen, *looked_at]


def unjudged_rows(unjudged: Sequence[Unjudged], snapshots: Mapping[str, Snapshot]) -> tuple[UnjudgedRow, ...]:
    """A row for each, by reason and client; its state is that of the last look, or of the dump where there is none."""
    states = states_in(snapshots, [skipped.suspect for skipped in unjudged if skipped.survivor is None])
    rows = []
    for skipped in unjudged:
        local, local_port, peer, peer_port = address.split_key(skipped.suspect.client.key)
        for netns, state in ends_seen(skipped, states)[:1]:
            rows.append(
                UnjudgedRow(
                    client=address.endpoint(local, local_port),
                    server=address.endpoint(peer, peer_port),
                    host=netns.host,
                    state=state,
                    reason=skipped.reason,
                )
            )
    return tuple(sorted(rows, key=lambda row: (row.reason, row.client, row.server)))


def ends_seen(skipped: Unjudged, states: Mapping[End, State]) -> list[tuple[NetnsRef, State]]:
    """The ends of a connection that were seen, first the one that was there. `states`: those that the dumps show."""
    if skipped.survivor is not None:
        return [(skipped.survivor.place, skipped.survivor.looks[-1].state)]
    return [(netns, states[netns, key]) for netns, key in places_of(skipped.suspect) if (netns, key) in states]


def places_of(suspect: Suspect) -> list[End]:
    """Where the ends of a suspect are or would be, first the end that was there."""
    return [(netns, end.key) for end in ends(suspect) for netns in end.places]


def states_in(snapshots: Mapping[str, Snapshot], suspects: Iterable[Suspect]) -> dict[End, State]:
    """The states of the ends of these suspects that the dumps show."""
    wanted = {end for suspect in suspects for end in places_of(suspect)}
    if not wanted:
        return {}
    return {
        (netns, key): state
        for snapshot in snapshots.values()
        for namespace in snapshot.namespaces
        for netns in (NetnsRef(snapshot.host, namespace.netns),)
        for key, number, _ in namespace.table.rows()
        if (netns, key) in wanted and (state := state_of(number)) is not None
    }
