"""What hypothesis draws from: addresses, keys, sockets, and the bytes a probe sends for them."""

from __future__ import annotations

import struct
import zlib

from hypothesis import strategies as st

from halfopen import address
from halfopen.evidence.probe import kernel
from halfopen.model import Socket
from halfopen.tcp import TIMER_NUMBERS, State, number_of

PORTS = st.integers(1, 65535)
V4 = st.binary(min_size=4, max_size=4)
V6 = st.binary(min_size=16, max_size=16).map(lambda raw: b"\xfd" + raw[1:])
KEYS = st.one_of(
    st.builds(address.make_key, V4, PORTS, V4, PORTS),
    st.builds(address.make_key, V6, PORTS, V6, PORTS),
)
STATES = st.sampled_from([state for state in State if state is not State.LISTEN])
U32 = st.integers(0, 2**32 - 1)


@st.composite
def sockets(draw: st.DrawFn) -> Socket:
    """A socket without TCP_INFO, of either family, mapped or not."""
    key = draw(KEYS)
    timer = draw(st.sampled_from(sorted(TIMER_NUMBERS)))
    return Socket(
        key=key,
        state=draw(STATES),
        family=10 if len(key) == address.V6_KEY else draw(st.sampled_from([2, 10])),
        scope=draw(st.integers(0, 9)),
        timer=TIMER_NUMBERS[timer],
        timer_expires_s=draw(U32) / 1000 if timer else None,
        retransmits=draw(st.integers(0, 255)),
        recv_q=draw(U32),
        send_q=draw(U32),
        uid=draw(U32),
        inode=draw(U32),
        cookie=draw(st.integers(0, 2**64 - 2)),
    )


def encode_socket(one: Socket) -> bytes:
    """inet_diag_msg of a socket, as a kernel would fill it; the inverse of kernel.decode_socket."""
    local, local_port, peer, peer_port = address.split_key(one.key)
    packed = [
        raw if len(raw) == 16 else (b"\0" * 10 + b"\xff\xff" + raw if one.family == 10 else raw)
        for raw in (local, peer)
    ]
    timers = {timer: number for number, timer in TIMER_NUMBERS.items()}
    assert one.timer is not None and one.cookie is not None
    return kernel.MESSAGE.pack(
        one.family,
        number_of(one.state),
        timers[one.timer],
        one.retransmits,
        struct.pack(">H", local_port),
        struct.pack(">H", peer_port),
        *packed,
        one.scope,
        one.cookie.to_bytes(8, "little"),
        round((one.timer_expires_s or 0) * 1000),
        one.recv_q,
        one.send_q,
        one.uid,
        one.inode,
    )


def frame(nonce: bytes, sequence: int, kind: int, payload: bytes) -> bytes:
    """A frame as the probe writes it."""
    head = struct.pack(">BII", kind, sequence, len(payload))
    return nonce + head + struct.pack(">I", zlib.crc32(payload, zlib.crc32(head))) + payload
