"""Runs inside a lab host and holds its sockets: JSON lines in, JSON lines out. Standard library only.

A request is {"call": name of a function below, "args": [...]}; sockets are named by the numbers that calls return.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import selectors
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # it is started by its path

from lab.waiting import PATIENCE, until

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR_OPTIONS, TCP_REPAIR_WINDOW = 19, 20, 21, 22, 29
TCP_FASTOPEN, TCP_USER_TIMEOUT = 23, 18
held: dict[int, socket.socket] = {}


def keep(one: socket.socket) -> int:
    held[one.fileno()] = one
    return one.fileno()


def name(one: socket.socket, which: str) -> str:
    """`10.7.0.1:40000` or `[fd07::1]:40000`, canonical: mapped as IPv4, no scope."""
    host, port = (one.getsockname() if which == "local" else one.getpeername())[:2]
    host = host.split("%")[0].removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolve(host: str, port: int) -> tuple[int, tuple[Any, ...]]:
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
    host: str, port: int, count: int = 1, wait: float | None = None, source: tuple[str, int] | None = None
) -> list[int]:
    """Starts connecting and returns once all are established; after `wait` seconds at most, where some will not be."""
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
    with contextlib.nullcontext() if wait is None else contextlib.suppress(AssertionError):
        until(lambda: all(state(one) != 2 for one in made), PATIENCE if wait is None else wait, 0.005)
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


def receive(numbers: list[int], size: int) -> None:
    """Waits for so many bytes on each, and reads no more."""
    for one in numbers:
        held[one].settimeout(PATIENCE)
        left = size
        while left:
            data = held[one].recv(left)
            if not data:
                raise EOFError(f"{left} of {size} bytes are missing")
            left -= len(data)


def unread(numbers: list[int]) -> list[int]:
    """Bytes that have come in on each and that nobody has read."""
    return [struct.unpack("i", fcntl.ioctl(held[one], termios.FIONREAD, bytes(4)))[0] for one in numbers]


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


def probe_often(numbers: list[int]) -> None:
    """A keepalive probe each second, and no end of them for a minute."""
    for one in numbers:
        for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 60)):
            held[one].setsockopt(socket.IPPROTO_TCP, option, value)
    keepalive(numbers)


def user_timeout(numbers: list[int], ms: int) -> None:
    for one in numbers:
        held[one].setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, ms)


def options(numbers: list[int]) -> list[list[int]]:
    """Of each whether it keeps alive and how, its user timeout, and whether it blocks."""
    kept = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, TCP_USER_TIMEOUT)
    return [
        [
            held[one].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            *(held[one].getsockopt(socket.IPPROTO_TCP, option) for option in kept),
            int(held[one].getblocking()),
        ]
        for one in numbers
    ]


def silent_ms(numbers: list[int]) -> int:
    """For how long the least silent has sent no data and heard nothing (tcpi_last_data_sent, data_recv, ack_recv)."""
    infos = [held[one].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60) for one in numbers]
    return min(int(struct.unpack_from("=I", info, at)[0]) for info in infos for at in (44, 52, 56))


def sent_segments(numbers: list[int]) -> list[int]:
    """How many segments each has sent (tcpi_segs_out)."""
    infos = [held[one].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 140) for one in numbers]
    return [struct.unpack_from("=I", info, 136)[0] for info in infos]


def reads(numbers: list[int]) -> list[str]:
    """What a program gets that reads now: the name of an error, or of the end, or how many bytes."""
    found = []
    for one in numbers:
        held[one].setblocking(False)
        try:
            found.append(str(len(held[one].recv(1 << 16))))
        except OSError as error:
            found.append(type(error).__name__)
    return found


def chatter(numbers: list[int], every: float, seconds: float) -> None:
    """Sends a byte on each again and again, in a thread, until the time is over."""

    def work() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            send(numbers, 1)
            time.sleep(every)

    threading.Thread(target=work, daemon=True).start()


def relay(port: int, host: str, target: int) -> None:
    """Takes connections on a port of this host, dials the target for each, and carries bytes between the two."""
    family, address = resolve(host, target)
    listener = held[listen("0.0.0.0", port, 64)]

    def carry(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(4096):
                other.sendall(data)

    def work() -> None:
        while True:
            near = listener.accept()[0]
            far = socket.socket(family, socket.SOCK_STREAM)
            far.connect(address)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=carry, args=pair, daemon=True).start()

    threading.Thread(target=work, daemon=True).start()


def defer(listener: int, seconds: int) -> None:
    """Nothing is accepted before its client has sent a byte, or this has passed."""
    held[listener].setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, seconds)


def churn_server(host: str, port: int, seconds: float) -> None:
    """Accepts and closes when the client has closed, in a thread, until the time is over."""
    hurry()
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


def churn_client(host: str, port: int, rate: int, seconds: float, at_once: int = 40) -> None:
    """Opens and closes `rate` connections a second, a few milliseconds after each other, so many of them open at once.

    What it falls behind it does not make up for: a burst overflows the machine's own queues (netdev_max_backlog), and
    a connection whose packets were lost is half-open in truth.
    """
    hurry()
    family, address = resolve(host, port)

    def work() -> None:
        last = time.monotonic()
        end, due = last + seconds, 0.0
        opened: list[socket.socket] = []
        while last < end:
            now = time.monotonic()
            due, last = min(due + (now - last) * rate, rate / 50), now
            while due >= 1:
                due -= 1
                one = socket.socket(family, socket.SOCK_STREAM)
                one.setblocking(False)
                try:
                    one.connect(address)
                except BlockingIOError:
                    pass
                except OSError:
                    one.close()
                    continue
                opened.append(one)
                churned[0] += 1
            while len(opened) > at_once:
                opened.pop(0).close()
            time.sleep(0.004)
        for one in opened:
            one.close()

    threading.Thread(target=work, daemon=True).start()


churned = [0]


def churn_made() -> int:
    return churned[0]


def reuse(host: str, port: int, source: list[Any], every: float, seconds: float) -> None:
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


def hurry() -> None:
    """Goes before other programs of the machine: what it does at once is the premise."""
    os.nice(-10)


def be(name: str) -> None:
    """Goes by this name in the host's list of processes."""
    Path("/proc/self/comm").write_text(name)


