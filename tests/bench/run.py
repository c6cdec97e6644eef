"""The figures of docs/speed.md: halfopen against `ssh HOST ss -Htan` on both hosts and a join, in one run, as ratios.

    python tests/bench/run.py [1000 10000 100000]

Needs root, as the lab does. It builds two hosts, opens the connections, measures, and takes everything down again.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.host import Lab, LabHost, lab, sh
from probe.conversation import PipeChannel

from halfopen.inventory import read
from halfopen.judge.confirm.byte_counters import WIDE_LIMIT
from halfopen.judge.inquiry import drive, inquire
from halfopen.judge.questions import (
    LookUp,
)
from halfopen.matching.pairing.match import match
from halfopen.matching.places.addresses import survey
from halfopen.model import Look, Snapshot
from halfopen.plan import CheckPlan
from halfopen.reach.agent import Agent
from halfopen.reach.exchange import remote_command
from halfopen.run.fleet import Fleet, Options
from halfopen.run.live import LiveHosts

PER_PROGRAM = 15_000
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
TIMES = 5
PROGRAM = str(Path(sys.executable).with_name("halfopen"))


def fill(made: Lab, count: int) -> None:
    """Opens `count` accepted connections, some thousand a program, for the limit of descriptors."""
    for number, left in enumerate(range(count, 0, -PER_PROGRAM)):
        web, db = made["web"].driver(), made["db"].driver()
        listener = db.listen("10.7.0.2", 5000 + number, 4096)
        for at in range(0, min(left, PER_PROGRAM), 500):
            step = min(500, min(left, PER_PROGRAM) - at)
            web.connect("10.7.0.2", 5000 + number, step)
            db.accept(listener, step)


def median(work: Callable[[], object], times: int = TIMES) -> float:
    """Seconds of the middle run, after one that does not count."""
    work()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def ssh(made: Lab, host: LabHost) -> str:
    """How the peer reaches a host."""
    options = f"-i {made.folder}/user_key -o UserKnownHostsFile={made.folder}/known_hosts -o ControlMaster=no"
    return f"ssh -F none {options} root@{host.management}"


def by_ssh(made: Lab) -> Callable[[], object]:
    """Both lists at once, joined by mawk: what somebody would type."""
    web, db = (f"{ssh(made, made[name])} ss -Htan" for name in ("web", "db"))
    join = (
        'NR==FNR {a[$4" "$5]=$1; next} {k=$5" "$4; if (!(k in a) || a[k]!=$1) odd++; delete a[k]} '
        "END {for (k in a) odd++; print odd}"
    )
    folder = made.folder
    script = f"{web} > {folder}/a & {db} > {folder}/b & wait; mawk '{join}' {folder}/a {folder}/b > /dev/null"
    return lambda: subprocess.run(["sh", "-c", script], check=True)


def by_halfopen(made: Lab) -> Callable[[], object]:
    """The tool as it is started from a shell."""
    argv = [PROGRAM, "check", "web", "db", "--inventory", str(made.inventory), "-q"]
    return lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def talk(host: LabHost) -> tuple[Snapshot, int, int]:
    """One conversation with the probe inside a host: what it said, bytes it took, and rows."""
    channel = Counting([*host.enter(), "/bin/sh", "-c", remote_command(None)])
    agent = Agent(host.name, channel, "local")
    agent.start(())
    snapshot = agent.first_look(())
    agent.close()
    return snapshot, channel.received, len(snapshot.namespaces[0].table)


class Counting(PipeChannel):
    """A channel that counts what comes."""

    received = 0

    def receive(self) -> bytes:
        data = super().receive()
        self.received += len(data)
        return data


def cost(host: LabHost, argv: list[str]) -> tuple[float, float]:
    """CPU seconds and peak MiB of a command inside a host, its output thrown away."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.execvp("nsenter", ["nsenter", "-t", str(host.pid), "-n", "-m", *argv])
    _, _, used = os.wait4(pid, 0)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def probe_cost(made: Lab) -> tuple[float, float]:
    """CPU seconds and peak MiB of the probe for one dump."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    talk(made["db"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, probe_peak(made["db"])


def probe_peak(host: LabHost) -> float:
    """Peak MiB of the probe after a dump, as its own /proc says while it still waits for the next question."""
    channel = PipeChannel([*host.enter(), "/bin/sh", "-c", remote_command(None)])
    agent = Agent(host.name, channel, "local")
    agent.start(())
    agent.first_look(())
    text = host.run("sh", "-c", "grep -l halfopen_input /proc/[0-9]*/cmdline | head -1 | xargs dirname")
    status = host.run("cat", f"{text.strip()}/status")
    agent.close()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def connections(made: Lab) -> tuple[float, float, float]:
    """Seconds to connect, authenticate, run `true` and close: ours, and paramiko as it is shipped; and of `ssh -G`."""
    from halfopen.plan import Host, Inventory
    from halfopen.reach.connect import ReachOptions, hops_of, open_hops
    from halfopen.reach.library import load_paramiko

    paramiko = load_paramiko()
    address = made["db"].management
    key, known = str(made.folder / "user_key"), str(made.folder / "known_hosts")
    host = Host("db", address, user="root", identity_file=key, known_hosts=known, transport="paramiko")

    def options() -> ReachOptions:
        return ReachOptions(10, time.monotonic() + 60)

    hops = hops_of(host, Inventory({"db": host}), options())

    def ours() -> None:
        connection = open_hops(hops, options())
        channel = connection.run("true")
        channel.deadline = time.monotonic() + 60
        while channel.receive():
            pass
        connection.close()

    def shipped() -> None:
        client = paramiko.SSHClient()
        client.load_host_keys(known)
        client.connect(address, username="root", key_filename=key, look_for_keys=False, allow_agent=False)
        _, out, _ = client.exec_command("true")
        out.read()
        client.close()

    settings = median(lambda: hops_of(host, Inventory({"db": host}), options()), 9)
    return median(ours, 9), median(shipped, 9), settings


def row(what: str, value: float, unit: str, peer: float | None = None, budget: str = "") -> None:
    """One line: the figure, and its ratio to the peer's in the same run."""
    ratio = f"{value / peer:6.2f}x" if peer else " " * 7
    print(f"  {what:<52} {value:10.3f} {unit:<6} {ratio}  {budget}", flush=True)


