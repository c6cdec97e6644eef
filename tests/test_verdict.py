"""THE TABLE is total, says what the contract says, and is the same either way round where it should be."""

from __future__ import annotations

from itertools import product

import pytest

from halfopen.glossary import MEANINGS
from halfopen.matching.verdict import table as verdict
from halfopen.matching.verdict.table import ABSENT, THE_TABLE, UNSEEN, Accord, Answer, Seen
from halfopen.schema.report import Verdict
from halfopen.tcp import State

E, SS, SR, F1, F2, TW, CW, LA, CL = (
    State.ESTABLISHED,
    State.SYN_SENT,
    State.SYN_RECV,
    State.FIN_WAIT1,
    State.FIN_WAIT2,
    State.TIME_WAIT,
    State.CLOSE_WAIT,
    State.LAST_ACK,
    State.CLOSING,
)
SYMMETRIC: dict[Answer, set[tuple[Seen, Seen]]] = {
    Verdict.HALF_CLOSED: {(F1, CW), (F2, CW)},
    Verdict.ABANDONED_CLOSE: {(CW, ABSENT)},
    Verdict.CLOSE_LOST: {(F1, E), (LA, E), (CL, E)},
    Verdict.CONNECT_UNANSWERED: {(SS, ABSENT), (SS, SR)},
    Verdict.CLOSING_ALONE: {(F1, ABSENT), (F2, ABSENT), (LA, ABSENT), (CL, ABSENT)},
    Verdict.DESYNCHRONIZED: {(E, F2), (E, TW), (E, CW), (E, SS)},
    Accord.AGREE: {(TW, ABSENT), (TW, TW), (TW, F1), (TW, F2), (TW, LA), (TW, CL), *((one, one) for one in State)},
}
DIRECTED: dict[Answer, set[tuple[Seen, Seen]]] = {
    Verdict.MISSING_ON_SERVER: {(E, ABSENT)},
    Verdict.MISSING_ON_CLIENT: {(ABSENT, E)},
    Verdict.HANDSHAKE_STUCK: {(E, SR)},
    Verdict.EMBRYONIC: {(ABSENT, SR)},
}


def test_every_pair_of_states_has_one_answer() -> None:
    every = [*State, ABSENT, UNSEEN]
    assert set(THE_TABLE) == set(product(every, every))


def test_two_rules_that_disagree_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    clash = (*verdict.RULES, ((E,), (E,), verdict.EITHER, Verdict.STALLED))
    monkeypatch.setattr(verdict, "RULES", clash)
    with pytest.raises(ValueError, match="ESTABLISHED"):
        verdict.make_table()


@pytest.mark.parametrize(("answer", "pair"), [(a, p) for a, pairs in SYMMETRIC.items() for p in pairs])
def test_the_contract_in_either_order(answer: Verdict | Accord, pair: tuple[verdict.Seen, verdict.Seen]) -> None:
    assert THE_TABLE[pair] is answer
    assert THE_TABLE[pair[::-1]] is answer


@pytest.mark.parametrize(("answer", "pair"), [(a, p) for a, pairs in DIRECTED.items() for p in pairs])
def test_the_contract_where_the_order_counts(answer: Verdict, pair: tuple[verdict.Seen, verdict.Seen]) -> None:
    assert THE_TABLE[pair] is answer


@pytest.mark.parametrize("seen", [*State, ABSENT, UNSEEN])
def test_unseen_never_gives_a_verdict(seen: verdict.Seen) -> None:
    assert THE_TABLE[seen, UNSEEN] is THE_TABLE[UNSEEN, seen] is Accord.UNJUDGED


@pytest.mark.parametrize("state", [*State, ABSENT])
def test_a_listener_is_no_end(state: verdict.Seen) -> None:
    assert THE_TABLE[state, State.LISTEN] is THE_TABLE[state, ABSENT]
    assert THE_TABLE[State.LISTEN, state] is THE_TABLE[ABSENT, state]


def test_every_verdict_has_a_severity_and_words() -> None:
    assert set(verdict.SEVERITY) == set(Verdict) == set(MEANINGS)
    assert all(meaning.clause and all(meaning.counted) for meaning in MEANINGS.values())
