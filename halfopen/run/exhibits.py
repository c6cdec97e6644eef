"""Files for `analyse`: what each holds, and which host and role it is of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from halfopen.errors import UsageError
from halfopen.evidence.saved import Saved, decode
from halfopen.evidence.text.parsed import ParsedText
from halfopen.evidence.text.recognise import recognise
from halfopen.run.pasted import Exhibit

GZIP = b"\x1f\x8b"

ReadBytes = Callable[[str], bytes]
"""The bytes of a file by its name; OSError where it cannot be read."""


class Contents(Struct, frozen=True):
    """What one file holds, and the digest of its bytes."""

    evidence: Saved | ParsedText
    digest: bytes


def exhibits(
    files: Sequence[str], clients: Sequence[str], servers: Sequence[str], read_bytes: ReadBytes
) -> tuple[list[Exhibit], list[Exhibit]]:
    """Arguments -> the files of each role, each read once. Texts of one role are moments of one host."""
    if clients or servers:
        names = (list(clients or files), list(servers or files))
    else:
        names = (list(files[:1]), list(files[1:] or files[:1]))
    if not names[0] or not names[1] or (clients and servers and files):
        raise UsageError(
            "name the client's file and the server's, and no other",
            "halfopen analyse CLIENT SERVER, or --client FILE --server FILE",
        )
    for side in names:
        refuse_repeated(side)
    contents = {name: read_file(name, read_bytes) for name in dict.fromkeys((*names[0], *names[1]))}
    read = {name: found.evidence for name, found in contents.items()}
    texts = [[name for name in side if isinstance(read[name], ParsedText)] for side in names]
    if not clients and not servers and len(texts[1]) > 1:
        raise UsageError(
            "with more than two texts, say whose each is",
            f"halfopen analyse --client {files[0]} --server {files[1]} ...",
        )
    titles = [title(side, read) for side in names]
    if titles[0] == titles[1] and names[0] != names[1]:
        titles = ["client", "server"]
    made: dict[str, Exhibit] = {}
    for side, host in zip(names, titles, strict=True):
        earlier: dict[bytes, str] = {}
        for name in side:
            found, same = read[name], earlier.setdefault(contents[name].digest, name)
            if isinstance(found, Saved):
                if same != name:  # it holds the time that it was taken at, so it is a copy
                    raise repeated(f"{name} is a copy of {same}")
                made.setdefault(name, Exhibit(name, found.host, saved=found))
            else:
                made.setdefault(name, Exhibit(name, host, parsed=found, same=None if same == name else same))
    return [made[name] for name in names[0]], [made[name] for name in names[1]]


def refuse_repeated(names: Sequence[str]) -> None:
    """UsageError where one file is named twice for one role, as if it were of two moments."""
    paths = [Path(name) for name in names]
    for at, path in enumerate(paths):
        if path in paths[:at]:
            raise repeated(f"{names[at]} is given twice")


def repeated(what: str) -> UsageError:
    """The error for evidence that is there more than once."""
    return UsageError(
        f"{what}, and the same evidence twice proves nothing more", "name it once, or take it again a few seconds later"
    )


def title(names: Sequence[str], read: Mapping[str, Saved | ParsedText]) -> str:
    """The name of the host of one role's texts: that of a snapshot beside them, else that of their first file."""
    hosts = {found.host for name in names if isinstance(found := read[name], Saved)}
    texts = [name for name in names if isinstance(read[name], ParsedText)]
    if texts and len(hosts) > 1:
        raise UsageError(
            f"{texts[0]} could be of any of {', '.join(sorted(hosts))}", "analyse it with the snapshots of one host"
        )
    if hosts or not texts:
        return min(hosts)
    return "stdin" if texts[0] == "-" else Path(texts[0]).stem or texts[0]


def snapshot_file(name: str, read_bytes: ReadBytes) -> Saved:
    """One file that must be a snapshot: no text shows address translations. UsageError for anything else."""
    found = read_file(name, read_bytes).evidence
    if not isinstance(found, Saved):
        raise UsageError(f"{name} is not a snapshot, and nothing else tells what a host translates", "halfopen collect")
    return found


def read_file(name: str, read_bytes: ReadBytes) -> Contents:
    """One file, or stdin as `-`."""
    try:
        data = read_bytes(name)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from error
    evidence = decode(data, name) if data.startswith(GZIP) else recognise(data, "stdin" if name == "-" else name)
    return Contents(evidence, hashlib.sha256(data).digest())
