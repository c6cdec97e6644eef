"""SSH in this process. Every step ends at the host's one deadline; host keys are checked before anything is said.

The socket is ours: TCP_NODELAY, and TCP_QUICKACK armed again after every read, because Nagle's algorithm against
delayed acknowledgements costs two stalls of 40 ms in every connection otherwise.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfopen.errors import ErrorCode, HostError
from halfopen.reach import known_hosts, places
from halfopen.reach.known_hosts import KnownHosts, Trust, fingerprint
from halfopen.reach.settings import Settings

if TYPE_CHECKING:
    import paramiko


def load_paramiko() -> Any:
    """The library, imported where it is first needed: it costs more than the rest of the program.

    A third of that is `invoke`, which only `Match exec` would use, and that we leave to `ssh -G`.
    """
    absent = "invoke" not in sys.modules
    if absent:
        sys.modules["invoke"] = None  # type: ignore[assignment]
    try:
        import paramiko
    finally:
        if absent:
            del sys.modules["invoke"]
    logger = logging.getLogger("paramiko")
    if not logger.handlers:  # or its complaints reach the user's screen through the handler of last resort
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    return paramiko


@dataclass(frozen=True, slots=True)
class Patience:
    """How long: `connect` seconds for each hop, and `deadline` (time.monotonic()) for all of it."""

    connect: float
    deadline: float

    def left(self) -> float:
        """Seconds for the next step; HostError when there are none."""
        left = min(self.connect, self.deadline - time.monotonic())
        if left <= 0:
            raise HostError(ErrorCode.TIMEOUT, "no time was left to connect", "a longer --timeout")
        return left


class QuickSocket:
    """A TCP socket that acknowledges at once."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.quickack = getattr(socket, "TCP_QUICKACK", None)

    def recv(self, size: int) -> bytes:
        """Bytes, and the promise to acknowledge the next ones at once, which the kernel forgets."""
        data = self.sock.recv(size)
        if self.quickack is not None:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_TCP, self.quickack, 1)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


@dataclass
class SshConnection:
    """An authenticated transport, and the hops that it runs through."""

    transports: list[paramiko.Transport]
    deadline: float
    transport: str = "paramiko"
    note: str | None = None

    def run(self, command: str) -> SshChannel:
        """Start `command` by the user's login shell."""
        patience = Patience(60.0, self.deadline)
        with spoken(f"{self.transports[-1].getpeername()[0]}"):
            channel = self.transports[-1].open_session(timeout=patience.left())
            channel.settimeout(patience.left())
            channel.exec_command(command)
        return SshChannel(channel, self.deadline)

    def close(self) -> None:
        """Ends all transports, the innermost first."""
        for one in reversed(self.transports):
            with contextlib.suppress(Exception):
                one.close()


@dataclass
class SshChannel:
    """A running command on the other side."""

    channel: paramiko.Channel
    deadline: float
    stderr: bytes = field(default=b"", init=False)

    def send(self, data: bytes) -> None:
        """Write all of `data`, reading stderr meanwhile."""
        view = memoryview(data)
        while view:
            self._arm()
            try:
                view = view[self.channel.send(bytes(view[: 1 << 15])) :]
            except TimeoutError:
                self._drain()
            except OSError as error:
                self._drain()
                raise HostError(
                    ErrorCode.PROTOCOL_ERROR,
                    f"the command ended before it had read its input: {self.complaint()[-300:]}",
                ) from error

    def receive(self) -> bytes:
        """The next bytes of stdout, b"" at its end. Both streams share one window, so stderr is drained meanwhile."""
        while True:
            self._arm()
            try:
                data: bytes = self.channel.recv(1 << 20)
            except TimeoutError:
                self._drain()
                continue
            self._drain()
            return data

    def complaint(self) -> str:
        """The tail of stderr."""
        self._drain()
        return self.stderr.decode("utf-8", "surrogateescape")

    def exit_status(self) -> int | None:
        """Exit status, waiting for it a second at the most."""
        if self.channel.status_event.wait(1) and self.channel.exit_status >= 0:
            return self.channel.exit_status
        return None

    def close(self) -> None:
        """Ends the command: its input ends, and the probe with it."""
        with contextlib.suppress(Exception):
            self.channel.close()

    def _arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            said = self.stderr.decode("utf-8", "surrogateescape").strip().splitlines()
            raise HostError(
                ErrorCode.TIMEOUT,
                "no answer in time" + (f"; it last said: {said[-1][:200]}" if said else ""),
                "a longer --timeout, or look at the load of the host",
            )
        self.channel.settimeout(min(left, 0.25))

    def _drain(self) -> None:
        while self.channel.recv_stderr_ready():
            data = self.channel.recv_stderr(1 << 16)
            if not data:
                return
            self.stderr = (self.stderr + data)[-4096:]


