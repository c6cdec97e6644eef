"""The one entry of the judgement: what was collected -> a Check of the report. Pure; live or saved is the same."""

from __future__ import annotations

import hashlib
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from halfopen import __version__, address
from halfopen.errors import Exit, HostError
from halfopen.findings import (
    SCHEMA,
    Check,
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
    Outcome,
    Report,
    Severity,
    Tool,
    Verdict,
)
from halfopen.inventory import CheckPlan
from halfopen.judge import summary
from halfopen.judge.case import Case, HostEvidence, is_full, listener_of
from halfopen.judge.diagnose import Diagnosis, causes_of_all, diagnose, remedies_of_all
from halfopen.judge.match import Matching, Suspect
from halfopen.judge.outlook import outlook_of
from halfopen.judge.rounds import Bracket, Held, held
from halfopen.judge.verdict import SEVERITY, in_accept_queue
from halfopen.judge.wide import Counts
from halfopen.model import Collector, Place, Snapshot, Socket
from halfopen.tcp import State, state_of
from halfopen.words import duration, plural

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a check rests on: the first look at each host, its matching, and the brackets around the suspects."""

    snapshots: Mapping[str, Snapshot]
    matching: Matching
    brackets: Sequence[Bracket] = ()
    hosts: Mapping[str, HostEvidence] = field(default_factory=dict)
    notes: Sequence[str] = ()
    elapsed_s: float | None = None
    counts: Counts = field(default_factory=dict)
    missing: Sequence[str] = ()  # why "clean" cannot be said, beyond what snapshots and brackets show


@dataclass(frozen=True, slots=True)
class Policy:
    """What makes a run fail: findings at or above `fail_on` (None: nothing), beside a check's own allow and max."""

    fail_on: Severity | None = Severity.CRITICAL


def analyse(plan: CheckPlan, evidence: Evidence, policy: Policy) -> Check:
    """One check's report."""
    lasting, unseen = held(evidence.matching.suspects, evidence.brackets) if evidence.brackets else ([], [])
    evidence = replace(evidence, matching=without(evidence.matching, lasting))
    lasting = [capped(one, evidence) for one in lasting]
    cases = [case_of(one, evidence) for one in lasting]
    diagnoses = [diagnose(case) for case in cases]
    groups, group_numbers = groups_of(cases, diagnoses, plan)
    findings = sorted(
        (finding_of(*parts, plan) for parts in zip(cases, diagnoses, group_numbers, strict=True)),
        key=lambda one: (SEVERITIES.index(one.severity), VERDICTS.index(one.verdict), one.connection.client),
    )
    names = tuple(dict.fromkeys((*plan.clients, *plan.servers, *plan.nat)))
    errors = {name: error for name in names if (error := host_error(name, evidence)) is not None}
    hosts = {name: host_report(name, evidence, errors.get(name)) for name in names}
    connections = sum(evidence.matching.agreeing.values()) + len(findings)
    missing = [f"{name} could not be read" for name in errors]
    doubts = Tally(one.doubt for one in unseen)
    missing += [
        f"{plural(count, 'connection')} could not be judged: {doubt}" for doubt, count in doubts.items() if doubt
    ]
    if doubts[None] and not errors:
        missing.append(f"{plural(doubts[None], 'connection')} could not be looked at again")
    if evidence.matching.unjudged and not errors:
        missing.append(f"{plural(evidence.matching.unjudged, 'connection')} could not be judged")
    missing += [f"{name} was read in part" for name in names if name not in errors and is_partial(name, evidence)]
    missing += evidence.missing
    if connections < plan.require_connections:
        missing.append(f"{plural(connections, 'connection')} found, {plan.require_connections} required")
    failing = over_threshold(findings, plan, policy)
    outcome, code = outcome_of(findings, failing, missing)
    headline, details = headline_of(plan, findings, missing, tuple(hosts.values()), connections, outcome, evidence)
    return Check(
        name=plan.name,
        headline=headline,
        details=details,
        outcome=outcome,
        exit_code=code,
        client=hosts[plan.clients[0]],
        server=hosts[plan.servers[0]],
        hosts=tuple(hosts.values()),
        rounds=max(1, len(evidence.brackets)),
        connections=connections,
        agreeing=sum(evidence.matching.agreeing.values()),
        state_matrix=matrix(evidence.matching, cases),
        listeners=listeners_of(cases, plan, evidence),
        counters=counters_of(evidence),
        external=externals(evidence.matching),
        findings=tuple(findings),
        groups=groups,
        notes=(*evidence.notes, *evidence.matching.notes, *(missing if outcome is Outcome.FINDINGS else ())),
        elapsed_s=evidence.elapsed_s,
        pairs=pairs_of(cases, plan) if len({*plan.clients, *plan.servers}) > 2 else (),
        nat=tuple(plan.nat),
    )


