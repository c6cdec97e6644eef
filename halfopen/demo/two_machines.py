"""One machine that answers as two."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from halfopen.errors import HostError
from halfopen.judge.questions import Dump, Routes, Snapshots
from halfopen.model import Link, NetnsRef, Route, Routing, Snapshot
from halfopen.run.live import LiveHosts


class TwoMachines(LiveHosts):
    """Two addresses of one machine play two hosts. Each gets a boot id of its own, which identifies a host."""

    def dump(self, question: Dump) -> Snapshots:
        """The dump, as if each host had booted by itself."""
        return {name: booted_alone(snapshot) for name, snapshot in super().dump(question).items()}

    def routes(self, question: Routes) -> Mapping[str, tuple[Mapping[NetnsRef, Routing], HostError | None]]:
        """The routes, as if the two hosts were on one link: what is sent by loopback arrives at the other."""
        return {
            name: ({netns: on_one_link(routing) for netns, routing in found.items()}, error)
            for name, (found, error) in super().routes(question).items()
        }


def on_one_link(routing: Routing) -> Routing:
    """The same routes by an interface that both hosts have."""
    return Routing(dict.fromkeys(routing.routes, Route(LINK.index, None, LINK.address)), {LINK.index: LINK})


def booted_alone(snapshot: Snapshot) -> Snapshot:
    """The snapshot with a boot id that no other host has, of a kernel that started nobody knows when."""
    facts = snapshot.facts
    if facts is None:
        return snapshot
    return replace(snapshot, facts=replace(facts, boot_id=f"{facts.boot_id}/{snapshot.host}", started_at=None))


LINK = Link(1, "lo", b"\2demo\0", "")
