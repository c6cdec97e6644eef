"""What a run may reach and what it checks: hosts and checks, as values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from halfopen.schema.report import Severity

SSH_TRANSPORTS = ("auto", "paramiko", "openssh")
HOST_KEY_RULES = ("strict", "accept-new")
"""What is done with the key of a host that is not known yet: refused, or added."""
ASK_LEVELS = ("never", "suspects", "idle")
"""Whom a check asks through its connections: nobody, ends that seem alone or stuck, or also pairs that were silent."""
MAX_SUSPECTS = 100_000
FAIL_ON = (*(severity.value for severity in Severity), "never")
"""The least severity that fails a run, or none."""


class Host(Struct, frozen=True):
    """How to reach one host. `name` is what reports call it; `address` is where SSH goes.

    `local` runs on this machine without SSH. `addresses` (text) lead to the host though no interface has them.
    """

    name: str
    address: str
    port: int | None = None
    user: str | None = None
    identity_file: str | None = None
    known_hosts: str | None = None
    jump: str | None = None
    transport: str = "auto"
    sudo: bool = False
    python: str | None = None
    command: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class CheckPlan(Struct, frozen=True):
    """What to compare: names of hosts by role, the server's ports, and what is tolerated. `settle` in seconds.

    `direct`: its author vouches that nothing between the hosts translates, or answers for one of them. `ask`: one of
    ASK_LEVELS. `max_suspects`: no more are looked at, and the rest is not judged.
    """

    name: str
    clients: Annotated[tuple[str, ...], Meta(min_length=1)]
    servers: Annotated[tuple[str, ...], Meta(min_length=1)]
    ports: tuple[Annotated[int, Meta(ge=0, le=65535)], ...] = ()
    nat: tuple[str, ...] = ()
    settle: float = 1.5
    rounds: Annotated[int, Meta(ge=1)] = 2
    allow: tuple[str, ...] = ()
    max: dict[str, int] = {}
    require_connections: int = 0
    direct: bool = False
    ask: str = "never"
    max_suspects: Annotated[int, Meta(ge=1)] = MAX_SUSPECTS


class Inventory(Struct, frozen=True):
    """All that a run may reach and check.

    `trusted` is False for a file that may be another person's. `given`: the names of hosts that only the
    command line gives.
    """

    hosts: dict[str, Host] = {}
    checks: dict[str, CheckPlan] = {}
    source: Path | None = None
    trusted: bool = True
    given: frozenset[str] = frozenset()

    def with_hosts(self, hosts: Iterable[Host]) -> Inventory:
        """The same with the hosts of a command line, which are its own or such as only a word names."""
        found = {host.name: host for host in hosts}
        return replace(self, hosts={**self.hosts, **found}, given=self.given | (found.keys() - self.hosts.keys()))
