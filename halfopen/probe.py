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
"""

import array
import os
import struct
import sys
import zlib

import _signal
import _socket

SCHEMA = 1

# Kinds of frames, and verbs of requests.
FIELDS, BLOCK, LISTENERS, ROWS, END, ERROR = range(1, 7)
HELLO, DUMP, LOOK, EVIDENCE, OWNERS, BYE = range(1, 7)
COUNT = 16

IDLE_LIMIT = 900  # seconds without a request after which the probe ends by itself
BLOCK_ROWS = 16384
ROW = 88  # netlink header and inet_diag_msg
REQUEST_LIMIT = 64 << 20

NETLINK_ROUTE, NETLINK_SOCK_DIAG = 0, 4
TCPDIAG_GETSOCK, SOCK_DIAG_BY_FAMILY = 18, 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_GETLINK, RTM_GETADDR = 18, 22
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
ALL_STATES = 0x1FFE  # bits 1 to 12: everything but TCP_BOUND_INACTIVE, which is no connection
ESTABLISHED_ONLY = 1 << 1
INFO = 2  # INET_DIAG_INFO: the attribute with tcp_info, and its bit in what is asked for
LISTEN = 10
NO_COOKIE = b"\xff" * 8
MAPPED = bytes(10) + b"\xff\xff"
AF_INET, AF_INET6 = 2, 10

# Marks of a row, beside the timer in the low three bits.
RETRANSMITS, SEND_QUEUE, RECV_QUEUE, NO_INODE = 0x08, 0x10, 0x20, 0x40


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
        self.buffer = bytearray(1 << 17)
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
    """Interface index -> (name, index of its master or 0)."""
    found = {}
    for data in Netlink(NETLINK_ROUTE).dump(RTM_GETLINK, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)):
        for offset, length in messages(data):
            index = struct.unpack_from("=i", data, offset + 20)[0]
            found_here = attributes(data, offset + 32, offset + length)
            master = found_here.get(10, bytes(4))
            found[index] = (found_here.get(3, b"").rstrip(b"\0"), struct.unpack("=I", master)[0])
    return found


def interface_addresses():
    """Packed addresses of every interface: (address, interface index, master index, interface name)."""
    known, found = links(), []
    for data in Netlink(NETLINK_ROUTE).dump(RTM_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0)):
        for offset, length in messages(data):
            index = struct.unpack_from("=I", data, offset + 20)[0]
            here = attributes(data, offset + 24, offset + length)
            address = here.get(2) or here.get(1)  # IFA_LOCAL differs from IFA_ADDRESS on point-to-point links
            if address:
                name, master = known.get(index, (b"", 0))
                found.append((address, index, master, name))
    return found


def addresses_by_proc():
    """The same without netlink: /proc/net/fib_trie (local routes) and /proc/net/if_inet6; index 0 where unknown."""
    found, candidate = [], None
    for line in (read_file("/proc/net/fib_trie", 16 << 20) or b"").split(b"\n"):
        word = line.strip()
        if word.startswith(b"|-- "):
            candidate = word[4:]
        elif word.startswith(b"/32 host LOCAL") and candidate:
            found.append((bytes(bytearray(int(part) for part in candidate.split(b"."))), 0, 0, b""))
    for line in (read_file("/proc/net/if_inet6") or b"").split(b"\n"):
        parts = line.split()
        if len(parts) == 6:
            found.append((bytes(bytearray.fromhex(parts[0].decode())), int(parts[1], 16), 0, parts[5]))
    return sorted(set(found))


def hello(use_netlink):
    """What this host is: names and values, and one `address` field for each address."""
    name = os.uname()
    found = []
    try:
        listed = interface_addresses()
    except Refused:
        listed = addresses_by_proc()
    for address, index, master, link in listed:
        found.append(("address", struct.pack(">BII", len(address), index, master) + address + link))
    status = read_file("/proc/self/status") or b""
    capabilities = [line.split()[1] for line in status.split(b"\n") if line.startswith(b"CapEff:")]
    try:
        netns = os.stat("/proc/self/ns/net").st_ino
    except OSError:
        netns = 0
    found += [
        ("schema", b"%d" % SCHEMA),
        ("hostname", os.fsencode(name.nodename)),
        ("system", os.fsencode(name.sysname)),
        ("kernel", os.fsencode(name.release)),
        ("boot_id", (read_file("/proc/sys/kernel/random/boot_id") or b"").strip()),
        ("uptime", (read_file("/proc/uptime") or b"").split(b" ")[0]),
        ("euid", b"%d" % os.geteuid()),
        ("capabilities", capabilities[0] if capabilities else b""),
        ("netns", b"%d" % netns),
        ("python", b"%d.%d.%d" % sys.version_info[:3]),
        ("byteorder", sys.byteorder.encode()),
        ("collector", b"netlink" if use_netlink else b"procfs"),
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
    try:
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    except OSError:
        pids = []
    for pid in pids:
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


# ---------------------------------------------------------------------------------------------------- the conversation


class Probe(object):
    """Answers requests until its input ends."""

    def __init__(self, reader, output):
        self.reader, self.output = reader, output
        self.nonce = reader.read(8)
        self.sequence = 0
        self.links_of = {}
        try:
            self.netlink = Netlink(NETLINK_SOCK_DIAG)
            for _ in self.netlink.dump(SOCK_DIAG_BY_FAMILY, struct.pack("=BBBBI48s", AF_INET, 6, 0, 0, 1 << 7, b"")):
                pass
        except Refused:
            self.netlink = None

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
        """Every TCP socket of this namespace with one of the ports (all, if none): BLOCK and LISTENERS frames."""
        ports = struct.unpack(">%dH" % (len(payload) // 2), payload)
        chunks = diag_dumps(self.netlink, ports) if self.netlink else proc_rows(ports)
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
        """Exact look-ups: requests of 44 bytes (family, scope, then 40 of inet_diag_sockid) -> ROWS frames.

        An answer is: status (0 absent, 1 found, 2 the kernel refused), length, message.
        """
        count = len(payload) // 44
        asked = [struct.unpack_from("=II36s", payload, 44 * index) for index in range(count)]
        look = looks_netlink(self.netlink, self.links(), asked) if self.netlink else self.proc_looks(asked)
        answers, size = [], 0
        for family, scope, sockid in asked:
            status, message = 0, None
            try:
                message = look(family, scope, sockid)
                status = 0 if message is None else 1
            except Refused as refusal:
                status, message = 2, struct.pack("=I", refusal.args[0])
            answers.append(struct.pack(">BH", status, len(message or b"")) + (message or b""))
            size += len(answers[-1])
            if size > 1 << 20:
                self.frame(ROWS, zlib.compress(b"".join(answers), 1))
                answers, size = [], 0
        self.frame(ROWS, zlib.compress(b"".join(answers), 1))
        return count

    def links(self):
        """Local address -> indexes of the interfaces that a socket with it may be bound to."""
        if not self.links_of:
            try:
                listed = interface_addresses()
            except Refused:
                listed = []
            for address, index, master, _ in listed:
                self.links_of.setdefault(address, set()).update({index, master} - {0})
            self.links_of.setdefault(b"", set())
        return self.links_of

    def proc_looks(self, asked):
        """By /proc: one pass over both tables for all that is asked."""
        wanted, found = {canonical(sockid, family) for family, _, sockid in asked}, {}
        for data in proc_rows(()):
            for offset in range(0, len(data), ROW):
                key = canonical(bytes(data[offset + 20 : offset + 56]), data[offset + 16])
                if key in wanted and data[offset + 17] != LISTEN:
                    found[key] = bytes(data[offset + 16 : offset + ROW])
        return lambda family, scope, sockid: found.get(canonical(sockid, family))

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
            return self.fields(evidence())
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
