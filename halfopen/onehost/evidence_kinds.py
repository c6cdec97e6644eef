"""Kinds of evidence: how the presence of each shows in what a host said, and what its absence costs. Pure.

The table at the end is all that `doctor` knows; which causes an absence rules out comes from the rules (`Rule.needs`).
The documentation is made from both.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from halfopen.evidence.probe.examination import Examination
from halfopen.judge.diagnosis.rules import RULES
from halfopen.judge.diagnosis.rules.rule import Source
from halfopen.matching.places.reach import unentered
from halfopen.schema.doctor import Status
from halfopen.schema.report import Confidence
from halfopen.words import plural

Answer = tuple[Status, str]
SYS_PTRACE, SYS_ADMIN = 19, 21
CAPABILITIES = {
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": SYS_PTRACE,
    "CAP_SYS_ADMIN": SYS_ADMIN,
}  # uapi/linux/capability.h
BYTES_SENT = 216  # struct tcp_info up to bytes_retrans: Linux 4.19


class Kind(Struct, frozen=True):
    """A kind of evidence. In `how_to_get`, {root} stands for the way to be root there, {name} for the host.

    `sources`: what rules no longer have without it; `confidences`: those that no finding reaches without it.
    """

    evidence: str
    look: Callable[[Examination], Answer]
    costs: str
    how_to_get: str
    sources: tuple[Source, ...] = ()
    confidences: tuple[Confidence, ...] = ()

    @property
    def conclusions_lost(self) -> tuple[str, ...]:
        """The confidences, then the causes, in the order of the rules, that no report can have without it."""
        lost = [rule.code for rule in RULES if {*rule.needs.vital} & {*self.sources}]
        return (*self.confidences, *lost)


def refused(number: int | None) -> str:
    """An errno as people write it."""
    if number is None:
        return "not tried"
    return REFUSALS.get(number, f"errno {number}")


def sockets(found: Examination) -> Answer:
    """Whether the sockets are listed at all."""
    if found.may("sock_diag"):
        return Status.OK, "by netlink"
    if found.may("proc_net_tcp"):
        return Status.OK, "by /proc/net/tcp"
    return Status.MISSING, refused(found.number("proc_net_tcp"))


def sock_diag(found: Examination) -> Answer:
    """Netlink, which alone has cookies, backlogs and tcp_info."""
    if found.may("sock_diag"):
        return Status.OK, "allowed"
    return Status.MISSING, refused(found.number("sock_diag"))


def tcp_info(found: Examination) -> Answer:
    """How much of struct tcp_info the kernel fills."""
    size = found.number("tcp_info")
    if size is None:
        if not found.may("sock_diag"):
            return Status.MISSING, "there is no sock_diag"
        return Status.UNKNOWN, "no socket to try it on"
    if size == 0:
        return Status.MISSING, "the kernel sends none"
    if size < BYTES_SENT:
        return Status.PARTLY, f"{size} bytes of it: the kernel is older than 4.19"
    return Status.OK, f"{size} bytes"


def cookies(found: Examination) -> Answer:
    """Whether sockets have the number that proves their identity."""
    if found.number("cookies") is None and found.may("sock_diag"):
        return Status.UNKNOWN, "no socket to try it on"
    return (Status.OK, "allowed") if found.number("cookies") else (Status.MISSING, "sockets come without one")


def privileges(found: Examination) -> Answer:
    """The capabilities that evidence, or what is done after it, may need."""
    held, uid = found.number("capabilities"), found.facts.uid
    who = "uid unknown" if uid is None else f"uid {uid}"
    if held is None:
        return Status.UNKNOWN, f"{who}, its capabilities cannot be read"
    lacking = [name for name, bit in CAPABILITIES.items() if not held >> bit & 1]
    return (
        (Status.PARTLY, f"{who}, without {', '.join(lacking)}") if lacking else (Status.OK, f"{who}, all that is used")
    )


def processes(found: Examination) -> Answer:
    """Whether other users' processes can be looked into."""
    every, closed = found.number("processes") or 0, found.number("closed") or 0
    if closed:
        status = Status.PARTLY if found.facts.privileged else Status.MISSING
        return status, f"{closed} of {every} processes are not readable by this user"
    if found.hidepid not in (None, "0", "off") and not found.facts.privileged:
        return Status.MISSING, f"/proc is mounted with hidepid={found.hidepid}"
    return Status.OK, f"all {every}"