def open_ssh(hops: Sequence[Settings], patience: Patience, accept_new: bool, interactive: bool) -> SshConnection:
    """Connects through all hops, checking and authenticating each. HostError names the hop that failed."""
    paramiko = load_paramiko()
    transports: list[Any] = []
    try:
        with places.way_through([(hop.host, hop.port) for hop in hops[:-1]], patience.deadline):
            for number, hop in enumerate(hops):
                try:
                    transports.append(open_hop(paramiko, transports, hop, patience, accept_new, interactive))
                except HostError as error:
                    if number < len(hops) - 1:
                        error.message = f"at the jump host {hop.host}: {error.message}"
                    raise
        return SshConnection(transports, patience.deadline)
    except BaseException:
        for one in reversed(transports):
            one.close()
        raise


def open_hop(
    paramiko: Any, before: Sequence[Any], hop: Settings, patience: Patience, accept_new: bool, interactive: bool
) -> Any:
    """One transport: connected, host key checked, authenticated. A server that throttles is tried again."""
    known = read_known_hosts(hop)
    if known.has_ca(hop.host_key_alias or hop.host, hop.port):
        raise HostError(ErrorCode.UNSUPPORTED, "its host key is vouched for by a certificate authority", USE_OPENSSH)
    for attempt in range(places.TRIES):
        try:
            with places.place_at((hop.host, hop.port), patience.deadline):
                return try_hop(paramiko, before, hop, known, patience, accept_new, interactive)
        except HostError as error:
            if not places.again(error, attempt, patience.deadline):
                raise
    raise AssertionError("the last attempt raises")


def try_hop(
    paramiko: Any,
    before: Sequence[Any],
    hop: Settings,
    known: KnownHosts,
    patience: Patience,
    accept_new: bool,
    interactive: bool,
) -> Any:
    """One attempt."""
    transport = handshake(paramiko, before, hop, known, patience)
    try:
        check_host_key(transport.get_remote_server_key(), hop, known, accept_new)
        authenticate(paramiko, transport, hop, patience, interactive)
    except BaseException:
        transport.close()
        raise
    return transport


def handshake(paramiko: Any, before: Sequence[Any], hop: Settings, known: KnownHosts, patience: Patience) -> Any:
    """A transport whose key exchange is done."""
    sock = dial(before, hop, patience)
    transport = paramiko.Transport(sock, disabled_algorithms=WEAK)
    transport.daemon = True
    transport.auth_timeout = patience.left()
    # Longer than we wait for it: the library tells its own time-out as it tells a connection that was closed.
    transport.banner_timeout = transport.handshake_timeout = patience.left() + 5
    security = transport.get_security_options()
    security.ciphers = [one for one in CIPHERS if one in security.ciphers]
    first = known.kinds(hop.host_key_alias or hop.host, hop.port)
    expanded = [kind for one in first for kind in (SIGNATURES.get(one, (one,)))]
    security.key_types = sorted(security.key_types, key=lambda kind: kind not in expanded)
    began = time.monotonic()
    try:
        with spoken(hop.host):
            transport.start_client(timeout=patience.left())
            if not transport.initial_kex_done:
                if not transport.is_active() and (failure := transport.get_exception()):
                    raise failure
                raise HostError(
                    ErrorCode.TIMEOUT,
                    f"{hop.host} port {hop.port} did not finish the SSH handshake in {time.monotonic() - began:.0f} s",
                    "is that port SSH? a longer --connect-timeout if the host is slow",
                )
    except BaseException:
        transport.close()
        raise
    return transport


