"""A survivor that somebody answers is not missing its peer, and one that tries in vain still is."""

from __future__ import annotations

from typing import Any

import pytest
from evidence import CLIENT, SERVER, bracket, info, key, sights, snapshot, sock
from msgspec.structs import replace
from report_examples import PLAN, report

from halfopen import address
from halfopen.judge.assembly.check import analyse
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.assembly.run_evidence import Evidence
from halfopen.judge.confirm.answers import is_answered
from halfopen.judge.confirm.bracket import Bracket
from halfopen.judge.confirm.rounds import held
from halfopen.matching.pairing.match import match
from halfopen.matching.places.addresses import survey
from halfopen.model import Absence, Snapshot, Socket
from halfopen.plan import CheckPlan
from halfopen.report.formats import FORMATS
from halfopen.report.view import View
from halfopen.schema.report import Check, Confidence, Outcome, Reason, Severity, Verdict
from halfopen.tcp import State, Timer

ONE = key(40000)
BETWEEN_MS = 1500
QUIET = {"bytes_acked": 101, "bytes_received": 100, "segs_in": 9, "segs_out": 9}


def look(at_ms: int, state: State = State.ESTABLISHED, one: bytes = ONE, **fields: Any) -> Socket:
    """The survivor at a moment, idle since a second before the first look, but for these fields."""
    return replace(sock(one, state), info=info(1000 + at_ms, **{**QUIET, **fields}))


ANSWERS: dict[str, dict[str, Any]] = {
    "data came in": {"bytes_received": 200, "segs_in": 10, "last_data_recv_ms": 700},
    "data was acknowledged": {"bytes_acked": 201, "segs_in": 10, "last_ack_recv_ms": 700, "last_data_sent_ms": 701},
    "a keepalive probe was answered": {"segs_in": 10, "last_ack_recv_ms": 700},
    "the same, just after the first look": {"segs_in": 10, "last_ack_recv_ms": 1490},
    "the same, on a kernel that counts no segments": {"segs_in": None, "last_ack_recv_ms": 1490},
    "data came in, on a kernel that counts nothing": {
        "segs_in": None,
        "bytes_acked": None,
        "bytes_received": None,
        "last_data_recv_ms": 30,
    },
    "a window probe was answered": {"segs_in": 10, "last_ack_recv_ms": 400, "probes": 0, "snd_wnd": 0},
    "the other end sent a keepalive probe": {"segs_in": 10},
}
VAIN: dict[str, dict[str, Any]] = {
    "nothing happened": {},
    "it sent again in vain": {"segs_out": 12, "retransmits": 3, "total_retrans": 3, "last_data_sent_ms": 200},
    "its keepalive probes get no answer": {"segs_out": 11, "probes": 2},
    "its window probes get no answer": {"segs_out": 11, "probes": 3, "last_data_sent_ms": 200},
    "what comes back is no answer": {"segs_in": 12, "segs_out": 12, "retransmits": 3, "last_data_sent_ms": 200},
    "it sent new data, which nobody answers yet": {"segs_out": 10, "unacked": 1, "last_data_sent_ms": 5},
    "its clocks count in ticks": {"last_ack_recv_ms": 2490},
}


@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_shows(what: str) -> None:
    fields = ANSWERS[what]
    before: dict[str, Any] = {name: None for name, value in fields.items() if value is None}
    assert is_answered([look(0, **before), look(BETWEEN_MS, **fields)])


@pytest.mark.parametrize("what", VAIN)
def test_what_is_done_in_vain_is_no_answer(what: str) -> None:
    assert not is_answered([look(0), look(BETWEEN_MS, **VAIN[what])])


def test_an_answer_between_any_two_looks_counts_and_what_is_unknown_does_not() -> None:
    assert is_answered([look(0), look(5), look(BETWEEN_MS, segs_in=10), look(BETWEEN_MS + 5, segs_in=10)])
    assert not is_answered([sock(ONE), sock(ONE)])
    assert not is_answered([look(0)])


def test_a_syn_ack_that_is_sent_again_is_no_answer() -> None:
    assert not is_answered([look(0, State.SYN_SENT), look(BETWEEN_MS, State.SYN_SENT, segs_in=10)])


def checked(*looks: Socket, plan: CheckPlan = PLAN, beside: int = 0) -> Check:
    """The check of web and db where the client's socket is alone, as these looks saw it (two for each bracket).

    `beside`: healthy connections.
    """
    healthy = [sock(key(50000 + number), cookie=number) for number in range(beside)]
    web = snapshot("web", [CLIENT], [looks[0], *healthy])
    db = snapshot("db", [SERVER], [sock(address.mirror(one.key)) for one in healthy])
    matching = match(survey([web, db], ["web"], ["db"], (5432,), {}))
    seen = [sights([web, db], {"web": [one]}, matching.suspects) for one in looks]
    brackets = [bracket(one, two, two) for one, two in zip(seen[::2], seen[1::2], strict=True)]
    snapshots: dict[str, Snapshot] = {"web": web, "db": db}
    return analyse(plan, Evidence(snapshots, matching, brackets), Policy(Severity.CRITICAL))


TALKS = [look(0), look(5), look(BETWEEN_MS, **ANSWERS["data came in"]), look(BETWEEN_MS, **ANSWERS["data came in"])]


