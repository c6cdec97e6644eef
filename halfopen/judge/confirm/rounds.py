"""What all rounds say of a suspect together: a finding and how sure it is, or why it cannot be judged.

A finding holds in every round, with the same verdict on the same sockets; one that became another verdict meanwhile
must have held in the last two. Nothing that a due timer may still undo is a finding (see `timing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct

from halfopen.judge.confirm.answers import is_answered, progressed
from halfopen.judge.confirm.bracket import Bracket, RoundResult, ends, ends_in, observed, result_of, same_socket
from halfopen.judge.confirm.queues import Taken, moves, taken_from
from halfopen.judge.confirm.timing import is_due, is_trying, most_due, spans_timeouts
from halfopen.matching.missing.candidates import Candidate, candidate_of
from halfopen.matching.pairing.connection import Suspect
from halfopen.matching.verdict import sequence
from halfopen.matching.verdict.table import Accord, state_seen
from halfopen.model import Absence, AskedEnd, NetnsRef, Observation, Socket
from halfopen.schema.report import Confidence, Reason, Verdict
from halfopen.tcp import State


class Confirmed(Struct, frozen=True):
    """A suspect that held in every bracket, with its ends as the last bracket saw them; None for an absent end.

    `grave`: it is ambiguous, and one of the possible pairs of sockets would be critical. candidate: a socket that could
    be its absent end if something on the way translates. asked: its ends that were asked (see `asked`).
    """

    suspect: Suspect
    verdict: Verdict
    confidence: Confidence
    client: Socket | None
    server: Socket | None
    client_place: NetnsRef
    server_place: NetnsRef
    grave: bool = False
    candidate: Candidate | None = None
    asked: tuple[AskedEnd, ...] = ()

    @property
    def places(self) -> tuple[NetnsRef, NetnsRef]:
        """The namespaces of the client's end and of the server's, where it is or would be."""
        return self.client_place, self.server_place


class Survivor(Struct, frozen=True):
    """The end of a suspect that exists while the other is absent: its namespace, and the socket in each look at it."""

    place: NetnsRef
    looks: tuple[Socket, ...]


class Unjudged(Struct, frozen=True):
    """A suspect that cannot be judged. why: in words, None where a host could not look. reason: its code."""

    suspect: Suspect
    why: str | None = None
    reason: Reason = Reason.NOT_SHOWN_BY_SOURCE
    survivor: Survivor | None = None


class Held(NamedTuple):
    """The suspects that held in all rounds, those that cannot be judged, and those of which an end is still trying to
    reach the other one, which is there.
    """

    confirmed: list[Confirmed]
    unjudged: list[Unjudged]
    trying: list[Suspect]


class Rounds(Struct, frozen=True):
    """The rounds of one suspect that count, from its last change of verdict on.

    verdict: what all of them say; None if they have nothing in common. seconds: from the first of them to the last.
    """

    suspect: Suspect
    results: Sequence[RoundResult]
    verdict: Verdict | None
    seconds: float

    @property
    def is_blind(self) -> bool:
        """Whether a look is missing, or an absent end may exist elsewhere."""
        return any(result.verdict is Accord.UNJUDGED for result in self.results)

    def ends(self) -> tuple[list[Observation], list[Observation]]:
        """Both ends as each round saw them."""
        return [result.first for result in self.results], [result.second for result in self.results]

    def is_due(self) -> bool:
        """Whether a try of an end is due that may change the verdict. One round alone cannot tell.

        A listener whose accept queue is full drops each try (net/ipv4/tcp_ipv4.c tcp_v4_syn_recv_sock).
        """
        if self.verdict not in UNDONE_BY_A_TRY or len(self.results) < 2 or self.is_established():
            return False
        if self.suspect.queue_full and self.verdict in HANDSHAKE:
            return False
        return any(is_due(looks, self.seconds) for looks in self.ends())

    def is_established(self) -> bool:
        """Whether both ends are: then its verdict rests on more than on states."""
        last = self.results[-1]
        return all(isinstance(seen, Socket) and seen.state is State.ESTABLISHED for seen in (last.first, last.second))

    def stays_trying(self) -> bool:
        """Whether an end has sent something again in every round, and nothing was answered meanwhile."""
        return self.is_established() and any(
            all(map(is_trying, looks)) and same_socket(looks[0], looks[-1]) and not any(moved(looks))
            for looks in self.ends()
        )

    def flows(self) -> bool:
        """Whether data passes between the ends."""
        return any(any(moved(looks)) for looks in self.ends())


def moved(looks: Sequence[Observation]) -> Iterator[bool]:
    """Between each two looks at a socket, whether data arrived or was acknowledged."""
    for first, later in pairwise(looks):
        if (
            isinstance(first, Socket)
            and isinstance(later, Socket)
            and first.info is not None
            and later.info is not None
        ):
            yield progressed(first.info, later.info)


def rounds_of(suspect: Suspect, brackets: Sequence[Bracket]) -> Rounds:
    """The rounds of a suspect: all of them, or if its verdict changed on the way and held in two since, these."""
    results = [result_of(suspect, bracket) for bracket in brackets]
    pauses = [bracket.paused_s for bracket in brackets]
    if not any(result.verdict in (Accord.AGREE, Accord.UNJUDGED) and not result.also for result in results):
        for start in range(max(1, len(results) - 1)):
            if (verdict := common_verdict(results[start:])) is not None:
                return Rounds(suspect, results[start:], verdict, sum(pauses[start + 1 :]))
    return Rounds(suspect, results, common_verdict(results), sum(pauses[1:]))


def is_open(suspect: Suspect, brackets: Sequence[Bracket]) -> bool:
    """Whether another round may tell what these do not: a try is due, or the verdict has just changed."""
    rounds = rounds_of(suspect, brackets)
    if rounds.is_blind:
        return False
    if rounds.verdict is None:
        return changing(suspect, rounds.results) is not None or rounds.stays_trying()
    return rounds.is_due()


def settle_for(suspects: Iterable[Suspect], last: Bracket) -> float:
    """Seconds until another round tells more of these suspects than the last one did."""
    return max((most_due(end) for suspect in suspects for end in ends_in(suspect, last)), default=0.0)


def held(suspects: Sequence[Suspect], brackets: Sequence[Bracket]) -> Held:
    """What all brackets together say of each suspect."""
    found, taken = Held([], [], []), taken_from(brackets)
    for suspect in suspects:
        judge_suspect(suspect, brackets, taken, found)
    return found


def judge_suspect(suspect: Suspect, brackets: Sequence[Bracket], taken: Taken, found: Held) -> None:
    """Adds a suspect to what was found, unless a bracket cleared it. `taken`: what was accepted meanwhile."""
    rounds = rounds_of(suspect, brackets)
    changed = None if rounds.is_blind or rounds.verdict is not None else changing(suspect, rounds.results)
    if rounds.verdict is None and changed is None and not rounds.is_blind:
        if rounds.stays_trying():
            found.trying.append(suspect)
        return
    survivor = survivor_of(suspect, brackets)
    is_alone = rounds.is_blind or changed is not None or rounds.verdict in ALONE
    if survivor is not None and is_alone and is_answered(survivor.looks):
        found.unjudged.append(answered(suspect, survivor))
    elif changed is not None:
        found.unjudged.append(changed)
    elif rounds.is_blind or rounds.verdict is None:
        # What could be the missing end makes a finding inferred; where there is none, a look is missing.
        told = suspect.doubt is not None and not suspect.standins
        reason = (suspect.reason if told else None) or Reason.NOT_SHOWN_BY_SOURCE
        found.unjudged.append(Unjudged(suspect, suspect.doubt if told else None, reason, survivor))
    elif rounds.verdict is Verdict.HALF_CLOSED and rounds.flows():
        return  # one direction was closed, and the other one is in use
    elif rounds.verdict is Verdict.NEVER_ACCEPTED and moves(server_of(suspect, rounds), brackets, taken):
        return  # its turn has not come yet
    elif rounds.verdict in ALONE and opened_since(suspect, rounds):
        found.unjudged.append(Unjudged(suspect, CHANGING, Reason.CHANGING, survivor))
    elif rounds.verdict in ALONE and lives_unknown(suspect, survivor, brackets[-1]):
        found.unjudged.append(Unjudged(suspect, suspect.doubt, Reason.TRANSLATION_GONE, survivor))
    elif not rounds.is_due():
        found.confirmed.append(confirmed_as(suspect, rounds.verdict, rounds, brackets[-1]))
    elif survivor is not None or rounds.verdict is Verdict.DESYNCHRONIZED:
        found.unjudged.append(Unjudged(suspect, DUE, Reason.CHANGING, survivor))
    else:
        found.trying.append(suspect)


def lives_unknown(suspect: Suspect, survivor: Survivor | None, bracket: Bracket) -> bool:
    """Whether a socket behind a host of the check that has forgotten what it translates could be the missing end."""
    if survivor is None or suspect.reason is not Reason.TRANSLATION_GONE:
        return False
    return candidate_of(suspect, survivor.looks[-1], bracket.between) is not None


def opened_since(suspect: Suspect, rounds: Rounds) -> bool:
    """Whether a lone end was opened, or changed its state, after the dumps and tables that say where its peer is."""
    looks = next((looks for looks in rounds.ends() if isinstance(looks[-1], Socket)), [])
    states = {seen.state for seen in looks if isinstance(seen, Socket)}
    return len(states) > 1 or (suspect.opening and State.SYN_SENT not in states)


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


def server_of(suspect: Suspect, rounds: Rounds) -> tuple[NetnsRef, bytes]:
    """The namespace and the key of its server's end."""
    last = rounds.results[-1]
    return (last.second_place if suspect.client_first else last.first_place), suspect.server.key


