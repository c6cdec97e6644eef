"""Translation on real hosts: containers, published ports, routers. Faults are found exactly, the healthy are silent."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab.host import Driver, Lab, lab
from lab.nat import Container, bridge, container, forward, masquerade, nat, publish, router_between
from lab.tool import Truth, assert_exactly, check, found, truth
from lab.waiting import until

COUNT = 4
ESTABLISHED, CLOSED = 1, 7  # include/net/tcp_states.h
PUBLISHED, BEHIND = 8080, 5000


@dataclass
class Way:
    """Where a client's program dials and where the server's program listens."""

    client: Driver
    server: Driver
    dial: tuple[str, int]
    bind: tuple[str, int]
    names: tuple[str, str] = ("web", "db")

    def connected(self, count: int = COUNT) -> list[tuple[int, int]]:
        """Accepted connections: pairs of the client's and the server's socket, one end of the other."""
        listener = self.server.listen(*self.bind, 64)
        pairs = []
        for _ in range(count):  # one by one, so that it is known which is whose, whatever became of its ports
            (client,) = self.client.connect(*self.dial, 1)
            (server,) = self.server.accept(listener, 1)
            pairs.append((client, server))
        return pairs

    def truth(self, verdict: str, clients: list[int]) -> Truth:
        """As the client sees it: its own address, and the one that it dialled."""
        return truth(verdict, self.client.local(clients), self.client.peers(clients))


def broken(path: Way) -> Truth:
    """Three faults beside a healthy connection."""
    (_, server), (client, _), (shut, _), _ = pairs = path.connected()
    expected = path.truth("missing-on-server", [pairs[0][0]])
    expected |= path.truth("missing-on-client", [client])
    expected |= path.truth("half-closed", [shut])
    path.server.vanish([server])
    path.client.vanish([client])
    path.client.shutdown([shut])
    return expected


def published(made: Lab, six: bool = False) -> Way:
    """A container of the server's host behind a published port."""
    bridge(made["db"])
    inner = container(made["db"], 2)
    publish(made["db"], PUBLISHED, inner, BEHIND)
    dial = made.v6("db") if six else made.v4("db")
    return Way(made["web"].driver(), inner.driver(), (dial, PUBLISHED), ("::" if six else "0.0.0.0", BEHIND))


def masqueraded(made: Lab, six: bool = False) -> Way:
    """A container of the client's host."""
    bridge(made["web"])
    inner = container(made["web"], 2)
    masquerade(made["web"])
    dial = made.v6("db") if six else made.v4("db")
    return Way(inner.driver(), made["db"].driver(), (dial, BEHIND), ("::" if six else "0.0.0.0", BEHIND))


def both(made: Lab, six: bool = False) -> Way:
    """Containers at both ends, with one and the same private address."""
    one, two = masqueraded(made, six), published(made, six)
    return Way(one.client, two.server, two.dial, two.bind)


def both_with_other_ports(made: Lab) -> Way:
    """As `both`, and no port survives the masquerade."""
    path = both(made)
    made["web"].run("nft", "flush chain inet nat post")
    nat(
        made["web"],
        "post ip saddr 172.17.0.0/16 oifname != docker0 meta l4proto tcp masquerade to :20000-20999 fully-random",
    )
    return path


WAYS: dict[str, Callable[[Lab], Way]] = {
    "published": published,
    "masqueraded": masqueraded,
    "both": both,
    "both, ports changed": both_with_other_ports,
    "both, IPv6": lambda made: both(made, six=True),
}


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db") as made:
        yield made


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db", "router") as made:
        yield made


@pytest.mark.parametrize("way", WAYS)
def test_faults_of_translated_connections_are_found_exactly(way: str, two: Lab) -> None:
    path = WAYS[way](two)
    expected = broken(path)
    code, report = check(two, "--settle", "0.3")
    assert_exactly(report, expected)
    assert code == 1 and report["connections"] == COUNT
    for one in report["findings"]:
        assert one["translation"] and one["connection"]["client"] in one["translation"]
    # The counters of the namespaces involved are told, and a container's are not taken for its host's.
    spaces = {one["netns"] for one in report["counters"] if one["netns"]}
    assert spaces <= {end["netns"] for one in report["findings"] for end in (one["client"], one["server"]) if end}
    assert len(spaces) == (2 if way.startswith("both") else 1)
    # The end that is there is told as its own kernel knows it.
    near = [one["client"]["local"] for one in report["findings"] if one["client"]]
    assert {one["connection"]["client"] for one in report["findings"] if one["client"]} == set(near)


