"""`halfopen count` on real hosts: what was made is counted, and `ss -tanp` and `lsof` agree where they can see."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab.host import Driver, Lab, LabHost
from lab.tool import NO_NETLINK, NOBODY, exec_inventory
from lab.waiting import until

PORTS = itertools.count(7000, 10)


def count(host: str, *args: str, inventory: Any = None, code: int = 0) -> dict[str, Any]:
    """`halfopen count HOST` -> its JSON."""
    argv = [sys.executable, "-m", "halfopen", "count", host, "--format", "json", *args]
    argv += ["--inventory", str(inventory)] if inventory else []
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert sum(row["sockets"] for row in found["rows"]) == found["sockets"] == sum(found["states"].values())
    return found


def row(found: dict[str, Any], holder_kind: str, port: int, *pids: int, direction: str = "in") -> dict[str, Any]:
    """The one row of these holders and this port."""
    (one,) = (
        one
        for one in found["rows"]
        if (one["holder_kind"], one["port"], one["direction"]) == (holder_kind, port, direction)
        and tuple(sorted(pids)) == tuple(holder["pid"] for holder in one["holders"])
    )
    return dict(one)


@dataclass
class Scene:
    """A server's program on db: 5 accepted, 2 of them half-closed by the client, 4 waiting, one of these closed too."""

    port: int
    web: LabHost
    db: LabHost
    client: Driver
    server: Driver
    clients: list[int]
    servers: list[int]
    listener: int

    @property
    def pid(self) -> int:
        return int(self.server.pid())

    def states(self, host: LabHost) -> Counter[str]:
        """The connections of this port on a host, by the word of its own `ss`."""
        port = f":{self.port}"
        return Counter(state for ends, state in host.ss().items() if any(end.endswith(port) for end in ends))


def scene(lab: Lab, bind: str = "10.7.0.2", dual: bool = False) -> Scene:
    web, db, port = lab["web"], lab["db"], next(PORTS)
    client, server = web.driver(), db.driver()
    listener = server.listen(bind, port, 64, dual)
    clients = client.connect("10.7.0.2", port, 5)
    servers = server.accept(listener, 5)
    waiting = client.connect("10.7.0.2", port, 4)
    client.shutdown([*clients[:2], waiting[0]])
    made = Scene(port, web, db, client, server, [*clients, *waiting], servers, listener)
    until(
        lambda: made.states(web) == {"ESTAB": 6, "FIN-WAIT-2": 3} and made.states(db) == {"ESTAB": 6, "CLOSE-WAIT": 3}
    )
    return made


@pytest.mark.parametrize("bind", ["10.7.0.2", "0.0.0.0", "::"])
def test_every_socket_is_in_one_row_with_those_who_hold_it(bind: str, pair: Lab) -> None:
    made = scene(pair, bind, bind == "::")
    found = count("db", "--port", str(made.port), inventory=pair.inventory)
    assert found["schema"] == "halfopen.count/1" and found["transport"] == "paramiko"
    (one,) = found["rows"]
    assert one == row(found, "process", made.port, made.pid)
    assert one["states"] == {"ESTABLISHED": 3 + 3, "CLOSE_WAIT": 2 + 1, "LISTEN": 1}
    assert one["accept_queue"] == {"ESTABLISHED": 3, "CLOSE_WAIT": 1} and found["accept_queue"] == 4
    assert one["holders"][0]["process"] == Path(sys.executable).name and "driver.py" in one["holders"][0]["command"]
    (listener,) = found["listeners"]
    assert (listener["queue"], listener["backlog"], listener["full"]) == (4, 64, False)
    assert [holder["pid"] for holder in listener["holders"]] == [made.pid]
    assert found["lsof"]["sockets"] == found["lsof"]["lines"] == 5 + 1
    assert found["lsof"]["hidden"] == {"accept queue": 4}
    # The same connections from the other side: what went out, by the port that was dialled.
    there = count("web", "--port", str(made.port), inventory=pair.inventory)
    (out,) = there["rows"]
    assert out == row(there, "process", made.port, made.client.pid(), direction="out")
    assert out["states"] == {"ESTABLISHED": 6, "FIN_WAIT2": 3} and out["accept_queue"] == {}


