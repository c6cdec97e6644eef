"""The join of one check, live or from files: what translates is named alike at both ends, matched, and named back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from halfopen.inventory import CheckPlan
from halfopen.judge.infer import infer
from halfopen.judge.match import Ground, Matching, match, survey
from halfopen.judge.translate import Tables, names_of, restore, tables_of, translated_ports
from halfopen.model import Snapshot


def join(plan: CheckPlan, snapshots: Mapping[str, Snapshot], extra: Mapping[str, Sequence[bytes]]) -> Matching:
    """What the evidence says by itself. `extra`: host -> addresses that lead to it though it has none of them."""
    roles = compared(plan)
    hosts = [snapshots[name] for name in roles]
    tables = translations(plan, snapshots, extra)
    if not tables.onward:
        return match(survey(hosts, plan.clients, plan.servers, plan.ports, extra))
    names = names_of(hosts, tables, frozenset(roles))
    ports = names.dialled_ports(plan.ports)
    found = match(survey([names.snapshot(one) for one in hosts], plan.clients, plan.servers, ports, extra))
    return restore(found, names)


def conclude(
    plan: CheckPlan, snapshots: Mapping[str, Snapshot], extra: Mapping[str, Sequence[bytes]], matching: Matching
) -> Matching:
    """The matching, once all that can be read was read: what no table explains is inferred, or doubted."""
    if not matching.suspects:
        return matching
    hosts = [snapshots[name] for name in compared(plan)]
    return infer(plan, snapshots, survey(hosts, plan.clients, plan.servers, plan.ports, extra), matching)


def translations(plan: CheckPlan, snapshots: Mapping[str, Snapshot], extra: Mapping[str, Sequence[bytes]]) -> Tables:
    """What translates between the hosts of a check, by its hosts and by those that it names under `nat`."""
    everybody = [snapshots[name] for name in (*compared(plan), *plan.nat) if name in snapshots]
    ground: Ground = survey(everybody, plan.clients, plan.servers, plan.ports, extra)
    return tables_of(everybody, ground)


def wider_ports(
    plan: CheckPlan, snapshots: Mapping[str, Snapshot], extra: Mapping[str, Sequence[bytes]]
) -> dict[str, set[int]]:
    """Host -> ports to be read there too, because a translation leads from one port of the check to another."""
    if not plan.ports:
        return {}
    return translated_ports(translations(plan, snapshots, extra), plan.ports)


def may_translate(plan: CheckPlan, snapshots: Mapping[str, Snapshot], matching: Matching) -> list[str]:
    """The hosts whose connection tracking could explain what the join left over: none if it left nothing."""
    if not matching.suspects and not matching.external:
        return []
    names = dict.fromkeys((*compared(plan), *plan.nat))
    return [name for name in names if any(space.tracked != 0 for space in snapshots[name].namespaces)]


def compared(plan: CheckPlan) -> list[str]:
    """The hosts of both roles, each once."""
    return list(dict.fromkeys((*plan.clients, *plan.servers)))
