"""Where the packets of a half-open connection lead, on real networks: direct, routed, relayed, or not known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.host import Driver, Lab, lab
from lab.nat import bridge, container, forward, publish, router_between
from lab.test_nat import as_nobody
from lab.tun import DEVICE, slow_link
from lab.waiting import until

from halfopen.inventory import read
from halfopen.judge.confirm.rounds import survivor_of
from halfopen.matching.missing.way import Network, Way, WayKind, query_of, way_of, why_unproven
from halfopen.plan import CheckPlan
from halfopen.run.fleet import Fleet, Options
from halfopen.run.live import run_checks

COUNT, PORT = 3, 5000
DIRECT, ROUTED, RELAYED, UNKNOWN = WayKind.DIRECT, WayKind.ROUTED, WayKind.RELAYED, WayKind.UNKNOWN
TRACKS = "db tracks connections, and what it translates was not read"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db") as made:
        yield made


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db", "router") as made:
        yield made


def half_open(client: Driver, server: Driver, dial: str, gone: str = "server") -> None:
    """Connections of which one end has vanished without a word."""
    listener = server.listen("::", PORT, 64, True)
    clients = client.connect(dial, PORT, COUNT)
    accepted = server.accept(listener, COUNT)
    if gone == "server":
        server.vanish(accepted)
    else:
        client.vanish(clients)


def ways(made: Lab, client: str = "web", server: str = "db") -> set[tuple[Way, str | None]]:
    """The way of each connection with one end, and why it does not prove that the other is absent; of COUNT of them."""
    plan = CheckPlan("c", (client,), (server,), settle=0.3)
    with Fleet(read(str(made.inventory), {}, Path()), [plan], Options()) as hosts:
        hosts.begin()
        (evidence,) = run_checks(hosts).inquired.evidence
    network = Network(plan, evidence.snapshots, evidence.routing)
    found = []
    for suspect in evidence.matching.suspects:
        survivor = survivor_of(suspect, evidence.brackets)
        assert survivor is not None
        is_client = survivor.looks[0].key == suspect.client.key
        near, far = (suspect.client, suspect.server) if is_client else (suspect.server, suspect.client)
        one, other = query_of(near, survivor.place, network), query_of(far, far.places[0], network)
        why = why_unproven(suspect, survivor.place, is_client, network)
        found.append((way_of(one, other, evidence.routing), why))
    assert len(found) == COUNT
    return set(found)


@pytest.mark.parametrize("gone", ["server", "client"])
@pytest.mark.parametrize("dial", ["10.7.0.2", "fd07::2", "fe80::7:2%data"])
def test_two_hosts_on_one_link(dial: str, gone: str, two: Lab) -> None:
    half_open(two["web"].driver(), two["db"].driver(), dial, gone)
    ends = ("web", "db") if gone == "server" else ("db", "web")
    assert ways(two) == {(Way(DIRECT, "{} and {} are on one link".format(*ends)), None)}


def test_two_hosts_on_one_link_without_root(two: Lab) -> None:
    as_nobody(two, "web")
    as_nobody(two, "db")
    half_open(two["web"].driver(), two["db"].driver(), "10.7.0.2")
    assert ways(two) == {(Way(DIRECT, "web and db are on one link"), None)}


def test_a_host_that_has_forgotten_its_neighbours_contradicts_nothing(two: Lab) -> None:
    """As after a reboot; while the survivor must know whom its packets go to."""
    half_open(two["web"].driver(), two["db"].driver(), "10.7.0.2")
    two["db"].run("ip", "neigh", "flush", "all")
    assert ways(two) == {(Way(DIRECT, "web and db are on one link"), None)}
    two["web"].run("ip", "neigh", "flush", "all")
    said = "no neighbour entry for 10.7.0.2 on web"
    assert ways(two) == {(Way(UNKNOWN, said), said)}


def test_a_service_address_that_is_routed_to_its_host(two: Lab) -> None:
    """The gateway of the route is the other host itself."""
    two["db"].run("ip", "addr", "add", "10.99.0.1/32", "dev", "lo")
    two["web"].run("ip", "route", "add", "10.99.0.1/32", "via", "10.7.0.2")
    half_open(two["web"].driver(), two["db"].driver(), "10.99.0.1")
    assert ways(two) == {(Way(DIRECT, "web and db are on one link"), None)}


def test_another_host_has_the_address_on_the_link(three: Lab) -> None:
    half_open(three["web"].driver(), three["db"].driver(), "10.7.0.2")
    (link,) = json.loads(three["router"].run("ip", "-json", "link", "show", "data"))
    three["web"].run("ip", "neigh", "replace", "10.7.0.2", "lladdr", link["address"], "dev", "data")
    said = f"on web, 10.7.0.2 is at {link['address']}, which is no interface of db"
    assert ways(three) == {(Way(UNKNOWN, said), said)}


@pytest.mark.parametrize("gone", ["server", "client"])
def test_two_hosts_behind_a_router(gone: str, three: Lab) -> None:
    router_between(three, "web", "router", rule=None)
    three["db"].run("ip", "route", "add", "10.8.0.0/24", "via", three.v4("router"))
    half_open(three["web"].driver(), three["db"].driver(), "10.7.0.2", gone)
    gateway = "10.8.0.1 on web" if gone == "server" else "10.7.0.3 on db"
    said = f"the way is routed (gateway {gateway})"
    assert ways(three) == {(Way(ROUTED, said), said)}


def test_a_program_carries_what_leaves_by_a_tun_device(three: Lab) -> None:
    """The client's only way is a TUN device with a gateway behind it, as user-space networks and VPNs make it."""
    web, router, db = (three[name] for name in ("web", "router", "db"))
    web.run("ip", "addr", "flush", "dev", "data")
    slow_link(web, router, ("10.9.0.1", "10.9.0.2"), 0.001)
    web.run("ip", "route", "add", "10.7.0.0/24", "via", "10.9.0.2")
    db.run("ip", "route", "add", "10.9.0.0/24", "via", three.v4("router"))
    forward(router)
    half_open(web.driver(), db.driver(), "10.7.0.2")
    said = (
        f"the way leaves web by {DEVICE} (tun): a user-space network (slirp4netns, pasta, a VPN) may hold the other end"
    )
    assert ways(three) == {(Way(RELAYED, said), said)}


