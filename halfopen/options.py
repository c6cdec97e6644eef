"""The options that every command has which reads hosts and gives a report."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halfopen.run.fleet import Options


def add_reach(parser: argparse.ArgumentParser) -> None:
    """The options that say which hosts are read, and how."""
    add = parser.add_argument
    add("--inventory", metavar="FILE", help="default: $HALFOPEN_INVENTORY, ./inventory.toml, then the config folder")
    add("--port", metavar="P", type=port, action="append", default=[], help="the server's port; may be repeated")
    add("--rounds", metavar="N", type=positive, help="how often to look (check: 2 by default, collect: 1)")
    add("--settle", metavar="SECONDS", type=duration, help="between rounds (default 1.5)")
    add("--connect-timeout", metavar="SECONDS", type=duration, default=10.0, help="each host and hop (default 10)")
    add("--timeout", metavar="SECONDS", type=duration, default=120.0, help="the whole run (default 120)")
    add("--forks", metavar="N", type=positive, default=16, help="hosts at a time (default 16)")
    add("--jump", metavar="HOST", help="jump host, or several with commas")
    add("--transport", choices=("auto", "paramiko", "openssh"), help="the way to all hosts that are reached by SSH")
    add(
        "--host-keys",
        choices=("strict", "accept-new"),
        default="strict",
        help="whether keys of hosts that are not known yet are refused or added (default strict)",
    )


def host_options(args: argparse.Namespace, interactive: bool) -> Options:
    """The options of add_reach() as run.fleet.Options."""
    from halfopen.run.fleet import Options

    return Options(
        connect_timeout=args.connect_timeout,
        timeout=args.timeout,
        forks=args.forks,
        host_keys=args.host_keys,
        jump=args.jump,
        transport=args.transport,
        interactive=interactive,
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """The same, and what a report looks like and when it fails."""
    add_reach(parser)
    add = parser.add_argument
    add("--format", metavar="F", default=None, help="text, json, jsonl, markdown, junit; default: text")
    add("-o", dest="outputs", metavar="FILE", action="append", default=[], help="write there too, format by suffix")
    add(
        "--fail-on",
        choices=("critical", "warning", "info", "never"),
        default="critical",
        help="exit 1 for findings this grave or graver (default critical)",
    )
    add("--max", metavar="VERDICT=N", action="append", default=[], help="tolerate up to N of it")
    allow = "show it, but do not fail for it; also a reason of unjudged connections, as answered-elsewhere"
    add("--allow", metavar="VERDICT", action="append", default=[], help=allow)
    add("--require-connections", metavar="N", type=count, help="fewer established at both ends: incomplete, not clean")
    add("--deep", action="store_true", help="compare byte counters of every pair, however many (default: up to 20,000)")
    add("--all", action="store_true", help="print every finding")
    add("-v", dest="verbose", action="count", default=0, help="every note, and the states of a clean check")
    add("-q", dest="quiet", action="store_true", help="the headline only")
    add("--no-color", dest="colour", action="store_false", default=True, help="as NO_COLOR does")


def add_reaching(parser: argparse.ArgumentParser) -> None:
    """The options of a command that reads hosts and judges no connection."""
    add = parser.add_argument
    add("--inventory", metavar="FILE", help="default: $HALFOPEN_INVENTORY, ./inventory.toml, then the config folder")
    add("--format", metavar="F", default=None, help="text or json; default: text")
    add("-o", dest="outputs", metavar="FILE", action="append", default=[], help="write there too, format by suffix")
    add("--connect-timeout", metavar="SECONDS", type=duration, default=10.0, help="each host and hop (default 10)")
    add("--timeout", metavar="SECONDS", type=duration, default=120.0, help="the whole run (default 120)")
    add("--jump", metavar="HOST", help="jump host, or several with commas")
    add("--transport", choices=("auto", "paramiko", "openssh"), help="the way to all hosts that are reached by SSH")
    add("--host-keys", choices=("strict", "accept-new"), default="strict", help="refuse unknown keys, or add them")
    add("--all", action="store_true", help="print everything, however long")
    add("-v", dest="verbose", action="count", default=0, help="everything that is known")
    add("-q", dest="quiet", action="store_true", help="the headline only")
    add("--no-color", dest="colour", action="store_false", default=True, help="as NO_COLOR does")


def port(text: str) -> int:
    """An option's port."""
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 1 to 65535")


def count(text: str) -> int:
    """An option's number, which may be 0."""
    return 0 if text == "0" else positive(text)


def positive(text: str) -> int:
    """An option's count."""
    if text.isascii() and text.isdigit() and 0 < int(text) <= 10**9:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")


def duration(text: str) -> float:
    """An option's seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value
