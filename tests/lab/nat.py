"""Networks with translation, on lab hosts: containers, published ports, and routers that masquerade.

A container is a network namespace within a lab host, on a bridge of its own, with the private addresses that container
engines use: the same ones on every host.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from lab.host import DRIVER, Driver, Lab, LabHost, sh
from lab.waiting import until


@dataclass
class Container:
    """A network namespace of a host that a process keeps, and no name. Programs in it end with the host."""

    host: LabHost
    pid: int  # inside the host
    v4: str
    v6: str

    def enter(self) -> list[str]:
        """The command that runs another inside."""
        return [*self.host.enter(), "nsenter", "-t", str(self.pid), "-n", "--"]

    def run(self, *argv: str, check: bool = True) -> str:
        """Runs a command inside; its output."""
        return sh(*self.enter(), *argv, check=check)

    def remove(self, *programs: int) -> None:
        """Its programs are killed, its last process too, and the namespace ends with it."""
        spaces = ("sh", "-c", "readlink /proc/[0-9]*/ns/net | sort -u")
        own = self.run("readlink", "/proc/self/ns/net")
        self.host.run("kill", "-9", *map(str, programs), str(self.pid))
        until(lambda: own not in self.host.run(*spaces))

    def driver(self) -> Driver:
        """A new program that holds sockets."""
        argv = ["nsenter", "-t", str(self.pid), "-n", "--", sys.executable, str(DRIVER)]
        return Driver(self.host.start(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE))


def bridge(host: LabHost) -> None:
    """What a container engine makes of a host: a bridge with 172.17.0.1/16, and forwarding."""
    host.run("ip", "link", "add", "docker0", "type", "bridge")
    host.run("ip", "addr", "add", "172.17.0.1/16", "dev", "docker0")
    host.run("ip", "addr", "add", "fd17::1/64", "dev", "docker0", "nodad")
    host.run("ip", "link", "set", "docker0", "up")
    forward(host)


def forward(host: LabHost) -> None:
    """The host routes."""
    host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")


def keeper_of(host: LabHost) -> int:
    """The process, as the host sees it, that keeps a new network namespace."""
    keeper = host.start("sh", "-c", "unshare -n sh -c 'echo $$; exec sleep infinity'", stdout=subprocess.PIPE)
    assert keeper.stdout
    return int(keeper.stdout.readline())


def container(host: LabHost, number: int) -> Container:
    """172.17.0.NUMBER and fd17::NUMBER on the host's bridge."""
    pid = keeper_of(host)
    made = Container(host, pid, f"172.17.0.{number}", f"fd17::{number}")
    host.run("ip", "link", "add", f"veth{number}", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    host.run("ip", "link", "set", f"veth{number}", "master", "docker0", "up")
    for command in (
        "link set lo up",
        "link set eth0 up",
        f"addr add {made.v4}/16 dev eth0",
        f"addr add {made.v6}/64 dev eth0 nodad",
        "route add default via 172.17.0.1",
        "-6 route add default via fd17::1",
    ):
        made.run("ip", *command.split())
    return made


def nat(host: LabHost, *rules: str) -> None:
    """nft rules in the chains `pre` (destination) and `post` (source), for both families."""
    chains = ("pre", "prerouting", -100), ("out", "output", -100), ("post", "postrouting", 100)
    host.run("nft", "add table inet nat")
    for name, hook, priority in chains:
        host.run("nft", f"add chain inet nat {name} {{ type nat hook {hook} priority {priority}; }}")
    for rule in rules:
        host.run("nft", f"add rule inet nat {rule}")


def publish(host: LabHost, port: int, to: Container, behind: int) -> None:
    """`docker run -p PORT:BEHIND`."""
    nat(
        host,
        f"pre tcp dport {port} fib daddr type local dnat ip to {to.v4}:{behind}",
        f"pre tcp dport {port} fib daddr type local dnat ip6 to [{to.v6}]:{behind}",
        f"out tcp dport {port} fib daddr type local dnat ip to {to.v4}:{behind}",
    )


def masquerade(host: LabHost) -> None:
    """What leaves a host's containers gets the host's own address."""
    nat(
        host,
        "post ip saddr 172.17.0.0/16 oifname != docker0 masquerade",
        "post ip6 saddr fd17::/64 oifname != docker0 masquerade",
    )


def router_between(lab: Lab, client: str, router: str, rule: str | None = "masquerade") -> None:
    """The client is behind the router: 10.8.0.2 on a link of their own, and what leaves there is masqueraded.

    Without a rule nothing is translated: the other hosts then need a route back.
    """
    one, two = lab[client], lab[router]
    one.run("ip", "addr", "flush", "dev", "data")
    near, far = ("netns", str(one.pid)), ("netns", str(two.pid))
    sh("ip", "link", "add", "inner", *near, "type", "veth", "peer", "name", "inner", *far)
    for host, number in ((two, 1), (one, 2)):
        host.run("ip", "addr", "add", f"10.8.0.{number}/24", "dev", "inner")
        host.run("ip", "addr", "add", f"fd08::{number}/64", "dev", "inner", "nodad")
        host.run("ip", "link", "set", "inner", "up")
    one.run("ip", "route", "add", "10.7.0.0/24", "via", "10.8.0.1")
    one.run("ip", "-6", "route", "add", "fd07::/64", "via", "fd08::1")
    forward(two)
    if rule is None:
        return
    nat(two, f"post ip saddr 10.8.0.0/24 {rule}", f"post ip6 saddr fd08::/64 {rule}")


def pod(host: LabHost, number: int) -> Container:
    """10.42.0.NUMBER behind a route of its own (/32) and no bridge, as container networks without a bridge make it."""
    made = Container(host, keeper_of(host), f"10.42.0.{number}", f"fd42::{number}")
    host.run("ip", "link", "add", f"pod{number}", "type", "veth", "peer", "name", "eth0", "netns", str(made.pid))
    for command in (
        f"link set pod{number} up",
        f"addr add 169.254.1.1/32 dev pod{number}",
        f"route add {made.v4}/32 dev pod{number}",
    ):
        host.run("ip", *command.split())
    for command in (
        "link set lo up",
        "link set eth0 up",
        f"addr add {made.v4}/32 dev eth0",
        "route add 169.254.1.1 dev eth0",
        "route add default via 169.254.1.1",
    ):
        made.run("ip", *command.split())
    return made
