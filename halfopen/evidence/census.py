"""The answer to COUNT -> what one host holds, grouped on the host by holders, direction, port and state. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from halfopen import address
from halfopen.evidence.frames import broken, needed, text
from halfopen.evidence.kernel import MESSAGE, decode_listener, without_backlog
from halfopen.evidence.wire import NAME_LIMIT, unit_of
from halfopen.model import Collector, ListenSocket, Process
from halfopen.tcp import State, state_of

COUNT = 20
GROUP = struct.Struct(">BBBHIIII")


@dataclass(frozen=True, slots=True)
class Group:
    """Connection sockets alike in all of this.

    `pids` is the exact set of processes that hold them, empty where none was found. `port` is the local one if
    `inbound`, else the peer's; None where there were too many to tell apart. `waiting` is family and local address of
    what waits in an accept queue, as the kernel wrote them.
    """

    state: State
    inbound: bool
    has_inode: bool
    port: int | None
    uid: int
    sockets: int
    descriptors: int
    pids: tuple[int, ...] = ()
    waiting: tuple[int, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Listening:
    """A LISTEN socket, who holds it, by how many descriptors, and its local address as the kernel wrote it."""

    socket: ListenSocket
    raw: bytes
    descriptors: int
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Census:
    """All that was counted. `closed` is the number of processes that could not be looked into, `elsewhere` that of the
    network namespaces beside the one that was counted, as far as they could be seen.
    """

    listeners: tuple[Listening, ...]
    groups: tuple[Group, ...]
    processes: Mapping[int, Process]
    closed: int
    elsewhere: int = 0
    exists: bool = True  # the process that was asked for


def encode_question(pid: int | None, ports: Sequence[int]) -> bytes:
    """The payload of COUNT: a process or all, ports or all."""
    return struct.pack(f">I{len(ports)}H", pid or 0, *ports)


def decode(fields: Sequence[tuple[str, bytes]], collector: Collector) -> Census:
    """Fields of the answer -> Census. HostError for what the probe does not send."""
    listeners, groups, processes, closed, elsewhere, exists = [], [], {}, 0, 0, True
    for name, value in fields:
        if name == "listener":
            listeners.append(listening(value, collector))
        elif name == "group":
            groups.append(group(value))
        elif name == "process":
            one = process(value)
            processes[one.pid] = one
        elif name == "unreadable":
            closed = needed(value)
        elif name == "elsewhere":
            elsewhere = needed(value)
        elif name == "no-such-process":
            exists = False
    return Census(tuple(listeners), tuple(groups), processes, closed, elsewhere, exists)


def listening(value: bytes, collector: Collector) -> Listening:
    """One `listener` field: inet_diag_msg, number of descriptors, pids."""
    if len(value) < MESSAGE.size + 4 or len(value) % 4:
        raise broken("a listener is cut")
    found = decode_listener(MESSAGE.unpack_from(value))
    if collector is Collector.PROCFS:
        found = without_backlog(found)
    descriptors, *pids = struct.unpack_from(f">{(len(value) - MESSAGE.size) // 4}I", value, MESSAGE.size)
    return Listening(found, value[8:24], descriptors, tuple(pids))


def group(value: bytes) -> Group:
    """One `group` field."""
    if len(value) < GROUP.size:
        raise broken("a group is cut")
    number_of_state, inbound, inode, port, uid, sockets, descriptors, count = GROUP.unpack_from(value)
    state, rest = state_of(number_of_state), value[GROUP.size :]
    if state is None or state is State.LISTEN or not sockets:
        raise broken("a group of a state that connections do not have")
    if len(rest) not in (4 * count, 4 * count + 17):
        raise broken("a group is cut")
    waiting = (rest[4 * count], rest[4 * count + 1 :]) if len(rest) > 4 * count else None
    pids = struct.unpack_from(f">{count}I", rest)
    return Group(state, bool(inbound), bool(inode), port or None, uid, sockets, descriptors, pids, waiting)


def process(value: bytes) -> Process:
    """One `process` field: pid, and the texts of comm, cmdline and cgroup."""
    if len(value) < 10:
        raise broken("a process is cut")
    pid, comm, command, cgroup = struct.unpack_from(">IHHH", value)
    rest = value[10:]
    if len(rest) != comm + command + cgroup:
        raise broken("a process is cut")
    words = rest[comm : comm + command].rstrip(b"\0").replace(b"\0", b" ")
    return Process(
        pid,
        text(rest[:comm].removesuffix(b"\n"), NAME_LIMIT),
        text(words)[:200] or None,
        unit_of(text(rest[comm + command :])),
    )


def local_address(family: int, raw: bytes) -> bytes:
    """Sixteen bytes of inet_diag_sockid -> canonical address."""
    return raw[:4] if family == 2 else address.canonical(raw)
