"""What lasts: brackets of exact look-ups around each suspect -> verdicts with a confidence.

A bracket is three looks in order: the end that was there, the other end, the first end again. If the first end is the
same socket in the same state before and after, then at the moment of the look between, both sights were true at once;
nothing else about two hosts can be said without a common clock. A finding holds in every bracket, with the same
verdict on the same sockets (kernel cookies), so that a port that is used again is another connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from halfopen.errors import HostError
from halfopen.findings import Confidence, Reason, Severity, Verdict
from halfopen.judge import counters
from halfopen.judge.answers import is_answered
from halfopen.judge.match import Ask, Suspect
from halfopen.judge.verdict import SEVERITY, Accord, judge_pair, state_of_sight
from halfopen.model import Absence, Look, Place, Sight, Socket, Wanted

Sights = Mapping[tuple[Place, bytes], Sight]


@dataclass(frozen=True, slots=True)
class Bracket:
    """Three looks at all suspects, in the order they were taken, and the hosts that failed meanwhile."""

    before: Sights
    between: Sights
    after: Sights
    errors: Mapping[str, HostError]


@dataclass(frozen=True, slots=True)
class Held:
    """A suspect that held in every bracket: the ends as the last one saw them.

    `grave`: it is ambiguous, and one of the claims would be critical.
    """

    suspect: Suspect
    verdict: Verdict
    confidence: Confidence
    client: Socket | None
    server: Socket | None
    client_place: Place
    server_place: Place
    grave: bool = False


@dataclass(frozen=True, slots=True)
class Survivor:
    """The end of a suspect that stays: its place, and the socket in every look that found it, in order."""

    place: Place
    looks: tuple[Socket, ...]


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A suspect of which nothing can be said. `why` in a sentence, None where somebody could not look."""

    suspect: Suspect
    why: str | None = None
    reason: Reason | None = None
    survivor: Survivor | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What one bracket proves about a suspect. `also`: verdicts from counters, graver than that of the states.

    `grave`: the verdict is ambiguous, and what one of the claims comes to would be critical.
    """

    verdict: Verdict | Accord
    first: Sight
    second: Sight
    first_place: Place
    second_place: Place
    also: tuple[Verdict, ...] = ()
    grave: bool = False


def questions(suspects: Iterable[Suspect], second: bool) -> dict[str, list[Wanted]]:
    """Host -> what to look up there, for the first end of each suspect or the second."""
    found: dict[str, dict[tuple[Place, bytes], Wanted]] = {}
    for suspect in suspects:
        for ask in (ends(suspect)[second], *(suspect.standins if second else ())):
            for place in ask.places:
                found.setdefault(place.host, {})[place, ask.key] = Wanted(place, ask.key, ask.scope)
    return {host: list(wanted.values()) for host, wanted in found.items()}


def ends(suspect: Suspect) -> tuple[Ask, Ask]:
    """The ends in the order of the looks: first the one that was there."""
    pair = (suspect.client, suspect.server)
    return pair if suspect.client_first else pair[::-1]


def merge(looks: Iterable[Look]) -> tuple[dict[tuple[Place, bytes], Sight], dict[str, HostError]]:
    """Looks of several hosts at one moment -> sights, and errors of hosts that could not look."""
    sights: dict[tuple[Place, bytes], Sight] = {}
    errors: dict[str, HostError] = {}
    for look in looks:
        sights.update(look.sights)
        if look.error is not None:
            errors[look.host] = look.error
    return sights, errors


def sight_at(ask: Ask, sights: Sights) -> tuple[Sight, Place, int]:
    """What is to be seen of an end at the places it may be: the sight, where, and how many sockets claim to be it."""
    if len(ask.places) == 1:
        sight = sights.get((ask.places[0], ask.key), Absence.UNSEEN)
        return sight, ask.places[0], int(isinstance(sight, Socket))
    seen = [(sights.get((place, ask.key), Absence.UNSEEN), place) for place in ask.places]
    found = [one for one in seen if isinstance(one[0], Socket)]
    if found:
        return (*found[0], len(found))
    for sight, place in seen:
        if sight is Absence.UNSEEN:
            return sight, place, 0
    return (*seen[0], 0)


def shown(suspect: Suspect, bracket: Bracket) -> Shown:
    """One bracket's word on one suspect. UNJUDGED where the first end changed meanwhile, or somebody could not look."""
    first, second = ends(suspect)
    before, first_place, claims_first = sight_at(first, bracket.before)
    between, second_place, claims_second = sight_at(second, bracket.between)
    after, _, _ = sight_at(first, bracket.after)
    verdict: Verdict | Accord
    also: tuple[Verdict, ...] = ()
    grave = False
    if before is Absence.UNSEEN or between is Absence.UNSEEN or after is Absence.UNSEEN:
        verdict = Accord.UNJUDGED
    elif not same_socket(before, after):
        verdict = Accord.AGREE  # it moved while we looked: what moves is not stuck
    elif claims_first > 1 or claims_second > 1:
        verdict, grave = Verdict.AMBIGUOUS, is_claimed_gravely(suspect, bracket)
    else:
        verdict = judge_pair(after, between) if suspect.client_first else judge_pair(between, after)
        also = counters.verdicts(before, between, after)
        if isinstance(verdict, Verdict) and suspect.ambiguous:
            verdict, grave = Verdict.AMBIGUOUS, SEVERITY[verdict] is Severity.CRITICAL
        if isinstance(verdict, Verdict) and Absence.ABSENT in (after, between) and in_doubt(suspect, after, bracket):
            verdict = Accord.UNJUDGED
    return Shown(verdict, after, between, first_place, second_place, also, grave)


