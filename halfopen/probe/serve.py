"""The conversation itself: requests in, answers out, until the input ends."""

import _signal
import os
import struct
from _collections_abc import Callable

from halfopen.probe.dump import count, dump, table
from halfopen.probe.head import (
    BYE,
    COUNT,
    DUMP,
    END,
    ERROR,
    EVIDENCE,
    HELLO,
    LOOK,
    OWNERS,
    ROUTES,
    TABLE,
    TRANSLATIONS,
    Refused,
)
from halfopen.probe.host import evidence, hello
from halfopen.probe.look import look
from halfopen.probe.processes import owners
from halfopen.probe.routes import routes
from halfopen.probe.session import Session
from halfopen.probe.tracking import translations

IDLE_LIMIT = 900  # seconds without a request after which the probe ends by itself
REQUEST_LIMIT = 64 << 20

# Verb -> what answers it, and gives the number that END carries: rows, lines, fields or look-ups.
ANSWERS: "dict[int, Callable[[Session, bytes], int]]" = {
    HELLO: hello,
    DUMP: dump,
    LOOK: look,
    EVIDENCE: evidence,
    OWNERS: owners,
    TRANSLATIONS: translations,
    TABLE: table,
    COUNT: count,
    ROUTES: routes,
}


def serve(read: "Callable[[int], bytes]", session: Session) -> None:
    """Answers requests until the input ends, or says BYE."""
    while True:
        _signal.alarm(IDLE_LIMIT)
        head = read(5)
        if len(head) < 5 or head[0] == BYE:
            return
        verb, length = struct.unpack(">BI", head)
        payload = read(length) if length <= REQUEST_LIMIT else b""
        if len(payload) < length:
            return
        try:
            if verb not in ANSWERS:
                raise Refused(22, f"request {verb}")
            session.frame(END, struct.pack(">BQ", verb, ANSWERS[verb](session, payload)))
        except Refused as refusal:
            session.frame(ERROR, struct.pack(">BI", verb, refusal.args[0]) + refusal.args[1].encode())
        except (BrokenPipeError, ConnectionError):
            raise
        except Exception as error:  # a fault of ours is an answer too: the asker must not wait for ever
            said = repr(error).encode("ascii", "backslashreplace")[:500]
            session.frame(ERROR, struct.pack(">BI", verb, 0) + said)


def main(read: "Callable[[int], bytes]") -> None:
    """Speaks with whoever sent this. Descriptor 1 is moved away first, so that no stray print breaks a frame."""
    output = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        serve(read, Session(read(8), output))
    except (BrokenPipeError, ConnectionError):
        pass  # the channel is gone, and we with it
