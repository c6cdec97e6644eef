"""What a rule is, and what it says: a cause with the facts that speak for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from halfopen.judge.diagnosis.case import Case, HostEvidence
from halfopen.judge.diagnosis.phrase import Amount, Sentence, number, seconds, shape, spoken, tell
from halfopen.schema.report import Cause, CauseCode, Command, Evidence


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a host showed: a sentence whose first amount is its number."""

    host: str
    words: Sentence


@dataclass(frozen=True, slots=True)
class Reason:
    """A cause that fits a finding. `summary` holds no number of one finding, so that it is true of a whole group.

    `decisive`: seen in the act, or nothing else explains it; where one is, causes that merely fit are not named.
    """

    code: CauseCode
    summary: str
    facts: tuple[Fact, ...]
    decisive: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """What `halfopen explain` and the documentation say of a cause."""

    meaning: str
    story: str
    evidence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something to do, in prose: what is to be typed is a Command.

    `topic`: what two causes may both advise; the one that says more, because it knows more, stands for both.
    """

    text: str
    topic: str | None = None


Step = Remedy | Command


@dataclass(frozen=True, slots=True)
class Rule:
    """How one cause is recognised and mended. `find` stays silent (None) where its evidence is missing."""

    code: CauseCode
    find: Callable[[Case], Reason | None]
    remedies: Callable[[Case], Iterable[Step]]
    about: About


def cause_of(reason: Reason) -> Cause:
    """A reason for one finding as the report tells it."""
    evidence = [Evidence(host=fact.host, fact=spoken(fact.words), value=number(fact.words)) for fact in reason.facts]
    return Cause(code=reason.code, summary=reason.summary, evidence=tuple(evidence), decisive=reason.decisive)


def merged(reasons: list[Reason]) -> Cause:
    """The same cause of many findings: each fact once, its numbers as ranges, and of how many it was true."""
    kinds: dict[tuple[str, tuple[str | None, ...]], list[Sentence]] = {}
    for reason in reasons:
        for fact in reason.facts:
            kinds.setdefault((fact.host, shape(fact.words)), []).append(fact.words)
    evidence = []
    for (host, _), found in kinds.items():
        text = tell(found)
        if len(found) < len(reasons):
            text += f" ({len(found)} of {len(reasons)})"
        values = {number(one) for one in found}
        evidence.append(Evidence(host=host, fact=text, value=values.pop() if len(values) == 1 else None))
    sure = all(reason.decisive for reason in reasons)
    return Cause(code=reasons[0].code, summary=reasons[0].summary, evidence=tuple(evidence), decisive=sure)


def counted(host: HostEvidence, *names: str) -> list[Fact]:
    """The counters that were read, as one fact: values since the namespace began, and their growth during the run."""
    words: Sentence = ()
    for name in names:
        value, delta = host.value(name), host.delta(name)
        if value is not None:
            words += (f"{', ' if words else ''}{name} ", Amount(value))
            words += (" (+", Amount(delta), " during the look)") if delta else ()
    return [Fact(host.name, (*words, " since boot"))] if words else []


def idle_fact(host: str, idle: float | None) -> list[Fact]:
    """How long a socket has heard nothing."""
    return [] if idle is None else [Fact(host, ("has heard nothing for ", seconds(idle)))]
