"""Why the channel of a probe ended early: what sudo, the shell and Python print where they cannot start it."""

from __future__ import annotations

from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe import frames
from halfopen.reach.channel import Channel


def why_ended(channel: Channel, python: str | None, started: bool) -> HostError:
    """The error of a channel at its end. `python`: as the inventory names it; `started`: the probe had answered."""
    status, complaint = channel.exit_status(), channel.complaint().strip()
    words = complaint.splitlines()[-1][:300] if complaint else ""
    said = f": {words}" if words else ""
    if any(words in complaint for words in SUDO_SAYS):
        return HostError(
            ErrorCode.NEEDS_PRIVILEGE,
            f"sudo -n was refused{said}",
            "allow it for this user in sudoers, or drop sudo = true",
        )
    if missing := no_interpreter(status, complaint, python):
        return missing
    if not started:
        ended = f" (exit status {status})" if status is not None else ""
        # A Python that starts and fails: a broken one, or one on a system that the probe does not know.
        failed = status is not None and 0 < status < 126
        return HostError(
            ErrorCode.NO_INTERPRETER if failed else ErrorCode.PROTOCOL_ERROR,
            f"the probe ended before its first word{ended}{said}",
            frames.RETRY,
        )
    return HostError(ErrorCode.TRUNCATED, f"the probe's answer ends in the middle{said}", frames.RETRY)


def no_interpreter(status: int | None, complaint: str, python: str | None) -> HostError | None:
    """The error if no Python was found, or only one that is too old; else None."""
    if status in (126, 127) or "no python3 found" in complaint:
        asked = python or "python3 (nor platform-python, nor python3.6 to python3.14)"
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


SUDO_SAYS = (
    "a password is required",
    "is not in the sudoers file",
    "is not allowed to execute",
    "is not allowed to run sudo",
    "may not run sudo",
    "you must have a tty to run sudo",
    "sudo: not found",
    "sudo: command not found",
)
"""What sudo -n prints where it refuses, and a shell where there is no sudo."""
