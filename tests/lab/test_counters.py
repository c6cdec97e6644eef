"""Two established ends that are not each other's, data that gets no answer, and silence where neither is so."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.breaks import COUNT
from lab.host import Driver, Lab, lab
from lab.test_check import WAYS, scene
from lab.tool import Truth, assert_exactly, check, truth
from lab.waiting import PATIENCE, until

from halfopen.evidence.saved import decode
from halfopen.matching.verdict import sequence as counters

PORTS = itertools.count(8000)  # those of test_check begin at 5000
FAMILIES = ("v4", "v6")
RUNS = 20
APART = 2.5  # seconds between two lives at least: data of both within a second would seem to be the same data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts, and a third that can take the address of either."""
    with lab(tmp_path_factory.mktemp("lab"), "web", "db", "twin") as made:
        yield made


class Pair:
    """Connections from web to db on a port of their own, accepted."""

    def __init__(self, made: Lab, family: str, count: int = 1) -> None:
        self.lab, self.port = made, next(PORTS)
        self.dial = getattr(made, family)("db")
        self.client, self.server = made["web"].driver(), made["db"].driver()
        self.listener = self.server.listen(self.dial, self.port, 64)
        self.clients: list[int] = self.client.connect(self.dial, self.port, count)
        self.servers: list[int] = self.server.accept(self.listener, count)
        self.local: list[str] = self.client.local(self.clients)

    def talk(self, up: int, down: int) -> None:
        """Bytes each way, read by the programs."""
        for sender, ones, receiver, others, size in (
            (self.client, self.clients, self.server, self.servers, up),
            (self.server, self.servers, self.client, self.clients, down),
        ):
            sender.send(ones, size)
            receiver.receive(others, size)

    def truth(self, verdict: str, numbers: slice = slice(None)) -> Truth:
        """What must be found of these connections."""
        host = f"[{self.dial}]" if ":" in self.dial else self.dial
        chosen = self.local[numbers]
        return truth(verdict, chosen, [f"{host}:{self.port}"] * len(chosen))


def look(made: Lab, *pairs: Pair, settle: str = "1.5") -> tuple[int, dict[str, Any]]:
    """The check of the ports of these."""
    return check(made, "--settle", settle, *(word for one in pairs for word in ("--port", str(one.port))))


def impersonate(made: Lab, who: str, towards: str, family: str) -> None:
    """The twin takes an address, and one host sends there what is meant for its owner."""
    address = getattr(made, family)(who)
    made["twin"].run("ip", "addr", "add", f"{address}/{32 if family == 'v4' else 128}", "dev", "lo")
    neighbour(made, towards, address, made["twin"])
    neighbour(made, "twin", getattr(made, family)(towards), made[towards])


def neighbour(made: Lab, host: str, address: str, owner: Any) -> None:
    """Where a host sends what is for an address."""
    mac = json.loads(owner.run("ip", "-j", "link", "show", "data"))[0]["address"]
    made[host].run("ip", "neigh", "replace", address, "lladdr", mac, "dev", "data", "nud", "permanent")


def back_to_normal(made: Lab, who: str, towards: str, family: str) -> None:
    """The owner has its address again."""
    address = getattr(made, family)(who)
    made["twin"].run("ip", "addr", "del", f"{address}/{32 if family == 'v4' else 128}", "dev", "lo")
    neighbour(made, towards, address, made[who])


