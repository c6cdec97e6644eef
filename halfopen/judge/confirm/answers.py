"""Whether somebody answered a socket between two looks at it, by what struct tcp_info says of it each time.

If somebody did, the connection has another end, wherever it is, and the socket is not half-open. Sources are
net/ipv4/tcp_input.c and tcp_ipv4.c:

* `bytes_acked` and `bytes_received` grow by valid segments alone, and so does the clock of the last acknowledgement
  (tcp_ack sets rcv_tstamp). A RST, a SYN, and a SYN-ACK that a request socket sends again do not come that far
  (tcp_validate_incoming); a keepalive probe or a window probe of ours that is answered does.
* `segs_in` grows by whatever arrives for the socket. That is how a keepalive probe of the other end shows, which moves
  no clock. While this end tries in vain it proves nothing: it may be a RST that does not fit, in answer to each try.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from halfopen.model import Socket, TcpInfo
from halfopen.tcp import State

TICKS_MS = 20  # what two clocks of one socket may differ by: they count in ticks of the kernel, up to 10 ms each


def is_answered(looks: Sequence[Socket]) -> bool:
    """Whether somebody answered between any two looks at one socket, in order. Without tcp_info nothing shows it."""
    infos = [one.info for one in looks if one.info is not None and one.state not in HANDSHAKE]
    return any(progressed(*pair) or heard_later(*pair) or spoken_to(*pair) for pair in pairwise(infos))


def progressed(first: TcpInfo, later: TcpInfo) -> bool:
    """Whether data came in, or ours was acknowledged."""
    return changed(first.bytes_acked, later.bytes_acked) or changed(first.bytes_received, later.bytes_received)


def heard_later(first: TcpInfo, later: TcpInfo) -> bool:
    """Whether the last acknowledgement or the last data is of after the first look.

    An age grows by the time between the looks, unless its clock was set again meanwhile. How long that was tells the
    clock of the same socket that grew most, since nothing else here is measured by the host's own time.
    """
    heard = (later.last_ack_recv_ms - first.last_ack_recv_ms, later.last_data_recv_ms - first.last_data_recv_ms)
    elapsed = max(0, *heard, later.last_data_sent_ms - first.last_data_sent_ms)
    return min(heard) < elapsed - TICKS_MS


def spoken_to(first: TcpInfo, later: TcpInfo) -> bool:
    """Whether anything arrived that this end had not asked for: it has nothing outstanding that nobody answers."""
    return changed(first.segs_in, later.segs_in) and not later.retransmits and not later.probes


def changed(first: int | None, later: int | None) -> bool:
    """Whether a counter moved; unknown shows nothing."""
    return first is not None and later is not None and first != later


HANDSHAKE = (State.SYN_SENT, State.SYN_RECV)  # their clocks are not set yet, and a SYN-ACK is no answer to data
