"""What follows the probe for `count` and `doctor`, under every Python, by netlink and by /proc."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from probe.conversation import bind_apart, open_probe

from halfopen.evidence.probe import census, examination, frames
from halfopen.evidence.probe.census import Census
from halfopen.tcp import State


@pytest.fixture(params=["127.0.0.1", "::1"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A listener of this process with three accepted connections and two that wait, both ends of each here."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        bind_apart(listener, request.param)
        listener.listen(8)
        number = listener.getsockname()[1]
        clients = [socket.create_connection((request.param, number)) for _ in range(5)]
        accepted = [listener.accept()[0] for _ in range(3)]
        yield number
        for one in (*clients, *accepted):
            one.close()


def ask(python: str, pid: int | None, port: int) -> Census:
    agent = open_probe(python)
    found = census.decode(*agent.ask_survey(census.HOLDERS, census.encode_question(pid, [port])), [port])
    named = agent.ask_more(census.PROCESSES, census.encode_pids(found))
    agent.close()
    return replace(found, processes=census.decode_processes(*named))


def groups(found: Census) -> Counter[tuple[State, bool, tuple[int, ...], bool]]:
    """Without TIME_WAIT: an ephemeral port may have been somebody else's a minute ago."""
    counts: Counter[tuple[State, bool, tuple[int, ...], bool]] = Counter()
    for one in found.groups:
        if one.state is not State.TIME_WAIT:
            counts[one.state, one.inbound, one.pids, one.waiting is not None] += one.sockets
    return counts


@pytest.mark.parametrize("whole", [True, False], ids=["all", "one process"])
def test_it_counts_what_is_there(way: str, whole: bool, python: str, port: int) -> None:
    found = ask(python, None if whole else os.getpid(), port)
    own = (os.getpid(),)
    assert groups(found) == {
        (State.ESTABLISHED, False, own, False): 5,
        (State.ESTABLISHED, True, own, False): 3,
        (State.ESTABLISHED, True, (), True): 2,
    }
    (listener,) = found.listeners
    assert (listener.socket.port, listener.socket.queue, listener.pids) == (port, 2, own)
    assert listener.socket.backlog == (8 if way == "netlink" else None)
    assert set(found.processes) == {os.getpid()}


def test_it_says_that_a_process_is_not_there(python: str) -> None:
    assert not ask(python, 2**30, 1).exists


def test_it_examines_under_every_python(way: str, python: str, port: int) -> None:
    agent = open_probe(python)
    fields = frames.decode_fields(*agent.ask_survey(examination.EXAMINE))
    agent.close()
    assert agent.facts is not None and port
    found = examination.decode(fields, agent.facts)
    assert found.may("proc_net_tcp") and found.may("netstat") and found.may("sock_diag") == (way == "netlink")
    assert (found.number("tcp_info") is not None) == (found.number("cookies") is not None) == (way == "netlink")
    assert (found.number("processes") or 0) > 1 and (found.number("spaces") or 0) > 0
