"""One machine that answers as two."""

from __future__ import annotations

from dataclasses import replace

from halfopen.judge.questions import (
    Dump,
    Snapshots,
)
from halfopen.run.live import LiveHosts


class TwoMachines(LiveHosts):
    """Two addresses of one machine play two hosts, so each gets a boot id of its own: else they were one host."""

    def dump(self, question: Dump) -> Snapshots:
        """The dump, as if each host had booted by itself."""
        return {
            name: replace(one, facts=replace(one.facts, boot_id=f"{one.facts.boot_id}/{name}")) if one.facts else one
            for name, one in super().dump(question).items()
        }
