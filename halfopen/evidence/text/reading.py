"""A text -> its lines, and the sockets that they show together.

Text is hostile: whoever names a process writes into it. Lines are bounded, and of a line only numbers,
addresses and the words of the forms count. A line is one row: where it has two, where a terminal has wrapped one, or
where the text ends within one, it is refused with its number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, pairwise

from msgspec.structs import replace

from halfopen.evidence.text.draft import LINE_LIMIT, Draft
from halfopen.evidence.text.forms import TextFormat
from halfopen.evidence.text.parsed import ParsedText
from halfopen.evidence.text.patterns import ENDS, FINISHED, INTERRUPTED, PROMPT, SOCKET_LIKE, TAIL, WATCH
from halfopen.evidence.text.rows import Line
from halfopen.words import plural

ROW_LIMIT = 2_000_000
LONG = 200  # characters that no row has without names and the second lines of ss -i
WIDE = re.compile(r"(?<!\s)\s{20,}")


def read(text: str, form: TextFormat, command_known: bool = False) -> ParsedText:
    """A text in a known form -> its sockets. `command_known`: it is all output of a command that shows every socket."""
    draft = Draft()
    lines: Iterator[Line | None] = chain(lines_of(text, form), (None,))
    for line, below in pairwise(lines):
        assert line is not None
        if line.row is not None and below is not None and below.why and TAIL.match(below.text):
            line = refused(line, f"it seems to go on in line {below.number}, as if it had been wrapped")
        draft.take(line)
        if len(draft.sockets) > ROW_LIMIT:
            draft.complain(refused(line, f"more than {ROW_LIMIT} sockets; the rest was not read"))
            draft.dropped += 1
            break
    form.complete(draft)
    gaps = tuple(form.gaps(draft, text))
    families = {socket.family for socket in draft.sockets.values()}
    families |= {listener.family for listener in draft.listeners.values()}
    if not command_known and 10 not in families:
        gaps = (*gaps, "it has no IPv6 socket: printed with -4 it would lack what dual-stack listeners have accepted")
    holes = (*form.holes(draft, text), *(() if command_known else form.filtered(draft, text)))
    cuts: tuple[str, ...] = ()
    hidden = sum(problem.hides for problem in draft.problems) + draft.dropped
    sign = interrupted(text)
    if sign is not None:
        cuts = (f"line {sign[0]} shows that the text was interrupted (`{sign[1]}`), so rows may be missing", *cuts)
    if draft.ends_open:
        cuts = ("its last line has no newline, so it may be cut there (end it with one if it is whole)", *cuts)
    if draft.pipe:
        cuts = (f"the command is piped (`{draft.pipe}`), so rows may be missing", *cuts)
    if hidden:
        cuts = (f"{plural(hidden, 'line')} could not be read, and may be what is missing", *cuts)
    return ParsedText(
        form.collector,
        form.name,
        draft.sockets,
        tuple(draft.listeners.values()),
        draft.holders,
        tuple(draft.problems),
        (*cuts, *holes, *gaps),
        not cuts and not holes,
        draft.second,
        bool(cuts),
    )


def lines_of(text: str, form: TextFormat) -> Iterator[Line]:
    """The lines of a text, each read as one row or refused.

    Of a last line without a newline only what cannot be cut is read: a row that is whole without the rest, or nothing.
    """
    body, cut = unfinished(text)
    last: Line | None = None
    for line in whole_lines(body, form):
        if last is not None:
            yield last
        last = line
    # What is left of the last line is in `last`, unless nothing in the text is a row of this form.
    if cut is not None and last is not None and body.rpartition("\n")[2].strip():
        whole = not last.why and (last.row is None or last.row.end is not None)
        yield replace(last, open=True) if whole else cut
        return
    if last is not None:
        yield last
    if cut is not None:
        yield cut


def whole_lines(text: str, form: TextFormat) -> Iterator[Line]:
    """The lines of a text that is not cut."""
    read_row = form.rows(text)
    width = None  # of the terminal that watch ran in: it cuts each line there, and its heading fills one
    for number, line in form.lines(numbered(text)):
        if WATCH.match(line):
            width = len(line)
        elif len(line) == width:
            yield refused(Line(number, line), "it is as wide as the terminal that watch ran in, so that it may be cut")
            continue
        if len(line) > LINE_LIMIT:
            yield Line(number, line[:LINE_LIMIT], why=f"longer than {LINE_LIMIT >> 10} KiB")
            continue
        bare = form.names.sub(" ", line) if form.names else line
        begins = list(form.begins.finditer(bare))
        heading = any(match.lastgroup == "heading" for match in begins)
        if len(begins) > 1 or heading + len(ENDS.findall(bare)) > 1:
            yield refused(Line(number, line), "there is more than one row on this line")
            continue
        try:
            yield Line(number, line, read_row(line), heading=heading)
        except ValueError as error:
            yield Line(number, line, why=str(error))


def refused(line: Line, why: str) -> Line:
    """A line that is a row, or a part of one, marked as unreadable; `why` is for the user."""
    return replace(line, row=None, why=why, hides=True)


def unfinished(text: str) -> tuple[str, Line | None]:
    """A text -> what of it is whole, and its last line where no newline ends it, so that it may be cut.

    Of such a line the last word may be cut (a port: 403 of 40314), unless it is one that cannot go on.
    """
    last = text.rpartition("\n")[2]
    if not last.strip() or (PROMPT.search(last) and not SOCKET_LIKE.search(last)):
        return text, None
    dropped = 0 if last[-1].isspace() or FINISHED.search(last) else len(last.split()[-1])
    why = "the text ends within this line, before its newline, so that it may be cut"
    return text[: len(text) - dropped], refused(Line(text.count("\n") + 1, last), why)


def interrupted(text: str) -> tuple[int, str] | None:
    """Number and text of the first line that a pager, a signal, a lost connection or an editor of the text left."""
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip()
        if len(bare) <= LONG and INTERRUPTED.fullmatch(bare):
            return number, bare
    return None


def numbered(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without blank ones. Only newlines end a line: other separators may be in a name."""
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.rstrip()
        if len(bare) > LONG:  # a pattern that tries every split of the blanks must not get many of them
            bare = WIDE.sub(" " * 20, bare)
        if bare:
            yield number, bare
