"""Whole tables of sockets, as the probe sends them -> namespaces, and the byte counters of their sockets. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe.frames import (
    BLOCK,
    FIELDS,
    LISTENERS,
    TEXT,
    Frame,
    broken,
    inflate,
    missing_rows,
    needed,
    split_fields,
    text,
)
from halfopen.evidence.probe.hello import decode_namespace, with_addresses_of
from halfopen.evidence.probe.kernel import MESSAGE, decode_listener
from halfopen.evidence.probe.reach import decode_local_routes, decode_reach, with_routes
from halfopen.evidence.probe.wire import TEXT_LIMIT
from halfopen.model import InterfaceAddress, ListenSocket, Namespace
from halfopen.table import Block, CountBlock, Table

if TYPE_CHECKING:
    from halfopen.evidence.text.parsed import ParsedText

ROW_LIMIT = 20_000_000
CONNECTION_STATES = frozenset(range(1, 13)) - {10}


class Sockets(Struct):
    """The frames of one network namespace so far: columns and listeners of netlink, or text of /proc.

    `columns`: widths of the further columns of its blocks, in bytes a row; `more` has these columns, one list a block.
    """

    columns: tuple[int, ...] = ()
    fields: list[tuple[str, bytes]] = []
    blocks: list[Block] = []
    more: list[list[bytes]] = []
    listeners: list[ListenSocket] = []
    texts: dict[int, list[bytes]] = {}
    size: int = 0  # bytes of text so far

    def add(self, frame: Frame) -> int:
        """One BLOCK, LISTENERS or TEXT frame; the number of its rows or lines."""
        if frame.type == BLOCK:
            block, more = decode_columns(frame.payload, self.columns)
            self.blocks.append(block)
            self.more.append(more)
            return len(block)
        if frame.type == LISTENERS:
            data = inflate(frame.payload)
            if len(data) % MESSAGE.size:
                raise broken("a listener is cut")
            self.listeners += [decode_listener(message) for message in MESSAGE.iter_unpack(data)]
            return len(data) // MESSAGE.size
        if frame.type == TEXT and frame.payload and frame.payload[0] in (2, 10):
            chunk = inflate(frame.payload[1:])
            self.size += len(chunk)
            if self.size > TEXT_LIMIT:
                raise HostError(ErrorCode.TOO_LARGE, f"the host sends more than {TEXT_LIMIT >> 20} MiB of /proc")
            self.texts.setdefault(frame.payload[0], []).append(chunk)
            return chunk.count(b"\n")
        raise broken("a frame of another type among sockets")

    def parsed_text(self) -> ParsedText | None:
        """The sockets in the text of /proc; None where none was sent. HostError for too many, or unreadable lines."""
        if not self.texts:
            return None
        from halfopen.evidence.text import procfs, reading

        tcp, tcp6 = (b"".join(self.texts[family]) if family in self.texts else None for family in (2, 10))
        found = procfs.read_tables(text(tcp or b"", TEXT_LIMIT), None if tcp6 is None else text(tcp6, TEXT_LIMIT))
        if len(found.sockets) > reading.ROW_LIMIT:
            raise HostError(
                ErrorCode.TOO_LARGE, f"the host sends more than {reading.ROW_LIMIT} sockets as text of /proc"
            )
        if found.problems:
            raise broken(f"/proc/net/tcp cannot be read: {found.problems[0].why}")
        return found


class DumpDecoder:
    """Frames of the answer to DUMP, as they arrive -> Namespace. Rows with none of `ports` are left out.

    The frames after a FIELDS frame belong to another namespace: `others` has these once the answer has ended, and
    `refused` counts those that could not be read. One that was refused after a part of it had come is not whole.
    """

    def __init__(self, ports: frozenset[int]) -> None:
        self.ports = ports
        self.rows = 0
        self.spaces = [Sockets()]
        self.own: list[tuple[str, bytes]] = []  # what leads out of the probe's own namespace
        self.others: tuple[Namespace, ...] = ()
        self.refused = 0

    def add(self, frame: Frame) -> None:
        """One BLOCK, LISTENERS or TEXT frame, the FIELDS of the next namespace, or more of those of this one."""
        if frame.type == FIELDS:
            fields = split_fields(frame.payload)
            inode = dict(fields).get("netns")
            if inode == b"0":
                self.own = fields
            elif inode is not None:
                # Text is bounded over all namespaces.
                self.spaces.append(Sockets(fields=fields, size=self.spaces[-1].size))
            else:
                self.spaces[-1].fields += fields
            return
        space = self.spaces[-1]
        self.rows += space.add(frame)
        if frame.type == BLOCK and self.ports:
            space.blocks[-1] = space.blocks[-1].only(self.ports)
        if self.rows > ROW_LIMIT:
            raise HostError(ErrorCode.TOO_LARGE, f"the host sends more than {ROW_LIMIT} sockets", "name the --port")

    def end(self, count: int, netns: int | None, addresses: tuple[InterfaceAddress, ...]) -> Namespace:
        """The namespace of the probe. `count`: rows that END stated; HostError if another number came."""
        if self.rows != count:
            raise missing_rows(self.rows, count)
        own, *others = self.spaces
        own.fields += self.own
        named = [(dict(space.fields), space) for space in others]
        refused = {values.get("netns") for values, _ in named if "refused" in values}
        self.refused = len(refused)
        found = []
        for values, space in named:
            if "refused" not in values:
                here, tracked, forwards = decode_namespace(space.fields)
                netns_here = needed(values.get("netns")) or None
                here = with_routes(here, space.fields)
                namespace = self._namespace(space, netns_here, here, tracked, forwards)
                found.append(replace(namespace, whole=namespace.whole and values.get("netns") not in refused))
        self.others = tuple(found)
        return self._namespace(own, netns, addresses)

    def _namespace(
        self,
        space: Sockets,
        netns: int | None,
        addresses: tuple[InterfaceAddress, ...],
        tracked: int | None = None,
        forwards: bool = False,
    ) -> Namespace:
        redirects = "redirects" in dict(space.fields)
        if parsed := space.parsed_text():
            addresses = with_addresses_of(addresses, parsed.addresses())
            found = parsed.namespace(addresses, self.ports, netns)
        else:
            listeners = tuple(socket for socket in space.listeners if not self.ports or socket.port in self.ports)
            table = Table(tuple(space.blocks))
            local = (packed for block in table.blocks for packed in block.locals())
            addresses = with_addresses_of(addresses, chain(local, (socket.address for socket in listeners)))
            others = frozenset(socket.port for socket in space.listeners) - {socket.port for socket in listeners}
            found = Namespace(netns, addresses, table, listeners, self.ports, other_listeners=others)
        return replace(
            found,
            tracked=tracked,
            forwards=forwards,
            redirects=redirects,
            local_routes=decode_local_routes(space.fields),
            reach=decode_reach(space.fields) if any(name != "redirects" for name, _ in space.fields) else None,
        )


def decode_table(frames: Sequence[Frame], count: int) -> ParsedText | None:
    """The answer to TABLE -> the sockets of one namespace, None where it could not be entered."""
    space, lines = Sockets(), 0
    for frame in frames:
        if frame.type == FIELDS and "refused" in dict(split_fields(frame.payload)):
            return None
        lines += space.add(frame)
    if lines != count:
        raise missing_rows(lines, count)
    return space.parsed_text()


def decode_columns(payload: bytes, more: tuple[int, ...]) -> tuple[Block, list[bytes]]:
    """A BLOCK frame -> its rows as columns, and its further columns. `more`: widths of these, in bytes a row."""
    if len(payload) < 10:
        raise broken("a block without a head")
    family, width, scope, rows = struct.unpack_from(">BBII", payload)
    if (family, width) not in ((2, 4), (10, 4), (10, 16)):
        raise broken("a block of an unknown family")
    data = inflate(payload[10:])
    if len(data) != rows * (6 + 2 * width + sum(more)):
        raise broken("a block whose columns do not fill it")
    columns, at = [], 0
    for size in (1, 1, 2, 2, width, width, *more):
        columns.append(data[at : at + size * rows])
        at += size * rows
    states, marks, local_ports, peer_ports, local, peer, *others = columns
    if not set(states) <= CONNECTION_STATES:
        raise broken("a state that TCP does not have")
    return Block(family, scope, width, local, peer, local_ports, peer_ports, states, marks), others


def decode_counts(frames: Sequence[Frame], count: int) -> tuple[CountBlock, ...]:
    """The answer to COUNT -> byte counters of ESTABLISHED sockets. A 64-bit column comes as two of 32 bits each."""
    found = []
    for frame in frames:
        if frame.type != BLOCK:
            raise broken("a frame of another type among counters")
        block, (acked, acked_high, received, received_high, queued) = decode_columns(frame.payload, (4, 4, 4, 4, 4))
        found.append(CountBlock(block, interleaved(acked, acked_high), interleaved(received, received_high), queued))
    if sum(len(counts.block) for counts in found) != count:
        raise missing_rows(sum(len(counts.block) for counts in found), count)
    return tuple(found)


def interleaved(low: bytes, high: bytes) -> bytes:
    """Two columns of 32-bit words -> one of 64-bit words, little-endian."""
    out = bytearray(2 * len(low))
    for byte in range(4):
        out[byte::8], out[byte + 4 :: 8] = low[byte::4], high[byte::4]
    return bytes(out)
