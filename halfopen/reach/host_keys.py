"""Whether the key that a host offers is the known one; keys are added only with --host-keys accept-new."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from halfopen.errors import ErrorCode, HostError
from halfopen.reach import known_hosts
from halfopen.reach.algorithms import USE_OPENSSH
from halfopen.reach.known_hosts import KnownHosts, Trust, fingerprint
from halfopen.reach.settings import Settings
from halfopen.userfiles import anchored, read_regular


def check_host_key(key: Any, hop: Settings, known: KnownHosts, accept_new: bool) -> str | None:
    """Accepts a known key, adds an unknown one if `accept_new` and says so; HostError for every other."""
    (name, port), kind, blob = hop.known_as, key.get_name(), key.asbytes()
    trust, entries = known_hosts.judge(known, name, port, kind, blob)
    problem = hop.algorithms.problem("hostkeyalgorithms", kind, blob)
    if problem:
        raise HostError(ErrorCode.UNSUPPORTED, f"the host key of {name} is not to be used: {problem}", USE_OPENSSH)
    shown, where = f"{kind} {fingerprint(blob)}", known_hosts.host_name(name, port)
    if trust is Trust.KNOWN:
        return None
    if trust is Trust.UNKNOWN and accept_new and hop.new_keys:
        path = anchored(hop.new_keys)
        add_known_host(path, known_hosts.hashed_name(where) if hop.hash_names else where, key)
        return f"{where} was not known: its key {shown} was added to {path}, unseen by anybody"
    if trust is Trust.UNKNOWN:
        skipped = f"; {known.note}" if known.note else ""
        raise HostError(
            ErrorCode.HOST_KEY_UNKNOWN,
            f"{where} offers {shown}, and no known_hosts file has a key of it{skipped}",
            f"compare the fingerprint, then connect once with ssh -p {hop.port} {hop.user}@{hop.host}, "
            "or --host-keys accept-new"
            if hop.new_keys
            else "UserKnownHostsFile none leaves no file to keep it in: name one, known_hosts in the inventory",
        )
    if trust is Trust.REVOKED:
        raise HostError(
            ErrorCode.HOST_KEY_REVOKED,
            f"{where} offers {shown}, which {entries[0].where} revokes",
            "do not connect: somebody who holds a revoked key answers at this address",
        )
    if trust is Trust.OTHER_TYPE:
        has = ", ".join(f"{entry.kind} {fingerprint(entry.key)} ({entry.where})" for entry in entries)
        raise HostError(
            ErrorCode.HOST_KEY_UNKNOWN,
            f"{where} offers {shown}, a type of key that is not known of it; known: {has}",
            "compare the fingerprint on the host (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then add the key to "
            f"{hop.new_keys or 'known_hosts'}",
        )
    raise HostError(
        ErrorCode.HOST_KEY_MISMATCH,
        f"{where} offers {shown}, but {entries[0].where} has {fingerprint(entries[0].key)}",
        f"if the host was reinstalled: {known_hosts.removal(entries[0].file, where)}, then connect once with ssh; "
        "if not, somebody may be in between",
    )


def read_known_hosts(hop: Settings) -> KnownHosts:
    """The files that the settings name; those that are not there, and /dev/null, count as empty.

    A file is read whole or not at all: what is cut off may be the line that revokes a key.
    """
    files = []
    for name in hop.known_hosts:
        path = anchored(name)
        if os.path.realpath(path) == os.devnull:
            continue
        try:
            files.append((str(path), read_regular(path, FILE_LIMIT)))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise HostError(
                ErrorCode.HOST_KEY_UNKNOWN, f"{path} cannot be read: {error.strerror}", f"ls -l {path}"
            ) from error
    return known_hosts.load(files)


def add_known_host(path: Path, name: str, key: Any) -> None:
    """Adds a line to known_hosts, which is made for its user alone if it is not there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "rb+") as file:
        data = file.read()
        gap = b"\n" if data and not data.endswith(b"\n") else b""
        file.write(gap + f"{name} {key.get_name()} {key.get_base64()}\n".encode())


FILE_LIMIT = 16 << 20  # bytes of one known_hosts file
