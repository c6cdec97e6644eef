"""What reads text of ss, netstat, lsof and /proc: a UsageError, or sockets that stand there."""

from __future__ import annotations

from collections.abc import Callable

from halfopen import address
from halfopen.evidence.text.forms import TextFormat
from halfopen.evidence.text.parsed import ParsedText
from halfopen.evidence.text.reading import read
from halfopen.evidence.text.recognise import decoded, recognise


def pasted(data: bytes) -> None:
    """A text of no known form."""
    stands_there(recognise(data, "x"), decoded(data))


def of_form(form: TextFormat) -> Callable[[bytes], None]:
    """A text that is taken for one form: never an error, and damage takes away and never adds."""

    def run(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        told = read(text, form)
        stands_there(told, text)
        if told.second is None and not any(problem.hides for problem in told.problems) and "\r" not in text:
            middle = len(text) // 2
            for damaged in (text[:middle], text.replace("\n", "\r\n"), text + "\n" + text):
                seen = read(damaged, form)
                assert seen.second is not None or seen.sockets.keys() <= told.sockets.keys(), f"invented in {damaged!r}"

    return run


def stands_there(told: ParsedText, text: str) -> None:
    """Nothing is invented: the ports of what was read are in the text, and so are the lines that are named."""
    lines = text.count("\n") + 1
    for problem in (*told.problems, *([told.second] if told.second else [])):
        assert 0 < problem.line <= lines and len(problem.text) < 1000
    lower = text.lower()
    for key in told.sockets:
        for port in address.split_key(key)[1::2]:
            assert str(port) in text or f"{port:04x}" in lower, f"invented port {port}"
