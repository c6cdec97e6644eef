"""`halfopen collect`: one snapshot of each host in a file, to be judged later and elsewhere."""

from __future__ import annotations

import argparse
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from halfopen import probe
from halfopen.commands.deliver import READER_WAIT, failed
from halfopen.environment import Environment
from halfopen.errors import Exit, UsageError
from halfopen.evidence.redact import redacted
from halfopen.evidence.saved import Saved, encode
from halfopen.files import SUFFIX, Target, kind_of, prepare, prepare_folder, save_hosts
from halfopen.inventory import read
from halfopen.options import REACH, add_options, host_options
from halfopen.plan import CheckPlan, Host, Inventory
from halfopen.report.escape import complaint, terminal
from halfopen.run.targets import hosts_named

if TYPE_CHECKING:
    from halfopen.run.fleet import Fleet

SECRET_LIMIT = 4096
EVERY = 10**9  # sockets
SETTLE_S = 1.5
SETTLE_ALONE_S = 3.0  # what was read of one host alone must overlap with what other runs read of the others


def arguments(parser: argparse.ArgumentParser) -> None:
    """HOST..., or this machine, and where the files go."""
    helps = {
        "--rounds": "number of moments of each host (default 2)",
        "--settle": "seconds between two moments, longer while a socket tries again (default 1.5; for one host 3)",
        "--deep": "timers and byte counters of every socket, however many (default: of up to 20,000 a host)",
    }
    add_options(parser, *REACH, "--port", "--rounds", "--settle", "--forks", "--deep", helps=helps)
    add = parser.add_argument
    add("hosts", nargs="*", metavar="HOST", help='names, globs "web*", "tag:web", or [user@]host[:port]')
    add(
        "-o",
        dest="output",
        metavar="DIR",
        default=".",
        help="folder for the files, FILE.halfopen, or - for stdout (default: here)",
    )
    add("--local", action="store_true", help="this machine, without an inventory and without SSH")
    add("--redact", action="store_true", help="replace addresses and names, consistently in all files of this run")
    add("--redact-with", metavar="FILE", help="as --redact, by the secret in FILE: consistently over several runs")
    add("--print-probe", action="store_true", help="print all that can be sent to a host, and nothing else")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """Reads the hosts and writes their files. Exit 0 if every host was read, else 3; the file of a host that was not
    read says why."""
    if args.print_probe:
        environment.stdout.write(printed())
        return Exit.CLEAN
    secret = secret_of(args, environment)
    inventory, names = chosen(args, environment)
    if args.output == "-" and (len(names) != 1 or environment.stdout.isatty()):
        raise UsageError("-o - is for the snapshot of one host, and not for a terminal", "-o DIR, or > FILE")
    target = target_of(args, environment, names)
    found = take(args, environment, inventory, names)
    if args.local:
        found = {saved.facts.hostname if saved.facts else name: named_by_itself(saved) for name, saved in found.items()}
    unread = [(saved, saved.error) for saved in found.values() if saved.error is not None]
    if secret is not None:
        hidden = redacted(list(found.values()), secret)
        for before, after in zip(found, hidden, strict=True):
            print(f"{terminal(before)} is {after.host} in its file", file=environment.stderr)
        found = {saved.host: saved for saved in hidden}
    code = deliver(found, target, args, environment)
    for saved, error in unread:
        print(complaint(f"{saved.host}: {error.code}: {error.message}", error.hint), file=environment.stderr)
    return Exit.INCOMPLETE if unread else code


def printed() -> str:
    """All that can be sent to a host, under headings."""
    from halfopen.reach import exchange, shell

    texts = (
        ("The remote command where a host has Python", exchange.remote_command(None) + "\n"),
        ("What comes over its stdin: the probe", probe.source().decode()),
        ("What follows the probe for `halfopen count` and `halfopen doctor`", probe.joined(probe.SURVEY).decode()),
        ("What follows the probe for `halfopen check --ask`, and never else", probe.joined(probe.ASKING).decode()),
        ("The remote command where a host has no Python that runs the probe", shell.COMMAND + "\n"),
        ("What comes over its stdin", shell.script().decode()),
    )
    return "\n".join(f"{'#' * 100}\n# {heading}\n\n{text}" for heading, text in texts)


