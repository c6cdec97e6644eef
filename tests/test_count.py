"""The judgement and the text of `count`: every socket in one row, and what a host says damages nothing."""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfopen import address
from halfopen.errors import HostError
from halfopen.evidence.probe import census, frames, kernel
from halfopen.evidence.probe.census import Census, Group, Listening
from halfopen.model import Collector, HostFacts, ListenSocket, Process
from halfopen.onehost.count import Asked, tally_of
from halfopen.report.count import render, render_json
from halfopen.report.schema import SCHEMAS
from halfopen.report.view import View
from halfopen.schema.count import CountReport, HolderKind
from halfopen.table import Table
from halfopen.tcp import State, number_of

ONE, TWO, ANY = b"\x0a\0\0\1", b"\x0a\0\0\2", bytes(4)
FACTS = HostFacts("db1", "6.1.0", "boot", 1.0, True, Collector.NETLINK)
EVIL = "ev\n\x1b[2J\udcff"


def listening(local: bytes, pid: int, port: int = 80, queue: int = 0) -> Listening:
    return Listening(ListenSocket(local, port, 2, queue=queue, backlog=128, uid=0, inode=pid), 1, (pid,))


def group(state: State, sockets: int, *pids: int, port: int = 80, inbound: bool = True, **more: object) -> Group:
    return Group(state, inbound, bool(pids), port, 0, sockets, sockets * len(pids), pids, **more)  # type: ignore[arg-type]


def tally(
    *groups: Group, listeners: tuple[Listening, ...] = (), pid: int | None = None, name: str = "app"
) -> CountReport:
    processes = {one: Process(one, name, name) for one in range(1, 400)}
    asked = Asked("db1", "paramiko", pid, (), datetime(2026, 1, 1, tzinfo=UTC))
    return tally_of(Census(listeners, groups, processes, 0), FACTS, 1, asked)


def test_what_waits_stands_with_the_most_specific_listener() -> None:
    waiting = [group(State.ESTABLISHED, 3, waiting=(2, ONE)), group(State.ESTABLISHED, 5, waiting=(2, TWO))]
    found = tally(*waiting, listeners=(listening(ONE, 7), listening(ANY, 8)))
    queues = {row.holders[0].pid: row.accept_queue for row in found.rows}
    assert queues == {7: {"ESTABLISHED": 3}, 8: {"ESTABLISHED": 5}} and found.accept_queue == 8


def test_of_one_process_only_its_own_is_counted() -> None:
    groups = [group(State.ESTABLISHED, 2, 7), group(State.ESTABLISHED, 4, 8), group(State.TIME_WAIT, 9)]
    groups += [group(State.ESTABLISHED, 3, waiting=(2, ONE)), group(State.ESTABLISHED, 5, waiting=(2, TWO))]
    found = tally(*groups, listeners=(listening(ONE, 7), listening(ANY, 8)), pid=7)
    assert found.states == {"ESTABLISHED": 5, "LISTEN": 1} and found.accept_queue == 3
    assert {holder.pid for row in found.rows for holder in row.holders} == {7}


def test_a_host_of_many_ephemeral_ports_is_no_screen_of_rows() -> None:
    many = [group(State.TIME_WAIT, 1, port=port, inbound=False) for port in range(40000, 41000)]
    found = tally(*many, group(State.TIME_WAIT, 50, port=443, inbound=False))
    assert [(row.port, row.sockets) for row in found.rows] == [(None, 1000), (443, 50)]


def test_a_socket_whose_process_cannot_be_found_is_never_dropped() -> None:
    lost = Group(State.ESTABLISHED, True, True, 80, 33, 4, 0)
    (row,) = tally(lost).rows
    assert (row.holder_kind, row.uid, row.sockets) == (HolderKind.NOT_FOUND, 33, 4)


def test_an_unknown_backlog_is_none_and_no_full_queue() -> None:
    one = Listening(ListenSocket(ONE, 80, 2, queue=9), 1, (7,))
    (listener,) = tally(listeners=(one,)).listeners
    assert (listener.queue, listener.backlog, listener.full) == (9, None, None)
    assert "9 of ?" in render(tally(listeners=(one,)), View())


def test_text_is_a_screen_unless_all_is_asked_for() -> None:
    found = tally(*(group(State.ESTABLISHED, 3, pid, port=pid) for pid in range(1, 301)))
    assert len(render(found, View()).splitlines()) < 45 and "270 more: --all" in render(found, View())
    assert len(render(found, View(all=True)).splitlines()) > 300
    assert render(found, View(quiet=True)) == "db1: 900 TCP sockets\n"


