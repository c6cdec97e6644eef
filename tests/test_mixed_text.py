"""Text as it comes by mail and chat: several harmless changes at once, then a damage, and texts of several programs.

`test_damaged_text` has each damage by itself; here they come together, in an order that a seed gives.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations

import pytest
from test_damaged_text import SEVERAL_LINES, TEXTS, all_shown, holds, read

from halfopen.errors import UsageError
from halfopen.evidence.text.recognise import recognise

Change = Callable[[list[str], random.Random], list[str]]
"""Lines without newlines, and what chance gives -> other lines."""

HARMLESS: dict[str, Change] = {
    "returns": lambda lines, _: [f"{line}\r" for line in lines],
    "indented": lambda lines, chance: [" " * 4 + line for line in lines],
    "fenced": lambda lines, _: ["```", *lines, "```"],
    "prose": lambda lines, _: ["Hello, this is what I see on it:", "", *lines, "", "Thanks!"],
    "a prompt below": lambda lines, _: [*lines, "root@db1:~# "],
    "blank lines": lambda lines, chance: [
        part for line in lines for part in ([line, ""] if chance.random() < 0.2 else [line])
    ],
    "blanks at ends": lambda lines, chance: [line + " " * chance.randrange(3) for line in lines],
}
DAMAGE: dict[str, Change] = {
    "glued": lambda lines, chance: joined(lines, chance.randrange(len(lines) - 1), chance.choice(("", " ", "\t"))),
    "wrapped": lambda lines, chance: wrapped(lines, chance.randrange(len(lines)), chance),
    "cut": lambda lines, chance: cut(lines, chance),
    "doubled": lambda lines, _: [*lines, *lines],
    "two glued": lambda lines, chance: joined(joined(lines, 1, " "), chance.randrange(len(lines) - 2), ""),
}


def joined(lines: list[str], at: int, between: str) -> list[str]:
    """Two lines as one."""
    return [*lines[:at], lines[at] + between + lines[at + 1], *lines[at + 2 :]]


def wrapped(lines: list[str], at: int, chance: random.Random) -> list[str]:
    """One line as two, as at the edge of a window."""
    column = chance.randrange(20, max(21, len(lines[at])))
    return [*lines[:at], lines[at][:column], lines[at][column:], *lines[at + 1 :]]


def cut(lines: list[str], chance: random.Random) -> list[str]:
    """The beginning of a text that ends within its last line."""
    at = chance.randrange(len(lines) // 2, len(lines))
    return [*lines[:at], lines[at][: max(1, len(lines[at]) - chance.randrange(1, 30))]]


def changed(lines: list[str], changes: Sequence[str], table: dict[str, Change], chance: random.Random) -> list[str]:
    """The lines after these changes."""
    for name in changes:
        lines = table[name](lines, chance)
    return lines


@pytest.mark.parametrize("name", sorted(set(TEXTS) - SEVERAL_LINES))
def test_harmless_changes_together_lose_nothing(name: str) -> None:
    truth = recognise(TEXTS[name].encode(), "x")
    for seed in range(12):
        chance = random.Random(f"{name}{seed}")
        changes = chance.sample(sorted(HARMLESS), 3)
        told = read("\n".join([*changed(TEXTS[name].split("\n")[:-1], changes, HARMLESS, chance), ""]))
        assert told is not None, changes
        assert all_shown(told) == all_shown(truth), changes


@pytest.mark.parametrize("name", sorted(set(TEXTS) - SEVERAL_LINES))
def test_damage_among_harmless_changes_invents_nothing_and_is_told(name: str) -> None:
    truth = recognise(TEXTS[name].encode(), "x")
    for seed in range(25):
        chance = random.Random(f"{name}{seed}")
        damage = chance.choice(sorted(DAMAGE))
        lines = changed(TEXTS[name].split("\n")[:-1], [damage], DAMAGE, chance)
        if damage != "cut":
            lines = [*changed(lines, chance.sample(sorted(HARMLESS), 2), HARMLESS, chance), ""]
        holds("\n".join(lines), truth)


def test_texts_of_two_programs_in_one_are_refused_or_tell_no_more_than_both() -> None:
    for one, other in combinations(sorted(set(TEXTS) - SEVERAL_LINES), 2):
        both = all_shown(recognise(TEXTS[one].encode(), "x")) | all_shown(recognise(TEXTS[other].encode(), "x"))
        for text in (TEXTS[one] + TEXTS[other], TEXTS[other] + "\n$ \n" + TEXTS[one]):
            try:
                told = recognise(text.encode(), "x")
            except UsageError as error:
                assert error.hint
                continue
            assert all_shown(told) <= both
            assert all_shown(told) == both or not told.whole, (one, other)
