"""Files of /proc: read within bounds, and sent as they are where the receiver can parse them as well."""

import os
from _collections_abc import Iterator

from halfopen.probe.head import AF_INET, AF_INET6, Refused

TEXT_CHUNK = 1 << 18  # bytes of a socket table in one frame


def read_file(path: str, limit: int = 1 << 20) -> "bytes | None":
    """Up to `limit` bytes of a file, None where it is not to be had."""
    try:
        with open(path, "rb", 0) as file:
            parts = []
            while limit > 0:
                part = file.read(min(limit, 1 << 18))
                if not part:
                    break
                parts.append(part)
                limit -= len(part)
            return b"".join(parts)
    except OSError:
        return None


def listed(folder: str) -> "list[str]":
    """Names in a folder, none where it is not to be had."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def inode(path: str) -> int:
    """The inode that a path leads to, 0 if it leads nowhere: of /proc/self/ns/net, the name of our namespace."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def tables() -> "Iterator[tuple[int, bytes]]":
    """Text of /proc/net/tcp and /proc/net/tcp6 in chunks, each with its family."""
    for family, path in ((AF_INET, "/proc/net/tcp"), (AF_INET6, "/proc/net/tcp6")):
        try:
            with open(path, "rb", 1 << 16) as file:
                chunk = file.read(TEXT_CHUNK)
                while chunk:
                    yield family, chunk
                    chunk = file.read(TEXT_CHUNK)
        except OSError as error:
            if family == AF_INET or error.errno != 2:  # ENOENT: a kernel without IPv6
                raise Refused(error.errno or 0, path) from error


def has_sockets() -> bool:
    """Whether the namespace that we are in may have TCP sockets beyond TIME_WAIT, without walking the socket table.

    Only what says that there are none counts as none: these files may not be readable, or not be there.
    """
    for path, name in (("/proc/net/sockstat", b"TCP:"), ("/proc/net/sockstat6", b"TCP6:")):
        lines = (read_file(path, 4096) or b"").split(b"\n")
        if [name, b"inuse", b"0"] not in [line.split()[:3] for line in lines]:
            return True
    return False