def second_life(pair: Pair, family: str, renewed: str, size: int) -> None:
    """The end on one host is gone, and made anew by a handshake with a host that has the address of the other."""
    made, twin = pair.lab, pair.lab["twin"].driver()
    source = pair.local[0].rpartition(":")
    origin = (source[0].strip("[]"), int(source[2]))
    kept = "web" if renewed == "db" else "db"
    impersonate(made, kept, renewed, family)
    try:
        if renewed == "db":
            pair.server.vanish(pair.servers)
            there = twin.connect(pair.dial, pair.port, 1, None, origin)
            here, driver = pair.server.accept(pair.listener, 1), pair.server
        else:
            pair.client.vanish(pair.clients)
            listener = twin.listen(pair.dial, pair.port, 8)
            here, driver = pair.client.connect(pair.dial, pair.port, 1, None, origin), pair.client
            there = twin.accept(listener, 1)
        if size:
            for sender, ones, receiver, others in ((twin, there, driver, here), (driver, here, twin, there)):
                sender.send(ones, size)
                receiver.receive(others, size)
        twin.vanish(there)
    finally:
        back_to_normal(made, kept, renewed, family)
    assert driver.state(here[0]) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_two_lives_of_one_tuple_are_desynchronized(site: Lab, family: str) -> None:
    """Both by real handshakes, each with the other's address while a third host has it, as after a failover."""
    ways = list(itertools.product(("db", "web"), (0, 10)))
    pairs = [Pair(site, family) for _ in ways]
    for one in pairs:
        one.talk(3000, 500)
    time.sleep(APART)
    for one, (renewed, size) in zip(pairs, ways, strict=True):
        second_life(one, family, renewed, size)
    healthy = Pair(site, family, 3)
    healthy.talk(3000, 500)
    expected = set().union(*(one.truth("desynchronized") for one in pairs))
    code, report = look(site, *pairs, healthy)
    assert_exactly(report, expected)
    assert code == 1 and report["agreeing"] == 3
    for one in report["findings"]:
        ends = one["client"], one["server"]
        assert [end["state"] for end in ends] == ["ESTABLISHED"] * 2
        assert sorted((end["bytes_acked"] // 100, end["bytes_received"] // 100) for end in ends) in (
            [(0, 0), (30, 5)],
            [(0, 0), (5, 30)],
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_two_lives_stay_desynchronized_when_one_end_sends(site: Lab, family: str) -> None:
    pair = Pair(site, family)
    pair.talk(3000, 500)
    second_life(pair, family, "db", 0)
    pair.client.send(pair.clients, 100)
    until(lambda: site["web"].tries(pair.port) > [0])
    _, report = look(site, pair)
    assert_exactly(report, pair.truth("desynchronized"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_restored_socket_is_the_other_end_still(site: Lab, family: str) -> None:
    """Its counters begin at 0; idle, and after it has gone on talking."""
    pair = Pair(site, family, 3)
    pair.talk(3000, 500)
    pair.servers = pair.server.restore(pair.servers)
    code, report = look(site, pair)
    assert_exactly(report, set())
    pair.talk(20, 10)
    time.sleep(APART)
    code, report = look(site, pair)
    assert_exactly(report, set())
    assert code == 0 and report["agreeing"] == 3


def stall(pair: Pair, sender: str, lost: str, unread: bool) -> None:
    """Data on its way from one end, and all packets of one direction lost."""
    if unread:
        for driver, ones in ((pair.client, pair.clients), (pair.server, pair.servers)):
            driver.send(ones, 100)
        until(lambda: {*pair.client.unread(pair.clients), *pair.server.unread(pair.servers)} == {100})
    if lost == "to db":
        pair.lab["db"].drop(f"tcp dport {pair.port}")
    else:
        pair.lab["web"].drop(f"tcp sport {pair.port}")
    driver, ones = (pair.client, pair.clients) if sender == "web" else (pair.server, pair.servers)
    driver.send(ones, 5000)


def until_stuck(pair: Pair, sender: str) -> None:
    """Until one end has sent again so often that ordinary loss cannot be why."""
    tries = pair.lab[sender].tries
    until(lambda: sum(one >= counters.PATIENCE for one in tries(pair.port)) == len(pair.clients))


@pytest.mark.parametrize("family", FAMILIES)
def test_data_that_gets_no_answer_is_stalled(site: Lab, family: str) -> None:
    """In each direction, with the data lost or its acknowledgements, and with or without unread data at both ends."""
    ways = list(itertools.product(("web", "db"), ("to db", "to web"), (False, True)))
    pairs = [Pair(site, family, 2) for _ in ways]
    healthy = Pair(site, family, 3)
    try:
        for one, way in zip(pairs, ways, strict=True):
            stall(one, *way)
        for one, (sender, *_) in zip(pairs, ways, strict=True):
            until_stuck(one, sender)
        code, report = look(site, *pairs, healthy)
    finally:
        site["db"].undrop()
        site["web"].undrop()
    assert_exactly(report, set().union(*(one.truth("stalled") for one in pairs)))
    assert code == 1 and report["agreeing"] == 3


def test_a_stall_that_is_over_is_no_finding(site: Lab) -> None:
    pair = Pair(site, "v4")
    stall(pair, "web", "to db", False)
    until_stuck(pair, "web")
    site["db"].undrop()
    pair.server.receive(pair.servers, 5000)
    until(lambda: not site["web"].tries(pair.port))
    _, report = look(site, pair)
    assert_exactly(report, set())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_program_that_does_not_read_is_not_stalled(site: Lab, family: str) -> None:
    pair = Pair(site, family, 2)
    pair.client.fill(pair.clients[:1])
    pair.server.fill(pair.servers[1:])
    until(lambda: all(len(site[name].tries(pair.port, "persist")) == 1 for name in ("web", "db")))
    for _ in range(3):
        code, report = look(site, pair)
        assert_exactly(report, set())
        assert code == 0 and report["agreeing"] == 2
        time.sleep(0.5)  # so that the looks come at other moments between two probes


def test_probes_of_a_closed_window_that_nobody_answers_are_a_stall(site: Lab) -> None:
    pair = Pair(site, "v4")
    pair.client.fill(pair.clients)
    site["db"].drop(f"tcp dport {pair.port}")
    try:
        until(lambda: site["web"].tries(pair.port, "persist") >= [counters.PATIENCE])
        _, report = look(site, pair)
    finally:
        site["db"].undrop()
    assert_exactly(report, pair.truth("stalled"))


@pytest.mark.parametrize("loss", [0, 1])
def test_a_transfer_at_full_speed_is_neither(site: Lab, loss: int) -> None:
    """In both directions at once, on several connections, with and without one packet in a hundred lost on the way."""
    pairs = [Pair(site, family) for family in FAMILIES]
    drivers = [driver for one in pairs for driver in (one.client, one.server)]
    for one in pairs:
        if loss:
            site["db"].drop(f"tcp dport {one.port} numgen random mod 100 < {loss}")
            site["web"].drop(f"tcp sport {one.port} numgen random mod 100 < {loss}")
        one.client.pump(one.clients, 280)
        one.server.pump(one.servers, 280)
    try:
        for _ in range(RUNS):
            before = [driver.pumped() for driver in drivers]
            code, report = look(site, *pairs, settle="0.5")
            assert_exactly(report, set())
            assert code == 0 and report["outcome"] == "clean" and report["agreeing"] == 2
            for driver, so_far in zip(drivers, before, strict=True):
                until(lambda driver=driver, so_far=so_far: driver.pumped() > so_far)  # type: ignore[misc]
    finally:
        for host in (site["web"], site["db"]):
            host.undrop()
        for driver in drivers:
            end(driver)


def end(driver: Driver) -> None:
    """Stops a program with all its sockets."""
    driver.process.kill()
    driver.process.wait(PATIENCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_queued_urgent_or_early_counts_like_any_data(site: Lab, family: str) -> None:
    """Idle, unread, half read, urgent, and data in the SYN."""
    site["db"].sysctl("ipv4/tcp_fastopen", 3)
    pair = Pair(site, family, 4)
    pair.client.send(pair.clients[1:3], 1000)
    pair.server.send(pair.servers[2:3], 3000)
    pair.client.urgent(pair.clients[3:])
    pair.server.take_fast_open(pair.listener)
    for size in (1000, 11):  # the first brings the cookie
        pair.client.fast_open(pair.dial, pair.port, size)
        pair.server.accept(pair.listener, 1)
    until(
        lambda: pair.server.unread(pair.servers[1:3]) == [1000] * 2 and pair.client.unread(pair.clients[2:3]) == [3000]
    )
    code, report = look(site, pair)
    assert_exactly(report, set())
    assert code == 0 and report["agreeing"] == 6


@pytest.mark.parametrize("way", WAYS)
def test_idle_pairs_are_compared_without_a_bracket(site: Lab, way: str, tmp_path: Path) -> None:
    """The wide look sees both ends of each, whatever the family, and has no doubt."""
    place = scene(way, site)
    clients, servers = place.connected()
    place.client.send(clients[:1], 1000)
    place.server.send(servers[1:2], 1000)
    until(lambda: place.server.unread(servers[:1]) == place.client.unread(clients[1:2]) == [1000])
    client = "db" if way == "one-host" else "web"
    code, report = check(site, "--port", str(place.port), "--save", str(tmp_path), client=client)
    assert (code, report["agreeing"], report["findings"]) == (0, COUNT, [])
    for name in {client, "db"}:
        saved = decode((tmp_path / f"{name}.halfopen").read_bytes(), name)
        sockets = sum(len(one.block) for _, blocks in saved.counts for one in blocks)
        assert (sockets, saved.looks) == (2 * COUNT if way == "one-host" else COUNT, ())


def test_saved_counters_give_the_report_of_the_run(site: Lab, tmp_path: Path) -> None:
    """Two lives, a stall, a host of healthy ones; and one that is cleared by its bracket or not asked about at all."""
    torn, stuck, healthy, busy = (Pair(site, "v4", count) for count in (1, 2, 3, 1))
    torn.talk(3000, 500)
    second_life(torn, "v4", "db", 0)
    stall(stuck, "db", "to web", False)
    for driver, ones in ((busy.client, busy.clients), (busy.server, busy.servers)):
        driver.pump(ones, 100)
    try:
        until_stuck(stuck, "db")
        ports = [word for one in (torn, stuck, healthy, busy) for word in ("--port", str(one.port))]
        code, live = check(site, *ports, "--save", str(tmp_path))
    finally:
        site["web"].undrop()
        end(busy.client)
        end(busy.server)
    assert_exactly(live, torn.truth("desynchronized") | stuck.truth("stalled"))
    files = [str(tmp_path / f"{name}.halfopen") for name in ("web", "db")]
    argv = [sys.executable, "-m", "halfopen", "analyse", *files, "--format", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == code == 1, done.stderr
    (again,) = json.loads(done.stdout)["checks"]
    assert again | {"elapsed_s": None} == live | {"elapsed_s": None}
