"""Asking through connections: only where a check says so, whom, and what the answers make of findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import happenings
import pytest
from happenings import Scene
from msgspec.structs import replace
from simulated_answers import SimulatedHosts, check
from test_inquiry import ALL, PLAIN, ROUND, scene_of, verdicts

from halfopen.errors import HostError
from halfopen.judge.assembly.check import analyse, report_of
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.confirm.asked import MOST_ASKED, WHY, queries
from halfopen.judge.inquiry import drive, inquire
from halfopen.judge.questions import Ask, Routes
from halfopen.model import NetnsRef, Process, Reply, Routing, Socket, TcpInfo, Unasked
from halfopen.plan import CheckPlan
from halfopen.report.formats import FORMATS
from halfopen.report.view import View
from halfopen.schema.report import Check, Confidence, OutlookCode, Reason
from halfopen.tcp import State

SUSPECTS, IDLE = replace(ALL, ask="suspects"), replace(ALL, ask="idle")


@dataclass
class Told(SimulatedHosts):
    """Hosts whose every socket replies the same, whatever it is."""

    reply: Reply | None = None

    def ask(self, question: Ask) -> Mapping[str, tuple[Sequence[Reply], Mapping[int, Process]]]:
        self.asked.append(question)
        assert self.reply is not None
        return {name: ([self.reply] * len(some), {}) for name, some in question.wanted.items()}


class Routeless(SimulatedHosts):
    """Hosts that cannot tell their routes."""

    def routes(self, question: Routes) -> Mapping[str, tuple[Mapping[NetnsRef, Routing], HostError | None]]:
        return {}


def lone() -> Scene:
    """One that is well, and one whose server has gone without a word."""
    scene = scene_of(PLAIN, PLAIN)
    happenings.server_vanishes(scene, 0)
    scene.world.advance(10)
    return scene


def questions(hosts: SimulatedHosts) -> list[tuple[str, int]]:
    """Of which hosts how many sockets were asked."""
    asked = [one for one in hosts.asked if isinstance(one, Ask)]
    return [(name, len(some)) for one in asked for name, some in one.wanted.items()]


def probed(state: State, ages: tuple[int, int], tries: int) -> Reply:
    """A reply of a socket that last had an acknowledgement so many ms ago, before and after."""
    before, after = (
        TcpInfo(0, 0, 0, 0, 0, 200_000, 0, data, data, age, 1000, 500, 1448, 0, segs_in=7)
        for age, data in zip(ages, (90_000, max(90_000, ages[1])), strict=True)
    )
    return Reply(None, 0, tries, ages[1] / 1000, state, before, after)


ANSWERED = probed(State.ESTABLISHED, (90_000, 10), 1)


@pytest.mark.parametrize("make", [lambda: scene_of(PLAIN), lone])
def test_nobody_is_asked_where_the_check_does_not_say_so(make: type[Scene]) -> None:
    scene = make()
    scene.world.advance(100)
    hosts = SimulatedHosts(scene.world)
    check(hosts, ALL)
    assert questions(hosts) == []


def test_a_clean_pair_has_no_suspects_to_ask() -> None:
    hosts = SimulatedHosts(scene_of(PLAIN, PLAIN).world)
    assert check(hosts, SUSPECTS).exit_code == 0
    assert questions(hosts) == []


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_rst_proves_it_and_ends_it(rounds: int) -> None:
    scene = lone()
    hosts = SimulatedHosts(scene.world)
    found = check(hosts, replace(SUSPECTS, rounds=rounds))
    assert questions(hosts) == [("web", 1)]
    (finding,) = found.findings
    assert (finding.verdict, finding.confidence) == ("missing-on-server", Confidence.PROVEN)
    assert [(one.host, one.answer, one.probes, one.ended) for one in finding.asked] == [("web", "rst", 1, True)]
    assert finding.outlook and (finding.outlook.code, finding.outlook.within_s) == (OutlookCode.FAILS_ON_WRITE, 0.0)
    assert finding.commands == () and found.exit_code == 1
    assert "we asked from web: RST, which ended it, and its program gets ECONNRESET" in found.groups[0].summary
    assert "web: sent one keepalive probe on 1 connection" in found.notes


@pytest.mark.parametrize(("plan", "told"), [(ALL, 1), (SUSPECTS, 0)])
def test_a_rst_proves_it_whatever_the_way(plan: CheckPlan, told: int) -> None:
    hosts = Routeless(lone().world)
    found = check(hosts, plan)
    assert [one.confidence for one in found.findings] == [Confidence.OBSERVED if told else Confidence.PROVEN]
    assert sum("observed, not proven" in note for note in found.notes) == told


def test_whoever_is_answered_is_not_half_open() -> None:
    hosts = Told(lone().world, reply=ANSWERED)
    found = check(hosts, SUSPECTS)
    assert (found.findings, found.exit_code) == ((), 3)
    assert [(row.host, row.reason) for row in found.unjudged] == [("web", Reason.ANSWERED_ELSEWHERE)]


def test_a_lone_end_that_nobody_answers_stays_what_it_is() -> None:
    scene = lone()
    for one in scene.world.connections:
        one.cut = True
    found = check(SimulatedHosts(scene.world), SUSPECTS)
    (finding,) = found.findings
    assert (finding.verdict, finding.confidence) == ("missing-on-server", Confidence.PROVEN)
    assert [(one.answer, one.probes, one.ended) for one in finding.asked] == [("silence", 3, False)]
    assert "web: sent 3 keepalive probes on 1 connection" in found.notes


@pytest.mark.parametrize("why", Unasked)
def test_who_may_not_be_asked_stays_as_it_is_and_the_report_says_why(why: Unasked) -> None:
    plain = check(SimulatedHosts(lone().world), ALL)
    found = check(Told(lone().world, reply=Reply(why, errno=1)), SUSPECTS)
    assert [(one.id, one.verdict, one.confidence, one.asked) for one in found.findings] == [
        (one.id, one.verdict, one.confidence, ()) for one in plain.findings
    ]
    assert f"web: 1 connection not asked: {WHY[why].format(errno=1)}" in found.notes


def test_a_host_that_fails_when_it_is_asked_is_said() -> None:
    hosts = SimulatedHosts(lone().world, fails={"web": Ask})
    found = check(hosts, SUSPECTS)
    assert verdicts(found) == ["missing-on-server"]
    assert f"web: 1 connection not asked: {WHY[Unasked.NO_PROBE]}" in found.notes


# ------------------------------------------------------------------------------------------- silent pairs


def silent(*cut: bool) -> Scene:
    """Pairs that have said nothing for a hundred seconds; of those that are cut the path is dead."""
    scene = scene_of(*(PLAIN for _ in cut))
    for one, dead in zip(scene.world.connections, cut, strict=True):
        one.cut = dead
    scene.world.advance(100)
    return scene


def test_a_path_that_died_in_silence_is_found_by_asking() -> None:
    scene = silent(False, True, False)
    assert (
        check(SimulatedHosts(scene.world), ALL).exit_code == check(SimulatedHosts(scene.world), SUSPECTS).exit_code == 0
    )
    hosts = SimulatedHosts(scene.world)
    found = check(hosts, IDLE)
    assert hosts.order == ["Dump", "ByteCounts", "Baseline", "LookUp", "Ask", *ROUND, "Explain"]
    assert questions(hosts) == [("web", 3)]
    (finding,) = found.findings
    assert (finding.verdict, finding.confidence, found.exit_code) == ("stalled", Confidence.PROVEN, 1)
    assert finding.connection.client == scene.world.connections[1].name[0]
    assert [(one.host, one.answer, one.probes) for one in finding.asked] == [("web", "silence", 3)]
    assert finding.cause and finding.cause.code == "path-dead" and finding.client and finding.client.process
    assert (found.connections, found.agreeing) == (3, 2)
    assert "web: sent one keepalive probe on 2 connections, 3 on 1" in found.notes


def test_what_was_not_silent_is_not_asked() -> None:
    scene = silent(False, False)
    (first, *_), _ = (one.ends for one in scene.world.connections)
    scene.world.say(first, 10)
    scene.world.advance(30)
    hosts = SimulatedHosts(scene.world)
    assert check(hosts, IDLE).exit_code == 0
    assert questions(hosts) == [("web", 1)]


def test_of_a_silent_pair_an_end_that_a_rst_ends_leaves_the_other_alone() -> None:
    scene = silent(False)
    hosts = Told(scene.world, reply=probed(State.CLOSE, (90_000, 90_020), 1))
    meant = scene.world.connections[0].client_end

    def meanwhile() -> None:
        if hosts.order[-2:] == ["Ask", "LookUp"] and meant is not None and meant.is_there:
            scene.world.forget(meant)

    hosts.meanwhile = meanwhile
    found = check(hosts, IDLE)
    assert verdicts(found) == ["missing-on-client"] and found.findings[0].asked[0].ended


def test_silence_after_fewer_tries_than_three_is_observed() -> None:
    hosts = Told(silent(True).world, reply=probed(State.ESTABLISHED, (90_000, 92_000), 2))
    (finding,) = check(hosts, IDLE).findings
    assert (finding.verdict, finding.confidence) == ("stalled", Confidence.OBSERVED)


def test_too_many_pairs_to_see_which_are_silent_are_said() -> None:
    hosts = SimulatedHosts(silent(True, True).world)
    (evidence,) = drive(inquire([IDLE], {"web": (), "db": ()}, {}, 1), hosts).evidence
    assert (
        "2 connections not asked: too many to see which are silent (--deep)" in analyse(IDLE, evidence, Policy()).notes
    )


# ------------------------------------------------------------------------------------------- parts


def test_no_more_than_a_thousand_are_asked_of_a_host_and_none_without_a_descriptor() -> None:
    def socket(number: int) -> tuple[tuple[NetnsRef, bytes], Socket]:
        key = number.to_bytes(12, "big")
        return (NetnsRef("web"), key), Socket(key, State.ESTABLISHED, 2, inode=number)

    asked, left = queries(dict(socket(number) for number in range(MOST_ASKED + 3)))
    assert [one.inode for one in asked["web"]] == list(range(1, MOST_ASKED + 1))
    assert [reply.unasked for reply in left.values()] == [Unasked.NO_HOLDER, Unasked.TOO_MANY, Unasked.TOO_MANY]


def test_every_format_tells_what_was_asked() -> None:
    found: Check = check(SimulatedHosts(lone().world), SUSPECTS)
    report = report_of([found], datetime.now(UTC), datetime.now(UTC))
    for name, form in FORMATS.items():
        if name == "prometheus":  # it tells numbers alone
            continue
        assert "ECONNRESET" in " ".join(form.render(report, View(width=200)).split()), name


def test_plans_that_do_not_say_so_ask_nobody_beside_one_that_does() -> None:
    scene = lone()
    plans: list[CheckPlan] = [replace(ALL, name="first"), replace(SUSPECTS, ports=(8080,))]
    hosts = SimulatedHosts(scene.world)
    drive(inquire(plans, {"web": (), "db": ()}, {}, None), hosts)
    assert questions(hosts) == []
