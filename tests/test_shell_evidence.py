"""The answers of a shell: read whole, or not at all."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfopen import address
from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe.hello import NO_IPV4
from halfopen.evidence.probe.wire import SYSCTLS
from halfopen.evidence.text import shell
from halfopen.model import Absence, Collector, Lookup, NetnsRef, Process
from halfopen.reach.shell import ShellAgent, script

CASES = Path(__file__).with_name("cases") / "text"
SS = (CASES / "iproute2-6.1-ss-tanoe.txt").read_text()
PROC = (CASES / "linux-6.18-proc-net-tcp.txt").read_text()
NONCE = b"0123456789abcdef"


def section(name: str, text: str, status: int = 0, nonce: bytes = NONCE) -> bytes:
    """One section as the script writes it."""
    raw = text.encode("utf-8", "surrogateescape")
    return b"\n%s %s %d %d\n%s" % (nonce, name.encode(), status, len(raw), raw)


def answer(**texts: str) -> bytes:
    named = {name.replace("_", "-"): text for name, text in texts.items()}
    return b"".join(section(*one) for one in named.items()) + section("end", " ".join(named))


def read(data: bytes, step: int = 0) -> list[shell.Section]:
    """What a reader makes of a stream; an end that never comes is truncation, as the agent has it."""
    reader = shell.SectionReader(NONCE)
    for at in range(0, len(data), step or max(1, len(data))):
        reader.feed(data[at : at + (step or len(data))])
        if reader.done:
            return reader.sections
    raise HostError(ErrorCode.TRUNCATED, "ended early")


@given(
    st.dictionaries(st.sampled_from(["ss", "tcp", "uname", "ip"]), st.text(max_size=60), max_size=4), st.integers(0, 9)
)
def test_sections_are_read_as_they_were_written(texts: dict[str, str], step: int) -> None:
    found = read(b"Welcome!\r\n\x1b[31m" + answer(**texts), step)
    assert {one.name: one.text for one in found if one.name != "end"} == texts


@given(st.integers(0, 5000), st.integers(0, 40))
@settings(max_examples=50)
def test_a_cut_anywhere_is_an_error(cut: int, step: int) -> None:
    whole = answer(uname="Linux db 6.1", ss=SS)
    with pytest.raises(HostError):
        read(whole[: cut % len(whole)], step * 50)


@given(st.data())
@settings(max_examples=50)
def test_a_hole_anywhere_is_an_error(data: st.DataObject) -> None:
    whole = answer(uname="Linux db 6.1", ss=SS)
    begin = data.draw(st.integers(0, len(whole) - 2))
    end = data.draw(st.integers(begin + 1, len(whole) - 1))
    damaged = whole[:begin] + whole[end:]
    with pytest.raises(HostError):
        read(damaged)


def test_an_endless_greeting_and_a_giant_section_end() -> None:
    with pytest.raises(HostError) as caught:
        read(b"x" * (shell.PREAMBLE_LIMIT + 100), 4096)
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR
    with pytest.raises(HostError) as caught:
        read(b"\n%s ss 0 9999999999\n" % NONCE)
    assert caught.value.code is ErrorCode.TOO_LARGE
    with pytest.raises(HostError) as caught:
        read(b"\n%s %s" % (NONCE, b"x" * 1000))
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


def test_a_host_without_ipv6_has_no_tcp6_and_lacks_nothing() -> None:
    only = PROC.partition("  sl  local_address                         ")[0]
    told = shell.table_of(read(answer(tcp=only, no_tcp6="")))
    assert told.whole and told.collector is Collector.PROCFS
    assert not shell.table_of(read(answer(tcp=only))).whole
    assert shell.table_of(read(answer(tcp=only, tcp6=PROC[len(only) :]))).whole


@pytest.mark.parametrize(
    "texts", [{}, {"ss": ""}, {"ss": "Permission denied\n"}, {"lsof": ""}, {"netstat": "usage: ...\n"}]
)
def test_a_host_that_has_nothing_to_read_with(texts: dict[str, str]) -> None:
    with pytest.raises(HostError) as caught:
        shell.table_of(read(answer(**texts)))
    assert caught.value.code is ErrorCode.NO_INTERPRETER


ADDRESSES = {
    "ip": "1: lo    inet 127.0.0.1/8 scope host lo\\  valid_lft forever\n"
    "7: eth0@if8    inet 10.0.0.5/24 brd 10.0.0.255 scope global eth0\\ valid_lft forever\n"
    "7: eth0@if8    inet6 fe80::5/64 scope link \\ valid_lft forever\n",
    "ifconfig": "eth0: flags=4163<UP> mtu 1500\n\tinet 10.0.0.5  netmask 255.0.0.0\n\tinet6 fe80::5%eth0 prefixlen 64\n"
    "lo   Link encap:Local Loopback\n          inet addr:127.0.0.1  Mask:255.0.0.0\n",
    "fib_trie": "Local:\n  +-- 10.0.0.0/24 2 0 2\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.5\n"
    "        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n  |-- 127.0.0.1\n     /32 host LOCAL\n",
}


@pytest.mark.parametrize("source", ADDRESSES)
def test_addresses_by_whatever_tells_them(source: str) -> None:
    texts = {source: ADDRESSES[source]}
    if source == "fib_trie":
        texts["if_inet6"] = "fe800000000000000000000000000005 07 40 20 80     eth0\n"
    found = {address.show(one.address): one.links for one in shell.addresses_of(texts)}
    assert set(found) == {"127.0.0.1", "10.0.0.5", "fe80::5"}
    if source == "ip":
        assert found["10.0.0.5"] == (7,)


@pytest.mark.parametrize(("status", "text"), [(0, ""), (1, ""), (1, ADDRESSES["fib_trie"][:90])])
def test_addresses_that_could_not_be_read_are_a_gap(status: int, text: str) -> None:
    """Those of IPv6 were read; of IPv4 those that the sockets have are known, and that there may be more is said."""
    inet6 = "fe800000000000000000000000000005 07 40 20 80     eth0\n"
    told = shell.table_of(read(answer(ss="ESTAB 0 0 10.0.0.9:22 10.0.0.2:40000 ino:1 sk:1\n")))
    facts, found, _ = shell.facts_of(
        [shell.Section("fib_trie", status, text), shell.Section("if_inet6", 0, inet6)], told
    )
    assert NO_IPV4 in facts.gaps
    assert {address.show(interface.address) for interface in found} == {"fe80::5", "10.0.0.9"}


@dataclass
class Scripted:
    """A channel that answers each request with the next table."""

    tables: list[str]
    deadline: float = 0.0
    waiting: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        if data.startswith(b"ask "):
            nonce = data.split()[1]
            self.waiting.append(section("ss", self.tables.pop(0), nonce=nonce) + section("end", " ss", nonce=nonce))

    def receive(self) -> bytes:
        return self.waiting.pop(0) if self.waiting else b""

    def complaint(self) -> str:
        return "Killed"

    def exit_status(self) -> int | None:
        return 137

    def close(self) -> None:
        pass


def test_what_is_not_there_is_looked_for_twice() -> None:
    """A table may skip a socket as others come and go."""
    row = "ESTAB 0 0 10.0.0.1:22 10.0.0.2:40000 ino:1 sk:1\n"
    other = "ESTAB 0 0 10.0.0.1:22 10.0.0.2:40001 ino:2 sk:2\n"
    keys = [address.make_key(bytes([10, 0, 0, 1]), 22, bytes([10, 0, 0, 2]), port) for port in (40000, 40001, 40002)]
    wanted = [Lookup(NetnsRef("db", 1), key) for key in keys]
    agent = ShellAgent("db", Scripted([other, row + other]), "local")
    sights = agent.look(wanted).sights
    assert [sights[one.place, one.key] is Absence.ABSENT for one in wanted] == [False, False, True]
    # One table is enough where all are there, and a line that cannot be read takes away the word of what is not.
    agent = ShellAgent("db", Scripted([row + other]), "local")
    assert len(agent.look(wanted[:2]).sights) == 2
    agent = ShellAgent("db", Scripted([row, row + "ESTAB 0 0 10.0.0.1:22\n"]), "local")
    assert agent.look(wanted[1:2]).sights[wanted[1].place, wanted[1].key] is Absence.UNSEEN


def test_a_shell_that_dies_is_an_error_with_its_last_word() -> None:
    agent = ShellAgent("db", Scripted([]), "local")
    agent.channel.send = lambda data: None  # type: ignore[method-assign]
    with pytest.raises(HostError, match="Killed") as caught:
        agent.snapshot(())
    assert caught.value.code is ErrorCode.TRUNCATED


@pytest.mark.parametrize("interpreter", [["dash"], ["bash", "--posix"], ["bash"], ["busybox", "sh"]], ids=" ".join)
def test_the_script_runs_in_every_shell(interpreter: list[str]) -> None:
    try:
        done = subprocess.run(
            interpreter,
            input=script() + b"ask %s facts table counters owners\n" % NONCE,
            capture_output=True,
            timeout=60,
        )
    except FileNotFoundError:
        pytest.skip(f"no {interpreter[0]} here")
    sections = read(done.stdout)
    told = shell.table_of(sections)
    facts, addresses, netns = shell.facts_of(sections, told)
    assert told.whole and facts.kernel and facts.uptime_s and facts.boot_id and netns
    assert any(address.is_loopback(one.address) for one in addresses)
    counters, sysctls = shell.counters_of(sections)
    assert counters["ActiveOpens"] >= 0 and sysctls["somaxconn"] > 0
    there = {name for name in SYSCTLS if Path("/proc/sys/net", name).exists()}
    assert sysctls.keys() == {name.rpartition("/")[2] for name in there}


def test_owners_by_descriptors() -> None:
    sections = [
        shell.Section(
            "descriptors",
            0,
            "/proc/8/fd:\nlrwx------ 1 0 0 64 Nov 23 12:00 5 -> socket:[77]\n/proc/9/fd:\nlrwx 3 -> socket:[78]\n",
        ),
        shell.Section("names", 0, "/proc/8/comm:post gres\n/proc/9/comm:x\n"),
        shell.Section("states", 0, "/proc/8/status:State:\tT (stopped)\n/proc/9/status:State:\tS (sleeping)\n"),
    ]
    found = shell.owners_of(sections, [77])
    assert found == {77: Process(8, "post gres", stopped=True)}
    assert shell.owners_of(sections, [78])[78].stopped is False
    assert shell.owners_of(sections[:2], [78])[78].stopped is None
