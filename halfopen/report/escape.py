"""Text of a report, escaped for one medium. Every string of a report is hostile until it is escaped.

Each medium has a type of its own, which only this module can make: a renderer that forgets to escape, or that
escapes for another medium, does not type-check. An f-string, `+` or `join` of escaped texts is a plain `str` again;
`literal` and `joined` put them together.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Never, Self

from halfopen.report.view import View

LIMIT = 300  # characters of one name or sentence
COMMAND_LIMIT = 10_000  # of a command, or a hint that holds one
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class Escaped(str):
    """Text in which nothing acts in its medium. Made by the functions of this module, never by a call of the class."""

    __slots__ = ()

    def __new__(cls, _: Never) -> Self:
        raise TypeError(f"{cls.__name__} is made by the escapers in halfopen.report.escape")

    @classmethod
    def literal(cls, template: str, *parts: Self | int) -> Self:
        """Our own words, written out in the call; each `{}` is replaced by a part that is escaped already."""
        return str.__new__(cls, template.format(*parts))

    @classmethod
    def joined(cls, separator: str, parts: Iterable[Self]) -> Self:
        """Escaped parts, with a separator of our own between them, written out in the call."""
        return str.__new__(cls, separator.join(parts))


class Terminal(Escaped):
    """For a terminal or a plain file: nothing that moves a cursor, colours, or turns the writing direction."""

    __slots__ = ()


class Markdown(Escaped):
    """For GitHub or Confluence: no markup, table cell, mention or link but those of the renderer."""

    __slots__ = ()


class Xml(Escaped):
    """Only characters that XML 1.0 has (section 2.2); the XML writer escapes the markup."""

    __slots__ = ()


class Html(Escaped):
    """Part of an HTML page, or a whole one: no tag, attribute or reference but those of the renderer."""

    __slots__ = ()

    def __html__(self) -> str:
        """What marks it for a template: it is escaped already."""
        return str(self)


class Workflow(Escaped):
    """For the log of a GitHub workflow: no command in it but those of the renderer."""

    __slots__ = ()


class Prometheus(Escaped):
    """For the Prometheus text format: no quote, line break or backslash but those of the renderer."""

    __slots__ = ()


class Json(Escaped):
    """One JSON value in printable ASCII."""

    __slots__ = ()


def visible(text: str, limit: int = LIMIT) -> str:
    """Control, format, bidirectional and surrogate characters as `\\x1b` or `\\u202e`, long text cut with an ellipsis.

    A byte that was no UTF-8 (surrogateescape) is shown as that byte.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return "".join(code_of(char) if unicodedata.category(char) in HIDDEN else char for char in text)


def code_of(char: str) -> str:
    """One character that must not act, as the escape sequence that programmers write for it."""
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8 (surrogateescape)
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def terminal(text: str) -> Terminal:
    """A name or a sentence."""
    return str.__new__(Terminal, visible(text))


def command(argv: Sequence[str]) -> Terminal:
    """A command quoted for a POSIX shell, never cut; a word with characters that act is not the same when copied."""
    return str.__new__(Terminal, visible(shlex.join(argv), COMMAND_LIMIT))


def hint(text: str) -> Terminal:
    """What to do next: it may hold a command, so it is one line that is neither wrapped nor cut."""
    return str.__new__(Terminal, visible(text, COMMAND_LIMIT))


def complaint(message: str, advice: str | None = None) -> Terminal:
    """What is wrong, and what to do next, as lines of stderr."""
    lines = [Terminal.literal("halfopen: {}", terminal(message))]
    lines += [Terminal.literal("          {}", hint(advice))] if advice else []
    return Terminal.joined("\n", lines)


