"""What goes before the probe for `count` and `doctor`, under every Python, by netlink and by /proc."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from probe.conversation import open_probe
from probe.test_probe import PYTHONS, without_netlink

from halfopen.evidence import census, examination
from halfopen.evidence.census import Census
from halfopen.reach.agent import probe_source, survey_source
from halfopen.tcp import State


@pytest.fixture(params=PYTHONS, ids=[path.split("/")[-3] if "versions" in path else path for path in PYTHONS])
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["127.0.0.1", "::1"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A listener of this process with three accepted connections and two that wait, both ends of each here."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((request.param, 0))
        listener.listen(8)
        number = listener.getsockname()[1]
        clients = [socket.create_connection((request.param, number)) for _ in range(5)]
        accepted = [listener.accept()[0] for _ in range(3)]
        yield number
        for one in (*clients, *accepted):
            one.close()


def ask(python: str, pid: int | None, port: int) -> Census:
    agent = open_probe(python)
    fields = agent.ask_survey(census.COUNT, census.encode_question(pid, [port]))
    agent.close()
    assert agent.facts is not None
    return census.decode(fields, agent.facts.collector)


def groups(found: Census) -> Counter[tuple[State, bool, tuple[int, ...], bool]]:
    """Without TIME_WAIT: an ephemeral port may have been somebody else's a minute ago."""
    counts: Counter[tuple[State, bool, tuple[int, ...], bool]] = Counter()
    for one in found.groups:
        if one.state is not State.TIME_WAIT:
            counts[one.state, one.inbound, one.pids, one.waiting is not None] += one.sockets
    return counts


@pytest.mark.parametrize("way", ["netlink", "procfs"])
@pytest.mark.parametrize("whole", [True, False], ids=["all", "one process"])
def test_it_counts_what_is_there(
    way: str, whole: bool, python: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "procfs":
        without_netlink(monkeypatch)
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


@pytest.mark.parametrize("way", ["netlink", "procfs"])
def test_it_examines_under_every_python(way: str, python: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "procfs":
        without_netlink(monkeypatch)
    agent = open_probe(python)
    fields = agent.ask_survey(examination.EXAMINE)
    agent.close()
    assert agent.facts is not None and port
    found = examination.decode(fields, agent.facts)
    assert found.may("proc_net_tcp") and found.may("netstat") and found.may("sock_diag") == (way == "netlink")
    assert (found.number("tcp_info") is not None) == (found.number("cookies") is not None) == (way == "netlink")
    assert (found.number("processes") or 0) > 1 and (found.number("spaces") or 0) > 0


def test_verbs_are_tied_and_a_check_never_sends_it() -> None:
    space: dict[str, object] = {"__name__": "probe"}
    exec(compile(survey_source() + probe_source(), "probe", "exec"), space)
    assert sorted(space["EXTENSION"]) == [census.COUNT, examination.EXAMINE]  # type: ignore[call-overload]
    assert b"EXTENSION = " not in probe_source()


def test_it_starts_no_process_and_writes_no_file() -> None:
    source = survey_source().decode()
    for word in ("subprocess", "fork", "os.system", "popen", '"w', "'w", "O_CREAT", "SOCK_DESTROY", "sendto", "kill"):
        assert word not in source


def test_the_two_files_are_one_module_and_share_no_name() -> None:
    names = []
    for source in (survey_source(), probe_source()):
        found: dict[str, object] = {"__name__": "probe"}
        exec(compile(source, "probe", "exec"), found)
        names.append({name for name in found if not name.startswith("__")})
    assert names[0] and names[0].isdisjoint(names[1])
