"""Each end is named by its own host and program, whichever way round the arguments were, in every format."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from evidence import CLIENT, SERVER, bracket, key, sights, snapshot, sock
from report_examples import MOMENT

from halfopen import address
from halfopen.judge.assembly.check import analyse, report_of
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.assembly.run_evidence import Evidence
from halfopen.judge.signs.case import HostEvidence
from halfopen.matching.pairing.connection import Agreement
from halfopen.matching.pairing.match import match
from halfopen.matching.places.addresses import survey
from halfopen.model import ListenSocket, Process, Socket
from halfopen.plan import CheckPlan
from halfopen.report.formats import FORMATS
from halfopen.report.view import View
from halfopen.schema.report import Check, Severity
from halfopen.tcp import State

EST, TIME_WAIT = State.ESTABLISHED, State.TIME_WAIT
OTHER = address.parse("10.0.0.3")
PROGRAMS = {"web": "app", "web2": "app2", "db": "postgres"}
HOMES = {"web": CLIENT, "web2": OTHER, "db": SERVER}
Doors = Mapping[str, Sequence[int]]
Held = Mapping[str, Sequence[bytes | tuple[bytes, State]]]
"""Host -> the keys of its sockets, each with its state unless that is ESTABLISHED."""


def held_by(host: str, one: bytes, state: State = EST) -> Socket:
    """A socket of the host's program."""
    return sock(one, state, cookie=int.from_bytes(one[-4:], "big"), inode=list(HOMES).index(host) + 1)


def checked(plan: CheckPlan, sockets: Held, doors: Doors, **more: Any) -> Check:
    """A check of hosts that listen at these doors and whose programs hold these ends."""
    held = {
        host: [held_by(host, *((one,) if isinstance(one, bytes) else one)) for one in some]
        for host, some in sockets.items()
    }
    hosts = [
        snapshot(
            name,
            [HOMES[name]],
            held[name],
            [ListenSocket(HOMES[name], port, 2, 0, 0, 8, 0, 90 + at) for at, port in enumerate(doors.get(name, ()))],
            plan.ports,
        )
        for name in sockets
    ]
    matching = match(survey(hosts, plan.clients, plan.servers, plan.ports, {}))
    seen = bracket(sights(hosts, held, matching.suspects))
    evidence = {
        one.host: HostEvidence(
            one.host,
            one.facts,
            owners={
                list(HOMES).index(one.host) + 1: Process(7, PROGRAMS[one.host]),
                **{90 + at: Process(8, f"{PROGRAMS[one.host]}-listener") for at in range(2)},
            },
        )
        for one in hosts
    }
    return analyse(
        plan,
        Evidence({one.host: one for one in hosts}, matching, [seen, seen], evidence),
        Policy(Severity.CRITICAL),
        **more,
    )


def rendered(check: Check, form: str) -> str:
    return FORMATS[form].render(report_of([check], MOMENT, MOMENT), View(width=120, all=True))


def lost(port: int) -> bytes:
    """The client's end of a connection of web to db, whose other end is gone."""
    return key(port)


def back(port: int) -> bytes:
    """The client's end of a connection of db to web at port 80."""
    return key(port, 80, SERVER, CLIENT)


SWAPPED = CheckPlan("db -> web", ("db",), ("web",))
STRAIGHT = CheckPlan("web -> db", ("web",), ("db",))
ONE_WAY: Held = {
    "web": [key(40000), key(40001), (key(40002), TIME_WAIT), lost(40003)],
    "db": [address.mirror(key(40000)), address.mirror(key(40001))],
}
DOORS = {"db": [5432], "web": [80]}


