"""How a host is reached: the table of transports, jump hosts, and how `auto` chooses."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from halfopen.errors import ErrorCode, HostError, UsageError
from halfopen.plan import Host, Inventory
from halfopen.reach.channel import Channel, Connection
from halfopen.reach.local import ExecConnection, LocalConnection
from halfopen.reach.openssh import OpensshConnection, Stop
from halfopen.reach.settings import Lookup, Settings, beyond_us, check_identity, check_name, split_target


class ReachOptions(Struct, frozen=True):
    """How to reach hosts in one run. Seconds; `deadline` is a time of time.monotonic()."""

    connect_timeout: float
    deadline: float
    host_keys: str = "strict"
    jump: str | None = None
    transport: str | None = None
    interactive: bool = False
    config: str | None = None  # another ssh_config, for tests

    def settings(self, name: str) -> Settings:
        """The settings of ssh for [user@]host[:port]. HostError where `ssh -G` does not answer in time."""
        return self.found(Lookup(name, self.config))

    def found(self, lookup: Lookup) -> Settings:
        """The settings of a look-up that was started before."""
        return lookup.settings(max(0.1, min(self.connect_timeout, self.deadline - time.monotonic())))


class Sudo(Struct):
    """A connection whose commands run as root, if sudo asks for no password."""

    inner: Connection

    @property
    def transport(self) -> str:
        """The transport of the inner connection."""
        return self.inner.transport

    @property
    def note(self) -> str | None:
        """Its note."""
        return self.inner.note

    def run(self, command: str) -> Channel:
        """Start `command` under sudo -n, which drops the variable that names our own connection."""
        inner = shlex.quote(f"SSH_CONNECTION=$1; export SSH_CONNECTION; {command}")
        asked = f'exec sudo -n /bin/sh -c {inner} sh "$SSH_CONNECTION"'
        return self.inner.run(f"exec /bin/sh -c {shlex.quote(asked)}")

    def sockets(self, near: bool) -> list[bytes]:
        """Those of the inner connection."""
        return self.inner.sockets(near)

    def close(self) -> None:
        """Closes the inner connection."""
        self.inner.close()


def connect(host: Host, inventory: Inventory, options: ReachOptions) -> Connection:
    """Reaches a host. HostError with a code of the contract if that fails, UsageError for what is not allowed."""
    transport = (options.transport if host.transport not in ("local", "exec") else None) or host.transport
    connection = TRANSPORTS[transport](host, inventory, options)
    if host.sudo:
        return Sudo(connection)
    return connection


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
    """How the ssh program is called for this host, and for every jump host before it."""
    check_name(host.address, "host name")
    resolved = options.settings(target(host)).jump
    stops = [stop_of(jump, host) for jump in route(host, inventory, options, resolved)]
    own = Stop(host.address, host.port, host.user, host.identity_file, host.known_hosts)
    for stop in (*stops, own):
        check_identity(stop.identity_file)
    accept_new = options.host_keys == "accept-new"
    return OpensshConnection((*stops, own), options.deadline, options.connect_timeout, accept_new, options.config)


def stop_of(jump: Host | str, host: Host) -> Stop:
    """A jump host for the ssh program; one that is no entry of the inventory has the host's own known_hosts."""
    if isinstance(jump, Host):
        check_name(jump.address, "host name")
        return Stop(jump.address, jump.port, jump.user, jump.identity_file, jump.known_hosts)
    user, name, port = split_target(jump)
    return Stop(name, port, user, known_hosts=host.known_hosts)


