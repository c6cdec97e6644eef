"""`halfopen analyse`: the same report from saved evidence or pasted text, without a network."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import UTC, datetime

from halfopen.commands.check import adjusted
from halfopen.commands.deliver import outlets
from halfopen.commands.exhibits import exhibits, snapshot_file
from halfopen.environment import Environment
from halfopen.evidence.saved import Saved, run_of
from halfopen.findings import Report, Severity
from halfopen.inventory import CheckPlan
from halfopen.inventory import read as read_inventory
from halfopen.judge.analyse import Policy, report_of
from halfopen.options import add_common
from halfopen.run.pasted import Exhibit, judge_texts
from halfopen.run.replay import judge_saved


def arguments(parser: argparse.ArgumentParser) -> None:
    """FILE..., and which of them is the client's and the server's."""
    add_common(parser)
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="the client's, then the server's: snapshots, or text of ss, netstat, lsof or /proc/net/tcp; - is stdin",
    )
    role = "of a client; two of one host are two moments of it"
    parser.add_argument("--client", metavar="FILE", action="append", default=[], help=role)
    parser.add_argument("--server", metavar="FILE", action="append", default=[], help=role.replace("client", "server"))
    parser.add_argument("--nat", metavar="FILE", action="append", default=[], help="of a host that translates between")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """The report of the files; its exit code."""
    out = outlets(args, environment)
    report = judged(args, environment)
    return out.deliver(report, report.exit_code)


def judged(args: argparse.Namespace, environment: Environment) -> Report:
    """The report that the run gave from which the files came, or what the texts allow to be said."""
    clients, servers = exhibits(args.files, args.client, args.server, environment)
    policy = Policy(None if args.fail_on == "never" else Severity(args.fail_on))
    files = [*clients, *servers]
    saved = {one.saved.host: one.saved for one in files if one.saved is not None}
    origin = None if args.client or args.server else run_of([one.saved for one in files])
    if origin is not None:
        plans = [adjusted(plan, args) for plan in origin.checks]
        checks = [judge_saved(of_check(plan, saved), plan, policy, origin.elapsed_s) for plan in plans]
        return report_of(checks, moment(origin.started_at), moment(origin.finished_at))
    plan = adjusted(plan_of(clients, servers), args)
    if len(saved) == len({id(one) for one in files}):
        nat = [snapshot_file(name, environment) for name in args.nat]
        plan = replace(plan, nat=tuple(one.host for one in nat))
        check = judge_saved({**saved, **{one.host: one for one in nat}}, plan, policy)
    else:
        inventory = read_inventory(args.inventory, environment.variables, environment.folder)
        check = judge_texts(files, plan, policy, {name: one.addresses for name, one in inventory.hosts.items()})
    now = datetime.now(UTC)
    return report_of([check], now, now)


def plan_of(clients: list[Exhibit], servers: list[Exhibit]) -> CheckPlan:
    """The pair, or fleet, of the files; its ports are those that the dumps were limited to."""
    spaces = [space for one in (*clients, *servers) for space in one.snapshot.namespaces]
    ports = set.intersection(*(set(space.covered_ports) for space in spaces)) if spaces else set()
    names = [tuple(dict.fromkeys(one.host for one in side)) for side in (clients, servers)]
    return CheckPlan(f"{names[0][0]} -> {names[1][0]}", names[0], names[1], tuple(sorted(ports)), rounds=100)


def of_check(plan: CheckPlan, saved: dict[str, Saved]) -> dict[str, Saved]:
    """The files of one check's hosts, in the order that the run looked at them."""
    return {name: saved[name] for name in (*plan.clients, *plan.servers, *plan.nat) if name in saved}


def moment(text: str) -> datetime:
    """A time as reports write it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
