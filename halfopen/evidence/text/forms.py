"""The description of a format in which a program prints its sockets; the module of each program has one or more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from halfopen.evidence.text.draft import Draft
from halfopen.evidence.text.rows import Row
from halfopen.model import Collector


class TextFormat(Struct, frozen=True):
    """One format in which a program prints its sockets.

    `claims` finds what no other form's lines have. `begins` finds where a row begins, or the heading of a table of
    sockets (its group `heading`), anywhere in a line: twice in one line is two rows on it. `names` finds names that
    users chose, which may look like a row. `lines` may join lines. `rows`: a text -> the function that reads its lines,
    line -> row, None for a heading or the like; ValueError says why a line that should be a socket is not one.
    `complete` fills in what only the whole text shows.

    Sentences: `gaps` what is not shown of the sockets, `holes` which sockets are never shown, `filtered` which ones an
    option may have left out (unless the command is known).
    """

    name: str
    collector: Collector
    claims: re.Pattern[str]
    begins: re.Pattern[str]
    rows: Callable[[str], Callable[[str], Row | None]]
    lines: Callable[[Iterable[tuple[int, str]]], Iterator[tuple[int, str]]] = iter
    names: re.Pattern[str] | None = None
    gaps: Callable[[Draft, str], Iterator[str]] = lambda _draft, _text: iter(())
    holes: Callable[[Draft, str], Iterator[str]] = lambda _draft, _text: iter(())
    filtered: Callable[[Draft, str], Iterator[str]] = lambda _draft, _text: iter(())
    complete: Callable[[Draft], None] = lambda _draft: None
