"""Writes a report to stdout and to any number of files, all of which were tried before the run."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from halfopen.environment import Environment
from halfopen.errors import Exit, UsageError
from halfopen.files import Target, prepare, save_hosts
from halfopen.report.escape import complaint
from halfopen.report.formats import FORMATS, Document, Format, format_for, named
from halfopen.report.view import View

SUMMARY_LIMIT = 1 << 20  # bytes of the summary of one step
CUT = b"\n```\n\nThe rest is too long for this page: write it with -o report.md.\n"
READER_WAIT = 5.0  # seconds for somebody to open the other end of a FIFO, or --timeout if that is less


class Outlets(Struct, frozen=True):
    """Where the report of a run goes. summary: a file of the CI service that gets the Markdown report as well."""

    args: argparse.Namespace
    environment: Environment
    stdout: Format
    files: tuple[tuple[Format, Target], ...]
    summary: Path | None = None

    def deliver(self, report: Document, code: int) -> int:
        """Writes stdout, and then the files even where that failed. The exit code, or 3 for 0 where a file failed."""
        args, environment = self.args, self.environment
        view = View(width=environment.width, all=args.all, verbose=args.verbose > 0)
        try:
            colour = environment.colour(args.colour)
            text = self.stdout.render(report, replace(view, colour=colour, quiet=args.quiet))
            environment.stdout.write(text.encode("utf-8", "backslashreplace").decode())
            environment.stdout.flush()
        finally:
            for form, target in self.files:
                data = form.render(report, view).encode("utf-8", "backslashreplace")
                try:
                    target.write(data, args.timeout)
                except OSError as error:
                    code = failed(target.name, error, code, environment)
            if self.summary is not None:
                try:
                    append_summary(self.summary, FORMATS["markdown"].render(report, view))
                except OSError as error:
                    code = failed(str(self.summary), error, code, environment)
        return code


def outlets(
    args: argparse.Namespace,
    environment: Environment,
    formats: Mapping[str, Format] | None = None,
    inputs: Iterable[str] = (),
) -> Outlets:
    """Tries all that --format and -o name before any work is done for it: UsageError for what cannot be written.

    `inputs`: files that are read, which no output may replace.
    """
    known = FORMATS if formats is None else formats
    chosen = named(args.format or "text", known)
    wanted = [(format_for(name, args.format, known), name) for name in args.outputs if name != "-"]
    patience = min(READER_WAIT, args.timeout)
    files = tuple((form, prepare(environment.folder, name, patience)) for form, name in wanted)
    refuse_twice((target for _, target in files), taken(environment, inputs))
    path = environment.variables.get("GITHUB_STEP_SUMMARY") if chosen is FORMATS["github"] else None
    return Outlets(args, environment, chosen, files, Path(path) if path else None)


def baseline(args: argparse.Namespace, environment: Environment) -> Path | None:
    """The report of --baseline, None where it is not given."""
    return environment.folder / args.baseline if args.baseline is not None else None


def append_summary(path: Path, text: str) -> None:
    """Adds a report to the summary of a GitHub job. Of one that is too long there GitHub would show nothing."""
    data = text.encode("utf-8", "backslashreplace")
    room = SUMMARY_LIMIT - len(CUT) - (path.stat().st_size if path.exists() else 0)
    if len(data) > room:
        data = data[: max(0, room)].rpartition(b"\n")[0] + CUT
    with path.open("ab") as file:
        file.write(data)


def taken(environment: Environment, inputs: Iterable[str]) -> dict[object, str]:
    """Device and inode of each regular file that is read, and of stdout where it is one -> what to call it."""
    found: dict[object, str] = {}
    for name, file in [(name, environment.folder / name) for name in inputs if name != "-"]:
        with suppress(OSError):  # reading it fails later, with the reason
            found[identity(file.stat())] = f"the evidence in {name}"
    with suppress(OSError, ValueError):  # in tests stdout may have no descriptor
        status = os.fstat(environment.stdout.fileno())
        if stat.S_ISREG(status.st_mode):
            found[identity(status)] = "stdout"
    return found


def identity(status: os.stat_result) -> tuple[int, int]:
    """What tells a file from all others, as `Target.identity` of one that is there."""
    return status.st_dev, status.st_ino


def refuse_twice(targets: Iterable[Target], known: Mapping[object, str]) -> None:
    """UsageError where two names lead to one file, or one to what is in use: writing it would destroy the other."""
    seen: dict[object, str] = {}
    for target in targets:
        # An open target (a device, a pipe) destroys nothing; only writing a regular file does.
        other = seen.get(target.identity) or (known.get(target.identity) if target.path is not None else None)
        if other is not None:
            raise UsageError(f"{other} and -o {target.name} are one file", "another name for the output")
        seen[target.identity] = f"-o {target.name}"


def save(folder: Path, files: Mapping[str, bytes], code: int, environment: Environment) -> int:
    """Evidence of hosts to a folder that was prepared for it. The exit code, or 3 for 0 where that failed."""
    try:
        save_hosts(folder, files)
    except OSError as error:
        return failed(str(folder), error, code, environment)
    return code


def failed(name: str, error: OSError, code: int, environment: Environment) -> int:
    """Says on stderr that something could not be written after the run. The exit code: 3 in place of 0."""
    print(complaint(f"{error.strerror}: {name} could not be written"), file=environment.stderr)
    return code or Exit.INCOMPLETE
