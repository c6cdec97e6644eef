"""Whether the host that was asked is where the packets of a connection go: the third proof that an end is absent. Pure.

A look-up shows that a host has no socket at a tuple. That the connection has no other end follows only if the packets
of the end that exists (the survivor) reach that very host, and arrive there with the same tuple: a gateway, or a
program behind a TAP device, may hold the other end, and connection tracking may change the tuple.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from msgspec import Struct

from halfopen import address
from halfopen.matching.pairing.connection import EndQuery, Loss, Suspect
from halfopen.model import Link, Namespace, NetnsRef, Route, RouteQuery, Routing, Snapshot
from halfopen.plan import CheckPlan


class WayKind(StrEnum):
    """What lies between the two ends of a connection."""

    DIRECT = "direct"  # nothing: one namespace, one link, or a veth or bridge of one host
    RELAYED = "relayed"  # a program that reads a TUN or TAP device of the survivor's namespace
    ROUTED = "routed"  # a gateway
    UNKNOWN = "unknown"


class Way(Struct, frozen=True):
    """The way between two ends, and what shows it, or why it is not known, in words."""

    kind: WayKind
    why: str


class Network(Struct, eq=False):
    """What is known of the ways of a check: its hosts' snapshots, and the routes and links that were asked for.

    judged: what `why_unproven` has said of a way already, because many connections take the same.
    """

    plan: CheckPlan
    snapshots: Mapping[str, Snapshot]
    routing: Mapping[NetnsRef, Routing] = {}
    judged: dict[object, str | None] = {}

    def namespace(self, place: NetnsRef) -> Namespace | None:
        """What was read in a namespace, None if it was not read."""
        spaces = self.snapshots[place.host].namespaces if place.host in self.snapshots else ()
        return next((space for space in spaces if space.netns == place.netns), None)

    def around(self, place: NetnsRef) -> tuple[NetnsRef, ...]:
        """A namespace, and that of its host itself, through which the packets of a container go."""
        spaces = self.snapshots[place.host].namespaces if place.host in self.snapshots else ()
        return tuple(dict.fromkeys((place, *(NetnsRef(place.host, space.netns) for space in spaces[:1]))))


class Hop(Struct, frozen=True):
    """The first hop of packets from one end to the other. `link`: what they leave by; None if it is not known."""

    query: RouteQuery
    route: Route
    link: Link | None

    @property
    def next(self) -> str:
        """The address of the next hop."""
        return address.show(self.route.gateway or self.query.peer)


def is_relayed(suspect: Suspect, survivor: NetnsRef, is_client: bool, network: Network) -> bool:
    """Whether a program on the way may hold the other end of a survivor. `is_client`: the survivor's role."""
    near, far = (suspect.client, suspect.server) if is_client else (suspect.server, suspect.client)
    here = query_of(near, survivor, network)
    ways = (way_of(here, query_of(far, place, network), network.routing) for place in far.places)
    return any(way.kind is WayKind.RELAYED for way in ways)


def why_unproven(suspect: Suspect, survivor: NetnsRef, is_client: bool, network: Network) -> str | None:
    """Why the tuple of a suspect may lead elsewhere, in words; None if it does not, or if the plan vouches for that.

    Where a translation is known, the tables that it was read from say where the tuple leads. Otherwise the way must be
    direct, and no host on it may translate. An absent end that may be in several namespaces was looked for in each.
    """
    if network.plan.direct:
        return None
    if suspect.inferred:
        return "what translates on the way was guessed"
    if suspect.loss is Loss.ENTRY_GONE:
        return "a host on the way has forgotten what it translated"
    near, far = (suspect.client, suspect.server) if is_client else (suspect.server, suspect.client)
    is_translated = suspect.translation is not None
    way = survivor, near.key[:-4], near.scope, far.places, far.key[:-4], far.scope, is_translated
    if way not in network.judged:
        if is_translated:
            places = [other for place in (survivor, *far.places) for other in network.around(place)]
            network.judged[way] = translates(places, network) or named_unread(network)
        else:
            reasons = [why_not_direct(near, survivor, far, place, network) for place in far.places]
            network.judged[way] = None if None in reasons else next(iter(reasons), "nobody has its address")
    return network.judged[way]


