"""Where addresses live: what other network namespaces of a host may say of them, and what they may not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from lab.breaks import COUNT, FAULTS, Scene
from lab.host import DRIVER, Driver, Lab, LabHost, namespace, sh
from lab.nat import Container, bridge, container, publish
from lab.tool import NOBODY, assert_exactly, check, found, truth

MADE = {"lo": "", "veth": "ip link add d0 type veth peer name d1; ", "tap": "ip tuntap add d0 mode tap; "}
ADDRESSES = (
    "set -e; ip link set lo up; {make}ip link set {link} up; "
    "for one in {addresses}; do ip addr add $one/32 dev {link}; done; echo made; "
)
KEEP = "exec sleep infinity"


def apart(host: LabHost, wrap: tuple[str, ...], addresses: list[str], link: str = "lo", then: str = KEEP) -> Driver:
    """A namespace that `wrap` makes, with these addresses on one of its links, and what goes on running there."""
    device = link if link == "lo" else "d0"
    script = ADDRESSES.format(addresses=" ".join(addresses), link=device, make=MADE[link]) + then
    process = host.start(*wrap, "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == "made\n"
    return Driver(process)


ANYBODY = (*NOBODY, "unshare", "-Urn")
ROOT = ("unshare", "-n")
PROGRAM = f"exec /usr/bin/python3 {DRIVER}"  # which anybody may run, whoever keeps the one that runs the tests


def of_anybody(made: Lab, addresses: list[str]) -> None:
    """Any user's."""
    apart(made["web"], ANYBODY, addresses)


def of_anybody_on_a_device(made: Lab, addresses: list[str]) -> None:
    """As rootless containers have them: a device of their own with the addresses of the host."""
    apart(made["web"], ANYBODY, addresses, "veth")


def of_root_on_a_tap(made: Lab, addresses: list[str]) -> None:
    """The same with a tap device, behind which a program is the network (pasta, slirp4netns, a VPN)."""
    apart(made["web"], ROOT, addresses, "tap")


def of_root(made: Lab, addresses: list[str]) -> None:
    """Root's, which no link leads to."""
    apart(made["web"], ROOT, addresses)


def of_a_container(made: Lab, addresses: list[str]) -> None:
    """A container that may give itself addresses, on both of its links."""
    bridge(made["web"])
    inner = container(made["web"], 2)
    for number, one in enumerate(addresses):
        inner.run("ip", "addr", "add", f"{one}/32", "dev", ("lo", "eth0")[number % 2])


LIARS: dict[str, Callable[[Lab, list[str]], None]] = {
    "any user's": of_anybody,
    "any user's, on a device": of_anybody_on_a_device,
    "root's, on a tap": of_root_on_a_tap,
    "root's, without a link": of_root,
    "a container": of_a_container,
}


@pytest.mark.parametrize("liar", LIARS)
def test_an_address_in_another_namespace_hides_nothing(liar: str, fresh_pair: Lab) -> None:
    web, db, dial = fresh_pair["web"], fresh_pair["db"], fresh_pair.v4("db")
    expected = FAULTS["server_vanished"](Scene(web, db, web.driver(), db.driver(), dial, dial, 5000))
    FAULTS["healthy"](Scene(web, db, web.driver(), db.driver(), dial, dial, 5001))
    LIARS[liar](fresh_pair, [fresh_pair.v4("db"), fresh_pair.v4("web")])
    code, report = check(fresh_pair, "--settle", "0.3")
    assert_exactly(report, expected)
    assert (code, report["connections"]) == (1, 2 * COUNT)


