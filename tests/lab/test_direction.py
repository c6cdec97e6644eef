"""Whichever way round the arguments are, the host that has the socket is named as the one that has it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from lab.breaks import COUNT, FAULTS, Scene
from lab.host import Lab, lab
from lab.tool import Truth, assert_exactly, check


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Truth, Truth]]:
    """web1 and web2 have lost ends on db, which is also a client of web1 and has lost ends there; and what was made."""
    with lab(tmp_path_factory.mktemp("lab"), "db", "web1", "web2") as made:
        to_db: Truth = set()
        for number, name in enumerate(("web1", "web2")):
            to_db |= FAULTS["server_vanished"](scene(made, name, "db", 5000 + number))
            FAULTS["healthy"](scene(made, name, "db", 5010 + number))
        back = FAULTS["server_vanished"](scene(made, "db", "web1", 8080))
        yield made, to_db, back


def scene(made: Lab, client: str, server: str, port: int) -> Scene:
    return Scene(
        made[client],
        made[server],
        made[client].driver(),
        made[server].driver(),
        made.v4(server),
        made.v4(server),
        port,
    )


def lacking(report: dict[str, Any]) -> Counter[tuple[str, str]]:
    """(host with the socket, host that lacks it) -> connections, by the matrix."""
    rows = [row for row in report["state_matrix"] if row["verdict"]]
    assert all(row["client"] == "ESTABLISHED" and row["server"] is None for row in rows)
    return Counter({(row["client_host"], row["server_host"]): row["count"] for row in rows})


@pytest.mark.parametrize("ends", [("web2", "db"), ("db", "web2")])
def test_the_client_may_stand_second(ends: tuple[str, str], three: tuple[Lab, Truth, Truth]) -> None:
    made, to_db, _ = three
    code, report = check(made, "--settle", "0.3", client=ends[0], server=ends[1])
    assert_exactly(report, {one for one in to_db if one[1].startswith(made.v4("web2"))})
    assert code == 1 and lacking(report) == {("web2", "db"): COUNT}
    assert report["headline"] == f"{COUNT} half-open connections web2 -> db:5001, all missing on the server"
    (group,) = report["groups"]
    assert (group["client_host"], group["server_host"]) == ("web2", "db")
    assert group["client_process"] and group["server_process"]
    assert not [one for one in report["listeners"] if one["host"] != "db"]
    text = subprocess.run(
        [sys.executable, "-m", "halfopen", "check", *ends, "--inventory", str(made.inventory), "--settle", "0.3"],
        capture_output=True,
        text=True,
    ).stdout
    assert "established on web2, unknown to db" in text and "\n  web2         db" in text


@pytest.mark.parametrize("ends", [("web1", "db"), ("db", "web1")])
def test_both_directions_at_once(ends: tuple[str, str], three: tuple[Lab, Truth, Truth]) -> None:
    made, to_db, back = three
    _, report = check(made, "--settle", "0.3", client=ends[0], server=ends[1])
    assert_exactly(report, {one for one in to_db if one[1].startswith(made.v4("web1"))} | back)
    assert lacking(report) == {("web1", "db"): COUNT, ("db", "web1"): COUNT}
    for way in ("web1 -> db:5000", "db -> web1:8080"):
        assert f"{COUNT} half-open connections {way}, all missing on the server" in report["headline"]
    assert {(one["host"], one["port"]) for one in report["listeners"]} >= {("db", 5000), ("web1", 8080)}


def test_a_glob_with_the_server_first(three: tuple[Lab, Truth, Truth]) -> None:
    made, to_db, back = three
    _, report = check(made, "--settle", "0.3", client="db", server="web*")
    assert_exactly(report, to_db | back)
    assert lacking(report) == {("web1", "db"): COUNT, ("web2", "db"): COUNT, ("db", "web1"): COUNT}
    assert f"{2 * COUNT} half-open connections 2 hosts -> db, all missing on the server" in report["headline"]
    assert {(one["client"], one["server"]) for one in report["pairs"]} == set(lacking(report))
