"""Entries of connection tracking -> one key for both ends of a translated connection.

Translation maps the key, never the socket. A translated connection has one tuple where the client connects and another
where the server accepts; the rows of both ends get a key of their own, made of two synthetic addresses which no
interface can have, so that the join, which knows nothing of this, finds them equal. What comes out of the join gets
the keys back that the kernels know, with a sentence that says how the two correspond.

A step is one entry of one namespace: the tuple of the first packet as it came, and as it went on (for ctnetlink's
orig and reply: the reply, mirrored). Steps compose: masquerade on the client's host, then a router, then a
published port on the server's host. An entry is evidence of translation, not of a socket: one that no socket has is
not looked at, and whether a socket still exists is for the looks to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.matching.pairing.connection import BOTH_ESTABLISHED, EndQuery, Loss, Suspect
from halfopen.matching.pairing.match import Matching
from halfopen.matching.places.addresses import AddressMap, shares_link
from halfopen.matching.places.reach import NOT_ENTERED, unentered_of
from halfopen.model import InterfaceAddress, Namespace, NetnsRef, Snapshot, show_connection
from halfopen.schema.report import Reason
from halfopen.table import Block, Table
from halfopen.words import plural

STEPS = 8  # boxes that one connection may pass
SYNTHETIC = b"\x01" + bytes(7)  # 100::/64 (RFC 6666): the prefix of addresses that no socket has


class Step(Struct, frozen=True):
    """One entry, and the namespace that has it. Keys are those of the first packet: source as local, target as peer."""

    place: NetnsRef
    before: bytes
    after: bytes


class Flow(Struct, frozen=True):
    """A translated connection: its steps in the order in which the first packet took them, at least one.

    `ambiguous`: more than one sequence of steps fits.
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
        steps = (f"after {step.place.host}: {show_connection(step.after)}" for step in self.steps)
        return "; ".join([show_connection(self.dialled), *steps])


class Tables(Struct, frozen=True):
    """All steps of all hosts. onward: key before -> steps. back: key after -> steps."""

    addresses: AddressMap
    onward: Mapping[bytes, tuple[Step, ...]]
    back: Mapping[bytes, tuple[Step, ...]]

    def flow_from(self, netns: NetnsRef, key: bytes) -> Flow | None:
        """The flow of a connection whose client's socket is in this namespace; None if nothing translates it."""
        first = [step for step in self.onward.get(key, ()) if self.has_local(netns, step, key)]
        steps, ambiguous = follow(first, self.onward, lambda step: step.after)
        return Flow(steps, ambiguous) if steps else None

    def flow_to(self, netns: NetnsRef, key: bytes) -> Flow | None:
        """The flow of a connection whose server's socket is in this namespace; None if nothing translates it."""
        last = [step for step in self.back.get(address.mirror(key), ()) if self.has_local(netns, step, key)]
        steps, ambiguous = follow(last, self.back, lambda step: step.before)
        return Flow(steps[::-1], ambiguous) if steps else None

    def has_local(self, netns: NetnsRef, step: Step, key: bytes) -> bool:
        """Whether the local address of a key is in this namespace, as the namespace of a step sees it."""
        return netns in self.addresses.owners_of(step.place, local_of(key))


