"""What byte counters, clocks and timers prove about two ESTABLISHED ends, looked up first, second, first again.

struct tcp_info counts sequence space. `bytes_acked` grows with SND.UNA and `bytes_received` with RCV.NXT
(net/ipv4/tcp_input.c: tcp_snd_una_update, tcp_rcv_nxt_update); `send_q` is what was written and is not acknowledged
(net/ipv4/tcp_diag.c: write_seq - snd_una). So a retransmission, a duplicate and a probe count nothing, urgent data and
data in a SYN count as any other, and data that nobody has read yet counts as received. All of these only grow. From a
sender to its receiver, at any two moments t <= u:

    acknowledged(t) - 1 <= received(u)             only what was received is acknowledged
    received(t) <= acknowledged(u) + queued(u)     only what was written is received

The 1 is the SYN of an active opener, which only its own end counts. A FIN needs no allowance: an end that has sent or
got one is not ESTABLISHED. Three looks give both bounds for both directions, at full speed and under any loss.

An end that breaks a bound is not the other end of this connection, with one exception: a socket that was restored from
a checkpoint, or moved here (TCP_REPAIR), goes on with the old sequence numbers and counts from 0. Such an end is
excepted if it has never measured a round trip, for then it has seen neither a handshake nor an answer. And an end that
broke a bound is excepted if the last data of one end arrived at the other when it was sent, because then data does
pass. That also excepts two connections that a proxy with the same addresses joins, as long as data flows through it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from halfopen.model import Observation, Socket, TcpInfo
from halfopen.schema.report import Verdict
from halfopen.tcp import State, Timer


class Trio(Struct, frozen=True):
    """Two established ends of one bracket: the first before and after the second."""

    before: Socket
    second: Socket
    after: Socket


def verdicts(before: Observation, second: Observation, after: Observation) -> tuple[Verdict, ...]:
    """The verdicts of one bracket beyond that of the states, the gravest first; none unless both ends are established.

    before, after: the first end before and after the look at the `second`.
    """
    sockets = [seen for seen in (before, second, after) if isinstance(seen, Socket) and seen.state is State.ESTABLISHED]
    if len(sockets) < 3:
        return ()
    trio = Trio(*sockets)
    found = []
    if contradicts(trio):
        found.append(Verdict.DESYNCHRONIZED)
    if any(sticks(*pair) for pair in ((trio.after, trio.second), (trio.second, trio.after))):
        found.append(Verdict.STALLED)
    return tuple(found)


# ------------------------------------------------------------------------------------------------- desynchronized


def contradicts(trio: Trio) -> bool:
    """Whether the counters prove that these are not the two ends of one connection."""
    before, second, after = trio.before.info, trio.second.info, trio.after.info
    if before is None or second is None or after is None or 0 in (before.rtt_us, second.rtt_us):
        return False
    bounds = (
        exceeds(acknowledged(trio.before), second.bytes_received),
        exceeds(acknowledged(trio.second), after.bytes_received),
        exceeds(second.bytes_received, written(trio.after)),
        exceeds(before.bytes_received, written(trio.second)),
    )
    return any(bounds) and not data_passes(before, second, after)


def exceeds(count: int | None, bound: int | None) -> bool:
    """Whether a number of bytes exceeds its upper bound; None is unknown and proves nothing."""
    return count is not None and bound is not None and count > bound


def acknowledged(socket: Socket) -> int | None:
    """The least number of bytes of data that the other end has acknowledged; None if unknown."""
    return socket.info.bytes_acked - 1 if socket.info is not None and socket.info.bytes_acked is not None else None


def written(socket: Socket) -> int | None:
    """The greatest number of bytes of data that the program can have written; None if unknown."""
    if socket.info is None or socket.info.bytes_acked is None or socket.send_q is None:
        return None
    return socket.info.bytes_acked + socket.send_q


def data_passes(before: TcpInfo, second: TcpInfo, after: TcpInfo) -> bool:
    """Whether the last data of one end arrived at the other about when it was sent."""
    return coincide(
        (before.last_data_sent_ms, after.last_data_sent_ms), (second.last_data_recv_ms,), sender=after, receiver=second
    ) or coincide(
        (second.last_data_sent_ms,), (before.last_data_recv_ms, after.last_data_recv_ms), sender=second, receiver=after
    )


def coincide(sent: Sequence[int], received: Sequence[int], sender: TcpInfo, receiver: TcpInfo) -> bool:
    """Whether two ages of last data are the same but for the round trip and a retransmission.

    sent, received: the ages in ms, in each look at the sender and at the receiver.

    A sender that retransmits in vain keeps its age of sent data low, and nothing arrives. Without data both ages count
    from the handshake, and a middlebox may have opened both, so equal ages prove nothing without data; but kernels
    before 5.4 (they have no snd_wnd) keep the ages of the connection before when a socket is disconnected and connects
    again, and of those equal ages are enough.
    """
    silent = not receiver.bytes_received or (sender.bytes_acked or 0) <= 1
    if sender.retransmits or (silent and None not in (sender.snd_wnd, receiver.snd_wnd)):
        return False
    slack = COINCIDENCE_MS + (sender.rtt_us + 4 * sender.rttvar_us) // 1000
    return min(sent) - slack <= max(received) and min(received) <= max(sent) + slack


# ------------------------------------------------------------------------------------------------- stalled


def sticks(sender: Socket, receiver: Socket) -> bool:
    """Whether data or a probe of one end is unanswered at this moment, though the other end is there and could take it.

    A single retransmission may still be in flight, so there must be more, or every loss would cost a second round.
    A probe of a closed window counts while it is unanswered (net/ipv4/tcp_input.c: tcp_ack resets icsk_probes_out), so
    it counts whoever does not read: a program that does not read leaves the answers to its kernel. Retransmissions do
    not count into a closed window, nor when they arrive at an end that has unread data and takes no more (kernels
    before 6.7 say nothing when they drop for want of memory): there, too, a program does not read.

    Keepalive probes wait for the next one as long as `tcp_keepalive_intvl`, and are sent where nothing else is; so they
    count once there are PATIENCE of them.
    """
    if sender.timer is Timer.KEEPALIVE:
        return (sender.retransmits or 0) >= PATIENCE
    if (sender.retransmits or 0) < 2 or not sender.send_q:
        return False
    if sender.timer is Timer.PROBE:
        return True
    if sender.timer is not Timer.RETRANSMIT or (sender.info is not None and sender.info.snd_wnd == 0):
        return False
    return not receiver.recv_q or took_more(sender, receiver) or not arrives(sender, receiver)


def arrives(sender: Socket, receiver: Socket) -> bool:
    """Whether the last segment of the sender may have arrived: the receiver has had an acknowledgement since.

    Any segment that is in the window counts as one (tcp_ack sets rcv_tstamp), a retransmission too.
    """
    if sender.info is None or receiver.info is None:
        return True
    return receiver.info.last_ack_recv_ms <= sender.info.last_data_sent_ms + COINCIDENCE_MS


def took_more(sender: Socket, receiver: Socket) -> bool:
    """Whether the receiver has data that the sender has no acknowledgement for: the acknowledgements get lost."""
    if sender.info is None or receiver.info is None:
        return False
    return exceeds(receiver.info.bytes_received, sender.info.bytes_acked)


def stays_stuck(ends: Sequence[tuple[Observation, Observation]]) -> bool:
    """Whether one of the two ends was stuck in every bracket, without progress, and tried often enough.

    `ends`: the first and the second end in each bracket. The kernel counts retransmissions from 0 again when anything
    is acknowledged, so that many in a row are many lost in a row: ordinary loss does not do that.
    """
    for number in (0, 1):
        senders = [pair[number] for pair in ends]
        receivers = [pair[1 - number] for pair in ends]
        pairs = [
            (sender, receiver)
            for sender, receiver in zip(senders, receivers, strict=True)
            if isinstance(sender, Socket) and isinstance(receiver, Socket) and sticks(sender, receiver)
        ]
        if len(pairs) == len(ends) and is_patient([sender for sender, _ in pairs]):
            return True
    return False


def is_patient(senders: Sequence[Socket]) -> bool:
    """Whether nothing was acknowledged from the first look to the last, and there were PATIENCE tries by then."""
    first, last = senders[0], senders[-1]
    tries = [socket.retransmits or 0 for socket in (first, last)]
    return acknowledged(first) == acknowledged(last) and tries[1] >= max(PATIENCE, tries[0])


COINCIDENCE_MS = 1000  # what two ages may differ by, beside the round trip
PATIENCE = 3  # retransmissions in a row
