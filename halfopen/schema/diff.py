"""The difference between two reports (`halfopen.diff/1`), with the same words and units (see `report`)."""

from __future__ import annotations

from halfopen.schema.codes import Outcome, Verdict
from halfopen.schema.finding import Finding
from halfopen.schema.kinds import Struct, Timestamp
from halfopen.schema.report import Tool

SCHEMA = "halfopen.diff/1"


class Side(Struct, frozen=True):
    """One of the two reports. `name`: of its file. `findings`: how many, those that are allowed among them."""

    name: str
    started_at: Timestamp
    finished_at: Timestamp
    outcome: Outcome
    findings: int


class Became(Struct, frozen=True):
    """A connection that is still there with another verdict: `was` in the old report, `finding` in the new one."""

    was: Verdict
    finding: Finding


class QueueChange(Struct, frozen=True):
    """The accept queue of one listener in both reports; None where a report does not tell it."""

    host: str
    address: str
    port: int
    old: int | None
    new: int | None


class CounterChange(Struct, frozen=True):
    """A kernel counter that has grown from `old` to `new`. If `restarted`, it counts anew: the host was rebooted, or
    the network namespace is another one. `netns`: as in the report.
    """

    host: str
    name: str
    old: int
    new: int
    restarted: bool
    netns: int | None = None


class DiffReport(Struct, frozen=True, rename={"schema_": "schema"}):
    """What became of the findings of `old` until `new`.

    `appeared`: only in the new one. `still`: in both, as the new one has them; `became`: those of them whose verdict is
    another. `gone`: only in the old one, while the new one has read the hosts of both ends. `unknown`: only in the old
    one, and the new one cannot tell. `exit_code`: 1 if something appeared that is not allowed, 3 if that cannot be said
    since the new report is incomplete, else 0.
    """

    schema_: str
    tool: Tool
    headline: str
    exit_code: int
    old: Side
    new: Side
    appeared: tuple[Finding, ...]
    still: tuple[Finding, ...]
    became: tuple[Became, ...]
    gone: tuple[Finding, ...]
    unknown: tuple[Finding, ...]
    queues: tuple[QueueChange, ...]
    counters: tuple[CounterChange, ...]
