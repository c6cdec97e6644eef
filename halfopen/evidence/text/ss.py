"""Text of `ss` (iproute2, misc/ss.c) -> sockets: any of -t -a -n -o -e -i -p -H -O, of every version from 3 on.

A row is state, queues, local and peer, then words in any order: `timer:(name,time,count)` with -o, `uid: ino: sk:` with
-e, `users:((...))` with -p. With -i a second line of tcp_info follows, indented. What ss leaves out is 0, if the option
was given at all: no timer, and uid 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from msgspec.structs import replace

from halfopen.evidence.text.draft import Draft
from halfopen.evidence.text.forms import TextFormat
from halfopen.evidence.text.patterns import TAIL
from halfopen.evidence.text.rows import ANY4, ANY6, Row, end_of, endpoint, number
from halfopen.model import Collector, Process, Socket
from halfopen.tcp import State, Timer


def rows(text: str) -> Callable[[str], Row | None]:
    """The reader of this text's lines: `*` is any IPv4 address where `::` is written out, as before iproute2 4.16."""
    return partial(row, any_of=ANY4 if re.search(r"\s:::(?:\d|\*)", text) else ANY6)


def row(line: str, any_of: bytes) -> Row | None:
    """One line, its continuation joined. `any_of`: the address that `*` stands for."""
    if HEADING.match(line):
        return None
    found = ROW.match(line)
    if found is None:
        if STATELESS.match(line):
            raise ValueError(
                "it has no State column, which ss leaves out where a state was asked for: ss -tan prints it"
            )
        raise ValueError("not a line of ss")
    if found["netid"] in OTHERS:
        return Row(None)
    if found["netid"] not in (None, "tcp"):
        raise ValueError(f"{found['netid'][:40]!r} is not a valid socket type of ss")
    queues = number(found["recv"], 1 << 32), number(found["send"], 1 << 32)
    local, peer = endpoint(found["local"], ":", any_of), endpoint(found["peer"], ":", any_of)
    family = 10 if ":" in found["local"].rpartition(":")[0] or local[0] == ANY6 else 2
    end = end_of(STATES[found["state"]], local, peer, family, *queues)
    if end is None:
        return Row(None)
    # Whoever is named in users:((...)) chose the name: it may imitate any field, so nothing within is read.
    rest = found["rest"]
    start = rest.find("users:((")
    who = USERS.search(rest, start) if start >= 0 else None
    words = rest if start < 0 else rest[:start] + rest[rest.rfind("))") + 2 :]
    process = Process(int(who["pid"]), who["name"]) if who else None
    if "ino:" in words:
        inode, cookie, uid = INODE.search(words), COOKIE.search(words), UID.search(words)
        end = replace(
            end,
            inode=number(inode[1]) if inode else None,
            cookie=int(cookie[1], 16) if cookie else None,
            uid=number(uid[1], 1 << 32) if uid else 0,
        )
    if isinstance(end, Socket):
        end = with_timer(end, words)
    return Row(end, process)


def with_timer(end: Socket, words: str) -> Socket:
    """A socket with the timer that `-o` shows, if its words have one."""
    timer = TIMER.search(words) if "timer:(" in words else None
    if timer is None:
        return end
    return replace(
        end,
        timer=TIMERS.get(timer["name"]),
        timer_expires_s=seconds(timer["time"]),
        retransmits=number(timer["count"], 256),
    )


def seconds(text: str) -> float | None:
    """A time as print_ms_timer writes it: `119min`, `1min36sec`, `54sec`, `200ms`, and `1.234ms` for 1.234 s."""
    found = TIME.fullmatch(text)
    if found is None:
        return None
    total = 60.0 * int(found["min"] or 0) + int(found["sec"] or found["point"] or 0)
    return total + int(found["ms"] or 0) / 1000


