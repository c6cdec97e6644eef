"""Every option of the commands, declared once. A command names those that it uses, and offers no other."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from halfopen.plan import ASK_LEVELS, FAIL_ON, HOST_KEY_RULES, SSH_TRANSPORTS
from halfopen.report.formats import FORMATS, Format

if TYPE_CHECKING:
    from halfopen.run.fleet import Options

TIMEOUT = 120.0
"""Seconds of a whole run, and for a pipe to take a report."""


def add_options(parser: argparse.ArgumentParser, *names: str, helps: Mapping[str, str] | None = None) -> None:
    """Adds options by their names in OPTIONS. `helps`: name -> another help text, where a command means less by it."""
    for name in names:
        settings = OPTIONS[name]
        parser.add_argument(name, **{**settings, "help": (helps or {}).get(name, settings["help"])})


def listed(formats: Mapping[str, Format]) -> str:
    """The help text of --format for a command with these formats."""
    return f"{', '.join(formats)}; default: text"


def host_options(args: argparse.Namespace, interactive: bool) -> Options:
    """The options REACH and --forks, as the hosts of a run take them. `interactive`: somebody can be asked."""
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


def adjustments(args: argparse.Namespace) -> dict[str, Any]:
    """What --port, --rounds and JUDGE say of a check, as `inventory.adjusted` takes it."""
    return {
        "ports": args.port,
        "rounds": args.rounds,
        "allow": args.allow,
        "max": dict(args.max),
        "require_connections": args.require_connections,
        "max_suspects": args.max_suspects,
    }


def ports(text: str) -> tuple[int, ...]:
    """The ports of one --port: numbers, ranges and names of services, with commas between them."""
    return tuple(number for word in text.split(",") for number in ports_of(word))


def ports_of(word: str) -> range:
    """One number, range (8000-8010) or service: the ports from the first to the last."""
    first, dash, last = word.partition("-")
    if is_number(first) and (is_number(last) or not dash):
        low, high = int(first), int(last or first)
        if 0 < low <= high < 65536:
            return range(low, high + 1)
    elif number := service(word):
        return range(number, number + 1)
    raise argparse.ArgumentTypeError(
        f"{word!r} is not a valid port: a number from 1 to 65535, a range (8000-8010), or the name of a TCP service"
    )


def is_number(text: str) -> bool:
    """Whether it is a decimal number that is short enough to be a port's."""
    return text.isascii() and text.isdigit() and len(text) <= 5


def service(name: str) -> int | None:
    """The TCP port of a service by its name in this machine's database (services(5)), None if it is not there."""
    import socket

    try:
        return socket.getservbyname(name, "tcp")
    except (OSError, ValueError):  # ValueError: no name that the C library can be asked for
        return None


def limit(text: str) -> tuple[str, int]:
    """VERDICT=N -> the verdict's name, which is not tested here, and how many findings of it are tolerated."""
    verdict, _, number = text.partition("=")
    if verdict and number.isascii() and number.isdigit() and len(number) <= 10:
        return verdict, int(number)
    raise argparse.ArgumentTypeError(f"{text!r} is not a valid VERDICT=N, for example never-accepted=10")


def count(text: str) -> int:
    """An option's number, which may be 0."""
    return 0 if text == "0" else positive(text)


def positive(text: str) -> int:
    """An option's number from 1 on."""
    if text.isascii() and text.isdigit() and 0 < int(text) <= 10**9:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a valid number: from 1 on")