@pytest.mark.parametrize("dial", ["127.0.0.1", "10.7.0.2", "::1", "fd07::2"])
def test_both_ends_in_one_namespace(dial: str, two: Lab) -> None:
    half_open(two["db"].driver(), two["db"].driver(), dial)
    assert ways(two, "db", "db") == {(Way(DIRECT, "both ends are in one network namespace"), None)}


@pytest.mark.parametrize("gone", ["server", "client"])
@pytest.mark.parametrize("dial", ["172.17.0.1", "10.7.0.2", "172.17.0.3", "fd17::1"])
def test_a_container_and_its_own_host_or_its_neighbour(dial: str, gone: str, two: Lab) -> None:
    """It reaches an address of its host on the bridge, another by its gateway, and another container on the bridge."""
    bridge(two["db"])
    inner, other = container(two["db"], 2), container(two["db"], 3)
    server = other.driver() if dial == other.v4 else two["db"].driver()
    half_open(inner.driver(), server, dial, gone)
    (found,) = ways(two, "db", "db")
    assert found[0].kind is DIRECT and found[1] is None


def test_a_container_that_knows_no_neighbour_is_joined_by_its_links(two: Lab) -> None:
    bridge(two["db"])
    inner, other = container(two["db"], 2), container(two["db"], 3)
    half_open(inner.driver(), other.driver(), other.v4)
    for one in (inner, other):
        one.run("ip", "neigh", "flush", "all")
    assert ways(two, "db", "db") == {(Way(DIRECT, "both ends are joined by a link of db"), None)}


def test_a_published_port_leads_to_its_container_by_a_table_that_was_read(two: Lab) -> None:
    bridge(two["db"])
    inner = container(two["db"], 2)
    publish(two["db"], PORT, inner, PORT)
    half_open(two["web"].driver(), inner.driver(), "10.7.0.2")
    assert {why for _, why in ways(two)} == {None}


def test_a_host_that_tracks_and_does_not_say_what_it_translates_proves_nothing(two: Lab) -> None:
    two["db"].run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    two["db"].run("nft", "add rule inet t c ct state established accept")
    half_open(two["web"].driver(), two["db"].driver(), "10.7.0.2")
    until(lambda: two["db"].run("cat", "/proc/sys/net/netfilter/nf_conntrack_count").strip() != "0")
    assert ways(two) == {(Way(DIRECT, "web and db are on one link"), None)}
    as_nobody(two, "db")
    assert ways(two) == {(Way(DIRECT, "web and db are on one link"), TRACKS)}
