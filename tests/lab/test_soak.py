"""A short soak; `lab/soak.py` is the long one, by hand."""

from __future__ import annotations

from lab.host import Lab
from lab.soak import soak


def test_faults_are_found_and_gone_within_two_checks_and_nothing_grows(fresh_pair: Lab) -> None:
    course = soak(fresh_pair, checks=12, rate=300, every=1.0)
    assert course.wrong == []
    assert course.faults == 3 and course.churned > 1000 and sum(course.first.values()) == course.faults