@pytest.mark.parametrize("port", [PUBLISHED, BEHIND])
def test_a_check_of_one_port_follows_it_through_the_translation(port: int, two: Lab) -> None:
    path = published(two)
    expected = broken(path)
    _, report = check(two, "--port", str(port), "--settle", "0.3")
    assert_exactly(report, expected)
    assert report["connections"] == COUNT


@pytest.mark.parametrize("way", WAYS)
def test_healthy_translated_connections_are_silent(way: str, two: Lab) -> None:
    WAYS[way](two).connected()
    code, report = check(two)
    assert_exactly(report, set())
    assert code == 0 and report["outcome"] == "clean" and report["connections"] == COUNT


@pytest.mark.parametrize("way", ["published", "masqueraded", "both", "both, IPv6"])
def test_a_translation_that_was_forgotten_leaves_both_ends_alive(way: str, two: Lab) -> None:
    """Its entries have expired, as they do for idle connections: nothing healthy is reported, and it is said why."""
    WAYS[way](two).connected()
    for host in two.hosts.values():
        host.run("conntrack", "-F", check=False)
    code, report = check(two, "--settle", "0.3")
    assert_exactly(report, set())
    assert code == 0
    if way.startswith("both"):  # two containers with one address, and nothing that says which is which
        assert report["connections"] == 0 and "nothing was compared" in report["headline"]
    else:
        assert report["connections"] == COUNT
        assert any("inferred" in note for note in report["notes"])


def routed(made: Lab, rule: str = "masquerade") -> Way:
    """A router between client and server that puts its own address in the place of the client's."""
    router_between(made, "web", "router", rule)
    return Way(made["web"].driver(), made["db"].driver(), (made.v4("db"), BEHIND), ("0.0.0.0", BEHIND))


def named(made: Lab) -> None:
    """A check that names the router."""
    with made.inventory.open("a") as file:
        file.write('[checks.through]\nclient = "web"\nserver = "db"\nnat = ["router"]\n')


def through(made: Lab, *args: str) -> tuple[int, dict[str, Any]]:
    """Runs that check."""
    argv = [sys.executable, "-m", "halfopen", "check", "through", "--inventory", str(made.inventory)]
    run = subprocess.run([*argv, "--format", "json", *args], capture_output=True, text=True, timeout=120)
    assert run.returncode in (0, 1, 3), run.stderr
    return run.returncode, json.loads(run.stdout)["checks"][0]


@pytest.mark.parametrize("rule", ["masquerade", "meta l4proto tcp masquerade to :20000-20999 fully-random"])
def test_a_router_that_the_check_names_gives_exact_findings(rule: str, three: Lab) -> None:
    path = routed(three, rule)
    named(three)
    expected = broken(path)
    code, report = through(three, "--settle", "0.3")
    assert_exactly(report, expected)
    assert code == 1 and report["connections"] == COUNT
    assert all("after router" in one["translation"] for one in report["findings"])


@pytest.mark.parametrize("where", ["web", "db"])
def test_two_containers_of_one_host(where: str, two: Lab) -> None:
    """They talk over their bridge, while the other host has containers with the same addresses that do the same."""
    paths = {}
    for name in ("web", "db"):
        bridge(two[name])
        one, other = (container(two[name], number) for number in (2, 3))
        paths[name] = Way(one.driver(), other.driver(), (other.v4, BEHIND), ("0.0.0.0", BEHIND))
    quiet = paths["db" if where == "web" else "web"]
    quiet.connected()
    expected = broken(paths[where])
    code, report = check(two, "--settle", "0.3", client=where, server=where)
    assert_exactly(report, expected)
    assert code == 1 and report["connections"] == COUNT
    spaces = {end["netns"] for one in report["findings"] for end in (one["client"], one["server"]) if end}
    assert len(spaces) == 2
    # What goes on within one host is no matter between the two.
    code, report = check(two, "--settle", "0.3")
    assert_exactly(report, set())


