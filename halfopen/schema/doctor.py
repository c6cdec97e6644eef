"""The report of `halfopen doctor` (`halfopen.doctor/1`): what evidence hosts offer, and what is lost without it.

Public, as the report of a check is: fields may be added, none renamed or dropped. All strings are hostile until a
renderer has escaped them.
"""

from __future__ import annotations

from enum import StrEnum

from halfopen.schema.kinds import Struct
from halfopen.schema.report import Failure, Tool

SCHEMA = "halfopen.doctor/1"


class Status(StrEnum):
    """Whether a kind of evidence is to be had."""

    OK = "ok"
    PARTLY = "partly"
    MISSING = "missing"
    UNKNOWN = "unknown"  # could not be tried; `detail` says why, or is empty where it was not tried


class Item(Struct, frozen=True):
    """One kind of evidence. `conclusions_lost` names the causes and confidences that no report can have without it,
    `costs` says what is lost in a sentence, and `how_to_get` is what to type to get it. All three are empty where
    nothing is missing; `conclusions_lost` also where the evidence is there in part.
    """

    evidence: str
    status: Status
    detail: str
    conclusions_lost: tuple[str, ...] = ()
    costs: str | None = None
    how_to_get: str | None = None


class Patient(Struct, frozen=True):
    """One host. `complete`: a check could read every socket of it."""

    name: str
    hostname: str | None
    kernel: str | None
    transport: str
    complete: bool
    headline: str
    error: Failure | None
    evidence: tuple[Item, ...]


class DoctorReport(Struct, frozen=True, rename={"schema_": "schema"}):
    """All hosts. `exit_code` is 0 if a check of each would be complete, else 3."""

    schema_: str
    tool: Tool
    taken_at: str
    exit_code: int
    hosts: tuple[Patient, ...]
