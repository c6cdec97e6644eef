"""The table of formats. Renderers are imported when they are used."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping

from msgspec import Struct

from halfopen.errors import UsageError
from halfopen.report.escape import Escaped
from halfopen.report.view import View
from halfopen.schema.count import CountReport
from halfopen.schema.diff import DiffReport
from halfopen.schema.doctor import DoctorReport
from halfopen.schema.report import Report

Document = Report | CountReport | DoctorReport | DiffReport
"""What a command writes."""


class Format(Struct, frozen=True):
    """A renderer by its module, and the suffixes of files that are written with it.

    `needs`: a package that it imports, which is installed with the extra of this format's name only.
    """

    module: str
    function: str
    suffixes: tuple[str, ...]
    needs: str | None = None

    def render(self, report: Document, view: View) -> Escaped:
        """The report in this format."""
        text = getattr(importlib.import_module(f"halfopen.report.{self.module}"), self.function)(report, view)
        if not isinstance(text, Escaped):  # mypy does not see through getattr
            raise TypeError(f"{self.module}.{self.function} returned text that no escaper made")
        return text


def named(name: str, formats: Mapping[str, Format] | None = None) -> Format:
    """A format by its name, of a check's report or of another table. UsageError for one that there is not."""
    known = FORMATS if formats is None else formats
    try:
        return usable(name, known[name])
    except KeyError:
        raise UsageError(f"--format {name!r} is unknown", f"one of {', '.join(known)}") from None


def usable(name: str, form: Format) -> Format:
    """The format, if what it needs is installed. UsageError if not, before anything is asked of a host."""
    if form.needs is not None and importlib.util.find_spec(form.needs) is None:
        raise UsageError(f"{name} needs {form.needs}, which is not installed", f"pip install 'halfopen[{name}]'")
    return form


def format_for(path: str, name: str | None, formats: Mapping[str, Format] | None = None) -> Format:
    """The format of a file: by its suffix, else as named. UsageError where neither tells."""
    known = FORMATS if formats is None else formats
    for kind, form in known.items():
        if path.endswith(form.suffixes):
            return usable(kind, form)
    if name is None:
        suffixes = ", ".join(suffix for form in known.values() for suffix in form.suffixes)
        raise UsageError(f"-o {path}: its suffix names no format", f"one of {suffixes}, or --format")
    return named(name, formats)


FORMATS: dict[str, Format] = {
    "text": Format("text", "render", (".txt",)),
    "json": Format("json", "render", (".json",)),
    "jsonl": Format("json", "render_line", (".jsonl",)),
    "markdown": Format("markdown", "render", (".md",)),
    "html": Format("html", "render", (".html",), "jinja2"),
    "junit": Format("junit", "render", (".xml",)),
    "github": Format("github", "render", ()),
    "prometheus": Format("prometheus", "render", (".prom",)),
}

COUNT_FORMATS: dict[str, Format] = {
    "text": Format("count", "render", (".txt",)),
    "json": Format("count", "render_json", (".json",)),
}
DOCTOR_FORMATS: dict[str, Format] = {
    "text": Format("doctor", "render", (".txt",)),
    "json": Format("doctor", "render_json", (".json",)),
}
DIFF_FORMATS: dict[str, Format] = {
    "text": Format("diff", "render", (".txt",)),
    "json": Format("diff", "render_json", (".json",)),
    "markdown": Format("diff", "render_markdown", (".md",)),
}
