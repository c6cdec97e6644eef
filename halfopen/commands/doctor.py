"""`halfopen doctor`: what evidence is to be had on hosts, and which conclusions its absence rules out."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from halfopen.commands.deliver import outlets
from halfopen.environment import Environment
from halfopen.errors import HostError
from halfopen.evidence.probe import examination, frames
from halfopen.inventory import read
from halfopen.options import OUTPUT, REACH, add_options, listed
from halfopen.plan import Host
from halfopen.report.formats import DOCTOR_FORMATS
from halfopen.run.targets import host_of

if TYPE_CHECKING:
    from halfopen.onehost.doctor import Visited
    from halfopen.reach.opening import Visit


def arguments(parser: argparse.ArgumentParser) -> None:
    """HOST..."""
    output = (name for name in OUTPUT if name != "--all")  # its report is never shortened
    add_options(parser, *REACH, "--forks", *output, helps={"--format": listed(DOCTOR_FORMATS)})
    parser.set_defaults(all=False)
    parser.add_argument("hosts", metavar="HOST", nargs="+", help="names of the inventory, [user@]host[:port], or local")


def run(args: argparse.Namespace, environment: Environment) -> int:
    """Asks all hosts at once and writes the report. Exit 0 if a check of each would be complete, else 3."""
    from halfopen.commands.reaching import visit
    from halfopen.onehost.doctor import Visited, checkup_of

    out = outlets(args, environment, DOCTOR_FORMATS)
    inventory = read(args.inventory, environment.variables, environment.folder)
    hosts = list({host.name: host for host in (host_of(name, inventory) for name in args.hosts)}.values())
    with visit(inventory.with_hosts(hosts), args, environment, args.forks) as visited:
        answers = visited.ask(hosts, lambda host: examine(visited, host))
    found = [
        Visited(host.name, host.transport, None, answer, False, host.sudo) if isinstance(answer, HostError) else answer
        for host, answer in zip(hosts, answers, strict=True)
    ]
    checkup = checkup_of(found, datetime.now(UTC))
    return out.deliver(checkup, checkup.exit_code)


def examine(visited: Visit, host: Host) -> Visited:
    """What one host offers; a HostError is part of the answer."""
    from halfopen.onehost.doctor import Visited
    from halfopen.reach.barrier import barrier

    agent = None
    try:
        with barrier():
            agent = visited.open(host)
            answer = agent.ask_survey(examination.EXAMINE, wait=host.transport == "exec")
            assert agent.facts is not None
            found = examination.decode(frames.decode_fields(*answer), agent.facts, agent.addresses)
    except HostError as error:
        transport = agent.transport if agent else host.transport
        # The ssh program reports why it did not get through only when it is first read from.
        return Visited(host.name, transport, None, error, agent is not None and transport != "openssh", host.sudo)
    return Visited(host.name, agent.transport, found, sudo=host.sudo, note=agent.note)
