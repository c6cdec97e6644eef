"""Evidence of a check -> its part of the report, and checks -> the report. The same for live and saved runs."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import structs
from msgspec.structs import replace

from halfopen import __version__, address
from halfopen.errors import Exit, HostError
from halfopen.judge.assembly.headline import headline_of
from halfopen.judge.assembly.policy import (
    SEVERITIES,
    Policy,
    failing,
    is_known,
    known_note,
    only_inferred,
    outcome_of,
    reason_of,
)
from halfopen.judge.assembly.run_evidence import Evidence, cases_of, host_error
from halfopen.judge.assembly.sections import (
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
from halfopen.judge.assembly.unjudged import unjudged_of, unjudged_rows
from halfopen.judge.confirm.asked import judged
from halfopen.judge.confirm.asked import notes as asked_notes
from halfopen.judge.confirm.rounds import Confirmed, Held, Unjudged, held
from halfopen.matching.pairing.connection import BOTH_ESTABLISHED, Suspect, agreement_of
from halfopen.matching.pairing.match import Matching
from halfopen.matching.pairing.pair import one_name_each, under_one_name
from halfopen.matching.places.reach import gaps_of
from halfopen.model import Snapshot
from halfopen.plan import CheckPlan
from halfopen.schema.report import (
    SCHEMA,
    Check,
    Outcome,
    Report,
    Tool,
    Verdict,
)
from halfopen.words import plural

if TYPE_CHECKING:
    from halfopen.judge.advice.advised import Advised
    from halfopen.judge.signs.case import Case


def analyse(plan: CheckPlan, evidence: Evidence, policy: Policy) -> Check:
    """The report of one check: the evidence that was collected, and what makes it fail -> findings and outcome."""
    other_names = one_name_each(plan, evidence.snapshots)
    plan = under_one_name(plan, other_names)
    held_in_all = held(evidence.matching.suspects, evidence.brackets) if evidence.brackets else Held([], [], [])
    lasting, left, doubts_of_ways = weighed(plan, held_in_all, evidence)
    unjudged = unjudged_of(evidence.matching, left)
    evidence = replace(evidence, matching=without(evidence.matching, lasting))
    explained = with_advice(cases_of(lasting, evidence))
    cases = [advised.case for advised in explained]
    groups, group_numbers = groups_of(explained, plan)
    told = [finding_of(*parts, plan) for parts in zip(explained, group_numbers, strict=True)]
    if policy.known:
        told = [structs.replace(finding, known=finding.id in policy.known) for finding in told]
    findings = sorted(
        told,
        key=lambda finding: (
            SEVERITIES.index(finding.severity),
            VERDICTS.index(finding.verdict),
            finding.connection.client,
        ),
    )
    names = tuple(dict.fromkeys((*plan.clients, *plan.servers, *plan.nat)))
    errors = {name: error for name in names if (error := host_error(name, evidence)) is not None}
    hosts = {name: host_report(name, evidence, errors.get(name)) for name in names}
    agreeing = evidence.matching.compared
    connections = agreeing + len(findings)
    missing = reasons_incomplete(plan, evidence, names, errors, lasting, unjudged)
    doubts = dict.fromkeys(confirmed.suspect.doubt or "" for confirmed in lasting if confirmed.candidate is not None)
    inferred = only_inferred(findings, plan, policy, [*evidence.unconfirmed, *doubts])
    missing = [*missing, *inferred] if errors else [*inferred, *missing]
    failed = {finding.id for finding in failing([finding for finding in findings if is_known(finding)], plan, policy)}
    outcome, code = outcome_of(findings, bool(failed), missing)
    pairs = pairs_of(explained, plan, [finding.id in failed for finding in told])
    rows = matrix(evidence.matching, explained)
    rounds = max(1, len(evidence.brackets))
    headline, details = headline_of(
        plan,
        findings,
        groups,
        rows,
        missing,
        tuple(hosts.values()),
        connections,
        sum(suspect.reason in plan.allow for suspect in unjudged),
        outcome,
        evidence.matching.external,
        evidence.elapsed_s,
        rounds,
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
        rounds=rounds,
        connections=connections,
        agreeing=agreeing,
        state_matrix=rows,
        listeners=listeners_of(cases, [*plan.servers, *(row.server_host for row in rows)], plan.ports, evidence),
        counters=counters_of(evidence),
        external=externals(evidence.matching),
        unjudged=unjudged_rows(unjudged, evidence.snapshots),
        findings=tuple(findings),
        groups=groups,
        notes=(
            *([DIRECT] if plan.direct and findings else []),
            *known_note(findings),
            *notes_on_names(other_names),
            *claimed_twice(lasting),
            *doubts_of_ways,
            *still_trying(held_in_all.trying),
            *asked_notes(evidence.asked),
            *evidence.notes,
            *evidence.matching.notes,
            *(missing if outcome is Outcome.FINDINGS else ()),
        ),
        elapsed_s=evidence.elapsed_s,
        pairs=pairs if len({*plan.clients, *plan.servers}) > 2 or len(pairs) > 1 else (),
        nat=tuple(plan.nat),
        direct=plan.direct,
        exit_reason=reason_of(findings, plan, policy, missing, code),
        ports=tuple(plan.ports),
        pauses_s=tuple(look.paused_s for look in evidence.brackets),
    )


def reasons_incomplete(
    plan: CheckPlan,
    evidence: Evidence,
    names: Sequence[str],
    errors: Mapping[str, HostError],
    lasting: Sequence[Confirmed],
    unjudged: Sequence[Unjudged],
) -> list[str]:
    """Why "clean" cannot be said, a sentence each, the weightiest first; empty if it can.

    names: the hosts of the check. errors: host -> why it could not be read. lasting: as `held` gives it. unjudged: all
    connections that were not judged.
    """
    missing = [f"{name} could not be read" for name in errors]
    doubts = Tally(suspect.why for suspect in unjudged if suspect.reason not in plan.allow)
    missing += [
        f"{plural(count, 'connection')} could not be judged: {doubt}" for doubt, count in doubts.items() if doubt
    ]
    if doubts[None] and not errors:
        missing.append(f"{plural(doubts[None], 'connection')} could not be looked at again")
    missing += [f"{name} was read in part" for name in names if name not in errors and is_partial(name, evidence)]
    missing += grave_ambiguities(lasting, plan)
    missing += evidence.missing
    if (count := established(evidence.matching, lasting)) < plan.require_connections:
        missing.append(f"{plural(count, 'connection')} established at both ends, {plan.require_connections} required")
    return missing


def with_advice(cases: Sequence[Case]) -> list[Advised]:
    """Each case with its causes, its outlook and what to do. The rules are imported only where there is a case."""
    if not cases:
        return []
    from halfopen.judge.advice.advised import advised

    return advised(cases)


def weighed(
    plan: CheckPlan, found: Held, evidence: Evidence
) -> tuple[Sequence[Confirmed], Sequence[Unjudged], tuple[str, ...]]:
    """The findings with the confidence that their ways and what they were answered allow, what is still not judged, and
    notes on the ways. These are imported only where something was found.
    """
    if not found.confirmed:
        return *judged((), found.unjudged, evidence.asked), ()
    from halfopen.judge.assembly.confidence import capped, ways_in_doubt
    from halfopen.matching.missing.way import Network

    network = Network(plan, evidence.snapshots, evidence.routing)
    capped_by_ways = [capped(confirmed, evidence, network) for confirmed in found.confirmed]
    lasting, unjudged = judged(capped_by_ways, found.unjudged, evidence.asked)
    return lasting, unjudged, ways_in_doubt(lasting, network)


def without(matching: Matching, lasting: Sequence[Confirmed]) -> Matching:
    """The matching with confirmed findings no longer counted as agreeing, where their states agree."""
    counts = Tally(matching.agreements)
    for confirmed in lasting:
        if confirmed.suspect.agreed is not None:
            agreement = agreement_of(confirmed.suspect, confirmed.suspect.agreed)
            # Where both ends are in one state, the set difference may have counted the ends the other way round.
            reverse = agreement._replace(client_host=agreement.server_host, server_host=agreement.client_host)
            counts[agreement if counts[agreement] > 0 else reverse] -= 1
    return replace(matching, agreements=+counts)


def established(matching: Matching, lasting: Sequence[Confirmed]) -> int:
    """The number of connections that are ESTABLISHED at both ends, findings among them."""
    pairs = [
        (confirmed.client.state, confirmed.server.state)
        for confirmed in lasting
        if confirmed.client and confirmed.server
    ]
    return matching.agreeing.get(BOTH_ESTABLISHED, 0) + pairs.count(BOTH_ESTABLISHED)


def grave_ambiguities(lasting: Sequence[Confirmed], plan: CheckPlan) -> list[str]:
    """A sentence if ambiguous connections may be critical, and the check does not allow that verdict; else none."""
    grave = sum(confirmed.grave for confirmed in lasting)
    if not grave or Verdict.AMBIGUOUS in plan.allow or Verdict.AMBIGUOUS in plan.max:
        return []
    return [f"{plural(grave, 'connection')} cannot be told apart from others, and may be half-open"]


def claimed_twice(lasting: Sequence[Confirmed]) -> tuple[str, ...]:
    """A note for each address of a finding that several hosts claim."""
    ends = [end for confirmed in lasting for end in (confirmed.suspect.client, confirmed.suspect.server)]
    notes = {
        f"{address.show(address.split_key(end.key)[0])} is an address of {' and of '.join(hosts)}": None
        for end in ends
        if len(hosts := sorted({netns.host for netns in end.places})) > 1
    }
    return tuple(notes)


def still_trying(trying: Sequence[Suspect]) -> tuple[str, ...]:
    """A note on connections of which an end had no answer yet when the last round was over; none if there are none."""
    if not trying:
        return ()
    return (
        f"{plural(len(trying), 'connection')} had sent something again to an end that is there, with no answer yet "
        "when time was up: too early to say, look again",
    )


def notes_on_names(names: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each machine that has several names in a check. `names`: as `one_name_each` gives them."""
    return tuple(
        f"{main} and {name} are one machine (one boot, one network namespace); reported as {main}"
        for name, main in names.items()
    )


