"""known_hosts as sshd(8) describes it: which keys a host may show. Pure, and closed when in doubt.

A line that we cannot read is skipped, and a note says so; a `@revoked` key is refused whatever else stands there; host
certificates are left to the ssh program (`has_ca` tells that there may be one).
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from enum import Enum

from msgspec import Struct

from halfopen.words import plural


class Entry(Struct, frozen=True):
    """One line: marker (`@revoked`, `@cert-authority` or None), host patterns, type, key, and where it stands."""

    marker: str | None
    hosts: str
    kind: str
    key: bytes
    file: str
    line: int

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.file} line {self.line}"


class KnownHosts(Struct, frozen=True):
    """Entries of all files in order, and what was wrong with lines that were skipped."""

    entries: tuple[Entry, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """The first line that was skipped, and how many more; None if all were read."""
        if not self.warnings:
            return None
        more = f" (and {plural(len(self.warnings) - 1, 'more line')})" if self.warnings[1:] else ""
        return self.warnings[0] + more

    def of(self, host: str, port: int) -> list[Entry]:
        """The entries whose patterns match this host."""
        name = host_name(host, port)
        return [entry for entry in self.entries if matches(entry.hosts, name)]

    def kinds(self, host: str, port: int) -> list[str]:
        """Key types that are known of this host, in the order of the file."""
        entries = self.of(host, port) or self.of(host, 22)
        return list(dict.fromkeys(entry.kind for entry in entries if entry.marker is None))

    def has_ca(self, host: str, port: int) -> bool:
        """Whether a certificate authority is trusted for this host."""
        return any(entry.marker == "@cert-authority" for entry in (*self.of(host, port), *self.of(host, 22)))


class Trust(Enum):
    """What known_hosts says of a key that a host shows."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    OTHER_TYPE = "other type"
    MISMATCH = "mismatch"
    REVOKED = "revoked"


def judge(known: KnownHosts, host: str, port: int, kind: str, key: bytes) -> tuple[Trust, Sequence[Entry]]:
    """Whether a key may be trusted, and the entries that this rests on.

    As with ssh, what is known of a host without a port holds at every port of which nothing is known.
    """
    entries = known.of(host, port)
    revoked = [entry for entry in entries if entry.marker == "@revoked" and entry.key == key]
    if revoked:
        return Trust.REVOKED, revoked
    plain = [entry for entry in entries if entry.marker is None]
    same = [entry for entry in plain if entry.key == key and entry.kind == kind]
    if same:
        return Trust.KNOWN, same
    of_kind = [entry for entry in plain if entry.kind == kind]
    if of_kind:
        return Trust.MISMATCH, of_kind
    if plain:
        return Trust.OTHER_TYPE, plain
    trust, found = judge(known, host, 22, kind, key) if port != 22 else (Trust.UNKNOWN, ())
    return (trust, found) if trust in (Trust.KNOWN, Trust.REVOKED) else (Trust.UNKNOWN, ())


def host_name(host: str, port: int) -> str:
    """How known_hosts spells a host: with brackets and port unless it is 22."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def removal(file: str, name: str) -> str:
    """The command that takes a host out of a file, by the name it has there.

    What acts comes last, and -y, which says nothing to -R, makes a part of it harmless that was cut before: without it
    `ssh-keygen -f FILE` makes a new key in place of the file.
    """
    return shlex.join(["ssh-keygen", "-y", "-f", file, "-R", name])


def matches(patterns: str, name: str) -> bool:
    """Comma-separated patterns, a negated match wins; or one hashed name (HMAC-SHA1 with its salt)."""
    if patterns.startswith("|1|"):
        return hashed(patterns, name)
    found = False
    for pattern in patterns.lower().split(","):
        negated, bare = pattern.startswith("!"), pattern.removeprefix("!")
        if fnmatch.fnmatchcase(name, bare.replace("[", "[[]")):
            if negated:
                return False
            found = True
    return found


def hashed(entry: str, name: str) -> bool:
    """Whether `|1|salt|hash` is this name."""
    parts = entry.split("|")
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[2:4])
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def hashed_name(name: str) -> str:
    """`|1|salt|hash` of a name, as HashKnownHosts keeps it."""
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return "|".join(("", "1", base64.b64encode(salt).decode(), base64.b64encode(digest).decode()))


def fingerprint(key: bytes) -> str:
    """`SHA256:…` as ssh-keygen prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def load(files: Iterable[tuple[str, bytes]]) -> KnownHosts:
    """(name, contents) of files -> entries. Never fails: a line that cannot be read is skipped with a warning."""
    entries, warnings = [], []
    for name, data in files:
        for number, raw in enumerate(data.split(b"\n"), 1):
            words = re.split(r"[ \t]+", raw.decode("utf-8", "replace").strip(" \t\r"))
            if not words[0] or words[0].startswith("#"):
                continue
            marker = words.pop(0) if words[0].startswith("@") else None
            problem = None
            if marker not in (None, "@revoked", "@cert-authority"):
                problem = f"unknown marker {marker}"
            elif len(words) < 3:
                problem = "not a host, a key type and a key"
            else:
                key = decode_key(words[1], words[2])
                if key is None:
                    problem = "the key cannot be decoded"
                else:
                    entries.append(Entry(marker, words[0], words[1], key, name, number))
            if problem:
                warnings.append(f"{name} line {number} is skipped: {problem}")
    return KnownHosts(tuple(entries), tuple(warnings))


def decode_key(kind: str, text: str) -> bytes | None:
    """Base64 of an SSH key whose first string is its type (RFC 4253 section 6.6), None for anything else."""
    try:
        key = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    length = int.from_bytes(key[:4], "big")
    return key if len(key) > 4 + length and key[4 : 4 + length] == kind.encode() else None
