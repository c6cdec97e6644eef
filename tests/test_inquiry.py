"""Whole checks of simulated hosts: what is made is found, and what is healthy is silent, while the world goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import happenings
import pytest
from happenings import FAULTS, HAPPENINGS, Scene, is_plain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from msgspec.structs import replace
from simulated import RIPE, Connection, Machine
from simulated_answers import SimulatedHosts, check

from halfopen import address
from halfopen.judge.questions import (
    Baseline,
    ByteCounts,
    Dump,
    Explain,
    LookUp,
    Question,
    Routes,
    Translations,
)
from halfopen.model import Absence, Observation, Socket
from halfopen.plan import CheckPlan
from halfopen.schema.report import Check, Confidence, Finding, Outcome, Reason
from halfopen.tcp import State, Timer

CRITICAL = {"missing-on-server", "missing-on-client", "handshake-stuck", "desynchronized", "stalled"}
ALL, ONE_PORT, TURNED_ROUND = (
    CheckPlan("all ports", ("web",), ("db",)),
    CheckPlan("one port", ("web",), ("db",), (5432,)),
    CheckPlan("turned round", ("db",), ("web",)),
)
PLANS = {plan.name: plan for plan in (ALL, ONE_PORT, TURNED_ROUND)}
ROUND = ["LookUp", "LookUp", "LookUp"]
PLAIN, REVERSED, REDIRECTED = range(3)  # ways to dial


def scene_of(*ways: int) -> Scene:
    """A scene with an established connection for each of these ways."""
    scene = Scene()
    for way in ways:
        scene.dial(way)
    scene.world.advance(10)
    return scene


def verdicts(found: Check) -> list[str]:
    """What a check found."""
    return [str(one.verdict) for one in found.findings]


# ------------------------------------------------------------------------------------------------- the questions


def test_a_clean_pair_is_asked_for_a_dump_and_byte_counts() -> None:
    hosts = SimulatedHosts(scene_of(PLAIN, REVERSED, PLAIN).world)
    found = check(hosts, ALL)
    assert hosts.order == ["Dump", "ByteCounts"]
    assert (found.outcome, found.exit_code, found.agreeing) == (Outcome.CLEAN, 0, 3)


def test_a_suspect_that_a_look_clears_costs_one_round() -> None:
    scene = scene_of(PLAIN)
    hosts = SimulatedHosts(scene.world)

    def meanwhile() -> None:
        """One more between the two dumps: only the second has it."""
        if hosts.asked == hosts.asked[:1] and scene.ports == 1 and "web" in hosts.boots:
            scene.dial()
            scene.world.advance(1)

    hosts.meanwhile = meanwhile
    found = check(hosts, ALL)
    assert hosts.order == ["Dump", "Translations", "Baseline", *ROUND, "ByteCounts"]
    assert (found.outcome, found.exit_code) == (Outcome.CLEAN, 0)


def test_what_lasts_is_looked_at_twice_and_explained() -> None:
    scene = scene_of(PLAIN, PLAIN)
    happenings.server_vanishes(scene, 0)
    hosts = SimulatedHosts(scene.world)
    found = check(hosts, ALL)
    again = ["Dump", "Translations", "Routes", "ByteCounts"]
    assert hosts.order == ["Dump", "Translations", "Baseline", *ROUND, *again, *ROUND, "Pause", *ROUND, "Explain"]
    assert verdicts(found) == ["missing-on-server"] and found.exit_code == 1
    assert found.findings[0].confidence is Confidence.PROVEN


def test_a_way_that_the_plan_vouches_for_is_not_asked_about() -> None:
    scene = scene_of(PLAIN, PLAIN)
    happenings.server_vanishes(scene, 0)
    hosts = SimulatedHosts(scene.world)
    found = check(hosts, replace(ALL, direct=True))
    assert verdicts(found) == ["missing-on-server"] and "Routes" not in hosts.order


def test_other_lives_behind_equal_states_have_their_baseline_before_the_second_round() -> None:
    scene = scene_of(PLAIN, PLAIN)
    happenings.begins_another_life(scene, 0)
    hosts = SimulatedHosts(scene.world)
    assert verdicts(check(hosts, ALL)) == ["desynchronized"]
    assert hosts.order == ["Dump", "ByteCounts", *ROUND, "Baseline", "Pause", *ROUND, "Explain"]


def test_what_translates_is_asked_for_only_where_it_could_explain_something() -> None:
    scene = scene_of(PLAIN, REDIRECTED)
    hosts = SimulatedHosts(scene.world)
    found = check(hosts, ALL)
    assert hosts.order == ["Dump", "Translations", "ByteCounts"]
    assert (found.outcome, found.agreeing) == (Outcome.CLEAN, 2)


def test_a_check_of_one_port_reads_the_ports_that_lead_to_it() -> None:
    scene = scene_of(PLAIN, REDIRECTED)
    hosts = SimulatedHosts(scene.world)
    found = check(hosts, ONE_PORT)
    assert hosts.order == ["Dump", "Translations", "Dump", "Translations", "ByteCounts"]
    assert (found.outcome, found.agreeing) == (Outcome.CLEAN, 2)


def test_a_translated_connection_that_begins_before_the_wider_dump_is_no_finding() -> None:
    """That dump has its client, which dialled another port than its server has; the tables were read before."""
    scene = scene_of(PLAIN, REDIRECTED)
    hosts = SimulatedHosts(scene.world)

    def meanwhile() -> None:
        if hosts.order == ["Dump", "Translations", "Dump"] and scene.ports == 2:
            scene.dial(REDIRECTED)
            scene.world.advance(1)

    hosts.meanwhile = meanwhile
    found = check(hosts, ONE_PORT)
    assert scene.ports == 3
    assert not found.findings and found.exit_code == 0


# ------------------------------------------------------------------------------------------------- one after another


@pytest.mark.parametrize("way", [PLAIN, REVERSED])
@pytest.mark.parametrize("what", FAULTS, ids=lambda one: one.__name__)
def test_each_fault_is_found_by_itself(what: Callable[[Scene, int], None], way: int) -> None:
    scene = scene_of(way)
    what(scene, 1 - way if what is happenings.boots else way)
    scene.world.advance(RIPE + 1)
    began, hosts = scene.world.now, SimulatedHosts(scene.world)
    (fault,) = [one.fault for one in scene.world.connections if one.fault is not None]
    found = check(hosts, ALL)
    assert verdicts(found) == [fault]
    judge(scene, ALL, began, hosts, found, quiet=True)


QUESTIONS: list[type[Question[Any]]] = [Dump, Translations, Baseline, ByteCounts, LookUp, Routes, Explain]


@pytest.mark.parametrize("who", ["web", "db", "other"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_host_that_fails_is_a_value_and_the_others_report_stands(question: type[Question[Any]], who: str) -> None:
    """Of three hosts, one breaks off at some question; what is between the other two is judged all the same."""
    scene = scene_of(PLAIN, PLAIN, PLAIN, REDIRECTED)
    other = scene.world.host("other", "10.0.0.3", 9000)
    fine, broken = (scene.world.dial(scene.web, other, port, 9000) for port in (60_001, 60_002))
    scene.world.advance(10)
    happenings.server_vanishes(scene, 0)
    assert broken.server_end is not None and fine.is_whole
    scene.world.forget(broken.server_end)
    scene.world.find(broken, "missing-on-server")
    hosts = SimulatedHosts(scene.world, fails={who: question})
    found = check(hosts, CheckPlan("fleet", ("web",), ("db", "other")))
    rest = {"db": scene.world.hosts["other"], "other": scene.db}.get(who)
    assert rest is None or rest.address in [address.parse_endpoint(one.connection.server)[0] for one in found.findings]
    assert all(one.verdict == "missing-on-server" for one in found.findings)
    assert found.outcome is not Outcome.CLEAN and found.exit_code != 0
    if not isinstance(hosts.over.get(who), Explain | Baseline | None):
        assert [one.name for one in found.hosts if one.error is not None] == [who]
    if who == "web" and question not in (Explain, Translations, Routes) and who in hosts.over:
        assert not found.findings and found.exit_code == 3


@pytest.mark.parametrize("slow", ["web", "db"])
def test_between_the_answers_of_a_slow_host_the_world_goes_on_for_long(slow: str) -> None:
    scene = scene_of(PLAIN, PLAIN, PLAIN, PLAIN, REVERSED)
    for what in (happenings.chats, happenings.flaps, happenings.server_vanishes, happenings.chats):
        what(scene, scene.world.connections.index(scene.world.connections[-1]))
    scene.world.hosts[slow].lag = 20.0
    began, hosts = scene.world.now, SimulatedHosts(scene.world, scene.goes_on)
    found = check(hosts, ALL)
    assert scene.world.now > began + 100
    judge(scene, ALL, began, hosts, found, quiet=False)
    assert verdicts(found) == ["missing-on-server"]


def test_a_port_that_is_used_again_and_again_is_never_a_finding() -> None:
    """Open at each look at its client, and closed at each look at its server."""
    scene = scene_of(PLAIN, PLAIN)
    happenings.flaps(scene, 0)
    scene.web.lag = scene.db.lag = 0.1
    hosts = SimulatedHosts(scene.world, scene.goes_on)
    scene.goes_on()
    scene.world.advance(0.1)
    found = check(hosts, ALL)
    assert len(scene.world.connections) > 5
    assert not found.findings


@pytest.mark.parametrize("way", [PLAIN, REVERSED])
def test_what_is_written_between_two_looks_contradicts_nothing(way: int) -> None:
    scene = scene_of(way)
    happenings.chats(scene, 0)
    scene.web.lag = scene.db.lag = 3.0
    hosts = SimulatedHosts(scene.world, scene.goes_on)
    found = check(hosts, ALL)
    assert hosts.order == ["Dump", "ByteCounts", *ROUND]
    assert not found.findings and found.exit_code == 0


# ------------------------------------------------------------------------------------------------- lies


class Liar(Machine):
    """A host that says that it has others' addresses, shows their sockets, and makes up its look-ups."""

    claimed: tuple[bytes, ...] = ()
    shown: tuple[Socket, ...] = ()
    looks: Callable[[bytes], Observation] = staticmethod(lambda key: Absence.ABSENT)

    def addresses(self) -> tuple[bytes, ...]:
        return (self.address, *self.claimed)

    def sockets(self) -> list[Socket]:
        return [*super().sockets(), *self.shown]

    def sight(self, key: bytes) -> Observation:
        return self.looks(key)


