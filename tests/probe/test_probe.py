"""The probe under every Python there is: netlink, /proc and `ss` tell the same."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.waiting import PATIENCE, until
from probe.conftest import refuse_netlink
from probe.conversation import PYTHONS, PipeChannel, expected, open_probe

from halfopen import address, probe
from halfopen.errors import HostError
from halfopen.evidence.probe import wire
from halfopen.model import NAMESPACE_AGE, Absence, Collector, Lookup, Snapshot, Socket
from halfopen.probe.columns import with_info
from halfopen.probe.processes import age_of_namespace, state_and_age
from halfopen.probe.serve import IDLE_LIMIT
from halfopen.reach.agent import Agent
from halfopen.table import Count
from halfopen.tcp import State, state_of


def test_every_python_that_is_expected_here_is_there() -> None:
    assert set(expected()) <= PYTHONS.keys(), f"the probe can be tested under {', '.join(PYTHONS)} only"


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Healthy connections on loopback: IPv4, IPv6, and IPv4 to a dual-stack listener, some with unread bytes."""
    held: list[socket.socket] = []
    made = []
    for family, bind, dial in (
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
    ):
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bind == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((bind, 0))
        listener.listen(8)
        for number in range(3):
            client = socket.create_connection((dial, listener.getsockname()[1]))
            server, _ = listener.accept()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, number % 2)
            client.sendall(b"x" * number)
            made.append((client, server))
            held += [client, server]
        held.append(listener)
    yield made
    for one in held:
        one.close()


def key_of(one: socket.socket) -> bytes:
    local, peer = one.getsockname(), one.getpeername()
    return address.make_key(address.parse(local[0]), local[1], address.parse(peer[0]), peer[1])


