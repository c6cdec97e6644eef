"""What single numbers of a socket decide: who is alone, what is told of the path, and the words of the outlook."""

from __future__ import annotations

from typing import Any

import pytest
from evidence import facts, info, key, sock
from msgspec.structs import replace

from halfopen import address
from halfopen.judge.confirm.rounds import Confirmed
from halfopen.judge.diagnosis.diagnose import diagnose
from halfopen.judge.diagnosis.outlook import prospect_of
from halfopen.judge.diagnosis.rules.path import path_dead, tuple_reused
from halfopen.judge.diagnosis.rules.rule import Reason
from halfopen.judge.signs.case import Case, HostEvidence
from halfopen.judge.signs.phrase import spoken
from halfopen.judge.signs.tcp_signs import Alone, alone
from halfopen.matching.pairing.connection import EndQuery, Suspect
from halfopen.model import ListenSocket, NetnsRef, Socket
from halfopen.schema.report import CauseCode, Confidence, Verdict
from halfopen.tcp import State, Timer

ONE = key(40000)
LISTENER = ListenSocket(address.parse("10.0.0.2"), 5432, 2, 0, 0, 128, 0, 500)
FULL = replace(LISTENER, queue=129)
KERNEL = {
    "tcp_keepalive_intvl": 75,
    "tcp_keepalive_probes": 9,
    "tcp_orphan_retries": 0,
    "tcp_retries2": 15,
    "tcp_syn_retries": 6,
    "tcp_synack_retries": 5,
}
TALKED: dict[str, Any] = {"bytes_received": 900, "bytes_acked": 401, "bytes_sent": 400, "segs_in": 9, "data_segs_in": 4}
EST = State.ESTABLISHED


def end(state: State = EST, timer: Timer = Timer.OFF, **fields: Any) -> Socket:
    """The client's end, silent for 100 s; a field of TcpInfo goes there, another to the socket."""
    own = {name: fields.pop(name) for name in list(fields) if name in Socket.__struct_fields__}
    numbers = info(fields.pop("idle_ms", 100_000), **fields)
    return replace(
        sock(ONE, state), timer=timer, info=numbers, timer_expires_s=None if timer is Timer.OFF else 3.0, **own
    )


def far(made: Socket) -> Socket:
    """The same as the server's end."""
    return replace(made, key=address.mirror(made.key))


def case(
    verdict: Verdict,
    client: Socket | None = None,
    server: Socket | None = None,
    listener: ListenSocket | None = LISTENER,
    web: dict[str, int] | None = None,
    db: dict[str, int] | None = None,
) -> Case:
    """A finding between two hosts that are up for a long time and have these counters."""
    places = NetnsRef("web", 1), NetnsRef("db", 1)
    suspect = Suspect(EndQuery((places[0],), ONE), EndQuery((places[1],), address.mirror(ONE)), client is not None)
    near, distant = (
        HostEvidence(name, facts(name), counters or {}, counters or {}, KERNEL)
        for name, counters in (("web", web), ("db", db))
    )
    return Case(Confirmed(suspect, verdict, Confidence.PROVEN, client, server, *places), near, distant, listener)


def told(reason: Reason | None) -> list[str]:
    """`host sentence`, for each fact of a reason."""
    return [f"{fact.host} {spoken(fact.words)}" for fact in reason.facts] if reason else []


# ------------------------------------------------------------------------------------------------- who is alone


def test_the_end_whose_other_end_is_missing_is_alone() -> None:
    client, server = end(), far(end())
    near = case(Verdict.MISSING_ON_SERVER, client)
    assert alone(near) == Alone(client, near.client, near.server, is_client=True)
    distant = case(Verdict.MISSING_ON_CLIENT, None, server)
    assert alone(distant) == Alone(server, distant.server, distant.client, is_client=False)
    assert alone(case(Verdict.STALLED, client, server)) is None
    assert alone(case(Verdict.AMBIGUOUS)) is None


@pytest.mark.parametrize(
    ("web", "expected"),
    [
        ({"TCPAbortOnTimeout": 3}, CauseCode.PATH_DEAD),
        ({"EstabResets": 3, "OutRsts": 3}, CauseCode.RESET_LOST),
        ({"EstabResets": 3, "OutRsts": 0}, CauseCode.PEER_VANISHED),
    ],
)
def test_where_the_client_is_missing_its_own_host_says_why(web: dict[str, int], expected: CauseCode) -> None:
    server = far(end(**TALKED))
    (found,) = diagnose([case(Verdict.MISSING_ON_CLIENT, None, server, web=web)])
    assert expected in found.codes
    (reason,) = [reason for reason in found.reasons if reason.code is expected]
    assert "web" in {fact.host for fact in reason.facts}
    # The counters of the server's host say nothing of the client.
    assert expected not in diagnose([case(Verdict.MISSING_ON_CLIENT, None, server, db=web)])[0].codes


