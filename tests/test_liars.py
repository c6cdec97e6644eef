"""Probes that lie in valid frames: an error of that host, the sound one's report whole, and never exit 4."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_hanging import ROOT, half_closed

from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe import census, examination, frames, hello, kernel, lookups, proc, reach, tables
from halfopen.evidence.probe import routes as sent_routes
from halfopen.evidence.text import shell
from halfopen.model import Collector, HostFacts, NetnsRef, RouteQuery
from halfopen.reach.exchange import BOOTSTRAP

__all__ = ["half_closed"]

CALL = "main(halfopen_input.read)"
"""Where a liar steps in: the probe is defined by then, and has said nothing."""

LIAR = """#!{python}
import sys
lie = r'''
import struct
plain = Session.fields
always = {{"boot_id": b"{name}", "address": struct.pack(">BBI", 4, 24, 2) + bytes([203, 0, 113, {number}])}}
def told(session, pairs):
    pairs = list(pairs)
    said = dict(always, **({lie!r} if {answer!r} in dict(pairs) else {{}}))
    return plain(session, [(name, said.get(name, value)) for name, value in pairs])
Session.fields = told
def namespaces():
    return {{}}
def diag_dumps(*_):
    return iter(())
'''
exec(sys.argv[-1].replace({call!r}, "exec(lie);" + {call!r}))
"""
"""A Python that runs the probe as it is sent, but for some fields of one answer, and without sockets."""

HELLO_HAS, EVIDENCE_HAS = "hostname", "/proc/net/netstat"
"""A field of that answer and of no other."""

NO_NUMBER, NO_COUNTER = "a field that should be a number is not one", "a counter that is none of Linux"
LONG_PREFIX, WRONG_SIZE = "a prefix longer than its address", "an address of the wrong size"

LIES: dict[str, tuple[str, dict[str, bytes], str]] = {
    "inode below 0": (HELLO_HAS, {"netns": b"-5"}, NO_NUMBER),
    "inode over 64 bit": (HELLO_HAS, {"netns": b"99999999999999999999"}, NO_NUMBER),
    "inode with a sign": (HELLO_HAS, {"netns": b"+5"}, NO_NUMBER),
    "user that is none": (HELLO_HAS, {"euid": b"1_000"}, NO_NUMBER),
    "entries that are none": (HELLO_HAS, {"tracked": b"--5"}, NO_NUMBER),
    "prefix of 255": (HELLO_HAS, {"address": struct.pack(">BBI", 4, 255, 2) + bytes(4)}, LONG_PREFIX),
    "prefix of 33": (HELLO_HAS, {"address": struct.pack(">BBI", 4, 33, 2) + bytes(4)}, LONG_PREFIX),
    "address of 5 bytes": (HELLO_HAS, {"address": struct.pack(">BBI", 5, 8, 2) + bytes(5)}, WRONG_SIZE),
    "counter of --5": (EVIDENCE_HAS, {EVIDENCE_HAS: b"TcpExt: ListenDrops\nTcpExt: --5"}, NO_COUNTER),
    "counter over 64 bit": (
        EVIDENCE_HAS,
        {EVIDENCE_HAS: b"TcpExt: ListenDrops\nTcpExt: 99999999999999999999"},
        NO_COUNTER,
    ),
    "counter with a slash": (EVIDENCE_HAS, {EVIDENCE_HAS: b"TcpExt: x/ListenDrops\nTcpExt: 5"}, NO_COUNTER),
    "counters of no namespace": (EVIDENCE_HAS, {"netns": b"x"}, NO_NUMBER),
}
"""Name -> the answer that lies, its untrue fields, and what the error says of them."""

HONEST = "no lie"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="local hosts are read by the probe")
def test_a_lie_is_an_error_of_the_liar(half_closed: int, tmp_path: Path) -> None:
    assert BOOTSTRAP.count(CALL) == 1, "a liar has no place to step in"
    tables = ""
    cases = {**LIES, HONEST: (HELLO_HAS, {}, "")}
    for number, (name, (answer, lie, _)) in enumerate(cases.items()):
        path = tmp_path / f"python{number}"
        text = LIAR.format(python=sys.executable, name=name, number=number, answer=answer, lie=lie, call=CALL)
        path.write_text(text)
        path.chmod(0o755)
        tables += f'[hosts.liar{number}]\ntransport = "local"\npython = "{path}"\n'
    check = '[checks.all]\nclient = ["here", "liar*"]\nserver = "here"\n'
    (tmp_path / "liars.toml").write_text(f'[hosts.here]\ntransport = "local"\n{tables}{check}')
    argv = ["check", "all", "--inventory", str(tmp_path / "liars.toml"), "--port", str(half_closed), "--settle", "0.1"]
    done = subprocess.run(
        [sys.executable, "-m", "halfopen", *argv, "--fail-on", "warning", "--format", "json"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 1, done.stderr
    (found,) = json.loads(done.stdout)["checks"]
    assert [one["verdict"] for one in found["findings"]] == ["half-closed"]
    errors = {one["name"]: one["error"] for one in found["hosts"]}
    assert errors.pop("here") is None
    assert len(errors) == len(cases), "a liar is taken for the sound host: it sends what that sends"
    said = {name: errors[f"liar{number}"] for number, name in enumerate(cases)}
    assert said.pop(HONEST) is None, "the probe of a liar is not sound but for its lie"
    # It is the lie that is the error, not a probe that never spoke.
    assert {name: error and (error["code"], error["message"]) for name, error in said.items()} == {
        name: ("protocol-error", f"the answer of the probe is damaged: {what}") for name, (_, _, what) in LIES.items()
    }


FACTS = HostFacts("h", "6.1", None, None, True, Collector.NETLINK)
NUMBERS = st.one_of(
    st.sampled_from([b"", b"0", b"-5", b"--5", b"5", b"1_0", b" 7", b"\xb2", b"9" * 20, b"18446744073709551615", b"x"]),
    st.binary(max_size=24),
)
NAMES = [
    "netns",
    "tracked",
    "forwards",
    "refused",
    "inner",
    "euid",
    "capabilities",
    "unreadable",
    "elsewhere",
    "uptime",
    "owner",
]
NAMES += [
    "hostname",
    "boot_id",
    "/proc/net/netstat",
    "/proc/net/snmp",
    "/proc/sys/net/core/somaxconn",
    "hidepid",
    "a/b",
]
PACKED = {
    "ip_vs_conn": st.text("TCP 0123456789ABCDEF:\n", max_size=90).map(lambda text: f"heading\n{text}".encode()),
    "ip_vs": st.text("TCP ->Masq0123456789ABCDEF:[]\n", max_size=90).map(str.encode),
    "nowhere": st.binary(max_size=17),
    "address": st.binary(max_size=24)
    | st.builds(bytes.__add__, st.sampled_from([b"\4", b"\20"]), st.binary(max_size=21)),
    "owner": st.binary(max_size=40) | st.binary(min_size=12, max_size=12).map(lambda raw: raw + bytes(6)),
    "listener": st.binary(max_size=100) | st.binary(min_size=74, max_size=74).map(lambda raw: b"\2\12" + raw),
    "group": st.binary(max_size=60) | st.binary(min_size=18, max_size=18).map(lambda raw: b"\1" + raw + bytes(4)),
    "route": st.binary(max_size=30)
    | st.binary(max_size=5).map(lambda raw: bytes(6) + raw)
    | st.binary(min_size=8, max_size=8),
    "neighbour": st.binary(max_size=60) | st.binary(max_size=40).map(lambda raw: b"\0\0\0\2\0\2\4" + raw),
    "link": st.binary(max_size=60)
    | st.binary(max_size=40).map(lambda raw: bytes(20) + raw)
    | st.binary(min_size=20, max_size=20).map(lambda raw: raw + b"\1a\6abcdef\4veth"),
    "local": st.binary(max_size=20) | st.binary(min_size=4, max_size=4).map(lambda raw: b"\30" + raw),
    "process": st.binary(max_size=30) | st.binary(max_size=4).map(lambda raw: raw.ljust(10, b"\0")),
}
FIELD = st.one_of(
    st.tuples(st.sampled_from(NAMES), NUMBERS),
    *(st.tuples(st.just(name), value) for name, value in PACKED.items()),
    st.tuples(
        st.just("/proc/net/netstat"),
        st.lists(st.tuples(st.sampled_from([b"A", b"a/b", b"\xff", b"9"]), NUMBERS), max_size=4).map(
            lambda pairs: b"Tcp: " + b" ".join(a for a, _ in pairs) + b"\nTcp: " + b" ".join(b for _, b in pairs)
        ),
    ),
)
HELLO = [("schema", b"1"), ("byteorder", b"little"), ("collector", b"netlink"), ("euid", b"0"), ("netns", b"4")]
ASKED = [RouteQuery(NetnsRef("h", number), bytes(4), bytes(4)) for number in (1, 1, 2)]
DECODERS: dict[str, Callable[[Iterable[tuple[str, bytes]]], Any]] = {
    "hello": lambda fields: hello.decode_hello([*HELLO, *fields]),
    "evidence": lambda fields: proc.decode_evidence(list(fields)),
    "owners": lambda fields: proc.decode_owners(list(fields)),
    "census": lambda fields: census.decode([packed(fields)], 0, ()),
    "processes": lambda fields: census.decode_processes([packed(fields)], 0),
    "examination": lambda fields: list(examination.decode(list(fields), FACTS).numbers.values()),
    "translations": lambda fields: translations(list(fields)),
    "routes": lambda fields: list(sent_routes.decode_routes(list(fields), ASKED).values()),
    "dump": lambda fields: dump(list(fields)),
}


def packed(fields: Iterable[tuple[str, bytes]]) -> frames.Frame:
    """A FIELDS frame."""
    parts = [struct.pack(">BI", len(name), len(value)) + name.encode() + value for name, value in fields]
    return frames.Frame(frames.FIELDS, zlib.compress(b"".join(parts)))


def translations(fields: list[tuple[str, bytes]]) -> Any:
    found, refused = lookups.decode_translations([packed(fields)], 0)
    return found, sorted(refused)


def dump(fields: list[tuple[str, bytes]]) -> Any:
    decoder = tables.DumpDecoder(frozenset())
    decoder.add(packed(fields))
    own = decoder.end(0, 1, ())
    return own, decoder.others


@pytest.mark.parametrize("decoder", DECODERS)
@given(fields=st.lists(FIELD, max_size=6))
def test_any_field_is_a_value_or_an_error_of_the_host(decoder: str, fields: list[tuple[str, bytes]]) -> None:
    try:
        found = DECODERS[decoder](fields)
    except HostError:
        return
    sound(msgspec.to_builtins(found, builtin_types=(bytes,), str_keys=False))


ROUTE = struct.pack(">IHBI", 0, 0, 1, 2)
"""The first query leaves by interface 2, without a gateway."""


def neighbour(state: int = 2, hop: bytes = bytes(4), address: bytes = b"\2\0\0\0\0\1") -> bytes:
    return struct.pack(">IHB", 2, state, len(hop)) + hop + address


def link(*texts: bytes) -> bytes:
    return struct.pack(">IIIQ", 2, 0, 0, 0) + b"".join(struct.pack(">B", len(text)) + text for text in texts)


NONE_OF_ROUTES: dict[str, list[tuple[str, bytes]]] = {
    "a number that nobody asked for": [("route", struct.pack(">IHBI", 3, 0, 1, 2))],
    "a route that is cut": [("route", ROUTE[:-1])],
    "a gateway of 255 bytes": [("route", ROUTE + bytes(255))],
    "routes of two namespaces": [("route", ROUTE), ("route", struct.pack(">IHBI", 2, 0, 1, 2))],
    "an address of 255 bytes that are not there": [("neighbour", struct.pack(">IHB", 2, 2, 255) + bytes(9))],
    "a link-layer address of 33 bytes": [("neighbour", neighbour(address=bytes(33)))],
    "a link's address of 33 bytes": [("link", link(b"eth0", bytes(33), b""))],
    "a link that is cut": [("link", link(b"eth0", bytes(6), b"")[:-1])],
    "a link with more behind it": [("link", link(b"eth0", bytes(6), b"") + b"\0")],
    "a name longer than its field": [("link", struct.pack(">IIIQ", 2, 0, 0, 0) + b"\xff")],
    "a million rows": [("route", ROUTE)] * 1_000_000,
}


@pytest.mark.parametrize("name", NONE_OF_ROUTES)
def test_what_is_no_answer_about_routes_is_an_error_of_the_host(name: str) -> None:
    with pytest.raises(HostError) as caught:
        sent_routes.decode_routes([("netns", b"0"), *NONE_OF_ROUTES[name]], ASKED)
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


def test_a_route_before_any_namespace_is_an_error_of_the_host() -> None:
    with pytest.raises(HostError):
        sent_routes.decode_routes([("route", ROUTE)], ASKED)


@pytest.mark.parametrize("state", [0x00, 0x01, 0x20])
def test_a_neighbour_that_is_not_known_is_none(state: int) -> None:
    """NUD_NONE, NUD_INCOMPLETE, NUD_FAILED, whatever address stands there."""
    for known, expected in ((neighbour(), b"\2\0\0\0\0\1"), (neighbour(state), None), (neighbour(address=b""), None)):
        fields = [("netns", b"0"), ("route", ROUTE), ("neighbour", known), ("link", link(b"x" * 200, b"", b"veth\0"))]
        told = sent_routes.decode_routes(fields, ASKED)[NetnsRef("h", 1)]
        route = told.routes[ASKED[0]]
        assert route is not None and route.neighbour == expected
        assert len(told.links[2].name) == reach.NAME_LIMIT and told.links[2].kind == "veth"


def sound(value: Any) -> None:
    """Whole numbers of 64 bits at the most, names without a slash but behind a namespace, prefixes of addresses."""
    if isinstance(value, dict):
        if isinstance(value.get("prefix"), int):
            assert 0 <= value["prefix"] <= 8 * len(value["address"])
        for key, one in value.items():
            sound(key)
            sound(one)
            if isinstance(key, str) and "/" in key:
                assert int(key.partition("/")[0]) > 0
    elif isinstance(value, list | tuple):
        for one in value:
            sound(one)
    elif isinstance(value, int):
        assert -(1 << 64) < value < 1 << 64


def columns(raw: bytes) -> object:
    """A frame of sockets without further columns."""
    return tables.decode_columns(raw, ())


@given(st.binary(max_size=300))
def test_any_socket_is_a_value_or_an_error_of_the_host(message: bytes) -> None:
    for raw in (message, b"\2\1" + message, b"\n\1" + message):
        for decode in (kernel.decode_socket, lambda raw: lookups.decode_observation(1, raw, bytes(12)), columns):
            try:
                decode(raw)
            except HostError:
                continue


TEXT = st.one_of(
    st.text(max_size=60), st.sampled_from(["net:[99999999999999999999]", "1: lo inet 300.1.1.1/8", "a/b 5"])
)
SECTIONS = ("uname", "id", "uptime", "netns", "ip", "fib_trie", "if_inet6", "ifconfig", "netstat", "snmp", "sysctls")
INODE = (
    "   0: 0100007F:0016 0200007F:9C40 01 00000000:00000000 00:00000000 00000000 9999999999 0 {} 1 0 20 4 30 10 -1\n"
)


@given(st.lists(st.tuples(st.sampled_from(SECTIONS), TEXT), max_size=5), st.sampled_from(["7", "9" * 20]))
def test_any_section_of_the_shell_is_a_value_or_an_error(texts: list[tuple[str, str]], inode: str) -> None:
    sections = [shell.Section("tcp", 0, INODE.format(inode)), *(shell.Section(name, 0, text) for name, text in texts)]
    try:
        told = shell.table_of(sections)
        facts = shell.facts_of(sections, told)
        counters = shell.counters_of(sections)
        shell.owners_of(sections, [7])
    except HostError:
        return
    sound(msgspec.to_builtins((facts, counters, list(told.sockets.values())), builtin_types=(bytes,)))
