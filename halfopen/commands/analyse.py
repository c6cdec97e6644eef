"""`halfopen analyse`: the same report from saved evidence or pasted text, without a network."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from halfopen import address
from halfopen.commands.check import adjusted
from halfopen.commands.deliver import check_formats, deliver
from halfopen.commands.exhibits import Exhibit, exhibits, how_compared, judge_moments
from halfopen.environment import Environment
from halfopen.evidence.saved import Saved, snapshot_of, unpack_sights
from halfopen.findings import Check, Severity
from halfopen.inventory import CheckPlan
from halfopen.inventory import read as read_inventory
from halfopen.judge.analyse import Evidence, Policy, analyse, report_of
from halfopen.judge.case import HostEvidence
from halfopen.judge.match import match, survey
from halfopen.judge.moments import Moment, brackets
from halfopen.judge.rounds import Bracket, through
from halfopen.options import add_common


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


def run(args: argparse.Namespace, environment: Environment) -> int:
    """The report that the run gave from which the files came, or what the texts allow to be said."""
    check_formats(args)
    clients, servers = exhibits(args.files, args.client, args.server, environment)
    policy = Policy(None if args.fail_on == "never" else Severity(args.fail_on))
    files = [*clients, *servers]
    saved = {one.saved.host: one.saved for one in files if one.saved is not None}
    plan = adjusted(plan_of(clients, servers), args)
    if len(saved) == len({id(one) for one in files}):
        check = judge(saved, plan, policy)
    else:
        inventory = read_inventory(args.inventory, environment.variables, environment.folder)
        check = judge_moments(files, plan, policy, {name: one.addresses for name, one in inventory.hosts.items()})
    now = datetime.now(UTC)
    return deliver(report_of([check], now, now), args, environment)


def plan_of(clients: list[Exhibit], servers: list[Exhibit]) -> CheckPlan:
    """The pair, or fleet, of the files; its ports are those that the dumps were limited to."""
    spaces = [space for one in (*clients, *servers) for space in one.snapshot.namespaces]
    ports = set.intersection(*(set(space.covered_ports) for space in spaces)) if spaces else set()
    names = [tuple(dict.fromkeys(one.host for one in side)) for side in (clients, servers)]
    return CheckPlan(f"{names[0][0]} -> {names[1][0]}", names[0], names[1], tuple(sorted(ports)), rounds=100)


def judge(saved: dict[str, Saved], plan: CheckPlan, policy: Policy) -> Check:
    """The judgement over what the files hold."""
    snapshots = {name: snapshot_of(one) for name, one in saved.items()}
    extra = {name: [address.parse(text) for text in one.addresses] for name, one in saved.items()}
    matching = match(survey(list(snapshots.values()), plan.clients, plan.servers, plan.ports, extra))
    # A file without looks has its table alone, which is one moment.
    looks = brackets_of(saved) or brackets(
        {name: [Moment(one, {})] for name, one in snapshots.items()}, matching.suspects
    )
    suspects, used = through(matching.suspects, looks)
    hosts = {}
    if matching.suspects and suspects:
        hosts = {
            name: HostEvidence(name, one.facts, one.before, one.after, one.sysctls, one.owners)
            for name, one in saved.items()
        }
    left = type(matching)(matching.agreeing, tuple(suspects), matching.external, matching.unjudged)
    gaps = [f"{name}: {gap}" for name, one in saved.items() if one.facts for gap in one.facts.gaps]
    if matching.suspects and not brackets_of(saved):
        gaps.insert(0, how_compared(1))
    return analyse(plan, Evidence(snapshots, left, used, hosts, gaps), policy)


def brackets_of(saved: dict[str, Saved]) -> list[Bracket]:
    """The brackets of the run: each look of all hosts together."""
    number = max((len(one.looks) for one in saved.values()), default=0)
    errors = {name: error for name, one in saved.items() if (error := snapshot_of(one).error)}
    brackets = []
    for at in range(number):
        looks = [
            {
                where: sight
                for name, one in saved.items()
                if at < len(one.looks)
                for where, sight in unpack_sights(name, one.looks[at][position]).items()
            }
            for position in range(3)
        ]
        brackets.append(Bracket(looks[0], looks[1], looks[2], errors))
    return brackets
