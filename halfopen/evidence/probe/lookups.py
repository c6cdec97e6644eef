"""What the probe answers when it is asked for single tuples, and for the table of translations (NAT). Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from halfopen import address
from halfopen.evidence.probe.frames import FIELDS, ROWS, Frame, broken, inflate, missing_rows, needed, split_fields
from halfopen.evidence.probe.kernel import decode_socket
from halfopen.model import Absence, Observation, Rewrites
from halfopen.tcp import State


def decode_looks(frames: Sequence[Frame], count: int, keys: Sequence[bytes]) -> list[Observation]:
    """ROWS frames -> for each key its socket, ABSENT, or UNSEEN where the kernel refused to look."""
    observations: list[Observation] = []
    for frame in frames:
        if frame.type != ROWS:
            raise broken("a frame of another type among look-ups")
        data, at = inflate(frame.payload), 0
        while at < len(data):
            if at + 3 > len(data) or len(observations) >= len(keys):
                raise broken("a look-up is cut")
            status, length = struct.unpack_from(">BH", data, at)
            if at + 3 + length > len(data) or status > 2:
                raise broken("a look-up is cut")
            observations.append(decode_observation(status, data[at + 3 : at + 3 + length], keys[len(observations)]))
            at += 3 + length
    if len(observations) != count or count != len(keys):
        raise missing_rows(len(observations), len(keys))
    return observations


def decode_observation(status: int, message: bytes, key: bytes) -> Observation:
    """One look-up: `status` 0 not found, 1 found, 2 refused. A LISTEN socket, or one of another tuple: not found."""
    if status == 0:
        return Absence.ABSENT
    if status == 2:
        return Absence.UNSEEN
    found = decode_socket(message)
    if found.state is State.LISTEN or found.key != key:
        return Absence.ABSENT
    return found


def decode_translations(frames: Sequence[Frame], count: int) -> tuple[dict[int, Rewrites], set[int]]:
    """The answer to TRANSLATIONS -> namespace (0: the probe's own) -> what translates there, and those that refused."""
    pairs: dict[tuple[int, int], list[bytes]] = {}
    inner: dict[int, set[int]] = {}
    nowhere: dict[int, set[bytes]] = {}
    refused, netns, got = set(), 0, 0
    for frame in frames:
        if frame.type == FIELDS:
            fields = split_fields(frame.payload)
            values = dict(fields)
            netns = needed(values.get("netns"))
            if "refused" in values:
                refused.add(netns)
            inner.setdefault(netns, set()).update(needed(value) for name, value in fields if name == "inner")
            nowhere.setdefault(netns, set()).update(packed(value) for name, value in fields if name == "nowhere")
        elif frame.type == ROWS and frame.payload and frame.payload[0] in (address.V4_KEY, address.V6_KEY):
            width, data = frame.payload[0], inflate(frame.payload[1:])
            if len(data) % (2 * width):
                raise broken("a translation is cut")
            got += len(data) // (2 * width)
            pairs.setdefault((netns, width), []).append(data)
        else:
            raise broken("a frame of another type among translations")
    if got != count:
        raise missing_rows(got, count)
    found = {
        where: Rewrites(
            b"".join(pairs.get((where, address.V4_KEY), ())),
            b"".join(pairs.get((where, address.V6_KEY), ())),
            tuple(sorted(links - {0})),
            tuple(sorted(nowhere[where])),
        )
        for where, links in inner.items()
    }
    return found, refused


def packed(value: bytes) -> bytes:
    """A packed address in canonical form; HostError for what is none."""
    if len(value) not in (4, 16):
        raise broken("an address of the wrong size")
    return address.canonical(value)
