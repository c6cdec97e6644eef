"""The looks of an inquiry: one round of them at some suspects, and rounds until all is said that they can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from halfopen.judge.confirm.bracket import Bracket, merge, questions, through
from halfopen.judge.confirm.rounds import is_open, settle_for
from halfopen.judge.confirm.timing import LEAST_EXTRA_S, LONGEST_S
from halfopen.judge.questions import Asking, Baseline, KernelState, LookUp, Pause, Position, put
from halfopen.matching.pairing.connection import Suspect
from halfopen.matching.pairing.match import Matching
from halfopen.model import NetnsRef
from halfopen.plan import CheckPlan


class Looked(Struct, frozen=True):
    """The brackets of each plan, and kernel counters before them by host; empty if nothing was suspect."""

    brackets: Sequence[Sequence[Bracket]]
    baseline: Mapping[str, KernelState]


def rounds(
    plans: Sequence[CheckPlan],
    matchings: Sequence[Matching],
    hosts: tuple[str, ...],
    baseline: Mapping[str, KernelState],
) -> Asking[Looked]:
    """As many rounds as each plan wants, and while a try of a suspect is due, up to LONGEST_S of waiting, a few more.

    hosts: those of the run. baseline: their kernel counters before the looks, empty if they were not read yet.
    """
    looked: list[list[Bracket]] = [[] for _ in plans]
    number, waited = 0, 0.0
    while True:
        asked = [
            unresolved(plan, matching.suspects, brackets, waited)
            for plan, matching, brackets in zip(plans, matchings, looked, strict=True)
        ]
        left = list(dict.fromkeys(suspect for suspects in asked for suspect in suspects))
        if not left:
            return Looked(looked, baseline)
        seconds = 0.0
        if number:
            baseline = baseline or (yield from put(Baseline(hosts, places_of(matchings))))
            wanted = max(pause_of(*parts, waited) for parts in zip(plans, asked, looked, strict=True))
            passed = yield from put(Pause(wanted, len(left), number))
            if passed is None:
                return Looked(looked, baseline)
            seconds = passed
        found = replace((yield from bracket(left, number)), paused_s=seconds)
        for suspects, brackets in zip(asked, looked, strict=True):
            if suspects:
                brackets.append(found)
        number, waited = number + 1, waited + seconds


def unresolved(
    plan: CheckPlan, suspects: Sequence[Suspect], brackets: Sequence[Bracket], waited: float
) -> Sequence[Suspect]:
    """The suspects of a check that need another round; none if all is said. `waited`: so far, in seconds."""
    left, _ = through(suspects, brackets)
    if len(brackets) < plan.rounds:
        return left
    if plan.rounds < 2 or waited >= LONGEST_S or not any(is_open(suspect, brackets) for suspect in left):
        return ()
    return left


def pause_of(plan: CheckPlan, suspects: Sequence[Suspect], brackets: Sequence[Bracket], waited: float) -> float:
    """Seconds to wait before the next round of a check: what its slowest suspect needs, and at least its `settle`.

    Rounds beyond those that it wants are only for suspects of which something is due, so they wait for that alone.
    """
    if not suspects:
        return 0.0
    extra = len(brackets) >= plan.rounds
    needed = settle_for([suspect for suspect in suspects if not extra or is_open(suspect, brackets)], brackets[-1])
    least = LEAST_EXTRA_S if extra else plan.settle
    return max(least, min(needed, LONGEST_S - waited))


def bracket(suspects: Sequence[Suspect], number: int) -> Asking[Bracket]:
    """One round: three looks in order. No look at the second ends begins before the first ends have answered."""
    first, second = questions(suspects, second=False), questions(suspects, second=True)
    before, errors = merge((yield from put(LookUp(number, Position.BEFORE, first))))
    between, errors_between = merge((yield from put(LookUp(number, Position.BETWEEN, second))))
    after, errors_after = merge((yield from put(LookUp(number, Position.AFTER, first))))
    return Bracket(before, between, after, {**errors, **errors_between, **errors_after})


def places_of(matchings: Sequence[Matching]) -> frozenset[NetnsRef]:
    """The network namespaces in which there is, or would be, an end of a suspect."""
    return frozenset(
        netns
        for matching in matchings
        for suspect in matching.suspects
        for end in (suspect.client, suspect.server)
        for netns in end.places
    )
