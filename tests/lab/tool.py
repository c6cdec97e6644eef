"""Runs the tool as a user does, and compares what it found with what was made."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lab.host import Driver, Lab

Truth = set[tuple[str, str, str]]
"""(verdict, client's endpoint, server's endpoint)"""


def check(
    lab: Lab, *args: str, client: str = "web", server: str = "db", within: Iterable[str] = ()
) -> tuple[int, dict[str, Any]]:
    """`halfopen check` -> exit code and the one check of the JSON report.

    within: the command that enters the host on which the tool runs, else this machine.
    """
    argv = [*within, sys.executable, "-m", "halfopen", "check", client, server, "--inventory", str(lab.inventory)]
    run = subprocess.run([*argv, "--format", "json", *args], capture_output=True, text=True, timeout=120)
    assert run.returncode in (0, 1, 3), run.stderr
    assert "Traceback" not in run.stderr, run.stderr
    (found,) = json.loads(run.stdout)["checks"]
    assert found["exit_code"] == run.returncode
    return run.returncode, found


def found(report: dict[str, Any]) -> Truth:
    """The findings of a report as the truth is written."""
    return {(one["verdict"], one["connection"]["client"], one["connection"]["server"]) for one in report["findings"]}


def truth(verdict: str, clients: Iterable[str], servers: Iterable[str]) -> Truth:
    """One verdict for pairs of endpoints."""
    return {(verdict, one, two) for one, two in zip(clients, servers, strict=True)}


def assert_exactly(report: dict[str, Any], expected: Truth, confidence: str = "proven") -> None:
    """Found exactly, no more and no less, and proven; and both hosts read completely.

    confidence: of what has one end.
    """
    assert [host["error"] for host in report["hosts"] if host["error"] or not host["complete"]] == []
    assert found(report) == expected
    for one in report["findings"]:
        assert one["confidence"] == (confidence if None in (one["client"], one["server"]) else "proven")


def looks_amid(churn: Driver, looks: int, churned: int) -> Iterator[int]:
    """The turns of looks beside a churn_client: so many at least, and on until so many connections came and went."""
    began = churn.churn_made()
    for number in itertools.count():
        if number >= looks and churn.churn_made() >= began + churned:
            return
        yield number


def exec_inventory(lab: Lab, name: str, *wrap: str) -> str:
    """An inventory whose host `name` is entered by a shell behind `wrap`, without SSH; its path."""
    argv = [*lab[name].enter(), *wrap, "sh"]
    path = lab.folder / f"exec-{name}-{len(list(lab.folder.glob('exec-*')))}.toml"
    path.write_text(f'[hosts.{name}]\ntransport = "exec"\ncommand = {json.dumps(argv)}\n')
    return str(path)


NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
NO_NETLINK = (sys.executable, str(Path(__file__).with_name("confined.py")))
