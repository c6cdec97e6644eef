"""The words of the report: what its fields hold where they hold one of a few words.

Words may be added, none renamed or dropped (see `report`). What each means is in halfopen/glossary.py.
"""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """How bad, in falling order."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Confidence(StrEnum):
    """How sure: what each word promises is in judge/meaning.py and docs/verdicts.md."""

    PROVEN = "proven"
    OBSERVED = "observed"
    INFERRED = "inferred"


class Verdict(StrEnum):
    """What is wrong with one connection, seen from both ends."""

    MISSING_ON_SERVER = "missing-on-server"
    MISSING_ON_CLIENT = "missing-on-client"
    HANDSHAKE_STUCK = "handshake-stuck"
    DESYNCHRONIZED = "desynchronized"
    STALLED = "stalled"
    NEVER_ACCEPTED = "never-accepted"
    HALF_CLOSED = "half-closed"
    ABANDONED_CLOSE = "abandoned-close"
    CLOSE_LOST = "close-lost"
    CONNECT_UNANSWERED = "connect-unanswered"
    CLOSING_ALONE = "closing-alone"
    EMBRYONIC = "embryonic"
    AMBIGUOUS = "ambiguous"


class Reason(StrEnum):
    """Why a connection of the check's hosts was not judged."""

    ANSWERED_ELSEWHERE = "answered-elsewhere"
    CHANGING = "changing"
    TRANSLATION_GONE = "translation-gone"
    NAMESPACE_NOT_ENTERED = "namespace-not-entered"
    ROW_DAMAGED = "row-damaged"
    NOT_SHOWN_BY_SOURCE = "not-shown-by-source"
    TOO_MANY_SUSPECTS = "too-many-suspects"
    CLAIMED_TWICE = "claimed-twice"


class Answer(StrEnum):
    """What an end was answered that was asked by a keepalive probe (`--ask`)."""

    RST = "rst"  # nobody holds the other end, and this one has ended
    ACKNOWLEDGED = "acknowledged"  # somebody holds it
    SILENCE = "silence"  # no try was answered


class CauseCode(StrEnum):
    """Why a connection is as it is."""

    ACCEPT_QUEUE_OVERFLOW = "accept-queue-overflow"
    SYN_COOKIE_ACK_LOST = "syn-cookie-ack-lost"
    FINAL_ACK_LOST = "final-ack-lost"
    DEFERRED_ACCEPT = "deferred-accept"
    PEER_REBOOTED = "peer-rebooted"
    PEER_VANISHED = "peer-vanished"
    RESET_LOST = "reset-lost"
    MIDDLEBOX_FORGOT = "middlebox-forgot"
    PATH_DEAD = "path-dead"
    APPLICATION_NOT_ACCEPTING = "application-not-accepting"
    APPLICATION_NOT_CLOSING = "application-not-closing"
    APPLICATION_NOT_READING = "application-not-reading"
    CONNECTION_REFUSED_SILENTLY = "connection-refused-silently"
    TUPLE_REUSED = "tuple-reused"
    UNKNOWN = "unknown"


class StepCode(StrEnum):
    """One step of how a connection came to be as it is, in the order of time. What is `unanswered` was lost itself, or
    its answer was.
    """

    ESTABLISHED = "established"  # both ends were
    SYN = "syn"
    SYN_LOST = "syn-lost"
    SYN_DROPPED = "syn-dropped"  # by the server, whose accept queue is full
    SYN_UNANSWERED = "syn-unanswered"
    SYN_ACK = "syn-ack"
    COOKIE = "cookie"  # a SYN-ACK of which the server keeps nothing
    SYN_ACK_AGAIN = "syn-ack-again"
    SYN_ACK_LOST = "syn-ack-lost"
    SYN_ACK_UNANSWERED = "syn-ack-unanswered"
    ACK = "ack"
    ACK_LOST = "ack-lost"
    ACK_DROPPED = "ack-dropped"  # by the server, whose accept queue is full
    ACK_IGNORED = "ack-ignored"  # by the server, whose listener waits for data
    FORGOTTEN = "forgotten"  # the server gives the handshake up and tells nobody
    QUEUED = "queued"  # in the accept queue, and there it stays
    CLIENT_RESTARTED = "client-restarted"
    SERVER_RESTARTED = "server-restarted"
    CLIENT_VANISHED = "client-vanished"  # without FIN or RST
    SERVER_VANISHED = "server-vanished"
    CLIENT_MOVED = "client-moved"  # its address, to a host that never had the connection
    SERVER_MOVED = "server-moved"
    CLIENT_GAVE_UP = "client-gave-up"  # after tries without an answer
    SERVER_GAVE_UP = "server-gave-up"
    CLIENT_RST_LOST = "client-rst-lost"
    SERVER_RST_LOST = "server-rst-lost"
    BOX_FORGOT = "box-forgot"  # something between them, that keeps a table of connections
    CLIENT_SENT = "client-sent"
    SERVER_SENT = "server-sent"
    CLIENT_UNANSWERED = "client-unanswered"
    SERVER_UNANSWERED = "server-unanswered"
    CLIENT_KEPT_IN = "client-kept-in"  # what it sends does not leave its host
    SERVER_KEPT_IN = "server-kept-in"
    CLIENT_FIN = "client-fin"
    SERVER_FIN = "server-fin"
    CLIENT_NOT_CLOSING = "client-not-closing"
    SERVER_NOT_CLOSING = "server-not-closing"
    CLIENT_NOT_READING = "client-not-reading"
    SERVER_NOT_READING = "server-not-reading"
    REUSED = "reused"  # the ports of an earlier connection, which one end still holds
    SILENCE = "silence"  # nothing is sent, and nothing heard


class OutlookCode(StrEnum):
    """What becomes of a connection if nobody acts."""

    HEALS = "heals-by-itself"
    FAILS_ON_WRITE = "fails-on-next-write"
    NEVER = "never"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """The answer in one word."""

    CLEAN = "clean"
    FINDINGS = "findings"
    INCOMPLETE = "incomplete"


class Transport(StrEnum):
    """How a host was reached."""

    PARAMIKO = "paramiko"  # SSH within this process
    OPENSSH = "openssh"  # the `ssh` program
    LOCAL = "local"  # this machine
    EXEC = "exec"  # the inventory's `command`
    FILE = "file"  # not at all: pasted text
    AUTO = "auto"  # not at all: it failed before one of the first two was chosen