@pytest.mark.parametrize("ports", [(), (5432,)])
@pytest.mark.parametrize("listening", [DOORS, {}], ids=["listening", "listener gone"])
def test_arguments_the_other_way_round_give_the_same_report(ports: tuple[int, ...], listening: Doors) -> None:
    checks = [
        checked(CheckPlan(plan.name, plan.clients, plan.servers, ports), ONE_WAY, listening)
        for plan in (STRAIGHT, SWAPPED)
    ]
    one, two = checks
    assert two.headline == one.headline == "1 half-open connection web -> db:5432, missing on the server"
    assert two.state_matrix == one.state_matrix and two.groups == one.groups and two.findings == one.findings
    assert {(row.client_host, row.server_host, row.client, row.server, row.count) for row in two.state_matrix} == {
        ("web", "db", "ESTABLISHED", None, 1),
        ("web", "db", "ESTABLISHED", "ESTABLISHED", 2),
        ("web", "db", "TIME_WAIT", None, 1),
    }
    (group,) = two.groups
    assert (group.client_host, group.server_host, group.client_process) == ("web", "db", "app")
    assert group.server_process == ("postgres-listener" if listening else None)
    assert [(door.host, door.port) for door in two.listeners] == (
        [("db", 5432)] if listening and ports else [("db", 5432)] if listening else []
    )


@pytest.mark.parametrize("form", ["text", "markdown", "junit"])
def test_every_format_says_who_has_the_socket(form: str) -> None:
    text = rendered(checked(SWAPPED, ONE_WAY, DOORS), form)
    assert re.search(r"web[ |]+db[ |]+connections", text) and re.search(r"ESTABLISHED[ |]+no socket[ |]+1 ", text)
    assert "1 half-open connection web" in text and "established on web, unknown to db" in text


TWO_WAYS = {
    "web": [key(40000), lost(40003), address.mirror(back(50000))],
    "db": [address.mirror(key(40000)), back(50000), back(50001), back(50002)],
}


@pytest.mark.parametrize("plan", [STRAIGHT, SWAPPED], ids=["web db", "db web"])
def test_both_directions_at_once_are_told_apart(plan: CheckPlan) -> None:
    check = checked(plan, TWO_WAYS, DOORS)
    heads = [
        "1 half-open connection web -> db:5432, missing on the server",
        "2 half-open connections db -> web:80, all missing on the server",
    ]
    assert check.headline == "; ".join(heads if plan is STRAIGHT else heads[::-1])
    assert {(row.client_host, row.server_host, row.client, row.server, row.count) for row in check.state_matrix} == {
        ("web", "db", "ESTABLISHED", None, 1),
        ("db", "web", "ESTABLISHED", None, 2),
        ("web", "db", "ESTABLISHED", "ESTABLISHED", 1),
        ("db", "web", "ESTABLISHED", "ESTABLISHED", 1),
    }
    assert {(door.host, door.port) for door in check.listeners} == {("db", 5432), ("web", 80)}
    assert {(one.client_host, one.client_process, one.server_host, one.server_process) for one in check.groups} == {
        ("web", "app", "db", "postgres-listener"),
        ("db", "postgres", "web", "app-listener"),
    }
    text, page = rendered(check, "text"), rendered(check, "markdown")
    for words in (("web ESTABLISHED", "db no socket"), ("db ESTABLISHED", "web no socket")):
        assert re.search(rf"{words[0]} +{words[1]} ", text) and f"| {words[0]} | {words[1]} |" in page
    assert json.loads(rendered(check, "json"))["checks"][0]["state_matrix"][0]["client_host"] in ("web", "db")


def test_a_clean_check_says_which_way_its_connections_run() -> None:
    healthy = {"web": [key(40000)], "db": [address.mirror(key(40000))]}
    one_port = CheckPlan("db -> web", ("db",), ("web",), (5432,))
    assert checked(one_port, healthy, DOORS).headline.startswith("clean  web -> db:5432: 1 connection, both ends")
    both = {"web": [*healthy["web"], address.mirror(back(50000))], "db": [*healthy["db"], back(50000)]}
    assert checked(STRAIGHT, both, DOORS).headline.startswith("clean  web -> db and back: 2 connections")


