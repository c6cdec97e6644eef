"""Talks to the probe on one host: starts it, asks, and gives the answers as values.

The remote command is one constant, with code and questions on its stdin, so that nothing shows in a process list and
nothing touches the host's disk. It is quoted for every login shell, csh included: single quotes outside, and within
them neither `!` nor a newline; the Python in it is written without a quote.
"""

from __future__ import annotations

import os
import re
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources

from halfopen.errors import ErrorCode, HostError, UsageError
from halfopen.evidence import wire
from halfopen.model import HostFacts, InterfaceAddress, Look, Namespace, Place, Process, Sight, Snapshot, Wanted
from halfopen.reach.channel import Channel


def remote_command(python: str | None) -> str:
    """The command that finds an interpreter and runs what its stdin brings. Exit 127: none; 98: too old."""
    if python is not None and not re.fullmatch(r"[A-Za-z0-9_./+-]+", python):
        raise UsageError(
            f"python = {python!r} is not a plain path or program name", "for example python3 or /usr/bin/python3"
        )
    candidates = python or " ".join(INTERPRETERS)
    return (
        f'exec /bin/sh -c \'for p in {candidates};do command -v $p >/dev/null 2>&1&&exec $p -I -S -B -c "{BOOTSTRAP}";'
        "done;echo halfopen: no python3 found >&2;exit 127'"
    )


def probe_source() -> bytes:
    """The text of the probe, as it is sent."""
    return resources.files("halfopen").joinpath("probe.py").read_bytes()


