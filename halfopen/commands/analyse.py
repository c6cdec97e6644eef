"""`halfopen analyse`: the same report from saved evidence or pasted text, without a network."""

from __future__ import annotations

import argparse

from halfopen import api
from halfopen.commands.deliver import baseline, outlets
from halfopen.environment import Environment
from halfopen.evidence.text.recognise import LIMIT
from halfopen.inventory import read
from halfopen.options import JUDGE, OUTPUT, REPORT_HELPS, TIMEOUT, add_options, adjustments


def arguments(parser: argparse.ArgumentParser) -> None:
    """FILE..., and which of them is the client's and the server's."""
    add_options(parser, "--inventory", "--port", "--rounds", *JUDGE, *OUTPUT, helps=REPORT_HELPS)
    parser.set_defaults(timeout=TIMEOUT)
    add = parser.add_argument
    add(
        "files",
        nargs="*",
        metavar="FILE",
        help="the client's, then the server's: snapshots, or text of ss, netstat, lsof or /proc/net/tcp; - is stdin",
    )
    for role in ("client", "server"):
        text = f"evidence of a {role} host; give two files of one host, taken at different times, to confirm findings"
        add(f"--{role}", metavar="FILE", action="append", default=[], help=text)
    add("--nat", metavar="FILE", action="append", default=[], help="snapshot of a NAT gateway between them")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """Analyses the files and writes the report; its exit code. UsageError for a file that cannot be read."""
    out = outlets(args, environment, inputs=(*args.files, *args.client, *args.server, *args.nat))
    report = api.report_of_files(
        args.files,
        args.client,
        args.server,
        args.nat,
        read_bytes=lambda name: contents(name, environment),
        inventory=lambda: read(args.inventory, environment.variables, environment.folder),
        policy=api.policy_of(args.fail_on, api.known_in(baseline(args, environment))),
        **adjustments(args),
    )
    return out.deliver(report, report.exit_code)


def contents(name: str, environment: Environment) -> bytes:
    """The bytes of a file, or of stdin as `-`."""
    if name != "-":
        return (environment.folder / name).read_bytes()
    raw = getattr(environment.stdin, "buffer", None)
    return raw.read(LIMIT + 1) if raw is not None else environment.stdin.read().encode("utf-8", "surrogateescape")
