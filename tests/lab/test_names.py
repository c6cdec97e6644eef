"""One machine that an inventory has under two names is one host of the check, live and saved."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.breaks import COUNT, FAULTS, Scene
from lab.host import Lab, lab
from lab.nat import bridge, container
from lab.tool import assert_exactly, check, truth


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db") as made:
        text = made.inventory.read_text()
        again = re.sub(r"(?s)^\[hosts\.web\]\n(.*?)(?=^\[|\Z)", r"[hosts.web-by-another-name]\n\1", text, flags=re.M)
        made.inventory.write_text(f"{again[: again.index('[hosts.db]')]}\n{text}")
        yield made


def test_a_glob_that_selects_a_machine_twice_finds_its_faults_once(two: Lab, tmp_path: Path) -> None:
    web, db, address = two["web"], two["db"], two.v4("db")
    expected = FAULTS["server_vanished"](Scene(web, db, web.driver(), db.driver(), address, address, 5000))
    FAULTS["healthy"](Scene(web, db, web.driver(), db.driver(), address, address, 5001))
    folder = tmp_path / "saved"
    code, report = check(two, "--settle", "0.3", "--save", str(folder), client="web*")
    assert_exactly(report, expected)
    assert (code, report["connections"], report["agreeing"]) == (1, 2 * COUNT, COUNT)
    assert [host["name"] for host in report["hosts"]] == ["web-by-another-name", "db"]
    assert any("web-by-another-name and web are one machine" in note for note in report["notes"])
    files = sorted(str(path) for path in folder.iterdir())
    argv = [sys.executable, "-m", "halfopen", "analyse", *files, "--format", "json"]
    again = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert len(files) == 3 and json.loads(again.stdout)["checks"] == [report]


def test_a_machine_with_containers_is_one_host_too(two: Lab) -> None:
    """Its containers are read under both names, and belong to it once."""
    bridge(two["web"])
    one, other = (container(two["web"], number) for number in (2, 3))
    client, server = one.driver(), other.driver()
    listener = server.listen("0.0.0.0", 5000, 8)
    near = client.connect(other.v4, 5000, COUNT)
    far = server.accept(listener, COUNT)
    expected = truth("missing-on-server", client.local(near[:1]), client.peers(near[:1]))
    server.vanish(far[:1])
    code, report = check(two, "--settle", "0.3", client="web*", server="web*")
    assert_exactly(report, expected)
    assert (code, report["connections"], len(report["hosts"])) == (1, COUNT, 1)
