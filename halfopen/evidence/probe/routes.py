"""The question ROUTES and its answer: routes, neighbours and links of network namespaces. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from msgspec import Struct

from halfopen.evidence.probe.frames import broken, needed
from halfopen.evidence.probe.reach import LINK_ADDRESS_LIMIT, decode_link
from halfopen.model import Link, NetnsRef, Route, RouteQuery, Routing

FIELDS_LIMIT = 500_000  # routes, neighbours and links in one answer

RTN_UNICAST, RTN_LOCAL = 1, 2  # include/uapi/linux/rtnetlink.h; the other types lead to no one host
VALID = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80  # NUD_VALID: not INCOMPLETE, not FAILED


class NamespaceFields(Struct):
    """The fields of one namespace as they come. A neighbour is named by interface index and address."""

    routes: dict[RouteQuery, Route | None] = {}
    neighbours: dict[tuple[int, bytes], bytes] = {}
    links: dict[int, Link] = {}

    def routing(self) -> Routing:
        """Each route with the link-layer address of its next hop."""
        routes = {
            query: route
            and Route(
                route.link,
                route.gateway,
                self.neighbours.get((route.link, route.gateway or query.peer)),
                route.is_local,
            )
            for query, route in self.routes.items()
        }
        return Routing(routes, self.links)


def encode_route_query(query: RouteQuery, netns: int) -> bytes:
    """A query -> its bytes in the request. netns: as the probe names it, 0 for its own."""
    return struct.pack("=QBI16s16s", netns, len(query.local), query.scope, query.local, query.peer)


def decode_routes(fields: Sequence[tuple[str, bytes]], asked: Sequence[RouteQuery]) -> dict[NetnsRef, Routing]:
    """The answer to ROUTES -> what each namespace answered; one that refused, or is gone, is not there."""
    if len(fields) > FIELDS_LIMIT:
        raise broken(f"more than {FIELDS_LIMIT} routes and links")
    found: dict[NetnsRef, Routing] = {}
    for some in by_namespace(fields):
        here = NamespaceFields()
        for name, value in some:
            if name == "route":
                query, route = decode_route(value, asked)
                here.routes[query] = route
            elif name == "neighbour":
                index, state, width = unpacked(">IHB", value)
                hop, address = part(value, 7, width), link_address(value[7 + width :])
                if state & VALID and address:
                    here.neighbours[index, hop] = address
            elif name == "link":
                link = decode_link(value)
                here.links[link.index] = link
        places = {query.place for query in here.routes}
        if len(places) > 1:
            raise broken("routes of several namespaces under one")
        found.update({place: here.routing() for place in places})
    return found


def by_namespace(fields: Sequence[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """The fields behind each `netns`."""
    some: list[tuple[str, bytes]] | None = None
    for name, value in fields:
        if name == "netns":
            needed(value)
            if some is not None:
                yield some
            some = []
        elif some is None:
            raise broken("a route of no namespace")
        else:
            some.append((name, value))
    if some is not None:
        yield some


def decode_route(value: bytes, asked: Sequence[RouteQuery]) -> tuple[RouteQuery, Route | None]:
    """One field `route` -> the query, and its route; None where the kernel has none."""
    number, errno, kind, link = unpacked(">IHBI", value)
    gateway = value[11:]
    if number >= len(asked) or len(gateway) not in (0, 4, 16):
        raise broken("a route that nobody asked for, or a gateway of the wrong size")
    if errno or kind not in (RTN_UNICAST, RTN_LOCAL):
        return asked[number], None
    return asked[number], Route(link, gateway or None, None, kind == RTN_LOCAL)


def unpacked(layout: str, value: bytes) -> tuple[int, ...]:
    """Numbers at the start of a field."""
    if len(value) < struct.calcsize(layout):
        raise broken("a route, neighbour or link is cut")
    return struct.unpack_from(layout, value)


def part(value: bytes, at: int, length: int) -> bytes:
    """So many bytes of a field, from an offset on."""
    if at + length > len(value):
        raise broken("a route, neighbour or link is cut")
    return value[at : at + length]


def link_address(raw: bytes) -> bytes:
    """A link-layer address of Linux."""
    if len(raw) > LINK_ADDRESS_LIMIT:
        raise broken("a link-layer address that is too long")
    return raw
