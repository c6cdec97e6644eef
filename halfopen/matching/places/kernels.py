"""Which network namespaces of different hosts are one and the same.

A namespace is known by its inode, which is unique within one running kernel, and the kernel by its boot ID. But some
containers have a boot ID of their own (systemd-nspawn mounts one over the kernel's). So two boot IDs are those of one
kernel, too, if a namespace with the same inode and the same addresses on the same interfaces was seen under both, and
their kernels started at the same moment: two machines have different addresses, and copies of a machine start apart.
"""

from __future__ import annotations

from collections.abc import Iterable

from halfopen import address
from halfopen.model import Namespace, Snapshot

MOMENT = 0.1  # seconds by which two readings of one kernel's start may differ

Identity = tuple[str, int]
"""The boot ID of a kernel, and the inode of one of its network namespaces."""


class Kernels:
    """The kernels behind some snapshots."""

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        self.names: dict[str, str] = {}  # boot ID -> another of the same kernel
        seen: dict[tuple[object, ...], list[tuple[float, str]]] = {}
        for snapshot in snapshots:
            facts = snapshot.facts
            if facts is None or facts.boot_id is None or facts.started_at is None:
                continue
            for space in snapshot.namespaces:
                interfaces = {
                    (row.address, row.links) for row in space.addresses if not address.is_loopback(row.address)
                }
                if space.netns is not None and interfaces:
                    same = seen.setdefault((space.netns, frozenset(interfaces)), [])
                    for started_at, boot_id in same:
                        if abs(started_at - facts.started_at) < MOMENT and self.name(boot_id) != self.name(
                            facts.boot_id
                        ):
                            self.names[self.name(facts.boot_id)] = self.name(boot_id)
                    same.append((facts.started_at, facts.boot_id))

    def name(self, boot_id: str) -> str:
        """One boot ID for all that a kernel has."""
        while boot_id in self.names:
            boot_id = self.names[boot_id]
        return boot_id

    def identity(self, snapshot: Snapshot, namespace: Namespace) -> Identity | None:
        """What identifies a network namespace; None if its kernel or its inode is unknown."""
        if snapshot.facts is None or snapshot.facts.boot_id is None or namespace.netns is None:
            return None
        return self.name(snapshot.facts.boot_id), namespace.netns
