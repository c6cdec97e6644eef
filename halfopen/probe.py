"""The file that runs on a host: reads its TCP sockets and answers questions about them. It changes nothing.

It is sent over stdin and never touches the disk; it needs Python 3.6 and nothing but the standard library, starts no
process, and ends when its input ends or when nobody has asked anything for a while. It sends raw kernel numbers;
what they mean is decided by the receiver.

Rules: one pass over the socket table, as the kernel gives it, in bounded memory. A row is an inet_diag_msg
(include/uapi/linux/inet_diag.h, 72 bytes) behind a netlink header (16 bytes); rows of /proc/net/tcp are brought into
that layout, so that there is one path from there on. Only rows of one length, family, scope and kind are cut into
columns, by strided slices; a loop over sockets would cost the host ten times as much.

Frames out: nonce 8 bytes, kind 1, sequence 4, payload length 4, CRC-32 of
kind to payload 4, payload.
Requests in: verb 1, length 4, payload. Every answer is any number of frames and one END (or ERROR) frame.
A FIELDS frame with `netns` among frames of another kind says that what follows is of another network namespace.
"""

import array
import itertools
import os
import struct
import sys
import zlib

import _signal
import _socket

SCHEMA = 1

# Kinds of frames, and verbs of requests.
FIELDS, BLOCK, LISTENERS, ROWS, END, ERROR = range(1, 7)
HELLO, DUMP, LOOK, EVIDENCE, OWNERS, BYE, TRANSLATIONS = range(1, 8)
COUNT = 16

IDLE_LIMIT = 900  # seconds without a request after which the probe ends by itself
BLOCK_ROWS = 16384
ROW = 88  # netlink header and inet_diag_msg
REQUEST_LIMIT = 64 << 20

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
TCPDIAG_GETSOCK, SOCK_DIAG_BY_FAMILY = 18, 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_GETLINK, RTM_GETADDR = 18, 22
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
CONNTRACK_GET = 0x0101  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
CLONE_NEWNET = 0x40000000
ALL_STATES = 0x1FFE  # bits 1 to 12: everything but TCP_BOUND_INACTIVE, which is no connection
ESTABLISHED_ONLY = 1 << 1
INFO = 2  # INET_DIAG_INFO: the attribute with tcp_info, and its bit in what is asked for
LISTEN = 10
NO_COOKIE = b"\xff" * 8
MAPPED = bytes(10) + b"\xff\xff"
AF_INET, AF_INET6 = 2, 10

# Marks of a row, beside the timer in the low three bits.
RETRANSMITS, SEND_QUEUE, RECV_QUEUE, NO_INODE = 0x08, 0x10, 0x20, 0x40


BUFFER = bytearray(1 << 17)  # of all netlink sockets: only one of them is in use at a time


class Refused(Exception):
    """The kernel, or a limit of ours, refused: errno (0 if none) and what was tried."""


# ---------------------------------------------------------------------------------------------------- netlink


class Netlink(object):
    """A netlink socket that sends one request at a time. Raises Refused with the kernel's errno."""

    def __init__(self, protocol):
        try:
            self.socket = _socket.socket(16, 3, protocol)  # AF_NETLINK, SOCK_RAW
            self.socket.bind((0, 0))
        except OSError as error:
            raise Refused(error.errno or 0, "netlink")
        self.buffer = BUFFER
        self.view = memoryview(self.buffer)

    def send(self, kind, flags, body):
        self.write(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)

    def write(self, data):
        try:
            self.socket.send(data)
        except OSError as error:
            raise Refused(error.errno or 0, "netlink")

    def receive(self):
        """The next datagram as a view that is valid until the next call."""
        try:
            size = self.socket.recv_into(self.buffer, 0, 0x20)  # MSG_TRUNC: the true size
        except OSError as error:
            raise Refused(error.errno or 0, "netlink")
        if size > len(self.buffer) or size < 16:
            raise Refused(90, "netlink")  # EMSGSIZE: a datagram that did not fit
        return self.view[:size]

    def dump(self, kind, body):
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


def messages(data):
    """Offsets and lengths of the netlink messages of a datagram."""
    offset, size = 0, len(data)
    while offset + 16 <= size:
        length = struct.unpack_from("=I", data, offset)[0]
        if length < 16 or offset + length > size:
            raise Refused(74, "netlink")  # EBADMSG
        yield offset, length
        offset += (length + 3) & ~3


