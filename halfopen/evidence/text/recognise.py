"""Finds the program that wrote a text. Each form has lines that no other has; exactly one must claim the text."""

from __future__ import annotations

import shlex
import textwrap

from halfopen.errors import UsageError
from halfopen.evidence.text.forms import TextFormat
from halfopen.evidence.text.lsof import LSOF, LSOF_FIELDS
from halfopen.evidence.text.netstat import BSD, ILLUMOS, LINUX, WINDOWS
from halfopen.evidence.text.parsed import ParsedText
from halfopen.evidence.text.procfs import PROCFS
from halfopen.evidence.text.reading import read
from halfopen.evidence.text.ss import SS

LIMIT = 256 << 20  # bytes of a text


def recognise(data: bytes, name: str) -> ParsedText:
    """A file's bytes -> its sockets. UsageError where no form, or more than one, claims it, or no line was read."""
    if len(data) > LIMIT:
        raise UsageError(f"{name}: more than {LIMIT >> 20} MiB", "keep the lines of the port in question")
    text = textwrap.dedent(decoded(data))
    claims = [form for form in FORMS if form.claims.search(text)]
    if not claims:
        raise UsageError(
            f"{name}: neither a snapshot of halfopen nor a text that is understood",
            f"understood are {', '.join(dict.fromkeys(form.name for form in FORMS))}; best is ss -tanoe",
        )
    if len(claims) > 1:
        raise UsageError(
            f"{name} is {' and '.join(form.name for form in claims)} in one text",
            "put each into a file of its own",
        )
    parsed = read(text, claims[0])
    if (second := parsed.second) is not None:
        raise UsageError(
            f"{name} line {second.line}: {second.why}, so this is more than one moment: {second.text}",
            cut_there(name, second.line),
        )
    if parsed.problems and not parsed.sockets and not parsed.listeners:
        first = next((problem for problem in parsed.problems if problem.hides), parsed.problems[0])
        raise UsageError(
            f"{name}: line {first.line} of what looks like {parsed.form}: {first.why}", "ss -tanoe is best"
        )
    return parsed


def cut_there(name: str, line: int) -> str:
    """How to make two files of a text whose second moment begins at or before this line."""
    return (
        f"give each moment as a file: head -n {line - 1} {shlex.quote(name)} > 1.txt; "
        f"tail -n +{line} {shlex.quote(name)} > 2.txt; then --client 1.txt --client 2.txt, or --server for both"
    )


def decoded(data: bytes) -> str:
    """Bytes as text: UTF-16 behind its mark, as PowerShell writes it, else UTF-8 that keeps every byte."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


FORMS: tuple[TextFormat, ...] = (SS, LINUX, BSD, WINDOWS, ILLUMOS, LSOF, LSOF_FIELDS, PROCFS)
