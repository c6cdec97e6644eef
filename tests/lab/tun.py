"""A link with latency between two hosts of a lab, which veth is too fast for and `netem` is not always there for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lab.host import LabHost

RELAY = Path(__file__).with_name("relay.py")
DEVICE = "wan"


def slow_link(one: LabHost, two: LabHost, addresses: tuple[str, str], delay: float) -> None:
    """Joins two hosts by a point-to-point link that delivers each packet `delay` seconds after it was sent.

    The link goes before other programs of the machine, and ends with the first host.
    """
    argv = ["nice", "-n", "-10", sys.executable, str(RELAY), str(one.pid), str(two.pid), DEVICE, str(delay)]
    relay = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    one.processes.append(relay)
    assert relay.stdout
    if relay.stdout.readline() != "ready\n":
        raise RuntimeError("the link could not be made")
    for host, (own, other) in ((one, addresses), (two, addresses[::-1])):
        host.run("ip", "addr", "add", own, "peer", other, "dev", DEVICE)
        # A burst waits in the device's own queue until the relay reads it: as shipped it takes 500.
        host.run("ip", "link", "set", DEVICE, "txqueuelen", "20000", "up")
