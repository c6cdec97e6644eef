"""Who holds a socket."""

import os
import struct

from halfopen.probe.procfs import listed, read_file
from halfopen.probe.session import Session


def owners(session: Session, payload: bytes) -> int:
    """The answer to OWNERS: inodes of sockets (8 bytes each) -> the first process by pid that holds each, FIELDS.

    Field `owner`: inode, pid, lengths, and comm, cmdline and cgroup. Walks the descriptors of all processes, until all
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
            head = struct.pack(">QI", held, pid) + struct.pack(">HHH", *map(len, said))
            found.append(("owner", head + b"".join(said)))
    return session.fields([*found, ("unreadable", b"%d" % unreadable)])


def facts(pid: int) -> "list[bytes]":
    """What a process says of itself: name, command line and control group, empty where it has gone."""
    return [read_file(f"/proc/{pid}/{name}", 2048) or b"" for name in ("comm", "cmdline", "cgroup")]
