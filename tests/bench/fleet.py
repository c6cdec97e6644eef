"""What a fleet costs: time and memory of one check over many hosts, by the number of forks, in one run.

    python tests/bench/fleet.py [HOSTS [FORKS...]]

Needs root, as the lab does. All hosts share one machine with the process that reads them: what is printed is a bound.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab import ring
from lab.host import Lab, lab
from lab.tool import found

BROKEN = {"h7": "connection-refused", "h23": "host-key-mismatch", "h41": "timeout"}
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode


def run(made: Lab, forks: int) -> tuple[float, float, float, dict[str, object]]:
    """One check: seconds, CPU seconds and peak MiB of the laptop's process, and its report."""
    argv = [sys.executable, "-m", "halfopen", "check", "ring", "--inventory", str(made.inventory), "--format", "json"]
    argv += ["--forks", str(forks), "--connect-timeout", "5"]
    began = time.perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout
        report = json.load(process.stdout)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    (check,) = report["checks"]
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, check


def main() -> None:
    """Hosts and forks as the command line names them."""
    sizes = [int(word) for word in sys.argv[1:]] or [60, 4, 8, 16, 32, 64]
    hosts, forks = sizes[0], sizes[1:] or [16]
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        with lab(Path(name), *ring.names(hosts)) as made:
            broken = {host: code for host, code in BROKEN.items() if host in made.hosts}
            expected = ring.build(made, broken)
            print(f"{hosts} hosts, {len(broken)} broken, built in {time.perf_counter() - began:.1f} s", flush=True)
            for number in forks:
                took, cpu, memory, check = run(made, number)
                right = found(check) == expected and check["connections"] == ring.connections(made, broken)
                print(
                    f"  {number:3} forks  {took:6.2f} s  {cpu:6.2f} s CPU and {memory:5.1f} MiB here  "
                    f"{'all found' if right else 'WRONG'}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
