"""A link with latency: carries the packets of two TUN devices, each some time after it was sent. Standard library only.

    relay.py PID PID DEVICE SECONDS

Makes a TUN device in the network namespace of each process, says so on stdout, and carries until stdin ends. It
changes no packet and makes none up; what it cannot hold or deliver is lost, as on any link.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from pathlib import Path

Packets = deque[tuple[float, bytes]]
"""Under way: (when it is due, packet)."""

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
HELD = 50_000  # packets under way in one direction
AT_ONCE = 64  # packets read or written before the other descriptors get their turn


def tun(pid: int, device: str) -> int:
    """A new TUN device in the network namespace of a process."""
    with Path(f"/proc/{pid}/ns/net").open() as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to the network of {pid}")
    made = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(made, TUNSETIFF, struct.pack("16sH14x", device.encode(), IFF_TUN | IFF_NO_PI))
    return made


def carry(one: int, two: int, delay: float) -> None:
    """Until stdin ends."""
    ways: list[tuple[int, int, Packets]] = [(one, two, deque()), (two, one, deque())]
    while True:
        due = [packets[0][0] for _, _, packets in ways if packets]
        wait = max(0.0, min(due) - time.monotonic()) if due else None
        readable = select.select([0, one, two], [], [], wait)[0]
        if 0 in readable and not os.read(0, 100):
            return
        for source, target, packets in ways:
            if source in readable:
                take(source, packets, delay)
            for _ in range(AT_ONCE):
                if not packets or packets[0][0] > time.monotonic():
                    break
                with contextlib.suppress(OSError):
                    os.write(target, packets.popleft()[1])


def take(source: int, packets: Packets, delay: float) -> None:
    """Takes in what has been sent."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(AT_ONCE):
            packet = os.read(source, 1 << 16)
            if len(packets) < HELD:
                packets.append((time.monotonic() + delay, packet))


if __name__ == "__main__":
    near, far = (tun(int(pid), sys.argv[3]) for pid in sys.argv[1:3])
    print("ready", flush=True)
    carry(near, far, float(sys.argv[4]))
