"""The socket table, whole: one pass as the kernel gives it, in bounded memory, as columns or as text of /proc."""

import struct
import zlib
from _collections_abc import Iterable, Iterator

from halfopen.probe.columns import INFO, ROW, Columns, alike, classes, sorted_rows, with_info
from halfopen.probe.head import AF_INET, AF_INET6, BLOCK, LISTENERS, TEXT, Refused
from halfopen.probe.interfaces import ground
from halfopen.probe.links import reach, route_socket
from halfopen.probe.netlink import SOCK_DIAG_BY_FAMILY, TCPDIAG_GETSOCK, Netlink
from halfopen.probe.procfs import has_sockets, tables
from halfopen.probe.session import Session
from halfopen.probe.tracking import redirects

BLOCK_ROWS = 16384
ALL_STATES = 0x1FFE  # bits 1 to 12: everything but TCP_BOUND_INACTIVE, which is no connection
ESTABLISHED_ONLY = 1 << 1
MOST_FILTERED = 1000  # ports: each costs a look of the kernel at each socket, and offsets in the bytecode have 16 bits


def port_filter(ports: "tuple[int, ...]") -> bytes:
    """Bytecode that lets a socket pass that has one of these ports, at either side, or listens.

    (INET_DIAG_REQ_BYTECODE.) A listener has no peer's port; which end of a connection is the server's shows by who
    listens. An alternative is a comparison of two words; when it fails it goes on behind the jump that follows it.
    """
    tests = [(code, port) for port in ports for code in (11, 12)] + [(12, 0)]  # S_EQ, D_EQ: Linux 4.16
    code = b""
    for number, (operation, port) in enumerate(reversed(tests)):
        jump = struct.pack("=BBH", 1, 4, 4 + len(code)) if number else b""  # JMP to the end: accept
        code = struct.pack("=BBH", operation, 8, 12) + struct.pack("=BBH", 0, 0, port) + jump + code
    return struct.pack("=HH", 4 + len(code), 1) + code


def diag_dumps(
    netlink: Netlink, ports: "tuple[int, ...]", states: int = ALL_STATES, extensions: int = 0
) -> "Iterator[memoryview]":
    """Datagrams of rows of both families, in one walk if the kernel still has the older interface.

    A kernel that does not know the filter (before 4.16) gives all ports, and so do more of them than a
    filter takes; the receiver leaves out what it did not ask for.
    """
    extra = port_filter(ports) if 0 < len(ports) <= MOST_FILTERED else b""
    start = True
    try:
        request = struct.pack("=BBBB48sII", 0, 0, 0, extensions, b"", states, 0)
        for data in netlink.dump(TCPDIAG_GETSOCK, request + extra):
            start = False
            yield data
        return
    except Refused:
        if not start:
            raise
    for family in (AF_INET, AF_INET6):
        request = struct.pack("=BBBBI48s", family, 6, extensions, 0, states, b"")
        try:
            for data in netlink.dump(SOCK_DIAG_BY_FAMILY, request):
                yield data
        except Refused as refusal:
            if family == AF_INET or refusal.args[0] != 2:  # ENOENT: a kernel without IPv6
                raise


