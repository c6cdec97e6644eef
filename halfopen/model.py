"""The nouns of the evidence: what a host said, as values. Nothing here opens, reads or judges anything.

Durations are seconds, sizes bytes, addresses canonical packed bytes (see `address`). Unknown is None, never 0.
Text that a host chose (names of processes, hosts, interfaces) is hostile until a renderer has escaped it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Struct

from halfopen import address
from halfopen.errors import HostError
from halfopen.table import Table
from halfopen.tcp import State, Timer

Number = Annotated[int, msgspec.Meta(ge=0)]
"""What a kernel counts or numbers."""
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Family = Annotated[int, msgspec.Meta(ge=2, le=10)]
"""AF_INET (2) or AF_INET6 (10), as Linux numbers them."""


class Collector(StrEnum):
    """Where a host's sockets were read from."""

    NETLINK = "netlink"
    PROCFS = "procfs"
    SS = "ss"
    NETSTAT = "netstat"
    LSOF = "lsof"
    PSUTIL = "psutil"
    CAPTURE = "capture"


class TcpInfo(msgspec.Struct, frozen=True):
    """struct tcp_info of include/uapi/linux/tcp.h, the fields that we read; None where the kernel is too old.

    Times are milliseconds as the kernel gives them, except rto, rtt, rttvar and min_rtt in microseconds.
    A Struct, because thousands are made at once, and a frozen dataclass takes ten times as long.
    """

    ca_state: Number
    retransmits: Number
    probes: Number
    backoff: Number
    options: Number
    rto_us: Number
    unacked: Number
    last_data_sent_ms: Number
    last_data_recv_ms: Number
    last_ack_recv_ms: Number
    rtt_us: Number
    rttvar_us: Number
    snd_mss: Number
    total_retrans: Number
    bytes_acked: Number | None = None
    bytes_received: Number | None = None
    segs_out: Number | None = None
    segs_in: Number | None = None
    notsent_bytes: Number | None = None
    data_segs_in: Number | None = None
    data_segs_out: Number | None = None
    bytes_sent: Number | None = None
    bytes_retrans: Number | None = None
    snd_wnd: Number | None = None
    rcv_wnd: Number | None = None


class Socket(Struct, frozen=True):
    """One socket as its kernel described it. `key` is canonical; `family` is what the kernel said (2 or 10)."""

    key: bytes
    state: State
    family: Family
    scope: Number = 0  # interface index that the socket is bound to or scoped by
    timer: Timer | None = None
    timer_expires_s: float | None = None
    retransmits: Number | None = None  # retransmissions, or probes for keepalive and zero-window timers
    recv_q: Number | None = None
    send_q: Number | None = None
    uid: Number | None = None
    inode: Number | None = None  # 0: no descriptor anywhere (accept queue, request socket, orphan, TIME_WAIT)
    cookie: Number | None = None  # the same in two looks: the same socket
    info: TcpInfo | None = None


class ListenSocket(Struct, frozen=True):
    """A LISTEN socket. `queue` is the length of its accept queue; it holds `backlog` + 1."""

    address: bytes
    port: Port
    family: Family
    scope: Number = 0
    queue: Number | None = None
    backlog: Number | None = None
    uid: Number | None = None
    inode: Number | None = None
    cookie: Number | None = None

    @property
    def is_full(self) -> bool:
        """Whether its accept queue takes no more (include/net/sock.h sk_acceptq_is_full); False if that is unknown."""
        return self.queue is not None and self.backlog is not None and self.queue > self.backlog


class Process(Struct, frozen=True):
    """The process that holds a socket. `unit` is the container or systemd unit that its cgroup names.

    `name` is "" where a source gives the pid alone. `stopped`: by SIGSTOP or a debugger. `age_s`: since it began.
    """

    pid: Number
    name: str
    command: str | None = None
    unit: str | None = None
    stopped: bool | None = None
    age_s: Number | None = None


NAMESPACE_AGE = "namespace-age"
"""A name among the counters of a network namespace: for how many seconds, at least, it has been there."""


