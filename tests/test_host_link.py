"""One host of a run: whatever it does is a value, and a host that failed is asked no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from halfopen.errors import ErrorCode, HostError
from halfopen.model import (
    Absence,
    Collector,
    HostFacts,
    Look,
    Lookup,
    Namespace,
    NetnsRef,
    RouteQuery,
    Routing,
    Snapshot,
)
from halfopen.plan import CheckPlan, Host, Inventory
from halfopen.reach.connect import ReachOptions
from halfopen.reach.conversation import Conversation
from halfopen.reach.machine import MachineAgent
from halfopen.reach.opening import Opened
from halfopen.run import host_link
from halfopen.run.fleet import Fleet, Options
from halfopen.run.host_link import HostLink
from halfopen.table import Table

FACTS = HostFacts("here", "6.1", None, None, False, Collector.NETLINK)
SNAPSHOT = Snapshot("here", FACTS, (Namespace(None, (), Table(), ()),))
ENDS = [Lookup(NetnsRef("here"), number.to_bytes(12, "big")) for number in range(5)]


ROUTES = [RouteQuery(NetnsRef("here"), bytes(4), bytes(4))]


class Answering(MachineAgent):
    """An agent that answers everything, until it is told to fail."""

    error: Exception | None = None
    asked = 0

    def answer(self, value: Any) -> Any:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return value

    def snapshot(self, ports: Sequence[int]) -> Snapshot:
        self.facts = FACTS
        found: Snapshot = self.answer(SNAPSHOT)
        return found

    def look(self, wanted: Sequence[Lookup]) -> Look:
        found: Look = self.answer(Look("here", {(one.place, one.key): Absence.ABSENT for one in wanted}))
        return found

    def translated(self, snapshot: Snapshot) -> Snapshot:
        found: Snapshot = self.answer(snapshot)
        return found

    def counts(self, _: Sequence[int]) -> Sequence[Any]:
        found: Sequence[Any] = self.answer(())
        return found

    def routes(self, wanted: Sequence[RouteQuery]) -> Any:
        return self.answer({query.place: Routing({}, {}) for query in wanted})

    def evidence(self) -> tuple[dict[str, int], dict[str, int]]:
        found: tuple[dict[str, int], dict[str, int]] = self.answer(({"a": 1}, {"b": 2}))
        return found

    def owners(self, _: Sequence[int]) -> Any:
        return self.answer(({}, 0))


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Answering:
    agent = Answering("here")
    monkeypatch.setattr(host_link, "is_foreign", lambda: True)
    monkeypatch.setattr("halfopen.reach.machine.MachineAgent", lambda _: agent)
    return agent


@pytest.fixture
def link(agent: Answering) -> HostLink:
    """The open link to a host of this agent."""
    host = Host("here", "local", transport="local")
    link = HostLink(host, (), Inventory({"here": host}), ReachOptions(1, time.monotonic() + 60), Opened())
    assert link.dump() == SNAPSHOT
    return link


QUESTIONS: dict[str, tuple[Callable[[HostLink], Any], Callable[[HostError], Any]]] = {
    "dump": (HostLink.dump, lambda error: Snapshot("here", None, error=error, transport="local")),
    "dump again": (
        lambda link: link.dump_again(SNAPSHOT),
        lambda error: Snapshot("here", None, error=error, transport="local"),
    ),
    "translations": (
        lambda link: link.translated(SNAPSHOT),
        lambda error: Snapshot("here", FACTS, SNAPSHOT.namespaces, error=error),
    ),
    "look": (lambda link: link.look(ENDS), lambda error: Look("here", {}, error)),
    "byte counters": (HostLink.byte_counters, lambda error: ({}, error)),
    "routes": (lambda link: link.routes(ROUTES), lambda error: ({}, error)),
    "kernel numbers": (HostLink.kernel_numbers, lambda _: None),
    "owners": (lambda link: link.owners([7]), lambda _: {}),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("error", [HostError(ErrorCode.TRUNCATED, "half"), ValueError("odd"), MemoryError()])
def test_every_error_is_a_value_and_the_host_is_asked_no_more(
    question: str, error: Exception, agent: Answering, link: HostLink
) -> None:
    ask, expected = QUESTIONS[question]
    agent.error = error
    found = ask(link)
    assert link.agent is None and link.error is not None and found == expected(link.error)
    if isinstance(error, HostError):
        assert link.error is error
    asked = agent.asked
    agent.error = None
    if question != "dump":  # which reaches the host once more
        assert ask(link) == expected(link.error)
        assert agent.asked == asked


@pytest.mark.parametrize("question", ["translations", "look", "byte counters", "routes", "kernel numbers", "owners"])
def test_a_question_that_is_refused_leaves_the_others(question: str, agent: Answering, link: HostLink) -> None:
    agent.error = HostError(ErrorCode.UNSUPPORTED, "no")
    QUESTIONS[question][0](link)
    agent.error = None
    assert link.error is None and link.look(ENDS).error is None


def test_byte_counters_that_a_kernel_refuses_are_none_and_no_error(agent: Answering, link: HostLink) -> None:
    agent.error = HostError(ErrorCode.NEEDS_PRIVILEGE, "no")
    assert link.byte_counters() == ({}, None)


def test_routes_that_a_kernel_refuses_are_none_and_no_error(agent: Answering, link: HostLink) -> None:
    assert link.routes(ROUTES) == ({NetnsRef("here"): Routing({}, {})}, None)
    agent.error = HostError(ErrorCode.UNSUPPORTED, "no")
    assert link.routes(ROUTES) == ({}, None)


def test_what_failed_beside_the_sockets_is_a_note(agent: Answering, link: HostLink) -> None:
    agent.error = HostError(ErrorCode.UNSUPPORTED, "no")
    assert link.kernel_numbers() is None and link.owners([7]) == {}
    assert link.notes == ["its counters could not be read: no", "the processes could not be read: no"]


def test_what_a_host_that_was_given_up_leaves_unknown_is_said(link: HostLink) -> None:
    link.give_up(HostError(ErrorCode.TIMEOUT, "no answer in time"))
    assert link.kernel_numbers() is None and link.owners([7]) == {} and link.owners([]) == {}
    assert link.notes == [f"{what} could not be read: no answer in time" for what in ("its counters", "the processes")]
    link.give_up(HostError(ErrorCode.TIMEOUT, "again"))
    assert link.lost


def test_processes_that_are_hidden_are_a_note(link: HostLink) -> None:
    assert link.owners([7]) == {} and "as root they could" in link.notes[0]


def test_many_look_ups_are_several_requests(agent: Answering, link: HostLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_link, "QUESTION_LIMIT", 2)
    before = agent.asked
    assert len(link.look(ENDS).sights) == len(ENDS) and agent.asked == before + 3


def test_a_host_that_is_late_is_given_up_and_its_look_is_an_error(agent: Answering) -> None:
    """It goes on hanging in a thread, and nobody waits for it."""
    hosts = Inventory({"here": Host("here", "local", transport="local")})
    plan = CheckPlan("all", ("here",), ("here",))
    with Fleet(hosts, [plan], Options(timeout=60)) as fleet:
        assert fleet.first_look()["here"].error is None
        fleet.deadline = time.monotonic() - 2  # seconds: more than the grace that an agent's own error has
        hanging = [True]

        def look(link: HostLink, wanted: Sequence[Lookup]) -> Look:
            while link.agent is not None and hanging:
                time.sleep(0.01)
            return link.look(wanted)

        try:
            look_of = fleet.each({"here": ENDS}, look)["here"]
        finally:
            hanging.clear()
        assert look_of.error is not None and look_of.error.code is ErrorCode.TIMEOUT
        (again,) = fleet.looks({})
        assert again.error is look_of.error and fleet.still_open({"here": 1}) == {}
        assert fleet.counters(["here"]) == {} and fleet.owners({"here": [7]}) == {"here": {}}


def test_what_an_agent_has_no_source_for_it_answers_with_nothing() -> None:
    machine: Conversation = MachineAgent("here")
    machine.involve(machine.own_netns)
    assert machine.translated(SNAPSHOT) is SNAPSHOT and machine.counts(()) == ()
    assert machine.routes(ROUTES) == {}
    assert machine.own_netns == NetnsRef("here") and machine.evidence() == ({}, {}) and machine.session is None
