"""The question ASK and its answer: sockets of processes, and what keepalive probes on them brought. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from halfopen.evidence.probe.frames import broken
from halfopen.evidence.probe.kernel import tcp_info
from halfopen.model import AskQuery, Reply, Unasked
from halfopen.tcp import state_of

ASK = 18
HEAD = struct.Struct(">HBHBIHH")
ENTRY = struct.Struct(">QQB36s")


def encode_question(asked: Sequence[AskQuery], seconds: float) -> bytes:
    """The payload of ASK: how long it may take, and the sockets."""
    entries = (ENTRY.pack(one.inode, one.cookie or 0, (len(one.key) - 4) // 2, one.key) for one in asked)
    return struct.pack(">I", max(0, round(seconds * 1000))) + b"".join(entries)


def decode(fields: Sequence[tuple[str, bytes]], number: int) -> list[Reply]:
    """Fields of the answer -> a reply to each of so many questions. HostError where not each has one."""
    found: dict[int, Reply] = {}
    for name, value in fields:
        if name == "asked":
            index, reply = decode_reply(value)
            if index >= number or index in found:
                raise broken("an answer to a question that was not asked")
            found[index] = reply
    if len(found) != number:
        raise broken("a question without an answer")
    return [found[index] for index in range(number)]


def decode_reply(value: bytes) -> tuple[int, Reply]:
    """One `asked` field -> the number of its question, and the reply."""
    if len(value) < HEAD.size:
        raise broken("an answer is cut")
    index, code, errno, tries, elapsed, before, after = HEAD.unpack_from(value)
    infos = value[HEAD.size : HEAD.size + before], value[HEAD.size + before :]
    if len(infos[0]) != before or len(infos[1]) != after or code >= len(CODES):
        raise broken("an answer is cut")
    state = state_of(infos[1][0]) if after else None
    return index, Reply(CODES[code], errno, tries, elapsed / 1000, state, *map(tcp_info, infos))


CODES = (
    None,
    Unasked.NO_HOLDER,
    Unasked.NOT_ALLOWED,
    Unasked.ANOTHER,
    Unasked.NOT_ESTABLISHED,
    Unasked.IN_REPAIR,
    Unasked.SENDS,
    Unasked.OWN_TIMEOUT,
    Unasked.OWN_LIMIT,
    Unasked.LATE,
    Unasked.CLOSED,
)
"""What the probe says became of a question (`ASKED` and those behind it in probe/ask.py)."""
