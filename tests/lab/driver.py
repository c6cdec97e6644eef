"""Runs inside a lab host and holds its sockets: JSON lines in, JSON lines out. Standard library only.

A request is {"call": name of a function below, "args": [...]}; sockets are named by the numbers that calls return.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import sys
import threading
import time

TCP_REPAIR = 19
held: dict[int, socket.socket] = {}


def keep(one: socket.socket) -> int:
    held[one.fileno()] = one
    return one.fileno()


def name(one: socket.socket, which: str) -> str:
    """`10.7.0.1:40000` or `[fd07::1]:40000`, canonical: mapped as IPv4, no scope."""
    host, port = (one.getsockname() if which == "local" else one.getpeername())[:2]
    host = host.split("%")[0].removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolve(host: str, port: int) -> tuple[int, tuple]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return found[0], found[4]


def listen(host: str, port: int, backlog: int, dual: bool = False) -> int:
    family, address = resolve(host, port)
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
    one.bind(address)
    one.listen(backlog)
    return keep(one)


def connect(
    host: str, port: int, count: int = 1, wait: float = 2.0, source: tuple[str, int] | None = None
) -> list[int]:
    """Starts connecting and returns once all are established, or after `wait` seconds."""
    family, address = resolve(host, port)
    made = []
    for _ in range(count):
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setblocking(False)
        if source:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(resolve(*source)[1])
        with contextlib.suppress(BlockingIOError):
            one.connect(address)
        made.append(keep(one))
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline and any(state(one) == 2 for one in made):
        time.sleep(0.005)
    return made


def accept(listener: int, count: int = 1) -> list[int]:
    return [keep(held[listener].accept()[0]) for _ in range(count)]


def state(number: int) -> int:
    return held[number].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def names(numbers: list[int], which: str) -> list[str]:
    return [name(held[one], which) for one in numbers]


def local(numbers: list[int]) -> list[str]:
    return names(numbers, "local")


def peers(numbers: list[int]) -> list[str]:
    return names(numbers, "peer")


def send(numbers: list[int], size: int) -> None:
    for one in numbers:
        held[one].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            held[one].send(b"x" * size)


def receive(numbers: list[int]) -> int:
    return sum(len(held[one].recv(1 << 20)) for one in numbers)


def vanish(numbers: list[int]) -> None:
    """The socket is gone and its peer is not told: what a crash leaves behind (tcp_close in repair mode)."""
    for one in numbers:
        held[one].setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        held.pop(one).close()


def reset(numbers: list[int]) -> None:
    for one in numbers:
        held[one].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        held.pop(one).close()


def close(numbers: list[int]) -> None:
    for one in numbers:
        held.pop(one).close()


def shutdown(numbers: list[int]) -> None:
    for one in numbers:
        held[one].shutdown(socket.SHUT_WR)


def keepalive(numbers: list[int]) -> None:
    for one in numbers:
        held[one].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def churn_server(host: str, port: int, seconds: float) -> None:
    """Accepts and closes when the client has closed, in a thread, until the time is over."""
    os.nice(-10)  # the load is the premise: it must not fall behind because the machine has other things to do
    listener = held[listen(host, port, 4096)]
    listener.setblocking(False)

    def work() -> None:
        selector = selectors.DefaultSelector()
        selector.register(listener, selectors.EVENT_READ)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key, _ in selector.select(0.2):
                if key.fileobj is listener:
                    try:
                        one, _ = listener.accept()
                    except OSError:
                        continue
                    selector.register(one, selectors.EVENT_READ)
                else:
                    try:
                        data = key.fileobj.recv(100)  # type: ignore[union-attr]
                    except OSError:
                        data = b""
                    if not data:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
        listener.close()

    threading.Thread(target=work, daemon=True).start()


def churn_client(host: str, port: int, rate: int, seconds: float) -> None:
    """Opens, greets and closes `rate` connections a second, a few milliseconds after each other."""
    os.nice(-10)
    family, address = resolve(host, port)

    def work() -> None:
        begin = time.monotonic()
        opened: list[socket.socket] = []
        made = 0
        while (now := time.monotonic() - begin) < seconds:
            while made < now * rate:
                one = socket.socket(family, socket.SOCK_STREAM)
                one.setblocking(False)
                try:
                    one.connect(address)
                except BlockingIOError:
                    pass
                except OSError:
                    one.close()
                    made += 1
                    continue
                opened.append(one)
                made += 1
                churned[0] = made
            while len(opened) > 40:
                opened.pop(0).close()
            time.sleep(0.004)
        for one in opened:
            one.close()

    threading.Thread(target=work, daemon=True).start()


churned = [0]


def churn_made() -> int:
    return churned[0]


def reuse(host: str, port: int, source: list, every: float, seconds: float) -> None:
    """One tuple over and over: connects from a fixed port, is reset, and connects again."""
    family, address = resolve(host, port)

    def work() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            one = socket.socket(family, socket.SOCK_STREAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                one.bind(resolve(*source)[1])
                one.connect(address)
                time.sleep(every)
            except OSError:
                time.sleep(0.01)
            one.close()

    threading.Thread(target=work, daemon=True).start()


def pid() -> int:
    return os.getpid()


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": globals()[request["call"]](*request["args"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
