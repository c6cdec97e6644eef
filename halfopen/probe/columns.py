"""Rows of a socket table as columns.

A row is an inet_diag_msg (include/uapi/linux/inet_diag.h, 72 bytes) behind a netlink header (16 bytes), and its
attributes. Only rows of one length, family, scope and kind are cut into columns, by strided slices; a loop over sockets
would cost the host ten times as much.
"""

import array
import struct

from halfopen.probe.head import AF_INET, AF_INET6, LISTEN
from halfopen.probe.netlink import SOCK_DIAG_BY_FAMILY, TCPDIAG_GETSOCK, messages

ROW = 88  # netlink header and inet_diag_msg
MAPPED = bytes(10) + b"\xff\xff"
INFO = 2  # INET_DIAG_INFO: the attribute with tcp_info, and its bit in what is asked for

# Marks of a row, beside the timer in the low three bits.
RETRANSMITS, SEND_QUEUE, RECV_QUEUE, NO_INODE = 0x08, 0x10, 0x20, 0x40


def classes(data: memoryview) -> "list[tuple[int, memoryview]]":
    """Datagram -> pairs of (row length, buffer of rows of that length)."""
    size = len(data)
    length = struct.unpack_from("=I", data)[0]
    if length >= ROW and size % length == 0 and length % 4 == 0:
        words = data.cast("I")
        if words[:: length // 4].tobytes() == data[:4].tobytes() * (size // length):
            return [(length, data)]
    found: dict[int, list[memoryview]] = {}
    for offset, length in messages(data):
        if struct.unpack_from("=H", data, offset + 4)[0] in (TCPDIAG_GETSOCK, SOCK_DIAG_BY_FAMILY) and length >= ROW:
            found.setdefault(length, []).append(data[offset : offset + (length + 3 & ~3)])
    return [(length + 3 & ~3, memoryview(b"".join(rows))) for length, rows in found.items()]


def alike(rows: memoryview, length: int) -> "tuple[int, int, int] | None":
    """(family, scope, address width) of rows that share them and are no listeners, else None."""
    count = len(rows) // length
    words, step = rows.cast("I"), length // 4
    family, scope = rows[16], words[14:15].tobytes()
    if rows[16::length].tobytes() != bytes((family,)) * count or words[14::step].tobytes() != scope * count:
        return None
    if LISTEN in rows[17::length].tobytes():
        return None
    width = 4
    if family == AF_INET6:
        width = 4 if rows[24:36] == MAPPED else 16
        for first in (6, 10):
            prefix = b"".join(words[first + i :: step].tobytes() for i in range(3))
            mapped = prefix == bytes(8 * count) + b"\0\0\xff\xff" * count
            # Not mapped for sure only if no third word says so; the rest goes through the sorter.
            if mapped != (width == 4) or (width == 16 and b"\0\0\xff\xff" in prefix[8 * count :]):
                return None
    return family, struct.unpack("=I", scope)[0], width


def sorted_rows(rows: memoryview, length: int) -> "list[tuple[tuple[int, int, int] | None, memoryview]]":
    """Rows of one length but several kinds -> buffers of one kind each, as `alike` says it; listeners under None."""
    found: dict[tuple[int, int, int] | None, list[memoryview]] = {}
    for offset in range(0, len(rows), length):
        row = rows[offset : offset + length]
        width = 4 if row[16] == AF_INET or row[24:36] == MAPPED else 16
        kind = None if row[17] == LISTEN else (row[16], struct.unpack_from("=I", row, 56)[0], width)
        found.setdefault(kind, []).append(row)
    return [(kind, memoryview(b"".join(parts))) for kind, parts in found.items()]


def info_of(rows: memoryview, length: int) -> "int | None":
    """Where the tcp_info of these rows begins; None if not all have it there, or if it is too old to count bytes."""
    at = ROW
    while at + 4 <= length:
        head = rows[at : at + 4].tobytes()
        size, kind = struct.unpack("=HH", head)
        if kind == INFO:
            same = rows.cast("I")[at // 4 :: length // 4].tobytes() == head * (len(rows) // length)
            return at + 4 if same and size >= 4 + 136 else None
        at += max(4, size + 3 & ~3)
    return None


def with_info(rows: memoryview, length: int) -> "list[tuple[int, memoryview]]":
    """Rows of one length -> pairs of (where their tcp_info begins, rows that have it there)."""
    info = info_of(rows, length)
    if info is not None:
        return [(info, rows)]
    single = [(info_of(rows[at : at + length], length), rows[at : at + length]) for at in range(0, len(rows), length)]
    return [(at, row) for at, row in single if at is not None]


class Columns:
    """Rows of one family, scope and address width, as columns that grow until they are sent."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.parts: list[list[bytes]] = [[] for _ in range(11)]
        self.rows = 0

    def add(self, rows: memoryview, length: int, family: int, width: int, more: "tuple[int, ...]" = ()) -> None:
        """Rows of one length. `more`: which of their 32-bit words make further columns."""
        words, halves, step = rows.cast("I"), rows.cast("H"), length // 4
        states = rows[17::length].tobytes()
        columns = [
            states,
            marks(rows, words, length, states),
            halves[10 :: length // 2].tobytes(),
            halves[11 :: length // 2].tobytes(),
            addresses(words, 6, step, family, width),
            addresses(words, 10, step, family, width),
        ]
        columns += [words[word::step].tobytes() for word in more]
        for part, column in zip(self.parts, columns):
            part.append(column)
        self.rows += len(states)

    def take(self) -> bytes:
        """All columns as one byte string, and begin anew."""
        data = b"".join(b"".join(part) for part in self.parts)
        self.clear()
        return data


def addresses(words: "memoryview[int]", first: int, step: int, family: int, width: int) -> bytes:
    """Column of addresses whose first word has this index."""
    if width == 4:
        return words[first + (3 if family == AF_INET6 else 0) :: step].tobytes()
    count = len(words) // step
    column = memoryview(bytearray(16 * count)).cast("I")
    for word in range(4):
        column[word::4] = words[first + word :: step]
    return column.tobytes()


def marks(rows: memoryview, words: "memoryview[int]", length: int, states: bytes) -> bytes:
    """Column of marks: the timer, and whether there are retransmits, queued bytes, and no inode where one is due."""
    column = bytearray(rows[18::length].tobytes())
    step = length // 4
    retransmits = rows[19::length].tobytes()
    if retransmits.strip(b"\0"):
        for index, value in enumerate(retransmits):
            if value:
                column[index] |= RETRANSMITS
    for first, mark in ((18, RECV_QUEUE), (19, SEND_QUEUE)):
        queue = words[first::step].tobytes()
        if queue.strip(b"\0"):
            for index, value in enumerate(array.array("I", queue)):
                if value:
                    column[index] |= mark
    inodes = array.array("I", words[21::step].tobytes())
    if 0 in inodes:
        for index, value in enumerate(inodes):
            if not value and states[index] in (1, 8):
                column[index] |= NO_INODE
    return bytes(column)
