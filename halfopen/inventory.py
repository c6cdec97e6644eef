"""TOML -> Inventory: hosts and checks, every error with its key path and a did-you-mean."""

from __future__ import annotations

import difflib
import fnmatch
import math
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from halfopen import address
from halfopen.errors import UsageError
from halfopen.plan import ASK_LEVELS, SSH_TRANSPORTS, CheckPlan, Host, Inventory
from halfopen.schema.report import Reason, Verdict
from halfopen.userfiles import config_home, distrust, home_of, ssh_hosts


class Origin(Enum):
    """How a file came to be the inventory."""

    NAMED = "the user named it"
    LYING = "it lies in the working directory"
    OWN = "it stands in the user's config folder"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a file may be a stranger's ("an inventory that ..."), and the only hosts that its hosts may jump through."""

    why: str
    jumps: frozenset[str] = frozenset()


def find(named: str | None, variables: Mapping[str, str], folder: Path) -> tuple[Path | None, Origin]:
    """The inventory to use and where it comes from: --inventory, $HALFOPEN_INVENTORY, ./, the config folder."""
    explicit = named or variables.get("HALFOPEN_INVENTORY")
    if explicit:
        path = folder / Path(explicit).expanduser()
        if not path.is_file():
            raise UsageError(f"there is no inventory {path}", "halfopen config validate --inventory FILE")
        return path, Origin.NAMED
    if (folder / "inventory.toml").is_file():
        return folder / "inventory.toml", Origin.LYING
    home = config_home(variables)
    own = home / "halfopen" / "inventory.toml" if home else None
    return (own if own and own.is_file() else None), Origin.OWN


def read(named: str | None, variables: Mapping[str, str], folder: Path) -> Inventory:
    """The inventory that `find` finds, an empty one if there is none; its own relative paths begin at its folder."""
    path, origin = find(named, variables, folder)
    if path is None:
        return Inventory()
    try:
        with path.open("rb") as file:
            why = why_doubted(origin, os.fstat(file.fileno()))
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if len(data) > MOST_BYTES:
        raise UsageError(f"{path} is larger than {MOST_BYTES} bytes, and not a valid inventory")
    found = load(text, str(path), Doubt(why, ssh_hosts(home_of(variables))) if why else None)
    hosts = {name: with_paths(host, path.parent) for name, host in found.hosts.items()}
    return replace(found, hosts=hosts, source=path, trusted=why is None)


def why_doubted(origin: Origin, status: os.stat_result) -> str | None:
    """Why a file may be a stranger's: one that was named is the user's word, whoever wrote it."""
    if origin is Origin.LYING:
        return "merely lies in the working directory"
    return distrust(status) if origin is Origin.OWN else None


def with_paths(host: Host, folder: Path) -> Host:
    """The host with its files named from `folder` on; ~ is left to be the user's home."""

    def placed(name: str | None) -> str | None:
        return name if name is None or name.startswith("~") else str(folder / name)

    return replace(host, identity_file=placed(host.identity_file), known_hosts=placed(host.known_hosts))


