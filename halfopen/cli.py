"""The argparse tree and the table of commands. No policy here: see the modules that the commands call."""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from halfopen import __version__
from halfopen.environment import Environment
from halfopen.errors import UsageError


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one line, a hint, exit 2. Options are not abbreviated."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Turns argparse's message into a UsageError with the nearest word that exists."""
        raise UsageError(message, self.hint(message))

    def hint(self, message: str) -> str:
        """The nearest option, or value of one, to a word that argparse does not know; else how to get help."""
        actions = [*self._actions, *(action for sub in self.chosen() for action in sub._actions)]
        options = [option for action in actions for option in action.option_strings]
        found = UNKNOWN.match(message)
        choices = re.findall(r"[\w-]+", found["choices"] or "") if found else []
        for word in (found["value"] or found["words"]).split() if found else ():
            bare = word.partition("=")[0]
            longer = [option for option in options if bare[2:] and bare.startswith("--") and option.startswith(bare)]
            near = longer or difflib.get_close_matches(bare, choices or options, 1, 0.7)
            if near:
                return f"did you mean {near[0]}?"
        typed = [sub.prog for sub in self.chosen() if len(sub._actions) > 1]  # the others have nothing but --help
        return f"{typed[0] if typed else self.prog} --help"

    def chosen(self) -> list[argparse.ArgumentParser]:
        """The parsers of the commands; only the one that was typed has its options, which may be what was meant."""
        subs = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return [parser for found in subs for parser in found.values()]


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


UNKNOWN = re.compile(
    r"unrecognized arguments: (?P<words>.*)|"
    r"argument .*: invalid choice: '(?P<value>[^']*)' \(choose from (?P<choices>.*)\)"
)
"""The messages of argparse that name a word which it does not know; in all others every word is right."""

COMMANDS: dict[str, str] = {
    "check": "compare the two ends of every connection between hosts, and report what does not agree",
    "collect": "save what hosts say of their sockets, one file each, for analyse",
    "analyse": "give the same report from saved evidence, without a network",
    "diff": "say what became of the findings of one report until the next: appeared, still there, gone",
    "count": "count one host's sockets by process, port and state, and what waits in accept queues",
    "doctor": "say what evidence is to be had on hosts, and which conclusions its absence rules out",
    "demo": "break connections on this machine, without root, and run the real check on them",
    "explain": "say what a verdict, cause, outlook, confidence or reason means, how it comes about, and what to do",
    "config": "show or validate the inventory",
    "schema": "print the JSON Schema of what halfopen reads and writes",
}
