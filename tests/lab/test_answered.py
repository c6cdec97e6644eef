"""Who is answered is not half-open, wherever the other end is; and who is answered by nobody still is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.breaks import Scene
from lab.host import DRIVER, Driver, Lab, LabHost, lab
from lab.nat import nat
from lab.test_nat import as_nobody
from lab.tool import assert_exactly, check, found, truth

COUNT, PORT, PROXY, ANYCAST = 4, 5000, 15001, "10.7.0.50"
PROXY_USER = "12345"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db") as made:
        yield made


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db", "twin") as made:
        yield made


def sidecar(host: LabHost, target: str) -> None:
    """What leaves for the port goes through a relay on the same host instead, unless it comes from there."""
    argv = ["setpriv", "--reuid", PROXY_USER, "--clear-groups", sys.executable, str(DRIVER)]
    Driver(host.start(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)).relay(PROXY, target, PORT)
    nat(host, f"out tcp dport {PORT} meta skuid != {PROXY_USER} redirect to :{PROXY}")


def connected(made: Lab, server: LabHost, dial: str) -> tuple[Driver, list[int], set[tuple[str, str]]]:
    """Busy connections of web to a server that holds its ends; their endpoints as the client sees them."""
    far, client = server.driver(), made["web"].driver()
    listener = far.listen("0.0.0.0", PORT, 64)
    near = client.connect(dial, PORT, COUNT)
    far.accept(listener, COUNT)
    client.chatter(near, 0.2, 60)
    return client, near, set(zip(client.local(near), client.peers(near), strict=True))


def assert_answered(result: tuple[int, dict[str, Any]], ends: set[tuple[str, str]]) -> None:
    code, report = result
    assert (code, report["outcome"], report["findings"]) == (3, "incomplete", [])
    assert f"{COUNT} connections could not be judged: no other end on db, but somebody answers" in report["headline"]
    assert {(one["client"], one["server"]) for one in report["unjudged"]} == ends
    assert {(one["host"], one["state"], one["reason"]) for one in report["unjudged"]} == {
        ("web", "ESTABLISHED", "answered-elsewhere")
    }


def test_a_proxy_on_the_clients_host_answers_for_the_server(two: Lab) -> None:
    """Its own connections agree on both hosts, and those of the program end at the proxy: no half-open one is there."""
    as_nobody(two, "web")
    sidecar(two["web"], two.v4("db"))
    _, _, ends = connected(two, two["db"], two.v4("db"))
    assert_answered(check(two), ends)
    code, report = check(two, "--allow", "answered-elsewhere")
    assert (code, report["outcome"], len(report["unjudged"])) == (0, "clean", COUNT)
    assert report["connections"] == COUNT


def test_another_host_with_the_same_address_answers(three: Lab) -> None:
    """db and its twin both have the address, as with anycast, and the client's packets go to the twin."""
    for name in ("db", "twin"):
        three[name].run("ip", "addr", "add", f"{ANYCAST}/32", "dev", "lo")
    (link,) = json.loads(three["twin"].run("ip", "-json", "link", "show", "data"))
    three["web"].run("ip", "neigh", "replace", ANYCAST, "lladdr", link["address"], "dev", "data")
    three["web"].run("ip", "route", "add", f"{ANYCAST}/32", "dev", "data")
    three["db"].driver().listen("0.0.0.0", PORT, 8)
    _, _, ends = connected(three, three["twin"], ANYCAST)
    assert_answered(check(three), ends)


def test_an_idle_end_whose_keepalive_is_answered_is_not_half_open(two: Lab) -> None:
    as_nobody(two, "web")
    sidecar(two["web"], two.v4("db"))
    far, client = two["db"].driver(), two["web"].driver()
    listener = far.listen("0.0.0.0", PORT, 64)
    near = client.connect(two.v4("db"), PORT, COUNT)
    far.accept(listener, COUNT)
    client.probe_often(near)
    assert_answered(check(two), set(zip(client.local(near), client.peers(near), strict=True)))


@pytest.mark.parametrize("trying", ["silent", "sends", "probes"])
@pytest.mark.parametrize("survivor", ["client", "server"])
def test_an_end_that_nobody_answers_misses_its_peer_whatever_it_tries(survivor: str, trying: str, two: Lab) -> None:
    """Its peer is gone, and what the peer's kernel would say to that is lost on the way."""
    web, db = two["web"], two["db"]
    scene = Scene(web, db, web.driver(), db.driver(), two.v4("db"), two.v4("db"), PORT)
    clients, servers = scene.connected()
    ends = scene.ends(clients)
    if survivor == "client":
        scene.to_client("")
        scene.server.vanish(servers)
        left, driver = clients, scene.client
    else:
        scene.to_server("")
        scene.client.vanish(clients)
        left, driver = servers, scene.server
    if trying == "sends":
        driver.send(left, 100)
    elif trying == "probes":
        driver.probe_often(left)
    code, report = check(two)
    assert_exactly(report, truth(f"missing-on-{'server' if survivor == 'client' else 'client'}", *ends))
    assert code == 1 and report["unjudged"] == [] and found(report)