def send_blocks(session: Session, chunks: "Iterable[memoryview]", counters: bool, more: "tuple[int, ...]" = ()) -> int:
    """Datagrams of rows -> BLOCK frames, and LISTENERS for those that listen; the number of rows.

    `more`: words of every row that make further columns. `counters`: only rows that count bytes, with their counters
    and send queues as further columns; no listener is among them.
    """
    growing: dict[tuple[int, int, int], Columns] = {}
    listeners, total = [], 0
    for data in chunks:
        for length, rows in classes(data):
            kind = alike(rows, length)
            for key, part in [(kind, rows)] if kind else sorted_rows(rows, length):
                if key is None:
                    total += len(part) // length
                    listeners += [bytes(part[at + 16 : at + ROW]) for at in range(0, len(part), length)]
                    continue
                family, _, width = key
                columns = growing.setdefault(key, Columns())
                before = columns.rows
                if counters:  # bytes acknowledged and received, two words each, and the send queue
                    for info, some in with_info(part, length):
                        at = info // 4 + 30
                        columns.add(some, length, family, width, (at, at + 1, at + 2, at + 3, 19))
                else:
                    columns.add(part, length, family, width, more)
                total += columns.rows - before
                if columns.rows >= BLOCK_ROWS:
                    send_block(session, key, columns)
    for key, columns in growing.items():
        if columns.rows:
            send_block(session, key, columns)
    if not counters:
        session.frame(LISTENERS, zlib.compress(b"".join(listeners), 1))
    return total


def send_block(session: Session, key: "tuple[int, int, int]", columns: Columns) -> None:
    """One BLOCK frame."""
    family, scope, width = key
    head = struct.pack(">BBII", family, width, scope, columns.rows)
    session.frame(BLOCK, head + zlib.compress(columns.take(), 1))


def send_tables(session: Session) -> int:
    """The tables of /proc as TEXT frames, each its family and text; the number of lines, which the receiver counts."""
    lines = 0
    for family, text in tables():
        session.frame(TEXT, struct.pack(">B", family) + zlib.compress(text, 1))
        lines += text.count(b"\n")
    return lines


def dump(session: Session, payload: bytes) -> int:
    """The answer to DUMP: every TCP socket with one of the ports (all, if none), of our namespace, then of each other.

    Of another namespace, a FIELDS frame comes first: its inode, ground and reach, or `refused` with an errno, which may
    also follow what was sent of it. A FIELDS frame without `netns` is of the one under way: `redirects` if connection
    tracking leads from one of the ports to another. Last, as namespace 0, what leads out of our own. Text of /proc has
    all ports.
    """
    ports = struct.unpack(f">{len(payload) // 2}H", payload)
    total, routing = 0, None
    for netns in session.spaces():
        fields, begun = [("netns", b"%d" % netns)], False
        routing = routing or (route_socket() if netns else None)
        try:
            with session.enter(netns):
                if netns:
                    here = ground()
                    addresses = [value[6:] for name, value in here if name == "address"]
                    session.fields(fields + here + reach(session, routing, addresses))
                    begun = True
                if netns == 0 or has_sockets():
                    netlink = session.diag(netns)
                    if netlink:
                        total += send_blocks(session, diag_dumps(netlink, ports), False)
                    else:
                        total += send_tables(session)
                if redirects(ports):
                    session.fields([("redirects", b"1")])
        except Refused as refusal:
            if netns == 0:
                raise
            if begun or refusal.args[0] != 2:  # ENOENT: it went away meanwhile
                session.fields([*fields, ("refused", b"%d" % refusal.args[0])])
    session.fields([("netns", b"0"), *reach(session, None, [])])
    return total


def table(session: Session, payload: bytes) -> int:
    """The answer to TABLE, which takes the place of look-ups without netlink: the text of one namespace, 0 our own.

    TEXT frames, or a field `refused` with an errno.
    """
    (netns,) = struct.unpack(">Q", payload)
    try:
        with session.enter(netns):
            return send_tables(session)
    except Refused as refusal:
        session.fields([("refused", b"%d" % refusal.args[0])])
        return 0


def count(session: Session, payload: bytes) -> int:
    """The answer to COUNT: byte counters of every ESTABLISHED socket with one of the ports (all, if none).

    Sockets of a kernel that does not count bytes (before 4.1) are left out.
    """
    if not session.netlink:
        raise Refused(95, "byte counters")  # EOPNOTSUPP: /proc has none
    ports = struct.unpack(f">{len(payload) // 2}H", payload)
    return send_blocks(session, diag_dumps(session.netlink, ports, ESTABLISHED_ONLY, INFO), True)
