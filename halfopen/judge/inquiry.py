"""The order of the questions of a check: the only place that knows it.

`inquire` is a generator: it yields a question, is sent the answer, and returns what the checks of a run rest on. It
does no I/O and has no clock and no thread; what answers (open hosts, a saved run, pasted text, simulated hosts in a
test) is an `Answerer`, and `drive` brings the two together.

A clean pair costs one dump and the byte counters of its connections. Only what looks wrong is asked about again, and
only then are kernel counters and processes read:

    Dump, Translations, and both again where needed   which connections are there, and which of them are suspect
    Baseline                                          kernel counters before the looks, if anything is suspect
    Look, Look, Look                                  which suspects were but opened or closed between two dumps
    Dump, Translations, Routes                        if a lone end is left: where its other end would be by now
    ByteCounts                                        do the byte counters of the others contradict each other
    Look, Look, Look; Pause; Look, Look, Look; ...    what lasts: first ends, second ends, first ends
    LookUp, Ask, Look, Look, Look                     where a check says `ask`: who answers what lasts (see `asked`)
    Explain                                           kernel counters after the looks, and processes
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from halfopen.errors import HostError
from halfopen.judge.assembly.run_evidence import Evidence, involved, wanted_inodes
from halfopen.judge.confirm.bracket import Bracket, Observations, is_lone, lasting, merge, questions, through
from halfopen.judge.confirm.byte_counters import Counts, asks, widened
from halfopen.judge.looks import bracket, places_of, rounds
from halfopen.judge.questions import (
    SIFT,
    Answerer,
    Ask,
    Asking,
    Baseline,
    ByteCounts,
    Dump,
    Explain,
    Explanation,
    KernelState,
    LookUp,
    Position,
    Question,
    Routes,
    Snapshots,
    Translations,
    put,
)
from halfopen.judge.signs.case import HostEvidence, lifetimes_in
from halfopen.matching.missing.conclude import conclude
from halfopen.matching.pairing.connection import Suspect
from halfopen.matching.pairing.match import Matching, within
from halfopen.matching.pairing.pair import Extra, Prepared, join, may_translate, prepare, wider_ports
from halfopen.model import Collector, NetnsRef, Process, RouteQuery, Routing
from halfopen.plan import ASK_LEVELS, CheckPlan


class Inquired(Struct, frozen=True):
    """What the checks of a run rest on, in the order of the plans. `hosts`: all that was explained. `sift`: the look
    before the rounds, if no dump came after it. `quiet`: the look at pairs that agree, before some were asked; `dead`:
    the one at those of them that did not answer, afterwards.
    """

    evidence: tuple[Evidence, ...]
    hosts: Mapping[str, HostEvidence]
    sift: Bracket | None = None
    quiet: Observations = {}
    dead: Bracket | None = None


Inquiry = Generator[Question[Any], Any, Inquired]


def drive(inquiry: Inquiry, answerer: Answerer) -> Inquired:
    """Puts the questions of an inquiry to an answerer, one after the other; returns what the inquiry returns."""
    answer: Any = None
    while True:
        try:
            question = inquiry.send(answer)
        except StopIteration as end:
            found: Inquired = end.value
            return found
        answer = question.put(answerer)


def inquire(
    plans: Sequence[CheckPlan], ports: Mapping[str, tuple[int, ...]], extra: Extra, counted: int | None
) -> Inquiry:
    """The questions of the checks of a run, in their order; returns the evidence of each.

    ports: host -> what its dump is limited to, on either side; empty for all. extra: host -> addresses that lead to it.
    counted: compare byte counters of a check's pairs if they are no more than this (None: however many; 0: never).
    """
    snapshots = yield from put(Dump(ports))
    found = yield from matched(plans, snapshots, dict(ports), extra, counted)
    before: Mapping[str, KernelState] = {}
    routing: Mapping[NetnsRef, Routing] = {}
    if any(matching.suspects for matching in found.matchings):
        before = yield from put(Baseline(tuple(found.snapshots), places_of(found.matchings)))
        found, lone = yield from sifted(plans, found, extra, counted)
        if lone:
            found, routing = yield from located(found, lone)
    matchings, snapshots = found.matchings, found.snapshots
    counts: Counts = {}
    if counted != 0:
        matchings, snapshots, counts = yield from compared(found)
    matchings = [conclude(check, matching, routing) for check, matching in zip(found.checks, matchings, strict=True)]
    looked = yield from rounds(plans, matchings, tuple(snapshots), before)
    evidence = []
    for matching, brackets in zip(matchings, looked.brackets, strict=True):
        suspects, used = through(matching.suspects, brackets)
        left_over = replace(matching, suspects=tuple(suspects))
        evidence.append(
            Evidence(snapshots, left_over, used, counts=counts, suspected=len(matching.suspects), routing=routing)
        )
    before = looked.baseline
    owners: Mapping[str, Mapping[int, Process]] = {}
    quiet: Observations = {}
    dead: Bracket | None = None
    if any(plan.ask != ASK_LEVELS[0] for plan in plans):
        before = before or (yield from put(Baseline(tuple(snapshots), places_of(matchings))))
        evidence, owners, quiet, dead = yield from asked(found.checks, evidence, max(map(len, looked.brackets)))
    hosts = yield from explained(evidence, snapshots, before, places_of(matchings), owners)
    told = tuple(replace(check, hosts=of_check(hosts, check)) for check in evidence)
    return Inquired(told, hosts, found.sift, quiet, dead)


class Matched(Struct, frozen=True):
    """The checks of a run after all dumps: prepared, and their matchings; the snapshots, and what each dump covers.

    `ports`: host -> what its last dump was limited to, on either side; empty for all. `sift`: as in `Inquired`.
    """

    checks: Sequence[Prepared]
    matchings: Sequence[Matching]
    snapshots: Snapshots
    ports: Mapping[str, tuple[int, ...]]
    sift: Bracket | None = None


def matched(
    plans: Sequence[CheckPlan],
    snapshots: Snapshots,
    ports: dict[str, tuple[int, ...]],
    extra: Extra,
    counted: int | None,
) -> Asking[Matched]:
    """The matching of each check. What translates is read only where something is left that it could explain."""

    def prepared() -> list[Prepared]:
        return [prepare(plan, snapshots, extra) for plan in plans]

    def joined() -> list[Matching]:
        return [within(join(check, counted), check.plan.max_suspects) for check in checks]

    checks = prepared()
    matchings = joined()
    tracking = [may_translate(check, matching) for check, matching in zip(checks, matchings, strict=True)]
    asked = dict.fromkeys(name for names in tracking for name in names if snapshots[name].error is None)
    if not asked:
        return Matched(checks, matchings, snapshots, ports)
    read = yield from put(Translations({name: snapshots[name] for name in asked}))
    snapshots = {**snapshots, **read}
    checks = prepared()
    wider: dict[str, set[int]] = {}
    for check in checks:
        for name, more in wider_ports(check).items():
            if ports.get(name):
                wider.setdefault(name, set()).update(more)
    ports = {**ports, **{name: tuple(sorted({*ports[name], *more})) for name, more in wider.items()}}
    if wider:
        snapshots = yield from again(wider, snapshots, ports, asked)
        checks = prepared()
    matchings = joined()
    # A container that seems gone may have come since its host was read, which was before its peer's perhaps.
    gone = dict.fromkeys(name for matching in matchings for name in matching.gone if snapshots[name].error is None)
    if gone:
        snapshots = yield from again(gone, snapshots, ports, asked)
        checks = prepared()
        matchings = joined()
    return Matched(checks, matchings, snapshots, ports)


def sifted(
    plans: Sequence[CheckPlan], found: Matched, extra: Extra, counted: int | None
) -> Asking[tuple[Matched, frozenset[bytes]]]:
    """The matching once more, from new dumps of the hosts with a lone end that a look found still there, and alone.

    Its other end may have been opened, or its translation made, since its host was read; so where it would be, and what
    else could be it, is told by dumps and tables that are younger than the lone end. A look comes first, because most
    lone ends under churn are those of connections that were opened or closed between the dumps of two hosts. Also the
    keys of these lone ends.
    """
    suspects = list(dict.fromkeys(suspect for matching in found.matchings for suspect in matching.suspects))
    look = yield from bracket(suspects, SIFT)
    found = replace(found, snapshots=with_errors(found.snapshots, look.errors))
    left = set(lasting(suspects, look))
    lone = {suspect for suspect in left if is_lone(suspect, look)}
    hosts = {
        name
        for check, matching in zip(found.checks, found.matchings, strict=True)
        if not lone.isdisjoint(matching.suspects)
        for name in check.snapshots
        if found.snapshots[name].error is None
    }
    if not hosts:
        return replace(found, matchings=[only(each, left) for each in found.matchings], sift=look), frozenset()
    read = yield from put(Dump({name: found.ports[name] for name in sorted(hosts)}, found.snapshots))
    keys = frozenset(key for suspect in lone for key in (suspect.client.key, suspect.server.key))
    return (yield from matched(plans, {**found.snapshots, **read}, dict(found.ports), extra, counted)), keys


def only(matching: Matching, left: Container[Suspect]) -> Matching:
    """The matching with these of its suspects."""
    return replace(matching, suspects=tuple(suspect for suspect in matching.suspects if suspect in left))


def again(
    names: Iterable[str], snapshots: Snapshots, ports: Mapping[str, tuple[int, ...]], tracking: Iterable[str]
) -> Asking[Snapshots]:
    """The snapshots with another dump of some hosts, and with what translates by then.

    A connection that was opened since the translations were read would look as if nothing translated it.
    """
    read = yield from put(Dump({name: ports[name] for name in names}, snapshots))
    snapshots = {**snapshots, **read}
    read = yield from put(Translations({name: snapshots[name] for name in tracking if snapshots[name].error is None}))
    return {**snapshots, **read}


def compared(found: Matched) -> Asking[tuple[list[Matching], Snapshots, Counts]]:
    """The matchings with what byte counters make suspect, the snapshots, and the counters.

    A host that fails here keeps its snapshot, with the error.
    """
    able = {
        name
        for name, snapshot in found.snapshots.items()
        if snapshot.error is None and snapshot.facts is not None and snapshot.facts.collector is Collector.NETLINK
    }
    checks = [(check.address_map(), matching) for check, matching in zip(found.checks, found.matchings, strict=True)]
    asked = asks(checks, able)
    counts: dict[NetnsRef, Any] = {}
    answers = (yield from put(ByteCounts(asked, found.ports))) if asked else {}
    errors = {name: error for name, (_, error) in answers.items() if error is not None}
    for name, (read, _) in answers.items():
        namespaces = [NetnsRef(name, namespace.netns) for namespace in found.snapshots[name].namespaces]
        counts.update({netns: () for netns in namespaces if asked[name].answered(netns, namespaces[0])})
        counts.update(read)
    plans = [check.plan for check in found.checks]
    matchings = [
        within(widened(addresses, matching, counts), plan.max_suspects)
        for plan, (addresses, matching) in zip(plans, checks, strict=True)
    ]
    return matchings, with_errors(found.snapshots, errors), counts


def located(found: Matched, lone: Container[bytes]) -> Asking[tuple[Matched, Mapping[NetnsRef, Routing]]]:
    """The routes between the ends of suspects that lack one, by namespace, unless their check vouches for the way.

    lone: the keys of such suspects. A host that fails here keeps its snapshot, with the error.
    """
    from halfopen.matching.missing.way import Network, queries_of

    wanted: dict[str, dict[RouteQuery, None]] = {}
    for check, matching in zip(found.checks, found.matchings, strict=True):
        suspects = [] if check.plan.direct else [suspect for suspect in matching.suspects if suspect.client.key in lone]
        for query in queries_of(suspects, Network(check.plan, check.snapshots)):
            wanted.setdefault(query.place.host, {})[query] = None
    if not wanted:
        return found, {}
    answers = yield from put(Routes({name: tuple(queries) for name, queries in wanted.items()}))
    errors = {name: error for name, (_, error) in answers.items() if error is not None}
    routing = {netns: routes for of_host, _ in answers.values() for netns, routes in of_host.items()}
    return replace(found, snapshots=with_errors(found.snapshots, errors)), routing


def with_errors(snapshots: Snapshots, errors: Mapping[str, HostError]) -> Snapshots:
    """The snapshots with the errors of hosts that failed after their dumps."""
    return {**snapshots, **{name: replace(snapshots[name], error=error) for name, error in errors.items()}}


def asked(
    checks: Sequence[Prepared], evidence: Sequence[Evidence], number: int
) -> Asking[tuple[list[Evidence], Mapping[str, Mapping[int, Process]], Observations, Bracket | None]]:
    """The evidence of the checks with what asking through connections brought, for those that say so.

    Also host -> the processes that hold what was asked, by inode: a RST may end them; and the two looks of `Inquired`.
    `number`: of the next round.
    """
    from halfopen.judge.assembly.course import agreeing_pairs, course_of  # which most runs have no use for

    pairs = [agreeing_pairs(check, one) for check, one in zip(checks, evidence, strict=True)]
    first = questions(list(dict.fromkeys(suspect for some in pairs for suspect in some)), second=False)
    looks, _ = merge((yield from put(LookUp(number, Position.BEFORE, first)))) if first else ({}, {})
    course = course_of(checks, evidence, pairs, looks)
    answers = (yield from put(Ask(course.queries))) if course.queries else {}
    course = course.answered({host: replies for host, (replies, _) in answers.items()})
    look = (yield from bracket(course.dead, number)) if course.dead else None
    owners = {host: processes for host, (_, processes) in answers.items()}
    return course.evidence(evidence, look), owners, looks, look


def explained(
    evidence: Sequence[Evidence],
    snapshots: Snapshots,
    before: Mapping[str, KernelState],
    places: frozenset[NetnsRef],
    owners: Mapping[str, Mapping[int, Process]],
) -> Asking[dict[str, HostEvidence]]:
    """The evidence of every host with an end of a suspect: kernel counters, and the processes that findings name.

    before: host -> its counters before the looks. places: the namespaces with a suspect end. owners: host -> processes
    that are known already, by inode.
    """
    names = sorted({name for check in evidence for name in involved(check.suspects)})
    if not names:
        return {}
    places |= {place for check in evidence for found in check.asked.silent for place in found.places}
    inodes: dict[str, set[int]] = {name: set() for name in names}
    for check in evidence:
        for name, found in wanted_inodes(check.matching.suspects, check).items():
            inodes.setdefault(name, set()).update(found)
    answers = yield from put(Explain({name: tuple(sorted(found)) for name, found in inodes.items()}, places))
    hosts = {}
    for name in names:
        first, last = before.get(name), answers.get(name, Explanation())
        latest = last.kernel or first or KernelState()
        hosts[name] = HostEvidence(
            name,
            snapshots[name].facts,
            first.counters if first else {},
            last.kernel.counters if last.kernel else {},
            latest.sysctls,
            {**owners.get(name, {}), **last.owners},
            last.holders,
            lifetimes=lifetimes_in(latest.counters),
        )
    return hosts


def of_check(hosts: Mapping[str, HostEvidence], check: Evidence) -> dict[str, HostEvidence]:
    """The hosts that have an end of a suspect of one check, or would have it."""
    names = involved(check.suspects)
    return {name: host for name, host in hosts.items() if name in names}
