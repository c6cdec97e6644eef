"""Endurance: a check every few seconds beside churn, while faults are made and mended.

By hand, as root: PYTHONPATH=tests python -m lab.soak --minutes 60 --rate 1000 --every 10

What is true follows from what was made. A fault must be found by the second check that began after it was made, and be
gone from the second that began after it was mended; nothing else may ever be found. Here and on the hosts memory,
processes, threads and open files may not grow. All checks run in one process, as those of a program that watches do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab.breaks import FAULTS, Scene
from lab.host import Driver, Lab, LabHost, lab
from lab.tool import Truth
from lab.waiting import PATIENCE, until

from halfopen import api
from halfopen.schema.report import Check

MENDABLE = ("server_vanished", "half_closed", "client_vanished", "never_accepted", "reset_lost", "abandoned_close")
"""Faults that are over as soon as the programs end, since the end that is left is answered then."""
WITHIN = 2  # checks
STANDS = 4  # checks that a fault stands
EACH = 2  # checks after which the next fault is made
IDLE = 200
OURS = ("ps", "sh", "sleep")
FLAT_KB = 8192  # by which memory may differ between the first and the last quarter of the checks


@dataclass
class Fault:
    """One fault: what it is in truth, and the number of the first check that began after it was made, and mended."""

    kind: str
    truth: Truth
    scene: Scene
    made: int
    mended: int | None = None
    found: int | None = None


@dataclass
class Sizes:
    """What may not grow: of this process in kB and numbers, and of each host what is not a program of the test."""

    memory_kb: int
    threads: int
    files: int
    host_processes: tuple[int, ...]
    host_memory_kb: tuple[int, ...]


@dataclass
class Soak:
    """The course of a soak: `wrong` has a sentence for all that was not as it had to be."""

    checks: int = 0
    churned: int = 0
    faults: int = 0
    seconds: float = 0.0
    first: dict[int, int] = field(default_factory=dict)  # number of the check that found it -> faults
    slowest_check_s: float = 0.0
    incomplete: int = 0
    sizes: list[Sizes] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def soak(made: Lab, checks: int, rate: int, every: float, settle: float = 0.5) -> Soak:
    """So many checks, `every` seconds from the beginning of one to that of the next if they are as fast."""
    web, db = made["web"], made["db"]
    web.sysctl("ipv4/tcp_tw_reuse", 1)
    client, server = web.driver(), db.driver()
    listener = server.listen("10.7.0.2", 5000, 1024)
    client.connect("10.7.0.2", 5000, IDLE)
    server.accept(listener, IDLE)
    loud_server, loud = db.driver(), web.driver()
    loud_server.churn_server("10.7.0.2", 7000, 1e6)
    loud.churn_client("10.7.0.2", 7000, rate, 1e6)
    until(loud.churn_made)
    course, faults, began = Soak(), list[Fault](), time.monotonic()
    for number in range(checks):
        due = began + number * every
        time.sleep(max(0.0, due - time.monotonic()))
        for fault in faults:
            if fault.mended is None and number >= fault.made + STANDS:
                mend(fault.scene)
                fault.mended = number
        if number % EACH == 1 and number + STANDS + WITHIN < checks:
            faults.append(broken(web, db, len(faults), number))
        at = time.monotonic()
        (check,) = api.check("web", "db", inventory=made.inventory, settle=settle).checks
        course.slowest_check_s = max(course.slowest_check_s, round(time.monotonic() - at, 1))
        compare(course, check, faults, number)
        course.sizes.append(sizes(made))
    course.checks, course.faults, course.churned = checks, len(faults), loud.churn_made()
    course.seconds = round(time.monotonic() - began, 1)
    for fault in faults:
        which = (fault.found if fault.found is not None else checks) - fault.made + 1
        course.first[which] = course.first.get(which, 0) + 1
    course.wrong += grown(course.sizes)
    return course


def broken(web: LabHost, db: LabHost, number: int, check: int) -> Fault:
    """Makes the next fault, with programs of its own."""
    kind = MENDABLE[number % len(MENDABLE)]
    scene = Scene(web, db, web.driver(), db.driver(), "10.7.0.2", "10.7.0.2", 6000 + number % 900)
    return Fault(kind, FAULTS[kind](scene), scene, check)


def mend(scene: Scene) -> None:
    """Lets all packets pass and ends both programs: their kernels close what they held, and are answered."""
    for host, driver in ((scene.client_host, scene.client), (scene.server_host, scene.server)):
        host.undrop()
        end(host, driver)


def end(host: LabHost, driver: Driver) -> None:
    """Ends one program of a host."""
    driver.process.stdin.close()  # type: ignore[union-attr]
    driver.process.wait(PATIENCE)
    driver.process.stdout.close()  # type: ignore[union-attr]
    host.processes.remove(driver.process)


def compare(course: Soak, check: Check, faults: list[Fault], number: int) -> None:
    """One check with what is true: what must be found, what may be, and nothing else."""
    found = {(one.verdict.value, one.connection.client, one.connection.server) for one in check.findings}
    may: Truth = set()
    for fault in faults:
        if fault.mended is None:
            may |= fault.truth
            if fault.truth <= found and fault.found is None:
                fault.found = number
            if number - fault.made + 1 >= WITHIN and not fault.truth <= found:
                course.wrong.append(f"check {number}: {fault.kind} made before check {fault.made} is not found")
        elif number - fault.mended + 1 < WITHIN:
            may |= fault.truth
    if invented := found - may:
        course.wrong.append(f"check {number}: {sorted(invented)} was never made, or is mended")
    course.incomplete += bool(check.unjudged) or check.exit_code == 3
    for host in check.hosts:
        if host.error is not None or not host.complete:
            course.wrong.append(f"check {number}: {host.name}: {host.error}")


def sizes(made: Lab) -> Sizes:
    """The sizes now, when every session of the check has ended on the hosts."""
    here = Path("/proc/self/status").read_text()
    hosts = [rest_of(host) for host in made.hosts.values()]
    return Sizes(
        int(here.partition("VmRSS:")[2].split()[0]),
        threading.active_count(),
        len(list(Path("/proc/self/fd").iterdir())),
        tuple(count for count, _ in hosts),
        tuple(memory for _, memory in hosts),
    )


def rest_of(host: LabHost) -> tuple[int, int]:
    """The same of one host, once it is at rest."""
    found = until(lambda: at_rest(host))
    assert found is not None
    return found


def at_rest(host: LabHost) -> tuple[int, int] | None:
    """Processes of a host beside the test's own, and their memory in kB; None while a session of the check ends."""
    rows = [line.split(None, 3) for line in host.run("ps", "-eo", "rss=,stat=,comm=,args=").splitlines()]
    # What ends after its session is adopted by init, and that of a lab host, which only sleeps, collects nothing.
    there = [(int(rss), comm, args) for rss, stat, comm, args in rows if not stat.startswith("Z")]
    left = [(rss, args) for rss, comm, args in there if comm not in OURS and "driver.py" not in args]
    if any("sshd-session" in args or "[priv]" in args or "@" in args for _, args in left):
        return None
    return len(left), sum(rss for rss, _ in left)


