"""A report to where the user wants it: stdout, and any number of files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from halfopen.checkup import Checkup
from halfopen.environment import Environment
from halfopen.files import write_private
from halfopen.findings import Report
from halfopen.report.formats import Format, format_for, named
from halfopen.report.view import View
from halfopen.tally import Tally


def check_formats(args: argparse.Namespace, formats: Mapping[str, Format] | None = None) -> None:
    """Refuses an unknown format before any work is done for it."""
    named(args.format or "text", formats)
    for name in args.outputs:
        if name != "-":
            format_for(name, args.format, formats)


def deliver(report: Report, args: argparse.Namespace, environment: Environment) -> int:
    """Writes the files, then stdout; the exit code of the report."""
    write(report, args, environment)
    return report.exit_code


def write(
    report: Report | Tally | Checkup,
    args: argparse.Namespace,
    environment: Environment,
    formats: Mapping[str, Format] | None = None,
) -> None:
    """The same for what has a table of formats of its own."""
    view = View(width=environment.width, all=args.all, quiet=args.quiet, verbose=args.verbose > 0)
    for name in args.outputs:
        if name != "-":
            chosen = format_for(name, args.format, formats)
            write_private(environment.folder / name, chosen.render(report, view).encode("utf-8", "backslashreplace"))
    colour = environment.colour(args.colour)
    text = named(args.format or "text", formats).render(
        report, View(view.width, colour, view.all, view.quiet, view.verbose)
    )
    environment.stdout.write(text.encode("utf-8", "backslashreplace").decode())
    environment.stdout.flush()
