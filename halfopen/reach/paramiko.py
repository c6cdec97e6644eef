"""SSH in this process. Every step ends at the host's one deadline; host keys are checked before anything is sent.

The socket is ours: TCP_NODELAY, and TCP_QUICKACK armed again after every read, because Nagle's algorithm against
delayed acknowledgements costs two stalls of 40 ms in every connection otherwise.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from halfopen import address
from halfopen.errors import ErrorCode, HostError
from halfopen.reach import handshakes
from halfopen.reach.algorithms import USE_OPENSSH, disabled, restrict
from halfopen.reach.authentication import authenticate
from halfopen.reach.host_keys import check_host_key, read_known_hosts
from halfopen.reach.known_hosts import KnownHosts
from halfopen.reach.library import Patience, load_paramiko, spoken
from halfopen.reach.names import UnresolvedError
from halfopen.reach.settings import Settings

if TYPE_CHECKING:
    import paramiko


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


class SshConnection(Struct):
    """An authenticated transport, and the hops that it runs through."""

    transports: list[paramiko.Transport]
    patience: Patience
    transport: str = "paramiko"
    note: str | None = None

    def run(self, command: str) -> SshChannel:
        """Start `command` by the user's login shell."""
        last, limit, began = self.transports[-1], self.patience.left(), time.monotonic()
        # The library waits for the answer to `exec` without a limit, unless its transport is closed.
        timer = threading.Timer(limit, last.close)
        timer.daemon = True
        timer.start()
        try:
            with spoken(f"{last.getpeername()[0]}"):
                channel = last.open_session(timeout=limit)
                channel.exec_command(command)
        except HostError as error:
            if time.monotonic() - began >= limit:
                raise HostError(
                    ErrorCode.TIMEOUT,
                    f"it let us in, and started no command in {limit:.0f} s",
                    "look at the load of the host; a longer --connect-timeout if it is slow",
                ) from error
            raise
        finally:
            timer.cancel()
        return SshChannel(channel, self.patience.deadline)

    def sockets(self, _: bool) -> list[bytes]:
        """The one to the first hop: the others run within it."""
        return key_of(self.transports[0].sock)

    def close(self) -> None:
        """Ends all transports, the innermost first."""
        for transport in reversed(self.transports):
            with contextlib.suppress(Exception):
                transport.close()


class SshChannel(Struct):
    """A running command on the other side."""

    channel: paramiko.Channel
    deadline: float
    stderr: bytes = b""

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
                    "halfopen doctor HOST says how far it comes there",
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
    notes: dict[str, None] = {}
    try:
        with handshakes.slots_through([(hop.host, hop.port) for hop in hops[:-1]], patience.deadline):
            for number, hop in enumerate(hops):
                try:
                    known = read_known_hosts(hop)
                    notes.update({known.note: None} if known.note else {})
                    made, added = open_hop(paramiko, transports, hop, known, patience, accept_new, interactive)
                    transports.append(made)
                    notes.update({added: None} if added else {})
                except HostError as error:
                    if number < len(hops) - 1:
                        error.message = f"at the jump host {hop.host}: {error.message}"
                    raise
        return SshConnection(transports, patience, note="; ".join(notes) or None)
    except BaseException:
        for transport in reversed(transports):
            transport.close()
        raise


def open_hop(
    paramiko: Any,
    before: Sequence[Any],
    hop: Settings,
    known: KnownHosts,
    patience: Patience,
    accept_new: bool,
    interactive: bool,
) -> tuple[Any, str | None]:
    """One transport: connected, host key checked, authenticated; and what to say of its key.

    A server that throttles is tried again.
    """
    if known.has_ca(*hop.known_as):
        raise HostError(ErrorCode.UNSUPPORTED, "its host key is vouched for by a certificate authority", USE_OPENSSH)
    for attempt in range(handshakes.TRIES):
        try:
            with handshakes.slot_at((hop.host, hop.port), patience.deadline):
                return try_hop(paramiko, before, hop, known, patience, accept_new, interactive)
        except HostError as error:
            if not handshakes.again(error, attempt, patience.deadline):
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
) -> tuple[Any, str | None]:
    """One attempt."""
    transport = handshake(paramiko, before, hop, known, patience)
    try:
        note = check_host_key(transport.get_remote_server_key(), hop, known, accept_new)
        authenticate(paramiko, transport, hop, patience, interactive)
    except BaseException:
        transport.close()
        raise
    return transport, note


def handshake(paramiko: Any, before: Sequence[Any], hop: Settings, known: KnownHosts, patience: Patience) -> Any:
    """A transport whose key exchange is done."""
    sock = dial(before, hop, patience)
    transport = paramiko.Transport(sock, disabled_algorithms=disabled(hop.algorithms))
    transport.daemon = True
    transport.auth_timeout = patience.left()
    # Longer than we wait for it: the library reports its own time-out like a connection that was closed.
    transport.banner_timeout = transport.handshake_timeout = patience.left() + 5
    began = time.monotonic()
    try:
        kinds = known.kinds(*hop.known_as)
        restrict(transport.get_security_options(), hop.algorithms, kinds)
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
        if error.errno == socket.EAI_AGAIN:  # the name server does not answer, which says nothing about the name
            raise HostError(
                ErrorCode.UNREACHABLE, f"{hop.host} cannot be looked up: {error.strerror}", f"try: ssh {hop.host}"
            ) from error
        raise UnresolvedError(hop.host, str(error.strerror)) from error
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


def key_of(sock: Any) -> list[bytes]:
    """The key of a TCP socket, nothing if it is not connected any more."""
    try:
        (local, local_port, *_), (peer, peer_port, *_) = sock.getsockname(), sock.getpeername()
    except OSError:
        return []
    return [address.make_key(address.parse(local), local_port, address.parse(peer), peer_port)]


def has_openssh() -> bool:
    """Whether there is an ssh program to fall back to."""
    return shutil.which("ssh") is not None
