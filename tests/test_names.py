"""One machine under two names is one host, and what two hosts claim is never clean where it may be critical."""

from __future__ import annotations

from itertools import permutations

import pytest
from evidence import CLIENT, SERVER, bracket, facts, key, sights, snapshot, sock
from msgspec.structs import replace

from halfopen import address
from halfopen.judge.assembly.check import analyse
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.assembly.run_evidence import Evidence
from halfopen.matching.pairing.pair import join, prepare
from halfopen.model import Collector, HostFacts, InterfaceAddress, Namespace, Snapshot, Socket
from halfopen.plan import CheckPlan
from halfopen.schema.report import Check, Outcome, Severity, Verdict
from halfopen.table import Table
from halfopen.tcp import State

OTHER = address.parse("10.0.0.3")
VIP = address.parse("203.0.113.7")


def machine(name: str, boot: str | None, sockets: list[Socket], own: bytes = CLIENT, netns: int = 1) -> Snapshot:
    """A host that was started at `boot`, with one namespace."""
    return replace(snapshot(name, [own], sockets, netns=netns), facts=replace(facts(name), boot_id=boot))


def checked(
    plan: CheckPlan,
    hosts: list[Snapshot],
    sockets: dict[str, list[Socket]],
    extra: dict[str, list[bytes]] | None = None,
) -> Check:
    snapshots = {one.host: one for one in hosts}
    matching = join(prepare(plan, snapshots, extra or {}))
    seen = bracket(sights(hosts, sockets, matching.suspects))
    return analyse(plan, Evidence(snapshots, matching, [seen, seen] if matching.suspects else []), Policy())


STATES = {40000: True, 40001: True, 40002: False, 40003: False}  # client's port -> whether the server has its end
NEAR = [sock(key(port), cookie=port) for port in STATES]
FAR = [sock(address.mirror(key(port)), cookie=port) for port, there in STATES.items() if there]


def web_db(*boots: str | None, plan: CheckPlan, **more: dict[str, list[bytes]]) -> Check:
    """web1 and app1, started at these boots, both with the client's sockets, and db1."""
    hosts = [machine(name, boot, NEAR) for name, boot in zip(("web1", "app1"), boots, strict=True)]
    hosts.append(machine("db1", "boot-db", FAR, SERVER))
    sockets = {"web1": NEAR, "app1": NEAR, "db1": FAR}
    return checked(plan, hosts, sockets, **more)


GLOB = CheckPlan("* -> db1", ("web1", "app1"), ("db1",), (5432,))


def test_one_machine_under_two_names_is_judged_once() -> None:
    check = web_db("a", "a", plan=GLOB)
    assert [(one.verdict, one.client.host) for one in check.findings if one.client] == [
        (Verdict.MISSING_ON_SERVER, "web1")
    ] * 2
    assert (check.exit_code, check.connections, check.agreeing) == (1, 4, 2)
    assert [host.name for host in check.hosts] == ["web1", "db1"] and not check.pairs
    assert "web1 and app1 are one machine (one boot, one network namespace); reported as web1" in check.notes
    assert check.headline.startswith("2 half-open connections web1 -> db1:5432")


@pytest.mark.parametrize("order", list(permutations(("web1", "app1", "db1"))))
def test_the_name_is_the_first_of_the_check_and_no_other_order_matters(order: tuple[str, ...]) -> None:
    for clients, main in ((("web1", "app1"), "web1"), (("app1", "web1"), "app1")):
        hosts = {"web1": machine("web1", "a", NEAR), "app1": machine("app1", "a", NEAR)}
        hosts["db1"] = machine("db1", "b", FAR, SERVER)
        plan = replace(GLOB, clients=clients)
        check = checked(plan, [hosts[name] for name in order], {"web1": NEAR, "app1": NEAR, "db1": FAR})
        assert {one.client.host for one in check.findings if one.client} == {main} and len(check.findings) == 2


def test_the_name_under_which_more_was_read_comes_first() -> None:
    weak = {"privileged": False}, {"collector": Collector.PROCFS}
    for fields in weak:
        poor = machine("web1", "a", NEAR)
        assert isinstance(poor.facts, HostFacts)
        hosts = [replace(poor, facts=replace(poor.facts, **fields)), machine("app1", "a", NEAR)]
        check = checked(GLOB, [*hosts, machine("db1", "b", FAR, SERVER)], {"app1": NEAR, "db1": FAR})
        assert {one.client.host for one in check.findings if one.client} == {"app1"}
        assert any("reported as app1" in note for note in check.notes)


