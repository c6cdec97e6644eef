"""What `collect` reads: some moments of hosts, enough for `analyse` to find later what `check` would find now.

A moment is a dump of every host and then, when all have ended it, a look-up of each socket that it shows: timers, byte
counters, queues and cookies. After the last one all sockets are looked up once more. So for any two hosts the sockets
of the one are seen strictly between two looks at those of the other, whatever will be asked about them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct, structs
from msgspec.structs import replace

from halfopen import address
from halfopen.errors import HostError
from halfopen.evidence.saved import Run, Saved, SavedMoment, pack_observations, pack_routing
from halfopen.judge.assembly.check import stamp
from halfopen.judge.confirm.timing import LONGEST_S, tried_s
from halfopen.judge.signs.case import HostEvidence
from halfopen.model import Look, Lookup, NetnsRef, RouteQuery, Routing, Snapshot, Socket
from halfopen.run.fleet import Fleet
from halfopen.run.host_link import HostLink
from halfopen.run.save import new_id, saved_look
from halfopen.table import NO_INODE, RECV_QUEUE, RETRANSMITS, SEND_QUEUE
from halfopen.tcp import State, number_of
from halfopen.words import plural

LOOKED_UP = 20_000
"""Sockets of a host that are looked up in each moment, unless asked otherwise."""
ROUTES = 2000  # of a host
NAMESPACES = 50  # of a host, beside its own, of which kernel counters are read
ODD = RETRANSMITS | SEND_QUEUE | RECV_QUEUE | NO_INODE
ESTABLISHED, TIME_WAIT = number_of(State.ESTABLISHED), number_of(State.TIME_WAIT)


class Moment(Struct, frozen=True):
    """One moment of all hosts. `snapshots`: their dumps, as they were for the look-ups. `looks`: host -> its answers.

    unlooked: host -> how many sockets of its dump were not looked up.
    """

    began: datetime
    ended: datetime
    snapshots: Mapping[str, Snapshot]
    looks: Mapping[str, Look]
    unlooked: Mapping[str, int]

    def error(self, name: str) -> HostError | None:
        """Why a host could not be read in this moment; None if it was."""
        look = self.looks.get(name)
        return self.snapshots[name].error or (look.error if look is not None else None)


def collected(hosts: Fleet, rounds: int, settle: float, most: int) -> dict[str, Saved]:
    """Host -> what its file holds: so many moments, `settle` seconds apart; more, if a socket is trying again.

    most: sockets of a host that are looked up in each.
    """
    taken = [moment(hosts, most, None)]
    first = taken[0].snapshots
    hosts.involve(others_of(first))
    before = hosts.counters(first)
    for _ in range(rounds - 1):
        wait(hosts, max(settle, min(LONGEST_S, due_s(taken[-1]))))
        taken.append(moment(hosts, most, taken[-1]))
    after = hosts.counters(first) if rounds > 1 else {}
    for name, (later, _) in after.items():  # a namespace that is gone by now explains nothing
        counters, sysctls = before.get(name, ({}, {}))
        before[name] = ({counter: value for counter, value in counters.items() if counter in later}, sysctls)
    routing = hosts.each(hosts.still_open(routes_of(taken[-1])), HostLink.routes)
    owners = hosts.owners({name: inodes_of(snapshot, taken[-1].looks.get(name)) for name, snapshot in first.items()})
    if rounds > 1:
        # What one host says will be compared with files of other runs, whose moments may begin when these do.
        if len(first) == 1:
            wait(hosts, settle)
        taken.append(look_up(hosts, taken[-1].snapshots, wanted_again(taken[-1]), datetime.now(UTC)))
    run = Run(id=new_id(), started_at=stamp(taken[0].began), finished_at=stamp(datetime.now(UTC)))
    return {
        name: saved_moments(
            hosts,
            taken,
            rounds,
            HostEvidence(
                name,
                first[name].facts,
                before[name][0] if name in before else {},
                after[name][0] if name in after else {},
                before[name][1] if name in before else {},
                owners.get(name) or {},
            ),
            routing[name][0] if name in routing else {},
            run,
        )
        for name in first
    }


def moment(hosts: Fleet, most: int, before: Moment | None) -> Moment:
    """A dump of all hosts with what translates there, and a look-up of their sockets."""
    began = datetime.now(UTC)
    snapshots = hosts.first_look()
    tracking = {
        name: snapshot
        for name, snapshot in snapshots.items()
        if snapshot.error is None and any(namespace.tracked for namespace in snapshot.namespaces)
    }
    snapshots = {**snapshots, **hosts.translated(hosts.still_open(tracking))}
    wanted = {
        name: lookups(snapshot, most, before.looks.get(name) if before is not None else None)
        for name, snapshot in snapshots.items()
        if snapshot.error is None
    }
    return look_up(hosts, snapshots, wanted, began)


def look_up(
    hosts: Fleet, snapshots: Mapping[str, Snapshot], wanted: Mapping[str, Sequence[Lookup]], began: datetime
) -> Moment:
    """A moment of these dumps: all hosts are asked at once, when every one of them has ended its dump."""
    looks = {look.host: look for look in hosts.looks(wanted)}
    unlooked = {
        name: sum(not_closed(snapshot)) - len(wanted[name]) for name, snapshot in snapshots.items() if name in wanted
    }
    return Moment(began, datetime.now(UTC), snapshots, looks, unlooked)


def not_closed(snapshot: Snapshot) -> Iterator[int]:
    """How many sockets of each namespace are not in TIME_WAIT."""
    for namespace in snapshot.namespaces:
        yield len(namespace.table) - namespace.table.states().get(TIME_WAIT, 0)


def lookups(snapshot: Snapshot, most: int, before: Look | None) -> list[Lookup]:
    """What to look up on a host: its sockets but those in TIME_WAIT.

    Of more than `most` first those that were looked up in the moment before, then those with something odd about them.
    """
    known = before.sights if before is not None else {}
    ranked: tuple[list[Lookup], list[Lookup], list[Lookup]] = ([], [], [])
    for namespace in snapshot.namespaces:
        place = NetnsRef(snapshot.host, namespace.netns)
        for block in namespace.table.blocks:
            for key, state, marks in block.rows():
                if state != TIME_WAIT:
                    rank = 0 if (place, key) in known else 1 if state != ESTABLISHED or marks & ODD else 2
                    ranked[rank].append(Lookup(place, key, block.scope))
    return [lookup for lookups in ranked for lookup in lookups][:most]


def wanted_again(moment: Moment) -> dict[str, list[Lookup]]:
    """The sockets that were found in a moment, to be looked up once more."""
    return {
        name: [
            Lookup(place, key, found.scope) for (place, key), found in look.sights.items() if isinstance(found, Socket)
        ]
        for name, look in moment.looks.items()
        if moment.error(name) is None
    }


def due_s(moment: Moment) -> float:
    """Seconds until every socket of a moment has had a few of its timeouts, or has tried in vain often enough."""
    found = (seen for look in moment.looks.values() for seen in look.sights.values())
    return max((tried_s(socket) for socket in found if isinstance(socket, Socket)), default=0.0)


def wait(hosts: Fleet, seconds: float) -> None:
    """Waits, but never past the end of the run."""
    hosts.say(f"looking again after {seconds:.3g} s")
    time.sleep(max(0.0, min(seconds, hosts.deadline - time.monotonic())))


def others_of(snapshots: Mapping[str, Snapshot]) -> list[NetnsRef]:
    """The network namespaces beside each host's own that have connections, and whose kernel counters are read."""
    return [
        NetnsRef(name, namespace.netns)
        for name, snapshot in snapshots.items()
        for namespace in [other for other in snapshot.namespaces[1:] if len(other.table)][:NAMESPACES]
    ]