def test_names_of_processes_act_in_no_format() -> None:
    found = tally(group(State.ESTABLISHED, 1, 7), listeners=(listening(ONE, 7),), name=EVIL)
    assert "\x1b" not in render(found, View()) and "ev\\x0a\\x1b[2J\\xff" in render(found, View())
    text = render_json(found, View())
    assert text.isascii() and json.loads(text)["rows"][0]["holders"][0]["process"] == EVIL


def test_json_is_what_its_schema_describes() -> None:
    found = tally(group(State.ESTABLISHED, 3, waiting=(2, ONE)), listeners=(listening(ONE, 7),))
    assert msgspec.json.decode(render_json(found, View()).encode(), type=CountReport, strict=True) == found
    assert SCHEMAS["count"]()["$defs"]["CountReport"]["properties"]["schema"] == {"const": found.schema_}


NAMES = ("held", "process", "unreadable", "elsewhere", "ephemeral", "no-such-process", "other")


def fields(*pairs: tuple[str, bytes]) -> frames.Frame:
    """A FIELDS frame as the probe sends it."""
    raw = b"".join(struct.pack(">BI", len(name), len(value)) + name.encode() + value for name, value in pairs)
    return frames.Frame(frames.FIELDS, zlib.compress(raw))


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=120)), max_size=4),
    st.lists(st.tuples(st.sampled_from(range(1, 8)), st.binary(max_size=40)), max_size=2),
    st.booleans(),
)
def test_no_answer_of_a_host_is_worse_than_an_error(
    pairs: list[tuple[str, bytes]], others: list[tuple[int, bytes]], packed: bool
) -> None:
    more = [frames.Frame(kind, data[:1] + zlib.compress(data[1:]) if packed else data) for kind, data in others]
    asked = Asked("db1", "paramiko", None, (), datetime(2026, 1, 1, tzinfo=UTC))
    for parts in ([fields(*pairs), *more], [fields(*pairs)]):
        with contextlib.suppress(HostError):
            found = census.decode(parts, 0, ())
            assert render(tally_of(found, FACTS, 1, asked), View())
        with contextlib.suppress(HostError):
            census.decode_processes(parts, len(pairs))


def test_sockets_are_grouped_by_holder_direction_port_and_state() -> None:
    """Two accepted and one that waits, one whose listener has gone, and one that went out; 9 holds two of them too."""
    local, far = ONE, TWO
    rows = [
        (2, 0, address.make_key(local, mine, far, theirs), number_of(state), 0)
        for mine, theirs, state in (
            (80, 40000, State.ESTABLISHED),
            (80, 40001, State.ESTABLISHED),
            (80, 40002, State.ESTABLISHED),
            (81, 40003, State.TIME_WAIT),
            (40004, 443, State.ESTABLISHED),
        )
    ]
    (block,) = Table.of(rows).blocks
    columns = struct.pack("<5I", 0, 0, 0, 0, 33) + struct.pack("<5I", 5, 6, 0, 0, 7)
    head = struct.pack(">BBII", 2, 4, 0, 5)
    data = block.states + block.marks + block.local_ports + block.peer_ports + block.local + block.peer + columns
    listener = kernel.MESSAGE.pack(
        2, 10, 0, 0, (80).to_bytes(2, "big"), bytes(2), bytes(16), bytes(16), 0, bytes(8), 0, 1, 128, 0, 4
    )
    parts = [
        fields(("held", struct.pack(">I3Q", 8, 4, 5, 6)), ("held", struct.pack(">I3Q", 9, 5, 6, 6))),
        frames.Frame(frames.BLOCK, head + zlib.compress(data)),
        frames.Frame(frames.LISTENERS, zlib.compress(listener)),
    ]
    found = census.decode(parts, 6, ())
    assert {(one.state, one.inbound, one.port, one.pids, one.sockets, one.descriptors) for one in found.groups} == {
        (State.ESTABLISHED, True, 80, (8, 9), 2, 5),
        (State.ESTABLISHED, True, 80, (), 1, 0),
        (State.TIME_WAIT, True, 81, (), 1, 0),
        (State.ESTABLISHED, False, 443, (), 1, 0),
    }
    assert [one.waiting for one in found.groups if one.waiting] == [(2, ONE)]
    (listening_there,) = found.listeners
    assert (listening_there.descriptors, listening_there.pids) == (1, (8,))
    assert census.encode_pids(found) == struct.pack(">2I", 8, 9)
    with pytest.raises(HostError):
        census.decode(parts, 7, ())


@pytest.mark.parametrize("cut", [1, 4, 8, 10])
def test_a_holder_that_is_cut_is_an_error(cut: int) -> None:
    whole = struct.pack(">I2Q", 7, 1, 2)
    assert census.holders_of([whole]) == {1: [7], 2: [7]}
    if cut != 8:  # without its last inode it is whole, too
        with pytest.raises(HostError):
            census.holders_of([whole[:-cut]])
