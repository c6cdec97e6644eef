"""The wide look of a real run on this machine: its limit, `--deep`, and a host that refuses it or breaks off in it."""

from __future__ import annotations

import io
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from halfopen.__main__ import main
from halfopen.environment import Environment
from halfopen.errors import ErrorCode, HostError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the sockets of a Linux host")


@pytest.fixture
def port() -> Iterator[int]:
    """Three established connections to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    held = [socket.create_connection(listener.getsockname()) for _ in range(3)]
    held += [listener.accept()[0] for _ in range(3)]
    held[0].send(b"x" * 100)
    yield listener.getsockname()[1]
    for one in (*held, listener):
        one.close()


def check(port: int, folder: Path, *more: str) -> tuple[int, Any]:
    """`halfopen check local local` -> exit code and its one check."""
    out = io.StringIO()
    argv = ["check", "local", "local", "--port", str(port), "--format", "json", *more]
    code = main(argv, Environment({"HOME": str(folder)}, folder, io.StringIO(), out, io.StringIO()))
    return int(code), json.loads(out.getvalue())["checks"][0]


def of_counters(found: Any) -> list[str]:
    return [note for note in found["notes"] if "byte counters" in note]


def test_counters_are_compared_without_being_asked_for(port: int, tmp_path: Path) -> None:
    code, found = check(port, tmp_path)
    assert (code, found["agreeing"], of_counters(found)) == (0, 3, [])


def test_beyond_the_limit_they_are_left_out_and_it_is_said(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def counts(agent: object, ports: object) -> tuple[()]:
        asked.append(ports)
        return ()

    monkeypatch.setattr("halfopen.reach.agent.Agent.counts", counts)
    monkeypatch.setattr("halfopen.run.live.WIDE_LIMIT", 2)
    code, found = check(port, tmp_path)
    (note,) = of_counters(found)
    assert code == 0 and "3 connections" in note and "--deep" in note and not asked


def test_deep_compares_them_however_many(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfopen.run.live.WIDE_LIMIT", 2)
    code, found = check(port, tmp_path, "--deep")
    assert (code, found["agreeing"], of_counters(found)) == (0, 3, [])


def failing(code: ErrorCode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that cannot give counters."""

    def counts(agent: object, ports: object) -> None:
        raise HostError(code, "so it is")

    monkeypatch.setattr("halfopen.reach.agent.Agent.counts", counts)


def test_a_kernel_that_refuses_them_is_named(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(ErrorCode.UNSUPPORTED, monkeypatch)
    code, found = check(port, tmp_path)
    assert (code, found["outcome"]) == (0, "clean")
    assert [note.partition(":")[0] for note in of_counters(found)] == ["local"]


def test_a_host_that_breaks_off_there_is_not_clean(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(ErrorCode.TRUNCATED, monkeypatch)
    code, found = check(port, tmp_path)
    assert (code, found["outcome"], found["client"]["error"]["code"]) == (3, "incomplete", "truncated")
