"""Rows of psutil -> sockets, and what a system's psutil cannot show."""

from __future__ import annotations

from typing import NamedTuple

from halfopen import address
from halfopen.evidence.text.psutil import decode
from halfopen.tcp import State


class Sconn(NamedTuple):
    """As psutil's own, whose addresses are tuples."""

    family: int
    laddr: tuple[object, ...]
    raddr: tuple[object, ...]
    status: str
    pid: int | None


ROWS = [
    Sconn(2, ("10.0.0.1", 5432), ("10.0.0.2", 40001), "ESTABLISHED", 812),
    Sconn(30, ("::ffff:10.0.0.1", 5432), ("::ffff:10.0.0.2", 40002), "FIN_WAIT1", None),
    Sconn(30, ("fe80::1%en0", 22), ("fe80::2%en0", 40003), "SYN_RECV", None),
    Sconn(2, ("0.0.0.0", 5432), (), "LISTEN", 812),
    Sconn(23, ("::", 135), (), "LISTEN", 4),
    Sconn(2, ("10.0.0.1", 9), (), "NONE", 4),
    Sconn(2, ("10.0.0.1", 9), (), "BOUND", 4),
]


def test_rows_become_sockets_with_their_processes() -> None:
    told = decode(ROWS, {812: "postgres"}, "FreeBSD")
    states = {address.split_key(key)[3]: one.state for key, one in told.sockets.items()}
    assert states == {40001: State.ESTABLISHED, 40002: State.FIN_WAIT1, 40003: State.SYN_RECV}
    assert all(len(key) == address.V4_KEY for key in told.sockets if address.split_key(key)[3] != 40003)
    assert {who.name for who in told.holders.values()} == {"postgres", ""}
    assert [one.port for one in told.listeners] == [5432, 135] and told.whole
    (one,) = [one for key, one in told.sockets.items() if address.split_key(key)[3] == 40001]
    assert one.inode is None and one.recv_q is None and one.cookie is None


def test_what_no_process_holds_is_unseen_on_macos() -> None:
    told = decode(ROWS, {}, "Darwin")
    assert not told.whole and "only what a process holds" in told.gaps[0]


def test_a_row_that_is_not_understood_takes_away_the_word_of_what_is_absent() -> None:
    told = decode([*ROWS, Sconn(2, ("10.0.0.1", 1), ("10.0.0.2", 2), "STRANGE", 1)], {}, "Windows")
    assert not told.whole and "is not a valid TCP state" in told.problems[0].why and len(told.sockets) == 3
