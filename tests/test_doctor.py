"""The table of `doctor`: total over errors, and every name in it is one of the contract's."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfopen.checkup import Checkup, Status
from halfopen.errors import ErrorCode, HostError
from halfopen.evidence import examination
from halfopen.findings import Confidence, Verdict
from halfopen.judge.doctor import STAGES, Visited, checkup_of, stage_of
from halfopen.judge.kinds import KINDS
from halfopen.model import Collector, HostFacts
from halfopen.reach.known_hosts import removal
from halfopen.report.doctor import render, render_json
from halfopen.report.schema import SCHEMAS
from halfopen.report.view import View

FACTS = HostFacts("db1", "6.1.0", "boot", 1.0, True, Collector.NETLINK, uid=0, python="3.11.2")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CAUSES = {
    "accept-queue-overflow",
    "syn-cookie-ack-lost",
    "deferred-accept",
    "peer-rebooted",
    "middlebox-forgot",
}
GOOD = {
    **dict.fromkeys(("sock_diag", "proc_net_tcp", "netstat", "somaxconn", "retries", "closed", "hidden"), b"0"),
    "tcp_info": b"280",
    "cookies": b"1",
    "processes": b"90",
    "spaces": b"1",
    "capabilities": b"2199023255551",
}


def visited(error: HostError | None = None, talking: bool = True, **fields: bytes) -> Visited:
    told = None if error else examination.decode(list({**GOOD, **fields}.items()), FACTS)
    return Visited("db1", "paramiko", told, error, talking)


def test_what_is_ruled_out_has_the_names_that_reports_use() -> None:
    known = {str(one) for one in (*Verdict, *Confidence)} | CAUSES
    assert {name for kind in KINDS for name in kind.rules_out} <= known
    assert len({kind.evidence for kind in KINDS} | {stage.evidence for stage in STAGES}) == len(KINDS) + len(STAGES)


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


LACKS = {
    "sock_diag": ({"sock_diag": b"97", "tcp_info": b"", "cookies": b""}, {"sock_diag", "tcp_info", "cookies"}),
    "an old kernel": ({"tcp_info": b"192"}, {"tcp_info"}),
    "counters": ({"netstat": b"2"}, {"counters"}),
    "conntrack": ({"ctnetlink": b"1", "proc_conntrack": b"13"}, {"connection tracking"}),
    "conntrack by proc": ({"ctnetlink": b"22", "proc_conntrack": b"0"}, set()),
    "no socket to try": ({"tcp_info": b"", "cookies": b""}, set()),
}


@pytest.mark.parametrize("name", LACKS)
def test_what_is_missing_is_missed_and_nothing_else(name: str) -> None:
    fields, expected = LACKS[name]
    (host,) = checkup_of([visited(**fields)], NOW).hosts
    assert {one.evidence for one in host.evidence if one.status in (Status.MISSING, Status.PARTLY)} == expected
    assert host.complete


def test_without_any_table_of_sockets_no_check_is_complete() -> None:
    assert checkup_of([visited(sock_diag=b"97", proc_net_tcp=b"13")], NOW).exit_code == 3


def test_json_is_what_its_schema_describes() -> None:
    found = checkup_of([visited(), visited(HostError(ErrorCode.TIMEOUT, "why"))], NOW)
    assert msgspec.json.decode(render_json(found, View()), type=Checkup, strict=True) == found
    assert SCHEMAS["doctor"]()["$defs"]["Checkup"]["properties"]["schema"] == {"const": found.schema_}


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.binary(max_size=30)), st.text(max_size=20))
def test_no_answer_of_a_host_acts_or_breaks_a_report(fields: dict[str, bytes], hidepid: str) -> None:
    fields["hidepid"] = hidepid.encode("utf-8", "replace")
    checkup = checkup_of([visited(**fields)], NOW)
    assert "\x1b" not in render(checkup, View()) and render_json(checkup, View()).isascii()
