"""The steps of how a finding came about say nothing that its own sockets refute."""

from __future__ import annotations

import pytest
from diagnosis_cases import FIRES

from halfopen.judge.assembly.steps import steps_of
from halfopen.schema.report import CauseCode, StepCode
from halfopen.tcp import State

GONE = {
    True: {StepCode.CLIENT_VANISHED, StepCode.CLIENT_RESTARTED, StepCode.CLIENT_MOVED, StepCode.CLIENT_GAVE_UP},
    False: {StepCode.SERVER_VANISHED, StepCode.SERVER_RESTARTED, StepCode.SERVER_MOVED, StepCode.SERVER_GAVE_UP},
}
FIRST = {StepCode.ESTABLISHED, StepCode.SYN, StepCode.SYN_DROPPED, StepCode.SYN_LOST, StepCode.SYN_UNANSWERED}
WAITS = {True: StepCode.CLIENT_NOT_CLOSING, False: StepCode.SERVER_NOT_CLOSING}
LAST = {
    "a cookie's ACK met a full queue": StepCode.SILENCE,
    "in the accept queue": StepCode.QUEUED,
    "the listener defers": StepCode.ACK_IGNORED,
    "data is sent again and again": StepCode.CLIENT_UNANSWERED,
    "RSTs are sent now, and not one arrives": StepCode.SERVER_RST_LOST,
    "silent beyond 350 s": StepCode.BOX_FORGOT,
    "the window is closed and the other does not read": StepCode.SERVER_NOT_READING,
}


@pytest.mark.parametrize("name", FIRES)
def test_its_sockets_bear_out_each_step(name: str) -> None:
    given = FIRES[name][0]
    advised = given.advised()
    reasons, steps = advised.diagnosis.reasons, steps_of(advised.case, advised.diagnosis.reasons)
    if reasons[0].code is CauseCode.UNKNOWN or (len(reasons) > 1 and not reasons[0].decisive):
        assert steps == ()
    assert steps[:1] == () or (steps[0] in FIRST and not FIRST & set(steps[1:]))
    for is_client, end in ((True, given.client), (False, given.server)):
        assert end is None or not GONE[is_client] & set(steps)
        if WAITS[is_client] in steps:
            assert end is not None and end.state is State.CLOSE_WAIT
    if StepCode.QUEUED in steps:
        assert given.server is not None and given.server.inode == 0
    if StepCode.ESTABLISHED in steps:
        assert {end.state for end in (given.client, given.server) if end} - {State.SYN_RECV}
    if name in LAST:
        assert steps[-1] is LAST[name]


def test_most_causes_that_decide_have_their_steps() -> None:
    told = {name: one.advised() for name, (one, _) in FIRES.items()}
    decided = {name: one for name, one in told.items() if len(one.diagnosis.reasons) == 1}
    without = {name for name, one in decided.items() if not steps_of(one.case, one.diagnosis.reasons)}
    assert len(decided) > 20 and without == set()
    assert LAST.keys() <= decided.keys() | {"RSTs are sent now, and not one arrives"}
