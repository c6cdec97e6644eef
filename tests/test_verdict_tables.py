"""Verdicts and causes have a row in each table that speaks of them: one that is forgotten fails here, by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from halfopen.glossary import CONFIDENCES, MEANINGS
from halfopen.glossary.causes import ABOUT, OUTLOOKS
from halfopen.judge.advice import ADVICE
from halfopen.judge.diagnosis.outlook import GRAVITY, LEADS
from halfopen.judge.diagnosis.rules import RULES
from halfopen.matching.verdict.table import SEVERITY
from halfopen.matching.verdict.traits import TRAITS
from halfopen.schema.report import CauseCode, Confidence, OutlookCode, Verdict

OF_VERDICTS: Mapping[str, Collection[Verdict]] = {
    "glossary": MEANINGS,
    "severity": SEVERITY,
    "what the rules, the outlook and the remedies take from a verdict": TRAITS,
}


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("table", OF_VERDICTS)
def test_every_verdict_has_its_row(table: str, verdict: Verdict) -> None:
    assert verdict in OF_VERDICTS[table]


@pytest.mark.parametrize("code", CauseCode)
def test_every_cause_has_its_rule_its_advice_and_its_words(code: CauseCode) -> None:
    rules = [rule.code for rule in RULES if rule.code is code]
    assert rules == ([] if code is CauseCode.UNKNOWN else [code]) and code in ADVICE and code in ABOUT


@pytest.mark.parametrize("code", OutlookCode)
def test_every_outlook_has_its_rank_and_its_words(code: OutlookCode) -> None:
    assert code in GRAVITY and code in LEADS and code in OUTLOOKS


def test_every_confidence_is_in_the_glossary() -> None:
    assert set(CONFIDENCES) == set(Confidence)


@pytest.mark.parametrize("verdict", Verdict)
def test_the_row_of_a_verdict_says_nothing_that_contradicts_itself(verdict: Verdict) -> None:
    traits = TRAITS[verdict]
    assert "tell" in traits.decider
    assert traits.teller is None or "db" in traits.teller.format("web", "db")
    assert not (traits.peer_missing and traits.unheard)  # the other end has gone, or is there and silent
    assert not (traits.handshake and not traits.path_may_fail)
