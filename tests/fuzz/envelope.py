"""Mutated bytes -> valid wrapping around them: frames with checksums, fields, sections of a shell.

A fuzzer that mutates a stream finds its checksums. What it mutates here are records, one byte kind, two bytes length
(little-endian), contents; the last may be cut. Each becomes what a lying host would send: contents behind a valid head.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from strategies import frame

from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe import frames
from halfopen.evidence.probe.frames import Frame, FrameReader

T = TypeVar("T")

NONCE = b"\x01noncey\xff"
SHELL_NONCE = b"0123456789abcdef"
PLAIN = {frames.BLOCK: 10, frames.TEXT: 1}
"""Frame type -> bytes at the start of its payload that are not compressed."""


def record(kind: int, contents: bytes) -> bytes:
    """One record, for seeds."""
    return struct.pack("<BH", kind, len(contents)) + contents


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and contents of each record."""
    at = 0
    while at + 3 <= len(data):
        kind, length = struct.unpack_from("<BH", data, at)
        yield kind, data[at + 3 : at + 3 + length]
        at += 3 + length


def fields(data: bytes, names: Sequence[str]) -> list[tuple[str, bytes]]:
    """Records -> fields of these names, by their kinds."""
    return [(names[kind % len(names)], value) for kind, value in records(data)]


def packed(some: Sequence[tuple[str, bytes]]) -> bytes:
    """Fields -> the payload of a FIELDS frame."""
    return zlib.compress(
        b"".join(struct.pack(">BI", len(name), len(value)) + name.encode() + value for name, value in some), 1
    )


def framed(data: bytes, names: Sequence[str], width_first: bool = False) -> list[Frame]:
    """Records -> frames that the reader has taken: FIELDS with records of their own, else compressed contents.

    width_first: ROWS begin with a byte that is not compressed, as in the answer to TRANSLATIONS.
    """
    found = []
    for kind, contents in records(data):
        type_ = 1 + kind % 7
        if type_ == frames.FIELDS:
            payload = packed(fields(contents, names))
        elif type_ in (frames.END, frames.ERROR):
            payload = contents
        else:
            plain = 1 if width_first and type_ == frames.ROWS else PLAIN.get(type_, 0)
            payload = contents[:plain] + zlib.compress(contents[plain:], 1)
        found.append((type_, payload))
    stream = b"".join(frame(NONCE, number, *one) for number, one in enumerate(found))
    taken = list(FrameReader(NONCE).feed(stream))
    assert [(one.type, one.payload) for one in taken] == found, "what was framed is what is read"
    return taken


def honest(decode: Callable[[int], T]) -> T:
    """What a decoder makes of an answer whose end states as many rows as came. `decode`: by that number."""
    try:
        return decode(-1)
    except HostError as error:
        said = re.search(r"has (\d+) rows", error.message)
        if error.code is not ErrorCode.TRUNCATED or said is None:
            raise
        return decode(int(said[1]))


def sections(data: bytes, names: Sequence[str]) -> bytes:
    """Records -> the answer of a shell. The highest bit of a kind: the command failed."""
    named, stream = [], b""
    for kind, contents in records(data):
        name = names[(kind & 127) % len(names)]
        named.append(name)
        stream += b"\n%s %s %d %d\n%s" % (SHELL_NONCE, name.encode(), kind >> 7, len(contents), contents)
    end = " ".join(named).encode()
    return stream + b"\n%s end 0 %d\n%s" % (SHELL_NONCE, len(end), end)