def inodes_of(snapshot: Snapshot, look: Look | None) -> list[int]:
    """Inodes of sockets whose programs a report may name: those that were looked up, and those that listen."""
    listening = {listener.inode for namespace in snapshot.namespaces for listener in namespace.listeners}
    held = {found.inode for found in look.sights.values() if isinstance(found, Socket)} if look is not None else set()
    return sorted(inode for inode in listening | held if inode)


def routes_of(moment: Moment) -> dict[str, list[RouteQuery]]:
    """Host -> the routes that may matter: those of its sockets, and from its addresses to those of the other hosts.

    Of a container's sockets also those that its host has, because they go through it.
    """
    owned = {
        name: [
            (NetnsRef(name, namespace.netns), own.address)
            for namespace in snapshot.namespaces[:1]
            for own in namespace.addresses
        ]
        for name, snapshot in moment.snapshots.items()
    }
    found: dict[str, dict[RouteQuery, None]] = {}
    for name, snapshot in moment.snapshots.items():
        own = [NetnsRef(name, namespace.netns) for namespace in snapshot.namespaces[:1]]
        wanted = found.setdefault(name, {})
        for (place, key), seen in moment.looks[name].sights.items() if name in moment.looks else ():
            if isinstance(seen, Socket):
                local, _, peer, _ = address.split_key(key)
                wanted.update((RouteQuery(where, local, peer, seen.scope), None) for where in (place, *own))
        for other in owned.keys() - {name}:
            for place, local in owned[name]:
                wanted.update(
                    (RouteQuery(place, local, peer), None) for _, peer in owned[other] if len(peer) == len(local)
                )
    return {name: list(wanted)[:ROUTES] for name, wanted in found.items()}


def saved_moments(
    hosts: Fleet,
    taken: Sequence[Moment],
    rounds: int,
    host: HostEvidence,
    routing: Mapping[NetnsRef, Routing],
    run: Run,
) -> Saved:
    """The file of one host: its moments up to the first that failed. rounds: how many of them have a dump."""
    name = host.name
    whole = [moment for moment in taken if moment.error(name) is None]
    failed = next((error for moment in taken if (error := moment.error(name)) is not None), None)
    unlooked = max((moment.unlooked.get(name, 0) for moment in taken[:rounds]), default=0)
    found = saved_look(hosts, replace(taken[0].snapshots[name], error=failed), host, run)
    note = f"timers and byte counters were not read of {plural(unlooked, 'socket')}; --deep reads those of all"
    return structs.replace(
        found,
        later=tuple(moment.snapshots[name].namespaces for moment in whole[1:rounds]),
        moments=tuple(
            SavedMoment(
                began=stamp(moment.began),
                ended=stamp(moment.ended),
                sockets=pack_observations(name, moment.looks[name].sights if name in moment.looks else {}),
            )
            for moment in whole
        ),
        unlooked=unlooked,
        routing=pack_routing(name, routing),
        notes=(*found.notes, *([note] if unlooked else [])),
    )
