"""Starts the probe on one host, and exchanges questions and the frames of their answers with it.

The remote command is one constant, with code and questions on its stdin, so that nothing shows in a process list and
nothing touches the host's disk. It is quoted for every login shell, csh included: single quotes outside, and within
them neither `!` nor a newline; the Python in it is written without a quote.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator

from halfopen import probe
from halfopen.errors import ErrorCode, HostError, UsageError
from halfopen.evidence.probe import frames, wire
from halfopen.reach.channel import Channel
from halfopen.reach.ended import why_ended


def remote_command(python: str | None) -> str:
    """The remote command: it finds a Python and runs the program on its stdin. Exit 127: no Python; 98: too old."""
    if python is not None and not re.fullmatch(r"[A-Za-z0-9_./+-]+", python):
        raise UsageError(
            f"python = {python!r} is not a plain path or program name", "for example python3 or /usr/bin/python3"
        )
    candidates = python or " ".join(INTERPRETERS)
    return (
        f'exec /bin/sh -c \'for p in {candidates};do command -v $p >/dev/null 2>&1&&exec $p -I -S -B -c "{BOOTSTRAP}";'
        "done;echo halfopen: no python3 found >&2;exit 127'"
    )


class Exchange:
    """Questions to the probe of one host, and what it sends back. deadline: a time of `time.monotonic()`."""

    reader: frames.FrameReader

    def __init__(
        self, host: str, channel: Channel, transport: str, deadline: float = float("inf"), python: str | None = None
    ) -> None:
        self.host, self.channel, self.transport, self.deadline = host, channel, transport, deadline
        self.python = python

    def begin(self, questions: bytes, wait: bool = False, more: tuple[str, ...] = ()) -> None:
        """Sends the probe, HELLO and the first questions in one go, so that a slow network costs one round trip.

        `wait`: send nothing before the interpreter has said that it reads, for a shell that reads ahead.
        `more`: the parts of the probe that answer what not every check asks.
        """
        nonce = os.urandom(8)
        self.reader = frames.FrameReader(nonce)
        if wait:
            self._await_ready()
        source = zlib.compress(probe.source(more), 9)
        # Blank lines first: a login script that reads a line of stdin takes one of them instead of the head.
        self._send_all(b"\n" * 4 + b"%d\n" % len(source) + source + nonce + request(wire.HELLO) + questions)

    def _ask(self, verb: int, payload: bytes = b"") -> None:
        self.channel.deadline = self.deadline
        self.channel.send(request(verb, payload))

    def _answer(self, verb: int) -> tuple[list[frames.Frame], int]:
        parts: list[frames.Frame] = []
        size = 0
        for frame in self._frames():
            if frame.type in (frames.END, frames.ERROR):
                return parts, frames.end_of(frame, verb)
            size += len(frame.payload)
            if size > frames.ANSWER_LIMIT:
                raise HostError(ErrorCode.TOO_LARGE, f"the answer grows past {frames.ANSWER_LIMIT >> 20} MiB")
            parts.append(frame)
        raise AssertionError("frames end with an exception")

    def _frames(self) -> Iterator[frames.Frame]:
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
            seen = (seen + data)[-frames.PREAMBLE_LIMIT :]
            for _ in self.reader.feed(data):  # which bounds what may come before the first frame
                pass

    def _ended(self) -> HostError:
        return why_ended(self.channel, self.python, started=self.reader.sequence > 0)


def request(verb: int, payload: bytes = b"") -> bytes:
    """One question to the probe."""
    return struct.pack(">BI", verb, len(payload)) + payload


READY = b"\nhalfopen-reads\n"

BOOTSTRAP = (
    "import os,sys,zlib;"
    "sys.version_info<(3,6)and sys.exit(98);"
    f"os.write(1,bytes([{','.join(map(str, READY))}]));"
    "halfopen_input=open(0,chr(114)+chr(98));"
    "n=next(int(x)for x in halfopen_input if x.strip());"
    "exec(compile(zlib.decompress(halfopen_input.read(n)),chr(45),chr(101)+chr(120)+chr(101)+chr(99)));"
    "main(halfopen_input.read)"
)

INTERPRETERS = (
    "/usr/bin/python3",  # first, because what a login puts before it in PATH is often a slow wrapper
    "python3",
    "/usr/local/bin/python3",
    "/usr/libexec/platform-python",
    *(f"python3.{minor}" for minor in range(14, 5, -1)),
)
