"""How much of a report a reader wants to see, and on what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """Columns, and whether to colour, to print every finding, only the headline, or everything that is known."""

    width: int = 100
    colour: bool = False
    all: bool = False
    quiet: bool = False
    verbose: bool = False