def is_claimed_gravely(suspect: Suspect, bracket: Bracket) -> bool:
    """Whether one of the claims to the ends of a connection would be critical.

    Each socket of the one end may belong to each of the other, and where an end has more sockets than the other, one of
    them has no peer.
    """
    first, second = ends(suspect)
    near, far = claims(first, bracket.after), claims(second, bracket.between)
    if len(near) != len(far):
        (near if len(near) < len(far) else far).append(Absence.ABSENT)
    pairs = product(near, far) if suspect.client_first else product(far, near)
    answers = {judge_pair(*pair) for pair in pairs}
    return any(isinstance(one, Verdict) and SEVERITY[one] is Severity.CRITICAL for one in answers)


def claims(ask: Ask, sights: Sights) -> list[Sight]:
    """The sockets that claim to be an end."""
    found = (sights.get((place, ask.key), Absence.UNSEEN) for place in ask.places)
    return [one for one in found if isinstance(one, Socket)]


def in_doubt(suspect: Suspect, survivor: Sight, bracket: Bracket) -> bool:
    """Whether an end that is not there may be somewhere all the same."""
    if suspect.doubt is None or not suspect.standins or not isinstance(survivor, Socket):
        return suspect.doubt is not None
    return any(fits(survivor, sight_at(ask, bracket.between)[0]) for ask in suspect.standins)


def fits(one: Socket, other: Sight) -> bool:
    """Whether two sockets could be the ends of one connection, by their byte counters, as far as they are known.

    What one has received lies between what the other knows to be acknowledged and what it has sent. The SYN of the end
    that connected, and a FIN, count as acknowledged bytes (net/ipv4/tcp_input.c tcp_snd_una_update).
    """
    if not isinstance(other, Socket):
        return other is Absence.UNSEEN
    for sender, receiver in ((one.info, other.info), (other.info, one.info)):
        if sender is None or receiver is None or sender.bytes_acked is None or receiver.bytes_received is None:
            continue
        if receiver.bytes_received + 2 < sender.bytes_acked:
            return False
        if sender.bytes_sent is not None and receiver.bytes_received > sender.bytes_sent:
            return False
    return True


def same_socket(one: Sight, two: Sight) -> bool:
    """The same socket in the same state: by cookie, and where a collector has none, by inode."""
    if not isinstance(one, Socket) or not isinstance(two, Socket):
        return one is two
    return one.state is two.state and same_life(one, two)


def same_life(one: Sight, two: Sight) -> bool:
    """No sign that these are two sockets, or that one is there and the other not."""
    if not isinstance(one, Socket) or not isinstance(two, Socket):
        return one is two
    if one.cookie is not None and two.cookie is not None:
        return one.cookie == two.cookie
    return not one.inode or not two.inode or one.inode == two.inode


def held(suspects: Sequence[Suspect], brackets: Sequence[Bracket]) -> tuple[list[Held], list[Unjudged]]:
    """Suspects that held in all brackets, and those that cannot be judged."""
    found, unjudged = [], []
    for suspect in suspects:
        words = [shown(suspect, bracket) for bracket in brackets]
        blind = any(word.verdict is Accord.UNJUDGED for word in words)
        verdict = None if blind else throughout(words)
        changed = None if blind or verdict is not None else changing(suspect, words)
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
            grave = verdict is Verdict.AMBIGUOUS and any(word.grave for word in words)
            found.append(replace(finding(suspect, verdict, words[-1], len(brackets)), grave=grave))
    return found, unjudged


