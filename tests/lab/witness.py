"""An interpreter that keeps a record of what the program it runs does to the host. Standard library only.

    witness.py RECORD [interpreter's options] -c PROGRAM

It runs PROGRAM as `python -c` does. The interpreter's own audit events (PEP 578) go to RECORD.events: every file that
is opened, folder that is listed, socket that is made, process that is started. What PROGRAM reads from its input goes
to RECORD.input.
"""

import builtins
import os
import sys

WATCHED = ("open", "os.listdir", "os.scandir", "socket.__new__", "os.fork", "os.exec", "os.posix_spawn")
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
events, read = (os.open(f"{sys.argv[1]}.{kind}", APPEND) for kind in ("events", "input"))


class Recorded:
    """A file whose readings are recorded."""

    def __init__(self, file):
        self.file = file

    def __iter__(self):
        return iter(self.file)

    def read(self, size):
        data = self.file.read(size)
        os.write(read, data)
        return data


def open(file, *args, **options):  # what PROGRAM gets for it
    made = builtins.open(file, *args, **options)  # noqa: PTH123, SIM115 - it is the builtin that is wrapped
    return Recorded(made) if file == 0 else made


def record(event, args):
    if event in WATCHED:
        os.write(events, f"{event} {args[0]}\n".encode(errors="backslashreplace"))


sys.addaudithook(record)
exec(sys.argv[-1])