# ------------------------------------------------------------------------------------------------- the path


AGAIN: dict[str, Any] = {"timer": Timer.RETRANSMIT, "retransmits": 5, "backoff": 5, "rto_us": 6_400_000}


@pytest.mark.parametrize(
    ("tried", "words"),
    [
        (end(**AGAIN, send_q=9), "has sent unacknowledged data again 5 times in 9.6 s, and heard nothing for 1m 40s"),
        (
            end(State.FIN_WAIT1, **AGAIN, send_q=1),
            "has sent its FIN again 5 times in 9.6 s, and heard nothing for 1m 40s",
        ),
        (
            end(State.FIN_WAIT1, **AGAIN, send_q=2),
            "has sent unacknowledged data again 5 times in 9.6 s, and heard nothing for 1m 40s",
        ),
        (end(**AGAIN, send_q=1), "has sent unacknowledged data again 5 times in 9.6 s, and heard nothing for 1m 40s"),
        (end(timer=Timer.KEEPALIVE, retransmits=2), "has had no answer to 2 keepalive probes"),
        (
            end(timer=Timer.PROBE, retransmits=4),
            "has had no answer to 4 probes of a closed window, and heard nothing for 1m 40s",
        ),
    ],
)
def test_what_an_end_has_sent_in_vain_is_told_as_what_it_was(tried: Socket, words: str) -> None:
    assert told(path_dead(case(Verdict.STALLED, tried, far(end())))) == [f"web {words}"]


def test_a_second_try_in_vain_is_the_first_that_counts() -> None:
    for retransmits, count in ((1, 0), (2, 1)):
        tried = end(timer=Timer.KEEPALIVE, retransmits=retransmits)
        assert len(told(path_dead(case(Verdict.STALLED, tried, far(end()))))) == count


SYN = end(State.SYN_SENT, Timer.RETRANSMIT, retransmits=3)
REQUEST = far(replace(end(State.SYN_RECV, Timer.RETRANSMIT, retransmits=2), inode=0, info=None))


def test_a_syn_is_counted_with_its_repetitions() -> None:
    found = path_dead(case(Verdict.CONNECT_UNANSWERED, SYN))
    assert told(found) == ["web has sent its SYN 4 times and heard nothing"]
    assert found and not found.decisive


def test_a_syn_that_meets_no_room_or_no_listener_says_nothing_of_the_path() -> None:
    assert path_dead(case(Verdict.CONNECT_UNANSWERED, SYN, listener=FULL)) is None
    assert path_dead(case(Verdict.CONNECT_UNANSWERED, SYN, listener=None)) is None


def test_a_syn_ack_that_does_not_arrive_is_told_of_both_ends() -> None:
    found = path_dead(case(Verdict.CONNECT_UNANSWERED, SYN, REQUEST))
    assert told(found) == ["db has repeated its SYN-ACK twice", "web has sent its SYN 4 times and heard nothing"]
    assert found and found.decisive and found.summary == "db answers the SYN, and its SYN-ACK does not reach web"
    backwards = path_dead(case(Verdict.EMBRYONIC, None, REQUEST))
    assert told(backwards) == ["db has repeated its SYN-ACK twice"]
    assert backwards and backwards.summary.endswith("what db sends to web, or its answer, is lost")


def test_a_handshake_is_stuck_on_the_path_only_while_the_server_repeats_itself_unheard() -> None:
    stuck = case(Verdict.HANDSHAKE_STUCK, end(), REQUEST)
    found = path_dead(stuck)
    assert found and found.summary == "db repeats its SYN-ACK, and none of them reaches web any more"
    assert path_dead(case(Verdict.HANDSHAKE_STUCK, end(segs_in=2), REQUEST)) is None
    tried = end(timer=Timer.RETRANSMIT, retransmits=3)
    assert path_dead(case(Verdict.HANDSHAKE_STUCK, tried, replace(REQUEST, retransmits=0))) is None


def test_a_host_that_gives_up_connections_may_have_given_up_a_missing_end_only() -> None:
    gave_up = {"TCPAbortOnTimeout": 3}
    left = end(**TALKED)
    assert path_dead(case(Verdict.MISSING_ON_SERVER, left, db=gave_up)) is not None
    assert path_dead(case(Verdict.MISSING_ON_SERVER, left, web=gave_up)) is None
    assert path_dead(case(Verdict.ABANDONED_CLOSE, left, db=gave_up)) is None
    assert path_dead(case(Verdict.STALLED, left, far(left), db=gave_up)) is None


