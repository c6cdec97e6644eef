"""Runs a command to which the kernel refuses AF_NETLINK sockets (seccomp), as strict containers do."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

AUDIT_ARCH, NR_SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}[platform.machine()]
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
ALLOW, EAFNOSUPPORT = 0x7FFF0000, 0x00050000 | 97
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
AF_NETLINK = 16

PROGRAM = (
    (LOAD, 0, 0, 4),  # seccomp_data.arch
    (EQUAL, 0, 5, AUDIT_ARCH),
    (LOAD, 0, 0, 0),  # .nr
    (EQUAL, 0, 3, NR_SOCKET),
    (LOAD, 0, 0, 16),  # .args[0]: the family
    (EQUAL, 0, 1, AF_NETLINK),
    (RETURN, 0, 0, EAFNOSUPPORT),
    (RETURN, 0, 0, ALLOW),
)


def main() -> None:
    code = b"".join(struct.pack("=HBBI", *line) for line in PROGRAM)
    kept = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", len(PROGRAM), ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
