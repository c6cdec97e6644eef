"""Every verdict over every family, on two real hosts over real SSH: found exactly, and proven."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.breaks import COUNT, FAULTS, Scene
from lab.host import Lab, lab
from lab.tool import Truth, assert_exactly, check

PORTS = itertools.count(5000)
WAYS = ("ipv4", "ipv6", "link-local", "dual-stack", "one-host")


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Lab]]:
    """Two hosts for all faults of one family."""
    with lab(tmp_path_factory.mktemp("lab"), "web", "db") as made:
        yield str(request.param), made


def scene(way: str, made: Lab) -> Scene:
    """Programs on the hosts of a family, on a port of their own."""
    server, client = made["db"], made["db" if way == "one-host" else "web"]
    address = {
        "ipv6": made.v6("db"),
        "link-local": made.link_local("db") + "%data",
        "dual-stack": made.v4("db"),
    }.get(way, made.v4("db"))
    bind = "::" if way == "dual-stack" else address
    return Scene(client, server, client.driver(), server.driver(), address, bind, next(PORTS), way == "dual-stack")


def names(way: str) -> dict[str, str]:
    return {"client": "db", "server": "db"} if way == "one-host" else {}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_exactly(fault: str, way: tuple[str, Lab]) -> None:
    kind, made = way
    place = scene(kind, made)
    expected = FAULTS[fault](place)
    assert len(expected) == (0 if fault == "healthy" else COUNT)
    code, report = check(made, "--port", str(place.port), "--settle", "0.5", **names(kind))
    assert_exactly(report, expected)
    critical = any(one["severity"] == "critical" for one in report["findings"])
    assert code == (1 if critical else 0)
    if fault == "healthy":
        assert report["connections"] == COUNT and report["outcome"] == "clean"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db") as made:
        yield made


def test_all_faults_at_once_without_a_port(alone: Lab) -> None:
    expected: Truth = set()
    for way in ("ipv4", "ipv6", "dual-stack"):
        for fault in FAULTS.values():
            expected |= fault(scene(way, alone))
    code, report = check(alone, "--settle", "0.5")
    assert code == 1
    assert_exactly(report, expected)
    # Each matrix row, and each group, counts what it stands for.
    assert sum(row["count"] for row in report["state_matrix"] if row["verdict"]) == len(expected)
    assert sum(group["count"] for group in report["groups"]) == len(expected)


def test_the_roles_may_be_swapped(alone: Lab) -> None:
    place = scene("ipv4", alone)
    expected = FAULTS["server_vanished"](place)
    _, report = check(alone, client="db", server="web")
    assert_exactly(report, expected)


def test_saved_evidence_gives_the_report_of_the_run(alone: Lab, tmp_path: Path) -> None:
    for way, fault in zip(itertools.cycle(("ipv4", "ipv6", "dual-stack")), FAULTS.values(), strict=False):
        fault(scene(way, alone))
    folder = tmp_path / "saved"
    code, live = check(alone, "--settle", "0.5", "--save", str(folder))
    files = [str(folder / f"{name}.halfopen") for name in ("web", "db")]
    argv = [sys.executable, "-m", "halfopen", "analyse", *files, "--format", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    (again,) = json.loads(done.stdout)["checks"]
    assert again["findings"] and again | {"elapsed_s": None} == live | {"elapsed_s": None}
    assert all(Path(name).stat().st_mode & 0o777 == 0o600 for name in files)


def test_the_port_of_a_check_is_the_servers(fresh_pair: Lab) -> None:
    """A connection to another port whose client has that number for its own is none of the check's, well or not."""
    web, db, dial = fresh_pair["web"], fresh_pair["db"], fresh_pair.v4("db")
    client, server = web.driver(), db.driver()
    expected = FAULTS["server_vanished"](Scene(web, db, client, server, dial, dial, 5000))
    listeners = [server.listen(dial, port, 8) for port in (5001, 5002)]
    source = (fresh_pair.v4("web"), 5000)
    for port, listener in zip((5001, 5002), listeners, strict=True):
        client.connect(dial, port, 1, None, source)
        (accepted,) = server.accept(listener, 1)
    server.vanish([accepted])
    code, report = check(fresh_pair, "--port", "5000", "--settle", "0.3")
    assert_exactly(report, expected)
    assert (code, report["connections"]) == (1, COUNT)
