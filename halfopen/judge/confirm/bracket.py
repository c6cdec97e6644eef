"""What lasts: brackets of exact look-ups around each suspect -> verdicts with a confidence.

A bracket is three looks in order: the end that was there, the other end, the first end again. If the first end is the
same socket in the same state before and after, then at the moment of the look between, both observations were true at
once; nothing else about two hosts can be said without a common clock. A finding holds in every bracket, with the same
verdict on the same sockets (kernel cookies), so that a port that is used again is another connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from msgspec import Struct

from halfopen.errors import HostError
from halfopen.judge.confirm.timing import is_trying
from halfopen.matching.pairing.connection import EndQuery, Suspect
from halfopen.matching.verdict import sequence
from halfopen.matching.verdict.table import SEVERITY, Accord, judge_pair, state_seen
from halfopen.model import Absence, Look, Lookup, NetnsRef, Observation, Socket
from halfopen.schema.report import Severity, Verdict

Observations = Mapping[tuple[NetnsRef, bytes], Observation]
"""(network namespace, key) -> what an exact look-up found there."""


class Bracket(Struct, frozen=True):
    """Three looks at all suspects: first ends, second ends, first ends again. errors: of hosts that could not look.

    paused_s: how long the inquiry waited before it, in seconds.
    """

    before: Observations
    between: Observations
    after: Observations
    errors: Mapping[str, HostError]
    paused_s: float = 0.0


class RoundResult(Struct, frozen=True):
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
        is_doubted = suspect.doubt is not None and not suspect.standins
        if isinstance(verdict, Verdict) and Absence.ABSENT in (after, between) and is_doubted:
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


def ends_in(suspect: Suspect, bracket: Bracket) -> tuple[Observation, Observation]:
    """The first end and the second one, as a bracket saw them last."""
    first, second = ends(suspect)
    return observed(first, bracket.after)[0], observed(second, bracket.between)[0]


def is_lone(suspect: Suspect, bracket: Bracket) -> bool:
    """Whether a bracket found one end of a suspect, and not the other."""
    first, second = ends_in(suspect, bracket)
    return (state_seen(first) is Absence.ABSENT) != (state_seen(second) is Absence.ABSENT)


def lasting(suspects: Sequence[Suspect], bracket: Bracket) -> list[Suspect]:
    """The suspects that a bracket did not clear."""
    results = [(suspect, result_of(suspect, bracket)) for suspect in suspects]
    return [
        suspect
        for suspect, result in results
        if result.verdict is not Accord.AGREE or result.also or is_trying(result.first) or is_trying(result.second)
    ]


def through(suspects: Sequence[Suspect], brackets: Sequence[Bracket]) -> tuple[Sequence[Suspect], list[Bracket]]:
    """The suspects that no bracket cleared, and the brackets up to the one that cleared the last of them."""
    used = []
    for bracket in brackets:
        if not suspects:
            break
        used.append(bracket)
        suspects = lasting(suspects, bracket)
    return suspects, used