def is_partial(name: str, evidence: Evidence) -> bool:
    """Whether a host was read, but not all of its sockets."""
    return not all(namespace.whole for namespace in evidence.snapshots[name].namespaces)


def notes_of(plan: CheckPlan, snapshots: Mapping[str, Snapshot], notes: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """How the hosts of a check were read, a sentence each, host by host. `notes`: (host, note) of the transport."""
    found = []
    for name in dict.fromkeys((*plan.clients, *plan.servers, *plan.nat)):
        facts = snapshots[name].facts
        found += [f"{name}: {note}" for note in (*(facts.gaps if facts else ()), *gaps_of(snapshots[name]))]
        found += [f"{name}: {note}" for host, note in notes if host == name]
    return tuple(dict.fromkeys(found))


def report_of(checks: Sequence[Check], started: datetime, finished: datetime) -> Report:
    """The report of a run: its checks, the worst first, with the outcome and the exit status of all of them."""
    ordered = sorted(checks, key=lambda check: (OUTCOMES.index(check.outcome), -len(check.findings)))
    codes = {check.exit_code for check in checks}
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


DIRECT = "direct: you vouch that nothing between the two translates or answers"

OUTCOMES = [Outcome.FINDINGS, Outcome.INCOMPLETE, Outcome.CLEAN]
