"""The matching of one check, live or from files: translated ends get one key, are matched, and get their keys back.

What deals with translation is imported only where something translates, because most runs have none and its import
would cost a clean pair a tenth of its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.matching.pairing.match import Matching, match
from halfopen.matching.places.addresses import AddressMap, survey
from halfopen.matching.places.kernels import Identity, Kernels
from halfopen.matching.places.reach import believed
from halfopen.model import Collector, NetnsRef, Snapshot
from halfopen.plan import CheckPlan

if TYPE_CHECKING:
    from halfopen.matching.pairing.nat import Tables

Extra = Mapping[str, Sequence[bytes]]
"""Host -> packed addresses that lead to it though none of its interfaces has them."""


class Prepared(Struct, frozen=True):
    """A check and the snapshots of its hosts with each machine under one name, and each namespace with one host."""

    plan: CheckPlan
    snapshots: Mapping[str, Snapshot]
    extra: Extra

    def compared(self) -> list[Snapshot]:
        """The hosts of both roles, each once."""
        return [self.snapshots[name] for name in roles_of(self.plan)]

    def address_map(self) -> AddressMap:
        """The address map of the hosts of both roles, for the sockets as the kernels know them."""
        return self.survey(self.compared(), self.plan.ports)

    def survey(self, snapshots: Sequence[Snapshot], ports: Sequence[int]) -> AddressMap:
        """The address map of some snapshots of its hosts."""
        return survey(snapshots, self.plan.clients, self.plan.servers, ports, self.extra)


def prepare(plan: CheckPlan, snapshots: Mapping[str, Snapshot], extra: Extra) -> Prepared:
    """A check with the snapshots of its hosts -> what the other functions of this module work on.

    A namespace that two hosts have, as a container and its host, stays with the host whose own it is, else with the
    first that has it. Those of other users are left out.
    """
    other_names = one_name_each(plan, snapshots)
    merged = under_one_name(plan, other_names)
    hosts = [believed(snapshot) for snapshot in hosts_of(merged, snapshots)]
    kernels = Kernels(hosts)
    own = {kernels.identity(snapshot, snapshot.namespaces[0]) for snapshot in hosts if snapshot.namespaces}
    seen: set[Identity] = set()
    prepared = {}
    for snapshot in hosts:
        kept = list(snapshot.namespaces[:1])
        for namespace in snapshot.namespaces[1:]:
            identity = kernels.identity(snapshot, namespace)
            if identity is None or (identity not in own and identity not in seen):
                kept.append(namespace)
            if identity is not None:
                seen.add(identity)
        whole = len(kept) == len(snapshot.namespaces)
        prepared[snapshot.host] = snapshot if whole else replace(snapshot, namespaces=tuple(kept))
    addresses = {name: list(packed) for name, packed in extra.items() if name not in other_names}
    for name, main in other_names.items():
        addresses.setdefault(main, []).extend(extra.get(name, ()))
    return Prepared(merged, prepared, addresses)


def join(check: Prepared, limit: int | None = 0) -> Matching:
    """The matching of a check: what the evidence says by itself. `limit`: as in `match`."""
    explained: Mapping[NetnsRef, Mapping[bytes, bytes]] = {}
    if any(namespace.rewrites for host in hosts_of(check.plan, check.snapshots) for namespace in host.namespaces):
        from halfopen.matching.pairing.nat import names_of, restore

        compared = check.compared()
        keys = names_of(compared, translations(check), frozenset(roles_of(check.plan)))
        addresses = check.survey([keys.snapshot(host) for host in compared], keys.dialled_ports(check.plan.ports))
        matching, explained = restore(match(addresses, limit), keys), keys.renamed
    else:
        matching = match(check.address_map(), limit)
    routers = [check.snapshots[name] for name in check.plan.nat if name in check.snapshots]
    if not routers or not matching.external:
        return matching
    from halfopen.matching.pairing.forgotten import with_forgotten

    ground = check.survey(hosts_of(check.plan, check.snapshots), check.plan.ports)
    return with_forgotten(matching, ground, routers, explained)


def translations(check: Prepared) -> Tables:
    """What translates between the hosts of a check, by its hosts and by those that it names under `nat`."""
    from halfopen.matching.pairing.nat import tables_of

    hosts = hosts_of(check.plan, check.snapshots)
    return tables_of(hosts, check.survey(hosts, check.plan.ports))


def wider_ports(check: Prepared) -> dict[str, set[int]]:
    """Host -> ports to be read there too, because a translation leads from one port of the check to another.

    A published port is one port for the client and another for the server.
    """
    asked, found = set(check.plan.ports), dict[str, set[int]]()
    if not asked:
        return found
    tables = translations(check)
    for steps in tables.onward.values():
        for step in steps:
            before, after = address.split_key(step.before), address.split_key(step.after)
            if before[3] == after[3] or not asked & {before[3], after[3]}:
                continue
            for packed, port in ((before[0], before[3]), (after[2], after[3])):
                for owner in tables.addresses.owners_of(step.place, packed):
                    if port not in asked:
                        found.setdefault(owner.host, set()).add(port)
    return found


def may_translate(check: Prepared, matching: Matching) -> list[str]:
    """The hosts whose connection tracking could explain suspects and external sockets; none if there are none.

    Nor if connection tracking leads nowhere from the ports of the check: behind another port, a connection that lacks
    an end would have no row in any dump.
    """
    hosts = hosts_of(check.plan, check.snapshots)
    redirects = any(namespace.redirects for host in hosts for namespace in host.namespaces)
    if not matching.suspects and not matching.external and not redirects:
        return []
    return [host.host for host in hosts if any(namespace.tracked for namespace in host.namespaces)]


def one_name_each(plan: CheckPlan, snapshots: Mapping[str, Snapshot]) -> dict[str, str]:
    """Names of a check's hosts that are other names of another of its hosts -> the name that this host goes by.

    One machine is one network namespace of one boot; containers of one kernel have a namespace each, and are hosts of
    their own. The name is the one under which most could be read, and of equals the first that the check has.
    """
    machines: dict[Identity, list[str]] = {}
    hosts = hosts_of(plan, snapshots)
    kernels = Kernels(hosts)
    for snapshot in hosts:
        identity = kernels.identity(snapshot, snapshot.namespaces[0]) if snapshot.namespaces else None
        if identity is not None:
            machines.setdefault(identity, []).append(snapshot.host)
    other_names: dict[str, str] = {}
    for names in machines.values():
        main = min(names, key=lambda name: lacks(snapshots[name]))
        other_names.update((name, main) for name in names if name != main)
    return other_names


def lacks(snapshot: Snapshot) -> tuple[bool, bool]:
    """Whether a snapshot lacks what another of the same machine may have: answers of netlink, and root's rights."""
    return (
        snapshot.facts is None or snapshot.facts.collector is not Collector.NETLINK,
        snapshot.facts is None or not snapshot.facts.privileged,
    )


def under_one_name(plan: CheckPlan, names: Mapping[str, str]) -> CheckPlan:
    """A check with other names of its hosts replaced. A host with a role is no longer named under `nat`.

    `names`: as `one_name_each` gives them.
    """
    if not names:
        return plan
    clients, servers, nat = (
        tuple(dict.fromkeys(names.get(name, name) for name in role)) for role in (plan.clients, plan.servers, plan.nat)
    )
    return replace(
        plan, clients=clients, servers=servers, nat=tuple(name for name in nat if name not in (*clients, *servers))
    )


def hosts_of(plan: CheckPlan, snapshots: Mapping[str, Snapshot]) -> list[Snapshot]:
    """The hosts of both roles, and those that translate between them, each once; those of which there is a snapshot."""
    return [snapshots[name] for name in dict.fromkeys((*roles_of(plan), *plan.nat)) if name in snapshots]


def roles_of(plan: CheckPlan) -> list[str]:
    """The names of the hosts of both roles, each once."""
    return list(dict.fromkeys((*plan.clients, *plan.servers)))
