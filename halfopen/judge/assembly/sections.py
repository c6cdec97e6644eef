"""The sections of a report: findings and their groups, hosts, states, listeners, counters, what leads elsewhere."""

from __future__ import annotations

import hashlib
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from halfopen import address
from halfopen.errors import HostError
from halfopen.judge.assembly.headline import meaning
from halfopen.judge.assembly.policy import SEVERITIES
from halfopen.judge.assembly.questions import asked_words, questions_of
from halfopen.judge.assembly.run_evidence import Evidence, evidence_at
from halfopen.judge.assembly.times import moment
from halfopen.judge.confirm.rounds import Confirmed
from halfopen.judge.signs.case import Case, HostEvidence, is_full
from halfopen.judge.signs.tcp_signs import heard_s
from halfopen.matching.pairing.match import Matching
from halfopen.matching.places.reach import believed, gaps_of
from halfopen.matching.verdict.table import in_accept_queue
from halfopen.model import NetnsRef, Socket, show_connection
from halfopen.plan import CheckPlan
from halfopen.schema.report import (
    Confidence,
    ConnectionName,
    Counter,
    End,
    External,
    Failure,
    Finding,
    Group,
    HostPair,
    HostReport,
    Listener,
    MatrixRow,
    Severity,
    Verdict,
)
from halfopen.tcp import State, state_of

if TYPE_CHECKING:
    from halfopen.judge.advice.advised import Advised

T = TypeVar("T")
EXAMPLES = 3


def finding_of(advised: Advised, group: int, plan: CheckPlan) -> Finding:
    """The finding of the report for one case, its diagnosis and advice. `group`: the index of its group."""
    case, confirmed = advised.case, advised.case.held
    key = confirmed.suspect.client.key
    local, local_port, peer, peer_port = address.split_key(key)
    cause, *others = advised.causes
    from halfopen.judge.assembly.steps import steps_of  # imported here, because most runs have no finding

    return Finding(
        id=identity(case),
        verdict=confirmed.verdict,
        severity=advised.diagnosis.severity,
        confidence=confirmed.confidence,
        connection=ConnectionName(
            client=address.endpoint(local, local_port),
            server=address.endpoint(peer, peer_port),
            community_id=address.community_id(key),
        ),
        client=end_of(case.client, confirmed.client, confirmed.client_place.netns),
        server=end_of(case.server, confirmed.server, confirmed.server_place.netns),
        translation=confirmed.suspect.translation,
        cause=cause,
        other_causes=tuple(others),
        outlook=advised.outlook,
        remedies=advised.remedies,
        commands=advised.commands,
        allowed=confirmed.verdict in plan.allow,
        group=group,
        candidate=candidate_of(confirmed),
        asked=questions_of(confirmed),
        steps=steps_of(case, advised.diagnosis.reasons),
    )


def candidate_of(confirmed: Confirmed) -> str | None:
    """The socket that could be the absent end of a finding, as its own host has it; None if there is none."""
    if confirmed.candidate is None:
        return None
    return f"{show_connection(confirmed.candidate.key)} on {confirmed.candidate.netns.host}"


def identity(case: Case) -> str:
    """16 hex digits, stable for one connection: a hash of its tuple and of an end's boot and cookie (or inode)."""
    confirmed = case.held
    socket_id = ""
    for end, host in ((confirmed.client, case.client), (confirmed.server, case.server)):
        if end is not None and (end.cookie is not None or end.inode):
            boot = host.facts.boot_id if host.facts else None
            socket_id = f"{host.name} {boot} {end.cookie if end.cookie is not None else end.inode}"
            break
    hashed = confirmed.suspect.client.key + socket_id.encode("utf-8", "surrogateescape")
    return hashlib.sha256(hashed).hexdigest()[:16]


