"""Causes that the kernel can be brought to, found as what they were made by; and outlooks, verified by waiting."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from lab.breaks import CLOSE, COUNT, FAULTS, Scene
from lab.host import Lab, LabHost, lab, sh
from lab.tool import assert_exactly, check
from lab.tun import slow_link
from lab.waiting import PATIENCE, until
from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.judge.advice.commands import end_now
from halfopen.judge.signs.case import HostEvidence
from halfopen.model import Socket
from halfopen.tcp import State

PORT = 5000
BYTES = 200_000_000  # a first sequence number advances by 15.6 MB a second
DEFERRED = 1.6  # seconds: longer than it takes until a SYN-ACK would be repeated
SLACK = 2.0  # seconds that a kernel's timers may be late


def scene(made: Lab, family: str = "v4", port: int = PORT) -> Scene:
    """Programs on two hosts whose counters start at nothing."""
    web, db = made["web"], made["db"]
    address = made.v6("db") if family == "v6" else made.v4("db")
    bind = "::" if family == "dual" else address
    return Scene(web, db, web.driver(), db.driver(), address, bind, port, family == "dual")


def scene_of(made: Lab, client: str, server: str) -> Scene:
    """The same for any two hosts of a lab."""
    near, far = made[client], made[server]
    return Scene(near, far, near.driver(), far.driver(), made.v4(server), made.v4(server), PORT)


def diagnosed(made: Lab) -> dict[str, Any]:
    """The one group of a check, with its findings."""
    _, report = check(made, "--port", str(PORT), "--settle", "0.5")
    return one_group(report)


def one_group(report: dict[str, Any]) -> dict[str, Any]:
    """The one group of a report, with its findings, and that both say the same."""
    (group,) = report["groups"]
    assert group["count"] == len(report["findings"])
    for one in report["findings"]:
        codes = [one["cause"]["code"], *(other["code"] for other in one["other_causes"])]
        assert codes == group["causes"] and one["cause"]["evidence"] and one["outlook"]["summary"]
    return {**group, "findings": report["findings"]}


def talked(place: Scene) -> tuple[list[int], list[int]]:
    """Connections on which the client has asked and the server has answered."""
    clients, servers = place.connected()
    place.client.send(clients, 10)
    place.server.receive(servers, 10)
    place.server.send(servers, 20)
    place.client.receive(clients, 20)
    return clients, servers


def at_once(place: Scene) -> Scene:
    """The same over a link with latency: SYNs that leave together are all answered before the first ACK is back."""
    slow_link(place.client_host, place.server_host, ("10.0.1.5", "10.0.2.9"), 0.2)
    return replace(place, dial="10.0.2.9", bind="10.0.2.9")


def overflow_by_cookie(place: Scene) -> None:
    """Six at once to a queue of two, which has room for one request: the others get cookies, and four are too many."""
    place = at_once(place)
    place.listen(1)
    place.client.connect(place.dial, PORT, 6)
    until(lambda: place.server_host.queue(PORT) == 2)


def overflow_by_request(place: Scene) -> Scene:
    """Room for the requests, not for the connections: four in a queue of five, and four more at once."""
    place = at_once(place)
    place.listen(4)
    place.client.connect(place.dial, PORT, 4)
    until(lambda: place.server_host.queue(PORT) == 4)
    place.client.connect(place.dial, PORT, 4)
    until(lambda: place.server_host.queue(PORT) == 5 and len(place.server_host.tries(PORT)) == 3)
    return place


def overflow_given_up(place: Scene) -> None:
    """And the server forgets the requests."""
    place.server_host.sysctl("ipv4/tcp_synack_retries", 1)
    overflow_by_request(place)
    until_given_up(place)


def until_given_up(place: Scene) -> None:
    """Until the server has no request left."""
    until(lambda: "SYN-RECV" not in place.server_host.ss().values())


def last_ack_lost(place: Scene) -> None:
    """And the server has repeated its SYN-ACK."""
    FAULTS["stuck_in_syn_recv"](place)
    until_tried(place.server_host, 1)


def last_ack_lost_for_good(place: Scene) -> None:
    """The server gives up after one more SYN-ACK."""
    place.server_host.sysctl("ipv4/tcp_synack_retries", 1)
    FAULTS["stuck_in_syn_recv"](place)
    until_given_up(place)


def syn_lost(place: Scene) -> None:
    """No SYN arrives, and the client has repeated it often enough for all that it may mean."""
    FAULTS["unanswered"](place)
    until_tried(place.client_host, 2)


def syn_ack_lost(place: Scene) -> None:
    """The server repeats its SYN-ACK, and nobody answers."""
    FAULTS["embryonic"](place)
    until_tried(place.server_host, 1)


def fin_lost(place: Scene) -> None:
    """No FIN arrives, however often it is sent."""
    FAULTS["fin_lost"](place)
    until_tried(place.client_host, 2)


def until_tried(host: LabHost, times: int, count: int = COUNT) -> None:
    """Until each of the connections has sent again so often what nobody answers: from then on it only gets more."""
    until(lambda: sum(one >= times for one in host.tries(PORT)) == count)


def deferred(place: Scene) -> None:
    """TCP_DEFER_ACCEPT, and a client that waits to be spoken to."""
    place.server.defer(place.listen(), 60)
    place.client.connect(place.dial, PORT, COUNT)
    time.sleep(DEFERRED)


def refused_silently(place: Scene) -> None:
    """Nothing listens, and the RST that says so is dropped."""
    place.to_client("tcp flags rst")
    clients = place.client.connect(place.dial, PORT, COUNT, 0.0)
    until_tried(place.client_host, 1)
    assert [place.client.state(one) for one in clients] == [2] * COUNT


def rebooted(place: Scene) -> None:
    """The server's host comes up anew: no sockets, a clock that starts at 0, and the same addresses."""
    clients, servers = place.connected()
    assert clients
    place.server.vanish(servers)
    time.sleep(7)  # at least 5 s longer than the new uptime, which begins at up to 1 s
    restart_clock(place.server_host)


