"""Who a host is: its facts and the addresses of its network namespaces, as the probe sends them. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from halfopen import address
from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe.frames import broken, decimal, needed, number, text
from halfopen.evidence.probe.wire import NAME_LIMIT, SCHEMA, TEXT_LIMIT
from halfopen.model import Collector, HostFacts, InterfaceAddress


def decode_hello(fields: Sequence[tuple[str, bytes]]) -> tuple[HostFacts, tuple[InterfaceAddress, ...], int | None]:
    """The answer to HELLO -> facts of the host, its addresses, and the inode of the network namespace."""
    values = dict(fields)
    if values.get("schema") != b"%d" % SCHEMA:
        raise broken("another version of the probe speaks")
    if values.get("byteorder") != b"little":
        raise HostError(ErrorCode.UNSUPPORTED, "the host is big-endian; only little-endian hosts can be read")
    if values.get("collector") not in (b"netlink", b"procfs"):
        raise broken("it names no collector")
    addresses, _, _ = decode_ground(fields)
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
    )
    return facts, addresses, needed(values.get("netns")) or None


def decode_ground(
    fields: Sequence[tuple[str, bytes]],
) -> tuple[tuple[InterfaceAddress, ...], int | None, bool]:
    """Fields of a namespace -> its addresses, the entries of its connection tracking, and whether it forwards.

    There is no file with the count where connection tracking is not loaded or not used: then it has none.
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
        from halfopen.evidence.text import procfs  # which most hosts have no use for

        found += procfs.read_addresses(**texts)
    for packed, prefix, index in found:
        links.setdefault(packed, set()).update({index} - {0})
        prefixes[packed] = min(prefix, prefixes.get(packed, 128))
    addresses = tuple(
        InterfaceAddress(packed, tuple(sorted(indexes)), prefixes[packed]) for packed, indexes in sorted(links.items())
    )
    return addresses, tracked, forwards


def session_key(said: str) -> bytes | None:
    """SSH_CONNECTION of ssh(1), `client port server port` -> the key of that session there, None for anything else."""
    words = said.split()
    try:
        peer, local = (
            address.parse_endpoint(f"[{at}]:{port}") for at, port in zip(words[::2], words[1::2], strict=True)
        )
    except ValueError:
        return None
    return address.make_key(*local, *peer) if len(local[0]) == len(peer[0]) else None
