"""What is asked of the probe: the numbers of the questions, and what goes with them. Pure.

The answers are decoded in `hello`, `tables`, `lookups` and `proc`, kernel structs in `kernel`, and the frames of an
answer in `frames`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from halfopen import address

SCHEMA = 2
HELLO, DUMP, LOOK, EVIDENCE, OWNERS, BYE, TRANSLATIONS, TABLE = range(1, 9)
COUNT, ROUTES = 16, 17

TEXT_LIMIT = 256 << 20  # bytes of /proc in one answer
NAME_LIMIT = 255  # bytes of what a host calls itself, its kernel or a process
PROC_LIMIT = 2048  # bytes of a file below /proc/PID, as the probe reads it

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

Those that the rules (`Rule.needs`), their advice and the outlook read, and no others: a test compares them.
"""


def encode_look(key: bytes, scope: int, netns: int = 0) -> bytes:
    """A key -> the request that looks it up, in the probe's own namespace (0) or another.

    An IPv4 query finds IPv4-mapped sockets too.
    """
    local, local_port, peer, peer_port = address.split_key(key)
    return struct.pack("=QII", netns, 2 if len(local) == 4 else 10, scope) + struct.pack(
        ">HH16s16s", local_port, peer_port, local, peer
    )


def encode_evidence(spaces: Sequence[int]) -> bytes:
    """The payload of EVIDENCE: of which namespaces (0: the probe's own), and which sysctls."""
    return struct.pack(f">H{len(spaces)}Q", len(spaces), *spaces) + "\n".join(SYSCTLS).encode()
