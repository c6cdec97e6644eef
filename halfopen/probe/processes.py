"""Who holds a socket."""

import os
import struct

from halfopen.probe.procfs import listed, read_file
from halfopen.probe.session import Session


def owners(session: Session, payload: bytes) -> int:
    """The answer to OWNERS: inodes of sockets (8 bytes each) -> the first process by pid that holds each, FIELDS.

    Field `owner`: inode, pid, lengths, and the facts of the process. Processes of others are closed to an ordinary
    user: the field `unreadable` counts them.
    """
    found, unreadable = descriptors(set(struct.unpack(f">{len(payload) // 8}Q", payload)))
    return session.fields([*owner_fields(found), ("unreadable", b"%d" % unreadable)])


def descriptors(missing: "set[int]") -> "tuple[dict[int, tuple[int, int]], int]":
    """Inodes of sockets -> inode: the first pid that holds it, and its descriptor; how many processes are closed to us.

    Walks the descriptors of all processes, until all are found, and takes those out of `missing`.
    """
    found: dict[int, tuple[int, int]] = {}
    unreadable = 0
    for pid in sorted(int(name) for name in listed("/proc/") if name.isdigit()):
        if not missing:
            break
        folder = f"/proc/{pid}/fd/"
        try:
            names = os.listdir(folder)
        except OSError as error:
            unreadable += error.errno == 13
            continue
        for name in names:
            try:
                target = os.readlink(folder + name)
            except OSError:
                continue
            if target.startswith("socket:[") and int(target[8:-1]) in missing:
                missing.discard(int(target[8:-1]))
                found[int(target[8:-1])] = pid, int(name)
    return found, unreadable


def owner_fields(found: "dict[int, tuple[int, int]]") -> "list[tuple[str, bytes]]":
    """What `descriptors` found -> fields `owner`: inode, pid, lengths, and the facts of the process."""
    said = {pid: facts(pid) for pid in {pid for pid, _ in found.values()}}
    return [
        ("owner", struct.pack(">QIHHHH", held, pid, *map(len, said[pid])) + b"".join(said[pid]))
        for held, (pid, _) in found.items()
    ]


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
