"""The report of `halfopen doctor` (`halfopen.doctor/1`): what evidence hosts offer, and what its absence rules out.

Public, as the report of a check is: fields may be added, none renamed or dropped. All strings are hostile until a
renderer has escaped them.
"""

from __future__ import annotations

from enum import StrEnum

from halfopen.schema.report import Failure, Struct, Tool

SCHEMA = "halfopen.doctor/1"


class Status(StrEnum):
    """Whether a kind of evidence is to be had."""

    OK = "ok"
    PARTLY = "partly"
    MISSING = "missing"
    UNKNOWN = "unknown"  # could not be tried; `detail` says why, or is empty where it was not come to


class Item(Struct, frozen=True):
    """One kind of evidence. `rules_out` names verdicts, causes and confidences that cannot be had without it, `costs`
    says so in a sentence, `grant` is what to type to get it; all three are empty where nothing is missing.
    """

    evidence: str
    status: Status
    detail: str
    rules_out: tuple[str, ...] = ()
    costs: str | None = None
    grant: str | None = None


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
