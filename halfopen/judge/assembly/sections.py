"""The sections of a report: findings and their groups, hosts, states, listeners, counters, what leads elsewhere."""

from __future__ import annotations

import hashlib
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from halfopen import address
from halfopen.errors import HostError
from halfopen.judge.assembly import headline as summary
from halfopen.judge.assembly.run_evidence import Evidence
from halfopen.judge.confirm.bracket import Unjudged
from halfopen.judge.diagnosis.case import Case, HostEvidence, is_full
from halfopen.judge.pairing.match import Matching
from halfopen.judge.verdict.table import SEVERITY, in_accept_queue
from halfopen.model import Socket
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
    UnjudgedRow,
    Verdict,
)
from halfopen.tcp import State, state_of

if TYPE_CHECKING:
    from halfopen.judge.diagnosis.diagnose import Diagnosis

EXAMPLES = 3


def finding_of(case: Case, diagnosis: Diagnosis, group: int, plan: CheckPlan) -> Finding:
    """A case as the report tells it."""
    one = case.held
    key = one.suspect.client.key
    local, local_port, peer, peer_port = address.split_key(key)
    cause, *others = diagnosis.causes
    return Finding(
        id=identity(case),
        verdict=one.verdict,
        severity=SEVERITY[one.verdict],
        confidence=one.confidence,
        connection=ConnectionName(
            client=address.endpoint(local, local_port),
            server=address.endpoint(peer, peer_port),
            community_id=address.community_id(key),
        ),
        client=end_of(case.client, one.client, one.client_place.netns),
        server=end_of(case.server, one.server, one.server_place.netns),
        translation=one.suspect.translation,
        cause=cause,
        other_causes=tuple(others),
        outlook=diagnosis.outlook,
        remedies=diagnosis.remedies,
        commands=diagnosis.commands,
        allowed=one.verdict in plan.allow,
        group=group,
    )


def identity(case: Case) -> str:
    """The same for one connection in one life: its tuple, and the cookie of an end in the boot of its host."""
    one = case.held
    for end, host in ((one.client, case.client), (one.server, case.server)):
        if end is not None and (end.cookie is not None or end.inode):
            boot = host.facts.boot_id if host.facts else None
            life = f"{host.name} {boot} {end.cookie if end.cookie is not None else end.inode}"
            break
    else:
        life = ""
    return hashlib.sha256(one.suspect.client.key + life.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def end_of(host: HostEvidence, socket: Socket | None, netns: int | None) -> End | None:
    """One end of a finding for the report."""
    if socket is None:
        return None
    local, local_port, peer, peer_port = address.split_key(socket.key)
    process, info = host.owner(socket), socket.info
    # Before the handshake is done these two clocks have not been set, and tell the time since boot.
    spoken = socket.state not in (State.SYN_SENT, State.SYN_RECV)
    idle = min(info.last_data_sent_ms, info.last_data_recv_ms) / 1000 if info is not None and spoken else None
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
    )


def host_report(name: str, evidence: Evidence, error: HostError | None) -> HostReport:
    """One host as the report tells it."""
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
            dict.fromkeys(address.show(one.address) for namespace in snapshot.namespaces for one in namespace.addresses)
        ),
        kernel=(facts.kernel or None) if facts else None,
        uptime_s=facts.uptime_s if facts else None,
        transport=snapshot.transport,
        collector=facts.collector if facts else None,
        complete=error is None and read and all(one.whole for one in snapshot.namespaces),
        privileged=facts.privileged if facts else None,
        error=Failure(code=error.code, message=error.message, hint=error.hint) if error else None,
        sockets=sum(states.values()) if read else None,
        states={str(state): states[state] for state in sorted(states)},
        gaps=facts.gaps if facts else (),
    )


def matrix(matching: Matching, cases: Sequence[Case]) -> tuple[MatrixRow, ...]:
    """Pairs of states with their hosts and counts: what does not agree first, by severity and count."""
    wrong: Tally[MatrixRow] = Tally()
    for case in cases:
        one = case.held
        wrong[
            MatrixRow(
                client_host=case.client.name,
                server_host=case.server.name,
                client=one.client.state if one.client else None,
                server=one.server.state if one.server else None,
                count=1,
                verdict=one.verdict,
                severity=SEVERITY[one.verdict],
                confidence=one.confidence,
                in_accept_queue=one.client is not None
                and one.server is not None
                and in_accept_queue(one.client, one.server),
            )
        ] += 1
    rows = [msgspec.structs.replace(row, count=count) for row, count in wrong.items()]
    rows.sort(key=lambda row: (SEVERITIES.index(row.severity or Severity.INFO), -row.count))
    agreeing = sorted(matching.agreements.items(), key=lambda item: (-item[1], str(item[0])))
    return (
        *rows,
        *(
            MatrixRow(
                client_host=one.client_host,
                server_host=one.server_host,
                client=one.client,
                server=one.server,
                count=count,
            )
            for one, count in agreeing
        ),
    )


def listeners_of(
    cases: Sequence[Case], servers: Iterable[str], ports: Sequence[int], evidence: Evidence
) -> tuple[Listener, ...]:
    """The LISTEN sockets of findings, those of the ports that were asked for, and any that are full.

    `servers`: the hosts that the check has as such, and those that are the server of a connection all the same.
    """
    found: dict[tuple[str, bytes, int, int], Listener] = {}
    from_cases = {(case.server.name, case.listener) for case in cases if case.listener is not None}
    for name in dict.fromkeys(servers):
        for namespace in evidence.snapshots[name].namespaces:
            for one in namespace.listeners:
                asked = one.port in ports or bool(is_full(one))
                if asked or (name, one) in from_cases:
                    host = evidence.hosts.get(name) or HostEvidence(name)
                    process = host.owner(one)
                    found[name, one.address, one.port, one.scope] = Listener(
                        host=name,
                        address=address.show(one.address),
                        port=one.port,
                        process=(process.name or None) if process else None,
                        pid=process.pid if process else None,
                        queue=one.queue,
                        backlog=one.backlog,
                        full=is_full(one),
                    )
    return tuple(found[key] for key in sorted(found))


