"""The ground of a network namespace: addresses, links, and what it tracks and forwards."""

import struct

from halfopen.probe.head import Refused
from halfopen.probe.netlink import NETLINK_ROUTE, Netlink, attributes, messages
from halfopen.probe.procfs import read_file

RTM_GETLINK, RTM_GETADDR = 18, 22
IPVS = "/proc/net/ip_vs_conn"
TRACKED = "/proc/sys/net/netfilter/nf_conntrack_count"
ADDRESSES_LIMIT = 16 << 20  # bytes of a text with addresses
FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


def links() -> "dict[int, tuple[bytes, int]]":
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


def inner_links() -> "list[int]":
    """Bridges on which there is nothing but veth: behind them are namespaces of this host, and nobody else."""
    known = links()
    others = {master for kind, master in known.values() if kind != b"veth"}
    return [index for index, (kind, _) in known.items() if kind == b"bridge" and index not in others]


def interface_addresses() -> "list[tuple[bytes, int, int]]":
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


def interfaces_of() -> "dict[bytes, set[int]]":
    """Address -> interfaces that a socket with it may be bound to; never empty, so that it is read once."""
    found: dict[bytes, set[int]] = {b"": set()}
    try:
        above = links()
        for address, _, index in interface_addresses():
            found.setdefault(address, set()).update({index, above.get(index, (b"", 0))[1]} - {0})
    except Refused:
        pass  # a look-up is then tried as it was asked, and no further
    return found


def whole_file(path: str) -> bytes:
    """All of a file, empty where it is not to be had; Refused where it is so large that addresses would be cut off."""
    text = read_file(path, ADDRESSES_LIMIT + 1) or b""
    if len(text) > ADDRESSES_LIMIT:
        raise Refused(27, path)  # EFBIG
    return text


def balances() -> bool:
    """Whether IPVS has connections here: a line beside the heading."""
    return (read_file(IPVS, 512) or b"").count(b"\n") > 1


def ground() -> "list[tuple[str, bytes]]":
    """Of the network namespace that we are in: an `address` field for each address, and what it tracks and forwards.

    What IPVS has counts as one entry more of connection tracking.
    Without netlink the text from which the receiver reads the addresses: local routes, and those of IPv6.
    """
    found = []
    try:
        for address, prefix, index in interface_addresses():
            found.append(("address", struct.pack(">BBI", len(address), prefix, index) + address))
    except Refused:
        found = [(name, whole_file("/proc/net/" + name)) for name in ("fib_trie", "if_inet6")]
    tracked = (read_file(TRACKED, 32) or b"").strip()
    found.append(("tracked", b"%d" % (int(tracked or b"0") + 1) if balances() else tracked))
    # A container has forwarding from its host; one with nothing but the way out of it forwards for nobody.
    forwards = any((read_file("/proc/sys/net/" + path, 32) or b"0").strip() != b"0" for path in FORWARDING)
    if forwards and any(kind != b"veth" or master for kind, master in links().values()):
        found.append(("forwards", b"1"))
    return found