def test_a_survivor_that_is_answered_is_not_judged_and_the_check_is_incomplete() -> None:
    check = checked(*TALKS, beside=3)
    assert (check.findings, check.outcome, check.exit_code, check.connections) == ((), Outcome.INCOMPLETE, 3, 3)
    (row,) = check.unjudged
    assert (row.client, row.server) == ("10.0.0.1:40000", "10.0.0.2:5432")
    assert (row.host, row.state, row.reason) == ("web", "ESTABLISHED", Reason.ANSWERED_ELSEWHERE)
    assert "1 connection could not be judged: no other end on db, but somebody answers" in check.headline


def test_one_that_is_not_answered_is_proven_to_miss_its_peer() -> None:
    for fields in VAIN.values():
        check = checked(look(0), look(5), look(BETWEEN_MS, **fields), look(BETWEEN_MS + 5, **fields))
        assert [one.verdict for one in check.findings] == [Verdict.MISSING_ON_SERVER] and not check.unjudged
        assert check.findings[0].confidence is Confidence.OBSERVED  # no route of it is known


@pytest.mark.parametrize("state", [State.CLOSE_WAIT, State.FIN_WAIT2])
def test_an_end_that_closes_towards_somebody_who_answers_is_not_judged_either(state: State) -> None:
    moved = [look(at, state, segs_in=9 + (at > 5)) for at in (0, 5, BETWEEN_MS, BETWEEN_MS + 5)]
    assert not checked(*moved).findings and checked(*moved).unjudged
    assert checked(*(look(at, state) for at in (0, 5, BETWEEN_MS, BETWEEN_MS + 5))).findings


def test_one_bracket_is_enough_to_see_an_answer() -> None:
    assert checked(look(0), look(5, **ANSWERS["a keepalive probe was answered"])).unjudged


def test_it_may_be_allowed() -> None:
    check = checked(*TALKS, plan=replace(PLAN, allow=("answered-elsewhere",)), beside=3)
    assert (check.outcome, check.exit_code, len(check.unjudged)) == (Outcome.CLEAN, 0, 1)
    assert "3 connections, both ends agree; 1 more not judged, which is allowed" in check.headline
    alone = checked(*TALKS, plan=replace(PLAN, allow=("answered-elsewhere",)))
    assert alone.exit_code == 0 and "nothing was compared" not in alone.headline


def test_the_survivor_may_be_the_end_that_is_looked_at_second() -> None:
    """Both ends were there at first, with something odd about them; then the one that was looked at first was gone."""
    far = address.mirror(ONE)
    web = snapshot("web", [CLIENT], [sock(ONE)])
    db = snapshot("db", [SERVER], [sock(far, inode=0)])
    (suspect,) = match(survey([web, db], ["web"], ["db"], (5432,), {})).suspects
    assert suspect.client_first
    moments = (look(0, one=far), look(BETWEEN_MS, one=far, bytes_received=200))
    looks = [bracket(sights([web, db], {"db": [one]}, [suspect])) for one in moments]
    found, unjudged, _ = held([suspect], looks)
    assert not found and unjudged[0].survivor is not None and unjudged[0].survivor.place.host == "db"
    assert [one.verdict for one in held([suspect], [looks[0], looks[0]])[0]] == [Verdict.MISSING_ON_CLIENT]


def test_where_the_other_host_could_not_look_nothing_is_said_of_who_answers() -> None:
    web, db = snapshot("web", [CLIENT], [sock(ONE)]), snapshot("db", [SERVER], [])
    (suspect,) = match(survey([web, db], ["web"], ["db"], (5432,), {})).suspects
    looks = [sights([web, db], {"web": [one]}, [suspect]) for one in TALKS[1:3]]
    blind = {where: Absence.UNSEEN if where[0].host == "db" else sight for where, sight in looks[1].items()}
    found, unjudged, _ = held([suspect], [bracket(looks[0]), Bracket(looks[1], blind, looks[1], {})])
    assert not found and [(one.reason, one.why) for one in unjudged] == [(Reason.NOT_SHOWN_BY_SOURCE, None)]


def test_another_socket_at_the_same_place_is_no_answer() -> None:
    later = replace(look(BETWEEN_MS, bytes_received=900), cookie=2)
    check = checked(look(0), look(5), later, later)
    assert not check.unjudged and not check.findings


def test_a_handshake_that_is_stuck_is_still_one() -> None:
    """Its SYN-ACK comes in again and again, and counts as a segment."""
    web = snapshot("web", [CLIENT], [sock(ONE)])
    waiting = sock(address.mirror(ONE), State.SYN_RECV, inode=0)
    db = snapshot("db", [SERVER], [waiting])
    suspects = match(survey([web, db], ["web"], ["db"], (5432,), {})).suspects
    moments = (look(0), look(BETWEEN_MS, segs_in=11))
    looks = [bracket(sights([web, db], {"web": [one], "db": [waiting]}, suspects)) for one in moments]
    assert [one.verdict for one in held(suspects, looks)[0]] == [Verdict.HANDSHAKE_STUCK]


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_all_prints_them(form: str) -> None:
    made = report(checked(*TALKS))
    brief, whole = (FORMATS[form].render(made, View(all=every)) for every in (False, True))
    assert "40000" not in brief and "10.0.0.1:40000" in whole and "answered-elsewhere" in whole


def test_a_retransmitting_timer_alone_clears_nothing() -> None:
    tries = [replace(look(at, retransmits=2), timer=Timer.RETRANSMIT, retransmits=2, send_q=5) for at in (0, 5)]
    assert not is_answered(tries)