@pytest.mark.parametrize("wrap", [ANYBODY, ROOT], ids=["any user's", "root's"])
@pytest.mark.parametrize("both_roles", [False, True])
def test_sockets_in_another_namespace_make_no_finding(wrap: tuple[str, ...], both_roles: bool, fresh_pair: Lab) -> None:
    """The tuples of true connections and of others, with the addresses of both hosts, and one end of each gone."""
    web, db, dial, near = fresh_pair["web"], fresh_pair["db"], fresh_pair.v4("db"), fresh_pair.v4("web")
    scene = Scene(web, db, web.driver(), db.driver(), dial, dial, 5000)
    clients, _ = scene.connected()
    liar = apart(web, wrap, [dial, near], then=PROGRAM)
    listener = liar.listen(dial, 5000, 8)
    for local in (*scene.client.local(clients), f"{near}:50000"):
        host, _, port = local.rpartition(":")
        liar.connect(dial, 5000, 1, None, (host, int(port)))
    forged = liar.accept(listener, COUNT + 1)
    liar.vanish(forged)
    roles = {"client": "*", "server": "*"} if both_roles else {}
    code, report = check(fresh_pair, "--port", "5000", "--settle", "0.3", **roles)
    # A connection within a namespace of root's is one of that host with itself.
    inside = both_roles and wrap == ROOT
    lost = [*scene.client.local(clients), f"{near}:50000"]
    assert_exactly(report, truth("missing-on-server", lost, [f"{dial}:5000"] * len(lost)) if inside else set())
    assert {one["client"]["netns"] for one in report["findings"]}.isdisjoint({None}) and report["agreeing"] == COUNT
    assert code == inside
    left_out = [note for note in report["notes"] if "another user left out" in note]
    assert bool(left_out) == (wrap == ANYBODY)


@pytest.mark.parametrize("way", ["link", "route"])
def test_what_a_link_or_a_route_leads_to_counts(way: str, fresh_pair: Lab) -> None:
    """A container with an address of its own that other hosts reach: on its link, or on its loopback by a route."""
    web, db = fresh_pair["web"], fresh_pair["db"]
    bridge(db)
    inner = container(db, 2)
    dial = inner.v4
    if way == "route":
        dial = "10.9.0.1"
        inner.run("ip", "addr", "add", f"{dial}/32", "dev", "lo")
        db.run("ip", "route", "add", f"{dial}/32", "via", inner.v4)
    web.run("ip", "route", "add", f"{dial}/32", "via", fresh_pair.v4("db"))
    scene = Scene(web, db, web.driver(), inner.driver(), dial, dial, 5000)
    expected = FAULTS["server_vanished"](scene)
    scene.port = 5001
    FAULTS["healthy"](scene)
    code, report = check(fresh_pair, "--settle", "0.3")
    assert found(report) == expected
    assert (code, report["connections"]) == (1, 2 * COUNT)


def test_an_address_that_has_left_its_host_is_said(fresh_pair: Lab) -> None:
    """A service address moves away, or a lease ends: both ends stay, and no packet reaches them."""
    web, db, dial = fresh_pair["web"], fresh_pair["db"], "10.7.0.99"
    db.run("ip", "addr", "add", f"{dial}/24", "dev", "data")
    client, server = web.driver(), db.driver()
    FAULTS["healthy"](Scene(web, db, client, server, fresh_pair.v4("db"), fresh_pair.v4("db"), 5001))
    scene = Scene(web, db, client, server, dial, dial, 5000)
    clients, servers = scene.connected()
    client.vanish(clients[:1])
    server.vanish(servers[1:2])
    _, report = check(fresh_pair, "--settle", "0.3")
    before = found(report)
    db.run("ip", "addr", "del", f"{dial}/24", "dev", "data")
    code, report = check(fresh_pair, "--settle", "0.3")
    expected = {one for one in before if one[0] == "missing-on-client"}
    assert len(before) == 2 and len(expected) == 1
    assert_exactly(report, expected, "observed")  # nobody has the address: where packets to it go is not known
    assert (code, report["agreeing"]) == (1, 2 * COUNT - 2)
    assert any(note.startswith(f"{dial} is no longer an address of db") for note in report["notes"])
    # The end whose other end is not seen anywhere may be of a host that has the address by now.
    assert report["external"] == [{"host": "web", "peer": f"{dial}:5000", "count": 1}]


