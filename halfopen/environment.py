"""Variables, working directory and streams as one value, so that nothing below reads those of the process."""

from __future__ import annotations

import contextlib
import io
import os
import selectors
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from msgspec import Struct

from halfopen.errors import UsageError


class UnderWay(Struct):
    """What the terminal shows as under way, since when (a time of time.monotonic()), and whether its clock runs."""

    text: str = ""
    began: float = 0.0
    ticking: bool = False


class Environment(Struct, frozen=True):
    """Variables, working directory and streams. `width` is in columns."""

    variables: Mapping[str, str]
    folder: Path
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    width: int = 100

    @property
    def interactive(self) -> bool:
        """Whether a user can be asked."""
        return self.stdin.isatty() and self.stderr.isatty()

    def colour(self, wanted: bool) -> bool:
        """Whether stdout takes colour: a terminal, or FORCE_COLOR (force-color.org) says so.

        Neither where --no-color or NO_COLOR (no-color.org) says otherwise; these are the stronger ones.
        """
        takes = bool(self.variables.get("FORCE_COLOR")) or self.stdout.isatty()
        return wanted and takes and not self.variables.get("NO_COLOR")

    def say(self, text: str) -> None:
        """Shows what is under way on a line of the terminal, which the next text replaces and "" clears."""
        if not self.stderr.isatty():
            return
        with SCREEN:
            UNDER_WAY.text = text
            self.draw()
            if text and not UNDER_WAY.ticking:
                UNDER_WAY.ticking, UNDER_WAY.began = True, time.monotonic()
                threading.Thread(target=self.tick, daemon=True).start()

    def draw(self) -> None:
        """The line of what is under way, with its clock from the first second on. Under SCREEN."""
        seconds = int(time.monotonic() - UNDER_WAY.began) if UNDER_WAY.ticking and UNDER_WAY.text else 0
        clock = f" ({seconds} s)" if seconds else ""
        if not ASKED:  # or the question would be gone
            shown = UNDER_WAY.text[: max(20, self.width - 1) - len(clock)] + clock
            print(f"\r\x1b[K{shown}", end="", file=self.stderr, flush=True)

    def tick(self) -> None:
        """Draws it anew each second, until there is nothing under way."""
        while True:
            time.sleep(1)
            with SCREEN:
                if not UNDER_WAY.text:
                    UNDER_WAY.ticking = False
                    return
                self.draw()


def here() -> Environment:
    """The process's own. What was closed before it started is /dev/null, so that no later file takes its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for descriptor in (1, 2) if os.name == "posix" else ():
        os.set_blocking(descriptor, True)  # else what comes while a pipe is full is lost, with an error
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
    """stderr: a message that cannot be written changes nothing else."""

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
    """The working directory; if it was deleted, a path that says so and does not exist."""
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
                return  # it has been given up before
            del self.waiting[name]
            left = f"; waiting for {', '.join(self.waiting)}" if 0 < len(self.waiting) <= WAITED_FOR else ""
            self.say(f"{self.total - len(self.waiting)} of {self.total} hosts read{left}")


@contextlib.contextmanager
def secrets_asked(deadline: float) -> Iterator[Callable[[str], bytes | None]]:
    """Asks on the terminal, one question after the other, until the deadline (a time of time.monotonic()).

    An answer is None where none was given. Nothing that is typed is shown, between two questions either, and nothing
    else is said meanwhile. OSError where there is no terminal.
    """
    import termios

    tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    try:
        before = termios.tcgetattr(tty)
        silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
        with SCREEN:
            ASKED[tty] = before
        try:
            termios.tcsetattr(tty, termios.TCSAFLUSH, silent)
            yield partial(ask, tty, deadline)
        finally:
            give_back_terminal()
            with SCREEN:
                del ASKED[tty]
    except termios.error as error:
        raise OSError(*error.args) from error
    finally:
        os.close(tty)


def ask(tty: int, deadline: float, question: str) -> bytes | None:
    """One question, on a line of its own; what was typed without its end."""
    os.write(tty, f"\r\x1b[K{question}".encode())
    with selectors.DefaultSelector() as selector:
        selector.register(tty, selectors.EVENT_READ)
        answer = os.read(tty, 4096) if selector.select(max(0.0, deadline - time.monotonic())) else b""
    os.write(tty, b"\n")
    return answer.rstrip(b"\r\n") or None


def give_back_terminal() -> None:
    """Lets the terminal show again what is typed: after the questions, and if the program ends while it asks."""
    for tty, before in list(ASKED.items()):
        import termios

        with contextlib.suppress(termios.error):
            termios.tcsetattr(tty, termios.TCSAFLUSH, before)


WAITED_FOR = 4
SCREEN = threading.Lock()
"""Guards the line of the terminal where progress is shown or a question is asked."""

ASKED: dict[int, list[Any]] = {}
"""The terminal on which somebody is being asked, and what it was like before."""
UNDER_WAY = UnderWay()
"""Changed under SCREEN."""
