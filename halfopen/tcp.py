"""TCP states and timers, by the names that psutil and RFC 9293 section 3.3.2 use.

Kernel numbers are those of include/net/tcp_states.h and include/uapi/linux/inet_diag.h.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """State of one socket. FIN_WAIT1 is RFC 9293's FIN-WAIT-1, and so on."""

    ESTABLISHED = "ESTABLISHED"
    SYN_SENT = "SYN_SENT"
    SYN_RECV = "SYN_RECV"
    FIN_WAIT1 = "FIN_WAIT1"
    FIN_WAIT2 = "FIN_WAIT2"
    TIME_WAIT = "TIME_WAIT"
    CLOSE = "CLOSE"
    CLOSE_WAIT = "CLOSE_WAIT"
    LAST_ACK = "LAST_ACK"
    LISTEN = "LISTEN"
    CLOSING = "CLOSING"


class Timer(StrEnum):
    """Which timer of a socket runs; names as `ss -o` prints them, `retransmit` for its `on`."""

    OFF = "off"
    RETRANSMIT = "retransmit"
    KEEPALIVE = "keepalive"
    TIMEWAIT = "timewait"
    PROBE = "zero-window-probe"
    DELAYED_ACK = "delayed-ack"


def state_of(number: int) -> State | None:
    """The state that the kernel calls `number`, or None for a number that is none."""
    return STATE_NUMBERS.get(number)


def number_of(state: State) -> int:
    """The kernel's number of `state` (SYN_RECV is 3, never 12)."""
    return _NUMBERS[state]


STATE_NUMBERS: dict[int, State] = {
    1: State.ESTABLISHED,
    2: State.SYN_SENT,
    3: State.SYN_RECV,
    4: State.FIN_WAIT1,
    5: State.FIN_WAIT2,
    6: State.TIME_WAIT,
    7: State.CLOSE,
    8: State.CLOSE_WAIT,
    9: State.LAST_ACK,
    10: State.LISTEN,
    11: State.CLOSING,
    12: State.SYN_RECV,  # TCP_NEW_SYN_RECV: a request socket
    13: State.CLOSE,  # TCP_BOUND_INACTIVE
}
_NUMBERS = {state: number for number, state in STATE_NUMBERS.items() if number < 12}

TIMER_NUMBERS: dict[int, Timer] = {
    0: Timer.OFF,
    1: Timer.RETRANSMIT,
    2: Timer.KEEPALIVE,
    3: Timer.TIMEWAIT,
    4: Timer.PROBE,
    5: Timer.DELAYED_ACK,
}
