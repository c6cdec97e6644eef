"""`check --retry-for`: it tries again until it is clean, and says how each try ended."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from lab.breaks import Scene
from lab.host import Lab
from lab.waiting import PATIENCE


def started(made: Lab, seconds: int) -> Any:
    argv = [sys.executable, "-m", "halfopen", "check", "web", "db", "--inventory", str(made.inventory), "--json"]
    more = ["--require-connections", "1", "--settle", "0.2", "--retry-for", str(seconds)]
    return subprocess.Popen([*argv, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_tries_again_until_it_is_clean(fresh_pair: Lab) -> None:
    web, db = fresh_pair["web"], fresh_pair["db"]
    address = fresh_pair.v4("db")
    scene = Scene(web, db, web.driver(), db.driver(), address, address, 5000)
    with started(fresh_pair, 100) as running:
        first = running.stderr.readline()
        assert first.startswith("halfopen: incomplete") and first.rstrip().endswith("(trying again)")
        scene.connected()
        out, _ = running.communicate(timeout=PATIENCE)
    (check,) = json.loads(out)["checks"]
    assert (running.returncode, check["outcome"]) == (0, "clean") and check["agreeing"] > 0


@pytest.mark.parametrize("seconds", [0, 10])  # in which the first try ends on a busy machine too
def test_the_last_try_counts_when_the_time_is_over(fresh_pair: Lab, seconds: int) -> None:
    with started(fresh_pair, seconds) as running:
        out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 3 and json.loads(out)["outcome"] == "incomplete"
    assert err.count("(trying again)") == err.count("\n")
    assert bool(err) is (seconds > 0)