def test_one_tuple_on_both_hosts_is_two_connections(two: Lab) -> None:
    """The same private addresses and ports on both hosts: only the one that is broken is reported."""
    held = {}
    for name in ("web", "db"):
        bridge(two[name])
        one, other = (container(two[name], number) for number in (2, 3))
        client, server = one.driver(), other.driver()
        listener = server.listen("0.0.0.0", BEHIND, 8)
        near = client.connect(other.v4, BEHIND, 1, None, (one.v4, 41000))
        held[name] = (client, near, server, server.accept(listener, 1))
    client, near, server, far = held["db"]
    expected = truth("missing-on-server", client.local(near), client.peers(near))
    server.vanish(far)
    with two.inventory.open("a") as file:
        file.write('[checks.through]\nclient = ["web", "db"]\nserver = ["web", "db"]\n')
    _, report = through(two, "--settle", "0.3")
    assert_exactly(report, expected)
    (finding,) = report["findings"]
    assert finding["client"]["host"] == "db"
    # The command that ends it enters the container.
    (command,) = [one for one in finding["commands"] if one["argv"][-1].endswith("-K")]
    assert command["host"] == "db" and command["argv"][2].startswith("nsenter ")
    two["db"].run("sh", "-c", shlex.join(command["argv"]))
    assert [client.state(near[0]), held["web"][0].state(held["web"][1][0])] == [CLOSED, ESTABLISHED]


def hairpin(made: Lab) -> Way:
    """A container dials the published port of another on its own host."""
    path = published(made)
    other = container(made["db"], 3)
    nat(made["db"], "post ip saddr 172.17.0.0/16 ip daddr 172.17.0.0/16 masquerade")
    return Way(other.driver(), path.server, path.dial, path.bind)


def from_the_host(made: Lab) -> Way:
    """The host itself dials the published port of its container."""
    path = published(made)
    return Way(made["db"].driver(), path.server, path.dial, path.bind)


@pytest.mark.parametrize("build", [hairpin, from_the_host])
def test_a_published_port_is_dialled_on_its_own_host(build: Callable[[Lab], Way], two: Lab) -> None:
    expected = broken(build(two))
    code, report = check(two, "--settle", "0.3", client="db", server="db")
    assert_exactly(report, expected)
    assert code == 1 and report["connections"] == COUNT


@pytest.mark.parametrize("where", ["server", "client"])
def test_a_container_that_is_gone_leaves_its_peers_half_open(where: str, two: Lab) -> None:
    """Its address belongs to nobody any more, but on that bridge there is nobody but containers of its host."""
    bridge(two["db" if where == "server" else "web"])
    one = container(two["db" if where == "server" else "web"], 2)
    if where == "server":
        publish(two["db"], PUBLISHED, one, BEHIND)
        path = Way(two["web"].driver(), one.driver(), (two.v4("db"), PUBLISHED), ("0.0.0.0", BEHIND))
    else:
        masquerade(two["web"])
        path = Way(one.driver(), two["db"].driver(), (two.v4("db"), BEHIND), ("0.0.0.0", BEHIND))
    pairs = path.connected()
    verdict = "missing-on-server" if where == "server" else "missing-on-client"
    expected = path.truth(verdict, [client for client, _ in pairs])
    one.run("ip", "link", "set", "eth0", "down")
    one.remove((path.server if where == "server" else path.client).pid())
    # The link goes with the namespace, which the lab keeps alive.
    two["db" if where == "server" else "web"].run("ip", "link", "del", "veth2")
    code, report = check(two, "--settle", "0.3")
    assert_exactly(report, expected)
    assert code == 1


def test_what_is_published_from_another_machine_leads_elsewhere(three: Lab) -> None:
    """The host hands on to a neighbour on its link that the check does not name: nothing is said of it."""
    forward(three["db"])
    nat(three["db"], f"pre tcp dport {PUBLISHED} dnat ip to {three.v4('router')}:{BEHIND}", "post masquerade")
    far = three["router"].driver()
    Way(three["web"].driver(), far, (three.v4("db"), PUBLISHED), ("0.0.0.0", BEHIND)).connected()
    _, report = check(three, "--settle", "0.3")
    assert_exactly(report, set())
    assert {one["peer"] for one in report["external"]} >= {f"{three.v4('router')}:{BEHIND}"}


def test_loopback_belongs_to_each_namespace(two: Lab) -> None:
    bridge(two["db"])
    paths = []
    for inner in (container(two["db"], 2), container(two["db"], 3)):
        paths.append(Way(inner.driver(), inner.driver(), ("127.0.0.1", BEHIND), ("127.0.0.1", BEHIND)))
    paths[0].connected()
    expected = broken(paths[1])
    _, report = check(two, "--settle", "0.3", client="db", server="db")
    assert_exactly(report, expected)