def dial(before: Sequence[Any], hop: Settings, patience: Patience) -> Any:
    """A stream to the host: a TCP connection, or a channel through the hop before it."""
    if before:
        with spoken(hop.host):
            return before[-1].open_channel(
                "direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=patience.left()
            )
    try:
        return QuickSocket(socket.create_connection((hop.host, hop.port), patience.left()))
    except socket.gaierror as error:
        raise HostError(
            ErrorCode.UNREACHABLE,
            f"the name {hop.host} does not resolve: {error.strerror}",
            "set `address` in the inventory",
        ) from error
    except TimeoutError as error:
        raise HostError(
            ErrorCode.TIMEOUT,
            f"{hop.host} port {hop.port} did not answer",
            "is the host up, and port and address right?",
        ) from error
    except ConnectionRefusedError as error:
        raise HostError(
            ErrorCode.CONNECTION_REFUSED,
            f"{hop.host} refuses connections to port {hop.port}",
            "is sshd there, on that port?",
        ) from error
    except OSError as error:
        raise HostError(
            ErrorCode.UNREACHABLE, f"{hop.host} cannot be reached: {error.strerror}", f"ping {hop.host}"
        ) from error


def check_host_key(key: Any, hop: Settings, known: KnownHosts, accept_new: bool) -> None:
    """Lets a known key pass, adds a new one if that was asked for, and refuses all else."""
    name, kind, blob = hop.host_key_alias or hop.host, key.get_name(), key.asbytes()
    trust, entries = known_hosts.judge(known, name, hop.port, kind, blob)
    shown, where = f"{kind} {fingerprint(blob)}", known_hosts.host_name(name, hop.port)
    files = hop.known_hosts[0] if hop.known_hosts else "known_hosts"
    if trust is Trust.KNOWN:
        return
    if trust is Trust.UNKNOWN and accept_new:
        add_known_host(Path(files).expanduser(), where, key)
        return
    if trust is Trust.UNKNOWN:
        raise HostError(
            ErrorCode.HOST_KEY_UNKNOWN,
            f"{where} offers {shown}, and no known_hosts file has a key of it",
            f"compare the fingerprint, then connect once with ssh -p {hop.port} {hop.user}@{hop.host}, "
            "or --host-keys accept-new",
        )
    if trust is Trust.REVOKED:
        raise HostError(
            ErrorCode.HOST_KEY_REVOKED,
            f"{where} offers {shown}, which {entries[0].where} revokes",
            "do not connect: somebody who holds a revoked key answers at this address",
        )
    if trust is Trust.OTHER_TYPE:
        has = ", ".join(f"{one.kind} {fingerprint(one.key)} ({one.where})" for one in entries)
        raise HostError(
            ErrorCode.HOST_KEY_UNKNOWN,
            f"{where} offers {shown}, a type of key that is not known of it; known: {has}",
            "compare the fingerprint on the host (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then add the key to "
            f"{files}",
        )
    raise HostError(
        ErrorCode.HOST_KEY_MISMATCH,
        f"{where} offers {shown}, but {entries[0].where} has {fingerprint(entries[0].key)}",
        f"if the host was reinstalled: ssh-keygen -f {entries[0].file} -R '{where}', then connect once with ssh; "
        "if not, somebody may be in between",
    )


def read_known_hosts(hop: Settings) -> KnownHosts:
    """The files that the settings name; those that are not there count as empty."""
    files = []
    for name in hop.known_hosts:
        path = Path(name).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                files.append((str(path), path.read_bytes()[: 16 << 20]))
            except PermissionError as error:
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


def authenticate(paramiko: Any, transport: Any, hop: Settings, patience: Patience, interactive: bool) -> None:
    """Public keys in turn, those that the user named first. HostError lists what was tried."""
    tried: list[str] = []
    for name, load in keys(paramiko, hop, patience, interactive, tried):
        key = load()
        if key is None:
            continue
        tried.append(name)
        transport.auth_timeout = patience.left()
        try:
            with spoken(hop.host):
                transport.auth_publickey(hop.user, key)
        except (paramiko.BadAuthenticationType, HostError) as error:
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
    files = [Path(name).expanduser() for name in hop.identity_files]

    def load(path: Path) -> Any:
        return load_key(paramiko, path, interactive, tried)

    if hop.identities_only:
        public = {one for path in files for one in public_key(path)}
        for key in agent_keys(paramiko, hop, patience, tried):
            if key.asbytes() in public:
                yield f"agent key {fingerprint(key.asbytes())}", lambda key=key: key  # type: ignore[misc]
    else:
        for key in agent_keys(paramiko, hop, patience, tried):
            yield f"agent key {fingerprint(key.asbytes())}", lambda key=key: key  # type: ignore[misc]
    for path in files:
        if path.is_file():
            yield str(path), lambda path=path: load(path)  # type: ignore[misc]


