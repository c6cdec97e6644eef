"""A world of simulated hosts: sockets, segments on their way, programs, and a clock of its own.

Enough of TCP (RFC 9293) that two ends come into each pair of states as real kernels bring them there, by segments that
take their time and may be lost. It is the truth that tests hold a check against: what is wrong with a connection is
written down by whoever breaks it (`Connection.fault`), never read off its sockets. Times are seconds.

What moves here arrives in the end: without a fault no state between two others lasts for more than a second and a bit,
which is less than a check waits between its rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heappop, heappush
from itertools import count

from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.evidence.text.parsed import marks_of
from halfopen.model import (
    Absence,
    Collector,
    HostFacts,
    InterfaceAddress,
    Link,
    ListenSocket,
    Namespace,
    Observation,
    Reply,
    Rewrites,
    Route,
    RouteQuery,
    Routing,
    Snapshot,
    Socket,
    TcpInfo,
    Unasked,
)
from halfopen.table import CountBlock, Table
from halfopen.tcp import State, Timer, number_of

DELAY = 0.02  # how long a segment is on its way
PROGRAM = 0.1  # how long a program takes to accept a connection, or to close one that its peer has closed
FIRST_TRY, SYN_TRY = 0.2, 1.0  # the first retransmission; doubled each time (TCP_RTO_MIN, TCP_TIMEOUT_INIT)
SYN_TRIES, SYNACK_TRIES, DATA_TRIES, ORPHAN_TRIES = 6, 5, 15, 8  # tcp_syn_retries and its like
TIME_WAIT, FIN_TIMEOUT = 60.0, 60.0
RIPE = 3.1  # after so long four retransmissions have been in vain
NETNS = 1
BACKLOG = 128

# What is wrong with a connection of which only one end is left, by the state of that end: (of the client, the server).
LEFT: dict[State, tuple[str, str]] = {
    State.ESTABLISHED: ("missing-on-server", "missing-on-client"),
    State.CLOSE_WAIT: ("abandoned-close",) * 2,
    State.SYN_SENT: ("connect-unanswered",) * 2,
    State.SYN_RECV: ("embryonic",) * 2,
    State.FIN_WAIT1: ("closing-alone",) * 2,
    State.FIN_WAIT2: ("closing-alone",) * 2,
    State.LAST_ACK: ("closing-alone",) * 2,
    State.CLOSING: ("closing-alone",) * 2,
}


class Kind(Enum):
    """What a segment is."""

    SYN = auto()
    SYN_ACK = auto()
    ACK = auto()  # also with data, or with a FIN
    RST = auto()


class Segment(Struct, frozen=True):
    """One packet of a connection: all bytes that its sender has written so far, and all that it has received."""

    kind: Kind
    life: Connection
    sent: int = 0
    acknowledges: int = 0
    fin: bool = False
    acknowledges_fin: bool = False
    wants_answer: bool = False


@dataclass(eq=False)
class End:
    """One socket."""

    host: Machine
    connection: Connection
    key: bytes
    state: State
    cookie: int
    inode: int
    born: float
    is_client: bool
    written: int = 0
    acknowledged: int = 0
    received: int = 0
    sent_at: float = 0.0
    received_at: float = 0.0
    heard_at: float = 0.0
    fin_sent: bool = False
    fin_acknowledged: bool = False
    fin_received: bool = False
    tries: int = 0
    due: float | None = None

    @property
    def is_there(self) -> bool:
        """Whether the kernel has it still."""
        return self.host.ends.get(self.key) is self

    @property
    def outstanding(self) -> bool:
        """Whether something that it sent is not acknowledged."""
        opening = self.state in (State.SYN_SENT, State.SYN_RECV)
        return opening or self.acknowledged < self.written or (self.fin_sent and not self.fin_acknowledged)

    @property
    def timeout(self) -> float:
        """How long it waits before it sends again."""
        first = SYN_TRY if self.state in (State.SYN_SENT, State.SYN_RECV) else FIRST_TRY
        return min(first * (1 << self.tries), 120.0)

    @property
    def most_tries(self) -> int:
        """After how many it gives up."""
        orphan = ORPHAN_TRIES if self.inode == 0 else DATA_TRIES
        return {State.SYN_SENT: SYN_TRIES, State.SYN_RECV: SYNACK_TRIES}.get(self.state, orphan)

    def socket(self, now: float) -> Socket:
        """As its kernel would describe it."""
        timer = Timer.TIMEWAIT if self.state is State.TIME_WAIT else Timer.RETRANSMIT if self.due else Timer.OFF
        return Socket(
            key=self.key,
            state=self.state,
            family=2,
            timer=timer,
            timer_expires_s=max(0.0, self.due - now) if self.due else None,
            retransmits=self.tries,
            recv_q=int(self.fin_received and self.state is State.CLOSE_WAIT),
            send_q=self.written - self.acknowledged + int(self.outstanding and self.acknowledged == self.written),
            uid=1000 if self.inode else 0,
            inode=self.inode,
            cookie=self.cookie,
            info=None if self.state in (State.SYN_RECV, State.TIME_WAIT) else self.info(now),
        )

    def info(self, now: float) -> TcpInfo:
        """Its struct tcp_info."""
        unacknowledged = self.acknowledged < self.written
        return TcpInfo(
            ca_state=4 if self.tries else 0,
            retransmits=self.tries,
            probes=0,
            backoff=self.tries,
            options=0,
            rto_us=round(self.timeout * 1e6),
            unacked=int(self.outstanding),
            last_data_sent_ms=round((now - self.sent_at) * 1000),
            last_data_recv_ms=round((now - self.received_at) * 1000),
            last_ack_recv_ms=round((now - self.heard_at) * 1000),
            rtt_us=round(2e6 * DELAY),
            rttvar_us=round(1e6 * DELAY / 2),
            snd_mss=1448,
            total_retrans=self.tries,
            # The SYN of the end that connected, and a FIN, are acknowledged like a byte.
            bytes_acked=self.acknowledged + self.is_client + self.fin_acknowledged,
            bytes_received=self.received + self.fin_received,
            segs_out=2 + (self.written > 0) + self.tries,
            segs_in=1 + (self.received > 0),
            notsent_bytes=0,
            data_segs_in=int(self.received > 0),
            data_segs_out=int(self.written > 0),
            bytes_sent=self.written,
            bytes_retrans=(self.written - self.acknowledged) * self.tries if unacknowledged else 0,
            snd_wnd=65536,
            rcv_wnd=65536,
        )


@dataclass(eq=False)
class Connection:
    """One life of a 4-tuple: the keys of its two ends, the ends themselves, and the truth about it.

    `cut`: what is sent is lost. `forgetful`: the server's kernel drops the last ACK of the handshake, as it does with a
    SYN cookie when its accept queue is full. `accepts`, `closes`: whether its programs do what they should.
    `fault`: its verdict, None while it is well; `ripe_at`: when that can be told; `troubled_until`: when it was ill
    for the last time.
    """

    client: Machine
    server: Machine
    client_key: bytes
    server_key: bytes
    cut: bool = False
    forgetful: bool = False
    accepts: bool = True
    closes: bool = True
    client_end: End | None = None
    server_end: End | None = None
    fault: str | None = None
    ripe_at: float = 0.0
    troubled_until: float = -1.0
    disturbed_at: float = -100.0
    every_end: list[End] = field(default_factory=list)

    @property
    def ends(self) -> list[End]:
        """Those of its ends that are there."""
        return [end for end in (self.client_end, self.server_end) if end is not None and end.is_there]

    @property
    def is_whole(self) -> bool:
        """Whether it is established, accepted and well."""
        states = [(end.state, bool(end.inode)) for end in self.ends]
        return states == [(State.ESTABLISHED, True)] * 2 and self.fault is None and not self.cut

    @property
    def name(self) -> tuple[str, str]:
        """How a report names it: the client's address, and what it dialled."""
        local, local_port, peer, peer_port = address.split_key(self.client_key)
        return address.endpoint(local, local_port), address.endpoint(peer, peer_port)

    def was_ill(self, since: float) -> bool:
        """Whether anything was wrong with it at any moment from then on."""
        return self.fault is not None or self.troubled_until >= since


