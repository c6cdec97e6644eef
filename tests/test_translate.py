"""Translation: keys there and back, chains of boxes, private networks that overlap, and ways that are ambiguous."""

from __future__ import annotations

import itertools

from evidence import CLIENT, SERVER, key, snapshot, sock
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import PORTS, V4, V6

from halfopen import address
from halfopen.matching.pairing.connection import Loss
from halfopen.matching.pairing.match import Matching
from halfopen.matching.pairing.nat import names_of, tables_of
from halfopen.matching.pairing.pair import join, may_translate, prepare
from halfopen.matching.places.addresses import survey
from halfopen.model import Namespace, NetnsRef, Rewrites, Snapshot, Socket
from halfopen.plan import CheckPlan
from halfopen.tcp import State

EST = State.ESTABLISHED
PRIVATE = address.parse("172.17.0.2")
ROUTER = address.parse("192.0.2.1")
PLAN = CheckPlan("web -> db", ("web",), ("db",))


def rewrites(*pairs: tuple[bytes, bytes]) -> Rewrites:
    """A table with these entries."""
    narrow, wide = (b"".join(one + two for one, two in pairs if len(one) == width) for width in (12, 36))
    return Rewrites(narrow, wide)


def space(netns: int, addresses: list[bytes], sockets: list[Socket], *pairs: tuple[bytes, bytes]) -> Namespace:
    """A namespace that was read completely, its connection tracking too."""
    (one,) = snapshot("any", addresses, sockets, netns=netns).namespaces
    return replace(one, rewrites=rewrites(*pairs))


def host(name: str, *spaces: Namespace) -> Snapshot:
    return replace(snapshot(name, [], []), namespaces=spaces)


def joined(*hosts: Snapshot, plan: CheckPlan = PLAN) -> Matching:
    return join(prepare(plan, {one.host: one for one in hosts}, {}))


def make(source: bytes, port: int, target: bytes, target_port: int) -> bytes:
    return address.make_key(source, port, target, target_port)


DIALLED = make(CLIENT, 40000, SERVER, 8080)
PUBLISHED = make(CLIENT, 40000, PRIVATE, 80)
INSIDE = make(PRIVATE, 40000, SERVER, 8080)


def test_a_published_port_joins_both_ends() -> None:
    web = host("web", space(1, [CLIENT], [sock(DIALLED)]))
    db = host(
        "db",
        space(1, [SERVER], [], (DIALLED, PUBLISHED)),
        space(2, [PRIVATE], [sock(address.mirror(PUBLISHED))]),
    )
    found = joined(web, db)
    assert found.agreeing == {(EST, EST): 1} and not found.suspects and not found.external


def test_a_missing_end_behind_a_published_port_is_asked_for_by_its_own_key() -> None:
    web = host("web", space(1, [CLIENT], [sock(DIALLED)]))
    db = host("db", space(1, [SERVER], [], (DIALLED, PUBLISHED)), space(2, [PRIVATE], []))
    (suspect,) = joined(web, db).suspects
    assert (suspect.client.key, suspect.client.places) == (DIALLED, (NetnsRef("web", 1),))
    assert (suspect.server.key, suspect.server.places) == (address.mirror(PUBLISHED), (NetnsRef("db", 2),))
    assert suspect.translation == ("10.0.0.1:40000 -> 10.0.0.2:8080; after db: 10.0.0.1:40000 -> 172.17.0.2:80")


def test_masquerade_and_published_port_compose_though_both_containers_have_one_address() -> None:
    outside = make(CLIENT, 50000, SERVER, 8080)
    inside = make(CLIENT, 50000, PRIVATE, 80)
    web = host("web", space(1, [CLIENT], [], (INSIDE, outside)), space(2, [PRIVATE], [sock(INSIDE)]))
    there = [sock(address.mirror(inside))]
    db = host("db", space(1, [SERVER], [], (outside, inside)), space(2, [PRIVATE], there))
    assert joined(web, db).agreeing == {(EST, EST): 1}
    (suspect,) = joined(web, replace(db, namespaces=(db.namespaces[0], space(2, [PRIVATE], [])))).suspects
    assert suspect.client.places == (NetnsRef("web", 2),) and suspect.server.places == (NetnsRef("db", 2),)
    assert suspect.client.key == INSIDE and suspect.server.key == address.mirror(inside)