def test_a_machine_may_have_a_name_in_each_role() -> None:
    own = [key(port, client=CLIENT, server=CLIENT) for port in (40000, 40001)]
    sockets = [sock(own[0]), sock(address.mirror(own[0])), sock(own[1])]
    plan = CheckPlan("web1 -> app1", ("web1",), ("app1",), (5432,))
    hosts = [machine(name, "a", sockets) for name in ("web1", "app1")]
    check = checked(plan, hosts, {"web1": sockets, "app1": sockets})
    assert [one.verdict for one in check.findings] == [Verdict.MISSING_ON_SERVER]
    assert (check.agreeing, [host.name for host in check.hosts]) == (1, ["web1"])


def test_addresses_of_both_names_lead_to_the_machine() -> None:
    plan = CheckPlan("app -> *", ("app",), ("db1", "db2"), (5432,))
    one = key(40000, server=VIP)
    hosts = [machine("app", "a", [sock(one)])]
    hosts += [machine(name, "b", [sock(address.mirror(one))], SERVER) for name in ("db1", "db2")]
    sockets = {"app": [sock(one)], "db1": [sock(address.mirror(one))]}
    check = checked(plan, hosts, sockets, {"db1": [], "db2": [VIP]})
    assert (check.agreeing, check.findings, check.external) == (1, (), ())


def test_containers_of_one_kernel_are_hosts_of_their_own() -> None:
    hosts = [machine("one", "a", NEAR[:2], netns=5), machine("two", "a", [], OTHER, netns=6)]
    plan = CheckPlan("c", ("one", "two"), ("db1",), (5432,))
    check = checked(plan, [*hosts, machine("db1", "b", FAR, SERVER)], {"one": NEAR, "db1": FAR})
    assert [host.name for host in check.hosts] == ["one", "two", "db1"]
    assert not [note for note in check.notes if "machine" in note]


def test_a_namespace_belongs_to_another_check_as_well() -> None:
    """A container that one check names is still looked into where another check names its host."""
    inner = Namespace(9, (InterfaceAddress(OTHER, (1,)),), Table(), ())
    host = machine("web", "a", [])
    host = replace(host, namespaces=(*host.namespaces, inner))
    snapshots = {"box": machine("box", "a", [], OTHER, netns=9), "web": host, "db": machine("db", "b", [], SERVER)}
    lost = sock(address.mirror(key(40000, client=OTHER)))
    snapshots["db"] = machine("db", "b", [lost], SERVER)
    (suspect,) = join(prepare(CheckPlan("c", ("web",), ("db",)), snapshots, {})).suspects
    assert [place.host for place in suspect.client.places] == ["web"]
    (suspect,) = join(prepare(CheckPlan("c", ("web", "box"), ("db",)), snapshots, {})).suspects
    assert [place.host for place in suspect.client.places] == ["box"]


def test_where_no_boot_is_known_a_critical_that_hangs_on_it_is_incomplete() -> None:
    check = web_db(None, None, plan=GLOB)
    assert {one.verdict for one in check.findings} == {Verdict.AMBIGUOUS}
    assert (check.connections, check.agreeing) == (4, 0)
    assert (check.outcome, check.exit_code) == (Outcome.INCOMPLETE, 3)
    assert "may be half-open" in check.headline and "4 connections" in check.headline
    assert "10.0.0.1 is an address of app1 and of web1" in check.notes
    for tolerated in ({"allow": ("ambiguous",)}, {"max": {"ambiguous": 4}}):
        assert web_db(None, None, plan=replace(GLOB, **tolerated)).exit_code == 0


@pytest.mark.parametrize(
    ("near", "far", "code"),
    [
        ((State.ESTABLISHED, State.ESTABLISHED), (), 3),
        ((State.ESTABLISHED, State.ESTABLISHED), (State.ESTABLISHED,), 3),  # one of them has no peer
        ((State.CLOSE_WAIT, State.CLOSE_WAIT), (State.FIN_WAIT2,), 0),
        ((State.CLOSE_WAIT, State.CLOSE_WAIT), (), 0),
        ((State.ESTABLISHED, State.CLOSE_WAIT), (State.CLOSE_WAIT,), 3),  # desynchronized, if it is the first
    ],
)
def test_what_two_hosts_claim_is_clean_only_if_no_claim_is_critical(
    near: tuple[State, ...], far: tuple[State, ...], code: int
) -> None:
    ends = {f"web{number}": [sock(key(40000), state)] for number, state in enumerate(near)}
    ends |= {"db1": [sock(address.mirror(key(40000)), state) for state in far]}
    hosts = [machine(name, name, some, SERVER if name == "db1" else CLIENT) for name, some in ends.items()]
    plan = CheckPlan("c", ("web0", "web1"), ("db1",), (5432,))
    check = checked(plan, hosts, ends)
    assert [one.verdict for one in check.findings] == [Verdict.AMBIGUOUS] and check.exit_code == code
    assert all(one.severity is Severity.INFO for one in check.findings)


