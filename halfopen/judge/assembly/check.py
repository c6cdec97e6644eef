"""The one entry of the judgement: what was collected -> a Check of the report. Pure; live or saved is the same."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from halfopen import __version__, address
from halfopen.errors import Exit
from halfopen.judge.assembly import headline as summary
from halfopen.judge.assembly.run_evidence import Evidence, case_of, host_error, is_by_fallback
from halfopen.judge.assembly.sections import (
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
    unjudged_rows,
)
from halfopen.judge.confirm.bracket import Confirmed, held
from halfopen.judge.pairing.match import BOTH_ESTABLISHED, Matching, agreement_of
from halfopen.judge.pairing.pair import notes_on_names, one_name_each, under_one_name
from halfopen.model import Snapshot
from halfopen.plan import CheckPlan
from halfopen.schema.report import (
    SCHEMA,
    Check,
    Confidence,
    Finding,
    Group,
    HostReport,
    MatrixRow,
    Outcome,
    Report,
    Severity,
    Tool,
    Verdict,
)
from halfopen.tcp import State
from halfopen.words import duration, plural

if TYPE_CHECKING:
    from halfopen.judge.diagnosis.case import Case
    from halfopen.judge.diagnosis.diagnose import Diagnosis


@dataclass(frozen=True, slots=True)
class Policy:
    """What makes a run fail: findings at or above `fail_on` (None: nothing), beside a check's own allow and max."""

    fail_on: Severity | None = Severity.CRITICAL


def analyse(plan: CheckPlan, evidence: Evidence, policy: Policy) -> Check:
    """One check's report."""
    names_of_one = one_name_each(plan, evidence.snapshots)
    plan = under_one_name(plan, names_of_one)
    lasting, unjudged = held(evidence.matching.suspects, evidence.brackets) if evidence.brackets else ([], [])
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
    doubts = Tally(one.why for one in unjudged if one.reason not in plan.allow)
    missing += [
        f"{plural(count, 'connection')} could not be judged: {doubt}" for doubt, count in doubts.items() if doubt
    ]
    if doubts[None] and not errors:
        missing.append(f"{plural(doubts[None], 'connection')} could not be looked at again")
    if evidence.matching.unjudged and not errors:
        missing.append(f"{plural(evidence.matching.unjudged, 'connection')} could not be judged")
    missing += [f"{name} was read in part" for name in names if name not in errors and is_partial(name, evidence)]
    missing += grave_ambiguities(lasting, plan)
    missing += evidence.missing
    if (found := established(evidence.matching, lasting)) < plan.require_connections:
        missing.append(f"{plural(found, 'connection')} established at both ends, {plan.require_connections} required")
    failing = over_threshold(findings, plan, policy)
    outcome, code = outcome_of(findings, failing, missing)
    tolerated = sum(one.reason in plan.allow for one in unjudged)
    rows = matrix(evidence.matching, cases)
    headline, details = headline_of(
        plan, findings, groups, rows, missing, tuple(hosts.values()), connections, tolerated, outcome, evidence
    )
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
        state_matrix=rows,
        listeners=listeners_of(cases, [*plan.servers, *(row.server_host for row in rows)], plan.ports, evidence),
        counters=counters_of(evidence),
        external=externals(evidence.matching),
        unjudged=unjudged_rows(unjudged),
        findings=tuple(findings),
        groups=groups,
        notes=(
            *notes_on_names(names_of_one),
            *claimed_twice(lasting),
            *evidence.notes,
            *evidence.matching.notes,
            *(missing if outcome is Outcome.FINDINGS else ()),
        ),
        elapsed_s=evidence.elapsed_s,
        pairs=pairs_of(cases, plan) if len({*plan.clients, *plan.servers}) > 2 else (),
        nat=tuple(plan.nat),
    )


def diagnosed(cases: Sequence[Case]) -> list[Diagnosis]:
    """Why each is as it is. The rules are imported where there is something to explain: most runs have nothing."""
    if not cases:
        return []
    from halfopen.judge.diagnosis.diagnose import diagnose

    return [diagnose(case) for case in cases]


def without(matching: Matching, lasting: Sequence[Confirmed]) -> Matching:
    """The matching when those that agreed in state and are findings no longer count as agreeing."""
    left = Tally(matching.agreements)
    for one in lasting:
        if one.suspect.agreed is not None:
            there = agreement_of(one.suspect, one.suspect.agreed)
            # Of a pair in one state nothing but ports and listeners says which end is the client's.
            turned = there._replace(client_host=there.server_host, server_host=there.client_host)
            left[there if left[there] > 0 else turned] -= 1
    return replace(matching, agreements=+left)


