"""Text of /proc/net: tcp and tcp6 (net/ipv4/tcp_ipv4.c get_tcp4_sock and its kin) -> sockets; fib_trie -> addresses.

Addresses are words of the host's byte order in hexadecimal; little-endian is taken for granted. A LISTEN row's rx_queue
is the length of its accept queue, and its backlog is not shown. `tm->when` is in ticks of USER_HZ, 100 a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec.structs import replace

from halfopen import address
from halfopen.evidence.text.draft import Draft
from halfopen.evidence.text.forms import TextFormat
from halfopen.evidence.text.parsed import ParsedText
from halfopen.evidence.text.reading import read
from halfopen.evidence.text.rows import Row, end_of, number
from halfopen.model import Collector, ListenSocket
from halfopen.tcp import STATE_NUMBERS, TIMER_NUMBERS


def row(line: str) -> Row | None:
    """One line of either file."""
    if HEADING.match(line):
        return None
    found = ROW.match(line)
    if found is None:
        raise ValueError("not a line of /proc/net/tcp")
    state = STATE_NUMBERS.get(int(found["state"], 16))
    if state is None:
        raise ValueError(f"{found['state']} is not a valid TCP state")
    if len(found["local"]) != len(found["peer"]):
        raise ValueError("its two addresses are of two families")
    ends = [(packed(found[end]), int(found[f"{end}_port"], 16)) for end in ("local", "peer")]
    family = 2 if len(found["local"]) == 8 else 10
    end = end_of(state, ends[0], ends[1], family, int(found["rx"], 16), int(found["tx"], 16))
    if end is None:
        return Row(None)
    uid, inode = number(found["uid"], 1 << 32), number(found["inode"])
    if isinstance(end, ListenSocket):
        return Row(replace(end, backlog=None, uid=uid, inode=inode))
    timer = int(found["timer"], 16)
    return Row(
        replace(
            end,
            timer=TIMER_NUMBERS.get(timer),
            timer_expires_s=int(found["when"], 16) / 100 if timer else None,
            retransmits=int(found["retransmits"], 16),
            uid=uid,
            inode=inode,
        )
    )


def packed(text: str) -> bytes:
    """Hexadecimal 32-bit words in little-endian order -> a packed address."""
    raw = bytes.fromhex(text)
    return address.canonical(b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4)))


def gaps(_: Draft, __: str) -> Iterator[str]:
    """What /proc does not show."""
    yield "no cookies and no backlogs: /proc/net/tcp does not show them"


def holes(_: Draft, text: str) -> Iterator[str]:
    """Without tcp6 an IPv4 connection of a dual-stack listener is not shown."""
    if not re.search(r"remote_address|:\s[0-9A-F]{32}:", text):
        yield (
            "/proc/net/tcp6 is missing, which lists the connections of dual-stack listeners, IPv4 ones among them "
            "(cat /proc/net/tcp /proc/net/tcp6)"
        )
    elif not re.search(r"rem_address|:\s[0-9A-F]{8}:", text):
        yield "/proc/net/tcp is missing (cat /proc/net/tcp /proc/net/tcp6)"


def read_tables(tcp: str, tcp6: str | None) -> ParsedText:
    """The whole text of both files -> sockets. `tcp6` None: a kernel without IPv6, which does not have that file."""
    parsed = read(f"{tcp}\n{tcp6 or ''}\n", PROCFS, command_known=True)
    if tcp6 is None:
        gaps = tuple(gap for gap in parsed.gaps if "tcp6 is missing" not in gap)
        parsed = replace(parsed, whole=not parsed.problems, gaps=gaps)
    return parsed


def read_addresses(fib_trie: str, if_inet6: str) -> list[tuple[bytes, int, int]]:
    """Addresses of the host's own: (packed address, prefix length, interface index or 0).

    /proc/net/fib_trie has them as local routes, whose prefix is the whole address: nothing beside it is on the link.
    """
    found = {(address.parse(shown), 32, 0) for shown in FIB_LOCAL.findall(fib_trie)}
    for raw, index, prefix in IF_INET6.findall(if_inet6):
        packed = address.canonical(bytes.fromhex(raw))
        found.add((packed, min(int(prefix, 16), 8 * len(packed)), int(index, 16)))
    return sorted(found)


OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
FIB_LOCAL = re.compile(rf"\|-- ({OCTET}(?:\.{OCTET}){{3}})\n\s*/32 host LOCAL")
IF_INET6 = re.compile(r"(?m)^([0-9a-f]{32}) ([0-9a-f]{1,8}) ([0-7][0-9a-f]|80) ")

HEADING = re.compile(r"^\s*sl\s+local_address\s")
ROW = re.compile(
    r"^\s*\d{1,9}:\s+(?P<local>[0-9A-F]{8}|[0-9A-F]{32}):(?P<local_port>[0-9A-F]{4})"
    r"\s+(?P<peer>[0-9A-F]{8}|[0-9A-F]{32}):(?P<peer_port>[0-9A-F]{4})\s+(?P<state>[0-9A-F]{2})"
    r"\s+(?P<tx>[0-9A-F]{8}):(?P<rx>[0-9A-F]{8})\s+(?P<timer>[0-9A-F]{2}):(?P<when>[0-9A-F]{8,16})"
    r"\s+(?P<retransmits>[0-9A-F]{8})\s+(?P<uid>\d{1,10})\s+\d+\s+(?P<inode>\d{1,20})(?:\s.*)?$"
)

PROCFS = TextFormat(
    "/proc/net/tcp",
    Collector.PROCFS,
    re.compile(r"(?m)^[ \t]*\d+:\s+[0-9A-F]{8}(?:[0-9A-F]{24})?:[0-9A-F]{4}\s|^[ \t]*sl\s+local_address\s"),
    re.compile(r"(?P<heading>sl\s+local_address\s+rem)|\d:\s+(?:[0-9A-F]{8}|[0-9A-F]{32}):[0-9A-F]{4}\s"),
    lambda _: row,
    gaps=gaps,
    holes=holes,
)
