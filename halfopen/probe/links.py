"""What leads from one network namespace to another: the links between them, the routes there, and who owns them."""

import itertools
import os
import struct

from halfopen.probe.head import AF_INET, AF_INET6, Refused
from halfopen.probe.interfaces import RTM_GETLINK
from halfopen.probe.namespaces import Inside
from halfopen.probe.netlink import NETLINK_ROUTE, NLM_F_REQUEST, NLMSG_ERROR, Netlink, attributes, messages
from halfopen.probe.procfs import inode
from halfopen.probe.session import Session

RTM_GETROUTE, RTM_GETNSID = 26, 90
NS_GET_USERNS, NS_GET_OWNER_UID = 0xB701, 0xB704  # include/uapi/linux/nsfs.h: Linux 4.9 and 4.11
RTN_LOCAL = 2  # include/uapi/linux/rtnetlink.h; the number of the table is 255
GONE = b"\xff" * 4  # NETNSA_NSID_NOT_ASSIGNED
LINKS_LIMIT = 20_000  # of one namespace
SPACES_LIMIT = 1000  # namespaces that are opened to find those of the other ends of links


def reach(session: Session, routing: "Netlink | None", addresses: "list[bytes]") -> "list[tuple[str, bytes]]":
    """Of the namespace that we are in: `owner`, `link` for each that leads out of it, `local` for each network that it
    has whole, and `route` for each address.

    owner: uid of the owner of its user namespace. link: see `link_field`. route: index of the link by which `routing`,
    which asks the host's own namespace, would send to that address, and the address. What the kernel refuses is left
    out; `links` says that they are all there.
    """
    found = owner_field()
    try:
        found += [*joined_links(session), ("links", b"1"), *local_routes()]
        if routing:
            for address in addresses:
                code, _, link, _ = route_of(routing, b"", address, 0)
                if code == 0:
                    found.append(("route", struct.pack(">I", link) + address))
    except Refused:
        pass
    return found


def route_socket() -> "Netlink | None":
    """A netlink socket that asks for routes of the namespace that we are in, from wherever we go with it."""
    try:
        return Netlink(NETLINK_ROUTE)
    except Refused:
        return None


def local_routes() -> "list[tuple[str, bytes]]":
    """Routes of type local in the table of that name that are wider than one address: `local`: prefix, and address.

    A kernel that cannot be asked for one table alone (before 4.20) would send all routes, and is not asked.
    """
    netlink = Netlink(NETLINK_ROUTE)
    try:
        netlink.socket.setsockopt(270, 12, 1)  # SOL_NETLINK, NETLINK_GET_STRICT_CHK
    except OSError:
        return []
    found = []
    for family, bits in ((AF_INET, 32), (AF_INET6, 128)):
        asked = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 255, 0, 0, RTN_LOCAL, 0)
        try:
            for data in netlink.dump(RTM_GETROUTE, asked):
                for offset, length in messages(data):
                    prefix, kind = data[offset + 17], data[offset + 23]
                    address = attributes(data, offset + 28, offset + length).get(1, b"")  # RTA_DST
                    if kind == RTN_LOCAL and 0 < prefix < bits and address[:1] != b"\x7f":
                        found.append(("local", struct.pack(">B", prefix) + address))
        except Refused:
            pass  # a kernel without that family
    return found


def owner_field() -> "list[tuple[str, bytes]]":
    """The uid of the owner of the user namespace that the network namespace we are in belongs to, as a field."""
    import fcntl  # which a host without other namespaces has no use for

    opened = []
    try:
        opened.append(os.open("/proc/self/ns/net", os.O_RDONLY))
        opened.append(fcntl.ioctl(opened[0], NS_GET_USERNS))
        uid = fcntl.ioctl(opened[1], NS_GET_OWNER_UID, bytes(4))
        return [("owner", b"%d" % struct.unpack("=I", uid)[0])]
    except OSError:
        return []  # an older kernel, or a user namespace that is not below ours
    finally:
        for descriptor in opened:
            os.close(descriptor)