def wrapped(text: str, view: View, first: str, rest: str | None = None) -> list[Terminal]:
    """Prose in the width of the terminal; words are never cut, so that an address can be copied.

    `first` starts the first line and `rest` the others; without `rest`, `first` starts all of them.
    """
    import textwrap

    lines = textwrap.wrap(
        terminal(text),
        max(view.width, 40),
        initial_indent=terminal(first),
        subsequent_indent=terminal(first if rest is None else rest),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [str.__new__(Terminal, line) for line in lines]


def columns(rows: Sequence[Sequence[Terminal]], heads: Sequence[str], align: Sequence[str]) -> list[Terminal]:
    """A table for a terminal: the heads, then a line for each row. `align`: `left` or `right` for each column."""
    from tabulate import tabulate

    table = tabulate(rows, [*map(terminal, heads)], tablefmt="plain", disable_numparse=True, colalign=align)
    return [str.__new__(Terminal, line.rstrip()) for line in table.splitlines()]


def markdown(text: str) -> Markdown:
    """A name or a sentence. An underscore within a word opens no emphasis (CommonMark 0.31, rule 2 of 6.2)."""
    shown = visible(text)
    out = []
    for at, char in enumerate(shown):
        if char == "_" and shown[at - 1 : at].isalnum() and shown[at + 1 : at + 2].isalnum():
            out.append(char)
        elif char in MARKUP:
            out.append("\\" + char)
        elif char in ENTITIES:
            out.append(ENTITIES[char])
        else:
            out.append(char)
    return str.__new__(Markdown, "".join(out).replace("://", ":&#47;&#47;").replace("www.", "www&#46;"))


def fenced(*lines: Terminal) -> list[Markdown]:
    """Lines to be copied, as a code block: nothing in it is markup but the fence, which is longer than any in them."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", "\n".join(lines))), default=0))
    return [str.__new__(Markdown, line) for line in (fence, *lines, fence)]


def workflow(text: str) -> Workflow:
    """The message of a workflow command, on one line (`escapeData` of the actions toolkit)."""
    return str.__new__(Workflow, visible(text, COMMAND_LIMIT).replace("%", "%25"))


def workflow_property(text: str) -> Workflow:
    """A property of a workflow command (`escapeProperty` of the actions toolkit)."""
    return str.__new__(Workflow, visible(text).replace("%", "%25").replace(":", "%3A").replace(",", "%2C"))


def metric_label(text: str) -> Prometheus:
    """A name, or the value of a label (the text format's `label_value`)."""
    return str.__new__(Prometheus, visible(text).replace("\\", r"\\").replace('"', r"\""))


def html(text: str) -> Html:
    """A name or a sentence, for the text of an element or within a quoted attribute."""
    import html as entities

    return str.__new__(Html, entities.escape(visible(text)))


def html_page(package: str, template: str, values: Mapping[str, object]) -> Html:
    """A page from a Jinja template of a package: all that it prints is made visible and escaped, unless it is Html.

    A name that the template does not know is an error.
    """
    import jinja2

    def printed(value: object) -> object:
        # A macro's result is Markup, which Jinja made of what was escaped here before. Undefined raises when printed.
        return visible(value, COMMAND_LIMIT) if isinstance(value, str) and not hasattr(value, "__html__") else value

    pages = jinja2.Environment(
        loader=jinja2.PackageLoader(package, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return str.__new__(Html, pages.get_template(template).render(values))


def xml(text: str) -> Xml:
    """Text for an XML writer, with its line breaks."""
    return str.__new__(Xml, "\n".join(visible(line, 10_000) for line in text.split("\n")))


def xml_document(data: bytes) -> Xml:
    """A document of an XML writer, in UTF-8, whole."""
    return str.__new__(Xml, "\n".join(visible(line, len(line)) for line in data.decode().split("\n")))


def ascii_json(report: Any, indent: int | None = None) -> Json:
    """A msgspec struct as JSON with a newline at the end: indented, or on one line. ASCII, and DEL is escaped too."""
    import json

    import msgspec

    separators = (",", ":") if indent is None else None
    text = json.dumps(msgspec.to_builtins(report), indent=indent, separators=separators)
    return str.__new__(Json, text.replace("\x7f", "\\u007f") + "\n")


# `<` and `[` open what `>`, `(` and `!` could only go on with, so these may stand, and lines stay readable in a chat.
MARKUP = frozenset("\\`*_{}[]#|~$")
ENTITIES = {"<": "&lt;", "&": "&amp;", "@": "&#64;"}
