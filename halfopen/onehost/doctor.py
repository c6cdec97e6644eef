"""What a host offers as evidence -> what a check of it can conclude, and how to get the rest. Pure.

The kinds of evidence stand in `evidence_kinds`; here are the steps to its first answer, and the report of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec import Struct

from halfopen import __version__
from halfopen.errors import ErrorCode, Exit, HostError
from halfopen.evidence.probe.examination import Examination
from halfopen.judge.assembly.check import stamp
from halfopen.onehost.evidence_kinds import KINDS, Kind
from halfopen.schema.doctor import SCHEMA, DoctorReport, Item, Patient, Status
from halfopen.schema.report import Failure, Tool
from halfopen.words import plural


class Visited(Struct, frozen=True):
    """One host that was tried: what it said, or the error that kept it from answering.

    `talking`: it was reached before the error came. `note`: why it was reached by this transport.
    """

    name: str
    transport: str
    examination: Examination | None
    error: HostError | None = None
    talking: bool = True
    sudo: bool = False
    note: str | None = None


class Stage(Struct, frozen=True):
    """A step towards the first answer: whether a host has it, its errors, and what to say where it succeeded."""

    evidence: str
    codes: frozenset[ErrorCode]
    applies: Callable[[Visited], bool]
    detail: Callable[[Visited], str]


def checkup_of(visited: Sequence[Visited], taken_at: datetime) -> DoctorReport:
    """All hosts -> the report."""
    hosts = tuple(patient_of(visit) for visit in visited)
    return DoctorReport(
        schema_=SCHEMA,
        tool=Tool(name="halfopen", version=__version__),
        taken_at=stamp(taken_at),
        exit_code=Exit.CLEAN if all(host.complete for host in hosts) else Exit.INCOMPLETE,
        hosts=hosts,
    )


def patient_of(visit: Visited) -> Patient:
    """One host: the steps to its first answer, then each kind of evidence."""
    found, error = visit.examination, visit.error
    items = (*steps(visit), *(item_of(kind, visit) for kind in KINDS))
    complete = error is None and found is not None and found.may("sock_diag", "proc_net_tcp")
    gaps = sum(item.status in (Status.PARTLY, Status.MISSING) for item in items)
    return Patient(
        name=visit.name,
        hostname=found.facts.hostname if found else None,
        kernel=found.facts.kernel if found else None,
        transport=visit.transport,
        complete=complete,
        headline=headline(visit.name, complete, gaps),
        error=Failure(code=error.code, message=error.message, hint=error.hint) if error else None,
        evidence=items,
    )


def headline(name: str, complete: bool, gaps: int) -> str:
    """The answer in one line."""
    if not complete:
        return f"{name}  cannot be read: a check of it is incomplete"
    if gaps:
        return f"{name}  can be checked, with {plural(gaps, 'gap')}"
    return f"{name}  can be checked, and nothing is missing"


def steps(visit: Visited) -> list[Item]:
    """The steps to the first answer: what was passed, what failed, and what was not tried."""
    failed = stage_of(visit.error, visit.talking) if visit.error else None
    stages = [stage for stage in STAGES if stage.applies(visit) or stage is failed]
    if visit.error is None:
        return [Item(evidence=stage.evidence, status=Status.OK, detail=stage.detail(visit)) for stage in stages]
    items, status = [], Status.OK
    for stage in stages:
        if stage is failed:
            items.append(
                Item(
                    evidence=stage.evidence,
                    status=Status.MISSING,
                    detail=f"{visit.error.code}: {visit.error.message}",
                    costs=f"nothing can be said about {visit.name}: no verdict that needs its end, and no exit 0",
                    how_to_get=visit.error.hint,
                )
            )
            status = Status.UNKNOWN
            continue
        items.append(Item(evidence=stage.evidence, status=status, detail=""))
    return items


def stage_of(error: HostError, talking: bool) -> Stage:
    """The step that an error belongs to; one that no step claims: the answer if the host was reached, else reach."""
    named = [stage for stage in STAGES if error.code in stage.codes]
    if error.code is ErrorCode.TIMEOUT and talking:
        return STAGES[-1]
    return named[0] if named else STAGES[-1] if talking else STAGES[0]


def item_of(kind: Kind, visit: Visited) -> Item:
    """One kind of evidence of one host."""
    if visit.examination is None:
        return Item(evidence=kind.evidence, status=Status.UNKNOWN, detail="")
    status, detail = kind.look(visit.examination)
    if status in (Status.OK, Status.UNKNOWN):
        return Item(evidence=kind.evidence, status=status, detail=detail)
    case = "rooted" if visit.examination.facts.privileged else visit.transport
    root = ROOT.get(case, ROOT["ssh"]).format(name=visit.name)
    return Item(
        evidence=kind.evidence,
        status=status,
        detail=detail,
        conclusions_lost=kind.conclusions_lost if status is Status.MISSING else (),
        costs=kind.costs,
        how_to_get=kind.how_to_get.format(root=root, name=visit.name),
    )


def always(_: Visited) -> bool:
    """Every host has this step."""
    return True


def by_ssh(visit: Visited) -> bool:
    """Whether it is reached by SSH."""
    return visit.transport not in ("local", "exec")


def as_whom(visit: Visited) -> str:
    """Who the probe ran as."""
    facts = visit.examination.facts if visit.examination else None
    return "" if facts is None or facts.uid is None else f"uid {facts.uid}"


def by_transport(visit: Visited) -> str:
    """The transport, and why that one."""
    return visit.transport + (f", {visit.note}" if visit.note else "")


def interpreter(visit: Visited) -> str:
    """The Python over there."""
    return f"python {visit.examination.facts.python}" if visit.examination else ""


STAGES: tuple[Stage, ...] = (
    Stage(
        "reach",
        frozenset({ErrorCode.UNREACHABLE, ErrorCode.CONNECTION_REFUSED, ErrorCode.TIMEOUT, ErrorCode.THROTTLED}),
        always,
        by_transport,
    ),
    Stage(
        "host key",
        frozenset({ErrorCode.HOST_KEY_UNKNOWN, ErrorCode.HOST_KEY_MISMATCH, ErrorCode.HOST_KEY_REVOKED}),
        by_ssh,
        lambda _: "known",
    ),
    Stage("authentication", frozenset({ErrorCode.AUTH_FAILED}), by_ssh, lambda _: "accepted"),
    Stage("sudo", frozenset({ErrorCode.NEEDS_PRIVILEGE}), lambda visit: visit.sudo, as_whom),
    Stage("interpreter", frozenset({ErrorCode.NO_INTERPRETER}), always, interpreter),
    Stage("answer", frozenset({ErrorCode.PROTOCOL_ERROR, ErrorCode.TRUNCATED}), always, lambda _: "whole"),
)

ROOT = {
    "local": "sudo halfopen",
    "exec": "an argv in hosts.{name}.command that enters as root, or sudo = true beside it",
    "rooted": "it is root already, but restricted: run the check from outside its container, or give it "
    "CAP_SYS_PTRACE, CAP_SYS_ADMIN and CAP_NET_ADMIN",
    "ssh": "sudo = true under [hosts.{name}] in the inventory, or user = root",
}
