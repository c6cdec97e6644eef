"""Files of /proc, as the probe sends them -> the processes that hold sockets, counters and sysctls. Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from itertools import pairwise

from halfopen.evidence.probe.frames import broken, needed, number, text
from halfopen.evidence.probe.wire import NAME_LIMIT, PROC_LIMIT
from halfopen.model import Process

COUNTER_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]{0,63}")
COUNTER_VALUE = re.compile(rb"-?[0-9]+")


def decode_owners(fields: Sequence[tuple[str, bytes]]) -> tuple[dict[int, Process], int]:
    """The answer to OWNERS -> inode -> process, and how many processes could not be read."""
    found: dict[int, Process] = {}
    unreadable = 0
    for name, value in fields:
        if name == "unreadable":
            unreadable = needed(value)
        elif name == "owner":
            if len(value) < 18:
                raise broken("an owner is cut")
            inode, pid, comm, command, cgroup = struct.unpack_from(">QIHHH", value)
            if len(value) != 18 + comm + command + cgroup:
                raise broken("an owner is cut")
            rest = value[18:]
            words = rest[comm : comm + command].rstrip(b"\0").replace(b"\0", b" ")
            found[inode] = Process(
                pid,
                text(rest[:comm].removesuffix(b"\n"), NAME_LIMIT),
                text(words, PROC_LIMIT)[:200] or None,
                unit_of(text(rest[comm + command :], PROC_LIMIT)),
            )
    return found, unreadable


def unit_of(cgroup: str) -> str | None:
    """The container or systemd unit that /proc/PID/cgroup names: its last telling path component."""
    for line in cgroup.splitlines():
        for part in reversed(line.rpartition(":")[2].split("/")):
            bare = part.removesuffix(".scope")
            for prefix in ("docker-", "cri-containerd-", "crio-", "libpod-"):
                bare = bare.removeprefix(prefix)
            if len(bare) == 64 and all(digit in "0123456789abcdef" for digit in bare):
                return f"container {bare[:12]}"
            if part.endswith(".service"):
                return part
    return None


def decode_evidence(fields: Sequence[tuple[str, bytes]]) -> tuple[dict[str, int], dict[str, int]]:
    """The answer to EVIDENCE -> counters (names as `nstat` prints them without prefix) and sysctls by last word.

    Fields after a `netns` that is not 0 belong to another namespace: their names begin with its inode and a slash.
    """
    counters: dict[str, int] = {}
    sysctls: dict[str, int] = {}
    where = ""
    for path, value in fields:
        if path == "netns":
            where = f"{netns}/" if (netns := needed(value)) else ""
        elif path in ("/proc/net/netstat", "/proc/net/snmp"):
            counters |= {where + name: count for name, count in decode_counters(value).items()}
        elif path.startswith("/proc/sys/"):
            found = number(value)
            if found is not None:
                sysctls[where + path.rpartition("/")[2]] = found
    return counters, sysctls


def decode_counters(table: bytes) -> dict[str, int]:
    """/proc/net/netstat and snmp: pairs of lines, names and numbers; TCP's only. HostError for what is neither."""
    lines = table.split(b"\n")
    found: dict[str, int] = {}
    for names, values in pairwise(lines):
        head = names.partition(b":")[0]
        if head not in (b"TcpExt", b"Tcp") or values.partition(b":")[0] != head:
            continue
        for name, value in zip(names.split()[1:], values.split()[1:], strict=False):
            # Each pair of lines is one of values and names too, seen from the next.
            if COUNTER_VALUE.fullmatch(name):
                continue
            count = number(value.removeprefix(b"-"))
            if not COUNTER_NAME.fullmatch(name) or count is None:
                raise broken("a counter that is none of Linux")
            found[text(name, NAME_LIMIT)] = -count if value.startswith(b"-") else count  # Tcp: MaxConn is -1
    return found
