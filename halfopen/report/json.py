"""The public contract: one object, pure ASCII, so that nothing in it acts on a terminal."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from halfopen.report.view import View
from halfopen.schema.report import Report


def render(report: Report, _: View) -> str:
    """Indented, with a newline at the end."""
    return json.dumps(plain(report), indent=2).replace("\x7f", "\\u007f") + "\n"


def render_line(report: Report, _: View) -> str:
    """The same on one line."""
    return json.dumps(plain(report), separators=(",", ":")).replace("\x7f", "\\u007f") + "\n"


def plain(report: Report) -> Any:
    """Structs as dictionaries and lists."""
    return msgspec.to_builtins(report)