class InterfaceAddress(Struct, frozen=True):
    """An address of an interface; `links` are the indexes of the interfaces that have it.

    `prefix`: bits of it that all addresses on the same link share, None where it is not known.
    `route`: of an address in another namespace, the index of the link by which the host's own namespace would send to
    it; None where it was not asked, or there is no route.
    """

    address: bytes
    links: tuple[Number, ...]
    prefix: Number | None = None
    route: Number | None = None


class LocalRoute(Struct, frozen=True):
    """A route of type local that is wider than one address: what is in it is the host's own (AnyIP).

    `prefix`: bits of `address` that all of its addresses share.
    """

    address: bytes
    prefix: Number


class Link(Struct, frozen=True):
    """An interface. address: its link-layer address. kind: as `ip -details link` names it, "" for hardware.

    master: index of the bridge or bond that it belongs to, 0 for none. joined: index of the interface that it is joined
    to (the other end of a veth, or what it stands on), 0 for none; joined_netns: inode of the namespace where that is.
    """

    index: int
    name: str
    address: bytes
    kind: str
    master: int = 0
    joined: int = 0
    joined_netns: int | None = None


class Reach(Struct, frozen=True):
    """What leads to a network namespace, and whose it is.

    owner: uid of the owner of its user namespace, None where the kernel does not say. links: its interfaces that are
    joined to one of another namespace, and those of hardware; None where the kernel refused to list them.
    """

    owner: int | None
    links: tuple[Link, ...] | None


class Rewrites(Struct, frozen=True):
    """Entries of a connection tracking table that translate, packed: evidence that a flow was translated, never that it
    still exists.

    A pair is the key of the first packet (see `address`: source as local, destination as peer) as it came in and as
    it went on. `narrow` holds pairs of 12-byte keys, `wide` of 36-byte ones. `inner`: interfaces behind which there
    are namespaces of this host and nobody else. `nowhere`: packed addresses behind a translation to which the namespace
    has no route: whoever had such an address is gone.
    """

    narrow: bytes = b""
    wide: bytes = b""
    inner: tuple[int, ...] = ()
    nowhere: tuple[bytes, ...] = ()

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """(key before, key after), one pair an entry."""
        for width, packed in ((address.V4_KEY, self.narrow), (address.V6_KEY, self.wide)):
            yield from struct.iter_unpack(f"{width}s{width}s", packed)

    def __len__(self) -> int:
        return len(self.narrow) // (2 * address.V4_KEY) + len(self.wide) // (2 * address.V6_KEY)


class Namespace(Struct, frozen=True):
    """One network namespace of a host at one moment: its addresses and its sockets.

    `covered_ports` are the ports the dump was limited to (either side), empty for all; `other_listeners` those beside
    them on which something listens, as far as it is known.
    `whole` is False where rows may be missing: then an absent row proves nothing. `damaged`: because some could not be
    read, or were cut off.
    `tracked`: entries of its connection tracking, one more if IPVS has any; 0 where it has none, None where it is not
    known.
    `forwards`: whether it routes packets for others. `redirects`: whether connection tracking leads from one of the
    `covered_ports` to another port, or from another to one of them. `rewrites`: what translates here, None where it was
    not read.
    `local_routes`: networks of which it has every address. `reach`: what leads to it, None where it was not asked.
    """

    netns: int | None
    addresses: tuple[InterfaceAddress, ...]
    table: Table
    listeners: tuple[ListenSocket, ...]
    covered_ports: frozenset[Port] = frozenset()
    whole: bool = True
    tracked: Number | None = None
    forwards: bool = False
    redirects: bool = False
    rewrites: Rewrites | None = None
    local_routes: tuple[LocalRoute, ...] = ()
    reach: Reach | None = None
    other_listeners: frozenset[Port] = frozenset()
    damaged: bool = False


class HostFacts(Struct, frozen=True):
    """Who answered."""

    hostname: str
    kernel: str
    boot_id: str | None
    uptime_s: float | None
    privileged: bool | None
    collector: Collector
    uid: int | None = None
    python: str | None = None
    gaps: tuple[str, ...] = ()  # sentences: what could not be read, and what would allow it
    sees_namespaces: bool | None = None  # whether containers were read too; None: this collector cannot tell
    started_at: float | None = None  # when its kernel started, in seconds of the host's own clock


