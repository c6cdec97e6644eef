"""The join: what agrees vanishes, what does not is a suspect, and neither order of rows nor of hosts matters."""

from __future__ import annotations

import pytest
from evidence import CLIENT, SERVER, key, snapshot, sock
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import KEYS, STATES

from halfopen import address
from halfopen.matching.pairing.match import Matching, match
from halfopen.matching.places.addresses import survey
from halfopen.matching.verdict.table import ABSENT, THE_TABLE, Accord
from halfopen.model import ListenSocket, NetnsRef, Snapshot, Socket
from halfopen.table import Table
from halfopen.tcp import State, number_of

EST = State.ESTABLISHED


def joined(
    web: Snapshot, db: Snapshot, ports: tuple[int, ...] = (), extra: dict[str, list[bytes]] | None = None
) -> Matching:
    return match(survey([web, db], [web.host], [db.host], ports, extra or {}))


def client_keys(found: Matching) -> set[bytes]:
    return {one.client.key for one in found.suspects}


def test_two_ends_that_agree_are_no_suspect() -> None:
    one = key(40000)
    found = joined(snapshot("web", [CLIENT], [sock(one)]), snapshot("db", [SERVER], [sock(address.mirror(one))]))
    assert found.agreeing == {(EST, EST): 1}
    assert not found.suspects and not found.external


def test_one_end_alone_is_a_suspect_with_both_places() -> None:
    one = key(40000)
    (suspect,) = joined(snapshot("web", [CLIENT], [sock(one)]), snapshot("db", [SERVER], [])).suspects
    assert suspect.client.places == (NetnsRef("web", 1),) and suspect.client.key == one
    assert suspect.server.places == (NetnsRef("db", 1),) and suspect.server.key == address.mirror(one)
    assert suspect.client_first


def test_the_server_alone_is_looked_at_first() -> None:
    one = key(40000)
    db = snapshot("db", [SERVER], [sock(address.mirror(one))])
    (suspect,) = joined(snapshot("web", [CLIENT], []), db, (5432,)).suspects
    assert suspect.client.key == one and not suspect.client_first


def test_what_leads_elsewhere_is_counted_and_not_judged() -> None:
    away = key(40000, 443, server=address.parse("198.51.100.4"))
    found = joined(snapshot("web", [CLIENT], [sock(away)]), snapshot("db", [SERVER], []))
    assert not found.suspects
    assert found.external == {("web", "198.51.100.4:443"): 1}


def test_a_socket_whose_local_address_no_host_has_is_its_hosts() -> None:
    stray = key(40000, client=address.parse("10.9.9.9"))
    found = joined(snapshot("web", [CLIENT], [sock(stray)]), snapshot("db", [SERVER], []))
    assert client_keys(found) == {stray} and found.suspects[0].server.places == (NetnsRef("db", 1),)


def test_an_address_that_has_left_its_host_is_compared_by_its_sockets() -> None:
    """Where only the other end is seen, it may be another host's by now."""
    gone = address.parse("10.0.0.9")
    pairs, lone, alone = (
        [key(port, server=gone) for port in (40000, 40001)],
        key(40002, server=gone),
        key(40003, server=gone),
    )
    web = snapshot("web", [CLIENT], [sock(one) for one in (*pairs, lone)])
    db = snapshot("db", [SERVER], [sock(address.mirror(one)) for one in (*pairs, alone)])
    for hosts, roles in (([web, db], (["web"], ["db"])), ([db, web], (["web", "db"], ["db", "web"]))):
        found = match(survey(hosts, *roles, (5432,), {}))
        assert found.agreeing == {(EST, EST): 2} and {*found.external} == {("web", "10.0.0.9:5432")}
        (suspect,) = found.suspects
        assert (suspect.client.key, suspect.client.places) == (alone, (NetnsRef("web", 1),))
        assert found.notes == ("10.0.0.9 is no longer an address of db, whose end of 3 connections still has it",)


