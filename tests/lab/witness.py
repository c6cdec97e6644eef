"""An interpreter that keeps a record of what the program it runs does to the host. Standard library only.

    witness.py RECORD [interpreter's options] -c PROGRAM

It runs PROGRAM as `python -c` does. The interpreter's own audit events (PEP 578) go to RECORD.events: every file that
is opened, folder that is listed, socket that is made, process that is started. What PROGRAM reads from its input goes
to RECORD.input. It imports no more than it must: what it has imported, PROGRAM opens no more.
"""

import builtins
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

WATCHED = ("open", "os.listdir", "os.scandir", "socket.__new__", "os.fork", "os.exec", "os.posix_spawn")
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
events, read = (os.open(f"{sys.argv[1]}.{kind}", APPEND) for kind in ("events", "input"))


class Recorded:
    """A file whose readings are recorded."""

    def __init__(self, file: "BinaryIO") -> None:
        self.file = file

    def __iter__(self) -> "Iterator[bytes]":
        return iter(self.file)

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        os.write(read, data)
        return data


def open(file: "Any", *args: "Any", **options: "Any") -> "Any":  # what PROGRAM gets for it
    made = builtins.open(file, *args, **options)  # noqa: PTH123, SIM115 - it is the builtin that is wrapped
    return Recorded(made) if file == 0 else made


def record(event: str, args: "tuple[object, ...]") -> None:
    if event in WATCHED:
        os.write(events, f"{event} {args[0]}\n".encode(errors="backslashreplace"))


sys.addaudithook(record)
exec(sys.argv[-1])
