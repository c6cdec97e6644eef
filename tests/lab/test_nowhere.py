"""Translations that lead nowhere: the pod behind them is gone, or they themselves are. Truth is how it was made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.host import Lab, lab
from lab.nat import Container, forward, nat, pod
from lab.test_nat import BEHIND, PUBLISHED, Way
from lab.tool import assert_exactly, check


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