def test_an_address_that_has_left_two_hosts_is_nobodys() -> None:
    gone = address.parse("10.0.0.9")
    one = key(40000, server=gone)
    hosts = [snapshot(name, [SERVER], [sock(address.mirror(one))]) for name in ("db1", "db2")]
    found = match(survey([snapshot("web", [CLIENT], [sock(one)]), *hosts], ["web"], ["db1", "db2"], (), {}))
    assert not found.suspects and not found.agreeing and not found.notes


def test_an_extra_address_leads_to_its_host() -> None:
    vip = address.parse("203.0.113.7")
    one = key(40000, server=vip)
    db = snapshot("db", [SERVER], [sock(address.mirror(one))])
    found = joined(snapshot("web", [CLIENT], [sock(one)]), db, extra={"db": [vip]})
    assert found.agreeing == {(EST, EST): 1}


def test_loopback_of_one_host_is_not_loopback_of_the_other() -> None:
    local = address.parse("127.0.0.1")
    one = key(40000, client=local, server=local)
    found = joined(
        snapshot("web", [CLIENT, local], [sock(one)]), snapshot("db", [SERVER, local], [sock(address.mirror(one))])
    )
    assert not found.suspects and not found.agreeing


def test_whole_connections_on_loopback_agree_each_on_its_own_host() -> None:
    local = address.parse("127.0.0.1")
    ends = {}
    for name, port in (("web", 40000), ("db", 40001)):
        one = key(port, client=local, server=local)
        ends[name] = [sock(one, cookie=port), sock(address.mirror(one), cookie=port + 10)]
    hosts = [snapshot(name, [home], ends[name]) for name, home in (("web", CLIENT), ("db", SERVER))]
    found = match(survey(hosts, ["web", "db"], ["web", "db"], (), {}))
    assert not found.suspects
    assert {(one.client_host, one.server_host): count for one, count in found.agreements.items()} == {
        ("web", "web"): 1,
        ("db", "db"): 1,
    }


def test_one_tuple_on_loopback_of_two_hosts_is_two_connections() -> None:
    local = address.parse("127.0.0.1")
    one = key(40000, client=local, server=local)
    web = snapshot("web", [CLIENT, local], [sock(one)])
    db = snapshot("db", [SERVER, local], [sock(address.mirror(one), State.FIN_WAIT1)])
    found = match(survey([web, db], ["web", "db"], ["web", "db"], (5432,), {}))
    assert {(suspect.client.places, suspect.server.places, suspect.client_first) for suspect in found.suspects} == {
        ((NetnsRef(name, 1),), (NetnsRef(name, 1),), name == "web") for name in ("web", "db")
    }


@pytest.mark.parametrize("both", [False, True])
def test_two_ends_of_one_loopback_tuple_on_two_hosts_are_two_connections(both: bool) -> None:
    """Web has lost the server's end of its own, db the client's; on a third host the tuple may be whole."""
    local = address.parse("127.0.0.1")
    one = key(40000, client=local, server=local)
    ends = {"web": [sock(one)], "db": [sock(address.mirror(one))]} | (
        {"app": [sock(one), sock(address.mirror(one))]} if both else {}
    )
    hosts = [snapshot(name, [CLIENT, local], some) for name, some in ends.items()]
    found = match(survey(hosts, list(ends), list(ends), (5432,), {}))
    assert {(suspect.client.places, suspect.client.key, suspect.client_first) for suspect in found.suspects} == {
        ((NetnsRef(name, 1),), one, name == "web") for name in ("web", "db")
    }
    assert sum(found.agreeing.values()) == both


@pytest.mark.parametrize("said", ["127.0.0.1", "127.0.0.2"])
def test_loopback_that_leads_to_another_host_is_one_connection(said: str) -> None:
    """A tunnel: this address is said to be db's, and one end of the connection is on each host."""
    local, there = address.parse("127.0.0.1" if said == "127.0.0.2" else "127.0.0.2"), address.parse(said)
    one = key(40000, client=local, server=there)
    web = snapshot("web", [CLIENT, local], [sock(one, State.FIN_WAIT1)])
    db = snapshot("db", [SERVER], [sock(address.mirror(one))])
    (suspect,) = match(survey([web, db], ["web", "db"], ["web", "db"], (5432,), {"db": [there]})).suspects
    assert suspect.client.key == one
    assert (suspect.client.places, suspect.server.places) == ((NetnsRef("web", 1),), (NetnsRef("db", 1),))


