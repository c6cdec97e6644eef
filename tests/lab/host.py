"""Hosts of a lab: each with its own network, processes, mounts, host name and boot id, and a real sshd.

A host's sshd listens on a management address only, which differs from the addresses that connections use; a probe that
saw its neighbours' processes or took the one address for the other would prove nothing.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.waiting import PATIENCE, until

NUMBERS = itertools.islice(itertools.cycle(range(1, 251)), os.getpid() % 250, None)
DRIVER = Path(__file__).with_name("driver.py")

BOOT = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
hostname {name}
# A login as on a fresh host, whatever this machine does at one.
[ ! -e /root/.bashrc ] || mount --bind /dev/null /root/.bashrc
mount --bind {boot_id} /proc/sys/kernel/random/boot_id
ip link set lo up
exec sleep infinity
"""

SSHD = """
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
PasswordAuthentication no
MaxStartups 100
LogLevel ERROR
"""


def sh(*argv: str, check: bool = True) -> str:
    """Runs a command on the test's own side."""
    run = subprocess.run(argv, capture_output=True, text=True)
    if check and run.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {run.stderr.strip()}")
    return run.stdout


@dataclass
class Driver:
    """The program in a host that holds its sockets; its functions are called as attributes."""

    process: subprocess.Popen[str]

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            assert self.process.stdin and self.process.stdout
            self.process.stdin.write(json.dumps({"call": name, "args": args}) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
            if "error" in answer:
                raise RuntimeError(f"{name}{args}: {answer['error']}")
            return answer["value"]

        return call


@dataclass
class LabHost:
    """One host. `pid` is its init, as the test sees it; `management` where its sshd answers."""

    name: str
    pid: int
    folder: Path
    management: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def enter(self) -> list[str]:
        """The command that runs another inside."""
        return ["nsenter", "-t", str(self.pid), "-n", "-p", "-m", "-u", "-i", "--"]

    def run(self, *argv: str, check: bool = True) -> str:
        """Runs a command inside; its output."""
        return sh(*self.enter(), *argv, check=check)

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Starts a command inside that ends with the host."""
        process = subprocess.Popen([*self.enter(), *argv], text=True, **options)
        self.processes.append(process)
        return process

    def driver(self) -> Driver:
        """A new program that holds sockets."""
        return Driver(self.start(sys.executable, str(DRIVER), stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    def sysctl(self, name: str, value: int) -> None:
        """Sets one of this host's own."""
        self.run("sh", "-c", f"echo {value} > /proc/sys/net/{name}")

    def drop(self, rule: str) -> None:
        """Drops incoming packets that match an nft expression."""
        self.run("nft", "add table inet lab; add chain inet lab in { type filter hook input priority 0; }")
        self.run("nft", f"add rule inet lab in {rule} drop")

    def undrop(self) -> None:
        """Lets everything in again."""
        self.run("nft", "delete table inet lab", check=False)

    def ss(self) -> dict[tuple[str, str], str]:
        """(local, peer) -> state, by the host's own `ss`: the oracle that is not our code."""
        found = {}
        for line in self.run("ss", "-Htan").splitlines():
            words = line.split()
            if words[0] != "LISTEN":
                found[plain(words[3]), plain(words[4])] = words[0]
        return found

    def listens(self, port: int = 22) -> bool:
        """Whether anything listens on this port."""
        return bool(self.run("ss", "-Htln", f"sport = :{port}").strip())

    def queue(self, port: int) -> int:
        """How many connections wait in the accept queue of the one listener on a port."""
        return int(self.run("ss", "-Htln", f"sport = :{port}").split()[1])

    def tries(self, port: int, timer: str = "on") -> list[int]:
        """How often each socket of a port whose timer of this kind runs has sent again, or probed: by `ss -o`."""
        shown = self.run("ss", "-Htano", f"( sport = :{port} or dport = :{port} )")
        return [int(one) for one in re.findall(rf"timer:\({timer},[^,]*,(\d+)\)", shown)]


def plain(endpoint: str) -> str:
    """An endpoint of `ss` without scope, mapped addresses as IPv4."""
    host, _, port = endpoint.rpartition(":")
    host = host.partition("%")[0].strip("[]").removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass
class Lab:
    """Hosts on one link, numbered from 1: 10.7.0.N, fd07::N and a link-local address on the interface `data`."""

    hosts: dict[str, LabHost]
    folder: Path
    inventory: Path

    def __getitem__(self, name: str) -> LabHost:
        return self.hosts[name]

    def v4(self, name: str) -> str:
        """Data address of a host."""
        return f"10.7.0.{list(self.hosts).index(name) + 1}"

    def v6(self, name: str) -> str:
        """Data address of a host."""
        return f"fd07::{list(self.hosts).index(name) + 1}"

    def link_local(self, name: str) -> str:
        """Link-local address of a host, without scope."""
        return f"fe80::7:{list(self.hosts).index(name) + 1}"


@contextmanager
def claimed() -> Iterator[int]:
    """The third byte of a management network that no other lab on this machine has: an abstract socket is its lock.

    Not the one of the lab before: this machine may still close connections to its hosts.
    """
    for number in itertools.islice(NUMBERS, 250):
        with socket.socket(socket.AF_UNIX) as lock:
            try:
                lock.bind(f"\0halfopen-lab-{number}")
            except OSError:
                continue
            yield number
            return
    raise RuntimeError("250 labs are open")


@contextmanager
def lab(folder: Path, *names: str) -> Iterator[Lab]:
    """Builds hosts and takes them down again, whatever happens."""
    for key in ("host_key", "user_key"):
        if not (folder / key).exists():
            sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
    with ExitStack() as stack:
        number = stack.enter_context(claimed())
        hosts: dict[str, LabHost] = {}
        switch = stack.enter_context(namespace(folder, "switch"))
        sh(*switch.enter(), "ip", "link", "add", "br0", "type", "bridge")
        sh(*switch.enter(), "ip", "link", "set", "br0", "up")
        for index, name in enumerate(names, 1):
            host = stack.enter_context(namespace(folder, name))
            host.management = f"10.213.{number}.{4 * index + 2}"
            outside = f"ho{os.getpid() % 100000}x{number}i{index}"
            sh("ip", "link", "add", outside, "type", "veth", "peer", "name", "mgmt", "netns", str(host.pid))
            stack.callback(sh, "ip", "link", "del", outside, check=False)
            sh("ip", "addr", "add", f"10.213.{number}.{4 * index + 1}/30", "dev", outside)
            sh("ip", "link", "set", outside, "up")
            near, far = ("netns", str(switch.pid)), ("netns", str(host.pid))
            sh("ip", "link", "add", f"p{index}", *near, "type", "veth", "peer", "name", "data", *far)
            sh(*switch.enter(), "ip", "link", "set", f"p{index}", "master", "br0", "up")
            commands = [
                f"addr add {host.management}/30 dev mgmt",
                "link set data addrgenmode none",
                "link set mgmt up",
                "link set data up",
                f"addr add 10.7.0.{index}/24 dev data",
                f"addr add fd07::{index}/64 dev data nodad",
                f"addr add fe80::7:{index}/64 dev data nodad",
            ]
            (folder / f"{name}.ip").write_text("\n".join(commands) + "\n")
            host.run("ip", "-batch", str(folder / f"{name}.ip"))
            config = folder / f"{name}.sshd"
            config.write_text(SSHD.format(address=host.management, folder=folder))
            host.start("/usr/sbin/sshd", "-D", "-e", "-f", str(config), stderr=subprocess.DEVNULL)
            hosts[name] = host
        write_access(folder, hosts)
        wait_for_sshd(hosts.values())
        yield Lab(hosts, folder, folder / "lab.toml")


@contextmanager
def namespace(folder: Path, name: str) -> Iterator[LabHost]:
    """A host without a network: its init and everything that it started end with it."""
    boot_id = folder / f"{name}.boot_id"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    argv = ["unshare", "-n", "-p", "-f", "-m", "-u", "-i", "--mount-proc", "--kill-child=KILL", "sh", "-c"]
    process = subprocess.Popen([*argv, BOOT.format(name=name, boot_id=boot_id)], stdin=subprocess.DEVNULL)
    try:
        host = LabHost(name, child_of(process.pid), folder, "")
        yield host
        for one in host.processes:
            one.kill()
            one.wait(PATIENCE)
    finally:
        process.kill()
        process.wait(PATIENCE)


def child_of(pid: int) -> int:
    """The init of a new host, once it has finished booting and only sleeps."""

    def booted() -> str:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        asleep = children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "sleep"
        return children[0] if asleep else ""

    return int(until(booted, every=0.005))


def write_access(folder: Path, hosts: dict[str, LabHost]) -> None:
    """known_hosts and the inventory by which the tool reaches the hosts."""
    key = (folder / "host_key.pub").read_text().split()
    known = "".join(f"{host.management} {key[0]} {key[1]}\n" for host in hosts.values())
    (folder / "known_hosts").write_text(known)
    tables = [
        f'[hosts.{name}]\naddress = "{host.management}"\nuser = "root"\n'
        f'identity_file = "{folder}/user_key"\nknown_hosts = "{folder}/known_hosts"\n'
        for name, host in hosts.items()
    ]
    (folder / "lab.toml").write_text("\n".join(tables))


def wait_for_sshd(hosts: Any) -> None:
    """Until every sshd listens."""
    for host in hosts:
        until(host.listens)


def needs() -> Sequence[str]:
    """What this machine lacks for a lab, nothing if it can have one."""
    lacking = [] if os.geteuid() == 0 else ["root"]
    for program in ("/usr/sbin/sshd", "nft", "ss", "nsenter", "unshare", "ip", "ssh-keygen"):
        if not any(
            (Path(folder) / program).exists() for folder in (*os.environ["PATH"].split(":"), "/usr/sbin", "/sbin")
        ):
            lacking.append(program)
    return lacking
