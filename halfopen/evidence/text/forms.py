"""What a program's way of writing sockets is described by; each module of a program has such values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from halfopen.evidence.text.draft import Draft
from halfopen.evidence.text.rows import Row
from halfopen.model import Collector


@dataclass(frozen=True, slots=True)
class TextFormat:
    """One way in which a program writes its sockets.

    `claims` finds what no other form's lines have. `begins` finds where a row begins, or the heading of a table of
    sockets (its group `heading`), anywhere in a line: twice in one line is two rows on it. `names` finds what others
    chose, which may look like a row. `rows`: a text -> how its lines are read: a line -> what it is, None for a heading
    or the like; ValueError says why a line that should be a socket is none. `lines` may join lines, `complete` fills in
    what only the whole text tells. Sentences: `gaps` what is not told of the sockets, `holes` what sockets it never
    shows, `filtered` what an option may have kept from it (unless the command is known).
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