def survivor_of(suspect: Suspect, brackets: Sequence[Bracket]) -> Survivor | None:
    """The end that is there where every look found the other one absent; None if there is none, or several."""
    first, second = ends(suspect)
    looks = (
        [sight_at(first, sights) for one in brackets for sights in (one.before, one.after)],
        [sight_at(second, one.between) for one in brackets],
    )
    gone = [all(state_of_sight(sight) is Absence.ABSENT for sight, _, _ in some) for some in looks]
    if gone[0] == gone[1]:
        return None
    there = [(sight, place) for sight, place, _ in looks[gone[0]] if isinstance(sight, Socket)]
    if not there or any(place != there[0][1] or not same_life(one, there[0][0]) for one, place in there):
        return None
    return Survivor(there[0][1], tuple(one for one, _ in there))


def answered(suspect: Suspect, survivor: Survivor) -> Unjudged:
    """A suspect whose survivor somebody answers."""
    missing = suspect.server if survivor.looks[0].key == suspect.client.key else suspect.client
    hosts = " or ".join(dict.fromkeys(place.host for place in missing.places))
    return Unjudged(suspect, ANSWERED.format(host=hosts), Reason.ANSWERED_ELSEWHERE, survivor)


def changing(suspect: Suspect, words: Sequence[Shown]) -> Unjudged | None:
    """A suspect without one verdict in all brackets, as long as none of them cleared it and an end of it is the same
    socket in all. Another socket there is another connection, and no word is due on one that is over.
    """
    if any(word.verdict is Accord.AGREE for word in words):
        return None
    last = words[-1]
    for place, looks in (
        (last.first_place, [word.first for word in words]),
        (last.second_place, [word.second for word in words]),
    ):
        there = [one for one in looks if isinstance(one, Socket) and same_life(one, looks[-1])]
        if len(there) == len(looks):
            return Unjudged(suspect, CHANGING, Reason.CHANGING, Survivor(place, tuple(there)))
    return None


def throughout(words: Sequence[Shown]) -> Verdict | None:
    """The gravest verdict that all brackets give, on the same sockets."""
    last = words[-1]
    if not all(same_life(word.first, last.first) and same_life(word.second, last.second) for word in words):
        return None
    for verdict in (*last.also, last.verdict):
        if not isinstance(verdict, Verdict) or any(verdict not in (*word.also, word.verdict) for word in words):
            continue
        if verdict is not Verdict.STALLED or counters.stays_stuck([(word.first, word.second) for word in words]):
            return verdict
    return None


def lasting(suspects: Sequence[Suspect], bracket: Bracket) -> list[Suspect]:
    """The suspects that are worth another look after a bracket: those that it did not clear."""
    words = [(suspect, shown(suspect, bracket)) for suspect in suspects]
    return [suspect for suspect, word in words if word.verdict is not Accord.AGREE or word.also]


def through(suspects: Sequence[Suspect], brackets: Sequence[Bracket]) -> tuple[Sequence[Suspect], list[Bracket]]:
    """The suspects that no bracket cleared, and the brackets that it took: none after the last suspect is cleared."""
    used = []
    for bracket in brackets:
        if not suspects:
            break
        used.append(bracket)
        suspects = lasting(suspects, bracket)
    return suspects, used


def finding(suspect: Suspect, verdict: Verdict, last: Shown, rounds: int) -> Held:
    """A suspect that held -> its verdict, ends and confidence."""
    sockets = [one for one in (last.first, last.second) if isinstance(one, Socket)]
    if rounds < 2 or suspect.inferred:
        confidence = Confidence.INFERRED
    elif all(one.cookie is not None for one in sockets):
        confidence = Confidence.PROVEN
    else:
        confidence = Confidence.OBSERVED
    ordered = [(last.first, last.first_place), (last.second, last.second_place)]
    if not suspect.client_first:
        ordered.reverse()
    (client, client_place), (server, server_place) = ordered
    return Held(
        suspect,
        verdict,
        confidence,
        client if isinstance(client, Socket) else None,
        server if isinstance(server, Socket) else None,
        client_place,
        server_place,
    )


ALONE = (Verdict.MISSING_ON_SERVER, Verdict.MISSING_ON_CLIENT, Verdict.ABANDONED_CLOSE, Verdict.CLOSING_ALONE)
CHANGING = "they went from one verdict to another while they were looked at (look again)"
ANSWERED = (
    "no other end on {host}, but somebody answers: a proxy, NAT or another host with that address "
    "(by design? --allow answered-elsewhere)"
)
