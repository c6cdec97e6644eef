"""What each verdict means for the rules, the outlook and the remedies: one row for each verdict."""

from __future__ import annotations

from msgspec import Struct

from halfopen.schema.report import Verdict
from halfopen.tcp import State


class Traits(Struct, frozen=True):
    """One verdict.

    `peer_missing`: an end is left whose peer has gone or never was. `unheard`: an end gets no answer although the
    other end is there. `handshake`: an end is still in the handshake. `path_may_fail`: lost packets can explain it.
    `may_end`: the states of an end that is worth ending now; none where a program still may use the connection.
    `outlook`: a clause, where the timers of the ends do not decide. `decider`: what would tell the cause where no rule
    speaks. `teller`: what tells causes apart that all fit; {0} is the client's host, {1} the server's.
    """

    decider: str
    peer_missing: bool = False
    unheard: bool = False
    handshake: bool = False
    path_may_fail: bool = True
    may_end: frozenset[State] = frozenset()
    outlook: str | None = None
    teller: str | None = None


CAPTURE = "a capture of one such connection on both hosts at once would tell"
LOG = "the log of the program on {} when {} last heard of it, or a capture on both hosts"
LASTING = frozenset(State) - {State.SYN_RECV, State.TIME_WAIT, State.SYN_SENT}

TRAITS: dict[Verdict, Traits] = {
    Verdict.MISSING_ON_SERVER: Traits(
        "nothing on the server tells how it lost its end: its program's log at the time this end last heard of it, or "
        "a capture on both hosts when it happens again, would",
        peer_missing=True,
        may_end=LASTING,
        teller=LOG.format("{1}", "{0}"),
    ),
    Verdict.MISSING_ON_CLIENT: Traits(
        "nothing on the client tells how it lost its end: its program's log at the time the server last heard of it, "
        "or a capture on both hosts when it happens again, would",
        peer_missing=True,
        may_end=LASTING,
        teller=LOG.format("{0}", "{1}"),
    ),
    Verdict.HANDSHAKE_STUCK: Traits(CAPTURE, unheard=True, handshake=True, may_end=LASTING),
    Verdict.DESYNCHRONIZED: Traits(CAPTURE, unheard=True, path_may_fail=False, may_end=LASTING),
    Verdict.STALLED: Traits(CAPTURE, unheard=True, may_end=LASTING),
    Verdict.NEVER_ACCEPTED: Traits(
        CAPTURE, path_may_fail=False, outlook="works once the program accepts it; until then no timer ends it"
    ),
    Verdict.HALF_CLOSED: Traits(CAPTURE),
    Verdict.ABANDONED_CLOSE: Traits(CAPTURE, may_end=LASTING),
    Verdict.CLOSE_LOST: Traits(CAPTURE, unheard=True, may_end=frozenset({State.ESTABLISHED})),
    Verdict.CONNECT_UNANSWERED: Traits(
        CAPTURE,
        handshake=True,
        teller="a capture on {1}: does the SYN arrive there, and is it answered?",
    ),
    Verdict.CLOSING_ALONE: Traits(CAPTURE, peer_missing=True, may_end=LASTING),
    Verdict.EMBRYONIC: Traits(CAPTURE, handshake=True, may_end=LASTING),
    Verdict.AMBIGUOUS: Traits(
        "addresses that belong to one host only would tell the sockets apart; see which hosts share one",
        path_may_fail=False,
        outlook="cannot be told while it is not clear which sockets belong together",
    ),
}
