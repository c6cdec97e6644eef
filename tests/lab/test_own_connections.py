"""The SSH connections by which hosts are reached are counted nowhere: not compared, not external, not required."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.host import Lab, lab
from lab.tool import check

WAYS = ["paramiko", "openssh"]
PYTHONS = "/usr/bin/python3* /usr/local/bin/python3* /bin/python3*"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """web reaches the sshd of db over the link between them too."""
    with lab(tmp_path_factory.mktemp("lab"), "web", "db") as made:
        web, db = made["web"], made["db"]
        web.run("ip", "route", "replace", db.management, "via", made.v4("db"), "dev", "data")
        yield made


def inventory(site: Lab, name: str, more: str, edit: tuple[str, str] = ("", "")) -> Path:
    path = site.folder / f"{name}.toml"
    path.write_text(site.inventory.read_text().replace(*edit) + more)
    return path


def uncounted(site: Lab, report: dict[str, Any]) -> None:
    """Nothing that leads to an sshd of a host, from whichever side, is in the report."""
    assert report["connections"] == report["agreeing"] == 0 and report["findings"] == []
    ours = {f"{site[name].management}:22" for name in ("web", "db")}
    assert [one["peer"] for one in report["external"] if one["peer"] in ours] == []
    assert [host["error"] for host in report["hosts"]] == [None] * len(report["hosts"])


@pytest.mark.parametrize("transport", WAYS)
def test_of_hosts_that_are_reached_straight(site: Lab, transport: str) -> None:
    _, report = check(site, "--transport", transport)
    uncounted(site, report)
    assert [row for row in report["state_matrix"] if row["client"] and row["server"]] == []
    assert [host["states"].get("ESTABLISHED", 0) for host in report["hosts"]] == [0, 0]


@pytest.mark.parametrize("transport", WAYS)
def test_where_the_machine_of_the_tool_is_compared_itself(site: Lab, transport: str) -> None:
    """What earlier runs have left in TIME_WAIT counts for nothing either; run on web, which talks to db alone."""
    options = ("--transport", transport, "--require-connections", "1")
    for _ in range(2):
        code, report = check(site, *options, client="local", within=site["web"].enter())
    uncounted(site, report)
    assert code == 3 and "0 connections established at both ends, 1 required" in report["headline"]


@pytest.mark.parametrize("transport", WAYS)
def test_where_a_jump_host_is_a_side(site: Lab, transport: str) -> None:
    edit = ("[hosts.db]", '[hosts.db]\njump = "web"')
    path = inventory(site, "jump", "", edit)
    _, report = check(site, "--inventory", str(path), "--transport", transport)
    assert report["hosts"][1]["complete"]
    uncounted(site, report)
    assert [host["states"].get("ESTABLISHED", 0) for host in report["hosts"]] == [0, 0]
    assert "load balancer" not in " ".join((report["headline"], *report["details"]))


@pytest.mark.parametrize("transport", WAYS)
def test_under_a_sudo_that_forgets_the_environment(site: Lab, transport: str) -> None:
    fake = site.folder / "sudo"
    fake.write_text('#!/bin/sh\nshift\nexec env -i PATH="$PATH" "$@"\n')
    fake.chmod(0o755)
    path = inventory(site, "sudo", "\nsudo = true\n")
    real = shutil.which("sudo")
    assert real is not None
    site["db"].run("mount", "--bind", str(fake), real)
    try:
        _, report = check(site, "--inventory", str(path), "--transport", transport)
    finally:
        site["db"].run("umount", real)
    uncounted(site, report)


def test_of_a_host_without_python(site: Lab) -> None:
    each = f"for p in $(ls {PYTHONS} 2>/dev/null); do"
    site["db"].run("sh", "-c", f"{each} mount --bind /dev/null $p; done")
    try:
        _, report = check(site)
    finally:
        site["db"].run("sh", "-c", f"{each} umount $p; done")
    assert report["hosts"][1]["collector"] == "ss"
    uncounted(site, report)


def test_what_is_no_connection_of_ours_is_counted(site: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The login in which halfopen was started, and an SSH session beside ours."""
    web, db = site["web"], site["db"]
    server, client = db.driver(), web.driver()
    port = 7700
    server.listen(site.v4("db"), port, 8)
    client.connect(site.v4("db"), port, 1)
    _, report = check(site, "--port", str(port), "--require-connections", "1")
    assert report["connections"] == 1 and report["exit_code"] == 0
    (local,) = [one for one in web.ss() if one[1] == f"{site.v4('db')}:{port}"]
    login = f"{local[0].replace(':', ' ')} {local[1].replace(':', ' ')}"
    monkeypatch.setenv("SSH_CONNECTION", login)
    path = inventory(site, "exec", "")
    command = 'transport = "exec"\ncommand = '
    tables = [f"[hosts.{name}]\n{command}{json.dumps([*host.enter(), 'sh'])}\n" for name, host in site.hosts.items()]
    path.write_text("".join(tables))
    _, report = check(site, "--inventory", str(path), "--port", str(port))
    assert report["connections"] == 1