def is_read(snapshot: Snapshot | None) -> bool:
    """Whether all translations of a host were read. A namespace without connection tracking has none."""
    return (
        snapshot is not None
        and bool(snapshot.namespaces)
        and all(namespace.tracked == 0 or namespace.rewrites is not None for namespace in snapshot.namespaces)
    )


def named_unread(network: Network) -> str | None:
    """The first host under `nat` of the plan that did not tell what it translates, in words; None if all did."""
    unread = (name for name in network.plan.nat if not is_read(network.snapshots.get(name)))
    return next((UNREAD.format(host=name) for name in unread), None)


def why_not_direct(near: EndQuery, survivor: NetnsRef, far: EndQuery, place: NetnsRef, network: Network) -> str | None:
    """Why packets of a survivor may not reach the far end in this namespace as they were sent; None if they do."""
    way = way_of(query_of(near, survivor, network), query_of(far, place, network), network.routing)
    if way.kind is not WayKind.DIRECT:
        return way.why
    return translates((*network.around(survivor), *network.around(place)), network)


def is_untranslated(places: Iterable[NetnsRef], network: Network) -> bool:
    """Whether none of these namespaces can translate unknown to us: it tracks no connections, or its table was read."""
    return translates(places, network) is None


def translates(places: Iterable[NetnsRef], network: Network) -> str | None:
    """The first of these namespaces that may translate unknown to us, in words; None if there is none."""
    for place in places:
        namespace = network.namespace(place)
        if namespace is None or (namespace.tracked != 0 and namespace.rewrites is None):
            return UNREAD.format(host=place.host)
    return None


def queries_of(suspects: Iterable[Suspect], network: Network) -> Iterator[RouteQuery]:
    """What must be asked to tell the way between the ends of suspects, each once: the route from either end.

    The host of a container is asked the same, because its links say how the container is joined to it.
    """
    seen = set()
    for suspect in suspects:
        for end in (suspect.client, suspect.server):
            route = end.key[:-4], end.places, end.scope
            if route not in seen:
                seen.add(route)
                places = dict.fromkeys(other for place in end.places for other in network.around(place))
                yield from (query_of(end, place, network) for place in places)


def query_of(end: EndQuery, place: NetnsRef, network: Network) -> RouteQuery:
    """The query for the route from an end. A link-local address means one link: that of the interface that has it."""
    local, _, peer, _ = address.split_key(end.key)
    scope, namespace = end.scope, network.namespace(place)
    if not scope and address.is_link_local(local) and namespace is not None:
        links = [link for own in namespace.addresses if own.address == local for link in own.links]
        scope = links[0] if len(links) == 1 else 0
    return RouteQuery(place, local, peer, scope)


def way_of(near: RouteQuery, far: RouteQuery, routing: Mapping[NetnsRef, Routing]) -> Way:
    """The way between a survivor and the namespace where its other end would be, from their routes to each other.

    A next hop is the other end itself if its link-layer address is one of the other namespace's: then no gateway is
    between, even where the route names one. The survivor's route decides; the route back must not contradict it.
    """
    here, there = hop_of(near, routing), hop_of(far, routing)
    if isinstance(here, str):
        return Way(WayKind.UNKNOWN, here)
    if here.route.is_local:
        if near.place == far.place:
            return Way(WayKind.DIRECT, "both ends are in one network namespace")
        return Way(WayKind.UNKNOWN, f"{here.next} is an address of {near.place.host} itself")
    onward = is_handed_to(here, far.place, routing)
    if is_tun(here) and not onward and (here.route.gateway or isinstance(there, str) or not is_tun(there)):
        return Way(WayKind.RELAYED, RELAYED.format(link=shown(here.link), host=near.place.host))
    if isinstance(there, str):
        return Way(WayKind.UNKNOWN, there)
    if there.route.is_local:
        return Way(WayKind.UNKNOWN, f"{there.next} is an address of {far.place.host} too")
    back = is_handed_to(there, near.place, routing)
    for hop, handed in ((here, onward), (there, back)):
        if hop.route.gateway is not None and not handed:
            return Way(WayKind.ROUTED, f"the way is routed (gateway {hop.next} on {hop.query.place.host})")
    if onward and back is not False:
        return Way(WayKind.DIRECT, f"{near.place.host} and {far.place.host} are on one link")
    if onward is None and back is not False and are_joined(here, there, routing):
        return Way(WayKind.DIRECT, f"both ends are joined by a link of {near.place.host}")
    return Way(
        WayKind.UNKNOWN, why_unknown(there, near.place, routing) if onward else why_unknown(here, far.place, routing)
    )