def pairs_of(cases: Sequence[Case], plan: CheckPlan) -> tuple[HostPair, ...]:
    """Which hosts the findings are between."""
    return summary.worst_pairs(
        (case.client.name, case.server.name, SEVERITY[case.held.verdict])
        for case in cases
        if case.held.verdict not in plan.allow
    )


def counters_of(evidence: Evidence) -> tuple[Counter, ...]:
    """The counters that tell of dropped handshakes and lost peers, of each host that was asked for them."""
    return tuple(
        Counter(host=name, name=counter, value=value, delta=there.delta(counter), netns=netns)
        for name, host in sorted(evidence.hosts.items())
        for netns in (None, *other_namespaces(host))
        for there in (host if netns is None else host.within(netns),)
        for counter in COUNTERS
        if (value := there.value(counter)) is not None
    )


def other_namespaces(host: HostEvidence) -> list[int]:
    """The network namespaces beside the host's own of which there are counters."""
    return sorted({int(name.partition("/")[0]) for name in host.after if "/" in name})


def externals(matching: Matching) -> tuple[External, ...]:
    """Sockets that lead elsewhere, the most first."""
    ranked = sorted(matching.external.items(), key=lambda item: (-item[1], item[0]))
    return tuple(External(host=host, peer=peer, count=count) for (host, peer), count in ranked)


def unjudged_rows(unjudged: Sequence[Unjudged]) -> tuple[UnjudgedRow, ...]:
    """The connections that were not judged and whose reason has a word, in the order of their clients."""
    rows = []
    for one in unjudged:
        if one.reason is not None and one.survivor is not None:
            local, local_port, peer, peer_port = address.split_key(one.suspect.client.key)
            rows.append(
                UnjudgedRow(
                    client=address.endpoint(local, local_port),
                    server=address.endpoint(peer, peer_port),
                    host=one.survivor.place.host,
                    state=one.survivor.looks[-1].state,
                    reason=one.reason,
                )
            )
    return tuple(sorted(rows, key=lambda row: (row.reason, row.client)))


def groups_of(
    cases: Sequence[Case], diagnoses: Sequence[Diagnosis], plan: CheckPlan
) -> tuple[tuple[Group, ...], list[int]]:
    """Findings with one verdict, causes, listener and process as one paragraph each, the gravest and largest first.

    Also: for each case the index of its group.
    """
    found: dict[tuple[object, ...], list[int]] = {}
    for at, (case, diagnosis) in enumerate(zip(cases, diagnoses, strict=True)):
        key = (case.held.verdict, diagnosis.codes, case.client.name, case.server.name, server_name(case))
        found.setdefault((*key, process_of(case)), []).append(at)
    made = [(group_of([(cases[at], diagnoses[at]) for at in members], plan), members) for members in found.values()]
    made.sort(key=lambda one: (SEVERITIES.index(one[0].severity), -one[0].count, one[0].listener or ""))
    numbers = {at: number for number, (_, members) in enumerate(made) for at in members}
    return tuple(group for group, _ in made), [numbers[at] for at in range(len(cases))]


def group_of(members: Sequence[tuple[Case, Diagnosis]], plan: CheckPlan) -> Group:
    """One paragraph, true of all its members: what differs among them is told as a range or with its count."""
    case, diagnosis = members[0]
    one = case.held
    order = [member.held.confidence for member, _ in members]
    # Imported with the rules: where there is a finding.
    from halfopen.judge.diagnosis.diagnose import causes_of_all, commands_of_all, remedies_of_all
    from halfopen.judge.diagnosis.outlook import outlook_of

    diagnoses = [member for _, member in members]
    why = causes_of_all(diagnoses)
    return Group(
        verdict=one.verdict,
        severity=SEVERITY[one.verdict],
        confidence=max(order, key=list(Confidence).index),
        cause=diagnosis.codes[0],
        causes=diagnosis.codes,
        listener=server_name(case),
        client_process=common(client_process(member) for member, _ in members),
        server_process=common(server_process(member) for member, _ in members),
        count=len(members),
        client_host=case.client.name,
        server_host=case.server.name,
        client_state=one.client.state if one.client else None,
        server_state=one.server.state if one.server else None,
        summary=summary.meaning(one.verdict, case.client.name, case.server.name),
        examples=tuple(identity(member) for member, _ in members[:EXAMPLES]),
        outlook=outlook_of([member.prospect for member in diagnoses]),
        remedies=remedies_of_all(diagnoses),
        commands=commands_of_all(diagnoses),
        evidence=tuple(fact for cause in why for fact in cause.evidence),
        why=why,
        allowed=one.verdict in plan.allow,
    )


def server_name(case: Case) -> str:
    """The server's end of a case, as the client dials it: the listener, or what would be one."""
    local, port, _, _ = address.split_key(case.held.suspect.server.key)
    return address.endpoint(local, port)


def process_of(case: Case) -> str | None:
    """The program that tells findings apart: the client's, or where it is not there or not to blame the server's."""
    one = case.held
    if one.verdict is Verdict.NEVER_ACCEPTED or one.client is None:
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


def common(names: Iterable[str | None]) -> str | None:
    """The one name of all, None if they differ."""
    found = set(names)
    return found.pop() if len(found) == 1 else None


SEVERITIES = list(Severity)
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