def load(text: str, name: str = "inventory.toml", doubt: Doubt | None = None) -> Inventory:
    """TOML text -> Inventory. UsageError names file, line or key path, and what was expected.

    With a `doubt`, what a stranger may not set is refused, whether a run would use it or not.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: {error}", "a key or table may stand only once; strings take quotes") from error
    known(data, ("defaults", "hosts", "checks"), name, "")
    tables = {word: table(data.get(word, {}), name, word) for word in ("defaults", "hosts", "checks")}
    if doubt:
        doubt = replace(doubt, jumps=doubt.jumps - set(tables["hosts"]))  # which would be reached as the file says
    defaults = values_of(tables["defaults"], HOST_KEYS, doubt, name, "defaults")
    hosts = {one: load_host(one, given, defaults, doubt, name) for one, given in tables["hosts"].items()}
    both = sorted(set(hosts) & set(tables["checks"]))
    if both:
        raise UsageError(f"{name}: {both[0]!r} is both a host and a check", "rename one: commands could mean either")
    for host in hosts.values():
        check_jump(host, hosts, name)
    checks = {one: load_check(one, given, hosts, doubt, name) for one, given in tables["checks"].items()}
    return Inventory(hosts, checks)


def values_of(
    given: Any, readers: Mapping[str, Callable[[Any, str, str], Any]], doubt: Doubt | None, name: str, path: str
) -> dict[str, Any]:
    """The keys of one table, read. UsageError for one that nobody reads, and for what a stranger may not set."""
    own = table(given, name, path)
    known(own, readers, name, path)
    values = {key: readers[key](value, name, f"{path}.{key}") for key, value in own.items()}
    if doubt:
        refuse_strange(values, doubt, name, path)
    return values


def refuse_strange(values: Mapping[str, Any], doubt: Doubt, name: str, path: str) -> None:
    """UsageError for a key, or its value, that is not taken from a file that may be a stranger's."""
    for key, value in values.items():
        if key not in STRANGERS or not STRANGERS[key](value, doubt):
            shown = f" = {value!r}" if key in STRANGERS else ""
            through = ": it leads only through a Host of ~/.ssh/config" if key == "jump" else ""
            raise UsageError(
                f"{name}: {path}.{key}{shown} is not taken from an inventory that {doubt.why}{through}",
                f"if you trust it: --inventory {shlex.quote(name)}",
            )


def load_host(host: str, given: Any, defaults: Mapping[str, Any], doubt: Doubt | None, name: str) -> Host:
    """One [hosts.NAME] over [defaults]."""
    path = f"hosts.{host}"
    values = {**defaults, **values_of(given, HOST_KEYS, doubt, name, path)}
    plain_name(host, name, path)
    if host == "local" and doubt is not None:
        raise UsageError(
            f"{name}: {path} is not taken from an inventory that {doubt.why}: `local` is this machine",
            f"if you trust it: --inventory {shlex.quote(name)}",
        )
    transport = values.get("transport", "auto")
    if transport == "exec" and not values.get("command"):
        raise UsageError(
            f'{name}: {path}.command is missing: transport = "exec" needs an argv that starts a shell',
            'command = ["docker", "exec", "-i", "web", "sh"]',
        )
    if "address" not in values:
        if transport not in ("local", "exec"):
            raise UsageError(f"{name}: {path}.address is missing", f'address = "{host}.example.net"')
        values["address"] = host
    return Host(name=host, **values)


def load_check(check: str, given: Any, hosts: Mapping[str, Host], doubt: Doubt | None, name: str) -> CheckPlan:
    """One [checks.NAME], its selectors spelled out."""
    path = f"checks.{check}"
    values = values_of(given, CHECK_KEYS, doubt, name, path)
    plain_name(check, name, path)
    for role in ("client", "server"):
        if role not in values:
            raise UsageError(f"{name}: {path}.{role} is missing", f'{role} = "NAME", a glob "web*", or "tag:web"')
        values[role + "s"] = select(values.pop(role), hosts, f"{name}: {path}.{role}")
    if "nat" in values:
        values["nat"] = select(values["nat"], hosts, f"{name}: {path}.nat")
    return CheckPlan(name=check, **values)


def adjusted(
    plan: CheckPlan,
    *,
    ports: Sequence[int] = (),
    rounds: int | None = None,
    settle: float | None = None,
    allow: Sequence[str] = (),
    max: Mapping[str, int] | None = None,
    require_connections: int | None = None,
    ask: str | None = None,
) -> CheckPlan:
    """A check with what the user says beside the inventory: None and nothing leave it as it is.

    `allow` and `max` (verdict -> how many are tolerated) add to those of the check. UsageError for a number that
    is out of range and for a name that no report has.
    """
    numbers = {"rounds": rounds, "settle": settle, "require_connections": require_connections}
    if ask is not None:
        known_word(ask, ASK_LEVELS, "word for whom to ask")
    for port in ports:
        PORT(port, plan.name, "ports")
    for key, value in numbers.items():
        if value is not None:
            ADJUSTABLE[key](value, plan.name, key)
    for name, most in (max or {}).items():
        known_word(name, VERDICTS, "verdict to set a maximum for")
        number(0, 10**10)(most, plan.name, f"max.{name}")
    for name in allow:
        known_word(name, ALLOWABLE, "verdict to allow, nor a reason of connections that are not judged")
    return replace(
        plan,
        ports=tuple(dict.fromkeys(ports)) or plan.ports,
        rounds=plan.rounds if rounds is None else rounds,
        settle=plan.settle if settle is None else settle,
        allow=(*plan.allow, *allow),
        max={**plan.max, **(max or {})},
        require_connections=plan.require_connections if require_connections is None else require_connections,
        ask=plan.ask if ask is None else ask,
    )


