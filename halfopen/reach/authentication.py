"""Public-key authentication: keys of the agent and of files in turn. A passphrase is only asked for on a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from halfopen.environment import secrets_asked
from halfopen.errors import ErrorCode, HostError
from halfopen.reach import known_hosts
from halfopen.reach.known_hosts import fingerprint
from halfopen.reach.library import Patience, spoken
from halfopen.reach.settings import KEY_LIMIT, Settings
from halfopen.userfiles import anchored, read_regular

AGENT_PATIENCE = 3.0
ASKED_TIMES = 3


def authenticate(paramiko: Any, transport: Any, hop: Settings, patience: Patience, interactive: bool) -> None:
    """Tries public keys in turn until the server accepts one. HostError lists what was tried."""
    tried: list[str] = []
    for name, load in keys(paramiko, hop, patience, interactive, tried):
        key = load()
        if key is None:
            continue
        problem = hop.algorithms.problem("pubkeyacceptedalgorithms", key.get_name(), key.asbytes())
        tried.append(f"{name} ({problem})" if problem else name)
        if problem:
            continue
        transport.auth_timeout = patience.left()
        try:
            with spoken(hop.host):
                transport.auth_publickey(hop.user, key)
        except (paramiko.BadAuthenticationType, HostError) as error:
            if isinstance(error, HostError) and error.code is ErrorCode.TIMEOUT:
                raise
            reason = getattr(error, "message", None) or str(error)
            raise refused(hop, tried, f"; the server: {reason}") from error
        except paramiko.AuthenticationException:
            if not transport.is_active():
                raise refused(hop, tried, "; the server ended the connection after that many") from None
        else:
            if transport.is_authenticated():
                return
            tried[-1] += " (accepted, but the server asks for more)"
    raise refused(hop, tried, "")


def refused(hop: Settings, tried: Sequence[str], detail: str) -> HostError:
    """The error for a server that takes none of our keys."""
    what = ", ".join(tried) if tried else "nothing: there is no agent with a key, and no key file"
    many = len(tried) > 4
    return HostError(
        ErrorCode.AUTH_FAILED,
        f"{hop.user}@{hop.host} was refused; tried {what}{detail}",
        "name one key: identity_file in the inventory, or IdentitiesOnly yes in ~/.ssh/config"
        if many
        else f"try: ssh -v -p {hop.port} {hop.user}@{hop.host}; name user and identity_file in the inventory",
    )


def keys(
    paramiko: Any, hop: Settings, patience: Patience, interactive: bool, tried: list[str]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name for messages, how to load) of each key to try: named files, the agent's, then the usual files."""
    files = [anchored(name) for name in hop.identity_files]

    def load(path: Path) -> Any:
        return load_key(paramiko, path, patience, interactive, tried)

    if hop.identities_only:
        public = {key for path in files for key in public_key(path)}
        for key in agent_keys(paramiko, hop, patience, tried):
            if key.asbytes() in public:
                yield f"agent key {fingerprint(key.asbytes())}", lambda key=key: key  # type: ignore[misc]
    else:
        for key in agent_keys(paramiko, hop, patience, tried):
            yield f"agent key {fingerprint(key.asbytes())}", lambda key=key: key  # type: ignore[misc]
    for path in files:
        yield str(path), lambda path=path: load(path)  # type: ignore[misc]


def public_key(path: Path) -> list[bytes]:
    """The public half beside a key file, if it is there."""
    try:
        words = read_regular(Path(f"{path}.pub"), KEY_LIMIT).decode("utf-8", "replace").split()
    except OSError:
        return []
    key = known_hosts.decode_key(words[0], words[1]) if len(words) > 1 else None
    return [key] if key else []


def agent_keys(paramiko: Any, hop: Settings, patience: Patience, tried: list[str]) -> Sequence[Any]:
    """The keys of the user's agent; an agent that does not answer is named in `tried` and left alone."""
    name = hop.identity_agent
    path = os.environ.get("SSH_AUTH_SOCK") if name in (None, "SSH_AUTH_SOCK") else name
    if not path or name == "none":
        return ()
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(min(AGENT_PATIENCE, patience.left()))
    agent = paramiko.agent.AgentSSH()
    try:
        sock.connect(str(anchored(path)))
        agent._connect(sock)
        found: Sequence[Any] = agent.get_keys()
    except (OSError, paramiko.SSHException) as error:
        sock.close()
        tried.append(f"the agent at {path} (it does not answer: {error})")
        return ()
    return found


def load_key(paramiko: Any, path: Path, patience: Patience, interactive: bool, tried: list[str]) -> Any:
    """A private key, None where it cannot be had; why is added to `tried`, unless there is no such file."""
    try:
        text = read_regular(path, KEY_LIMIT).decode("utf-8", "replace")
        open_to_others = hasattr(os, "getuid") and others_may(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        tried.append(f"{path} ({error.strerror})")
        return None
    if open_to_others:
        tried.append(f"{path} (others may read it: chmod go-rwx {path})")
        return None
    try:
        key = parse_key(paramiko, text, None)
        problem = "it cannot be read as a private key"
    except paramiko.PasswordRequiredException:
        key = unlocked(paramiko, path, text, patience) if interactive else None
        problem = "encrypted, and " + (
            "no passphrase opened it" if interactive else f"there is no terminal to ask: ssh-add {path}"
        )
    if key is None:
        tried.append(f"{path} ({problem})")
    return key


def others_may(status: os.stat_result) -> bool:
    """Whether a private key of ours is open to others, so that ssh would not use it."""
    return status.st_uid == os.getuid() and bool(status.st_mode & 0o077)


def parse_key(paramiko: Any, text: str, passphrase: bytes | None) -> Any:
    """A private key of whatever type, None if this is none, or is locked with another passphrase."""
    for key_type in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return key_type.from_private_key(io.StringIO(text), passphrase)
        except paramiko.PasswordRequiredException:
            raise
        except (paramiko.SSHException, ValueError, IndexError):
            continue
    return None


def unlocked(paramiko: Any, path: Path, text: str, patience: Patience) -> Any:
    """An encrypted key, None if no passphrase fits. The user is asked once for all hosts, up to three times.

    Other threads that need a passphrase wait meanwhile. HostError where nobody answers before the deadline.
    """
    late = HostError(
        ErrorCode.TIMEOUT, f"nobody gave the passphrase of {path} in time", f"ssh-add {path}, or a longer --timeout"
    )
    if not UNLOCKING.acquire(timeout=max(0.0, patience.deadline - time.monotonic())):
        raise late
    try:
        if text not in UNLOCKED:
            key = asked_for(paramiko, path, text, patience)
            if key is None and time.monotonic() >= patience.deadline:
                raise late
            UNLOCKED[text] = key
        return UNLOCKED[text]
    finally:
        UNLOCKING.release()


def asked_for(paramiko: Any, path: Path, text: str, patience: Patience) -> Any:
    """An encrypted key, opened by a passphrase that is typed; None if none fits."""
    with contextlib.suppress(OSError), secrets_asked(patience.deadline) as ask:
        for attempt in range(ASKED_TIMES):
            passphrase = ask(f"{'that was wrong; ' if attempt else ''}passphrase of {path}: ")
            key = parse_key(paramiko, text, passphrase) if passphrase else None
            if key is not None or passphrase is None:
                return key
    return None


UNLOCKING = threading.Lock()
UNLOCKED: dict[str, Any] = {}
"""Text of a locked key file -> its key, None if nobody knew the passphrase."""
