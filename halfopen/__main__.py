"""The program: arguments in, exit code out, and no traceback on anybody's screen."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from halfopen.environment import Environment, give_back_terminal, here
from halfopen.errors import Exit, HalfopenError, HostError


def main(argv: Sequence[str], environment: Environment) -> int:
    """Runs the program; every way it can end is an exit code of the contract."""
    from halfopen.cli import main as run_command

    try:
        return run_command(argv, environment)
    except HalfopenError as error:
        complain(environment, error.message, error.hint)
        return Exit.INCOMPLETE if isinstance(error, HostError) else Exit.USAGE
    except KeyboardInterrupt:
        complain(environment, "interrupted", None)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return Exit.INTERRUPTED  # the reader of our output has gone; there is nobody to tell
    except Exception:
        complain(environment, f"this is a bug in halfopen; the details are in {keep_details()}", None)
        return Exit.BUG


def complain(environment: Environment, message: str, hint: str | None) -> None:
    """One line on stderr, and what to do next."""
    from halfopen.report.escape import hint as whole
    from halfopen.report.escape import terminal

    with contextlib.suppress(OSError):
        print(f"halfopen: {terminal(message)}", file=environment.stderr)
        if hint:
            print(f"          {whole(hint)}", file=environment.stderr)


def keep_details() -> Path:
    """The traceback in a private file, for a bug report."""
    import tempfile
    import traceback

    handle, name = tempfile.mkstemp(prefix="halfopen-bug-", suffix=".txt", text=True)
    with os.fdopen(handle, "w", errors="backslashreplace") as file:
        traceback.print_exc(file=file)
    return Path(name)


def interrupt(_: int, __: FrameType | None) -> None:
    """SIGTERM ends the program as Ctrl-C does, so that probes end too."""
    raise KeyboardInterrupt


def run() -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, interrupt)
    gc.set_threshold(100_000, 20, 20)  # thousands of findings make no garbage, and looking for it costs a third
    code = main(sys.argv[1:], here())
    give_back_terminal()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.stdout.flush()
    # Threads that still wait for a dead host must not keep the user waiting.
    os._exit(code)


if __name__ == "__main__":
    run()
