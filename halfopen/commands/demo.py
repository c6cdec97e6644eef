"""`halfopen demo`: breaks connections for real and runs the real check on them, over SSH, without root."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from halfopen import api
from halfopen.commands.deliver import Outlets, outlets, save
from halfopen.environment import Environment
from halfopen.errors import Exit
from halfopen.files import prepare_folder
from halfopen.options import OUTPUT, REPORT_HELPS, TIMEOUT, add_options
from halfopen.plan import CheckPlan, Host, Inventory

if TYPE_CHECKING:
    from halfopen.demo.breaks import Stage


def arguments(parser: argparse.ArgumentParser) -> None:
    """How to show the report."""
    add_options(parser, *OUTPUT, "--save", helps=REPORT_HELPS)
    parser.set_defaults(timeout=TIMEOUT)


def run(args: argparse.Namespace, environment: Environment) -> int:
    """0 if what was found is what was made, else 1; 3 if that is so and a file could not be written."""
    out = outlets(args, environment)
    if not sys.platform.startswith("linux"):
        return recorded(environment, out)
    from halfopen.demo.breaks import build

    if args.save:
        prepare_folder(environment.folder / args.save, ("app1", "db1"))
    tell(environment, "Breaking connections on loopback, with backlogs that are too small for what comes.")
    stage = build()
    try:
        return examine(args, environment, stage, out)
    finally:
        stage.close()


def recorded(environment: Environment, out: Outlets) -> int:
    """What other systems get: the analysis of a pair that was recorded on Linux."""
    tell(environment, "Connections can only be broken this way on Linux; this is the analysis of a recorded pair.")
    folder = resources.files("halfopen.demo").joinpath("recorded")
    with resources.as_file(folder) as path:
        report = api.analyse(client=path / "app1.halfopen", server=path / "db1.halfopen")
    return out.deliver(report, Exit.CLEAN)


def examine(args: argparse.Namespace, environment: Environment, stage: Stage, out: Outlets) -> int:
    """Runs the check through two embedded SSH servers, shows its report, and compares."""
    from halfopen.demo.breaks import CLIENT, SERVER, found_of
    from halfopen.demo.server import EmbeddedServer
    from halfopen.demo.two_machines import TwoMachines
    from halfopen.reach.library import load_paramiko
    from halfopen.run.fleet import Fleet, Options
    from halfopen.run.live import report_of_run, run_checks
    from halfopen.run.save import saved

    with tempfile.TemporaryDirectory(prefix="halfopen-demo-") as name:
        folder = Path(name)
        key = load_paramiko().ECDSAKey.generate()
        key.write_private_key_file(str(folder / "key"))
        servers = {"app1": (EmbeddedServer(key), CLIENT), "db1": (EmbeddedServer(key), SERVER)}
        try:
            known = "".join(f"[127.0.0.1]:{server.port} {server.public}\n" for server, _ in servers.values())
            (folder / "known_hosts").write_text(known)
            hosts = {
                host: Host(
                    host,
                    "127.0.0.1",
                    port=server.port,
                    user="demo",
                    identity_file=str(folder / "key"),
                    known_hosts=str(folder / "known_hosts"),
                    transport="paramiko",
                    addresses=(own_address,),
                )
                for host, (server, own_address) in servers.items()
            }
            plan = CheckPlan("app1 -> db1", ("app1",), ("db1",), tuple(stage.ports))
            tell(environment, "Looking from both sides, through an SSH server for each.\n")
            with Fleet(Inventory(hosts), [plan], Options(), environment.say) as reached:
                checked = run_checks(reached, answerer=TwoMachines(reached))
        finally:
            for server, _ in servers.values():
                server.close()
    report = report_of_run(checked)
    code: int = Exit.CLEAN
    try:
        code = out.deliver(report, code)
    finally:
        if args.save:
            code = save(environment.folder / args.save, saved(checked), code, environment)
    (check,) = report.checks
    found = found_of(Counter(finding.verdict for finding in check.findings), check.agreeing)
    tell(environment, f"\nmade:  {words(stage.made)}\nfound: {words(found)}")
    right = +stage.made == found and all(finding.confidence == "proven" for finding in check.findings)
    tell(environment, "The report found exactly what was made." if right else "These differ, and should not.")
    return code if right else Exit.FINDINGS


def words(counts: Counter[str]) -> str:
    """`40 healthy, 5 half-open`."""
    return ", ".join(f"{counts[name]} {name}" for name in sorted(counts) if counts[name])


def tell(environment: Environment, text: str) -> None:
    """A line of the demo itself, beside the report."""
    print(text, file=environment.stderr, flush=True)
