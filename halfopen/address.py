"""Canonical addresses, endpoints and 4-tuples.

An address is its 4 or 16 packed bytes; an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) is its
IPv4 address, because the kernel reports an IPv4 connection of a dual-stack listener that way.

A key is the 4-tuple as one end sees it: local address, peer address, local port, peer port (big-endian),
12 bytes for IPv4 and 36 for IPv6. `mirror` gives the key that the other end must have.
"""

from __future__ import annotations

import base64
import hashlib
import socket

V4_KEY = 12
V6_KEY = 36
_MAPPED = bytes(10) + b"\xff\xff"


def canonical(packed: bytes) -> bytes:
    """4 or 16 packed bytes -> the same with an IPv4-mapped address as IPv4."""
    if len(packed) == 16 and packed.startswith(_MAPPED):
        return packed[12:]
    return packed


def parse(text: str) -> bytes:
    """Address as text, with or without brackets or a scope id -> canonical packed bytes. ValueError if none."""
    bare = text.strip().removeprefix("[").removesuffix("]").partition("%")[0]
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        return canonical(socket.inet_pton(family, bare))
    except (OSError, UnicodeError) as error:
        raise ValueError(f"not an IP address: {text!r}") from error


def show(packed: bytes) -> str:
    """Packed bytes -> canonical text, IPv6 compressed, without brackets."""
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def endpoint(packed: bytes, port: int) -> str:
    """`10.0.1.5:40312` or `[2001:db8::1]:443`."""
    return f"{show(packed)}:{port}" if len(packed) == 4 else f"[{show(packed)}]:{port}"


def parse_endpoint(text: str) -> tuple[bytes, int]:
    """What `endpoint` writes -> (packed address, port). ValueError if it is none."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"not an address with a port: {text!r}")
    return parse(host), int(port)


def make_key(local: bytes, local_port: int, peer: bytes, peer_port: int) -> bytes:
    """Key of one end; both addresses of one family and canonical."""
    return local + peer + local_port.to_bytes(2, "big") + peer_port.to_bytes(2, "big")


def split_key(key: bytes) -> tuple[bytes, int, bytes, int]:
    """Key -> (local address, local port, peer address, peer port)."""
    width = (len(key) - 4) // 2
    return key[:width], int.from_bytes(key[-4:-2], "big"), key[width : 2 * width], int.from_bytes(key[-2:], "big")


def mirror(key: bytes) -> bytes:
    """The key of the same connection as its other end sees it."""
    width = (len(key) - 4) // 2
    return key[width : 2 * width] + key[:width] + key[-2:] + key[-4:-2]


def is_loopback(packed: bytes) -> bool:
    """127.0.0.0/8 or ::1: an address that means another host on each host."""
    return packed[0] == 127 if len(packed) == 4 else packed == bytes(15) + b"\x01"


def is_link_local(packed: bytes) -> bool:
    """fe80::/10 (RFC 4291 section 2.5.6): unique on one link only."""
    return len(packed) == 16 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80


def is_unspecified(packed: bytes) -> bool:
    """0.0.0.0 or ::"""
    return not any(packed)


def community_id(key: bytes) -> str:
    """Community ID v1 of the flow, seed 0: the same for both ends, and the name that Zeek or Suricata give it."""
    local, local_port, peer, peer_port = split_key(key)
    one, two = sorted(((local, local_port.to_bytes(2, "big")), (peer, peer_port.to_bytes(2, "big"))))
    packed = b"\x00\x00" + one[0] + two[0] + b"\x06\x00" + one[1] + two[1]
    return "1:" + base64.b64encode(hashlib.sha1(packed, usedforsecurity=False).digest()).decode()
