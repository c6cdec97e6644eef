"""What no table explains: pairings by ports, doubts, and missing ends that nothing else can be."""

from __future__ import annotations

from evidence import CLIENT, SERVER, bracket, key, sights, snapshot, sock
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import replace

from halfopen import address
from halfopen.judge.confirm.rounds import held
from halfopen.matching.missing.candidates import could_be
from halfopen.matching.missing.conclude import conclude
from halfopen.matching.pairing.match import Matching
from halfopen.matching.pairing.pair import join, prepare
from halfopen.matching.places.addresses import shares_link
from halfopen.model import Absence, InterfaceAddress, Rewrites, Snapshot, Socket, TcpInfo
from halfopen.plan import CheckPlan
from halfopen.schema.report import Confidence
from halfopen.tcp import State

PLAN = CheckPlan("web -> db", ("web",), ("db",))
EST = State.ESTABLISHED
ROUTER, VIP, OTHER = (address.parse(text) for text in ("192.0.2.1", "198.51.100.1", "192.0.2.99"))


def concluded(web: Snapshot, db: Snapshot, *more: Snapshot, plan: CheckPlan = PLAN) -> Matching:
    hosts = {one.host: one for one in (web, db, *more)}
    check = prepare(plan, hosts, {})
    return conclude(check, join(check), {})


def info(sent: int, received: int, opener: bool = False) -> TcpInfo:
    """Byte counters of a socket at rest: all that it sent is acknowledged, and its SYN if it connected."""
    zeros = dict.fromkeys(TcpInfo.__annotations__, 0)
    return TcpInfo(**zeros | {"bytes_acked": sent + opener, "bytes_sent": sent, "bytes_received": received})


def masked(port: int, server_port: int = 5432) -> Socket:
    """What the server has of a connection that a router masquerades."""
    return sock(address.mirror(key(port, server_port, client=ROUTER)))


def test_one_far_address_with_the_clients_ports_stands_in_for_it() -> None:
    ports = [40000, 40007, 41111]
    web = snapshot("web", [CLIENT], [sock(key(port)) for port in ports])
    found = concluded(web, snapshot("db", [SERVER], [masked(port) for port in ports]))
    assert found.agreeing == {(EST, EST): 3} and not found.suspects and not found.external
    assert len(found.notes) == 1 and "192.0.2.1" in found.notes[0] and "nat" in found.notes[0]


def test_what_was_said_before_is_said_still() -> None:
    web = snapshot("web", [CLIENT], [sock(key(port)) for port in (40000, 40007)])
    db = snapshot("db", [SERVER], [masked(40000), masked(40007)])
    check = prepare(PLAN, {"web": web, "db": db}, {})
    found = conclude(check, replace(join(check), notes=("byte counters were not compared",)), {})
    assert found.notes[0] == "byte counters were not compared" and "192.0.2.1" in found.notes[1]


def test_who_is_left_is_missing_under_the_address_that_stands_in() -> None:
    ports = [40000, 40007, 41111]
    web = snapshot("web", [CLIENT], [sock(key(port)) for port in ports])
    (suspect,) = concluded(web, snapshot("db", [SERVER], [masked(port) for port in ports[1:]])).suspects
    assert suspect.inferred and suspect.doubt is None
    assert suspect.server.key == masked(40000).key and suspect.client.key == key(40000)


def test_two_far_addresses_that_fit_leave_a_doubt() -> None:
    web = snapshot("web", [CLIENT], [sock(key(40000))])
    rows = [masked(40000), sock(address.mirror(key(40000, client=OTHER)))]
    found = concluded(web, snapshot("db", [SERVER], rows))
    (suspect,) = found.suspects
    assert suspect.doubt and "nat" in suspect.doubt and len(suspect.standins) == 2 and not found.notes


def test_what_could_be_the_missing_end_makes_a_finding_inferred() -> None:
    """By when it received what the survivor sent, and the other way round; bytes may be changed on the way."""
    web = snapshot("web", [CLIENT], [sock(key(40000))])
    db = snapshot("db", [SERVER], [masked(20001)])
    matching = concluded(web, db)
    (suspect,) = matching.suspects
    silent = structs.replace(info(0, 0), bytes_sent=0)
    for other, fits in (
        (info(20, 500), True),
        (info(900, 7), True),
        (structs.replace(info(20, 500), last_data_recv_ms=60_000), False),
        (structs.replace(info(20, 500), last_data_sent_ms=60_000), False),
        (silent, False),
        (None, True),
    ):
        survivor = replace(sock(key(40000)), info=info(500, 20, opener=True))
        stranger = replace(masked(20001), info=other)
        seen = dict(sights([web, db], {"web": [survivor]}, matching.suspects))
        seen |= {(suspect.standins[0].places[0], stranger.key): stranger}
        ((found,), unjudged, _) = held([suspect], [bracket(seen)] * 2)
        assert not unjudged and (found.candidate is not None) == fits
        assert (found.confidence is Confidence.INFERRED) == fits


