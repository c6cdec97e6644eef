"""What comes from others: packages that are not there, and the private parts of the library that we use."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

import halfopen
from halfopen.__main__ import main
from halfopen.environment import Environment
from halfopen.reach.library import load_paramiko

PRIVATE = {"_connect": "agent.AgentSSH"}
"""Private attributes of paramiko that we use -> the class that has them."""


def test_the_private_parts_of_the_library_that_are_used_are_there() -> None:
    used = {
        name
        for path in Path(halfopen.__file__).parent.glob("reach/*.py")
        for name in re.findall(r"\b(?:agent|transport|channel|key|security|paramiko)\.(_[a-z]\w+)", path.read_text())
    }
    assert used == {*PRIVATE}
    for name, place in PRIVATE.items():
        owner = load_paramiko()
        for part in place.split("."):
            owner = getattr(owner, part)
        assert callable(getattr(owner, name))


@pytest.mark.parametrize("package", ["paramiko", "tabulate", "junitparser"])
def test_a_package_that_is_not_there_is_said_and_is_no_bug(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    argv = {
        "paramiko": ["check", "me@127.0.0.1:9", "local", "--transport", "paramiko", "--timeout", "9"],
        "junitparser": ["check", "local", "local", "--format", "junit", "--settle", "0"],
        "tabulate": ["count", "local", "--format", "text"],
    }[package]
    err = io.StringIO()
    code = main(argv, Environment({"HOME": str(tmp_path)}, tmp_path, io.StringIO(), io.StringIO(), err))
    assert code == 2 and f"the Python package {package} is needed" in err.getvalue(), err.getvalue()
    assert "bug" not in err.getvalue()