def test_one_tuple_on_two_hosts_that_share_an_address_is_one_suspect() -> None:
    one = key(40000)
    hosts = [snapshot(name, [CLIENT], [sock(one)]) for name in ("web1", "web2")]
    (suspect,) = match(survey([*hosts, snapshot("db", [SERVER], [])], ["web1", "web2"], ["db"], (), {})).suspects
    assert {place.host for place in suspect.client.places} == {"web1", "web2"}


def test_both_ends_on_one_host() -> None:
    local = address.parse("127.0.0.1")
    healthy, broken = key(40000, client=local, server=local), key(40001, client=local, server=local)
    host = snapshot(
        "web",
        [CLIENT, local],
        [sock(healthy), sock(address.mirror(healthy)), sock(broken)],
        [ListenSocket(local, 5432, 2, queue=0, backlog=1)],
    )
    found = match(survey([host], ["web"], ["web"], (), {}))
    assert found.agreeing == {(EST, EST): 1}
    assert client_keys(found) == {broken}


def test_a_socket_connected_to_itself_agrees_with_itself() -> None:
    own = key(5432, 5432, CLIENT, CLIENT)
    host = snapshot("web", [CLIENT], [sock(own)])
    assert not match(survey([host], ["web"], ["web"], (), {})).suspects


def test_ports_limit_what_is_judged() -> None:
    host = snapshot("web", [CLIENT], [sock(key(40000)), sock(key(40001, 80))])
    assert client_keys(joined(host, snapshot("db", [SERVER], []), (5432,))) == {key(40000)}


LISTENS = tuple(ListenSocket(bytes(4), port, 2) for port in (5432, 80, 81))


@pytest.mark.parametrize("filtered", [False, True])
def test_the_port_of_a_check_is_the_servers(filtered: bool) -> None:
    """A client's port may be the same number: the other end's listener says whose connection it is."""
    ports = (5432,) if filtered else ()
    to, from_, lost = key(40000), key(5432, 80), key(5432, 81)
    web = snapshot("web", [CLIENT], [sock(one) for one in (to, from_, lost)], LISTENS[1:], ports)
    db = snapshot("db", [SERVER], [sock(address.mirror(one)) for one in (to, from_)], LISTENS, ports)
    if filtered:  # listeners of other ports are known by their ports alone
        hosts = [
            replace(one, namespaces=(replace(one.namespaces[0], listeners=few, other_listeners=frozenset({80, 81})),))
            for one, few in ((web, ()), (db, LISTENS[:1]))
        ]
    else:
        hosts = [web, db]
    for roles in ((["web"], ["db"]), (["db"], ["web"]), (["web", "db"], ["web", "db"])):
        found = match(survey(hosts, *roles, (5432,), {}))
        assert found.agreeing == {(EST, EST): 1} and not found.suspects and not found.external


def test_a_server_whose_listener_has_gone_is_still_the_one_of_its_port() -> None:
    web = snapshot("web", [CLIENT], [sock(key(2000)), sock(key(5432, 5432))], LISTENS[1:], (5432,))
    found = joined(web, snapshot("db", [SERVER], [sock(address.mirror(key(2001)))], (), (5432,)), (5432,))
    assert client_keys(found) == {key(2000), key(5432, 5432), key(2001)}


def test_a_socket_that_was_not_accepted_is_a_suspect() -> None:
    one = key(40000)
    queued = sock(address.mirror(one), inode=0)
    found = joined(snapshot("web", [CLIENT], [sock(one)]), snapshot("db", [SERVER], [queued]))
    assert client_keys(found) == {one} and found.suspects[0].agreed == (EST, EST)


