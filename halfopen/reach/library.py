"""paramiko as we use it: imported late, bounded by one deadline, its errors turned into HostError."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from halfopen.errors import ErrorCode, HostError
from halfopen.reach.algorithms import USE_OPENSSH

CLOSED = ("Error reading SSH protocol banner", "Not allowed at this time", "Exceeded MaxStartups", "Invalid SSH banner")


def load_paramiko() -> Any:
    """The library, imported where it is first needed: it costs more than the rest of the program.

    A third of that is `invoke`, which only `Match exec` would use, and that we leave to `ssh -G`.
    """
    absent = "invoke" not in sys.modules
    if absent:
        sys.modules["invoke"] = None  # type: ignore[assignment]
    try:
        import paramiko
    finally:
        if absent:
            del sys.modules["invoke"]
    logger = logging.getLogger("paramiko")
    if not logger.handlers:  # or its messages reach the user's screen through the handler of last resort
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    return paramiko


class Patience(Struct, frozen=True):
    """How long: `connect` seconds for each hop, and `deadline` (time.monotonic()) for all of it."""

    connect: float
    deadline: float

    def left(self) -> float:
        """Seconds for the next step; HostError when there are none."""
        left = min(self.connect, self.deadline - time.monotonic())
        if left <= 0:
            raise HostError(ErrorCode.TIMEOUT, "no time was left to connect", "a longer --timeout")
        return left


@contextlib.contextmanager
def spoken(host: str) -> Iterator[None]:
    """Turns what the library raises into HostError. Refused authentication passes: the next key is tried."""
    paramiko = load_paramiko()
    try:
        yield
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise HostError(
            ErrorCode.UNSUPPORTED, f"{host} and we have no SSH algorithm in common: {error}", USE_OPENSSH
        ) from error
    except paramiko.AuthenticationException as error:
        if "timeout" in str(error).lower():
            raise HostError(
                ErrorCode.TIMEOUT,
                f"{host} did not answer to a key in time",
                "look at what its sshd waits for (PAM, LDAP, DNS); a longer --connect-timeout if it is slow",
            ) from error
        raise
    except paramiko.ChannelException as error:
        raise HostError(
            ErrorCode.UNREACHABLE,
            f"the jump host cannot open a connection to {host}: {error.text}",
            "is it up, from there?",
        ) from error
    except (paramiko.SSHException, EOFError, OSError, ValueError) as error:
        text = str(error) or type(error).__name__
        if "timed out" in text.lower() or "timeout" in text.lower() or isinstance(error, TimeoutError):
            raise HostError(
                ErrorCode.TIMEOUT,
                f"{host} did not finish the SSH handshake in time",
                "is that port SSH? is the host busy?",
            ) from error
        if any(word in text for word in CLOSED) or isinstance(error, (EOFError, ConnectionError)):
            raise HostError(
                ErrorCode.THROTTLED,
                f"{host} closed the connection before the handshake was done ({text})",
                "its sshd may be out of MaxStartups or block this address: try again later, or a smaller --forks",
            ) from error
        raise HostError(ErrorCode.PROTOCOL_ERROR, f"SSH to {host} failed: {text}", f"try: ssh -v {host}") from error
