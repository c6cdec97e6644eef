"""The table of `doctor`: total over errors, and every name in it is one of the contract's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe import examination
from halfopen.judge.diagnosis.rules.rule import Source
from halfopen.model import Collector, HostFacts
from halfopen.onehost.doctor import STAGES, Visited, checkup_of, stage_of
from halfopen.onehost.evidence_kinds import KINDS, Kind
from halfopen.reach.known_hosts import removal
from halfopen.report.doctor import render, render_json
from halfopen.report.schema import SCHEMAS
from halfopen.report.view import View
from halfopen.schema.doctor import DoctorReport, Item, Status

FACTS = HostFacts("db1", "6.1.0", "boot", 1.0, True, Collector.NETLINK, uid=0, python="3.11.2")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Fields = Mapping[str, bytes]
"""What a host answers of itself, beside GOOD."""

GOOD = {
    **dict.fromkeys(
        ("sock_diag", "proc_net_tcp", "routes", "netstat", "somaxconn", "retries", "closed", "hidden"), b"0"
    ),
    "duplicate": b"0",
    "ptrace_scope": b"1",
    "tcp_info": b"280",
    "cookies": b"1",
    "processes": b"90",
    "spaces": b"1",
    "capabilities": b"2199023255551",
}


def visited(error: HostError | None = None, talking: bool = True, fields: Fields = MappingProxyType({})) -> Visited:
    told = None if error else examination.decode(list({**GOOD, **fields}.items()), FACTS)
    return Visited("db1", "paramiko", told, error, talking)


LOST = {
    "sock_diag": {"proven", "syn-cookie-ack-lost", "final-ack-lost", "deferred-accept", "peer-rebooted"}
    | {"middlebox-forgot"},
    "cookies": {"proven"},
    "tcp_info": {"syn-cookie-ack-lost", "final-ack-lost", "deferred-accept", "peer-rebooted", "middlebox-forgot"},
    "counters": {"accept-queue-overflow", "syn-cookie-ack-lost", "deferred-accept", "reset-lost"},
    "uptime and boot": {"peer-rebooted"},
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.evidence)
def test_the_conclusions_lost_without_a_kind_of_evidence(kind: Kind) -> None:
    """They come from the rules; that a rule does not fire without what it needs is shown in test_needs."""
    assert {*kind.conclusions_lost} == LOST.get(kind.evidence, set())


def test_every_source_that_a_host_may_lack_is_a_kind_of_evidence() -> None:
    """Timers and listeners are in every list of sockets that a host of a check gives."""
    assert {source for kind in KINDS for source in kind.sources} == {*Source} - {Source.TIMERS, Source.LISTENERS}
    assert len({kind.evidence for kind in KINDS} | {stage.evidence for stage in STAGES}) == len(KINDS) + len(STAGES)


def test_what_is_there_in_part_loses_no_conclusion() -> None:
    (old,) = checkup_of([visited(fields={"tcp_info": b"192"})], NOW).hosts
    (none,) = checkup_of([visited(fields={"tcp_info": b"0"})], NOW).hosts
    lost = [
        next(item.conclusions_lost for item in host.evidence if item.evidence == "tcp_info") for host in (old, none)
    ]
    assert lost[0] == () and "final-ack-lost" in lost[1]


@pytest.mark.parametrize("talking", [True, False])
@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_fails_one_step_and_is_exit_3(code: ErrorCode, talking: bool) -> None:
    error = HostError(code, "why", "type this")
    checkup = checkup_of([visited(error, talking), visited()], NOW)
    assert checkup.exit_code == 3 and [host.complete for host in checkup.hosts] == [False, True]
    missing = [item for item in checkup.hosts[0].evidence if item.status is Status.MISSING]
    assert [item.evidence for item in missing] == [stage_of(error, talking).evidence]
    assert f"{code}: why" in render(checkup, View()) and "to get it: type this" in render(checkup, View())


def test_a_command_that_grants_something_stands_whole_on_one_line() -> None:
    command = f"if the host was reinstalled: {removal('/home/' + 'x' * 300 + '/known_hosts', '[db1]:2222')}"
    shown = render(checkup_of([visited(HostError(ErrorCode.HOST_KEY_MISMATCH, "why", command))], NOW), View(width=80))
    assert [line.strip() for line in shown.splitlines() if "ssh-keygen" in line] == [f"to get it: {command}"]


LACKS: dict[str, tuple[Fields, set[str]]] = {
    "sock_diag": ({"sock_diag": b"97", "tcp_info": b"", "cookies": b""}, {"sock_diag", "tcp_info", "cookies"}),
    "an old kernel": ({"tcp_info": b"192"}, {"tcp_info"}),
    "counters": ({"netstat": b"2"}, {"counters"}),
    "conntrack": ({"ctnetlink": b"1", "proc_conntrack": b"13"}, {"connection tracking"}),
    "conntrack by proc": ({"ctnetlink": b"22", "proc_conntrack": b"0"}, set()),
    "routes": ({"routes": b"97"}, {"routes"}),
    "a kernel before 5.6": ({"duplicate": b"38"}, {"asking"}),
    "seccomp": ({"duplicate": b"1"}, {"asking"}),
    "Yama that lets nobody": ({"ptrace_scope": b"3"}, {"asking"}),
    "no Yama": ({"ptrace_scope": b""}, set()),
    "descriptors that are closed to us": ({"closed": b"3"}, {"processes of others", "asking"}),
    "no root": ({"capabilities": b"0"}, {"privileges", "asking"}),
    "no root and no Yama": ({"capabilities": b"0", "ptrace_scope": b""}, {"privileges", "asking"}),
    "no socket to try": ({"tcp_info": b"", "cookies": b""}, set()),
}


@pytest.mark.parametrize("name", LACKS)
def test_what_is_missing_is_missed_and_nothing_else(name: str) -> None:
    fields, expected = LACKS[name]
    (host,) = checkup_of([visited(fields=fields)], NOW).hosts
    assert {one.evidence for one in host.evidence if one.status in (Status.MISSING, Status.PARTLY)} == expected
    assert host.complete


def test_without_any_table_of_sockets_no_check_is_complete() -> None:
    assert checkup_of([visited(fields={"sock_diag": b"97", "proc_net_tcp": b"13"})], NOW).exit_code == 3


def test_the_public_words_of_an_item() -> None:
    assert Item.__struct_fields__ == ("evidence", "status", "detail", "conclusions_lost", "costs", "how_to_get")


def test_json_is_what_its_schema_describes() -> None:
    found = checkup_of([visited(), visited(HostError(ErrorCode.TIMEOUT, "why"))], NOW)
    assert msgspec.json.decode(render_json(found, View()).encode(), type=DoctorReport, strict=True) == found
    assert SCHEMAS["doctor"]()["$defs"]["DoctorReport"]["properties"]["schema"] == {"const": found.schema_}


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.binary(max_size=30)), st.text(max_size=20))
def test_no_answer_of_a_host_acts_or_breaks_a_report(fields: dict[str, bytes], hidepid: str) -> None:
    fields["hidepid"] = hidepid.encode("utf-8", "replace")
    checkup = checkup_of([visited(fields=fields)], NOW)
    assert "\x1b" not in render(checkup, View()) and render_json(checkup, View()).isascii()
