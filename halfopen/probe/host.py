"""What a host says of itself: who it is, and the counters and settings of its network namespaces."""

import os
import struct
import sys
import time

from halfopen.probe.head import SCHEMA, Refused
from halfopen.probe.interfaces import ground
from halfopen.probe.processes import age_of_namespace
from halfopen.probe.procfs import inode, read_file
from halfopen.probe.session import Session

CLOCK_BOOTTIME = 7
SYSCTL_SIGNS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-")
SYSCTL_LIMIT = 100  # names in one question


def hello(session: Session, _: bytes) -> int:
    """The answer to HELLO: what this host is, as names and values."""
    name = os.uname()
    status = read_file("/proc/self/status") or b""
    capabilities = [line.split()[1] for line in status.split(b"\n") if line.startswith(b"CapEff:")]
    fields = [
        ("schema", b"%d" % SCHEMA),
        ("hostname", os.fsencode(name.nodename)),
        ("system", os.fsencode(name.sysname)),
        ("kernel", os.fsencode(name.release)),
        ("boot_id", (read_file("/proc/sys/kernel/random/boot_id") or b"").strip()),
        ("uptime", (read_file("/proc/uptime") or b"").split(b" ")[0]),
        ("started", started()),
        ("euid", b"%d" % os.geteuid()),
        ("capabilities", capabilities[0] if capabilities else b""),
        ("netns", b"%d" % inode("/proc/self/ns/net")),
        ("python", b"%d.%d.%d" % sys.version_info[:3]),
        ("byteorder", sys.byteorder.encode()),
        ("collector", b"netlink" if session.netlink else b"procfs"),
        ("session", os.environb.get(b"SSH_CONNECTION", b"")[:200]),
    ]
    return session.fields(ground() + fields)


def started() -> bytes:
    """When the kernel started, in seconds of the host's clock; nothing where it does not tell."""
    try:
        return b"%.3f" % (time.time() - time.clock_gettime(CLOCK_BOOTTIME))
    except OSError:
        return b""


def evidence(session: Session, payload: bytes) -> int:
    """The answer to EVIDENCE: counters, the settings that are asked for, and the age of each namespace; FIELDS frames.

    Asked: how many namespaces (2 bytes), their inodes (8 each; 0 is our own), names of sysctls, one a line. Which
    counters and settings matter is not for us to know; but no name leads out of /proc/sys/net.
    """
    spaces = struct.unpack_from(">H", payload)[0]
    names = [name for name in payload[2 + 8 * spaces :].split(b"\n") if name]
    if len(names) > SYSCTL_LIMIT or not all(SYSCTL_SIGNS.issuperset(name) and b".." not in name for name in names):
        raise Refused(22, "names of sysctls")
    paths = ["/proc/sys/net/" + name.decode() for name in names]
    total = 0
    for netns in struct.unpack_from(f">{spaces}Q", payload, 2):
        try:
            with session.enter(netns):
                fields = [("netns", b"%d" % netns)]
                age = age_of_namespace(netns or inode("/proc/self/ns/net"), session.paths.get(netns, ""))
                fields += [("age", age)] if age else []
                for path in ("/proc/net/netstat", "/proc/net/snmp", *paths):
                    text = read_file(path, 1 << 16)
                    if text is not None:
                        fields.append((path, text.strip()))
                total += session.fields(fields)
        except Refused:
            pass  # what was not read is not in the answer
    return total
