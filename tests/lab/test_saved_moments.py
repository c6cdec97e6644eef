"""Saved is as good as live: what was collected gives the findings that a check gives, and no others."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.breaks import COUNT, FAULTS, Scene
from lab.host import Lab, lab
from lab.test_counters import Pair, second_life, stall, until_stuck
from lab.tool import Truth, check, found
from lab.waiting import until

RUNS = 10
CHURN = 200  # connections a second
LIFETIMES = (0.2, 1.5)  # seconds: much shorter than the time between two moments, and the same as it
ENDS_SOMETHING = ("-K", "kill", "reset", "restart")


def tool(folder: Path, *argv: str, within: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs the tool in a folder, on a host of the lab if it is entered by `within`."""
    command = [*within, sys.executable, "-m", "halfopen", *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert "Traceback" not in done.stderr and done.returncode in (0, 1, 3), done.stderr
    return done


def collect(made: Lab, folder: Path, *more: str) -> None:
    """Both hosts in files, by one run."""
    tool(folder, "collect", "web", "db", "--inventory", str(made.inventory), "-o", "web-and-db", *more)


def analyse(folder: Path, *files: str) -> tuple[int, dict[str, Any]]:
    """Exit code and the check of the report over files; over those of `collect` if none are named."""
    names = files or ("web-and-db/web.halfopen", "web-and-db/db.halfopen")
    done = tool(folder, "analyse", *names, "--format", "json")
    (report,) = json.loads(done.stdout)["checks"]
    assert report["exit_code"] == done.returncode
    return done.returncode, report


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Truth]]:
    """Two hosts with every plain fault between them, each on a port of its own, and a stall in each direction."""
    with lab(tmp_path_factory.mktemp("lab"), "web", "db") as made:
        expected: Truth = set()
        ports = itertools.count(5000)
        for fault in FAULTS.values():
            address = made.v4("db")
            web, db = made["web"], made["db"]
            expected |= fault(Scene(web, db, web.driver(), db.driver(), address, address, next(ports)))
        for sender, lost in (("web", "to db"), ("db", "to web")):
            pair = Pair(made, "v4", 2)
            stall(pair, sender, lost, False)
            until_stuck(pair, sender)
            expected |= pair.truth("stalled")
        yield made, expected