def secret_of(args: argparse.Namespace, environment: Environment) -> bytes | None:
    """The secret from which the replacements of --redact are made; None without it. UsageError for a bad file."""
    if args.redact_with is None:
        return secrets.token_bytes(32) if args.redact else None
    try:
        secret: bytes = (environment.folder / args.redact_with).read_bytes()[:SECRET_LIMIT].strip()
    except OSError as error:
        raise UsageError(f"{args.redact_with} cannot be read: {error.strerror}") from error
    if len(secret) < 16:
        raise UsageError(f"{args.redact_with} is too short for a secret", "head -c 32 /dev/urandom | base64 > FILE")
    return secret


def chosen(args: argparse.Namespace, environment: Environment) -> tuple[Inventory, tuple[str, ...]]:
    """The hosts to read: those that are named, or this machine."""
    if args.local:
        if args.hosts:
            raise UsageError("--local is this machine alone", "halfopen collect HOST..., or halfopen collect --local")
        here = Host("local", "local", transport="local")
        return Inventory({here.name: here}), (here.name,)
    inventory = read(args.inventory, environment.variables, environment.folder)
    found = list(dict.fromkeys(host for word in args.hosts for host in hosts_named(word, inventory)))
    if not found:
        raise UsageError("there is nothing to collect", "halfopen collect HOST..., or halfopen collect --local")
    return inventory.with_hosts(found), tuple(host.name for host in found)


def take(
    args: argparse.Namespace, environment: Environment, inventory: Inventory, names: tuple[str, ...]
) -> dict[str, Saved]:
    """Reads the hosts: host -> its snapshot, with the later dumps of --rounds."""
    from halfopen.run.fleet import Fleet

    plan = CheckPlan("collect", names, names, tuple(dict.fromkeys(args.port)))
    with Fleet(inventory, [plan], host_options(args, environment.interactive), environment.say) as hosts:
        default = SETTLE_S if len(names) > 1 else SETTLE_ALONE_S
        settle = default if args.settle is None else args.settle
        return looks(hosts, args.rounds or 2, settle, EVERY if args.deep else None)


def looks(hosts: Fleet, rounds: int, settle: float, most: int | None = None) -> dict[str, Saved]:
    """Host -> its moments: see `run.moments`. `most`: sockets of a host that are looked up; None: as by default."""
    from halfopen.run.moments import LOOKED_UP, collected

    return collected(hosts, rounds, settle, LOOKED_UP if most is None else most)


def named_by_itself(saved: Saved) -> Saved:
    """A snapshot of this machine, under its own name: `local` would mean another machine elsewhere."""
    return structs.replace(saved, host=saved.facts.hostname) if saved.facts and saved.facts.hostname else saved


def target_of(args: argparse.Namespace, environment: Environment, names: tuple[str, ...]) -> Target | Path | None:
    """Where the files go, tried before any host is reached: one file, a folder, or stdout (None)."""
    if args.output == "-":
        return None
    path: Path = environment.folder / args.output
    kind = kind_of(path)
    if kind == stat.S_IFDIR or (kind in (None, stat.S_IFREG) and path.suffix != SUFFIX):
        # What a host calls itself, and its name when that is replaced, are known later: those get a name that is free.
        named_later = args.local or args.redact or args.redact_with is not None
        prepare_folder(path, () if named_later else names)
        return path
    if len(names) != 1:
        raise UsageError(f"-o {args.output} is one file, and there are {len(names)} hosts", "-o DIR")
    return prepare(environment.folder, args.output, min(READER_WAIT, args.timeout))


def deliver(
    found: Mapping[str, Saved], target: Target | Path | None, args: argparse.Namespace, environment: Environment
) -> int:
    """The files, and their names on stdout; or the one snapshot itself. 0, or 3 where that failed."""
    files = {name: encode(saved) for name, saved in found.items()}
    if target is None:
        environment.stdout.flush()
        environment.stdout.buffer.write(*files.values())
        return Exit.CLEAN
    try:
        if isinstance(target, Target):
            (data,) = files.values()
            target.write(data, args.timeout)
            written = [] if target.path is None else [environment.folder / args.output]
        else:
            written = save_hosts(target, files)
    except OSError as error:
        return failed(args.output, error, Exit.CLEAN, environment)
    for path in written:
        print(shown(path, environment.folder), file=environment.stdout)
    return Exit.CLEAN


def shown(path: Path, folder: Path) -> str:
    """A path as the user would type it."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
