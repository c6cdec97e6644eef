"""Evidence that can be shown to strangers: addresses and names replaced, alike wherever the secret is the same.

What the judgement rests on is kept: ports, states, timers, queues, counters, families, which addresses are equal, and
whether one is loopback, link-local, private or unspecified. So redacted files of two hosts match as the files that
they come from. What is replaced or left out is the table HOW; text that the table does not know is replaced.

IPv4 addresses are permuted within their class, so that two never become one: a Feistel network (Luby and Rackoff 1988)
over keyed BLAKE2b, walked on until it is back in the class. IPv6 addresses are 64 bits or more of a keyed hash.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from enum import Enum
from hashlib import blake2b
from ipaddress import IPv4Network
from typing import Any

import msgspec
from msgspec.structs import replace

from halfopen import address
from halfopen.evidence.saved import Saved
from halfopen.table import Block

ROUNDS = 8


def redacted(files: Sequence[Saved], secret: bytes) -> list[Saved]:
    """The same evidence without the names and addresses."""
    cipher = Cipher(secret)
    return [msgspec.structs.replace(walk(file, cipher), redacted=True) for file in files]


class Cipher:
    """What each address and name becomes. One secret always gives the same."""

    def __init__(self, secret: bytes) -> None:
        self.key = blake2b(secret, digest_size=32).digest()
        self.known: dict[bytes, bytes] = {}

    def digest(self, purpose: str, data: bytes, size: int) -> bytes:
        """A keyed hash of some bytes."""
        return blake2b(data, digest_size=size, key=self.key, person=purpose.encode()).digest()

    def word(self, prefix: str, text: str) -> str:
        """`host-3fa29c01d27e` for a name; the same name with the same prefix always gives the same."""
        return f"{prefix}-{self.digest(prefix, text.encode('utf-8', 'surrogateescape'), 6).hex()}"

    def address(self, packed: bytes) -> bytes:
        """4 or 16 packed bytes -> others of the same family and class."""
        if packed not in self.known:
            self.known[packed] = self.ipv4(packed) if len(packed) == 4 else self.ipv6(packed)
        return self.known[packed]

    def ipv4(self, packed: bytes) -> bytes:
        """A permutation of each class of addresses; those that name no host stay as they are."""
        number = int.from_bytes(packed, "big")
        if any(is_in(number, network) for network in KEPT):
            return packed
        own = next((network for network in PRIVATE if is_in(number, network)), None)
        if own is not None:
            base, bits = int(own.network_address), 32 - own.prefixlen
            return (base | self.permuted(number - base, bits)).to_bytes(4, "big")
        while True:
            number = self.permuted(number, 32)
            if not any(is_in(number, network) for network in (*KEPT, *PRIVATE)):
                return number.to_bytes(4, "big")

    def permuted(self, number: int, bits: int) -> int:
        """One number of so many bits (an even count) for another, no two for the same."""
        half = bits // 2
        mask = (1 << half) - 1
        left, right = number >> half, number & mask
        for turn in range(ROUNDS):
            salt = bytes((bits, turn)) + right.to_bytes(2, "big")
            left, right = right, left ^ int.from_bytes(self.digest("ipv4", salt, 2), "big") & mask
        return left << half | right

    def ipv6(self, packed: bytes) -> bytes:
        """Global ones go to 2001:db8::/32 (RFC 3849), unique local ones to fd00::/8, link-local ones to fe80::/64."""
        if address.is_loopback(packed) or address.is_unspecified(packed) or packed[0] == 0xFF:
            return packed
        if address.is_link_local(packed):
            prefix = b"\xfe\x80" + bytes(6)
        else:
            prefix = b"\xfd" if packed[0] & 0xFE == 0xFC else b"\x20\x01\x0d\xb8"
        return prefix + self.digest("ipv6", packed, 16 - len(prefix))


def is_in(number: int, network: IPv4Network) -> bool:
    """Whether an address as a number is in a network."""
    return number >> (32 - network.prefixlen) == int(network.network_address) >> (32 - network.prefixlen)


def walk(value: Any, cipher: Cipher) -> Any:
    """Any part of the evidence, redacted. Text and bytes without a row in HOW are hidden."""
    if isinstance(value, Block):
        return redacted_block(value, cipher)
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return msgspec.structs.replace(value, **{name: treated(value, name, cipher) for name in names})
    if isinstance(value, dict):
        return {walk(key, cipher): walk(item, cipher) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(walk(item, cipher) for item in value)
    if isinstance(value, str) and not isinstance(value, Enum):
        return cipher.word("text", value)
    return b"" if isinstance(value, bytes) else value


def treated(owner: Any, name: str, cipher: Cipher) -> Any:
    """One field, redacted by its row of HOW."""
    value = getattr(owner, name)
    how = HOW.get((type(owner).__name__, name), walk)
    return None if value is None else how(value, cipher)


def redacted_block(block: Block, cipher: Cipher) -> Block:
    """A block with every address of its two address columns replaced."""

    def column(packed: bytes) -> bytes:
        rows = (packed[at : at + block.width] for at in range(0, len(packed), block.width))
        return b"".join(map(cipher.address, rows))

    return replace(block, local=column(block.local), peer=column(block.peer))


def keep(value: Any, _: Cipher) -> Any:
    """The value as it is: it does not say whose host it is."""
    return value


def packed_address(value: bytes, cipher: Cipher) -> bytes:
    """A packed address of 4 or 16 bytes -> another."""
    return cipher.address(value)


def link_address(value: bytes, cipher: Cipher) -> bytes:
    """A link-layer address, of any length."""
    return cipher.digest("link", value, len(value)) if value else b""


def packed_addresses(value: Sequence[bytes], cipher: Cipher) -> tuple[bytes, ...]:
    """Packed addresses -> others."""
    return tuple(map(cipher.address, value))


def key(value: bytes, cipher: Cipher) -> bytes:
    """A key with both addresses replaced; the ports stay."""
    local, local_port, peer, peer_port = address.split_key(value)
    return address.make_key(cipher.address(local), local_port, cipher.address(peer), peer_port)


def keys_of(width: int) -> Callable[[bytes, Cipher], bytes]:
    """How bytes are redacted that are keys of `width` bytes each, one after the other."""
    return lambda value, cipher: b"".join(key(value[at : at + width], cipher) for at in range(0, len(value), width))


def shown_addresses(value: Sequence[str], cipher: Cipher) -> tuple[str, ...]:
    """Addresses as text -> others as text."""
    return tuple(address.show(cipher.address(address.parse(shown))) for shown in value)


def host(value: str, cipher: Cipher) -> str:
    """The name of a host, in the inventory or its own -> `host-...`."""
    return cipher.word("host", value)


def hosts(value: Sequence[str], cipher: Cipher) -> tuple[str, ...]:
    """Names of hosts -> `host-...` each."""
    return tuple(host(name, cipher) for name in value)


def named(prefix: str) -> Callable[[str, Cipher], str]:
    """How a name is redacted that becomes `PREFIX-...`."""
    return lambda value, cipher: cipher.word(prefix, value)


def version(value: str, _: Cipher) -> str:
    """The numbers that a version begins with: what follows is whose build it is."""
    found = re.match(r"\d+(\.\d+)*", value)
    return found[0] if found else ""


def boot(value: str, cipher: Cipher) -> str:
    """A boot id -> another UUID."""
    return str(uuid.UUID(bytes=cipher.digest("boot", value.encode("utf-8", "surrogateescape"), 16)))


def user(value: int, cipher: Cipher) -> int:
    """A user's number; root stays root."""
    return 1000 + int.from_bytes(cipher.digest("user", str(value).encode(), 2), "big") if value else 0