def measure(made: Lab, count: int, walk: Path) -> None:
    """All figures at one size."""
    print(f"{count} connections")
    enter = made["db"].enter()
    c_walk = median(lambda: subprocess.run([*enter, str(walk)], check=True, stdout=subprocess.DEVNULL))
    ss = median(lambda: subprocess.run([*enter, "ss", "-Htan"], check=True, stdout=subprocess.DEVNULL))
    probe = median(lambda: talk(made["db"]))
    row("probe on the host, against the C walk", probe, "s", c_walk, "budget 1.3x at 100 k")
    row("probe on the host, against ss -Htan", probe, "s", ss, "budget 0.65x at 100 k")
    cpu, peak = probe_cost(made)
    ss_cpu, ss_peak = cost(made["db"], ["ss", "-Htan"])
    row("CPU on the host, against ss -Htan", cpu, "s", ss_cpu)
    row("peak memory on the host, against ss -Htan", peak, "MiB", ss_peak, "budget 20 MiB")
    web, _, _ = talk(made["web"])
    db, size, rows = talk(made["db"])
    row("bytes a socket", size / rows, "B", None, "budget 4")
    ground = survey([web, db], ["web"], ["db"], (), {})
    row("join", median(lambda: match(ground)), "s")
    tracemalloc.start()
    match(ground)
    row("memory of the join, a socket", tracemalloc.get_traced_memory()[1] / (2 * rows), "B", None, "budget 300")
    tracemalloc.stop()
    peer = median(by_ssh(made))
    row(
        "first answer of a clean pair, against ssh, ss and mawk",
        median(by_halfopen(made)),
        "s",
        peer,
        "budget 0.6x, 0.5x",
    )


class Timed(LiveHosts):
    """Hosts whose looks are added up."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self.looks_s: list[float] = []

    def look(self, question: LookUp) -> Sequence[Look]:
        began = time.perf_counter()
        try:
            return super().look(question)
        finally:
            self.looks_s.append(time.perf_counter() - began)


def suspects(made: Lab) -> None:
    """What it costs to confirm 1000 suspects beyond the settle time."""
    web, db = made["web"].driver(), made["db"].driver()
    listener = db.listen("10.7.0.2", 4000, 4096)
    clients = web.connect("10.7.0.2", 4000, 1000)
    servers = db.accept(listener, len(clients))
    argv = [sys.executable, "-m", "halfopen", "check", "web", "db", "--inventory", str(made.inventory), "-q"]
    argv += ["--port", "4000", "--settle", "0", "--fail-on", "never"]
    quiet = median(lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL))
    db.vanish(servers)
    loud = median(lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL))
    inventory = read(str(made.inventory), {}, made.folder)
    plan = CheckPlan("bench", ("web",), ("db",), (4000,), settle=0.0)
    looks = []
    for _ in range(TIMES):
        with Fleet(inventory, [plan], Options()) as hosts:
            timed = Timed(hosts)
            drive(inquire(hosts.plans, dict(hosts.ports), {}, WIDE_LIMIT), timed)
            looks.append(sum(timed.looks_s))
    print("1000 suspects")
    row("the looks of two rounds", statistics.median(looks), "s", None, "budget 0.050")
    row("with counters, processes, causes and the report", loud - quiet, "s")


def main() -> None:
    """All sizes that the command line names."""
    sizes = [int(word) for word in sys.argv[1:]] or [1000, 10_000, 100_000]
    with tempfile.TemporaryDirectory() as name:
        walk = Path(name) / "walk"
        sh("cc", "-O2", "-o", str(walk), str(Path(__file__).with_name("walk.c")))
        with lab(Path(name), "web", "db") as made:
            ours, shipped, settings = connections(made)
            row("connection, against paramiko as shipped", ours, "s", shipped, "budget 0.35x")
            row("settings by ssh -G, while the library is imported", settings, "s", shipped)
            suspects(made)
        for count in sizes:
            folder = Path(name) / str(count)
            folder.mkdir()
            with lab(folder, "web", "db") as made:
                fill(made, count)
                measure(made, count, walk)


if __name__ == "__main__":
    main()
