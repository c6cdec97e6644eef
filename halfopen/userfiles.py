"""The user's own files, as ssh takes them: whose they are, how large, and where a name leads that is not absolute."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

CONFIG_LIMIT = 1 << 20  # bytes of one file of settings
READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def anchored(name: str) -> Path:
    """A path of the user's settings. What is relative is looked for in /, never in the working directory."""
    path = Path(name)
    with contextlib.suppress(RuntimeError):  # nobody has that name, and no file either
        path = path.expanduser()
    return Path("/", path)


def home_of(variables: Mapping[str, str]) -> Path | None:
    """The home folder, None where it is no absolute path."""
    found = Path(variables["HOME"]) if "HOME" in variables else anchored("~")
    return found if found.is_absolute() else None


def config_home(variables: Mapping[str, str]) -> Path | None:
    """$XDG_CONFIG_HOME, else ~/.config. As its standard says, a relative path counts as none."""
    named, home = Path(variables.get("XDG_CONFIG_HOME", "")), home_of(variables)
    if named.is_absolute():
        return named
    return home / ".config" if home else None


def joined(words: Sequence[str]) -> list[str]:
    """Paths of a list that `ssh -G` prints without quotes: a word that begins none goes on with the one before it."""
    found: list[str] = []
    for word in words:
        if found and not word.startswith(("/", "~")):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def read_regular(path: Path, limit: int) -> bytes:
    """What a regular file of at most `limit` bytes holds. OSError for anything else, without waiting for a writer."""
    with os.fdopen(os.open(path, READING), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes")
    return data


def distrust(status: os.stat_result) -> str | None:
    """Why a file of settings is not the user's alone, None if it is: "an inventory that ...", by the rules of ssh."""
    if not hasattr(os, "getuid"):
        return None
    if status.st_uid not in (0, os.getuid()):
        return "another user owns"
    return "others may write (chmod go-w)" if status.st_mode & 0o022 else None


def ssh_hosts(home: Path | None) -> frozenset[str]:
    """The hosts that the user's ssh_config, or a file that it includes, names in full; a pattern names none."""
    return frozenset(named_hosts(home / ".ssh", home / ".ssh/config", set())) if home else frozenset()


def named_hosts(folder: Path, path: Path, seen: set[Path]) -> Iterator[str]:
    """Those of one file, each file once (`seen`). A file that ssh would not trust, or that is none, names none."""
    if path in seen:
        return
    seen.add(path)
    try:
        text = read_regular(path, CONFIG_LIMIT).decode("utf-8", "replace")
        if distrust(path.stat()):
            return
    except OSError:
        return
    for line in text.splitlines():
        option, words = ssh_line(line)
        if option == "host":
            yield from (word for word in words if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", word))
        for word in words if option == "include" else ():
            for one in included(folder, word):
                yield from named_hosts(folder, one, seen)


def included(folder: Path, word: str) -> list[Path]:
    """The files that a word of `Include` names, in order; what is relative is looked for in `folder`."""
    found = Path(folder, word.replace("~", str(folder.parent), 1) if word.startswith("~/") else word)
    return sorted(Path(found.anchor).glob(str(found.relative_to(found.anchor))))


def ssh_line(line: str) -> tuple[str, list[str]]:
    """A line of ssh_config -> its option in lower case and the words behind it, "" where it has none."""
    found = re.fullmatch(r"\s*(\w+)(?:\s*=\s*|\s+(?!=))(.+)", line)
    if not found:
        return "", []
    try:
        words = shlex.split(found[2], comments=True)
    except ValueError:  # a quote is not closed: ssh refuses the file
        return "", []
    return found[1].lower(), words
