"""What `count` asks: every TCP socket of our namespace, and which processes hold sockets.

This is the only code that walks the descriptors of all processes without being told what to look for, once, because
the user asked who holds what. Which socket is whose, and what makes a row of the report, is found by the receiver.
"""

import os
import struct
from _collections_abc import Iterable

from halfopen.probe.dump import diag_dumps, send_blocks, send_tables
from halfopen.probe.processes import facts
from halfopen.probe.procfs import listed, read_file
from halfopen.probe.serve import ANSWERS
from halfopen.probe.session import Session

HOLDERS, PROCESSES = 20, 22
EPHEMERAL = "/proc/sys/net/ipv4/ip_local_port_range"
UID, INODE = 20, 21  # words of a row


def holders(session: Session, payload: bytes) -> int:
    """The answer to HOLDERS: FIELDS, then the sockets as DUMP sends them, with user and inode as further columns.

    Asked: a pid (4 bytes, 0 for all), then ports. Field `held`: a pid and the inodes of its sockets, one for each
    descriptor. The walk over descriptors comes first.
    """
    pid = struct.unpack_from(">I", payload)[0]
    ports = struct.unpack_from(f">{(len(payload) - 4) // 2}H", payload, 4)
    if pid and not os.path.isdir(f"/proc/{pid}"):
        session.fields([("no-such-process", b"")])
        return 0
    asked = [pid] if pid else running()
    elsewhere = network_namespaces(asked)[0] - network_namespaces(["self"])[0]
    found, unreadable = [], 0
    for one in asked:
        try:
            inodes = sockets_of(one)
        except OSError as error:
            unreadable += error.errno in (1, 13)
            continue
        if inodes:
            found.append(("held", struct.pack(f">I{len(inodes)}Q", one, *inodes)))
    found.append(("unreadable", b"%d" % unreadable))
    found.append(("elsewhere", b"%d" % len(elsewhere)))
    found.append(("ephemeral", read_file(EPHEMERAL, 64) or b""))
    session.fields(found)
    if session.netlink:
        return send_blocks(session, diag_dumps(session.netlink, ports), False, (UID, INODE))
    return send_tables(session)


def sockets_of(pid: int) -> "list[int]":
    """Inodes of the sockets that a process holds, one for each descriptor; one that closes meanwhile is none."""
    found = []
    folder = f"/proc/{pid}/fd/"
    for descriptor in os.listdir(folder):
        try:
            target = os.readlink(folder + descriptor)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.append(int(target[8:-1]))
    return found


def processes(session: Session, payload: bytes) -> int:
    """The answer to PROCESSES: pids (4 bytes each) -> a field `process` for each: pid, lengths, and its facts."""
    found = []
    for pid in struct.unpack(f">{len(payload) // 4}I", payload):
        said = facts(pid)
        found.append(("process", struct.pack(">IHHHH", pid, *map(len, said)) + b"".join(said)))
    return session.fields(found)


def network_namespaces(pids: "Iterable[int | str]") -> "tuple[set[int], int]":
    """Inodes of the network namespaces of processes, and how many processes do not show theirs."""
    spaces, hidden = set(), 0
    for pid in pids:
        try:
            spaces.add(os.stat(f"/proc/{pid}/ns/net").st_ino)
        except OSError as error:
            hidden += error.errno in (1, 13)
    return spaces, hidden


def running() -> "list[int]":
    """Pids of all processes that are to be seen here."""
    return sorted(int(name) for name in listed("/proc/") if name.isdigit())


ANSWERS.update({HOLDERS: holders, PROCESSES: processes})
