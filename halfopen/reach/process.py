"""A command as a child of this process: what `local`, `exec` and `openssh` share."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from halfopen import address
from halfopen.errors import ErrorCode, HostError

RECEIVE = 1 << 20
COMPLAINT = 4096


Explain = Callable[[str, int | None], HostError | None]
"""What stderr says and the exit status (None: unknown) -> a better error, for a child that ended without output."""


class ProcessChannel:
    """The pipes of a child, all read as data comes. `explain` is called if stdout ends before its first byte."""

    def __init__(
        self,
        argv: Sequence[str],
        deadline: float,
        explain: Explain = lambda *_: None,
        environment: Mapping[str, str] | None = None,
        folder: str | None = None,
    ) -> None:
        self.deadline = deadline
        self.explain = explain
        self.stderr = b""
        self.silent = True
        self.ahead = b""
        self.closing = threading.Lock()
        try:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                env=environment,
                cwd=folder,
            )
        except OSError as error:
            raise HostError(
                ErrorCode.UNREACHABLE,
                f"{argv[0]} could not be started: {error.strerror}",
                "is it installed and in PATH?",
            ) from error
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin, self.stdout, self.errors = self.process.stdin, self.process.stdout, self.process.stderr
        for pipe in (self.stdin, self.stdout, self.errors):
            os.set_blocking(pipe.fileno(), False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.stdout, selectors.EVENT_READ)
        self.selector.register(self.errors, selectors.EVENT_READ)

    def send(self, data: bytes) -> None:
        """Write all of `data`, reading stderr meanwhile."""
        view = memoryview(data)
        self.selector.register(self.stdin, selectors.EVENT_WRITE)
        try:
            while view:
                if self.stdin in self._ready():
                    view = view[self.stdin.write(view) or 0 :]
                elif not self._alive():
                    raise self._gone()
        except (BrokenPipeError, ConnectionError) as error:
            raise self._gone() from error
        finally:
            self.selector.unregister(self.stdin)

    def receive(self) -> bytes:
        """The next bytes of stdout, b"" at its end."""
        if self.ahead:
            data, self.ahead = self.ahead, b""
            return data
        while True:
            if self.stdout in self._ready():
                found = self.stdout.read(RECEIVE)
                if found is not None:
                    if not found and (error := self._explained()):
                        raise error
                    self.silent = self.silent and not found
                    return found

    def wait(self) -> None:
        """Waits for the first bytes of stdout, or its end; `receive` gives them."""
        self.ahead = self.receive()

    def complaint(self) -> str:
        """The tail of stderr."""
        return self.stderr.decode("utf-8", "surrogateescape")

    def exit_status(self) -> int | None:
        """Exit status, waiting for it a second at the most."""
        try:
            return self.process.wait(1)
        except subprocess.TimeoutExpired:
            return None

    def sockets(self) -> list[bytes]:
        """Keys of the TCP connections that the child and what it has started hold."""
        import psutil

        found = []
        with contextlib.suppress(psutil.Error):  # it has ended, and they with it
            child = psutil.Process(self.process.pid)
            for process in (child, *child.children(recursive=True)):
                found += [(*row.laddr, *row.raddr) for row in process.net_connections("tcp") if row.laddr and row.raddr]
        return [
            address.make_key(address.parse(local), port, address.parse(peer), peer_port)
            for local, port, peer, peer_port in found
        ]

    def close(self) -> None:
        """End of input first, which ends the probe; then the whole process group. Two threads may call it at once."""
        with self.closing:
            self._close()

    def _close(self) -> None:
        for pipe in (self.stdin, self.stdout, self.errors):
            with contextlib.suppress(OSError):
                pipe.close()
        self.selector.close()
        try:
            self.process.wait(0.2)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)

    def _ready(self) -> list[object]:
        """The pipes that are ready, stderr drained. HostError when the deadline has passed."""
        left = self.deadline - time.monotonic()
        ready = [key.fileobj for key, _ in self.selector.select(max(0.0, left))] if left > 0 else []
        if not ready:
            said = self.complaint().strip().splitlines()
            raise HostError(
                ErrorCode.TIMEOUT,
                "no answer in time" + (f"; it last said: {said[-1][:200]}" if said else ""),
                "a longer --timeout, or look at the load of the host",
            )
        if self.errors in ready:
            self._drain()
        return list(ready)

    def _drain(self) -> None:
        if self.errors.closed:
            return
        data = self.errors.read(1 << 16)
        if data == b"":
            self.selector.unregister(self.errors)
            self.errors.close()
        self.stderr = (self.stderr + (data or b""))[-COMPLAINT:]

    def _alive(self) -> bool:
        return self.process.poll() is None

    def _gone(self) -> HostError:
        return self._explained() or HostError(
            ErrorCode.PROTOCOL_ERROR,
            f"the command ended before it had read its input: {self.complaint().strip()[-300:]}",
            "halfopen doctor HOST says how far it comes there",
        )

    def _explained(self) -> HostError | None:
        """Why a child ended that never wrote to stdout."""
        status = self.exit_status()
        self._drain()
        return self.explain(self.stderr.decode("utf-8", "surrogateescape"), status) if self.silent else None
