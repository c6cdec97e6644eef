"""Exact look-ups of single sockets, many at a time, answered by the kernel itself."""

import itertools
import struct
import zlib

from halfopen.probe.columns import ROW
from halfopen.probe.dump import ALL_STATES
from halfopen.probe.head import AF_INET, LISTEN, ROWS, Refused
from halfopen.probe.interfaces import interfaces_of
from halfopen.probe.netlink import NLM_F_REQUEST, NLMSG_ERROR, SOCK_DIAG_BY_FAMILY, Netlink
from halfopen.probe.session import Session

NO_COOKIE = b"\xff" * 8


def look(session: Session, payload: bytes) -> int:
    """The answer to LOOK: requests of 52 bytes (namespace, family, scope, 36 of inet_diag_sockid) -> ROWS frames.

    Those of one namespace stand together; 0 is our own. An answer is: status (0 absent, 1 found, 2 the kernel
    refused), length, message.
    """
    number = len(payload) // 52
    asked = [struct.unpack_from("=QII36s", payload, 52 * index) for index in range(number)]
    answers: list[bytes] = []
    for netns, group in itertools.groupby(asked, lambda request: int(request[0])):
        wanted = [request[1:] for request in group]
        try:
            with session.enter(netns):
                netlink = session.diag(netns)
                if not netlink:
                    raise Refused(95, "look-ups")  # EOPNOTSUPP: /proc has whole tables only
                answers = look_here(session, netlink, {} if netns else session.links_of, wanted, answers)
        except Refused as refusal:
            # Whether a namespace that cannot be found has lost its sockets with it is not for us to say.
            answers += [struct.pack(">BHI", 2, 4, refusal.args[0])] * len(wanted)
    session.frame(ROWS, zlib.compress(b"".join(answers), 1))
    return number


def look_here(
    session: Session,
    netlink: Netlink,
    links_of: "dict[bytes, set[int]]",
    wanted: "list[tuple[int, int, bytes]]",
    answers: "list[bytes]",
) -> "list[bytes]":
    """Looks in the namespace that we are in and adds to the answers, which are sent when they have grown."""
    if not links_of:
        links_of.update(interfaces_of())
    for at in range(0, len(wanted), 1024):
        for answer in look_some(netlink, links_of, wanted[at : at + 1024]):
            if isinstance(answer, Refused):
                answers.append(struct.pack(">BHI", 2, 4, answer.args[0]))
            else:
                message = answer or b""
                answers.append(struct.pack(">BH", answer is not None, len(message)) + message)
        if len(answers) > 4096:
            session.frame(ROWS, zlib.compress(b"".join(answers), 1))
            answers = []
    return answers


def look_some(
    netlink: Netlink, links_of: "dict[bytes, set[int]]", wanted: "list[tuple[int, int, bytes]]"
) -> "list[bytes | Refused | None]":
    """Exact look-ups of (family, scope, sockid) -> the message of each, None if there is no such socket, or Refused.

    A message is 72 bytes and attributes. Each is looked for as asked, then on each interface that a socket with this
    local address may be bound to: such a socket is not found without its index, and the asker sees only the other end.
    """
    found: list[bytes | Refused | None] = [None] * len(wanted)
    scopes = []
    for family, scope, sockid in wanted:
        local = sockid[4:8] if family == AF_INET else sockid[4:20]
        scopes.append([scope, *sorted(links_of.get(local, set()) - {scope}), *([0] if scope else [])])
    for turn in range(max(map(len, scopes))):
        left = [index for index, tried in enumerate(scopes) if found[index] is None and turn < len(tried)]
        some = [(wanted[index][0], scopes[index][turn], wanted[index][2]) for index in left]
        for index, answer in zip(left, look_each(netlink, some)):
            found[index] = answer
    return found


def look_each(netlink: Netlink, wanted: "list[tuple[int, int, bytes]]") -> "list[bytes | Refused | None]":
    """Exactly these. Many requests go in one write, which saves half of what one costs.

    The kernel answers each in order, by a datagram of its own; no more are sent than answers fit into the socket.
    """
    found: list[bytes | Refused | None] = []
    at_once = max(1, min(32, netlink.socket.getsockopt(1, 8) >> 13))  # SO_RCVBUF; an answer takes 2 to 4 KiB of it
    for start in range(0, len(wanted), at_once):
        some = wanted[start : start + at_once]
        requests = b"".join(
            struct.pack("=IHHIIBBBBI", 72, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, number, 0, family, 6, 2, 0, ALL_STATES)
            + sockid
            + struct.pack("=I8s", scope, NO_COOKIE)
            for number, (family, scope, sockid) in enumerate(some)
        )
        try:
            netlink.write(requests)
            for number, (_, _, sockid) in enumerate(some):
                found.append(looked_up(netlink.receive(), number, sockid))
        except Refused as refusal:
            netlink.open()
            found += [refusal] * (start + len(some) - len(found))
    return found


def looked_up(data: memoryview, number: int, sockid: bytes) -> "bytes | Refused | None":
    """The answer to the look-up of this number -> message, None if there is no such socket, or Refused.

    Where the tuple is absent the kernel returns the LISTEN socket that would take it, which is not it.
    """
    length, kind, _, answered = struct.unpack_from("=IHHI", data)
    if answered != number or length < 20:
        raise Refused(74, "netlink")
    if kind == NLMSG_ERROR:
        code = -struct.unpack_from("=i", data, 16)[0]
        return None if code == 2 else Refused(code, "netlink")  # ENOENT
    if length < ROW:
        raise Refused(74, "netlink")
    if data[17] == LISTEN or data[20:24] != sockid[:4]:
        return None
    return bytes(data[16:length])
