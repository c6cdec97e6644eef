"""What a program prints on two real hosts, analysed without reaching them: the truth, as far as it can tell it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.breaks import FAULTS, Scene
from lab.host import Lab, lab
from lab.tool import Truth, check, found
from lab.waiting import until

COMMANDS = {
    # program: does it tell what nobody has accepted
    "ss -tan": False,
    "ss -Htanoe": True,
    "ss -tanoei": True,
    "ss -tanp": False,
    "netstat -tanW": False,
    "netstat -taneoW": True,
    "busybox netstat -tan": False,
    "cat /proc/net/tcp /proc/net/tcp6": True,
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, dict[str, Truth]]]:
    """Two hosts with every fault that lasts for minutes."""
    with lab(tmp_path_factory.mktemp("lab"), "web", "db") as made:
        truths: dict[str, Truth] = {}
        client, server, port = made["web"], made["db"], 5000
        programs = client.driver(), server.driver()
        lasting = set(FAULTS) - {"stuck_in_syn_recv", "embryonic", "closing_alone", "tuple_reused", "unanswered"}
        for way in ("ipv4", "ipv6", "dual-stack"):
            address = made.v6("db") if way == "ipv6" else made.v4("db")
            bind = "::" if way == "dual-stack" else address
            for fault in sorted(lasting):
                scene = Scene(client, server, *programs, address, bind, port, way == "dual-stack")
                truths[fault] = truths.get(fault, set()) | FAULTS[fault](scene)
                port += 1
        until(lambda: tries_in_vain(made) >= ENOUGH)
        yield made, truths


def tries_in_vain(made: Lab) -> int:
    """Of the sockets that send their FIN again: how often the one has that has tried the least."""
    text = "".join(made[host].run("ss", "-Htno", "state", "fin-wait-1") for host in ("web", "db"))
    tries = [int(tried) for tried in re.findall(r"timer:\(on,[^,]*,(\d+)\)", text)]
    assert tries, text
    return min(tries)


ENOUGH = 4  # a timer that fires between two texts leaves fewer tries open to doubt, as it should


def paste(made: Lab, command: str, folder: Path, mark: str = "") -> list[str]:
    """The text of both hosts in files -> their names, the client's first."""
    names = []
    for host in ("web", "db"):
        path = folder / f"{host}{mark}.txt"
        path.write_text(made[host].run(*command.split()))
        names.append(str(path))
    return names


def analyse(*argv: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "halfopen", "analyse", *argv, "--format", "json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr and done.returncode in (0, 1, 3), done.stderr
    (report,) = json.loads(done.stdout)["checks"]
    return done.returncode, report


@pytest.mark.parametrize("command", COMMANDS)
def test_pasted_text_tells_the_truth(command: str, broken: tuple[Lab, dict[str, Truth]], tmp_path: Path) -> None:
    made, truths = broken
    expected = set().union(
        *(truth for fault, truth in truths.items() if COMMANDS[command] or fault != "never_accepted")
    )
    first, second = paste(made, command, tmp_path), paste(made, command, tmp_path, "2")
    code, report = analyse(*first)
    assert found(report) == expected and code == 3
    assert {one["confidence"] for one in report["findings"]} == {"inferred"}
    code, report = analyse("--client", first[0], "--client", second[0], "--server", first[1], "--server", second[1])
    assert found(report) == expected and code == 1
    assert {one["confidence"] for one in report["findings"]} == {"observed"}
    if not COMMANDS[command]:
        assert any("accepted" in gap for host in report["hosts"] for gap in host["gaps"])


@pytest.mark.parametrize("command", ["lsof -nP -iTCP", "lsof -nP -iTCP -FpcuftdPnT", "ss -tn"])
def test_text_that_shows_a_part_proves_no_absence(
    command: str, broken: tuple[Lab, dict[str, Truth]], tmp_path: Path
) -> None:
    made, truths = broken
    both_ends = truths["half_closed"] | truths["fin_lost"]
    code, report = analyse(*paste(made, command, tmp_path))
    assert found(report) == both_ends
    assert code == 3 and report["headline"].startswith("incomplete")


def test_two_snapshots_of_each_are_observed(broken: tuple[Lab, dict[str, Truth]], tmp_path: Path) -> None:
    made, truths = broken
    for moment in "12":
        check(made, "--settle", "0.3", "--save", str(tmp_path / moment))
    files = {name: [str(tmp_path / moment / f"{name}.halfopen") for moment in "12"] for name in ("web", "db")}
    argv = [
        word for role, name in (("--client", "web"), ("--server", "db")) for one in files[name] for word in (role, one)
    ]
    code, report = analyse(*argv)
    assert found(report) == set().union(*truths.values()) and code == 1
    assert {one["confidence"] for one in report["findings"]} == {"observed"}


def test_a_snapshot_may_stand_against_a_text(broken: tuple[Lab, dict[str, Truth]], tmp_path: Path) -> None:
    made, truths = broken
    _, live = check(made, "--settle", "0.3", "--save", str(tmp_path / "saved"))
    assert found(live) == set().union(*truths.values())
    _, db = paste(made, "ss -tanoe", tmp_path)
    _, report = analyse(str(tmp_path / "saved" / "web.halfopen"), db)
    assert found(report) == found(live)
    assert {one["confidence"] for one in report["findings"]} == {"inferred"}
    assert [host["collector"] for host in report["hosts"]] == ["netlink", "ss"]