def restart_clock(host: LabHost) -> None:
    """A new sshd whose uptime begins now (time_namespaces(7)), in place of the old one."""
    old = host.run("pgrep", "-xo", "sshd").strip()
    host.run("kill", old)
    until(lambda: not host.listens())
    offset = -int(float(host.run("cat", "/proc/uptime").split()[0]))
    config = str(host.folder / f"{host.name}.sshd")
    command = ["unshare", "-T", "-f", "--boottime", str(offset), "--mount-proc", "/usr/sbin/sshd", "-D", "-e", "-f"]
    host.start(*command, config, stderr=subprocess.DEVNULL)
    until(host.listens)


def sends_into_the_void(place: Scene) -> None:
    """The server is gone, and what the client writes is lost."""
    clients, servers = talked(place)
    place.server.vanish(servers)
    place.to_server("")
    place.client.send(clients, 100)
    until(lambda: sum(one >= 2 for one in place.client_host.tries(place.port)) == COUNT)


def resets_that_never_arrive(place: Scene) -> None:
    """The server is gone; its kernel answers each write with a RST, and a firewall eats them.

    Writes back off, and may all fall beside a look. One connection has nothing to write and asks every second, so that
    a try falls between any two looks.
    """
    for name, value in (("time", 1), ("intvl", 1), ("probes", 127)):
        place.client_host.sysctl(f"ipv4/tcp_keepalive_{name}", value)
    clients, servers = talked(place)
    place.to_client("tcp flags rst")
    place.server.vanish(servers)
    place.client.keepalive(clients[:1])
    place.client.send(clients[1:], 100)
    until(lambda: place.client_host.tries(PORT, "keepalive") >= [2])
    until(lambda: sum(one >= 2 for one in place.client_host.tries(PORT)) == COUNT - 1)


def probes_in_vain(place: Scene) -> None:
    """Both ends are there and have nothing to say; the client's keepalive has no answer."""
    for name, value in (("time", 1), ("intvl", 1), ("probes", 127)):
        place.client_host.sysctl(f"ipv4/tcp_keepalive_{name}", value)
    clients, _ = talked(place)
    place.to_server("")
    place.client.keepalive(clients)
    until(lambda: sum(one >= 3 for one in place.client_host.tries(PORT, "keepalive")) == COUNT)


def timed_out(place: Scene) -> None:
    """The path was dead for a while: the server gave up, and the client never sent anything."""
    place.server_host.sysctl("ipv4/tcp_retries2", 2)
    clients, servers = talked(place)
    assert clients
    place.to_client("")
    place.server.send(servers, 100)
    until(lambda: not place.server_host.ss())
    place.client_host.undrop()


