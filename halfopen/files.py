"""Files that hold evidence: for their owner alone, and whole or not there at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from halfopen.errors import UsageError


def write_private(path: Path, data: bytes) -> None:
    """Writes beside the target, exclusively and with mode 0600, then renames. UsageError where that fails."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "another -o FILE, or make room") from error


def save_hosts(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Host -> its evidence, each in `folder`/HOST.halfopen; two hosts never share a file."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}", "another folder") from error
    written: list[Path] = []
    for name, data in files.items():
        stem = re.sub(r"[^A-Za-z0-9_.@-]", "_", name).lstrip(".-")[:100] or "host"
        paths = (folder / f"{stem}{'' if number == 1 else f'-{number}'}.halfopen" for number in range(1, 100_000))
        written.append(next(path for path in paths if path not in written))
        write_private(written[-1], data)
    return written
