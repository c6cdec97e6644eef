"""The judgement and the text of `count`: every socket in one row, and what a host says damages nothing."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfopen.errors import HostError
from halfopen.evidence import census
from halfopen.evidence.census import Census, Group, Listening
from halfopen.judge.count import Asked, tally_of
from halfopen.model import Collector, HostFacts, ListenSocket, Process
from halfopen.report.count import render, render_json
from halfopen.report.schema import SCHEMAS
from halfopen.report.view import View
from halfopen.tally import Keeper, Tally
from halfopen.tcp import State

ONE, TWO, ANY = (address.ljust(16, b"\0") for address in (b"\x0a\0\0\1", b"\x0a\0\0\2", b""))
FACTS = HostFacts("db1", "6.1.0", "boot", 1.0, True, Collector.NETLINK)
EVIL = "ev\n\x1b[2J\udcff"


def listening(raw: bytes, pid: int, port: int = 80, queue: int = 0) -> Listening:
    return Listening(ListenSocket(raw[:4], port, 2, queue=queue, backlog=128, uid=0, inode=pid), raw, 1, (pid,))


def group(state: State, sockets: int, *pids: int, port: int = 80, inbound: bool = True, **more: object) -> Group:
    return Group(state, inbound, bool(pids), port, 0, sockets, sockets * len(pids), pids, **more)  # type: ignore[arg-type]


def tally(*groups: Group, listeners: tuple[Listening, ...] = (), pid: int | None = None, name: str = "app") -> Tally:
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
    assert (row.keeper, row.uid, row.sockets) == (Keeper.NOT_FOUND, 33, 4)


def test_an_unknown_backlog_is_none_and_no_full_queue() -> None:
    one = Listening(ListenSocket(ONE[:4], 80, 2, queue=9), ONE, 1, (7,))
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
    assert msgspec.json.decode(render_json(found, View()), type=Tally, strict=True) == found
    assert SCHEMAS["count"]()["$defs"]["Tally"]["properties"]["schema"] == {"const": found.schema_}


NAMES = ("listener", "group", "process", "unreadable", "no-such-process", "other")


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=120)), max_size=4))
def test_no_answer_of_a_host_is_worse_than_an_error(fields: list[tuple[str, bytes]]) -> None:
    try:
        found = census.decode(fields, Collector.NETLINK)
    except HostError:
        return
    asked = Asked("db1", "paramiko", None, (), datetime(2026, 1, 1, tzinfo=UTC))
    assert render(tally_of(found, FACTS, 1, asked), View())


@pytest.mark.parametrize("cut", [1, 3, 4, 17, 20])
def test_a_group_that_is_cut_is_an_error(cut: int) -> None:
    whole = census.GROUP.pack(1, 1, 0, 80, 0, 3, 0, 1) + struct.pack(">I", 7) + b"\x02" + ONE
    assert census.group(whole).waiting == (2, ONE) and census.group(whole).pids == (7,)
    if cut != 17:  # without its address it is whole, too
        with pytest.raises(HostError):
            census.group(whole[:-cut])
