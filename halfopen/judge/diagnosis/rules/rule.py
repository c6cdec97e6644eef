"""What a rule is, and what it says: a cause with the facts that speak for it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from halfopen.judge.signs.case import Case, HostEvidence, is_full
from halfopen.judge.signs.phrase import Amount, Sentence, seconds
from halfopen.schema.report import CauseCode


class Fact(Struct, frozen=True):
    """Something that a host showed: a sentence whose first amount is its number."""

    host: str
    words: Sentence


class Claim(Struct, frozen=True):
    """That each finding with a cause is one of the events that a counter of a host has counted.

    `counter`: its name, or what was reckoned from several.
    """

    host: str
    netns: int | None
    counter: str
    events: int


class Reason(Struct, frozen=True):
    """A cause that fits a finding. `summary` holds no number of one finding, so that it is true of a whole group.

    `decisive`: seen in the act, or nothing else explains it. `claims`: what must be enough for all such findings.
    """

    code: CauseCode
    summary: str
    facts: tuple[Fact, ...]
    decisive: bool = False
    claims: tuple[Claim, ...] = ()


class Source(StrEnum):
    """Evidence that a host may give or not, beside the state, inode and queues of a socket, which every list has."""

    COUNTERS = "counters"  # /proc/net/netstat and /proc/net/snmp
    SYSCTLS = "sysctls"
    TCP_INFO = "tcp_info"
    TIMERS = "timers"  # the timer that runs, when it expires, and how often it has
    LISTENERS = "listeners"
    BACKLOGS = "backlogs"  # of listeners
    UPTIME = "uptime"
    PROCESSES = "processes"  # that hold a socket or a listener


class Needs(Struct, frozen=True):
    """What a rule reads. Without any one of the `vital` sources it never finds its cause;
    without one of the `useful` it finds it in fewer cases, or in more, or says less.

    `counters` and `sysctls`: which of them, by the names of `HostEvidence`.
    """

    vital: tuple[Source, ...] = ()
    useful: tuple[Source, ...] = ()
    counters: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()


class Rule(Struct, frozen=True):
    """How one cause is recognised. `find` stays silent (None) where its evidence is missing."""

    code: CauseCode
    needs: Needs
    find: Callable[[Case], Reason | None]


def counted(host: HostEvidence, *names: str) -> list[Fact]:
    """The counters that were read, as one fact: values since the namespace began, and their growth during the run."""
    words: Sentence = ()
    for name in names:
        value, delta = host.value(name), host.delta(name)
        if value is not None:
            words += (f"{', ' if words else ''}{name} ", Amount(value))
            words += (" (+", Amount(delta), " during the look)") if delta else ()
    return [Fact(host.name, (*words, " since boot"))] if words else []


def claims(host: HostEvidence, *names: str) -> tuple[Claim, ...]:
    """That a finding is among what these counters have counted, those that were read."""
    values = {name: host.value(name) for name in names}
    return tuple(Claim(host.name, host.netns, name, value) for name, value in values.items() if value is not None)


def idle_fact(host: str, idle: float | None) -> list[Fact]:
    """How long a socket has heard nothing."""
    return [] if idle is None else [Fact(host, ("has heard nothing for ", seconds(idle)))]


def queue_facts(case: Case) -> list[Fact]:
    """The listener's accept queue, and what limits it."""
    listener = case.listener
    if listener is None or listener.queue is None:
        return []
    process = case.listener_process
    who = f" ({process.name}, pid {process.pid})" if process else ""
    words: Sentence = (f"{case.listener_name}{who} has ", Amount(listener.queue))
    if listener.backlog is not None:
        words += (" of ", Amount(listener.backlog))
    return [Fact(case.server.name, (*words, " in its accept queue", *(limit(case) if is_full(listener) else ())))]


def limit(case: Case) -> Sentence:
    """That a queue is full, and who set its length: the argument of listen(), or somaxconn that caps it."""
    backlog, most = case.listener.backlog if case.listener else None, case.server.sysctls.get("somaxconn")
    if backlog is None or most is None:
        return (": full",)
    if backlog < most:
        return (": full; its own listen() is the limit, somaxconn ", Amount(most))
    return (": full; the limit is somaxconn, ", Amount(most))
