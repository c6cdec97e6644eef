"""Questions to the kernel by netlink: one request at a time, and the messages and attributes of its answers."""

import _socket
import struct
from _collections_abc import Iterator

from halfopen.probe.head import Refused

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
TCPDIAG_GETSOCK, SOCK_DIAG_BY_FAMILY = 18, 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300

BUFFER = bytearray(1 << 17)  # of all netlink sockets: only one of them is in use at a time


class Netlink:
    """A netlink socket that sends one request at a time. Raises Refused with the kernel's errno."""

    def __init__(self, protocol: int) -> None:
        self.protocol = protocol
        self.view = memoryview(BUFFER)
        self.open()

    def open(self) -> None:
        """A new socket: answers that are still on their way to the one before belong to nobody."""
        try:
            self.socket = _socket.socket(16, 3, self.protocol)  # AF_NETLINK, SOCK_RAW
            self.socket.bind((0, 0))
        except OSError as error:
            raise Refused(error.errno or 0, "netlink") from error

    def send(self, kind: int, flags: int, body: bytes) -> None:
        self.write(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)

    def write(self, data: bytes) -> None:
        try:
            self.socket.send(data)
        except OSError as error:
            raise Refused(error.errno or 0, "netlink") from error

    def receive(self) -> memoryview:
        """The next datagram as a view that is valid until the next call."""
        try:
            size = self.socket.recv_into(BUFFER, 0, 0x20)  # MSG_TRUNC: the true size
        except OSError as error:
            raise Refused(error.errno or 0, "netlink") from error
        if size > len(BUFFER) or size < 16:
            raise Refused(90, "netlink")  # EMSGSIZE: a datagram that did not fit
        return self.view[:size]

    def dump(self, kind: int, body: bytes) -> "Iterator[memoryview]":
        """Datagrams of a dump, without its end."""
        self.send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
        while True:
            data = self.receive()
            _, answer = struct.unpack_from("=IH", data)
            if answer == NLMSG_DONE:
                code = struct.unpack_from("=i", data, 16)[0] if len(data) >= 20 else 0
                if code < 0:
                    raise Refused(-code, "netlink")
                return
            if answer == NLMSG_ERROR:
                raise Refused(-struct.unpack_from("=i", data, 16)[0], "netlink")
            # The end may stand at the tail of a datagram of rows.
            if len(data) > 20 and struct.unpack_from("=IHHI", data, len(data) - 20) == (20, NLMSG_DONE, 2, 1):
                yield data[: len(data) - 20]
                return
            yield data


def messages(data: memoryview) -> "Iterator[tuple[int, int]]":
    """Offsets and lengths of the netlink messages of a datagram."""
    offset, size = 0, len(data)
    while offset + 16 <= size:
        length = struct.unpack_from("=I", data, offset)[0]
        if length < 16 or offset + length > size:
            raise Refused(74, "netlink")  # EBADMSG
        yield offset, length
        offset += (length + 3) & ~3


def attributes(data: "memoryview | bytes", offset: int, end: int) -> "dict[int, bytes]":
    """type -> payload of the attributes between two offsets."""
    found = {}
    while offset + 4 <= end:
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & 0x3FFF] = bytes(data[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return found
