"""`halfopen count`: the sockets of one host by process, port and state, and what no lsof shows."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from halfopen.commands.deliver import outlets
from halfopen.environment import Environment
from halfopen.errors import Exit, HostError
from halfopen.evidence.probe import census
from halfopen.inventory import read
from halfopen.model import HostFacts
from halfopen.options import OPTIONS, OUTPUT, REACH, add_options, listed, positive
from halfopen.plan import Host
from halfopen.report.formats import COUNT_FORMATS
from halfopen.run.targets import host_of

if TYPE_CHECKING:
    from halfopen.reach.agent import Agent


def arguments(parser: argparse.ArgumentParser) -> None:
    """HOST, and which of its sockets to count."""
    add_options(
        parser,
        *REACH,
        *OUTPUT,
        "--port",
        helps={
            "--format": listed(COUNT_FORMATS),
            "--port": OPTIONS["--port"]["help"].replace("the server's port", "a port of either side"),
        },
    )
    parser.add_argument("host", metavar="HOST", help="a name of the inventory, [user@]host[:port], or local")
    parser.add_argument(
        "--pid",
        metavar="N",
        type=positive,
        help="count only what this process holds, and what waits in its accept queues",
    )


def run(args: argparse.Namespace, environment: Environment) -> int:
    """Counts the sockets of the host and writes the report. Exit 0; HostError (exit 3) where it cannot be read."""
    from halfopen.commands.reaching import visit
    from halfopen.onehost.count import Asked, refuse, tally_of

    out = outlets(args, environment, COUNT_FORMATS)
    inventory = read(args.inventory, environment.variables, environment.folder)
    host, ports = host_of(args.host, inventory), tuple(dict.fromkeys(args.port))
    with visit(inventory.with_hosts([host]), args, environment) as visited:

        def count(host: Host) -> tuple[Agent, HostFacts, census.Census]:
            agent = visited.open(host)
            question = census.encode_question(args.pid, ports)
            found = census.decode(*agent.ask_survey(census.HOLDERS, question, wait=host.transport == "exec"), ports)
            named = agent.ask_more(census.PROCESSES, census.encode_pids(found))
            assert agent.facts is not None
            return agent, agent.facts, replace(found, processes=census.decode_processes(*named))

        (answer,) = visited.ask([host], count)
    if isinstance(answer, HostError):
        raise answer
    agent, facts, found = answer
    asked = Asked(host.name, agent.transport, args.pid, ports, datetime.now(UTC), agent.note)
    refuse(found, asked)
    return out.deliver(tally_of(found, facts, agent.netns, asked), Exit.CLEAN)
