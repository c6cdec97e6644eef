"""This machine, and whatever an argv of the user starts a shell in (a container, a network namespace)."""

from __future__ import annotations

import os
import shlex

from msgspec import Struct

from halfopen.errors import ErrorCode, HostError
from halfopen.reach.process import ProcessChannel


class LocalConnection(Struct):
    """Commands run by /bin/sh on this machine."""

    deadline: float
    transport: str = "local"
    note: str | None = None

    def run(self, command: str) -> ProcessChannel:
        """Start `command` by a shell."""
        return ProcessChannel(["/bin/sh", "-c", command], self.deadline, environment=without_session())

    def sockets(self, _: bool) -> list[bytes]:
        """No SSH leads here."""
        return []

    def close(self) -> None:
        """Nothing is held open."""


class ExecConnection(Struct):
    """Commands typed into a shell that `argv` starts (docker exec, kubectl exec, nsenter, ip netns exec)."""

    argv: tuple[str, ...]
    deadline: float
    transport: str = "exec"
    note: str | None = None

    def run(self, command: str) -> ProcessChannel:
        """Start the shell and type `command` into it."""
        channel = ProcessChannel(self.argv, self.deadline, self.explain, without_session())
        # Output before all else shows that there is a shell, and that it started.
        channel.send(b"echo halfopen-shell-is-here; " + command.encode() + b"\n")
        return channel

    def sockets(self, _: bool) -> list[bytes]:
        """None: what `argv` opens is not known."""
        return []

    def explain(self, said: str, status: int | None) -> HostError | None:
        """The error of an argv that started no shell, with the last line that it wrote to stderr."""
        if not status:
            return None
        lines = said.strip().splitlines()
        return HostError(
            ErrorCode.UNREACHABLE,
            f"{self.argv[0]} started no shell (exit status {status}){': ' + lines[-1][:300] if lines else ''}",
            f"try: {shlex.join(self.argv)}",
        )

    def close(self) -> None:
        """Nothing is held open."""


def without_session() -> dict[str, str]:
    """The environment without SSH_CONNECTION, which names the SSH login of the user and no connection of this run."""
    return {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
