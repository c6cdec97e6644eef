"""From the options of a command to hosts that can be asked, for commands that ask each host once."""

from __future__ import annotations

import argparse
import time

from halfopen.environment import Environment
from halfopen.plan import Inventory
from halfopen.reach.connect import ReachOptions
from halfopen.reach.opening import Visit


def visit(inventory: Inventory, args: argparse.Namespace, environment: Environment, forks: int = 1) -> Visit:
    """A visit to hosts of the inventory, by the options REACH. The time of --timeout begins now."""
    options = ReachOptions(
        connect_timeout=args.connect_timeout,
        deadline=time.monotonic() + args.timeout,
        host_keys=args.host_keys,
        jump=args.jump,
        transport=args.transport,
        interactive=environment.interactive,
    )
    return Visit(inventory, options, forks)
