"""What all parts of the public documents are made of: their base, and text that comes from a table of words."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec

from halfopen.schema.codes import CauseCode, Transport
from halfopen.tcp import State


def words(enum: type[StrEnum]) -> dict[str, Any]:
    """A JSON Schema of the words of an enum, for text that comes from it without being typed so."""
    return {"enum": sorted(enum)}


Timestamp = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""ISO 8601 in UTC with milliseconds, `2026-01-01T12:00:00.000Z`."""
TransportName = Annotated[str, msgspec.Meta(extra_json_schema=words(Transport))]
CauseName = Annotated[str, msgspec.Meta(extra_json_schema=words(CauseCode))]
StateName = Annotated[str, msgspec.Meta(extra_json_schema={"anyOf": [words(State), {"pattern": "^[0-9]+$"}]})]
"""A state by name, or by the kernel's number where that is none which this version knows."""


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all parts of the report."""
