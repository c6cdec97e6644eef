"""TOML -> Inventory: finds the file, decides how far it is trusted, reads hosts and checks.

Every error names the file and the key path. `inventory.example.toml` describes the format.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from halfopen.errors import UsageError
from halfopen.plan import ASK_LEVELS, SSH_TRANSPORTS, CheckPlan, Host, Inventory
from halfopen.schema.report import Reason, Verdict
from halfopen.userfiles import config_home, distrust, home_of, ssh_hosts
from halfopen.values import (
    Reader,
    choice,
    did_you_mean,
    flag,
    ip,
    known,
    known_word,
    limits,
    listed,
    number,
    seconds,
    table,
    text,
    word,
)


class Origin(Enum):
    """How a file came to be the inventory."""

    NAMED = "the user named it"
    FOUND = "it is in the working directory"
    OWN = "it is in the user's config folder"


class Doubt(Struct, frozen=True):
    """Why a file may be another person's ("an inventory that ..."), and the only hosts that its `jump` may name."""

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
        return folder / "inventory.toml", Origin.FOUND
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
    """Why a file may be another person's; None for one that the user named, whoever wrote it."""
    if origin is Origin.FOUND:
        return "merely lies in the working directory"
    return distrust(status) if origin is Origin.OWN else None


def with_paths(host: Host, folder: Path) -> Host:
    """The host with its files named from `folder` on; ~ is left to be the user's home."""

    def placed(name: str | None) -> str | None:
        return name if name is None or name.startswith("~") else str(folder / name)

    return replace(host, identity_file=placed(host.identity_file), known_hosts=placed(host.known_hosts))


def load(text: str, name: str = "inventory.toml", doubt: Doubt | None = None) -> Inventory:
    """TOML text -> Inventory. UsageError names file, line or key path, and what was expected.

    With a `doubt`, what an untrusted file may not set is refused, whether a run would use it or not.
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
    hosts = {host: load_host(host, given, defaults, doubt, name) for host, given in tables["hosts"].items()}
    both = sorted(set(hosts) & set(tables["checks"]))
    if both:
        raise UsageError(f"{name}: {both[0]!r} is both a host and a check", "rename one: commands could mean either")
    for host in hosts.values():
        check_jump(host, hosts, name)
    checks = {check: load_check(check, given, hosts, doubt, name) for check, given in tables["checks"].items()}
    return Inventory(hosts, checks)


def values_of(given: Any, readers: Mapping[str, Reader], doubt: Doubt | None, name: str, path: str) -> dict[str, Any]:
    """The keys of one table, read. UsageError for one that nobody reads, and for what an untrusted file may not set."""
    own = table(given, name, path)
    known(own, readers, name, path)
    values = {key: readers[key](value, name, f"{path}.{key}") for key, value in own.items()}
    if doubt:
        refuse_untrusted(values, doubt, name, path)
    return values


def refuse_untrusted(values: Mapping[str, Any], doubt: Doubt, name: str, path: str) -> None:
    """UsageError for a key, or its value, that is not taken from an untrusted file."""
    for key, value in values.items():
        if key not in UNTRUSTED or not UNTRUSTED[key](value, doubt):
            shown = f" = {value!r}" if key in UNTRUSTED else ""
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
    max_suspects: int | None = None,
) -> CheckPlan:
    """A check with the options of a command line or a program; None and empty values leave it as it is.

    `allow` and `max` (verdict -> how many are tolerated) add to those of the check. UsageError for a number that
    is out of range and for a name that no report has.
    """
    numbers = {
        "rounds": rounds,
        "settle": settle,
        "require_connections": require_connections,
        "max_suspects": max_suspects,
    }
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
        max_suspects=plan.max_suspects if max_suspects is None else max_suspects,
    )


def select(selectors: Sequence[str], hosts: Mapping[str, Host], where: str) -> tuple[str, ...]:
    """Names, globs and `tag:` words -> names of hosts, each once. UsageError for one that selects nothing."""
    found: list[str] = []
    for selector in selectors:
        if selector.startswith("tag:"):
            tags = {tag for host in hosts.values() for tag in host.tags}
            chosen = [host.name for host in hosts.values() if selector[4:] in host.tags]
            hint = did_you_mean(selector[4:], tags)
        else:
            glob = any(sign in selector for sign in "*?[")
            chosen = fnmatch.filter(hosts, selector) if glob else [selector] if selector in hosts else []
            hint = did_you_mean(selector, hosts)
        if not chosen:
            raise UsageError(f"{where}: {selector!r} selects no host", hint)
        found += chosen
    return tuple(dict.fromkeys(found))


def check_jump(host: Host, hosts: Mapping[str, Host], name: str, seen: tuple[str, ...] = ()) -> None:
    """Every chain of jump hosts must end. `seen`: those that led here."""
    if host.name in seen:
        raise UsageError(f"{name}: hosts.{seen[0]}.jump leads in a circle: {' -> '.join([*seen, host.name])}")
    for jump in host.jump.split(",") if host.jump else []:
        if jump.strip() in hosts:
            check_jump(hosts[jump.strip()], hosts, name, (*seen, host.name))


def plain_name(value: str, name: str, path: str) -> None:
    """Names of hosts and checks become words of the command line and of reports."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*", value) or (value == "local" and path.startswith("checks")):
        raise UsageError(f"{name}: {path}: {value!r} is not a valid name", "letters, digits, '.', '-' and '_'")


MOST_BYTES = 16 << 20
VERDICTS = tuple(verdict.value for verdict in Verdict)
ALLOWABLE = (*VERDICTS, *(reason.value for reason in Reason))
TRANSPORTS = (*SSH_TRANSPORTS, "local", "exec")
PORT = number(1, 65535)

HOST_KEYS: dict[str, Reader] = {
    "address": word,
    "port": PORT,
    "user": word,
    "identity_file": text,
    "known_hosts": text,
    "jump": text,
    "transport": choice(TRANSPORTS),
    "sudo": flag,
    "python": text,
    "command": listed(text),
    "addresses": listed(ip),
    "tags": listed(text),
}
CHECK_KEYS: dict[str, Reader] = {
    "client": listed(text, single=True),
    "server": listed(text, single=True),
    "ports": listed(PORT),
    "nat": listed(text, single=True),
    "direct": flag,
    "settle": seconds(3600),
    "rounds": number(1, 100),
    "allow": listed(choice(ALLOWABLE)),
    "max": limits(VERDICTS, 10**9),
    "require_connections": number(0, 10**9),
    "ask": choice(ASK_LEVELS),
}

ADJUSTABLE: dict[str, Reader] = {
    "rounds": number(1, 10**9),
    "settle": seconds(86400),
    "require_connections": number(0, 10**9),
    "max_suspects": number(1, 10**9),
}
"""What a command line or a program may say beside the inventory, in wider ranges."""


def anything(_: Any, __: Doubt) -> bool:
    """Nothing that this key can hold starts a program with the user's rights, or says whom to trust."""
    return True


UNTRUSTED: dict[str, Callable[[Any, Doubt], bool]] = {
    **dict.fromkeys(("address", "port", "user", "tags", "addresses"), anything),
    "transport": lambda transport, _: transport in SSH_TRANSPORTS,
    "jump": lambda hosts, doubt: all(jump.strip() in doubt.jumps for jump in hosts.split(",")),
    **dict.fromkeys(
        ("client", "server", "ports", "nat", "rounds", "settle", "allow", "max", "require_connections"), anything
    ),
}
"""What an untrusted file may set, and which values. A key that is not here is refused, a new one too."""
