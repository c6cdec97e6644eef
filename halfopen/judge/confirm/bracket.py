"""What lasts: brackets of exact look-ups around each suspect -> verdicts with a confidence.

A bracket is three looks in order: the end that was there, the other end, the first end again. If the first end is the
same socket in the same state before and after, then at the moment of the look between, both observations were true at
once; nothing else about two hosts can be said without a common clock. A finding holds in every bracket, with the same
verdict on the same sockets (kernel cookies), so that a port that is used again is another connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from halfopen.errors import HostError
from halfopen.judge.confirm.answers import is_answered
from halfopen.judge.pairing.connection import EndQuery, Suspect
from halfopen.judge.verdict import sequence
from halfopen.judge.verdict.table import SEVERITY, Accord, judge_pair, state_seen
from halfopen.model import Absence, Look, Lookup, NetnsRef, Observation, Socket
from halfopen.schema.report import Confidence, Reason, Severity, Verdict

Observations = Mapping[tuple[NetnsRef, bytes], Observation]
"""(network namespace, key) -> what an exact look-up found there."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """Three looks at all suspects: first ends, second ends, first ends again. errors: of hosts that could not look."""

    before: Observations
    between: Observations
    after: Observations
    errors: Mapping[str, HostError]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A suspect that held in every bracket, with its ends as the last bracket saw them; None for an absent end.

    `grave`: it is ambiguous, and one of the possible pairs of sockets would be critical.
    """

    suspect: Suspect
    verdict: Verdict
    confidence: Confidence
    client: Socket | None
    server: Socket | None
    client_place: NetnsRef
    server_place: NetnsRef
    grave: bool = False


