"""A ring of hosts: each is a client of the next, some pairs have a fault, and three hosts cannot be read."""

from __future__ import annotations

import re

from lab.breaks import COUNT, FAULTS, Scene
from lab.host import Lab, LabHost
from lab.tool import Truth
from lab.waiting import until

PORT = 5000
KINDS = ("server_vanished", "client_vanished", "half_closed", "never_accepted")

CHECKS = f"""
[checks.ring]
client = "h*"
server = "h*"
ports = [{PORT}]
settle = 0.5
[checks.first]
client = "h1"
server = ["h2", "h3"]
settle = 0.5
[checks.again]
client = ["tag:odd", "h2"]
server = "h?"
settle = 0.5
"""


def names(hosts: int) -> list[str]:
    """h1, h2 and so on."""
    return [f"h{number}" for number in range(1, hosts + 1)]


def pairs(made: Lab) -> list[tuple[str, str]]:
    """Client and server of each link of the ring."""
    hosts = list(made.hosts)
    return list(zip(hosts, [*hosts[1:], hosts[0]], strict=True))


def build(made: Lab, broken: dict[str, str]) -> Truth:
    """Connections and faults of the ring, then the broken hosts (name -> error code); the truth about the others."""
    drivers = {name: host.driver() for name, host in made.hosts.items()}
    expected: Truth = set()
    for number, (client, server) in enumerate(pairs(made)):
        fault = KINDS[number // 7 % len(KINDS)] if number % 7 == 3 else "healthy"
        address = made.v4(server)
        scene = Scene(made[client], made[server], drivers[client], drivers[server], address, address, PORT)
        truth = FAULTS[fault](scene)
        if client not in broken and server not in broken:
            expected |= truth
    text = made.inventory.read_text()
    for name, code in broken.items():
        head, _, tail = text.partition(f"[hosts.{name}]\n")
        text = f"{head}[hosts.{name}]\n{BREAKS[code](made, name, tail)}"
    made.inventory.write_text(text.replace("[hosts.h3]\n", '[hosts.h3]\ntags = ["odd"]\n') + CHECKS)
    return expected


def connections(made: Lab, broken: dict[str, str]) -> int:
    """How many connections can be judged."""
    return COUNT * sum(client not in broken and server not in broken for client, server in pairs(made))


def end_sshd(host: LabHost) -> None:
    """Ends the process that listens on a host's port 22, by its id there."""
    for pid in re.findall(r"pid=(\d+)", host.run("ss", "-Htlnp", "sport = :22")):
        host.run("kill", pid)
    until(lambda: not host.listens())


def stop_sshd(made: Lab, name: str, tail: str) -> str:
    """Its sshd is gone."""
    end_sshd(made[name])
    return tail


def change_key(made: Lab, name: str, tail: str) -> str:
    """Its host key is not the one that is known."""
    right, other = ((made.folder / f"{key}.pub").read_text().split()[1] for key in ("host_key", "user_key"))
    known = (made.folder / "known_hosts").read_text()
    (made.folder / "wrong_hosts").write_text(known.replace(right, other))
    return tail.replace("/known_hosts", "/wrong_hosts", 1)


def mute(made: Lab, name: str, tail: str) -> str:
    """Something takes connections at its port 22 and never says a word."""
    stop_sshd(made, name, tail)
    made[name].driver().listen(made[name].management, 22, 64)
    return tail


BREAKS = {"connection-refused": stop_sshd, "host-key-mismatch": change_key, "timeout": mute}