class Snapshot(Struct, frozen=True):
    """All that one host said in one look: facts and namespaces, or the error that kept it from answering."""

    host: str
    facts: HostFacts | None
    namespaces: tuple[Namespace, ...] = ()
    error: HostError | None = None
    transport: str = "paramiko"


class NetnsRef(Struct, frozen=True):
    """A network namespace: the host by its inventory name, and the namespace's inode (None: the only one known)."""

    host: str
    netns: int | None = None


class Lookup(Struct, frozen=True):
    """A request to look up one end exactly. `family` and `scope` are hints of where it was seen, or of its peer."""

    place: NetnsRef
    key: bytes
    scope: int = 0


class RouteQuery(Struct, frozen=True):
    """A request for the route of packets from a local address to a peer's, in one namespace.

    `scope`: index of the interface that their socket is bound to, 0 for none.
    """

    place: NetnsRef
    local: bytes
    peer: bytes
    scope: int = 0


class Route(Struct, frozen=True):
    """Where a namespace sends such packets. link: index of the interface that they leave by.

    gateway: None if the peer is on that link. neighbour: the link-layer address that they are sent to, the gateway's or
    the peer's; None where the kernel has no valid entry. is_local: they do not leave the namespace.
    """

    link: int
    gateway: bytes | None = None
    neighbour: bytes | None = None
    is_local: bool = False


class Routing(Struct, frozen=True):
    """What one namespace answered: its interfaces by index, and the route of each query; None where there is none."""

    routes: Mapping[RouteQuery, Route | None]
    links: Mapping[int, Link]


class Absence(StrEnum):
    """What a look-up that found no socket means."""

    ABSENT = "absent"  # looked, not there
    UNSEEN = "unseen"  # could not look


Observation = Socket | Absence


class Look(Struct, frozen=True):
    """The answers of one host to exact look-ups, in one go. Looks are ordered by the laptop's monotonic clock alone."""

    host: str
    sights: Mapping[tuple[NetnsRef, bytes], Observation]
    error: HostError | None = None


class AskQuery(Struct, frozen=True):
    """A request to ask through one socket whether anybody answers it. `cookie`: None where its collector has none."""

    place: NetnsRef
    key: bytes
    inode: int
    cookie: int | None = None


class Unasked(StrEnum):
    """Why a socket was not asked, or not to the end."""

    NO_HOLDER = "no-holder"  # no process has a descriptor of it
    NOT_ALLOWED = "not-allowed"  # the kernel refuses the descriptor, or the options
    ANOTHER = "another"  # it is another socket by now
    NOT_ESTABLISHED = "not-established"
    IN_REPAIR = "in-repair"  # TCP_REPAIR: somebody moves it to another host
    SENDS = "sends"  # it waits for an acknowledgement already
    OWN_TIMEOUT = "own-timeout"  # TCP_USER_TIMEOUT and a keepalive of its own
    OWN_LIMIT = "own-limit"  # one more probe might end it, by its TCP_KEEPCNT or TCP_USER_TIMEOUT
    LATE = "late"  # no time was left
    CLOSED = "closed"  # its program has closed it meanwhile
    TOO_MANY = "too-many"  # its host was asked about as many as one run may
    NO_PROBE = "no-probe"  # its host is read without the probe, or has failed


class Reply(Struct, frozen=True):
    """What became of asking one socket. `unasked`: None where it was asked to the end.

    errno: what the kernel refused with, 0 if nothing. tries: keepalive probes sent. elapsed_s: from the first one on.
    before, after: its tcp_info, and `state` its state after; None where it was not looked at.
    """

    unasked: Unasked | None
    errno: int = 0
    tries: int = 0
    elapsed_s: float = 0.0
    state: State | None = None
    before: TcpInfo | None = None
    after: TcpInfo | None = None


class AskedEnd(Struct, frozen=True):
    """An end of a connection that was to be asked, and what became of it."""

    place: NetnsRef
    key: bytes
    reply: Reply


def show_connection(key: bytes) -> str:
    """`10.0.1.5:40312 -> 10.0.2.9:5432` for the end whose key it is."""
    local, local_port, peer, peer_port = address.split_key(key)
    return f"{address.endpoint(local, local_port)} -> {address.endpoint(peer, peer_port)}"
