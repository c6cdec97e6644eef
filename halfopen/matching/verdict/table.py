"""THE TABLE: what a pair of states of the two ends of one connection means.

It is total over every state and over ABSENT (looked, not there) and UNSEEN (could not look), and each pair has one
answer. UNSEEN never gives a verdict. LISTEN and CLOSE are no ends of a connection: an exact look-up gives the LISTEN
socket where the tuple is absent, and CLOSE has no peer, so both mean ABSENT.

`judge_pair` adds what the states alone do not show: two established ends are healthy unless the server's socket has no
inode, which means that its program has not accepted it (net/ipv4/inet_connection_sock.c:
inet_csk_accept gives the socket its inode).
"""

from __future__ import annotations

from enum import StrEnum
from itertools import product

from halfopen.model import Absence, Observation, Socket
from halfopen.schema.report import Severity, Verdict
from halfopen.tcp import State


class Accord(StrEnum):
    """Answers that are no verdict."""

    AGREE = "agree"
    UNJUDGED = "unjudged"


Answer = Verdict | Accord
Seen = State | Absence


def state_seen(seen: Observation) -> Seen:
    """What was observed at one end, as a row or column of THE TABLE: ABSENT for LISTEN and CLOSE."""
    if isinstance(seen, Absence):
        return seen
    return Absence.ABSENT if seen.state in NO_END else seen.state


def judge_pair(client: Observation, server: Observation) -> Answer:
    """The answer for one connection from what was observed at its two ends."""
    answer = THE_TABLE[state_seen(client), state_seen(server)]
    if answer is Accord.AGREE and in_accept_queue(client, server):
        return Verdict.NEVER_ACCEPTED
    return answer


def in_accept_queue(client: Observation, server: Observation) -> bool:
    """Whether both ends are established, and the server's program has not accepted: its socket has no inode."""
    return (
        isinstance(client, Socket)
        and isinstance(server, Socket)
        and client.state is State.ESTABLISHED
        and server.state is State.ESTABLISHED
        and server.inode == 0
    )


def make_table() -> dict[tuple[Seen, Seen], Answer]:
    """RULES -> the answer for each pair of states. ValueError where two rules answer one pair differently."""
    table: dict[tuple[Seen, Seen], Answer] = {}
    for clients, servers, either_order, answer in RULES:
        pairs = set(product(clients, servers))
        if either_order:
            pairs |= {(server, client) for client, server in pairs}
        for pair in pairs:
            if table.setdefault(pair, answer) is not answer:
                raise ValueError(f"{pair} is both {table[pair]} and {answer}")
    return table


ABSENT, UNSEEN = Absence.ABSENT, Absence.UNSEEN
EST, SYN_SENT, SYN_RECV, CLOSE_WAIT, TIME_WAIT = (
    State.ESTABLISHED,
    State.SYN_SENT,
    State.SYN_RECV,
    State.CLOSE_WAIT,
    State.TIME_WAIT,
)
FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING = State.FIN_WAIT1, State.FIN_WAIT2, State.LAST_ACK, State.CLOSING
FIN_SENT = (FIN_WAIT1, LAST_ACK, CLOSING)  # a FIN of this end is on its way
ENDING = (FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING)
NO_END = (State.LISTEN, State.CLOSE)
NOT_THERE: tuple[Seen, ...] = (ABSENT, *NO_END)
EVERY: tuple[Seen, ...] = (*State, ABSENT, UNSEEN)

ONE_WAY, EITHER = False, True

RULES: tuple[tuple[tuple[Seen, ...], tuple[Seen, ...], bool, Answer], ...] = (
    # client's end, server's end, does it hold in either order, answer
    ((UNSEEN,), EVERY, EITHER, Accord.UNJUDGED),
    (NOT_THERE, NOT_THERE, EITHER, Accord.AGREE),
    # One end is established.
    ((EST,), (EST,), EITHER, Accord.AGREE),
    ((EST,), NOT_THERE, ONE_WAY, Verdict.MISSING_ON_SERVER),
    (NOT_THERE, (EST,), ONE_WAY, Verdict.MISSING_ON_CLIENT),
    ((EST,), (SYN_RECV,), ONE_WAY, Verdict.HANDSHAKE_STUCK),
    ((SYN_RECV,), (EST,), ONE_WAY, Verdict.DESYNCHRONIZED),
    ((EST,), FIN_SENT, EITHER, Verdict.CLOSE_LOST),
    ((EST,), (SYN_SENT, FIN_WAIT2, CLOSE_WAIT, TIME_WAIT), EITHER, Verdict.DESYNCHRONIZED),
    # One end connects.
    ((SYN_SENT,), (SYN_SENT,), EITHER, Accord.AGREE),
    # A new connection over an old one: the end in TIME_WAIT is no end of this one.
    ((SYN_SENT,), (SYN_RECV, TIME_WAIT, *NOT_THERE), EITHER, Verdict.CONNECT_UNANSWERED),
    ((SYN_SENT,), (*ENDING, CLOSE_WAIT), EITHER, Verdict.DESYNCHRONIZED),
    ((SYN_RECV,), (SYN_RECV,), EITHER, Accord.AGREE),
    ((SYN_RECV,), NOT_THERE, EITHER, Verdict.EMBRYONIC),
    ((SYN_RECV,), FIN_SENT, EITHER, Verdict.CLOSE_LOST),
    ((SYN_RECV,), (FIN_WAIT2, CLOSE_WAIT, TIME_WAIT), EITHER, Verdict.DESYNCHRONIZED),
    # One end has seen the other's FIN and not closed.
    ((CLOSE_WAIT,), (CLOSE_WAIT, TIME_WAIT), EITHER, Accord.AGREE),
    ((CLOSE_WAIT,), (FIN_WAIT1, FIN_WAIT2), EITHER, Verdict.HALF_CLOSED),
    ((CLOSE_WAIT,), (LAST_ACK, CLOSING), EITHER, Verdict.DESYNCHRONIZED),
    ((CLOSE_WAIT,), NOT_THERE, EITHER, Verdict.ABANDONED_CLOSE),
    # Both ends have closed, or one has and the other is gone.
    ((*ENDING, TIME_WAIT), (*ENDING, TIME_WAIT), EITHER, Accord.AGREE),
    (ENDING, NOT_THERE, EITHER, Verdict.CLOSING_ALONE),
    ((TIME_WAIT,), NOT_THERE, EITHER, Accord.AGREE),
)

THE_TABLE = make_table()

SEVERITY: dict[Verdict, Severity] = {
    Verdict.MISSING_ON_SERVER: Severity.CRITICAL,
    Verdict.MISSING_ON_CLIENT: Severity.CRITICAL,
    Verdict.HANDSHAKE_STUCK: Severity.CRITICAL,
    Verdict.DESYNCHRONIZED: Severity.CRITICAL,
    Verdict.STALLED: Severity.CRITICAL,
    Verdict.NEVER_ACCEPTED: Severity.WARNING,
    Verdict.HALF_CLOSED: Severity.WARNING,
    Verdict.ABANDONED_CLOSE: Severity.WARNING,
    Verdict.CLOSE_LOST: Severity.WARNING,
    Verdict.CONNECT_UNANSWERED: Severity.WARNING,
    Verdict.CLOSING_ALONE: Severity.INFO,
    Verdict.EMBRYONIC: Severity.INFO,
    Verdict.AMBIGUOUS: Severity.INFO,
}
