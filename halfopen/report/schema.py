"""JSON Schemas of what other programs read and write, made from the types themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from halfopen.evidence import saved
from halfopen.inventory import ALLOWABLE, CHECK_KEYS, HOST_KEYS, TRANSPORTS, VERDICTS
from halfopen.plan import ASK_LEVELS
from halfopen.schema import count as tally
from halfopen.schema import diff as difference
from halfopen.schema import doctor as checkup
from halfopen.schema import report as findings


def report() -> dict[str, Any]:
    """The JSON report."""
    return document(findings.Report, findings.SCHEMA)


def snapshot() -> dict[str, Any]:
    """A file of saved evidence, after decompression."""
    return document(saved.Saved, saved.SCHEMA)


def count() -> dict[str, Any]:
    """The JSON of `halfopen count`."""
    return document(tally.CountReport, tally.SCHEMA)


def doctor() -> dict[str, Any]:
    """The JSON of `halfopen doctor`."""
    return document(checkup.DoctorReport, checkup.SCHEMA)


def diff() -> dict[str, Any]:
    """The JSON of `halfopen diff`."""
    return document(difference.DiffReport, difference.SCHEMA)


def document(struct: type[msgspec.Struct], schema: str) -> dict[str, Any]:
    """The schema of a whole document, which names its own: `halfopen.count/1` -> `urn:halfopen:count:1`."""
    found = msgspec.json.schema(struct)
    found["$defs"][struct.__name__]["properties"]["schema"] = {"const": schema}
    return {"$schema": DIALECT, "$id": "urn:" + schema.replace(".", ":").replace("/", ":"), **found}


def inventory() -> dict[str, Any]:
    """The inventory, as its TOML reads."""
    hosts = {key: HOST_TYPES[key] for key in HOST_KEYS}
    checks = {key: CHECK_TYPES[key] for key in CHECK_KEYS}

    def keyed(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    return {
        "$schema": DIALECT,
        "$id": "urn:halfopen:inventory:1",
        **keyed(
            {
                "defaults": keyed(hosts, []),
                "hosts": {"type": "object", "additionalProperties": keyed(hosts, [])},
                "checks": {"type": "object", "additionalProperties": keyed(checks, ["client", "server"])},
            },
            [],
        ),
    }


DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
TEXTS: dict[str, Any] = {"type": "array", "items": TEXT}
SELECTOR: dict[str, Any] = {"anyOf": [TEXT, {**TEXTS, "minItems": 1}]}
PORT: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 65535}
VERDICT: dict[str, Any] = {"enum": [str(verdict) for verdict in VERDICTS]}

HOST_TYPES: dict[str, dict[str, Any]] = {
    "address": TEXT,
    "port": PORT,
    "user": TEXT,
    "identity_file": TEXT,
    "known_hosts": TEXT,
    "jump": TEXT,
    "transport": {"enum": list(TRANSPORTS)},
    "sudo": {"type": "boolean"},
    "python": TEXT,
    "command": TEXTS,
    "addresses": TEXTS,
    "tags": TEXTS,
}
CHECK_TYPES: dict[str, dict[str, Any]] = {
    "client": SELECTOR,
    "server": SELECTOR,
    "ports": {"type": "array", "items": PORT},
    "nat": SELECTOR,
    "direct": {"type": "boolean"},
    "settle": {"type": "number", "minimum": 0, "maximum": 3600},
    "rounds": {"type": "integer", "minimum": 1, "maximum": 100},
    "allow": {"type": "array", "items": {"enum": list(ALLOWABLE)}},
    "max": {"type": "object", "propertyNames": VERDICT, "additionalProperties": {"type": "integer", "minimum": 0}},
    "require_connections": {"type": "integer", "minimum": 0},
    "ask": {"enum": list(ASK_LEVELS)},
}

SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "report": report,
    "snapshot": snapshot,
    "inventory": inventory,
    "count": count,
    "doctor": doctor,
    "diff": diff,
}
