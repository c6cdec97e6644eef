"""What asking through connections shows: a RST, an acknowledgement, or silence (RFC 9293, 3.5.1 and 3.8.4).

A RST proves that nobody holds the other end, and the kernel ends the survivor; an acknowledgement proves that somebody
holds it, wherever; silence after several tries proves that the path is dead. What may not be asked stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from halfopen.judge.confirm.answers import heard_later, progressed
from halfopen.judge.confirm.bracket import Bracket, Observations, ends, observed, result_of
from halfopen.judge.confirm.rounds import Confirmed, Rounds, Survivor, Unjudged, answered, confirmed_as
from halfopen.matching.pairing.connection import Suspect
from halfopen.matching.verdict.table import judge_pair
from halfopen.model import Absence, AskedEnd, AskQuery, NetnsRef, Reply, Socket, Unasked
from halfopen.schema.report import Answer, Confidence, Reason, Verdict
from halfopen.tcp import State
from halfopen.words import plural

End = tuple[NetnsRef, bytes]
"""One end of a connection: its network namespace and its key."""


class Asked(Struct, frozen=True):
    """What asking brought for one check. replies: of each end that was to be asked, by its network namespace and key.

    silent: pairs that agree, were silent, and whose path turned out to be dead. unread: pairs that agree of which it is
    not known how long they were silent, because they are too many.
    """

    replies: Mapping[End, Reply] = {}
    silent: tuple[Confirmed, ...] = ()
    unread: int = 0


def answer_of(reply: Reply) -> Answer | None:
    """What an end was answered; None where it was not asked to the end."""
    if reply.unasked is not None or reply.before is None or reply.after is None:
        return None
    if reply.state is State.CLOSE:
        return Answer.RST
    if (
        reply.state is State.CLOSE_WAIT
        or progressed(reply.before, reply.after)
        or heard_later(reply.before, reply.after)
    ):
        return Answer.ACKNOWLEDGED
    return Answer.SILENCE if reply.state is State.ESTABLISHED else None


# ------------------------------------------------------------------------------------------- whom to ask


def suspect_ends(lasting: Iterable[Confirmed], unjudged: Iterable[Unjudged]) -> dict[End, Socket]:
    """The ends of suspects that an answer can tell something about: survivors, and both ends of what is stalled."""
    found = [
        (place, socket)
        for confirmed in lasting
        if confirmed.verdict in ASKABLE
        for place, socket in sockets_of(confirmed)
    ]
    found += [
        (skipped.survivor.place, skipped.survivor.looks[-1])
        for skipped in unjudged
        if skipped.survivor is not None and skipped.reason in UNDECIDED
    ]
    return {(place, socket.key): socket for place, socket in found if socket.state is State.ESTABLISHED}


def sockets_of(confirmed: Confirmed) -> list[tuple[NetnsRef, Socket]]:
    """The ends that are there, each with its namespace."""
    both = zip(confirmed.places, (confirmed.client, confirmed.server), strict=True)
    return [(place, socket) for place, socket in both if socket is not None]


def silent_ends(suspects: Iterable[Suspect], looks: Observations) -> dict[End, Suspect]:
    """Those pairs whose first end has sent and heard nothing for SILENT_MS, by that end, the longest silent first."""
    found = []
    for suspect in suspects:
        socket, place, number = observed(ends(suspect)[0], looks)
        if isinstance(socket, Socket) and number == 1 and (silence := silence_ms(socket)) >= SILENT_MS:
            found.append((silence, (place, socket.key), suspect))
    return {end: suspect for _, end, suspect in sorted(found, key=lambda one: -one[0])}


def silence_ms(socket: Socket) -> int:
    """For how long an established socket has sent no data and heard nothing; 0 where it is not known."""
    if socket.state is not State.ESTABLISHED or socket.info is None:
        return 0
    info = socket.info
    return min(info.last_data_sent_ms, info.last_data_recv_ms, info.last_ack_recv_ms)


def queries(wanted: Mapping[End, Socket]) -> tuple[dict[str, list[AskQuery]], dict[End, Reply]]:
    """Host -> what it is asked; and the replies of those that are not asked, which is known before."""
    asked: dict[str, list[AskQuery]] = {}
    left: dict[End, Reply] = {}
    for (place, key), socket in wanted.items():
        of_host = asked.setdefault(place.host, [])
        if not socket.inode:
            left[place, key] = Reply(Unasked.NO_HOLDER)
        elif len(of_host) >= MOST_ASKED:
            left[place, key] = Reply(Unasked.TOO_MANY)
        else:
            of_host.append(AskQuery(place, key, socket.inode, socket.cookie))
    return {host: some for host, some in asked.items() if some}, left


# ------------------------------------------------------------------------------------------- what it proves


def judged(
    lasting: Sequence[Confirmed], unjudged: Sequence[Unjudged], asked: Asked
) -> tuple[list[Confirmed], list[Unjudged]]:
    """What held, and what cannot be judged, by what was answered."""
    kept: list[Confirmed] = []
    left: list[Unjudged] = []
    for confirmed in lasting:
        told = with_replies(confirmed, asked.replies)
        answers = [answer_of(end.reply) for end in told.asked]
        if len(sockets_of(told)) == 1 and Answer.ACKNOWLEDGED in answers:
            left.append(answered(told.suspect, survivor_of(told)))
        elif len(sockets_of(told)) == 1 and Answer.RST in answers:
            kept.append(replace(told, confidence=Confidence.PROVEN, candidate=None))
        else:
            kept.append(told)
    for skipped in unjudged:
        survivor = skipped.survivor if skipped.reason in UNDECIDED else None
        reply = asked.replies.get((survivor.place, survivor.looks[-1].key)) if survivor else None
        answer = answer_of(reply) if reply else None
        if survivor is not None and answer is Answer.ACKNOWLEDGED:
            left.append(answered(skipped.suspect, survivor))
        elif survivor is not None and answer is Answer.RST:
            kept.append(with_replies(alone(skipped.suspect, survivor), asked.replies))
        else:
            left.append(skipped)
    return [*kept, *asked.silent], left


def with_replies(confirmed: Confirmed, replies: Mapping[End, Reply]) -> Confirmed:
    """A finding with what its ends were answered."""
    found = [
        AskedEnd(place, socket.key, replies[place, socket.key])
        for place, socket in sockets_of(confirmed)
        if (place, socket.key) in replies
    ]
    return replace(confirmed, asked=tuple(found))


def survivor_of(confirmed: Confirmed) -> Survivor:
    """The one end of a finding that is there."""
    ((place, socket),) = sockets_of(confirmed)
    return Survivor(place, (socket,))


def alone(suspect: Suspect, survivor: Survivor) -> Confirmed:
    """The finding of a survivor that was answered by RST, where it was not certain that its other end is absent."""
    socket = survivor.looks[-1]
    is_client = socket.key == suspect.client.key
    verdict = judge_pair(socket, Absence.ABSENT) if is_client else judge_pair(Absence.ABSENT, socket)
    assert isinstance(verdict, Verdict)  # of an established end without another
    client, server = (socket, None) if is_client else (None, socket)
    places = (
        (survivor.place if is_client else suspect.client.places[0]),
        (suspect.server.places[0] if is_client else survivor.place),
    )
    return Confirmed(suspect, verdict, Confidence.PROVEN, client, server, *places)


def dead_paths(pairs: Mapping[End, Suspect], replies: Mapping[End, Reply], look: Bracket) -> tuple[Confirmed, ...]:
    """The findings among pairs that were silent and gave no answer, or a RST. `look`: a bracket after they were asked.

    Where both ends are still there, the path between them is dead; where the RST has ended one, the other is alone.
    """
    found = []
    for end in unanswered(pairs, replies):
        suspect, reply = pairs[end], replies[end]
        result = result_of(suspect, look)
        there = [isinstance(seen, Socket) for seen in (result.first, result.second)]
        verdict = Verdict.STALLED if all(there) and answer_of(reply) is Answer.SILENCE else result.verdict
        if not isinstance(verdict, Verdict):
            continue  # it was closed meanwhile, or answered after all
        # What they showed before, silent for so long and agreeing, counts as a round of its own.
        rounds = Rounds(suspect, [result, result], verdict, SILENT_MS / 1000)
        confirmed = confirmed_as(suspect, verdict, rounds, look)
        confirmed = replace(confirmed, asked=(AskedEnd(*end, reply),))
        if reply.tries < ENOUGH_TRIES and answer_of(reply) is Answer.SILENCE:
            confirmed = replace(confirmed, confidence=Confidence.OBSERVED)
        found.append(confirmed)
    return tuple(found)


def unanswered(pairs: Mapping[End, Suspect], replies: Mapping[End, Reply]) -> list[End]:
    """The ends of pairs that were silent, and whose answer is not the one that a healthy connection gives."""
    return [end for end in pairs if answer_of(replies[end]) in (Answer.RST, Answer.SILENCE)]


# ------------------------------------------------------------------------------------------- what is said of it


def notes(asked: Asked) -> tuple[str, ...]:
    """What was sent, and who was left out and why: a sentence for each host and kind."""
    sent: dict[str, Counter[int]] = {}
    left: Counter[tuple[str, str]] = Counter()
    kept: Counter[str] = Counter()
    for (place, _), reply in asked.replies.items():
        if reply.tries:
            sent.setdefault(place.host, Counter())[reply.tries] += 1
            kept[place.host] += reply.errno != 0
        if reply.unasked is not None:
            left[place.host, WHY[reply.unasked].format(errno=reply.errno)] += 1
    found = [f"{host}: sent {probes(tries)}" for host, tries in sent.items()]
    found += [
        f"{host}: the keepalive options of {plural(count, 'connection')} could not be put back"
        for host, count in kept.items()
        if count
    ]
    found += [f"{host}: {plural(count, 'connection')} not asked: {why}" for (host, why), count in left.items()]
    if asked.unread:
        found.append(f"{plural(asked.unread, 'connection')} not asked: too many to see which are silent (--deep)")
    return tuple(found)


def probes(tries: Mapping[int, int]) -> str:
    """`one keepalive probe on 12 connections, 3 on 1`."""
    first, *others = sorted(tries.items())
    words = "one keepalive probe" if first[0] == 1 else f"{first[0]} keepalive probes"
    return ", ".join(
        [f"{words} on {plural(first[1], 'connection')}", *(f"{number} on {count}" for number, count in others)]
    )


ASKABLE = (Verdict.MISSING_ON_SERVER, Verdict.MISSING_ON_CLIENT, Verdict.STALLED)
UNDECIDED = (None, Reason.NAMESPACE_NOT_ENTERED)
"""Reasons of what was not judged that an answer decides."""

SILENT_MS = 60_000  # of pairs that agree
MOST_ASKED = 1000  # of one host and run
ENOUGH_TRIES = 3  # in vain: fewer may be lost by chance

WHY: dict[Unasked, str] = {
    Unasked.NO_HOLDER: "no process has a descriptor of it (it waits in an accept queue, or its program is gone)",
    Unasked.NOT_ALLOWED: "the kernel refuses a copy of the socket (errno {errno}); halfopen doctor says what it needs",
    Unasked.ANOTHER: "another socket has its place by now",
    Unasked.NOT_ESTABLISHED: "no longer established",
    Unasked.IN_REPAIR: "TCP_REPAIR is set: a checkpoint or migration is under way",
    Unasked.SENDS: "it has sent what is not acknowledged, which asks as well",
    Unasked.OWN_TIMEOUT: "TCP_USER_TIMEOUT with a keepalive of its own: a further probe might end it",
    Unasked.OWN_LIMIT: "its TCP_KEEPCNT or TCP_USER_TIMEOUT: a further probe might end it",
    Unasked.LATE: "no time was left (--timeout)",
    Unasked.CLOSED: "its program has closed it meanwhile",
    Unasked.TOO_MANY: f"{MOST_ASKED} of this host were asked, which is the limit of one run",
    Unasked.NO_PROBE: "its host is read without Python, or is lost",
}
