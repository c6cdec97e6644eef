"""Recipes that break TCP for real. Each leaves `COUNT` connections in a state that follows from how it was made.

A recipe gets a Scene and returns the truth. Packets are dropped at their receiver, by port, so that other scenes of the
same lab go on undisturbed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.host import LabHost
from lab.tool import Truth, truth
from lab.waiting import until
from msgspec import Struct

COUNT = 3
FIN_WAIT2, CLOSE = 5, 7  # as the kernel numbers states (include/net/tcp_states.h)


class Scene(Struct):
    """A client's and a server's program on two hosts (or one), and where the one dials the other."""

    client_host: LabHost
    server_host: LabHost
    client: Any
    server: Any
    dial: str
    bind: str
    port: int
    dual: bool = False

    def listen(self, backlog: int = 64) -> int:
        """The server's listener."""
        listener: int = self.server.listen(self.bind, self.port, backlog, self.dual)
        return listener

    def connected(self) -> tuple[list[int], list[int]]:
        """Accepted connections: the client's sockets and the server's."""
        listener = self.listen()
        clients = self.client.connect(self.dial, self.port, COUNT)
        return clients, self.server.accept(listener, COUNT)

    def ends(self, clients: list[int]) -> tuple[list[str], list[str]]:
        """Endpoints of the client's sockets: their own, and what they dialled."""
        local = self.client.local(clients)
        host = f"[{self.dial.partition('%')[0]}]" if ":" in self.dial else self.dial
        return local, [f"{host}:{self.port}"] * len(local)

    def to_server(self, what: str) -> None:
        """Drops what the client sends."""
        self.server_host.drop(f"tcp dport {self.port} {what}")

    def to_client(self, what: str) -> None:
        """Drops what the server sends."""
        self.client_host.drop(f"tcp sport {self.port} {what}")


def server_vanished(scene: Scene) -> Truth:
    """The server's socket is destroyed without a word."""
    clients, servers = scene.connected()
    scene.server.vanish(servers)
    return truth("missing-on-server", *scene.ends(clients))


def client_vanished(scene: Scene) -> Truth:
    """The client's socket is destroyed without a word."""
    clients, _ = scene.connected()
    ends = scene.ends(clients)
    scene.client.vanish(clients)
    return truth("missing-on-client", *ends)


def reset_lost(scene: Scene) -> Truth:
    """The server resets, and a firewall eats the RST."""
    clients, servers = scene.connected()
    scene.to_client("tcp flags rst")
    scene.server.reset(servers)
    return truth("missing-on-server", *scene.ends(clients))


def cookie_orphan(scene: Scene) -> Truth:
    """SYN cookies for all, and the last ACK of the handshake is lost: the server has no trace of it."""
    scene.server_host.sysctl("ipv4/tcp_syncookies", 2)
    scene.listen()
    scene.to_server("tcp flags & (syn|ack|psh|fin|rst) == ack")
    clients = scene.client.connect(scene.dial, scene.port, COUNT)
    scene.server_host.sysctl("ipv4/tcp_syncookies", 1)
    return truth("missing-on-server", *scene.ends(clients))


def stuck_in_syn_recv(scene: Scene) -> Truth:
    """The last ACK of the handshake is lost each time: a request socket against an established client."""
    scene.listen()
    scene.to_server("tcp flags & (syn|ack|psh|fin|rst) == ack")
    clients = scene.client.connect(scene.dial, scene.port, COUNT)
    return truth("handshake-stuck", *scene.ends(clients))


def never_accepted(scene: Scene) -> Truth:
    """The program listens and does not accept."""
    scene.listen()
    return truth("never-accepted", *scene.ends(scene.client.connect(scene.dial, scene.port, COUNT)))


def half_closed(scene: Scene) -> Truth:
    """The client has closed its side, the server keeps its own."""
    clients, _ = scene.connected()
    scene.client.shutdown(clients)
    until(lambda: {scene.client.state(one) for one in clients} == {FIN_WAIT2})
    return truth("half-closed", *scene.ends(clients))


