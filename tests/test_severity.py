"""How grave a finding is, where its verdict alone does not say it."""

from __future__ import annotations

import pytest
from diagnosis_cases import DEFERRED, FULL, LISTENER, QUEUED, STUCK_FULL, SYN, Given
from evidence import key, sock
from msgspec.structs import replace
from report_examples import check

from halfopen import address
from halfopen.judge.advice.advised import advised
from halfopen.schema.report import CauseCode, Severity

WAITING = QUEUED.without(listener=FULL, counters={"ListenOverflows": 40})
TURNED_AWAY = SYN.without(listener=FULL, counters={"ListenOverflows": 40})


def severities(*given: Given) -> list[Severity]:
    """Those of the findings of one check."""
    return [one.diagnosis.severity for one in advised([one.case() for one in given])]


def test_a_full_queue_that_stands_still_while_clients_are_turned_away_is_an_outage() -> None:
    waiting, turned_away = advised([WAITING.case(), TURNED_AWAY.case()])
    assert waiting.diagnosis.severity is turned_away.diagnosis.severity is Severity.CRITICAL
    assert waiting.diagnosis.codes == (CauseCode.APPLICATION_NOT_ACCEPTING, CauseCode.ACCEPT_QUEUE_OVERFLOW)
    assert severities(WAITING, STUCK_FULL) == [Severity.CRITICAL, Severity.CRITICAL]


def test_clients_of_other_hosts_are_told_by_the_kernel() -> None:
    assert severities(WAITING.without(deltas={"ListenOverflows": 2})) == [Severity.CRITICAL]


@pytest.mark.parametrize(
    "given",
    [
        (WAITING,),
        (QUEUED.without(deltas={"ListenOverflows": 2}, counters={"ListenOverflows": 40}), SYN),
        (WAITING, SYN.without(listener=replace(LISTENER, address=address.split_key(key(1))[0]))),
    ],
    ids=["nobody is turned away", "it has room", "another listener"],
)
def test_a_queue_alone_is_a_warning(given: tuple[Given, ...]) -> None:
    assert set(severities(*given)) == {Severity.WARNING}


def test_what_is_by_design_is_no_alarm_and_is_not_ended() -> None:
    assert severities(DEFERRED) == [Severity.INFO]
    assert not [one for one in DEFERRED.advised().commands if "-K" in one.argv]


def test_what_nobody_accepts_is_not_called_half_open() -> None:
    """However grave it is."""
    near = [sock(key(one), cookie=one) for one in (1, 2)]
    far = [sock(address.mirror(key(one)), cookie=one, inode=0) for one in (1, 2)] + [
        sock(address.mirror(key(9)), cookie=9, inode=0)
    ]
    made = check([*near, sock(key(9), cookie=9), sock(key(3), cookie=3)], far, overflows=2)
    assert {one.severity for one in made.findings} == {Severity.CRITICAL}
    told = "1 half-open connection web -> db:5432, missing on the server; 3 more were never accepted"
    assert made.headline == told
