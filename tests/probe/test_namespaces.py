"""Other network namespaces under every Python there is: their sockets, counters and translations, and no trace left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.host import namespace
from lab.waiting import PATIENCE
from probe.conversation import PYTHONS, open_probe

from halfopen import address
from halfopen.model import Absence, Lookup, Namespace, NetnsRef, Socket
from halfopen.tcp import State

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

INNER = """
import json, os, socket, subprocess, sys
for command in ("ip link set lo up", "nft add table inet nat",
    "nft add chain inet nat out { type nat hook output priority -100; }",
    "nft add rule inet nat out tcp dport 81 redirect to :80"):
    subprocess.run(command.split(), check=True)
held, told = [], []
for family, own in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    listener = socket.socket(family)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((own, 80))
    listener.listen(8)
    client = socket.create_connection((own, 81))
    server, _ = listener.accept()
    held += [listener, client, server]
    told.append([client.getsockname()[:2], server.getsockname()[:2], server.getpeername()[:2]])
print(json.dumps({"netns": os.stat("/proc/self/ns/net").st_ino, "ends": told}), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def inner() -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A process in a namespace of its own, with a redirected connection of each family on its loopback."""
    argv = ["unshare", "-n", sys.executable, "-c", INNER]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, json.loads(process.stdout.readline())
        process.kill()


def key(local: list[Any], peer: list[Any]) -> bytes:
    return address.make_key(address.parse(local[0]), local[1], address.parse(peer[0]), peer[1])


def within(spaces: tuple[Namespace, ...], netns: int) -> Namespace:
    (found,) = [one for one in spaces if one.netns == netns]
    return found


def test_it_looks_into_a_namespace_without_a_name(
    way: str, python: str, inner: tuple[subprocess.Popen[str], dict[str, Any]]
) -> None:
    _, told = inner
    agent = open_probe(python)
    agent.start(())
    snapshot = agent.first_look(())
    own, there = snapshot.namespaces[0], within(snapshot.namespaces, told["netns"])
    assert own.netns == Path("/proc/self/ns/net").stat().st_ino and own.netns != there.netns
    assert {address.show(one.address) for one in there.addresses} == {"127.0.0.1", "::1"}
    assert sorted(one.port for one in there.listeners) == [80, 80] and there.tracked
    rows = {one for one, _, _ in there.table.rows()}
    place, here = NetnsRef(agent.host, there.netns), NetnsRef(agent.host, own.netns)
    pairs = []
    for client, server, peer in told["ends"]:
        dialled, arrived = key(client, [server[0], 81]), key(peer, server)
        pairs.append((dialled, arrived))
        assert {dialled, address.mirror(arrived)} <= rows
        look = agent.look([Lookup(here, dialled), Lookup(place, dialled), Lookup(place, arrived)])
        found = look.sights[place, dialled]
        assert isinstance(found, Socket) and found.state is State.ESTABLISHED
        assert look.sights[here, dialled] is look.sights[place, arrived] is Absence.ABSENT
    translated = agent.translated(snapshot)
    rewrites = within(translated.namespaces, told["netns"]).rewrites
    assert rewrites is not None and sorted(rewrites.pairs()) == sorted(pairs)
    agent.involve(here)
    agent.involve(place)
    counters, sysctls = agent.evidence()
    assert counters[f"{there.netns}/PassiveOpens"] == 2 != counters["PassiveOpens"]
    assert sysctls[f"{there.netns}/somaxconn"] and sysctls["somaxconn"]
    # It is back where it came from: what it says of its own namespace is its own.
    again = agent.snapshot(())
    assert again.namespaces[0].netns == own.netns and within(again.namespaces, told["netns"])
    agent.close()


def test_a_namespace_that_is_gone_is_unseen_and_not_empty(way: str, python: str, tmp_path: Path) -> None:
    """On a host that sees no other process: the kernel gives the number to the next namespace that anybody makes."""
    with namespace(tmp_path, "host") as host:
        process = host.start(
            "unshare", "-n", sys.executable, "-c", INNER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout and process.stdin
        told = json.loads(process.stdout.readline())
        agent = open_probe(python, host.enter())
        agent.start(())
        assert within(agent.first_look(()).namespaces, told["netns"])
        process.stdin.close()
        process.wait(PATIENCE)
        dialled = key(*told["ends"][0][:2])
        gone, own = NetnsRef(agent.host, told["netns"]), NetnsRef(agent.host, None)
        look = agent.look([Lookup(gone, dialled), Lookup(own, dialled)])
        assert (look.sights[gone, dialled], look.sights[own, dialled]) == (Absence.UNSEEN, Absence.ABSENT)
        agent.close()


def test_without_the_right_to_enter_the_gap_is_named(inner: tuple[subprocess.Popen[str], dict[str, Any]]) -> None:
    wrap = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    agent = open_probe("python3", wrap)
    agent.start(())
    snapshot = agent.first_look(())
    assert snapshot.facts is not None and snapshot.facts.sees_namespaces is False
    assert any("network namespaces" in gap for gap in snapshot.facts.gaps)
    assert [one.netns for one in snapshot.namespaces] == [Path("/proc/self/ns/net").stat().st_ino]
    agent.close()


def test_no_namespace_outlives_its_last_process_because_of_us() -> None:
    """The probe holds nothing open of a namespace that it has looked into."""
    argv = ["unshare", "-n", "sleep", "600"]
    with subprocess.Popen(argv) as process:
        agent = open_probe(list(PYTHONS.values())[-1])
        agent.start(())
        agent.first_look(())
        channel: Any = agent.channel
        targets = [str(one.readlink()) for one in Path(f"/proc/{channel.process.pid}/fd").iterdir()]
        own = str(Path("/proc/self/ns/net").readlink())
        assert not [one for one in targets if one.startswith("net:") and one != own]
        assert len([one for one in targets if one.startswith("socket:")]) == 1
        process.kill()
    agent.close()
