"""Connection tracking: what the network namespaces of a host translate, as pairs of tuples."""

import _socket
import struct
import zlib
from _collections_abc import Iterator

from halfopen.probe.head import AF_INET, AF_INET6, ROWS, Refused
from halfopen.probe.interfaces import TRACKED, inner_links
from halfopen.probe.links import route_of
from halfopen.probe.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink, attributes, messages
from halfopen.probe.procfs import read_file
from halfopen.probe.session import Session

CONNTRACK_GET = 0x0101  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
RTM_GETRULE = 34
PLAIN_RULES = (0, 32766, 32767)  # priorities of the rules that each namespace has (net/ipv4/fib_rules.c)
NO_WAY = (22, 13, 101, 113)  # EINVAL of a blackhole, EACCES of prohibit, ENETUNREACH, EHOSTUNREACH
NO_WAY_TYPES = (6, 7, 8)  # RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, as older kernels tell it of IPv6
BEHIND_LIMIT = 5000  # addresses behind translations whose route is asked for

# Of both tuples of a conntrack entry: source, destination, protocol, source port, destination port.
TUPLES = {
    AF_INET: struct.Struct("=12x4s4x4s8xB7x2s6x2s2x"),
    AF_INET6: struct.Struct("=12x16s4x16s8xB7x2s6x2s2x"),
}


def translations(session: Session, _: bytes) -> int:
    """The answer to TRANSLATIONS: entries that translate, of our namespace and of each other.

    FIELDS with `netns`, then ROWS for each. ROWS here: length of a tuple, then pairs of them, compressed. FIELDS after
    them: `nowhere` for each address behind a translation to which no route leads. `refused` has an errno where there is
    no table.
    """
    total = 0
    for netns in session.spaces():
        fields = [("netns", b"%d" % netns)]
        try:
            with session.enter(netns):
                behind: set[bytes] = set()
                for number, pairs in enumerate(translated()):
                    if number == 0:
                        session.fields(fields + [("inner", b"%d" % index) for index in inner_links()])
                    for width in (12, 36):
                        rows = [before + after for before, after in pairs if len(before) == width]
                        session.frame(ROWS, struct.pack(">B", width) + zlib.compress(b"".join(rows), 1))
                    total += len(pairs)
                    behind.update(address for pair in pairs for address in replaced(*pair))
                if behind:
                    session.fields(fields + [("nowhere", address) for address in without_route(behind)])
        except Refused as refusal:
            session.fields([*fields, ("refused", b"%d" % refusal.args[0])])
    return total


def redirects(ports: "tuple[int, ...]") -> bool:
    """Whether an entry of the namespace that we are in leads from one of these ports to another, or from another to it.

    False where that may not be read: HELLO says so.
    """
    wanted = {struct.pack(">H", port) for port in ports}
    try:
        for pairs in translated((0x20, 0x30)) if wanted else ():
            for before, after in pairs:
                if before[-2:] != after[-2:] and not wanted.isdisjoint((before[-2:], after[-2:])):
                    return True
    except Refused:
        pass
    return False


def translated(kinds: "tuple[int, ...]" = (0x10, 0x20, 0x30)) -> "Iterator[list[tuple[bytes, bytes]]]":
    """Connection tracking of the namespace that we are in -> lists of pairs of tuples, of entries that translate.

    A pair is the tuple of the first packet as it came and as it went on: source, destination, and their ports. Since
    5.15 the kernel sorts out the rest; before, it gives all entries to each question. `kinds`: which of them, by
    the bits IPS_SRC_NAT and IPS_DST_NAT: either, or both.
    """
    if int(read_file(TRACKED, 32) or b"0") == 0:
        return
    try:
        for bits in kinds:  # CTA_STATUS under CTA_STATUS_MASK
            body = struct.pack("=IHH", 0, 8, 3) + struct.pack(">I", bits) + struct.pack("=HH", 8, 26)
            for data in Netlink(NETLINK_NETFILTER).dump(CONNTRACK_GET, body + struct.pack(">I", 0x30)):
                yield conntrack_pairs(data)
    except Refused as refusal:
        try:
            with open("/proc/net/nf_conntrack", "rb") as file:
                yield [pair for line in file for pair in conntrack_line(line)]
        except OSError as error:
            raise Refused(refusal.args[0], "conntrack") from error


def replaced(before: bytes, after: bytes) -> "list[bytes]":
    """The addresses of a pair of tuples that one side of the translation knows only: old sources, new targets."""
    width = (len(before) - 4) // 2
    source, target = before[:width], after[width : 2 * width]
    return [source] * (source != after[:width]) + [target] * (target != before[width : 2 * width])


def without_route(addresses: "set[bytes]") -> "list[bytes]":
    """Those of the addresses to which no route of the namespace that we are in leads.

    None where rules choose routes by more than the target: then a packet may go where our question does not.
    """
    try:
        netlink = Netlink(NETLINK_ROUTE)
        if any(priority not in PLAIN_RULES for priority in rules(netlink)):
            return []
        return [address for address in sorted(addresses)[:BEHIND_LIMIT] if not has_route(netlink, address)]
    except Refused:
        return []


def rules(netlink: Netlink) -> "Iterator[int]":
    """The priorities of the rules by which a route is chosen."""
    for family in (AF_INET, AF_INET6):
        for data in netlink.dump(RTM_GETRULE, struct.pack("=B11x", family)):
            for offset, length in messages(data):
                here = attributes(data, offset + 28, offset + length)
                yield struct.unpack("=I", here.get(6, bytes(4)))[0]  # FRA_PRIORITY


def has_route(netlink: Netlink, address: bytes) -> bool:
    """Whether packets to an address go anywhere."""
    code, kind, _, _ = route_of(netlink, b"", address, 0)
    return code not in NO_WAY and kind not in NO_WAY_TYPES


def conntrack_pairs(data: memoryview) -> "list[tuple[bytes, bytes]]":
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


def conntrack_line(line: bytes) -> "list[tuple[bytes, bytes]]":
    """A line of /proc/net/nf_conntrack -> its pair, if it is TCP and translates."""
    words = line.split()
    if words[2:3] != [b"tcp"]:
        return []
    values: dict[bytes, list[str]] = {}
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
    except (KeyError, IndexError, ValueError, OSError, struct.error) as error:
        raise Refused(74, "/proc/net/nf_conntrack") from error
    before = b"".join(ends[0])
    after = ends[1][1] + ends[1][0] + ends[1][3] + ends[1][2]
    return [(before, after)] if before != after else []