def counters(found: Examination) -> Answer:
    """The kernel's counters of TCP."""
    return (
        (Status.OK, "/proc/net/netstat") if found.may("netstat") else (Status.MISSING, refused(found.number("netstat")))
    )


def settings(found: Examination) -> Answer:
    """The kernel's settings of TCP."""
    lacking = [name for name in ("somaxconn", "retries") if not found.may(name)]
    if not lacking:
        return Status.OK, "/proc/sys/net"
    status = Status.PARTLY if len(lacking) == 1 else Status.MISSING
    return status, f"/proc/sys/net: {refused(found.number(lacking[0]))}"


def conntrack(found: Examination) -> Answer:
    """The table of translations, by netlink or by /proc."""
    if found.number("ctnetlink") is None:
        return Status.OK, "nothing is tracked here, so nothing is translated here"
    if found.may("ctnetlink", "proc_conntrack"):
        return Status.OK, "by netlink" if found.may("ctnetlink") else "by /proc/net/nf_conntrack"
    return Status.MISSING, refused(found.number("ctnetlink"))


def routes(found: Examination) -> Answer:
    """Routes and neighbours, by netlink."""
    if found.number("routes") is None:
        return Status.UNKNOWN, refused(None)
    return (Status.OK, "by netlink") if found.may("routes") else (Status.MISSING, refused(found.number("routes")))


def namespaces(found: Examination) -> Answer:
    """Whether the network namespaces of containers can be seen and entered."""
    spaces, hidden = found.number("spaces") or 0, found.number("hidden") or 0
    if hidden:
        status = Status.PARTLY if found.facts.privileged else Status.MISSING
        return status, f"{plural(spaces, 'namespace')} seen, {hidden} of the processes not readable by this user"
    if spaces > 1 and not (found.number("capabilities") or 0) >> SYS_ADMIN & 1:
        return Status.MISSING, f"{spaces} are seen, and none but this may be entered"
    if spaces == 1 and not found.facts.privileged and found.hidepid not in (None, "0", "off"):
        return Status.MISSING, "other processes are hidden, and theirs with them"
    own = {link.joined_netns for link in found.links} - {None}
    if unseen := len(list(unentered(found.links, found.addresses, own))):
        return (
            Status.PARTLY,
            f"{plural(spaces, 'network namespace')}, and {unseen} more that no process seen here is in",
        )
    return Status.OK, plural(spaces, "network namespace")


def uptime_and_boot(found: Examination) -> Answer:
    """Since when the host has been up, and which boot it is."""
    facts = found.facts
    lacking = [name for name, value in (("uptime", facts.uptime_s), ("boot id", facts.boot_id)) if value is None]
    return (Status.MISSING, f"no {' and no '.join(lacking)}") if lacking else (Status.OK, "/proc")


def asking(found: Examination) -> Answer:
    """Whether sockets of processes can be duplicated, so that they can be asked (kernel/ptrace.c, security/yama)."""
    tried, scope = found.number("duplicate"), found.number("ptrace_scope")
    if tried is None:
        return Status.UNKNOWN, refused(tried)
    if tried:
        return Status.MISSING, f"pidfd_getfd: {refused(tried)}"
    if scope == NO_ATTACH:
        return Status.MISSING, f"kernel.yama.ptrace_scope is {scope}: nobody may, root included"
    if (found.number("capabilities") or 0) >> SYS_PTRACE & 1:
        closed = found.number("closed")
        return (Status.PARTLY, f"all but {closed} of the processes") if closed else (Status.OK, "allowed")
    if scope:
        return Status.MISSING, f"needs CAP_SYS_PTRACE, since kernel.yama.ptrace_scope is {scope}"
    return Status.PARTLY, "sockets of this user's own processes only"


