"""Translations that lead nowhere: the pod behind them is gone, or they themselves are. Truth is how it was made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.host import Lab, lab
from lab.nat import Container, bridge, container, forward, nat, pod, publish
from lab.test_counters import APART
from lab.test_nat import BEHIND, PUBLISHED, Way
from lab.tool import assert_exactly, check

REDIRECTED = 6432


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db") as made:
        yield made


def routed_pod(made: Lab, where: str) -> tuple[Way, Container]:
    """A pod of either host with a route of its own: the server behind a published port, or a masqueraded client."""
    forward(made[where])
    inner = pod(made[where], 7)
    if where == "db":
        nat(made["db"], f"pre tcp dport {PUBLISHED} fib daddr type local dnat ip to {inner.v4}:{BEHIND}")
        way = Way(made["web"].driver(), inner.driver(), (made.v4("db"), PUBLISHED), ("0.0.0.0", BEHIND))
    else:
        nat(made["web"], "post ip saddr 10.42.0.0/24 masquerade")
        way = Way(inner.driver(), made["db"].driver(), (made.v4("db"), BEHIND), ("0.0.0.0", BEHIND))
    return way, inner


@pytest.mark.parametrize("where", ["db", "web"])
def test_a_pod_that_is_gone_with_its_route_leaves_its_peers_half_open(where: str, two: Lab) -> None:
    """Its entry in connection tracking stays, and leads to an address that nobody has."""
    way, inner = routed_pod(two, where)
    pairs = way.connected()
    code, report = check(two, "--settle", "0.3")
    assert_exactly(report, set())
    assert code == 0 and report["connections"] == len(pairs)
    verdict = "missing-on-server" if where == "db" else "missing-on-client"
    expected = way.truth(verdict, [client for client, _ in pairs])
    two[where].run("ip", "link", "del", "pod7")
    inner.remove((way.server if where == "db" else way.client).pid())
    code, report = check(two, "--settle", "0.3")
    assert_exactly(report, expected)
    assert code == 1 and report["external"] == []
    assert {one["cause"]["code"] for one in report["findings"]} == {"peer-vanished"}


def test_another_life_behind_a_published_port_is_desynchronized(two: Lab) -> None:
    """The client dials again from its old port, another container takes it, and the port leads to the first again."""
    bridge(two["db"])
    first, second = container(two["db"], 2), container(two["db"], 3)
    publish(two["db"], PUBLISHED, first, BEHIND)
    client, dial = two["web"].driver(), (two.v4("db"), PUBLISHED)
    way = Way(client, first.driver(), dial, ("0.0.0.0", BEHIND))
    pairs = way.connected()
    old, servers = zip(*pairs, strict=True)
    client.send(old, 3000)
    way.server.receive(servers, 3000)
    time.sleep(APART)
    (origin,) = client.local(old[:1])
    client.vanish(old[:1])
    two["db"].run("conntrack", "-F")
    two["db"].run("nft", "flush chain inet nat pre")
    nat(two["db"], f"pre tcp dport {PUBLISHED} dnat ip to {second.v4}:{BEHIND}")
    twin = second.driver()
    listener = twin.listen("0.0.0.0", BEHIND, 8)
    source, port = origin.split(":")
    again = client.connect(*dial, 1, None, (source, int(port)))
    twin.vanish(twin.accept(listener, 1))
    two["db"].run("conntrack", "-F")
    for one in [*client.local(old[1:]), origin]:
        two["db"].run(*inserted(one, f"{dial[0]}:{dial[1]}", f"{first.v4}:{BEHIND}"))
    expected = way.truth("desynchronized", again)
    code, report = check(two, "--settle", "0.3")
    assert_exactly(report, expected)
    assert code == 1 and report["connections"] == len(pairs)
    assert not [note for note in report["notes"] if "byte counters" in note]


@pytest.mark.parametrize("port", [REDIRECTED, BEHIND])
def test_a_check_of_one_port_finds_whom_a_redirect_leaves_alone(port: int, two: Lab) -> None:
    """The server's end is gone, and the client knows it by the other port: no dump of that port shows anything."""
    nat(two["db"], f"pre tcp dport {REDIRECTED} redirect to :{BEHIND}")
    dial = two.v4("db"), REDIRECTED
    way = Way(two["web"].driver(), two["db"].driver(), dial, ("0.0.0.0", BEHIND))
    clients, servers = zip(*way.connected(), strict=True)
    expected = way.truth("missing-on-server", list(clients))
    way.server.vanish(servers)
    code, report = check(two, "--settle", "0.3", "--port", str(port))
    assert_exactly(report, expected)
    assert code == 1


def inserted(client: str, dialled: str, target: str) -> list[str]:
    """The command that makes an entry of connection tracking: what a client dialled is handed to a target."""
    (source, port), (address, published) = (one.split(":") for one in (client, dialled))
    words = (
        f"-I -p tcp -t 3600 --state ESTABLISHED -u ASSURED -s {source} --sport {port} -d {address} --dport {published}"
    )
    return ["conntrack", *words.split(), "--dst-nat", target]