def established(matching: Matching, lasting: Sequence[Confirmed]) -> int:
    """Pairs that are ESTABLISHED at both ends, whatever else is wrong with them."""
    pairs = [(one.client.state, one.server.state) for one in lasting if one.client and one.server]
    return matching.agreeing.get(BOTH_ESTABLISHED, 0) + pairs.count(BOTH_ESTABLISHED)


def capped(one: Confirmed, evidence: Evidence) -> Confirmed:
    """A finding is proven by exact look-ups in both kernels. Whoever reads whole tables has observed it, no more."""
    snapshots = [evidence.snapshots.get(place.host) for place in (one.client_place, one.server_place)]
    by_fallback = any(snapshot is not None and is_by_fallback(snapshot) for snapshot in snapshots)
    return replace(one, confidence=Confidence.OBSERVED) if one.confidence is Confidence.PROVEN and by_fallback else one


def grave_ambiguities(lasting: Sequence[Confirmed], plan: CheckPlan) -> list[str]:
    """Why "clean" cannot be said of what is ambiguous and may be critical, unless the check tolerates that."""
    grave = sum(one.grave for one in lasting)
    if not grave or Verdict.AMBIGUOUS in plan.allow or Verdict.AMBIGUOUS in plan.max:
        return []
    return [f"{plural(grave, 'connection')} cannot be told apart from others, and may be half-open"]


def claimed_twice(lasting: Sequence[Confirmed]) -> tuple[str, ...]:
    """A note for each address of a finding that several hosts claim."""
    asks = [ask for one in lasting for ask in (one.suspect.client, one.suspect.server)]
    found = {
        f"{address.show(address.split_key(ask.key)[0])} is an address of {' and of '.join(hosts)}": None
        for ask in asks
        if len(hosts := sorted({place.host for place in ask.places})) > 1
    }
    return tuple(found)


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
    groups: Sequence[Group],
    rows: Sequence[MatrixRow],
    missing: Sequence[str],
    hosts: Sequence[HostReport],
    connections: int,
    tolerated: int,
    outcome: Outcome,
    evidence: Evidence,
) -> tuple[str, tuple[str, ...]]:
    """The answer in one line, and the lines that must not be missed beside it."""
    counted = [(one, groups[one.group]) for one in findings if not one.allowed and one.group is not None]
    ways = [row for row in rows if row.verdict or (row.client and row.server)]  # TIME_WAIT alone is left from what was
    directions = {runs_against(row.client_host, row.server_host, plan) for row in ways}
    where = target_of(plan, [one for one, _ in counted], directions == {True})
    where += " and back" if len(directions) > 1 else ""
    took = f", {duration(evidence.elapsed_s)}" if evidence.elapsed_s is not None else ""
    if counted:
        heads = []
        for against in sorted(directions):
            some = [
                one for one, group in counted if runs_against(group.client_host, group.server_host, plan) is against
            ]
            if some:
                heads.append((some, summary.headline_of_findings(some, target_of(plan, some, against))))
        heads.sort(key=lambda one: min(SEVERITIES.index(finding.severity) for finding in one[0]))
        head = "; ".join(text for _, text in heads)
        if all(one.confidence is Confidence.INFERRED for one, _ in counted):
            head += "; inferred from one moment of each"
        return (f"incomplete  {where}: {missing[0]}; {head}" if outcome is Outcome.INCOMPLETE else head), tuple(
            f"incomplete: {one}" for one in (missing if outcome is Outcome.FINDINGS else missing[1:])
        )
    if missing:
        tail = ", so nothing can be said about its end" if "could not be read" in missing[0] else ""
        return f"incomplete  {where}: {missing[0]}{tail}", tuple(missing[1:])
    if not connections and not tolerated:
        strays = [(host, peer, count) for (host, peer), count in evidence.matching.external.items()]
        head, advice = summary.nothing_compared(where, hosts, strays, plan.ports)
        return head, (advice,)
    read = f"({plural(len(hosts), 'host')} read completely{took})"
    allowed = f"; {len(findings)} more allowed" if findings else ""
    allowed += f"; {tolerated} more not judged, which is allowed" if tolerated else ""
    agreeing = plural(connections - len(findings), "connection")
    return f"clean  {where}: {agreeing}, both ends agree{allowed} {read}", ()


def runs_against(client: str | None, server: str | None, plan: CheckPlan) -> bool:
    """Whether a connection between these hosts runs against the order in which the check names them."""
    return client not in plan.clients or server not in plan.servers


def target_of(plan: CheckPlan, findings: Sequence[Finding], against: bool) -> str:
    """Who dials whom, and at which port if all of it is at one. `against`: the other way than the check names them."""
    ports = plan.ports or [port for one in findings if (port := summary.port_of(one.connection.server)) is not None]
    return summary.target(*((plan.servers, plan.clients) if against else (plan.clients, plan.servers)), ports)


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
