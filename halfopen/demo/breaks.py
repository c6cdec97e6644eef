"""Breaks connections on loopback for real, with nothing but backlogs that are too small.

Two addresses of loopback play the two hosts. What was made follows from arithmetic: clients that are established, less
those that were accepted, less those that wait in the accept queue, are half-open.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections import Counter

from msgspec import Struct, field

from halfopen.schema.report import Verdict

# Below those that clients get (ip_local_port_range): a connection of another program from such a port would pass for
# one to the listener, as when two demos run at once.
PORTS = range(20_000, 30_000)
CLIENT, SERVER = "127.0.1.1", "127.0.2.1"
HALF_OPEN = (Verdict.MISSING_ON_SERVER, Verdict.HANDSHAKE_STUCK)
ESTABLISHED, SYN_SENT = 1, 2


class Stage(Struct):
    """Sockets that must stay open while somebody looks, and what they must be, given how they were made.

    made: "half-open" -> connections that the client has and the server does not; the others by verdict.
    """

    sockets: list[socket.socket] = []
    made: Counter[str] = field(default_factory=Counter)
    ports: list[int] = []

    def listen(self, backlog: int) -> socket.socket:
        """A listener of the server, on a port of its own."""
        listener = socket.socket()
        for port in random.sample(PORTS, len(PORTS)):
            try:
                listener.bind((SERVER, port))
                break
            except OSError:
                continue  # another program uses it
        listener.listen(backlog)
        self.ports.append(listener.getsockname()[1])
        self.sockets.append(listener)
        return listener

    def connect(self, listener: socket.socket, count: int) -> list[socket.socket]:
        """Clients that have sent their SYN."""
        found = []
        for _ in range(count):
            client = socket.socket()
            client.setblocking(False)
            client.bind((CLIENT, 0))
            client.connect_ex(listener.getsockname())
            found.append(client)
        self.sockets += found
        return found

    def accept(self, listener: socket.socket, count: int) -> list[socket.socket]:
        """The server's ends of that many connections."""
        found = [listener.accept()[0] for _ in range(count)]
        self.sockets += found
        return found

    def close(self) -> None:
        """Ends all of it by reset, so that nothing lingers in TIME_WAIT."""
        for end in self.sockets:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


def build() -> Stage:
    """All recipes at once, because they wait for the same retransmission of a SYN, one second later."""
    stage = Stage()
    healthy = stage.listen(64)
    stage.connect(healthy, 40)
    stage.accept(healthy, 40)
    stage.made["healthy"] = 40

    closed = stage.listen(8)
    leaving = stage.connect(closed, 3)
    stage.accept(closed, 3)
    for client in leaving:
        client.shutdown(socket.SHUT_WR)
    stage.made[Verdict.HALF_CLOSED] = 3

    # Accepting some makes room in a full queue; then all SYNs are retransmitted at once, and they are more than fit.
    recipes: list[tuple[socket.socket, list[socket.socket], int]] = []
    for backlog, dialled, taken in ((1, 6, 2), (4, 9, 1)):
        listener = stage.listen(backlog)
        recipes.append((listener, stage.connect(listener, dialled), len(stage.accept(listener, taken))))
    waiting = [client for _, clients, _ in recipes for client in clients]
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and any(state(client) == SYN_SENT for client in waiting):
        time.sleep(0.02)
    for listener, clients, done in recipes:
        established = sum(state(client) == ESTABLISHED for client in clients)
        queued = accept_queue(listener)
        stage.made["half-open"] += established - done - queued
        stage.made[Verdict.NEVER_ACCEPTED] += queued
        stage.made[Verdict.CONNECT_UNANSWERED] += sum(state(client) == SYN_SENT for client in clients)
        stage.made["healthy"] += done
    return stage


def state(end: socket.socket) -> int:
    """The kernel's number of a socket's state (struct tcp_info)."""
    return end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def accept_queue(listener: socket.socket) -> int:
    """How many wait to be accepted: tcpi_unacked of a listener (net/ipv4/tcp.c tcp_get_info)."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int(struct.unpack_from("=I", info, 24)[0])


def found_of(counts: Counter[Verdict], agreeing: int) -> Counter[str]:
    """What a report counts, in the words of what was made."""
    found: Counter[str] = Counter({"healthy": agreeing, "half-open": sum(counts[verdict] for verdict in HALF_OPEN)})
    for verdict, count in counts.items():
        if verdict not in HALF_OPEN:
            found[verdict] = count
    return +found
