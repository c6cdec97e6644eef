"""Who holds a socket."""

import os
import struct

from halfopen.probe.procfs import listed, read_file
from halfopen.probe.session import Session


def owners(session: Session, payload: bytes) -> int:
    """The answer to OWNERS: inodes of sockets (8 bytes each) -> the first process by pid that holds each, FIELDS.

    Field `owner`: inode, pid, lengths, and the facts of the process. Walks the descriptors of all processes, until all
    are found. Processes of others are closed to an ordinary user: the field `unreadable` counts them.
    """
    missing, found, unreadable = set(struct.unpack(f">{len(payload) // 8}Q", payload)), [], 0
    for pid in sorted(int(name) for name in listed("/proc/") if name.isdigit()):
        if not missing:
            break
        folder = f"/proc/{pid}/"
        try:
            descriptors = os.listdir(folder + "fd")
        except OSError as error:
            unreadable += error.errno == 13
            continue
        said: list[bytes] = []
        for descriptor in descriptors:
            try:
                target = os.readlink(folder + "fd/" + descriptor)
            except OSError:
                continue
            if not target.startswith("socket:[") or int(target[8:-1]) not in missing:
                continue
            said = said or facts(pid)
            held = int(target[8:-1])
            missing.discard(held)
            head = struct.pack(">QI", held, pid) + struct.pack(">HHHH", *map(len, said))
            found.append(("owner", head + b"".join(said)))
    return session.fields([*found, ("unreadable", b"%d" % unreadable)])


def facts(pid: int) -> "list[bytes]":
    """What a process says of itself: name, command line, control group, state and age; empty where it has gone."""
    said = [read_file(f"/proc/{pid}/{name}", 2048) or b"" for name in ("comm", "cmdline", "cgroup")]
    return [*said, b" ".join(state_and_age(pid))]


def state_and_age(pid: int) -> "list[bytes]":
    """The state of a process, a letter, and the seconds since it began (proc(5)); less where that is not to be had."""
    stat = (read_file(f"/proc/{pid}/stat", 2048) or b"").rpartition(b")")[2].split()
    uptime = (read_file("/proc/uptime", 64) or b"").split()
    if len(stat) < 20 or not uptime:
        return stat[:1]
    age = float(uptime[0]) - int(stat[19]) / os.sysconf("SC_CLK_TCK")
    return [stat[0], b"%d" % age] if age >= 0 else [stat[0]]  # one in another time namespace tells another clock


def age_of_namespace(netns: int, path: str) -> "bytes | None":
    """The least age of a network namespace in seconds: that of its first process; None if that is not to be seen.

    `path`: how a process leads to it, empty for our own.
    """
    pids = [path.split("/")[2]] if path.startswith("/proc/") else []
    if not path:
        pids = sorted((name for name in listed("/proc/") if name.isdigit()), key=int)
    for pid in pids:
        try:
            found = os.stat("/proc/" + pid + "/ns/net").st_ino
        except OSError as error:
            if error.errno == 2:
                continue  # it has ended
            return None  # which may be the first one
        if found == netns:
            return b"".join(state_and_age(int(pid))[1:]) or None
    return None
