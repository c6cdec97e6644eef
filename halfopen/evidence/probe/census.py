"""The answer to HOLDERS -> what one host holds, grouped by holders, direction, port and state. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from halfopen import address
from halfopen.evidence.probe.frames import (
    FIELDS,
    Frame,
    broken,
    decode_fields,
    missing_rows,
    number,
    split_fields,
)
from halfopen.evidence.probe.proc import decode_process
from halfopen.evidence.probe.tables import Sockets
from halfopen.evidence.text.parsed import ParsedText
from halfopen.model import ListenSocket, Process
from halfopen.tcp import State, number_of, state_of

HOLDERS, PROCESSES = 20, 22


class Group(Struct, frozen=True):
    """Connection sockets that are alike in all these fields.

    `pids` is the exact set of processes that hold them, empty where none was found. `port` is the local one if
    `inbound`, else the peer's. `waiting` is family and local address of what waits in an accept queue.
    """

    state: State
    inbound: bool
    has_inode: bool
    port: int
    uid: int
    sockets: int
    descriptors: int
    pids: tuple[int, ...] = ()
    waiting: tuple[int, bytes] | None = None


class Listening(Struct, frozen=True):
    """A LISTEN socket, who holds it, and by how many descriptors."""

    socket: ListenSocket
    descriptors: int
    pids: tuple[int, ...] = ()


class Census(Struct, frozen=True):
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
    """The payload of HOLDERS: a process or all, ports or all."""
    return struct.pack(f">I{len(ports)}H", pid or 0, *ports)


def decode(frames: Sequence[Frame], count: int, ports: Sequence[int]) -> Census:
    """The answer to HOLDERS -> Census, without the names of processes. HostError for what the probe does not send."""
    sockets, fields, got = Sockets((4, 4)), [], 0
    for frame in frames:
        if frame.type == FIELDS:
            fields += split_fields(frame.payload)
        else:
            got += sockets.add(frame)
    if got != count:
        raise missing_rows(got, count)
    values = dict(fields)
    if "no-such-process" in values:
        return Census((), (), {}, 0, exists=False)
    holders = holders_of(value for name, value in fields if name == "held")
    wanted = frozenset(ports)
    parsed = sockets.parsed_text()
    listening = sockets.listeners if parsed is None else parsed.listeners
    listeners = tuple(
        Listening(socket, len(held), tuple(sorted(set(held))))
        for socket in listening
        if not wanted or socket.port in wanted
        for held in [holders.get(socket.inode or 0, [])]
    )
    low, high = ephemeral(values.get("ephemeral", b""))
    direction = Direction(
        wanted, frozenset((socket.port, socket.family, socket.address) for socket in listening), low, high
    )
    groups = grouped(rows_of(sockets) if parsed is None else rows_of_text(parsed), holders, direction)
    closed, elsewhere = (number(values.get(name)) or 0 for name in ("unreadable", "elsewhere"))
    return Census(listeners, groups, {}, closed, elsewhere)


def holders_of(fields: Iterable[bytes]) -> dict[int, list[int]]:
    """Fields `held` -> inode of a socket -> pids of those who hold it, one for each descriptor."""
    found: dict[int, list[int]] = {}
    for value in fields:
        if len(value) < 4 or len(value) % 8 != 4:
            raise broken("a holder is cut")
        pid, *inodes = struct.unpack(f">I{len(value) // 8}Q", value)
        for inode in inodes:
            found.setdefault(inode, []).append(pid)
    return found


def ephemeral(raw: bytes) -> tuple[int, int]:
    """net.ipv4.ip_local_port_range, first and last port; where it was not sent, the default of Linux."""
    low, high = (*map(number, raw.split()), None, None)[:2]
    return (low, high) if low is not None and high is not None else (32768, 60999)


def rows_of(sockets: Sockets) -> Iterator[Row]:
    """The connections of a dump whose further columns are user and inode."""
    for block, columns in zip(sockets.blocks, sockets.more, strict=True):
        numbers = (memoryview(column).cast("I") for column in columns)
        for (key, state, _), uid, inode in zip(block.rows(), *numbers, strict=True):
            yield block.family, key, state, uid, inode


def rows_of_text(parsed: ParsedText) -> Iterator[Row]:
    """The connections of a text of /proc, as `rows_of` gives them."""
    for socket in parsed.sockets.values():
        yield socket.family, socket.key, number_of(socket.state), socket.uid or 0, socket.inode or 0


class Direction(Struct, frozen=True):
    """Whether a connection came in or went out: by its listener, and where that has gone, by the range of ports."""

    ports: frozenset[int]
    listening: frozenset[tuple[int, int, bytes]]
    low: int
    high: int

    def inbound(self, family: int, local: bytes, port: int, peer_port: int) -> bool:
        """Whether this host is the server of a connection."""
        if port in self.ports or {(port, family, local), (port, family, ANY[family])} & self.listening:
            return True
        return not self.low <= port <= self.high and self.low <= peer_port <= self.high


def grouped(rows: Iterable[Row], holders: Mapping[int, list[int]], direction: Direction) -> tuple[Group, ...]:
    """Connections -> groups of those alike. A group's port is the local one of what came in, else the peer's."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for family, key, state, uid, inode in rows:
        local, port, _, peer_port = address.split_key(key)
        if direction.ports and direction.ports.isdisjoint((port, peer_port)):
            continue
        held = holders.get(inode, []) if inode else []
        inbound = direction.inbound(family, local, port, peer_port)
        waiting = (family, local) if not inode and state in ACCEPTED else None
        pids = tuple(sorted(set(held)))
        found = sums.setdefault(
            (state, inbound, inode != 0, port if inbound else peer_port, 0 if pids else uid, pids, waiting), [0, 0]
        )
        found[0] += 1
        found[1] += len(held)
    groups = []
    for (number_of_state, inbound, has_inode, port, uid, pids, waiting), (count, descriptors) in sums.items():
        tcp_state = state_of(number_of_state)
        assert tcp_state is not None  # rows have only states that TCP has
        groups.append(Group(tcp_state, inbound, has_inode, port, uid, count, descriptors, pids, waiting))
    return tuple(groups)


def encode_pids(found: Census) -> bytes:
    """The payload of PROCESSES: all pids that hold a socket that was counted."""
    holding = [group.pids for group in found.groups] + [listening.pids for listening in found.listeners]
    pids = sorted({pid for pids in holding for pid in pids})
    return struct.pack(f">{len(pids)}I", *pids)


def decode_processes(frames: Sequence[Frame], count: int) -> dict[int, Process]:
    """The answer to PROCESSES -> pid -> process."""
    named = [decode_process(value) for name, value in decode_fields(frames, count) if name == "process"]
    return {process.pid: process for process in named}


Row = tuple[int, bytes, int, int, int]
"""(family, key, state number, uid, inode)"""

ANY = {2: bytes(4), 10: bytes(16)}
ACCEPTED = (number_of(State.ESTABLISHED), number_of(State.CLOSE_WAIT))
"""States in which a socket without an inode waits in an accept queue."""