def known_word(word: str, words: Sequence[str], what: str) -> None:
    """UsageError for a word that is none of these."""
    if word not in words:
        raise UsageError(f"{word!r} is not a valid {what}", did_you_mean(word, words))


def select(selectors: Sequence[str], hosts: Mapping[str, Host], where: str) -> tuple[str, ...]:
    """Names, globs and `tag:` words -> names of hosts, each once. UsageError for one that selects nothing."""
    found: list[str] = []
    for one in selectors:
        if one.startswith("tag:"):
            tags = {tag for host in hosts.values() for tag in host.tags}
            chosen = [host.name for host in hosts.values() if one[4:] in host.tags]
            hint = did_you_mean(one[4:], tags)
        else:
            glob = any(sign in one for sign in "*?[")
            chosen = fnmatch.filter(hosts, one) if glob else [one] if one in hosts else []
            hint = did_you_mean(one, hosts)
        if not chosen:
            raise UsageError(f"{where}: {one!r} selects no host", hint)
        found += chosen
    return tuple(dict.fromkeys(found))


def check_jump(host: Host, hosts: Mapping[str, Host], name: str, seen: tuple[str, ...] = ()) -> None:
    """Every chain of jump hosts must end. `seen`: those that led here."""
    if host.name in seen:
        raise UsageError(f"{name}: hosts.{seen[0]}.jump leads in a circle: {' -> '.join([*seen, host.name])}")
    for one in host.jump.split(",") if host.jump else []:
        if one.strip() in hosts:
            check_jump(hosts[one.strip()], hosts, name, (*seen, host.name))


def known(given: Mapping[str, Any], keys: Iterable[str], name: str, path: str) -> None:
    """Refuses keys that nobody reads."""
    for key in given:
        if key not in keys:
            where = f"{path}.{key}" if path else key
            raise UsageError(f"{name}: unknown key {where}", did_you_mean(key, keys))


def did_you_mean(word: str, words: Iterable[str]) -> str | None:
    """A hint with the nearest of the words, or all of them if they are few."""
    choices = sorted(words)
    near = difflib.get_close_matches(word, choices, 1, 0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(choices)}" if 0 < len(choices) <= 16 else None


def table(value: Any, name: str, path: str) -> dict[str, Any]:
    """A TOML table."""
    if not isinstance(value, dict):
        raise wrong(value, "a table", name, path)
    return value


def wrong(value: Any, expected: str, name: str, path: str) -> UsageError:
    """The error for a value of another kind."""
    return UsageError(f"{name}: {path} must be {expected}, not {value!r}")


