"""Files that a run writes: tried before it begins, then whole or not there at all, and for their owner alone.

Only regular files are replaced, by a draft that lies beside what the name leads to. A device, a FIFO, an open
descriptor (`/dev/fd/63`, so `>(command)` of a shell) or a file with several names (hard links) is opened and written.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import select
import stat
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from halfopen.errors import UsageError


class Target(Struct, frozen=True):
    """What a name leads to: `path` of a regular file that is there or is to be made, or an open `handle`.

    Two targets with one `identity` are one file.
    """

    name: str
    identity: object
    path: Path | None = None
    handle: int = -1

    def write(self, data: bytes, wait_s: float) -> None:
        """Writes all of it. OSError where that fails, or where a pipe takes nothing for so many seconds."""
        if self.path is not None:
            write_whole(self.path, data)
            return
        try:
            pour(self.handle, data, wait_s)
        finally:
            os.close(self.handle)


def prepare(folder: Path, name: str, wait_s: float) -> Target:
    """A name of the command line, tried: UsageError if nothing can be written there.

    `wait_s`: seconds that a FIFO may take to have a reader.
    """
    path = folder / name
    try:
        descriptor = descriptor_of(path)
        if descriptor is not None:
            os.write(descriptor, b"")  # EBADF where it is not open, or only for reading
            return opened(name, os.dup(descriptor))
        found = status_of(path)
        if found is not None and not stat.S_ISREG(found.st_mode):
            return opened(name, open_special(path, found.st_mode, wait_s))
        if found is not None:
            # By the name as it was given: the kernel follows no link that somebody else has put into a shared folder.
            os.close(os.open(path, os.O_WRONLY))
        real = Path(os.path.realpath(path))
        try_folder(real.parent)
        return Target(name, real if found is None else (found.st_dev, found.st_ino), real)
    except FileNotFoundError as error:  # the whole path tells which folder is not there
        raise unwritable(str(path), error) from error
    except OSError as error:
        raise unwritable(name, error) from error


def kind_of(path: Path) -> int | None:
    """What a name leads to: S_IFREG, S_IFDIR or the like; None where nothing is, or where that is not to be seen."""
    try:
        found = status_of(path)
    except OSError:
        return None  # whoever makes or opens it says why that fails
    return None if found is None else stat.S_IFMT(found.st_mode)


def unwritable(name: str, error: OSError) -> UsageError:
    """Why nothing can be written there; the reason first, because a name may be long."""
    return UsageError(f"{error.strerror}: {name} cannot be written", "another name, or make room there")


def opened(name: str, handle: int) -> Target:
    """A target that is written where it is."""
    found = os.fstat(handle)
    return Target(name, (found.st_dev, found.st_ino), handle=handle)


def descriptor_of(path: Path) -> int | None:
    """The open descriptor that a name leads to, also by symlinks (/dev/stdout). It is used as it is: opening it again
    would begin at the start of a file that the shell has opened, and fails for a socket.
    """
    for _ in range(LINKS):
        found = DESCRIPTOR.fullmatch(str(path))
        if found or not path.is_symlink():
            return int(found[1]) if found else None
        path = path.parent / path.readlink()
    return None


def status_of(path: Path) -> os.stat_result | None:
    """What is there, following symlinks; None if nothing is."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def open_special(path: Path, mode: int, wait_s: float) -> int:
    """A device or a FIFO, open for writing; a FIFO once somebody reads it."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a folder")
    if stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "Is a block device, whose disk it would overwrite")
    deadline = time.monotonic() + wait_s
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            os.set_blocking(handle, True)
            return handle
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(mode):
                raise
            if time.monotonic() >= deadline:
                raise OSError(errno.ENXIO, "Nobody reads this FIFO") from error
        time.sleep(0.02)


def pour(handle: int, data: bytes, wait_s: float) -> None:
    """Writes to a device or a pipe, in pieces that a pipe with any room takes at once (pipe(7), PIPE_BUF)."""
    waiting = select.poll()
    waiting.register(handle, select.POLLOUT)
    left = memoryview(data)
    while left:
        if not waiting.poll(wait_s * 1000):
            raise TimeoutError(errno.ETIMEDOUT, "Its reader takes nothing")
        left = left[os.write(handle, left[: select.PIPE_BUF]) :]


def write_whole(path: Path, data: bytes) -> None:
    """Writes beside the target, exclusively, then renames. Mode 0600, or mode and owner of the file that was there.

    A file with several names is written where it is: a new one in its place would be under this name only.
    """
    before = status_of(path)
    if before is not None and before.st_nlink > 1:
        write_in_place(path, data)
        return
    draft, handle = new_draft(path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if before is not None:
                with suppress(PermissionError):  # only root gives files away
                    os.fchown(handle, before.st_uid, before.st_gid)
                os.fchmod(handle, stat.S_IMODE(before.st_mode))
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_in_place(path: Path, data: bytes) -> None:
    """Overwrites a file that is there. OSError where that fails, and then part of it may be overwritten."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_NOFOLLOW), "wb") as file:
        file.write(data)
        file.truncate()


def new_draft(folder: Path) -> tuple[Path, int]:
    """A new file of its own in a folder, open for writing."""
    draft = folder / f".halfopen.{secrets.token_hex(8)}"
    return draft, os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def try_folder(folder: Path) -> None:
    """OSError if no file can be made in a folder."""
    draft, handle = new_draft(folder)
    os.close(handle)
    draft.unlink()


def prepare_folder(folder: Path, hosts: Iterable[str] = ()) -> None:
    """Makes a folder for the evidence of these hosts. UsageError if that fails, or if it holds some of theirs."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try_folder(folder)
    except OSError as error:
        raise UsageError(
            f"{error.strerror}: the folder {folder} cannot be made or written", "another folder"
        ) from error
    there = [path for path in (folder / f"{stem_of(name)}{SUFFIX}" for name in hosts) if os.path.lexists(path)]
    if there:
        raise UsageError(f"{there[0].name} is in {folder} already, and evidence is never overwritten", "another folder")


def save_hosts(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Host -> its evidence, each in `folder`/HOST.halfopen, or HOST-2.halfopen where that is taken.

    Nothing is overwritten, and two hosts never share a file. OSError where one cannot be written.
    """
    written: list[Path] = []
    for name, data in files.items():
        path = reserved(folder, stem_of(name))
        try:
            write_whole(path, data)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        written.append(path)
    return written


def reserved(folder: Path, stem: str) -> Path:
    """The first free name of a file, which is taken by making it: another run may want the same."""
    for number in range(1, 100_000):
        path = folder / f"{stem}{'' if number == 1 else f'-{number}'}{SUFFIX}"
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            return path
    raise FileExistsError(errno.EEXIST, "No name is left", str(folder))


def stem_of(host: str) -> str:
    """The name of a host as the name of a file."""
    return re.sub(r"[^A-Za-z0-9_.@-]", "_", host).lstrip(".-")[:100] or "host"


SUFFIX = ".halfopen"
DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
LINKS = 40  # symlinks in a row, as the kernel follows (path_resolution(7))