LIARS_ROW = [sock(address.mirror(key(port)), cookie=port) for port, there in STATES.items() if not there]


@pytest.mark.parametrize("forged", [[], LIARS_ROW], ids=["says nothing more", "finds what is asked for"])
@pytest.mark.parametrize("both_roles", [False, True])
def test_a_host_that_lists_its_neighbours_address_hides_nothing(forged: list[Socket], both_roles: bool) -> None:
    """Which of the two is believed would decide what is clean; so neither is."""
    liar = machine("liar", "l", forged, SERVER)
    hosts = [machine("web1", "a", NEAR), machine("db1", "b", FAR, SERVER), liar]
    every = ("web1", "db1", "liar")
    clients, servers = (every, every) if both_roles else (("web1",), ("db1", "liar"))
    check = checked(CheckPlan("c", clients, servers, (5432,)), hosts, {"web1": NEAR, "db1": FAR, "liar": forged})
    assert {one.verdict for one in check.findings} == {Verdict.AMBIGUOUS} and len(check.findings) == len(STATES)
    assert (check.outcome, check.exit_code, check.agreeing) == (Outcome.INCOMPLETE, 3, 0)
    assert "10.0.0.2 is an address of db1 and of liar" in check.notes


def test_what_the_inventory_says_of_an_address_is_no_contradiction() -> None:
    """A service address that leads to either of two servers, by the word of who wrote the inventory."""
    ends = [sock(key(port, server=VIP), cookie=port) for port in (40000, 40001, 40002)]
    far = [[sock(address.mirror(one.key), cookie=one.cookie)] for one in ends[:2]]
    hosts = [machine("web", "a", ends), machine("db1", "b", far[0], SERVER), machine("db2", "c", far[1], OTHER)]
    plan = CheckPlan("c", ("web",), ("db1", "db2"), (5432,))
    check = checked(plan, hosts, {"web": ends, "db1": far[0], "db2": far[1]}, {"db1": [VIP], "db2": [VIP]})
    assert [one.verdict for one in check.findings] == [Verdict.MISSING_ON_SERVER] and check.agreeing == 2


@pytest.mark.parametrize(
    ("state", "other", "code"),
    [
        (State.ESTABLISHED, State.ESTABLISHED, 3),  # it has an end if it is db1's, and none if it is db2's
        (State.CLOSE_WAIT, State.FIN_WAIT2, 0),  # half-closed or abandoned
        (State.TIME_WAIT, None, 0),
    ],
)
def test_an_address_that_two_hosts_have_is_never_clean_where_a_claim_is_critical(
    state: State, other: State | None, code: int
) -> None:
    near, far = [sock(key(40000), state)], [sock(address.mirror(key(40000)), other)] if other else []
    hosts = [machine("web", "a", near), machine("db1", "b", far, SERVER), machine("db2", "c", [], SERVER)]
    check = checked(CheckPlan("c", ("web",), ("db1", "db2")), hosts, {"web": near, "db1": far})
    assert [one.verdict for one in check.findings] == [Verdict.AMBIGUOUS] * (state is not State.TIME_WAIT)
    assert check.exit_code == code


@pytest.mark.parametrize(
    ("started", "addresses", "one"),
    [
        ((1000.0, 1000.04), (CLIENT, CLIENT), True),
        ((1000.0, 1002.0), (CLIENT, CLIENT), False),  # copies of one machine, started one after the other
        ((1000.0, None), (CLIENT, CLIENT), False),
        ((1000.0, 1000.0), (CLIENT, OTHER), False),  # the first namespace of any kernel may have one and the same inode
    ],
)
def test_two_boot_ids_may_be_one_kernels(
    started: tuple[float | None, ...], addresses: tuple[bytes, ...], one: bool
) -> None:
    hosts = [
        replace(host, facts=replace(host.facts, started_at=when))  # type: ignore[type-var]
        for name, boot, own, when in zip(("box", "db"), "ab", addresses, started, strict=True)
        for host in [machine(name, boot, [], own)]
    ]
    found = prepare(CheckPlan("c", ("box",), ("db",)), {host.host: host for host in hosts}, {})
    assert (found.plan.servers == found.plan.clients) is one