def plain_name(value: str, name: str, path: str) -> None:
    """Names of hosts and checks become words of the command line and of reports."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*", value) or (value == "local" and path.startswith("checks")):
        raise UsageError(f"{name}: {path}: {value!r} is not a valid name", "letters, digits, '.', '-' and '_'")


def text(value: Any, name: str, path: str) -> str:
    """A string with something in it and no control character."""
    if not isinstance(value, str) or not value or any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
        raise wrong(value, "a string", name, path)
    return value


def word(value: Any, name: str, path: str) -> str:
    """A host or user name, checked more strictly than ssh does."""
    found = text(value, name, path)
    if not re.fullmatch(r"[A-Za-z0-9_.:\[\]][A-Za-z0-9_.:\[\]@+-]*(%[A-Za-z0-9_.-]+)?", found):
        raise UsageError(f"{name}: {path}: {found!r} is not a valid name", "letters, digits, '.', '-', '_' and ':'")
    return found.removeprefix("[").removesuffix("]")


def number(low: int, high: int) -> Callable[[Any, str, str], int]:
    """A whole number in a range; true and false are none."""

    def check(value: Any, name: str, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise wrong(value, f"a number from {low} to {high}", name, path)
        return value

    return check


def seconds(high: int) -> Callable[[Any, str, str], float]:
    """A duration up to so many seconds."""

    def check(value: Any, name: str, path: str) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or not 0 <= value <= high
        ):
            raise wrong(value, f"seconds from 0 to {high}", name, path)
        return float(value)

    return check


def flag(value: Any, name: str, path: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise wrong(value, "true or false", name, path)
    return value


def listed(item: Callable[[Any, str, str], Any], single: bool = False) -> Callable[[Any, str, str], tuple[Any, ...]]:
    """A list of such values; `single` lets one stand alone."""

    def check(value: Any, name: str, path: str) -> tuple[Any, ...]:
        values = [value] if single and not isinstance(value, list) else value
        if not isinstance(values, list) or (single and not values):
            raise wrong(value, "a list", name, path)
        return tuple(item(one, name, f"{path}[{at}]" if values is value else path) for at, one in enumerate(values))

    return check


def choice(words: Sequence[str]) -> Callable[[Any, str, str], str]:
    """One of some words."""

    def check(value: Any, name: str, path: str) -> str:
        if value not in words:
            hint = did_you_mean(value, words) if isinstance(value, str) else None
            raise UsageError(f"{name}: {path} must be one of {', '.join(words)}, not {value!r}", hint)
        return str(value)

    return check


def ip(value: Any, name: str, path: str) -> str:
    """An IP address, in its canonical form."""
    try:
        return address.show(address.parse(text(value, name, path)))
    except ValueError:
        raise wrong(value, "an IP address", name, path) from None


def limits(value: Any, name: str, path: str) -> dict[str, int]:
    """Verdict -> how many of it are tolerated."""
    found = table(value, name, path)
    for key in found:
        choice(VERDICTS)(key, name, f"{path}.{key}")
    return {key: number(0, 10**9)(one, name, f"{path}.{key}") for key, one in found.items()}


MOST_BYTES = 16 << 20
VERDICTS = tuple(verdict.value for verdict in Verdict)
ALLOWABLE = (*VERDICTS, *(reason.value for reason in Reason))
WAYS = (*SSH_TRANSPORTS, "local", "exec")
PORT = number(1, 65535)

HOST_KEYS: dict[str, Callable[[Any, str, str], Any]] = {
    "address": word,
    "port": PORT,
    "user": word,
    "identity_file": text,
    "known_hosts": text,
    "jump": text,
    "transport": choice(WAYS),
    "sudo": flag,
    "python": text,
    "command": listed(text),
    "addresses": listed(ip),
    "tags": listed(text),
}
CHECK_KEYS: dict[str, Callable[[Any, str, str], Any]] = {
    "client": listed(text, single=True),
    "server": listed(text, single=True),
    "ports": listed(PORT),
    "nat": listed(text, single=True),
    "settle": seconds(3600),
    "rounds": number(1, 100),
    "allow": listed(choice(ALLOWABLE)),
    "max": limits,
    "require_connections": number(0, 10**9),
    "ask": choice(ASK_LEVELS),
}

ADJUSTABLE: dict[str, Callable[[Any, str, str], Any]] = {
    "rounds": number(1, 10**9),
    "settle": seconds(86400),
    "require_connections": number(0, 10**9),
}
"""What a command line or a program may say beside the inventory, in wider ranges."""


def anything(_: Any, __: Doubt) -> bool:
    """Nothing that this key can hold starts a program with the user's rights, or says whom to trust."""
    return True


STRANGERS: dict[str, Callable[[Any, Doubt], bool]] = {
    **dict.fromkeys(("address", "port", "user", "tags", "addresses"), anything),
    "transport": lambda way, _: way in SSH_TRANSPORTS,
    "jump": lambda hosts, doubt: all(one.strip() in doubt.jumps for one in hosts.split(",")),
    **dict.fromkeys(
        ("client", "server", "ports", "nat", "rounds", "settle", "allow", "max", "require_connections"), anything
    ),
}
"""What a file may set that may be a stranger's, and which values. A key that is not here is refused, a new one too."""
