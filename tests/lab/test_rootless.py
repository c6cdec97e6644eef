"""Rootless containers: a program on their host is their network, and holds connections of its own for theirs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.host import DRIVER, Driver, Lab, LabHost, lab
from lab.test_nat import as_nobody
from lab.tool import check, found
from lab.waiting import until

COUNT, PORT = 8, 5000


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db") as made:
        yield made


PROGRAM = [sys.executable, str(DRIVER)]
WAIT = ["sleep", "99999"]


def slirp4netns(host: LabHost) -> list[str]:
    """As Podman and rootless Docker have it: the command that enters the container's network."""
    host.start("unshare", "--user", "--map-root-user", "--net", "sleep", "infinity")
    pid = until(lambda: host.run("pgrep", "-f", "^sleep infinity$", check=False).split()[1:2])[0]
    host.start("slirp4netns", "--configure", "--mtu=1500", pid, "tap0", stdout=subprocess.DEVNULL)
    inside = ["nsenter", "-t", pid, "--user", "--preserve-credentials", "--net"]
    until(lambda: "default" in host.run(*inside, "ip", "route"))
    return inside


def pasta(host: LabHost) -> list[str]:
    """As Podman 5 has it, the host's own address in the container: the command that enters its network."""
    host.run("ip", "route", "replace", "default", "via", "10.7.0.254", "dev", "data")
    host.start("pasta", "--config-net", "-f", "-i", "data", "--runas", "0", *WAIT, stderr=subprocess.DEVNULL)
    pid = until(lambda: host.run("pgrep", "-f", f"^{' '.join(WAIT)}$", check=False).split()[:1])[0]
    inside = ["nsenter", "-t", pid, "--user", "--preserve-credentials", "--net"]
    until(lambda: "default" in host.run(*inside, "ip", "route"))
    return inside


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("network", [slirp4netns, pasta])
def test_what_a_program_relays_is_healthy_and_lost_when_the_server_is(
    network: Callable[[LabHost], list[str]], user: str, two: Lab
) -> None:
    web, db = two["web"], two["db"]
    if user == "nobody":
        as_nobody(two, "web")
    enter = network(web)
    client = Driver(web.start(*enter, *PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    server = db.driver()
    listener = server.listen("0.0.0.0", PORT, 64)
    clients = client.connect(two.v4("db"), PORT, COUNT)
    servers = server.accept(listener, COUNT)
    relayed = [ends for ends in web.ss() if ends[1] == f"{two.v4('db')}:{PORT}"]
    assert len(relayed) >= COUNT
    code, report = check(two)
    assert report["findings"] == [] and report["agreeing"] >= COUNT
    assert code == (3 if report["unjudged"] else 0)
    db.drop(f"tcp dport {PORT}")  # and so nobody is told
    server.vanish(servers[:3])
    code, report = check(two)
    lost = {one for one in found(report) if one[0] == "missing-on-server"}
    assert code in (1, 3) and report["outcome"] != "clean" and found(report) == lost
    assert len({one[1] for one in lost} & {ends[0] for ends in relayed}) >= 3
    assert client.local(clients)