def end_of(host: HostEvidence, socket: Socket | None, netns: int | None) -> End | None:
    """One end of a finding for the report, times in seconds; None if there is no socket."""
    if socket is None:
        return None
    local, local_port, peer, peer_port = address.split_key(socket.key)
    process, info = host.owner(socket), socket.info
    # Before the handshake is done these two ages are not set, and show the time since boot.
    is_open = socket.state not in (State.SYN_SENT, State.SYN_RECV)
    idle = min(info.last_data_sent_ms, info.last_data_recv_ms) / 1000 if info is not None and is_open else None
    return End(
        host=host.name,
        local=address.endpoint(local, local_port),
        peer=address.endpoint(peer, peer_port),
        state=socket.state,
        pid=process.pid if process else None,
        process=(process.name or None) if process else None,
        command=process.command if process else None,
        unit=process.unit if process else None,
        uid=socket.uid,
        netns=netns,
        cookie=f"{socket.cookie:x}" if socket.cookie is not None else None,
        inode=socket.inode,
        recv_q=socket.recv_q,
        send_q=socket.send_q,
        timer=socket.timer,
        timer_expires_s=socket.timer_expires_s,
        retransmits=socket.retransmits,
        bytes_sent=info.bytes_sent if info else None,
        bytes_acked=info.bytes_acked if info else None,
        bytes_received=info.bytes_received if info else None,
        idle_s=idle,
        heard_s=heard_s(socket),
    )


def host_report(name: str, evidence: Evidence, error: HostError | None) -> HostReport:
    """One host for the report. `error`: why it could not be read, if so."""
    snapshot = evidence.snapshots[name]
    facts = snapshot.facts
    states: Tally[str] = Tally()
    for namespace in snapshot.namespaces:
        for number, count in namespace.table.states().items():
            states[state_of(number) or str(number)] += count
        if namespace.listeners:
            states[State.LISTEN] += len(namespace.listeners)
    read = bool(snapshot.namespaces)
    return HostReport(
        name=name,
        hostname=(facts.hostname or None) if facts else None,
        addresses=tuple(
            dict.fromkeys(
                address.show(own.address) for namespace in believed(snapshot).namespaces for own in namespace.addresses
            )
        ),
        kernel=(facts.kernel or None) if facts else None,
        uptime_s=facts.uptime_s if facts else None,
        transport=snapshot.transport,
        collector=facts.collector if facts else None,
        complete=error is None and read and all(namespace.whole for namespace in snapshot.namespaces),
        privileged=facts.privileged if facts else None,
        error=Failure(code=error.code, message=error.message, hint=error.hint) if error else None,
        sockets=sum(states.values()) if read else None,
        states={str(state): states[state] for state in sorted(states)},
        gaps=(*(facts.gaps if facts else ()), *gaps_of(snapshot)),
        booted_at=moment(facts.started_at) if facts else None,
        counting_s=evidence.hosts[name].counts_for_s if name in evidence.hosts else None,
    )


def matrix(matching: Matching, cases: Sequence[Advised]) -> tuple[MatrixRow, ...]:
    """Pairs of states with their hosts and counts: findings by severity and count, then what agrees."""
    wrong: Tally[MatrixRow] = Tally()
    for advised in cases:
        case, confirmed = advised.case, advised.case.held
        wrong[
            MatrixRow(
                client_host=case.client.name,
                server_host=case.server.name,
                client=confirmed.client.state if confirmed.client else None,
                server=confirmed.server.state if confirmed.server else None,
                count=1,
                verdict=confirmed.verdict,
                severity=advised.diagnosis.severity,
                confidence=confirmed.confidence,
                in_accept_queue=confirmed.client is not None
                and confirmed.server is not None
                and in_accept_queue(confirmed.client, confirmed.server),
            )
        ] += 1
    rows = [msgspec.structs.replace(row, count=count) for row, count in wrong.items()]
    rows.sort(key=lambda row: (SEVERITIES.index(row.severity or Severity.INFO), -row.count))
    agreeing = sorted(matching.agreements.items(), key=lambda item: (-item[1], str(item[0])))
    return (
        *rows,
        *(
            MatrixRow(
                client_host=agreement.client_host,
                server_host=agreement.server_host,
                client=agreement.client,
                server=agreement.server,
                count=count,
            )
            for agreement, count in agreeing
        ),
    )


