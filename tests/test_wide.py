"""The wide look: which pairs it is about, how they are asked for, and which of them are worth a bracket."""

from __future__ import annotations

import struct
import zlib

import pytest
from evidence import CLIENT, SERVER, end, key, snapshot, sock
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import KEYS, U32

from halfopen import address
from halfopen.errors import HostError
from halfopen.evidence.probe import frames, tables
from halfopen.judge.confirm.byte_counters import CountQuery, asks, counts_in, widened
from halfopen.matching.pairing.connection import BOTH_ESTABLISHED, EndQuery, Suspect
from halfopen.matching.pairing.match import Matching, match
from halfopen.matching.places.addresses import AddressMap, survey
from halfopen.model import Absence, NetnsRef, Observation, Snapshot, Socket
from halfopen.table import Count, CountBlock
from halfopen.tcp import State

WEB, DB = NetnsRef("web", 1), NetnsRef("db", 1)
PORTS = range(40000, 40004)

DUMP = CountQuery(dump=True)


def ground(others: int = 0) -> AddressMap:
    """Four established connections from web to db, and others of web that lead elsewhere."""
    elsewhere = [sock(key(port, 443, server=address.parse("198.51.100.4"))) for port in range(1, others + 1)]
    web = snapshot("web", [CLIENT], [*(sock(key(port)) for port in PORTS), *elsewhere])
    db = snapshot("db", [SERVER], [sock(address.mirror(key(port))) for port in PORTS])
    return survey([web, db], ["web"], ["db"], (), {})


def counted(clients: dict[int, Count], servers: dict[int, Count]) -> dict[NetnsRef, tuple[CountBlock, ...]]:
    """What a wide look found, by the port of the client."""
    return {
        WEB: CountBlock.of((2, 0, key(port), 1, count) for port, count in clients.items()),
        DB: CountBlock.of((2, 0, address.mirror(key(port)), 1, count) for port, count in servers.items()),
    }


FITTING = dict.fromkeys(PORTS, (1, 0, 0)), dict.fromkeys(PORTS, (0, 0, 0))


def suspects(clients: dict[int, Count], servers: dict[int, Count]) -> set[bytes]:
    """The client's keys of what is suspect after a wide look."""
    found = widened(ground(), match(ground(), None), counted(clients, servers))
    assert found.agreeing == {BOTH_ESTABLISHED: len(PORTS)} and not found.notes
    assert {one.agreed for one in found.suspects} <= {BOTH_ESTABLISHED}
    return {one.client.key for one in found.suspects}


def test_the_pairs_are_named_only_up_to_a_number() -> None:
    assert match(ground(), None).established == {key(port) for port in PORTS}
    assert match(ground(), 4).established == {key(port) for port in PORTS}
    few = match(ground(), 3)
    assert (few.established, few.uncounted) == (frozenset(), 4)
    assert few.agreeing == match(ground(), None).agreeing


def test_what_was_left_out_is_said() -> None:
    found = widened(ground(), match(ground(), 3), {})
    assert "4 connections" in found.notes[0] and "--deep" in found.notes[0]
    assert not found.suspects


def test_a_host_without_counters_is_named_and_its_pairs_are_no_suspects() -> None:
    here = {place: blocks for place, blocks in counted(*FITTING).items() if place == WEB}
    found = widened(ground(), match(ground(), None), here)
    assert not found.suspects and [note.partition(":")[0] for note in found.notes] == ["db"]


def test_a_host_without_pairs_need_not_have_counters() -> None:
    web = snapshot("web", [CLIENT], [sock(key(port)) for port in PORTS])
    db = snapshot("db", [SERVER], [sock(address.mirror(key(port))) for port in PORTS])
    idle = snapshot("idle", [address.parse("10.0.0.3")], [])
    fleet = survey([web, idle, db], ["web", "idle"], ["db"], (), {})
    found = widened(fleet, match(fleet, None), counted(*FITTING))
    assert (found.notes, found.suspects) == ((), ())


def test_counters_that_fit_make_nothing_suspect() -> None:
    assert not suspects(*FITTING)


@pytest.mark.parametrize("count", [(0, 5, 0), (7, 0, 0)])
def test_counters_that_do_not_fit_make_a_pair_suspect(count: Count) -> None:
    assert suspects(FITTING[0], FITTING[1] | {40002: count}) == {key(40002)}
    assert suspects(FITTING[0] | {40001: count}, FITTING[1]) == {key(40001)}


def test_data_on_its_way_fits() -> None:
    assert not suspects(FITTING[0] | {40002: (1, 0, 900)}, FITTING[1] | {40002: (0, 300, 0)})


def test_a_pair_that_the_wide_look_did_not_see_is_looked_at_again() -> None:
    gone = {port: count for port, count in FITTING[1].items() if port != 40003}
    assert suspects(FITTING[0], gone) == {key(40003)}