def sentences(value: Sequence[str], _: Cipher) -> tuple[str, ...]:
    """Sentences may name anything: only how many there were is kept."""
    return (HIDDEN,) * len(value)


def sentence(_: str, __: Cipher) -> str:
    """A sentence may name anything: only that there was one is kept."""
    return HIDDEN


def nothing(_: Any, __: Cipher) -> None:
    """None: the value is left out."""


HIDDEN = "(redacted)"
KEPT = tuple(IPv4Network(network) for network in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"))
PRIVATE = tuple(
    IPv4Network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")
)

HOW: dict[tuple[str, str], Callable[[Any, Cipher], Any]] = {
    ("Saved", "schema_"): keep,
    ("Saved", "version"): keep,
    ("Saved", "host"): host,
    ("Saved", "transport"): keep,
    ("Saved", "taken_at"): keep,
    ("Saved", "addresses"): shown_addresses,
    ("Saved", "before"): keep,
    ("Saved", "after"): keep,
    ("Saved", "sysctls"): keep,
    ("Saved", "notes"): sentences,
    ("SavedMoment", "began"): keep,
    ("SavedMoment", "ended"): keep,
    ("SavedRoute", "local"): packed_address,
    ("SavedRoute", "peer"): packed_address,
    ("Route", "gateway"): packed_address,
    ("Route", "neighbour"): link_address,
    ("Said", "message"): sentence,
    ("Said", "hint"): nothing,
    ("Run", "id"): keep,
    ("Run", "started_at"): keep,
    ("Run", "finished_at"): keep,
    ("CheckPlan", "name"): named("check"),
    ("CheckPlan", "clients"): hosts,
    ("CheckPlan", "servers"): hosts,
    ("CheckPlan", "nat"): hosts,
    ("CheckPlan", "allow"): keep,
    ("CheckPlan", "ask"): keep,
    ("CheckPlan", "max"): keep,
    ("HostFacts", "hostname"): host,
    ("HostFacts", "kernel"): version,
    ("HostFacts", "python"): version,
    ("HostFacts", "boot_id"): boot,
    ("HostFacts", "uid"): user,
    ("HostFacts", "gaps"): sentences,
    ("InterfaceAddress", "address"): packed_address,
    ("LocalRoute", "address"): packed_address,
    ("Link", "name"): named("link"),
    ("Link", "address"): link_address,
    ("Link", "kind"): keep,
    ("Reach", "owner"): user,
    ("ListenSocket", "address"): packed_address,
    ("ListenSocket", "uid"): user,
    ("SavedObservation", "key"): key,
    ("SavedReply", "key"): key,
    ("Socket", "key"): key,
    ("Socket", "uid"): user,
    ("Rewrites", "narrow"): keys_of(address.V4_KEY),
    ("Rewrites", "wide"): keys_of(address.V6_KEY),
    ("Rewrites", "nowhere"): packed_addresses,
    ("Process", "name"): named("process"),
    ("Process", "command"): nothing,
    ("Process", "unit"): named("unit"),
    ("Block", "local"): keep,  # by `redacted_block`, which knows its width
    ("Block", "peer"): keep,
    ("Block", "local_ports"): keep,
    ("Block", "peer_ports"): keep,
    ("Block", "states"): keep,
    ("Block", "marks"): keep,
    ("CountBlock", "acked"): keep,
    ("CountBlock", "received"): keep,
    ("CountBlock", "queued"): keep,
}
"""(type, field) -> what becomes of it, for every field that holds text or bytes, and for numbers that name somebody."""