def without(matching: Matching, lasting: Sequence[Held]) -> Matching:
    """The matching when those that agreed in state and are findings no longer count as agreeing."""
    found = Tally(one.suspect.agreed for one in lasting if one.suspect.agreed is not None)
    return replace(matching, agreeing=+(Tally(matching.agreeing) - found)) if found else matching


def capped(one: Held, evidence: Evidence) -> Held:
    """A finding is proven by exact look-ups in both kernels. Whoever reads whole tables has observed it, no more."""
    snapshots = [evidence.snapshots.get(place.host) for place in (one.client_place, one.server_place)]
    by_fallback = any(snapshot is not None and is_by_fallback(snapshot) for snapshot in snapshots)
    return replace(one, confidence=Confidence.OBSERVED) if one.confidence is Confidence.PROVEN and by_fallback else one


def is_partial(name: str, evidence: Evidence) -> bool:
    """Whether a host was read, but not all of its sockets."""
    return not all(one.whole for one in evidence.snapshots[name].namespaces)


def case_of(one: Held, evidence: Evidence) -> Case:
    """A finding with what is known of its two hosts."""
    sides = [evidence_at(place, evidence) for place in (one.client_place, one.server_place)]
    snapshot = evidence.snapshots.get(one.server_place.host)
    return Case(one, sides[0], sides[1], listener_of(snapshot, one.server_place, one.suspect.server.key))


def evidence_at(place: Place, evidence: Evidence) -> HostEvidence:
    """What is known of a host, as it is in one of its namespaces: the first is the host's own."""
    host = evidence.hosts.get(place.host) or HostEvidence(place.host)
    snapshot = evidence.snapshots.get(place.host)
    own = snapshot is None or not snapshot.namespaces or snapshot.namespaces[0].netns == place.netns
    return host if own else host.within(place.netns)


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


def host_error(name: str, evidence: Evidence) -> HostError | None:
    """Why a host could not be read, at the first look or at a later one."""
    snapshot = evidence.snapshots.get(name)
    if snapshot is not None and snapshot.error is not None:
        return snapshot.error
    return next((bracket.errors[name] for bracket in evidence.brackets if name in bracket.errors), None)


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


def over_threshold(findings: Sequence[Finding], plan: CheckPlan, policy: Policy) -> bool:
    """Whether the findings fail the run."""
    counts = Tally(one.verdict for one in findings)
    if any(counts[Verdict(verdict)] > most for verdict, most in plan.max.items()):
        return True
    if policy.fail_on is None:
        return False
    limit = SEVERITIES.index(policy.fail_on)
    return any(
        SEVERITIES.index(one.severity) <= limit and not one.allowed and one.verdict not in plan.max for one in findings
    )


def outcome_of(findings: Sequence[Finding], failing: bool, missing: Sequence[str]) -> tuple[Outcome, int]:
    """The answer in one word, and the exit status: missing evidence never reads as clean."""
    if failing:
        return Outcome.FINDINGS, Exit.FINDINGS
    if missing:
        return Outcome.INCOMPLETE, Exit.INCOMPLETE
    counted = [one for one in findings if not one.allowed]
    return (Outcome.FINDINGS if counted else Outcome.CLEAN), Exit.CLEAN


