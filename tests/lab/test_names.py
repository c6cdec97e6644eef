"""One machine that an inventory has under two names is one host of the check, live and saved."""

from __future__ import annotations

import contextlib
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
from lab.tool import assert_exactly, check, found, truth


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


def test_an_address_that_two_hosts_have_is_a_note_and_nothing_is_concluded(tmp_path: Path) -> None:
    """A service address on the loopback of two servers, which share its connections: none is called well or broken."""
    with lab(tmp_path, "web", "db", "twin") as made:
        web, dial = made["web"], "10.7.0.50"
        web.run("ip", "route", "add", f"{dial}/32", "dev", "data")
        client, clients = web.driver(), []
        for name in ("db", "twin"):
            made[name].run("ip", "addr", "add", f"{dial}/32", "dev", "lo")
            (link,) = json.loads(made[name].run("ip", "-json", "link", "show", "data"))
            web.run("ip", "neigh", "replace", dial, "lladdr", link["address"], "dev", "data")
            server = made[name].driver()
            listener = server.listen(dial, 5000, 8)
            clients += client.connect(dial, 5000, COUNT)
            server.accept(listener, COUNT)
        client.chatter(clients, 0.2, 60)
        with made.inventory.open("a") as file:
            file.write('[checks.any]\nclient = "web"\nserver = ["db", "twin"]\n')
        argv = [sys.executable, "-m", "halfopen", "check", "any", "--inventory", str(made.inventory), "--settle", "0.3"]
        done = subprocess.run([*argv, "--format", "json"], capture_output=True, text=True, timeout=60)
        (report,) = json.loads(done.stdout)["checks"]
        assert found(report) == truth("ambiguous", client.local(clients), [f"{dial}:5000"] * 2 * COUNT)
        assert (done.returncode, report["outcome"]) == (3, "incomplete")
        assert f"{dial} is an address of db and of twin" in report["notes"]
        assert subprocess.run([*argv, "--allow", "ambiguous"], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("alone", [False, True], ids=["from its host", "network namespace alone"])
@pytest.mark.parametrize("order", [("box", "db"), ("db", "box")])
def test_a_host_and_its_own_container_are_two_hosts(order: tuple[str, str], alone: bool, tmp_path: Path) -> None:
    """By whatever boot id the container is known: one of its own hides that its host looks into it too."""
    with lab(tmp_path, "db") as made:
        db = made["db"]
        bridge(db)
        inner = container(db, 2)
        here = inner.run("readlink", "/proc/self/ns/net").strip()
        enter = inner.enter() if not alone else ["nsenter", "-t", str(process_in(here)), "-n", "--"]
        with made.inventory.open("a") as file:
            file.write(f'[hosts.box]\ntransport = "exec"\ncommand = {json.dumps([*enter, "sh"])}\n')
        scene = Scene(db, db, inner.driver(), db.driver(), "172.17.0.1", "172.17.0.1", 5000)
        expected = FAULTS["server_vanished"](scene)
        scene.port = 5001
        FAULTS["healthy"](scene)
        code, report = check(made, "--settle", "0.3", client=order[0], server=order[1])
        assert found(report) == expected
        assert (code, report["connections"]) == (1, 2 * COUNT)
        assert {(one["client"]["host"]) for one in report["findings"]} == {"box"}


def process_in(netns: str) -> int:
    """The pid, as the test sees it, of a process in a network namespace (`net:[INODE]`)."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((folder / "ns" / "net").readlink()) == netns:
                return int(folder.name)
    raise AssertionError(f"nobody is in {netns}")
