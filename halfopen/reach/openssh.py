"""The user's own ssh program: FIDO keys, certificates, ProxyCommand, ControlMaster, anything it can do."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from halfopen.errors import ErrorCode, HostError
from halfopen.reach.process import ProcessChannel


@dataclass
class OpensshConnection:
    """`ssh ARGUMENTS -- HOST`; each command is a run of it."""

    arguments: tuple[str, ...]
    host: str
    deadline: float
    connect_timeout: float
    accept_new: bool
    note: str | None = None
    transport: str = "openssh"

    def run(self, command: str) -> ProcessChannel:
        """Start `command` by the user's login shell over there."""
        argv = ["ssh", *self.arguments, "-T", "-a", "-x"]
        for option in (
            "BatchMode=yes",
            f"StrictHostKeyChecking={'accept-new' if self.accept_new else 'yes'}",
            f"ConnectTimeout={max(1, round(self.connect_timeout))}",
            "ClearAllForwardings=yes",
            "PermitLocalCommand=no",
            "RequestTTY=no",
            "RemoteCommand=none",
        ):
            argv += ["-o", option]
        return ProcessChannel([*argv, "--", self.host, command], self.deadline, self.explain)

    def explain(self, said: str) -> HostError | None:
        """What ssh wrote to stderr -> the contract's code, by the table of messages it was seen with."""
        for words, code in SAID:
            if words in said:
                lines = [line for line in said.splitlines() if line.strip("@ \r")]
                return HostError(
                    code,
                    f"ssh: {lines[-1].strip() if lines else words}",
                    f"try: {shlex.join(['ssh', '-v', self.host])}",
                )
        return None

    def close(self) -> None:
        """Each channel ends its own ssh."""


SAID: tuple[tuple[str, ErrorCode], ...] = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", ErrorCode.HOST_KEY_MISMATCH),
    ("is revoked", ErrorCode.HOST_KEY_REVOKED),
    ("marked as revoked", ErrorCode.HOST_KEY_REVOKED),
    ("Host key verification failed", ErrorCode.HOST_KEY_UNKNOWN),
    ("Too many authentication failures", ErrorCode.AUTH_FAILED),
    ("Permission denied (", ErrorCode.AUTH_FAILED),
    ("Could not resolve hostname", ErrorCode.UNREACHABLE),
    ("No route to host", ErrorCode.UNREACHABLE),
    ("Network is unreachable", ErrorCode.UNREACHABLE),
    ("Connection refused", ErrorCode.CONNECTION_REFUSED),
    ("Connection timed out", ErrorCode.TIMEOUT),
    ("timed out during banner exchange", ErrorCode.TIMEOUT),
    ("Not allowed at this time", ErrorCode.THROTTLED),
    ("kex_exchange_identification: ", ErrorCode.THROTTLED),
    ("no matching ", ErrorCode.UNSUPPORTED),
    ("Bad configuration option", ErrorCode.UNSUPPORTED),
)