def listeners_of(
    cases: Sequence[Case], servers: Iterable[str], ports: Sequence[int], evidence: Evidence
) -> tuple[Listener, ...]:
    """The LISTEN sockets of findings, those of the ports that were asked for, and any that are full.

    `servers`: the servers of the check, and hosts that are the server of a connection though the check names them
    as clients.
    """
    found: dict[tuple[str, bytes, int, int], Listener] = {}
    from_cases = {(case.server.name, case.listener) for case in cases if case.listener is not None}
    for name in dict.fromkeys(servers):
        for namespace in evidence.snapshots[name].namespaces:
            for listener in namespace.listeners:
                asked = listener.port in ports or bool(is_full(listener))
                if asked or (name, listener) in from_cases:
                    host = evidence.hosts.get(name) or HostEvidence(name)
                    process = host.owner(listener)
                    found[name, listener.address, listener.port, listener.scope] = Listener(
                        host=name,
                        address=address.show(listener.address),
                        port=listener.port,
                        process=(process.name or None) if process else None,
                        pid=process.pid if process else None,
                        queue=listener.queue,
                        backlog=listener.backlog,
                        full=is_full(listener),
                        somaxconn=evidence_at(NetnsRef(name, namespace.netns), evidence).sysctls.get("somaxconn"),
                    )
    return tuple(found[key] for key in sorted(found))


def pairs_of(cases: Sequence[Advised], plan: CheckPlan, fails: Sequence[bool]) -> tuple[HostPair, ...]:
    """Findings that the check does not allow, counted by (client's host, server's host) and severity; worst first.

    fails: whether each of the findings fails the run.
    """
    counts: dict[tuple[str, str], Tally[Severity]] = {}
    failing = set()
    for advised, failed in zip(cases, fails, strict=True):
        case = advised.case
        hosts = (case.client.name, case.server.name)
        if failed:
            failing.add(hosts)
        if case.held.verdict not in plan.allow:
            counts.setdefault(hosts, Tally())[advised.diagnosis.severity] += 1
    ranked = sorted(counts.items(), key=lambda row: ([-row[1][severity] for severity in Severity], row[0]))
    return tuple(
        HostPair(
            client=hosts[0],
            server=hosts[1],
            **{str(severity): count[severity] for severity in Severity},
            fails=hosts in failing,
        )
        for hosts, count in ranked
    )


def counters_of(evidence: Evidence) -> tuple[Counter, ...]:
    """The kernel counters that show dropped handshakes and lost peers, of each host and namespace that was asked."""
    return tuple(
        Counter(host=name, name=counter, value=value, delta=scope.delta(counter), netns=netns)
        for name, host in sorted(evidence.hosts.items())
        for netns in (None, *other_namespaces(host))
        for scope in (host if netns is None else host.within(netns),)
        for counter in COUNTERS
        if (value := scope.value(counter)) is not None
    )


def other_namespaces(host: HostEvidence) -> list[int]:
    """The network namespaces beside the host's own of which there are counters."""
    return sorted({int(name.partition("/")[0]) for name in host.after if "/" in name})


def externals(matching: Matching) -> tuple[External, ...]:
    """Sockets that lead to no host of the check, by host and peer, the most first."""
    ranked = sorted(matching.external.items(), key=lambda item: (-item[1], item[0]))
    return tuple(External(host=host, peer=peer, count=count) for (host, peer), count in ranked)


