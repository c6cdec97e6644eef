"""One value of the inventory, or of an option -> the checked value, or UsageError with file, key path and expectation.

A reader is called with the value, the file's name and the key path. A word that is not known gets a did-you-mean.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from halfopen import address
from halfopen.errors import UsageError

Reader = Callable[[Any, str, str], Any]


def text(value: Any, name: str, path: str) -> str:
    """A string with something in it and no control character."""
    if not isinstance(value, str) or not value or any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
        raise wrong(value, "a string", name, path)
    return value


def word(value: Any, name: str, path: str) -> str:
    """A host or user name, checked more strictly than ssh does."""
    found = text(value, name, path)
    if not re.fullmatch(r"[A-Za-z0-9_.:\[\]][A-Za-z0-9_.:\[\]@+-]*(%[A-Za-z0-9_.-]+)?", found):
        raise UsageError(f"{name}: {path}: {found!r} is not a valid name", "letters, digits, '.', '-', '_' and ':'")
    return found.removeprefix("[").removesuffix("]")


def number(low: int, high: int) -> Callable[[Any, str, str], int]:
    """A whole number in a range; true and false are none."""

    def check(value: Any, name: str, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise wrong(value, f"a number from {low} to {high}", name, path)
        return value

    return check


def seconds(high: int) -> Callable[[Any, str, str], float]:
    """A duration up to so many seconds."""

    def check(value: Any, name: str, path: str) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or not 0 <= value <= high
        ):
            raise wrong(value, f"seconds from 0 to {high}", name, path)
        return float(value)

    return check


def flag(value: Any, name: str, path: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise wrong(value, "true or false", name, path)
    return value


def listed(item: Callable[[Any, str, str], Any], single: bool = False) -> Callable[[Any, str, str], tuple[Any, ...]]:
    """A list of such values; `single` lets one stand alone."""

    def check(value: Any, name: str, path: str) -> tuple[Any, ...]:
        values = [value] if single and not isinstance(value, list) else value
        if not isinstance(values, list) or (single and not values):
            raise wrong(value, "a list", name, path)
        return tuple(item(entry, name, f"{path}[{at}]" if values is value else path) for at, entry in enumerate(values))

    return check


def choice(words: Sequence[str]) -> Callable[[Any, str, str], str]:
    """One of some words."""

    def check(value: Any, name: str, path: str) -> str:
        if value not in words:
            hint = did_you_mean(value, words) if isinstance(value, str) else None
            raise UsageError(f"{name}: {path} must be one of {', '.join(words)}, not {value!r}", hint)
        return str(value)

    return check


def ip(value: Any, name: str, path: str) -> str:
    """An IP address, in its canonical form."""
    try:
        return address.show(address.parse(text(value, name, path)))
    except ValueError:
        raise wrong(value, "an IP address", name, path) from None


def limits(words: Sequence[str], high: int) -> Callable[[Any, str, str], dict[str, int]]:
    """A table: one of some words -> a number up to `high`."""

    def check(value: Any, name: str, path: str) -> dict[str, int]:
        found = table(value, name, path)
        for key in found:
            choice(words)(key, name, f"{path}.{key}")
        return {key: number(0, high)(most, name, f"{path}.{key}") for key, most in found.items()}

    return check


def known(given: Mapping[str, Any], keys: Iterable[str], name: str, path: str) -> None:
    """Refuses keys that nobody reads."""
    for key in given:
        if key not in keys:
            where = f"{path}.{key}" if path else key
            raise UsageError(f"{name}: unknown key {where}", did_you_mean(key, keys))


def did_you_mean(word: str, words: Iterable[str]) -> str | None:
    """A hint with the nearest of the words, or all of them if they are few."""
    choices = sorted(words)
    near = difflib.get_close_matches(word, choices, 1, 0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(choices)}" if 0 < len(choices) <= 16 else None


def table(value: Any, name: str, path: str) -> dict[str, Any]:
    """A TOML table."""
    if not isinstance(value, dict):
        raise wrong(value, "a table", name, path)
    return value


def wrong(value: Any, expected: str, name: str, path: str) -> UsageError:
    """The error for a value of another kind."""
    return UsageError(f"{name}: {path} must be {expected}, not {value!r}")


def known_word(word: str, words: Sequence[str], what: str) -> None:
    """UsageError for a word that is none of these."""
    if word not in words:
        raise UsageError(f"{word!r} is not a valid {what}", did_you_mean(word, words))
