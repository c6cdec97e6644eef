"""This machine, and any place that an argv of the user's starts a shell in."""

from __future__ import annotations

from dataclasses import dataclass

from halfopen.reach.process import ProcessChannel


@dataclass
class LocalConnection:
    """Commands run by /bin/sh on this machine."""

    deadline: float
    transport: str = "local"
    note: str | None = None

    def run(self, command: str) -> ProcessChannel:
        """Start `command` by a shell."""
        return ProcessChannel(["/bin/sh", "-c", command], self.deadline)

    def close(self) -> None:
        """Nothing is held open."""


@dataclass
class ExecConnection:
    """Commands typed into a shell that `argv` starts (docker exec, kubectl exec, nsenter, ip netns exec)."""

    argv: tuple[str, ...]
    deadline: float
    transport: str = "exec"
    note: str | None = None

    def run(self, command: str) -> ProcessChannel:
        """Start the shell and type `command` into it."""
        channel = ProcessChannel(self.argv, self.deadline)
        channel.send(command.encode() + b"\n")
        return channel

    def close(self) -> None:
        """Nothing is held open."""