def grown(some: list[Sizes]) -> list[str]:
    """What is larger in the last quarter of the checks than in the second: the first warms up."""
    quarter = len(some) // 4
    if not quarter:
        return []

    def middle(of: list[Sizes], name: str) -> list[float]:
        rows = [value if isinstance(value := getattr(one, name), tuple) else (value,) for one in of]
        return [statistics.median(column) for column in zip(*rows, strict=True)]

    wrong = []
    for name in ("memory_kb", "threads", "files", "host_processes", "host_memory_kb"):
        room = FLAT_KB if name.endswith("kb") else 0
        before, after = middle(some[quarter : 2 * quarter], name), middle(some[-quarter:], name)
        if any(late > early + room for early, late in zip(before, after, strict=True)):
            wrong.append(f"{name} grew from {before} to {after}")
    return wrong


def main() -> int:
    """Exit status 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=1000, help="connections a second")
    parser.add_argument("--every", type=float, default=10, help="seconds from one check to the next")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, lab(Path(folder), "web", "db") as made:
        course = soak(made, int(args.minutes * 60 / args.every), args.rate, args.every)
    told = asdict(course)
    told["sizes"] = {"first": told["sizes"][0], "last": told["sizes"][-1]}
    print(json.dumps(told, indent=1))
    return 1 if course.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
