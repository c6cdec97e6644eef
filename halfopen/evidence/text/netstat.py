"""Text of `netstat` -> sockets: Linux (net-tools and BusyBox), the BSDs and macOS, Windows, illumos and Solaris.

They differ in how they join address and port, in columns and in the spelling of states, so each is a form of its own;
what they share is that a socket has neither cookie nor, but for net-tools with -e, an inode.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from msgspec.structs import replace

from halfopen.evidence.text.draft import Draft
from halfopen.evidence.text.forms import TextFormat
from halfopen.evidence.text.rows import ANY4, ANY6, Row, end_of, endpoint, number
from halfopen.model import Collector, ListenSocket, Process, Socket
from halfopen.tcp import State, Timer


def linux_rows(text: str) -> Callable[[str], Row | None]:
    """The reader of this text's lines: an address that is wider than the column shows that none was cut."""
    wide = any(len(word) > CUT_AT and word.count(":") > 1 for word in text.split())
    return partial(linux_row, cut_at=None if wide else CUT_AT)


def linux_row(line: str, cut_at: int | None) -> Row | None:
    """net-tools and BusyBox: `tcp 0 0 10.0.0.1:22 10.0.0.2:40000 ESTABLISHED`, then the columns of -e, -p and -o."""
    if LINUX_HEADING.match(line) or OTHER_PROTOCOL.match(line):
        return None
    found = LINUX_ROW.match(line)
    if found is None:
        raise ValueError("not a line of netstat")
    wide = found["proto"] == "tcp6" or found["local"].count(":") > 1
    for text in (found["local"], found["peer"]):
        if len(text) == cut_at and text.count(":") > 1:
            raise ValueError(f"{text} is as long as the column, so it may be cut: netstat -W prints it whole")
    any_of = ANY6 if wide else ANY4
    local, peer = endpoint(found["local"], ":", any_of), endpoint(found["peer"], ":", any_of)
    end = end_of(state_of(found["state"]), local, peer, 10 if wide else 2, *queues(found["recv"], found["send"]))
    if end is None:
        return Row(None)
    if isinstance(end, ListenSocket):
        end = replace(end, backlog=None)  # a LISTEN row's Send-Q is 0, whatever the backlog
    rest = LINUX_REST.fullmatch(" ".join(found["rest"].split()))
    if rest is None:
        raise ValueError("what follows the state is not a column of netstat")
    if rest["inode"]:
        end = replace(end, uid=number(rest["user"], 1 << 32), inode=number(rest["inode"]))
    if isinstance(end, Socket) and rest["timer"]:
        timer = LINUX_TIMERS.get(rest["timer"])
        running = timer is not Timer.OFF
        # The last number counts probes that the peer has not answered, the one before retransmissions.
        count = rest["probes"] if timer in (Timer.KEEPALIVE, Timer.PROBE) else rest["retransmits"]
        expires = float(rest["time"]) if running else None
        end = replace(end, timer=timer, timer_expires_s=expires, retransmits=number(count, 256))
    who = Process(int(rest["pid"]), rest["name"].strip()) if rest["pid"] else None
    return Row(end, who)


def bsd_rows(text: str) -> Callable[[str], Row | None]:
    """The reader of this text's lines: an address that is wider than the column shows that none was cut."""
    hosts = (word.rpartition(".")[0] for word in text.split() if word.count(":") > 1)
    wide = any(len(host) > BSD_CUT_AT for host in hosts)
    return partial(bsd_row, cut_at=None if wide else BSD_CUT_AT)


def bsd_row(line: str, cut_at: int | None) -> Row | None:
    """FreeBSD, macOS and their kin: `tcp4 0 0 10.0.0.1.22 10.0.0.2.40000 ESTABLISHED`."""
    if BSD_HEADING.match(line) or OTHER_PROTOCOL.match(line):
        return None
    found = BSD_ROW.match(line)
    if found is None:
        raise ValueError("not a line of netstat")
    four = found["proto"] == "tcp4"
    for text in (found["local"], found["peer"]):
        if len(text.rpartition(".")[0]) == cut_at and text.count(":") > 1:
            raise ValueError(f"{text} is as long as the column, so it may be cut: netstat -W prints it whole")
    any_of = ANY4 if four else ANY6
    local, peer = endpoint(found["local"], ".", any_of), endpoint(found["peer"], ".", any_of)
    family = 2 if four or (found["proto"] == "tcp" and len(local[0]) == 4) else 10
    if found["state"] is None and peer[1]:
        raise ValueError("it has no state, so its end may be cut")
    end = end_of(state_of(found["state"] or "CLOSED"), local, peer, family, *queues(found["recv"], found["send"]))
    if isinstance(end, ListenSocket):
        end = replace(end, queue=None, backlog=None)  # netstat -L shows them there, these columns do not
    return Row(end)


