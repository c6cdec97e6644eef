"""One line of a text, the row on it, and how the words of a row become addresses, ports and numbers."""

from __future__ import annotations

from msgspec import Struct

from halfopen import address
from halfopen.model import ListenSocket, Process, Socket
from halfopen.tcp import State

ANY4, ANY6 = bytes(4), bytes(16)


class Row(Struct, frozen=True):
    """One line that is a socket; `end` None if it is neither a connection nor LISTEN (bound, other protocol).

    `name`: unique among the rows of one output; None where its key, or a listener's inode, is unique already.
    """

    end: Socket | ListenSocket | None
    process: Process | None = None
    name: str | None = None


class Line(Struct, frozen=True):
    """One line with its continuation lines: its row, or `why` it was refused; neither where it is not a socket.

    `hides`: it is refused and known to be a row, or a part of one. `heading`: of a table of sockets. `open`: the text
    ends in it, so that something may be missing behind its row.
    """

    number: int
    text: str
    row: Row | None = None
    why: str = ""
    hides: bool = False
    heading: bool = False
    open: bool = False


def endpoint(text: str, separator: str, wildcard: bytes) -> tuple[bytes, int]:
    """`10.0.0.1:22`, `[fe80::1]%eth0:22`, `::ffff:10.0.0.1:22`, `10.0.0.1.22`, `*:*` -> address and port (0: any)."""
    host, _, port = text.rpartition(separator)
    if port == "*":
        number = 0
    elif port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536:
        number = int(port)
    else:
        raise ValueError(f"{port[:40]!r} is not a valid port number; without -n names are printed")
    bare = host.partition("%")[0].removeprefix("[").removesuffix("]")
    if bare == "*":
        return wildcard, number
    try:
        return address.parse(bare), number
    except ValueError:
        raise ValueError(
            f"{bare[:60]!r} is not a valid address; without -n it may be a name, and a long name may be cut"
        ) from None


def end_of(
    state: State,
    local: tuple[bytes, int],
    peer: tuple[bytes, int],
    family: int,
    recv_q: int | None = None,
    send_q: int | None = None,
) -> Socket | ListenSocket | None:
    """State, endpoints and queues (bytes) of a row -> its socket, which the caller completes. None: bound, no peer."""
    if state is State.LISTEN:
        return ListenSocket(local[0], local[1], family, queue=recv_q, backlog=send_q)
    if state is State.CLOSE or not peer[1] or address.is_unspecified(peer[0]):
        return None
    if len(local[0]) != len(peer[0]):
        raise ValueError("its two addresses are of two families")
    return Socket(address.make_key(local[0], local[1], peer[0], peer[1]), state, family, recv_q=recv_q, send_q=send_q)


def number(text: str | None, limit: int = 1 << 64) -> int | None:
    """A whole number below a limit, None for anything else."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) >= limit:
        return None
    return int(text)
