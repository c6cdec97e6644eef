"""Evidence made by hand: hosts, tables and looks, for tests of the judgement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from halfopen import address
from halfopen.judge.confirm.bracket import Bracket, Observations
from halfopen.matching.missing.way import Network, queries_of
from halfopen.matching.pairing.connection import Suspect
from halfopen.model import (
    Absence,
    Collector,
    HostFacts,
    InterfaceAddress,
    Link,
    ListenSocket,
    Namespace,
    NetnsRef,
    Observation,
    Route,
    RouteQuery,
    Routing,
    Snapshot,
    Socket,
    TcpInfo,
)
from halfopen.plan import CheckPlan
from halfopen.table import NO_INODE, Table
from halfopen.tcp import State, number_of

CLIENT, SERVER = address.parse("10.0.0.1"), address.parse("10.0.0.2")
LONG_AGO, JUST_NOW = 1_000_000, 0  # milliseconds


def key(port: int, server_port: int = 5432, client: bytes = CLIENT, server: bytes = SERVER) -> bytes:
    """The client's key of a connection from this port."""
    return address.make_key(client, port, server, server_port)


def sock(one: bytes, state: State = State.ESTABLISHED, cookie: int | None = 1, inode: int = 77) -> Socket:
    """A socket with nothing remarkable about it."""
    return Socket(key=one, state=state, family=2, cookie=cookie, inode=inode, recv_q=0, send_q=0, retransmits=0)


def info(idle_ms: int = 0, **fields: Any) -> TcpInfo:
    """The numbers of a client that has had the SYN-ACK `idle_ms` ago and nothing since, with these fields changed."""
    fresh: dict[str, Any] = dict.fromkeys(TcpInfo.__struct_fields__, 0)
    fresh |= {f"last_{what}_ms": idle_ms for what in ("data_sent", "data_recv", "ack_recv")}
    fresh |= {"rto_us": 200_000, "rtt_us": 500, "bytes_acked": 1, "segs_out": 2, "segs_in": 1}
    return TcpInfo(**{**fresh, **fields})


def counted(acked: int | None = 1, received: int | None = 0, **more: int | None) -> TcpInfo:
    """Counters of a socket that measured a round trip. Its last data were sent just now, and received long ago."""
    plain = dict.fromkeys(("ca_state", "retransmits", "probes", "backoff", "options", "unacked", "total_retrans"), 0)
    plain |= {
        "rto_us": 204_000,
        "rtt_us": 40,
        "rttvar_us": 20,
        "snd_mss": 1448,
        "last_ack_recv_ms": JUST_NOW,
        "snd_wnd": 65536,
    }
    plain |= {"last_data_sent_ms": JUST_NOW, "last_data_recv_ms": LONG_AGO}
    return TcpInfo(**(plain | {"bytes_acked": acked, "bytes_received": received} | more))  # type: ignore[arg-type]


def end(acked: int | None = 1, received: int | None = 0, queued: int | None = 0, **more: int | None) -> Socket:
    """An established socket with these counters."""
    return replace(sock(key(40000)), send_q=queued, info=counted(acked, received, **more))


def facts(name: str, collector: Collector = Collector.NETLINK) -> HostFacts:
    """A host that answered."""
    return HostFacts(name, "6.1.0", f"boot-{name}", 1000.0, True, collector)


def snapshot(
    host: str,
    addresses: Iterable[bytes],
    sockets: Sequence[Socket],
    listeners: Sequence[ListenSocket] = (),
    ports: Iterable[int] = (),
    netns: int = 1,
) -> Snapshot:
    """One host with one namespace."""
    rows = [
        (
            one.family,
            one.scope,
            one.key,
            number_of(one.state),
            NO_INODE if one.inode == 0 and one.state is State.ESTABLISHED else 0,
        )
        for one in sockets
    ]
    space = Namespace(
        netns,
        tuple(InterfaceAddress(packed, (1,)) for packed in addresses),
        Table.of(rows),
        tuple(listeners),
        frozenset(ports),
    )
    return Snapshot(host, facts(host), (space,))


def sights(
    snapshots: Iterable[Snapshot], sockets: Mapping[str, Sequence[Socket]], suspects: Iterable[Suspect]
) -> Observations:
    """What exact look-ups of all suspects would find if these were the sockets of the hosts."""
    places = {one.host: NetnsRef(one.host, one.namespaces[0].netns) for one in snapshots}
    found: dict[tuple[NetnsRef, bytes], Observation] = {}
    for suspect in suspects:
        for ask in (suspect.client, suspect.server):
            for place in ask.places:
                found[place, ask.key] = Absence.ABSENT
    for host, here in sockets.items():
        for one in here:
            found[places[host], one.key] = one
    return found


def bracket(*looks: Observations) -> Bracket:
    """One look for all three, or three of them, after a pause as by default."""
    before, between, after = looks if len(looks) == 3 else looks * 3
    return Bracket(before, between, after, {}, 1.5)


def one_link(
    plan: CheckPlan, snapshots: Mapping[str, Snapshot], suspects: Sequence[Suspect]
) -> Mapping[NetnsRef, Routing]:
    """The routes of these suspects where all hosts are on one link and know each other there, by namespace."""
    network = Network(plan, snapshots)
    owners = {own.address: host for host, found in snapshots.items() for own in addresses_of(found)}
    found: dict[NetnsRef, dict[RouteQuery, Route | None]] = {}
    for query in queries_of(suspects, network):
        owner = owners.get(query.peer)
        found.setdefault(query.place, {})[query] = Route(2, None, owner.encode() if owner else None)
    return {netns: Routing(routes, {2: Link(2, "eth0", netns.host.encode(), "")}) for netns, routes in found.items()}


def addresses_of(snapshot: Snapshot) -> Sequence[InterfaceAddress]:
    """The addresses of a host's own namespace."""
    return snapshot.namespaces[0].addresses if snapshot.namespaces else ()


def untranslated(snapshot: Snapshot) -> Snapshot:
    """The host without connection tracking."""
    return replace(snapshot, namespaces=tuple(replace(space, tracked=0) for space in snapshot.namespaces))