def joined(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Rows with their continuation lines: further indented, and neither a row nor the rest of one."""
    held: list[str] = []
    began = indent = 0
    for at, line in lines:
        inner = line.lstrip()
        further = len(line) - len(inner) > indent
        if held and further and not BEGINS.search(line) and not TAIL.match(line):
            held.append(inner)
            continue
        if held:
            yield began, " ".join(held)
        held, began, indent = [line], at, len(line) - len(inner)
    if held:
        yield began, " ".join(held)


def complete(draft: Draft) -> None:
    """If any socket has a timer, -o was given: then a socket without one has no running timer."""
    if any(socket.timer is not None for socket in draft.sockets.values()):
        for key, socket in draft.sockets.items():
            if socket.timer is None and key != draft.open:
                draft.sockets[key] = replace(socket, timer=Timer.OFF, retransmits=0)


def filtered(draft: Draft, text: str) -> Iterator[str]:
    """Without -a there are no LISTEN, TIME-WAIT and SYN-RECV rows, so a socket that is not there may be in these."""
    if draft.listeners and not draft.sockets:
        yield "it shows listening sockets only, as ss -l does"
    elif not re.search(r"(?m)^[ \t]*(?:tcp\s+)?(?:LISTEN|TIME-WAIT|SYN-RECV)\b", text):
        yield "it shows no socket that only ss -a would list, so request sockets may be missing (ss -tan)"


def gaps(draft: Draft, _: str) -> Iterator[str]:
    """What the options left out."""
    sockets = list(draft.sockets.values())
    if sockets and all(socket.inode is None for socket in sockets):
        yield "no inodes, so connections that nobody has accepted look accepted (ss -tanoe)"
    if sockets and all(socket.cookie is None for socket in sockets):
        yield "no cookies, so a port that was used again looks like the same socket (ss -tanoe)"
    if sockets and all(socket.timer is None for socket in sockets):
        yield "no timers, so retransmissions do not show (ss -tanoe)"


STATES: dict[str, State] = {
    "ESTAB": State.ESTABLISHED,
    "SYN-SENT": State.SYN_SENT,
    "SYN-RECV": State.SYN_RECV,
    "NEW-SYN-RECV": State.SYN_RECV,
    "FIN-WAIT-1": State.FIN_WAIT1,
    "FIN-WAIT-2": State.FIN_WAIT2,
    "TIME-WAIT": State.TIME_WAIT,
    "UNCONN": State.CLOSE,
    "BOUND-INACTIVE": State.CLOSE,
    "CLOSE-WAIT": State.CLOSE_WAIT,
    "LAST-ACK": State.LAST_ACK,
    "LISTEN": State.LISTEN,
    "CLOSING": State.CLOSING,
}
TIMERS: dict[str, Timer] = {
    "off": Timer.OFF,
    "on": Timer.RETRANSMIT,
    "keepalive": Timer.KEEPALIVE,
    "timewait": Timer.TIMEWAIT,
    "persist": Timer.PROBE,
    "unknown": Timer.DELAYED_ACK,  # the fifth, which ss has no name for
}

OTHERS = frozenset(
    f"{family}_{socket_type}"
    for family in ("p", "u", "ti", "v")
    for socket_type in ("raw", "rd", "dg", "dgr", "st", "str", "sq", "seq")
) | {"nl", "raw", "udp", "icmp6", "mptcp", "sctp", "dccp", "xdp", "???"}
"""Sockets of other protocols than TCP, as ss names them (misc/ss.c, the callers of sock_state_print)."""

STATE = "|".join(STATES)
BEGINS = re.compile(rf"(?P<heading>Local\s+Address:Port\s+Peer)|(?:{STATE})\s+[\d*\[:]")
ROW = re.compile(
    rf"^\s*(?:(?P<netid>[a-z0-9_?]+)\s+)?(?P<state>{STATE})\s+(?:(?P<recv>\d+)\s+(?P<send>\d+)\s+)?"
    r"(?P<local>\S{0,100}[:*]\S{0,40})\s+(?P<peer>\S{1,200})(?P<rest>.*)$",
    re.DOTALL,
)
STATELESS = re.compile(r"^\s*\d+\s+\d+\s+\S{1,100}:\S{1,40}\s+\S{1,100}:\S{1,40}")
HEADING = re.compile(r"^\s*(?:Netid\s+)?(?:State\s+)?(?:Recv-Q\s*Send-Q\s*)?Local Address:Port")
# The longest name that fits: a name has up to 15 bytes (TASK_COMM_LEN) and may look like the rest of the field.
USERS = re.compile(r'users:\(\("(?P<name>.{0,15})",(?:pid=)?(?P<pid>\d{1,10}),(?:fd=)?\d{1,10}\)', re.DOTALL)
# All of the field, however many processes it names. Each is taken once, whatever the names look like.
NAMES = re.compile(r'users:\((?:\(".{0,15}"(?:,(?:[a-z_]+=)?[^,()"\s]{1,200}){2,4}\),?)++\)', re.DOTALL)
INODE = re.compile(r"(?:^|\s)ino:(\d{1,20})(?=\s|$)")
UID = re.compile(r"(?:^|[\s(])uid:(\d{1,10})(?=\s|$)")
COOKIE = re.compile(r"(?:^|\s)sk:([0-9a-fA-F]{1,16})(?=\s|$)")
TIMER = re.compile(r"timer:\((?P<name>[a-z]{1,12}),(?P<time>[^,)]{0,20}),(?P<count>\d{1,4})\)")
TIME = re.compile(r"(?:(?P<min>\d{1,9})min)?(?:(?P<sec>\d{1,9})sec|(?:(?P<point>\d{1,9})\.)?(?P<ms>\d{1,3})ms)?")

SS = TextFormat(
    "ss",
    Collector.SS,
    re.compile(
        rf"(?m)^[ \t]*(?:[a-z0-9_?]+\s+)?(?:{STATE})\s+\d+\s+\d+\s+\S*[:*]|"
        r"^[ \t]*(?:Netid\s+)?(?:State\s+)?Recv-Q\s*Send-Q\s+Local Address:Port"
    ),
    BEGINS,
    rows,
    joined,
    NAMES,
    gaps,
    filtered=filtered,
    complete=complete,
)
