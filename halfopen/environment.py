"""What the program finds around itself, as one value, so that nothing below reads the process's own."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Environment:
    """Variables, working directory and streams. `width` is in columns."""

    variables: Mapping[str, str]
    folder: Path
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    width: int = 100

    @property
    def interactive(self) -> bool:
        """Whether somebody is there to be asked."""
        return self.stdin.isatty() and self.stderr.isatty()

    def colour(self, wanted: bool) -> bool:
        """Whether stdout takes colour: a terminal, not told otherwise (no-color.org)."""
        return wanted and self.stdout.isatty() and not self.variables.get("NO_COLOR")

    def say(self, text: str) -> None:
        """What is under way, on one line of a terminal that the next word replaces and "" clears; else nothing."""
        if self.stderr.isatty():
            print(f"\r\x1b[K{text[: max(20, self.width - 1)]}", end="", file=self.stderr, flush=True)


def here() -> Environment:
    """The process's own."""
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    return Environment(os.environ, Path.cwd(), sys.stdin, sys.stdout, sys.stderr, width)


class Progress:
    """How many hosts have answered, and which are waited for when few are left."""

    def __init__(self, names: Iterable[str], say: Callable[[str], None]) -> None:
        self.waiting, self.say, self.lock = dict.fromkeys(names), say, threading.Lock()
        self.total = len(self.waiting)
        say(f"reading {self.total} host{'s' * (self.total != 1)}")

    def done(self, name: str) -> None:
        """A host has answered, or failed."""
        with self.lock:
            self.waiting.pop(name, None)
            left = f"; waiting for {', '.join(self.waiting)}" if 0 < len(self.waiting) <= WAITED_FOR else ""
            self.say(f"{self.total - len(self.waiting)} of {self.total} hosts read{left}")


WAITED_FOR = 4