def test_what_the_kernel_alone_keeps_is_set_apart(pair: Lab) -> None:
    made = scene(pair)
    made.server.close(made.servers[4:])  # the server closes first: FIN_WAIT2 here, CLOSE_WAIT there
    made.client.close(made.clients[4:5])  # and so TIME_WAIT is here
    made.server.close(made.servers[3:4])  # an orphan in FIN_WAIT2
    made.db.drop(f"tcp dport {made.port} tcp flags & (syn|ack|psh|fin|rst) == ack")
    made.client.connect("10.7.0.2", made.port, 6)  # never more than SYN_RECV
    kept = {"SYN-RECV": 6, "TIME-WAIT": 1, "FIN-WAIT-2": 1}
    until(lambda: made.states(made.db) == {"ESTAB": 4, "CLOSE-WAIT": 3, **kept})
    found = count("db", "--port", str(made.port), inventory=pair.inventory)
    made.db.undrop()
    assert row(found, "nobody", made.port)["states"] == {"SYN_RECV": 6, "TIME_WAIT": 1, "FIN_WAIT2": 1}
    assert row(found, "process", made.port, made.pid)["states"] == {
        "ESTABLISHED": 1 + 3,
        "CLOSE_WAIT": 2 + 1,
        "LISTEN": 1,
    }
    hidden = {"accept queue": 4, "SYN_RECV": 6, "TIME_WAIT": 1, "FIN_WAIT2 orphan": 1}
    assert found["lsof"]["hidden"] == hidden and found["lsof"]["sockets"] == 3 + 1


def test_sockets_that_processes_share_are_one_row_with_all_of_them(pair: Lab) -> None:
    made = scene(pair)
    child = made.server.fork([made.listener, made.servers[4]])
    extra = made.server.twice(made.servers[3])
    found = count("db", "--port", str(made.port), inventory=pair.inventory)
    shared = row(found, "process", made.port, made.pid, child)
    # What waits, waits for whoever may accept: for all who hold the listener.
    assert shared["states"] == {"LISTEN": 1, "ESTABLISHED": 1 + 3, "CLOSE_WAIT": 1}
    assert shared["accept_queue"] == {"ESTABLISHED": 3, "CLOSE_WAIT": 1} and shared["descriptors"] == 4
    alone = row(found, "process", made.port, made.pid)
    assert alone["states"] == {"ESTABLISHED": 2, "CLOSE_WAIT": 2} and alone["descriptors"] == 5
    assert len(found["rows"]) == 2 and found["sockets"] == 10
    assert found["lsof"]["sockets"] == 6 and found["lsof"]["lines"] == 9 == by_lsof(made.db, f"-iTCP:{made.port}")
    assert extra

    only = count("db", "--pid", str(child), inventory=pair.inventory)
    assert [(one["sockets"], one["port"]) for one in only["rows"]] == [(1 + 4 + 1, made.port)]
    assert [one["port"] for one in only["listeners"]] == [made.port]
    assert only["lsof"]["lines"] == 2 == by_lsof(made.db, "-a", "-p", str(child), "-iTCP")


def by_lsof(host: LabHost, *args: str) -> int:
    """How many lines the host's own lsof prints."""
    return len(host.run("lsof", "-nP", *args, check=False).splitlines()[1:])


def by_ss(host: LabHost) -> Counter[tuple[tuple[int, ...], str]]:
    """(pids, state) -> sockets, by the word of the host's own `ss -tanp`."""
    found: Counter[tuple[tuple[int, ...], str]] = Counter()
    for line in host.run("ss", "-Htanp").splitlines():
        pids = tuple(sorted({int(one) for one in re.findall(r"pid=(\d+)", line)}))
        found[pids, line.split()[0].replace("ESTAB", "ESTABLISHED").replace("-", "_").replace("WAIT_", "WAIT")] += 1
    return found


def test_ss_and_lsof_agree_on_a_whole_host(fresh_pair: Lab) -> None:
    made = scene(fresh_pair)
    made.server.fork([made.listener])
    made.server.fork([made.listener, *made.servers])
    scene(fresh_pair, "::", True)
    near, lines = by_ss(made.db), by_lsof(made.db, "-iTCP")
    found = count("db", inventory=exec_inventory(fresh_pair, "db"))
    assert found["transport"] == "exec"
    ours: Counter[tuple[tuple[int, ...], str]] = Counter()
    for one in found["rows"]:
        for state, number in one["states"].items():
            waiting = one["accept_queue"].get(state, 0)
            ours[tuple(holder["pid"] for holder in one["holders"]), state] += number - waiting
            ours[(), state] += waiting
    assert +ours == near
    assert found["lsof"]["lines"] == lines


