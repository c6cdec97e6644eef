"""What `doctor` asks: what evidence is to be had on this host."""

import os
import struct
from _collections_abc import Callable

from halfopen.probe.census import network_namespaces, running
from halfopen.probe.columns import INFO, ROW
from halfopen.probe.dump import ALL_STATES
from halfopen.probe.duplicate import duplicate
from halfopen.probe.head import AF_INET, AF_INET6, Refused
from halfopen.probe.interfaces import TRACKED
from halfopen.probe.links import joined_links, route_of
from halfopen.probe.look import NO_COOKIE
from halfopen.probe.namespaces import namespaces
from halfopen.probe.netlink import (
    NETLINK_NETFILTER,
    NETLINK_ROUTE,
    NETLINK_SOCK_DIAG,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    SOCK_DIAG_BY_FAMILY,
    Netlink,
    attributes,
    messages,
)
from halfopen.probe.procfs import read_file
from halfopen.probe.serve import ANSWERS
from halfopen.probe.session import Session

EXAMINE = 21
CONNTRACK_STATS = 0x0105  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET_STATS


def examine(session: Session, _: bytes) -> int:
    """The answer to EXAMINE: for each kind of evidence an errno, 0 if it can be read, or a number. FIELDS.

    `link`: as `links` gives them, of our own namespace.
    """
    found = [
        ("sock_diag", b"0" if session.netlink else refusal(first_info)),
        ("proc_net_tcp", refusal(lambda: read_a_byte("/proc/net/tcp"))),
        ("routes", refusal(route_to_loopback)),
        ("netstat", refusal(lambda: read_a_byte("/proc/net/netstat"))),
        ("somaxconn", refusal(lambda: read_a_byte("/proc/sys/net/core/somaxconn"))),
        ("retries", refusal(lambda: read_a_byte("/proc/sys/net/ipv4/tcp_retries2"))),
    ]
    found.append(("duplicate", refusal(lambda: os.close(duplicate(os.getpid(), 0)))))
    found.append(("ptrace_scope", (read_file("/proc/sys/kernel/yama/ptrace_scope", 64) or b"").strip()))
    if session.netlink:
        found += first_info()
    # Where nothing is tracked, to ask would load a module.
    if os.path.exists(TRACKED):
        found.append(("ctnetlink", refusal(conntrack_stats)))
        found.append(("proc_conntrack", refusal(lambda: read_a_byte("/proc/net/nf_conntrack"))))
    closed, pids = 0, running()
    spaces, hidden = network_namespaces(pids)
    for pid in pids:
        folder = f"/proc/{pid}/"
        try:
            for descriptor in os.listdir(folder + "fd")[:1]:
                os.readlink(folder + "fd/" + descriptor)
        except OSError as error:
            closed += error.errno in (1, 13)
    for name, value in (("processes", len(pids)), ("closed", closed), ("spaces", len(spaces)), ("hidden", hidden)):
        found.append((name, b"%d" % value))
    session.paths = namespaces()
    try:
        found += joined_links(session)
    except Refused:
        pass  # that netlink is refused is said above
    for line in (read_file("/proc/self/status") or b"").split(b"\n"):
        if line.startswith(b"CapEff:"):
            found.append(("capabilities", b"%d" % int(line.split()[1], 16)))
    for line in (read_file("/proc/self/mounts") or b"").split(b"\n"):
        parts = line.split()
        if len(parts) > 3 and parts[1] == b"/proc" and parts[2] == b"proc":
            found += [("hidepid", word[8:]) for word in parts[3].split(b",") if word.startswith(b"hidepid=")]
    return session.fields(found)


def refusal(attempt: "Callable[[], object]") -> bytes:
    """errno of what an attempt meets, b"0" if it succeeds."""
    try:
        attempt()
    except Refused as refused:
        return b"%d" % (refused.args[0] or 255)
    except OSError as error:
        return b"%d" % (error.errno or 255)
    return b"0"


def read_a_byte(path: str) -> None:
    """Reads a little of a file, or raises."""
    with open(path, "rb", 0) as file:
        file.read(1)


def first_info() -> "list[tuple[str, bytes]]":
    """Length of tcp_info and whether there is a cookie, of the first socket: fields, none where there is no socket."""
    for family in (AF_INET, AF_INET6):
        request = struct.pack("=BBBBI48s", family, 6, INFO, 0, ALL_STATES & ~(1 << 6), b"")
        for data in Netlink(NETLINK_SOCK_DIAG).dump(SOCK_DIAG_BY_FAMILY, request):
            for at, length in messages(data):
                info = attributes(data, at + ROW, at + length).get(INFO, b"")
                return [("tcp_info", b"%d" % len(info)), ("cookies", b"%d" % (data[at + 60 : at + 68] != NO_COOKIE))]
    return []


def conntrack_stats() -> None:
    """Asks connection tracking for its statistics, as the least that needs the permission."""
    netlink = Netlink(NETLINK_NETFILTER)
    netlink.send(CONNTRACK_STATS, NLM_F_REQUEST, struct.pack("=BBH", 0, 0, 0))
    data = netlink.receive()
    if struct.unpack_from("=IH", data)[1] == NLMSG_ERROR:
        raise Refused(-struct.unpack_from("=i", data, 16)[0], "conntrack")


def route_to_loopback() -> None:
    """Asks for a route that every host has, or raises."""
    loopback = bytes([127, 0, 0, 1])
    code = route_of(Netlink(NETLINK_ROUTE), loopback, loopback, 0)[0]
    if code:
        raise Refused(code, "routes")


ANSWERS.update({EXAMINE: examine})
