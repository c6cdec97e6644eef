"""What every transport offers: a command that runs on the host, its input and its output."""

from __future__ import annotations

from typing import Protocol


class Channel(Protocol):
    """A running command on a host. All methods raise HostError, with the contract's code, and nothing else.

    The deadline is a time of `time.monotonic()`; no call takes longer, however slowly the peer sends. What the command
    writes to stderr is drained at all times, and only its last 4096 bytes are kept.
    """

    deadline: float

    def send(self, data: bytes) -> None:
        """Write all of `data` to the command's stdin."""

    def receive(self) -> bytes:
        """The next bytes of the command's stdout, at most 1 MiB; b"" at its end."""

    def complaint(self) -> str:
        """The tail of stderr so far: hostile text, for messages."""

    def exit_status(self) -> int | None:
        """Exit status once the command has ended and said so, else None. Does not wait longer than a second."""

    def close(self) -> None:
        """End the command and free the connection. Never raises, never blocks for more than a second."""


class Connection(Protocol):
    """A host that was reached and authenticated."""

    @property
    def transport(self) -> str:
        """The name of the transport."""

    @property
    def note(self) -> str | None:
        """What a reader should know of how the host was reached, None if nothing."""

    def run(self, command: str) -> Channel:
        """Start `command` there by a POSIX shell."""

    def sockets(self, near: bool) -> list[bytes]:
        """The TCP connections that lead there, as this machine sees them: keys (see `address`), none if unknown.

        `near`: whether this machine is one of those that are compared; else connections that only it sees may be left
        out.
        """

    def close(self) -> None:
        """Give the connection back. Never raises."""
