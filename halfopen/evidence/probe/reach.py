"""What leads to a network namespace, as the probe says it: links, routes, its owner, its local routes. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from halfopen import address
from halfopen.evidence.probe.frames import broken, needed, text
from halfopen.model import InterfaceAddress, Link, LocalRoute, Reach

NAME_LIMIT = 64  # bytes of the name of an interface or of a kind; IFNAMSIZ is 16
LINK_ADDRESS_LIMIT = 32  # bytes: MAX_ADDR_LEN of include/linux/netdevice.h
LINKS_LIMIT = 20_000

Fields = Sequence[tuple[str, bytes]]


def decode_reach(fields: Fields) -> Reach:
    """Fields of a namespace -> what leads to it. What is not among them was refused there."""
    owners = [needed(value) for name, value in fields if name == "owner"]
    links = tuple(decode_link(value) for name, value in fields if name == "link")
    if len(links) > LINKS_LIMIT:
        raise broken(f"more than {LINKS_LIMIT} links")
    return Reach(owners[0] if owners else None, links if any(name == "links" for name, _ in fields) else None)


def with_routes(addresses: Iterable[InterfaceAddress], fields: Fields) -> tuple[InterfaceAddress, ...]:
    """The addresses of a namespace with the link by which its host sends to each."""
    routes = {}
    for name, value in fields:
        if name == "route":
            if len(value) not in (8, 20):
                raise broken("a route of the wrong size")
            routes[address.canonical(value[4:])] = int.from_bytes(value[:4], "big")
    return tuple(replace(own, route=routes.get(own.address)) for own in addresses)


def decode_local_routes(fields: Fields) -> tuple[LocalRoute, ...]:
    """Fields of a namespace -> the networks of which it has every address."""
    found = []
    for name, value in fields:
        if name == "local":
            if len(value) not in (5, 17) or not 0 < value[0] < 8 * (len(value) - 1):
                raise broken("a local route of the wrong size")
            found.append(LocalRoute(value[1:], value[0]))
    return tuple(found)


def decode_link(value: bytes) -> Link:
    """One field `link`."""
    if len(value) < 20:
        raise broken("a link is cut")
    index, master, joined, netns = struct.unpack_from(">IIIQ", value)
    texts, at = [], 20
    for _ in range(3):
        length = value[at] if at < len(value) else 0
        texts.append(value[at + 1 : at + 1 + length])
        at += 1 + length
    if at != len(value) or len(texts[1]) > LINK_ADDRESS_LIMIT:
        raise broken("a link of the wrong size")
    name, link_address, kind = texts
    return Link(index, plain(name), link_address, plain(kind), master, joined, netns or None)


def plain(raw: bytes) -> str:
    """The name of an interface or of a kind, without the zero behind it."""
    return text(raw.partition(b"\0")[0], NAME_LIMIT)
