"""Where packets of a connection go from here: routes, their next hops, and the links of a network namespace."""

import itertools
import struct
from _collections_abc import Iterator

from halfopen.probe.head import AF_INET, AF_INET6, Refused
from halfopen.probe.interfaces import RTM_GETLINK
from halfopen.probe.links import LINKS_LIMIT, link_field, route_of, spaces_of
from halfopen.probe.netlink import NETLINK_ROUTE, Netlink, attributes, messages
from halfopen.probe.session import Session

RTM_GETNEIGH = 30
ROUTE_QUERY = struct.Struct("=QBI16s16s")  # namespace, bytes of an address, interface index or 0, local address, peer's


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


def neighbours(netlink: Netlink, family: int) -> "Iterator[tuple[int, int, bytes, bytes]]":
    """The neighbour table of one family -> interface index, state, address, link-layer address (b"" if none)."""
    for data in netlink.dump(RTM_GETNEIGH, struct.pack("=BBHiHBB", family, 0, 0, 0, 0, 0, 0)):
        for offset, length in messages(data):
            index, state = struct.unpack_from("=IH", data, offset + 20)
            here = attributes(data, offset + 28, offset + length)
            yield index, state, here.get(1, b""), here.get(2, b"")  # NDA_DST, NDA_LLADDR


def link_fields(session: Session, netlink: Netlink) -> "list[tuple[str, bytes]]":
    """A `link` field for each interface."""
    links = []
    for data in netlink.dump(RTM_GETLINK, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)):
        for offset, length in messages(data):
            here = attributes(data, offset + 32, offset + length)
            links.append((struct.unpack_from("=I", data, offset + 20)[0], here))
        if len(links) > LINKS_LIMIT:
            raise Refused(27, "links")  # EFBIG
    spaces = spaces_of(session, netlink, {here[37] for _, here in links if 37 in here})  # IFLA_LINK_NETNSID
    return [("link", link_field(index, here, spaces)) for index, here in links]
