"""`halfopen explain`: what a word of the report means, from the tables that judge."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable

from halfopen.environment import Environment
from halfopen.errors import UsageError
from halfopen.glossary import CONFIDENCES, MEANINGS, REASONS
from halfopen.glossary.causes import ABOUT, OUTLOOKS
from halfopen.judge.assembly.headline import meaning
from halfopen.matching.verdict.table import SEVERITY
from halfopen.schema.report import CauseCode, Confidence, OutlookCode, Reason, Verdict
from halfopen.values import did_you_mean


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which word; all of them if none."""
    parser.add_argument(
        "code", nargs="?", metavar="CODE", help="a verdict, cause, outlook, confidence or reason; none: all"
    )


def run(args: argparse.Namespace, environment: Environment) -> int:
    """Prints one explanation, or a line for each word."""
    width = max(40, min(environment.width, 100))
    print("\n".join(everything(width) if args.code is None else explained(args.code, width)), file=environment.stdout)
    return 0


def everything(width: int) -> list[str]:
    """All words by title, each with what it means in one line."""
    lines: list[str] = []
    for title, words in lists().items():
        size = max(map(len, words)) + 2
        lines += ["", title] if lines else [title]
        for word, text in words.items():
            lines += wrapped(text, width, f"  {word:<{size}}", " " * (size + 2))
    return [*lines, "", "halfopen explain CODE tells more."]


def lists() -> dict[str, dict[str, str]]:
    """Title -> word -> what it means in one sentence."""
    return {
        "verdicts": {verdict: f"{SEVERITY[verdict]}: {meaning(verdict, None, None)}" for verdict in Verdict},
        "causes": {code: ABOUT[code].meaning for code in CauseCode},
        "outlooks": {code: OUTLOOKS[code] for code in OutlookCode},
        "confidence": {confidence: first_sentence(text) for confidence, text in CONFIDENCES.items()},
        "reasons why a connection is not judged": {reason: first_sentence(text) for reason, text in REASONS.items()},
    }


def explained(code: str, width: int) -> list[str]:
    """One word at length; `unknown` is both a cause and an outlook. UsageError for a word that no report has."""
    found: list[list[str]] = []
    if code in set(Verdict):
        found.append(verdict_lines(Verdict(code), width))
    if code in set(CauseCode):
        found.append(cause_lines(CauseCode(code), width))
    if code in set(OutlookCode):
        found.append([f"{code}  (outlook)", "", *wrapped(OUTLOOKS[OutlookCode(code)], width)])
    if code in set(Confidence):
        found.append([f"{code}  (confidence)", "", *wrapped(CONFIDENCES[Confidence(code)], width)])
    if code in set(Reason):
        found.append([f"{code}  (why a connection is not judged)", "", *wrapped(REASONS[Reason(code)], width)])
    if not found:
        known = [str(word) for words in lists().values() for word in words]
        raise UsageError(
            f"{code!r} is not a valid verdict, cause, outlook, confidence or reason",
            did_you_mean(code, known) or "halfopen explain lists all of them",
        )
    return [line for at, lines in enumerate(found) for line in (["", *lines] if at else lines)]


def verdict_lines(verdict: Verdict, width: int) -> list[str]:
    """A verdict: what it says, how it comes about, what to look at."""
    about = MEANINGS[verdict]
    lines = [f"{verdict}  (verdict, {SEVERITY[verdict]})", "", *wrapped(about.says, width)]
    lines += ["", *wrapped(about.beside, width)] if about.beside else []
    return [*lines, "", "How it comes about", *bullets(about.arises, width), "", "Look at", *bullets(about.next, width)]


def cause_lines(cause: CauseCode, width: int) -> list[str]:
    """A cause: what it is, how it comes about, what shows it, what to do."""
    about = ABOUT[cause]
    lines = [f"{cause}  (cause)", "", *wrapped(about.meaning, width)]
    for title, text in (
        ("How it comes about", about.story),
        ("Shown by", about.evidence),
        ("What to do", about.remedy),
    ):
        lines += ["", title, *wrapped(text, width, "  ")]
    return lines


def bullets(sentences: Iterable[str], width: int) -> list[str]:
    """A list."""
    return [line for sentence in sentences for line in wrapped(sentence, width, "  - ", "    ")]


def wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """Text in lines of at most `width` columns. What stands in backquotes stays on one line, without the backquotes.

    `first` starts the first line and `rest` the others; without `rest`, `first` starts all of them.
    """
    lines = textwrap.wrap(
        QUOTED.sub(lambda found: found[1].replace(" ", UNBROKEN), text),
        width,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(UNBROKEN, " ") for line in lines]


def first_sentence(text: str) -> str:
    """Up to the first full stop."""
    return text.partition(". ")[0].removesuffix(".") + "."


QUOTED = re.compile("`([^`]*)`")
UNBROKEN = "\0"  # stands for a blank at which no line may break
