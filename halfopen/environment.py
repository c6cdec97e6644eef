"""What the program finds around itself, as one value, so that nothing below reads the process's own."""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from halfopen.errors import UsageError


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
    """The process's own. What was closed before it started is /dev/null, so that no later file takes its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    stdin = sys.stdin or io.TextIOWrapper(io.FileIO(0, closefd=False))
    stdout = writer(Reports(1, "w", closefd=False), os.isatty(1))
    stderr = writer(Messages(2, "w", closefd=False), by_line=True)
    width = shutil.get_terminal_size((100, 24)).columns if stdout.isatty() else 100
    return Environment(os.environ, working_directory(), stdin, stdout, stderr, width)


class Reports(io.FileIO):
    """stdout, whose failure is a UsageError; of a pipe that nobody reads any more it stays BrokenPipeError."""

    def write(self, data: Any, /) -> int:
        """As FileIO."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UsageError(
                f"stdout cannot be written: {error.strerror}", "make room, or -o FILE elsewhere"
            ) from error


class Messages(io.FileIO):
    """stderr: what nobody can be told changes nothing else."""

    def write(self, data: Any, /) -> int:
        """As FileIO."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


def writer(raw: io.FileIO, by_line: bool) -> TextIO:
    """A stream for text; what its encoding does not have is written as an escape. `by_line`: each line at once."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=by_line)


def working_directory() -> Path:
    """Where relative names begin; where it was deleted, a name that says so and leads nowhere."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path("(deleted working directory)")


class Progress:
    """How many hosts have answered, and which are waited for when few are left."""

    def __init__(self, names: Iterable[str], say: Callable[[str], None]) -> None:
        self.waiting, self.say, self.lock = dict.fromkeys(names), say, threading.Lock()
        self.total = len(self.waiting)
        say(f"reading {self.total} host{'s' * (self.total != 1)}")

    def done(self, name: str) -> None:
        """A host has answered, or failed."""
        with self.lock:
            if name not in self.waiting:
                return  # it was given up
            del self.waiting[name]
            left = f"; waiting for {', '.join(self.waiting)}" if 0 < len(self.waiting) <= WAITED_FOR else ""
            self.say(f"{self.total - len(self.waiting)} of {self.total} hosts read{left}")


WAITED_FOR = 4