def test_a_client_that_is_gone_is_looked_for_in_its_container() -> None:
    outside = make(CLIENT, 50000, SERVER, 8080)
    web = host("web", space(1, [CLIENT], [], (INSIDE, outside)), space(2, [PRIVATE], []))
    db = host("db", space(1, [SERVER], [sock(address.mirror(outside))]))
    (suspect,) = joined(web, db).suspects
    assert suspect.client.key == INSIDE and suspect.client.places == (NetnsRef("web", 2),) and not suspect.client_first


def test_a_router_of_the_check_explains_and_one_that_is_not_named_does_not() -> None:
    outside = make(ROUTER, 50000, SERVER, 8080)
    web = host("web", space(1, [CLIENT], [sock(DIALLED)]))
    db = host("db", space(1, [SERVER], [sock(address.mirror(outside))]))
    router = host("router", space(1, [ROUTER], [], (DIALLED, outside)))
    found = joined(web, db, router, plan=replace(PLAN, nat=("router",)))
    assert found.agreeing == {(EST, EST): 1} and not found.suspects and not found.external


def test_a_router_owns_its_addresses_and_may_have_forgotten_whom_they_stand_for() -> None:
    """Nothing of it is external: either end is a suspect, asked for at the router, unless a program there has it."""
    dialled, masked = make(CLIENT, 40000, ROUTER, 8080), make(SERVER, 80, ROUTER, 20001)
    web, db = host("web", space(1, [CLIENT], [sock(dialled)])), host("db", space(1, [SERVER], [sock(masked)]))
    plan = replace(PLAN, nat=("router",))
    found = joined(web, db, host("router", space(3, [ROUTER], [])), plan=plan)
    assert {(one.client.key, one.server.key, one.client_first, one.loss) for one in found.suspects} == {
        (dialled, address.mirror(dialled), True, Loss.ENTRY_GONE),
        (address.mirror(masked), masked, False, Loss.ENTRY_GONE),
    }
    assert not found.external
    proxy = host("router", space(3, [ROUTER], [sock(address.mirror(dialled)), sock(address.mirror(masked))]))
    assert not joined(web, db, proxy, plan=plan).suspects and len(joined(web, db, proxy, plan=plan).external) == 2
    untold = space(3, [ROUTER], [])
    router = host("router", replace(untold, rewrites=None, tracked=5))
    assert not joined(web, db, router, plan=plan).suspects


def test_what_a_published_port_hands_on_leads_elsewhere() -> None:
    """The address that the client dialled is the server's, but the connection does not end there."""
    web = host("web", space(1, [CLIENT], [sock(DIALLED)]))
    db = host("db", space(1, [SERVER], [], (DIALLED, make(CLIENT, 40000, ROUTER, 80))))
    found = joined(web, db)
    assert not found.suspects and found.external == {("web", "192.0.2.1:80"): 1}


def test_what_no_route_leads_to_is_gone() -> None:
    """A pod with a route of its own is no machine elsewhere: its entry stays, its route and its sockets do not."""
    web = host("web", space(1, [CLIENT], [sock(DIALLED)]))
    here = space(1, [SERVER], [], (DIALLED, PUBLISHED))
    assert here.rewrites
    assert joined(web, host("db", here)).external == {("web", "172.17.0.2:80"): 1}
    found = joined(web, host("db", replace(here, rewrites=replace(here.rewrites, nowhere=(PRIVATE,)))))
    (suspect,) = found.suspects
    assert not found.external and found.gone == {"db"} and suspect.loss is Loss.PLACE_GONE
    assert suspect.server.places == (NetnsRef("db", 1),) and suspect.server.key == address.mirror(PUBLISHED)


def test_whom_a_host_masquerades_is_not_its_own() -> None:
    outside = make(CLIENT, 50000, SERVER, 8080)
    web = host("web", space(1, [CLIENT], [], (make(ROUTER, 40000, SERVER, 8080), outside)))
    db = host("db", space(1, [SERVER], [sock(address.mirror(outside))]))
    found = joined(web, db)
    assert not found.suspects and sum(found.external.values()) == 1


def test_an_entry_without_sockets_is_no_connection() -> None:
    web = host("web", space(1, [CLIENT], []))
    db = host("db", space(1, [SERVER], [], (DIALLED, PUBLISHED)), space(2, [PRIVATE], []))
    found = joined(web, db)
    assert not found.suspects and not found.agreeing and not found.external


def test_a_direct_connection_from_the_same_port_is_another_one() -> None:
    direct = make(CLIENT, 40000, PRIVATE, 80)
    moved = make(CLIENT, 41111, PRIVATE, 80)
    web = host("web", space(1, [CLIENT], [sock(DIALLED), sock(direct)]))
    ends = [sock(address.mirror(direct)), sock(address.mirror(moved))]
    db = host("db", space(1, [SERVER], [], (DIALLED, moved)), space(2, [PRIVATE], ends))
    found = joined(web, db)
    assert found.agreeing == {(EST, EST): 2} and not found.suspects


