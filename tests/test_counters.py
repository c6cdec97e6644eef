"""Counters of one connection never contradict each other, however its segments get lost; those of two lives do."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from evidence import LONG_AGO, counted, end, key
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from halfopen import address
from halfopen.matching.verdict.sequence import PATIENCE, stays_stuck, sticks, verdicts
from halfopen.model import Absence, Socket
from halfopen.schema.report import Verdict
from halfopen.tcp import State, Timer

ONE = key(40000)


@dataclass
class Half:
    """One end of a simulated connection: sequence numbers from 0, the SYN aside."""

    syn: int
    written: int = 0
    sent: int = 0
    acknowledged: int = 0
    received: int = 0
    early: set[tuple[int, int]] = field(default_factory=set)  # segments that came out of order

    def socket(self) -> Socket:
        return end(self.syn + self.acknowledged, self.received, self.written - self.acknowledged)

    def take(self, first: int, last: int) -> None:
        self.early.add((first, last))
        for first, last in sorted(self.early):
            if first <= self.received:
                self.received = max(self.received, last)


@dataclass
class Simulation:
    """Two ends and what is on its way between them: segments and acknowledgements, lost, doubled and out of order."""

    ends: tuple[Half, Half]
    flying: list[tuple[int, int, int, int]] = field(default_factory=list)  # to, first, last, acknowledged

    def step(self, action: str, who: int, size: int) -> None:
        own = self.ends[who]
        if action == "write":
            own.written += size
        elif action == "send":
            last = min(own.written, own.sent + size)
            self.fly(who, own.sent, last)
            own.sent = last
        elif action == "retransmit":
            self.fly(who, own.acknowledged, min(own.sent, own.acknowledged + size))
        elif self.flying:
            at = size % len(self.flying)
            to, first, last, acknowledged = self.flying[at] if action == "double" else self.flying.pop(at)
            if action != "lose":
                there = self.ends[to]
                there.acknowledged = max(there.acknowledged, acknowledged)
                there.take(first, last)
                if last > first:
                    self.fly(to, there.sent, there.sent)

    def fly(self, who: int, first: int, last: int) -> None:
        self.flying.append((1 - who, first, last, self.ends[who].received))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("write", "send", "send", "retransmit", "arrive", "arrive", "arrive", "double", "lose")),
        st.integers(0, 1),
        st.integers(1, 5000),
    ),
    max_size=80,
)
SYNS = st.sampled_from([(1, 0), (0, 1), (1, 1)])  # who opened; both, where their SYNs crossed


@settings(max_examples=500)
@given(SYNS, st.tuples(STEPS, STEPS, STEPS), st.integers(0, 1))
def test_one_connection_never_contradicts_itself(
    syns: tuple[int, int], parts: tuple[list[tuple[str, int, int]], ...], first: int
) -> None:
    run = Simulation((Half(syns[0]), Half(syns[1])))
    seen = []
    for part, who in zip(parts, (first, 1 - first, first), strict=True):
        for step in part:
            run.step(*step)
        seen.append(run.ends[who].socket())
    assert Verdict.DESYNCHRONIZED not in verdicts(*seen)


SIZES = st.integers(0, 10**6)


@given(SIZES, SIZES, SIZES, SIZES, st.booleans())
def test_two_idle_lives_contradict_each_other_unless_they_had_as_many_bytes(
    up: int, down: int, other_up: int, other_down: int, swapped: bool
) -> None:
    client, server = end(up + 1, down), end(other_down, other_up)
    seen = (server, client, server) if swapped else (client, server, client)
    apart = max(abs(up - other_up), abs(down - other_down))
    if apart > 1:  # one byte may be the SYN
        assert verdicts(*seen) == (Verdict.DESYNCHRONIZED,)
    elif apart == 0:
        assert verdicts(*seen) == ()


@pytest.mark.parametrize(
    ("old", "young"),
    [
        (end(acked=None, received=3000), end(acked=None)),
        (end(acked=5001, received=None), end(acked=0, received=None)),
        (end(acked=101, queued=None), end(acked=0, received=502)),
        (replace(end(acked=5001), info=None), end(acked=0)),
        (end(acked=5001), replace(end(acked=0), info=None)),
    ],
)
def test_what_is_unknown_contradicts_nothing(old: Socket, young: Socket) -> None:
    """Kernels before 4.1 count no bytes, and /proc gives none."""
    assert verdicts(old, young, old) == ()
    assert verdicts(young, old, young) == ()


@pytest.mark.parametrize("blind", range(3))
def test_one_look_without_numbers_leaves_nothing_to_compare(blind: int) -> None:
    seen = [end(acked=5001), end(acked=0), end(acked=5001)]
    assert verdicts(*seen) == (Verdict.DESYNCHRONIZED,)
    seen[blind] = replace(seen[blind], info=None)
    assert verdicts(*seen) == ()


@pytest.mark.parametrize(
    ("before", "second", "after"),
    [
        (end(12), end(0, 10), end(12)),  # 11 bytes acknowledged to the first end, and the second had received 10
        (
            end(1, 12),
            end(12, 0),
            end(1, 10),
        ),  # 11 bytes acknowledged to the second, and the first had received 10 later
        (end(12, 0, 5), end(0, 18), end(12, 0, 5)),  # 17 bytes written by the first, and the second had received 18
        (end(1, 18), end(12, 0, 5), end(1, 18)),  # 17 bytes written by the second, and the first had received 18 before
    ],
)
def test_each_bound_holds_to_the_byte(before: Socket, second: Socket, after: Socket) -> None:
    assert verdicts(before, second, after) == (Verdict.DESYNCHRONIZED,)


@pytest.mark.parametrize(
    ("before", "second", "after"),
    [
        (end(12), end(0, 11), end(12)),
        (end(1, 11), end(12, 0), end(1, 11)),
        (end(12, 0, 5), end(0, 17), end(12, 0, 5)),
        (end(1, 17), end(12, 0, 5), end(1, 17)),
    ],
)
def test_what_reaches_its_bound_does_not_break_it(before: Socket, second: Socket, after: Socket) -> None:
    assert verdicts(before, second, after) == ()


def test_only_what_was_written_can_have_been_received() -> None:
    sender, receiver = end(101, 0, queued=400), end(0, 500)
    assert verdicts(sender, receiver, sender) == ()
    assert verdicts(sender, end(0, 502), sender) == (Verdict.DESYNCHRONIZED,)
    assert verdicts(end(0, 502), sender, end(0, 502)) == (Verdict.DESYNCHRONIZED,)


def test_the_order_of_the_looks_counts() -> None:
    """A sender that got on between the looks: what is too much for its first look is not for its second."""
    assert verdicts(end(1), end(0, 5000), end(5001)) == ()
    assert verdicts(end(5001), end(0, 0), end(5001)) == (Verdict.DESYNCHRONIZED,)


def test_an_end_that_never_measured_a_round_trip_may_be_restored() -> None:
    restored = end(0, 0, rtt_us=0)
    assert verdicts(end(5001, 300), restored, end(5001, 300)) == ()
    assert verdicts(restored, end(5001, 300), restored) == ()


@pytest.mark.parametrize("restored_first", [False, True])
def test_ends_that_hear_each_other_belong_together(restored_first: bool) -> None:
    """A restored end that went on talking: its counters are too low, but its last data came when they were sent."""
    old = end(5021, 310, last_data_sent_ms=7000, last_data_recv_ms=9010)
    new = end(10, 20, last_data_sent_ms=9000, last_data_recv_ms=6990)
    deaf = end(10, 20, last_data_sent_ms=100_000, last_data_recv_ms=200_000)
    for other, expected in ((new, ()), (deaf, (Verdict.DESYNCHRONIZED,))):
        seen = (other, old, other) if restored_first else (old, other, old)
        assert verdicts(*seen) == expected


def test_a_socket_that_connects_again_on_an_old_kernel_counts_its_life_before() -> None:
    """connect(AF_UNSPEC) and connect again: before 5.4 the counters go on, and nothing has been said in this life."""
    born = {"last_data_sent_ms": 60_000, "last_data_recv_ms": 60_000}
    for window, expected in ((None, ()), (65536, (Verdict.DESYNCHRONIZED,))):
        again, other = end(5002, 300, snd_wnd=window, **born), end(0, 0, **born)
        assert verdicts(again, other, again) == expected == verdicts(other, again, other)


def test_what_retransmits_is_not_heard_for_that() -> None:
    shouting = end(5021, 310, last_data_sent_ms=50, last_data_recv_ms=LONG_AGO, retransmits=4)
    other = end(10, 20, last_data_sent_ms=LONG_AGO * 2, last_data_recv_ms=100)
    assert verdicts(shouting, other, shouting) == (Verdict.DESYNCHRONIZED,)


@pytest.mark.parametrize("state", [one for one in State if one is not State.ESTABLISHED])
def test_only_established_ends_are_judged_by_counters(state: State) -> None:
    other = replace(end(0, 9999), state=state)
    assert verdicts(end(), other, end()) == ()
    assert verdicts(end(), Absence.ABSENT, end()) == ()


def trying(times: int, timer: Timer = Timer.RETRANSMIT, queued: int = 100, **more: int | None) -> Socket:
    """An end that retransmits, or probes."""
    return replace(end(501, 0, queued, retransmits=times, **more), timer=timer, retransmits=times)


IDLE = replace(end(0, 500), key=address.mirror(ONE))


def test_retransmissions_without_an_answer_are_a_stall() -> None:
    assert verdicts(trying(2), IDLE, trying(2)) == (Verdict.STALLED,)
    assert verdicts(IDLE, trying(2), IDLE) == (Verdict.STALLED,)
    assert verdicts(trying(1), IDLE, trying(1)) == verdicts(IDLE, trying(1), IDLE) == ()  # on its way, perhaps
    assert stays_stuck([(trying(PATIENCE - 1), IDLE), (trying(PATIENCE), IDLE)])
    assert stays_stuck([(IDLE, trying(PATIENCE)), (IDLE, trying(PATIENCE))])


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (trying(2), trying(PATIENCE - 1)),  # too few yet
        (trying(1), trying(PATIENCE)),
        (trying(PATIENCE + 1), trying(PATIENCE)),  # something was acknowledged meanwhile
        (trying(PATIENCE), replace(trying(PATIENCE), info=counted(1001))),  # so here
        (trying(PATIENCE), IDLE),  # it came through
        (IDLE, trying(PATIENCE)),
    ],
)
def test_progress_is_no_stall(first: Socket, last: Socket) -> None:
    assert not stays_stuck([(first, IDLE), (last, IDLE)])


def test_two_ends_in_turn_are_no_stall() -> None:
    assert not stays_stuck([(trying(PATIENCE), IDLE), (IDLE, trying(PATIENCE))])


def test_a_closed_window_is_a_program_that_does_not_read() -> None:
    full = replace(IDLE, recv_q=65536)
    assert not sticks(trying(PATIENCE, snd_wnd=0), full)
    assert not sticks(trying(0, Timer.PROBE), full)  # its probes are answered
    assert not sticks(trying(1, Timer.PROBE), full)  # a kernel answers two a second at most
    assert sticks(trying(PATIENCE, Timer.PROBE), full)


def test_data_that_arrives_and_is_not_taken_is_a_program_that_does_not_read() -> None:
    """What a kernel without memory for the socket drops, it drops in silence before 6.7."""
    sender = trying(PATIENCE, last_data_sent_ms=4000)
    full = replace(IDLE, recv_q=65536, info=counted(0, 500, last_ack_recv_ms=3990))
    assert not sticks(sender, full)
    assert sticks(sender, replace(full, info=counted(0, 500, last_ack_recv_ms=60_000)))  # nothing comes in
    assert sticks(
        sender, replace(full, info=counted(0, 600, last_ack_recv_ms=3990))
    )  # it was taken, and nobody hears so
    assert sticks(sender, replace(full, recv_q=0))


@pytest.mark.parametrize("timer", [Timer.DELAYED_ACK, Timer.OFF, None])
def test_other_timers_carry_no_data(timer: Timer | None) -> None:
    assert not sticks(replace(trying(PATIENCE), timer=timer), IDLE)
    assert not sticks(trying(PATIENCE, queued=0), IDLE)


def test_keepalive_probes_in_vain_are_a_stall() -> None:
    """Nothing is queued then; that one or two are unanswered may be loss."""

    def asks(probes: int) -> Socket:
        return replace(end(), timer=Timer.KEEPALIVE, retransmits=probes, timer_expires_s=60.0)

    assert [sticks(asks(probes), end()) for probes in (0, 2, 3)] == [False, False, True]
    assert verdicts(asks(3), end(), asks(3)) == (Verdict.STALLED,)
    assert stays_stuck([(asks(3), end())] * 2) and not stays_stuck([(asks(3), end()), (asks(0), end())])