def test_two_lives_are_told_end_by_end() -> None:
    found = tuple_reused(case(Verdict.DESYNCHRONIZED, SYN, far(end())))
    assert told(found) == [
        "web requests a new connection",
        "web has sent its SYN 4 times",
        "db is established: it has sent no FIN and received none",
        "db has heard nothing for 1m 40s",
    ]
    assert found and found.decisive
    counts = case(Verdict.DESYNCHRONIZED, end(bytes_acked=401), far(end(bytes_acked=9, bytes_received=7)))
    found = tuple_reused(counts)
    assert told(found) == [
        "web had 401 bytes acknowledged, the other end received 7",
        "db had 9 bytes acknowledged, the other end received 0",
    ]
    assert found and not found.decisive and "a proxy" in found.summary


# ------------------------------------------------------------------------------------------------- the outlook


def words(given: Case, *causes: CauseCode) -> str:
    return spoken(prospect_of(given, dict.fromkeys(causes, True)).words)


def test_an_orphan_in_fin_wait2_is_forgotten_when_its_timer_ends() -> None:
    """The kernel keeps it on its keepalive timer, and asks nobody; one that a program holds is asked about."""
    orphan = end(State.FIN_WAIT2, Timer.KEEPALIVE, inode=0)
    assert words(case(Verdict.CLOSING_ALONE, orphan)) == "ends by itself: web forgets its FIN_WAIT2 within 3.0 s"
    held = "web sends a keepalive probe in 3.0 s"
    assert held in words(case(Verdict.CLOSING_ALONE, replace(orphan, inode=77)))
    assert held in words(case(Verdict.CLOSING_ALONE, replace(orphan, state=State.FIN_WAIT1)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (case(Verdict.MISSING_ON_SERVER, end()), "web waits to be spoken to, and no timer runs"),
        (
            case(Verdict.MISSING_ON_SERVER, end(**TALKED, last_data_sent_ms=1000)),
            "web waits for an answer, and no timer runs",
        ),
        (case(Verdict.MISSING_ON_CLIENT, None, far(end(**TALKED))), "db waits to be spoken to, and no timer runs"),
        (
            case(Verdict.HALF_CLOSED, end(State.FIN_WAIT2), far(end(State.CLOSE_WAIT))),
            "web keeps its FIN_WAIT2 while the program holds it open; "
            "db keeps its CLOSE_WAIT until the program closes it",
        ),
        (case(Verdict.EMBRYONIC, None, REQUEST), "db forgets its SYN_RECV in silence within 59 s"),
    ],
)
def test_each_end_is_told_what_it_waits_for(given: Case, expected: str) -> None:
    assert words(given).partition(": ")[2] == expected


PROBING = end(timer=Timer.PROBE, retransmits=0, send_q=9)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (case(Verdict.MISSING_ON_SERVER, end(**AGAIN)), "ends by itself: web gives up what nobody acknowledges within"),
        (
            case(Verdict.CLOSE_LOST, PROBING, far(end())),
            "web goes on when the program at the other end reads; ",
        ),
        (case(Verdict.MISSING_ON_SERVER, PROBING), "ends by itself: web gives up its zero-window probes within "),
        (
            case(Verdict.STALLED, replace(PROBING, retransmits=4), far(end(timer=Timer.KEEPALIVE))),
            "ends by itself: web gives up its zero-window probes within ",
        ),
        (
            case(Verdict.STALLED, end(timer=Timer.KEEPALIVE), far(end(timer=Timer.KEEPALIVE))),
            "ends by itself: web sends a keepalive probe in 3.0 s; a RST ends it then, no answer ends it within ",
        ),
        # The other kernel answers its probes.
        (
            case(Verdict.HALF_CLOSED, end(State.FIN_WAIT2, Timer.KEEPALIVE), far(end(State.CLOSE_WAIT))),
            "never heals: web keeps its FIN_WAIT2 while the program holds it open; ",
        ),
    ],
)
def test_a_timer_that_runs_tells_what_it_ends(given: Case, expected: str) -> None:
    assert words(given).startswith(expected)


def test_a_byte_may_bring_a_lost_cookie_to_life_for_two_minutes() -> None:
    lost = CauseCode.SYN_COOKIE_ACK_LOST
    sent = {"SyncookiesSent": 1}
    young, old = (case(Verdict.MISSING_ON_SERVER, end(idle_ms=age), db=sent) for age in (100_000, 200_000))
    unproven = case(Verdict.MISSING_ON_SERVER, end(idle_ms=100_000))
    assert words(unproven, lost).endswith("; a write fails")
    assert words(young, lost).endswith("; a byte within two minutes of connecting may still bring it to life")
    assert words(old, lost).endswith("; a write fails")
    assert words(young) == words(old) == "never heals: web waits to be spoken to, and no timer runs"


def test_a_write_fails_by_a_rst_or_by_silence() -> None:
    left = case(Verdict.MISSING_ON_SERVER, end(**TALKED, last_data_recv_ms=1000))
    assert words(left).endswith("its next write is answered with a RST (ECONNRESET)")
    assert words(left, CauseCode.PATH_DEAD).endswith("its next write times out")
    assert words(left, CauseCode.RESET_LOST).endswith("(ECONNRESET), or times out if that is lost too")
