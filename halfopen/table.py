"""Sockets in columns, so that a hundred thousand rows need no Python object each.

A row is a key (see `address`), a state byte (kernel number) and a mark byte. Marks are what a first look needs to know
beyond the state: which timer runs, and whether there are retransmissions, queued bytes or no inode.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Set

from msgspec import Struct
from msgspec.structs import replace

TIMER_MASK = 0x07
RETRANSMITS = 0x08
SEND_QUEUE = 0x10
RECV_QUEUE = 0x20
NO_INODE = 0x40

Row = tuple[bytes, int, int]
"""(key, state number, marks)"""


class Block(Struct, frozen=True):
    """Rows of one family, key width and scope. Columns are byte strings of equal row count.

    local, peer: addresses, `width` bytes a row; local_ports, peer_ports: 2 bytes a row, big-endian.
    """

    family: int
    scope: int
    width: int
    local: bytes
    peer: bytes
    local_ports: bytes
    peer_ports: bytes
    states: bytes
    marks: bytes

    def __post_init__(self) -> None:
        sizes = (len(self.marks), len(self.local_ports) / 2, len(self.peer_ports) / 2)
        addresses = (len(self.local) / self.width, len(self.peer) / self.width) if self.width in (4, 16) else (-1,)
        if any(size != len(self.states) for size in (*sizes, *addresses)):
            raise ValueError("the columns of a table are of different lengths")

    def __len__(self) -> int:
        return len(self.states)

    def packed(self, mirrored: bool = False) -> memoryview:
        """Rows as records `key, state, marks`, the key mirrored if asked: what the join runs on.

        Interleaved by strided copies, because a loop over rows would cost more than the join itself.
        """
        width, rows = self.width, len(self)
        size = 2 * width + 6
        out = bytearray(size * rows)
        first, second = (self.peer, self.local) if mirrored else (self.local, self.peer)
        for column in range(width):
            out[column::size] = first[column::width]
            out[width + column :: size] = second[column::width]
        near, far = (self.peer_ports, self.local_ports) if mirrored else (self.local_ports, self.peer_ports)
        for column in range(2):
            out[2 * width + column :: size] = near[column::2]
            out[2 * width + 2 + column :: size] = far[column::2]
        out[size - 2 :: size] = self.states
        out[size - 1 :: size] = self.marks
        return memoryview(out)

    def rows(self, mirrored: bool = False) -> Iterator[Row]:
        """The rows, one tuple each."""
        return struct.iter_unpack(f"{2 * self.width + 4}sBB", self.packed(mirrored))

    def peers(self) -> set[bytes]:
        """The distinct peer addresses."""
        return distinct(self.peer, self.width)

    def locals(self) -> set[bytes]:
        """The distinct local addresses."""
        return distinct(self.local, self.width)

    def having(self, local: Set[bytes], peer: Set[bytes]) -> list[int]:
        """The rows with one of these local addresses or one of these peer addresses."""
        wanted = [set(numbers(b"".join(some), self.width)) for some in (local, peer)]
        columns = zip(numbers(self.local, self.width), numbers(self.peer, self.width), strict=True)
        return [row for row, (near, far) in enumerate(columns) if near in wanted[0] or far in wanted[1]]

    def from_ports(self, ports: Collection[int]) -> list[int]:
        """The rows with one of these local ports."""
        wanted = {struct.unpack("=H", struct.pack(">H", one))[0] for one in ports}
        column = memoryview(self.local_ports).cast("H")
        return (
            []
            if not wanted or wanted.isdisjoint(column)
            else [row for row, port in enumerate(column) if port in wanted]
        )

    def key(self, row: int) -> bytes:
        """The key of one row."""
        at, width = 2 * row, self.width
        ends = (column[width * row : width * (row + 1)] for column in (self.local, self.peer))
        return b"".join((*ends, self.local_ports[at : at + 2], self.peer_ports[at : at + 2]))

    def with_key(self, keys: Iterable[bytes]) -> list[int]:
        """The rows with one of these keys, in order; found by their ports, without a loop over all rows."""
        width, found = self.width, set()
        # By both addresses, since all hosts of a run have one peer in common: the machine that reaches them.
        local, peer = self.locals(), self.peers()
        same = (key for key in keys if len(key) == 2 * width + 4)
        near = {key for key in same if key[:width] in local and key[width : 2 * width] in peer}
        if near:
            ports = bytearray(4 * len(self))
            for byte, column in enumerate((self.local_ports, self.local_ports, self.peer_ports, self.peer_ports)):
                ports[byte::4] = column[byte % 2 :: 2]
        for key in near:
            at = ports.find(key[-4:])
            while at >= 0:
                if at % 4 == 0 and self.key(at // 4) == key:
                    found.add(at // 4)
                at = ports.find(key[-4:], at + 1)
        return sorted(found)

    def without(self, keys: Iterable[bytes]) -> Block:
        """The rows but those with one of these keys, which are few."""
        gone = self.with_key(keys)

        def others(column: bytes, width: int) -> bytes:
            left = bytearray(column)
            for row in reversed(gone):
                del left[width * row : width * (row + 1)]
            return bytes(left)

        return self._columns(others) if gone else self

    def only(self, ports: Iterable[int]) -> Block:
        """The rows with one of these ports at either side."""
        wanted = {struct.unpack("=H", struct.pack(">H", port))[0] for port in ports}
        columns = (memoryview(column).cast("H") for column in (self.local_ports, self.peer_ports))
        kept = [row for row, pair in enumerate(zip(*columns, strict=True)) if not wanted.isdisjoint(pair)]

        def those(column: bytes, width: int) -> bytes:
            return b"".join(column[width * row : width * (row + 1)] for row in kept)

        return self if len(kept) == len(self) else self._columns(those)

    def _columns(self, change: Callable[[bytes, int], bytes]) -> Block:
        """The same with each column, and how many bytes of it are a row's, put through a function."""
        return replace(
            self,
            local=change(self.local, self.width),
            peer=change(self.peer, self.width),
            local_ports=change(self.local_ports, 2),
            peer_ports=change(self.peer_ports, 2),
            states=change(self.states, 1),
            marks=change(self.marks, 1),
        )

    def oddities(self, translation: bytes) -> Block:
        """The same rows with each mark replaced by its byte of `translation`."""
        return replace(self, marks=self.marks.translate(translation))