def made_up(key: bytes, state: State, cookie: int, inode: int) -> Socket:
    """A socket that nobody has."""
    return Socket(key, state, 2, 0, Timer.OFF, None, 0, 0, 0, 1000, inode, cookie)


SOME_KEYS = st.sampled_from(
    [
        key
        for port in (40_001, 40_002, 40_003)
        for near in [address.make_key(bytes((10, 0, 0, 1)), port, bytes((10, 0, 0, 2)), 5432)]
        for key in (near, address.mirror(near))
    ]
)
LIES = st.builds(made_up, SOME_KEYS, st.sampled_from(State), st.integers(1, 3), st.integers(0, 3))


@given(
    claimed=st.sets(st.sampled_from([bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))])),
    shown=st.lists(LIES, max_size=4, unique_by=lambda one: one.key),
    looks=st.lists(st.one_of(LIES, st.sampled_from(Absence)), min_size=1, max_size=5),
    roles=st.sampled_from([(("web", "liar"), ("db",)), (("web",), ("db", "liar")), (("web", "liar"), ("liar", "db"))]),
)
@settings(max_examples=100)
def test_whatever_a_host_says_nothing_false_is_proven_of_two_others(
    claimed: set[bytes], shown: list[Socket], looks: list[Observation], roles: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    scene = scene_of(PLAIN, PLAIN, PLAIN)
    happenings.server_vanishes(scene, 1)
    liar = Liar("liar", address.parse("10.0.0.3"), (5432,), scene.world)
    scene.world.add(liar)
    said = iter(looks * 100)
    liar.claimed, liar.shown, liar.looks = tuple(claimed), tuple(shown), lambda key: next(said)
    found = check(SimulatedHosts(scene.world), CheckPlan("fleet", *roles))
    for finding in found.findings:
        ends = [end for end in (finding.client, finding.server) if end is not None]
        if finding.confidence is Confidence.PROVEN and all(end.host != "liar" for end in ends):
            named = {finding.connection.client, finding.connection.server}
            (truth,) = [one.fault for one in scene.world.connections if set(one.name) == named]
            # That two sockets claim a connection is true, whatever else is.
            if finding.verdict != "ambiguous":
                assert truth is not None and finding.verdict in (truth, OTHER_WAY_ROUND[truth])


# ------------------------------------------------------------------------------------------------- no world outside

ALONE = """
import sys, time, types
import _socket

for name in ("subprocess", "threading", "asyncio", "selectors", "select", "ssl", "concurrent.futures"):
    sys.modules[name] = None  # whoever imports it gets an ImportError
socket = sys.modules["socket"] = types.ModuleType("socket")  # addresses are read and written by it, and nothing else
for name in ("AF_INET", "AF_INET6", "inet_pton", "inet_ntop"):
    setattr(socket, name, getattr(_socket, name))

import halfopen.matching.missing.way
import halfopen.judge.inquiry
import halfopen.judge.advice.advised, halfopen.judge.assembly.confidence, halfopen.judge.assembly.steps
import halfopen.matching.missing.doubt
import halfopen.matching.missing.guess, halfopen.matching.pairing.nat
from happenings import FAULTS, Scene
from simulated_answers import SimulatedHosts, check
from halfopen.inventory import CheckPlan

def refuse(event, arguments):
    if event.partition(".")[0] in ("open", "os", "socket", "subprocess", "time", "_thread", "import"):
        raise AssertionError(f"{event} {arguments}")

def no_clock(*_):
    raise AssertionError("the clock was read")

for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep"):
    setattr(time, name, no_clock)
sys.addaudithook(refuse)
scene = Scene()
for way in range(30):
    scene.dial(way)
scene.world.advance(10)
for number, what in enumerate(FAULTS[:-1]):
    what(scene, number)
scene.world.advance(5)
found = check(SimulatedHosts(scene.world, scene.goes_on), CheckPlan("all", ("web",), ("db",)))
made = [one.fault for one in scene.world.connections if one.fault is not None]
assert sorted(made) == sorted(one.verdict for one in found.findings) and len(set(made)) > 8, made
"""


def test_a_whole_check_needs_no_network_no_file_no_clock_no_thread_and_no_process() -> None:
    here = Path(__file__).parent
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]\n{ALONE}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr


