"""Whether the counters of a cause are enough for all the findings that it is said of.

A counter that shows 2 RSTs does not explain 3000 lost connections. A cause that was taken for certain merely fits where
its counters fall short; one that merely fits is dropped where they explain less than half of the findings.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from halfopen.judge.diagnosis.rules.rule import Claim, Fact, Reason
from halfopen.judge.signs.phrase import Amount
from halfopen.schema.report import CauseCode

Said = tuple[CauseCode, Claim]


def covered(found: Sequence[Sequence[Reason]]) -> list[list[Reason]]:
    """The causes of each of the findings of a check, as far as their counters cover them."""
    claims: Tally[Said] = Tally(
        (reason.code, claim) for reasons in found for reason in reasons for claim in reason.claims
    )
    return [[left for reason in reasons for left in weighed(reason, claims)] for reasons in found]


def weighed(reason: Reason, claims: Tally[Said]) -> Iterable[Reason]:
    """A cause of one finding as it is, or weakened, or none. `claims`: how many findings make each."""
    short = [(claim, claims[reason.code, claim]) for claim in reason.claims]
    short = [(claim, count) for claim, count in short if claim.events < count]
    if not short:
        yield reason
        return
    claim, count = min(short, key=lambda one: one[0].events)
    if not reason.decisive and 2 * claim.events < count:
        return
    words = (f"{claim.counter} explains at most ", Amount(claim.events), " of ", Amount(count), " such connections")
    yield replace(reason, facts=(*reason.facts, Fact(claim.host, words)), decisive=False)