def route(host: Host, inventory: Inventory, options: ReachOptions, resolved: Sequence[str]) -> list[Host | str]:
    """The jump hosts in order, entries of the inventory or user@host:port as ssh takes it: those that are named, else
    those that ssh resolved.

    The first of them is reached as ssh would, so that its own ProxyJump comes before it. What ssh resolved is ssh's
    word: an entry of the inventory with the same name has nothing to do with it.
    """
    jumps: list[Host | str] = jump_targets(host, inventory, options) or list(resolved)
    while jumps and len(jumps) <= MOST_JUMPS:
        before = options.settings(target(jumps[0])).jump
        if not before:
            break
        jumps = [*before, *jumps]
    if len(jumps) > MOST_JUMPS:
        raise UsageError(f"hosts.{host.name}: {len(jumps)} jump hosts are too many", f"{MOST_JUMPS} at the most")
    return jumps


def by_paramiko(host: Host, inventory: Inventory, options: ReachOptions) -> Connection:
    """SSH in this process."""
    hops = hops_of(host, inventory, options)
    beyond = next((why for hop in hops if (why := beyond_us(hop))), None)
    if beyond:
        raise HostError(
            ErrorCode.UNSUPPORTED, f"{beyond}, which only the ssh program can follow", 'transport = "openssh"'
        )
    return open_hops(hops, options)


def by_auto(host: Host, inventory: Inventory, options: ReachOptions) -> Connection:
    """SSH in this process where it can follow the settings, else the ssh program, with a note why."""
    hops = hops_of(host, inventory, options)
    why = next((why for hop in hops if (why := beyond_us(hop))), None)
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
    from halfopen.reach.library import Patience
    from halfopen.reach.paramiko import open_ssh

    patience = Patience(options.connect_timeout, options.deadline)
    return open_ssh(hops, patience, options.host_keys == "accept-new", options.interactive)


def hops_of(host: Host, inventory: Inventory, options: ReachOptions) -> list[Settings]:
    """The settings of every hop, the host last. What the inventory says wins over what ssh resolves."""
    check_name(host.address, "host name")
    lookup = Lookup(target(host), options.config)
    if options.transport != "openssh":
        from halfopen.reach.library import load_paramiko

        load_paramiko()  # while ssh -G runs
    own = merged(options.found(lookup), host)
    hops = []
    for jump in route(host, inventory, options, own.jump):
        settings = options.settings(target(jump))
        hops.append(merged(settings, jump) if isinstance(jump, Host) else replace_known(settings, host))
    return [*hops, own]


def target(host: Host | str) -> str:
    """A host as the ssh program takes it: [user@]address[:port]."""
    if isinstance(host, str):
        return host
    address = f"[{host.address}]" if ":" in host.address else host.address
    return (f"{host.user}@" if host.user else "") + address + (f":{host.port}" if host.port else "")


def jump_targets(host: Host, inventory: Inventory, options: ReachOptions) -> list[Host | str]:
    """The jump hosts that the user or the inventory names, in order; a jump host's own jumps come before it.

    A name is an entry of the inventory only where that is the user's own: an untrusted file would choose the route.
    """
    text = options.jump or host.jump
    found: list[Host | str] = []
    for name in map(str.strip, text.split(",") if text else ()):
        entry = inventory.hosts.get(name) if inventory.trusted else None
        if entry is None:
            split_target(name)
        elif entry.jump and entry.name != host.name:
            found += jump_targets(entry, inventory, replace(options, jump=None))
        found.append(entry or name)
    return found


def merged(settings: Settings, host: Host) -> Settings:
    """Resolved settings, overridden by what the inventory says of this host."""
    if host.identity_file:
        settings = replace(settings, identity_files=(host.identity_file,), identities_only=True)
    return replace_known(replace(settings, user=host.user or settings.user, port=host.port or settings.port), host)


def replace_known(settings: Settings, host: Host) -> Settings:
    """The inventory's known_hosts in place of the user's."""
    return (
        replace(settings, known_hosts=(host.known_hosts,), new_keys=host.known_hosts) if host.known_hosts else settings
    )


MOST_JUMPS = 8

TRANSPORTS: dict[str, Callable[[Host, Inventory, ReachOptions], Connection]] = {
    "auto": by_auto,
    "paramiko": by_paramiko,
    "openssh": by_openssh,
    "local": by_local,
    "exec": by_exec,
}