def numbers(column: bytes, width: int) -> Iterable[int | tuple[int, int]]:
    """The values of a column of 4 or 16 bytes a row as numbers, which cost a tenth of what byte strings do."""
    if width == 4:
        return memoryview(column).cast("I")
    words = memoryview(column).cast("Q")
    return zip(words[::2], words[1::2], strict=True)


def distinct(column: bytes, width: int) -> set[bytes]:
    """The different values of a column of 4 or 16 bytes a row."""
    found = set(numbers(column, width))
    return {struct.pack("=I", number) if isinstance(number, int) else struct.pack("=QQ", *number) for number in found}


class Table(Struct, frozen=True):
    """The connection sockets of one namespace at one moment; listeners are kept apart."""

    blocks: tuple[Block, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def rows(self, mirrored: bool = False) -> Iterator[Row]:
        """All rows in the order of the blocks."""
        for block in self.blocks:
            yield from block.rows(mirrored)

    def has(self, key: bytes) -> bool:
        """Whether there is a row with this key."""
        return any(block.with_key((key,)) for block in self.blocks)

    def without(self, keys: Collection[bytes]) -> Table:
        """The rows but those with one of these keys."""
        return Table(tuple(block.without(keys) for block in self.blocks))

    def states(self) -> dict[int, int]:
        """State number -> rows in it."""
        counts: dict[int, int] = {}
        for block in self.blocks:
            for state in set(block.states):
                counts[state] = counts.get(state, 0) + block.states.count(state)
        return counts

    @staticmethod
    def of(rows: Iterable[tuple[int, int, bytes, int, int]]) -> Table:
        """Rows as (family, scope, key, state number, marks) -> Table; for sources that come row by row."""
        groups: dict[tuple[int, int, int], list[tuple[bytes, int, int]]] = {}
        for family, scope, key, state, marks in rows:
            groups.setdefault((family, scope, (len(key) - 4) // 2), []).append((key, state, marks))
        return Table(
            tuple(
                Block(
                    family,
                    scope,
                    width,
                    b"".join(key[:width] for key, _, _ in found),
                    b"".join(key[width : 2 * width] for key, _, _ in found),
                    b"".join(key[-4:-2] for key, _, _ in found),
                    b"".join(key[-2:] for key, _, _ in found),
                    bytes(state for _, state, _ in found),
                    bytes(marks for _, _, marks in found),
                )
                for (family, scope, width), found in groups.items()
            )
        )


Count = tuple[int, int, int]
"""(bytes acknowledged, bytes received, bytes written and not acknowledged): tcp_info and send queue of one socket"""


class CountBlock(Struct, frozen=True):
    """Byte counters of established sockets beside their rows: 8, 8 and 4 bytes a row, little-endian.

    acked and received as tcp_info has them (include/uapi/linux/tcp.h), queued as idiag_wqueue.
    """

    block: Block
    acked: bytes
    received: bytes
    queued: bytes

    def __post_init__(self) -> None:
        if not len(self.block) == len(self.acked) / 8 == len(self.received) / 8 == len(self.queued) / 4:
            raise ValueError("the columns of a table are of different lengths")

    def counts(self, mirrored: bool = False) -> Iterator[tuple[bytes, Count]]:
        """Key, mirrored if asked, and counters of each row."""
        rows = len(self.block)
        numbers = (struct.unpack(f"<{rows}Q", column) for column in (self.acked, self.received))
        for (key, _, _), *count in zip(
            self.block.rows(mirrored), *numbers, struct.unpack(f"<{rows}I", self.queued), strict=True
        ):
            yield key, (count[0], count[1], count[2])

    @staticmethod
    def of(rows: Iterable[tuple[int, int, bytes, int, Count]]) -> tuple[CountBlock, ...]:
        """Rows as (family, scope, key, state number, counters) -> blocks."""
        groups: dict[tuple[int, int, int], list[tuple[bytes, int, Count]]] = {}
        for family, scope, key, state, count in rows:
            groups.setdefault((family, scope, len(key)), []).append((key, state, count))
        return tuple(
            CountBlock(
                Table.of((family, scope, key, state, 0) for key, state, _ in found).blocks[0],
                struct.pack(f"<{len(found)}Q", *(count[0] for _, _, count in found)),
                struct.pack(f"<{len(found)}Q", *(count[1] for _, _, count in found)),
                struct.pack(f"<{len(found)}I", *(count[2] for _, _, count in found)),
            )
            for (family, scope, _), found in groups.items()
        )
