"""Words that name hosts or checks -> what they mean."""

from __future__ import annotations

from collections.abc import Sequence

from halfopen.errors import UsageError
from halfopen.inventory import select
from halfopen.plan import CheckPlan, Host, Inventory
from halfopen.reach.settings import split_target
from halfopen.values import did_you_mean


def choose(names: Sequence[str], inventory: Inventory) -> tuple[Inventory, list[CheckPlan]]:
    """Arguments -> the checks to run. Two hosts are a pair; names of checks are those; nothing is all of them."""
    if not names:
        if not inventory.checks:
            raise UsageError(
                "there is nothing to check", "halfopen check CLIENT SERVER, or write [checks.NAME] in inventory.toml"
            )
        return inventory, list(inventory.checks.values())
    wanted = [name for name in names if name in inventory.checks]
    if len(wanted) == len(names):
        return inventory, [inventory.checks[name] for name in names]
    if wanted:
        other = next(name for name in names if name not in inventory.checks)
        raise UsageError(f"{wanted[0]!r} is a check and {other!r} is not", did_you_mean(other, inventory.checks))
    if len(names) != 2:
        raise UsageError(
            f"{names[0]!r} is not a check, and a pair of hosts is two names, not {len(names)}",
            (names[0] not in inventory.hosts and did_you_mean(names[0], [*inventory.checks, *inventory.hosts]))
            or "halfopen check CLIENT SERVER",
        )
    inventory, plan = pair(names[0], names[1], inventory)
    return inventory, [plan]


def pair(client: str, server: str, inventory: Inventory) -> tuple[Inventory, CheckPlan]:
    """Two words that mean hosts -> the check between them, and the inventory with those hosts in it."""
    sides = [hosts_named(word, inventory) for word in (client, server)]
    clients, servers = (tuple(host.name for host in side) for side in sides)
    found = inventory.with_hosts(host for side in sides for host in side)
    return found, CheckPlan(f"{client} -> {server}", clients, servers)


def hosts_named(word: str, inventory: Inventory) -> list[Host]:
    """A word of the command line -> the hosts it means: a glob or a tag of the inventory, or one host."""
    if word.startswith("tag:") or "*" in word or "?" in word:
        return [inventory.hosts[name] for name in select([word], inventory.hosts, "the inventory")]
    return [host_of(word, inventory)]


def host_of(name: str, inventory: Inventory) -> Host:
    """A word of the command line -> the host it means: a name of the inventory, `local`, or [user@]host[:port]."""
    if name in inventory.hosts:
        return inventory.hosts[name]
    if name == "local":
        return Host("local", "local", transport="local")
    user, address, port = split_target(name)
    return Host(name, address, port, user)
