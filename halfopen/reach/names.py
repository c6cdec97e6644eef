"""Host names that do not resolve. One that only the command line names, and that is like a known one, is misspelt."""

from __future__ import annotations

import difflib

from halfopen.errors import ErrorCode, HostError, UsageError
from halfopen.plan import Host, Inventory
from halfopen.userfiles import anchored, ssh_hosts

LIKENESS = 0.7
"""The least ratio (difflib) of two names that are taken for one: `webb1` and `web1`, but not `db2` and `db1`."""


class UnresolvedError(HostError):
    """The name of a host, or of a jump host before it, does not resolve."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            ErrorCode.UNREACHABLE,
            f"the name {name} does not resolve: {reason}",
            f"look at how it is spelled, here or under `address` in the inventory; try: ssh {name}",
        )
        self.name = name


def misspelt(error: UnresolvedError, host: Host, inventory: Inventory) -> UsageError | None:
    """The error for a host of the command line whose name is like a known one; None where it may be meant as it is."""
    known = {"local", *inventory.hosts, *ssh_hosts(anchored("~"))} - inventory.given
    if host.name not in inventory.given or error.name.lower() != host.address.lower() or host.address in known:
        return None
    near = difflib.get_close_matches(host.address, sorted(known), 1, LIKENESS)
    return UsageError(f"{host.name}: {error.message}", f"did you mean {near[0]!r}?") if near else None