def hop_of(query: RouteQuery, routing: Mapping[NetnsRef, Routing]) -> Hop | str:
    """The first hop of a query, or why it is not known, in words."""
    known = routing.get(query.place)
    if known is None or query not in known.routes:
        return f"the routes of {query.place.host} were not read"
    route = known.routes[query]
    if route is None:
        return f"{query.place.host} has no route from {address.show(query.local)} to {address.show(query.peer)}"
    return Hop(query, route, known.links.get(route.link))


def has_no_route(end: EndQuery, network: Network) -> bool:
    """Whether no namespace of an end has a route to its peer, as far as was asked."""
    asked = [(network.routing.get(place), query_of(end, place, network)) for place in end.places]
    return bool(asked) and all(known is not None and known.routes.get(query, 0) is None for known, query in asked)


def is_handed_to(hop: Hop, place: NetnsRef, routing: Mapping[NetnsRef, Routing]) -> bool | None:
    """Whether packets go to an interface of a namespace, by link-layer address; None if the entry is not known."""
    if not hop.route.neighbour or not any(hop.route.neighbour) or place not in routing:
        return None
    if place.host != hop.query.place.host and stays_within_host(hop, routing):
        return False
    return any(link.address == hop.route.neighbour for link in routing[place].links.values())


def stays_within_host(hop: Hop, routing: Mapping[NetnsRef, Routing]) -> bool:
    """Whether a hop goes by a veth to another namespace of its host, or to a bridge that has nothing but veth.

    Container engines give the same addresses to containers of every host, link-layer addresses among them.
    """
    segment = segment_of(hop, routing)
    return segment is not None and all(
        link.kind == "veth"
        for place, index in segment
        for link in routing[place].links.values()
        if link.master == index
    )


def are_joined(here: Hop, there: Hop, routing: Mapping[NetnsRef, Routing]) -> bool:
    """Whether both ends leave by the same veth pair, or by the same bridge of their host."""
    segment = segment_of(here, routing)
    return segment is not None and segment == segment_of(there, routing)


def segment_of(hop: Hop, routing: Mapping[NetnsRef, Routing]) -> frozenset[tuple[NetnsRef, int]] | None:
    """What a hop goes through within its host, as (namespace, index): a bridge, or both ends of a veth that is in none.

    None if it leaves by something else.
    """
    place, link = hop.query.place, hop.link
    if link is None or link.kind not in ("bridge", "veth"):
        return None
    if link.kind == "bridge":
        return frozenset({(place, link.index)})
    other = NetnsRef(place.host, link.joined_netns)
    ends = {(place, link.index), (other, link.joined)}
    for where, index in ends:
        links = routing[where].links if where in routing else {}
        if index not in links:
            return None
        master = links.get(links[index].master)
        if master is not None and master.kind == "bridge":
            return frozenset({(where, master.index)})
    return frozenset(ends)


def is_tun(hop: Hop) -> bool:
    """Whether packets leave by a TUN or TAP device: a program has them then, which may answer in its own name."""
    return hop.link is not None and hop.link.kind == "tun"


def why_unknown(hop: Hop, place: NetnsRef, routing: Mapping[NetnsRef, Routing]) -> str:
    """Why a hop that has no gateway does not show that it leads to a namespace, in words."""
    host, name = hop.query.place.host, hop.route.neighbour
    if place.host != host and stays_within_host(hop, routing):
        return f"{shown(hop.link)} of {host} leads to containers of {host} alone"
    if name and any(name):
        return f"on {host}, {hop.next} is at {name.hex(':')}, which is no interface of {place.host}"
    if hop.link is not None and not any(hop.link.address):
        return f"{shown(hop.link)} of {host} is a tunnel, its way unseen"
    return f"no neighbour entry for {hop.next} on {host}"


def shown(link: Link | None) -> str:
    """An interface by name and kind."""
    return "an interface" if link is None else f"{link.name} ({link.kind})" if link.kind else link.name


RELAYED = "the way leaves {host} by {link}: a user-space network (slirp4netns, pasta, a VPN) may hold the other end"
UNREAD = "{host} tracks connections, and what it translates was not read"