def test_what_was_saved_gives_the_report_of_the_run(two: Lab, tmp_path: Path) -> None:
    broken(both(two))
    folder = tmp_path / "saved"
    code, live = check(two, "--settle", "0.3", "--save", str(folder))
    assert live["findings"]
    files = [str(folder / f"{name}.halfopen") for name in ("web", "db")]
    again = subprocess.run(
        [sys.executable, "-m", "halfopen", "analyse", *files, "--format", "json"], capture_output=True, text=True
    )
    assert again.returncode == code, again.stderr
    (report,) = json.loads(again.stdout)["checks"]
    assert report | {"elapsed_s": None} == live | {"elapsed_s": None}


def test_what_was_saved_of_a_router_is_read_again(three: Lab, tmp_path: Path) -> None:
    expected = broken(routed(three))
    named(three)
    folder = tmp_path / "saved"
    code, live = through(three, "--settle", "0.3", "--save", str(folder))
    assert found(live) == expected
    web, db, router = (str(folder / f"{name}.halfopen") for name in ("web", "db", "router"))
    argv = [sys.executable, "-m", "halfopen", "analyse", web, db, "--nat", router, "--format", "json"]
    again = subprocess.run(argv, capture_output=True, text=True)
    assert again.returncode == code, again.stderr
    (report,) = json.loads(again.stdout)["checks"]
    apart = {"name", "elapsed_s"}
    assert {key: value for key, value in report.items() if key not in apart} == {
        key: value for key, value in live.items() if key not in apart
    }


def test_the_processes_of_lab_hosts_are_their_own(two: Lab) -> None:
    """Else a probe would enter the namespaces of its neighbours, and these tests would show nothing."""
    bridge(two["db"])
    inner: Container = container(two["db"], 2)
    spaces = two["db"].run("sh", "-c", "readlink /proc/[0-9]*/ns/net | sort -u").split()
    assert len(spaces) == 2
    assert len(two["web"].run("sh", "-c", "readlink /proc/[0-9]*/ns/net | sort -u").split()) == 1
    assert inner.run("readlink", "/proc/self/ns/net").strip() in spaces


def test_a_router_that_nobody_names_is_inferred_where_it_keeps_the_ports(three: Lab) -> None:
    """Nothing healthy is reported; what is broken is, and the report says what it takes for granted."""
    path = routed(three)
    path.connected()
    code, report = check(three)
    assert (code, report["outcome"], report["findings"]) == (0, "clean", [])
    assert report["connections"] == COUNT and not [one for one in report["external"] if one["peer"] == "10.7.0.3"]
    assert any("inferred" in note and "nat" in note and "10.7.0.3" in note for note in report["notes"])


def test_faults_behind_such_a_router_are_inferred(three: Lab) -> None:
    path = routed(three)
    pairs = path.connected()
    path.server.vanish([pairs[0][1]])
    path.client.shutdown([pairs[2][0]])
    expected = path.truth("missing-on-server", [pairs[0][0]]) | path.truth("half-closed", [pairs[2][0]])
    code, report = check(three, "--settle", "0.3")
    assert found(report) == expected and code == 3
    assert {one["confidence"] for one in report["findings"]} == {"inferred"}
    assert all(one["translation"] for one in report["findings"])


def test_a_router_that_nobody_names_and_that_changes_ports_leaves_the_check_incomplete(three: Lab) -> None:
    path = routed(three, "meta l4proto tcp masquerade to :20000-20999 fully-random")
    path.connected()
    code, report = check(three, "--settle", "0.3")
    assert (code, report["outcome"]) == (3, "incomplete") and not report["groups"][0]["commands"]
    assert all(one["confidence"] == "inferred" and "10.7.0.3" in one["candidate"] for one in report["findings"])
    assert "nat" in report["headline"] and "10.7.0.3" in report["headline"]


def test_byte_counters_tell_that_a_stranger_is_not_the_missing_end(three: Lab) -> None:
    """Another client of the server has the port that is asked about; what it said is not what the survivor heard."""
    path = routed(three)
    listener = path.server.listen(*path.bind, 64)
    near = path.client.connect(*path.dial, 2)
    far = path.server.accept(listener, 2)
    path.client.send(near, 1000)
    until(lambda: path.server.unread(far) == [1000] * 2)
    stranger = three["router"].driver()
    stranger.connect(*path.dial, 1, None, ("10.7.0.3", 50000))
    path.server.accept(listener, 1)
    path.server.vanish(far)
    code, report = check(three, "--settle", "0.3")
    assert found(report) == path.truth("missing-on-server", near) and code == 1


