"""Which namespaces of a host count, and under which addresses others reach them."""

from __future__ import annotations

import pytest
from evidence import CLIENT, SERVER, key, snapshot, sock
from msgspec.structs import replace

from halfopen import address
from halfopen.matching.pairing.match import match
from halfopen.matching.places.addresses import AddressMap, survey
from halfopen.matching.places.reach import believed, unentered_of, ways_to
from halfopen.model import InterfaceAddress, Link, LocalRoute, Namespace, NetnsRef, Reach, Snapshot, Socket
from halfopen.table import Table

HOME, INNER, DEEP = 1, 7, 9
POD, GATE = address.parse("172.17.0.2"), address.parse("172.17.0.1")
BRIDGE, VETH, ETH0, LO = 5, 6, 2, 1


def veth(index: int, joined: int, netns: int | None, master: int = 0) -> Link:
    return Link(index, f"veth{index}", b"", "veth", master, joined, netns)


def space(netns: int, *rows: InterfaceAddress, owner: int | None = 0, links: tuple[Link, ...] | None = ()) -> Namespace:
    return Namespace(netns, rows, Table(), (), reach=Reach(owner, links))


def host(name: str, *spaces: Namespace) -> Snapshot:
    return replace(snapshot(name, [], []), namespaces=spaces)


ROOT = space(
    HOME, InterfaceAddress(CLIENT, (ETH0,)), InterfaceAddress(GATE, (BRIDGE,)), links=(veth(VETH, 2, INNER, BRIDGE),)
)
EXIT = (veth(2, VETH, HOME),)
DB = host("db", space(HOME, InterfaceAddress(SERVER, (ETH0,))))


def mapped(*inner: Namespace) -> AddressMap:
    return survey([believed(host("web", ROOT, *inner)), DB], ["web"], ["db"], (), {})


def owners(addresses: AddressMap, packed: bytes, seen_from: NetnsRef) -> set[tuple[str, int | None]]:
    return {(owner.host, owner.netns) for owner in addresses.owners_of(seen_from, packed)}


WEB, FAR = NetnsRef("web", HOME), NetnsRef("db", HOME)


@pytest.mark.parametrize(
    ("row", "seen"),
    [
        (InterfaceAddress(POD, (2,)), True),  # on its veth
        (InterfaceAddress(POD, (LO,)), False),
        (InterfaceAddress(POD, (LO,), route=BRIDGE), True),  # the host routes to it through the bridge
        (InterfaceAddress(POD, (LO,), route=ETH0), False),
        (InterfaceAddress(SERVER, (2,), route=ETH0), False),  # it is db's, and the host sends there
        (InterfaceAddress(SERVER, (2,), route=BRIDGE), True),
    ],
)
def test_a_linked_namespace_has_what_its_link_or_a_route_leads_to(row: InterfaceAddress, seen: bool) -> None:
    found = mapped(space(INNER, row, links=EXIT))
    assert (("web", INNER) in owners(found, row.address, WEB)) is seen
    assert (("web", INNER) in owners(found, row.address, FAR)) is (seen and row.address == POD)
    assert owners(found, row.address, NetnsRef("web", INNER)) == {("web", INNER)}


@pytest.mark.parametrize("links", [(), None])
@pytest.mark.parametrize("owner", [0, 1000, None])
def test_whose_it_is_and_what_leads_there(owner: int | None, links: tuple[Link, ...] | None) -> None:
    """Another user's is left out; one without a link is reached by nobody; what is not known is taken to count."""
    inner = space(DEEP, InterfaceAddress(POD, (2,)), owner=owner, links=links)
    seen = mapped(inner)
    assert bool(owners(seen, POD, WEB)) is (links is None and owner != 1000)
    assert (NetnsRef("web", DEEP) in seen.namespaces()) is (owner != 1000)


def test_hardware_makes_a_namespace_count_and_a_chain_of_links_does() -> None:
    card = Link(3, "eth1", b"", "")
    assert owners(mapped(space(INNER, InterfaceAddress(POD, (3,)), links=(card,))), POD, FAR) == {("web", INNER)}
    middle = space(INNER, links=(*EXIT, veth(4, 2, DEEP)))
    deep = space(DEEP, InterfaceAddress(POD, (2,)), links=(veth(2, 4, INNER),))
    assert ways_to([ROOT, middle, deep]) == {HOME: frozenset(), INNER: {VETH, BRIDGE}, DEEP: {VETH, BRIDGE}}
    assert owners(mapped(middle, deep), POD, FAR) == {("web", DEEP)}
    assert owners(mapped(deep), POD, FAR) == set()


def test_a_container_in_a_container_sees_the_addresses_of_its_own_host() -> None:
    """Both engines call their bridges the same."""
    middle = space(INNER, InterfaceAddress(POD, (2,)), InterfaceAddress(GATE, (3,)), links=(*EXIT, veth(4, 2, DEEP)))
    deep = space(DEEP, InterfaceAddress(address.parse("172.17.0.9"), (2,)), links=(veth(2, 4, INNER),))
    found = mapped(middle, deep)
    assert owners(found, GATE, NetnsRef("web", DEEP)) == {("web", HOME), ("web", INNER)}
    assert owners(found, GATE, WEB) == {("web", HOME)}


@pytest.mark.parametrize("names", [["web"], ["web", "db"]])
def test_a_forged_tuple_is_no_end_of_a_true_connection(names: list[str]) -> None:
    one = key(40000)
    forged = with_rows(space(INNER, *(InterfaceAddress(own, (LO,)) for own in (CLIENT, SERVER))), [sock(one)])
    web = host("web", with_rows(ROOT, [sock(one)]), forged)
    db = host("db", with_rows(DB.namespaces[0], [sock(address.mirror(one))]))
    found = match(survey([web, db], names, names[::-1] if len(names) > 1 else ["db"], (), {}))
    assert sum(found.agreeing.values()) == 1
    assert [suspect.client.places for suspect in found.suspects] == [(NetnsRef("web", INNER),)] * (len(names) - 1)


def with_rows(one: Namespace, sockets: list[Socket]) -> Namespace:
    (told,) = snapshot("any", [], sockets).namespaces
    return replace(one, table=told.table)


@pytest.mark.parametrize(
    ("link", "named"),
    [
        (veth(6, 2, None, BRIDGE), True),  # a port of a bridge
        (veth(8, 2, None), True),  # without an address, as some engines have them
        (veth(ETH0, 2, None), False),  # the way out of a container
        (veth(6, 2, INNER, BRIDGE), False),  # that one was entered
    ],
)
def test_a_veth_tells_of_a_namespace_that_was_not_entered(link: Link, named: bool) -> None:
    own = replace(ROOT, reach=Reach(0, (link,)))
    assert bool(unentered_of(host("web", own, space(INNER, links=EXIT)))) is named


def test_every_address_of_a_local_route_is_the_hosts_own() -> None:
    inside, outside = address.parse("10.9.0.5"), address.parse("10.9.1.5")
    ends = [key(40000, server=inside), key(40001, server=outside)]
    web = snapshot("web", [CLIENT], [sock(one) for one in ends])
    db = host("db", replace(DB.namespaces[0], local_routes=(LocalRoute(address.parse("10.9.0.0"), 24),)))
    found = match(survey([web, db], ["web"], ["db"], (), {}))
    assert [suspect.client.key for suspect in found.suspects] == ends[:1]
    assert found.external == {("web", "10.9.1.5:5432"): 1}
