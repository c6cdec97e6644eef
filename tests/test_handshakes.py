"""A burst of our own never fills a server: so many handshakes at one sshd and through one jump host, and no more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
from lab.waiting import PATIENCE

from halfopen.errors import ErrorCode, HostError
from halfopen.reach import handshakes


def crowd(enter: Callable[[], AbstractContextManager[None]], people: int, room: int) -> int:
    """How many were inside at once, of people who stay until so many have been, and a little longer."""
    inside, most, changed = 0, 0, threading.Condition()

    def visit(_: int) -> None:
        nonlocal inside, most
        with enter():
            with changed:
                inside += 1
                most = max(most, inside)
                changed.notify_all()
                changed.wait_for(lambda: most >= room, PATIENCE)
            time.sleep(0.02)
            with changed:
                inside -= 1

    with ThreadPoolExecutor(people) as pool:
        list(pool.map(visit, range(people)))
    return most


def test_one_sshd_has_so_many_slots_and_no_more() -> None:
    end, room = time.monotonic() + 2 * PATIENCE, handshakes.AT_ONE_SSHD
    assert crowd(lambda: handshakes.slot_at(("one", 22), end), 40, room) == room


def test_one_jump_host_has_so_many_ways_through_it() -> None:
    end, room = time.monotonic() + 2 * PATIENCE, handshakes.THROUGH_ONE_JUMP
    assert crowd(lambda: handshakes.slots_through([("jump", 22), ("jump", 22)], end), 40, room) == room


def test_chains_that_cross_do_not_wait_for_each_other() -> None:
    end, room = time.monotonic() + 2 * PATIENCE, handshakes.THROUGH_ONE_JUMP
    one, two = [("a", 22), ("b", 22)], [("b", 22), ("a", 22)]
    turns = iter([one, two] * 20)
    assert crowd(lambda: handshakes.slots_through(next(turns), end), 40, room) == room


def test_who_finds_no_place_in_time_is_throttled_and_not_down() -> None:
    held = [handshakes.slot_at(("full", 22), time.monotonic() + PATIENCE) for _ in range(handshakes.AT_ONE_SSHD)]
    for one in held:
        one.__enter__()
    with pytest.raises(HostError) as caught, handshakes.slot_at(("full", 22), time.monotonic() + 0.05):
        pass
    assert caught.value.code is ErrorCode.THROTTLED and "--forks" in (caught.value.hint or "")
    for one in held:
        one.__exit__(None, None, None)
    with handshakes.slot_at(("full", 22), time.monotonic() + PATIENCE):
        pass


def test_who_is_turned_away_leaves_fewer_places() -> None:
    end = time.monotonic() + 2 * PATIENCE
    for _ in range(5):
        with pytest.raises(HostError), handshakes.slot_at(("small", 22), end):
            raise HostError(ErrorCode.THROTTLED, "no", None)
    with pytest.raises(HostError), handshakes.slot_at(("other", 22), end):
        raise HostError(ErrorCode.TIMEOUT, "no", None)
    assert crowd(lambda: handshakes.slot_at(("small", 22), end), 20, handshakes.FEWEST) == handshakes.FEWEST
    assert crowd(lambda: handshakes.slot_at(("other", 22), end), 20, handshakes.AT_ONE_SSHD) == handshakes.AT_ONE_SSHD


def test_only_a_throttle_is_tried_again_and_only_in_time() -> None:
    throttled, refused = HostError(ErrorCode.THROTTLED, "no"), HostError(ErrorCode.CONNECTION_REFUSED, "no")
    now = time.monotonic()
    assert handshakes.again(throttled, 0, now + 60)
    assert not handshakes.again(refused, 0, now + 60)
    assert not handshakes.again(throttled, handshakes.TRIES - 1, now + 60)
    assert not handshakes.again(throttled, 2, time.monotonic() + 0.5)
