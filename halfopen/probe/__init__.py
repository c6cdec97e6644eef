"""Everything that is sent to a host: the probe for its Python, and a script for its shell where it has none.

The probe is modules of this package, which ruff and mypy see like any other, joined to one text when it is sent. It
shares a message with this program and no code: nothing else imports its parts, and they import nothing else.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable
from functools import cache

PARTS = (
    "head",
    "netlink",
    "procfs",
    "namespaces",
    "session",
    "interfaces",
    "links",
    "processes",
    "host",
    "columns",
    "routes",
    "tracking",
    "dump",
    "look",
    "serve",
)
"""The modules of the probe, in the order in which they are sent: each uses names of those before it."""

SURVEY = ("census", "duplicate", "examination")
"""What follows them where `count` or `doctor` asks."""

ASKING = ("duplicate", "ask")
"""What follows them where a check may ask through connections (`--ask`): without it the probe can change nothing."""

IMPORTED = re.compile(r"(?m)^from halfopen\.probe\.\w+ import (?:\([^)]*\)|[^(\n]*)\n")
"""What is left out of a part: imports of names that the parts before it have defined."""


@cache
def source(more: tuple[str, ...] = ()) -> bytes:
    """The text of the probe as it is sent, whose `main` the remote command calls. `more`: what follows it."""
    return joined(PARTS + more)


def joined(names: Iterable[str]) -> bytes:
    """Parts as they are sent, each under a heading."""
    texts = (f"# ---- halfopen/probe/{name}.py\n\n" + IMPORTED.sub("", read(f"{name}.py").decode()) for name in names)
    return "\n\n".join(texts).encode()


def script() -> bytes:
    """The script for a shell, as it is sent."""
    return read("collect.sh")


def read(name: str) -> bytes:
    """A file of this package."""
    data = pkgutil.get_data(__name__, name)  # importlib.resources would import zipfile and tempfile, 10 ms
    assert data is not None, "a loader that cannot read files"
    return data