@dataclass
class Agent:
    """An open conversation with the probe of one host. Every method raises HostError and nothing else.

    `timeout` is seconds for one question; the channel's own deadline is set from it for every question, and never past
    `last_deadline` (a time of time.monotonic()).
    """

    host: str
    channel: Channel
    transport: str
    timeout: float = 60.0
    last_deadline: float = float("inf")
    python: str | None = None
    reader: wire.FrameReader = field(init=False)
    facts: HostFacts | None = field(init=False, default=None)
    addresses: tuple[InterfaceAddress, ...] = field(init=False, default=())
    netns: int | None = field(init=False, default=None)

    def start(self, ports: Sequence[int], wait: bool = False) -> None:
        """Sends the probe and the first questions in one go, so that a long way costs one round trip.

        `wait`: send nothing before the interpreter has said that it reads, for a shell that reads ahead.
        """
        nonce = os.urandom(8)
        self.reader = wire.FrameReader(nonce)
        if wait:
            self._await_ready()
        source = zlib.compress(probe_source(), 9)
        # Blank lines first: a login script that reads a line of stdin takes one of them instead of the head.
        self._send_all(
            b"\n" * 4
            + b"%d\n" % len(source)
            + source
            + nonce
            + request(wire.HELLO)
            + request(wire.DUMP, pack_ports(ports))
        )

    def first_look(self, ports: Sequence[int]) -> Snapshot:
        """The answers to the questions that `start` sent."""
        self._greet()
        return self._snapshot(self._read_dump(ports))

    def snapshot(self, ports: Sequence[int]) -> Snapshot:
        """One more dump on the open session."""
        self._ask(wire.DUMP, pack_ports(ports))
        return self._snapshot(self._read_dump(ports))

    def look(self, wanted: Sequence[Wanted]) -> Look:
        """Exact look-ups, answered in order by the kernel itself."""
        self._ask(wire.LOOK, b"".join(wire.encode_look(one.key, one.scope) for one in wanted))
        frames, count = self._answer(wire.LOOK)
        sights: list[Sight] = wire.decode_looks(frames, count, [one.key for one in wanted])
        return Look(self.host, {(one.place, one.key): sight for one, sight in zip(wanted, sights, strict=True)})

    def evidence(self) -> tuple[dict[str, int], dict[str, int]]:
        """Counters and sysctls of the host's network namespace, now."""
        self._ask(wire.EVIDENCE)
        frames, count = self._answer(wire.EVIDENCE)
        return wire.decode_evidence(wire.decode_fields(frames, count))

    def owners(self, inodes: Sequence[int]) -> tuple[dict[int, Process], int]:
        """Inode -> process that holds it, and how many processes were closed to us."""
        self._ask(wire.OWNERS, struct.pack(f">{len(inodes)}Q", *inodes))
        frames, count = self._answer(wire.OWNERS)
        return wire.decode_owners(wire.decode_fields(frames, count))

    def close(self) -> None:
        """Ends the probe with its channel."""
        self.channel.close()

    @property
    def place(self) -> Place:
        """The namespace that the probe runs in."""
        return Place(self.host, self.netns)

    def _greet(self) -> None:
        frames, count = self._answer(wire.HELLO)
        self.facts, self.addresses, self.netns = wire.decode_hello(wire.decode_fields(frames, count))

    def _snapshot(self, namespace: Namespace) -> Snapshot:
        return Snapshot(self.host, self.facts, (namespace,), transport=self.transport)

    def _read_dump(self, ports: Sequence[int]) -> Namespace:
        assert self.facts is not None
        decoder = wire.DumpDecoder(frozenset(ports))
        for frame in self._frames():
            if frame.kind in (wire.END, wire.ERROR):
                count = wire.end_of(frame, wire.DUMP)
                return decoder.end(count, self.netns, self.addresses, self.facts.collector)
            decoder.add(frame)
        raise AssertionError("frames end with an exception")

    def _ask(self, verb: int, payload: bytes = b"") -> None:
        self.channel.deadline = min(time.monotonic() + self.timeout, self.last_deadline)
        self.channel.send(request(verb, payload))

    def _answer(self, verb: int) -> tuple[list[wire.Frame], int]:
        frames: list[wire.Frame] = []
        size = 0
        for frame in self._frames():
            if frame.kind in (wire.END, wire.ERROR):
                return frames, wire.end_of(frame, verb)
            size += len(frame.payload)
            if size > wire.ANSWER_LIMIT:
                raise HostError(ErrorCode.TOO_LARGE, f"the answer grows past {wire.ANSWER_LIMIT >> 20} MiB")
            frames.append(frame)
        raise AssertionError("frames end with an exception")

    def _frames(self) -> Iterator[wire.Frame]:
        """Frames until the caller has its end. More than one answer may lie in the buffer already."""
        yield from self.reader.feed(b"")
        while True:
            data = self.channel.receive()
            if not data:
                raise self._ended()
            yield from self.reader.feed(data)

    def _send_all(self, data: bytes) -> None:
        """Sends; what ends before it has read all of it says why on its stderr, and by its status."""
        try:
            self.channel.send(data)
        except HostError as error:
            raise self._ended() if error.code is ErrorCode.PROTOCOL_ERROR else error from error

    def _await_ready(self) -> None:
        seen = b""
        while READY not in seen:
            data = self.channel.receive()
            if not data:
                raise self._ended()
            seen = (seen + data)[-wire.PREAMBLE_LIMIT :]

    def _ended(self) -> HostError:
        """Why the channel ended before the answer did."""
        if missing := self._no_interpreter():
            return missing
        status, complaint = self.channel.exit_status(), self.channel.complaint().strip()
        words = complaint.splitlines()[-1][:300] if complaint else ""
        said = f": {words}" if words else ""
        if "password is required" in complaint or "sudo:" in complaint:
            return HostError(
                ErrorCode.NEEDS_PRIVILEGE,
                f"sudo -n was refused{said}",
                "allow it for this user in sudoers, or drop sudo = true",
            )
        if self.reader.sequence == 0:
            ended = f" (exit status {status})" if status is not None else ""
            # A Python that starts and fails: a broken one, or one on a system that the probe does not know.
            failed = status is not None and 0 < status < 126
            return HostError(
                ErrorCode.NO_INTERPRETER if failed else ErrorCode.PROTOCOL_ERROR,
                f"the probe ended before its first word{ended}{said}",
                wire.RETRY,
            )
        return HostError(ErrorCode.TRUNCATED, f"the probe's answer ends in the middle{said}", wire.RETRY)

    def _no_interpreter(self) -> HostError | None:
        """Whether the channel ended because no Python was found, or only one that is too old."""
        status, complaint = self.channel.exit_status(), self.channel.complaint()
        if status in (126, 127) or "no python3 found" in complaint:
            asked = self.python or "python3 (nor platform-python, nor python3.6 to python3.14)"
            return HostError(
                ErrorCode.NO_INTERPRETER,
                f"no {asked} on the host",
                'set python = "/path/to/python3" for this host in the inventory, or save evidence there with ss -tanoe '
                "and read it with halfopen analyse",
            )
        if status == 98:
            return HostError(
                ErrorCode.NO_INTERPRETER, "the host's python is older than 3.6", "set python = ... in the inventory"
            )
        return None


def request(verb: int, payload: bytes = b"") -> bytes:
    """One question to the probe."""
    return struct.pack(">BI", verb, len(payload)) + payload


def pack_ports(ports: Sequence[int]) -> bytes:
    """The ports of a DUMP request."""
    return struct.pack(f">{len(ports)}H", *ports)


READY = b"\nhalfopen-reads\n"

BOOTSTRAP = (
    "import os,sys,zlib;"
    "sys.version_info<(3,6)and sys.exit(98);"
    f"os.write(1,bytes([{','.join(map(str, READY))}]));"
    "halfopen_input=open(0,chr(114)+chr(98));"
    "n=next(int(x)for x in halfopen_input if x.strip());"
    "exec(compile(zlib.decompress(halfopen_input.read(n)),chr(45),chr(101)+chr(120)+chr(101)+chr(99)))"
)

INTERPRETERS = (
    "/usr/bin/python3",  # first, because what a login puts before it in PATH is often a slow wrapper
    "python3",
    "/usr/local/bin/python3",
    "/usr/libexec/platform-python",
    *(f"python3.{minor}" for minor in range(14, 5, -1)),
)