def test_two_ways_that_fit_are_ambiguous() -> None:
    web = host("web", space(1, [CLIENT], [sock(DIALLED)]))
    two = make(CLIENT, 40000, PRIVATE, 81)
    db = host("db", space(1, [SERVER], [], (DIALLED, PUBLISHED), (DIALLED, two)), space(2, [PRIVATE], []))
    (suspect,) = joined(web, db).suspects
    assert suspect.ambiguous


def test_an_entry_that_was_left_behind_on_another_host_misleads_nobody() -> None:
    """The published address has moved from one host to another, both with the same private addresses."""
    web = host("web", space(1, [CLIENT], [sock(DIALLED)]))
    old = host("db1", space(1, [address.parse("10.0.0.3")], [], (DIALLED, PUBLISHED)), space(2, [PRIVATE], []))
    inner = [sock(address.mirror(PUBLISHED))]
    plan = CheckPlan("web -> db", ("web",), ("db1", "db2"))
    for alive in (True, False):
        new = host("db2", space(1, [SERVER], [], (DIALLED, PUBLISHED)), space(2, [PRIVATE], inner if alive else []))
        found = joined(web, old, new, plan=plan)
        if alive:
            assert found.agreeing == {(EST, EST): 1} and not found.suspects
        else:
            assert [one.ambiguous for one in found.suspects] == [True]


def test_the_port_of_a_check_may_be_the_published_one_or_the_one_behind() -> None:
    web = host("web", space(1, [CLIENT], [sock(DIALLED)]))
    db = host(
        "db", space(1, [SERVER], [], (DIALLED, PUBLISHED)), space(2, [PRIVATE], [sock(address.mirror(PUBLISHED))])
    )
    for port in (80, 8080):
        assert joined(web, db, plan=replace(PLAN, ports=(port,))).agreeing == {(EST, EST): 1}
    assert not joined(web, db, plan=replace(PLAN, ports=(81,))).agreeing


def test_tables_are_asked_for_where_something_is_left_or_redirected() -> None:
    """Of a check of one port, whose dumps show nothing of what was dialled at another."""
    web, db = host("web", space(1, [CLIENT], [])), host("db", space(1, [SERVER], []))
    for redirects, asked in (False, []), (True, ["web", "db"]):
        hosts = [
            replace(one, namespaces=(replace(one.namespaces[0], tracked=3, redirects=redirects and one is db),))
            for one in (web, db)
        ]
        check = prepare(replace(PLAN, ports=(80,)), {one.host: one for one in hosts}, {})
        assert may_translate(check, join(check)) == asked


def test_one_tuple_on_two_hosts_of_overlapping_networks_is_two_connections() -> None:
    other = address.parse("172.17.0.3")
    one = make(PRIVATE, 40000, other, 80)
    for gone in (False, True):
        ends = [] if gone else [sock(address.mirror(one))]
        web = host("web", space(1, [PRIVATE], [sock(one)]), space(2, [other], ends))
        db = host("db", space(1, [PRIVATE], [sock(one)]), space(2, [other], [sock(address.mirror(one))]))
        plan = CheckPlan("all", ("web", "db"), ("web", "db"))
        found = joined(web, db, plan=plan)
        if not gone:
            assert not found.suspects
        else:
            (suspect,) = found.suspects
            assert suspect.client.places == (NetnsRef("web", 1),) and suspect.server.places == (NetnsRef("web", 2),)
        # The inner traffic of each host is no matter between the two.
        assert not joined(web, db).suspects and not joined(web, db).agreeing


GATE, NEIGHBOUR = address.parse("172.17.0.1"), address.parse("172.17.0.3")


def linked(one: Namespace) -> Namespace:
    """The same with all of its addresses in networks of /16."""
    return replace(one, addresses=tuple(replace(own, prefix=16) for own in one.addresses))


def test_a_hosts_own_bridge_leads_to_no_container_of_another_host() -> None:
    """The container of that connection is hidden or gone; the other host has one with the same address."""
    inner = make(GATE, 40000, PRIVATE, 80)
    web = host("web", space(1, [CLIENT, GATE], [sock(inner)]))
    db = host("db", space(1, [SERVER, GATE], []), space(2, [PRIVATE], []))
    found = joined(web, db)
    assert not found.suspects and not found.agreeing and found.external == {("web", "172.17.0.2:80"): 1}