def test_a_connection_the_other_way_is_judged_from_its_own_client() -> None:
    back = key(40000, 80, client=SERVER, server=CLIENT)
    web = snapshot("web", [CLIENT], [], [ListenSocket(CLIENT, 80, 2)])
    db = snapshot("db", [SERVER], [sock(back)])
    (suspect,) = joined(web, db).suspects
    assert suspect.client.key == back and suspect.client.places == (NetnsRef("db", 1),)


def test_the_tuple_on_two_hosts_of_one_role_is_a_suspect() -> None:
    one = key(40000)
    twins = [snapshot(name, [CLIENT], [sock(one)]) for name in ("web1", "web2")]
    db = snapshot("db", [SERVER], [sock(address.mirror(one))])
    found = match(survey([*twins, db], ["web1", "web2"], ["db"], (), {}))
    (suspect,) = found.suspects
    assert {place.host for place in suspect.client.places} == {"web1", "web2"}


def test_a_host_that_was_not_read_gives_no_suspect() -> None:
    web = snapshot("web", [CLIENT], [sock(key(40000))])
    found = joined(web, Snapshot("db", None))
    assert not found.suspects


def test_a_time_wait_beside_its_successor_is_no_suspect() -> None:
    one = key(40000)
    web = snapshot("web", [CLIENT], [sock(one, State.TIME_WAIT), sock(one)])
    found = joined(web, snapshot("db", [SERVER], [sock(address.mirror(one))]))
    assert not found.suspects


PORT_STATES = st.dictionaries(st.integers(1024, 1060), STATES, max_size=20)


@given(PORT_STATES, PORT_STATES, st.randoms())
def test_the_join_is_the_same_in_any_order_and_as_the_table_says(
    near: dict[int, State], far: dict[int, State], shuffle: object
) -> None:
    web = [sock(key(port), state) for port, state in near.items()]
    db = [sock(address.mirror(key(port)), state) for port, state in far.items()]
    ways = []
    for rows in ((web, db), (web[::-1], db[::-1])):
        hosts = [snapshot("web", [CLIENT], rows[0]), snapshot("db", [SERVER], rows[1])]
        for order in (hosts, hosts[::-1]):
            ways.append(match(survey(order, ["web"], ["db"], (5432,), {})))
    assert all(one == ways[0] for one in ways)
    expected = {
        key(port)
        for port in near.keys() | far.keys()
        if THE_TABLE[near.get(port, ABSENT), far.get(port, ABSENT)] is not Accord.AGREE
    }
    assert client_keys(ways[0]) == expected
    assert sum(ways[0].agreeing.values()) + len(expected) == len(near.keys() | far.keys())


@given(PORT_STATES, PORT_STATES)
def test_swapping_the_roles_finds_the_same_connections(near: dict[int, State], far: dict[int, State]) -> None:
    web: list[Socket] = [sock(key(port), state) for port, state in near.items()]
    db = [sock(address.mirror(key(port)), state) for port, state in far.items()]
    hosts = [snapshot("web", [CLIENT], web), snapshot("db", [SERVER], db)]
    there = match(survey(hosts, ["web"], ["db"], (5432,), {}))
    back = match(survey(hosts, ["db"], ["web"], (5432,), {}))
    assert there == back


@given(st.lists(st.tuples(KEYS, STATES), max_size=12, unique_by=lambda one: one[0]), st.data())
def test_a_table_without_some_of_its_rows_has_the_others(rows: list[tuple[bytes, State]], data: st.DataObject) -> None:
    table = Table.of((10, 0, key, number_of(state), 0) for key, state in rows)
    gone = data.draw(st.lists(st.sampled_from([key for key, _ in rows]))) if rows else []
    others = data.draw(st.lists(KEYS, max_size=3))
    left = table.without({*gone, *others})
    assert {key for key, _, _ in left.rows()} == {key for key, _ in rows} - {*gone, *others}
    assert all(table.has(key) and not left.has(key) for key in gone)
