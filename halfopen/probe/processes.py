"""Who holds a socket."""

import os
import struct

from halfopen.probe.procfs import listed, read_file
from halfopen.probe.session import Session


def owners(session: Session, payload: bytes) -> int:
    """The answer to OWNERS: inodes of sockets (8 bytes each) -> the first process by pid that holds each, FIELDS.

    Processes of others are closed to an ordinary user: the field `unreadable` counts them.
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
    """What `descriptors` found -> fields `owner`: inode, pid, lengths, and comm, cmdline and cgroup."""
    said = {pid: facts(pid) for pid in {pid for pid, _ in found.values()}}
    return [
        ("owner", struct.pack(">QIHHH", held, pid, *map(len, said[pid])) + b"".join(said[pid]))
        for held, (pid, _) in found.items()
    ]


def facts(pid: int) -> "list[bytes]":
    """What a process says of itself: name, command line and control group, empty where it has gone."""
    return [read_file(f"/proc/{pid}/{name}", 2048) or b"" for name in ("comm", "cmdline", "cgroup")]