def local_of(key: bytes) -> bytes:
    """The local address of a key: two addresses and two ports of 2 bytes."""
    return key[: (len(key) - 4) // 2]


def follow(
    fitting: Sequence[Step], table: Mapping[bytes, tuple[Step, ...]], result: Callable[[Step], bytes]
) -> tuple[tuple[Step, ...], bool]:
    """The steps from one of `fitting` on, each namespace once, and whether more than one sequence fits.

    `result`: step -> the key under which `table` has the next one.
    """
    taken: list[Step] = []
    ambiguous = False
    while fitting and len(taken) < STEPS:
        ambiguous = ambiguous or len({(step.place.host, result(step)) for step in fitting}) > 1
        taken.append(min(fitting, key=lambda step: (step.place.host, step.place.netns or 0)))
        passed = {step.place for step in taken}
        fitting = [step for step in table.get(result(taken[-1]), ()) if step.place not in passed]
    return tuple(taken), ambiguous


def tables_of(snapshots: Iterable[Snapshot], addresses: AddressMap) -> Tables:
    """Every entry of every namespace that was read. `addresses`: the address map of all these hosts."""
    onward: dict[bytes, list[Step]] = {}
    back: dict[bytes, list[Step]] = {}
    for snapshot in snapshots:
        for namespace in snapshot.namespaces:
            netns = NetnsRef(snapshot.host, namespace.netns)
            for before, after in namespace.rewrites.pairs() if namespace.rewrites else ():
                step = Step(netns, before, after)
                onward.setdefault(before, []).append(step)
                back.setdefault(after, []).append(step)
    tables = [{key: tuple(steps) for key, steps in table.items()} for table in (onward, back)]
    return Tables(addresses, *tables)


class NatKeys(Struct):
    """Maps the two tuples of a NATed connection to one synthetic key, and back.

    roles: the hosts whose sockets are compared; an end on any other leads elsewhere.
    renamed: namespace -> key of a socket there -> the key for the join. real: the inverse, for any namespace.
    owners: synthetic address -> the namespaces that have it. synthetic: an end -> its synthetic address.
    listening: (namespace, port of the listener, port that clients connect to) of published ports.
    inner: namespace -> its addresses on links of containers. nowhere: namespace -> addresses to which it has no route.
    hidden: namespace -> its addresses on links to namespaces that were not entered. unseen: keys for the join of
    connections of which an end may live there -> the host. gone: hosts with a container that seems to be gone. left:
    keys for the join of connections with such a container.
    """

    tables: Tables
    roles: frozenset[str]
    renamed: dict[NetnsRef, dict[bytes, bytes]] = {}
    real: dict[bytes, tuple[bytes, Flow]] = {}
    owners: dict[bytes, tuple[NetnsRef, ...]] = {}
    listening: set[tuple[NetnsRef, int, int]] = set()
    synthetic: dict[tuple[object, ...], bytes] = {}
    flows: set[Flow] = set()
    inner: Mapping[NetnsRef, tuple[InterfaceAddress, ...]] = {}
    nowhere: Mapping[NetnsRef, frozenset[bytes]] = {}
    gone: set[str] = set()
    hidden: Mapping[NetnsRef, tuple[InterfaceAddress, ...]] = {}
    unseen: dict[bytes, str] = {}
    left: set[bytes] = set()

    def add(self, flow: Flow) -> None:
        """Gives the two ends of a flow their key for the join."""
        if flow in self.flows:
            return
        self.flows.add(flow)
        client, client_port, dialled, port = address.split_key(flow.dialled)
        _, _, server, server_port = address.split_key(flow.arrived)
        near, near_gone = self.compared_owners(flow.steps[0].place, client)
        far, far_gone = self.compared_owners(flow.steps[-1].place, server)
        server_key = address.mirror(flow.arrived)
        if near and far:
            client_name = self.synthetic_address(near, client)
            server_name = self.synthetic_address(far, server, server_port, dialled)
            key = address.make_key(client_name, client_port, server_name, port)
            for netns, packed in ((flow.steps[0].place, client), (flow.steps[-1].place, server)):
                if self.may_hide(netns, packed):
                    self.unseen[key] = self.unseen[address.mirror(key)] = netns.host
            for owners, real, made in ((near, flow.dialled, key), (far, server_key, address.mirror(key))):
                clash = {self.rename(netns, real, made) for netns in owners} != {made}
                self.real[made] = (real, replace(flow, ambiguous=True) if clash else flow)
                if near_gone or far_gone:
                    self.left.add(made)
            self.listening |= {(netns, server_port, port) for netns in far}
        else:  # the known socket keeps its address; its peer is the one behind the translation, which leads elsewhere
            for netns in near:
                self.rename(netns, flow.dialled, address.make_key(client, client_port, server, server_port))
            for netns in far:
                self.rename(netns, server_key, address.make_key(server, server_port, client, client_port))

    def has_ends(self, flow: Flow, present: set[tuple[NetnsRef, bytes]]) -> bool:
        """Whether sockets of both of its ends are among those present, (namespace, key) each."""
        ends = ((flow.steps[0].place, flow.dialled), (flow.steps[-1].place, address.mirror(flow.arrived)))
        return all(
            any((netns, key) in present for netns in self.tables.addresses.owners_of(seen_from, local_of(key)))
            for seen_from, key in ends
        )

    def rename(self, netns: NetnsRef, key: bytes, made: bytes) -> bytes:
        """The key of a socket for the join: `made`, unless it has one already."""
        return self.renamed.setdefault(netns, {}).setdefault(key, made)

    def dialled_ports(self, ports: Sequence[int]) -> tuple[int, ...]:
        """The ports of a check, and the published ports that lead to them."""
        more = {port for _, behind, port in self.listening if behind in ports}
        return (*ports, *sorted(more.difference(ports)))

    def compared_owners(self, netns: NetnsRef, packed: bytes) -> tuple[tuple[NetnsRef, ...], bool]:
        """The namespaces that have an address, as a translating namespace sees it, on the hosts that are compared.

        And whether a container had it and is gone: then the translating namespace stands for it.
        """
        owners = self.tables.addresses.owners_of(netns, packed)
        if not owners and self.may_hide(netns, packed):
            return ((netns,) if netns.host in self.roles else ()), False
        gone = not owners and self.was_inside(netns, packed)
        if gone:
            # A container had it, and none has it now: its sockets are gone, and the host may be asked for them.
            self.gone.add(netns.host)
            owners = (netns,)
        return tuple(owner for owner in owners if owner.host in self.roles), gone

    def was_inside(self, netns: NetnsRef, packed: bytes) -> bool:
        """Whether an address behind a translation that nobody has can only have been a container's of this host.

        It is on a link with nothing but containers, or no route of the host leads there any more.
        """
        return packed in self.nowhere.get(netns, ()) or any(
            shares_link(own.address, own.prefix, packed) for own in self.inner.get(netns, ())
        )

    def may_hide(self, netns: NetnsRef, packed: bytes) -> bool:
        """Whether a namespace that was not entered may have an address, as a translating namespace sees it."""
        links = self.hidden.get(netns, ())
        return any(shares_link(own.address, own.prefix, packed) for own in links) and not (
            self.tables.addresses.owners_of(netns, packed)
        )

    def synthetic_address(self, owners: tuple[NetnsRef, ...], *end: object) -> bytes:
        """The synthetic address of an end, always the same for the same owners and end."""
        made = self.synthetic.setdefault((owners, *end), SYNTHETIC + (len(self.synthetic) + 1).to_bytes(8, "big"))
        self.owners[made] = owners
        return made

    def snapshot(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot with its translated rows under their keys for the join."""
        return replace(
            snapshot,
            namespaces=tuple(
                self.namespace(NetnsRef(snapshot.host, namespace.netns), namespace) for namespace in snapshot.namespaces
            ),
        )

    def namespace(self, netns: NetnsRef, namespace: Namespace) -> Namespace:
        """One namespace of such a snapshot: its rows, and the addresses and listeners that their keys need."""
        keys = self.renamed.get(netns)
        if not keys:
            return namespace
        blocks = [part for block in namespace.table.blocks for part in renamed_rows(block, keys)]
        addresses = [InterfaceAddress(made, ()) for made, owners in self.owners.items() if netns in owners]
        listeners = [
            replace(listener, port=port)
            for listener in namespace.listeners
            for where, behind, port in self.listening
            if where == netns and behind == listener.port != port
        ]
        return replace(
            namespace,
            table=Table(tuple(blocks)),
            addresses=(*namespace.addresses, *addresses),
            listeners=(*namespace.listeners, *listeners),
        )

    def restored(self, suspect: Suspect) -> Suspect:
        """A suspect of the join with the keys that the kernels know."""
        client, server = (self.real.get(end.key) for end in (suspect.client, suspect.server))
        if client is None or server is None:
            return suspect
        if host := self.unseen.get(suspect.client.key):
            suspect = replace(suspect, doubt=NOT_ENTERED.format(host=host), reason=Reason.NAMESPACE_NOT_ENTERED)
        return replace(
            suspect,
            client=replace(suspect.client, key=client[0]),
            server=replace(suspect.server, key=server[0]),
            translation=str(client[1]),
            ambiguous=client[1].ambiguous or server[1].ambiguous,
            loss=Loss.PLACE_GONE if suspect.client.key in self.left else None,
        )

    def pair(self, key: bytes) -> Suspect | None:
        """A pair that is established at both ends, by its key for the join. None if more than one way fits."""
        real, flow = self.real[key]
        other, mirrored = self.real[address.mirror(key)]
        if flow.ambiguous or mirrored.ambiguous:
            return None
        ends = [
            EndQuery(self.owners[local_of(made)], known) for made, known in ((key, real), (address.mirror(key), other))
        ]
        client, server = ends if real == flow.dialled else ends[::-1]
        return Suspect(client, server, client_first=True, agreed=BOTH_ESTABLISHED, translation=str(flow))


def renamed_rows(block: Block, keys: Mapping[bytes, bytes]) -> Iterable[Block]:
    """The rows of a block, those with a key for the join under it. A block without any stays the object that it was."""
    rows = list(block.rows())
    if not any(key in keys for key, _, _ in rows):
        return (block,)
    return Table.of((block.family, block.scope, keys.get(key, key), state, marks) for key, state, marks in rows).blocks


def names_of(snapshots: Sequence[Snapshot], tables: Tables, roles: frozenset[str]) -> NatKeys:
    """Keys for the join, for every translated connection that a socket of these hosts has. `roles`: as in `NatKeys`."""
    keys = NatKeys(
        tables,
        roles,
        inner=inner_addresses(snapshots),
        hidden=hidden_addresses(snapshots),
        nowhere=without_route(snapshots),
    )
    wanted = tables.onward.keys() | {address.mirror(key) for key in tables.back}
    present: set[tuple[NetnsRef, bytes]] = set()
    flows: dict[Flow, None] = {}
    for snapshot in snapshots if wanted else ():
        for namespace in snapshot.namespaces:
            netns = NetnsRef(snapshot.host, namespace.netns)
            for key, _, _ in namespace.table.rows():
                if key in wanted:
                    present.add((netns, key))
                    found = tables.flow_from(netns, key), tables.flow_to(netns, key)
                    flows.update((flow, None) for flow in found if flow is not None)
    # A flow with both ends goes first: a gateway that the connection left long ago may still have an entry for it.
    for flow in sorted(flows, key=lambda flow: not keys.has_ends(flow, present)):
        keys.add(flow)
    return keys


def inner_addresses(snapshots: Iterable[Snapshot]) -> dict[NetnsRef, tuple[InterfaceAddress, ...]]:
    """Namespace -> its addresses on links behind which there are only containers, all of which were looked into."""
    return {
        NetnsRef(snapshot.host, namespace.netns): tuple(
            own
            for own in namespace.addresses
            if set(own.links) & set(namespace.rewrites.inner) and own.prefix is not None
        )
        for snapshot in snapshots
        if snapshot.facts is not None and snapshot.facts.sees_namespaces
        for namespace in snapshot.namespaces
        if namespace.rewrites
    }


def hidden_addresses(snapshots: Iterable[Snapshot]) -> dict[NetnsRef, tuple[InterfaceAddress, ...]]:
    """The hosts' own namespaces -> their addresses on links to namespaces that were not entered, if there are any."""
    found = {}
    for snapshot in snapshots:
        links = {index for link in unentered_of(snapshot) for index in (link.index, link.master) if index}
        if links:
            own = snapshot.namespaces[0]
            found[NetnsRef(snapshot.host, own.netns)] = tuple(row for row in own.addresses if links & set(row.links))
    return found


def without_route(snapshots: Iterable[Snapshot]) -> dict[NetnsRef, frozenset[bytes]]:
    """Namespace -> addresses behind its translations to which it has no route."""
    return {
        NetnsRef(snapshot.host, namespace.netns): frozenset(namespace.rewrites.nowhere)
        for snapshot in snapshots
        for namespace in snapshot.namespaces
        if namespace.rewrites and namespace.rewrites.nowhere
    }


def restore(matching: Matching, keys: NatKeys) -> Matching:
    """The matching with the keys that the kernels know."""
    named = [keys.pair(key) for key in sorted(matching.established) if key in keys.real]
    pairs = tuple(pair for pair in named if pair is not None)
    left_out = len(named) - len(pairs)
    note = f"byte counters were not compared for {plural(left_out, 'connection')} with more than one way that fits"
    return replace(
        matching,
        suspects=tuple(map(keys.restored, matching.suspects)),
        unjudged=tuple(map(keys.restored, matching.unjudged)),
        established=frozenset(key for key in matching.established if key not in keys.real),
        translated=pairs,
        notes=(*matching.notes, *([note] if left_out else [])),
        gone=frozenset(keys.gone),
    )