@dataclass(frozen=True, slots=True)
class Survivor:
    """The end of a suspect that exists while the other is absent: its namespace, and the socket in each look at it."""

    place: NetnsRef
    looks: tuple[Socket, ...]


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A suspect that cannot be judged. why: in words, None where a host could not look. reason: its code, if any."""

    suspect: Suspect
    why: str | None = None
    reason: Reason | None = None
    survivor: Survivor | None = None


@dataclass(frozen=True, slots=True)
class RoundResult:
    """The result of one bracket for one suspect. `also`: verdicts from counters, graver than that of the states.

    first, second: the ends in the order of the looks. `grave`: as in `Confirmed`.
    """

    verdict: Verdict | Accord
    first: Observation
    second: Observation
    first_place: NetnsRef
    second_place: NetnsRef
    also: tuple[Verdict, ...] = ()
    grave: bool = False


def questions(suspects: Iterable[Suspect], second: bool) -> dict[str, list[Lookup]]:
    """Host -> what to look up there, for the first end of each suspect or the second."""
    lookups: dict[str, dict[tuple[NetnsRef, bytes], Lookup]] = {}
    for suspect in suspects:
        for end in (ends(suspect)[second], *(suspect.standins if second else ())):
            for netns in end.places:
                lookups.setdefault(netns.host, {})[netns, end.key] = Lookup(netns, end.key, end.scope)
    return {host: list(wanted.values()) for host, wanted in lookups.items()}


def ends(suspect: Suspect) -> tuple[EndQuery, EndQuery]:
    """The ends in the order of the looks: first the one that was there."""
    pair = (suspect.client, suspect.server)
    return pair if suspect.client_first else pair[::-1]


def merge(looks: Iterable[Look]) -> tuple[dict[tuple[NetnsRef, bytes], Observation], dict[str, HostError]]:
    """Looks of several hosts at one moment -> their observations, and host -> error of those that could not look."""
    observations: dict[tuple[NetnsRef, bytes], Observation] = {}
    errors: dict[str, HostError] = {}
    for look in looks:
        observations.update(look.sights)
        if look.error is not None:
            errors[look.host] = look.error
    return observations, errors


def observed(end: EndQuery, observations: Observations) -> tuple[Observation, NetnsRef, int]:
    """What was observed of an end in the namespaces where it may be: what, where, and how many sockets match it."""
    if len(end.places) == 1:
        only = observations.get((end.places[0], end.key), Absence.UNSEEN)
        return only, end.places[0], int(isinstance(only, Socket))
    seen = [(observations.get((netns, end.key), Absence.UNSEEN), netns) for netns in end.places]
    sockets = [found for found in seen if isinstance(found[0], Socket)]
    if sockets:
        return (*sockets[0], len(sockets))
    for observation, netns in seen:
        if observation is Absence.UNSEEN:
            return observation, netns, 0
    return (*seen[0], 0)


def result_of(suspect: Suspect, bracket: Bracket) -> RoundResult:
    """The result of one bracket for one suspect.

    UNJUDGED where a host could not look, or where an absent end may exist elsewhere; AGREE where the first end changed.
    """
    first, second = ends(suspect)
    before, first_place, matching_first = observed(first, bracket.before)
    between, second_place, matching_second = observed(second, bracket.between)
    after, _, _ = observed(first, bracket.after)
    verdict: Verdict | Accord
    also: tuple[Verdict, ...] = ()
    grave = False
    if before is Absence.UNSEEN or between is Absence.UNSEEN or after is Absence.UNSEEN:
        verdict = Accord.UNJUDGED
    elif not same_in_state(before, after):
        verdict = Accord.AGREE  # it changed during the bracket: what changes is not stuck
    elif matching_first > 1 or matching_second > 1:
        verdict, grave = Verdict.AMBIGUOUS, may_be_critical(suspect, bracket)
    else:
        verdict = judge_pair(after, between) if suspect.client_first else judge_pair(between, after)
        also = sequence.verdicts(before, between, after)
        if suspect.contested:
            verdict, grave, also = *of_claims(suspect, bracket), ()
        if isinstance(verdict, Verdict) and suspect.ambiguous:
            verdict, grave = Verdict.AMBIGUOUS, SEVERITY[verdict] is Severity.CRITICAL
        if isinstance(verdict, Verdict) and Absence.ABSENT in (after, between) and in_doubt(suspect, after, bracket):
            verdict = Accord.UNJUDGED
    return RoundResult(verdict, after, between, first_place, second_place, also, grave)


def may_be_critical(suspect: Suspect, bracket: Bracket) -> bool:
    """Whether one of the possible pairs of sockets of an ambiguous connection would be critical.

    Each socket of the one end may belong to each of the other, and where an end has more sockets than the other, one of
    them has no peer.
    """
    first, second = ends(suspect)
    near, far = sockets_of(first, bracket.after), sockets_of(second, bracket.between)
    if len(near) != len(far):
        (near if len(near) < len(far) else far).append(Absence.ABSENT)
    pairs = product(near, far) if suspect.client_first else product(far, near)
    answers = {judge_pair(*pair) for pair in pairs}
    return any(isinstance(answer, Verdict) and SEVERITY[answer] is Severity.CRITICAL for answer in answers)


def of_claims(suspect: Suspect, bracket: Bracket) -> tuple[Verdict | Accord, bool]:
    """What to say of a connection of which several hosts claim an end, and whether one of the claims is critical.

    One host's word is as good as the other's, so the end may be what is at any of them, or is not.
    """
    first, second = ends(suspect)
    near, far = (
        [observations.get((netns, end.key), Absence.UNSEEN) for netns in end.places]
        for end, observations in ((first, bracket.after), (second, bracket.between))
    )
    pairs = product(near, far) if suspect.client_first else product(far, near)
    answers = {judge_pair(*pair) for pair in pairs}
    found = [answer for answer in answers if isinstance(answer, Verdict)]
    if not found:
        return Accord.UNJUDGED if Accord.UNJUDGED in answers else Accord.AGREE, False
    return Verdict.AMBIGUOUS, any(SEVERITY[verdict] is Severity.CRITICAL for verdict in found)


def sockets_of(end: EndQuery, observations: Observations) -> list[Observation]:
    """The sockets that were found for an end, in all namespaces where it may be."""
    found = (observations.get((netns, end.key), Absence.UNSEEN) for netns in end.places)
    return [seen for seen in found if isinstance(seen, Socket)]


def in_doubt(suspect: Suspect, survivor: Observation, bracket: Bracket) -> bool:
    """Whether the absent end of a suspect may exist all the same: see `Suspect.doubt`."""
    if suspect.doubt is None or not suspect.standins or not isinstance(survivor, Socket):
        return suspect.doubt is not None
    return any(fits(survivor, observed(standin, bracket.between)[0]) for standin in suspect.standins)


def fits(socket: Socket, other: Observation) -> bool:
    """Whether two sockets could be the ends of one connection, by their byte counters, as far as they are known.

    What either has received lies between what the other has had acknowledged and what it has sent. The SYN of the end
    that connected, and a FIN, count as acknowledged bytes (net/ipv4/tcp_input.c tcp_snd_una_update).
    """
    if not isinstance(other, Socket):
        return other is Absence.UNSEEN
    for sender, receiver in ((socket.info, other.info), (other.info, socket.info)):
        if sender is None or receiver is None or sender.bytes_acked is None or receiver.bytes_received is None:
            continue
        if receiver.bytes_received + 2 < sender.bytes_acked:
            return False
        if sender.bytes_sent is not None and receiver.bytes_received > sender.bytes_sent:
            return False
    return True


def same_in_state(first: Observation, later: Observation) -> bool:
    """Whether two observations are of the same socket in the same state, or of no socket."""
    if isinstance(first, Socket) and isinstance(later, Socket) and first.state is not later.state:
        return False
    return same_socket(first, later)


def same_socket(first: Observation, later: Observation) -> bool:
    """Whether nothing shows that these are two sockets: by cookie, and where a collector has none, by inode."""
    if not isinstance(first, Socket) or not isinstance(later, Socket):
        return first is later
    if first.cookie is not None and later.cookie is not None:
        return first.cookie == later.cookie
    return not first.inode or not later.inode or first.inode == later.inode


def held(suspects: Sequence[Suspect], brackets: Sequence[Bracket]) -> tuple[list[Confirmed], list[Unjudged]]:
    """The suspects that held in all brackets, and those that cannot be judged."""
    confirmed, unjudged = [], []
    for suspect in suspects:
        results = [result_of(suspect, bracket) for bracket in brackets]
        blind = any(result.verdict is Accord.UNJUDGED for result in results)
        verdict = None if blind else common_verdict(results)
        changed = None if blind or verdict is not None else changing(suspect, results)
        if not blind and verdict is None and changed is None:
            continue
        survivor = survivor_of(suspect, brackets)
        if survivor is not None and (verdict is None or verdict in ALONE) and is_answered(survivor.looks):
            unjudged.append(answered(suspect, survivor))
        elif changed is not None:
            unjudged.append(changed)
        elif verdict is None:
            unjudged.append(Unjudged(suspect, suspect.doubt, suspect.reason, survivor))
        else:
            grave = verdict is Verdict.AMBIGUOUS and any(result.grave for result in results)
            confirmed.append(replace(confirmed_as(suspect, verdict, results[-1], len(brackets)), grave=grave))
    return confirmed, unjudged


def survivor_of(suspect: Suspect, brackets: Sequence[Bracket]) -> Survivor | None:
    """The end that exists where every look found the other one absent; None if there is none, or several sockets."""
    first, second = ends(suspect)
    looks = (
        [observed(first, look) for bracket in brackets for look in (bracket.before, bracket.after)],
        [observed(second, bracket.between) for bracket in brackets],
    )
    absent = [all(state_seen(seen) is Absence.ABSENT for seen, _, _ in of_end) for of_end in looks]
    if absent[0] == absent[1]:
        return None
    found = [(seen, netns) for seen, netns, _ in looks[absent[0]] if isinstance(seen, Socket)]
    if not found or any(netns != found[0][1] or not same_socket(seen, found[0][0]) for seen, netns in found):
        return None
    return Survivor(found[0][1], tuple(socket for socket, _ in found))


def answered(suspect: Suspect, survivor: Survivor) -> Unjudged:
    """A suspect whose survivor gets answers, from another end that is not on the host where it should be."""
    missing = suspect.server if survivor.looks[0].key == suspect.client.key else suspect.client
    hosts = " or ".join(dict.fromkeys(netns.host for netns in missing.places))
    return Unjudged(suspect, ANSWERED.format(host=hosts), Reason.ANSWERED_ELSEWHERE, survivor)


def changing(suspect: Suspect, results: Sequence[RoundResult]) -> Unjudged | None:
    """A suspect that has no verdict in common in all brackets; None if a bracket cleared it, or if no end of it is
    the same socket in all: another socket is another connection, and nothing is due on one that is over.
    """
    if any(result.verdict is Accord.AGREE for result in results):
        return None
    last = results[-1]
    for netns, looks in (
        (last.first_place, [result.first for result in results]),
        (last.second_place, [result.second for result in results]),
    ):
        there = [seen for seen in looks if isinstance(seen, Socket) and same_socket(seen, looks[-1])]
        if len(there) == len(looks):
            return Unjudged(suspect, CHANGING, Reason.CHANGING, Survivor(netns, tuple(there)))
    return None


def common_verdict(results: Sequence[RoundResult]) -> Verdict | None:
    """The gravest verdict that all brackets give, on the same sockets; None if there is none."""
    last = results[-1]
    if not all(same_socket(result.first, last.first) and same_socket(result.second, last.second) for result in results):
        return None
    for verdict in (*last.also, last.verdict):
        if not isinstance(verdict, Verdict) or any(verdict not in (*result.also, result.verdict) for result in results):
            continue
        pairs = [(result.first, result.second) for result in results]
        if verdict is not Verdict.STALLED or sequence.stays_stuck(pairs):
            return verdict
    return None


def is_lone(suspect: Suspect, bracket: Bracket) -> bool:
    """Whether a bracket found one end of a suspect, and not the other."""
    result = result_of(suspect, bracket)
    return (state_seen(result.first) is Absence.ABSENT) != (state_seen(result.second) is Absence.ABSENT)


def lasting(suspects: Sequence[Suspect], bracket: Bracket) -> list[Suspect]:
    """The suspects that a bracket did not clear."""
    results = [(suspect, result_of(suspect, bracket)) for suspect in suspects]
    return [suspect for suspect, result in results if result.verdict is not Accord.AGREE or result.also]


def through(suspects: Sequence[Suspect], brackets: Sequence[Bracket]) -> tuple[Sequence[Suspect], list[Bracket]]:
    """The suspects that no bracket cleared, and the brackets up to the one that cleared the last of them."""
    used = []
    for bracket in brackets:
        if not suspects:
            break
        used.append(bracket)
        suspects = lasting(suspects, bracket)
    return suspects, used


def confirmed_as(suspect: Suspect, verdict: Verdict, last: RoundResult, rounds: int) -> Confirmed:
    """A suspect that held, with its verdict, ends and confidence. last: its last result. rounds: how many brackets."""
    sockets = [seen for seen in (last.first, last.second) if isinstance(seen, Socket)]
    if rounds < 2 or suspect.inferred:
        confidence = Confidence.INFERRED
    elif all(socket.cookie is not None for socket in sockets):
        confidence = Confidence.PROVEN
    else:
        confidence = Confidence.OBSERVED
    ordered = [(last.first, last.first_place), (last.second, last.second_place)]
    if not suspect.client_first:
        ordered.reverse()
    (client, client_place), (server, server_place) = ordered
    return Confirmed(
        suspect,
        verdict,
        confidence,
        client if isinstance(client, Socket) else None,
        server if isinstance(server, Socket) else None,
        client_place,
        server_place,
    )


# Verdicts of a connection with one end only.
ALONE = (Verdict.MISSING_ON_SERVER, Verdict.MISSING_ON_CLIENT, Verdict.ABANDONED_CLOSE, Verdict.CLOSING_ALONE)
CHANGING = "they went from one verdict to another while they were looked at (look again)"
ANSWERED = (
    "no other end on {host}, but somebody answers: a proxy, NAT or another host with that address "
    "(by design? --allow answered-elsewhere)"
)
