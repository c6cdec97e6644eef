"""Causes that lie in a program: it does not accept, does not close or does not read."""

from __future__ import annotations

from halfopen.judge.diagnosis.rules.rule import (
    Fact,
    Needs,
    Reason,
    Rule,
    Source,
    idle_fact,
    queue_facts,
)
from halfopen.judge.signs.case import Case, HostEvidence
from halfopen.judge.signs.phrase import Amount, seconds
from halfopen.judge.signs.tcp_signs import CLOSING, ends, heard_s, named, other_end, queued, window_closed
from halfopen.model import Collector, Socket
from halfopen.schema.report import CauseCode, Verdict
from halfopen.tcp import State


def not_accepting(case: Case) -> Reason | None:
    """The server's end is in the accept queue."""
    server = case.held.server
    if server is None or not queued(server) or case.listener is None or case.held.verdict is Verdict.DESYNCHRONIZED:
        return None
    facts, waiting = queue_facts(case), heard_s(server)
    if waiting is not None:
        facts.append(Fact(case.server.name, ("has had nothing from the client for ", seconds(waiting))))
    unread = (server.recv_q or 0) - fin_counts(server, case.server)
    if unread > 0:
        facts.append(Fact(case.server.name, ("holds ", Amount(unread), " bytes that nobody has read")))
    who = named(case.listener_process, f"the program that listens on {case.listener_name}")
    what = "did not accept it while we looked; lsof shows no such connection"
    if case.listener_process is not None and case.listener_process.stopped:
        what = f"{STOPPED} and accepts nothing; lsof shows no such connection"
    return Reason(
        CauseCode.APPLICATION_NOT_ACCEPTING,
        f"{who} {what}",
        tuple(facts),
        decisive=case.held.verdict is not Verdict.MISSING_ON_CLIENT,
    )


def not_closing(case: Case) -> Reason | None:
    """One end has been told that the other is done, and its program does not close."""
    if case.held.verdict not in (Verdict.HALF_CLOSED, Verdict.ABANDONED_CLOSE):
        return None
    found = closer(case)
    if found is None or not found[0].inode:
        return None
    end, host = found
    process = host.owner(end)
    facts = [Fact(host.name, ("holds it in CLOSE_WAIT: the other end's FIN has been received",))]
    facts += idle_fact(host.name, heard_s(end))
    fin = fin_counts(end, host)
    if end.recv_q is not None and end.recv_q > 1:
        facts.append(Fact(host.name, ("has left ", Amount(end.recv_q - fin), " bytes unread")))
    elif end.recv_q and fin:
        facts.append(Fact(host.name, ("has not read the end of the stream yet",)))
    program = process.name if process else "the program"
    if process is not None and process.stopped:
        program = f"{named(process, program)} {STOPPED}: it"
    by_design = ", or means to go on sending" if case.held.verdict is Verdict.HALF_CLOSED else ""
    return Reason(
        CauseCode.APPLICATION_NOT_CLOSING,
        f"{program} on {host.name} has been told that the other end is done and does not close{by_design}",
        tuple(facts),
        decisive=True,
    )


def not_reading(case: Case) -> Reason | None:
    """One end's data waits for room in the other's buffer, and its FIN waits behind that."""
    if case.held.verdict not in (Verdict.CLOSE_LOST, Verdict.STALLED):
        return None
    for end, host in ends(case):
        other, at = other_end(case, end)
        if other is None or not window_closed(end) or not other.recv_q:
            continue
        facts = [Fact(at.name, ("has ", Amount(other.recv_q), " bytes that its program has not read"))]
        if end.send_q:
            facts.append(Fact(host.name, ("waits with ", Amount(end.send_q), " more until there is room")))
        process = at.owner(other)
        who = f"{process.name} on {at.name}" if process else f"the program on {at.name}"
        what = "does not read"
        if end.state in CLOSING:
            what += f", and the FIN of {host.name} waits behind what it has not read"
        if process is not None and process.stopped:
            what = f"(pid {process.pid}) {STOPPED} and {what}"
        return Reason(CauseCode.APPLICATION_NOT_READING, f"{who} {what}", tuple(facts), decisive=True)
    return None


def fin_counts(end: Socket, host: HostEvidence) -> int:
    """1 where what is unread counts the FIN of the peer too, as Linux does once it has come (net/ipv4/tcp_diag.c).

    BSD does not, and programs of many systems do not tell which one it is.
    """
    anywhere = host.facts is not None and host.facts.collector in (Collector.NETSTAT, Collector.LSOF, Collector.PSUTIL)
    return int(end.state is State.CLOSE_WAIT and not anywhere)


def closer(case: Case) -> tuple[Socket, HostEvidence] | None:
    """The end in CLOSE_WAIT, with its host."""
    return next((found for found in ends(case) if found[0].state is State.CLOSE_WAIT), None)


STOPPED = "is stopped (state T, by SIGSTOP or a debugger)"

APPLICATION_RULES = (
    Rule(
        CauseCode.APPLICATION_NOT_ACCEPTING,
        Needs(
            vital=(Source.LISTENERS,),
            useful=(Source.TCP_INFO, Source.BACKLOGS, Source.SYSCTLS, Source.PROCESSES),
            sysctls=("somaxconn",),
        ),
        not_accepting,
    ),
    Rule(
        CauseCode.APPLICATION_NOT_CLOSING,
        Needs(
            useful=(Source.TCP_INFO, Source.PROCESSES),
        ),
        not_closing,
    ),
    Rule(
        CauseCode.APPLICATION_NOT_READING,
        Needs(
            vital=(Source.TIMERS,),
            useful=(Source.PROCESSES,),
        ),
        not_reading,
    ),
)
