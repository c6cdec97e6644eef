"""One machine that answers as two."""

from __future__ import annotations

from dataclasses import replace

from halfopen.judge.questions import Dump, Snapshots
from halfopen.model import Snapshot
from halfopen.run.live import LiveHosts


class TwoMachines(LiveHosts):
    """Two addresses of one machine play two hosts. Each gets a boot id of its own, which identifies a host."""

    def dump(self, question: Dump) -> Snapshots:
        """The dump, as if each host had booted by itself."""
        return {name: booted_alone(snapshot) for name, snapshot in super().dump(question).items()}


def booted_alone(snapshot: Snapshot) -> Snapshot:
    """The snapshot with a boot id that no other host has."""
    facts = snapshot.facts
    return replace(snapshot, facts=replace(facts, boot_id=f"{facts.boot_id}/{snapshot.host}")) if facts else snapshot
