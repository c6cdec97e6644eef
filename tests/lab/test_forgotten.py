"""Translations that were forgotten while both ends lived, or one: truth is how it was made.

Each connection has carried a number of bytes of its own, so that each end has one socket that could be its other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.host import Lab, lab
from lab.nat import bridge, container, nat, router_between
from lab.test_nat import BEHIND, PUBLISHED, Way, named, through
from lab.tool import found

RANDOM = "meta l4proto tcp masquerade to :20000-20999 fully-random"


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db", "router") as made:
        yield made


def pods(made: Lab) -> Way:
    """A container of the client's host, masqueraded with a port by chance."""
    bridge(made["web"])
    inner = container(made["web"], 2)
    nat(made["web"], f"post ip saddr 172.17.0.0/16 oifname != docker0 {RANDOM}")
    return Way(inner.driver(), made["db"].driver(), (made.v4("db"), BEHIND), ("0.0.0.0", BEHIND))


def masked(made: Lab) -> Way:
    """A router that puts its own address and a port by chance in the place of the client's."""
    router_between(made, "web", "router", RANDOM)
    return Way(made["web"].driver(), made["db"].driver(), (made.v4("db"), BEHIND), ("0.0.0.0", BEHIND))


def dialled(made: Lab) -> Way:
    """The client dials a port of the router, which hands it on; the client's address stays."""
    router_between(made, "web", "router")
    made["router"].run("nft", "flush chain inet nat post")
    made["db"].run("ip", "route", "add", "10.8.0.0/24", "via", made.v4("router"))
    nat(made["router"], f"pre ip daddr 10.8.0.1 tcp dport {PUBLISHED} dnat ip to {made.v4('db')}:{BEHIND}")
    return Way(made["web"].driver(), made["db"].driver(), ("10.8.0.1", PUBLISHED), ("0.0.0.0", BEHIND))


def changed(made: Lab) -> Way:
    """As `dialled`, and the router puts itself in the client's place as well: no port and no address is left."""
    way = dialled(made)
    nat(made["router"], f"post ip saddr 10.8.0.0/24 {RANDOM}")
    return way


WAYS: dict[str, Callable[[Lab], Way]] = {one.__name__: one for one in (pods, masked, dialled, changed)}


def talked(way: Way) -> list[tuple[int, int]]:
    """Connections, each of which has carried another number of bytes."""
    pairs = way.connected()
    for number, (client, server) in enumerate(pairs, 1):
        way.client.send([client], 1000 * number)
        way.server.receive([server], 1000 * number)
    return pairs


def forget(made: Lab) -> None:
    """No host knows any more what it translates."""
    for host in made.hosts.values():
        host.run("conntrack", "-F", check=False)


@pytest.mark.parametrize("way", WAYS)
def test_both_ends_live_and_nobody_knows_which_belong_together(way: str, three: Lab) -> None:
    path = WAYS[way](three)
    named(three)
    pairs = talked(path)
    forget(three)
    code, report = through(three, "--settle", "0.3")
    assert (code, report["findings"]) == (3, []), report["headline"]
    assert reasons(report) == {"translation-gone"}
    assert {one["client"] for one in report["unjudged"]} >= set(path.client.local([client for client, _ in pairs]))
    assert "under nat" not in " ".join([report["headline"], *report["details"], *report["notes"]])
    assert not report["external"]


@pytest.mark.parametrize("way", WAYS)
def test_who_lost_its_server_is_found_all_the_same(way: str, three: Lab) -> None:
    path = WAYS[way](three)
    named(three)
    pairs = talked(path)
    path.server.vanish([server for _, server in pairs[2:]])
    expected = path.truth("missing-on-server", [client for client, _ in pairs[2:]])
    forget(three)
    code, report = through(three, "--settle", "0.3")
    assert found(report) == expected, report["headline"]
    assert {one["cause"]["code"] for one in report["findings"]} == {"middlebox-forgot"}
    assert reasons(report) == {"translation-gone"}
    assert code == 1


@pytest.mark.parametrize("way", WAYS)
def test_who_lost_its_client_is_found_all_the_same(way: str, three: Lab) -> None:
    path = WAYS[way](three)
    named(three)
    pairs = talked(path)
    ends = (
        path.server.local([server for _, server in pairs[2:]]),
        path.server.peers([server for _, server in pairs[2:]]),
    )
    path.client.vanish([client for client, _ in pairs[2:]])
    forget(three)
    code, report = through(three, "--settle", "0.3")
    assert {(one["verdict"], one["connection"]["client"]) for one in report["findings"]} == {
        ("missing-on-client", peer) for peer in ends[1]
    }, report["headline"]
    assert reasons(report) == {"translation-gone"}
    assert code == 1


def test_a_proxy_on_the_router_has_the_other_end(three: Lab) -> None:
    """It listens where others would have a translation: nothing is missing, and each leads elsewhere."""
    router_between(three, "web", "router")
    named(three)
    server = three["db"].driver()
    listener = server.listen("0.0.0.0", BEHIND, 8)
    three["router"].driver().relay(PUBLISHED, three.v4("db"), BEHIND)
    three["web"].driver().connect("10.8.0.1", PUBLISHED, 2)
    server.accept(listener, 2)
    code, report = through(three, "--settle", "0.3")
    assert (code, report["findings"], report["unjudged"]) == (0, [], [])
    assert {one["peer"] for one in report["external"]} >= {f"10.8.0.1:{PUBLISHED}"}


def test_what_is_behind_a_port_that_was_not_read_is_not_judged(three: Lab) -> None:
    path = changed(three)
    named(three)
    talked(path)
    forget(three)
    with three.inventory.open("a") as file:
        file.write(f"ports = [{PUBLISHED}]\n")
    code, report = through(three, "--settle", "0.3")
    assert (code, report["findings"]) == (3, []) and reasons(report) == {"translation-gone"}
    assert "without --port" in report["headline"]


def reasons(report: dict[str, Any]) -> set[str]:
    """Why connections of a report were not judged."""
    return {one["reason"] for one in report["unjudged"]}
