"""Text of a report, made neutral for one medium. Every string of a report comes from a host until it has been here.

Each medium has a type of its own, so that a renderer that forgets to escape does not type-check.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Sequence
from typing import NewType

Terminal = NewType("Terminal", str)
Markdown = NewType("Markdown", str)
Xml = NewType("Xml", str)

LIMIT = 300  # characters of one name or sentence
COMMAND_LIMIT = 10_000  # of a command, or a hint that holds one
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str, limit: int = LIMIT) -> str:
    """Control, format, bidirectional and surrogate characters as `\\x1b` or `\\u202e`, long text cut with an ellipsis.

    A byte that was no UTF-8 (surrogateescape) is shown as that byte.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return "".join(shown(sign) if unicodedata.category(sign) in HIDDEN else sign for sign in text)


def shown(sign: str) -> str:
    """One character that must not act, as people write it."""
    number = ord(sign)
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a host that is no UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def terminal(text: str) -> Terminal:
    """For a terminal or a plain file: nothing that moves a cursor, colours, or turns the writing direction."""
    return Terminal(visible(text))


def command(argv: Sequence[str]) -> Terminal:
    """A command as a POSIX shell takes it, never cut; a word that would act on the screen is not what it was."""
    return Terminal(visible(shlex.join(argv), COMMAND_LIMIT))


def hint(text: str) -> Terminal:
    """What to do next: it may hold a command, so it is one line that is neither wrapped nor cut."""
    return Terminal(visible(text, COMMAND_LIMIT))


def complaint(message: str, advice: str | None = None) -> Terminal:
    """What is wrong, and what to do next, as lines of stderr."""
    lines = [f"halfopen: {terminal(message)}", *([f"          {hint(advice)}"] if advice else [])]
    return Terminal("\n".join(lines))


def fenced(*lines: Terminal) -> list[Markdown]:
    """Lines to be copied: a code block of Markdown, in which nothing is markup but the fence, and that is longer."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", "\n".join(lines))), default=0))
    return [Markdown(line) for line in (fence, *lines, fence)]


def markdown(text: str) -> Markdown:
    """For GitHub or Confluence: no markup, no table cell, no mention, no link."""
    out = []
    for sign in visible(text):
        if sign in MARKUP:
            out.append("\\" + sign)
        elif sign in ENTITIES:
            out.append(ENTITIES[sign])
        else:
            out.append(sign)
    return Markdown("".join(out).replace("://", ":&#47;&#47;").replace("www.", "www&#46;"))


def xml(text: str) -> Xml:
    """For an XML 1.0 writer that escapes markup itself: only characters that XML has (section 2.2)."""
    return Xml("\n".join(visible(line, 10_000) for line in text.split("\n")))


# `<` and `[` open what `>`, `(` and `!` could only go on with, so these may stand, and lines stay readable in a chat.
MARKUP = frozenset("\\`*_{}[]#|~$")
ENTITIES = {"<": "&lt;", "&": "&amp;", "@": "&#64;"}
