"""Sentences with numbers in them, so that one sentence can speak of one finding or of four thousand alike.

A sentence is a tuple of text and amounts. Sentences of one shape differ in their amounts only, and are told together
with the range of each amount: `idle 12 s to 5m 12s`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from halfopen.words import duration


class Amount(Struct, frozen=True):
    """A number in a sentence: a count, seconds, or how many times."""

    value: float
    unit: Literal["", "seconds", "times"] = ""

    def told(self) -> str:
        """As people say it."""
        if self.unit == "seconds":
            return duration(self.value)
        if self.unit == "times":
            return {1.0: "once", 2.0: "twice"}.get(self.value, f"{self.value:.0f} times")
        return f"{self.value:.0f}"


Sentence = tuple[str | Amount, ...]


def seconds(value: float) -> Amount:
    """A duration in a sentence."""
    return Amount(value, "seconds")


def times(value: float) -> Amount:
    """How often, in a sentence."""
    return Amount(value, "times")


def shape(sentence: Sentence) -> tuple[str | None, ...]:
    """What sentences that can be told together have in common."""
    return tuple(part if isinstance(part, str) else None for part in sentence)


def spoken(sentence: Sentence) -> str:
    """One sentence as text."""
    return "".join([part if isinstance(part, str) else part.told() for part in sentence])


def tell(sentences: Sequence[Sentence]) -> str:
    """Sentences of one shape as one text, an amount that differs as its range."""
    words = []
    for parts in zip(*sentences, strict=True):
        amounts = [part for part in parts if isinstance(part, Amount)]
        if not amounts:
            words.append(str(parts[0]))
            continue
        amounts.sort(key=lambda amount: amount.value)
        low, high = amounts[0].told(), amounts[-1].told()
        words.append(low if low == high else f"{low} to {high}")
    return "".join(words)


def number(sentence: Sentence) -> float | None:
    """The first amount of a sentence, for machines."""
    return next((part.value for part in sentence if isinstance(part, Amount)), None)
