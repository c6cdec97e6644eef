"""Asking through connections, under every Python: what it brings, whom it leaves out, and that it leaves no trace."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from lab.waiting import PATIENCE, until
from msgspec.structs import replace
from probe.conversation import PipeChannel, open_probe
from probe.test_probe import key_of

from halfopen.evidence.probe import asked
from halfopen.model import AskQuery, NetnsRef, Reply, Unasked
from halfopen.probe import ask as sent
from halfopen.reach.agent import Agent
from halfopen.reach.exchange import request
from halfopen.tcp import State

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an end that goes without a word (TCP_REPAIR) needs root")

SECONDS = 60.0
TCP, SOL = socket.IPPROTO_TCP, socket.SOL_SOCKET
SO_ATTACH_FILTER, SO_COOKIE, TCP_USER_TIMEOUT, TCP_REPAIR = 26, 57, 18, 19
WHO = (("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1"))  # where it listens, what is dialled


@dataclass
class Pair:
    """One connection on loopback: the end that is asked, and the other one."""

    near: socket.socket
    far: socket.socket

    def deafen(self) -> None:
        """From now on nothing reaches the other end, as if the path were dead: its filter (classic BPF) drops all."""
        drop_all = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0), 8)
        self.far.setsockopt(SOL, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(drop_all)))

    def vanish(self) -> None:
        """The other end goes without a word."""
        self.far.setsockopt(TCP, TCP_REPAIR, 1)
        self.far.close()

    def query(self) -> AskQuery:
        cookie = struct.unpack("=Q", self.near.getsockopt(SOL, SO_COOKIE, 8))[0]
        return AskQuery(NetnsRef("here"), key_of(self.near), os.fstat(self.near.fileno()).st_ino, cookie)

    def options(self) -> list[int]:
        """All that asking might change."""
        tcp = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, TCP_USER_TIMEOUT, TCP_REPAIR)
        values = [self.near.getsockopt(TCP, one) for one in tcp]
        return [self.near.getsockopt(SOL, socket.SO_KEEPALIVE), *values, os.get_blocking(self.near.fileno())]

    def keep_alive(self, idle: int, interval: int, count: int) -> None:
        self.near.setsockopt(SOL, socket.SO_KEEPALIVE, 1)
        for option, value in ((4, idle), (5, interval), (6, count)):
            self.near.setsockopt(TCP, option, value)

    @property
    def state(self) -> int:
        return self.near.getsockopt(TCP, socket.TCP_INFO, 1)[0]

    def segments_out(self) -> bytes:
        """How many it has sent, as tcp_info has it."""
        return self.near.getsockopt(TCP, socket.TCP_INFO, 512)[136:140]

    def works(self) -> bool:
        """Whether both ends can still speak with each other."""
        self.near.sendall(b"question")
        self.far.sendall(b"answer")
        return (self.far.recv(99), self.near.recv(99)) == (b"question", b"answer")


class Pairs:
    """Makes connections, and closes them in the end."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack

    def __call__(self, bind: str = "127.0.0.1", dial: str = "127.0.0.1") -> Pair:
        listener = self.stack.enter_context(socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET))
        if bind == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((bind, 0))
        listener.listen()
        far = self.stack.enter_context(socket.create_connection((dial, listener.getsockname()[1])))
        return Pair(self.stack.enter_context(listener.accept()[0]), far)


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    with ExitStack() as stack:
        yield Pairs(stack)


def started(python: str, wrap: list[str] | None = None) -> Agent:
    agent = open_probe(python, wrap)
    agent.start((1,), asking=True)
    agent.first_look((1,))
    return agent


def asked_of(agent: Agent, *queries: AskQuery, seconds: float = SECONDS) -> list[Reply]:
    return agent.ask(queries, seconds)[0]


def why(*replies: Reply) -> list[tuple[Unasked | None, int]]:
    return [(reply.unasked, reply.tries) for reply in replies]


def test_what_each_is_answered(python: str, pairs: Pairs) -> None:
    healthy = [pairs(*who) for who in WHO]
    healthy[1].keep_alive(600, 30, 5)
    gone, deaf, brief, limited = (pairs() for _ in range(4))
    gone.vanish()
    brief.keep_alive(600, 1, 3)
    limited.near.setsockopt(TCP, TCP_USER_TIMEOUT, 1)
    for one in (deaf, brief, limited):
        one.deafen()
    every = [*healthy, gone, deaf, brief, limited]
    before = [one.options() for one in every]
    agent = started(python)
    replies, owners = agent.ask([one.query() for one in every], SECONDS)
    assert why(*replies) == [(None, 1)] * 4 + [(None, 3), (None, 2), (None, 1)]
    assert [reply.state for reply in replies] == [State.ESTABLISHED] * 3 + [State.CLOSE] + [State.ESTABLISHED] * 3
    for reply in replies[:3]:
        assert reply.before and reply.after and (reply.after.segs_in or 0) > (reply.before.segs_in or 0)
    for reply, tries in zip(replies[4:], (3, 2, 1), strict=True):
        assert reply.before and reply.after and reply.elapsed_s >= tries
        assert (reply.after.segs_out or 0) - (reply.before.segs_out or 0) == reply.after.probes == tries
    assert [one.options() for one in every] == before
    with pytest.raises(ConnectionResetError):
        gone.near.recv(1)
    assert all(one.works() for one in healthy)
    assert {owner.pid for owner in owners.values()} == {os.getpid()} and len(owners) == len(every)
    agent.close()
    assert [one.state for one in (deaf, brief, limited)] == [1, 1, 1]  # nothing of it has ended them


