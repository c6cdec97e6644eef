"""Text that was damaged on its way: glued, cut, wrapped, doubled, joined, shuffled.

What a damaged text still tells must be true, and what it no longer tells must be told: `whole` is False, and a line is
named. These hold for every text of cases/text, and for what other systems print, made after their manuals.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from test_text_evidence import CASES, ELSEWHERE, shown

from halfopen.errors import UsageError
from halfopen.evidence.recognise import recognise
from halfopen.evidence.told import TAIL, Told

TEXTS = {path.stem: path.read_text() for path in sorted(CASES.glob("*.txt"))} | ELSEWHERE
SEVERAL_LINES = {name for name in TEXTS if name.endswith(("-tanoei", "-F"))}
"""Texts of which a row is more than one line."""


def all_shown(told: Told) -> set[tuple[str, ...]]:
    """Connections, and the ports of listeners: whether `*` is any address of IPv4 or IPv6, only a whole text tells."""
    return shown(told) | {(str(one.port),) for one in told.listeners}


def read(text: str) -> Told | None:
    """What a text tells; None where it is refused, which it may be for a damage that leaves nothing to judge."""
    try:
        return recognise(text.encode("utf-8", "surrogateescape"), "x")
    except UsageError as error:
        assert error.message and error.hint
        return None


def holds(damaged: str, truth: Told, at: int | None = None) -> Told | None:
    """What holds of every damaged text; `at`: the line that must be named where something is missing."""
    told = read(damaged)
    if told is not None:
        assert all_shown(told) <= all_shown(truth), "invented"
        for key, one in told.sockets.items():
            for field in ("inode", "cookie", "timer", "retransmits", "uid"):
                assert getattr(one, field) in (None, getattr(truth.sockets[key], field)), f"invented {field}"
        if all_shown(told) != all_shown(truth):
            assert not told.whole, "lost in silence"
            assert at is None or any(one.line == at for one in told.problems)
    return told


@pytest.mark.parametrize("between", ["", " ", "\t"], ids=["nothing", "a blank", "a tab"])
@pytest.mark.parametrize("name", TEXTS)
def test_two_lines_on_one_are_refused_by_its_number(name: str, between: str) -> None:
    lines, truth = TEXTS[name].split("\n")[:-1], recognise(TEXTS[name].encode(), "x")
    for at in range(len(lines) - 1):
        glued = [*lines[:at], lines[at] + between + lines[at + 1], *lines[at + 2 :], ""]
        holds("\n".join(glued), truth, None if name in SEVERAL_LINES else at + 1)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_cut_anywhere_invents_nothing_and_says_so(name: str) -> None:
    lines = TEXTS[name].split("\n")
    text = "\n".join([*lines[:2], *lines[-8:]] if name not in SEVERAL_LINES else lines)
    truth = recognise(text.encode(), "x")
    for cut in range(len(text) - 500, len(text)):
        left, newline, line = text[:cut].rpartition("\n")
        if not line.strip():  # a text of fewer lines, which nothing tells from one that is whole
            continue
        told = holds(text[:cut], truth)
        # A few digits may belong to the line above, so that this one is in doubt as well.
        sure = read(left.rpartition("\n")[0] + newline) if TAIL.match(line) else read(left + newline)
        assert told is None or not told.whole
        assert told is None or sure is None or name in SEVERAL_LINES or all_shown(told) >= all_shown(sure)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_stands_there_twice_is_refused_with_the_line_of_the_second(name: str) -> None:
    for text in (TEXTS[name] * 2, TEXTS[name] + "\n" + TEXTS[name], TEXTS[name] + "root@db1:~# \n" + TEXTS[name]):
        with pytest.raises(UsageError, match="more than one moment") as caught:
            recognise(text.encode(), "two moments.txt")
        assert caught.value.hint and "tail -n +" in caught.value.hint and "'two moments.txt'" in caught.value.hint


def mini(name: str) -> Iterator[tuple[list[str], str]]:
    """What stands above the rows of a text, and each of its rows."""
    lines = TEXTS[name].split("\n")[:-1]
    rows = [at for at, line in enumerate(lines) if any(word in line for word in ("ESTAB", "WAIT", "LISTEN", ": "))]
    above = lines[: rows[0]] if rows else []
    return ((above, lines[at]) for at in rows if at >= len(above))


@pytest.mark.parametrize("name", sorted(set(TEXTS) - SEVERAL_LINES))
def test_a_row_that_was_wrapped_anywhere_is_never_another_row(name: str) -> None:
    for above, row in mini(name):
        try:
            truth = recognise("\n".join([*above, row, ""]).encode(), "x")
        except UsageError:
            continue
        for column in range(20, len(row.rstrip())):
            for tail in (row[column:], row[column:].lstrip(), "  " + row[column:].lstrip()):
                holds("\n".join([*above, row[:column], tail, ""]), truth)


@pytest.mark.parametrize("name", sorted(set(TEXTS) - SEVERAL_LINES))
def test_the_order_of_rows_and_the_ends_of_lines_mean_nothing(name: str) -> None:
    text = TEXTS[name]
    truth = recognise(text.encode(), "x")
    assert all_shown(recognise(text.replace("\n", "\r\n").encode(), "x")) == all_shown(truth)
    lines = text.split("\n")[:-1]
    head = 3 if name == "Windows" else 2
    for seed in range(5):
        rows = lines[head:]
        random.Random(seed).shuffle(rows)
        shuffled = recognise("\n".join([*lines[:head], *rows, ""]).encode(), "x")
        assert all_shown(shuffled) == all_shown(truth) and shuffled.whole == truth.whole


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_two_hosts_in_one_are_never_one_moment_with_more_than_both_have(name: str) -> None:
    other = TEXTS[name].replace("10.7.0.1", "10.8.0.1").replace("10.0.0.1", "10.0.0.8").replace("0100070A", "0100080A")
    told = read(TEXTS[name] + other)
    if told is not None:
        both = all_shown(recognise(TEXTS[name].encode(), "x")) | all_shown(recognise(other.encode(), "x"))
        assert all_shown(told) <= both