def groups_of(cases: Sequence[Advised], plan: CheckPlan) -> tuple[tuple[Group, ...], list[int]]:
    """Groups of findings with the same verdict, severity, causes, hosts, listener and process, the gravest first.

    Also the index of the group of each case.
    """
    found: dict[tuple[object, ...], list[int]] = {}
    for at, advised in enumerate(cases):
        case = advised.case
        told = advised.diagnosis
        key = (case.held.verdict, told.severity, told.codes, case.client.name, case.server.name, server_name(case))
        asked = tuple((end.host, end.answer) for end in questions_of(case.held))
        found.setdefault((*key, process_of(case), asked), []).append(at)
    made = [(group_of([cases[at] for at in members], plan), members) for members in found.values()]
    made.sort(key=lambda row: (SEVERITIES.index(row[0].severity), -row[0].count, row[0].listener or ""))
    numbers = {at: number for number, (_, members) in enumerate(made) for at in members}
    return tuple(group for group, _ in made), [numbers[at] for at in range(len(cases))]


def group_of(members: Sequence[Advised], plan: CheckPlan) -> Group:
    """One paragraph, true of all its members: what differs among them is given as a range or with its count."""
    case, codes = members[0].case, members[0].diagnosis.codes
    confirmed, cases = case.held, [member.case for member in members]
    # Imported here, with the rules, because most runs have no finding.
    from halfopen.judge.advice.advised import causes_of_all, commands_of_all, outlook_of, remedies_of_all
    from halfopen.judge.assembly.steps import steps_of

    why = causes_of_all(members)
    return Group(
        verdict=confirmed.verdict,
        severity=members[0].diagnosis.severity,
        confidence=max((member.held.confidence for member in cases), key=list(Confidence).index),
        cause=codes[0],
        causes=codes,
        listener=server_name(case),
        client_process=common(client_process(member) for member in cases),
        server_process=common(server_process(member) for member in cases),
        count=len(members),
        client_host=case.client.name,
        server_host=case.server.name,
        client_state=confirmed.client.state if confirmed.client else None,
        server_state=confirmed.server.state if confirmed.server else None,
        summary=meaning(confirmed.verdict, case.client.name, case.server.name)
        + asked_words(member.held for member in cases),
        examples=tuple(identity(member) for member in cases[:EXAMPLES]),
        outlook=outlook_of([member.diagnosis.prospect for member in members]),
        remedies=remedies_of_all(members),
        commands=commands_of_all(members),
        evidence=tuple(fact for cause in why for fact in cause.evidence),
        why=why,
        allowed=confirmed.verdict in plan.allow,
        steps=common(steps_of(member.case, member.diagnosis.reasons) for member in members) or (),
        client_first=common(member.held.suspect.client_first for member in cases),
    )


def server_name(case: Case) -> str:
    """Address and port of the server's end, whether or not a listener is there."""
    local, port, _, _ = address.split_key(case.held.suspect.server.key)
    return address.endpoint(local, port)


def process_of(case: Case) -> str | None:
    """The program by which findings are grouped: the client's, or the server's where the client's plays no part."""
    if case.held.verdict is Verdict.NEVER_ACCEPTED or case.held.client is None:
        return server_process(case)
    return client_process(case) or server_process(case)


def client_process(case: Case) -> str | None:
    """The program that holds the client's end."""
    process = case.client.owner(case.held.client)
    return (process.name or None) if process else None


def server_process(case: Case) -> str | None:
    """The program that holds the server's end, or that listens there for it."""
    process = case.server.owner(case.held.server) or case.listener_process
    return (process.name or None) if process else None


def common(found_of_each: Iterable[T]) -> T | None:
    """What all have, if it is the same; None if it differs."""
    found = set(found_of_each)
    return found.pop() if len(found) == 1 else None


VERDICTS = list(Verdict)

COUNTERS = (
    "ListenOverflows",
    "ListenDrops",
    "SyncookiesSent",
    "SyncookiesRecv",
    "SyncookiesFailed",
    "TCPReqQFullDrop",
    "TCPReqQFullDoCookies",
    "TCPDeferAcceptDrop",
    "EmbryonicRsts",
    "TCPAbortOnTimeout",
    "TCPSynRetrans",
    "TCPTimeouts",
    "OutRsts",
    "EstabResets",
    "TCPAbortOnData",
    "TCPAbortOnClose",
)
