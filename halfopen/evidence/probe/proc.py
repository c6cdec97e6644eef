"""Files of /proc, as the probe sends them -> the processes that hold sockets, counters and sysctls. Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from itertools import pairwise

from halfopen.evidence.probe.frames import broken, needed, number, text
from halfopen.evidence.probe.wire import NAME_LIMIT, PROC_LIMIT
from halfopen.model import NAMESPACE_AGE, Process

COUNTER_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]{0,63}")
COUNTER_VALUE = re.compile(rb"-?[0-9]+")
HEAD = struct.Struct(">IHHHH")
STOPPED = (b"T", b"t")  # by a signal, by a debugger


def decode_owners(fields: Sequence[tuple[str, bytes]]) -> tuple[dict[int, Process], int]:
    """The answer to OWNERS -> inode -> process, and how many processes could not be read."""
    found: dict[int, Process] = {}
    unreadable = 0
    for name, value in fields:
        if name == "unreadable":
            unreadable = needed(value)
        elif name == "owner":
            if len(value) < 8:
                raise broken("an owner is cut")
            found[int.from_bytes(value[:8], "big")] = decode_process(value[8:])
    return found, unreadable


def decode_process(value: bytes) -> Process:
    """A pid, and the facts of its process: lengths of comm, cmdline, cgroup and of state and age, and these."""
    if len(value) < HEAD.size:
        raise broken("a process is cut")
    pid, *lengths = HEAD.unpack_from(value)
    if len(value) != HEAD.size + sum(lengths):
        raise broken("a process is cut")
    parts, at = [], HEAD.size
    for length in lengths:
        parts.append(value[at : at + length])
        at += length
    comm, command, cgroup, clock = parts
    words = command.rstrip(b"\0").replace(b"\0", b" ")
    state, _, age = clock.partition(b" ")
    return Process(
        pid,
        text(comm.removesuffix(b"\n"), NAME_LIMIT),
        text(words, PROC_LIMIT)[:200] or None,
        unit_of(text(cgroup, PROC_LIMIT)),
        is_stopped(state),
        number(age),
    )


def is_stopped(state: bytes) -> bool | None:
    """Whether the state letter of a process (proc(5)) says that it is stopped; None if there is none."""
    return state in STOPPED if state else None


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

    Among the counters is the age of each namespace, NAMESPACE_AGE in seconds, where it is known.
    Fields after a `netns` that is not 0 belong to another namespace: their names begin with its inode and a slash.
    """
    counters: dict[str, int] = {}
    sysctls: dict[str, int] = {}
    where = ""
    for path, value in fields:
        if path == "netns":
            where = f"{netns}/" if (netns := needed(value)) else ""
        elif path == "age":
            counters[where + NAMESPACE_AGE] = needed(value)
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
