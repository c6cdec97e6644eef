"""The program: arguments in, exit code out, and no traceback on anybody's screen.

Nothing but what Python has loaded already is imported up here, so that `run` listens for signals from its first moment.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import FrameType
    from typing import Any, NoReturn

    from halfopen.environment import Environment


def main(argv: Sequence[str], environment: Environment) -> int:
    """Runs the program; every way it can end is an exit code of the contract."""
    from halfopen.cli import main as run_command
    from halfopen.errors import Exit, HalfopenError, HostError, MissingPackageError, is_missing_package
    from halfopen.report.escape import complaint

    try:
        try:
            code = run_command(argv, environment)
        except SystemExit as end:  # argparse has printed its help
            code = int(end.code or 0)
        environment.stdout.flush()
        return code
    except HalfopenError as error:
        print(complaint(error.message, error.hint), file=environment.stderr)
        return Exit.INCOMPLETE if isinstance(error, HostError) else Exit.USAGE
    except KeyboardInterrupt:
        print(complaint("interrupted"), file=environment.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return Exit.INTERRUPTED  # the reader of our output has gone; there is nobody to tell
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and is_missing_package(error):
            missing = MissingPackageError(error)
            print(complaint(missing.message, missing.hint), file=environment.stderr)
            return Exit.USAGE
        if is_interrupt(error):
            print(complaint("interrupted"), file=environment.stderr)
            return Exit.INTERRUPTED
        told = f"this is a bug in halfopen; the details are in {keep_details(error)}"
        print(complaint(told), file=environment.stderr)
        return Exit.BUG


def is_interrupt(error: BaseException | None) -> bool:
    """Whether an interrupt lies behind an error: some of Python's own code gives it out as another one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def keep_details(error: Exception) -> Path | str:
    """The traceback in a private file, for a bug report; the error itself where no file can be made."""
    import tempfile
    import traceback
    from pathlib import Path

    try:
        handle, name = tempfile.mkstemp(prefix="halfopen-bug-", suffix=".txt", text=True)
        with os.fdopen(handle, "w", errors="backslashreplace") as file:
            traceback.print_exception(error, file=file)
    except OSError:
        return f"no file, since none can be made; it is {error!r}"
    return Path(name)


class Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP end the program with 130, whenever they come, and what it has open on hosts too.

    Until `busy` there is nothing to close, so the process ends at once. From then on the first signal raises
    KeyboardInterrupt, and no other cuts short what closes then. It has CLOSING seconds for that.
    """

    def __init__(self) -> None:
        self.busy = self.came = self.repeating = False
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it, or a shell for a job behind
                signal.signal(number, self.handle)
        sys.unraisablehook = self.again

    def handle(self, _: int, frame: FrameType | None) -> None:
        """The handler of all of them."""
        if not self.busy:
            end_now()
        if self.came:
            return
        if is_importing(frame):
            self.repeat()
        else:
            self.came = True
            later(CLOSING, end_now)  # a library may have swallowed it
            raise KeyboardInterrupt

    def again(self, lost: Any) -> None:
        """Python drops what is raised where nobody can catch it, as in a destructor: then it is raised once more."""
        if isinstance(lost.exc_value, KeyboardInterrupt):
            self.came = False
            self.repeat()
        else:
            sys.__unraisablehook__(lost)

    def repeat(self) -> None:
        """Sends the main thread signals until one has raised KeyboardInterrupt, in a moment that suits."""
        if not self.repeating:
            self.repeating = True
            later(0.01, self.signal_until_it_came)

    def signal_until_it_came(self) -> None:
        """Each to the main thread itself, which a signal that another thread takes does not wake."""
        import threading
        import time

        main_thread = threading.main_thread().ident
        while main_thread is not None and not self.came:
            signal.pthread_kill(main_thread, signal.SIGTERM)
            time.sleep(0.02)
        self.repeating = False


def is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: one written in C may lose what is raised then, as msgspec does."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def later(seconds: float, do: Callable[..., object], *arguments: object) -> None:
    """Does something after a while, unless the process has ended by then."""
    import threading

    timer = threading.Timer(seconds, do, arguments)
    timer.daemon = True
    timer.start()


def end_now() -> NoReturn:
    """Ends the process, whatever it waits for, and lets the terminal show again what is typed."""
    # A module that is not there yet, or not whole, has asked nobody anything.
    give_back = getattr(sys.modules.get("halfopen.environment"), "give_back_terminal", None)
    if give_back is not None:
        give_back()
    say("interrupted")
    os._exit(130)


def say(message: str) -> None:
    """One line on stderr, where nothing of ours may be imported."""
    try:
        os.write(2, f"halfopen: {message}\n".encode())
    except OSError:
        return  # nobody is there to read it


def run() -> NoReturn:
    """The console script."""
    interrupts = Interrupts()
    if sys.stdout is None:
        say("stdout is closed, so there is nowhere to report to: > /dev/null if -o FILE is all that is wanted")
        os._exit(2)
    import gc

    from halfopen.environment import give_back_terminal, here

    gc.set_threshold(100_000, 20, 20)  # findings form no cycles, and collections took a third of the run
    environment = here()
    sys.stdout, sys.stderr = environment.stdout, environment.stderr
    interrupts.busy = True
    try:
        code = main(sys.argv[1:], environment)
    except KeyboardInterrupt:  # before or behind all that `main` does
        say("interrupted")
        code = 130
    give_back_terminal()
    # Threads that still wait for a dead host must not keep the user waiting.
    os._exit(code)


CLOSING = 3.0
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

if __name__ == "__main__":
    run()
