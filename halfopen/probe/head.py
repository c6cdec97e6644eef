"""What runs on a host: reads its TCP sockets and answers questions about them. It changes nothing.

With one exception, which is sent only to whom it was asked for: what follows for `--ask` sends keepalive probes.

It is sent over stdin and never touches the disk; it needs Python 3.6 and nothing but the standard library, starts no
process, and ends when its input ends or when nobody has asked anything for a while. It sends raw kernel numbers, and
text of /proc as it is; what they mean is decided by the receiver.

The parts of this package are sent as one text, in the order of `halfopen.probe.PARTS`. Where one imports from another,
the line is left out, because the names are defined further up by then. Annotations are for readers and for mypy: those
of functions are strings, those of local variables are not evaluated.

Frames out: nonce 8 bytes, kind 1, sequence 4, payload length 4, CRC-32 of
kind to payload 4, payload.
Requests in: verb 1, length 4, payload. Every answer is any number of frames and one END (or ERROR) frame.
A FIELDS frame with `netns` among frames of another kind says that what follows is of another network namespace.
"""

SCHEMA = 2

# Kinds of frames, and verbs of requests.
FIELDS, BLOCK, LISTENERS, ROWS, END, ERROR, TEXT = range(1, 8)
HELLO, DUMP, LOOK, EVIDENCE, OWNERS, BYE, TRANSLATIONS, TABLE = range(1, 9)
COUNT, ROUTES = 16, 17

AF_INET, AF_INET6 = 2, 10
LISTEN = 10


class Refused(Exception):
    """The kernel, or a limit of ours, refused: errno (0 if none) and what was tried."""