NO_ATTACH = 3  # of kernel.yama.ptrace_scope (Documentation/admin-guide/LSM/Yama.rst)

REFUSALS = {
    1: "not permitted (EPERM)",
    2: "not there (ENOENT)",
    13: "permission denied (EACCES)",
    22: "not known to this kernel (EINVAL)",
    38: "not known to this kernel, or refused by seccomp (ENOSYS)",
    93: "not known to this kernel (EPROTONOSUPPORT)",
    95: "not known to this kernel (EOPNOTSUPP)",
    97: "refused (EAFNOSUPPORT)",
}
"""Errors of Linux, whatever system this runs on (include/uapi/asm-generic/errno.h)."""

KINDS: tuple[Kind, ...] = (
    Kind(
        "sockets",
        sockets,
        "nothing can be said about this host's ends: every check of it is incomplete",
        "mount /proc, or allow AF_NETLINK to the probe (seccomp, SELinux, AppArmor)",
    ),
    Kind(
        "sock_diag",
        sock_diag,
        "sockets come from /proc/net/tcp: no cookies, no TCP_INFO, and queues without their backlogs",
        "modprobe tcp_diag, or allow AF_NETLINK to the probe (seccomp, SELinux, AppArmor)",
        (Source.TCP_INFO, Source.BACKLOGS),
        (Confidence.PROVEN,),
    ),
    Kind(
        "cookies",
        cookies,
        "a reused port cannot be told from a connection that lasts: findings are observed, not proven",
        "a kernel with sock_diag (3.3 or later)",
        confidences=(Confidence.PROVEN,),
    ),
    Kind(
        "tcp_info",
        tcp_info,
        "no idle times and no byte counters: two established ends cannot be shown to be of two different lives, and "
        "what had to do with time stays unknown",
        "a kernel of 4.19 or later, with sock_diag",
        (Source.TCP_INFO,),
    ),
    Kind(
        "privileges",
        privileges,
        "the items below marked partly or missing need these capabilities; and without CAP_NET_ADMIN no connection can "
        "be ended there",
        "{root}",
    ),
    Kind(
        "processes of others",
        processes,
        "findings and counts do not name the programs of other users, only their sockets",
        "{root}",
        (Source.PROCESSES,),
    ),
    Kind(
        "counters",
        counters,
        "whether accept queues overflowed or SYN cookies were sent is not known, so such causes stay unknown",
        "{root}, and a /proc with net/netstat in it",
        (Source.COUNTERS,),
    ),
    Kind(
        "sysctls",
        settings,
        "how long the kernel retries, keeps alive or waits is not known: no times in the outlook, no limit in a remedy",
        "{root}, and a /proc with sys/net in it",
        (Source.SYSCTLS,),
    ),
    Kind(
        "connection tracking",
        conntrack,
        "connections that this host translates are paired only by guess (inferred), or stay ambiguous",
        "{root}",
    ),
    Kind(
        "routes",
        routes,
        "that an absent end was looked for where the connection leads is not shown: `direct` in the inventory vouches "
        "for it",
        "allow AF_NETLINK to the probe (seccomp, SELinux, AppArmor)",
    ),
    Kind(
        "network namespaces",
        namespaces,
        "sockets of containers on this host are not seen, so connections that end in one are not judged",
        "{root}",
    ),
    Kind(
        "asking",
        asking,
        "no connection can be asked whether anybody answers (check --ask)",
        "{root}, on Linux 5.6 or later, and no seccomp filter or Yama that forbids pidfd_getfd",
    ),
    Kind(
        "uptime and boot",
        uptime_and_boot,
        "a restart of this host cannot be shown as the cause",
        "{root}, and a /proc with uptime and sys/kernel in it",
        (Source.UPTIME,),
    ),
)
