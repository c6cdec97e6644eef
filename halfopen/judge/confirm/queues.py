"""Accept queues that move while they are looked at: what still waits in one of them waits for its turn.

accept() takes the connection that was complete first (net/ipv4/inet_connection_sock.c reqsk_queue_remove), so one that
was taken is older than those that are left. Where listeners share a port (SO_REUSEPORT), each has a queue of its own;
a younger one that was taken shows that what is left waits in another queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from halfopen import address
from halfopen.judge.confirm.bracket import Bracket, same_socket
from halfopen.model import NetnsRef, Socket
from halfopen.tcp import State

Place = tuple[NetnsRef, bytes]
"""(network namespace, key) of a server's end"""

Queue = tuple[NetnsRef, bytes, int]
"""(network namespace, local address, port)"""

Taken = Mapping[Queue, Sequence[tuple[int, Socket]]]
"""Queue -> connections that a program took from it: the last round in which each was waiting, and what it was then."""


def taken_from(brackets: Sequence[Bracket]) -> Taken:
    """What was waiting in an accept queue in one round, and was accepted by a later look."""
    found: dict[Queue, list[tuple[int, Socket]]] = {}
    waiting: dict[Place, tuple[int, Socket]] = {}
    for number, bracket in enumerate(brackets):
        for seen in (bracket.before, bracket.between, bracket.after):
            for place, end in seen.items():
                if not isinstance(end, Socket) or end.state is not State.ESTABLISHED:
                    continue
                if end.inode == 0:
                    waiting[place] = number, end
                elif end.inode and place in waiting and same_socket(waiting[place][1], end):
                    found.setdefault(queue_of(place), []).append(waiting.pop(place))
    return found


def moves(place: Place, brackets: Sequence[Bracket], taken: Taken) -> bool:
    """Whether the queue in which the connection at a place waits was seen to move."""
    ages = [(age_ms(end), age_ms(at_place(place, brackets[number]))) for number, end in taken.get(queue_of(place), ())]
    known = [(theirs, own) for theirs, own in ages if theirs is not None and own is not None]
    return bool(ages) and not any(theirs + SLACK_MS < own for theirs, own in known)


def queue_of(place: Place) -> Queue:
    """Where a server's end waits until it is accepted."""
    local, port, _, _ = address.split_key(place[1])
    return place[0], local, port


def at_place(place: Place, bracket: Bracket) -> Socket | None:
    """The socket that a bracket found at a place."""
    found = [seen.get(place) for seen in (bracket.before, bracket.between, bracket.after)]
    return next((end for end in found if isinstance(end, Socket)), None)


def age_ms(end: Socket | None) -> int | None:
    """How long ago a connection that waits was complete, in ms; None if it does not tell.

    It cannot have sent anything yet, and until then its last data counts as sent when it was made (net/ipv4/
    tcp_minisocks.c tcp_create_openreq_child sets lsndtime).
    """
    return end.info.last_data_sent_ms if end is not None and end.info is not None else None


SLACK_MS = 50  # what two ages may be off by: each counts in ticks of up to 10 ms, and is of another look
