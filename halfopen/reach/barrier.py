"""Many hosts are waited for at once: what one of them does is an error of its own, and none takes longer than told."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from halfopen.errors import ErrorCode, HalfopenError, HostError

GRACE = 1.0
"""Seconds beyond a deadline for what ends by it: its own error says where it waited, which ours cannot."""


@contextlib.contextmanager
def barrier() -> Iterator[None]:
    """What the bytes of one host do to the code that reads them is a HostError of that host, and no end of the run."""
    try:
        yield
    except HalfopenError:
        raise
    except MemoryError as error:
        raise HostError(ErrorCode.TOO_LARGE, "its answer does not fit into memory here", "name the --port") from error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise HostError(
            ErrorCode.PROTOCOL_ERROR,
            f"what it sent could not be read: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}: "
            f"{str(error)[:200]}",
            "run it again; if it stays so and nothing on that host is wrong, it is a bug of halfopen worth reporting",
        ) from error


def late(futures: Iterable[Future[Any]], deadline: float) -> set[Future[Any]]:
    """Waits until all have ended, but not past the deadline (time.monotonic()): those that have not."""
    missing = wait(futures, max(0.0, deadline + GRACE - time.monotonic())).not_done
    for one in missing:
        one.cancel()
    return missing


def too_late() -> HostError:
    """The error of a host that was given up."""
    return HostError(ErrorCode.TIMEOUT, "it was not read in time", "a longer --timeout, or fewer hosts at once")
