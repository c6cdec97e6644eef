"""Messages of sock_diag -> sockets: include/uapi/linux/inet_diag.h and tcp.h, of a little-endian kernel. Pure."""

from __future__ import annotations

import struct
from operator import itemgetter
from typing import Any

from halfopen import address
from halfopen.evidence.probe.frames import broken
from halfopen.model import (
    ListenSocket,
    Socket,
    TcpInfo,
)
from halfopen.tcp import TIMER_NUMBERS, State, state_of

MESSAGE = struct.Struct("=BBBB2s2s16s16sI8sIIIII")  # inet_diag_msg, 72 bytes
ATTRIBUTE = struct.Struct("=HH")  # nlattr: length and type
NO_COOKIE = b"\xff" * 8


def decode_listener(message: tuple[Any, ...]) -> ListenSocket:
    """inet_diag_msg of a LISTEN socket: rqueue is the length of its accept queue, wqueue its backlog."""
    family, state, _, _, port, _, local, _, scope, cookie, _, rqueue, wqueue, uid, inode = message
    if family not in (2, 10) or state_of(state) is not State.LISTEN:
        raise broken("a listener in another state than LISTEN")
    packed = local[:4] if family == 2 else address.canonical(local)
    return ListenSocket(
        packed, int.from_bytes(port, "big"), family, scope, rqueue, wqueue, uid, inode, decode_cookie(cookie)
    )


def decode_cookie(raw: bytes) -> int | None:
    """idiag_cookie, two words in host order -> number; None for INET_DIAG_NOCOOKIE."""
    return None if raw == NO_COOKIE else int.from_bytes(raw, "little")


def decode_socket(data: bytes) -> Socket:
    """inet_diag_msg and its attributes -> Socket."""
    if len(data) < MESSAGE.size:
        raise broken("a socket is cut")
    family, state_number, timer, retransmits, sport, dport, local, peer, scope, cookie, expires, rq, wq, uid, inode = (
        MESSAGE.unpack_from(data)
    )
    state = state_of(state_number)
    if state is None or family not in (2, 10):
        raise broken("a state or family that TCP does not have")
    if family == 2:
        local, peer = local[:4], peer[:4]
    else:
        local, peer = address.canonical(local), address.canonical(peer)
    identity = decode_cookie(cookie)
    return Socket(
        key=local + peer + sport + dport,
        state=state,
        family=family,
        scope=scope,
        timer=TIMER_NUMBERS.get(timer),
        timer_expires_s=expires / 1000 if timer else None,
        retransmits=retransmits,
        recv_q=rq,
        send_q=wq,
        uid=uid,
        inode=inode,
        cookie=identity,
        info=decode_info(data),
    )


def decode_info(data: bytes) -> TcpInfo | None:
    """The INET_DIAG_INFO attribute (2) of a message: struct tcp_info, read as far as the kernel fills it."""
    at, end = MESSAGE.size, len(data)
    while at + 4 <= end:
        length, attribute = ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > end:
            raise broken("an attribute is cut")
        if attribute & 0x3FFF == 2:
            return tcp_info(data[at + 4 : at + length])
        at += (length + 3) & ~3
    return None


def tcp_info(raw: bytes) -> TcpInfo | None:
    """struct tcp_info (include/uapi/linux/tcp.h) of any kernel: a field beyond its length is None."""
    if len(raw) >= WHOLE_INFO.size:
        return TcpInfo(*by_name(WHOLE_INFO.unpack_from(raw)))
    if len(raw) < 104:
        return None
    values: dict[str, Any] = {
        name: struct.unpack_from(form, raw, offset)[0] if offset + struct.calcsize(form) <= len(raw) else None
        for name, form, offset in INFO
    }
    return TcpInfo(**values)


INFO: tuple[tuple[str, str, int], ...] = (
    ("ca_state", "B", 1),
    ("retransmits", "B", 2),
    ("probes", "B", 3),
    ("backoff", "B", 4),
    ("options", "B", 5),
    ("rto_us", "=I", 8),
    ("unacked", "=I", 24),
    ("last_data_sent_ms", "=I", 44),
    ("last_data_recv_ms", "=I", 52),
    ("last_ack_recv_ms", "=I", 56),
    ("rtt_us", "=I", 68),
    ("rttvar_us", "=I", 72),
    ("snd_mss", "=I", 16),
    ("total_retrans", "=I", 100),
    ("bytes_acked", "=Q", 120),
    ("bytes_received", "=Q", 128),
    ("segs_out", "=I", 136),
    ("segs_in", "=I", 140),
    ("notsent_bytes", "=I", 144),
    ("data_segs_in", "=I", 152),
    ("data_segs_out", "=I", 156),
    ("bytes_sent", "=Q", 200),
    ("bytes_retrans", "=Q", 208),
    ("snd_wnd", "=I", 228),
    ("rcv_wnd", "=I", 232),
)
"""Field of TcpInfo, struct format, offset. Kernel structs are in the byte order of the host: little-endian only."""


def whole_info() -> struct.Struct:
    """All fields of INFO as one struct, in the order of the offsets: faster for thousands of look-ups."""
    layout, at = "=", 0
    for _, form, offset in sorted(INFO, key=itemgetter(2)):
        layout += f"{offset - at}x{form.lstrip('=')}"
        at = offset + struct.calcsize(form)
    return struct.Struct(layout)


WHOLE_INFO = whole_info()
NAMES = [name for name, _, _ in sorted(INFO, key=itemgetter(2))]
by_name = itemgetter(*(NAMES.index(name) for name in TcpInfo.__struct_fields__))
"""Values in the order of the offsets -> in the order of TcpInfo."""
