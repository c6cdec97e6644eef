"""One conversation: the frames that it writes, and the network namespaces that it goes through."""

import os
import struct
import zlib
from _collections_abc import Iterable, Iterator

from halfopen.probe.head import AF_INET, FIELDS, Refused
from halfopen.probe.namespaces import Inside, namespaces
from halfopen.probe.netlink import NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, Netlink
from halfopen.probe.procfs import inode


class Session:
    """What one conversation knows. `netlink` asks our own namespace for sockets, None where the kernel refuses that."""

    def __init__(self, nonce: bytes, output: int) -> None:
        self.nonce, self.output = nonce, output
        self.sequence = 0
        self.links_of: dict[bytes, set[int]] = {}
        self.paths: dict[int, str] = {}
        self.netlink: Netlink | None = None
        try:
            netlink = Netlink(NETLINK_SOCK_DIAG)
            for _ in netlink.dump(SOCK_DIAG_BY_FAMILY, struct.pack("=BBBBI48s", AF_INET, 6, 0, 0, 1 << 7, b"")):
                pass
            self.netlink = netlink
        except Refused:
            pass  # then /proc/net/tcp is read, and HELLO says so

    def spaces(self) -> "Iterator[int]":
        """0, which is our own namespace, then the inodes of all others."""
        yield 0
        self.paths = namespaces()
        yield from sorted(self.paths)

    def enter(self, netns: int) -> Inside:
        """The way into a namespace, found anew if the process that led there is gone."""
        path = self.paths.get(netns)
        if netns and (path is None or inode(path) != netns):
            self.paths = namespaces()
            path = self.paths.get(netns)
            if path is None:
                raise Refused(2, "namespace")
        return Inside(netns, path or "")

    def diag(self, netns: int) -> "Netlink | None":
        """A netlink socket of the namespace that we are in, None where the kernel refuses them."""
        return self.netlink if netns == 0 or not self.netlink else Netlink(NETLINK_SOCK_DIAG)

    def frame(self, kind: int, payload: bytes) -> None:
        head = struct.pack(">BII", kind, self.sequence, len(payload))
        checksum = zlib.crc32(payload, zlib.crc32(head)) & 0xFFFFFFFF
        self.sequence += 1
        data = memoryview(self.nonce + head + struct.pack(">I", checksum) + payload)
        while data:
            data = data[os.write(self.output, data) :]

    def fields(self, pairs: "Iterable[tuple[str, bytes]]") -> int:
        """Names and byte strings, each behind its length, compressed. Gives the number of them."""
        parts = []
        for name, value in pairs:
            parts.append(struct.pack(">BI", len(name), len(value)) + name.encode() + value)
        self.frame(FIELDS, zlib.compress(b"".join(parts), 1))
        return len(parts)