def forgotten(place: Scene) -> None:
    """The client's own conntrack forgets after 2 s of silence, and drops the RST of what it does not know."""
    host = place.client_host
    host.run("nft", "add table inet lab; add chain inet lab in { type filter hook input priority 0; }")
    host.run("nft", f"add rule inet lab in tcp sport {PORT} ct state invalid drop")
    host.sysctl("netfilter/nf_conntrack_tcp_timeout_established", 2)
    host.sysctl("netfilter/nf_conntrack_tcp_loose", 0)
    _, servers = talked(place)
    time.sleep(3)  # at least, for the silence has to be longer than 2 s
    until(lambda: not host.run("conntrack", "-L", "-p", "tcp", "--dport", str(PORT)))
    place.server.reset(servers)


def unread(place: Scene) -> None:
    """The server does not read, and the client's FIN waits behind what does not fit."""
    clients, _ = place.connected()
    place.client.fill(clients)
    place.client.shutdown(clients)
    until(lambda: len(place.client_host.tries(PORT, "persist")) == COUNT)


def left_behind(place: Scene) -> list[tuple[str, int]]:
    """Connections that the server closed first, so that it keeps them in TIME_WAIT; what the client's ends were.

    They carried more bytes than a new connection's first sequence number is ahead by within seconds (RFC 6528), and no
    timestamps: a new SYN from the same port is not taken for a new connection (RFC 9293, 3.10.7.4).
    """
    place.server_host.sysctl("ipv4/tcp_timestamps", 0)
    place.server_host.sysctl("ipv4/tcp_rfc1337", 1)  # a RST does not end TIME_WAIT
    clients, servers = place.connected()
    places = [end.rpartition(":") for end in place.client.local(clients)]
    for client, server in zip(clients, servers, strict=True):
        place.client.pour_all([client], BYTES)
        place.server.receive([server], BYTES)
    place.server.close(servers)
    place.client.close(clients)
    until(lambda: place.server_host.run("ss", "-Htan", "state", "time-wait").count(f":{PORT} ") == COUNT)
    return [(host, int(port)) for host, _, port in places]


def dialled_over_it(place: Scene) -> None:
    """What is left behind answers each SYN, and takes none."""
    for source in left_behind(place):
        place.client.connect(place.dial, PORT, 1, 0.0, source)


def syn_lost_over_it(place: Scene) -> None:
    """The SYN is lost: what is left behind has nothing to do with it."""
    sources = left_behind(place)
    place.to_server("tcp flags & (syn|ack) == syn")
    for source in sources:
        place.client.connect(place.dial, PORT, 1, 0.0, source)
    until(lambda: min(place.client_host.tries(PORT), default=0) >= 3)


MADE: dict[str, tuple[Callable[[Scene], object], str, list[str]]] = {
    "overflow by cookie": (overflow_by_cookie, "missing-on-server", ["accept-queue-overflow"]),
    "overflow by request": (overflow_by_request, "handshake-stuck", ["accept-queue-overflow"]),
    "overflow given up": (overflow_given_up, "missing-on-server", ["accept-queue-overflow"]),
    "cookie's ACK lost": (FAULTS["cookie_orphan"], "missing-on-server", ["syn-cookie-ack-lost"]),
    "last ACK lost": (last_ack_lost, "handshake-stuck", ["final-ack-lost"]),
    "last ACK lost for good": (last_ack_lost_for_good, "missing-on-server", ["final-ack-lost"]),
    "deferred": (deferred, "handshake-stuck", ["deferred-accept"]),
    "refused silently": (refused_silently, "connect-unanswered", ["connection-refused-silently"]),
    "SYN lost": (syn_lost, "connect-unanswered", ["connection-refused-silently", "path-dead"]),
    "rebooted": (rebooted, "missing-on-server", ["peer-rebooted"]),
    "server vanished": (FAULTS["server_vanished"], "missing-on-server", ["peer-vanished"]),
    "client vanished": (FAULTS["client_vanished"], "missing-on-client", ["peer-vanished"]),
    "RST lost": (FAULTS["reset_lost"], "missing-on-server", ["reset-lost"]),
    "RSTs lost now": (resets_that_never_arrive, "missing-on-server", ["reset-lost", "path-dead"]),
    "forgotten by a firewall": (forgotten, "missing-on-server", ["reset-lost", "middlebox-forgot"]),
    "written into the void": (sends_into_the_void, "missing-on-server", ["path-dead", "peer-vanished"]),
    "keepalive in vain": (probes_in_vain, "stalled", ["path-dead"]),
    "given up while the path was dead": (timed_out, "missing-on-server", ["path-dead"]),
    "FIN lost": (fin_lost, "close-lost", ["path-dead"]),
    "SYN-ACK lost": (syn_ack_lost, "embryonic", ["path-dead"]),
    "not accepted": (FAULTS["never_accepted"], "never-accepted", ["application-not-accepting"]),
    "not closed": (FAULTS["half_closed"], "half-closed", ["application-not-closing"]),
    "not closed, and nobody left": (FAULTS["abandoned_close"], "abandoned-close", ["application-not-closing"]),
    "not read": (unread, "close-lost", ["application-not-reading"]),
    "dialled over what is left": (dialled_over_it, "connect-unanswered", ["tuple-reused"]),
    "SYN lost over what is left": (
        syn_lost_over_it,
        "connect-unanswered",
        ["connection-refused-silently", "path-dead"],
    ),
    "port used again": (FAULTS["tuple_reused"], "desynchronized", ["tuple-reused"]),
}


