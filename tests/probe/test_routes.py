"""Routes, neighbours and links under every Python, as `ip` shows them, in a network that was made for it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lab.waiting import PATIENCE, until
from probe.conversation import open_probe

from halfopen import address
from halfopen.model import NetnsRef, Route, RouteQuery

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
BEGIN = "sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv4.ip_forward=1; echo $$; exec sleep infinity"


def inside(pid: int, *argv: str) -> list[str]:
    return ["nsenter", "-t", str(pid), "-n", *argv]


def ip(pid: int, *argv: str) -> Any:
    """`ip -json` inside a namespace."""
    said = subprocess.run(inside(pid, "ip", "-json", *argv), check=True, capture_output=True, text=True).stdout
    return json.loads(said or "[]")


@pytest.fixture(scope="module")
def spaces() -> Iterator[tuple[int, int, int]]:
    """Pids in three namespaces: an outer one with the bridge br0 and a TUN device, and two that are joined to it by
    veth: one by a port of the bridge, and one without.
    """
    argv = ["unshare", "-n", "sh", "-c", BEGIN]
    processes = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outer, port, plain = (int(one.stdout.readline()) if one.stdout else 0 for one in processes)
    commands = [
        (outer, "link add br0 type bridge"),
        (outer, "link set br0 address 02:00:00:00:00:01 up"),
        (outer, "addr add 10.20.0.1/24 dev br0"),
        (outer, "addr add fd20::1/64 dev br0 nodad"),
        (outer, f"link add veth1 type veth peer name eth0 netns {port}"),
        (outer, "link set veth1 master br0 up"),
        (outer, f"link add veth2 type veth peer name eth0 netns {plain}"),
        (outer, "link set veth2 up"),
        (outer, "addr add 10.21.0.1/24 dev veth2"),
        (outer, "tuntap add dev tap0 mode tap"),
        (outer, "addr add 10.22.0.1/24 dev tap0"),
        (outer, "link set tap0 up"),
        (outer, "neigh add 10.22.0.2 lladdr 02:00:00:00:00:22 dev tap0"),
        (outer, "route add 10.23.0.0/16 via 10.22.0.2"),
        (outer, "route add 10.24.0.0/16 via inet6 fd20::2 dev br0"),
        (outer, "route add unreachable 10.25.0.0/16"),
        (port, "link set eth0 address 02:00:00:00:00:02 up"),
        (port, "addr add 10.20.0.2/24 dev eth0"),
        (port, "addr add fd20::2/64 dev eth0 nodad"),
        (port, "route add default via 10.20.0.1"),
        (plain, "link set eth0 up"),
        (plain, "addr add 10.21.0.2/24 dev eth0"),
    ]
    for pid in (outer, port, plain):
        ip(pid, "link", "set", "lo", "up")
    for pid, command in commands:
        subprocess.run(inside(pid, "ip", *command.split()), check=True)
    for pid, peer in ((outer, "10.20.0.2"), (outer, "fd20::2"), (port, "10.20.0.1"), (port, "fd20::1")):
        until(partial(reached, pid, peer))
    yield outer, port, plain
    for process in processes:
        process.kill()
        process.wait(PATIENCE)


def reached(pid: int, peer: str) -> bool:
    """Whether the kernel knows the link-layer address of a neighbour, after something was sent to it."""
    argv = inside(pid, "timeout", "1", "bash", "-c", f"exec 3<>/dev/tcp/{peer}/9")
    subprocess.run(argv, capture_output=True)
    return any("lladdr" in one for one in ip(pid, "neigh", "show", peer))


def place(pid: int) -> NetnsRef:
    return NetnsRef("here", Path(f"/proc/{pid}/ns/net").stat().st_ino)


def query(pid: int, local: str, peer: str, scope: int = 0) -> RouteQuery:
    return RouteQuery(place(pid), address.parse(local), address.parse(peer), scope)


MAC = {number: bytes([2, 0, 0, 0, 0, number]) for number in (1, 2, 0x22)}


@pytest.mark.parametrize("from_within", [True, False])
def test_it_tells_routes_next_hops_and_how_links_are_joined(
    from_within: bool, python: str, spaces: tuple[int, int, int]
) -> None:
    """As root it enters the namespaces, and it starts in one of them or outside."""
    outer, port, plain = spaces
    links = {one["ifname"]: one["ifindex"] for one in ip(outer, "link")}
    eth0 = {pid: ip(pid, "link", "show", "eth0")[0]["ifindex"] for pid in (port, plain)}
    expected = {
        query(outer, "10.20.0.1", "10.20.0.2"): Route(links["br0"], None, MAC[2]),
        query(outer, "fd20::1", "fd20::2"): Route(links["br0"], None, MAC[2]),
        query(outer, "10.20.0.1", "10.21.0.1"): Route(1, is_local=True),
        query(outer, "10.21.0.1", "10.21.0.99"): Route(links["veth2"]),
        query(outer, "10.22.0.1", "10.23.0.9"): Route(links["tap0"], address.parse("10.22.0.2"), MAC[0x22]),
        query(outer, "10.20.0.1", "10.24.0.9"): Route(links["br0"], address.parse("fd20::2"), MAC[2]),
        query(outer, "10.20.0.1", "10.20.0.2", links["tap0"]): Route(links["tap0"]),
        query(outer, "10.20.0.1", "10.25.0.9"): None,
        query(outer, "10.20.0.77", "10.20.0.2"): None,  # an address that it does not have
        query(port, "10.20.0.2", "10.20.0.1"): Route(eth0[port], None, MAC[1]),
        query(port, "10.20.0.2", "192.0.2.1"): Route(eth0[port], address.parse("10.20.0.1"), MAC[1]),
        query(port, "fd20::2", "fd20::1"): Route(eth0[port], None, MAC[1]),
        query(plain, "10.21.0.2", "10.21.0.1"): Route(eth0[plain]),
        query(plain, "10.21.0.2", "10.30.0.1"): None,
    }
    agent = open_probe(python, inside(port) if from_within else None)
    agent.start((1,))
    agent.first_look((1,))
    gone = RouteQuery(NetnsRef("here", 1), bytes(4), bytes(4))
    found = agent.routes([*expected, gone])
    assert found.keys() == {place(pid) for pid in spaces}
    assert {query: route for told in found.values() for query, route in told.routes.items()} == expected
    near = {link.name: link for link in found[place(outer)].links.values()}
    assert (near["br0"].kind, near["br0"].address, near["tap0"].kind) == ("bridge", MAC[1], "tun")
    assert (near["veth1"].master, near["veth2"].master) == (links["br0"], 0)
    for name, pid in (("veth1", port), ("veth2", plain)):
        far = found[place(pid)].links[eth0[pid]]
        assert (near[name].kind, near[name].joined, near[name].joined_netns) == ("veth", far.index, place(pid).netns)
        assert (far.kind, far.joined, far.joined_netns) == ("veth", links[name], place(outer).netns)
    assert agent.snapshot((1,)).namespaces[0].netns == agent.netns  # it came back
    agent.close()


def test_without_root_it_tells_those_of_its_own_namespace(spaces: tuple[int, int, int]) -> None:
    outer, port, _ = spaces
    agent = open_probe("python3", [*inside(outer), *NOBODY])
    agent.start((1,))
    agent.first_look((1,))
    own, other = query(outer, "10.20.0.1", "10.20.0.2"), query(port, "10.20.0.2", "10.20.0.1")
    found = agent.routes([own, other])
    assert found.keys() == {own.place}
    assert found[own.place].routes[own] == Route(ip(outer, "link", "show", "br0")[0]["ifindex"], None, MAC[2])
    (veth,) = [link for link in found[own.place].links.values() if link.name == "veth1"]
    assert veth.joined and veth.joined_netns is None  # another's namespace cannot be opened
    agent.close()


def test_where_netlink_is_refused_there_are_none(way: str, python: str) -> None:
    agent = open_probe(python)
    agent.start((1,))
    agent.first_look((1,))
    loopback = RouteQuery(agent.own_netns, address.parse("127.0.0.1"), address.parse("127.0.0.1"))
    found = agent.routes([loopback])
    agent.close()
    assert [told.routes[loopback] for told in found.values()] == ([Route(1, is_local=True)] if way == "netlink" else [])