# ------------------------------------------------------------------------------------------------- anything at all

CHURN = st.lists(st.tuples(st.sampled_from(["nothing", *HAPPENINGS]), st.integers(0, 11)), max_size=12)
LAGS = st.tuples(*[st.sampled_from((0.001, 0.06, 0.6, 3.0))] * 2)
FAILURES = st.dictionaries(st.sampled_from(["web", "db"]), st.sampled_from(QUESTIONS), max_size=1)


class AnythingHappens(RuleBasedStateMachine):
    """Checks of two hosts on which anything happens, before and meanwhile."""

    @initialize()
    def begin(self) -> None:
        self.scene = scene_of(*range(6))
        for at in range(2):
            happenings.chats(self.scene, at)

    @rule(what=st.sampled_from(list(HAPPENINGS)), which=st.integers(0, 11))
    def happens(self, what: str, which: int) -> None:
        HAPPENINGS[what](self.scene, which)
        self.scene.world.advance(0.2)

    @rule(plan=st.sampled_from(list(PLANS)), lags=LAGS, churn=CHURN, fails=FAILURES)
    def check(
        self,
        plan: str,
        lags: tuple[float, float],
        churn: list[tuple[str, int]],
        fails: dict[str, type[Question[Any]]],
    ) -> None:
        """`lags`: of web's answers and of db's. `churn`: what happens before each answer, beside what goes on."""
        world, left = self.scene.world, list(churn)
        self.scene.web.lag, self.scene.db.lag = lags

        def meanwhile() -> None:
            self.scene.goes_on()
            if left and (happening := HAPPENINGS.get(left[0][0])) is not None:
                happening(self.scene, left[0][1])
            del left[:1]

        began, hosts = world.now, SimulatedHosts(world, meanwhile, fails)
        self.scene.is_checked = True
        found = check(hosts, PLANS[plan])
        self.scene.is_checked = False
        judge(self.scene, PLANS[plan], began, hosts, found, quiet=not churn and not self.scene.flapping)


