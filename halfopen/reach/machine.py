"""This machine where it does not run Linux: psutil reads its sockets, as whole tables."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence

from halfopen import address
from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.text import psutil as rows
from halfopen.evidence.text.parsed import ParsedText
from halfopen.model import HostFacts, InterfaceAddress, Process, Snapshot
from halfopen.reach.conversation import KernelNumbers, TableReader


class MachineAgent(TableReader):
    """A `Conversation` with this machine."""

    deadline: float = float("inf")  # nothing is waited for: its tables come at once
    session: bytes | None = None
    facts: HostFacts | None = None

    def __init__(self, host: str) -> None:
        self.host = host

    def first_look(self, ports: Sequence[int]) -> Snapshot:
        """Who this is, and its table."""
        return self.snapshot(ports)

    def snapshot(self, ports: Sequence[int]) -> Snapshot:
        """One table."""
        parsed = self._table()
        name = platform.uname()
        uid = os.getuid() if hasattr(os, "getuid") else None
        self.facts = HostFacts(
            hostname=name.node,
            kernel=name.release,
            boot_id=None,
            uptime_s=uptime(),
            privileged=None if uid is None else uid == 0,
            collector=parsed.collector,
            uid=uid,
            python=platform.python_version(),
            gaps=parsed.gaps,
        )
        return Snapshot(self.host, self.facts, (parsed.namespace(addresses(), frozenset(ports)),), transport="local")

    def evidence(self) -> KernelNumbers:
        """psutil has no counters of TCP."""
        return {}, {}

    def owners(self, _: Sequence[int]) -> tuple[dict[int, Process], int]:
        """psutil has no inodes to ask by."""
        return {}, 0

    def close(self) -> None:
        """Nothing is held open."""

    def _table(self) -> ParsedText:
        import psutil

        try:
            found = psutil.net_connections("tcp")
            names = {process.pid: process.info["name"] or "" for process in psutil.process_iter(["name"])}
        except psutil.AccessDenied as error:
            raise HostError(
                ErrorCode.NEEDS_PRIVILEGE,
                "this system shows its sockets to an administrator only",
                "run halfopen as root, or save netstat -an and read it with halfopen analyse",
            ) from error
        except (psutil.Error, OSError, RuntimeError) as error:
            raise HostError(
                ErrorCode.UNSUPPORTED, f"psutil cannot read the sockets of this machine: {error}"
            ) from error
        return rows.decode(found, names, platform.system())


def addresses() -> tuple[InterfaceAddress, ...]:
    """The addresses of this machine's interfaces."""
    import psutil

    found = set()
    for listed in psutil.net_if_addrs().values():
        for interface_address in listed:
            try:
                found.add(address.parse(interface_address.address))
            except ValueError:
                continue  # a hardware address
    return tuple(InterfaceAddress(packed, ()) for packed in sorted(found))


def uptime() -> float | None:
    """Seconds since this machine booted, None if it cannot be read."""
    import psutil

    try:
        return max(0.0, time.time() - psutil.boot_time())
    except (psutil.Error, OSError):
        return None
