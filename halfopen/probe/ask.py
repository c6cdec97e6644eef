"""Asks through connections whether anybody answers: keepalive probes on sockets of other processes (RFC 9293, 3.8.4).

This alone of all that is sent to a host changes anything, and it is sent only where the user asked for it (`--ask`). A
duplicate of the socket gets SO_KEEPALIVE, then TCP_KEEPIDLE = 1: the kernel finds that it was idle for longer, and
probes at once (net/ipv4/tcp.c tcp_sock_set_keepidle); set again, it probes again. What the options were is put back in
every case. Nothing is written, read or closed, SO_ERROR is not taken: a program whose peer answers notices nothing.
"""

import _signal
import _socket
import os
import select
import struct
import time

from halfopen.probe.columns import MAPPED
from halfopen.probe.duplicate import duplicate
from halfopen.probe.head import AF_INET6, Refused
from halfopen.probe.processes import descriptors, owner_fields
from halfopen.probe.serve import ANSWERS
from halfopen.probe.session import Session

ASK = 18
MOST_ASKED = 1000  # sockets of one request
SPACING = 0.02  # seconds between the first probes of two sockets: 50 a second
TRIES = 3
LEAST_WAIT, MOST_WAIT = 1.0, 5.0  # seconds for an answer to one probe; between them, the retransmission timeout
ENTRY = struct.Struct(">QQB36s")  # inode, cookie (0: unknown), bytes of an address, key

# What became of a question: asked, or why not.
ASKED, NO_HOLDER, NOT_ALLOWED, ANOTHER, NOT_ESTABLISHED, IN_REPAIR = range(6)
SENDS, OWN_TIMEOUT, OWN_LIMIT, LATE, CLOSED = range(6, 11)

SOL_SOCKET, SO_KEEPALIVE, SO_COOKIE = 1, 9, 57
TCP, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_INFO, TCP_USER_TIMEOUT, TCP_REPAIR = 6, 4, 5, 6, 11, 18, 19
LONG = 60  # seconds for TCP_KEEPINTVL where it is shorter: the kernel sends none between ours
TICK_MS = 20


class Unfit(Exception):
    """Why a socket is not asked: one of the codes, and an errno (0 if none)."""


class Question:
    """One socket that is being asked, until `end`. Raises Unfit.

    `settings`: its options as they were, in the order in which they are put back. `code`: how it ended.
    """

    def __init__(self, index: int, holder: "tuple[int, int]", entry: "tuple[int, int, int, bytes]", end: float) -> None:
        inode, cookie, width, key = entry
        self.path, self.target = f"/proc/{holder[0]}/fd/{holder[1]}", f"socket:[{inode}]"
        self.index, self.code, self.errno, self.tries, self.noisy = index, ASKED, 0, 0, False
        self.settings: list[tuple[int, int, int]] = []
        try:
            # An IPv6 address has room for those of both families; nothing is asked of the family that is said here.
            self.socket = _socket.socket(AF_INET6, 1, TCP, duplicate(*holder))
        except Refused as refusal:
            gone = refusal.args[0] in (3, 9)  # ESRCH, EBADF
            raise Unfit(CLOSED if gone else NOT_ALLOWED, refusal.args[0]) from refusal
        try:
            self.examine(cookie, key[: 2 * width + 4], end)
        except OSError as error:
            self.socket.close()
            raise Unfit(ANOTHER, error.errno or 0) from error
        except Unfit:
            self.socket.close()
            raise

    def examine(self, cookie: int, key: bytes, end: float) -> None:
        """Sees to it that it is the socket that is meant, and fit to be asked."""
        names = [self.socket.getsockname(), self.socket.getpeername()]
        ports = struct.pack(">HH", names[0][1], names[1][1])
        identity = struct.unpack("=Q", self.socket.getsockopt(SOL_SOCKET, SO_COOKIE, 8))[0]
        if b"".join(map(packed, names)) + ports != key or cookie not in (0, identity):
            raise Unfit(ANOTHER, 0)
        self.before = self.after = self.info()
        if self.before[0] != 1:
            raise Unfit(NOT_ESTABLISHED, 0)
        if self.number(TCP, TCP_REPAIR):
            raise Unfit(IN_REPAIR, 0)
        if any(struct.unpack_from("=I", self.before, at)[0] for at in (24, 144)):  # unacknowledged, not sent yet
            raise Unfit(SENDS, 0)
        keepalive, timeout = self.number(SOL_SOCKET, SO_KEEPALIVE), self.number(TCP, TCP_USER_TIMEOUT)
        if keepalive and timeout:
            raise Unfit(OWN_TIMEOUT, 0)
        # So many in vain end a connection; with a user timeout the second does (tcp_keepalive_timer).
        probes = self.before[3]
        self.most = min(TRIES, self.number(TCP, TCP_KEEPCNT) - probes - bool(keepalive))
        self.most = min(self.most, 1 - probes) if timeout else self.most
        if self.most < 1:
            raise Unfit(OWN_LIMIT, 0)
        self.wait = min(max(LEAST_WAIT, struct.unpack_from("=I", self.before, 8)[0] / 1e6), MOST_WAIT)
        self.begun = time.monotonic()
        if self.begun + self.most * self.wait > end:
            raise Unfit(LATE, 0)
        interval, idle = self.number(TCP, TCP_KEEPINTVL), self.number(TCP, TCP_KEEPIDLE)
        self.settings = [(SOL_SOCKET, SO_KEEPALIVE, keepalive), (TCP, TCP_KEEPINTVL, interval)]
        # The kernel sends none between ours. Longer ones are left: a number cannot go back to what the sysctl says.
        self.settings = [*self.settings[: 1 + (interval < LONG)], (TCP, TCP_KEEPIDLE, idle)]

    def number(self, level: int, option: int) -> int:
        return self.socket.getsockopt(level, option)

    def info(self) -> bytes:
        """struct tcp_info; byte 0 is the state, byte 3 how many probes are unanswered."""
        return self.socket.getsockopt(TCP, TCP_INFO, 512)

    def send(self) -> None:
        """One keepalive probe, at once. Where an option may not be set, that is the end of it."""
        self.sent = time.monotonic()
        self.tries += 1
        try:
            if self.tries == 1:
                for level, option, _ in self.settings[:-1]:
                    self.socket.setsockopt(level, option, LONG if option == TCP_KEEPINTVL else 1)
            self.socket.setsockopt(TCP, TCP_KEEPIDLE, 1)
        except OSError as error:
            self.code, self.errno, self.tries = NOT_ALLOWED, error.errno or 0, self.tries - 1

    def is_over(self) -> bool:
        """Whether it is answered, or there is nothing more to be done. Sends again where nothing has come."""
        now = time.monotonic()
        self.elapsed = int((now - self.begun) * 1000)
        self.after = self.info()
        # Bytes 52 and 56: ages of the last data and of the last acknowledgement that came.
        if self.code != ASKED or self.after[0] != 1 or self.fell(52) or self.fell(56):
            return True
        try:
            is_open = os.readlink(self.path) == self.target
        except OSError:
            is_open = False
        if not is_open:  # its program has closed it, which our copy must not delay
            self.code = CLOSED
        elif now - self.sent >= self.wait:
            if self.tries == self.most:
                return True
            self.send()
        return self.code != ASKED

    def fell(self, at: int) -> bool:
        """Whether an age in tcp_info, in ms, was set to 0 meanwhile; two of them may be off by a tick of the kernel."""
        first, last = (struct.unpack_from("=I", info, at)[0] for info in (self.before, self.after))
        return bool(last + 20 < first + self.elapsed)

    def put_back(self) -> None:
        """The options as they were, and no descriptor of ours any more."""
        for level, option, value in self.settings:
            try:
                self.socket.setsockopt(level, option, value)
            except OSError as error:
                self.errno = error.errno or 255
        self.socket.close()

    def answer(self) -> bytes:
        return answer(self.index, self.code, self.errno, self.tries, self.elapsed, self.before, self.after)