def fill(numbers: list[int]) -> None:
    """Writes until no more goes in, and none a little later: the peer's window may still grow."""
    while sum([pour(held[one]) for one in numbers]):
        time.sleep(0.2)


def pour(one: socket.socket) -> int:
    """Writes until no more goes in now; how many bytes that were."""
    one.setblocking(False)
    poured = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            poured += one.send(b"x" * 65536)
    return poured


def pour_all(numbers: list[int], size: int) -> None:
    """Writes so many bytes in a thread, as fast as they are read."""

    def work(one: socket.socket) -> None:
        one.setblocking(True)
        one.sendall(bytes(size))

    for number in numbers:
        threading.Thread(target=work, args=(held[number],), daemon=True).start()


def urgent(numbers: list[int]) -> None:
    for one in numbers:
        held[one].send(b"!", socket.MSG_OOB)


def pump(numbers: list[int], seconds: float) -> None:
    """Sends and reads as fast as it goes, both ways, in two threads a socket, until the time is over.

    It gives way to other programs of the machine, which would starve beside it.
    """
    end = time.monotonic() + seconds
    os.nice(10)

    def work(one: socket.socket, act: Callable[[], int]) -> None:
        one.settimeout(0.5)
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                moved[0] += act()

    for one in (held[number] for number in numbers):
        for act in (partial(one.send, b"x" * 65536), partial(receive_some, one)):
            threading.Thread(target=work, args=(one, act), daemon=True).start()


def receive_some(one: socket.socket) -> int:
    return len(one.recv(1 << 16))


moved = [0]


def pumped() -> int:
    """Bytes that went in and out of all pumps so far."""
    return moved[0]


def fast_open(host: str, port: int, size: int) -> int:
    """Connects with data in the SYN, if there is a cookie for that host."""
    family, address = resolve(host, port)
    one = socket.socket(family, socket.SOCK_STREAM)
    one.sendto(b"x" * size, socket.MSG_FASTOPEN, address)
    return keep(one)


def take_fast_open(listener: int) -> None:
    held[listener].setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)


def restore(numbers: list[int]) -> list[int]:
    """Checkpoints each socket, ends it, and makes another that goes on in its place, as CRIU does."""
    made = []
    for number in numbers:
        old = held.pop(number)
        tcp = socket.IPPROTO_TCP
        old.setsockopt(tcp, TCP_REPAIR, 1)
        sequences = []
        for queue in (1, 2):
            old.setsockopt(tcp, TCP_REPAIR_QUEUE, queue)
            sequences.append(old.getsockopt(tcp, TCP_QUEUE_SEQ))
        family, ends = old.family, (old.getsockname(), old.getpeername())
        window = old.getsockopt(tcp, TCP_REPAIR_WINDOW, 20)
        old.close()
        new = socket.socket(family, socket.SOCK_STREAM)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        new.setsockopt(tcp, TCP_REPAIR, 1)
        new.bind(ends[0])
        for queue, sequence in zip((1, 2), sequences, strict=True):
            new.setsockopt(tcp, TCP_REPAIR_QUEUE, queue)
            new.setsockopt(tcp, TCP_QUEUE_SEQ, sequence)
        new.setsockopt(tcp, TCP_REPAIR_QUEUE, 0)
        new.connect(ends[1])
        new.setsockopt(tcp, TCP_REPAIR_OPTIONS, struct.pack("IIIIII", 2, 1400, 3, 7 | 7 << 16, 4, 0))
        new.setsockopt(tcp, TCP_REPAIR_WINDOW, window)
        new.setsockopt(tcp, TCP_REPAIR, 0)
        made.append(keep(new))
    return made


def pid() -> int:
    return os.getpid()


def fork(keep_open: list[int]) -> int:
    """A child that holds these sockets too, and none of the others; its pid."""
    ready, done = os.pipe()
    child = os.fork()
    if child:
        os.close(done)
        os.read(ready, 1)  # until the child has closed it, after all the others
        os.close(ready)
        return child
    for one in (*set(held) - set(keep_open), ready, done):
        os.close(one)
    while True:
        time.sleep(3600)


def twice(number: int) -> int:
    """One more descriptor of the same socket."""
    return keep(held[number].dup())


def listen_shared(host: str, port: int, backlog: int) -> int:
    """One of several listeners on a port (SO_REUSEPORT)."""
    family, address = resolve(host, port)
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(address)
    one.listen(backlog)
    return keep(one)


def main() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": globals()[request["call"]](*request["args"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
