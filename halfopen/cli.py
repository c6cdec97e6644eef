"""The argparse tree and the table of commands. No policy: a command decides nothing either, it wires the wings."""

from __future__ import annotations

import argparse
import difflib
import importlib
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from halfopen import __version__
from halfopen.environment import Environment
from halfopen.errors import UsageError


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one line, a hint, exit 2."""

    def error(self, message: str) -> NoReturn:
        """Turns argparse's message into a UsageError with the nearest word that exists."""
        raise UsageError(message, self.hint(message))

    def hint(self, message: str) -> str:
        """The nearest option or command to what was typed."""
        words = message.replace("'", " ").replace(",", " ").split()
        known = [option for action in self._actions for option in action.option_strings] + list(COMMANDS)
        for word in words:
            bare = word.partition("=")[0]
            near = difflib.get_close_matches(bare, known, 1, 0.7)
            if near and bare not in known:
                return f"did you mean {near[0]}?"
        return f"{self.prog} --help"


def build(commands: Sequence[str]) -> Parser:
    """The tree with the arguments of these commands only: the others are not even imported."""
    parser = Parser(
        prog="halfopen",
        description="Finds TCP connections that the two hosts at their ends disagree about.",
        epilog="exit codes: 0 clean, 1 findings, 2 wrong usage, 3 incomplete, 4 a bug, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"halfopen {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, help_text in COMMANDS.items():
        sub = subparsers.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        if name in commands:
            module(name).arguments(sub)
    return parser


def module(name: str) -> Any:
    """commands/NAME.py, imported when it is needed."""
    return importlib.import_module(f"halfopen.commands.{name}")


def main(argv: Sequence[str], environment: Environment) -> int:
    """Runs one command; its exit code."""
    chosen = [word for word in argv if word in COMMANDS][:1]
    args = build(chosen).parse_args(argv)
    code: int = module(args.command).run(args, environment)
    return code


def common() -> argparse.ArgumentParser:
    """The options that every command has which reads hosts and gives a report."""
    parent = argparse.ArgumentParser(add_help=False)
    add = parent.add_argument
    add("--inventory", metavar="FILE", help="default: $HALFOPEN_INVENTORY, ./inventory.toml, then the config folder")
    add("--port", metavar="P", type=port, action="append", default=[], help="the server's port; may be repeated")
    add("--format", metavar="F", default=None, help="text, json, jsonl, markdown, junit; default: text")
    add("-o", dest="outputs", metavar="FILE", action="append", default=[], help="write there too, format by suffix")
    add("--rounds", metavar="N", type=positive, help="how often a suspect must hold (default 2)")
    add("--settle", metavar="SECONDS", type=duration, help="between rounds (default 1.5)")
    add("--connect-timeout", metavar="SECONDS", type=duration, default=10.0)
    add("--timeout", metavar="SECONDS", type=duration, default=120.0, help="the whole run (default 120)")
    add("--forks", metavar="N", type=positive, default=16, help="hosts at a time (default 16)")
    add("--fail-on", choices=("critical", "warning", "info", "never"), default="critical")
    add("--max", metavar="VERDICT=N", action="append", default=[], help="tolerate up to N of it")
    add("--allow", metavar="VERDICT", action="append", default=[], help="show it, but do not fail for it")
    add("--require-connections", metavar="N", type=positive, help="fewer compared is incomplete, not clean")
    add("--jump", metavar="HOST", help="jump host, or several with commas")
    add("--transport", choices=("auto", "paramiko", "openssh"))
    add("--host-keys", choices=("strict", "accept-new"), default="strict")
    add("--all", action="store_true", help="print every finding")
    add("-v", dest="verbose", action="count", default=0)
    add("-q", dest="quiet", action="store_true", help="the headline only")
    add("--no-color", dest="colour", action="store_false", default=True)
    return parent


def port(text: str) -> int:
    """An option's port."""
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 1 to 65535")


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


COMMANDS: dict[str, str] = {
    "check": "compare the two ends of every connection between hosts, and report what does not agree",
    "analyse": "give the same report from saved evidence, without a network",
    "demo": "break connections on this machine, without root, and run the real check on them",
    "config": "show or validate the inventory",
    "schema": "print the JSON Schema of the report or the inventory",
}
