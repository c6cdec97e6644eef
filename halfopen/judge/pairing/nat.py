"""Translation: what connection tracking says -> the key by which the two ends of a connection are one.

Translation maps the key, never the socket. A translated connection has one tuple where the client dials and another
where the server accepts; the rows of both ends get a key of their own, made of two synthetic addresses which nobody
else can have, so that the join, which knows nothing of this, finds them equal. What comes out of the join gets the
keys back that the kernels know, with a sentence that says how the two correspond.

A step is one entry of one namespace: the tuple of the first packet as it came, and as it went on (for ctnetlink's
orig and reply: the reply, turned round). Steps compose: masquerade on the client's host, then a router, then a
published port on the server's host. An entry is evidence of translation, never of life: one that no socket has is
not looked at, and which socket lives is for the looks to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from halfopen import address
from halfopen.judge.pairing.addresses import AddressMap, shares_link
from halfopen.judge.pairing.match import Matching, Suspect
from halfopen.model import InterfaceAddress, Namespace, NetnsRef, Snapshot
from halfopen.table import Block, Table
from halfopen.words import plural

STEPS = 8  # boxes that one connection may pass
SYNTHETIC = b"\x01" + bytes(7)  # 100::/64 (RFC 6666): the prefix of addresses that no socket has


@dataclass(frozen=True, slots=True)
class Step:
    """One entry, and the namespace that has it. Keys are those of the first packet: source as local, target as peer."""

    place: NetnsRef
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection as its client's end sees it, and its way: at least one step.

    Steps in the order in which the first packet took them. `ambiguous`: more than one way fits.
    """

    steps: tuple[Step, ...]
    ambiguous: bool = False

    @property
    def dialled(self) -> bytes:
        """The client's key."""
        return self.steps[0].before

    @property
    def arrived(self) -> bytes:
        """The mirrored key of the server's end."""
        return self.steps[-1].after

    def __str__(self) -> str:
        parts = [show(self.dialled)]
        return "; ".join([*parts, *(f"after {step.place.host}: {show(step.after)}" for step in self.steps)])


def show(key: bytes) -> str:
    """`10.0.1.5:40312 -> 10.0.2.9:5432`"""
    source, source_port, target, target_port = address.split_key(key)
    return f"{address.endpoint(source, source_port)} -> {address.endpoint(target, target_port)}"


