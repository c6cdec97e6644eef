"""A port on this machine that speaks whatever a test wants, to whoever connects."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def answering(behaviour: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port that does this to whoever connects."""

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=quietly, args=(sock,), daemon=True).start()

    def quietly(sock: socket.socket) -> None:
        try:
            behaviour(sock)
        except OSError:
            sock.close()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