def hidden_container(host: LabHost, stack: ExitStack, number: int = 2) -> LabHost:
    """A container on the host's bridge whose processes cannot be seen from there, as from an sshd in a container."""
    inner = stack.enter_context(namespace(host.folder, f"hidden{number}"))
    near, far = ("netns", str(host.pid)), ("netns", str(inner.pid))
    sh("ip", "link", "add", f"veth{number}", *near, "type", "veth", "peer", "name", "eth0", *far)
    host.run("ip", "link", "set", f"veth{number}", "master", "docker0", "up")
    for command in ("link set eth0 up", f"addr add 172.17.0.{number}/16 dev eth0", "route add default via 172.17.0.1"):
        inner.run("ip", *command.split())
    return inner


@pytest.mark.parametrize("busy", [False, True])
def test_what_may_be_in_a_namespace_that_was_not_entered_is_not_accused(busy: bool, fresh_pair: Lab) -> None:
    web, db, dial = fresh_pair["web"], fresh_pair["db"], fresh_pair.v4("db")
    with ExitStack() as stack:
        bridge(db)
        inner = hidden_container(db, stack)
        published = Container(db, 0, "172.17.0.2", "fd17::2")
        publish(db, 8080, published, 5000)
        client, server = web.driver(), inner.driver()
        listener = server.listen("0.0.0.0", 5000, 8)
        clients = client.connect(dial, 8080, COUNT)
        servers = server.accept(listener, COUNT)
        expected = FAULTS["server_vanished"](Scene(web, db, web.driver(), db.driver(), dial, dial, 5001))
        if busy:
            client.send(clients, 100)
            server.receive(servers, 100)
        code, report = check(fresh_pair, "--settle", "0.3")
        assert_exactly(report, expected)
        assert code == 1 and report["agreeing"] == 0
        rows = {(one["client"], one["server"], one["reason"]) for one in report["unjudged"]}
        assert rows == {(one, f"{dial}:8080", "namespace-not-entered") for one in client.local(clients)}
        assert any("1 network namespace could not be entered (behind veth2)" in note for note in report["notes"])
        code, report = check(fresh_pair, "--port", "8080", "--settle", "0.3")
        assert (code, report["outcome"]) == (3, "incomplete")
        argv = [sys.executable, "-m", "halfopen", "doctor", "db", "--inventory", str(fresh_pair.inventory)]
        told = subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout
        assert "1 more that no process seen here is in" in told and "nothing is missing" not in told


IN_A_THREAD = """
import ctypes, threading, time
def apart():
    assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0
    print(threading.get_native_id(), flush=True)
    time.sleep(1000)
threading.Thread(target=apart, daemon=True).start()
time.sleep(1000)
"""


def test_a_namespace_that_only_a_thread_holds_is_named(fresh_pair: Lab) -> None:
    db = fresh_pair["db"]
    bridge(db)
    thread = db.start(sys.executable, "-c", IN_A_THREAD, stdout=subprocess.PIPE)
    assert thread.stdout
    number = thread.stdout.readline().strip()
    db.run("ip", "link", "add", "veth9", "type", "veth", "peer", "name", "eth0", "netns", number)
    db.run("ip", "link", "set", "veth9", "master", "docker0", "up")
    _, report = check(fresh_pair, "--settle", "0.3")
    assert any("could not be entered (behind veth9)" in note for note in report["notes"])


@pytest.mark.parametrize("six", [False, True])
def test_addresses_of_a_local_route_are_the_hosts(six: bool, fresh_pair: Lab) -> None:
    """AnyIP: no interface has the address, and the host takes every connection to the network."""
    web, db = fresh_pair["web"], fresh_pair["db"]
    network, dial, bare = ("fd09::/64", "fd09::5", "::") if six else ("10.9.0.0/24", "10.9.0.5", "0.0.0.0")
    db.run("ip", "route", "add", "local", network, "dev", "lo")
    web.run("ip", "route", "add", network, "via", fresh_pair.v6("db") if six else fresh_pair.v4("db"))
    expected = FAULTS["server_vanished"](Scene(web, db, web.driver(), db.driver(), dial, bare, 5000))
    FAULTS["healthy"](Scene(web, db, web.driver(), db.driver(), dial, bare, 5001))
    code, report = check(fresh_pair, "--settle", "0.3")
    assert found(report) == expected
    assert (code, report["connections"]) == (1, 2 * COUNT)
    assert not [note for note in report["notes"] if "no longer" in note]
