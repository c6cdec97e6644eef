"""Files that hold evidence: for their owner alone, and whole or not there at all."""

from __future__ import annotations

import os
import secrets
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