def confirmed_as(suspect: Suspect, verdict: Verdict, rounds: Rounds, bracket: Bracket) -> Confirmed:
    """A suspect that held, with its verdict, its ends as the last round (its bracket) saw them, and the confidence."""
    last = rounds.results[-1]
    sockets = [seen for seen in (last.first, last.second) if isinstance(seen, Socket)]
    candidate = candidate_of(suspect, last.first, bracket.between) if last.second is Absence.ABSENT else None
    is_guessed = suspect.inferred or candidate is not None
    if len(rounds.results) < 2 or is_guessed or not spans_timeouts(sockets, rounds.seconds):
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
        grave=verdict is Verdict.AMBIGUOUS and any(result.grave for result in rounds.results),
        candidate=candidate,
    )


UNDONE_BY_A_TRY = (
    Verdict.MISSING_ON_SERVER,
    Verdict.MISSING_ON_CLIENT,
    Verdict.HANDSHAKE_STUCK,
    Verdict.DESYNCHRONIZED,
    Verdict.ABANDONED_CLOSE,
    Verdict.CLOSE_LOST,
    Verdict.CONNECT_UNANSWERED,
    Verdict.CLOSING_ALONE,
    Verdict.EMBRYONIC,
)
"""Verdicts that rest on states, which a retransmission changes if it is answered."""

HANDSHAKE = (Verdict.HANDSHAKE_STUCK, Verdict.CONNECT_UNANSWERED, Verdict.EMBRYONIC)

# Verdicts of a connection with one end only.
ALONE = (Verdict.MISSING_ON_SERVER, Verdict.MISSING_ON_CLIENT, Verdict.ABANDONED_CLOSE, Verdict.CLOSING_ALONE)
DUE = "an end sends again later than was waited for, and that may end it or heal it (look again)"
CHANGING = "they went from one verdict to another while they were looked at (look again)"
ANSWERED = (
    "no other end on {host}, but somebody answers: a proxy, NAT or another host with that address "
    "(by design? --allow answered-elsewhere)"
)