def test_a_neighbour_with_both_ends_proves_nothing() -> None:
    """A router that began to masquerade a moment ago translates the new connections, and not those from before."""
    web = snapshot("web", [CLIENT], [sock(key(40000)), sock(key(40001))])
    db = snapshot("db", [SERVER], [masked(20001), sock(address.mirror(key(40001)))])
    (suspect,) = concluded(web, db).suspects
    assert [end.key for end in suspect.standins] == [masked(20001).key]


def test_a_local_proxy_stands_in_for_the_server() -> None:
    """Its socket has the client's endpoint as its peer, and an address of its own."""
    proxy = sock(address.make_key(address.parse("127.0.0.1"), 15001, CLIENT, 40000))
    (suspect,) = concluded(snapshot("web", [CLIENT], [sock(key(40000)), proxy]), snapshot("db", [SERVER], [])).suspects
    assert [end.key for end in suspect.standins] == [proxy.key]


def test_two_ends_that_are_alone_stand_in_for_each_other() -> None:
    """As where a host changes the port of its connections without a table: eBPF, or rules without states."""
    web = snapshot("web", [CLIENT], [sock(key(40000))])
    db = snapshot("db", [SERVER], [sock(address.mirror(key(20001)))])
    first, second = concluded(web, db).suspects
    assert {suspect.standins[0].key for suspect in (first, second)} == {key(40000), address.mirror(key(20001))}


def test_where_nothing_on_the_way_translates_nobody_stands_in() -> None:
    web, db = snapshot("web", [CLIENT], [sock(key(40000))]), snapshot("db", [SERVER], [masked(20001)])
    (suspect,) = concluded(web, db, plan=replace(PLAN, direct=True)).suspects
    assert suspect.doubt is None and not suspect.standins


def test_a_target_that_leads_to_the_server_is_inferred_by_the_clients_endpoints() -> None:
    ports = [40000, 40007]
    web = snapshot("web", [CLIENT], [sock(key(port, 80, server=VIP)) for port in ports])
    found = concluded(web, snapshot("db", [SERVER], [sock(address.mirror(key(port))) for port in ports]))
    assert found.agreeing == {(EST, EST): 2} and not found.suspects and not found.external and found.notes


def test_a_port_that_a_busy_client_happens_to_use_elsewhere_proves_nothing() -> None:
    """It has so many connections to that target that one more port among them says little."""
    elsewhere = [sock(key(port, 80, server=VIP)) for port in range(32768, 42768)]
    web = snapshot("web", [CLIENT], elsewhere)
    found = concluded(web, snapshot("db", [SERVER], [sock(address.mirror(key(40000)))]))
    (suspect,) = found.suspects
    assert suspect.doubt and len(suspect.standins) == 1 and not found.notes


def test_the_two_halves_of_a_redirect_are_one() -> None:
    """The client dials one port of the server's own address, and the server's socket has another."""
    web = snapshot("web", [CLIENT], [sock(key(40000, 80))])
    found = concluded(web, snapshot("db", [SERVER], [sock(address.mirror(key(40000, 8080)))]))
    assert found.agreeing == {(EST, EST): 1} and not found.suspects


def test_a_plan_that_vouches_for_the_way_says_that_nothing_translates() -> None:
    """Then two suspects with one port are two faults."""
    web = snapshot("web", [CLIENT], [sock(key(40000, 80))])
    db = snapshot("db", [SERVER], [sock(address.mirror(key(40000, 8080)))])
    bare = [
        replace(one, namespaces=(replace(one.namespaces[0], tracked=0, addresses=(InterfaceAddress(own, (1,), 24),)),))
        for one, own in ((web, CLIENT), (db, SERVER))
    ]
    found = concluded(*bare, plan=replace(PLAN, direct=True))
    assert len(found.suspects) == 2 and not found.agreeing and not any(one.doubt for one in found.suspects)