@dataclass(eq=False)
class Machine:
    """One host: its address, the ports that its programs listen on, its sockets, and how its answers come.

    `redirects`: port that is dialled -> port that the program has (nft redirect); `entries`: what its connection
    tracking holds of that. `lag`: seconds before each of its answers.
    """

    name: str
    address: bytes
    ports: tuple[int, ...]
    world: World
    redirects: dict[int, int] = field(default_factory=dict)
    entries: dict[bytes, bytes] = field(default_factory=dict)
    ends: dict[bytes, End] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=lambda: {"ListenOverflows": 0, "OutRsts": 0, "TCPTimeouts": 0})
    boots: int = 0
    booted_at: float = -100_000.0
    lag: float = 0.0

    def addresses(self) -> tuple[bytes, ...]:
        """What it says that its interfaces have."""
        return (self.address,)

    def sockets(self) -> Iterable[Socket]:
        """All of its sockets but the listening ones."""
        return [end.socket(self.world.now) for end in self.ends.values()]

    def facts(self) -> HostFacts:
        """Who it is."""
        uptime = self.world.now - self.booted_at
        return HostFacts(self.name, "6.1.0", f"{self.name}-{self.boots}", uptime, True, Collector.NETLINK, 0, "3.11.2")

    def snapshot(self, ports: Iterable[int] = (), translations: bool = False) -> Snapshot:
        """A dump, limited to ports if there are any; with what its connection tracking holds if asked."""
        wanted = frozenset(ports)
        rows = [
            (one.family, one.scope, one.key, number_of(one.state), marks_of(one))
            for one in self.sockets()
            if not wanted or wanted.intersection(address.split_key(one.key)[1::2])
        ]
        space = Namespace(
            NETNS,
            tuple(InterfaceAddress(one, (2,), 24) for one in self.addresses()),
            Table.of(rows),
            tuple(self.listener(port) for port in self.ports),
            wanted,
            tracked=len(self.entries) + bool(self.redirects),  # the connection that asks is tracked too
            rewrites=Rewrites(b"".join(a + b for a, b in self.entries.items())) if translations else None,
        )
        return Snapshot(self.name, self.facts(), (space,))

    def listener(self, port: int) -> ListenSocket:
        """The socket of a program that listens."""
        queue = sum(
            end.inode == 0 and end.state in (State.ESTABLISHED, State.CLOSE_WAIT) and not end.fin_sent
            for end in self.ends.values()
            if address.split_key(end.key)[1] == port
        )
        return ListenSocket(bytes(4), port, 2, queue=queue, backlog=BACKLOG, uid=0, inode=10_000 + port, cookie=port)

    def sight(self, key: bytes) -> Observation:
        """The answer to an exact look-up."""
        found = self.ends.get(key)
        return found.socket(self.world.now) if found is not None else Absence.ABSENT

    def routing(self, wanted: Iterable[RouteQuery]) -> Routing:
        """The answer to queries of routes: all hosts are on one link, and know each other there."""
        found: dict[RouteQuery, Route | None] = {}
        for query in wanted:
            owner = next((one for one in self.world.hosts.values() if query.peer in one.addresses()), None)
            there = None if owner is None or owner is self else owner.link.address
            found[query] = Route(self.link.index, None, there, is_local=owner is self)
        return Routing(found, {self.link.index: self.link})

    @property
    def link(self) -> Link:
        """Its one interface."""
        return Link(2, "eth0", b"\2\0" + self.address[-4:], "")

    def ask(self, key: bytes, inode: int) -> Reply:
        """What three keepalive probes through a socket bring, one a second until one is answered."""
        end = self.ends.get(key)
        if end is None or end.inode != inode:
            return Reply(Unasked.ANOTHER)
        if end.state is not State.ESTABLISHED or end.outstanding:
            return Reply(Unasked.SENDS if end.outstanding else Unasked.NOT_ESTABLISHED)
        before, began, tries = end.info(self.world.now), self.world.now, 0
        while tries < 3 and end.is_there and end.heard_at < began:
            tries += 1
            probe = self.world.segment(end, Kind.ACK)
            self.world.send(end.is_client, replace(probe, wants_answer=True))
            self.world.advance(1.0)
        after = end.info(self.world.now)
        state = end.state if end.is_there else State.CLOSE
        return Reply(None, 0, tries, self.world.now - began, state, before, after)

    def counts(self, ports: Iterable[int] = ()) -> tuple[CountBlock, ...]:
        """Byte counters of all established sockets, limited to ports if there are any."""
        wanted = frozenset(ports)
        return CountBlock.of(
            (one.family, one.scope, one.key, 1, (one.info.bytes_acked or 0, one.info.bytes_received or 0, one.send_q))
            for one in self.sockets()
            if one.state is State.ESTABLISHED and one.info is not None and one.send_q is not None
            if not wanted or wanted.intersection(address.split_key(one.key)[1::2])
        )


