"""Where packets of a connection go from here: routes, their next hops, and the links of a network namespace."""

import itertools
import os
import struct
from _collections_abc import Iterator

from halfopen.probe.head import AF_INET, AF_INET6, Refused
from halfopen.probe.interfaces import RTM_GETLINK
from halfopen.probe.namespaces import Inside
from halfopen.probe.netlink import NETLINK_ROUTE, NLM_F_REQUEST, NLMSG_ERROR, Netlink, attributes, messages
from halfopen.probe.procfs import inode
from halfopen.probe.session import Session

RTM_GETROUTE, RTM_GETNEIGH, RTM_GETNSID = 26, 30, 90
ROUTE_QUERY = struct.Struct("=QBI16s16s")  # namespace, bytes of an address, interface index or 0, local address, peer's
LINKS_LIMIT = 20_000  # of one namespace
SPACES_LIMIT = 1000  # namespaces that are opened to find those of the other ends of links


def routes(session: Session, payload: bytes) -> int:
    """The answer to ROUTES: queries -> one FIELDS frame for each namespace. Those of one namespace stand together.

    Fields: `netns`; `route` for each query: its number in the request, errno (0: there is a route), type, index of the
    output interface, gateway or nothing; `neighbour` for each next hop: interface index, state, address behind its
    length, link-layer address; `link` for each interface: see `link_field`. Or `refused`: errno.
    """
    asked = [(number, *query) for number, query in enumerate(ROUTE_QUERY.iter_unpack(payload))]
    total = 0
    for netns, group in itertools.groupby(asked, lambda query: int(query[1])):
        fields = [("netns", b"%d" % netns)]
        try:
            with session.enter(netns):
                total += session.fields(fields + routes_here(session, [query[:1] + query[2:] for query in group]))
        except Refused as refusal:
            total += session.fields([*fields, ("refused", b"%d" % refusal.args[0])])
    return total


def routes_here(session: Session, wanted: "list[tuple[int, int, int, bytes, bytes]]") -> "list[tuple[str, bytes]]":
    """The fields of the namespace that we are in. wanted: (number, bytes of an address, scope, local, peer)."""
    netlink = Netlink(NETLINK_ROUTE)
    found, hops = [], set()
    for number, width, scope, local, peer in wanted:
        code, kind, link, gateway = route_of(netlink, local[:width], peer[:width], scope)
        hops.add((link, gateway or peer[:width]))
        found.append(("route", struct.pack(">IHBI", number, code, kind, link) + gateway))
    for family in {AF_INET if len(hop) == 4 else AF_INET6 for _, hop in hops}:
        for index, state, hop, address in neighbours(netlink, family):
            if (index, hop) in hops:
                found.append(("neighbour", struct.pack(">IHB", index, state, len(hop)) + hop + address))
    return found + link_fields(session, netlink)


def route_of(netlink: Netlink, local: bytes, peer: bytes, scope: int) -> "tuple[int, int, int, bytes]":
    """The route of packets from a local address to a peer -> errno, type, index of the output interface, gateway."""
    bits = 8 * len(peer)
    body = struct.pack("=BBBBBBBBI", AF_INET if bits == 32 else AF_INET6, bits, bits, 0, 0, 0, 0, 0, 0)
    for kind, value in ((1, peer), (2, local), (4, struct.pack("=I", scope) if scope else b"")):  # DST, SRC, OIF
        body += struct.pack("=HH", 4 + len(value), kind) + value if value else b""
    netlink.send(RTM_GETROUTE, NLM_F_REQUEST, body)
    data = netlink.receive()
    if struct.unpack_from("=H", data, 4)[0] == NLMSG_ERROR:
        return -struct.unpack_from("=i", data, 16)[0], 0, 0, b""
    here = attributes(data, 28, struct.unpack_from("=I", data)[0])
    gateway = here.get(5) or here.get(18, b"")[2:]  # RTA_GATEWAY; RTA_VIA: family and address of another kind
    return 0, data[23], struct.unpack("=I", here.get(4, bytes(4)))[0], gateway


def neighbours(netlink: Netlink, family: int) -> "Iterator[tuple[int, int, bytes, bytes]]":
    """The neighbour table of one family -> interface index, state, address, link-layer address (b"" if none)."""
    for data in netlink.dump(RTM_GETNEIGH, struct.pack("=BBHiHBB", family, 0, 0, 0, 0, 0, 0)):
        for offset, length in messages(data):
            index, state = struct.unpack_from("=IH", data, offset + 20)
            here = attributes(data, offset + 28, offset + length)
            yield index, state, here.get(1, b""), here.get(2, b"")  # NDA_DST, NDA_LLADDR


def link_fields(session: Session, netlink: Netlink) -> "list[tuple[str, bytes]]":
    """A field for each interface: indexes of itself, its master and what it is joined to; inode of the namespace where
    that is (0: not known); name, link-layer address and kind, each behind its length.
    """
    links = []
    for data in netlink.dump(RTM_GETLINK, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)):
        for offset, length in messages(data):
            here = attributes(data, offset + 32, offset + length)
            links.append((struct.unpack_from("=I", data, offset + 20)[0], here))
        if len(links) > LINKS_LIMIT:
            raise Refused(27, "links")  # EFBIG
    spaces = spaces_of(session, netlink, {here[37] for _, here in links if 37 in here})  # IFLA_LINK_NETNSID
    own = inode("/proc/self/ns/net")
    found = []
    for index, here in links:
        info = here.get(18, b"")  # IFLA_LINKINFO
        texts = (here.get(3, b""), here.get(1, b""), attributes(info, 0, len(info)).get(1, b""))
        master, joined = (struct.unpack("=I", here.get(kind, bytes(4)))[0] for kind in (10, 5))  # IFLA_MASTER, _LINK
        netns = spaces.get(here[37], 0) if 37 in here else own if joined else 0
        head = struct.pack(">IIIQ", index, master, joined, netns)
        found.append(("link", head + b"".join(struct.pack(">B", len(text)) + text for text in texts)))
    return found


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
