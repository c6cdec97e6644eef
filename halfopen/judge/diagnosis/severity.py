"""How grave a finding is: as its verdict says, unless more is known of it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from halfopen.judge.confirm.timing import PATIENCE
from halfopen.judge.diagnosis.rules.rule import Reason
from halfopen.judge.signs.case import Case, is_full
from halfopen.matching.verdict.table import SEVERITY
from halfopen.model import ListenSocket, NetnsRef
from halfopen.schema.report import CauseCode, Severity, Verdict

At = tuple[NetnsRef, ListenSocket | None]
"""A listener, and its network namespace"""


def severity_of(case: Case, reasons: Sequence[Reason]) -> Severity:
    """The severity of a finding with these causes. What is by design is no alarm, and an outage is more than a warning.

    `reasons`: the surest first.
    """
    if reasons[0].decisive and reasons[0].code in BY_DESIGN:
        return Severity.INFO
    if case.outage and case.held.verdict in OUTAGES:
        return Severity.CRITICAL
    return SEVERITY[case.held.verdict]


def with_outages(cases: Sequence[Case]) -> list[Case]:
    """The findings of a check, with those marked whose listener takes nobody any more.

    Its queue is full, what waits in it waited through the whole look, and meanwhile clients had no answer.
    """
    stands = {listener_at(case) for case in cases if is_standing(case)}
    unanswered = {listener_at(case) for case in cases if is_turned_away(case)}
    return [replace(case, outage=listener_at(case) in stands & unanswered) for case in cases]


def is_standing(case: Case) -> bool:
    """Whether a finding shows that the queue of its listener is full and takes nobody: one that waits in it, or one
    whose SYN had no answer each time.
    """
    if case.listener is None or not is_full(case.listener):
        return False
    client = case.held.client
    tries = client.retransmits or 0 if client is not None else 0
    return case.held.verdict is Verdict.NEVER_ACCEPTED or (
        case.held.verdict is Verdict.CONNECT_UNANSWERED and tries >= PATIENCE
    )


def is_turned_away(case: Case) -> bool:
    """Whether clients of a finding's listener have no answer: this one, or those that the kernel counts."""
    return case.held.verdict in TURNED_AWAY or bool(case.server.delta("ListenOverflows"))


def listener_at(case: Case) -> At:
    """The listener of a finding."""
    return case.held.server_place, case.listener


BY_DESIGN = (CauseCode.DEFERRED_ACCEPT,)
OUTAGES = (Verdict.NEVER_ACCEPTED, Verdict.CONNECT_UNANSWERED)
TURNED_AWAY = (Verdict.CONNECT_UNANSWERED, Verdict.HANDSHAKE_STUCK)