class World:
    """Hosts, connections, and what is going to happen. Nothing happens but in `advance`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.hosts: dict[str, Machine] = {}
        self.connections: list[Connection] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count(1)

    # ------------------------------------------------------------------------------------------ time

    def advance(self, seconds: float) -> None:
        """Time passes, and what is due happens."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, happen = heappop(self._events)
            happen()
        self.now = end

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        """Something will happen."""
        heappush(self._events, (self.now + seconds, next(self._numbers), happen))

    # ------------------------------------------------------------------------------------------ hosts and programs

    def add(self, host: Machine) -> Machine:
        """One more host."""
        self.hosts[host.name] = host
        return host

    def host(self, name: str, where: str, *ports: int, redirects: dict[int, int] | None = None) -> Machine:
        """A new host with this address."""
        return self.add(Machine(name, address.parse(where), ports, self, redirects or {}))

    def dial(
        self,
        client: Machine,
        server: Machine,
        local_port: int,
        port: int,
        *,
        cut: bool = False,
        forgetful: bool = False,
        accepts: bool = True,
        closes: bool = True,
    ) -> Connection:
        """A program connects. The port that it dials may be redirected."""
        key = address.make_key(client.address, local_port, server.address, port)
        there = key[:-2] + server.redirects.get(port, port).to_bytes(2, "big")
        made = Connection(client, server, key, address.mirror(there), cut, forgetful, accepts, closes)
        self.connections.append(made)
        made.client_end = self.put(made, State.SYN_SENT, is_client=True)
        self.transmit(made.client_end)
        return made

    def put(self, connection: Connection, state: State, is_client: bool, inode: bool = True) -> End:
        """A new socket."""
        host = connection.client if is_client else connection.server
        key = connection.client_key if is_client else connection.server_key
        number = next(self._numbers)
        end = End(
            host, connection, key, state, 7_000 + number, 50_000 + number if is_client else 0, self.now, is_client
        )
        end.sent_at = end.received_at = end.heard_at = self.now
        host.ends[key] = end
        connection.every_end.append(end)
        return end

    def say(self, end: End, size: int) -> None:
        """Its program writes."""
        end.written += size
        end.sent_at = self.now
        self.send(end.is_client, self.segment(end, Kind.ACK))
        if end.due is None:
            self.arm(end)

    def close(self, end: End, orphan: bool = True) -> None:
        """Its program closes it, or (not `orphan`) shuts down its sending side."""
        if end.state in (State.ESTABLISHED, State.CLOSE_WAIT):
            end.fin_sent = True
            end.inode = 0 if orphan else end.inode
            self.turn(end, State.FIN_WAIT1 if end.state is State.ESTABLISHED else State.LAST_ACK)
            self.transmit(end)

    def abort(self, end: End) -> None:
        """Its program ends it at once, with a RST."""
        end.host.counters["OutRsts"] += 1
        self.send(end.is_client, Segment(Kind.RST, end.connection))
        self.forget(end)

    def forget(self, end: End) -> None:
        """The socket is gone, and says nothing."""
        if end.is_there:
            del end.host.ends[end.key]
            self.find(end.connection, None)

    def find(self, connection: Connection, fault: str | None, ripe: float = 0.0) -> None:
        """Writes down what is wrong with a connection from now on, and after how many seconds that can be told."""
        if connection.fault is not None:
            connection.troubled_until = self.now
        connection.fault, connection.ripe_at = fault, self.now + ripe

    def left(self, connection: Connection) -> None:
        """Writes down what is wrong now that an end has gone for good."""
        ends = connection.ends
        states = LEFT.get(ends[0].state) if len(ends) == 1 else None
        self.find(connection, states[not ends[0].is_client] if states else None)

    def reboot(self, host: Machine) -> None:
        """All of its sockets are gone, and its programs start again."""
        hit = [end.connection for end in host.ends.values()]
        host.ends.clear()
        host.entries.clear()
        host.boots, host.booted_at = host.boots + 1, self.now
        host.counters = dict.fromkeys(host.counters, 0)
        for connection in hit:
            self.left(connection)

    # ------------------------------------------------------------------------------------------ TCP

    def turn(self, end: End, state: State) -> None:
        """An end comes into another state, which ends what was wrong with the old one, if both ends are there."""
        end.state = state
        if end.connection.fault is not None:
            self.left(end.connection)
        if state is State.TIME_WAIT:
            end.inode, end.due, end.tries = 0, None, 0
            self.after(TIME_WAIT, lambda: self.forget(end))
        if state is State.FIN_WAIT2 and end.inode == 0:
            self.after(FIN_TIMEOUT, lambda: self.give_up(end) if end.state is State.FIN_WAIT2 else None)

    def give_up(self, end: End) -> None:
        """A kernel waits no longer, and tells nobody."""
        if end.is_there:
            was_ill = end.connection.fault is not None
            self.forget(end)
            if was_ill:
                self.left(end.connection)

    def transmit(self, end: End) -> None:
        """An end sends what is not acknowledged yet, and will send it again."""
        kind = {State.SYN_SENT: Kind.SYN, State.SYN_RECV: Kind.SYN_ACK}.get(end.state, Kind.ACK)
        if end.acknowledged < end.written:
            end.sent_at = self.now
        self.send(end.is_client, self.segment(end, kind))
        self.arm(end)

    def segment(self, end: End, kind: Kind) -> Segment:
        """What an end has to say."""
        return Segment(kind, end.connection, end.written, end.received, end.fin_sent, end.fin_received, end.outstanding)

    def arm(self, end: End) -> None:
        """Sets the timer of an end."""
        end.due = self.now + end.timeout if end.outstanding else None
        if end.due is not None:
            due = end.due
            self.after(end.timeout, lambda: self.fire(end) if end.is_there and end.due == due else None)

    def fire(self, end: End) -> None:
        """The timer of an end: it sends again, or has done so too often."""
        end.host.counters["TCPTimeouts"] += 1
        end.tries += 1
        if end.tries > end.most_tries:
            self.give_up(end)
        else:
            self.transmit(end)

    def send(self, from_client: bool, segment: Segment, life: Connection | None = None) -> None:
        """A segment goes on its way, and gets lost there if the path is cut: its own, or that of another life."""
        if not (life or segment.life).cut:
            sent = self.now
            self.after(DELAY, lambda: self.arrive(not from_client, segment, sent))

    def arrive(self, at_client: bool, segment: Segment, sent: float) -> None:
        """A segment comes in. A socket that is younger than it has nothing to do with it."""
        life = segment.life
        host, key = (life.client, life.client_key) if at_client else (life.server, life.server_key)
        end = host.ends.get(key)
        if segment.kind is Kind.SYN and key != address.mirror(life.client_key):
            host.entries[life.client_key] = address.mirror(key)
        if segment.kind is Kind.SYN and (end is None or end.state is State.TIME_WAIT):
            self.greet(host, life)
        elif end is None:
            if segment.kind is not Kind.RST and not life.forgetful:
                host.counters["OutRsts"] += 1
                self.send(at_client, Segment(Kind.RST, life))
        elif end.connection is not life:
            self.confuse(end, at_client, segment)
        elif segment.kind is Kind.RST:
            if end.state is not State.TIME_WAIT:
                self.forget(end)
        elif segment.kind is not Kind.SYN and end.born < sent:
            self.take(end, segment)

    def greet(self, host: Machine, life: Connection) -> None:
        """A SYN comes to a port: a request socket, a SYN cookie, or a RST."""
        if address.split_key(life.server_key)[1] not in host.ports:
            self.send(False, Segment(Kind.RST, life))
        elif life.forgetful:
            host.counters["ListenOverflows"] += 1
            self.send(False, Segment(Kind.SYN_ACK, life, wants_answer=True))
        else:
            life.server_end = self.put(life, State.SYN_RECV, is_client=False)
            self.transmit(life.server_end)

    def confuse(self, end: End, at_client: bool, segment: Segment) -> None:
        """A segment of another life of the tuple: a SYN is challenged, and whoever dials resets what answers so."""
        if segment.kind is Kind.SYN:
            self.send(at_client, Segment(Kind.ACK, end.connection), segment.life)
        elif segment.kind is not Kind.RST and end.state is State.SYN_SENT:
            self.send(at_client, Segment(Kind.RST, segment.life), end.connection)

    def take(self, end: End, segment: Segment) -> None:
        """A segment of the same life at an end that is there."""
        end.heard_at = self.now
        if end.state is State.SYN_SENT and segment.kind is Kind.SYN_ACK:
            self.establish(end)
            self.send(end.is_client, self.segment(end, Kind.ACK))
            return
        if end.state is State.SYN_RECV and segment.kind is Kind.ACK:
            self.establish(end)
            self.after(PROGRAM, lambda: self.accept(end))
        if segment.acknowledges > end.acknowledged:
            end.acknowledged, end.tries = segment.acknowledges, 0
            self.arm(end)
            if end.connection.fault == "stalled" and not end.outstanding:
                self.find(end.connection, None)
        if segment.acknowledges_fin and end.fin_sent and not end.fin_acknowledged:
            end.fin_acknowledged, end.tries, end.due = True, 0, None
            if end.state is State.LAST_ACK:
                self.forget(end)
                return
            self.turn(end, State.FIN_WAIT2 if end.state is State.FIN_WAIT1 else State.TIME_WAIT)
        if segment.sent > end.received:
            end.received, end.received_at = segment.sent, self.now
        if segment.fin and not end.fin_received:
            end.fin_received = True
            self.turn(end, FIN_CAME[end.state])
            if end.state is State.CLOSE_WAIT:
                self.after(PROGRAM, lambda: self.close(end) if end.is_there and end.connection.closes else None)
        if segment.wants_answer:
            self.send(end.is_client, self.segment(end, Kind.ACK))

    def establish(self, end: End) -> None:
        """The handshake is done, as far as this end knows."""
        self.turn(end, State.ESTABLISHED)
        end.tries, end.due = 0, None
        end.sent_at = end.received_at = self.now

    def accept(self, end: End) -> None:
        """The server's program takes a connection from the accept queue, if it does."""
        if end.is_there and end.connection.accepts and not end.inode:
            end.inode = 50_000 + next(self._numbers)
            if end.connection.fault == "never-accepted":
                self.find(end.connection, None)


FIN_CAME = {
    State.ESTABLISHED: State.CLOSE_WAIT,
    State.FIN_WAIT1: State.CLOSING,
    State.FIN_WAIT2: State.TIME_WAIT,
}
