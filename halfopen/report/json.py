"""The public contract: one object, pure ASCII, so that nothing in it acts on a terminal."""

from __future__ import annotations

from halfopen.report.escape import Json, ascii_json
from halfopen.report.view import View
from halfopen.schema.report import Report


def render(report: Report, _: View) -> Json:
    """Indented, with a newline at the end."""
    return ascii_json(report, indent=2)


def render_line(report: Report, _: View) -> Json:
    """The same on one line."""
    return ascii_json(report)