@dataclass(frozen=True, slots=True)
class Tables:
    """All steps of all hosts, found by either of their tuples."""

    ground: AddressMap
    onward: Mapping[bytes, tuple[Step, ...]]
    back: Mapping[bytes, tuple[Step, ...]]

    def flow_from(self, place: NetnsRef, key: bytes) -> Flow | None:
        """The way of a connection whose client's socket is here."""
        local = key[: (len(key) - 4) // 2]
        first = [one for one in self.onward.get(key, ()) if place in self.ground.homes(one.place, local)]
        steps, ambiguous = follow(first, self.onward, lambda one: one.after)
        return Flow(steps, ambiguous) if steps else None

    def flow_to(self, place: NetnsRef, key: bytes) -> Flow | None:
        """The way of a connection whose server's socket is here."""
        local = key[: (len(key) - 4) // 2]
        last = [one for one in self.back.get(address.mirror(key), ()) if place in self.ground.homes(one.place, local)]
        steps, ambiguous = follow(last, self.back, lambda one: one.before)
        return Flow(steps[::-1], ambiguous) if steps else None


def follow(
    fitting: Sequence[Step], table: Mapping[bytes, tuple[Step, ...]], result: Callable[[Step], bytes]
) -> tuple[tuple[Step, ...], bool]:
    """Steps from the first that fit on, each namespace once, and whether more than one way fits."""
    taken: list[Step] = []
    ambiguous = False
    while fitting and len(taken) < STEPS:
        ambiguous = ambiguous or len({(one.place.host, result(one)) for one in fitting}) > 1
        taken.append(min(fitting, key=lambda one: (one.place.host, one.place.netns or 0)))
        passed = {one.place for one in taken}
        fitting = [one for one in table.get(result(taken[-1]), ()) if one.place not in passed]
    return tuple(taken), ambiguous


def tables_of(snapshots: Iterable[Snapshot], ground: AddressMap) -> Tables:
    """Every entry of every namespace that was read. `ground` knows the addresses of all these hosts."""
    onward: dict[bytes, list[Step]] = {}
    back: dict[bytes, list[Step]] = {}
    for snapshot in snapshots:
        for space in snapshot.namespaces:
            place = NetnsRef(snapshot.host, space.netns)
            for before, after in space.rewrites.pairs() if space.rewrites else ():
                step = Step(place, before, after)
                onward.setdefault(before, []).append(step)
                back.setdefault(after, []).append(step)
    found = [{key: tuple(steps) for key, steps in table.items()} for table in (onward, back)]
    return Tables(ground, *found)


@dataclass
class NatKeys:
    """The keys by which translated ends are joined, and the way back.

    roles: the hosts whose sockets are compared; an end on any other leads elsewhere.
    renamed: namespace -> key of a socket there -> the key for the join. real: the inverse, for any namespace.
    """

    tables: Tables
    roles: frozenset[str]
    renamed: dict[NetnsRef, dict[bytes, bytes]] = field(default_factory=dict)
    real: dict[bytes, tuple[bytes, Flow]] = field(default_factory=dict)
    homes: dict[bytes, tuple[NetnsRef, ...]] = field(default_factory=dict)
    listening: set[tuple[NetnsRef, int, int]] = field(default_factory=set)
    synthetic: dict[tuple[object, ...], bytes] = field(default_factory=dict)
    flows: set[Flow] = field(default_factory=set)
    inner: Mapping[NetnsRef, tuple[InterfaceAddress, ...]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def add(self, flow: Flow) -> None:
        """Names the two ends of a flow."""
        if flow in self.flows:
            return
        self.flows.add(flow)
        client, client_port, dialled, port = address.split_key(flow.dialled)
        _, _, server, server_port = address.split_key(flow.arrived)
        near, far = self.home(flow.steps[0].place, client), self.home(flow.steps[-1].place, server)
        there = address.mirror(flow.arrived)
        if near and far:
            one = self.name(near, client)
            two = self.name(far, server, server_port, dialled)
            key = address.make_key(one, client_port, two, port)
            for places, end, named in ((near, flow.dialled, key), (far, there, address.mirror(key))):
                clash = {self.rename(place, end, named) for place in places} != {named}
                self.real[named] = (end, replace(flow, ambiguous=True) if clash else flow)
            self.listening |= {(place, server_port, port) for place in far}
        else:  # the socket that we know stays, and its peer is the one behind the translation, which leads elsewhere
            for place in near:
                self.rename(place, flow.dialled, address.make_key(client, client_port, server, server_port))
            for place in far:
                self.rename(place, there, address.make_key(server, server_port, client, client_port))

    def has_ends(self, flow: Flow, present: set[tuple[NetnsRef, bytes]]) -> bool:
        """Whether sockets of both of its ends are there."""
        ends = (
            (flow.steps[0].place, flow.dialled),
            (flow.steps[-1].place, address.mirror(flow.arrived)),
        )
        return all(
            any((place, key) in present for place in self.tables.ground.homes(where, key[: (len(key) - 4) // 2]))
            for where, key in ends
        )

    def rename(self, place: NetnsRef, key: bytes, name: bytes) -> bytes:
        """Gives a socket its key for the join, unless it has one: the one that it has."""
        return self.renamed.setdefault(place, {}).setdefault(key, name)

    def dialled_ports(self, ports: Sequence[int]) -> tuple[int, ...]:
        """The ports of a check, as clients dial them: a published port stands for the one that the server has."""
        more = {port for _, behind, port in self.listening if behind in ports}
        return (*ports, *sorted(more.difference(ports)))

    def home(self, place: NetnsRef, packed: bytes) -> tuple[NetnsRef, ...]:
        """Where an address lives, as a namespace on the way sees it: among the hosts that are compared."""
        found = self.tables.ground.homes(place, packed)
        if not found and any(shares_link(one.address, one.prefix, packed) for one in self.inner.get(place, ())):
            # A container had it, and none has it now: its sockets are gone, and the host may be asked for them.
            self.gone.add(place.host)
            found = (place,)
        return tuple(one for one in found if one.host in self.roles)

    def name(self, places: tuple[NetnsRef, ...], *what: object) -> bytes:
        """The synthetic address of an end."""
        made = self.synthetic.setdefault((places, *what), SYNTHETIC + (len(self.synthetic) + 1).to_bytes(8, "big"))
        self.homes[made] = places
        return made

    def snapshot(self, one: Snapshot) -> Snapshot:
        """A snapshot with its translated rows under their new names, for the join alone."""
        return replace(
            one, namespaces=tuple(self.space(NetnsRef(one.host, space.netns), space) for space in one.namespaces)
        )

    def space(self, place: NetnsRef, one: Namespace) -> Namespace:
        """One namespace."""
        mine = self.renamed.get(place)
        if not mine:
            return one
        blocks = [part for block in one.table.blocks for part in renamed_rows(block, mine)]
        owned = [InterfaceAddress(made, ()) for made, places in self.homes.items() if place in places]
        doors = [
            replace(listener, port=port)
            for listener in one.listeners
            for where, behind, port in self.listening
            if where == place and behind == listener.port != port
        ]
        return replace(
            one, table=Table(tuple(blocks)), addresses=(*one.addresses, *owned), listeners=(*one.listeners, *doors)
        )

    def restored(self, suspect: Suspect) -> Suspect:
        """A suspect of the join with the keys that the kernels know."""
        client, server = (self.real.get(ask.key) for ask in (suspect.client, suspect.server))
        if client is None or server is None:
            return suspect
        return replace(
            suspect,
            client=replace(suspect.client, key=client[0]),
            server=replace(suspect.server, key=server[0]),
            translation=str(client[1]),
            ambiguous=client[1].ambiguous or server[1].ambiguous,
        )


def renamed_rows(block: Block, names: Mapping[bytes, bytes]) -> Iterable[Block]:
    """The rows of a block, those with a name under it. An untouched block stays the object that it was."""
    rows = list(block.rows())
    if not any(key in names for key, _, _ in rows):
        return (block,)
    return Table.of((block.family, block.scope, names.get(key, key), state, marks) for key, state, marks in rows).blocks


def names_of(snapshots: Sequence[Snapshot], tables: Tables, roles: frozenset[str]) -> NatKeys:
    """Names for every translated connection that a socket of these hosts has."""
    names = NatKeys(tables, roles, inner=inner_addresses(snapshots))
    wanted = tables.onward.keys() | {address.mirror(key) for key in tables.back}
    present: set[tuple[NetnsRef, bytes]] = set()
    flows: dict[Flow, None] = {}
    for one in snapshots if wanted else ():
        for space in one.namespaces:
            place = NetnsRef(one.host, space.netns)
            for key, _, _ in space.table.rows():
                if key in wanted:
                    present.add((place, key))
                    found = tables.flow_from(place, key), tables.flow_to(place, key)
                    flows.update((flow, None) for flow in found if flow is not None)
    # A way that has both ends goes first: a box that the connection left long ago may still have an entry for it.
    for flow in sorted(flows, key=lambda flow: not names.has_ends(flow, present)):
        names.add(flow)
    return names


def inner_addresses(snapshots: Iterable[Snapshot]) -> dict[NetnsRef, tuple[InterfaceAddress, ...]]:
    """A namespace's addresses on links behind which there is nobody but containers, all of which were looked into."""
    return {
        NetnsRef(one.host, space.netns): tuple(
            own for own in space.addresses if set(own.links) & set(space.rewrites.inner) and own.prefix is not None
        )
        for one in snapshots
        if one.facts is not None and one.facts.sees_namespaces
        for space in one.namespaces
        if space.rewrites
    }


def translated_ports(tables: Tables, ports: Iterable[int]) -> dict[str, set[int]]:
    """Host -> the ports beside `ports` under which its sockets have connections to one of `ports`.

    A published port is one port for the client and another for the server.
    """
    asked, found = set(ports), dict[str, set[int]]()
    for steps in tables.onward.values():
        for step in steps:
            pair = [address.split_key(key) for key in (step.before, step.after)]
            if pair[0][3] == pair[1][3] or not asked & {pair[0][3], pair[1][3]}:
                continue
            for packed, port in ((pair[0][0], pair[0][3]), (pair[1][2], pair[1][3])):
                for place in tables.ground.homes(step.place, packed):
                    if port not in asked:
                        found.setdefault(place.host, set()).add(port)
    return found


def restore(matching: Matching, names: NatKeys) -> Matching:
    """What the join found, in the words of the kernels. Byte counters are compared only where nothing translates."""
    plain = frozenset(key for key in matching.established if key not in names.real)
    left_out = len(matching.established) - len(plain)
    note = f"byte counters were not compared for {plural(left_out, 'connection')} that a table translates"
    return replace(
        matching,
        suspects=tuple(map(names.restored, matching.suspects)),
        established=plain,
        notes=(*matching.notes, *([note] if left_out else [])),
        gone=frozenset(names.gone),
    )
