"""Many hosts are waited for at once: what goes wrong with one is a HostError of that host, and all end in time."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TypeVar

from halfopen.errors import ErrorCode, HalfopenError, HostError, MissingPackageError, is_missing_package

R = TypeVar("R")

GRACE = 1.0
"""Seconds beyond a deadline for a thread that ends by it: its own error says where it waited, which ours cannot."""


@contextlib.contextmanager
def barrier() -> Iterator[None]:
    """Whatever the bytes of one host do to the code that reads them is a HostError of that host."""
    try:
        yield
    except HalfopenError:
        raise
    except MemoryError as error:
        raise HostError(ErrorCode.TOO_LARGE, "its answer does not fit into memory here", "name the --port") from error
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and is_missing_package(error):
            raise MissingPackageError(error) from error
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise HostError(
            ErrorCode.PROTOCOL_ERROR,
            f"what it sent could not be read: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}: "
            f"{str(error)[:200]}",
            "run it again; if it stays so and nothing on that host is wrong, it is a bug of halfopen worth reporting",
        ) from error


def attempt(question: Callable[[], R]) -> R | HostError:
    """What a question to one host gives, or the error that kept it from giving anything."""
    try:
        with barrier():
            return question()
    except HostError as error:
        return error


def gather(futures: Sequence[Future[R]], deadline: float) -> list[R | HostError]:
    """The results in order, an error for each that is not there at the deadline (time.monotonic(), seconds)."""
    missing = set(futures)
    while missing and (left := deadline + GRACE - time.monotonic()) > 0:
        # In slices: a signal that comes just before the wait is seen only behind it.
        missing = wait(missing, min(left, 0.5)).not_done
    missing = wait(missing, 0).not_done
    for future in missing:
        future.cancel()
    return [
        HostError(ErrorCode.TIMEOUT, "it was not read in time", "a longer --timeout, or fewer hosts at once")
        if future in missing
        else future.result()
        for future in futures
    ]
