"""The stream of the probe -> frames whose checksum held. Pure: bytes in, values or HostError out.

Every frame carries nonce, type, sequence number, length and CRC-32 of the rest, and every answer ends with a count, so
that an answer that was cut, mixed with other output or changed in transit is an error and never a missing socket.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

from msgspec import Struct

from halfopen.errors import ErrorCode, HostError

FIELDS, BLOCK, LISTENERS, ROWS, END, ERROR, TEXT = range(1, 8)

HEAD = struct.Struct(">8sBIII")

PREAMBLE_LIMIT = 1 << 18  # greetings before the first frame
FRAME_LIMIT = 32 << 20
ANSWER_LIMIT = 512 << 20

RETRY = "run it again; if it fails again, check whether the login shell prints text, or something rewrites the stream"


class Frame(Struct, frozen=True):
    """One frame whose checksum held."""

    type: int
    payload: bytes


class FrameReader:
    """Bytes as they arrive -> whole frames. HostError for anything that is not such a stream."""

    def __init__(self, nonce: bytes) -> None:
        self.nonce = nonce
        self.buffer = bytearray()
        self.sequence = 0
        self.preamble = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Adds `data` and yields the frames that are whole by now."""
        self.buffer += data
        if self.sequence == 0:
            self._skip_greeting()
        while len(self.buffer) >= HEAD.size:
            nonce, frame_type, sequence, length, checksum = HEAD.unpack_from(self.buffer)
            if nonce != self.nonce or sequence != self.sequence or not FIELDS <= frame_type <= TEXT:
                raise broken("a frame does not follow the one before it")
            if length > FRAME_LIMIT:
                raise HostError(ErrorCode.TOO_LARGE, f"the probe announces a frame of {length} bytes")
            if len(self.buffer) < HEAD.size + length:
                return
            payload = bytes(self.buffer[HEAD.size : HEAD.size + length])
            if zlib.crc32(payload, zlib.crc32(self.buffer[8:17])) != checksum:
                raise HostError(ErrorCode.TRUNCATED, "the checksum of a frame does not match its bytes", RETRY)
            del self.buffer[: HEAD.size + length]
            self.sequence += 1
            yield Frame(frame_type, payload)

    def _skip_greeting(self) -> None:
        """Drops what a login shell prints before the first frame. HostError beyond PREAMBLE_LIMIT bytes of it."""
        at = self.buffer.find(self.nonce)
        skipped = at if at >= 0 else max(0, len(self.buffer) - len(self.nonce) + 1)
        self.preamble += skipped
        if self.preamble > PREAMBLE_LIMIT:
            raise HostError(
                ErrorCode.PROTOCOL_ERROR,
                f"more than {PREAMBLE_LIMIT >> 10} KiB arrived before the first word of the probe",
                "check what the login shell of that user prints when it is not interactive",
            )
        del self.buffer[:skipped]


def broken(what: str) -> HostError:
    """The error for a stream that is not what the probe sends."""
    return HostError(ErrorCode.PROTOCOL_ERROR, f"the answer of the probe is damaged: {what}", RETRY)


def end_of(frame: Frame, verb: int) -> int:
    """An END frame -> the count that it states. ERROR frames and answers to other requests are HostErrors."""
    if frame.type == ERROR:
        if len(frame.payload) < 5:
            raise broken("an error without a reason")
        number = struct.unpack_from(">BI", frame.payload)[1]
        text = frame.payload[5:505].decode("ascii", "replace")
        raise HostError(
            ErrorCode.NEEDS_PRIVILEGE if number in (1, 13) else ErrorCode.UNSUPPORTED,
            f"the host refused to list its sockets: {text}" + (f" (errno {number})" if number else ""),
            "try as root: sudo = true for this host in the inventory",
        )
    if len(frame.payload) != 9:
        raise broken("an end of the wrong size")
    answered, count = struct.unpack(">BQ", frame.payload)
    if answered != verb:
        raise broken("an answer to another request")
    return int(count)


def inflate(data: bytes, limit: int = FRAME_LIMIT) -> bytes:
    """zlib data -> its bytes, at most `limit` of them. HostError for what is larger, cut or damaged."""
    unpacker = zlib.decompressobj()
    try:
        out = unpacker.decompress(data, limit)
    except zlib.error as error:
        raise broken("it does not decompress") from error
    if unpacker.unconsumed_tail:
        raise HostError(ErrorCode.TOO_LARGE, f"a frame of the probe grows past {limit >> 20} MiB")
    if not unpacker.eof or unpacker.unused_data:
        raise broken("a frame is not one whole compressed piece")
    return out


def decode_fields(frames: Sequence[Frame], count: int) -> list[tuple[str, bytes]]:
    """FIELDS frames -> names and values in order; `count` is what END stated."""
    found: list[tuple[str, bytes]] = []
    for frame in frames:
        if frame.type != FIELDS:
            raise broken("a frame of another type among fields")
        found += split_fields(frame.payload)
    if len(found) != count:
        raise missing_rows(len(found), count)
    return found


def split_fields(payload: bytes) -> list[tuple[str, bytes]]:
    """One FIELDS frame -> names and values in order."""
    found: list[tuple[str, bytes]] = []
    data, at = inflate(payload), 0
    while at < len(data):
        if at + 5 > len(data):
            raise broken("a field without its value")
        name, length = struct.unpack_from(">BI", data, at)
        end = at + 5 + name + length
        if end > len(data):
            raise broken("a field longer than its frame")
        found.append((data[at + 5 : at + 5 + name].decode("ascii", "replace"), data[at + 5 + name : end]))
        at = end
    return found


def missing_rows(got: int, stated: int) -> HostError:
    """The error for an answer whose count does not hold."""
    return HostError(ErrorCode.TRUNCATED, f"the answer of the probe has {got} rows, its end says {stated}", RETRY)


def text(raw: bytes, limit: int) -> str:
    """At most `limit` bytes of a host as text that keeps every byte (surrogateescape), control characters too."""
    return raw[:limit].decode("utf-8", "surrogateescape")


def number(raw: bytes | None, base: int = 10) -> int | None:
    """A whole number of 64 bits at the most and without a sign, None for anything else."""
    if raw is None or len(raw) > 20 or not raw.isalnum():
        return None
    try:
        found = int(raw, base)
    except ValueError:
        return None
    return found if found < 1 << 64 else None


def needed(raw: bytes | None) -> int:
    """A whole number as in `number`; HostError for anything else."""
    found = number(raw)
    if found is None:
        raise broken("a field that should be a number is not one")
    return found


def decimal(raw: bytes | None) -> float | None:
    """A plain decimal number; None for anything else, NaN and infinities included."""
    if raw is None or len(raw) > 24 or not raw.replace(b".", b"", 1).isdigit():
        return None
    return float(raw)
