"""What the ends of findings were asked and answered, for the report."""

from __future__ import annotations

from collections.abc import Iterable

from halfopen.judge.confirm.asked import answer_of
from halfopen.judge.confirm.rounds import Confirmed
from halfopen.schema.report import Answer, Question
from halfopen.words import plural


def questions_of(confirmed: Confirmed) -> tuple[Question, ...]:
    """The ends of a finding that were asked to the end, with their answers."""
    return tuple(
        Question(host=end.place.host, answer=answer, probes=end.reply.tries, ended=answer is Answer.RST)
        for end in confirmed.asked
        if (answer := answer_of(end.reply)) is not None
    )


def asked_words(group: Iterable[Confirmed]) -> str:
    """What the ends of a group were answered, which is the same for all: a clause for each end that was asked."""
    asked = [questions_of(confirmed) for confirmed in group]
    clauses = []
    for ends in zip(*asked, strict=True):
        tries = sorted({end.probes for end in ends})
        probes = f"{tries[0]} to {tries[-1]} probes" if len(tries) > 1 else plural(tries[0], "probe")
        clauses.append(ASKED_WORDS[ends[0].answer].format(host=ends[0].host, probes=probes))
    return "".join(clauses)


ASKED_WORDS = {
    Answer.RST: "; we asked from {host}: RST, which ended it, and its program gets ECONNRESET",
    Answer.ACKNOWLEDGED: "; we asked from {host}: acknowledged, so keepalive probes get through",
    Answer.SILENCE: "; we asked from {host}: no answer to {probes}",
}
