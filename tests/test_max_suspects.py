"""No more suspects are looked at than a run may; the rest is counted and said, and never reads as clean."""

from __future__ import annotations

from collections import Counter

import happenings
import pytest
from happenings import Scene
from msgspec.structs import replace
from simulated_answers import SimulatedHosts, check

from halfopen.judge.questions import LookUp
from halfopen.plan import CheckPlan
from halfopen.schema.report import Outcome, Reason

ALL = CheckPlan("all ports", ("web",), ("db",))


def vanished(count: int, healthy: int = 2) -> Scene:
    """So many connections whose server's end is gone, beside some that are well."""
    scene = Scene()
    for _ in range(count + healthy):
        scene.dial()
    scene.world.advance(10)
    for _ in range(count):
        happenings.server_vanishes(scene, 0)
    scene.world.advance(1)
    return scene


@pytest.mark.parametrize("most", [1, 3, 4])
def test_what_is_beyond_the_limit_is_not_judged(most: int) -> None:
    hosts = SimulatedHosts(vanished(5).world)
    found = check(hosts, replace(ALL, max_suspects=most))
    assert Counter(row.reason for row in found.unjudged) == {Reason.TOO_MANY_SUSPECTS: 5 - most}
    assert len(found.findings) == most and {str(one.verdict) for one in found.findings} == {"missing-on-server"}
    assert found.exit_code == 1 and any(f"{5 - most} connection" in note for note in found.notes)
    looked = [lookup for one in hosts.asked if isinstance(one, LookUp) for lookup in one.wanted.get("web", ())]
    assert len({(lookup.place, lookup.key) for lookup in looked}) == most


def test_a_limit_that_is_kept_changes_nothing() -> None:
    found, limited = (check(SimulatedHosts(vanished(3).world), replace(ALL, max_suspects=most)) for most in (9, 3))
    assert len(found.findings) == 3 and [one.id for one in found.findings] == [one.id for one in limited.findings]
    assert not limited.unjudged


def test_nothing_that_counts_within_the_limit_is_incomplete_and_not_clean() -> None:
    plan = replace(ALL, max_suspects=1, allow=("missing-on-server",))
    found = check(SimulatedHosts(vanished(2).world), plan)
    assert (found.outcome, found.exit_code) == (Outcome.INCOMPLETE, 3)
    plan = replace(plan, allow=(*plan.allow, Reason.TOO_MANY_SUSPECTS))
    assert check(SimulatedHosts(vanished(2).world), plan).exit_code == 0
