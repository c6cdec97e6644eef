"""What `import halfopen` offers to programs: the report of a check, of files, or one that was saved.

Nothing here prints, asks or ends the process. A host that could not be read is a value in the report (`error`), and the
report's `outcome` is "incomplete"; whatever else is wrong is raised as a HalfopenError with a message and a hint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec.structs import replace

from halfopen.errors import HalfopenError, UsageError
from halfopen.inventory import adjusted, read
from halfopen.plan import FAIL_ON, HOST_KEY_RULES, SSH_TRANSPORTS, CheckPlan, Inventory
from halfopen.schema.report import SCHEMA, Report, Severity
from halfopen.values import known_word, number, seconds

if TYPE_CHECKING:
    from halfopen.evidence.saved import Saved
    from halfopen.judge.assembly.policy import Policy
    from halfopen.run.exhibits import ReadBytes
    from halfopen.run.pasted import Exhibit

__all__ = ("HalfopenError", "Report", "UsageError", "analyse", "check", "load")

FileName: TypeAlias = "str | os.PathLike[str]"


def check(
    client: str,
    server: str,
    *,
    ports: Sequence[int] = (),
    inventory: FileName | None = None,
    rounds: int | None = None,
    settle: float | None = None,
    deep: bool = False,
    ask: str | None = None,
    fail_on: str = "critical",
    allow: Sequence[str] = (),
    max: Mapping[str, int] | None = None,
    require_connections: int | None = None,
    max_suspects: int | None = None,
    baseline: FileName | None = None,
    connect_timeout: float = 10.0,
    timeout: float = 120.0,
    forks: int = 16,
    jump: str | None = None,
    transport: str | None = None,
    host_keys: str = "strict",
) -> Report:
    """Compares the two ends of every connection between hosts, as `halfopen check CLIENT SERVER` does.

    `client` and `server`: a name, a glob or a tag of the inventory, `[user@]host[:port]`, or `local`. `inventory`: its
    file; None: the one that the command would find. Durations are in seconds. The other arguments are the command's
    options. UsageError for a wrong argument or inventory.
    """
    from halfopen.run.fleet import Fleet, Options
    from halfopen.run.live import report_of_run, run_checks
    from halfopen.run.targets import pair

    policy = policy_of(fail_on, known_in(baseline))
    known_word(host_keys, HOST_KEY_RULES, "host_keys")
    if transport is not None:
        known_word(transport, SSH_TRANSPORTS, "transport")
    options = Options(
        connect_timeout=seconds(86400)(connect_timeout, "check", "connect_timeout"),
        timeout=seconds(86400)(timeout, "check", "timeout"),
        forks=number(1, 10**9)(forks, "check", "forks"),
        host_keys=host_keys,
        jump=jump,
        transport=transport,
    )
    reachable, plan = pair(client, server, inventory_of(inventory))
    plan = adjusted(
        plan,
        ports=ports,
        rounds=rounds,
        settle=settle,
        allow=allow,
        max=max,
        require_connections=require_connections,
        max_suspects=max_suspects,
        ask=ask,
    )
    with Fleet(reachable, [plan], options) as hosts:
        return report_of_run(run_checks(hosts, deep), policy)


def analyse(
    *files: FileName,
    client: FileName | Sequence[FileName] = (),
    server: FileName | Sequence[FileName] = (),
    nat: FileName | Sequence[FileName] = (),
    inventory: FileName | None = None,
    ports: Sequence[int] = (),
    rounds: int | None = None,
    fail_on: str = "critical",
    allow: Sequence[str] = (),
    max: Mapping[str, int] | None = None,
    require_connections: int | None = None,
    max_suspects: int | None = None,
    baseline: FileName | None = None,
) -> Report:
    """The report from saved evidence, as `halfopen analyse` gives it: snapshots, or text of ss, netstat, lsof or /proc.

    `files`: the client's, then the server's; or `client` and `server` name them. `nat`: snapshots of NAT gateways
    between the two. `inventory`: as for `check`; it is read only for the addresses of hosts whose text is given.
    UsageError for a file that cannot be read or understood, with its name and the place.
    """
    return report_of_files(
        names_of(files),
        names_of(client),
        names_of(server),
        names_of(nat),
        read_bytes=lambda name: Path(name).read_bytes(),
        inventory=lambda: inventory_of(inventory),
        policy=policy_of(fail_on, known_in(baseline)),
        ports=ports,
        rounds=rounds,
        allow=allow,
        max=max,
        require_connections=require_connections,
        max_suspects=max_suspects,
    )


def load(file: FileName) -> Report:
    """A JSON report that was saved (`-o report.json`). Fields that are newer than this version are left out.

    UsageError, with the file and the place in it, where it is not a report of this version of the schema.
    """
    name = os.fspath(file)
    try:
        data = json.loads(Path(name).read_bytes())
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise UsageError(f"{name} is not a valid JSON report: {error}", "halfopen check ... -o report.json") from error
    said = data.get("schema") if isinstance(data, dict) else None
    if said != SCHEMA:
        raise UsageError(f"{name}: its schema is {said!r}, and this halfopen reads {SCHEMA!r}", "halfopen check --json")
    try:
        return msgspec.convert(data, Report)
    except msgspec.ValidationError as error:
        raise UsageError(f"{name} is not a valid report: {error}", "halfopen schema report") from error


def report_of_files(
    files: Sequence[str],
    clients: Sequence[str],
    servers: Sequence[str],
    nat: Sequence[str],
    *,
    read_bytes: ReadBytes,
    inventory: Callable[[], Inventory],
    policy: Policy,
    **adjustments: Any,
) -> Report:
    """What `analyse` gives, for a caller that says how files and the inventory are read.

    `adjustments`: as `inventory.adjusted` takes them.
    """
    from halfopen.evidence.saved import run_of
    from halfopen.judge.assembly.check import report_of
    from halfopen.run.exhibits import exhibits, snapshot_file
    from halfopen.run.pasted import judge_texts
    from halfopen.run.replay import judge_saved

    client_files, server_files = exhibits(files, clients, servers, read_bytes)
    given = [*client_files, *server_files]
    saved = {exhibit.saved.host: exhibit.saved for exhibit in given if exhibit.saved is not None}
    origin = None if clients or servers else run_of([exhibit.saved for exhibit in given])
    if origin is not None:
        plans = [adjusted(plan, **adjustments) for plan in origin.checks]
        checks = [judge_saved(of_check(plan, saved), plan, policy, origin.elapsed_s) for plan in plans]
        return report_of(checks, moment(origin.started_at), moment(origin.finished_at))
    plan = adjusted(plan_of(client_files, server_files), **adjustments)
    if len(saved) == len({id(exhibit) for exhibit in given}):
        gateways = [snapshot_file(name, read_bytes) for name in nat]
        plan = replace(plan, nat=tuple(gateway.host for gateway in gateways))
        found = judge_saved({**saved, **{gateway.host: gateway for gateway in gateways}}, plan, policy)
    else:
        addresses = {name: host.addresses for name, host in inventory().hosts.items()}
        found = judge_texts(given, plan, policy, addresses)
    now = datetime.now(UTC)
    return report_of([found], now, now)


def plan_of(clients: Sequence[Exhibit], servers: Sequence[Exhibit]) -> CheckPlan:
    """The pair, or fleet, of the files; its ports are those that the dumps were limited to."""
    spaces = [space for exhibit in (*clients, *servers) for space in exhibit.snapshot.namespaces]
    ports = set.intersection(*(set(space.covered_ports) for space in spaces)) if spaces else set()
    names = [tuple(dict.fromkeys(exhibit.host for exhibit in side)) for side in (clients, servers)]
    return CheckPlan(f"{names[0][0]} -> {names[1][0]}", names[0], names[1], tuple(sorted(ports)), rounds=100)


def of_check(plan: CheckPlan, saved: Mapping[str, Saved]) -> dict[str, Saved]:
    """The files of one check's hosts, in the order that the run looked at them."""
    return {name: saved[name] for name in (*plan.clients, *plan.servers, *plan.nat) if name in saved}


def moment(text: str) -> datetime:
    """A time as reports write it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def policy_of(fail_on: str, known: frozenset[str] = frozenset()) -> Policy:
    """A severity, or "never" -> what makes a run fail. known: as `known_in`. UsageError for another word."""
    from halfopen.judge.assembly.policy import Policy

    known_word(fail_on, FAIL_ON, "fail_on")
    return Policy(None if fail_on == "never" else Severity(fail_on), known)


def known_in(baseline: FileName | None) -> frozenset[str]:
    """The `id` of each finding of a JSON report; none without a file. UsageError as of `load`."""
    checks = load(baseline).checks if baseline is not None else ()
    return frozenset(found.id for check in checks for found in check.findings)


def inventory_of(file: FileName | None) -> Inventory:
    """The inventory in a file, or the one that the command would find."""
    return read(None if file is None else os.fspath(file), os.environ, Path.cwd())


def names_of(files: FileName | Iterable[FileName]) -> list[str]:
    """One file or several -> their names."""
    return [os.fspath(files)] if isinstance(files, str | os.PathLike) else [os.fspath(file) for file in files]
