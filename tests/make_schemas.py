"""Keeps the schemas of this version: `python tests/make_schemas.py`. No test writes them; read the difference.

They stand in cases/schemas, in a folder for each major and minor version. Only this version's folder is written: what
an earlier version promised stays as it was.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from halfopen import __version__
from halfopen.report.schema import SCHEMAS

KEPT = Path(__file__).parent / "cases" / "schemas"
HERE = KEPT / ".".join(__version__.split(".")[:2])
WRITTEN = ("report", "snapshot", "count", "doctor", "diff")
"""Documents that halfopen writes. The inventory is written by people, and told by its own tests."""


def bare(schema: Any) -> Any:
    """A schema without its prose, which promises nothing to a program."""
    if isinstance(schema, dict):
        return {key: bare(one) for key, one in schema.items() if key != "description" or not isinstance(one, str)}
    return [bare(one) for one in schema] if isinstance(schema, list) else schema


def made(what: str) -> str:
    """The text to keep of one kind of document."""
    return json.dumps(bare(SCHEMAS[what]()), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    HERE.mkdir(parents=True, exist_ok=True)
    for what in WRITTEN:
        (HERE / f"{what}.json").write_text(made(what))
