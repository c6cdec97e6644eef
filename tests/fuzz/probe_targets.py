"""Decoders of what a probe or a shell answers: a lie in valid wrapping is a HostError, or a value that can be saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fuzz.envelope import NONCE, SHELL_NONCE, fields, framed, honest, packed, sections

from halfopen import address
from halfopen.evidence import saved
from halfopen.evidence.probe import asked, census, examination, frames, hello, lookups, proc, routes, tables
from halfopen.evidence.text import shell
from halfopen.model import Collector, HostFacts, InterfaceAddress, Namespace, NetnsRef, RouteQuery
from halfopen.table import CountBlock, Table

KEY4 = address.make_key(address.parse("10.0.0.1"), 40000, address.parse("10.0.0.2"), 5432)
KEY6 = address.make_key(address.parse("fd07::1"), 40000, address.parse("fd07::2"), 5432)
KEYS = (KEY4, KEY6, KEY4, KEY6)

Fields = Sequence[tuple[str, bytes]]

NAMES: dict[str, tuple[str, ...]] = {  # of the fields of each answer
    "hello": (
        "schema", "byteorder", "collector", "euid", "netns", "capabilities", "hostname", "kernel", "boot_id", "uptime",
        "python", "started", "address", "tracked", "forwards", "fib_trie", "if_inet6",
    ),
    "dump": (
        "netns", "refused", "address", "tracked", "forwards", "fib_trie", "if_inet6", "redirects", "owner", "links",
        "link", "route", "local",
    ),
    "translations": ("netns", "refused", "ip_vs_conn", "ip_vs", "inner", "nowhere"),
    "census": ("held", "no-such-process", "ephemeral", "unreadable", "elsewhere", "process", "netns"),
    "evidence": ("netns", "age", "/proc/net/netstat", "/proc/net/snmp", "/proc/sys/net/core/somaxconn", "x"),
    "owners": ("owner", "unreadable", "x"),
    "routes": ("netns", "route", "neighbour", "link", "x"),
    "asked": ("asked", "x"),
    "examination": ("ctnetlink", "hidepid", "link", "pidfd", "x"),
}  # fmt: skip
SECTIONS = (
    "uname", "id", "netns", "boot_id", "uptime", "ip", "ifconfig", "fib_trie", "if_inet6", "tcp", "tcp6", "no-tcp6",
    "ss", "netstat", "lsof", "snmp", "sysctls", "descriptors", "names", "states",
)  # fmt: skip

SOUND = {
    "schema": b"2", "byteorder": b"little", "collector": b"netlink", "euid": b"0", "netns": b"4026531840",
}  # fmt: skip
FACTS = HostFacts("h", "6.1", None, None, True, Collector.NETLINK)


def raw_frames(data: bytes) -> None:
    """A stream behind a valid nonce, in pieces whose size the first byte gives."""
    step, stream = (data[:1] or b"\1")[0] or 1, NONCE + data[1:]
    reader = frames.FrameReader(NONCE)
    for at in range(0, len(stream), step):
        for one in reader.feed(stream[at : at + step]):
            if one.type == frames.FIELDS:
                frames.split_fields(one.payload)
            elif one.type in (frames.END, frames.ERROR):
                frames.end_of(one, 2)
            else:
                frames.inflate(one.payload)


def greeting(data: bytes) -> None:
    """HELLO: fields that are not among the mutated ones are sound."""
    told = fields(data, NAMES["hello"])
    names = {name for name, _ in told}
    payload = packed([(name, value) for name, value in SOUND.items() if name not in names] + told)
    facts, addresses, netns = hello.decode_hello(frames.split_fields(payload))
    kept(facts, (Namespace(netns, addresses, Table(), (), frozenset()),))


def dump(data: bytes) -> None:
    """DUMP, for one port where the first byte is odd."""
    ports = frozenset({5432}) if data[:1] and data[0] & 1 else frozenset()
    decoder = tables.DumpDecoder(ports)
    for one in framed(data[1:], NAMES["dump"]):
        decoder.add(one)
    own = decoder.end(decoder.rows, 1, (InterfaceAddress(address.parse("10.0.0.1"), (1,)),))
    for space in (own, *decoder.others):
        assert len(list(space.table.rows())) == len(space.table)
    kept(FACTS, (own, *decoder.others))


def kept(facts: HostFacts, spaces: tuple[Namespace, ...], **more: Any) -> None:
    """What was decoded can be saved, and is the same when it is read again."""
    now = "2026-01-01T12:00:00.000Z"
    one = saved.Saved(
        schema_=saved.SCHEMA, version="0", host="h", transport="local", taken_at=now, facts=facts, error=None,
        namespaces=spaces, **more,
    )  # fmt: skip
    text = saved.to_json(one)
    if not any(sign in text for sign in saved.CARRIED_UTF8):  # a host may say those characters itself
        assert saved.from_json(text) == one, "saved evidence is what was read"


def table(data: bytes) -> None:
    """TABLE: text of /proc."""
    tables_ = framed(data, NAMES["dump"])
    honest(lambda count: tables.decode_table(tables_, count))


def looks(data: bytes) -> None:
    """LOOK for four keys."""
    some = framed(data, ("x",))
    assert len(lookups.decode_looks(some, len(KEYS), KEYS)) == len(KEYS)


def translations(data: bytes) -> None:
    """TRANSLATIONS: pairs of connection tracking, and text of IPVS."""
    some = framed(data, NAMES["translations"], width_first=True)
    honest(lambda count: lookups.decode_translations(some, count))


def counts(data: bytes) -> None:
    """COUNT: byte counters."""
    some = framed(data, ("x",))
    blocks: tuple[CountBlock, ...] = honest(lambda count: tables.decode_counts(some, count))
    assert sum(len(list(one.counts())) for one in blocks) == sum(len(one.block) for one in blocks)


def holders(data: bytes) -> None:
    """HOLDERS and PROCESSES."""
    some = framed(data, NAMES["census"])
    census.encode_pids(honest(lambda count: census.decode(some, count, (5432,) if len(data) & 1 else ())))
    only = [one for one in some if one.type == frames.FIELDS]
    honest(lambda count: census.decode_processes(only, count))


def evidence(data: bytes) -> None:
    """EVIDENCE: counters and sysctls."""
    before, sysctls = proc.decode_evidence(fields(data, NAMES["evidence"]))
    kept(FACTS, (), before=before, sysctls=sysctls)


def owners(data: bytes) -> None:
    """OWNERS: processes."""
    found, _ = proc.decode_owners(fields(data, NAMES["owners"]))
    kept(FACTS, (), owners=found)


def ways(data: bytes) -> None:
    """ROUTES."""
    place = NetnsRef("h", 1)
    asked_for = [RouteQuery(place, key[:width], key[width : 2 * width], 0) for key, width in ((KEY4, 4), (KEY6, 16))]
    found = routes.decode_routes(fields(data, NAMES["routes"]), asked_for)
    kept(FACTS, (), routing=saved.pack_routing("h", found))


def replies(data: bytes) -> None:
    """ASK, of two sockets."""
    assert len(asked.decode(fields(data, NAMES["asked"]), 2)) == 2


def examined(data: bytes) -> None:
    """EXAMINE."""
    examination.decode(fields(data, NAMES["examination"]), FACTS)


def told_by_shell(data: bytes) -> None:
    """All that is read of the answer of a shell."""
    reader = shell.SectionReader(SHELL_NONCE)
    reader.feed(sections(data, SECTIONS))
    assert reader.done
    shell.counters_of(reader.sections)
    shell.owners_of(reader.sections, (1, 2, 77, 4242))
    parsed = shell.table_of(reader.sections)
    facts, addresses, netns = shell.facts_of(reader.sections, parsed)
    kept(facts, (parsed.namespace(addresses, frozenset(), netns),))


def raw_shell(data: bytes) -> None:
    """A stream of a shell behind a valid nonce, in pieces."""
    step = (data[:1] or b"\1")[0] or 1
    stream = b"\n%s " % SHELL_NONCE + data[1:]
    reader = shell.SectionReader(SHELL_NONCE)
    for at in range(0, len(stream), step):
        reader.feed(stream[at : at + step])
        if reader.done:
            return