def headline_of(
    plan: CheckPlan,
    findings: Sequence[Finding],
    missing: Sequence[str],
    hosts: Sequence[HostReport],
    connections: int,
    outcome: Outcome,
    evidence: Evidence,
) -> tuple[str, tuple[str, ...]]:
    """The answer in one line, and the lines that must not be missed beside it."""
    counted = [one for one in findings if not one.allowed]
    ports = plan.ports or [port for one in counted if (port := summary.port_of(one.connection.server)) is not None]
    where = summary.target(plan.clients, plan.servers, ports)
    took = f", {duration(evidence.elapsed_s)}" if evidence.elapsed_s is not None else ""
    if counted:
        head = summary.headline_of_findings(counted, where)
        if all(one.confidence is Confidence.INFERRED for one in counted):
            head += "; inferred from one moment of each"
        return (f"incomplete  {where}: {missing[0]}; {head}" if outcome is Outcome.INCOMPLETE else head), tuple(
            f"incomplete: {one}" for one in (missing if outcome is Outcome.FINDINGS else missing[1:])
        )
    if missing:
        tail = ", so nothing can be said about its end" if "could not be read" in missing[0] else ""
        return f"incomplete  {where}: {missing[0]}{tail}", tuple(missing[1:])
    if not connections:
        strays = [(host, peer, count) for (host, peer), count in evidence.matching.external.items()]
        head, advice = summary.nothing_compared(where, hosts, strays, plan.ports)
        return head, (advice,)
    read = f"({plural(len(hosts), 'host')} read completely{took})"
    allowed = f"; {len(findings)} more allowed" if findings else ""
    agreeing = plural(connections - len(findings), "connection")
    return f"clean  {where}: {agreeing}, both ends agree{allowed} {read}", ()


def matrix(matching: Matching, cases: Sequence[Case]) -> tuple[MatrixRow, ...]:
    """Pairs of states with their counts: what does not agree first, by severity and count."""
    wrong: Tally[tuple[str | None, str | None, Verdict, Confidence, bool]] = Tally()
    for case in cases:
        one = case.held
        queued = one.client is not None and one.server is not None and in_accept_queue(one.client, one.server)
        states = [end.state if end else None for end in (one.client, one.server)]
        wrong[states[0], states[1], one.verdict, one.confidence, queued] += 1
    rows = [
        MatrixRow(
            client=client,
            server=server,
            count=count,
            verdict=verdict,
            severity=SEVERITY[verdict],
            confidence=confidence,
            in_accept_queue=queued,
        )
        for (client, server, verdict, confidence, queued), count in wrong.items()
    ]
    rows.sort(key=lambda row: (SEVERITIES.index(row.severity or Severity.INFO), -row.count))
    agreeing = sorted(matching.agreeing.items(), key=lambda item: (-item[1], str(item[0])))
    return (*rows, *(MatrixRow(client=pair[0], server=pair[1], count=count) for pair, count in agreeing))


