"""A descriptor of another process as one of ours."""

import os

from halfopen.probe.head import Refused

PIDFD_OPEN, PIDFD_GETFD = 434, 438  # the same numbers on every architecture (Linux 5.3 and 5.6)


def duplicate(pid: int, descriptor: int) -> int:
    """A new descriptor for what a process has open. Raises Refused with the errno; ENOSYS before Linux 5.6.

    The kernel allows it to whom it allows to attach by ptrace: root with CAP_SYS_PTRACE, or the same user.
    """
    try:
        import ctypes
    except ImportError as error:
        raise Refused(38, "ctypes") from error  # ENOSYS
    call = ctypes.CDLL(None, use_errno=True).syscall
    process = call(PIDFD_OPEN, pid, 0)
    if process < 0:
        raise Refused(ctypes.get_errno(), "pidfd_open")
    try:
        found = call(PIDFD_GETFD, process, descriptor, 0)
        if found < 0:
            raise Refused(ctypes.get_errno(), "pidfd_getfd")
        return int(found)
    finally:
        os.close(process)