def nstat(host: LabHost, counter: str) -> str:
    """A counter of a host since boot, by the kernel's own tool."""
    return next(line.split()[1] for line in host.run("nstat", "-asz", counter).splitlines() if counter in line)


@pytest.mark.parametrize("name", MADE)
def test_a_cause_is_found_as_it_was_made(name: str, fresh_pair: Lab) -> None:
    make, verdict, causes = MADE[name]
    make(scene(fresh_pair))
    settle = "1.5" if name == "RSTs lost now" else "0.5"  # a try has to fall between the looks
    _, report = check(fresh_pair, "--port", str(PORT), "--settle", settle)
    found = [one for one in report["groups"] if one["verdict"] == verdict]
    # The counter is the whole host's: where an SSH login was broken off too, that a RST was lost fits as well.
    broken_off = "reset-lost" not in causes and int(nstat(fresh_pair["db"], "TcpEstabResets")) > 0
    named = [[code for code in one["causes"] if not (broken_off and code == "reset-lost")] for one in found]
    assert named == [causes], report["groups"]
    (group,) = found
    assert {fact["host"] for cause in group["why"] for fact in cause["evidence"]} <= {"web", "db"}
    assert not [one for one in report["findings"] if "unknown" in one["cause"]["code"]]


def test_what_a_closed_connection_left_behind_is_not_told_to_notice_anything(fresh_pair: Lab) -> None:
    dialled_over_it(scene(fresh_pair))
    told = " ".join(diagnosed(fresh_pair)["remedies"])
    assert "net.ipv4.tcp_timestamps" in told and "keepalive" not in told


def test_deferred_is_told_from_overflow_beside_it(fresh_pair: Lab) -> None:
    """Two listeners of one host, so that both have the same counters."""
    other = scene(fresh_pair, port=PORT + 1)
    place = overflow_by_request(scene(fresh_pair))
    other.server.defer(other.listen(), 60)
    other.client.connect(other.dial, other.port, COUNT)
    time.sleep(DEFERRED)
    _, report = check(fresh_pair, "--settle", "0.5")
    stuck = {one["listener"]: one["causes"] for one in report["groups"] if one["verdict"] == "handshake-stuck"}
    assert stuck == {f"{place.dial}:{PORT}": ["accept-queue-overflow"], f"10.7.0.2:{PORT + 1}": ["deferred-accept"]}


def test_the_limit_of_the_queue_is_the_one_that_was_set(fresh_pair: Lab) -> None:
    fresh_pair["db"].sysctl("core/somaxconn", 1)
    place = at_once(scene(fresh_pair))
    place.listen(64)
    place.client.connect(place.dial, PORT, 6)
    until(lambda: fresh_pair["db"].queue(PORT) == 2)
    _, report = check(fresh_pair, "--port", str(PORT), "--settle", "0.5")
    told = " ".join(step for one in report["groups"] for step in one["remedies"])
    assert "raise net.core.somaxconn on db" in told and "caps the backlog at 1, to 4096" in told


@pytest.mark.parametrize("family", ["v4", "v6", "dual"])
def test_the_command_that_ends_a_connection_ends_exactly_that_one(family: str, fresh_pair: Lab) -> None:
    place = scene(fresh_pair, family)
    clients, servers = place.connected()
    place.server.vanish(servers[:2])
    victim = diagnosed(fresh_pair)["findings"][0]
    line = command_that_ends(victim, "web")
    web, all_of_them = fresh_pair["web"], {*zip(*place.ends(clients), strict=True)}
    # Cut off after any character, it ends nothing: the shell of the host is given each.
    cut = "; ".join(f"sh -c {shlex.quote(line[:length])}" for length in range(len(line)))
    web.run("sh", "-c", f"({cut}) >/dev/null 2>&1 </dev/null", check=False)
    assert {pair for pair in web.ss() if pair[1].endswith(f":{PORT}")} == all_of_them
    web.run("sh", "-c", line)
    left = {pair for pair in web.ss() if pair[1].endswith(f":{PORT}")}
    assert left == {pair for pair in all_of_them if pair[0] != victim["client"]["local"]}