def listeners_of(cases: Sequence[Case], plan: CheckPlan, evidence: Evidence) -> tuple[Listener, ...]:
    """The LISTEN sockets of findings, those of the ports that were asked for, and any that are full."""
    found: dict[tuple[str, bytes, int, int], Listener] = {}
    from_cases = {(case.server.name, case.listener) for case in cases if case.listener is not None}
    for name in plan.servers:
        for namespace in evidence.snapshots[name].namespaces:
            for one in namespace.listeners:
                asked = one.port in plan.ports or bool(is_full(one))
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
    diagnoses = [member for _, member in members]
    why = causes_of_all(diagnoses)
    return Group(
        verdict=one.verdict,
        severity=SEVERITY[one.verdict],
        confidence=max(order, key=list(Confidence).index),
        cause=diagnosis.codes[0],
        causes=diagnosis.codes,
        listener=server_name(case),
        process=process_of(case),
        count=len(members),
        client_host=case.client.name,
        server_host=case.server.name,
        client_state=one.client.state if one.client else None,
        server_state=one.server.state if one.server else None,
        summary=summary.meaning(one.verdict, case.client.name, case.server.name),
        examples=tuple(identity(member) for member, _ in members[:EXAMPLES]),
        outlook=outlook_of([member.prospect for member in diagnoses]),
        remedies=remedies_of_all(diagnoses),
        evidence=tuple(fact for cause in why for fact in cause.evidence),
        why=why,
        allowed=one.verdict in plan.allow,
    )


def server_name(case: Case) -> str:
    """The server's end of a case, as the client dials it: the listener, or what would be one."""
    local, port, _, _ = address.split_key(case.held.suspect.server.key)
    return address.endpoint(local, port)


def process_of(case: Case) -> str | None:
    """The program that holds the end of a finding: the server's where it is there, else the client's."""
    one = case.held
    if one.verdict is Verdict.NEVER_ACCEPTED or one.client is None:
        process = case.server.owner(one.server) or case.listener_process
    else:
        process = case.client.owner(one.client) or case.server.owner(one.server)
    return (process.name or None) if process else None


def wanted_inodes(plan_suspects: Sequence[Suspect], evidence: Evidence) -> dict[str, set[int]]:
    """Host -> inodes whose processes the report needs: those of findings and of their listeners, and no others."""
    found: dict[str, set[int]] = {}
    lasting, _ = held(plan_suspects, evidence.brackets)
    for one in lasting:
        case = case_of(one, evidence)
        for host, socket in (
            (case.client.name, one.client),
            (case.server.name, one.server),
            (case.server.name, case.listener),
        ):
            if socket is not None and socket.inode:
                found.setdefault(host, set()).add(socket.inode)
    return found


def notes_of(plan: CheckPlan, snapshots: Mapping[str, Snapshot], notes: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """What a reader should know about how the hosts of a check were read, host by host."""
    found = []
    for name in dict.fromkeys((*plan.clients, *plan.servers, *plan.nat)):
        facts = snapshots[name].facts
        found += [f"{name}: {gap}" for gap in (facts.gaps if facts else ())]
        found += [f"{name}: {note}" for host, note in notes if host == name]
    return tuple(dict.fromkeys(found))


def involved(suspects: Sequence[Suspect]) -> set[str]:
    """The hosts that have an end of one of these, or would have it."""
    return {place.host for one in suspects for ask in (one.client, one.server) for place in ask.places}


def is_by_fallback(snapshot: Snapshot) -> bool:
    """Whether a host was read by something that knows no cookies."""
    return snapshot.facts is not None and snapshot.facts.collector is not Collector.NETLINK


def report_of(checks: Sequence[Check], started: datetime, finished: datetime) -> Report:
    """Checks -> the whole answer; the worst first, and the exit status of all of them."""
    ordered = sorted(checks, key=lambda one: (OUTCOMES.index(one.outcome), -len(one.findings)))
    codes = {one.exit_code for one in checks}
    code = next((code for code in (Exit.FINDINGS, Exit.INCOMPLETE) if code in codes), Exit.CLEAN)
    outcome = ordered[0].outcome if code is not Exit.INCOMPLETE else Outcome.INCOMPLETE
    return Report(
        schema_=SCHEMA,
        tool=Tool(name="halfopen", version=__version__),
        started_at=stamp(started),
        finished_at=stamp(finished),
        outcome=outcome,
        exit_code=code,
        checks=tuple(ordered),
    )


def stamp(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


SEVERITIES = list(Severity)
OUTCOMES = [Outcome.FINDINGS, Outcome.INCOMPLETE, Outcome.CLEAN]
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
)
