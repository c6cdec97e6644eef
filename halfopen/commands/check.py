"""`halfopen check`: the main job."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from halfopen.commands.deliver import outlets, save
from halfopen.environment import Environment
from halfopen.errors import UsageError
from halfopen.files import prepare_folder
from halfopen.findings import Severity
from halfopen.inventory import ALLOWABLE, VERDICTS, CheckPlan, Host, Inventory, did_you_mean, read, select
from halfopen.options import add_common, host_options
from halfopen.reach.settings import split_target


def arguments(parser: argparse.ArgumentParser) -> None:
    """CLIENT SERVER, or names of checks, and the common options."""
    add_common(parser)
    parser.add_argument(
        "--save", metavar="DIR", help="save each host's evidence there, for halfopen analyse; nothing is overwritten"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="CLIENT SERVER, or checks of the inventory; none: all")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """One run over a pair of hosts or over checks; the exit code of its report."""
    from halfopen.hosts import Hosts

    out = outlets(args, environment)
    inventory = read(args.inventory, environment.variables, environment.folder)
    inventory, plans = choose(args.names, inventory)
    plans = [adjusted(plan, args) for plan in plans]
    with Hosts(inventory, plans, host_options(args, environment.interactive), environment.say) as hosts:
        if args.save:
            prepare_folder(environment.folder / args.save, hosts.ports)
        hosts.begin()
        # While they answer, because the judgement takes as long to import as a host takes to be reached.
        from halfopen.judge.analyse import Policy
        from halfopen.run.live import report_of_run, run_checks

        checked = run_checks(hosts, args.deep)
    report = report_of_run(checked, Policy(None if args.fail_on == "never" else Severity(args.fail_on)))
    code = report.exit_code
    try:
        code = out.deliver(report, code)
    finally:  # evidence is taken once, so it is kept where stdout has failed too
        if args.save:
            from halfopen.archive import saved

            code = save(environment.folder / args.save, saved(checked), code, environment)
    return code


def choose(names: list[str], inventory: Inventory) -> tuple[Inventory, list[CheckPlan]]:
    """Arguments -> the checks to run. Two hosts are a pair; names of checks are those; nothing is all of them."""
    if not names:
        if not inventory.checks:
            raise UsageError(
                "there is nothing to check", "halfopen check CLIENT SERVER, or write [checks.NAME] in inventory.toml"
            )
        return inventory, list(inventory.checks.values())
    wanted = [name for name in names if name in inventory.checks]
    if len(wanted) == len(names):
        return inventory, [inventory.checks[name] for name in names]
    if wanted:
        other = next(name for name in names if name not in inventory.checks)
        raise UsageError(f"{wanted[0]!r} is a check and {other!r} is none", did_you_mean(other, inventory.checks))
    if len(names) != 2:
        raise UsageError(
            f"{names[0]!r} is no check, and a pair of hosts is two names, not {len(names)}",
            did_you_mean(names[0], [*inventory.checks, *inventory.hosts]) or "halfopen check CLIENT SERVER",
        )
    sides = [hosts_named(name, inventory) for name in names]
    hosts = {**inventory.hosts, **{host.name: host for side in sides for host in side}}
    clients, servers = (tuple(host.name for host in side) for side in sides)
    return replace(inventory, hosts=hosts), [CheckPlan(f"{names[0]} -> {names[1]}", clients, servers)]


def hosts_named(word: str, inventory: Inventory) -> list[Host]:
    """A word of the command line -> the hosts it means: a glob or a tag of the inventory, or one host."""
    if word.startswith("tag:") or "*" in word or "?" in word:
        return [inventory.hosts[name] for name in select([word], inventory.hosts, "the inventory")]
    return [host_of(word, inventory)]


def host_of(name: str, inventory: Inventory) -> Host:
    """A word of the command line -> the host it means: a name of the inventory, `local`, or [user@]host[:port]."""
    if name in inventory.hosts:
        return inventory.hosts[name]
    if name == "local":
        return Host("local", "local", transport="local")
    user, address, port = split_target(name)
    return Host(name, address, port, user)


def adjusted(plan: CheckPlan, args: argparse.Namespace) -> CheckPlan:
    """A check with what the options say of it."""
    most = dict(plan.max)
    for text in args.max:
        verdict, equals, count = text.partition("=")
        if not equals or not count.isascii() or not count.isdigit():
            raise UsageError(f"--max {text!r} is not VERDICT=N", "for example --max never-accepted=10")
        most[one_of(VERDICTS, verdict, "--max")] = int(count)
    allow = (*plan.allow, *(one_of(ALLOWABLE, one, "--allow") for one in args.allow))
    return replace(
        plan,
        ports=tuple(dict.fromkeys(args.port)) or plan.ports,
        rounds=args.rounds or plan.rounds,
        settle=plan.settle if args.settle is None else args.settle,
        allow=allow,
        max=most,
        require_connections=plan.require_connections if args.require_connections is None else args.require_connections,
    )


def one_of(known: Sequence[str], text: str, option: str) -> str:
    """A verdict by its name, or where `known` has them a reason why connections are not judged."""
    if text not in known:
        what = "verdict" if known is VERDICTS else "verdict, and no reason of a connection that is not judged"
        raise UsageError(f"{option}: {text!r} is no {what}", did_you_mean(text, known))
    return text
