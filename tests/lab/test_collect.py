"""Evidence of real hosts in files: what one moment tells, what several tell, and that a run can be judged again."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.breaks import FAULTS, Scene
from lab.host import Lab, lab
from lab.tool import Truth, found

from halfopen.commands.collect import looks
from halfopen.evidence.saved import encode
from halfopen.files import save_hosts
from halfopen.inventory import read
from halfopen.plan import CheckPlan
from halfopen.run.fleet import Fleet, Options


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Truth]]:
    """Four hosts, and faults between three pairs of them."""
    with lab(tmp_path_factory.mktemp("lab"), "web1", "web2", "db1", "db2") as made:
        expected: Truth = set()
        pairs = [("web1", "db1", "server_vanished"), ("web2", "db1", "client_vanished"), ("web2", "db2", "half_closed")]
        for number, (client, server, fault) in enumerate(pairs):
            address = made.v4(server)
            near, far = made[client], made[server]
            expected |= FAULTS[fault](Scene(near, far, near.driver(), far.driver(), address, address, 5000 + number))
        near, far, address = made["web1"], made["db2"], made.v4("db2")
        FAULTS["healthy"](Scene(near, far, near.driver(), far.driver(), address, address, 5900))
        made.inventory.write_text(
            made.inventory.read_text()
            + '\n[checks.all]\nclient = "web*"\nserver = ["db1", "db2"]\nsettle = 0.3\n'
            + '[checks.one]\nclient = "web1"\nserver = "db1"\nports = [5000]\nallow = ["missing-on-server"]\n'
        )
        yield made, expected


def tool(*argv: str, folder: Path) -> tuple[int, dict[str, Any]]:
    """The program's exit code and JSON report."""
    done = subprocess.run(
        [sys.executable, "-m", "halfopen", *argv], capture_output=True, text=True, timeout=120, cwd=folder
    )
    assert "Traceback" not in done.stderr and done.returncode in (0, 1, 3), done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout.startswith("{") else {}


def test_the_files_of_a_fleet_give_the_report_of_the_run(fleet: tuple[Lab, Truth], tmp_path: Path) -> None:
    """All of it: both checks, their names and tolerances, times, notes and exit status."""
    made, expected = fleet
    code, live = tool(
        "check", "--inventory", str(made.inventory), "--save", "saved", "--format", "json", folder=tmp_path
    )
    assert found(next(one for one in live["checks"] if one["name"] == "all")) == expected
    files = [f"saved/{name}.halfopen" for name in ("web1", "web2", "db1", "db2")]
    assert sorted(files) == sorted(f"saved/{one.name}" for one in (tmp_path / "saved").iterdir())
    again, report = tool("analyse", *files, "--format", "json", folder=tmp_path)
    assert report == live and again == code == 1
    assert tool("analyse", *reversed(files), "--format", "json", folder=tmp_path) == (again, report)


def test_roles_may_be_given_to_the_files_of_a_fleet(fleet: tuple[Lab, Truth], tmp_path: Path) -> None:
    made, expected = fleet
    tool("check", "all", "--inventory", str(made.inventory), "--save", ".", "--format", "json", folder=tmp_path)
    roles = ["--client", "web1.halfopen", "--client", "web2.halfopen", "--server", "db1.halfopen"]
    code, report = tool("analyse", *roles, "--format", "json", folder=tmp_path)
    (check,) = report["checks"]
    assert code == 1 and found(check) == {one for one in expected if one[2].startswith(made.v4("db1"))}
    assert {one["confidence"] for one in check["findings"]} == {"proven"}


@pytest.mark.parametrize(("rounds", "confidence", "exit_code"), [("1", "inferred", 3), ("2", "observed", 1)])
def test_what_was_only_collected_is_judged_with_less_confidence(
    fleet: tuple[Lab, Truth], tmp_path: Path, rounds: str, confidence: str, exit_code: int
) -> None:
    made, expected = fleet
    names = ["web1", "web2", "db1", "db2"]
    argv = ["collect", *names, "--inventory", str(made.inventory), "--rounds", rounds, "--settle", "0.3"]
    assert tool(*argv, folder=tmp_path)[0] == 0
    roles = [word for name in names for word in ("--client" if "web" in name else "--server", f"{name}.halfopen")]
    code, report = tool("analyse", *roles, "--format", "json", folder=tmp_path)
    (check,) = report["checks"]
    assert code == exit_code and found(check) == expected
    assert {one["confidence"] for one in check["findings"]} == {confidence}


def test_what_ends_between_two_dumps_is_not_reported(fleet: tuple[Lab, Truth], tmp_path: Path) -> None:
    """A connection whose program accepts it before the second look."""
    made, _ = fleet
    web, db = made["web1"].driver(), made["db1"].driver()
    listener = db.listen(made.v4("db1"), 6000, 16)
    web.connect(made.v4("db1"), 6000, 4)

    def say(text: str) -> None:
        if text.startswith("looking again"):
            db.accept(listener, 4)

    plan = CheckPlan("collect", ("web1", "db1"), ("web1", "db1"), (6000,))
    with Fleet(read(str(made.inventory), {}, tmp_path), [plan], Options(), say) as hosts:
        save_hosts(tmp_path, {name: encode(one) for name, one in looks(hosts, 2, 0.0).items()})
    _, report = tool("analyse", "web1.halfopen", "db1.halfopen", "--format", "json", folder=tmp_path)
    assert report["checks"][0]["findings"] == [] and report["checks"][0]["hosts"][0]["complete"]


def test_redacted_files_of_two_hosts_still_fit(fleet: tuple[Lab, Truth], tmp_path: Path) -> None:
    made, expected = fleet
    argv = ["collect", "web1", "db1", "--inventory", str(made.inventory), "--port", "5000", "--redact"]
    assert tool(*argv, folder=tmp_path)[0] == 0
    files = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert all(path.name.startswith("host-") for path in files)
    text = "".join(gzip.decompress(path.read_bytes()).decode() for path in files)
    assert "web1" not in text and "db1" not in text and "10.213." not in text
    _, report = tool("analyse", *(path.name for path in files), "--format", "json", folder=tmp_path)
    (check,) = report["checks"]
    assert [one["verdict"] for one in check["findings"]] == ["missing-on-server"] * 3
    assert check["external"] == [] and check["connections"] == 3
    shown = {one["connection"][end] for one in check["findings"] for end in ("client", "server")}
    assert shown.isdisjoint({end for one in expected for end in one[1:]})


def test_a_host_reads_itself_for_another_fan_out(fleet: tuple[Lab, Truth], tmp_path: Path) -> None:
    """`collect --local` inside each host, one after the other, its stdout carried home by whoever started it."""
    made, expected = fleet
    for name in ("web1", "db1"):
        argv = [*made[name].enter(), sys.executable, "-m", "halfopen", "collect", "--local", "-o", "-"]
        done = subprocess.run(argv, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        (tmp_path / f"{name}.halfopen").write_bytes(done.stdout)
    code, report = tool("analyse", "web1.halfopen", "db1.halfopen", "--format", "json", folder=tmp_path)
    (check,) = report["checks"]
    assert check["name"] == "web1 -> db1" and code == 3
    assert found(check) == {one for one in expected if one[0] == "missing-on-server"}
