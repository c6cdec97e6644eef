"""Hosts without a usable Python: whatever else they have sees the same truth, and what it cannot see is said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from lab.breaks import COUNT, FAULTS, Scene
from lab.host import Lab, LabHost, lab
from lab.tool import Truth, check, found, looks_amid

from halfopen.evidence.text.ss import STATES as SS_STATES
from halfopen.reach.exchange import INTERPRETERS
from halfopen.tcp import STATE_NUMBERS

HELD = {"half_closed", "fin_lost", "tuple_reused", "client_vanished", "abandoned_close", "healthy"}
"""Faults of which a process holds the server's end: lsof shows no others."""


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db") as made:
        yield made


def hide(host: LabHost, *programs: str) -> None:
    """Puts an empty file over programs, wherever PATH finds them. What runs goes on running."""
    empty = host.folder / "empty"
    empty.touch(0o644)
    for program in programs:
        host.run(
            "sh",
            "-c",
            'for d in $(echo "$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin" | tr : " "); do '
            f'f=$(readlink -f "$d/{program}"); [ -n "$f" ] && [ -x "$f" ] && mount --bind {empty} "$f"; done; true',
        )


def without_python(host: LabHost, *more: str) -> None:
    """Hides every interpreter that the bootstrap looks for, and more."""
    hide(host, *dict.fromkeys(Path(one).name for one in INTERPRETERS), *more)


def only_busybox(host: LabHost) -> None:
    """Every program of the host is BusyBox, but for sshd."""
    without_python(host)
    bin_folder, sbin_folder = host.folder / f"{host.name}-bin", host.folder / f"{host.name}-sbin"
    for folder in (bin_folder, sbin_folder):
        folder.mkdir()
    shutil.copy("/bin/busybox", bin_folder / "busybox")
    shutil.copy("/usr/sbin/sshd", sbin_folder / "sshd")
    for applet in host.run("busybox", "--list").split():
        if applet != "busybox":
            (bin_folder / applet).symlink_to("busybox")
    (bin_folder / "bash").write_text('#!/bin/sh\nexec /bin/sh "$@"\n')
    (bin_folder / "bash").chmod(0o755)
    host.run("mount", "--bind", str(sbin_folder), "/usr/sbin")
    host.run("mount", "--bind", str(bin_folder), "/usr/bin")


def scenes(made: Lab, faults: Sequence[str], ways: Sequence[str]) -> dict[str, Truth]:
    """Breaks connections in all these ways: fault -> its truth.

    First those that take a port again, while no other connection has it; then slow ones. None heals meanwhile.
    """
    made["web"].sysctl("ipv4/tcp_syn_retries", 8)
    made["db"].sysctl("ipv4/tcp_synack_retries", 8)
    truths: dict[str, Truth] = {}
    client, server, port = made["web"], made["db"], 5000
    programs = client.driver(), server.driver()
    first = ("tuple_reused", "abandoned_close")
    for fault in sorted(faults, key=lambda one: first.index(one) if one in first else len(first)):
        for way in ways:
            address = made.v6("db") if way == "ipv6" else made.v4("db")
            bind = "::" if way == "dual-stack" else address
            place = Scene(client, server, *programs, address, bind, port, way == "dual-stack")
            truths[fault] = truths.get(fault, set()) | FAULTS[fault](place)
            port += 1
    return truths


HIDDEN = {
    "ss": (),
    "procfs": ("ss",),
    "netstat": ("ss", "cat"),
}


