"""When enough time has passed to judge: what the timers of two ends are about to bring, and what they brought in vain.

An end whose timer runs sends again when it ends, and that may heal the connection or end it. So a finding that an end
may still undo by itself waits until it has tried, in vain, while it was looked at; the kernel counts tries from 0 again
with every answer, so many in a row are many lost in a row, which ordinary loss does not do. Sources are
include/net/inet_connection_sock.h (icsk_rto, icsk_backoff) and net/ipv4/inet_diag.c (idiag_timer, idiag_expires).
"""

from __future__ import annotations

from collections.abc import Sequence

from halfopen.model import Observation, Socket
from halfopen.tcp import State, Timer


def base_rto_s(socket: Socket) -> float | None:
    """Its retransmission timeout in seconds before any backing off; None if it does not tell."""
    if socket.info is None or not socket.info.rto_us:
        return None
    return float(socket.info.rto_us >> min(socket.info.backoff, 16)) / 1e6


def answer_s(socket: Socket) -> float:
    """How long an answer to what it sends takes at most, in seconds."""
    measured = 2 * socket.info.rtt_us / 1e6 if socket.info is not None else 0.0
    return max(LEAST_ANSWER_S, measured)


def next_try_s(socket: Socket) -> float | None:
    """Seconds until it tries again and an answer has had its time; None if no timer of it sends anything unanswered."""
    if socket.timer_expires_s is None or not tries_again(socket):
        return None
    return socket.timer_expires_s + answer_s(socket)


def tried_s(socket: Socket) -> float:
    """Seconds until it has tried PATIENCE times in a row, at least once from now on, and an answer has had its time.

    A few timeouts if it sends nothing by itself, or may be healthy: an established end that has sent nothing again.
    Each try doubles the timeout, which a request socket does not tell (it begins with a second: TCP_TIMEOUT_INIT).
    """
    if next_try_s(socket) is None or (socket.state is State.ESTABLISHED and not socket.retransmits):
        return FEW * (base_rto_s(socket) or 0.0)
    tried = socket.retransmits or 0
    timeout = socket.info.rto_us / 1e6 if socket.info is not None else float(1 << min(tried, 16))
    more = sum(timeout * (1 << number) for number in range(1, max(1, PATIENCE - tried)))
    return (socket.timer_expires_s or 0.0) + more + answer_s(socket)


def tries_again(socket: Socket) -> bool:
    """Whether it sends again what had no answer: a SYN, a SYN-ACK, data or a FIN, or a probe that had none."""
    return socket.timer is Timer.RETRANSMIT or (socket.timer in PROBES and bool(socket.retransmits))


def is_trying(seen: Observation) -> bool:
    """Whether an established end has sent something again, and still has no answer."""
    return isinstance(seen, Socket) and seen.state is State.ESTABLISHED and bool(seen.retransmits) and tries_again(seen)


def most_due(end: Observation) -> float:
    """Seconds until another look at it tells more: its next try, or a few timeouts if it sends nothing by itself."""
    if not isinstance(end, Socket):
        return 0.0
    due = next_try_s(end)
    return due if due is not None else FEW * (base_rto_s(end) or 0.0)


def spans_timeouts(ends: Sequence[Observation], seconds: float) -> bool:
    """Whether so many seconds are a few retransmission timeouts of each of these ends, as far as they tell.

    LONGEST_S is enough for any, since a run waits no longer.
    An end that tries again is judged by its tries instead: see `is_due`.
    """
    timeouts = [base_rto_s(end) for end in ends if isinstance(end, Socket) and next_try_s(end) is None]
    return seconds >= min(LONGEST_S, FEW * max((timeout for timeout in timeouts if timeout is not None), default=0.0))


def is_due(looks: Sequence[Observation], seconds: float) -> bool:
    """Whether an end will try something that may change everything. `seconds`: from the first to the last of the looks.

    It has none if it has tried often enough in vain; nor if its timer ended while it was looked at and it sent nothing,
    as a listener does that waits for data first (TCP_DEFER_ACCEPT).
    """
    sockets = [seen for seen in looks if isinstance(seen, Socket)]
    if not sockets or next_try_s(sockets[-1]) is None:
        return False
    first, last = sockets[0], sockets[-1]
    tries = last.retransmits or 0
    seen_in_vain = tries > (first.retransmits or 0)
    if not seen_in_vain and first.timer_expires_s is not None and seconds > first.timer_expires_s + answer_s(first):
        return False
    return tries < (PATIENCE if seen_in_vain else PATIENCE + 1)


PROBES = (Timer.KEEPALIVE, Timer.PROBE)
FEW = 3  # timeouts that must pass before nothing having come means something
LEAST_ANSWER_S = 0.25  # a delayed acknowledgement takes up to 0.2 s (TCP_DELACK_MAX)
PATIENCE = 3  # tries in a row
LEAST_EXTRA_S = 1.0  # before a round beyond those that were asked for
LONGEST_S = 10.0  # that the rounds of a run wait altogether for timers of suspects
