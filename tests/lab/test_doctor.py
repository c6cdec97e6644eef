"""`halfopen doctor` on real hosts: what is taken away is what it misses, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab.host import Lab
from lab.tool import NO_NETLINK, NOBODY, exec_inventory
from lab.waiting import until

NEEDS_ROOT = {"privileges", "processes of others", "connection tracking", "network namespaces", "asking"}
STEPS = {"reach", "host key", "authentication", "interpreter", "answer"}


def doctor(*args: str, inventory: Any) -> tuple[int, list[dict[str, Any]]]:
    """`halfopen doctor` -> exit code and the hosts of its JSON."""
    argv = [sys.executable, "-m", "halfopen", "doctor", *args, "--format", "json", "--inventory", str(inventory)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert "Traceback" not in done.stderr, done.stderr
    found = json.loads(done.stdout)
    assert found["schema"] == "halfopen.doctor/1" and found["exit_code"] == done.returncode
    return done.returncode, found["hosts"]


def lacking(host: dict[str, Any]) -> set[str]:
    """The kinds of evidence that are missing; each says what it costs and how to get it, and the others do not."""
    for item in host["evidence"]:
        wanting = item["status"] in ("missing", "partly")
        assert wanting == bool(item["costs"]), item
        assert wanting == bool(item["how_to_get"]), item
        assert "{" not in (item["how_to_get"] or "")
    return {item["evidence"] for item in host["evidence"] if item["status"] in ("missing", "partly")}


def status(host: dict[str, Any], evidence: str) -> str:
    (item,) = (one for one in host["evidence"] if one["evidence"] == evidence)
    return str(item["status"])


def test_root_over_ssh_lacks_nothing(pair: Lab) -> None:
    code, (web, db) = doctor("web", "db", inventory=pair.inventory)
    assert code == 0 and [web["name"], db["name"]] == ["web", "db"]
    for host in (web, db):
        assert lacking(host) == set() and host["complete"] and host["transport"] == "paramiko"
        assert {item["status"] for item in host["evidence"]} == {"ok"}
        assert {item["evidence"] for item in host["evidence"]} >= STEPS


def test_an_ordinary_user_lacks_what_needs_root(pair: Lab) -> None:
    code, (db,) = doctor("db", inventory=exec_inventory(pair, "db", *NOBODY))
    assert code == 0 and db["complete"]
    assert lacking(db) == NEEDS_ROOT
    assert "host key" not in {item["evidence"] for item in db["evidence"]}


def test_hidden_processes_are_missed_though_none_refuses(fresh_pair: Lab) -> None:
    fresh_pair["db"].run("mount", "-o", "remount,hidepid=2", "/proc")
    _, (db,) = doctor("db", inventory=exec_inventory(fresh_pair, "db", *NOBODY))
    assert lacking(db) == NEEDS_ROOT
    assert any("hidepid=" in item["detail"] for item in db["evidence"])


def test_without_netlink_a_check_is_complete_and_proves_less(pair: Lab) -> None:
    inventory = exec_inventory(pair, "db", *NO_NETLINK)
    code, (db,) = doctor("db", inventory=inventory)
    assert code == 0 == check(inventory) and db["complete"] and status(db, "sockets") == "ok"
    assert lacking(db) == {"sock_diag", "cookies", "tcp_info", "routes"}
    (item,) = (one for one in db["evidence"] if one["evidence"] == "cookies")
    assert "proven" in item["conclusions_lost"]


def test_a_host_whose_sockets_cannot_be_read_is_incomplete(fresh_pair: Lab) -> None:
    fresh_pair["db"].run("mount", "-t", "tmpfs", "none", "/proc")
    inventory = exec_inventory(fresh_pair, "db", *NO_NETLINK)
    code, (found,) = doctor("db", inventory=inventory)
    assert code == 3 == check(inventory) and not found["complete"]
    assert {"sockets", "sock_diag", "counters", "sysctls", "uptime and boot"} <= lacking(found)


def check(inventory: str) -> int:
    """The exit code of a check of db with itself, on a port that nobody uses."""
    argv = [sys.executable, "-m", "halfopen", "check", "db", "db", "--port", "9", "--inventory", inventory]
    return subprocess.run(argv, capture_output=True, timeout=120).returncode


def test_more_processes_than_may_be_seen_in_containers(fresh_pair: Lab) -> None:
    db = fresh_pair["db"]
    db.start("unshare", "-n", "sleep", "1000")
    until(lambda: db.run("sh", "-c", "readlink /proc/[0-9]*/ns/net | sort -u | wc -l").strip() == "2")
    (item,) = (
        one
        for one in doctor("db", inventory=fresh_pair.inventory)[1][0]["evidence"]
        if one["evidence"] == "network namespaces"
    )
    assert (item["status"], item["detail"]) == ("ok", "2 network namespaces")
    tied = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    _, (found,) = doctor("db", inventory=exec_inventory(fresh_pair, "db", *tied))
    assert lacking(found) == {"privileges", "network namespaces"}


FAULTS = {
    "reach": 'address = "nosuch.invalid"',
    "host key": 'known_hosts = "/dev/null"',
    "authentication": 'user = "nobody"',
    "interpreter": 'python = "python3.99"',
}


@pytest.mark.parametrize("way", ["paramiko", "openssh"])
@pytest.mark.parametrize("step", FAULTS)
def test_a_host_that_fails_is_a_row_and_the_others_are_whole(step: str, way: str, pair: Lab, tmp_path: Path) -> None:
    good, broken = pair.inventory.read_text().split("\n[hosts.db]\n")
    key = FAULTS[step].partition(" ")[0]
    kept = [line for line in broken.splitlines() if not line.startswith(f"{key} ")]
    inventory = tmp_path / "inventory.toml"
    inventory.write_text("\n".join([good, "[hosts.db]", *kept, FAULTS[step], ""]))
    code, (web, db) = doctor("web", "db", "--transport", way, inventory=inventory)
    assert code == 3 and web["transport"] == way and web["complete"] and lacking(web) == set()
    assert not db["complete"] and lacking(db) == {step} and db["error"]["code"]
    names = [item["evidence"] for item in db["evidence"]]
    statuses = [item["status"] for item in db["evidence"]]
    assert statuses == ["ok"] * names.index(step) + ["missing"] + ["unknown"] * (len(names) - names.index(step) - 1)

    argv = [sys.executable, "-m", "halfopen", "doctor", "web", "db", "--inventory", str(inventory), "--transport", way]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 3 and "db  cannot be read: a check of it is incomplete" in done.stdout
    assert "web  can be checked, and nothing is missing" in done.stdout and "not tried: " in done.stdout


@pytest.mark.parametrize("said", ["sudo: a password is required", "exec: sudo: not found"])
def test_a_refused_sudo_is_a_step_of_its_own(said: str, pair: Lab, tmp_path: Path) -> None:
    (tmp_path / "sudo").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {127 if 'found' in said else 1}\n")
    (tmp_path / "sudo").chmod(0o755)
    inventory = Path(exec_inventory(pair, "db", "env", f"PATH={tmp_path}:/usr/bin:/bin"))
    inventory.write_text(inventory.read_text() + "sudo = true\n")
    code, (db,) = doctor("db", inventory=inventory)
    assert code == 3 and lacking(db) == {"sudo"} and db["error"]["code"] == "needs-privilege"
