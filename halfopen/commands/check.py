"""`halfopen check`: the main job."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from halfopen.api import known_in, policy_of
from halfopen.commands.deliver import baseline, outlets, save
from halfopen.environment import Environment
from halfopen.errors import Exit
from halfopen.files import prepare_folder
from halfopen.inventory import adjusted, read
from halfopen.options import JUDGE, OUTPUT, REACH, REPORT_HELPS, add_options, adjustments, host_options
from halfopen.plan import CheckPlan, Inventory
from halfopen.report.escape import terminal
from halfopen.run.targets import choose

if TYPE_CHECKING:
    from halfopen.run.live import CheckRun


def arguments(parser: argparse.ArgumentParser) -> None:
    """CLIENT SERVER, or names of checks, and the common options."""
    run = ("--port", "--rounds", "--settle", "--forks", "--deep", "--ask", "--save", "--retry-for")
    add_options(parser, *REACH, *run, *JUDGE, *OUTPUT, helps=REPORT_HELPS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="CLIENT SERVER, or checks of the inventory; none: all")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """One run over a pair of hosts or over checks, or several until it is clean; the exit code of the last report."""
    out = outlets(args, environment)
    known = known_in(baseline(args, environment))
    inventory = read(args.inventory, environment.variables, environment.folder)
    inventory, plans = choose(args.names, inventory)
    plans = [adjusted(plan, settle=args.settle, ask=args.ask, **adjustments(args)) for plan in plans]
    until = time.monotonic() + args.retry_for
    while True:
        checked = once(args, environment, inventory, plans)
        # Imported by now, while the hosts answered.
        from halfopen.run.live import report_of_run

        report = report_of_run(checked, policy_of(args.fail_on, known))
        if report.exit_code == Exit.CLEAN or (left := until - time.monotonic()) <= 0:
            break
        for check in report.checks:
            if check.exit_code != Exit.CLEAN:
                print(terminal(f"halfopen: {check.headline} (trying again)"), file=environment.stderr)
        time.sleep(min(RETRY_EVERY, left))
    code = report.exit_code
    try:
        code = out.deliver(report, code)
    finally:  # evidence cannot be taken again, so it is saved even where stdout has failed
        if args.save:
            from halfopen.run.save import saved

            code = save(environment.folder / args.save, saved(checked), code, environment)
    return code


def once(
    args: argparse.Namespace, environment: Environment, inventory: Inventory, plans: Sequence[CheckPlan]
) -> CheckRun:
    """One run on sessions of its own: a host that was rebooted meanwhile is reached anew."""
    from halfopen.run.fleet import Fleet

    with Fleet(inventory, plans, host_options(args, environment.interactive), environment.say) as hosts:
        if args.save:
            prepare_folder(environment.folder / args.save, hosts.ports)
        hosts.begin()
        # Imported while the hosts answer: the import takes as long as it takes to reach a host.
        from halfopen.run.live import run_checks

        return run_checks(hosts, args.deep)


RETRY_EVERY = 2.0  # seconds between the end of a try and the next
