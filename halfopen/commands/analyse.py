"""`halfopen analyse`: the same report from saved evidence or pasted text, without a network."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from halfopen import address
from halfopen.commands.check import adjusted
from halfopen.commands.deliver import outlets
from halfopen.commands.exhibits import Exhibit, exhibits, how_compared, judge_moments, snapshot_file
from halfopen.environment import Environment
from halfopen.evidence.saved import Saved, run_of, snapshot_of, unpack_counts, unpack_sights
from halfopen.findings import Check, Severity
from halfopen.inventory import CheckPlan
from halfopen.inventory import read as read_inventory
from halfopen.judge.analyse import Policy, analyse, notes_of, report_of
from halfopen.judge.case import HostEvidence
from halfopen.judge.join import conclude, ground_of, join
from halfopen.judge.match import Matching
from halfopen.judge.moments import Moment, brackets
from halfopen.judge.rounds import Bracket, through
from halfopen.judge.standing import Evidence, involved
from halfopen.judge.wide import WIDE_LIMIT, widened
from halfopen.model import Snapshot
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
    parser.add_argument("--nat", metavar="FILE", action="append", default=[], help="of a host that translates between")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """The report that the run gave from which the files came, or what the texts allow to be said."""
    out = outlets(args, environment)
    clients, servers = exhibits(args.files, args.client, args.server, environment)
    policy = Policy(None if args.fail_on == "never" else Severity(args.fail_on))
    files = [*clients, *servers]
    saved = {one.saved.host: one.saved for one in files if one.saved is not None}
    origin = None if args.client or args.server else run_of([one.saved for one in files])
    if origin is not None:
        plans = [adjusted(plan, args) for plan in origin.checks]
        checks = [judge(of_check(plan, saved), plan, policy, origin.elapsed_s) for plan in plans]
        report = report_of(checks, moment(origin.started_at), moment(origin.finished_at))
        return out.deliver(report, report.exit_code)
    plan = adjusted(plan_of(clients, servers), args)
    if len(saved) == len({id(one) for one in files}):
        nat = [snapshot_file(name, environment) for name in args.nat]
        plan = replace(plan, nat=tuple(one.host for one in nat))
        check = judge({**saved, **{one.host: one for one in nat}}, plan, policy)
    else:
        inventory = read_inventory(args.inventory, environment.variables, environment.folder)
        check = judge_moments(files, plan, policy, {name: one.addresses for name, one in inventory.hosts.items()})
    now = datetime.now(UTC)
    report = report_of([check], now, now)
    return out.deliver(report, report.exit_code)


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


def joined(files: Mapping[str, Saved], plan: CheckPlan) -> tuple[dict[str, Snapshot], Matching]:
    """The first look at each host, and what it shows with the byte counters that were saved beside it."""
    snapshots = {name: snapshot_of(one) for name, one in files.items()}
    extra = {name: [address.parse(text) for text in one.addresses] for name, one in files.items()}
    counts = {place: blocks for one in files.values() for place, blocks in unpack_counts(one).items()}
    found = join(plan, snapshots, extra, None if counts else WIDE_LIMIT)
    found = widened(ground_of(plan, snapshots, extra), found, counts)
    return snapshots, conclude(plan, snapshots, extra, found)


def judge(saved: dict[str, Saved], plan: CheckPlan, policy: Policy, elapsed_s: float | None = None) -> Check:
    """The judgement over what the files hold, as the run did it that they come from."""
    snapshots, matching = joined(saved, plan)
    moments = {} if brackets_of(saved) else moments_of(saved)
    looks = brackets_of(saved) or brackets(moments, matching.suspects)
    suspects, used = through(matching.suspects, looks[: plan.rounds])
    asked = involved(suspects)
    hosts = {
        name: HostEvidence(name, one.facts, one.before, one.after, one.sysctls, one.owners)
        for name, one in saved.items()
        if name in asked
    }
    left = replace(matching, suspects=tuple(suspects))
    notes = notes_of(plan, snapshots, [(name, note) for name, one in saved.items() for note in one.notes])
    if moments and matching.suspects:
        notes = (how_compared(len(looks)), *notes)
    return analyse(plan, Evidence(snapshots, left, used, hosts, notes, elapsed_s), policy)


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


def moments_of(saved: dict[str, Saved]) -> dict[str, list[Moment]]:
    """The tables of files without looks. More than one of a host are moments only where one run took them all."""
    together = len({one.run.id if one.run else name for name, one in saved.items()}) == 1
    found = {}
    for name, one in saved.items():
        first = snapshot_of(one)
        later = [replace(first, namespaces=spaces) for spaces in one.later] if together else []
        found[name] = [Moment(one, {}) for one in (first, *later)]
    return found