def attributes(data, offset, end):
    """type -> payload of the attributes between two offsets."""
    found = {}
    while offset + 4 <= end:
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & 0x3FFF] = bytes(data[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return found


def port_filter(ports):
    """Bytecode that lets a socket pass if either of its ports is one of these (INET_DIAG_REQ_BYTECODE).

    An alternative is a comparison of two words; when it fails it goes on behind the jump that follows it.
    """
    tests = [(code, port) for port in ports for code in (11, 12)]  # S_EQ, D_EQ: Linux 4.16
    code = b""
    for number, (operation, port) in enumerate(reversed(tests)):
        jump = struct.pack("=BBH", 1, 4, 4 + len(code)) if number else b""  # JMP to the end: accept
        code = struct.pack("=BBH", operation, 8, 12) + struct.pack("=BBH", 0, 0, port) + jump + code
    return struct.pack("=HH", 4 + len(code), 1) + code


def diag_dumps(netlink, ports, states=ALL_STATES, extensions=0):
    """Datagrams of rows of both families, in one walk if the kernel still has the older interface.

    A kernel that does not know the filter (before 4.16) gives all ports; the receiver leaves out what it did not ask for.
    """
    extra = port_filter(ports) if ports else b""
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


def looks_netlink(netlink, links_of, asked):
    """Exact look-ups of (family, scope, sockid) -> a function that gives the message of each, in the same order.

    A message is 72 bytes and attributes, or None if there is no such socket; the function raises Refused.

    Each is looked for as asked, then on each interface that a socket with this local address may be bound to: such a
    socket is not found without its index, and the asker sees only the other end.
    """
    slices = (asked[at : at + 1024] for at in range(0, len(asked), 1024))
    answers = (answer for some in slices for answer in look_some(netlink, links_of, some))

    def look(family, scope, sockid):
        answer = next(answers)
        if isinstance(answer, Refused):
            raise answer
        return answer

    return look


def look_some(netlink, links_of, asked):
    """The same as a list, where an answer may be a Refused."""
    found, ways = [None] * len(asked), []
    for family, scope, sockid in asked:
        local = sockid[4:8] if family == AF_INET else sockid[4:20]
        ways.append([scope] + sorted(links_of.get(local, set()) - {scope}) + ([0] if scope else []))
    for turn in range(max(len(way) for way in ways)):
        left = [index for index, way in enumerate(ways) if found[index] is None and turn < len(way)]
        wanted = [(asked[index][0], ways[index][turn], asked[index][2]) for index in left]
        for index, answer in zip(left, look_each(netlink, wanted)):
            found[index] = answer
    return found


def look_each(netlink, wanted):
    """Exactly these. Many requests go in one write, which saves half of what one costs.

    The kernel answers each in order, by a datagram of its own; no more are sent than answers fit into the socket.
    """
    found = []
    at_once = max(1, min(32, netlink.socket.getsockopt(1, 8) >> 13))  # SO_RCVBUF; an answer takes 2 to 4 KiB of it
    for start in range(0, len(wanted), at_once):
        some = wanted[start : start + at_once]
        requests = b"".join(
            struct.pack("=IHHIIBBBBI", 72, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, number, 0, family, 6, 2, 0, ALL_STATES)
            + sockid
            + struct.pack("=I8s", scope, NO_COOKIE)
            for number, (family, scope, sockid) in enumerate(some)
        )
        try:
            netlink.write(requests)
            for number, (_, _, sockid) in enumerate(some):
                found.append(looked_up(netlink.receive(), number, sockid))
        except Refused as refusal:
            netlink.__init__(NETLINK_SOCK_DIAG)  # answers that are still on their way belong to nobody
            found += [refusal] * (start + len(some) - len(found))
    return found


def looked_up(data, number, sockid):
    """The answer to the look-up of this number -> message, None if there is no such socket, or Refused.

    Where the tuple is absent the kernel returns the LISTEN socket that would take it, which is not it.
    """
    length, kind, _, answered = struct.unpack_from("=IHHI", data)
    if answered != number or length < 20:
        raise Refused(74, "netlink")
    if kind == NLMSG_ERROR:
        code = -struct.unpack_from("=i", data, 16)[0]
        return None if code == 2 else Refused(code, "netlink")  # ENOENT
    if length < ROW:
        raise Refused(74, "netlink")
    if data[17] == LISTEN or data[20:24] != sockid[:4]:
        return None
    return bytes(data[16:length])


# ---------------------------------------------------------------------------------------------------- /proc


def read_file(path, limit=1 << 20):
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


def proc_address(text):
    """Hexadecimal words in host order -> 16 bytes as inet_diag_sockid holds them."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    return struct.pack("=%dI" % len(words), *words).ljust(16, b"\0")


def proc_row(line, family):
    """A line of /proc/net/tcp{,6} (net/ipv4/tcp_ipv4.c get_tcp4_sock) -> row. ValueError for a line that is none."""
    parts = line.split()
    local, local_port = parts[1].split(b":")
    peer, peer_port = parts[2].split(b":")
    send, receive = parts[4].split(b":")
    timer, when = parts[5].split(b":")
    return (
        struct.pack("=IHHII", ROW, TCPDIAG_GETSOCK, 2, 1, 0)
        + struct.pack("=BBBB", family, int(parts[3], 16), int(timer, 16), min(int(parts[6], 16), 255))
        + struct.pack(">HH", int(local_port, 16), int(peer_port, 16))
        + proc_address(local)
        + proc_address(peer)
        + struct.pack("=I", 0)
        + NO_COOKIE
        + struct.pack(
            "=IIIII",
            int(when, 16) * 10 & 0xFFFFFFFF,  # jiffies of USER_HZ, 100 a second
            int(receive, 16),
            int(send, 16),
            int(parts[7]) & 0xFFFFFFFF,
            int(parts[9]) & 0xFFFFFFFF,
        )
    )


def proc_rows(ports):
    """Rows of both tables, as chunks of whole rows; those with one of `ports` on either side if any are given.

    A row may come twice: the kernel resumes by position in a hash bucket. The receiver keys by tuple.
    """
    wanted = frozenset(struct.pack(">H", port) for port in ports)
    for family, path in ((AF_INET, "/proc/net/tcp"), (AF_INET6, "/proc/net/tcp6")):
        try:
            file = open(path, "rb", 1 << 20)
        except OSError as error:
            if family == AF_INET6 and error.errno == 2:  # a kernel without IPv6
                continue
            raise Refused(error.errno or 0, path)
        with file:
            file.readline()
            chunk = bytearray()
            for line in file:
                try:
                    row = proc_row(line, family)
                except (ValueError, IndexError):
                    raise Refused(74, path)
                if not wanted or row[20:22] in wanted or row[22:24] in wanted:
                    chunk += row
                if len(chunk) > 1 << 16:
                    yield memoryview(bytes(chunk))
                    chunk = bytearray()
            if chunk:
                yield memoryview(bytes(chunk))


# ---------------------------------------------------------------------------------------------------- rows to columns


def classes(data):
    """Datagram -> pairs of (row length, buffer of rows of that length)."""
    size = len(data)
    length = struct.unpack_from("=I", data)[0]
    if length >= ROW and size % length == 0 and length % 4 == 0:
        words = data.cast("I")
        if words[:: length // 4].tobytes() == data[:4].tobytes() * (size // length):
            return [(length, data)]
    found = {}
    for offset, length in messages(data):
        if struct.unpack_from("=H", data, offset + 4)[0] in (TCPDIAG_GETSOCK, SOCK_DIAG_BY_FAMILY) and length >= ROW:
            found.setdefault(length, []).append(data[offset : offset + (length + 3 & ~3)])
    return [(length + 3 & ~3, memoryview(b"".join(rows))) for length, rows in found.items()]


def alike(rows, length):
    """(family, scope, width) of rows that share them and are no listeners, else None."""
    count = len(rows) // length
    words, step = rows.cast("I"), length // 4
    family, scope = rows[16], words[14:15].tobytes()
    if rows[16::length].tobytes() != bytes((family,)) * count or words[14::step].tobytes() != scope * count:
        return None
    if LISTEN in rows[17::length].tobytes():
        return None
    width = 4
    if family == AF_INET6:
        width = 4 if rows[24:36] == MAPPED else 16
        for first in (6, 10):
            prefix = b"".join(words[first + i :: step].tobytes() for i in range(3))
            mapped = prefix == bytes(8 * count) + b"\0\0\xff\xff" * count
            # Not mapped for sure only if no third word says so; the rest goes through the sorter.
            if mapped != (width == 4) or (width == 16 and b"\0\0\xff\xff" in prefix[8 * count :]):
                return None
    return family, struct.unpack("=I", scope)[0], width


def sorted_rows(rows, length):
    """Rows of one length but several kinds -> buffers of one kind each; listeners under the key None."""
    found = {}
    for offset in range(0, len(rows), length):
        row = rows[offset : offset + length]
        mapped = row[16] == AF_INET6 and row[24:36] == MAPPED
        key = None if row[17] == LISTEN else (row[16], struct.unpack_from("=I", row, 56)[0], mapped)
        found.setdefault(key, []).append(row)
    return [(key, memoryview(b"".join(parts))) for key, parts in found.items()]


def info_of(rows, length):
    """Where the tcp_info of these rows begins; None if not all have it there, or if it is too old to count bytes."""
    at = ROW
    while at + 4 <= length:
        head = rows[at : at + 4].tobytes()
        size, kind = struct.unpack("=HH", head)
        if kind == INFO:
            same = rows.cast("I")[at // 4 :: length // 4].tobytes() == head * (len(rows) // length)
            return at + 4 if same and size >= 4 + 136 else None
        at += max(4, size + 3 & ~3)
    return None


def with_info(rows, length):
    """Rows of one length -> pairs of (where their tcp_info begins, rows that have it there)."""
    info = info_of(rows, length)
    if info is not None:
        return [(info, rows)]
    single = [rows[at : at + length] for at in range(0, len(rows), length)]
    return [(info_of(row, length), row) for row in single if info_of(row, length) is not None]


class Columns(object):
    """Rows of one family, scope and address width, as columns that grow until they are sent."""

    def __init__(self):
        self.parts = [[] for _ in range(11)]
        self.rows = 0

    def add(self, rows, length, family, width, info=None):
        words, halves, step = rows.cast("I"), rows.cast("H"), length // 4
        states = rows[17::length].tobytes()
        columns = (
            states,
            marks(rows, words, length, states),
            halves[10 :: length // 2].tobytes(),
            halves[11 :: length // 2].tobytes(),
            addresses(words, 6, step, family, width),
            addresses(words, 10, step, family, width),
        )
        if info is not None:  # bytes acknowledged and received, two words each, and the send queue
            at = info // 4 + 30
            columns += tuple(words[word::step].tobytes() for word in (at, at + 1, at + 2, at + 3, 19))
        for part, column in zip(self.parts, columns):
            part.append(column)
        self.rows += len(states)

    def take(self):
        """All columns as one byte string, and begin anew."""
        data = b"".join(b"".join(part) for part in self.parts)
        self.__init__()
        return data


def addresses(words, first, step, family, width):
    """Column of addresses whose first word has this index."""
    if width == 4:
        return words[first + (3 if family == AF_INET6 else 0) :: step].tobytes()
    count = len(words) // step
    column = memoryview(bytearray(16 * count)).cast("I")
    for word in range(4):
        column[word::4] = words[first + word :: step]
    return column.tobytes()


def marks(rows, words, length, states):
    """Column of marks: the timer, and whether there are retransmits, queued bytes, and no inode where one is due."""
    column = bytearray(rows[18::length].tobytes())
    step = length // 4
    retransmits = rows[19::length].tobytes()
    if retransmits.strip(b"\0"):
        for index, value in enumerate(retransmits):
            if value:
                column[index] |= RETRANSMITS
    for first, mark in ((18, RECV_QUEUE), (19, SEND_QUEUE)):
        queue = words[first::step].tobytes()
        if queue.strip(b"\0"):
            for index, value in enumerate(array.array("I", queue)):
                if value:
                    column[index] |= mark
    inodes = array.array("I", words[21::step].tobytes())
    if 0 in inodes:
        for index, value in enumerate(inodes):
            if not value and states[index] in (1, 8):
                column[index] |= NO_INODE
    return bytes(column)


# ---------------------------------------------------------------------------------------------------- the host


def links():
    """Index of what is up, but loopback -> (kind, index of its master or 0); one of no kind where that is refused."""
    found = {}
    try:
        for data in Netlink(NETLINK_ROUTE).dump(RTM_GETLINK, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)):
            for offset, length in messages(data):
                here = attributes(data, offset + 32, offset + length)
                info = here.get(18, b"")
                kind = attributes(info, 0, len(info)).get(1, b"").rstrip(b"\0")
                hardware, index, flags = struct.unpack_from("=HiI", data, offset + 18)
                if hardware != 772 and flags & 1:  # ARPHRD_LOOPBACK, IFF_UP
                    found[index] = kind, struct.unpack("=I", here.get(10, bytes(4)))[0]
        return found
    except Refused:
        return {0: (b"", 0)}


def inner_links():
    """Bridges on which there is nothing but veth: behind them are namespaces of this host, and nobody else."""
    known = links()
    others = {master for kind, master in known.values() if kind != b"veth"}
    return [index for index, (kind, _) in known.items() if kind == b"bridge" and index not in others]


def interface_addresses():
    """Addresses of every interface: (packed address, prefix length, interface index)."""
    found = []
    for data in Netlink(NETLINK_ROUTE).dump(RTM_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0)):
        for offset, length in messages(data):
            index = struct.unpack_from("=I", data, offset + 20)[0]
            here = attributes(data, offset + 24, offset + length)
            address = here.get(2) or here.get(1)  # IFA_LOCAL differs from IFA_ADDRESS on point-to-point links
            if address:
                found.append((address, data[offset + 17], index))
    return found


def interfaces_of():
    """Address -> interfaces that a socket with it may be bound to; never empty, so that it is read once."""
    found = {b"": set()}
    try:
        above = links()
        for address, _, index in interface_addresses():
            found.setdefault(address, set()).update({index, above.get(index, (b"", 0))[1]} - {0})
    except Refused:
        pass
    return found


def addresses_by_proc():
    """The same without netlink: /proc/net/fib_trie (local routes) and /proc/net/if_inet6; 0 is an unknown index.

    A prefix of the whole address is what a host's own route has: nothing beside it is on the link.
    """
    found, candidate = [], None
    for line in (read_file("/proc/net/fib_trie", 16 << 20) or b"").split(b"\n"):
        word = line.strip()
        if word.startswith(b"|-- "):
            candidate = word[4:]
        elif word.startswith(b"/32 host LOCAL") and candidate:
            found.append((bytes(bytearray(int(part) for part in candidate.split(b"."))), 32, 0))
    for line in (read_file("/proc/net/if_inet6") or b"").split(b"\n"):
        parts = line.split()
        if len(parts) == 6:
            packed = bytes(bytearray.fromhex(parts[0].decode()))
            found.append((packed, int(parts[2], 16), int(parts[1], 16)))
    return sorted(set(found))


def ground():
    """Of the network namespace that we are in: an `address` field for each address, and what it tracks and forwards."""
    found = []
    try:
        known = interface_addresses()
    except Refused:
        known = addresses_by_proc()
    for address, prefix, index in known:
        found.append(("address", struct.pack(">BBI", len(address), prefix, index) + address))
    found.append(("tracked", (read_file(TRACKED, 32) or b"").strip()))
    # A container has forwarding from its host; one with nothing but the way out of it forwards for nobody.
    if any((read_file("/proc/sys/net/" + path, 32) or b"0").strip() != b"0" for path in FORWARDING):
        if any(kind != b"veth" or master for kind, master in links().values()):
            found.append(("forwards", b"1"))
    return found


def hello(use_netlink):
    """What this host is: names and values."""
    name = os.uname()
    found = ground()
    status = read_file("/proc/self/status") or b""
    capabilities = [line.split()[1] for line in status.split(b"\n") if line.startswith(b"CapEff:")]
    found += [
        ("schema", b"%d" % SCHEMA),
        ("hostname", os.fsencode(name.nodename)),
        ("system", os.fsencode(name.sysname)),
        ("kernel", os.fsencode(name.release)),
        ("boot_id", (read_file("/proc/sys/kernel/random/boot_id") or b"").strip()),
        ("uptime", (read_file("/proc/uptime") or b"").split(b" ")[0]),
        ("euid", b"%d" % os.geteuid()),
        ("capabilities", capabilities[0] if capabilities else b""),
        ("netns", b"%d" % inode("/proc/self/ns/net")),
        ("python", b"%d.%d.%d" % sys.version_info[:3]),
        ("byteorder", sys.byteorder.encode()),
        ("collector", b"netlink" if use_netlink else b"procfs"),
        ("session", os.environb.get(b"SSH_CONNECTION", b"")[:200]),
    ]
    return found


def evidence():
    """Counters and settings of this network namespace: file name -> its text."""
    found = []
    for path in ("/proc/net/netstat", "/proc/net/snmp", "/proc/uptime"):
        text = read_file(path, 1 << 16)
        if text is not None:
            found.append((path, text))
    for name in SYSCTLS:
        text = read_file("/proc/sys/net/" + name, 256)
        if text is not None:
            found.append(("/proc/sys/net/" + name, text.strip()))
    return found


def owners(wanted):
    """Inodes of sockets -> processes that hold them: (inode, pid, name, command line, cgroup), first holder by pid.

    Walks the descriptors of all processes, until all are found. Processes of others are closed to an ordinary user:
    the field `unreadable` counts them.
    """
    missing, found, unreadable = set(wanted), [], 0
    for pid in sorted(int(name) for name in listed("/proc/") if name.isdigit()):
        if not missing:
            break
        folder = "/proc/%d/" % pid
        try:
            descriptors = os.listdir(folder + "fd")
        except OSError as error:
            unreadable += error.errno == 13
            continue
        facts = None
        for descriptor in descriptors:
            try:
                target = os.readlink(folder + "fd/" + descriptor)
            except OSError:
                continue
            if not target.startswith("socket:[") or int(target[8:-1]) not in missing:
                continue
            if facts is None:
                facts = [read_file(folder + name, 2048) or b"" for name in ("comm", "cmdline", "cgroup")]
            inode = int(target[8:-1])
            missing.discard(inode)
            head = struct.pack(">QI", inode, pid) + struct.pack(">HHH", *[len(fact) for fact in facts])
            found.append(("owner", head + b"".join(facts)))
    found.append(("unreadable", b"%d" % unreadable))
    return found


# ---------------------------------------------------------------------------------------------------- namespaces


def inode(path):
    """The inode that a path leads to, 0 if it leads nowhere: of /proc/self/ns/net, the name of our namespace."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def namespaces():
    """Inode -> path of every network namespace but our own that we may see, by process or by name.

    One readlink a process is all that this costs a host without containers.
    """
    found, own = {}, inode("/proc/self/ns/net")
    for name in listed("/proc/"):
        if name.isdigit():
            try:
                target = os.readlink("/proc/" + name + "/ns/net")
            except OSError:
                continue
            found.setdefault(target, "/proc/" + name + "/ns/net")
    found = {int(target[5:-1]): path for target, path in found.items() if target.startswith("net:[")}
    for folder in NAMED:
        for name in listed(folder):
            found.setdefault(inode(folder + name), folder + name)
    return {netns: path for netns, path in found.items() if netns not in (0, own)}


def listed(folder):
    """Names in a folder, none where it is not to be had."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def setns(descriptor):
    """Moves this thread, our only one, into the network namespace of a descriptor."""
    known = getattr(os, "setns", None)  # Python 3.12
    if known:
        known(descriptor, CLONE_NEWNET)
        return
    import _ctypes

    function = _ctypes.dlsym(_ctypes.dlopen(None, 2), "setns")
    if _ctypes.call_function(function, (descriptor, CLONE_NEWNET)) != 0:
        raise OSError(1, "setns")


class Inside(object):
    """As long as it lasts we are in another network namespace (0: our own): its sockets, /proc/net and /proc/sys/net.

    Raises Refused if it may not be entered, or is gone. No process is started for it, so nothing is left behind.
    """

    home = None

    def __init__(self, netns, path):
        self.netns, self.path = netns, path

    def __enter__(self):
        if self.netns == 0:
            return
        try:
            if Inside.home is None:
                Inside.home = os.open("/proc/self/ns/net", os.O_RDONLY)
            there = os.open(self.path, os.O_RDONLY)
            try:
                if os.fstat(there).st_ino != self.netns:
                    raise OSError(2, "another namespace")
                setns(there)
            finally:
                os.close(there)
        except (OSError, ImportError, AttributeError) as error:
            raise Refused(getattr(error, "errno", None) or 1, "namespace")

    def __exit__(self, *_):
        if self.netns:
            try:
                setns(Inside.home)
            except OSError:
                raise SystemExit("the way back into the host's own network namespace is closed")


def has_sockets():
    """Whether the namespace that we are in has TCP sockets beyond TIME_WAIT, without walking the socket table."""
    for path in ("/proc/net/sockstat", "/proc/net/sockstat6"):
        for line in (read_file(path, 4096) or b"").split(b"\n"):
            words = line.split()
            if words[:2] in ([b"TCP:", b"inuse"], [b"TCP6:", b"inuse"]) and words[2] != b"0":
                return True
    return False


# ---------------------------------------------------------------------------------------------------- translation


def translations():
    """Connection tracking of the namespace that we are in -> lists of pairs of tuples, of entries that translate.

    A pair is the tuple of the first packet as it came and as it went on: source, destination, and their ports. Since
    5.15 the kernel sorts out the rest; before, it gives all entries to each of the three questions.
    """
    if int(read_file(TRACKED, 32) or b"0") == 0:
        return
    try:
        for bits in (0x10, 0x20, 0x30):  # IPS_SRC_NAT, IPS_DST_NAT, both: CTA_STATUS under CTA_STATUS_MASK
            body = struct.pack("=IHH", 0, 8, 3) + struct.pack(">I", bits) + struct.pack("=HH", 8, 26)
            for data in Netlink(NETLINK_NETFILTER).dump(CONNTRACK_GET, body + struct.pack(">I", 0x30)):
                yield conntrack_pairs(data)
    except Refused as refusal:
        try:
            with open("/proc/net/nf_conntrack", "rb") as file:
                yield [pair for line in file for pair in conntrack_line(line)]
        except OSError:
            raise Refused(refusal.args[0], "conntrack")


def conntrack_pairs(data):
    """A datagram of ctnetlink -> pairs. Both tuples have one layout (nf_conntrack_netlink.c ctnetlink_dump_tuples)."""
    found = []
    for offset, length in messages(data):
        layout = TUPLES.get(data[offset + 16])
        at = offset + 20
        size = struct.unpack_from("=H", data, at)[0]
        if layout is None or at + size + layout.size > offset + length:
            continue
        one, two = layout.unpack_from(data, at), layout.unpack_from(data, at + size)
        if one[2] != 6 or two[2] != 6:
            continue
        before, after = one[0] + one[1] + one[3] + one[4], two[1] + two[0] + two[4] + two[3]
        if before != after:
            found.append((before, after))
    return found


def conntrack_line(line):
    """A line of /proc/net/nf_conntrack -> its pair, if it is TCP and translates."""
    words = line.split()
    if words[2:3] != [b"tcp"]:
        return []
    values = {}
    for word in words:
        name, _, value = word.partition(b"=")
        values.setdefault(name, []).append(value.decode("ascii", "replace"))
    family = AF_INET if words[0] == b"ipv4" else AF_INET6
    try:
        ends = [
            [_socket.inet_pton(family, values[name][at]) for name in (b"src", b"dst")]
            + [struct.pack(">H", int(values[name][at])) for name in (b"sport", b"dport")]
            for at in (0, 1)
        ]
    except (KeyError, IndexError, ValueError, OSError, struct.error):
        raise Refused(74, "/proc/net/nf_conntrack")
    before = b"".join(ends[0])
    after = ends[1][1] + ends[1][0] + ends[1][3] + ends[1][2]
    return [(before, after)] if before != after else []


# ---------------------------------------------------------------------------------------------------- the conversation


class Probe(object):
    """Answers requests until its input ends."""

    def __init__(self, reader, output):
        self.reader, self.output = reader, output
        self.nonce = reader.read(8)
        self.sequence = 0
        self.links_of = {}
        self.paths = {}
        try:
            self.netlink = Netlink(NETLINK_SOCK_DIAG)
            for _ in self.netlink.dump(SOCK_DIAG_BY_FAMILY, struct.pack("=BBBBI48s", AF_INET, 6, 0, 0, 1 << 7, b"")):
                pass
        except Refused:
            self.netlink = None

    def spaces(self):
        """0, which is our own namespace, then the inodes of all others."""
        yield 0
        self.paths = namespaces()
        for netns in sorted(self.paths):
            yield netns

    def enter(self, netns):
        """The way into a namespace, found anew if the process that led there is gone."""
        path = self.paths.get(netns)
        if netns and (path is None or inode(path) != netns):
            self.paths = namespaces()
            path = self.paths.get(netns)
            if path is None:
                raise Refused(2, "namespace")
        return Inside(netns, path)

    def diag(self, netns):
        """A netlink socket of the namespace that we are in, None where the kernel refuses them."""
        return self.netlink if netns == 0 or not self.netlink else Netlink(NETLINK_SOCK_DIAG)

    def frame(self, kind, payload):
        head = struct.pack(">BII", kind, self.sequence, len(payload))
        checksum = zlib.crc32(payload, zlib.crc32(head)) & 0xFFFFFFFF
        self.sequence += 1
        data = memoryview(self.nonce + head + struct.pack(">I", checksum) + payload)
        while data:
            data = data[os.write(self.output, data) :]

    def fields(self, pairs):
        """Names and byte strings, each behind its length, compressed."""
        parts = []
        for name, value in pairs:
            parts.append(struct.pack(">BI", len(name), len(value)) + name.encode() + value)
        self.frame(FIELDS, zlib.compress(b"".join(parts), 1))
        return len(parts)

    def dump(self, payload):
        """Every TCP socket with one of the ports (all, if none), of our namespace first, then of each other.

        Of another namespace, a FIELDS frame comes first: its inode and ground, or `refused` with an errno.
        """
        ports = struct.unpack(">%dH" % (len(payload) // 2), payload)
        total = 0
        for netns in self.spaces():
            fields = [("netns", b"%d" % netns)]
            try:
                with self.enter(netns):
                    if netns:
                        self.fields(fields + ground())
                    if netns == 0 or has_sockets():
                        total += self.dump_here(ports, self.diag(netns))
            except Refused as refusal:
                if netns == 0:
                    raise
                if refusal.args[0] != 2:  # ENOENT: it went away meanwhile
                    self.fields(fields + [("refused", b"%d" % refusal.args[0])])
        return total

    def dump_here(self, ports, netlink):
        """The namespace that we are in: BLOCK and LISTENERS frames; the number of rows."""
        chunks = diag_dumps(netlink, ports) if netlink else proc_rows(ports)
        growing, listeners, total = {}, [], 0
        for data in chunks:
            for length, rows in classes(data):
                kind = alike(rows, length)
                parts = [(kind, rows)] if kind else sorted_rows(rows, length)
                for key, part in parts:
                    total += len(part) // length
                    if key is None:
                        listeners += [bytes(part[at + 16 : at + ROW]) for at in range(0, len(part), length)]
                        continue
                    family, scope, width = key
                    if not kind:
                        width = 4 if family == AF_INET or width else 16
                    columns = growing.setdefault((family, scope, width), Columns())
                    columns.add(part, length, family, width)
                    if columns.rows >= BLOCK_ROWS:
                        self.block(family, scope, width, columns)
        for (family, scope, width), columns in growing.items():
            if columns.rows:
                self.block(family, scope, width, columns)
        self.frame(LISTENERS, zlib.compress(b"".join(listeners), 1))
        return total

    def count(self, payload):
        """Byte counters of every ESTABLISHED socket with one of the ports (all, if none): wider BLOCK frames.

        Sockets of a kernel that does not count bytes (before 4.1) are left out.
        """
        if not self.netlink:
            raise Refused(95, "byte counters")  # EOPNOTSUPP: /proc has none
        ports = struct.unpack(">%dH" % (len(payload) // 2), payload)
        growing, total = {}, 0
        for data in diag_dumps(self.netlink, ports, ESTABLISHED_ONLY, INFO):
            for length, rows in classes(data):
                kind = alike(rows, length)
                for key, part in [(kind, rows)] if kind else sorted_rows(rows, length):
                    family, scope, width = key
                    if not kind:
                        width = 4 if family == AF_INET or width else 16
                    columns = growing.setdefault((family, scope, width), Columns())
                    for info, some in with_info(part, length):
                        columns.add(some, length, family, width, info)
                        total += len(some) // length
                    if columns.rows >= BLOCK_ROWS:
                        self.block(family, scope, width, columns)
        for (family, scope, width), columns in growing.items():
            if columns.rows:
                self.block(family, scope, width, columns)
        return total

    def block(self, family, scope, width, columns):
        head = struct.pack(">BBII", family, width, scope, columns.rows)
        self.frame(BLOCK, head + zlib.compress(columns.take(), 1))

    def look(self, payload):
        """Exact look-ups: requests of 52 bytes (namespace, family, scope, 36 of inet_diag_sockid) -> ROWS frames.

        Those of one namespace stand together; 0 is our own. An answer is: status (0 absent, 1 found, 2 the kernel
        refused), length, message.
        """
        count = len(payload) // 52
        asked, answers = [struct.unpack_from("=QII36s", payload, 52 * index) for index in range(count)], []
        for netns, group in itertools.groupby(asked, lambda one: one[0]):
            group = [one[1:] for one in group]
            try:
                with self.enter(netns):
                    answers = self.look_here(group, self.diag(netns), {} if netns else self.links_of, answers)
            except Refused as refusal:
                # Whether a namespace that cannot be found has lost its sockets with it is not for us to say.
                answers += [struct.pack(">BHI", 2, 4, refusal.args[0])] * len(group)
        self.frame(ROWS, zlib.compress(b"".join(answers), 1))
        return count

    def look_here(self, asked, netlink, links_of, answers):
        """Looks in the namespace that we are in and adds to the answers, which are sent when they have grown."""
        if netlink and not links_of:
            links_of.update(interfaces_of())
        look = looks_netlink(netlink, links_of, asked) if netlink else self.proc_looks(asked)
        for family, scope, sockid in asked:
            status, message = 0, None
            try:
                message = look(family, scope, sockid)
                status = 0 if message is None else 1
            except Refused as refusal:
                status, message = 2, struct.pack("=I", refusal.args[0])
            answers.append(struct.pack(">BH", status, len(message or b"")) + (message or b""))
            if len(answers) > 4096:
                self.frame(ROWS, zlib.compress(b"".join(answers), 1))
                answers = []
        return answers

    def proc_looks(self, asked):
        """By /proc: one pass over both tables for all that is asked."""
        wanted, found = {canonical(sockid, family) for family, _, sockid in asked}, {}
        for data in proc_rows(()):
            for offset in range(0, len(data), ROW):
                key = canonical(bytes(data[offset + 20 : offset + 56]), data[offset + 16])
                if key in wanted and data[offset + 17] != LISTEN:
                    found[key] = bytes(data[offset + 16 : offset + ROW])
        return lambda family, scope, sockid: found.get(canonical(sockid, family))

    def evidence(self, payload):
        """Counters and settings of our namespace, or of those that are asked for; 0 is our own. FIELDS frames."""
        total = 0
        for netns in struct.unpack(">%dQ" % (len(payload) // 8), payload) or (0,):
            try:
                with self.enter(netns):
                    total += self.fields([("netns", b"%d" % netns)] + evidence())
            except Refused:
                pass  # what was not read is not in the answer
        return total

    def translations(self):
        """Entries that translate, of our namespace and of each other: FIELDS with `netns`, then ROWS for each.

        ROWS here: length of a tuple, then pairs of them, compressed. `refused` has an errno where there is no table.
        """
        total = 0
        for netns in self.spaces():
            fields = [("netns", b"%d" % netns)]
            try:
                with self.enter(netns):
                    for number, pairs in enumerate(translations()):
                        if number == 0:
                            self.fields(fields + [("inner", b"%d" % index) for index in inner_links()])
                        for width in (12, 36):
                            rows = [before + after for before, after in pairs if len(before) == width]
                            self.frame(ROWS, struct.pack(">B", width) + zlib.compress(b"".join(rows), 1))
                        total += len(pairs)
            except Refused as refusal:
                self.fields(fields + [("refused", b"%d" % refusal.args[0])])
        return total

    def answer(self, verb, payload):
        """Does what was asked; the number that END carries: rows, fields or look-ups."""
        if verb == HELLO:
            return self.fields(hello(self.netlink))
        if verb == DUMP:
            return self.dump(payload)
        if verb == LOOK:
            return self.look(payload)
        if verb == COUNT:
            return self.count(payload)
        if verb == EVIDENCE:
            return self.evidence(payload)
        if verb == TRANSLATIONS:
            return self.translations()
        if verb == OWNERS:
            return self.fields(owners(struct.unpack(">%dQ" % (len(payload) // 8), payload)))
        if verb in globals().get("EXTENSION", {}):  # what was sent before this file: see probe_survey.py
            return self.fields(globals()["EXTENSION"][verb](self.netlink, payload))
        raise Refused(22, "request %d" % verb)

    def run(self):
        while True:
            _signal.alarm(IDLE_LIMIT)
            head = self.reader.read(5)
            if len(head) < 5 or head[0] == BYE:
                return
            verb, length = struct.unpack(">BI", head)
            payload = self.reader.read(length) if length <= REQUEST_LIMIT else b""
            if len(payload) < length:
                return
            try:
                self.frame(END, struct.pack(">BQ", verb, self.answer(verb, payload)))
            except Refused as refusal:
                self.frame(ERROR, struct.pack(">BI", verb, refusal.args[0]) + refusal.args[1].encode())
            except (BrokenPipeError, ConnectionError):
                raise
            except Exception as error:  # a fault of ours is an answer too: the asker must not wait for ever
                self.frame(ERROR, struct.pack(">BI", verb, 0) + repr(error).encode("ascii", "backslashreplace")[:500])


def canonical(sockid, family):
    """Ports and addresses of a sockid with IPv4-mapped addresses as IPv4."""
    if family == AF_INET6 and sockid[4:16] != MAPPED:
        return sockid
    at = 16 if family == AF_INET6 else 4
    return sockid[:4] + sockid[at : at + 4] + sockid[at + 16 : at + 20]


TRACKED = "/proc/sys/net/netfilter/nf_conntrack_count"
FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
NAMED = ("/run/netns/", "/var/run/netns/", "/run/docker/netns/")

# Of both tuples of a conntrack entry: source, destination, protocol, source port, destination port.
TUPLES = {
    AF_INET: struct.Struct("=12x4s4x4s8xB7x2s6x2s2x"),
    AF_INET6: struct.Struct("=12x16s4x16s8xB7x2s6x2s2x"),
}

SYSCTLS = (
    "core/somaxconn",
    "ipv4/tcp_abort_on_overflow",
    "ipv4/tcp_fin_timeout",
    "ipv4/tcp_keepalive_intvl",
    "ipv4/tcp_keepalive_probes",
    "ipv4/tcp_keepalive_time",
    "ipv4/tcp_max_syn_backlog",
    "ipv4/tcp_orphan_retries",
    "ipv4/tcp_retries2",
    "ipv4/tcp_rto_max_ms",
    "ipv4/tcp_syn_linear_timeouts",
    "ipv4/tcp_syn_retries",
    "ipv4/tcp_synack_retries",
    "ipv4/tcp_syncookies",
    "netfilter/nf_conntrack_tcp_be_liberal",
    "netfilter/nf_conntrack_tcp_loose",
    "netfilter/nf_conntrack_tcp_timeout_established",
)


def main(reader):
    """Speak with whoever sent this file. Descriptor 1 is moved away first, so that no stray print breaks a frame."""
    output = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        Probe(reader, output).run()
    except (BrokenPipeError, ConnectionError):
        pass  # the channel is gone, and we with it


if "halfopen_input" in globals():
    main(globals()["halfopen_input"])
