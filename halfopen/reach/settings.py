"""The settings of a host as `ssh` has them: what `ssh -G` prints, or a safe subset of ssh_config without an ssh.

What the inventory says wins. Names are checked more strictly than OpenSSH does, so that none of them can be an option
or a command. `StrictHostKeyChecking` is never taken over: how strict we are is decided by our own option.
"""

from __future__ import annotations

import contextlib
import fnmatch
import getpass
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from halfopen.errors import ErrorCode, HostError, UsageError
from halfopen.userfiles import anchored, read_regular


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides how one host is reached. `jump`: the hops before it, in order, as ssh writes them."""

    host: str
    port: int
    user: str
    identity_files: tuple[str, ...] = ()
    identities_only: bool = False
    identity_agent: str | None = None
    known_hosts: tuple[str, ...] = ()
    new_keys: str | None = None  # the file that a new host's key is added to
    host_key_alias: str | None = None
    jump: tuple[str, ...] = ()
    beyond_us: str | None = None  # why only the ssh program can reach it


NAME = re.compile(r"[A-Za-z0-9_.:@][A-Za-z0-9_.:@+-]*(?:%[A-Za-z0-9_.-]+)?")


def check_name(name: str, what: str) -> str:
    """A host or user name that can be nothing but a name. UsageError otherwise."""
    if not NAME.fullmatch(name) or len(name) > 255:
        raise UsageError(
            f"{name!r} is not a valid {what}",
            "letters, digits, '.', '-', '_' and ':' are allowed, and it cannot begin with '-'",
        )
    return name


def split_target(text: str) -> tuple[str | None, str, int | None]:
    """`[user@]host[:port]` (IPv6 in brackets) -> user, host, port. UsageError if it is none."""
    user, at, rest = text.rpartition("@")
    port: str | None = None
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise UsageError(
                f"{text!r} is not a valid host: a bracket is not closed", "for example ops@[2001:db8::1]:22"
            )
        port = tail[1:] if tail else None
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    else:
        host = rest
    if port is not None and not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise UsageError(f"{port!r} in {text!r} is not a valid port", "a number from 1 to 65535")
    check_name(host, "host name")
    if at:
        check_name(user, "user name")
    return user if at else None, host, int(port) if port else None


class Lookup:
    """`ssh -G` under way: started early, so that it runs while the SSH library is imported."""

    def __init__(self, target: str, config: str | None = None) -> None:
        self.user, self.name, self.port = split_target(target)
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None
        if shutil.which("ssh"):
            argv = ["ssh", "-G", *(["-F", config] if config else [])]
            argv += ["-l", self.user] if self.user else []
            argv += ["-p", str(self.port)] if self.port else []
            self.process = subprocess.Popen(
                [*argv, "--", self.name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=SSH_FOLDER,
            )

    def settings(self, timeout: float = 10.0) -> Settings:
        """What it found. HostError where ssh refuses its own configuration."""
        if self.process is None:
            path = anchored(self.config or "~/.ssh/config")
            text = path.read_text(errors="surrogateescape") if path.is_file() else ""
            return from_options(subset(text, self.name, str(path)), self.name, self.user, self.port)
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self.process.wait()
            raise HostError(
                ErrorCode.TIMEOUT, f"ssh -G {self.name} did not end", "look for a slow `Match exec` in ~/.ssh/config"
            ) from error
        if self.process.returncode:
            said = err.decode("utf-8", "replace").strip()
            raise HostError(
                ErrorCode.UNSUPPORTED, f"ssh refuses its settings for {self.name}: {said}", f"ssh -G {self.name}"
            )
        return from_options(options_of(out), self.name, self.user, self.port)


def options_of(printed: bytes) -> dict[str, list[str]]:
    """What `ssh -G` prints -> values by the lower-case name of an option, in order."""
    options: dict[str, list[str]] = {}
    for line in printed.decode("utf-8", "surrogateescape").splitlines():
        word, _, value = line.partition(" ")
        options.setdefault(word.lower(), []).append(value)
    return options


def from_options(options: Mapping[str, Sequence[str]], name: str, user: str | None, port: int | None) -> Settings:
    """Options by lower-case name, as `ssh -G` prints them -> Settings."""

    def value(option: str) -> str | None:
        values = options.get(option)
        return values[0] if values and values[0].lower() != "none" else None

    def files(option: str, default: Sequence[str]) -> tuple[str, ...]:
        words = [word for value in options.get(option, default) for word in value.split()]
        return tuple(word for word in words if word.lower() != "none")

    own = files("userknownhostsfile", ["~/.ssh/known_hosts ~/.ssh/known_hosts2"])
    return Settings(
        host=value("hostname") or name,
        port=port or port_of(value("port") or "22", name),
        user=user or value("user") or getpass.getuser(),
        identity_files=tuple(file for file in options.get("identityfile", DEFAULT_KEYS) if file.lower() != "none"),
        identities_only=value("identitiesonly") == "yes",
        identity_agent=next(iter(options.get("identityagent", ())), None),
        known_hosts=own + files("globalknownhostsfile", ["/etc/ssh/ssh_known_hosts"]),
        new_keys=own[0] if own else None,
        host_key_alias=value("hostkeyalias"),
        jump=tuple((value("proxyjump") or "").split(",")) if value("proxyjump") else (),
        beyond_us=next((why for option, why in BEYOND_US.items() if value(option)), None),
    )


def port_of(text: str, name: str) -> int:
    """A port out of the settings of a host. HostError for what is none."""
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536):
        raise HostError(
            ErrorCode.UNSUPPORTED,
            f"Port {text[:40]!r} in the ssh settings of {name} is not a number from 1 to 65535",
            f"ssh -G {name}",
        )
    return int(text)


def beyond_us(settings: Settings) -> str | None:
    """Why only the ssh program can reach this host: its settings, or keys that it alone can use."""
    if settings.beyond_us:
        return settings.beyond_us
    for name in settings.identity_files:
        path = anchored(name)
        if Path(f"{path}-cert.pub").is_file():
            return f"{path} has a certificate"
        public = Path(f"{path}.pub")
        with contextlib.suppress(OSError):
            if path.is_file() and read_regular(public, KEY_LIMIT)[:3] == b"sk-":
                return f"{path} is kept in a security key"
    return None


def check_identity(name: str | None) -> None:
    """HostError for a key of the inventory, or what stands beside it, that the ssh program could be held up by."""
    for suffix in ("", ".pub", "-cert.pub") if name else ():
        path = anchored(f"{name}{suffix}")
        try:
            read_regular(path, KEY_LIMIT)
        except (FileNotFoundError, PermissionError):
            continue  # ssh knows what to do: the agent may have the key
        except OSError as error:
            raise HostError(
                ErrorCode.AUTH_FAILED,
                f"{path} is not a valid key: {error.strerror}",
                "look at identity_file of the inventory",
            ) from error


def subset(text: str, name: str, path: str) -> dict[str, list[str]]:
    """ssh_config without `Match` and `Include` -> options of a host, the first value winning as ssh_config(5) says."""
    options: dict[str, list[str]] = {}
    applies = True
    for number, line in enumerate(text.splitlines(), 1):
        words = line.replace("=", " ", 1).split()
        if not words or words[0].startswith("#"):
            continue
        option = words[0].lower()
        if option in ("match", "include"):
            raise HostError(
                ErrorCode.UNSUPPORTED,
                f"{path} line {number}: `{words[0]}` can only be followed by the ssh program, which is not installed",
                "install the OpenSSH client, or name address, port and user in the inventory",
            )
        if option == "host":
            patterns = words[1:]
            refused = any(fnmatch.fnmatchcase(name, pattern[1:]) for pattern in patterns if pattern.startswith("!"))
            applies = not refused and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        elif applies and len(words) < 2:
            raise HostError(
                ErrorCode.UNSUPPORTED, f"{path} line {number}: `{words[0]}` has no value", "correct it, or remove it"
            )
        elif applies and option == "identityfile":
            options.setdefault(option, []).append(words[1].strip('"'))
        elif applies:
            options.setdefault(option, [" ".join(words[1:]).strip('"')])
    return options


KEY_LIMIT = 1 << 20  # bytes, as ssh has it
SSH_FOLDER = "/"  # where ssh is started, so that nothing relative in its settings is found in the working directory

DEFAULT_KEYS = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519")

BEYOND_US: dict[str, str] = {
    "proxycommand": "its settings have a ProxyCommand",
    "pkcs11provider": "its settings have a PKCS11Provider",
    "certificatefile": "its settings have a CertificateFile",
    "revokedhostkeys": "its settings have RevokedHostKeys",
    "bindaddress": "its settings have a BindAddress",
    "bindinterface": "its settings have a BindInterface",
}