def test_a_containers_neighbour_is_no_container_of_another_host() -> None:
    inner = make(PRIVATE, 40000, NEIGHBOUR, 80)
    web = host("web", space(1, [CLIENT, GATE], []), linked(space(2, [PRIVATE], [sock(inner)])))
    db = host("db", linked(space(1, [SERVER, GATE], [])), linked(space(2, [NEIGHBOUR], [])))
    found = joined(web, db)
    assert not found.suspects and found.external == {("web", "172.17.0.3:80"): 1}


def test_an_address_that_two_hosts_have_keeps_nothing_else_from_being_judged() -> None:
    one = key(40000)
    vip = address.parse("10.0.0.100")
    web = host("web", linked(space(1, [CLIENT, vip], [sock(one)])))
    found = joined(web, host("db", linked(space(1, [SERVER, vip], []))))
    assert len(found.suspects) == 1


def test_a_container_that_is_a_host_of_its_own_is_one_namespace() -> None:
    """The check names the container and the machine that it runs on, whose probe looks into it as well."""
    one = make(PRIVATE, 40000, SERVER, 5432)
    inside = space(7, [PRIVATE], [sock(one)])
    web, db = host("web", inside), host("db", space(1, [SERVER], []), inside)
    assert web.facts is not None
    web = replace(web, facts=replace(web.facts, boot_id="boot-db"))
    for hosts in ((web, db), (db, web)):
        (suspect,) = joined(*hosts).suspects
        assert suspect.client.places == (NetnsRef("web", 7),) and suspect.server.places == (NetnsRef("db", 1),)


def ends(addresses: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[bytes, int]]:
    return st.tuples(addresses.filter(lambda one: not address.is_loopback(one) and any(one)), PORTS)


@given(st.one_of(st.lists(ends(V4), min_size=6, max_size=6), st.lists(ends(V6), min_size=6, max_size=6)), st.data())
def test_a_key_goes_there_and_back_through_any_boxes(found: list[tuple[bytes, int]], data: st.DataObject) -> None:
    """Random boxes, each rewriting source, target or both: either end finds the other, and the names are undone."""
    if len({one for one, _ in found}) < 6 or len({port for _, port in found}) < 6:
        return
    client, dialled, *others = found
    tuples = [(client, dialled)]
    boxes = data.draw(st.lists(st.sampled_from(["source", "target", "both"]), min_size=1, max_size=2))
    for kind in boxes:
        source, target = tuples[-1]
        fresh = others.pop(), others.pop()
        tuples.append((fresh[0] if kind != "target" else source, fresh[1] if kind != "source" else target))
    keys = [make(*source, *target) for source, target in tuples]
    server = tuples[-1][1]
    boxed = [space(10 + at, [], [], pair) for at, pair in enumerate(itertools.pairwise(keys))]
    hosts = [
        host("web", space(1, [client[0]], [sock(keys[0])])),
        host("db", space(1, [server[0]], [sock(address.mirror(keys[-1]))])),
        host("boxes", *boxed),
    ]
    ground = survey(hosts, ["web"], ["db"], (), {})
    tables = tables_of(hosts, ground)
    near, far = NetnsRef("web", 1), NetnsRef("db", 1)
    flow = tables.flow_from(near, keys[0])
    assert flow is not None and flow == tables.flow_to(far, address.mirror(keys[-1])) and not flow.ambiguous
    assert (flow.dialled, flow.arrived) == (keys[0], keys[-1])
    names = names_of(hosts[:2], tables, frozenset(("web", "db")))
    one, two = names.renamed[near][keys[0]], names.renamed[far][address.mirror(keys[-1])]
    assert address.mirror(one) == two
    assert names.real[one][0] == keys[0] and names.real[two][0] == address.mirror(keys[-1])
    plan = replace(PLAN, nat=("boxes",))
    assert joined(*hosts, plan=plan).agreeing == {(EST, EST): 1}
    swapped = CheckPlan("db -> web", ("db",), ("web",), nat=("boxes",))
    assert joined(*hosts, plan=swapped).agreeing == {(EST, EST): 1}


def test_an_untranslated_pair_is_matched_as_ever() -> None:
    one = key(40000)
    web = host("web", space(1, [CLIENT], [sock(one)]))
    db = host("db", space(1, [SERVER], [sock(address.mirror(one))], (DIALLED, PUBLISHED)))
    assert joined(web, db).agreeing == {(EST, EST): 1}
