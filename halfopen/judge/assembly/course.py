"""Whom the checks of a run ask through their connections (`--ask`), and how the answers become evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from halfopen.judge.assembly.run_evidence import Evidence
from halfopen.judge.confirm.asked import Asked, End, dead_paths, queries, silent_ends, suspect_ends, unanswered
from halfopen.judge.confirm.bracket import Bracket, Observations
from halfopen.judge.confirm.byte_counters import suspects_of
from halfopen.judge.confirm.rounds import Held, held
from halfopen.matching.pairing.connection import EndQuery, Suspect
from halfopen.matching.pairing.pair import Prepared
from halfopen.model import AskQuery, Reply, Socket, Unasked
from halfopen.plan import ASK_LEVELS

NEVER, _, IDLE = ASK_LEVELS


class Course(Struct, frozen=True):
    """Whom a run asks: `levels`, `ends` and `silent` for each check, in their order; `replies` of all that are known.

    levels: what each check says (ASK_LEVELS). queries: host -> what it is asked. ends: those of suspects. silent: those
    of pairs that agree, with their pair.
    """

    levels: Sequence[str]
    queries: Mapping[str, Sequence[AskQuery]]
    ends: Sequence[Mapping[End, Socket]]
    silent: Sequence[Mapping[End, Suspect]]
    replies: Mapping[End, Reply]

    def answered(self, answers: Mapping[str, Sequence[Reply]]) -> Course:
        """The same with the replies of the hosts. One that is not in the answer could not be asked."""
        found = dict(self.replies)
        for host, some in self.queries.items():
            told = answers.get(host) or [Reply(Unasked.NO_PROBE)] * len(some)
            found |= {(query.place, query.key): reply for query, reply in zip(some, told, strict=True)}
        return replace(self, replies=found)

    @property
    def dead(self) -> list[Suspect]:
        """The pairs whose path seems dead, each once: they are looked at again."""
        return list(dict.fromkeys(some[end] for some in self.silent for end in unanswered(some, self.replies)))

    def evidence(self, evidence: Sequence[Evidence], look: Bracket | None) -> list[Evidence]:
        """The evidence of each check with what was asked for it. `look`: at the pairs whose path seems dead."""
        return [
            replace(
                one,
                asked=Asked(
                    {end: self.replies[end] for end in (*ends, *silent)},
                    dead_paths(silent, self.replies, look) if look else (),
                    one.matching.uncounted if level == IDLE else 0,
                ),
            )
            for one, level, ends, silent in zip(evidence, self.levels, self.ends, self.silent, strict=True)
        ]


def agreeing_pairs(check: Prepared, evidence: Evidence) -> list[Suspect]:
    """The pairs of a check that agree, if it asks those too: each with the end first that can be asked.

    That is the client's, unless only the host of the server was read as root.
    """
    if check.plan.ask != IDLE:
        return []

    def as_root(end: EndQuery) -> bool:
        facts = evidence.snapshots[end.places[0].host].facts
        return facts is not None and facts.privileged is True

    pairs = suspects_of(check.address_map(), evidence.matching.established)
    return [replace(pair, client_first=as_root(pair.client) or not as_root(pair.server)) for pair in pairs]


def course_of(
    checks: Sequence[Prepared],
    evidence: Sequence[Evidence],
    pairs: Sequence[Sequence[Suspect]],
    looks: Observations,
) -> Course:
    """Whom to ask. pairs: those that agree, of each check. looks: at their first ends."""
    ends: list[Mapping[End, Socket]] = []
    for check, one in zip(checks, evidence, strict=True):
        asks = check.plan.ask != NEVER and one.brackets
        found = held(one.matching.suspects, one.brackets) if asks else Held([], [], [])
        ends.append(suspect_ends(found.confirmed, found.unjudged))
    silent = [silent_ends(some, looks) for some in pairs]
    wanted = {end: socket for some in ends for end, socket in some.items()}
    for some in silent:
        wanted |= {end: seen for end in some if isinstance(seen := looks[end], Socket)}
    asked, known = queries(wanted)
    return Course([check.plan.ask for check in checks], asked, ends, silent, known)