AnythingHappens.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow]
)
TestAnythingHappens = AnythingHappens.TestCase


def judge(scene: Scene, plan: CheckPlan, began: float, hosts: SimulatedHosts, found: Check, quiet: bool) -> None:
    """Holds a report against the truth. `began`: when the check did; `quiet`: nothing was opened or closed since."""
    about = [one for one in scene.world.connections if concerns(plan, one)]
    # Behind a published port, a check of the port that the server has looks only where an end is left over.
    lasting = {
        one: one.fault
        for one in about
        if one.fault is not None and one.ripe_at <= began and (not plan.ports or is_plain(one))
    }
    reported: dict[Connection, str] = {}
    for finding in found.findings:
        mine = [(one, verdict) for one in about if (verdict := said_of(one, finding)) is not None]
        assert len(mine) == 1, f"nobody made this: {finding}"
        ((one, verdict),) = mine
        assert one not in reported, f"{one.name} is reported twice"
        assert one.was_ill(began), f"{one.name} is well, and {finding.verdict} is said of it"
        # Two ends that are alone, and have exchanged the same, may be those of one connection.
        assert finding.confidence is not Confidence.INFERRED or finding.candidate is not None
        reported[one] = verdict
    for one, verdict in lasting.items():
        assert reported.get(one) == verdict or (hosts.over and one not in reported), f"{one.name}: {verdict}"
    broke_off = any(not isinstance(question, Baseline | Explain) for question in hosts.over.values())
    ill = {one.fault for one in about if one.was_ill(began)}
    known = {finding.verdict for finding in found.findings if finding.confidence is not Confidence.INFERRED}
    if CRITICAL & known:
        assert found.exit_code == 1
    elif CRITICAL & set(reported.values()):
        assert found.exit_code == 3
    elif broke_off:
        assert (found.exit_code, found.outcome) == (3, Outcome.INCOMPLETE)
    elif found.unjudged:
        # It went from one verdict to another while it was looked at, was answered, or could not be looked at any more.
        reasons = {Reason.CHANGING, Reason.ANSWERED_ELSEWHERE, *([Reason.NOT_SHOWN_BY_SOURCE] if hosts.over else [])}
        assert (ill or hosts.over or not quiet) and found.exit_code == 3
        assert {row.reason for row in found.unjudged} <= reasons
    elif quiet and not hosts.over:
        assert found.exit_code == 0 and (ill or found.outcome is Outcome.CLEAN)
    else:
        assert found.exit_code in (0, 3)


def concerns(plan: CheckPlan, one: Connection) -> bool:
    """Whether a check is about a connection."""
    return not plan.ports or int.from_bytes(one.server_key[-4:-2], "big") in plan.ports


def said_of(one: Connection, finding: Finding) -> str | None:
    """The verdict of a finding, if it is about this connection: it has its name, and its sockets are those seen.

    Of a connection to a redirected port, nothing tells who dialled whom once the port's host has booted.
    """
    said, seen = (finding.connection.client, finding.connection.server), [finding.client, finding.server]
    verdict: str = finding.verdict
    if said == one.name[::-1] and not is_plain(one):
        said, seen, verdict = one.name, seen[::-1], OTHER_WAY_ROUND.get(finding.verdict, verdict)
    cookies = [
        {f"{end.cookie:x}" for end in one.every_end if end.is_client is is_client} for is_client in (True, False)
    ]
    fits = all(end is None or end.cookie in mine for end, mine in zip(seen, cookies, strict=True))
    return verdict if fits and said == one.name else None


OTHER_WAY_ROUND = {"missing-on-server": "missing-on-client", "missing-on-client": "missing-on-server"}
