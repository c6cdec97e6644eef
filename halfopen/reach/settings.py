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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from halfopen.errors import ErrorCode, HostError, UsageError
from halfopen.reach import algorithms
from halfopen.reach.algorithms import ALL, Allowed
from halfopen.userfiles import CONFIG_LIMIT, anchored, distrust, included, joined, read_regular, ssh_line


class Settings(Struct, frozen=True):
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
    algorithms: Allowed = ALL
    hash_names: bool = False  # a new key is kept without the host's name
    beyond_us: str | None = None  # why only the ssh program can reach it

    @property
    def known_as(self) -> tuple[str, int]:
        """Name and port by which known_hosts has it; an alias stands there without a port."""
        return (self.host_key_alias, 22) if self.host_key_alias else (self.host, self.port)


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
            return from_options(without_ssh(self.name, self.config), self.name, self.user, self.port)
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
        words = [word for value in options.get(option, default) for word in joined(value.split())]
        return tuple(word for word in words if word.lower() != "none")

    def number(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,5}", text):
            raise HostError(
                ErrorCode.UNSUPPORTED, f"ssh_config: {text!r} is not a valid number", "a number up to 65535"
            )
        return int(text)

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
        algorithms=algorithms.allowed(options, number(value("requiredrsasize") or "1024")),
        hash_names=value("hashknownhosts") == "yes",
        beyond_us=beyond_library(options),
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


def beyond_library(options: Mapping[str, Sequence[str]]) -> str | None:
    """Why the library cannot be as strict as these options, or cannot follow them; None if it can."""
    for option, harmless in BEYOND_US.items():
        for value in options.get(option.lower(), ())[:1]:
            if value.lower() != "none" and not harmless(value.lower()):
                # A free text may hold a secret, and reports are read by others.
                return f"its settings have {option}" + ("" if harmless is never else f" {value}")
    changed = algorithms.relative(options)
    if changed:
        return f"its {changed} change a list that only ssh knows"
    paths = ("userknownhostsfile", "globalknownhostsfile", "identityfile", "identityagent")
    expanded = (value for option in paths for value in options.get(option, ()) if re.search(r"[%$]", value))
    return next((f"only ssh can tell which file {value} is" for value in expanded), None)


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


def without_ssh(name: str, config: str | None) -> dict[str, list[str]]:
    """The options of a host where no ssh can be asked: of one file that is named, else of the user and of the machine.

    The user's own file is trusted as ssh trusts it. HostError for one that ssh refuses, or that only it can follow.
    """
    own = anchored("~/.ssh/config")
    options: dict[str, list[str]] = {}
    for path in (anchored(config),) if config else (own, SYSTEM_CONFIG):
        try:
            text = read_regular(path, CONFIG_LIMIT).decode("utf-8", "surrogateescape")
            why = distrust(path.stat()) if path == own else None
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise HostError(
                ErrorCode.UNSUPPORTED, f"{path} cannot be read: {error.strerror}", f"ls -l {path}"
            ) from error
        if why:
            raise HostError(ErrorCode.UNSUPPORTED, f"{path} is a file that {why}", f"ls -l {path}")
        for option, values in subset(text, name, str(path)).items():
            options.setdefault(option, values)
    return options


def subset(text: str, name: str, path: str) -> dict[str, list[str]]:
    """ssh_config without `Match` and `Include` -> options of a host, the first value winning as ssh_config(5) says."""
    options: dict[str, list[str]] = {}
    applies = True
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        option, words = ssh_line(line)
        if not words:
            raise HostError(
                ErrorCode.UNSUPPORTED, f"{path} line {number} is not a valid option and its value", "man 5 ssh_config"
            )
        if option == "match" or (option == "include" and any(map(may_include, words))):
            raise HostError(
                ErrorCode.UNSUPPORTED,
                f"{path} line {number}: `{line.split()[0]}` can only be followed by the ssh program, which is not "
                "installed",
                "install the OpenSSH client, or name address, port and user in the inventory",
            )
        if option == "host":
            refused = any(fnmatch.fnmatchcase(name, word[1:]) for word in words if word.startswith("!"))
            applies = not refused and any(fnmatch.fnmatchcase(name, word) for word in words)
        elif applies and option == "identityfile":
            options.setdefault(option, []).append(words[0])
        elif applies:
            options.setdefault(option, [" ".join(words)])
    return options


def may_include(word: str) -> bool:
    """Whether a word of `Include` may name a file; an absolute one is looked up."""
    return not word.startswith(("/", "~")) or bool(included(anchored("~/.ssh"), word))


SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
KEY_LIMIT = 1 << 20  # bytes, as ssh has it
SSH_FOLDER = "/"  # where ssh is started, so that nothing relative in its settings is found in the working directory

DEFAULT_KEYS = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519")


def never(_: str) -> bool:
    """No value but `none` can be followed without ssh."""
    return False


BEYOND_US: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(
        ("ProxyCommand", "PKCS11Provider", "CertificateFile", "RevokedHostKeys", "KnownHostsCommand"), never
    ),
    **dict.fromkeys(("BindAddress", "BindInterface", "RefuseConnection"), never),
    "PubkeyAuthentication": lambda value: value not in ("no", "false"),
    "PreferredAuthentications": lambda value: "publickey" in value.split(","),
    "AddressFamily": lambda value: value == "any",
    "CheckHostIP": lambda value: value in ("no", "false"),
}
"""Option -> whether its value leaves the host to us. These are what restricts, and what only the ssh program can do."""
