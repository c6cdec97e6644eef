"""How a finding came about, step by step: what its cause says, and what its two sockets show of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from halfopen.judge.confirm.asked import answer_of
from halfopen.judge.diagnosis.rules.handshake import by_cookie
from halfopen.judge.diagnosis.rules.path import trying
from halfopen.judge.diagnosis.rules.rule import Reason
from halfopen.judge.signs.case import Case
from halfopen.judge.signs.tcp_signs import (
    CLOSING,
    alone,
    ends,
    is_missing,
    kept_in,
    never_confirmed,
    other_end,
    unanswered,
    window_closed,
)
from halfopen.schema.report import Answer, CauseCode, StepCode, Verdict
from halfopen.tcp import State

Steps = tuple[StepCode, ...]
Told = Callable[[Case], Steps]
"""A finding with a cause -> its steps in the order of time, none where the evidence does not tell them."""


def steps_of(case: Case, reasons: Sequence[Reason]) -> Steps:
    """The steps of a finding by its first cause; none where others fit as well and it is not decisive."""
    if len(reasons) > 1 and not reasons[0].decisive:
        return ()
    return STEPS[reasons[0].code](case)


def overflow(case: Case) -> Steps:
    """Whoever comes to a full accept queue is turned away: with the SYN, or with the ACK."""
    verdict, server, info = case.held.verdict, case.held.server, never_confirmed(case)
    if verdict is Verdict.NEVER_ACCEPTED:
        return accepted_by_kernel(case)
    if verdict is Verdict.CONNECT_UNANSWERED:
        return (StepCode.SYN_DROPPED,)
    if verdict is Verdict.HANDSHAKE_STUCK:
        again = (StepCode.SYN_ACK_AGAIN, StepCode.ACK_DROPPED) if server is not None and server.retransmits else ()
        return (*HANDSHAKE, StepCode.ACK_DROPPED, *again)
    if info is None:
        return ()
    if by_cookie(case, info):
        return StepCode.SYN, StepCode.COOKIE, StepCode.ACK_DROPPED, StepCode.SILENCE
    again = (StepCode.SYN_ACK_AGAIN, StepCode.ACK_DROPPED)
    return (*HANDSHAKE, StepCode.ACK_DROPPED, *again, StepCode.FORGOTTEN, StepCode.SILENCE)


def ack_lost(case: Case) -> Steps:
    """The SYN-ACK is repeated, and each answer to it is lost."""
    found = (*HANDSHAKE, StepCode.ACK_LOST, StepCode.SYN_ACK_AGAIN, StepCode.ACK_LOST)
    return found if case.held.server is not None else (*found, StepCode.FORGOTTEN, StepCode.SILENCE)


def accepted_by_kernel(case: Case) -> Steps:
    """The kernel finished the handshake, and the program does not take it; the client may have closed since."""
    server = case.held.server
    closed = (StepCode.CLIENT_FIN,) if server is not None and server.state is State.CLOSE_WAIT else ()
    return (*HANDSHAKE, StepCode.ACK, StepCode.QUEUED, *closed)


def gone(client: StepCode, server: StepCode) -> Told:
    """Steps of an end that is not there any more: one of these, by whose end that is."""

    def told(case: Case) -> Steps:
        left = alone(case)
        if left is None or not is_missing(case):
            return ()
        return (*begun(case), server if left.is_client else client, *since(case))

    return told


def reset_lost(case: Case) -> Steps:
    """A RST that did not arrive: one of itself, or the answer to what the other end sends."""
    left = alone(case)
    if left is None:
        return ()
    reset = StepCode.SERVER_RST_LOST if left.is_client else StepCode.CLIENT_RST_LOST
    sent = StepCode.CLIENT_SENT if left.is_client else StepCode.SERVER_SENT
    return (*begun(case), sent, reset) if unanswered(left.end) else (*begun(case), reset, StepCode.SILENCE)


def box_forgot(case: Case) -> Steps:
    """Silence first, then what either end has tried in vain."""
    return (*begun(case), StepCode.SILENCE, StepCode.BOX_FORGOT, *tried(case))


def path_dead(case: Case) -> Steps:
    """What is sent in vain, in the handshake or after it."""
    verdict, client, server = case.held.verdict, case.held.client, case.held.server
    if verdict is Verdict.EMBRYONIC:
        return StepCode.SYN, StepCode.SYN_ACK_UNANSWERED
    if verdict is Verdict.HANDSHAKE_STUCK:
        return (*HANDSHAKE, StepCode.SYN_ACK_LOST)
    if verdict is Verdict.CONNECT_UNANSWERED:
        answered = client is not None and server is not None and server.state is State.SYN_RECV
        return (StepCode.SYN, StepCode.SYN_ACK_LOST) if answered else (StepCode.SYN_UNANSWERED,)
    if vain := tried(case):
        return (*begun(case), *vain)
    return gone(StepCode.CLIENT_GAVE_UP, StepCode.SERVER_GAVE_UP)(case)


def not_closing(case: Case) -> Steps:
    """One end has sent its FIN, and the other stays in CLOSE_WAIT."""
    client = case.held.client
    if client is not None and client.state is State.CLOSE_WAIT:
        return StepCode.ESTABLISHED, StepCode.SERVER_FIN, StepCode.CLIENT_NOT_CLOSING
    return StepCode.ESTABLISHED, StepCode.CLIENT_FIN, StepCode.SERVER_NOT_CLOSING


def not_reading(case: Case) -> Steps:
    """One end sends until the other's buffer is full."""
    for end, _ in ends(case):
        if window_closed(end):
            if end is case.held.client:
                return StepCode.ESTABLISHED, StepCode.CLIENT_SENT, StepCode.SERVER_NOT_READING
            return StepCode.ESTABLISHED, StepCode.SERVER_SENT, StepCode.CLIENT_NOT_READING
    return ()