def test_whom_it_leaves_out(python: str, pairs: Pairs) -> None:
    own, limit, sends, closing, repaired, other, renamed, lost = (pairs() for _ in range(8))
    own.keep_alive(600, 60, 9)
    own.near.setsockopt(TCP, TCP_USER_TIMEOUT, 60_000)
    limit.keep_alive(600, 60, 1)
    sends.deafen()
    sends.near.sendall(b"nobody hears this")
    closing.near.shutdown(socket.SHUT_WR)
    queries = [one.query() for one in (own, limit, sends, closing, repaired, other, renamed, lost)]
    repaired.near.setsockopt(TCP, TCP_REPAIR, 1)
    queries[5] = replace(queries[5], cookie=1)
    queries[6] = replace(queries[6], key=key_of(lost.near))
    lost.near.close()
    before = [(one.options(), one.segments_out()) for one in (own, limit, other, renamed)]
    agent = started(python)
    replies = asked_of(agent, *queries)
    agent.close()
    expected = ("OWN_TIMEOUT", "OWN_LIMIT", "SENDS", "NOT_ESTABLISHED", "IN_REPAIR", "ANOTHER", "ANOTHER", "NO_HOLDER")
    assert why(*replies) == [(Unasked[name], 0) for name in expected]
    assert [(one.options(), one.segments_out()) for one in (own, limit, other, renamed)] == before


def test_without_a_cookie_it_is_known_by_its_inode_and_its_names(python: str, pairs: Pairs) -> None:
    one = pairs()
    agent = started(python)
    assert why(*asked_of(agent, replace(one.query(), cookie=None))) == [(None, 1)]
    agent.close()


def test_many_are_asked_side_by_side_and_no_more_than_fifty_a_second(pairs: Pairs) -> None:
    every = [pairs() for _ in range(40)]
    for one in every:
        one.deafen()
    agent = started(sys.executable)
    began = time.monotonic()
    replies = asked_of(agent, *(one.query() for one in every))
    took = time.monotonic() - began
    agent.close()
    assert why(*replies) == [(None, 3)] * 40
    assert took < 40 * 3 / 2 and max(reply.elapsed_s for reply in replies) < took - 39 * sent.SPACING + 0.5


def test_what_there_is_no_time_for_is_left_out(pairs: Pairs) -> None:
    one = pairs()
    agent = started(sys.executable)
    assert why(*asked_of(agent, one.query(), seconds=2.9)) == [(Unasked.LATE, 0)]
    agent.close()


def test_another_user_may_not(pairs: Pairs) -> None:
    one = pairs()
    agent = started("python3", ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"])
    replies = asked_of(agent, one.query())
    agent.close()
    assert why(*replies) == [(Unasked.NOT_ALLOWED, 0)] and replies[0].errno == 13


@dataclass
class Asking:
    """A probe that is told to ask through three ends that nobody answers; and their options before."""

    every: list[Pair]
    agent: Agent

    def __post_init__(self) -> None:
        self.queries = [one.query() for one in self.every]
        self.before = [one.options() for one in self.every]

    def begin(self) -> PipeChannel:
        """Until it is in the middle of it."""
        channel = self.agent.channel
        assert isinstance(channel, PipeChannel)
        channel.send(request(asked.ASK, asked.encode_question(self.queries, SECONDS)))
        self.await_change()
        return channel

    def await_change(self) -> None:
        until(lambda: all(one.options() != two for one, two in zip(self.every, self.before, strict=True)))

    @property
    def is_put_back(self) -> bool:
        return [one.options() for one in self.every] == self.before


@pytest.fixture
def asking(pairs: Pairs) -> Asking:
    every = [pairs() for _ in range(3)]
    for one in every:
        one.deafen()
    return Asking(every, started(sys.executable))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_in_the_middle_of_it_leaves_the_options_as_they_were(number: int, asking: Asking) -> None:
    channel = asking.begin()
    channel.process.send_signal(number)
    channel.process.wait(PATIENCE)
    assert asking.is_put_back
    channel.close()


def test_a_channel_that_ends_in_the_middle_of_it_ends_it(asking: Asking) -> None:
    channel = asking.begin()
    began = time.monotonic()
    channel.close()
    assert asking.is_put_back and time.monotonic() - began < 2 * sent.LEAST_WAIT


def test_what_its_program_closes_meanwhile_is_let_go(asking: Asking) -> None:
    """Our copy would keep the FIN back."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(asking.agent.ask, asking.queries, SECONDS)
        asking.await_change()
        asking.every[0].near.close()
        replies, _ = answer.result(PATIENCE)
    asking.agent.close()
    assert why(*replies) == [(Unasked.CLOSED, 1), (None, 3), (None, 3)] and replies[0].elapsed_s < sent.LEAST_WAIT