def test_a_pair_behind_a_translation_is_compared_by_the_tuples_of_its_ends() -> None:
    inside = address.parse("172.17.0.2")
    behind = address.make_key(inside, 5000, CLIENT, 40000)
    pair = Suspect(
        EndQuery((WEB,), key(40000)), EndQuery((DB,), behind), True, BOTH_ESTABLISHED, translation="as it is"
    )
    matching = replace(match(ground(100), None), established=frozenset(), translated=(pair,))
    asked = asks([(ground(100), matching)], {"web", "db"})
    assert [(one.place, one.key) for one in asked["web"].single] == [(WEB, key(40000))] and asked["db"] == DUMP
    near = {WEB: CountBlock.of([(2, 0, key(40000), 1, (1, 0, 0))])}
    for received, doubtful in (0, ()), (3000, (pair,)):
        far = {DB: CountBlock.of([(2, 0, behind, 1, (0, received, 0))])}
        assert widened(ground(100), matching, near | far).suspects == doubtful


def test_a_pair_that_is_odd_is_not_asked_for_again() -> None:
    one = key(40000)
    queued = replace(sock(address.mirror(one)), inode=0)
    hosts = [snapshot("web", [CLIENT], [sock(one)]), snapshot("db", [SERVER], [queued])]
    assert not match(survey(hosts, ["web"], ["db"], (), {}), None).established


def test_many_pairs_are_dumped_and_few_among_many_sockets_looked_up() -> None:
    assert asks([(ground(), match(ground(), None))], {"web", "db"}) == {"web": DUMP, "db": DUMP}
    crowded = ground(100)
    asked = asks([(crowded, match(crowded, None))], {"web", "db"})
    assert {one.key for one in asked["web"].single} == {key(port) for port in PORTS} and asked["db"] == DUMP
    assert asks([(crowded, match(crowded, None))], {"db"}) == {"db": DUMP}
    assert not asks([(crowded, match(crowded, 3))], {"web", "db"})


def test_one_check_may_want_the_dump_that_another_would_not() -> None:
    checks = [(one, match(one, None)) for one in (ground(100), ground())]
    assert asks(checks, {"web", "db"}) == asks(checks[::-1], {"web", "db"}) == {"web": DUMP, "db": DUMP}


def test_look_ups_give_what_a_dump_would() -> None:

    one: Socket = replace(end(7, 3, 2), key=key(40000))
    sights: dict[tuple[NetnsRef, bytes], Observation] = {(WEB, one.key): one, (DB, key(1)): Absence.ABSENT}
    assert [list(block.counts()) for block in counts_in(sights)[WEB]] == [[(one.key, (7, 3, 2))]]
    assert counts_in(sights)[DB] == ()
    assert counts_in({(WEB, one.key): replace(one, info=None)}) == {}
    assert counts_in({(WEB, one.key): Absence.UNSEEN}) == {}


def test_a_fleet_member_that_was_not_read_is_no_hindrance() -> None:
    hosts = [snapshot("web", [CLIENT], [sock(key(40000))]), Snapshot("db", None)]
    found = survey(hosts, ["web"], ["db"], (), {})
    assert widened(found, match(found, None), {}) == match(found, None)


U64 = st.integers(0, 2**64 - 1)
ROWS = st.lists(st.tuples(KEYS, st.tuples(U64, U64, U32)), max_size=12)


def frames_of(blocks: tuple[CountBlock, ...]) -> list[frames.Frame]:
    """As the probe sends them: 64-bit columns as two of 32 bits."""
    found = []
    for one in blocks:
        b = one.block
        columns = [b.states, b.marks, b.local_ports, b.peer_ports, b.local, b.peer]
        for wide in (one.acked, one.received):
            words = struct.unpack(f"<{len(wide) // 4}I", wide)
            columns += [struct.pack(f"<{len(b)}I", *words[half::2]) for half in (0, 1)]
        head = struct.pack(">BBII", b.family, b.width, b.scope, len(b))
        found.append(frames.Frame(frames.BLOCK, head + zlib.compress(b"".join((*columns, one.queued)))))
    return found


@given(ROWS, st.booleans())
def test_counters_survive_the_wire(rows: list[tuple[bytes, Count]], mirrored: bool) -> None:
    made = CountBlock.of((2 if len(one) == 12 else 10, 0, one, 1, count) for one, count in rows)
    read = tables.decode_counts(frames_of(made), len(rows))
    assert read == made
    expected = [(address.mirror(one) if mirrored else one, count) for one, count in rows]
    assert sorted(pair for block in read for pair in block.counts(mirrored)) == sorted(expected)


def test_counters_that_are_cut_are_an_error() -> None:
    (one,) = frames_of(CountBlock.of([(2, 0, key(40000), 1, (1, 2, 3))]))
    with pytest.raises(HostError):
        tables.decode_counts([one], 2)
    with pytest.raises(HostError):
        tables.decode_counts([frames.Frame(frames.ROWS, one.payload)], 1)
    data = zlib.decompress(one.payload[10:])
    for size in range(len(data)):
        with pytest.raises(HostError):
            tables.decode_counts([frames.Frame(frames.BLOCK, one.payload[:10] + zlib.compress(data[:size]))], 1)


def test_matching_says_nothing_of_other_states() -> None:
    one = key(40000)
    hosts = [
        snapshot("web", [CLIENT], [sock(one, State.CLOSE_WAIT)]),
        snapshot("db", [SERVER], [sock(address.mirror(one), State.CLOSE_WAIT)]),
    ]
    found: Matching = match(survey(hosts, ["web"], ["db"], (), {}), None)
    assert found.agreeing and not found.established