def duration(text: str) -> float:
    """An option's seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid number of seconds: from 0 to 86400")
    return value


OPTIONS: dict[str, dict[str, Any]] = {
    "--inventory": {
        "metavar": "FILE",
        "help": "inventory of hosts and checks (default: $HALFOPEN_INVENTORY, ./inventory.toml, the config folder)",
    },
    "--port": {
        "metavar": "P",
        "type": ports,
        "action": "extend",
        "default": [],
        "help": "the server's port: a number, a range (8000-8010), a service, or several with commas; repeatable",
    },
    "--rounds": {"metavar": "N", "type": positive, "help": "number of look-up rounds (default 2)"},
    "--settle": {"metavar": "SECONDS", "type": duration, "help": "seconds to wait between rounds (default 1.5)"},
    "--connect-timeout": {
        "metavar": "SECONDS",
        "type": duration,
        "default": 10.0,
        "help": "seconds to connect to each host and jump host (default 10)",
    },
    "--timeout": {
        "metavar": "SECONDS",
        "type": duration,
        "default": TIMEOUT,
        "help": "seconds for the whole run (default 120)",
    },
    "--forks": {
        "metavar": "N",
        "type": positive,
        "default": 16,
        "help": "hosts to connect to in parallel (default 16)",
    },
    "--jump": {"metavar": "HOST", "help": "jump host, or several with commas"},
    "--transport": {"choices": SSH_TRANSPORTS, "help": "SSH implementation for all hosts that are reached by SSH"},
    "--host-keys": {
        "choices": HOST_KEY_RULES,
        "default": "strict",
        "help": "refuse the key of a host that is not known yet, or add it to known_hosts (default strict)",
    },
    "--format": {"metavar": "F", "help": listed(FORMATS)},
    "--json": {"dest": "format", "action": "store_const", "const": "json", "help": "the same as --format json"},
    "-o": {
        "dest": "outputs",
        "metavar": "FILE",
        "action": "append",
        "default": [],
        "help": "also write the report to FILE; the suffix selects the format; repeatable",
    },
    "--fail-on": {
        "choices": FAIL_ON,
        "default": "critical",
        "help": "exit 1 for findings of this severity or a higher one (default critical)",
    },
    "--max": {
        "metavar": "VERDICT=N",
        "type": limit,
        "action": "append",
        "default": [],
        "help": "tolerate up to N findings of VERDICT; more than N exit 1",
    },
    "--allow": {
        "metavar": "VERDICT",
        "action": "append",
        "default": [],
        "help": "show findings of VERDICT but do not fail for them; also a reason of unjudged connections; repeatable",
    },
    "--require-connections": {
        "metavar": "N",
        "type": count,
        "help": "exit 3 if fewer than N connections were compared",
    },
    "--max-suspects": {
        "metavar": "N",
        "type": positive,
        "help": "look at no more than N suspects of a check; the rest is not judged, which exits 3 (default 100000)",
    },
    "--baseline": {
        "metavar": "REPORT",
        "help": "a JSON report: findings that stand in it are shown, and do not count for the exit code",
    },
    "--retry-for": {
        "metavar": "SECONDS",
        "type": duration,
        "default": 0.0,
        "help": "check again until it is clean, or so many seconds have passed; the last report counts",
    },
    "--deep": {
        "action": "store_true",
        "help": "compare byte counters of every pair, however many (default: up to 20,000)",
    },
    "--all": {"action": "store_true", "help": "print every row, however many"},
    "-v": {"dest": "verbose", "action": "count", "default": 0, "help": "print more details"},
    "-q": {"dest": "quiet", "action": "store_true", "help": "print the headline only"},
    "--no-color": {"dest": "colour", "action": "store_false", "default": True, "help": "disable colour"},
    "--ask": {
        "choices": ASK_LEVELS[1:],
        "help": "send a keepalive probe on each end that seems alone or stuck; idle: also on pairs silent for 60 s",
    },
    "--save": {
        "metavar": "DIR",
        "help": "save each host's evidence there, for halfopen analyse; nothing is overwritten",
    },
}

REACH = ("--inventory", "--connect-timeout", "--timeout", "--jump", "--transport", "--host-keys")
"""How hosts are reached."""

JUDGE = ("--fail-on", "--max", "--allow", "--require-connections", "--baseline", "--max-suspects")
"""When a report fails."""

OUTPUT = ("--format", "--json", "-o", "--all", "-v", "-q", "--no-color")
"""Where a report goes, and how much of it."""

REPORT_HELPS = {
    "--all": "print every finding, and every connection that was not judged",
    "-v": "print every note, and the states of a clean check",
}
"""What two options of OUTPUT mean for the report of a check."""
