"""Text of `lsof -nP -iTCP`, its columns or its -F fields -> sockets.

lsof walks the descriptors of processes. What has no descriptor it cannot show: connections in an accept queue, request
sockets, orphans, TIME_WAIT; and to an ordinary user it shows only his own. So a socket that is not there may be in one
of these states, and its absence proves nothing, ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from halfopen.evidence.text.draft import Draft
from halfopen.evidence.text.forms import TextFormat
from halfopen.evidence.text.netstat import state_of
from halfopen.evidence.text.rows import ANY4, ANY6, Row, end_of, endpoint, number
from halfopen.model import Collector, ListenSocket, Process, Socket


def column_row(line: str) -> Row | None:
    """`sshd 812 root 3u IPv4 1461 0t0 TCP 10.0.0.1:22->10.0.0.2:40000 (ESTABLISHED)`"""
    if HEADING.match(line):
        return None
    found = COLUMNS.match(line)
    if found is None:
        if OTHER.search(line):
            return Row(None)
        raise ValueError("not a line of lsof")
    end = socket_of(found["type"], found["name"], found["state"])
    if end is not None and found["device"].isdigit():  # the inode on Linux, an address of the kernel elsewhere
        end = replace(end, inode=number(found["device"]))
    # A process may hold a socket twice, and several one socket, but a descriptor is listed once.
    return Row(end, Process(int(found["pid"]), found["command"]), line[: found.start("type")])


def fields(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """-F output, one field a line -> one line a descriptor: its fields and its process's, with tabs between.

    The first letter of a line names the field. lsof escapes unprintable characters of a name, tabs included.
    """
    process: list[str] = []
    descriptor: list[str] = []
    began = 0
    for at, line in lines:
        letter = line[:1]
        if letter in "pf" and descriptor:
            yield began, "\t".join((*process, *descriptor))
            descriptor = []
        if letter == "p":
            process = [line]
        elif letter == "f":
            began, descriptor = at, [line]
        elif descriptor and len(descriptor) < FIELDS:
            descriptor.append(line.replace("\t", " "))
        elif not descriptor and letter in "cguLRZK" and len(process) < FIELDS and len(line) < LONGEST:
            process.append(line.replace("\t", " "))
        else:
            yield at, line
    if descriptor:
        yield began, "\t".join((*process, *descriptor))


def field_row(line: str) -> Row | None:
    """One descriptor, as `fields` hands it on."""
    words = line.split("\t")
    if not words[0].startswith("p") or number(words[0][1:], 1 << 32) is None:
        raise ValueError("not a field of lsof -F, or a field without a process before it")
    if not all(FIELD.fullmatch(word) for word in words):
        raise ValueError("one of its lines is not exactly one field of lsof -F")
    names = [word[:3] if word.startswith("T") else word[:1] for word in words if word]
    if len(set(names)) < len(names):
        raise ValueError("a field of lsof -F is repeated")
    found = {word[:3] if word.startswith("T") else word[:1]: word for word in words if word}
    if found.get("t", "")[1:] not in ("IPv4", "IPv6") or found.get("P") != "PTCP":
        return Row(None)
    if "n" not in found:
        raise ValueError("a socket without a name")
    state = found.get("TST", "TST=")[4:]
    end = socket_of(found["t"][1:], found["n"][1:], state or None)
    inode = number(found.get("d", "")[1:])
    queues = [number(found.get(name, "")[4:], 1 << 32) for name in ("TQR", "TQS")]
    if end is not None and inode is not None:
        end = replace(end, inode=inode)
    if isinstance(end, Socket):
        end = replace(end, recv_q=queues[0], send_q=queues[1])
    if isinstance(end, ListenSocket):
        end = replace(end, queue=queues[0], uid=number(found.get("u", "")[1:], 1 << 32))
    name = "\t".join(word for word in words if word[:1] in "pKf")
    return Row(end, Process(int(words[0][1:]), found.get("c", "c")[1:]), name)


def socket_of(ip_version: str, name: str, state: str | None) -> Socket | ListenSocket | None:
    """`IPv4` or `IPv6`, `10.0.0.1:22->10.0.0.2:40000` and its state -> the socket; None if it is neither end."""
    local, arrow, peer = name.partition("->")
    any_of = ANY4 if ip_version == "IPv4" else ANY6
    family = 2 if ip_version == "IPv4" else 10
    if state is None:
        if arrow:
            raise ValueError("a connection without a state; lsof -T shows none")
        return None
    there = endpoint(peer, ":", any_of) if arrow else (any_of, 0)
    if not arrow and ":" not in local:
        return None
    return end_of(state_of(state), endpoint(local, ":", any_of), there, family)


def holes(_: Draft, __: str) -> Iterator[str]:
    """lsof never shows sockets without a descriptor, so absence proves nothing."""
    yield (
        "lsof shows only what a process holds, and to an ordinary user only his own: no accept queues, request "
        "sockets, orphans or TIME_WAIT, so a connection that it does not show may be there all the same"
    )


HEADING = re.compile(r"^\s*COMMAND\s+PID\s|^lsof: (?:WARNING|no pwd entry)|^\s+Output information may be incomplete")
COLUMNS = re.compile(
    r"^\s{0,20}(?P<command>\S{1,64})\s+(?P<pid>\d{1,10})\s.*?\s(?P<type>IPv[46])\s+(?P<device>\S+)\s+(?:\S+\s+)?TCP\s+"
    r"(?P<name>\S+)(?:\s+\((?P<state>[A-Z][A-Z_0-9]*)\))?(?:\s+\(.*)?\s*$"
)
OTHER = re.compile(r"^\s{0,20}\S+\s+\d+\s.*\s(?:UDP|UDPLITE|ICMP|SCTP)\s|\s(?:sock|REG|DIR|CHR|unix|FIFO|a_inode)\s")

FIELD = re.compile(r"f(?:\d{1,10}|[a-zA-Z-]{2,5}|\?)|t(?:IPv[46]|(?!IPv[46]).*)|P(?:TCP|(?!TCP).*)|(?![ftP])[a-zA-Z].*")
FIELDS, LONGEST = 32, 1000  # lines of a process or a descriptor, characters of a line of a process

LSOF = TextFormat(
    "lsof",
    Collector.LSOF,
    re.compile(
        r"(?m)^[ \t]{0,20}\S+\s+\d+\s.*\sIPv[46]\s+\S+\s+(?:\S+\s+)?TCP\s+\S{1,100}:\S{1,40}"
        r"|^[ \t]{0,20}COMMAND\s+PID\s.*\bNODE\s+NAME"
    ),
    re.compile(
        r"(?P<heading>COMMAND\s+PID\s)|\s(?:IPv[46]\s+\S+\s+(?:\S+\s+)?(?:TCP|UDP)|sock|REG|DIR|CHR|unix|FIFO|a_inode)\s"
    ),
    lambda _: column_row,
    holes=holes,
)
LSOF_FIELDS = TextFormat(
    "lsof -F",
    Collector.LSOF,
    re.compile(r"(?m)^p\d{1,10}\r?\n(?:[a-zA-Z].*\n){0,8}f\d"),
    re.compile(r"(?!)"),  # a row is many lines here, and two fields on a line are refused
    lambda _: field_row,
    fields,
    holes=holes,
)
