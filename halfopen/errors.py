"""What can go wrong, as values with a message for people and the next command to type.

Exit codes and host error codes are the contract's; nothing above this floor invents another.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Exit(IntEnum):
    """Exit status of the program."""

    CLEAN = 0
    FINDINGS = 1
    USAGE = 2
    INCOMPLETE = 3
    BUG = 4
    INTERRUPTED = 130


class ErrorCode(StrEnum):
    """Why a host could not be read."""

    UNREACHABLE = "unreachable"
    CONNECTION_REFUSED = "connection-refused"
    TIMEOUT = "timeout"
    HOST_KEY_UNKNOWN = "host-key-unknown"
    HOST_KEY_MISMATCH = "host-key-mismatch"
    HOST_KEY_REVOKED = "host-key-revoked"
    AUTH_FAILED = "auth-failed"
    THROTTLED = "throttled"
    NEEDS_PRIVILEGE = "needs-privilege"
    NO_INTERPRETER = "no-interpreter"
    TRUNCATED = "truncated"
    PROTOCOL_ERROR = "protocol-error"
    TOO_LARGE = "too-large"
    UNSUPPORTED = "unsupported"


class HalfopenError(Exception):
    """Something that the user must be told: what failed, and what to type next."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(HalfopenError):
    """A wrong option, argument, host string or inventory. Exit 2."""


class MissingPackageError(HalfopenError):
    """A package that halfopen needs for this is not installed. Exit 2."""

    def __init__(self, error: ModuleNotFoundError) -> None:
        name = (error.name or "").partition(".")[0]
        super().__init__(f"the Python package {name} is needed for this, and is not installed", "pip install halfopen")


def is_missing_package(error: BaseException) -> bool:
    """Whether a package of somebody else is not there; a module of ours that is not is a bug."""
    own = not isinstance(error, ModuleNotFoundError) or (error.name or "").partition(".")[0] in ("", "halfopen")
    return not own


class HostError(HalfopenError):
    """A host, or its answer, could not be read. A value in the report, never a verdict."""

    def __init__(self, code: ErrorCode, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.code = code
