"""What the probe answers -> evidence: hosts, tables, look-ups, counters, processes, translations. Pure.

The probe sends raw kernel numbers; their meaning is given here and in `kernel`. What the answers travel in is `frames`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from halfopen import address
from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe.frames import (
    BLOCK,
    FIELDS,
    LISTENERS,
    ROWS,
    TEXT,
    Frame,
    broken,
    decimal,
    inflate,
    missing_rows,
    needed,
    number,
    split_fields,
    text,
)
from halfopen.evidence.probe.kernel import MESSAGE, decode_listener, decode_socket
from halfopen.evidence.probe.reach import decode_local_routes, decode_reach, with_routes
from halfopen.model import (
    Absence,
    Collector,
    HostFacts,
    InterfaceAddress,
    ListenSocket,
    Namespace,
    Observation,
    Process,
    Rewrites,
)
from halfopen.table import Block, CountBlock, Table
from halfopen.tcp import State

if TYPE_CHECKING:
    from halfopen.evidence.text.parsed import ParsedText

SCHEMA = 2
HELLO, DUMP, LOOK, EVIDENCE, OWNERS, BYE, TRANSLATIONS, TABLE = range(1, 9)
COUNT = 16


ROW_LIMIT = 20_000_000
TEXT_LIMIT = 256 << 20  # bytes of /proc in one answer


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


@dataclass
class Sockets:
    """What has come of one network namespace: columns and listeners of netlink, or text of /proc.

    `columns`: how wide further columns of its blocks are; `more` has them, one list a block.
    """

    columns: tuple[int, ...] = ()
    fields: list[tuple[str, bytes]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    more: list[list[bytes]] = field(default_factory=list)
    listeners: list[ListenSocket] = field(default_factory=list)
    texts: dict[int, list[bytes]] = field(default_factory=dict)
    size: int = 0  # bytes of text so far

    def add(self, frame: Frame) -> int:
        """One BLOCK, LISTENERS or TEXT frame; the number of its rows or lines."""
        if frame.kind == BLOCK:
            block, more = decode_columns(frame.payload, self.columns)
            self.blocks.append(block)
            self.more.append(more)
            return len(block)
        if frame.kind == LISTENERS:
            data = inflate(frame.payload)
            if len(data) % MESSAGE.size:
                raise broken("a listener is cut")
            self.listeners += [decode_listener(one) for one in MESSAGE.iter_unpack(data)]
            return len(data) // MESSAGE.size
        if frame.kind == TEXT and frame.payload and frame.payload[0] in (2, 10):
            chunk = inflate(frame.payload[1:])
            self.size += len(chunk)
            if self.size > TEXT_LIMIT:
                raise HostError(ErrorCode.TOO_LARGE, f"the host sends more than {TEXT_LIMIT >> 20} MiB of /proc")
            self.texts.setdefault(frame.payload[0], []).append(chunk)
            return chunk.count(b"\n")
        raise broken("a frame of another kind among sockets")

    def told(self) -> ParsedText | None:
        """What the text tells, None where there is none."""
        if not self.texts:
            return None
        from halfopen.evidence.text import parsed, procfs

        tcp, tcp6 = (b"".join(self.texts[family]) if family in self.texts else None for family in (2, 10))
        found = procfs.read_tables(text(tcp or b"", TEXT_LIMIT), None if tcp6 is None else text(tcp6, TEXT_LIMIT))
        if len(found.sockets) > parsed.ROW_LIMIT:
            raise HostError(
                ErrorCode.TOO_LARGE, f"the host sends more than {parsed.ROW_LIMIT} sockets as text of /proc"
            )
        if found.problems:
            raise broken(f"/proc/net/tcp cannot be read: {found.problems[0].why}")
        return found


class DumpDecoder:
    """Frames of the answer to DUMP, as they arrive -> Namespace. Rows with none of `ports` are left out.

    What stands behind a FIELDS frame is of another namespace: `others` has them once the answer has ended, and
    `refused` counts those that could not be read. One of which the host had sent something before is not whole.
    """

    def __init__(self, ports: frozenset[int]) -> None:
        self.ports = ports
        self.rows = 0
        self.spaces = [Sockets()]
        self.own: list[tuple[str, bytes]] = []  # what leads out of the probe's own namespace
        self.others: tuple[Namespace, ...] = ()
        self.refused = 0

    def add(self, frame: Frame) -> None:
        """One BLOCK, LISTENERS or TEXT frame, or the FIELDS of the next namespace."""
        if frame.kind == FIELDS:
            fields = split_fields(frame.payload)
            if dict(fields).get("netns") == b"0":
                self.own = fields
            else:
                # Text is bounded over all namespaces.
                self.spaces.append(Sockets(fields=fields, size=self.spaces[-1].size))
            return
        space = self.spaces[-1]
        self.rows += space.add(frame)
        if frame.kind == BLOCK and self.ports:
            space.blocks[-1] = space.blocks[-1].only(self.ports)
        if self.rows > ROW_LIMIT:
            raise HostError(ErrorCode.TOO_LARGE, f"the host sends more than {ROW_LIMIT} sockets", "name the --port")

    def end(self, count: int, netns: int | None, addresses: tuple[InterfaceAddress, ...]) -> Namespace:
        """The whole namespace; `count` is what END stated."""
        if self.rows != count:
            raise missing_rows(self.rows, count)
        own, *others = self.spaces
        own.fields = self.own
        named = [(dict(space.fields), space) for space in others]
        refused = {values.get("netns") for values, _ in named if "refused" in values}
        self.refused = len(refused)
        found = []
        for values, space in named:
            if "refused" not in values:
                here, tracked, forwards = decode_ground(space.fields)
                space_id = needed(values.get("netns")) or None
                one = self._namespace(space, space_id, with_routes(here, space.fields), tracked, forwards)
                found.append(replace(one, whole=one.whole and values.get("netns") not in refused))
        self.others = tuple(found)
        return self._namespace(own, netns, addresses)

    def _namespace(
        self,
        space: Sockets,
        netns: int | None,
        addresses: tuple[InterfaceAddress, ...],
        tracked: int | None = None,
        forwards: bool = False,
    ) -> Namespace:
        if told := space.told():
            found = told.namespace(addresses, self.ports, netns)
        else:
            listeners = tuple(one for one in space.listeners if not self.ports or one.port in self.ports)
            found = Namespace(netns, addresses, Table(tuple(space.blocks)), listeners, self.ports)
            found = replace(
                found, other_listeners=frozenset(one.port for one in space.listeners if one not in listeners)
            )
        return replace(
            found,
            tracked=tracked,
            forwards=forwards,
            local_routes=decode_local_routes(space.fields),
            reach=decode_reach(space.fields) if space.fields else None,
        )


def decode_table(frames: Sequence[Frame], count: int) -> ParsedText | None:
    """The answer to TABLE -> the sockets of one namespace, None where it could not be entered."""
    space, lines = Sockets(), 0
    for frame in frames:
        if frame.kind == FIELDS and "refused" in dict(split_fields(frame.payload)):
            return None
        lines += space.add(frame)
    if lines != count:
        raise missing_rows(lines, count)
    return space.told()


def decode_columns(payload: bytes, more: tuple[int, ...]) -> tuple[Block, list[bytes]]:
    """A BLOCK frame with further columns, so many bytes wide -> columns of the rows, and those."""
    if len(payload) < 10:
        raise broken("a block without a head")
    family, width, scope, rows = struct.unpack_from(">BBII", payload)
    if (family, width) not in ((2, 4), (10, 4), (10, 16)):
        raise broken("a block of an unknown family")
    data = inflate(payload[10:])
    if len(data) != rows * (6 + 2 * width + sum(more)):
        raise broken("a block whose columns do not fill it")
    columns, at = [], 0
    for size in (1, 1, 2, 2, width, width, *more):
        columns.append(data[at : at + size * rows])
        at += size * rows
    states, marks, local_ports, peer_ports, local, peer, *others = columns
    if not set(states) <= CONNECTION_STATES:
        raise broken("a state that TCP does not have")
    return Block(family, scope, width, local, peer, local_ports, peer_ports, states, marks), others


def decode_counts(frames: Sequence[Frame], count: int) -> tuple[CountBlock, ...]:
    """The answer to COUNT -> the byte counters of established sockets. 64-bit columns come as two of 32 bits each."""
    found = []
    for frame in frames:
        if frame.kind != BLOCK:
            raise broken("a frame of another kind among counters")
        block, (acked, acked_high, received, received_high, queued) = decode_columns(frame.payload, (4, 4, 4, 4, 4))
        found.append(CountBlock(block, interleaved(acked, acked_high), interleaved(received, received_high), queued))
    if sum(len(one.block) for one in found) != count:
        raise missing_rows(sum(len(one.block) for one in found), count)
    return tuple(found)


def interleaved(low: bytes, high: bytes) -> bytes:
    """Two columns of 32-bit words -> one of 64-bit words, little-endian."""
    out = bytearray(2 * len(low))
    for byte in range(4):
        out[byte::8], out[byte + 4 :: 8] = low[byte::4], high[byte::4]
    return bytes(out)


def decode_looks(frames: Sequence[Frame], count: int, keys: Sequence[bytes]) -> list[Observation]:
    """ROWS frames -> for each key its socket, ABSENT, or UNSEEN where the kernel refused to look."""
    sights: list[Observation] = []
    for frame in frames:
        if frame.kind != ROWS:
            raise broken("a frame of another kind among look-ups")
        data, at = inflate(frame.payload), 0
        while at < len(data):
            if at + 3 > len(data) or len(sights) >= len(keys):
                raise broken("a look-up is cut")
            status, length = struct.unpack_from(">BH", data, at)
            if at + 3 + length > len(data) or status > 2:
                raise broken("a look-up is cut")
            sights.append(decode_sight(status, data[at + 3 : at + 3 + length], keys[len(sights)]))
            at += 3 + length
    if len(sights) != count or count != len(keys):
        raise missing_rows(len(sights), len(keys))
    return sights


def decode_sight(status: int, message: bytes, key: bytes) -> Observation:
    """One look-up. A LISTEN socket, or a socket of another tuple, means that the tuple is not there."""
    if status == 0:
        return Absence.ABSENT
    if status == 2:
        return Absence.UNSEEN
    found = decode_socket(message)
    if found.state is State.LISTEN or found.key != key:
        return Absence.ABSENT
    return found


def encode_look(key: bytes, scope: int, netns: int = 0) -> bytes:
    """A key -> the request that looks it up, in the probe's own namespace (0) or another.

    An IPv4 query finds IPv4-mapped sockets too.
    """
    local, local_port, peer, peer_port = address.split_key(key)
    return struct.pack("=QII", netns, 2 if len(local) == 4 else 10, scope) + struct.pack(
        ">HH16s16s", local_port, peer_port, local, peer
    )


def decode_translations(frames: Sequence[Frame], count: int) -> tuple[dict[int, Rewrites], set[int]]:
    """The answer to TRANSLATIONS -> namespace (0: the probe's own) -> what translates there, and those that refused."""
    pairs: dict[tuple[int, int], list[bytes]] = {}
    inner: dict[int, tuple[int, ...]] = {}
    refused, netns, got = set(), 0, 0
    for frame in frames:
        if frame.kind == FIELDS:
            values = dict(split_fields(frame.payload))
            netns = needed(values.get("netns"))
            if "refused" in values:
                refused.add(netns)
            links = [needed(value) for name, value in split_fields(frame.payload) if name == "inner"]
            inner[netns] = tuple(sorted({link for link in links if link}))
        elif frame.kind == ROWS and frame.payload and frame.payload[0] in (address.V4_KEY, address.V6_KEY):
            width, data = frame.payload[0], inflate(frame.payload[1:])
            if len(data) % (2 * width):
                raise broken("a translation is cut")
            got += len(data) // (2 * width)
            pairs.setdefault((netns, width), []).append(data)
        else:
            raise broken("a frame of another kind among translations")
    if got != count:
        raise missing_rows(got, count)
    found = {
        where: Rewrites(
            b"".join(pairs.get((where, address.V4_KEY), ())), b"".join(pairs.get((where, address.V6_KEY), ())), links
        )
        for where, links in inner.items()
    }
    return found, refused


def decode_owners(fields: Sequence[tuple[str, bytes]]) -> tuple[dict[int, Process], int]:
    """The answer to OWNERS -> inode -> process, and how many processes could not be read."""
    found: dict[int, Process] = {}
    unreadable = 0
    for name, value in fields:
        if name == "unreadable":
            unreadable = needed(value)
        elif name == "owner":
            if len(value) < 18:
                raise broken("an owner is cut")
            inode, pid, comm, command, cgroup = struct.unpack_from(">QIHHH", value)
            if len(value) != 18 + comm + command + cgroup:
                raise broken("an owner is cut")
            rest = value[18:]
            words = rest[comm : comm + command].rstrip(b"\0").replace(b"\0", b" ")
            found[inode] = Process(
                pid,
                text(rest[:comm].removesuffix(b"\n"), NAME_LIMIT),
                text(words, PROC_LIMIT)[:200] or None,
                unit_of(text(rest[comm + command :], PROC_LIMIT)),
            )
    return found, unreadable


def unit_of(cgroup: str) -> str | None:
    """The container or systemd unit that /proc/PID/cgroup names: its last telling path component."""
    for line in cgroup.splitlines():
        for part in reversed(line.rpartition(":")[2].split("/")):
            bare = part.removesuffix(".scope")
            for prefix in ("docker-", "cri-containerd-", "crio-", "libpod-"):
                bare = bare.removeprefix(prefix)
            if len(bare) == 64 and all(digit in "0123456789abcdef" for digit in bare):
                return f"container {bare[:12]}"
            if part.endswith(".service"):
                return part
    return None


def encode_evidence(spaces: Sequence[int]) -> bytes:
    """The payload of EVIDENCE: of which namespaces (0: the probe's own), and which sysctls."""
    return struct.pack(f">H{len(spaces)}Q", len(spaces), *spaces) + "\n".join(SYSCTLS).encode()


def decode_evidence(fields: Sequence[tuple[str, bytes]]) -> tuple[dict[str, int], dict[str, int]]:
    """The answer to EVIDENCE -> counters (names as `nstat` prints them without prefix) and sysctls by last word.

    Behind a field `netns` that is not 0 stands another namespace: its inode and a slash go before the names.
    """
    counters: dict[str, int] = {}
    sysctls: dict[str, int] = {}
    where = ""
    for path, value in fields:
        if path == "netns":
            where = f"{netns}/" if (netns := needed(value)) else ""
        elif path in ("/proc/net/netstat", "/proc/net/snmp"):
            counters |= {where + name: count for name, count in decode_counters(value).items()}
        elif path.startswith("/proc/sys/"):
            found = number(value)
            if found is not None:
                sysctls[where + path.rpartition("/")[2]] = found
    return counters, sysctls


def decode_counters(table: bytes) -> dict[str, int]:
    """/proc/net/netstat and snmp: pairs of lines, names and numbers; TCP's only. HostError for what is neither."""
    lines = table.split(b"\n")
    found: dict[str, int] = {}
    for names, values in pairwise(lines):
        head = names.partition(b":")[0]
        if head not in (b"TcpExt", b"Tcp") or values.partition(b":")[0] != head:
            continue
        for name, value in zip(names.split()[1:], values.split()[1:], strict=False):
            # Each pair of lines is one of values and names too, seen from the next.
            if COUNTER_VALUE.fullmatch(name):
                continue
            count = number(value.removeprefix(b"-"))
            if not COUNTER_NAME.fullmatch(name) or count is None:
                raise broken("a counter that is none of Linux")
            found[text(name, NAME_LIMIT)] = -count if value.startswith(b"-") else count  # Tcp: MaxConn is -1
    return found


NAME_LIMIT = 255  # bytes of what a host calls itself, its kernel or a process
PROC_LIMIT = 2048  # bytes of a file below /proc/PID, as the probe reads it
COUNTER_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]{0,63}")
COUNTER_VALUE = re.compile(rb"-?[0-9]+")
CONNECTION_STATES = frozenset(range(1, 13)) - {10}

SYSCTLS = (
    "core/somaxconn",
    "ipv4/tcp_keepalive_intvl",
    "ipv4/tcp_keepalive_probes",
    "ipv4/tcp_keepalive_time",
    "ipv4/tcp_orphan_retries",
    "ipv4/tcp_retries2",
    "ipv4/tcp_rto_max_ms",
    "ipv4/tcp_syn_linear_timeouts",
    "ipv4/tcp_syn_retries",
    "ipv4/tcp_synack_retries",
    "ipv4/tcp_syncookies",
    "netfilter/nf_conntrack_tcp_timeout_established",
)
"""The settings that hosts are asked for, by the probe and by the shell, as paths below /proc/sys/net.

Those that the causes (`Rule.needs`) and the outlook read, and no others: a test compares them.
"""