def joined_links(session: Session) -> "list[tuple[str, bytes]]":
    """A `link` field for each interface that is joined to one of another namespace, and for each of hardware."""
    netlink = Netlink(NETLINK_ROUTE)
    links = []
    for data in netlink.dump(RTM_GETLINK, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)):
        for offset, length in messages(data):
            here = attributes(data, offset + 32, offset + length)
            hardware, index = struct.unpack_from("=Hi", data, offset + 18)
            if here.get(37) == GONE:
                continue  # the namespace of its other end is being taken down
            if 37 in here or (hardware != 772 and 18 not in here):  # IFLA_LINK_NETNSID, ARPHRD_LOOPBACK, IFLA_LINKINFO
                links.append((index, here))
        if len(links) > LINKS_LIMIT:
            raise Refused(27, "links")  # EFBIG
    spaces = spaces_of(session, netlink, {here[37] for _, here in links if 37 in here})
    return [("link", link_field(index, here, spaces)) for index, here in links]


def link_field(index: int, here: "dict[int, bytes]", spaces: "dict[bytes, int]") -> bytes:
    """An interface: indexes of itself, its master and what it is joined to; inode of the namespace where that is
    (0: not known); name, link-layer address and kind, each behind its length.
    """
    info = here.get(18, b"")  # IFLA_LINKINFO
    texts = (here.get(3, b""), here.get(1, b""), attributes(info, 0, len(info)).get(1, b""))
    master, joined = (struct.unpack("=I", here.get(kind, bytes(4)))[0] for kind in (10, 5))  # IFLA_MASTER, IFLA_LINK
    own = inode("/proc/self/ns/net") if joined else 0
    netns = spaces.get(here[37], 0) if 37 in here else own
    head = struct.pack(">IIIQ", index, master, joined, netns)
    return head + b"".join(struct.pack(">B", len(text)) + text for text in texts)


def spaces_of(session: Session, netlink: Netlink, numbers: "set[bytes]") -> "dict[bytes, int]":
    """What the namespace that we are in calls other ones (NETNSA_NSID) -> their inodes, of those that we may open."""
    found: dict[bytes, int] = {}
    home = [] if Inside.home is None else [f"/proc/self/fd/{Inside.home}"]
    for path in itertools.islice(itertools.chain(home, session.paths.values()), SPACES_LIMIT):
        if found.keys() >= numbers:
            break
        try:
            there = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            netlink.send(RTM_GETNSID, NLM_F_REQUEST, struct.pack("=IHHI", 0, 8, 3, there))  # NETNSA_FD
            data = netlink.receive()
            if struct.unpack_from("=H", data, 4)[0] != NLMSG_ERROR:
                number = attributes(data, 20, struct.unpack_from("=I", data)[0]).get(1, b"")
                found[number] = os.fstat(there).st_ino
        finally:
            os.close(there)
    return {number: found[number] for number in numbers if number in found}


def route_of(netlink: Netlink, local: bytes, peer: bytes, scope: int) -> "tuple[int, int, int, bytes]":
    """The route of packets from a local address to a peer -> errno, type, index of the output interface, gateway."""
    bits = 8 * len(peer)
    body = struct.pack("=BBBBBBBBI", AF_INET if bits == 32 else AF_INET6, bits, 8 * len(local), 0, 0, 0, 0, 0, 0)
    for kind, value in ((1, peer), (2, local), (4, struct.pack("=I", scope) if scope else b"")):  # DST, SRC, OIF
        body += struct.pack("=HH", 4 + len(value), kind) + value if value else b""
    netlink.send(RTM_GETROUTE, NLM_F_REQUEST, body)
    data = netlink.receive()
    if struct.unpack_from("=H", data, 4)[0] == NLMSG_ERROR:
        return -struct.unpack_from("=i", data, 16)[0], 0, 0, b""
    here = attributes(data, 28, struct.unpack_from("=I", data)[0])
    gateway = here.get(5) or here.get(18, b"")[2:]  # RTA_GATEWAY; RTA_VIA: family and address of another kind
    return 0, data[23], struct.unpack("=I", here.get(4, bytes(4)))[0], gateway
