"""`halfopen config show` and `config validate`."""

from __future__ import annotations

import argparse
import json

from msgspec import to_builtins

from halfopen.environment import Environment
from halfopen.inventory import read
from halfopen.options import add_options


def arguments(parser: argparse.ArgumentParser) -> None:
    """show | validate."""
    parser.add_argument(
        "action", choices=("show", "validate"), help="print the inventory with its defaults applied, or only test it"
    )
    add_options(parser, "--inventory")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """Prints what the inventory says after defaults and selectors, or that it is valid."""
    inventory = read(args.inventory, environment.variables, environment.folder)
    if args.action == "show":
        shown = {
            "source": str(inventory.source) if inventory.source else None,
            "trusted": inventory.trusted,
            "hosts": {name: to_builtins(host) for name, host in inventory.hosts.items()},
            "checks": {name: to_builtins(check) for name, check in inventory.checks.items()},
        }
        print(json.dumps(shown, indent=2), file=environment.stdout)
    elif inventory.source is None:
        print("there is no inventory; hosts can be named on the command line", file=environment.stdout)
    else:
        counts = f"{len(inventory.hosts)} hosts, {len(inventory.checks)} checks"
        print(f"{inventory.source} is valid: {counts}", file=environment.stdout)
    return 0
