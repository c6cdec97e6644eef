"""One finding with all the evidence around it: what the rules for causes, the outlook and the advice read."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.judge.confirm.rounds import Confirmed
from halfopen.model import NAMESPACE_AGE, HostFacts, ListenSocket, NetnsRef, Process, Snapshot, Socket


class HostEvidence(Struct, frozen=True):
    """What is known of one host beside its connections. Counters: name -> value before and after the looks.

    `owners`: inode -> process, for reported sockets and their listeners only. `holders`: the same where a source tells
    processes and no inodes, by a socket's key or a listener's address and port.
    Counters and sysctls of another network namespace than the host's own have its inode and a slash before their name.
    `netns`: that other namespace, where this is what is known of it; None for the host's own.
    `lifetimes`: network namespace -> its least age in seconds, None for the host's own.
    """

    name: str
    facts: HostFacts | None = None
    before: Mapping[str, int] = {}
    after: Mapping[str, int] = {}
    sysctls: Mapping[str, int] = {}
    owners: Mapping[int, Process] = {}
    holders: Mapping[bytes, Process] = {}
    netns: int | None = None
    lifetimes: Mapping[int | None, int] = {}

    @property
    def counts_for_s(self) -> float | None:
        """For how many seconds its counters have counted: since its boot, or since their namespace was made."""
        known = (self.facts.uptime_s if self.facts else None, self.lifetimes.get(self.netns))
        return min((seconds for seconds in known if seconds is not None), default=None)

    def within(self, netns: int | None) -> HostEvidence:
        """The same as it is in another network namespace of the host: what was not read there is unknown."""
        mark = f"{netns}/"
        before, after, sysctls = (
            {name.removeprefix(mark): value for name, value in found.items() if name.startswith(mark)}
            for found in (self.before, self.after, self.sysctls)
        )
        return replace(self, before=before, after=after, sysctls=sysctls, netns=netns)

    def value(self, counter: str) -> int | None:
        """The counter at the end of the run, None if the host did not tell."""
        return self.after.get(counter, self.before.get(counter))

    def delta(self, counter: str) -> int | None:
        """What the counter grew by during the run, None if it was not read twice."""
        if counter not in self.before or counter not in self.after:
            return None
        return self.after[counter] - self.before[counter]

    def owner(self, socket: Socket | ListenSocket | None) -> Process | None:
        """The process that holds a socket, None if nobody does or it could not be read."""
        if socket is None:
            return None
        named = socket.key if isinstance(socket, Socket) else socket.address + socket.port.to_bytes(2, "big")
        return (self.owners.get(socket.inode) if socket.inode else None) or self.holders.get(named)


class Case(Struct, frozen=True):
    """A finding, its two hosts, and the listener of the server's end with its process.

    `outage`: that listener takes nobody any more (see `severity.with_outages`). `former`: another host of the check
    that still has sockets with the local address of the end that is not there, so that it had the address before.
    """

    held: Confirmed
    client: HostEvidence
    server: HostEvidence
    listener: ListenSocket | None
    outage: bool = False
    former: str | None = None

    @property
    def listener_process(self) -> Process | None:
        """Who accepts at the server."""
        return self.server.owner(self.listener)

    @property
    def listener_name(self) -> str | None:
        """The address and port where the server listens, as the client dials it."""
        if self.listener is None:
            return None
        local, port, _, _ = address.split_key(self.held.suspect.server.key)
        return address.endpoint(local, port)


def lifetimes_in(counters: Mapping[str, int]) -> dict[int | None, int]:
    """`HostEvidence.lifetimes`, from counters among which there is NAMESPACE_AGE."""
    named = ((name.rpartition("/"), value) for name, value in counters.items())
    return {int(netns) if netns else None: value for (netns, _, name), value in named if name == NAMESPACE_AGE}


def listener_of(snapshot: Snapshot | None, place: NetnsRef, key: bytes) -> ListenSocket | None:
    """The LISTEN socket that a server's end with this key came from: the most specific address with its port."""
    local, port, _, _ = address.split_key(key)
    if snapshot is None:
        return None
    found = [
        listener
        for namespace in snapshot.namespaces
        if namespace.netns == place.netns
        for listener in namespace.listeners
        if listener.port == port
        and (listener.address == local or address.is_unspecified(listener.address))
        # An IPv6 wildcard takes IPv4 too, unless it is V6ONLY; an IPv4 one never takes IPv6.
        and (len(listener.address) == 16 or len(local) == 4)
    ]

    # Of several that share a port (SO_REUSEPORT), the one with the longest queue.
    def rank(listener: ListenSocket) -> tuple[bool, bool, int]:
        return listener.address != local, len(listener.address) != len(local), -(listener.queue or 0)

    return min(found, key=rank, default=None)


def is_full(listener: ListenSocket) -> bool | None:
    """Whether the accept queue takes no more: it holds backlog + 1 (sk_acceptq_is_full uses `>`)."""
    if listener.queue is None or listener.backlog is None:
        return None
    return listener.queue > listener.backlog