def test_a_load_balancer_that_keeps_the_clients_address_is_inferred(three: Lab) -> None:
    """The router hands on what is dialled at its own address, and nobody said that it leads to the server."""
    router_between(three, "web", "router")
    three["router"].run("nft", "flush chain inet nat post")
    three["db"].run("ip", "route", "add", "10.8.0.0/24", "via", "10.7.0.3")
    nat(three["router"], f"pre ip daddr 10.8.0.1 tcp dport {PUBLISHED} dnat ip to 10.7.0.2:{BEHIND}")
    path = Way(three["web"].driver(), three["db"].driver(), ("10.8.0.1", PUBLISHED), ("0.0.0.0", BEHIND))
    pairs = path.connected()
    code, report = check(three)
    assert (code, report["outcome"], report["connections"]) == (0, "clean", COUNT)
    assert any("inferred" in note for note in report["notes"])
    path.client.shutdown([pairs[0][0]])
    expected = path.truth("half-closed", [pairs[0][0]])
    _, report = check(three, "--settle", "0.3")
    assert found(report) == expected and report["findings"][0]["confidence"] == "inferred"
    named(three)
    _, report = through(three, "--settle", "0.3")
    assert_exactly(report, expected)


def as_nobody(made: Lab, name: str) -> None:
    """The probe runs on this host without any right."""
    wrapper = made.folder / "python-as-nobody"
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --reuid 65534 --regid 65534 --clear-groups {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    text = made.inventory.read_text()
    made.inventory.write_text(text.replace(f"[hosts.{name}]\n", f'[hosts.{name}]\npython = "{wrapper}"\n'))


@pytest.mark.parametrize("way", ["published", "masqueraded"])
def test_without_root_nothing_is_said_of_what_a_container_may_hold(way: str, two: Lab) -> None:
    as_nobody(two, "db" if way == "published" else "web")
    WAYS[way](two).connected()
    code, report = check(two, "--settle", "0.3")
    assert (code, report["outcome"], report["findings"]) == (3, "incomplete", [])
    assert "needs root" in report["headline"], report["hosts"]
    assert any("network namespaces" in gap for host in report["hosts"] for gap in host["gaps"])


def test_without_root_a_host_that_forwards_nothing_is_judged_as_ever(two: Lab) -> None:
    as_nobody(two, "db")
    as_nobody(two, "web")
    path = Way(two["web"].driver(), two["db"].driver(), (two.v4("db"), BEHIND), ("0.0.0.0", BEHIND))
    expected = broken(path)
    code, report = check(two, "--settle", "0.3")
    assert_exactly(report, expected)
    assert code == 1


def test_a_router_that_is_named_and_tells_nothing_leaves_the_check_incomplete(three: Lab) -> None:
    as_nobody(three, "router")
    named(three)
    routed(three, "meta l4proto tcp masquerade to :20000-20999 fully-random").connected()
    code, report = through(three, "--settle", "0.3")
    assert (code, report["findings"]) == (3, [])
    assert "router" in report["headline"] and "root" in report["headline"]


def test_a_router_that_cannot_be_reached_leaves_the_check_incomplete(three: Lab) -> None:
    named(three)
    routed(three).connected()
    text = three.inventory.read_text()
    three.inventory.write_text(
        text.replace(f'address = "{three["router"].management}"', 'address = "127.0.0.9"\nport = 9')
    )
    code, report = through(three, "--settle", "0.3")
    assert (code, report["findings"]) == (3, [])
    assert "router could not be read" in report["headline"]


def test_a_container_that_is_reached_without_root_hides_nobody(two: Lab) -> None:
    """It has forwarding and connection tracking from its engine, and nothing but the way out of it."""
    for host in two.hosts.values():
        forward(host)
        host.run("nft", "add table inet seen; add chain inet seen in { type filter hook input priority 0; }")
        host.run("nft", "add rule inet seen in ct state established counter")
    as_nobody(two, "db")
    as_nobody(two, "web")
    path = Way(two["web"].driver(), two["db"].driver(), (two.v4("db"), BEHIND), ("0.0.0.0", BEHIND))
    expected = broken(path)
    assert int(two["db"].run("cat", "/proc/sys/net/netfilter/nf_conntrack_count"))
    _, report = check(two, "--settle", "0.3")
    # What it translates is not told without root, so two ends that are alone may be those of one connection.
    assert found(report) == expected and not any(host["error"] for host in report["hosts"])
    lone = [one for one in report["findings"] if None in (one["client"], one["server"])]
    assert {one["confidence"] for one in lone} <= {"observed", "inferred"}