def test_a_glob_with_the_server_first() -> None:
    sockets = {
        "web": [key(40000), lost(40003)],
        "web2": [key(41000, client=OTHER), key(41001, client=OTHER)],
        "db": [address.mirror(one) for one in (key(40000), key(41000, client=OTHER))],
    }
    check = checked(CheckPlan("db -> web*", ("db",), ("web", "web2")), sockets, DOORS)
    assert check.headline == "2 half-open connections 2 hosts -> db:5432, all missing on the server"
    assert {(row.client_host, row.server_host, row.client, row.server, row.count) for row in check.state_matrix} == {
        (name, "db", "ESTABLISHED", end, 1) for name in ("web", "web2") for end in ("ESTABLISHED", None)
    }
    assert {(one.client, one.server) for one in check.pairs} == {("web", "db"), ("web2", "db")}
    assert [(door.host, door.port) for door in check.listeners] == [("db", 5432)]


def test_local_on_both_sides() -> None:
    own = [key(port, 80, CLIENT, CLIENT) for port in (40000, 40001, 40002)]
    sockets = {"web": [own[0], address.mirror(own[0]), own[1], address.mirror(own[2])]}
    check = checked(CheckPlan("web -> web", ("web",), ("web",)), sockets, DOORS)
    assert {(row.client_host, row.server_host, row.client, row.server, row.count) for row in check.state_matrix} == {
        ("web", "web", "ESTABLISHED", "ESTABLISHED", 1),
        ("web", "web", "ESTABLISHED", None, 1),
        ("web", "web", None, "ESTABLISHED", 1),
    }
    assert check.headline.startswith("2 half-open connections web (client) -> web:80 (server), 1 missing on the")
    text, page = rendered(check, "text"), rendered(check, "markdown")
    assert re.search(r"web \(client\) +web \(server\)", text)
    assert "established on the client, unknown to the server" in text
    assert (
        {*re.findall(r"web \(\w+\): ESTABLISHED", text)}
        == {*re.findall(r"web \(\w+\): ESTABLISHED", page)}
        == {
            "web (client): ESTABLISHED",
            "web (server): ESTABLISHED",
        }
    )


def test_loopback_of_hosts_with_both_roles_is_each_ones_own() -> None:
    local = address.parse("127.0.0.1")
    one = key(40000, 80, local, local)
    hosts = [
        snapshot(name, [HOMES[name], local], [sock(one), sock(address.mirror(one))], [ListenSocket(local, 80, 2)])
        for name in ("web", "db")
    ]
    found = match(survey(hosts, ["web", "db"], ["web", "db"], (), {}))
    assert found.agreements == {Agreement(name, name, EST, EST): 1 for name in ("web", "db")}


def test_who_listens_tells_the_server_where_both_ports_are_doors_of_somebody() -> None:
    """A program may dial from a port at which another host of the check listens."""
    one, two = key(80), key(40000)
    hosts = [
        snapshot("web", [CLIENT], [sock(one), sock(two)], [ListenSocket(CLIENT, 22, 2)]),
        snapshot(
            "db", [SERVER], [sock(address.mirror(one)), sock(address.mirror(two))], [ListenSocket(SERVER, 5432, 2)]
        ),
        snapshot("web2", [OTHER], [], [ListenSocket(OTHER, 80, 2)]),
    ]
    for clients, servers in ((["web", "web2"], ["db"]), (["db"], ["web", "web2"]), (["web", "db"], ["db", "web2"])):
        found = match(survey(hosts, clients, servers, (), {}))
        assert found.agreements == {Agreement("web", "db", EST, EST): 2}


def test_connections_against_the_order_are_a_pair_of_their_own() -> None:
    both: Held = {"web": [lost(40003), lost(40004)], "db": [back(50000)]}
    check = checked(STRAIGHT, both, DOORS)
    assert [(one.client, one.server, one.critical) for one in check.pairs] == [("web", "db", 2), ("db", "web", 1)]
    assert "db → web" in rendered(check, "markdown")