def vanished(case: Case) -> Steps:
    """The end that is missing went without a word, or its address did."""
    if case.former is not None:
        return gone(StepCode.CLIENT_MOVED, StepCode.SERVER_MOVED)(case)
    return gone(StepCode.CLIENT_VANISHED, StepCode.SERVER_VANISHED)(case)


def refused(case: Case) -> Steps:
    """A SYN that is dropped on the way, where something listens; else it, or the RST that answers it."""
    return (StepCode.SYN_LOST,) if case.listener is not None else (StepCode.SYN_UNANSWERED,)


def begun(case: Case) -> Steps:
    """What is known of the beginning: both ends were established, or all that the client ever had is the SYN-ACK."""
    return HANDSHAKE if never_confirmed(case) else (StepCode.ESTABLISHED,)


def since(case: Case) -> Steps:
    """What the end that is left has done since then: tried in vain, or nothing."""
    return tried(case) or ((StepCode.SILENCE,) if any(end.state not in CLOSING for end, _ in ends(case)) else ())


def tried(case: Case) -> Steps:
    """What each end that is there has sent, or was made to send, without an answer."""
    found: list[StepCode] = []
    for end, _ in ends(case):
        is_client = end is case.held.client
        kept = kept_in(end, other_end(case, end)[0])
        asked = any(one.key == end.key and answer_of(one.reply) is Answer.SILENCE for one in case.held.asked)
        if kept and trying(end, kept):
            found.append(StepCode.CLIENT_KEPT_IN if is_client else StepCode.SERVER_KEPT_IN)
        elif trying(end) or asked:
            found.append(StepCode.CLIENT_UNANSWERED if is_client else StepCode.SERVER_UNANSWERED)
    return tuple(found)


def always(*steps: StepCode) -> Told:
    """The same steps for every finding with a cause."""
    return lambda _: steps


HANDSHAKE = (StepCode.SYN, StepCode.SYN_ACK)

STEPS: dict[CauseCode, Told] = {
    CauseCode.ACCEPT_QUEUE_OVERFLOW: overflow,
    CauseCode.SYN_COOKIE_ACK_LOST: always(StepCode.SYN, StepCode.COOKIE, StepCode.ACK_LOST, StepCode.SILENCE),
    CauseCode.FINAL_ACK_LOST: ack_lost,
    CauseCode.DEFERRED_ACCEPT: always(*HANDSHAKE, StepCode.ACK_IGNORED),
    CauseCode.PEER_REBOOTED: gone(StepCode.CLIENT_RESTARTED, StepCode.SERVER_RESTARTED),
    CauseCode.PEER_VANISHED: vanished,
    CauseCode.RESET_LOST: reset_lost,
    CauseCode.MIDDLEBOX_FORGOT: box_forgot,
    CauseCode.PATH_DEAD: path_dead,
    CauseCode.APPLICATION_NOT_ACCEPTING: accepted_by_kernel,
    CauseCode.APPLICATION_NOT_CLOSING: not_closing,
    CauseCode.APPLICATION_NOT_READING: not_reading,
    CauseCode.CONNECTION_REFUSED_SILENTLY: refused,
    CauseCode.TUPLE_REUSED: always(StepCode.ESTABLISHED, StepCode.REUSED),
    CauseCode.UNKNOWN: always(),
}