def amend(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    """From here on a probe is sent with another word in place of this one."""
    text = probe.source()
    assert text.count(before.encode()) == 1
    monkeypatch.setattr("halfopen.probe.source", lambda more=(): text.replace(before.encode(), after.encode()))


def started(python: str, ports: tuple[int, ...] = ()) -> tuple[Agent, Snapshot]:
    agent = open_probe(python)
    agent.start(ports)
    return agent, agent.first_look(ports)


def test_it_sees_every_socket_and_what_ss_sees(
    way: str, python: str, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    agent = open_probe(python)
    agent.start(())
    snapshot = agent.first_look(())
    assert snapshot.facts is not None and snapshot.facts.collector is Collector(way)
    rows = {key: state_of(state) for key, state, _ in snapshot.namespaces[0].table.rows()}
    expected = {key_of(one) for pair in pairs for one in pair}
    assert {key for key, state in rows.items() if state is State.ESTABLISHED} >= expected
    listed = by_ss()
    assert expected <= listed & rows.keys()
    wanted = [Lookup(agent.own_netns, one) for one in sorted(expected)]
    absent = Lookup(agent.own_netns, address.make_key(b"\x7f\0\0\1", 1, b"\x7f\0\0\1", pairs[0][1].getsockname()[1]))
    look = agent.look([*wanted, absent])
    assert look.sights[agent.own_netns, absent.key] is Absence.ABSENT
    for client, server in pairs:
        for one in (client, server):
            found = look.sights[agent.own_netns, key_of(one)]
            assert isinstance(found, Socket) and found.state is State.ESTABLISHED
            assert found.inode == os.fstat(one.fileno()).st_ino
            assert (found.cookie is None) == (way == "procfs") == (found.info is None)
    unread = sum(len(one.recv(9, socket.MSG_PEEK | socket.MSG_DONTWAIT)) for _, one in pairs[1:3])
    seen = [look.sights[agent.own_netns, key_of(one)] for _, one in pairs[1:3]]
    assert unread == 3 == sum(one.recv_q or 0 for one in seen if isinstance(one, Socket))
    agent.close()


def by_ss() -> set[bytes]:
    """The connections that `ss` lists, as keys."""
    found = set()
    text = subprocess.run(["ss", "-Htan"], capture_output=True, text=True, check=True).stdout
    for line in text.splitlines():
        words = line.split()
        if words[0] == "LISTEN":
            continue
        (local, local_port), (peer, peer_port) = (address.parse_endpoint(word) for word in words[3:5])
        found.add(address.make_key(local, local_port, peer, peer_port))
    return found


def test_netlink_and_proc_agree(
    python: str, pairs: list[tuple[socket.socket, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, one = started(python)
    agent.close()
    with monkeypatch.context() as patch:
        refuse_netlink(patch)
        agent, two = started(python)
        agent.close()
    expected = {key_of(end) for pair in pairs for end in pair}
    rows = [
        {(key, state, marks & ~7) for key, state, marks in snapshot.namespaces[0].table.rows() if key in expected}
        for snapshot in (one, two)
    ]
    assert rows[0] == rows[1]
    listeners = [
        {
            (found.address, found.port, found.queue)
            for found in snapshot.namespaces[0].listeners
            if found.port in {pair[1].getsockname()[1] for pair in pairs}
        }
        for snapshot in (one, two)
    ]
    assert len(listeners[0]) == 3 and listeners[0] == listeners[1]


OWN_NETWORK = 'ip link set lo up && ip addr add 192.0.2.7/32 dev lo && ip addr add 2001:db8::7/128 dev lo && exec "$@"'


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_addresses_are_the_same_by_netlink_and_proc(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the same connections are judged. In a network of its own: in this one links come and go."""

    def told() -> list[str]:
        agent = open_probe(python, ["unshare", "-n", "sh", "-c", OWN_NETWORK, "sh"])
        agent.start(())
        found = sorted(address.show(one.address) for one in agent.first_look(()).namespaces[0].addresses)
        agent.close()
        return found

    by_netlink = told()
    refuse_netlink(monkeypatch)
    assert told() == by_netlink == ["127.0.0.1", "192.0.2.7", "2001:db8::7", "::1"]


def test_a_port_filter_passes_either_side(
    way: str, python: str, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    ports = tuple(sorted({pairs[0][1].getsockname()[1], pairs[8][1].getsockname()[1]}))
    agent, snapshot = started(python, ports)
    agent.close()
    rows = {key for key, _, _ in snapshot.namespaces[0].table.rows()}
    expected = {key_of(one) for pair in pairs if pair[1].getsockname()[1] in ports for one in pair}
    assert rows >= expected  # a neighbour's connection may have had the port before us
    assert all({address.split_key(key)[1], address.split_key(key)[3]} & set(ports) for key in rows)
    (own, *_) = snapshot.namespaces
    assert {one.port for one in own.listeners} == set(ports) and own.other_listeners.isdisjoint(ports)
    listening = {pair[1].getsockname()[1] for pair in pairs}
    assert own.other_listeners >= listening - set(ports)


def test_it_counts_bytes_as_the_sockets_themselves_do(
    python: str, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    """struct tcp_info by getsockopt, and the send queue by SIOCOUTQ; all sockets, then those of a port."""
    full = pairs[4][0]
    full.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            full.send(bytes(65536))
    agent, _ = started(python)

    def by_both() -> tuple[dict[bytes, Count], dict[bytes, Count]] | None:
        """What the sockets count and what the probe says, once nothing has moved meanwhile."""
        before = {key_of(one): counts_by_getsockopt(one) for pair in pairs for one in pair}
        told = dict(row for block in agent.counts(()) for row in block.counts())
        after = {key_of(one): counts_by_getsockopt(one) for pair in pairs for one in pair}
        return (after, told) if before == after else None

    expected, found = until(by_both)  # type: ignore[misc]
    assert {one: found.get(one) for one in expected} == expected
    assert found[key_of(full)][2] > 0
    port = pairs[8][1].getsockname()[1]
    found = dict(row for block in agent.counts((port,)) for row in block.counts())
    assert {one for one in expected if port in address.split_key(one)[1::2]} <= found.keys() < expected.keys()
    agent.close()


def counts_by_getsockopt(one: socket.socket) -> tuple[int, int, int]:
    info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    queued = fcntl.ioctl(one, termios.TIOCOUTQ, bytes(4))
    return (*struct.unpack_from("=QQ", info, 120), *struct.unpack("=i", queued))


def test_a_kernel_that_counts_no_bytes_gives_no_counters() -> None:
    """Rows of one length whose tcp_info lies elsewhere, is too short, or is not there."""

    def row(*attributes: tuple[int, int]) -> bytes:
        parts = [struct.pack("=HH", 4 + size, kind) + bytes(size) for kind, size in attributes]
        return bytes(88) + b"".join(parts)

    plain, moved, old, none = row((8, 4), (2, 280)), row((2, 280), (8, 4)), row((8, 4), (2, 104)), row((8, 4))
    assert with_info(memoryview(plain * 3), len(plain)) == [(100, memoryview(plain * 3))]
    assert [info for info, _ in with_info(memoryview(plain + moved + plain), len(plain))] == [100, 92, 100]
    assert not with_info(memoryview(old * 2), len(old)) and not with_info(memoryview(none), len(none))


def test_it_names_the_holders_and_reads_counters(python: str, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    agent, _ = started(python)
    inode = os.fstat(pairs[0][0].fileno()).st_ino
    found, _ = agent.owners([inode, 1])
    assert found[inode].pid == os.getpid() and 1 not in found
    began = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    age = float(Path("/proc/uptime").read_text().split()[0]) - began
    assert found[inode].stopped is False and age - PATIENCE < (found[inode].age_s or -1) <= age
    counters, sysctls = agent.evidence()
    told = counters.get(NAMESPACE_AGE)  # the first process may not show where it is
    assert told is None or 0 <= told <= float(Path("/proc/uptime").read_text().split()[0])
    assert {"ListenOverflows", "SyncookiesSent", "OutRsts"} <= counters.keys()
    assert sysctls["somaxconn"] > 0
    agent.close()


def test_a_namespace_is_as_old_as_the_first_process_that_is_seen_in_it() -> None:
    path = f"/proc/{os.getpid()}/ns/net"
    (_, age), own = state_and_age(os.getpid()), Path(path).stat().st_ino
    assert age_of_namespace(own, path) in (age, b"%d" % (int(age) + 1))
    assert age_of_namespace(own + 1, path) is None and age_of_namespace(own, "/run/netns/other") is None


def test_it_ends_with_its_channel(python: str) -> None:
    agent, _ = started(python)
    channel = agent.channel
    assert isinstance(channel, PipeChannel) and channel.process.stdin
    channel.process.stdin.close()
    assert channel.process.wait(PATIENCE) == 0


def test_a_print_breaks_no_frame(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    amend(monkeypatch, "name = os.uname()", "name = os.uname(); print('noise', flush=True)")
    agent, snapshot = started(python)
    assert snapshot.facts is not None
    agent.close()


def test_a_fault_of_the_probe_is_an_answer(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    amend(monkeypatch, "paths = [", "paths = 1 // 0, [")
    agent, _ = started(python)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        agent.evidence()
    agent.close()


def test_it_dies_if_nobody_asks_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PATIENCE < IDLE_LIMIT <= 3600
    amend(monkeypatch, f"IDLE_LIMIT = {IDLE_LIMIT}", "IDLE_LIMIT = 2")
    agent, _ = started(list(PYTHONS.values())[-1])
    channel = agent.channel
    assert isinstance(channel, PipeChannel)
    assert channel.process.wait(PATIENCE) == -signal.SIGALRM
    agent.close()


def test_listeners_that_share_a_port_are_told_apart(way: str, python: str) -> None:
    with socket.socket() as one, socket.socket() as two:
        for listener in (one, two):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(("127.0.0.1", one.getsockname()[1] if listener is two else 0))
            listener.listen(8)
        port = one.getsockname()[1]
        agent, snapshot = started(python, (port,))
        agent.close()
        inodes = {os.fstat(listener.fileno()).st_ino for listener in (one, two)}
    assert {found.inode for found in snapshot.namespaces[0].listeners} == inodes and way


@pytest.mark.parametrize(
    "names", ["../kernel/hostname", "core/../../kernel/hostname", "core/som axconn", "core/\0", "é", "x\n" * 101]
)
def test_no_name_of_a_sysctl_leads_elsewhere(names: str) -> None:
    agent, _ = started(list(PYTHONS.values())[-1])
    with pytest.raises(HostError, match="names of sysctls"):
        agent.ask_more(wire.EVIDENCE, struct.pack(">HQ", 1, 0) + names.encode())
    assert agent.evidence()[1]["somaxconn"] > 0  # and it goes on
    agent.close()
