"""Many hosts in one check: sixty of them with three broken, each reached once, and a bastion before some."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import ring
from lab.breaks import FAULTS, Scene
from lab.host import Lab, lab
from lab.test_reach_faults import good
from lab.tool import Truth, found
from lab.waiting import PATIENCE

HOSTS = 60
BROKEN = {"h7": "connection-refused", "h23": "host-key-mismatch", "h41": "timeout"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Truth]]:
    with lab(tmp_path_factory.mktemp("lab"), *ring.names(HOSTS)) as made:
        yield made, ring.build(made, BROKEN)


def check(made: Lab, *args: str, **options: Any) -> tuple[int, dict[str, Any], str]:
    """`halfopen check` -> exit code, JSON report and stderr."""
    argv = [sys.executable, "-m", "halfopen", "check", *args, "--inventory", str(made.inventory), "--format", "json"]
    done = subprocess.run(
        [*argv, "--connect-timeout", "12", "--timeout", "200"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=250,
        **{"stderr": subprocess.PIPE, **options},
    )
    assert "Traceback" not in (done.stderr or "")
    return done.returncode, json.loads(done.stdout), done.stderr


def test_all_pairs_of_the_rest_are_judged_where_three_hosts_are_broken(fleet: tuple[Lab, Truth]) -> None:
    made, expected = fleet
    code, report, err = check(made, "ring")
    (ring_check,) = report["checks"]
    assert {one["name"]: one["error"]["code"] for one in ring_check["hosts"] if one["error"]} == BROKEN
    assert sum(one["complete"] for one in ring_check["hosts"]) == HOSTS - len(BROKEN)
    assert found(ring_check) == expected and len(expected) > 12
    assert {one["confidence"] for one in ring_check["findings"]} == {"proven"}
    assert ring_check["connections"] == ring.connections(made, BROKEN)
    assert (code, ring_check["outcome"], err) == (1, "findings", "")
    assert sorted(re.findall(r"h\d+(?= could not be read)", " ".join(ring_check["details"]))) == sorted(BROKEN)
    pairs = ring_check["pairs"]
    assert pairs[0]["critical"] == 3 and pairs[-1]["critical"] == 0
    assert sum(one["critical"] + one["warning"] + one["info"] for one in pairs) == len(expected)


def test_without_findings_that_fail_it_is_incomplete(fleet: tuple[Lab, Truth]) -> None:
    made, expected = fleet
    code, report, _ = check(made, "ring", "--fail-on", "never")
    assert (code, report["outcome"]) == (3, "incomplete")
    assert found(report["checks"][0]) == expected


def test_a_host_is_reached_once_however_many_checks_name_it(fleet: tuple[Lab, Truth]) -> None:
    made, expected = fleet
    counted = ["h1", "h2", "h3", "h9", "h60"]
    for name in counted:
        made[name].run("nft", "add table inet lab; add chain inet lab in { type filter hook input priority 0; }")
        made[name].run("nft", "add rule inet lab in tcp dport 22 tcp flags & (syn|ack) == syn counter")
    try:
        code, report, _ = check(made)
        rules = {name: made[name].run("nft", "list", "table", "inet", "lab") for name in counted}
    finally:
        for name in counted:
            made[name].undrop()
    assert [re.findall(r"packets (\d+)", rules[name]) for name in counted] == [["1"]] * len(counted)
    assert {one["name"] for one in report["checks"]} == {"ring", "first", "again"} and code == 1
    by_name = {one["name"]: one for one in report["checks"]}
    assert found(by_name["ring"]) == expected
    assert len(by_name["again"]["hosts"]) == 9 and by_name["first"]["outcome"] == "clean"


def test_the_files_of_all_of_them_give_the_report_of_the_run(fleet: tuple[Lab, Truth], tmp_path: Path) -> None:
    made, _ = fleet
    code, live, _ = check(made, "--save", str(tmp_path))
    files = sorted(str(path) for path in tmp_path.iterdir())
    assert len(files) == HOSTS
    argv = [sys.executable, "-m", "halfopen", "analyse", *files, "--format", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.returncode == code and json.loads(done.stdout) == live, done.stderr


def test_progress_moves_on_a_terminal_and_nowhere_else(fleet: tuple[Lab, Truth]) -> None:
    made, _ = fleet
    near, far = pty.openpty()
    code, report, _ = check(made, "first", stderr=far)
    os.close(far)
    shown = b""
    while True:
        try:
            shown += os.read(near, 4096)
        except OSError:  # the other side is closed
            break
    os.close(near)
    assert code == 0 and report["checks"][0]["outcome"] == "clean"
    assert b"reading 3 hosts" in shown and b"3 of 3 hosts read" in shown
    assert b"\n" not in shown and shown.endswith(b"\r\x1b[K")


@pytest.mark.parametrize("startups", ["10:100:10", "4:100:6"])
@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_a_dozen_hosts_behind_one_bastion_do_not_storm_it(tmp_path: Path, transport: str, startups: str) -> None:
    """Its sshd lets ten connections wait at a time, or four, and drops every one beyond that."""
    names = ["bastion", *(f"h{number}" for number in range(1, 13))]
    with lab(tmp_path, *names) as made:
        bastion = made["bastion"]
        ring.end_sshd(bastion)
        config = (tmp_path / "bastion.sshd").read_text().replace("MaxStartups 100", f"MaxStartups {startups}")
        (tmp_path / "small.sshd").write_text(config.replace("LogLevel ERROR", "LogLevel VERBOSE"))
        bastion.start("/usr/sbin/sshd", "-D", "-f", str(tmp_path / "small.sshd"), "-E", str(tmp_path / "log"))
        tables = [f"[hosts.bastion]\n{good(made, 'bastion')}"]
        for name in names[1:]:
            made[name].drop("iifname mgmt tcp dport 22")
            bastion.run("ip", "route", "replace", made[name].management, "via", made.v4(name), "dev", "data")
            tables.append(f"[hosts.{name}]\n{good(made, name, jump='bastion', transport=transport)}")
        tables.append('[checks.all]\nclient = "h*"\nserver = "h1"\nsettle = 0.3\n')
        made.inventory.write_text("\n".join(tables))
        address = made.v4("h1")
        scene = Scene(made["h12"], made["h1"], made["h12"].driver(), made["h1"].driver(), address, address, 5000)
        expected = FAULTS["server_vanished"](scene)
        code, report, _ = check(made, "all", "--connect-timeout", "20")
    log = (tmp_path / "log").read_text()
    assert log.count("Accepted publickey") >= 12
    assert ("MaxStartups" in log) == (startups == "4:100:6")  # and then they come again, fewer at a time
    (one,) = report["checks"]
    assert {host["name"]: host["error"] for host in one["hosts"]} == dict.fromkeys(names[1:])
    assert code == 1 and found(one) == expected