def answer(
    index: int, code: int, errno: int = 0, tries: int = 0, elapsed: int = 0, before: bytes = b"", after: bytes = b""
) -> bytes:
    """One `asked` field: which, code, errno, probes sent, ms from the first one on, and tcp_info before and after."""
    return struct.pack(">HBHBIHH", index, code, errno, tries, elapsed, len(before), len(after)) + before + after


def packed(name: "tuple[object, ...]") -> bytes:
    """The address of a socket's name, IPv4 where it is mapped."""
    host = str(name[0]).partition("%")[0]
    raw = _socket.inet_pton(AF_INET6, host) if ":" in host else _socket.inet_aton(host)
    return raw[12:] if raw[:12] == MAPPED else raw


def ask(session: Session, payload: bytes) -> int:
    """The answer to ASK: ms that it may take (4 bytes), then ENTRYs -> fields `owner` and `asked`.

    All are asked side by side. What cannot be begun in time is LATE.
    """
    (limit,) = struct.unpack_from(">I", payload)
    entries = list(ENTRY.iter_unpack(payload[4:]))
    if len(entries) > MOST_ASKED:
        raise Refused(7, "questions")  # E2BIG
    end = time.monotonic() + limit / 1000
    found, closed = descriptors({entry[0] for entry in entries})
    owners = owner_fields(found)
    answers: list[bytes] = []
    asked: list[Question] = []
    waiting = list(enumerate(entries))[::-1]
    handlers = [(number, _signal.signal(number, leave)) for number in (1, 15)]  # SIGHUP, SIGTERM
    try:
        due = 0.0
        while waiting or asked:
            while waiting and time.monotonic() >= due:
                index, entry = waiting.pop()
                try:
                    if entry[0] not in found:
                        raise Unfit(NOT_ALLOWED if closed else NO_HOLDER, 13 if closed else 0)  # EACCES
                    question = Question(index, found[entry[0]], entry, end)
                    asked.append(question)
                    question.send()
                    due = time.monotonic() + SPACING
                except Unfit as unfit:
                    answers.append(answer(index, *unfit.args))
            for question in list(asked):
                if question.is_over():
                    asked.remove(question)
                    question.put_back()
                    answers.append(question.answer())
            wait(asked)
    finally:
        for number, _ in handlers:
            _signal.signal(number, _signal.SIG_IGN)
        for question in asked:
            question.put_back()
        for number, handler in handlers:
            _signal.signal(number, handler)
    return session.fields(owners + [("asked", one) for one in answers])


def wait(asked: "list[Question]") -> None:
    """Until something may have come: a RST shows at once, and our copy must not outlast what its program does then.

    Raises where the channel is closed.
    """
    poller = select.poll()
    poller.register(0, 0)
    by_descriptor = {question.socket.fileno(): question for question in asked if not question.noisy}
    for descriptor in by_descriptor:
        poller.register(descriptor, 0)
    for descriptor, _ in poller.poll(TICK_MS):
        if descriptor == 0:
            raise ConnectionError("nobody waits for the answer any more")
        by_descriptor[descriptor].noisy = True  # of what else there is in its error queue, it would tell for ever


def leave(*_: object) -> None:
    """In place of the end that a signal brings: options are put back first."""
    raise SystemExit(1)


ANSWERS.update({ASK: ask})
