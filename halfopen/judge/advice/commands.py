"""What is to be typed on a host: each command whole, for one connection, and harmless if it is cut off anywhere.

The end of a line is easily lost when it is copied. So what acts comes last: without its `-K`, `ss` only lists what the
filter before it chose. Where a number decides what is acted on, or a part of the command acts by itself, it is one
quoted word of `sh -c`, which no shell runs before the closing quote.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from halfopen import address
from halfopen.judge.signs.case import Case, HostEvidence
from halfopen.model import Process, Socket
from halfopen.schema.report import Command


def end_now(end: Socket, host: HostEvidence) -> Iterator[Command]:
    """Ends exactly this socket (tcp_diag_destroy): both endpoints, TCP alone, and the interface that it is bound to.

    An IPv4 filter also finds an IPv6 socket with IPv4-mapped addresses (net/ipv4/inet_diag.c, inet_diag_bc_run). UDP
    may use the same ports, and two links the same link-local addresses: where the link is not known, there is no
    command.
    """
    local, local_port, peer, peer_port = address.split_key(end.key)
    if not end.scope and address.is_link_local(local):
        return
    argv = ["ss", "src", address.endpoint(local, local_port), "dst", address.endpoint(peer, peer_port)]
    argv += ["dev", "=", str(end.scope)] if end.scope else []
    yield from there(host, host.owner(end), "end it now", [*argv, "-t", "-K"])


def set_now(host: HostEvidence, holder: Process | None, name: str, value: int) -> Iterator[Command]:
    """Sets a sysctl until the next boot."""
    setting = f"{name}={value}"
    yield from there(host, holder, f"set {name} until the next boot", in_one(["sysctl", "-w", setting]))


def see_program(host: HostEvidence, process: Process | None, why: str) -> Iterator[Command]:
    """Shows where a program waits: its own stack where its runtime tells it, else the kernel's of its main thread. One
    that is stopped is to be continued.

    jstack sends SIGQUIT, which ends a program that is not a JVM.
    """
    if process is None:
        return
    kind = process.name.rstrip("0123456789.")
    if process.stopped:
        why, argv = "let it go on", in_one(["kill", "-CONT", str(process.pid)])
    elif kind == "java":
        argv = in_one(["jstack", str(process.pid)])
    elif kind == "python":
        argv = ["py-spy", "dump", "--pid", str(process.pid)]
    else:
        argv = ["cat", f"/proc/{process.pid}/stack"]
    yield Command(host=host.name, root=True, why=why, argv=tuple(argv))


def see_filters(case: Case) -> Iterator[Command]:
    """Shows where each host sends the packets of a connection, and what its packet filter does with them."""
    for host, holder, key, side in sides(case):
        _, _, peer, _ = address.split_key(key)
        # A link-local address leads nowhere without an interface.
        route = [] if address.is_link_local(peer) else [["ip", "route", "get", address.show(peer)]]
        asked = "; ".join(shlex.join(argv) for argv in [*route, ["nft", "list", "ruleset"], ["conntrack", "-S"]])
        yield from there(host, holder, f"see where the {side}'s host sends it, and what it drops", ["sh", "-c", asked])


def capture(case: Case) -> Iterator[Command]:
    """Shows the packets of a connection at both ends; at best at once."""
    for host, holder, key, side in sides(case):
        local, local_port, peer, peer_port = address.split_key(key)
        hosts = f"host {address.show(local)} and host {address.show(peer)}"
        argv = ["tcpdump", "-c", "100", "-nni", "any", f"{hosts} and tcp port {local_port} and port {peer_port}"]
        yield from there(host, holder, f"see its packets at the {side}'s end", argv)


def sides(case: Case) -> Iterator[tuple[HostEvidence, Process | None, bytes, str]]:
    """Each end of a connection, whether it is there or not: its host, a process beside it, its tuple, its role."""
    held = case.held
    yield case.client, case.client.owner(held.client), held.suspect.client.key, "client"
    holder = case.server.owner(held.server) or case.listener_process
    yield case.server, holder, held.suspect.server.key, "server"


def there(host: HostEvidence, holder: Process | None, why: str, argv: list[str]) -> Iterator[Command]:
    """A command for root in the network namespace of an end. Another than the host's own is entered by a process in it;
    where none is known, there is no such command.
    """
    if host.netns is not None:
        if holder is None:
            return
        argv = in_one(["nsenter", "--target", str(holder.pid), "--net", *argv])  # which by itself starts a shell
    yield Command(host=host.name, root=True, why=why, argv=tuple(argv))


def in_one(argv: list[str]) -> list[str]:
    """A command as one quoted word."""
    return ["sh", "-c", shlex.join(argv)]
