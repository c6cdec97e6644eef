"""Moments in files: how two of each host are compared, what their order proves, and what is read of many sockets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from evidence import CLIENT, SERVER, counted, facts, info, key, snapshot, sock
from msgspec.structs import replace
from report_examples import PLAN

from halfopen import address
from halfopen.errors import ErrorCode
from halfopen.evidence.saved import (
    SCHEMA,
    Run,
    Said,
    Saved,
    SavedMoment,
    decode,
    encode,
    pack_observations,
)
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.confirm.timing import tried_s
from halfopen.model import Absence, Look, NetnsRef, Observation, Socket
from halfopen.run.moments import lookups
from halfopen.run.replay import judge_saved
from halfopen.schema.report import Check, Confidence, Outcome, Severity, Verdict
from halfopen.table import SEND_QUEUE, Table
from halfopen.tcp import State, Timer

ONE = key(40000)
FAR = address.mirror(ONE)
NEAR_END = replace(sock(ONE), info=info(60_000), timer=Timer.OFF)
FAR_END = replace(sock(FAR), info=info(60_000), timer=Timer.OFF)
PAUSE = 1.5  # seconds between two moments


def at(seconds: float) -> str:
    """A time of a moment."""
    return f"2026-01-01T12:00:{seconds:06.3f}Z"


def saved(
    name: str,
    home: bytes,
    dumps: Sequence[Sequence[Socket]],
    looks: Sequence[Sequence[Socket]] | None = None,
    run: str = "one run",
    begins: float = 1.0,
) -> Saved:
    """The file of a host with these dumps, and what the look-ups after each of them and the last ones found."""
    if looks is None:
        looks = [*dumps, dumps[-1]] if len(dumps) > 1 else dumps
    spaces = [snapshot(name, [home], sockets, ports=PLAN.ports).namespaces for sockets in dumps]
    moments = []
    asked: Sequence[Socket] = ()
    for number, found in enumerate(looks):
        asked = dumps[number] if number < len(dumps) else asked
        seen: dict[tuple[NetnsRef, bytes], Observation] = {
            (NetnsRef(name, 1), one.key): Absence.ABSENT for one in asked
        }
        seen.update({(NetnsRef(name, 1), one.key): one for one in found})
        began = begins + number * PAUSE
        moments.append(SavedMoment(began=at(began), ended=at(began + 0.05), sockets=pack_observations(name, seen)))
    return Saved(
        schema_=SCHEMA,
        version="0.1.0",
        host=name,
        transport="paramiko",
        taken_at=at(0),
        facts=facts(name),
        error=None,
        namespaces=spaces[0],
        later=tuple(spaces[1:]),
        moments=tuple(moments),
        run=Run(id=run, started_at=at(0), finished_at=at(0)),
    )


def judged(*files: Saved) -> Check:
    """The check of files as they come back from a disk."""
    return judge_saved(
        {file.host: decode(encode(file), file.host) for file in files},
        replace(PLAN, rounds=100),
        Policy(Severity.CRITICAL),
    )


def pair(near: Sequence[Sequence[Socket]], far: Sequence[Sequence[Socket]]) -> Check:
    """Files of one run with two dumps: what each shows of web and of db, the last look as the last dump."""
    return judged(saved("web", CLIENT, near), saved("db", SERVER, far))


def test_what_lasts_through_two_moments_is_observed() -> None:
    check = pair([[NEAR_END], [NEAR_END]], [[], []])
    assert [(one.verdict, one.confidence) for one in check.findings] == [
        (Verdict.MISSING_ON_SERVER, Confidence.OBSERVED)
    ]
    assert (check.exit_code, check.rounds) == (1, 2)


@pytest.mark.parametrize(
    ("near", "far"),
    [
        ([[NEAR_END], [NEAR_END]], [[], [FAR_END]]),
        ([[NEAR_END], [NEAR_END]], [[FAR_END], []]),
        ([[NEAR_END], []], [[], []]),
        ([[], [NEAR_END]], [[], []]),
        ([[NEAR_END], [replace(NEAR_END, cookie=2)]], [[], []]),
    ],
)
def test_what_changed_in_between_is_no_finding(near: list[list[Socket]], far: list[list[Socket]]) -> None:
    check = pair(near, far)
    assert (check.findings, check.unjudged, check.exit_code) == ((), (), 0)


def test_what_was_closed_after_the_last_dump_is_no_finding() -> None:
    """The end that was there is looked at once more when the other host has been read."""
    web = saved("web", CLIENT, [[NEAR_END], [NEAR_END]], [[NEAR_END], [NEAR_END], []])
    assert judged(web, saved("db", SERVER, [[], []])).findings == ()


def test_one_moment_says_so_first_and_fails_nothing() -> None:
    check = pair([[NEAR_END]], [[]])
    assert [one.confidence for one in check.findings] == [Confidence.INFERRED]
    assert (check.outcome, check.exit_code) == (Outcome.INCOMPLETE, 3)
    assert "one moment of each host" in check.headline and "halfopen collect takes two" in check.headline
    assert not any("-K" in command.argv for one in check.findings for command in one.commands)


@pytest.mark.parametrize(
    ("shift", "confidence"),
    [
        (0.0, "observed"),
        (1.0, "observed"),
        (-1.0, "observed"),
        (PAUSE, "inferred"),
        (-9.0, "inferred"),
        (5, "inferred"),
    ],
)
def test_files_of_two_runs_need_moments_between_each_others(shift: float, confidence: str) -> None:
    """By the clocks of the two hosts, as both were started `shift` seconds apart."""
    web = saved("web", CLIENT, [[NEAR_END], [NEAR_END]], run="of web", begins=20.0)
    db = saved("db", SERVER, [[], []], run="of db", begins=20.0 + shift)
    check = judged(web, db)
    assert [str(one.confidence) for one in check.findings] == [confidence]
    assert check.exit_code == (1 if confidence == "observed" else 3)
    assert ("not taken at the same time" in check.headline) == (confidence == "inferred")


def test_a_host_that_could_not_be_read_takes_no_moment_from_the_others() -> None:
    web = saved("web", CLIENT, [[NEAR_END], [NEAR_END]])
    error = Said(code=ErrorCode.TIMEOUT, message="it does not answer", hint=None)
    lost = Saved(
        schema_=SCHEMA,
        version="0.1.0",
        host="db2",
        transport="auto",
        taken_at=at(0),
        facts=None,
        error=error,
        namespaces=(),
        run=web.run,
    )
    files = {one.host: one for one in (web, saved("db", SERVER, [[], []]), lost)}
    check = judge_saved(files, replace(PLAN, servers=("db", "db2"), rounds=100), Policy(Severity.CRITICAL))
    assert [one.confidence for one in check.findings] == [Confidence.OBSERVED]
    assert any("db2 could not be read" in line for line in (check.headline, *check.details, *check.notes))


def talking(end: Socket, acked: int, received: int) -> Socket:
    """An end of a connection that is in use."""
    return replace(end, info=counted(acked, received, last_data_recv_ms=0))


def test_bytes_that_pass_between_two_looks_contradict_nothing() -> None:
    """The looks of a moment have no order: here db was always looked at before web, and bytes passed in between."""
    sent = [1000, 5000, 9000]
    near = [talking(NEAR_END, 1 + number + 100, 0) for number in sent]
    far = [talking(FAR_END, 0, number) for number in sent]
    ends = [[one] for one in near], [[one] for one in far]
    check = judged(
        saved("web", CLIENT, ends[0][:2], ends[0]),
        saved("db", SERVER, ends[1][:2], ends[1]),
    )
    assert (check.findings, check.agreeing, check.exit_code) == ((), 1, 0)


def test_bytes_of_two_lives_are_contradictory_in_every_order() -> None:
    near = [[replace(NEAR_END, info=counted(3001, 500, last_data_sent_ms=500_000))]] * 3
    far = [[replace(FAR_END, info=counted(0, 0, last_data_sent_ms=90_000, last_data_recv_ms=90_000))]] * 3
    check = judged(saved("web", CLIENT, near[:2], near), saved("db", SERVER, far[:2], far))
    assert [(one.verdict, one.confidence) for one in check.findings] == [(Verdict.DESYNCHRONIZED, Confidence.OBSERVED)]


def test_of_too_many_sockets_the_odd_ones_are_looked_up() -> None:
    rows = [(2, 0, key(1000 + number), 1, SEND_QUEUE if number % 10 == 9 else 0) for number in range(100)]
    rows += [(2, 0, key(2000), 6, 0), (2, 0, key(2001), 8, 0)]  # TIME_WAIT, CLOSE_WAIT
    web = snapshot("web", [CLIENT], [])
    web = replace(web, namespaces=(replace(web.namespaces[0], table=Table.of(rows)),))
    few = {one.key for one in lookups(web, 11, None)}
    assert few == {key(1000 + number) for number in range(9, 100, 10)} | {key(2001)}
    known = Look("web", {(NetnsRef("web", 1), key(1000)): sock(key(1000))})
    assert [one.key for one in lookups(web, 11, known)][:1] == [key(1000)]
    assert len(lookups(web, 1000, None)) == 101


def tries(state: State, retransmits: int, expires: float, rto_us: int | None) -> Socket:
    """A socket whose retransmission timer runs."""
    known = None if rto_us is None else info(rto_us=rto_us)
    return replace(
        sock(ONE, state), timer=Timer.RETRANSMIT, retransmits=retransmits, timer_expires_s=expires, info=known
    )


@pytest.mark.parametrize(
    ("socket", "seconds"),
    [
        (NEAR_END, 0.6),  # three timeouts of 0.2 s
        (tries(State.ESTABLISHED, 0, 0.1, 200_000), 0.6),  # data on its way
        (tries(State.ESTABLISHED, 1, 0.4, 400_000), 0.4 + 0.8 + 0.25),
        (tries(State.ESTABLISHED, 5, 6.0, 6_400_000), 6.25),
        (tries(State.SYN_RECV, 0, 1.0, None), 1 + 2 + 4 + 0.25),
    ],
)
def test_a_second_moment_waits_until_a_try_in_vain_was_seen(socket: Socket, seconds: float) -> None:
    assert tried_s(socket) == pytest.approx(seconds)
