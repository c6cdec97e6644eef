"""Which way leads to a host: the table of transports, and what `auto` means."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from halfopen.errors import ErrorCode, HostError, UsageError
from halfopen.inventory import Host, Inventory
from halfopen.reach.channel import Channel
from halfopen.reach.local import ExecConnection, LocalConnection
from halfopen.reach.openssh import OpensshConnection
from halfopen.reach.settings import Lookup, Settings, check_name, split_target


@dataclass(frozen=True, slots=True)
class ReachOptions:
    """How to reach hosts in one run. Seconds; `deadline` is a time of time.monotonic()."""

    connect_timeout: float
    deadline: float
    host_keys: str = "strict"
    jump: str | None = None
    transport: str | None = None
    interactive: bool = False
    config: str | None = None  # another ssh_config, for tests


class Connection(Protocol):
    """A host that was reached."""

    @property
    def transport(self) -> str:
        """The way that was taken."""

    @property
    def note(self) -> str | None:
        """Why it was taken, where that is worth a word."""

    def run(self, command: str) -> Channel:
        """Start `command` there by a POSIX shell."""

    def close(self) -> None:
        """Give the connection back. Never raises."""


@dataclass
class Sudo:
    """A connection whose commands run as root, if sudo asks for no password."""

    inner: Connection

    @property
    def transport(self) -> str:
        """The way below."""
        return self.inner.transport

    @property
    def note(self) -> str | None:
        """Its note."""
        return self.inner.note

    def run(self, command: str) -> Channel:
        """Start `command` under sudo -n."""
        return self.inner.run(f"exec sudo -n /bin/sh -c {shlex.quote(command)}")

    def close(self) -> None:
        """Closes the way below."""
        self.inner.close()


def connect(host: Host, inventory: Inventory, options: ReachOptions) -> Connection:
    """Reaches a host. HostError with a code of the contract if that fails, UsageError for what is not allowed."""
    way = (options.transport if host.transport not in ("local", "exec") else None) or host.transport
    refuse_untrusted(host, inventory)
    connection = TRANSPORTS[way](host, inventory, options)
    if host.sudo:
        return Sudo(connection)
    return connection


def refuse_untrusted(host: Host, inventory: Inventory) -> None:
    """An inventory that merely lies in the working directory cannot widen trust: whoever wrote it runs nothing here."""
    wide = {'transport = "exec"': host.transport == "exec", "sudo": host.sudo, "known_hosts": host.known_hosts}
    if not inventory.trusted and host.name in inventory.hosts and any(wide.values()):
        raise UsageError(
            f"hosts.{host.name}: {next(key for key, given in wide.items() if given)} is not taken from an inventory "
            "that merely lies in the working directory",
            f"if you trust it: --inventory {inventory.source}",
        )


def by_local(_: Host, __: Inventory, options: ReachOptions) -> Connection:
    """This machine."""
    return LocalConnection(options.deadline)


def by_exec(host: Host, _: Inventory, options: ReachOptions) -> Connection:
    """A shell that the inventory's argv starts."""
    return ExecConnection(host.command, options.deadline)


def by_openssh(host: Host, inventory: Inventory, options: ReachOptions) -> Connection:
    """The ssh program."""
    return openssh(host, inventory, options)


def openssh(host: Host, inventory: Inventory, options: ReachOptions) -> OpensshConnection:
    """How the ssh program is called for this host."""
    check_name(host.address, "host name")
    arguments: list[str] = ["-F", options.config] if options.config else []
    arguments += ["-l", check_name(host.user, "user name")] if host.user else []
    arguments += ["-p", str(host.port)] if host.port else []
    arguments += ["-i", host.identity_file] if host.identity_file else []
    if host.known_hosts:
        arguments += ["-o", f"UserKnownHostsFile={host.known_hosts}"]
    jumps = [
        target(inventory.hosts[one]) if one in inventory.hosts else one
        for one in jump_targets(host, inventory, options)
    ]
    if jumps:
        arguments += ["-J", ",".join(jumps)]
    return OpensshConnection(
        tuple(arguments), host.address, options.deadline, options.connect_timeout, options.host_keys == "accept-new"
    )


