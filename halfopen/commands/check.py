"""`halfopen check`: the main job."""

from __future__ import annotations

import argparse

from halfopen.api import policy_of
from halfopen.commands.deliver import outlets, save
from halfopen.environment import Environment
from halfopen.files import prepare_folder
from halfopen.inventory import adjusted, read
from halfopen.options import JUDGE, OUTPUT, REACH, REPORT_HELPS, add_options, adjustments, host_options
from halfopen.run.targets import choose


def arguments(parser: argparse.ArgumentParser) -> None:
    """CLIENT SERVER, or names of checks, and the common options."""
    run = ("--port", "--rounds", "--settle", "--forks", "--deep", "--ask", "--save")
    add_options(parser, *REACH, *run, *JUDGE, *OUTPUT, helps=REPORT_HELPS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="CLIENT SERVER, or checks of the inventory; none: all")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """One run over a pair of hosts or over checks; the exit code of its report."""
    from halfopen.run.fleet import Fleet

    out = outlets(args, environment)
    inventory = read(args.inventory, environment.variables, environment.folder)
    inventory, plans = choose(args.names, inventory)
    plans = [adjusted(plan, settle=args.settle, ask=args.ask, **adjustments(args)) for plan in plans]
    with Fleet(inventory, plans, host_options(args, environment.interactive), environment.say) as hosts:
        if args.save:
            prepare_folder(environment.folder / args.save, hosts.ports)
        hosts.begin()
        # Imported while the hosts answer: the import takes as long as it takes to reach a host.
        from halfopen.run.live import report_of_run, run_checks

        checked = run_checks(hosts, args.deep)
    report = report_of_run(checked, policy_of(args.fail_on))
    code = report.exit_code
    try:
        code = out.deliver(report, code)
    finally:  # evidence cannot be taken again, so it is saved even where stdout has failed
        if args.save:
            from halfopen.run.save import saved

            code = save(environment.folder / args.save, saved(checked), code, environment)
    return code
