"""Exact look-ups many at a time: each gets its own answer, and an answer that fails is never taken for absence."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
from probe.conversation import open_probe

from halfopen import address
from halfopen.model import Absence, Lookup, Socket
from halfopen.probe.head import Refused
from halfopen.probe.look import look_each, looked_up
from halfopen.probe.netlink import NETLINK_SOCK_DIAG, NLMSG_ERROR, Netlink

PAIRS = 1100  # more than the probe takes at a time


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    """The dialling ends of many connections on loopback."""
    held: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        for _ in range(PAIRS // 2):
            held += [socket.create_connection(listener.getsockname()), listener.accept()[0]]
        yield held
        for one in held:
            one.close()


def key_of(one: socket.socket) -> bytes:
    (local, local_port), (peer, peer_port) = one.getsockname(), one.getpeername()
    return address.make_key(address.parse(local), local_port, address.parse(peer), peer_port)


def absent_beside(key: bytes) -> bytes:
    """A tuple that nobody has: port 1 dials the same peer."""
    return key[:-4] + b"\0\1" + key[-2:]


def test_each_of_many_look_ups_finds_its_own(python: str, clients: list[socket.socket]) -> None:
    agent = open_probe(python)
    agent.start((1,))
    agent.first_look((1,))
    there = {key_of(one): os.fstat(one.fileno()).st_ino for one in clients}
    asked = [key for one in there for key in (one, absent_beside(one))]
    sights = agent.look([Lookup(agent.own_netns, key) for key in asked]).sights
    agent.close()
    for key, inode in there.items():
        found = sights[agent.own_netns, key]
        assert isinstance(found, Socket) and (found.key, found.inode) == (key, inode)
        assert sights[agent.own_netns, absent_beside(key)] is Absence.ABSENT


@pytest.mark.parametrize("lost", [0, 1, 40, 399])
def test_an_answer_that_does_not_come_is_refused_and_not_absent(
    lost: int, clients: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    netlink = Netlink(NETLINK_SOCK_DIAG)
    receive, calls = netlink.receive, [0]

    def failing() -> memoryview:
        calls[0] += 1
        if calls[0] == lost + 1:
            raise Refused(105, "netlink")  # ENOBUFS
        return receive()

    monkeypatch.setattr(netlink, "receive", failing)
    keys = [key_of(one) for one in clients[:400]]
    sockids = [struct.pack("4s16s16s", key[-4:], key[:4], key[4:8]) for key in keys]
    found = look_each(netlink, [(2, 0, one) for one in sockids])
    assert len(found) == len(keys)
    refused = [isinstance(one, Refused) for one in found]
    assert refused[lost] and not any(refused[:lost]) and sum(refused) <= 32
    for key, answer in zip(keys, found, strict=True):
        assert isinstance(answer, Refused) or (answer and answer[4:8] == key[-4:])


def test_an_answer_to_another_question_is_refused() -> None:
    data = struct.pack("=IHHII", 36, NLMSG_ERROR, 0, 7, 0) + struct.pack("=i16s", -2, b"")
    assert looked_up(memoryview(data), 7, b"") is None
    with pytest.raises(Refused):
        looked_up(memoryview(data), 8, b"")
