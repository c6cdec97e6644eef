"""Who a host is: its facts and the addresses of its network namespaces, as the probe sends them. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from halfopen import address
from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe.frames import broken, decimal, needed, number, text
from halfopen.evidence.probe.wire import NAME_LIMIT, SCHEMA, TEXT_LIMIT
from halfopen.model import Collector, HostFacts, InterfaceAddress

NO_IPV4 = (
    "the IPv4 addresses of its interfaces could not be read: only those that its sockets have are known, so "
    "connections with this host may be counted among those that lead elsewhere"
)


def decode_hello(fields: Sequence[tuple[str, bytes]]) -> tuple[HostFacts, tuple[InterfaceAddress, ...], int | None]:
    """The answer to HELLO -> facts of the host, its addresses, and the inode of the network namespace."""
    values = dict(fields)
    if values.get("schema") != b"%d" % SCHEMA:
        raise broken("it comes from another version of the probe")
    if values.get("byteorder") != b"little":
        raise HostError(ErrorCode.UNSUPPORTED, "the host is big-endian; only little-endian hosts can be read")
    if values.get("collector") not in (b"netlink", b"procfs"):
        raise broken("its collector is not a valid one")
    addresses, _, _ = decode_namespace(fields)
    euid = needed(values.get("euid"))
    collector = Collector.NETLINK if values["collector"] == b"netlink" else Collector.PROCFS
    capabilities = number(values.get("capabilities"), 16) or 0
    privileged = euid == 0 or bool(capabilities >> 19 & 1)  # CAP_SYS_PTRACE
    gaps = []
    if collector is Collector.PROCFS:
        gaps.append(
            "sock_diag is refused here, so sockets come from /proc/net/tcp: no cookies, no backlogs, no TCP_INFO"
        )
    # CAP_NET_ADMIN and CAP_SYS_ADMIN: to read what translates, and to enter the namespaces of containers.
    sees_namespaces = capabilities >> 12 & 1 == 1 and capabilities >> 21 & 1 == 1
    if not sees_namespaces:
        gaps.append("network namespaces of containers, and the table of translations (NAT): needs root")
    if "fib_trie" in values and not has_ipv4(addresses):
        gaps.append(NO_IPV4)
    facts = HostFacts(
        hostname=text(values.get("hostname", b""), NAME_LIMIT),
        kernel=text(values.get("kernel", b""), NAME_LIMIT),
        boot_id=text(values["boot_id"], NAME_LIMIT) if values.get("boot_id") else None,
        uptime_s=decimal(values.get("uptime")),
        privileged=privileged,
        collector=collector,
        uid=euid,
        python=text(values.get("python", b""), NAME_LIMIT),
        gaps=tuple(gaps),
        sees_namespaces=sees_namespaces,
        started_at=decimal(values.get("started")),
    )
    return facts, addresses, needed(values.get("netns")) or None


def decode_namespace(
    fields: Sequence[tuple[str, bytes]],
) -> tuple[tuple[InterfaceAddress, ...], int | None, bool]:
    """Fields of a namespace -> its addresses, the number of its connection tracking entries, whether it forwards.

    The file with that number is missing where connection tracking is not loaded or not used: then it is 0.
    """
    found: list[tuple[bytes, int, int]] = []
    texts = {"fib_trie": "", "if_inet6": ""}
    tracked: int | None = None
    forwards = False
    for name, value in fields:
        if name == "tracked":
            tracked = needed(value) if value else 0
        elif name == "forwards":
            forwards = forwards or value not in (b"", b"0")
        elif name == "address":
            if len(value) < 6 or value[0] not in (4, 16) or len(value) != 6 + value[0]:
                raise broken("an address of the wrong size")
            width, prefix, index = struct.unpack_from(">BBI", value)
            packed = address.canonical(value[6:])
            if prefix > 8 * width:
                raise broken("a prefix longer than its address")
            found.append((packed, max(0, prefix - 8 * (width - len(packed))), index))
        elif name in texts:
            texts[name] = text(value, TEXT_LIMIT)
    links: dict[bytes, set[int]] = {}
    prefixes: dict[bytes, int] = {}
    if any(texts.values()):
        from halfopen.evidence.text import procfs  # not imported for most hosts, which answer by netlink

        found += procfs.read_addresses(**texts)
    for packed, prefix, index in found:
        links.setdefault(packed, set()).update({index} - {0})
        prefixes[packed] = min(prefix, prefixes.get(packed, 128))
    addresses = tuple(
        InterfaceAddress(packed, tuple(sorted(indexes)), prefixes[packed]) for packed, indexes in sorted(links.items())
    )
    return addresses, tracked, forwards


def has_ipv4(addresses: Iterable[InterfaceAddress]) -> bool:
    """Whether any of these is an IPv4 address."""
    return any(len(interface.address) == 4 for interface in addresses)


def with_addresses_of(
    addresses: tuple[InterfaceAddress, ...], sockets: Iterable[bytes]
) -> tuple[InterfaceAddress, ...]:
    """The addresses of a namespace; where none of them is IPv4, with those that its sockets have as local address.

    Every namespace that can have IPv4 sockets has an IPv4 address, if only 127.0.0.1: without one, they were not read.
    """
    if has_ipv4(addresses):
        return addresses
    known = {interface.address for interface in addresses}
    own = {packed for packed in sockets if not address.is_loopback(packed) and not address.is_unspecified(packed)}
    return (*addresses, *(InterfaceAddress(packed, ()) for packed in sorted(own - known)))


def session_key(said: str) -> bytes | None:
    """SSH_CONNECTION of ssh(1), `client port server port` -> the key of the session at its server; else None."""
    words = said.split()
    try:
        peer, local = (
            address.parse_endpoint(f"[{host}]:{port}") for host, port in zip(words[::2], words[1::2], strict=True)
        )
    except ValueError:
        return None
    return address.make_key(*local, *peer) if len(local[0]) == len(peer[0]) else None
