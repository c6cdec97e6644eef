"""Whether somebody answered a socket between two looks at it, by what struct tcp_info says of it each time.

If somebody did, the connection has another end, wherever it is, and the socket is not half-open. Sources are
net/ipv4/tcp_input.c and tcp_ipv4.c:

* `bytes_acked` and `bytes_received` grow by valid segments alone, and only these set the age of the last
  acknowledgement to 0 (tcp_ack sets rcv_tstamp). A RST, a SYN, and a SYN-ACK that a request socket sends again are
  dropped before (tcp_validate_incoming); the answer to a keepalive probe or a window probe of this end is not.
* `segs_in` grows by whatever arrives for the socket. It shows a keepalive probe of the other end, which sets no age to
  0. While this end retransmits in vain it proves nothing: the segments may be RSTs out of window, one for each try.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from halfopen.model import Socket, TcpInfo
from halfopen.tcp import State

TICKS_MS = 20  # what two ages of one socket may be off by: each counts in ticks of the kernel, up to 10 ms


def is_answered(looks: Sequence[Socket]) -> bool:
    """Whether somebody answered between two of the looks at one socket, in order. False if it has no tcp_info."""
    infos = [socket.info for socket in looks if socket.info is not None and socket.state not in HANDSHAKE]
    return any(progressed(*pair) or heard_later(*pair) or probed(*pair) for pair in pairwise(infos))


def progressed(first: TcpInfo, later: TcpInfo) -> bool:
    """Whether data arrived, or data of this end was acknowledged."""
    return changed(first.bytes_acked, later.bytes_acked) or changed(first.bytes_received, later.bytes_received)


def heard_later(first: TcpInfo, later: TcpInfo) -> bool:
    """Whether the last acknowledgement or the last data arrived after the first look.

    An age (in ms) grows by the time between the looks, unless it was set to 0 meanwhile. That time is taken from the
    age of the same socket that grew most, since nothing else here is measured by the host's own clock.
    """
    heard = (later.last_ack_recv_ms - first.last_ack_recv_ms, later.last_data_recv_ms - first.last_data_recv_ms)
    elapsed = max(0, *heard, later.last_data_sent_ms - first.last_data_sent_ms)
    return min(heard) < elapsed - TICKS_MS


def probed(first: TcpInfo, later: TcpInfo) -> bool:
    """Whether a segment arrived that is no answer to a retransmission or a probe: this end has none outstanding."""
    return changed(first.segs_in, later.segs_in) and not later.retransmits and not later.probes


def changed(first: int | None, later: int | None) -> bool:
    """Whether a counter changed; None is unknown and shows nothing."""
    return first is not None and later is not None and first != later


HANDSHAKE = (State.SYN_SENT, State.SYN_RECV)  # their ages are not set yet, and a SYN-ACK is no answer to data
