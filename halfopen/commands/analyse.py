"""`halfopen analyse`: the same report from saved evidence, without a network."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

from halfopen import address
from halfopen.commands.check import adjusted
from halfopen.commands.deliver import deliver
from halfopen.environment import Environment
from halfopen.errors import UsageError
from halfopen.evidence.saved import Saved, check_schema, decode, snapshot_of, unpack_sights
from halfopen.findings import Check, Severity
from halfopen.inventory import CheckPlan
from halfopen.judge.analyse import Evidence, Policy, analyse, report_of
from halfopen.judge.case import HostEvidence
from halfopen.judge.match import match, survey
from halfopen.judge.rounds import Bracket, through
from halfopen.options import add_common


def arguments(parser: argparse.ArgumentParser) -> None:
    """FILE..., and which of them is the client's and the server's."""
    add_common(parser)
    parser.add_argument("files", nargs="*", metavar="FILE", help="the client's, then the server's")
    parser.add_argument("--client", metavar="FILE", action="append", default=[], help="one of several clients")
    parser.add_argument("--server", metavar="FILE", action="append", default=[], help="one of several servers")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """The report that the run gave from which the files came."""
    roles = (args.client or args.files[:1], args.server or args.files[1:] or args.files[:1])
    if not roles[0] or not roles[1]:
        raise UsageError("name the client's file and the server's", "halfopen analyse CLIENT.halfopen SERVER.halfopen")
    clients, servers = ([read(name, environment) for name in names] for names in roles)
    plan = adjusted(plan_of(clients, servers), args)
    policy = Policy(None if args.fail_on == "never" else Severity(args.fail_on))
    check = judge({one.host: one for one in (*clients, *servers)}, plan, policy)
    now = datetime.now(UTC)
    return deliver(report_of([check], now, now), args, environment)


def read(name: str, environment: Environment) -> Saved:
    """One file."""
    path = environment.folder / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from error
    return check_schema(decode(data, name), name)


def plan_of(clients: Sequence[Saved], servers: Sequence[Saved]) -> CheckPlan:
    """The pair, or fleet, of the files; its ports are those that the dumps were limited to."""
    spaces = [space for one in (*clients, *servers) for space in one.namespaces]
    ports = set.intersection(*(set(space.covered_ports) for space in spaces)) if spaces else set()
    names = [tuple(one.host for one in side) for side in (clients, servers)]
    return CheckPlan(f"{names[0][0]} -> {names[1][0]}", names[0], names[1], tuple(sorted(ports)), rounds=100)


def judge(saved: dict[str, Saved], plan: CheckPlan, policy: Policy) -> Check:
    """The judgement over what the files hold."""
    snapshots = {name: snapshot_of(one) for name, one in saved.items()}
    extra = {name: [address.parse(text) for text in one.addresses] for name, one in saved.items()}
    matching = match(survey(list(snapshots.values()), plan.clients, plan.servers, plan.ports, extra))
    suspects, used = through(matching.suspects, brackets_of(saved))
    hosts = {}
    if matching.suspects and suspects:
        hosts = {
            name: HostEvidence(name, one.facts, one.before, one.after, one.sysctls, one.owners)
            for name, one in saved.items()
        }
    left = type(matching)(matching.agreeing, tuple(suspects), matching.external, matching.unjudged)
    gaps = [f"{name}: {gap}" for name, one in saved.items() if one.facts for gap in one.facts.gaps]
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