def by_paramiko(host: Host, inventory: Inventory, options: ReachOptions) -> Connection:
    """SSH in this process."""
    hops = hops_of(host, inventory, options)
    beyond = next((hop.beyond_us for hop in hops if hop.beyond_us), None)
    if beyond:
        raise HostError(
            ErrorCode.UNSUPPORTED, f"{beyond}, which only the ssh program can follow", 'transport = "openssh"'
        )
    return open_hops(hops, options)


def by_auto(host: Host, inventory: Inventory, options: ReachOptions) -> Connection:
    """SSH in this process where the settings are within its reach, else the ssh program, with a word why."""
    hops = hops_of(host, inventory, options)
    why = next((hop.beyond_us for hop in hops if hop.beyond_us), None)
    if why is None:
        try:
            return open_hops(hops, options)
        except HostError as error:
            from halfopen.reach.paramiko import has_openssh

            if error.code is not ErrorCode.UNSUPPORTED or not has_openssh():
                raise
            why = error.message
    return replace(openssh(host, inventory, options), note=f"reached by the ssh program: {why}")


def open_hops(hops: Sequence[Settings], options: ReachOptions) -> Connection:
    """SSH in this process through these hops."""
    from halfopen.reach.paramiko import Patience, open_ssh

    patience = Patience(options.connect_timeout, options.deadline)
    return open_ssh(hops, patience, options.host_keys == "accept-new", options.interactive)


def hops_of(host: Host, inventory: Inventory, options: ReachOptions) -> list[Settings]:
    """The settings of every hop, the host last. What the inventory says wins over what ssh resolves."""
    check_name(host.address, "host name")
    lookup = Lookup(target(host), options.config)
    if options.transport != "openssh":
        from halfopen.reach.paramiko import load_paramiko

        load_paramiko()  # while ssh -G runs
    own = merged(lookup.settings(), host)
    jumps = jump_targets(host, inventory, options) or list(own.jump)
    if len(jumps) > 8:
        raise UsageError(f"hosts.{host.name}: {len(jumps)} jump hosts are too many", "8 at the most")
    hops = []
    for jump in jumps:
        entry = inventory.hosts.get(jump)
        if entry:
            refuse_untrusted(entry, inventory)
        settings = Lookup(target(entry) if entry else jump, options.config).settings()
        hops.append(merged(settings, entry) if entry else replace_known(settings, host))
    return [*hops, own]


def target(host: Host) -> str:
    """A host as ssh takes it."""
    address = f"[{host.address}]" if ":" in host.address else host.address
    return (f"{host.user}@" if host.user else "") + address + (f":{host.port}" if host.port else "")


def jump_targets(host: Host, inventory: Inventory, options: ReachOptions) -> list[str]:
    """The jump hosts that the user or the inventory names, in order; a jump host's own jumps come before it."""
    text = options.jump or host.jump
    found: list[str] = []
    for one in text.split(",") if text else []:
        entry = inventory.hosts.get(one.strip())
        if entry is not None and entry.jump and entry.name != host.name:
            found += jump_targets(entry, inventory, replace(options, jump=None))
        if entry is None:
            split_target(one.strip())
        found.append(one.strip())
    return found


def merged(settings: Settings, host: Host) -> Settings:
    """Resolved settings with what the inventory says of this host."""
    if host.identity_file:
        settings = replace(settings, identity_files=(host.identity_file,), identities_only=True)
    return replace_known(replace(settings, user=host.user or settings.user, port=host.port or settings.port), host)


def replace_known(settings: Settings, host: Host) -> Settings:
    """The inventory's known_hosts in place of the user's."""
    return replace(settings, known_hosts=(host.known_hosts,)) if host.known_hosts else settings


TRANSPORTS: dict[str, Callable[[Host, Inventory, ReachOptions], Connection]] = {
    "auto": by_auto,
    "paramiko": by_paramiko,
    "openssh": by_openssh,
    "local": by_local,
    "exec": by_exec,
}