def windows_row(line: str) -> Row | None:
    """Windows: `TCP 10.0.0.1:22 10.0.0.2:40000 ESTABLISHED 1234`; with -b a line below has the program in brackets."""
    if WINDOWS_HEADING.match(line) or WINDOWS_OTHER.match(line):
        return None
    found = WINDOWS_ROW.match(line)
    if found is None:
        raise ValueError("not a line of netstat")
    local, peer = endpoint(found["local"], ":", ANY6), endpoint(found["peer"], ":", ANY6)
    end = end_of(state_of(found["state"]), local, peer, 10 if found["local"].startswith("[") else 2)
    pid = number(found["pid"], 1 << 32)
    # 0 is the idle process, which is what a socket that outlived its process is said to belong to.
    return Row(end, Process(pid, found["program"] or "") if pid else None)


def with_programs(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Windows rows with the program that -b prints on a line below them."""
    held: list[str] = []
    began = 0
    for at, line in lines:
        if held and WINDOWS_PROGRAM.match(line):
            held.append(line.strip())
            continue
        if held:
            yield began, " ".join(held)
        held, began = [line], at
    if held:
        yield began, " ".join(held)


def illumos_row(line: str) -> Row | None:
    """illumos and Solaris: local, remote, window and queue of each direction, state; no protocol in the row."""
    if ILLUMOS_HEADING.match(line):
        return None
    found = ILLUMOS_ROW.match(line)
    if found is None:
        if ILLUMOS_OTHER.match(line):
            return None
        raise ValueError("not a line of netstat")
    any_of = ANY6 if ":" in found["local"] + found["peer"] else ANY4
    local, peer = endpoint(found["local"], ".", any_of), endpoint(found["peer"], ".", any_of)
    family = 10 if ":" in found["local"] else 2
    end = end_of(state_of(found["state"]), local, peer, family, *queues(found["recv"], found["send"]))
    if isinstance(end, ListenSocket):
        end = replace(end, queue=None, backlog=None)
    return Row(end, Process(int(found["pid"]), found["program"]) if found["pid"] else None)


def state_of(text: str) -> State:
    """A state as any netstat or lsof writes it -> State. ValueError for another word."""
    found = STATES.get(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a valid TCP state; netstat writes states in the language of its user")
    return found


def queues(recv: str, send: str) -> tuple[int | None, int | None]:
    """The columns of both queues -> bytes; None for what is not a number."""
    return number(recv, 1 << 32), number(send, 1 << 32)


def only_part(draft: Draft, text: str) -> Iterator[str]:
    """Without -a a netstat lists no listener; with -l nothing else."""
    if "(only servers)" in text or (draft.listeners and not draft.sockets):
        yield "it shows listening sockets only"
    elif not draft.listeners and "w/o servers" not in text:
        yield "it shows no listening socket, so it may be a part of what netstat -an lists"


def nothing_more(_: Draft, __: str) -> Iterator[str]:
    """What only netstat of net-tools shows."""
    yield "netstat has no cookies, inodes or timers: a reused port, or a connection never accepted, does not show"


def linux_gaps(draft: Draft, _: str) -> Iterator[str]:
    """What the options left out."""
    yield "netstat has no cookies, so a port that was used again looks like the same socket"
    sockets = draft.sockets.values()
    if sockets and all(socket.inode is None for socket in sockets):
        yield "no inodes, so connections that nobody has accepted look accepted (netstat -tane, of net-tools)"
    if sockets and all(socket.timer is None for socket in sockets):
        yield "no timers, so retransmissions do not show (netstat -tano, of net-tools)"


STATES: dict[str, State] = {
    **{state.value: state for state in State},
    "SYN_RCVD": State.SYN_RECV,
    "SYN_RECEIVED": State.SYN_RECV,
    "FIN_WAIT_1": State.FIN_WAIT1,
    "FIN_WAIT_2": State.FIN_WAIT2,
    "CLOSED": State.CLOSE,
    "IDLE": State.CLOSE,
    "BOUND": State.CLOSE,
    "DELETE_TCB": State.CLOSE,
    "LISTENING": State.LISTEN,
}
LINUX_TIMERS: dict[str, Timer] = {
    "off": Timer.OFF,
    "on": Timer.RETRANSMIT,
    "keepalive": Timer.KEEPALIVE,
    "timewait": Timer.TIMEWAIT,
    "probe": Timer.PROBE,
}
CUT_AT = 23  # columns of an address and port in net-tools without -W (netstat.c addr_do_one)
BSD_CUT_AT = 16  # of an address, without its port, in FreeBSD and macOS without -W (netstat/inet6.c inet6print)

LINUX_ROW = re.compile(
    r"^\s*(?P<proto>tcp6?)\s+(?P<recv>\d+)\s+(?P<send>\d+)\s+(?P<local>\S{1,100}:\S{1,40})\s+(?P<peer>\S{1,100}:\S{1,40})"
    r"\s+(?P<state>[A-Z][A-Z_0-9]+)(?P<rest>(?:\s.*)?)$",
    re.DOTALL,
)
LINUX_REST = re.compile(
    r"\s*(?:(?P<user>\S{1,32})\s+(?P<inode>\d{1,20})(?=\s|$))?\s*(?:-(?=\s|$)|(?P<pid>\d{1,10})/(?P<name>.{1,40}?))?\s*"
    r"(?:(?P<timer>off|on|keepalive|timewait|probe|unkn-\d{1,3}) "
    r"\((?P<time>\d{1,12}\.\d\d)/(?P<retransmits>\d{1,10})/(?P<probes>\d{1,10})\))?\s*",
    re.DOTALL,
)
LINUX_HEADING = re.compile(
    r"^\s*(?:Active (?:Internet connections|UNIX domain sockets)|Proto\s+(?:Recv-Q\s+Send-Q|RefCnt)\s|"
    r"\(Not all processes could be identified| ?will not be shown, you would have to be root)"
)
OTHER_PROTOCOL = re.compile(
    r"^\s*(?:udp|raw|icm|unix|sctp|kctl|mptcp|div|ip6?\s|[0-9a-f]{8,16}\s+(?:stream|dgram|seqpac))"
)
LINUX = TextFormat(
    "netstat of Linux",
    Collector.NETSTAT,
    re.compile(
        r"(?m)^[ \t]*tcp6?\s+\d+\s+\d+\s+\S{1,100}:(?:[\w-]{1,40}|\*)\s+\S{1,100}:(?:[\w-]{1,40}|\*)(?:\s|$)|"
        r"^[ \t]*Proto\s+Recv-Q\s+Send-Q\s+Local Address\s+Foreign Address\s+State"
    ),
    re.compile(
        r"(?P<heading>Active Internet connections|Proto\s+Recv-Q\s+Send-Q\s+Local Address)|"
        r"(?:tcp|udp|raw|udplite|sctp)6?\s+\d+\s+\d+\s|unix\s+\d+\s+\["
    ),
    linux_rows,
    gaps=linux_gaps,
    filtered=only_part,
)

BSD_ROW = re.compile(
    r"^\s*(?P<proto>tcp(?:4|6|46)?)\s+(?P<recv>\d+)\s+(?P<send>\d+)\s+(?P<local>\S{1,100}\.(?:\d{1,6}|\*))"
    r"\s+(?P<peer>\S{1,100}\.(?:\d{1,6}|\*))(?:\s+(?P<state>[A-Z][A-Z_0-9]+))?(?:\s.*)?$"
)
BSD_HEADING = re.compile(
    r"^\s*(?:Active (?:Internet|LOCAL|UNIX|kernel|Multipath|IPv[46])|Proto\s|Address\s+Type|Registered kernel|"
    r"id\s+flags|Socket\s+Type|kctl|kevt|systm)"
)
BSD = TextFormat(
    "netstat of a BSD or macOS",
    Collector.NETSTAT,
    re.compile(
        r"(?m)^[ \t]*tcp(?:4|6|46)?\s+\d+\s+\d+\s+\S{1,100}\.(?:\d{1,6}|\*)\s+\S{1,100}\.(?:\d{1,6}|\*)(?:\s|$)|"
        r"^[ \t]*Proto\s+Recv-Q\s+Send-Q\s+Local Address\s+Foreign Address\s+\(state\)"
    ),
    re.compile(
        r"(?P<heading>Active Internet connections|Proto\s+Recv-Q\s+Send-Q\s+Local Address)|"
        r"(?:tcp|udp|icm|ip|div)(?:4|6|46)?\s+\d+\s+\d+\s"
    ),
    bsd_rows,
    gaps=nothing_more,
    filtered=only_part,
)

WINDOWS_ROW = re.compile(
    r"^\s*TCP\s+(?P<local>\S{1,100}:\d{1,6})\s+(?P<peer>\S{1,100}:\d{1,6})\s+(?P<state>[^\s\d]\S*)(?:\s+(?P<pid>\d{1,10}))?"
    r"(?:\s+(?:InHost|Offload\w*))?(?:\s++.*?\[(?P<program>[^\[\]]{1,80})\]|\s+\D.*)?\s*$"
)
WINDOWS_HEADING = re.compile(r"^\s*(?:Active Connections|Proto\s+Local Address)")
WINDOWS_OTHER = re.compile(r"^\s*UDP\s")
WINDOWS_PROGRAM = re.compile(
    r"^\s+(?!TCP|UDP)(?:\[[^\[\]]{1,80}\]|[A-Za-z]\w{0,40}|Can not obtain ownership information)\s*$"
)
WINDOWS = TextFormat(
    "netstat of Windows",
    Collector.NETSTAT,
    re.compile(
        r"(?m)^[ \t]*TCP\s+\S{1,100}:\d{1,6}\s+\S{1,100}:\d{1,6}\s+[^\s\d]|"
        r"^[ \t]*Proto\s+Local Address\s+Foreign Address\s+State"
    ),
    re.compile(r"(?P<heading>Active Connections|Proto\s+Local Address)|(?:TCP|UDP)\s+\S{1,100}:[\d*]"),
    lambda _: windows_row,
    with_programs,
    gaps=nothing_more,
    filtered=only_part,
)

ILLUMOS_ROW = re.compile(
    r"^\s*(?P<local>\S{1,100}\.(?:\d{1,6}|\*))\s+(?P<peer>\S{1,100}\.(?:\d{1,6}|\*))\s+"
    r"(?:\S+\s+(?P<pid>\d{1,10})\s+(?P<program>\S+)\s+)?\d+\s+(?P<send>\d+)\s+\d+\s+(?P<recv>\d+)"
    r"\s+(?P<state>[A-Z][A-Z_0-9]+)(?:\s.*)?$"
)
ILLUMOS_HEADING = re.compile(
    r"^\s*(?:(?:TCP|UDP|SCTP): IPv[46]|TCP$|UDP$|SCTP:|Local Address\s+Remote Address|Active UNIX|Address\s+Type|"
    r"[- ]+$)"
)
ILLUMOS_OTHER = re.compile(
    r"^\s*\S{1,100}\.(?:\d{1,6}|\*)(?:\s+\S{1,100}\.(?:\d{1,6}|\*))?\s+(?:Idle|Unbound|Connected)|^[0-9a-f]{8,16}\s+\w+"
)
ILLUMOS = TextFormat(
    "netstat of illumos or Solaris",
    Collector.NETSTAT,
    re.compile(
        r"(?m)^[ \t]*\S{1,100}\.(?:\d{1,6}|\*)\s+\S{1,100}\.(?:\d{1,6}|\*)\s+(?:\S+\s+\d+\s+\S+\s+)?"
        r"\d+\s+\d+\s+\d+\s+\d+\s+[A-Z]|"
        r"^[ \t]*Local Address\s+Remote Address\s+(?:User\s+Pid\s+Command\s+)?Swind\s+Send-Q\s+Rwind\s+Recv-Q"
    ),
    re.compile(
        r"(?P<heading>TCP: IPv[46]|Local Address\s+Remote Address\s.*Swind)|"
        r"(?<!\S)\S{1,100}\.(?:\d{1,6}|\*)\s+\S{1,100}\.(?:\d{1,6}|\*)\s"
    ),
    lambda _: illumos_row,
    gaps=nothing_more,
    filtered=only_part,
)
