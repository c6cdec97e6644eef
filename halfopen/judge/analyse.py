"""The one entry of the judgement: what was collected -> a Check of the report. Pure; live or saved is the same."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from halfopen import __version__
from halfopen.errors import Exit
from halfopen.findings import (
    SCHEMA,
    Check,
    Confidence,
    Finding,
    HostReport,
    Outcome,
    Report,
    Severity,
    Tool,
    Verdict,
)
from halfopen.inventory import CheckPlan
from halfopen.judge import summary
from halfopen.judge.match import BOTH_ESTABLISHED, Matching
from halfopen.judge.rounds import Held, held
from halfopen.judge.sections import (
    SEVERITIES,
    VERDICTS,
    counters_of,
    externals,
    finding_of,
    groups_of,
    host_report,
    listeners_of,
    matrix,
    pairs_of,
)
from halfopen.judge.standing import Evidence, case_of, host_error, is_by_fallback
from halfopen.model import Snapshot
from halfopen.tcp import State
from halfopen.words import duration, plural

if TYPE_CHECKING:
    from halfopen.judge.case import Case
    from halfopen.judge.diagnose import Diagnosis


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
    diagnoses = diagnosed(cases)
    groups, group_numbers = groups_of(cases, diagnoses, plan)
    findings = sorted(
        (finding_of(*parts, plan) for parts in zip(cases, diagnoses, group_numbers, strict=True)),
        key=lambda one: (SEVERITIES.index(one.severity), VERDICTS.index(one.verdict), one.connection.client),
    )
    names = tuple(dict.fromkeys((*plan.clients, *plan.servers, *plan.nat)))
    errors = {name: error for name in names if (error := host_error(name, evidence)) is not None}
    hosts = {name: host_report(name, evidence, errors.get(name)) for name in names}
    agreeing = sum(count for states, count in evidence.matching.agreeing.items() if states not in LEFTOVERS)
    connections = agreeing + len(findings)
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
    if (found := established(evidence.matching, lasting)) < plan.require_connections:
        missing.append(f"{plural(found, 'connection')} established at both ends, {plan.require_connections} required")
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
        agreeing=agreeing,
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


def diagnosed(cases: Sequence[Case]) -> list[Diagnosis]:
    """Why each is as it is. The rules are imported where there is something to explain: most runs have nothing."""
    if not cases:
        return []
    from halfopen.judge.diagnose import diagnose

    return [diagnose(case) for case in cases]


def without(matching: Matching, lasting: Sequence[Held]) -> Matching:
    """The matching when those that agreed in state and are findings no longer count as agreeing."""
    found = Tally(one.suspect.agreed for one in lasting if one.suspect.agreed is not None)
    return replace(matching, agreeing=+(Tally(matching.agreeing) - found)) if found else matching


def established(matching: Matching, lasting: Sequence[Held]) -> int:
    """Pairs that are ESTABLISHED at both ends, whatever else is wrong with them."""
    pairs = [(one.client.state, one.server.state) for one in lasting if one.client and one.server]
    return matching.agreeing.get(BOTH_ESTABLISHED, 0) + pairs.count(BOTH_ESTABLISHED)


def capped(one: Held, evidence: Evidence) -> Held:
    """A finding is proven by exact look-ups in both kernels. Whoever reads whole tables has observed it, no more."""
    snapshots = [evidence.snapshots.get(place.host) for place in (one.client_place, one.server_place)]
    by_fallback = any(snapshot is not None and is_by_fallback(snapshot) for snapshot in snapshots)
    return replace(one, confidence=Confidence.OBSERVED) if one.confidence is Confidence.PROVEN and by_fallback else one


def is_partial(name: str, evidence: Evidence) -> bool:
    """Whether a host was read, but not all of its sockets."""
    return not all(one.whole for one in evidence.snapshots[name].namespaces)


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


def notes_of(plan: CheckPlan, snapshots: Mapping[str, Snapshot], notes: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """What a reader should know about how the hosts of a check were read, host by host."""
    found = []
    for name in dict.fromkeys((*plan.clients, *plan.servers, *plan.nat)):
        facts = snapshots[name].facts
        found += [f"{name}: {gap}" for gap in (facts.gaps if facts else ())]
        found += [f"{name}: {note}" for host, note in notes if host == name]
    return tuple(dict.fromkeys(found))


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


LEFTOVERS = ((State.TIME_WAIT, None), (None, State.TIME_WAIT))
"""What a connection leaves behind for a minute, at one end: no connection."""

OUTCOMES = [Outcome.FINDINGS, Outcome.INCOMPLETE, Outcome.CLEAN]
