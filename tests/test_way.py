"""The way between two ends: what shows that it is direct, and what keeps that from being said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest
from msgspec.structs import replace

from halfopen import address
from halfopen.matching.missing.way import (
    Network,
    Way,
    WayKind,
    is_untranslated,
    queries_of,
    query_of,
    way_of,
    why_unproven,
)
from halfopen.matching.pairing.connection import EndQuery, Suspect
from halfopen.model import (
    InterfaceAddress,
    Link,
    Namespace,
    NetnsRef,
    Rewrites,
    Route,
    RouteQuery,
    Routing,
    Snapshot,
)
from halfopen.plan import CheckPlan
from halfopen.table import Table

WEB, DB = NetnsRef("web", 1), NetnsRef("db", 1)
INNER, OTHER = NetnsRef("web", 7), NetnsRef("web", 8)  # containers of web
A, B, GATEWAY = (address.parse(text) for text in ("10.0.0.1", "10.0.0.2", "10.0.0.254"))
MAC = {name: bytes([2, 0, 0, 0, 0, number]) for number, name in enumerate(("web", "db", "router", "inner"), 1)}
PLAN = CheckPlan("c", ("web",), ("db",))


def eth(name: str, kind: str = "", index: int = 2) -> Link:
    """The interface of a host."""
    return Link(index, "eth0", MAC[name], kind)


def to(neighbour: str | None = None, gateway: bytes | None = None, link: int = 2) -> Route:
    """A route that leaves by an interface for the link-layer address of this neighbour."""
    return Route(link, gateway, MAC[neighbour] if neighbour else None)


def way(
    here: Route | None,
    there: Route | None,
    links: tuple[Link, Link] = (eth("web"), eth("db")),
    places: tuple[NetnsRef, NetnsRef] = (WEB, DB),
    more: Mapping[NetnsRef, Sequence[Link]] = MappingProxyType({}),
) -> Way:
    """The way from A to B, by the routes and links of both ends. `more`: links of further namespaces."""
    near, far = RouteQuery(places[0], A, B), RouteQuery(places[1], B, A)
    routing = {place: Routing({}, {link.index: link for link in some}) for place, some in more.items()}
    for query, route, link in ((near, here, links[0]), (far, there, links[1])):
        known = routing.get(query.place, Routing({}, {}))
        routing[query.place] = Routing({**known.routes, query: route}, {**known.links, link.index: link})
    return way_of(near, far, routing)


@pytest.mark.parametrize("back", [to("web"), to(None)], ids=["known", "never spoken since"])
def test_on_one_link_each_is_the_next_hop_of_the_other(back: Route) -> None:
    assert way(to("db"), back) == Way(WayKind.DIRECT, "web and db are on one link")


def test_a_gateway_that_is_the_other_host_itself_is_no_gateway() -> None:
    """A service address on lo of db, with a route to it by an address of db."""
    assert way(to("db", GATEWAY), to("web")).kind is WayKind.DIRECT


@pytest.mark.parametrize(
    ("here", "there", "where"),
    [
        (to("router", GATEWAY), to("router", GATEWAY), "web"),
        (to(None, GATEWAY), to("web"), "web"),
        (to("db"), to("router", GATEWAY), "db"),
        (to("db"), to(None, GATEWAY), "db"),
    ],
    ids=["both", "never spoken since", "back only", "back, never spoken since"],
)
def test_behind_a_gateway_the_way_is_routed(here: Route, there: Route, where: str) -> None:
    assert way(here, there) == Way(WayKind.ROUTED, f"the way is routed (gateway 10.0.0.254 on {where})")


def test_where_another_has_the_address_on_the_link_the_way_is_not_known() -> None:
    """Anycast, proxy ARP, an address that moved."""
    said = "on web, 10.0.0.2 is at 02:00:00:00:00:03, which is no interface of db"
    assert way(to("router"), to("web")) == Way(WayKind.UNKNOWN, said)
    said = "on db, 10.0.0.1 is at 02:00:00:00:00:03, which is no interface of web"
    assert way(to("db"), to("router")) == Way(WayKind.UNKNOWN, said)


def test_without_the_survivors_neighbour_entry_the_way_is_not_known() -> None:
    assert way(to(None), to("web")) == Way(WayKind.UNKNOWN, "no neighbour entry for 10.0.0.2 on web")
    assert way(Route(2, None, bytes(6)), to("web")).kind is WayKind.UNKNOWN


def test_no_route_or_none_read_is_not_known() -> None:
    assert way(None, to("web")) == Way(WayKind.UNKNOWN, "web has no route from 10.0.0.1 to 10.0.0.2")
    assert way(to("db"), None) == Way(WayKind.UNKNOWN, "db has no route from 10.0.0.2 to 10.0.0.1")
    near, far = RouteQuery(WEB, A, B), RouteQuery(DB, B, A)
    assert way_of(near, far, {}) == Way(WayKind.UNKNOWN, "the routes of web were not read")
    known = {WEB: Routing({near: to("db")}, {2: eth("web")})}
    assert way_of(near, far, known) == Way(WayKind.UNKNOWN, "the routes of db were not read")


def test_an_address_that_a_host_takes_for_its_own_leads_nowhere_else() -> None:
    local = Route(1, is_local=True)
    assert way(local, to("web")) == Way(WayKind.UNKNOWN, "10.0.0.2 is an address of web itself")
    assert way(to("db"), local) == Way(WayKind.UNKNOWN, "10.0.0.1 is an address of db too")


def test_in_one_namespace_the_way_is_direct_if_the_kernel_keeps_the_packets() -> None:
    local = Route(1, is_local=True)
    assert way(local, local, places=(WEB, WEB)).kind is WayKind.DIRECT
    assert way(to("router"), to("router"), places=(WEB, WEB)).kind is WayKind.UNKNOWN


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (to("router", GATEWAY), to("web")),  # slirp4netns
        (to("router"), to("web")),  # pasta, which answers for each address of the link
        (to(None), to("router", GATEWAY)),
        (to("router", GATEWAY), None),
    ],
)
def test_behind_a_tap_device_a_program_may_hold_the_other_end(here: Route, there: Route | None) -> None:
    found = way(here, there, (eth("web", "tun"), eth("db")))
    assert found.kind is WayKind.RELAYED and "web by eth0 (tun)" in found.why


def test_a_tap_device_behind_which_the_other_end_itself_is_hides_nobody() -> None:
    """A virtual machine and its host."""
    assert way(to("db"), to("web"), (eth("web", "tun"), eth("db"))).kind is WayKind.DIRECT


def test_a_tunnel_between_the_two_is_not_seen_through() -> None:
    tunnels = Link(2, "tun0", b"", "tun"), Link(5, "tun0", b"", "tun")
    said = "tun0 (tun) of web is a tunnel, its way unseen"
    assert way(to(None), to(None, link=5), tunnels) == Way(WayKind.UNKNOWN, said)


VETH = Link(2, "eth0", MAC["inner"], "veth", joined=9, joined_netns=1)
PEER = Link(9, "veth9", MAC["web"], "veth", joined=2, joined_netns=7)


def test_a_container_is_joined_to_its_host_by_a_veth() -> None:
    found = way(to(None), to(None, link=9), (VETH, PEER), (INNER, WEB))
    assert found == Way(WayKind.DIRECT, "both ends are joined by a link of web")
    assert way(to(None, link=9), to(None), (PEER, VETH), (WEB, INNER)).kind is WayKind.DIRECT


def test_a_container_is_joined_to_its_host_and_to_others_by_a_bridge() -> None:
    bridge = Link(3, "docker0", MAC["web"], "bridge")
    port, other_port = replace(PEER, master=3), Link(10, "veth10", b"", "veth", 3, 2, 8)
    other = Link(2, "eth0", MAC["db"], "veth", joined=10, joined_netns=1)
    more = {WEB: (bridge, port, other_port)}
    assert way(to(None), to(None, link=3), (VETH, bridge), (INNER, WEB), more).kind is WayKind.DIRECT
    assert way(to(None), to(None), (VETH, other), (INNER, OTHER), more).kind is WayKind.DIRECT
    apart = {WEB: (bridge, port, replace(other_port, master=4), Link(4, "br1", b"", "bridge"))}
    assert way(to(None), to(None), (VETH, other), (INNER, OTHER), apart).kind is WayKind.UNKNOWN
    # What the neighbour entry says is stronger than how the links hang together.
    assert way(to("router"), to(None, link=3), (VETH, bridge), (INNER, WEB), more).kind is WayKind.UNKNOWN


def test_a_bridge_of_containers_leads_to_no_other_host_whatever_addresses_these_have() -> None:
    """Container engines give the same link-layer addresses to containers of every host."""
    bridge = Link(3, "docker0", MAC["web"], "bridge")
    inner, uplink = replace(PEER, master=3), Link(4, "eth0", MAC["router"], "", master=3)
    found = way(to("db", link=3), to("web"), (bridge, eth("db")), more={WEB: (inner,)})
    assert found == Way(WayKind.UNKNOWN, "docker0 (bridge) of web leads to containers of web alone")
    found = way(to("db", link=3), to("web"), (bridge, eth("db")), more={WEB: (inner, uplink)})
    assert found.kind is WayKind.DIRECT


def test_a_veth_whose_other_end_was_not_read_joins_nobody() -> None:
    lost = replace(VETH, joined_netns=None)
    assert way(to(None), to(None, link=9), (lost, PEER), (INNER, WEB)).kind is WayKind.UNKNOWN


# ------------------------------------------------------------------------------------------------- is it proven


def space(netns: int, tracked: int | None = 0, rewrites: Rewrites | None = None) -> Namespace:
    """A namespace with a link-local address on its interface 4."""
    own = (InterfaceAddress(address.parse("fe80::1"), (4,), 64),)
    return Namespace(netns, own, Table(()), (), tracked=tracked, rewrites=rewrites)


def network(near: Namespace | None = None, inner: Namespace | None = None, plan: CheckPlan = PLAN) -> Network:
    """web and db on one link; a container of web if one is given."""
    spaces = {"web": (near or space(1), *([inner] if inner else [])), "db": (space(1),)}
    here, there = RouteQuery(WEB, A, B), RouteQuery(DB, B, A)
    routing = {WEB: Routing({here: to("db")}, {2: eth("web")}), DB: Routing({there: to("web")}, {2: eth("db")})}
    return Network(plan, {name: Snapshot(name, None, some) for name, some in spaces.items()}, routing)


def suspect(client: tuple[NetnsRef, ...] = (WEB,), server: tuple[NetnsRef, ...] = (DB,)) -> Suspect:
    """A connection from A to B."""
    key = address.make_key(A, 40000, B, 5432)
    return Suspect(EndQuery(client, key), EndQuery(server, address.mirror(key)), client_first=True)


READ = Rewrites()
TRACKS = "web tracks connections, and what it translates was not read"


@pytest.mark.parametrize(
    ("near", "expected"),
    [(space(1), None), (space(1, 5), TRACKS), (space(1, None), TRACKS), (space(1, 5, READ), None)],
    ids=["tracks nothing", "not read", "not known", "read"],
)
def test_a_direct_way_proves_where_nothing_translates_unread(near: Namespace, expected: str | None) -> None:
    for survivor, is_client in ((WEB, True), (DB, False)):
        assert why_unproven(suspect(), survivor, is_client, network(near)) == expected
        assert (why_unproven(suspect(), survivor, is_client, network(near)) is None) is (expected is None)


def test_the_host_of_a_container_is_on_the_way() -> None:
    """Its own tables translate for it, and its links tell how it is joined."""
    found = network(space(1, 5), inner=space(7))
    assert not is_untranslated(found.around(INNER), found) and is_untranslated([INNER], found)
    asked = list(queries_of([suspect(client=(INNER,))], found))
    assert [query.place for query in asked] == [INNER, WEB, DB]
    assert {(query.local, query.peer) for query in asked} == {(A, B), (B, A)}
    assert not is_untranslated([NetnsRef("db", 99)], found)


def test_an_end_that_may_be_in_several_places_needs_one_to_which_the_tuple_leads() -> None:
    assert why_unproven(suspect(server=(NetnsRef("db", 9), DB)), WEB, True, network()) is None
    assert why_unproven(suspect(server=()), WEB, True, network()) == "nobody has its address"


def test_each_route_is_asked_for_once() -> None:
    assert len(list(queries_of([suspect(), suspect()], network()))) == 2


def test_a_plan_that_vouches_for_the_way_proves_it() -> None:
    assert why_unproven(suspect(), WEB, True, Network(replace(PLAN, direct=True), {})) is None
    assert why_unproven(suspect(), WEB, True, Network(PLAN, {})) is not None


def test_behind_a_translation_the_tables_on_the_way_must_have_been_read() -> None:
    known, nat = replace(suspect(), translation="a is b"), replace(PLAN, nat=("router",))
    assert why_unproven(known, WEB, True, network(space(1, 5, READ))) is None
    assert why_unproven(known, WEB, True, network(space(1, 5))) is not None
    assert why_unproven(replace(known, inferred=True), WEB, True, network(space(1, 5, READ))) is not None
    named = network(space(1, 5, READ), plan=nat)
    assert why_unproven(known, WEB, True, named) == TRACKS.replace("web", "router")
    router = Snapshot("router", None, (space(1, 9, READ),))
    assert why_unproven(known, WEB, True, Network(nat, {**named.snapshots, "router": router}, named.routing)) is None


def test_the_connections_of_one_way_are_judged_together_and_those_of_others_apart() -> None:
    known = network()
    assert why_unproven(suspect(), WEB, True, known) is None
    assert why_unproven(suspect(server=(NetnsRef("db", 9),)), WEB, True, known) == "the routes of db were not read"
    assert why_unproven(replace(suspect(), translation="x"), WEB, True, known) is None
    assert len(known.judged) == 3
    key = address.make_key(A, 40001, B, 5432)
    other = Suspect(EndQuery((WEB,), key), EndQuery((DB,), address.mirror(key)), client_first=True)
    assert why_unproven(other, WEB, True, known) is None and len(known.judged) == 3


def test_a_link_local_address_is_asked_for_on_its_own_link() -> None:
    key = address.make_key(address.parse("fe80::1"), 1, address.parse("fe80::2"), 2)
    assert query_of(EndQuery((WEB,), key), WEB, network()).scope == 4
    assert query_of(EndQuery((WEB,), key, 3), WEB, network()).scope == 3
    assert query_of(EndQuery((DB,), address.make_key(A, 1, B, 2)), DB, network()).scope == 0