def explained(report: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Connection -> verdict and cause."""
    return {
        f"{one['connection']['client']} {one['connection']['server']}": (one["verdict"], one["cause"]["code"])
        for one in report["findings"]
    }


def test_what_was_collected_gives_the_findings_of_a_check(broken: tuple[Lab, Truth], tmp_path: Path) -> None:
    made, expected = broken
    collect(made, tmp_path)
    _, live = check(made)
    assert found(live) == expected
    code, saved = analyse(tmp_path)
    assert code == 1 and found(saved) == expected
    assert explained(saved) == explained(live)
    assert {one["confidence"] for one in saved["findings"]} == {"observed"}
    assert {one["server"]["process"] for one in saved["findings"] if one["verdict"] == "half-closed"} != {None}


def test_one_moment_is_inferred_and_ends_nothing(broken: tuple[Lab, Truth], tmp_path: Path) -> None:
    made, expected = broken
    collect(made, tmp_path, "--rounds", "1")
    code, report = analyse(tmp_path)
    assert code == 3 and report["outcome"] == "incomplete"
    assert {one["confidence"] for one in report["findings"]} == {"inferred"}
    states = {one for one in expected if one[0] != "stalled"}
    assert found(report) <= expected | states and states <= found(report)
    commands = [command for one in (*report["findings"], *report["groups"]) for command in one["commands"]]
    assert [one for one in commands if any(word in " ".join(one["argv"]) for word in ENDS_SOMETHING)] == []
    text = tool(tmp_path, "analyse", "web-and-db/web.halfopen", "web-and-db/db.halfopen").stdout
    head = " ".join(text.split("\n1. ")[0].split())
    assert head.startswith("incomplete") and "one moment of each host" in head and "halfopen collect takes two" in head


def test_bytes_of_two_lives_are_told_from_files(tmp_path: Path) -> None:
    with lab(tmp_path, "web", "db", "twin") as made:
        torn, healthy = Pair(made, "v4"), Pair(made, "v4", 3)
        torn.talk(3000, 500)
        healthy.talk(3000, 500)
        second_life(torn, "v4", "db", 0)
        collect(made, tmp_path)
        code, report = analyse(tmp_path)
    assert code == 1 and found(report) == torn.truth("desynchronized")
    assert {one["confidence"] for one in report["findings"]} == {"observed"}


def churning(made: Lab, port: int, lifetime: float) -> Any:
    """Connections that come and go between the two hosts, each as old as this when it is closed."""
    made["web"].sysctl("ipv4/tcp_tw_reuse", 1)
    server, client = made["db"].driver(), made["web"].driver()
    server.churn_server(made.v4("db"), port, 300)
    client.churn_client(made.v4("db"), port, CHURN, 300, int(CHURN * lifetime))
    until(lambda: client.churn_made() > CHURN * lifetime)
    return client


@pytest.mark.parametrize("lifetime", LIFETIMES)
def test_a_healthy_pair_under_churn_is_clean_each_time(fresh_pair: Lab, tmp_path: Path, lifetime: float) -> None:
    address = fresh_pair.v4("db")
    web, db = fresh_pair["web"], fresh_pair["db"]
    FAULTS["healthy"](Scene(web, db, web.driver(), db.driver(), address, address, 5000))
    churn = churning(fresh_pair, 7000, lifetime)
    for number in range(RUNS):
        folder = tmp_path / str(number)
        folder.mkdir()
        before = churn.churn_made()
        collect(fresh_pair, folder)
        assert churn.churn_made() > before
        code, report = analyse(folder)
        assert (code, report["outcome"], report["findings"], report["unjudged"]) == (0, "clean", [], [])
        assert report["connections"] >= COUNT


def test_hosts_that_read_themselves_at_once_are_two_moments_of_one_time(fresh_pair: Lab, tmp_path: Path) -> None:
    """As an Ansible task or a DaemonSet does; beside churn, whose connections live as long as the moments are apart."""
    address = fresh_pair.v4("db")
    web, db = fresh_pair["web"], fresh_pair["db"]
    expected = FAULTS["server_vanished"](Scene(web, db, web.driver(), db.driver(), address, address, 5000))
    churning(fresh_pair, 7000, LIFETIMES[1])
    argv = [sys.executable, "-m", "halfopen", "collect", "--local", "--settle", "8", "-o"]
    for _ in range(2):
        running = [
            subprocess.Popen([*fresh_pair[name].enter(), *argv, str(tmp_path / f"{name}.halfopen")], text=True)
            for name in ("web", "db")
        ]
        assert [process.wait(60) for process in running] == [0, 0]
        code, report = analyse(tmp_path, "web.halfopen", "db.halfopen")
        assert code == 1 and found(report) == expected, (report["headline"], report["findings"])
        assert {one["confidence"] for one in report["findings"]} == {"observed"}


def test_hosts_that_read_themselves_one_after_the_other_are_inferred(fresh_pair: Lab, tmp_path: Path) -> None:
    """What is closed between the two looks as if it had been missing."""
    address = fresh_pair.v4("db")
    web, db = fresh_pair["web"], fresh_pair["db"]
    web_driver, db_driver = web.driver(), db.driver()
    expected = FAULTS["server_vanished"](Scene(web, db, web.driver(), db.driver(), address, address, 5000))
    clients, servers = Scene(web, db, web_driver, db_driver, address, address, 5001).connected()
    tool(tmp_path, "collect", "--local", "-o", str(tmp_path / "web.halfopen"), within=tuple(web.enter()))
    web_driver.close(clients)
    db_driver.close(servers)
    tool(tmp_path, "collect", "--local", "-o", str(tmp_path / "db.halfopen"), within=tuple(db.enter()))
    code, report = analyse(tmp_path, "web.halfopen", "db.halfopen")
    assert code == 3 and expected <= found(report)
    assert {one["confidence"] for one in report["findings"]} == {"inferred"}
    assert "not taken at the same time" in report["headline"]
    assert all(one["commands"] == [] or "-K" not in one["commands"][0]["argv"] for one in report["findings"])


def test_a_check_that_was_saved_under_churn_gives_its_report_again(fresh_pair: Lab, tmp_path: Path) -> None:
    """What the first look cleared is cleared in the files too."""
    address = fresh_pair.v4("db")
    web, db = fresh_pair["web"], fresh_pair["db"]
    FAULTS["half_closed"](Scene(web, db, web.driver(), db.driver(), address, address, 5000))
    churning(fresh_pair, 7000, LIFETIMES[0])
    for number in range(3):
        code, live = check(fresh_pair, "--save", str(tmp_path / str(number)))
        again, saved = analyse(tmp_path, f"{number}/web.halfopen", f"{number}/db.halfopen")
        assert (again, saved) == (code, live)