def test_ports_that_agree_by_chance_pair_nothing() -> None:
    """Among so many faults a port in common is to be expected."""
    web = snapshot("web", [CLIENT], [sock(key(40000 + at, 80)) for at in range(60)])
    db = snapshot("db", [SERVER], [sock(address.mirror(key(40059 + at, 8080))) for at in range(60)])
    found = concluded(web, db)
    assert len(found.suspects) == 120 and not found.agreeing


def test_a_pairing_whose_states_disagree_is_asked_about_by_both_keys() -> None:
    web = snapshot("web", [CLIENT], [sock(key(40000), State.FIN_WAIT2)])
    (suspect,) = concluded(web, snapshot("db", [SERVER], [masked(40000)])).suspects
    assert suspect.inferred and suspect.translation and suspect.server.key == masked(40000).key


def hidden(one: Snapshot, **ground: object) -> Snapshot:
    """A host that was read without root."""
    assert one.facts is not None
    values = {"tracked": 5, "forwards": True} | ground
    space = replace(one.namespaces[0], **values)
    return replace(one, facts=replace(one.facts, sees_namespaces=False), namespaces=(space,))


def test_without_root_a_missing_end_may_be_in_a_container_only_where_packets_are_forwarded() -> None:
    web, db = snapshot("web", [CLIENT], [sock(key(40000))]), snapshot("db", [SERVER], [])
    (suspect,) = concluded(web, hidden(db)).suspects
    assert suspect.doubt and "root" in suspect.doubt and "db" in suspect.doubt
    for known in ({"tracked": 0}, {"forwards": False}):
        (suspect,) = concluded(web, hidden(db, **known)).suspects
        assert suspect.doubt is None
    seen = sights([web, db], {"web": [sock(key(40000))]}, [suspect])
    assert len(held([suspect], [bracket(seen)] * 2)[0]) == 1
    assert len(held([replace(suspect, doubt="who knows")], [bracket(seen)] * 2)[1]) == 1


def test_a_host_whose_connection_tracking_cannot_be_read_may_hide_an_end_from_root_too() -> None:
    web, db = snapshot("web", [CLIENT], [sock(key(40000))]), hidden(snapshot("db", [SERVER], []))
    assert db.facts is not None
    db = replace(db, facts=replace(db.facts, sees_namespaces=True))
    (suspect,) = concluded(web, db).suspects
    assert suspect.doubt and "nf_conntrack" in suspect.doubt
    read = replace(db, namespaces=(replace(db.namespaces[0], rewrites=Rewrites()),))
    assert concluded(web, read).suspects[0].doubt is None


def test_a_router_that_did_not_tell_leaves_a_doubt() -> None:
    web, db = snapshot("web", [CLIENT], [sock(key(40000))]), snapshot("db", [SERVER], [])
    plan = replace(PLAN, nat=("router",))
    router = snapshot("router", [ROUTER], [])
    for told in (None, Rewrites()):
        space = replace(router.namespaces[0], tracked=3, rewrites=told)
        (suspect,) = concluded(web, db, replace(router, namespaces=(space,)), plan=plan).suspects
        assert bool(suspect.doubt) == (told is None)
    (suspect,) = concluded(web, db, Snapshot("router", None), plan=plan).suspects
    assert suspect.doubt and "router" in suspect.doubt


COUNTS = st.integers(0, 10_000)


@given(COUNTS, COUNTS, st.integers(0, 500), st.integers(0, 500))
def test_the_two_ends_of_a_connection_always_fit(there: int, back: int, flying: int, returning: int) -> None:
    """Whatever is in flight: sent by one, not yet received or not yet known to be acknowledged."""
    client = info(there, back, opener=True)
    client = structs.replace(client, bytes_sent=there + flying, bytes_acked=max(0, there - flying) + 1)
    server = structs.replace(info(back, there), bytes_sent=back + returning, bytes_acked=max(0, back - returning))
    one, two = (replace(sock(key(1)), info=found) for found in (client, server))
    assert could_be(one, two) and could_be(two, one)
    assert could_be(one, replace(two, info=None)) and could_be(one, Absence.UNSEEN)
    assert not could_be(one, Absence.ABSENT) and not could_be(one, replace(two, state=State.TIME_WAIT))


@given(st.integers(0, 32), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_link_is_shared_by_its_prefix(prefix: int, one: int, two: int) -> None:
    import ipaddress

    network = ipaddress.ip_network((one, prefix), strict=False)
    assert shares_link(one.to_bytes(4, "big"), prefix, two.to_bytes(4, "big")) == (ipaddress.ip_address(two) in network)
    assert not shares_link(one.to_bytes(4, "big"), prefix, bytes(16))
