"""The probe's stream: decode(encode(x)) = x, and any damage is an error, never a missing socket."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import encode_socket, frame, sockets

from halfopen import address
from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe import frames, hello, kernel, lookups, proc, tables, wire
from halfopen.evidence.text import reading
from halfopen.model import Absence, Socket
from halfopen.probe import dump, interfaces, procfs
from halfopen.probe.head import Refused
from halfopen.table import Table
from halfopen.tcp import State, Timer, number_of

NONCE = b"\x01noncey\xff"


def block(rows: list[Socket]) -> list[tuple[int, bytes]]:
    """BLOCK frames for sockets, one for each kind."""
    table = Table.of((one.family, one.scope, one.key, number_of(one.state), 0) for one in rows)
    return [
        (
            frames.BLOCK,
            struct.pack(">BBII", b.family, b.width, b.scope, len(b))
            + zlib.compress(b.states + b.marks + b.local_ports + b.peer_ports + b.local + b.peer),
        )
        for b in table.blocks
    ]


def stream(rows: list[Socket], noise: bytes = b"") -> bytes:
    """A whole answer to DUMP behind a greeting."""
    kinds = [
        *block(rows),
        (frames.LISTENERS, zlib.compress(b"")),
        (frames.END, struct.pack(">BQ", wire.DUMP, len(rows))),
    ]
    return noise + b"".join(frame(NONCE, number, *one) for number, one in enumerate(kinds))


def read(data: bytes, step: int = 0, ports: frozenset[int] = frozenset()) -> list[bytes]:
    """What a reader makes of a stream: the keys, or HostError. An end that never comes is truncation."""
    reader, decoder = frames.FrameReader(NONCE), tables.DumpDecoder(ports)
    parts = [data[at : at + step] for at in range(0, len(data), step)] if step else [data]
    for part in parts:
        for one in reader.feed(part):
            if one.type in (frames.END, frames.ERROR):
                space = decoder.end(frames.end_of(one, wire.DUMP), 1, ())
                return [key for key, _, _ in space.table.rows()]
            decoder.add(one)
    raise HostError(ErrorCode.TRUNCATED, "ended early")


@given(st.lists(sockets(), max_size=8), st.integers(0, 50))
def test_what_is_sent_is_what_is_read(rows: list[Socket], step: int) -> None:
    assert sorted(read(stream(rows, b"Welcome!\r\n\x1b[0m"), step)) == sorted(one.key for one in rows)


@given(st.lists(sockets(), min_size=1, max_size=8))
def test_rows_with_another_port_than_was_asked_for_are_left_out(rows: list[Socket]) -> None:
    """Kernels before 4.16 do not know the filter, and send them all."""
    port = address.split_key(rows[0].key)[1]
    wanted = [one.key for one in rows if port in address.split_key(one.key)[1::2]]
    assert sorted(read(stream(rows), ports=frozenset({port}))) == sorted(wanted)


@given(sockets())
def test_a_socket_survives_the_wire(one: Socket) -> None:
    assert kernel.decode_socket(encode_socket(one)) == one


@given(st.lists(sockets(), min_size=1, max_size=4), st.data())
def test_a_cut_anywhere_is_an_error(rows: list[Socket], data: st.DataObject) -> None:
    whole = stream(rows)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(HostError):
        read(whole[:cut])


@given(st.lists(sockets(), min_size=1, max_size=4), st.data())
def test_a_flipped_bit_anywhere_is_an_error(rows: list[Socket], data: st.DataObject) -> None:
    whole = bytearray(stream(rows))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(HostError):
        read(bytes(whole))


def test_a_missing_frame_is_an_error() -> None:
    one = Socket(b"\x0a\0\0\1\x0a\0\0\2\0\1\0\2", State.ESTABLISHED, 2)
    parts = [*block([one]), (frames.END, struct.pack(">BQ", wire.DUMP, 1))]
    data = frame(NONCE, 0, *parts[0]) + frame(NONCE, 2, *parts[1])
    with pytest.raises(HostError) as caught:
        read(data)
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


def test_fewer_rows_than_stated_is_truncation() -> None:
    data = frame(NONCE, 0, frames.END, struct.pack(">BQ", wire.DUMP, 7))
    with pytest.raises(HostError) as caught:
        read(data)
    assert caught.value.code is ErrorCode.TRUNCATED


def test_a_bomb_is_too_large() -> None:
    bomb = struct.pack(">BBII", 2, 4, 0, 1) + zlib.compress(bytes(frames.FRAME_LIMIT + 1))
    with pytest.raises(HostError) as caught:
        read(frame(NONCE, 0, frames.BLOCK, bomb))
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_an_announced_giant_frame_is_refused_before_it_comes() -> None:
    head = struct.pack(">BII", frames.BLOCK, 0, 1 << 31)
    with pytest.raises(HostError) as caught:
        read(NONCE + head + bytes(4))
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_an_endless_greeting_ends() -> None:
    with pytest.raises(HostError) as caught:
        read(b"x" * (frames.PREAMBLE_LIMIT + 100), 4096)
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


@given(st.binary(max_size=200))
def test_garbage_is_an_error(data: bytes) -> None:
    with pytest.raises(HostError):
        read(NONCE + data)


@given(sockets(), sockets())
def test_the_socket_of_another_tuple_means_absent(one: Socket, other: Socket) -> None:
    """An exact look-up returns the LISTEN socket when the tuple is absent."""
    if one.key == other.key:
        return
    assert lookups.decode_observation(1, encode_socket(one), other.key) is Absence.ABSENT
    assert lookups.decode_observation(1, encode_socket(one), one.key) == one
    assert lookups.decode_observation(2, b"", one.key) is Absence.UNSEEN


def test_a_listener_in_a_look_up_means_absent() -> None:
    key = b"\x0a\0\0\1\x0a\0\0\2\0\1\0\2"
    listener = kernel.MESSAGE.pack(2, 10, 0, 0, key[-4:-2], key[-2:], key[:4], key[4:8], 0, bytes(8), 0, 0, 0, 0, 0)
    assert lookups.decode_observation(1, listener, key) is Absence.ABSENT


def test_hello_of_another_schema_is_refused() -> None:
    with pytest.raises(HostError):
        hello.decode_hello([("schema", b"99"), ("byteorder", b"little")])


def test_the_session_of_a_login_is_told_by_its_sshd() -> None:
    here = address.make_key(address.parse("10.0.0.2"), 22, address.parse("10.0.0.1"), 40000)
    assert hello.session_key("10.0.0.1 40000 10.0.0.2 22") == here
    assert hello.session_key("::ffff:10.0.0.1 40000 10.0.0.2 22") == here
    linked = hello.session_key("fe80::1%eth0 40000 fe80::2%eth0 22")
    assert linked is not None and len(linked) == address.V6_KEY


@given(
    st.text(max_size=40) | st.lists(st.sampled_from(["10.0.0.1", "::1", "22", "70000", "-1", "x", "%"])).map(" ".join)
)
def test_what_names_no_session_is_none(said: str) -> None:
    found = hello.session_key(said)
    assert found is None or len(said.split()) == 4


def test_units_and_containers_are_named() -> None:
    assert proc.unit_of("0::/system.slice/postgresql@15-main.service\n") == "postgresql@15-main.service"
    digest = "ab" * 32
    assert proc.unit_of(f"0::/system.slice/docker-{digest}.scope\n") == f"container {digest[:12]}"
    assert proc.unit_of("0::/\n") is None


def test_counters_come_by_name() -> None:
    table = b"TcpExt: SyncookiesSent ListenDrops\nTcpExt: 3 9\nIpExt: InOctets\nIpExt: 5\n"
    assert proc.decode_counters(table) == {"SyncookiesSent": 3, "ListenDrops": 9}


HEADING = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = b"   0: 0100007F:1538 0200007F:9C40 01 00000003:00000005 01:0000000A 00000002  1000        0 4242 1 ffff\n"


def table_text(family: int, text: bytes) -> frames.Frame:
    return frames.Frame(frames.TEXT, bytes((family,)) + zlib.compress(text))


def test_text_of_proc_is_read_here_and_cut_lines_are_missed() -> None:
    """Chunks end anywhere; a line that is cut or missing is an error, whatever the end of the answer says."""
    whole = HEADING + LINE
    parts = [
        table_text(2, whole[:130]),
        table_text(2, whole[130:]),
        table_text(10, HEADING.replace(b"rem_", b"remote_")),
    ]
    told = tables.decode_table(parts, 3)
    assert told is not None and told.whole
    assert list(told.sockets.values()) == [
        Socket(
            address.make_key(b"\x7f\0\0\1", 0x1538, b"\x7f\0\0\2", 0x9C40),
            State.ESTABLISHED,
            2,
            timer=Timer.RETRANSMIT,
            timer_expires_s=0.1,
            retransmits=2,
            send_q=3,
            recv_q=5,
            uid=1000,
            inode=4242,
        )
    ]
    for damaged, count in ((parts[:1], 3), (parts[:2], 3), ([table_text(2, whole[:130])], 1), ([*parts, parts[2]], 3)):
        with pytest.raises(HostError):
            tables.decode_table(damaged, count)
    with pytest.raises(HostError):
        tables.decode_table([table_text(3, whole)], 2)


def test_text_is_bounded_over_all_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TEXT_LIMIT", 2 * len(HEADING))
    decoder = tables.DumpDecoder(frozenset())
    space = frames.Frame(frames.FIELDS, zlib.compress(b""))
    for one in (table_text(2, HEADING), space, table_text(2, HEADING), space):
        decoder.add(one)
    with pytest.raises(HostError) as caught:
        decoder.add(table_text(10, b"x"))
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_a_kernel_without_ipv6_has_no_table_of_it_and_that_is_no_hole() -> None:
    told = tables.decode_table([table_text(2, HEADING + LINE)], 2)
    assert told is not None and told.whole and len(told.sockets) == 1
    refused = frames.Frame(frames.FIELDS, zlib.compress(struct.pack(">BI", 7, 1) + b"refused2"))
    assert tables.decode_table([refused], 0) is None


def test_addresses_come_by_netlink_or_by_text_of_proc() -> None:
    trie = b"Main:\n  |-- 10.0.0.7\n     /32 host LOCAL\n  |-- 10.0.0.0\n     /24 link UNICAST\n"
    inet6 = b"fd000000000000000000000000000007 02 40 00 80     eth0\n"
    found, tracked, forwards = hello.decode_namespace([("fib_trie", trie), ("if_inet6", inet6), ("tracked", b"")])
    assert [(address.show(one.address), one.links, one.prefix) for one in found] == [
        ("10.0.0.7", (), 32),
        ("fd00::7", (2,), 64),
    ]
    assert (tracked, forwards) == (0, False)
    assert (
        hello.decode_namespace([("fib_trie", b"|-- 999.0.0.1\n  /32 host LOCAL\n"), ("if_inet6", b"zz\n\xff")])[0] == ()
    )


def test_addresses_that_could_not_be_read_are_a_gap_and_those_of_the_sockets_are_known() -> None:
    """Netlink refused, and an fib_trie that cannot be read: the probe sends an empty text, and a host has no such."""
    said = [
        *(("schema", b"2"), ("byteorder", b"little"), ("collector", b"netlink"), ("euid", b"0"), ("netns", b"1")),
        *(("fib_trie", b""), ("if_inet6", b"fd000000000000000000000000000007 02 40 00 80     eth0\n")),
    ]
    facts, addresses, _ = hello.decode_hello(said)
    assert hello.NO_IPV4 in facts.gaps
    trie = b"  |-- 10.0.0.7\n     /32 host LOCAL\n"
    assert hello.NO_IPV4 not in hello.decode_hello([*said, ("fib_trie", trie)])[0].gaps
    row = Socket(address.make_key(bytes([10, 0, 0, 7]), 1, bytes([10, 0, 0, 8]), 2), State.ESTABLISHED, 2)
    line = LINE.replace(b"0100007F", b"0700000A").replace(b"0200007F", b"0800000A")
    for part in (frames.Frame(*block([row])[0]), table_text(2, HEADING + line)):
        decoder = tables.DumpDecoder(frozenset())
        count = decoder.spaces[-1].add(part)
        decoder.rows = count
        found = decoder.end(count, 1, addresses).addresses
        assert {address.show(interface.address) for interface in found} == {"fd00::7", "10.0.0.7"}


def fields(**values: bytes) -> tuple[int, bytes]:
    """A FIELDS frame."""
    parts = (struct.pack(">BI", len(name), len(value)) + name.encode() + value for name, value in values.items())
    return frames.FIELDS, zlib.compress(b"".join(parts))


def test_a_namespace_that_is_refused_after_it_was_begun_is_not_whole() -> None:
    """It was entered, and told its addresses; then its sockets were refused: nothing says that there are none."""
    kinds = [fields(netns=b"7"), fields(netns=b"8"), fields(netns=b"8", refused=b"1"), fields(netns=b"9", refused=b"1")]
    decoder = tables.DumpDecoder(frozenset())
    for kind, payload in kinds:
        decoder.add(frames.Frame(kind, payload))
    decoder.end(0, 1, ())
    assert [(one.netns, one.whole) for one in decoder.others] == [(7, True), (8, False)] and decoder.refused == 2


@pytest.mark.parametrize("number", [1, 2])
def test_the_probe_says_so_whatever_the_error(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Conversation:
        """A session in which one other namespace can be entered, and refuses to list its sockets."""

        said: ClassVar[list[list[str]]] = []

        def spaces(self) -> list[int]:
            return [0, 7]

        def enter(self, _: int) -> contextlib.AbstractContextManager[None]:
            return contextlib.nullcontext()

        def diag(self, netns: int) -> None:
            if netns:
                raise Refused(number, "netlink")

        def frame(self, *_: object) -> None:
            pass

        def fields(self, pairs: list[tuple[str, bytes]]) -> None:
            self.said.append([name for name, _ in pairs])

    monkeypatch.setattr(dump, "ground", lambda: [("tracked", b"0")])
    monkeypatch.setattr(dump, "reach", lambda *_: [])
    monkeypatch.setattr(dump, "has_sockets", lambda: True)
    monkeypatch.setattr(dump, "tables", lambda: [(2, b"a\nb\n")])
    Conversation.said.clear()
    assert dump.dump(Conversation(), b"") == 2  # type: ignore[arg-type]
    assert Conversation.said == [["netns", "tracked"], ["netns", "refused"], ["netns"]]  # the last: of our own


@pytest.mark.parametrize(
    ("four", "six", "may"),
    [
        (b"sockets: used 3\nTCP: inuse 0 orphan 0\n", b"TCP6: inuse 0\n", False),
        (b"sockets: used 3\nTCP: inuse 1 orphan 0\n", b"TCP6: inuse 0\n", True),
        (b"sockets: used 3\nTCP: inuse 0 orphan 0\n", b"TCP6: inuse 2\n", True),
        (None, b"TCP6: inuse 0\n", True),
        (b"sockets: used 3\nTCP: inuse 0 orphan 0\n", None, True),
        (b"", b"", True),
    ],
)
def test_only_a_host_that_says_so_has_no_sockets(
    four: bytes | None, six: bytes | None, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"/proc/net/sockstat": four, "/proc/net/sockstat6": six}
    monkeypatch.setattr(procfs, "read_file", lambda path, _: texts[path])
    assert procfs.has_sockets() is may


@pytest.mark.parametrize("large", ["fib_trie", "if_inet6"])
def test_a_text_of_addresses_that_is_too_large_is_refused_and_not_cut(
    large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise Refused(93, "netlink")

    texts = {f"/proc/net/{large}": bytes(interfaces.ADDRESSES_LIMIT + 1)}
    monkeypatch.setattr(interfaces, "Netlink", refuse)
    monkeypatch.setattr(interfaces, "read_file", lambda path, limit: texts.get(path, b"")[:limit])
    with pytest.raises(Refused, match=f"27.*{large}"):
        interfaces.ground()
    texts[f"/proc/net/{large}"] = texts[f"/proc/net/{large}"][1:]
    assert (large, texts[f"/proc/net/{large}"]) in interfaces.ground()


def test_too_many_sockets_as_text_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent / "cases/text/linux-6.18-proc-net-tcp.txt").read_bytes()
    found = tables.Sockets()
    found.add(frames.Frame(frames.TEXT, b"\x02" + zlib.compress(text)))
    monkeypatch.setattr(reading, "ROW_LIMIT", 2)
    with pytest.raises(HostError, match="more than 2 sockets") as caught:
        found.parsed_text()
    assert caught.value.code is ErrorCode.TOO_LARGE