def public_key(path: Path) -> list[bytes]:
    """The public half beside a key file, if it is there."""
    try:
        words = path.with_name(path.name + ".pub").read_text(errors="replace").split()
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
        sock.connect(str(Path(path).expanduser()))
        agent._connect(sock)
        found: Sequence[Any] = agent.get_keys()
    except (OSError, paramiko.SSHException) as error:
        sock.close()
        tried.append(f"the agent at {path} (it does not answer: {error})")
        return ()
    return found


def load_key(paramiko: Any, path: Path, interactive: bool, tried: list[str]) -> Any:
    """A private key, None where it cannot be had; why is added to `tried`."""
    passphrase = None
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key_file(str(path), passphrase)
        except paramiko.PasswordRequiredException:
            if not interactive:
                tried.append(f"{path} (encrypted, and there is no terminal to ask: ssh-add {path})")
                return None
            passphrase = getpass.getpass(f"passphrase of {path}: ")
            with contextlib.suppress(paramiko.SSHException, ValueError):
                return kind.from_private_key_file(str(path), passphrase)
        except (paramiko.SSHException, ValueError, OSError, IndexError):
            continue
    tried.append(f"{path} (it cannot be read as a private key)")
    return None


@contextlib.contextmanager
def spoken(host: str) -> Iterator[None]:
    """Whatever the library raises, as one of our errors. Refused authentication passes: it means the next key."""
    paramiko = load_paramiko()
    try:
        yield
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise HostError(
            ErrorCode.UNSUPPORTED, f"{host} and we have no SSH algorithm in common: {error}", USE_OPENSSH
        ) from error
    except paramiko.AuthenticationException as error:
        if "timeout" in str(error).lower():
            raise HostError(ErrorCode.TIMEOUT, f"{host} did not answer to a key in time") from error
        raise
    except paramiko.ChannelException as error:
        raise HostError(
            ErrorCode.UNREACHABLE,
            f"the jump host cannot open a connection to {host}: {error.text}",
            "is it up, from there?",
        ) from error
    except (paramiko.SSHException, EOFError, OSError, ValueError) as error:
        text = str(error) or type(error).__name__
        if "timed out" in text.lower() or "timeout" in text.lower() or isinstance(error, TimeoutError):
            raise HostError(
                ErrorCode.TIMEOUT,
                f"{host} did not finish the SSH handshake in time",
                "is that port SSH? is the host busy?",
            ) from error
        if any(word in text for word in CLOSED) or isinstance(error, (EOFError, ConnectionError)):
            raise HostError(
                ErrorCode.THROTTLED,
                f"{host} closed the connection before the handshake was done ({text})",
                "its sshd may be out of MaxStartups or block this address: try again later, or a smaller --forks",
            ) from error
        raise HostError(ErrorCode.PROTOCOL_ERROR, f"SSH to {host} failed: {text}", f"try: ssh -v {host}") from error


def has_openssh() -> bool:
    """Whether there is an ssh program to fall back to."""
    return shutil.which("ssh") is not None


USE_OPENSSH = 'transport = "openssh" for this host, or --transport openssh'
AGENT_PATIENCE = 3.0

CLOSED = ("Error reading SSH protocol banner", "Not allowed at this time", "Exceeded MaxStartups", "Invalid SSH banner")

CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
WEAK = {
    "macs": ["hmac-md5", "hmac-md5-96", "hmac-sha1-96", "hmac-sha1"],
    "keys": ["ssh-rsa", "ssh-dss"],
    "pubkeys": ["ssh-rsa", "ssh-dss"],
    "kex": ["diffie-hellman-group1-sha1", "diffie-hellman-group-exchange-sha1", "diffie-hellman-group14-sha1"],
}