def command_that_ends(finding: dict[str, Any], host: str) -> str:
    """The line that a report has for the end of this connection."""
    (command,) = [one for one in finding["commands"] if one["why"].startswith("end it now")]
    assert command["host"] == host and command["root"] and command["argv"][-1] == "-K"
    return shlex.join(command["argv"])


def test_the_command_reaches_an_ipv4_connection_of_a_dual_stack_listener(fresh_pair: Lab) -> None:
    """The socket to end is an IPv6 one with IPv4-mapped addresses."""
    place = scene(fresh_pair, "dual")
    clients, _ = place.connected()
    place.client.vanish(clients)
    victim = diagnosed(fresh_pair)["findings"][0]
    fresh_pair["db"].run("sh", "-c", command_that_ends(victim, "db"))
    left = {pair[1] for pair in fresh_pair["db"].ss() if pair[0].endswith(f":{PORT}")}
    assert len(left) == COUNT - 1 and victim["server"]["peer"] not in left


def test_the_command_spares_udp_with_the_same_addresses_and_ports(fresh_pair: Lab) -> None:
    place = scene(fresh_pair)
    _, servers = place.connected()
    place.server.vanish(servers)
    victim = diagnosed(fresh_pair)["findings"][0]
    local, port = victim["client"]["local"].rsplit(":", 1)
    program = (
        "import socket, sys; made = socket.socket(type=socket.SOCK_DGRAM); "
        f"made.bind(({local!r}, {port})); made.connect(({place.dial!r}, {PORT})); print(flush=True); "
        "sys.stdin.read(); sys.exit(made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))"
    )
    other = fresh_pair["web"].start(sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout and other.stdout.readline()
    fresh_pair["web"].run("sh", "-c", command_that_ends(victim, "web"))
    other.communicate(timeout=5)
    assert other.returncode == 0
    assert (victim["client"]["local"], f"{place.dial}:{PORT}") not in fresh_pair["web"].ss()


def test_the_command_spares_another_link_with_the_same_link_local_addresses(fresh_pair: Lab) -> None:
    web, db = fresh_pair["web"], fresh_pair["db"]
    near, far = (fresh_pair.link_local(name) for name in ("web", "db"))
    sh(*web.enter(), "ip", "link", "add", "data2", "type", "veth", "peer", "name", "moved")
    sh("nsenter", "-t", str(web.pid), "-n", "ip", "link", "set", "moved", "netns", str(db.pid))
    for host, link, own in ((web, "data2", near), (db, "moved", far)):
        host.run("ip", "link", "set", link, "up")
        host.run("ip", "addr", "add", f"{own}/64", "dev", link, "nodad")
    program = (
        "import socket, sys\n"
        "for link in ('data', 'data2'):\n"
        "    one = socket.socket(socket.AF_INET6)\n"
        "    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        f"    one.bind(({near!r}, 40000, 0, socket.if_nametoindex(link)))\n"
        f"    one.connect(({far!r}, {PORT}, 0, socket.if_nametoindex(link)))\n"
        "    globals()[link] = one\n"
        "print(socket.if_nametoindex(link), flush=True)\n"
        "sys.stdin.read()\n"
    )
    db.driver().listen("::", PORT, 16, False)
    held = web.start(sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert held.stdout
    scope = int(held.stdout.readline())
    key = address.make_key(address.parse(near), 40000, address.parse(far), PORT)
    (command,) = end_now(Socket(key, State.ESTABLISHED, 10, scope), HostEvidence("web"))
    web.run("sh", "-c", shlex.join(command.argv))
    left = [line.split()[3] for line in web.run("ss", "-Htn", f"dst [{far}]:{PORT}").splitlines()]
    assert left == [f"[{near}]%data:40000"]


def test_ending_a_request_socket_makes_a_half_open_client(fresh_pair: Lab) -> None:
    """Why the report advises against it."""
    place = scene(fresh_pair)
    expected = FAULTS["stuck_in_syn_recv"](place)
    group = diagnosed(fresh_pair)
    assert any("leave the SYN_RECV on db alone" in one for one in group["remedies"])
    fresh_pair["db"].run("ss", "-K", "state", "syn-recv", f"sport = {PORT}")
    _, report = check(fresh_pair, "--port", str(PORT), "--settle", "0.5")
    assert_exactly(report, {("missing-on-server", client, server) for _, client, server in expected})


class Ending(Struct):
    """A connection that was diagnosed, and how it ended by itself. `gone` is at least, `there` at most the truth."""

    host: LabHost
    port: int
    group: dict[str, Any]
    began: float  # time.monotonic() before the look, and after it
    ended: float

    def lasts(self) -> bool:
        """Whether a connection to the port is left."""
        return any(f":{self.port}" in "".join(pair) for pair in self.host.ss())

    def comes_after(self, least: float, most: float) -> None:
        """Waits for the end, which comes so many seconds after the look, whenever this machine gets to see it."""
        there = asked = self.ended

        def gone() -> bool:
            nonlocal there, asked
            there, asked = asked, time.monotonic()
            return not self.lasts()

        until(gone, most + PATIENCE, 0.1)
        assert time.monotonic() - self.began > least and there - self.ended < most + SLACK


def ending(made: Lab, make: Callable[[Scene, int], LabHost]) -> Ending:
    """What ends by itself, diagnosed before it does: slower each time that this machine was too slow for it."""
    for slower in range(4):
        place = scene(made, port=PORT + slower)
        host, began = make(place, slower), time.monotonic()
        _, report = check(made, "--port", str(place.port), "--settle", "0.5")
        one = Ending(host, place.port, {}, began, time.monotonic())
        if one.lasts():
            return replace(one, group=one_group(report))
    pytest.fail("this machine takes longer for a check than the kernel for what it gives up")


def keepalive_unheard(place: Scene, slower: int) -> LabHost:
    """Keepalive asks, and nothing comes back."""
    for name, value in (("time", 6 << slower), ("intvl", 2), ("probes", 3)):
        place.client_host.sysctl(f"ipv4/tcp_keepalive_{name}", value)
    clients, servers = place.connected()
    place.client.keepalive(clients)
    place.to_server("")
    place.server.vanish(servers)
    return place.client_host


def keepalive_heard(place: Scene, slower: int) -> LabHost:
    """Keepalive asks, and a RST comes back."""
    place.client_host.sysctl("ipv4/tcp_keepalive_time", 6 << slower)
    place.client_host.sysctl("ipv4/tcp_keepalive_intvl", 1)
    clients, servers = place.connected()
    place.client.keepalive(clients)
    place.server.vanish(servers)
    return place.client_host


def written_in_vain(place: Scene, slower: int) -> LabHost:
    """tcp_retries2 = 4: given up 6.2 s after the first repetition at the earliest."""
    place.client_host.sysctl("ipv4/tcp_retries2", 4 + slower)
    sends_into_the_void(place)
    return place.client_host


def orphan(place: Scene, slower: int) -> LabHost:
    """The program is gone, and its FIN is not acknowledged: tcp_orphan_retries."""
    place.client_host.sysctl("ipv4/tcp_orphan_retries", 4 + slower)
    clients, servers = place.connected()
    place.to_server("")
    place.server.vanish(servers)
    place.client.close(clients)
    return place.client_host


def connecting(place: Scene, slower: int) -> LabHost:
    """A connect that nobody answers."""
    place.client_host.sysctl("ipv4/tcp_syn_retries", 2 + slower)
    place.client_host.sysctl("ipv4/tcp_syn_linear_timeouts", 1)
    FAULTS["unanswered"](place)
    return place.client_host


def requested(place: Scene, slower: int) -> LabHost:
    """A request socket whose client is gone."""
    place.server_host.sysctl("ipv4/tcp_synack_retries", 2 + slower)
    FAULTS["embryonic"](place)
    return place.server_host


HEALS = (keepalive_unheard, keepalive_heard, written_in_vain, orphan, connecting, requested)


@pytest.mark.parametrize("make", HEALS, ids=lambda make: make.__name__)
def test_what_is_said_to_heal_does_so_within_the_time_said(
    make: Callable[[Scene, int], LabHost], fresh_pair: Lab
) -> None:
    one = ending(fresh_pair, make)
    outlook = one.group["outlook"]
    assert outlook["code"] == "heals-by-itself" and outlook["summary"].startswith("ends by itself: ")
    assert 0 < outlook["within_s"] < 60
    # The kernel's own time, not a bound that holds anyway: no more than one back-off too long.
    one.comes_after(0 if make is keepalive_heard else outlook["within_s"] / 2, outlook["within_s"])
    _, report = check(fresh_pair, "--port", str(one.port), "--settle", "0.5")
    assert report["outcome"] == "clean"


def test_a_lost_fin_is_given_up_in_the_time_said_and_the_other_end_stays(fresh_pair: Lab) -> None:
    def closes_in_vain(place: Scene, slower: int) -> LabHost:
        place.client_host.sysctl("ipv4/tcp_retries2", 4 + slower)
        FAULTS["fin_lost"](place)
        return place.client_host

    one = ending(fresh_pair, closes_in_vain)
    outlook = one.group["outlook"]
    assert outlook["code"] == "unknown" and outlook["within_s"] is None
    (limit,) = re.findall(r"web gives up what nobody acknowledges within ([\d.]+) s.*; once", outlook["summary"])
    one.comes_after(float(limit) / 2, float(limit))
    _, report = check(fresh_pair, "--port", str(one.port), "--settle", "0.5")
    assert one_group(report)["verdict"] == "missing-on-client"


def test_what_is_said_to_fail_on_the_next_write_does(fresh_pair: Lab) -> None:
    place = scene(fresh_pair)
    clients, servers = talked(place)
    place.server.vanish(servers)
    group = diagnosed(fresh_pair)
    assert group["outlook"]["code"] == "fails-on-next-write"
    time.sleep(2)
    assert {place.client.state(one) for one in clients} == {1}
    place.client.send(clients, 10)
    until(lambda: {place.client.state(one) for one in clients} == {CLOSE})
    for one in clients:
        with pytest.raises(RuntimeError, match="ConnectionResetError"):
            place.client.receive([one], 1)


@pytest.mark.parametrize("who", ["client", "server"])
def test_who_waits_for_an_answer_is_never_told(who: str, fresh_pair: Lab) -> None:
    """A client whose question was taken, a server that has answered: neither has anything to say."""
    place = scene(fresh_pair)
    if who == "client":
        clients, servers = place.connected()
        place.client.send(clients, 10)
        place.server.receive(servers, 10)
        place.server.vanish(servers)
    else:
        clients, _ = talked(place)
        place.client.vanish(clients)
    assert diagnosed(fresh_pair)["outlook"]["code"] == "never"
    time.sleep(2)
    left = fresh_pair["web" if who == "client" else "db"].ss()
    assert len([pair for pair in left if f":{PORT}" in str(pair)]) == COUNT


def test_a_byte_within_two_minutes_brings_a_cookie_to_life(fresh_pair: Lab) -> None:
    place = scene(fresh_pair)
    place.server_host.sysctl("ipv4/tcp_syncookies", 2)
    listener = place.listen()
    place.to_server("tcp flags & (syn|ack|psh|fin|rst) == ack")
    clients = place.client.connect(place.dial, PORT, COUNT)
    group = diagnosed(fresh_pair)
    assert group["outlook"]["code"] == "never" and "within two minutes" in group["outlook"]["summary"]
    place.server_host.undrop()
    place.client.send(clients, 1)
    assert len(place.server.accept(listener, COUNT)) == COUNT
    _, report = check(fresh_pair, "--port", str(PORT), "--settle", "0.5")
    assert report["outcome"] == "clean" and report["connections"] == COUNT


def test_the_first_byte_ends_a_deferral(fresh_pair: Lab) -> None:
    place = scene(fresh_pair)
    listener = place.listen()
    place.server.defer(listener, 60)
    clients = place.client.connect(place.dial, PORT, COUNT)
    time.sleep(DEFERRED)
    assert diagnosed(fresh_pair)["outlook"]["code"] == "heals-by-itself"
    place.client.send(clients, 1)
    place.server.accept(listener, COUNT)
    _, report = check(fresh_pair, "--port", str(PORT), "--settle", "0.5")
    assert report["outcome"] == "clean" and report["connections"] == COUNT


def test_a_full_queue_that_stands_still_while_clients_are_turned_away_is_critical(fresh_pair: Lab) -> None:
    place = scene(fresh_pair)
    listener = place.listen(1)
    waiting = place.client.connect(place.dial, PORT, 2)
    turned_away = place.client.connect(place.dial, PORT, 2, 0.0)
    until_tried(place.client_host, 1, len(turned_away))
    code, report = check(fresh_pair, "--port", str(PORT), "--settle", "0.5")
    told = {one["verdict"]: (one["count"], one["severity"], one["causes"]) for one in report["groups"]}
    assert told == {
        "never-accepted": (2, "critical", ["application-not-accepting", "accept-queue-overflow"]),
        "connect-unanswered": (2, "critical", ["accept-queue-overflow"]),
    }
    assert code == 1 and len(waiting) == 2
    assert len(place.server.accept(listener, 2)) == 2


def test_a_queue_that_moves_has_no_finding(fresh_pair: Lab) -> None:
    """One of many that wait is accepted every tenth of a second."""
    place = scene(fresh_pair)
    listener = place.listen(200)
    place.client.connect(place.dial, PORT, 150)
    done = Event()

    def accepts() -> None:
        while not done.wait(0.1):
            place.server.accept(listener, 1)

    worker = Thread(target=accepts)
    worker.start()
    try:
        code, report = check(fresh_pair, "--port", str(PORT), "--settle", "0.5")
    finally:
        done.set()
        worker.join()
    assert fresh_pair["db"].queue(PORT) > 0, "this machine took so long that all were accepted"
    assert (code, report["outcome"], report["findings"]) == (0, "clean", [])


def test_a_program_that_is_stopped_is_continued_by_the_command(fresh_pair: Lab) -> None:
    place = scene(fresh_pair)
    listener = place.listen()
    host = fresh_pair["db"]
    (pid,) = {*re.findall(r"pid=(\d+)", host.run("ss", "-Htlnp", f"sport = :{PORT}"))}
    host.run("kill", "-STOP", pid)
    try:
        place.client.connect(place.dial, PORT, COUNT)
        group = diagnosed(fresh_pair)
        (command,) = [one for one in group["commands"] if "CONT" in " ".join(one["argv"])]
        assert f"(pid {pid}) is stopped (state T" in group["why"][0]["summary"]
        host.run(*command["argv"])
        assert len(place.server.accept(listener, COUNT)) == COUNT
    finally:
        host.run("kill", "-CONT", pid)


def test_a_program_that_was_started_anew_has_lost_what_the_one_before_it_had(fresh_pair: Lab) -> None:
    place = scene(fresh_pair)
    _, servers = talked(place)
    before = place.server
    before.vanish(servers)
    before.process.stdin.close()
    before.process.wait(PATIENCE)
    time.sleep(3)  # at least: the new program has to be younger than the silence
    replace(place, server=fresh_pair["db"].driver()).listen()
    assert diagnosed(fresh_pair)["causes"][0] == "peer-vanished"


def test_an_address_that_moved_is_named_with_its_old_owner(tmp_path: Path) -> None:
    """Who took it over has come up since, and never was the peer."""
    vip = "10.7.0.99"
    with lab(tmp_path, "web", "db1", "db2") as made:
        made["db1"].run("ip", "addr", "add", f"{vip}/24", "dev", "data")
        place = replace(scene_of(made, "web", "db1"), dial=vip, bind=vip)
        talked(place)
        time.sleep(7)  # at least 5 s longer than the new uptime, which begins at up to 1 s
        made["db1"].run("ip", "addr", "del", f"{vip}/24", "dev", "data")
        made["db2"].run("ip", "addr", "add", f"{vip}/24", "dev", "data")
        restart_clock(made["db2"])
        made["db2"].driver().listen(vip, PORT, 16, False)
        _, report = check(made, "--port", str(PORT), "--settle", "0.5", client="web", server="db*")
    told = {one["why"][0]["summary"] for one in report["groups"] if one["verdict"] == "missing-on-server"}
    assert told == {f"{vip} has moved from db1 to db2, which never had this connection"}, report["groups"]
    assert "peer-rebooted" not in str(report["groups"])


def test_what_its_own_packet_filter_keeps_in_is_said_to_stay_there(fresh_pair: Lab) -> None:
    """The kernel cannot send, so it probes as if the window were closed; but the window is open."""
    place = scene(fresh_pair)
    clients, _ = talked(place)
    web = fresh_pair["web"]
    web.run("nft", "add table inet lab; add chain inet lab out { type filter hook output priority 0; }")
    web.run("nft", f"add rule inet lab out tcp dport {PORT} drop")
    place.client.send(clients, 100)
    until(lambda: sum(one >= 3 for one in web.tries(PORT, "persist")) == COUNT)
    group = diagnosed(fresh_pair)
    assert (group["verdict"], group["causes"]) == ("stalled", ["path-dead"])
    assert "OUTPUT" in group["why"][0]["summary"] and "web" in group["why"][0]["summary"]
    assert "closed window" not in str(group)