@pytest.mark.parametrize("wrap", [(), NO_NETLINK], ids=["netlink", "procfs"])
def test_an_ordinary_user_counts_all_and_names_none_of_the_others(wrap: tuple[str, ...], pair: Lab) -> None:
    made = scene(pair)
    found = count("db", "--port", str(made.port), inventory=exec_inventory(pair, "db", *NOBODY, *wrap))
    assert found["privileged"] is False and found["collector"] == ("procfs" if wrap else "netlink")
    (one,) = found["rows"]
    assert (one["holder_kind"], one["holders"], one["uid"]) == ("other-users", [], 0)
    assert one["states"] == {"ESTABLISHED": 3 + 3, "CLOSE_WAIT": 2 + 1, "LISTEN": 1}
    assert one["accept_queue"] == {"ESTABLISHED": 3, "CLOSE_WAIT": 1}
    assert found["listeners"][0]["queue"] == 4 and found["listeners"][0]["backlog"] == (None if wrap else 64)
    assert found["lsof"]["sockets"] == 0 and found["lsof"]["hidden"] == {"accept queue": 4, "other-users": 6}
    assert any("other users" in note for note in found["notes"])


def test_listeners_that_share_a_port_are_told_apart_by_their_own_queues(pair: Lab) -> None:
    web, db, port = pair["web"], pair["db"], next(PORTS)
    client, one, two = web.driver(), db.driver(), db.driver()
    for server in (one, two):
        server.listen_shared("10.7.0.2", port, 64)
    client.connect("10.7.0.2", port, 20)
    found = count("db", "--port", str(port), inventory=pair.inventory)
    waiting = row(found, "process", port, one.pid(), two.pid())
    assert waiting["accept_queue"] == {"ESTABLISHED": 20}
    assert sum(listener["queue"] for listener in found["listeners"]) == 20 and len(found["listeners"]) == 2
    assert any("SO_REUSEPORT" in note for note in found["notes"])


def test_a_full_queue_says_so_and_a_client_that_was_left_out_is_not_there(pair: Lab) -> None:
    web, db, port = pair["web"], pair["db"], next(PORTS)
    client, server = web.driver(), db.driver()
    server.listen("10.7.0.2", port, 2)
    client.connect("10.7.0.2", port, 5, 0.0)
    until(lambda: db.queue(port) == 3)
    argv = [sys.executable, "-m", "halfopen", "count", "db", "--port", str(port), "--inventory", str(pair.inventory)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == f"db: 4 TCP sockets on :{port}, 3 of them in an accept queue, where no lsof sees them"
    assert any(
        f"10.7.0.2:{port}" in line and "3 of 2: full" in line and f"{Path(sys.executable).name} pid" in line
        for line in rest
    )
    assert f"lsof -nP -iTCP:{port} would have shown 1 of 4; not to be seen there: 3 in an accept queue" in rest


def test_a_process_that_is_not_there_is_wrong_usage(pair: Lab) -> None:
    argv = [sys.executable, "-m", "halfopen", "count", "db", "--pid", "999999", "--inventory", str(pair.inventory)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "") and "db has no process 999999" in done.stderr


def test_a_process_that_may_not_be_looked_into_is_no_process_without_sockets(pair: Lab) -> None:
    made, db = scene(pair), pair["db"]
    away = db.start("unshare", "-n", "sleep", "1000")
    contained = pid_of(db, "sleep 1000")
    for pid, wrap, words in (
        (made.pid, NOBODY, "belongs to another user"),
        (contained, (), "is in another network namespace"),
    ):
        argv = [sys.executable, "-m", "halfopen", "count", "db", "--pid", str(pid), "--inventory"]
        done = subprocess.run([*argv, exec_inventory(pair, "db", *wrap)], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (3, "") and words in done.stderr
    found = count("db", "--port", str(made.port), inventory=pair.inventory)
    assert "1 other network namespace of this host (containers, most likely) not counted" in found["notes"]
    away.kill()


def pid_of(host: LabHost, command: str) -> int:
    """The pid, inside, of the one process with this command line, once it is in a network of its own."""

    def found() -> int:
        lines = (line.strip().partition(" ") for line in host.run("ps", "-eo", "pid,args").splitlines())
        return next((int(pid) for pid, _, args in lines if args.strip() == command), 0)

    return until(found)
