"""What a host offers as evidence -> what a check of it can conclude, and how to get the rest. Pure.

The kinds of evidence stand in `evidence_kinds`; here are the steps on the way to a host, and the report of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from halfopen import __version__
from halfopen.errors import ErrorCode, Exit, HostError
from halfopen.evidence.probe.examination import Examination
from halfopen.judge.assembly.check import stamp
from halfopen.onehost.evidence_kinds import KINDS, Kind
from halfopen.schema.doctor import SCHEMA, DoctorReport, Item, Patient, Status
from halfopen.schema.report import Failure, Tool
from halfopen.words import plural


@dataclass(frozen=True, slots=True)
class Visited:
    """One host that was tried: what it said, or the error that kept it from it. `way` is its transport; `talking`:
    it was reached before the error came."""

    name: str
    way: str
    examination: Examination | None
    error: HostError | None = None
    talking: bool = True
    sudo: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """A step on the way to the first answer, whether a host has it, and the errors that mean that it failed."""

    evidence: str
    codes: frozenset[ErrorCode]
    applies: Callable[[Visited], bool]
    told: Callable[[Visited], str]


def checkup_of(visited: Sequence[Visited], taken_at: datetime) -> DoctorReport:
    """All hosts -> the report."""
    hosts = tuple(patient_of(one) for one in visited)
    return DoctorReport(
        schema_=SCHEMA,
        tool=Tool(name="halfopen", version=__version__),
        taken_at=stamp(taken_at),
        exit_code=Exit.CLEAN if all(one.complete for one in hosts) else Exit.INCOMPLETE,
        hosts=hosts,
    )


def patient_of(one: Visited) -> Patient:
    """One host: the steps to its first answer, then each kind of evidence."""
    found = one.examination
    items = (*steps(one), *(item_of(kind, one) for kind in KINDS))
    complete = one.error is None and found is not None and found.may("sock_diag", "proc_net_tcp")
    gaps = sum(item.status in (Status.PARTLY, Status.MISSING) for item in items)
    return Patient(
        name=one.name,
        hostname=found.facts.hostname if found else None,
        kernel=found.facts.kernel if found else None,
        transport=one.way,
        complete=complete,
        headline=headline(one.name, complete, gaps),
        error=Failure(code=one.error.code, message=one.error.message, hint=one.error.hint) if one.error else None,
        evidence=items,
    )


def headline(name: str, complete: bool, gaps: int) -> str:
    """The answer in one line."""
    if not complete:
        return f"{name}  cannot be read: a check of it is incomplete"
    if gaps:
        return f"{name}  can be checked, with {plural(gaps, 'gap')}"
    return f"{name}  can be checked, and nothing is missing"


def steps(one: Visited) -> list[Item]:
    """The way to the first answer: what was passed, what failed, and what was not tried."""
    failed = stage_of(one.error, one.talking) if one.error else None
    stages = [stage for stage in STAGES if stage.applies(one) or stage is failed]
    if one.error is None:
        return [Item(evidence=stage.evidence, status=Status.OK, detail=stage.told(one)) for stage in stages]
    items, status = [], Status.OK
    for stage in stages:
        if stage is failed:
            items.append(
                Item(
                    evidence=stage.evidence,
                    status=Status.MISSING,
                    detail=f"{one.error.code}: {one.error.message}",
                    costs=f"nothing can be said about {one.name}: no verdict that needs its end, and no exit 0",
                    how_to_get=one.error.hint,
                )
            )
            status = Status.UNKNOWN
            continue
        items.append(Item(evidence=stage.evidence, status=status, detail=""))
    return items


def stage_of(error: HostError, talking: bool) -> Stage:
    """The step that an error belongs to; what none claims failed where the host was: on the way, or in its answer."""
    named = [stage for stage in STAGES if error.code in stage.codes]
    if error.code is ErrorCode.TIMEOUT and talking:
        return STAGES[-1]
    return named[0] if named else STAGES[-1] if talking else STAGES[0]


def item_of(kind: Kind, one: Visited) -> Item:
    """One kind of evidence of one host."""
    if one.examination is None:
        return Item(evidence=kind.evidence, status=Status.UNKNOWN, detail="")
    status, detail = kind.look(one.examination)
    if status in (Status.OK, Status.UNKNOWN):
        return Item(evidence=kind.evidence, status=status, detail=detail)
    way = "rooted" if one.examination.facts.privileged else one.way
    root = ROOT.get(way, ROOT["ssh"]).format(name=one.name)
    return Item(
        evidence=kind.evidence,
        status=status,
        detail=detail,
        conclusions_lost=kind.conclusions_lost if status is Status.MISSING else (),
        costs=kind.costs,
        how_to_get=kind.how_to_get.format(root=root, name=one.name),
    )


def always(_: Visited) -> bool:
    """Every host has this step."""
    return True


def by_ssh(one: Visited) -> bool:
    """Whether SSH leads there."""
    return one.way not in ("local", "exec")


def as_whom(one: Visited) -> str:
    """Who the probe ran as."""
    facts = one.examination.facts if one.examination else None
    return "" if facts is None or facts.uid is None else f"uid {facts.uid}"


def by_which_way(one: Visited) -> str:
    """The transport, and why that one."""
    return one.way + (f", {one.note}" if one.note else "")


def interpreter(one: Visited) -> str:
    """The Python over there."""
    return f"python {one.examination.facts.python}" if one.examination else ""


STAGES: tuple[Stage, ...] = (
    Stage(
        "reach",
        frozenset({ErrorCode.UNREACHABLE, ErrorCode.CONNECTION_REFUSED, ErrorCode.TIMEOUT, ErrorCode.THROTTLED}),
        always,
        by_which_way,
    ),
    Stage(
        "host key",
        frozenset({ErrorCode.HOST_KEY_UNKNOWN, ErrorCode.HOST_KEY_MISMATCH, ErrorCode.HOST_KEY_REVOKED}),
        by_ssh,
        lambda _: "known",
    ),
    Stage("authentication", frozenset({ErrorCode.AUTH_FAILED}), by_ssh, lambda _: "accepted"),
    Stage("sudo", frozenset({ErrorCode.NEEDS_PRIVILEGE}), lambda one: one.sudo, as_whom),
    Stage("interpreter", frozenset({ErrorCode.NO_INTERPRETER}), always, interpreter),
    Stage("answer", frozenset({ErrorCode.PROTOCOL_ERROR, ErrorCode.TRUNCATED}), always, lambda _: "whole"),
)

ROOT = {
    "local": "sudo halfopen",
    "exec": "an argv in hosts.{name}.command that enters as root, or sudo = true beside it",
    "rooted": "it is root already, and something bounds it: look from outside of its container, or give it "
    "CAP_SYS_PTRACE, CAP_SYS_ADMIN and CAP_NET_ADMIN",
    "ssh": "sudo = true under [hosts.{name}] in the inventory, or user = root",
}
