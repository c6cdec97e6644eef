"""The probe's stream: decode(encode(x)) = x, and any damage is an error, never a missing socket."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import encode_socket, frame, sockets

from halfopen import address
from halfopen.errors import ErrorCode, HostError
from halfopen.evidence import frames, kernel, wire
from halfopen.model import Absence, Socket
from halfopen.table import Table
from halfopen.tcp import State, number_of

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
    reader, decoder = frames.FrameReader(NONCE), wire.DumpDecoder(ports)
    parts = [data[at : at + step] for at in range(0, len(data), step)] if step else [data]
    for part in parts:
        for one in reader.feed(part):
            if one.kind in (frames.END, frames.ERROR):
                space = decoder.end(frames.end_of(one, wire.DUMP), 1, (), wire.Collector.NETLINK)
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
    assert wire.decode_sight(1, encode_socket(one), other.key) is Absence.ABSENT
    assert wire.decode_sight(1, encode_socket(one), one.key) == one
    assert wire.decode_sight(2, b"", one.key) is Absence.UNSEEN


def test_a_listener_in_a_look_up_means_absent() -> None:
    key = b"\x0a\0\0\1\x0a\0\0\2\0\1\0\2"
    listener = kernel.MESSAGE.pack(2, 10, 0, 0, key[-4:-2], key[-2:], key[:4], key[4:8], 0, bytes(8), 0, 0, 0, 0, 0)
    assert wire.decode_sight(1, listener, key) is Absence.ABSENT


def test_hello_of_another_schema_is_refused() -> None:
    with pytest.raises(HostError):
        wire.decode_hello([("schema", b"99"), ("byteorder", b"little")])


def test_the_session_of_a_login_is_told_by_its_sshd() -> None:
    here = address.make_key(address.parse("10.0.0.2"), 22, address.parse("10.0.0.1"), 40000)
    assert wire.session_key("10.0.0.1 40000 10.0.0.2 22") == here
    assert wire.session_key("::ffff:10.0.0.1 40000 10.0.0.2 22") == here
    linked = wire.session_key("fe80::1%eth0 40000 fe80::2%eth0 22")
    assert linked is not None and len(linked) == address.V6_KEY


@given(
    st.text(max_size=40) | st.lists(st.sampled_from(["10.0.0.1", "::1", "22", "70000", "-1", "x", "%"])).map(" ".join)
)
def test_what_names_no_session_is_none(said: str) -> None:
    found = wire.session_key(said)
    assert found is None or len(said.split()) == 4


def test_units_and_containers_are_named() -> None:
    assert wire.unit_of("0::/system.slice/postgresql@15-main.service\n") == "postgresql@15-main.service"
    digest = "ab" * 32
    assert wire.unit_of(f"0::/system.slice/docker-{digest}.scope\n") == f"container {digest[:12]}"
    assert wire.unit_of("0::/\n") is None


def test_counters_come_by_name() -> None:
    table = b"TcpExt: SyncookiesSent ListenDrops\nTcpExt: 3 9\nIpExt: InOctets\nIpExt: 5\n"
    assert wire.decode_counters(table) == {"SyncookiesSent": 3, "ListenDrops": 9}