def abandoned_close(scene: Scene) -> Truth:
    """The client has closed, nothing of its socket is left, and the server's program never closes.

    The end of the client's wait is made by hand: whether the kernel keeps an orphan, or resets at once, depends on how
    many others the whole machine has (net.ipv4.tcp_max_orphans).
    """
    clients, _ = scene.connected()
    ends = scene.ends(clients)
    scene.client.shutdown(clients)
    until(lambda: {scene.client.state(one) for one in clients} == {FIN_WAIT2})
    scene.client.vanish(clients)
    return truth("abandoned-close", *ends)


def fin_lost(scene: Scene) -> Truth:
    """The client closes, and no FIN arrives."""
    clients, _ = scene.connected()
    scene.to_server("tcp flags & fin == fin")
    scene.client.shutdown(clients)
    return truth("close-lost", *scene.ends(clients))


def unanswered(scene: Scene) -> Truth:
    """No SYN arrives."""
    scene.listen()
    scene.to_server("tcp flags & (syn|ack) == syn")
    return truth("connect-unanswered", *scene.ends(scene.client.connect(scene.dial, scene.port, COUNT, 0.0)))


def embryonic(scene: Scene) -> Truth:
    """The server answers a SYN whose sender is gone, and nobody tells it."""
    scene.listen()
    scene.to_client("tcp flags & (syn|ack) == (syn|ack)")
    clients = scene.client.connect(scene.dial, scene.port, COUNT, 0.0)
    ends = scene.ends(clients)
    until(lambda: [scene.server_host.ss().get(pair[::-1]) for pair in zip(*ends, strict=True)] == ["SYN-RECV"] * COUNT)
    scene.client.close(clients)
    return truth("embryonic", *ends)


def closing_alone(scene: Scene) -> Truth:
    """The client closes towards a server that has vanished, and what it sends is lost."""
    clients, servers = scene.connected()
    scene.to_server("")
    scene.server.vanish(servers)
    scene.client.shutdown(clients)
    return truth("closing-alone", *scene.ends(clients))


def tuple_reused(scene: Scene) -> Truth:
    """The client's host lost its sockets and dials again from the same ports; the server still has the old ones."""
    listener = scene.listen()
    clients: list[int] = []
    while len(clients) < COUNT:
        (client,) = scene.client.connect(scene.dial, scene.port, 1)
        scene.server.accept(listener, 1)
        port = scene.client.local([client])[0].rpartition(":")[2]
        # The kernel may give a port to connections to several peers; such a one cannot be bound again.
        if len(scene.client_host.run("ss", "-Htan", f"sport = :{port}").splitlines()) == 1:
            clients.append(client)
    ends = scene.ends(clients)
    scene.to_server("tcp flags & (syn|ack) == syn")
    scene.client.vanish(clients)
    for local in ends[0]:
        host, _, port = local.rpartition(":")
        scope = "%data" if host.startswith("[fe80") else ""
        source = (host.strip("[]") + scope, int(port))
        scene.client.connect(scene.dial, scene.port, 1, 0.0, source)
    return truth("desynchronized", *ends)


def healthy(scene: Scene) -> Truth:
    """Nothing is wrong: idle, with keepalive, and with bytes that nobody has read yet."""
    clients, servers = scene.connected()
    scene.client.keepalive(clients[:1])
    scene.client.send(clients[1:2], 1000)
    scene.server.send(servers[2:3], 1000)
    return set()


FAULTS: dict[str, Callable[[Scene], Truth]] = {
    recipe.__name__: recipe
    for recipe in (
        server_vanished,
        client_vanished,
        reset_lost,
        cookie_orphan,
        stuck_in_syn_recv,
        never_accepted,
        half_closed,
        abandoned_close,
        fin_lost,
        unanswered,
        embryonic,
        closing_alone,
        tuple_reused,
        healthy,
    )
}
