"""IPVS: recorded text of /proc/net/ip_vs_conn and /proc/net/ip_vs -> what it translates."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from halfopen import address
from halfopen.errors import HostError
from halfopen.evidence.probe import frames, ipvs, lookups
from halfopen.probe import interfaces, tracking
from halfopen.probe.head import Refused

HEADING = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
SERVICES = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A070002:1F90 rr
  -> 0AF40007:1388      Masq    1      1          0
  -> 0A070009:1F90      Route   1      1          0
  -> 0AF40008:1F90      Masq    1      0          0
TCP  [fd07:0000:0000:0000:0000:0000:0000:0002]:1F90 rr
  -> [fd42:0000:0000:0000:0000:0000:0000:0007]:1388      Masq    1      1          0
FWM  00000001 rr
  -> 0AF40009:0000      Masq    1      0          0
"""
WIDE = "fd07:0000:0000:0000:0000:0000:0000:{}"


def row(protocol: str, client: str, virtual: str, real: str, state: str = "ESTABLISHED", more: str = "") -> str:
    """A row as the kernel writes it: an endpoint is an address and a port."""
    return f"{protocol:3} {client} {virtual} {real} {state:11} {895:7}{more}\n"


CLIENT, VIRTUAL = "0A070001 9C40", "0A070002 1F90"
DIALLED = address.make_key(address.parse("10.7.0.1"), 40000, address.parse("10.7.0.2"), 8080)


def told(*rows: str, services: str = SERVICES, known: frozenset[bytes] = frozenset()) -> list[tuple[bytes, bytes]]:
    return list(ipvs.pairs(HEADING + "".join(rows), services, known))


def reached(target: str, port: int) -> bytes:
    return address.make_key(address.parse("10.7.0.1"), 40000, address.parse(target), port)


def test_masquerading_changes_the_target() -> None:
    pair = (DIALLED, reached("10.244.0.7", 5000))
    assert told(row("TCP", CLIENT, VIRTUAL, "0AF40007 1388")) == [pair]
    assert told(row("TCP", CLIENT, VIRTUAL, "0AF40008 1F90")) == [(DIALLED, reached("10.244.0.8", 8080))]
    assert told(row("TCP", CLIENT, VIRTUAL, "0AF40007 1388", "FIN_WAIT", " sip 4711")) == [pair]


def test_ipv6_too() -> None:
    ends = [
        f"{WIDE.format('0001')} 9C40",
        f"{WIDE.format('0002')} 1F90",
        "fd42:0000:0000:0000:0000:0000:0000:0007 1388",
    ]
    ((before, after),) = told(row("TCP", *ends))
    client = address.parse("fd07::1")
    assert before == address.make_key(client, 40000, address.parse("fd07::2"), 8080)
    assert after == address.make_key(client, 40000, address.parse("fd42::7"), 5000)


def test_direct_routing_leaves_the_tuple_as_it_is() -> None:
    assert told(row("TCP", CLIENT, VIRTUAL, "0A070009 1F90")) == []


def test_a_real_server_that_is_listed_no_more_is_told_by_its_port() -> None:
    assert len(told(row("TCP", CLIENT, VIRTUAL, "0AF40063 1388"))) == 1  # only masquerading changes a port
    assert told(row("TCP", CLIENT, VIRTUAL, "0AF40063 1F90")) == []


def test_what_connection_tracking_tells_is_not_told_twice() -> None:
    """kube-proxy masquerades the client as well, and only connection tracking has both."""
    assert told(row("TCP", CLIENT, VIRTUAL, "0AF40007 1388"), known=frozenset({DIALLED})) == []


def test_other_protocols_and_mixed_families_are_passed_over() -> None:
    assert told(row("UDP", CLIENT, VIRTUAL, "0AF40007 1388")) == []
    assert told(row("TCP", CLIENT, VIRTUAL, f"{WIDE.format('0009')} 1388")) == []
    assert told() == [] and list(ipvs.pairs("", "", frozenset())) == []


@pytest.mark.parametrize(
    "line", ["TCP 0A070001 9C40 0A070002", "TCP 0A0700 9C40 0A070002 1F90 0AF40007 1388 X 1", "TCP x"]
)
def test_what_cannot_be_read_is_an_error_of_the_host(line: str) -> None:
    with pytest.raises(HostError):
        told(line + "\n")


def test_an_answer_of_the_probe_has_both_tables() -> None:
    texts = {"netns": b"0", "ip_vs_conn": (HEADING + row("TCP", CLIENT, VIRTUAL, "0AF40007 1388")).encode()}
    texts["ip_vs"] = SERVICES.encode()
    parts = [struct.pack(">BI", len(name), len(value)) + name.encode() + value for name, value in texts.items()]
    frame = frames.Frame(frames.FIELDS, zlib.compress(b"".join(parts)))
    found, refused = lookups.decode_translations([frame], 0)
    assert list(found[0].pairs()) == [(DIALLED, reached("10.244.0.7", 5000))] and not refused


def test_the_probe_says_that_there_is_something_and_sends_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "ip_vs_conn"
    monkeypatch.setattr(interfaces, "IPVS", str(table))
    assert not interfaces.balances()  # most kernels have no such file
    for rows, there in (0, False), (1, True), (100, True):
        table.write_text(HEADING + rows * row("TCP", CLIENT, VIRTUAL, "0AF40007 1388"))
        assert interfaces.balances() == there
        assert tracking.ipvs_text(str(table)) == table.read_bytes()
    monkeypatch.setattr(tracking, "IPVS_LIMIT", 1000)
    with pytest.raises(Refused):
        tracking.ipvs_text(str(table))
