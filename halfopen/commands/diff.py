"""`halfopen diff`: what became of the findings of one report until the next."""

from __future__ import annotations

import argparse

from halfopen import api
from halfopen.commands.deliver import outlets
from halfopen.compare import difference
from halfopen.environment import Environment
from halfopen.options import OUTPUT, TIMEOUT, add_options, listed
from halfopen.report.formats import DIFF_FORMATS


def arguments(parser: argparse.ArgumentParser) -> None:
    """OLD NEW."""
    output = (name for name in OUTPUT if name != "-v")
    add_options(parser, *output, helps={"--format": listed(DIFF_FORMATS), "--all": "print every connection"})
    parser.set_defaults(timeout=TIMEOUT, verbose=0)
    parser.add_argument("old", metavar="OLD", help="a JSON report (-o report.json)")
    parser.add_argument("new", metavar="NEW", help="a later one of the same hosts")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """Exit 1 if something appeared, 3 if the new report is incomplete. UsageError for a file that is no report."""
    out = outlets(args, environment, DIFF_FORMATS, inputs=(args.old, args.new))
    old, new = (api.load(environment.folder / name) for name in (args.old, args.new))
    found = difference(old, new, (args.old, args.new))
    return out.deliver(found, found.exit_code)
