"""A small SSH server on loopback for one key, that runs commands by /bin/sh, as sshd does."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from halfopen.reach.library import load_paramiko

if TYPE_CHECKING:
    import paramiko


class EmbeddedServer:
    """Listens on loopback until it is closed. `port` is where; `public` the host key's line for known_hosts."""

    def __init__(self, user_key: paramiko.PKey) -> None:
        self.paramiko = load_paramiko()
        self.host_key = self.paramiko.ECDSAKey.generate()
        self.user_key = user_key
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(8)
        self.port: int = self.listener.getsockname()[1]
        self.transports: list[Any] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def public(self) -> str:
        """Type and key, as known_hosts has them."""
        return f"{self.host_key.get_name()} {self.host_key.get_base64()}"

    def close(self) -> None:
        """Stops listening and ends the connections that are open."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread before its descriptor can be reused
        self.thread.join(1)
        self.listener.close()
        for transport in self.transports:
            transport.close()

    def interface(self) -> Any:
        """What one connection is allowed."""
        return interface(self.paramiko, self.user_key)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = self.paramiko.Transport(sock)
            transport.daemon = True
            transport.add_server_key(self.host_key)
            self.transports.append(transport)
            with contextlib.suppress(self.paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=self.interface())


def interface(library: Any, user_key: Any) -> Any:
    """What the server allows: one key, and commands in a session."""

    class Interface(library.ServerInterface):  # type: ignore[misc]
        def check_auth_publickey(self, _: str, key: Any) -> int:
            good = key.asbytes() == user_key.asbytes()
            return int(library.AUTH_SUCCESSFUL if good else library.AUTH_FAILED)

        def get_allowed_auths(self, _: str) -> str:
            return "publickey"

        def check_channel_request(self, kind: str, _: int) -> int:
            session = kind == "session"
            return int(library.OPEN_SUCCEEDED if session else library.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)

        def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
            threading.Thread(target=execute, args=(channel, command), daemon=True).start()
            return True

    return Interface()


def execute(channel: Any, command: bytes) -> None:
    """Runs a command with the channel as its input and output, and reports how it ended."""
    process = subprocess.Popen(
        [b"/bin/sh", b"-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    assert process.stdin and process.stdout
    try:
        while True:
            ready, _, _ = select.select([channel, process.stdout], [], [])
            if channel in ready:
                data = channel.recv(1 << 16)
                if not data:
                    break
                process.stdin.write(data)
            if process.stdout in ready:
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    break
                channel.sendall(data)
    except OSError:
        pass  # the command or the channel has ended, which ends the other
    finally:
        process.stdin.close()
        process.stdout.close()
        with contextlib.suppress(OSError, EOFError):
            channel.send_exit_status(process.wait())
            channel.close()
