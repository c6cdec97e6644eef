"""What becomes of a connection if nobody acts, computed from the timers of both ends as the kernel does.

Sources: net/ipv4/tcp_timer.c (retransmits_timed_out, tcp_model_timeout, tcp_write_timeout, tcp_probe_timer,
tcp_keepalive_timer, tcp_orphan_retries) and inet_connection_sock.c (reqsk_timer_handler). A socket's own
TCP_USER_TIMEOUT, TCP_SYNCNT and keepalive options are invisible from outside. The first two can only end it sooner
than is said here. Keepalive is computed from the host's settings, unless the timer contradicts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from msgspec import Struct

from halfopen.judge.diagnosis.rules.handshake import by_cookie
from halfopen.judge.signs.case import Case, HostEvidence
from halfopen.judge.signs.phrase import Sentence, seconds
from halfopen.judge.signs.tcp_signs import (
    MAX_RTO,
    MIN_RTO,
    alone,
    ends,
    first_rto_s,
    heard_s,
    kept_in,
    never_confirmed,
    other_end,
    spoke_last,
    trying_s,
    unanswered,
)
from halfopen.matching.verdict.traits import TRAITS
from halfopen.model import Socket
from halfopen.schema.report import CauseCode, OutlookCode, Verdict
from halfopen.tcp import State, Timer

Causes = Mapping[CauseCode, bool]
"""The causes of a finding, and whether each is certain"""

NO_CAUSES: Causes = MappingProxyType({})


class Prospect(Struct, frozen=True):
    """What becomes of one end, or of a finding. `words` is a clause; `within_s` only where a timer tells."""

    code: OutlookCode
    words: Sentence
    within_s: float | None = None


def prospect_of(case: Case, causes: Causes = NO_CAUSES) -> Prospect:
    """What becomes of a finding with these causes."""
    if CauseCode.DEFERRED_ACCEPT in causes:
        return Prospect(
            OutlookCode.HEALS,
            ("heals by itself: with the client's first byte, or when the deferral ends and the SYN-ACK is repeated",),
        )
    if (clause := TRAITS[case.held.verdict].outlook) is not None:
        return Prospect(OutlookCode.UNKNOWN, (clause,))
    prospects = [of_end(end, host, case, causes) for end, host in ends(case)]
    if not prospects:
        return Prospect(OutlookCode.UNKNOWN, ("no end of it could be read",))
    code = next(code for code in GRAVITY if any(prospect.code is code for prospect in prospects))
    if code is OutlookCode.NEVER and any(may_act(end, case) for end, _ in ends(case)):
        code = OutlookCode.UNKNOWN  # what the timer brings may change the other end too
    words = LEADS[code]
    for at, prospect in enumerate(prospects):
        words += ("; ", *prospect.words) if at else prospect.words
    known = [prospect.within_s for prospect in prospects if prospect.within_s is not None]
    within = max(known) if code is OutlookCode.HEALS and len(known) == len(prospects) else None
    return Prospect(code, words, within)


def may_act(end: Socket, case: Case) -> bool:
    """Whether a timer of an end may run that changes something: keepalive that is answered changes nothing."""
    return end.timer is None or (end.timer in RUNNING and (end.timer is not Timer.KEEPALIVE or is_unheard(case)))


def is_unheard(case: Case) -> bool:
    """Whether what an end sends gets no answer from the other, as far as the verdict tells."""
    return alone(case) is not None or TRAITS[case.held.verdict].unheard


def of_end(end: Socket, host: HostEvidence, case: Case, causes: Causes) -> Prospect:
    """What becomes of one end."""
    for rule in (by_state, by_timer):
        found = rule(end, host, case)
        if found is not None:
            return found
    return without_timer(end, host, case, causes)


def by_state(end: Socket, host: HostEvidence, case: Case) -> Prospect | None:
    """States that the kernel ends by itself."""
    expires = end.timer_expires_s
    if end.state is State.SYN_RECV:
        repeats = "repeats its SYN-ACK, and " if alone(case) is None else ""
        return timed(notices_s(end, host), host, f"{repeats}forgets its SYN_RECV in silence")
    if end.state is State.SYN_SENT:
        return timed(notices_s(end, host), host, "gives up its connect (ETIMEDOUT)")
    if end.state is State.TIME_WAIT or (end.timer is Timer.TIMEWAIT and expires is not None):
        return timed(expires, host, f"forgets its {end.state}")
    return None


def by_timer(end: Socket, host: HostEvidence, case: Case) -> Prospect | None:
    """Ends that a running timer ends, unless the other end answers it."""
    if end.timer is Timer.RETRANSMIT:
        return timed(notices_s(end, host), host, "gives up what nobody acknowledges")
    if end.timer is Timer.PROBE and alone(case) is None and not unanswered(end):
        return Prospect(OutlookCode.UNKNOWN, (f"{host.name} goes on when the program at the other end reads",))
    if end.timer is Timer.PROBE:
        what = "what it cannot send" if kept_in(end, other_end(case, end)[0]) else "its zero-window probes"
        return timed(notices_s(end, host), host, f"gives up {what}")
    if end.timer is Timer.KEEPALIVE:
        if not is_unheard(case):
            return None  # the other kernel answers its probes
        if end.state is State.FIN_WAIT2 and end.inode == 0:
            return timed(end.timer_expires_s, host, "forgets its FIN_WAIT2")
        return probed(end, host, case)
    return None


def probed(end: Socket, host: HostEvidence, case: Case) -> Prospect:
    """An end that keepalive ends, if nobody answers or the other host says RST."""
    first, left = end.timer_expires_s, notices_s(end, host)
    if first is None:
        return Prospect(OutlookCode.UNKNOWN, (f"{host.name} sends keepalive probes, at a time that could not be read",))
    words: Sentence = (f"{host.name} sends a keepalive probe in ", seconds(first))
    if case.held.verdict is Verdict.HANDSHAKE_STUCK:  # a request socket answers it (tcp_check_req), while it is there
        return Prospect(OutlookCode.HEALS, (*words, ", and more until the server has forgotten its SYN_RECV"))
    if left is None:
        return Prospect(
            OutlookCode.HEALS, (*words, "; a RST ends it then, no answer ends it after a time that is not known")
        )
    return Prospect(OutlookCode.HEALS, (*words, "; a RST ends it then, no answer ends it within ", seconds(left)), left)


def notices_s(end: Socket, host: HostEvidence) -> float | None:
    """Seconds until an end gives up by itself if nobody answers; None if no timer does that, or nobody knows."""
    reckon = GIVES_UP.get(end.state) or (GIVES_UP.get(end.timer) if end.timer is not None else None)
    return reckon(end, host.sysctls) if reckon is not None else None


def timed(left: float | None, host: HostEvidence, what: str) -> Prospect:
    """An end that its kernel ends after `left` seconds at the latest; None where a number that decides was not read."""
    if left is None:
        numbers = f"sysctls of {host.name}, which could not be read"
        if host.sysctls:
            numbers = f"sysctls and timers of {host.name}, which could not all be read"
        return Prospect(OutlookCode.UNKNOWN, (f"{host.name} {what} after a time that depends on {numbers}",))
    return Prospect(OutlookCode.HEALS, (f"{host.name} {what} within ", seconds(left)), left)


def without_timer(end: Socket, host: HostEvidence, case: Case, causes: Causes) -> Prospect:
    """Ends that only their programs can end."""
    if end.state is State.CLOSE_WAIT:
        return Prospect(OutlookCode.NEVER, (f"{host.name} keeps its CLOSE_WAIT until the program closes it",))
    if end.state is State.FIN_WAIT2:
        return Prospect(OutlookCode.NEVER, (f"{host.name} keeps its FIN_WAIT2 while the program holds it open",))
    strays = case.held.verdict is Verdict.DESYNCHRONIZED  # each end takes the other's segments for strays
    both = case.held.verdict is not Verdict.HANDSHAKE_STUCK and alone(case) is None and not strays
    whose = f"once the other end is gone, {host.name}" if both else host.name
    last = spoke_last(end, end is case.held.server)
    timer = "its timer could not be read" if end.timer is None else "no timer runs"
    if end.info is None:
        words = f"{whose}: {timer}; what the program waits for cannot be determined"
        return Prospect(OutlookCode.UNKNOWN, (words,))
    if last is not False:
        waits = "waits to be spoken to" if not last or end is case.held.server else "waits for an answer"
        return Prospect(OutlookCode.NEVER, (f"{whose} {waits}, and {timer}", *rescue(end, case, causes)))
    failing = "times out" if CauseCode.PATH_DEAD in causes else "is answered with a RST (ECONNRESET)"
    if strays:
        failing = "does not fit what the other end expects, and is reset or times out"
    elif CauseCode.RESET_LOST in causes or CauseCode.MIDDLEBOX_FORGOT in causes:
        failing += ", or times out if that is lost too"
    return Prospect(OutlookCode.FAILS_ON_WRITE, (f"{whose}: {timer}; its next write {failing}",))


def rescue(end: Socket, case: Case, causes: Causes) -> Iterator[str]:
    """What a byte of the client would still do."""
    if case.held.verdict is Verdict.HANDSHAKE_STUCK:
        yield "; a byte from it would complete the handshake if the server has room by then"
    elif (info := never_confirmed(case)) is not None and any(code in causes for code in BY_COOKIE):
        age = heard_s(end)
        proven = by_cookie(case, info) and any(causes.get(code) for code in BY_COOKIE)
        if proven and age is not None and age < COOKIE_LIFE:
            yield "; a byte within two minutes of connecting may still bring it to life"
        else:
            yield "; a write fails"


def backing_off(step: float, most: float) -> Iterator[float]:
    """Waits of a timer that doubles up to a limit, from this one on."""
    while True:
        yield step
        step = min(step * 2, most)


def retransmission_left(end: Socket, sysctls: Mapping[str, int]) -> float | None:
    """Seconds until data or a FIN that nobody acknowledges is given up: retransmits_timed_out over tcp_model_timeout.

    The kernel compares the time since the first repetition when the timer fires, so the end comes with a tick of it.
    """
    info, expires = end.info, end.timer_expires_s
    boundary = orphan_retries(sysctls) if end.inode == 0 and end.state in ORPHANS else tries(sysctls, "tcp_retries2")
    if info is None or expires is None or boundary is None:
        return None
    most, step, again = rto_max(sysctls), info.rto_us / 1e6, end.retransmits
    limit, left = model_timeout(boundary, most), expires
    first_repetition = first_rto_s(info) - trying_s(end)  # from now; its past is negative
    if not again:
        first_repetition, step = expires, min(step * 2, most)
        left += step
    while left - first_repetition < limit:
        step = max(min(step * 2, most), TICK)
        left += step
    return left


def model_timeout(boundary: int, most: float) -> float:
    """tcp_model_timeout: how long so many doublings from TCP_RTO_MIN take, none longer than the limit."""
    steps = backing_off(MIN_RTO, most)
    return sum(next(steps) for _ in range(boundary + 1))


def orphan_retries(sysctls: Mapping[str, int]) -> int | None:
    """tcp_orphan_retries: 0 means 8 while the peer may be alive."""
    found = tries(sysctls, "tcp_orphan_retries")
    return None if found is None else found or 8


def probes_left(end: Socket, sysctls: Mapping[str, int]) -> float | None:
    """Seconds until zero-window probes that nobody answers are given up: after tcp_retries2 of them."""
    limit, expires, info = tries(sysctls, "tcp_retries2"), end.timer_expires_s, end.info
    if limit is None or expires is None or info is None:
        return None
    most = rto_max(sysctls)
    steps = backing_off(min(info.rto_us / 1e6 * 2 ** (info.backoff + 1), most), most)
    return expires + sum(next(steps) for _ in range(max(0, limit - (end.retransmits or 0))))


def keepalive_left(end: Socket, sysctls: Mapping[str, int]) -> float | None:
    """Seconds until keepalive gives up if nobody answers: tcp_keepalive_probes at tcp_keepalive_intvl."""
    probes, interval = sysctls.get("tcp_keepalive_probes"), sysctls.get("tcp_keepalive_intvl")
    if probes is None or interval is None or end.timer_expires_s is None:
        return None
    sent = end.retransmits or 0
    if sent and end.timer_expires_s > interval:
        return None  # the program has set times of its own, and they are longer
    return end.timer_expires_s + max(0, interval) * max(0, probes - sent)


def request_left(end: Socket, sysctls: Mapping[str, int]) -> float | None:
    """Seconds until a request socket is forgotten: tcp_synack_retries, each wait twice the last."""
    limit, expires = tries(sysctls, "tcp_synack_retries"), end.timer_expires_s
    if limit is None or expires is None or end.retransmits is None:
        return None
    most = rto_max(sysctls)
    return expires + sum(min(2.0**again, most) for again in range(end.retransmits + 1, limit + 1))


def connect_left(end: Socket, sysctls: Mapping[str, int]) -> float | None:
    """Seconds until connect() fails: tcp_syn_retries, after tcp_syn_linear_timeouts of one second (Linux 6.5)."""
    limit, expires, info = tries(sysctls, "tcp_syn_retries"), end.timer_expires_s, end.info
    if limit is None or expires is None or info is None:
        return None
    linear = tries(sysctls, "tcp_syn_linear_timeouts") or 0
    left, step, sent = expires, info.rto_us / 1e6, end.retransmits or 0
    while sent < limit + linear:
        sent += 1
        if sent > linear:
            step = min(step * 2, rto_max(sysctls))
        left += step
    return left


def tries(sysctls: Mapping[str, int], name: str) -> int | None:
    """A setting that counts tries: a byte in the kernel (net/ipv4/sysctl_net_ipv4.c), anything from a broken host."""
    found = sysctls.get(name)
    return None if found is None else max(0, min(found, 255))


def rto_max(sysctls: Mapping[str, int]) -> float:
    """The longest wait between two repetitions (tcp_rto_max_ms, Linux 6.15)."""
    found = sysctls.get("tcp_rto_max_ms")
    return found / 1000 if found else MAX_RTO


GIVES_UP: dict[State | Timer, Callable[[Socket, Mapping[str, int]], float | None]] = {
    State.SYN_SENT: connect_left,
    State.SYN_RECV: request_left,
    Timer.RETRANSMIT: retransmission_left,
    Timer.PROBE: probes_left,
    Timer.KEEPALIVE: keepalive_left,
}
"""How long an end goes on, by its state where that decides, else by the timer that runs."""

SYSCTLS_READ = (
    "tcp_keepalive_intvl",
    "tcp_keepalive_probes",
    "tcp_orphan_retries",
    "tcp_retries2",
    "tcp_rto_max_ms",
    "tcp_syn_linear_timeouts",
    "tcp_syn_retries",
    "tcp_synack_retries",
)
"""The settings that decide when a timer ends an end, by the names of `HostEvidence`."""

GRAVITY = (OutlookCode.NEVER, OutlookCode.FAILS_ON_WRITE, OutlookCode.UNKNOWN, OutlookCode.HEALS)
"""Which of two ends decides what is said of both."""

LEADS: dict[OutlookCode, Sentence] = {
    OutlookCode.NEVER: ("never heals: ",),
    OutlookCode.FAILS_ON_WRITE: ("fails on the next write: ",),
    OutlookCode.HEALS: ("ends by itself: ",),
    OutlookCode.UNKNOWN: (),
}

RUNNING = (Timer.RETRANSMIT, Timer.PROBE, Timer.KEEPALIVE, Timer.TIMEWAIT)
ORPHANS = (State.FIN_WAIT1, State.CLOSING, State.LAST_ACK)
TICK = 0.001  # seconds; no timer is faster
BY_COOKIE = (CauseCode.ACCEPT_QUEUE_OVERFLOW, CauseCode.SYN_COOKIE_ACK_LOST)
COOKIE_LIFE = 120.0  # seconds; net/ipv4/syncookies.c MAX_SYNCOOKIE_AGE
