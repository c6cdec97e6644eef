"""TOML -> Inventory: hosts and checks, every error with its key path and a did-you-mean."""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from halfopen import address
from halfopen.errors import UsageError
from halfopen.findings import Reason, Verdict


@dataclass(frozen=True, slots=True)
class Host:
    """How to reach one host. `name` is what reports call it; `address` is where SSH goes.

    `local` runs on this machine without SSH. `addresses` (text) lead to the host though no interface has them.
    """

    name: str
    address: str
    port: int | None = None
    user: str | None = None
    identity_file: str | None = None
    known_hosts: str | None = None
    jump: str | None = None
    transport: str = "auto"
    sudo: bool = False
    python: str | None = None
    command: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """What to compare: names of hosts by role, the server's ports, and what is tolerated. `settle` in seconds."""

    name: str
    clients: tuple[str, ...]
    servers: tuple[str, ...]
    ports: tuple[int, ...] = ()
    nat: tuple[str, ...] = ()
    settle: float = 1.5
    rounds: int = 2
    allow: tuple[str, ...] = ()
    max: dict[str, int] = field(default_factory=dict)
    require_connections: int = 0


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that a run may reach and check. `trusted` is False for a file that merely lay in the working directory."""

    hosts: dict[str, Host] = field(default_factory=dict)
    checks: dict[str, CheckPlan] = field(default_factory=dict)
    source: Path | None = None
    trusted: bool = True


def find(named: str | None, variables: Mapping[str, str], folder: Path) -> tuple[Path | None, bool]:
    """The inventory to use and whether the user named or owns it: --inventory, $HALFOPEN_INVENTORY, ./, XDG."""
    explicit = named or variables.get("HALFOPEN_INVENTORY")
    if explicit:
        path = folder / Path(explicit).expanduser()
        if not path.is_file():
            raise UsageError(f"there is no inventory {path}", "halfopen config validate --inventory FILE")
        return path, True
    if (folder / "inventory.toml").is_file():
        return folder / "inventory.toml", False
    home = Path(variables.get("XDG_CONFIG_HOME") or Path(variables.get("HOME", "~")).expanduser() / ".config")
    own = home / "halfopen" / "inventory.toml"
    return (own, True) if own.is_file() else (None, True)


def read(named: str | None, variables: Mapping[str, str], folder: Path) -> Inventory:
    """The inventory that `find` finds, an empty one if there is none."""
    path, trusted = find(named, variables, folder)
    if path is None:
        return Inventory()
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    return replace(load(text, str(path)), source=path, trusted=trusted)


def load(text: str, name: str = "inventory.toml") -> Inventory:
    """TOML text -> Inventory. UsageError names file, line or key path, and what was expected."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: {error}", "a key or table may stand only once; strings take quotes") from error
    known(data, ("defaults", "hosts", "checks"), name, "")
    tables = {word: table(data.get(word, {}), name, word) for word in ("defaults", "hosts", "checks")}
    known(tables["defaults"], HOST_KEYS, name, "defaults")
    hosts = {one: load_host(one, given, tables["defaults"], name) for one, given in tables["hosts"].items()}
    both = sorted(set(hosts) & set(tables["checks"]))
    if both:
        raise UsageError(f"{name}: {both[0]!r} is both a host and a check", "rename one: commands could mean either")
    for host in hosts.values():
        check_jump(host, hosts, name)
    checks = {one: load_check(one, given, hosts, name) for one, given in tables["checks"].items()}
    return Inventory(hosts, checks)


def load_host(host: str, given: Any, defaults: Mapping[str, Any], name: str) -> Host:
    """One [hosts.NAME] over [defaults]."""
    path = f"hosts.{host}"
    own = table(given, name, path)
    known(own, HOST_KEYS, name, path)
    plain_name(host, name, path)
    values = {
        key: HOST_KEYS[key](value, name, f"{path}.{key}" if key in own else f"defaults.{key}")
        for key, value in {**defaults, **own}.items()
    }
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


def load_check(check: str, given: Any, hosts: Mapping[str, Host], name: str) -> CheckPlan:
    """One [checks.NAME], its selectors spelled out."""
    path = f"checks.{check}"
    own = table(given, name, path)
    known(own, CHECK_KEYS, name, path)
    plain_name(check, name, path)
    values = {key: CHECK_KEYS[key](value, name, f"{path}.{key}") for key, value in own.items()}
    for role in ("client", "server"):
        if role not in values:
            raise UsageError(f"{name}: {path}.{role} is missing", f'{role} = "NAME", a glob "web*", or "tag:web"')
        values[role + "s"] = select(values.pop(role), hosts, f"{name}: {path}.{role}")
    if "nat" in values:
        values["nat"] = select(values["nat"], hosts, f"{name}: {path}.nat")
    return CheckPlan(name=check, **values)


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
        raise UsageError(f"{name}: {path}: {value!r} is no name", "letters, digits, '.', '-' and '_'")


def text(value: Any, name: str, path: str) -> str:
    """A string with something in it and no control character."""
    if not isinstance(value, str) or not value or any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
        raise wrong(value, "a string", name, path)
    return value


def word(value: Any, name: str, path: str) -> str:
    """A host or user name, checked more strictly than ssh does."""
    found = text(value, name, path)
    if not re.fullmatch(r"[A-Za-z0-9_.:\[\]][A-Za-z0-9_.:\[\]@+-]*(%[A-Za-z0-9_.-]+)?", found):
        raise UsageError(f"{name}: {path}: {found!r} is no name", "letters, digits, '.', '-', '_' and ':'")
    return found.removeprefix("[").removesuffix("]")


def number(low: int, high: int) -> Callable[[Any, str, str], int]:
    """A whole number in a range; true and false are none."""

    def check(value: Any, name: str, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise wrong(value, f"a number from {low} to {high}", name, path)
        return value

    return check


def seconds(value: Any, name: str, path: str) -> float:
    """A duration."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not 0 <= value <= 3600
    ):
        raise wrong(value, "seconds from 0 to 3600", name, path)
    return float(value)


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


VERDICTS = tuple(verdict.value for verdict in Verdict)
ALLOWABLE = (*VERDICTS, *(reason.value for reason in Reason))
WAYS = ("auto", "paramiko", "openssh", "local", "exec")
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
    "settle": seconds,
    "rounds": number(1, 100),
    "allow": listed(choice(ALLOWABLE)),
    "max": limits,
    "require_connections": number(0, 10**9),
}