@pytest.mark.parametrize("collector", HIDDEN)
def test_every_collector_sees_the_truth(collector: str, alone: Lab) -> None:
    truths = scenes(alone, list(FAULTS), ("ipv4", "ipv6", "dual-stack"))
    for host in (alone["web"], alone["db"]):
        without_python(host, *HIDDEN[collector])
    folder = alone.folder / "saved"
    code, report = check(alone, "--settle", "0.5", "--save", str(folder))
    expected = set().union(*truths.values())
    assert found(report) == expected and code == 1
    assert {one["confidence"] for one in report["findings"]} == {"observed"}
    assert report["agreeing"] >= 3 * COUNT  # the healthy ones
    for host in report["hosts"]:
        assert host["collector"] == collector and host["complete"] and host["error"] is None
        assert host["gaps"][0].startswith("no python3 there")
        assert host["privileged"] and host["hostname"] == host["name"]
        assert alone.v4(host["name"]) in host["addresses"] and alone.v6(host["name"]) in host["addresses"]
    names = {end["process"] for one in report["findings"] for end in (one["client"], one["server"]) if end}
    assert any(name and name.startswith("python") for name in names)
    files = [str(folder / f"{name}.halfopen") for name in ("web", "db")]
    again = subprocess.run(
        [sys.executable, "-m", "halfopen", "analyse", *files, "--format", "json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(again.stdout)["checks"][0] | {"elapsed_s": None} == report | {"elapsed_s": None}


def test_one_host_without_python_stands_against_one_with_it(alone: Lab) -> None:
    truths = scenes(alone, list(FAULTS), ("ipv4", "dual-stack"))
    without_python(alone["db"])
    code, report = check(alone, "--settle", "0.5")
    assert found(report) == set().union(*truths.values()) and code == 1
    assert {one["confidence"] for one in report["findings"]} == {"observed"}
    assert [host["collector"] for host in report["hosts"]] == ["netlink", "ss"]


def test_lsof_shows_what_is_held_and_says_that_it_cannot_tell_the_rest(alone: Lab) -> None:
    truths = scenes(alone, list(FAULTS), ("ipv4", "dual-stack"))
    without_python(alone["db"], "ss", "cat", "netstat")
    _, report = check(alone, "--settle", "0.5")
    assert found(report) == set().union(*(truth for fault, truth in truths.items() if fault in HELD))
    db = report["hosts"][1]
    assert db["collector"] == "lsof" and not db["complete"]
    assert any("accept queues" in gap for gap in db["gaps"])
    assert any("could not be judged" in line or "read in part" in line for line in report["details"])


def test_what_lsof_cannot_see_is_incomplete_and_never_clean(alone: Lab) -> None:
    place = Scene(
        alone["web"], alone["db"], alone["web"].driver(), alone["db"].driver(), alone.v4("db"), alone.v4("db"), 5000
    )
    FAULTS["never_accepted"](place)
    without_python(alone["db"], "ss", "cat", "netstat")
    code, report = check(alone, "--port", "5000", "--settle", "0.2")
    assert (code, report["outcome"], report["findings"]) == (3, "incomplete", [])


def test_a_busybox_host(alone: Lab) -> None:
    truths = scenes(alone, list(FAULTS), ("ipv4", "dual-stack"))
    only_busybox(alone["db"])
    code, report = check(alone, "--settle", "0.5")
    assert found(report) == set().union(*truths.values()) and code == 1
    assert [host["collector"] for host in report["hosts"]] == ["netlink", "procfs"]


def test_a_host_with_nothing_says_so(alone: Lab) -> None:
    without_python(alone["db"], "ss", "cat", "netstat", "lsof")
    code, report = check(alone)
    db = report["hosts"][1]
    assert (code, db["error"]["code"]) == (3, "no-interpreter") and report["findings"] == []
    assert "none of ss, /proc/net/tcp, netstat and lsof" in db["error"]["message"]


def test_healthy_connections_and_churn_are_clean_without_python(alone: Lab) -> None:
    """Hundreds of openings a second beside idle connections, and only whole tables to look with."""
    client, server = alone["web"].driver(), alone["db"].driver()
    listener = server.listen(alone.v4("db"), 6000, 256)
    client.connect(alone.v4("db"), 6000, 100)
    server.accept(listener, 100)
    server.churn_server(alone.v4("db"), 6001, 300)
    client.churn_client(alone.v4("db"), 6001, 500, 300)
    for host in (alone["web"], alone["db"]):
        without_python(host)
    for _ in looks_amid(client, 3, 1000):
        _, report = check(alone, "--settle", "0.5")
        assert found(report) == set(), report["findings"]
        assert report["agreeing"] >= 100


def by_exec(made: Lab, name: str, *prefix: str) -> None:
    """Reaches a host by a shell in its namespaces, as `docker exec` does, in place of SSH."""
    argv = [*made[name].enter(), *prefix, "sh"]
    other = next(one for one in made.hosts if one != name)
    tables = made.inventory.read_text().split("\n[hosts.")
    kept = next(one for one in tables if one.removeprefix("[hosts.").startswith(f"{other}]")).removeprefix("[hosts.")
    made.inventory.write_text(
        f'[hosts.{kept}\n[hosts.{name}]\naddress = "{name}"\ntransport = "exec"\ncommand = {json.dumps(argv)}\n'
    )


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.mark.parametrize("collector", ["ss", "procfs"])
def test_an_ordinary_user_in_a_container_shell_sees_the_same(collector: str, alone: Lab) -> None:
    truths = scenes(alone, list(FAULTS), ("ipv4", "dual-stack"))
    without_python(alone["db"], *HIDDEN[collector])
    by_exec(alone, "db", *NOBODY)
    code, report = check(alone, "--settle", "0.5")
    assert found(report) == set().union(*truths.values()) and code == 1
    db = report["hosts"][1]
    assert (db["collector"], db["transport"], db["privileged"], db["complete"]) == (collector, "exec", False, True)
    assert any("other users" in note for note in report["notes"])


def test_lsof_of_an_ordinary_user_proves_no_absence(alone: Lab) -> None:
    """It shows him not even the connections that are there."""
    scenes(alone, ["healthy", "server_vanished"], ("ipv4",))
    without_python(alone["db"], "ss", "cat", "netstat")
    by_exec(alone, "db", *NOBODY)
    code, report = check(alone, "--settle", "0.2")
    assert (code, report["outcome"], report["findings"]) == (3, "incomplete", [])


PSUTIL = """
import json
from halfopen import address
from halfopen.reach.machine import MachineAgent
agent = MachineAgent("here")
snapshot = agent.first_look(())
(space,) = snapshot.namespaces
rows = []
for key, number, _ in space.table.rows():
    local, local_port, peer, peer_port = address.split_key(key)
    rows.append([address.endpoint(local, local_port), address.endpoint(peer, peer_port), number])
print(json.dumps({
    "rows": rows,
    "listening": sorted(one.port for one in space.listeners),
    "addresses": [address.show(one.address) for one in space.addresses],
    "collector": snapshot.facts.collector,
    "gaps": snapshot.facts.gaps,
}))
"""


def test_psutil_sees_what_the_kernel_has(alone: Lab) -> None:
    """Decoded as on the systems it is for, over sockets whose truth `ss` tells."""
    scenes(alone, list(FAULTS), ("ipv4", "ipv6", "dual-stack"))
    for host in (alone["web"], alone["db"]):
        told = json.loads(host.run(sys.executable, "-c", PSUTIL))
        expected = {ends: SS_STATES[state] for ends, state in host.ss().items() if "22" not in ends[0].split(":")[-1:]}
        rows = {(local, peer): STATE_NUMBERS[number].value for local, peer, number in told["rows"]}
        assert {ends: state for ends, state in rows.items() if not ends[0].endswith(":22")} == expected
        assert alone.v4(host.name) in told["addresses"] and alone.link_local(host.name) in told["addresses"]
        assert told["collector"] == "psutil" and any("accepted" in gap for gap in told["gaps"])


def test_the_check_of_this_machine_by_psutil(alone: Lab) -> None:
    """`local` on a system that is no Linux, which this one says it is for once."""
    truths = scenes(alone, ["server_vanished", "half_closed", "healthy"], ("ipv4",))
    by_exec(alone, "web")
    inventory = alone.inventory.read_text() + '\n[hosts.here]\naddress = "here"\ntransport = "local"\n'
    alone.inventory.write_text(inventory)
    code = "import halfopen.run.host_link as s; s.is_foreign = lambda: True; from halfopen.__main__ import run; run()"
    argv = ["check", "here", "web", "--inventory", str(alone.inventory), "--format", "json", "--settle", "0.3"]
    done = subprocess.run(
        [*alone["db"].enter()[:3], "-n", "-u", "--", sys.executable, "-c", code, *argv],
        capture_output=True,
        text=True,
        timeout=60,
    )
    (report,) = json.loads(done.stdout)["checks"]
    assert found(report) == set().union(*truths.values()), done.stderr
    assert {one["confidence"] for one in report["findings"]} == {"observed"}
    assert report["client"]["collector"] == "psutil"
