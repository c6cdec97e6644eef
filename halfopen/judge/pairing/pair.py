"""The join of one check, live or from files: what translates is named alike at both ends, matched, and named back.

What deals with translation is imported where there is some, because most runs have none and its import would cost a
clean pair a tenth of its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from halfopen.judge.pairing.addresses import AddressMap, survey
from halfopen.judge.pairing.match import Matching, match
from halfopen.model import Collector, Namespace, Snapshot
from halfopen.plan import CheckPlan

if TYPE_CHECKING:
    from halfopen.judge.pairing.nat import Tables

Extra = Mapping[str, Sequence[bytes]]
"""Host -> addresses that lead to it though it has none of them."""


def join(plan: CheckPlan, snapshots: Mapping[str, Snapshot], extra: Extra, limit: int | None = 0) -> Matching:
    """The matching of a check: what the evidence says by itself. `limit`: as `match` has it."""
    plan, snapshots, extra = once_each(plan, snapshots, extra)
    roles = compared(plan)
    hosts = [snapshots[name] for name in roles]
    if not any(space.rewrites for one in everybody(plan, snapshots) for space in one.namespaces):
        return match(survey(hosts, plan.clients, plan.servers, plan.ports, extra), limit)
    from halfopen.judge.pairing.nat import names_of, restore

    names = names_of(hosts, translations(plan, snapshots, extra), frozenset(roles))
    ports = names.dialled_ports(plan.ports)
    found = match(survey([names.snapshot(one) for one in hosts], plan.clients, plan.servers, ports, extra), limit)
    return restore(found, names)


def conclude(plan: CheckPlan, snapshots: Mapping[str, Snapshot], extra: Extra, matching: Matching) -> Matching:
    """The matching, once all that can be read was read: what no table explains is inferred, or doubted."""
    if not matching.suspects:
        return matching
    from halfopen.judge.pairing.guess import infer

    plan, snapshots, extra = once_each(plan, snapshots, extra)
    return infer(plan, snapshots, ground_of(plan, snapshots, extra), matching)


def ground_of(plan: CheckPlan, snapshots: Mapping[str, Snapshot], extra: Extra) -> AddressMap:
    """What the join stands on where nothing translates."""
    plan, snapshots, extra = once_each(plan, snapshots, extra)
    hosts = [snapshots[name] for name in compared(plan)]
    return survey(hosts, plan.clients, plan.servers, plan.ports, extra)


def translations(plan: CheckPlan, snapshots: Mapping[str, Snapshot], extra: Extra) -> Tables:
    """What translates between the hosts of a check, by its hosts and by those that it names under `nat`."""
    from halfopen.judge.pairing.nat import tables_of

    plan, snapshots, extra = once_each(plan, snapshots, extra)
    hosts = everybody(plan, snapshots)
    return tables_of(hosts, survey(hosts, plan.clients, plan.servers, plan.ports, extra))


def wider_ports(plan: CheckPlan, snapshots: Mapping[str, Snapshot], extra: Extra) -> dict[str, set[int]]:
    """Host -> ports to be read there too, because a translation leads from one port of the check to another."""
    if not plan.ports:
        return {}
    from halfopen.judge.pairing.nat import translated_ports

    return translated_ports(translations(plan, snapshots, extra), plan.ports)


def may_translate(plan: CheckPlan, snapshots: Mapping[str, Snapshot], matching: Matching) -> list[str]:
    """The hosts whose connection tracking could explain what the join left over: none if it left nothing."""
    if not matching.suspects and not matching.external:
        return []
    plan, snapshots, _ = once_each(plan, snapshots, {})
    return [one.host for one in everybody(plan, snapshots) if any(space.tracked for space in one.namespaces)]


def once_each(
    plan: CheckPlan, snapshots: Mapping[str, Snapshot], extra: Extra
) -> tuple[CheckPlan, Mapping[str, Snapshot], Extra]:
    """A check, its hosts and their addresses with each machine under one name, and each namespace with one host.

    A namespace that two hosts have, as a container and its host, stays with the host whose own it is, else with the
    first that has it.
    """
    names = one_name_each(plan, snapshots)
    merged = under_one_name(plan, names)
    hosts = everybody(merged, snapshots)
    owns = {kernel_name(one, one.namespaces[0]) for one in hosts if one.namespaces}
    seen: set[tuple[str, int]] = set()
    found = {}
    for one in hosts:
        kept = list(one.namespaces[:1])
        for space in one.namespaces[1:]:
            known = kernel_name(one, space)
            if known is None or (known not in owns and known not in seen):
                kept.append(space)
            if known is not None:
                seen.add(known)
        found[one.host] = one if len(kept) == len(one.namespaces) else replace(one, namespaces=tuple(kept))
    more: dict[str, list[bytes]] = {name: list(packed) for name, packed in extra.items() if name not in names}
    for name, main in names.items():
        more.setdefault(main, []).extend(extra.get(name, ()))
    return merged, found, more


def one_name_each(plan: CheckPlan, snapshots: Mapping[str, Snapshot]) -> dict[str, str]:
    """Names of a check's hosts that are other names of another of its hosts -> the name that this one goes by.

    One machine is one network namespace of one boot; containers of one kernel have a namespace each, and are hosts of
    their own. The name is the one under which most was to be read, and of equals the first that the check has.
    """
    machines: dict[tuple[str, int], list[str]] = {}
    for one in everybody(plan, snapshots):
        known = kernel_name(one, one.namespaces[0]) if one.namespaces else None
        if known is not None:
            machines.setdefault(known, []).append(one.host)
    found: dict[str, str] = {}
    for same in machines.values():
        main = min(same, key=lambda name: lacks(snapshots[name]))
        found.update((name, main) for name in same if name != main)
    return found


def lacks(one: Snapshot) -> tuple[bool, bool]:
    """What a look at a machine lacks that another may have: the kernel's own answers, and root's rights."""
    return (
        one.facts is None or one.facts.collector is not Collector.NETLINK,
        one.facts is None or not one.facts.privileged,
    )


def under_one_name(plan: CheckPlan, names: Mapping[str, str]) -> CheckPlan:
    """A check with the names of its hosts replaced by those that they go by; a router that has a role is no router."""
    if not names:
        return plan
    clients, servers, nat = (
        tuple(dict.fromkeys(names.get(name, name) for name in some)) for some in (plan.clients, plan.servers, plan.nat)
    )
    return replace(
        plan, clients=clients, servers=servers, nat=tuple(name for name in nat if name not in (*clients, *servers))
    )


def notes_on_names(names: Mapping[str, str]) -> tuple[str, ...]:
    """What a reader should know where one machine has several names in a check."""
    return tuple(
        f"{main} and {name} are one machine (one boot, one network namespace); reported as {main}"
        for name, main in names.items()
    )


def kernel_name(snapshot: Snapshot, space: Namespace) -> tuple[str, int] | None:
    """What tells a namespace from all others: the boot of its kernel and its inode; None if either is unknown."""
    if snapshot.facts is None or snapshot.facts.boot_id is None or space.netns is None:
        return None
    return snapshot.facts.boot_id, space.netns


def everybody(plan: CheckPlan, snapshots: Mapping[str, Snapshot]) -> list[Snapshot]:
    """The hosts of both roles, and those that translate between them, each once."""
    return [snapshots[name] for name in dict.fromkeys((*compared(plan), *plan.nat)) if name in snapshots]


def compared(plan: CheckPlan) -> list[str]:
    """The hosts of both roles, each once."""
    return list(dict.fromkeys((*plan.clients, *plan.servers)))
