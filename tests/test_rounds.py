"""Only what lasts is reported: the same sockets, in every bracket, seen in the right order."""

from __future__ import annotations

import pytest
from evidence import CLIENT, SERVER, bracket, counted, end, key, sights, snapshot, sock
from msgspec.structs import replace

from halfopen import address
from halfopen.judge.confirm.bracket import Bracket, lasting, questions
from halfopen.judge.confirm.rounds import Confirmed, held
from halfopen.matching.pairing.connection import Suspect
from halfopen.matching.pairing.match import match
from halfopen.matching.places.addresses import survey
from halfopen.model import Absence, NetnsRef, Snapshot, Socket
from halfopen.schema.report import Confidence, Reason, Verdict
from halfopen.tcp import State, Timer

ONE = key(40000)
OTHER = address.mirror(ONE)


def suspect_of(near: list[Socket], far: list[Socket]) -> tuple[list[Suspect], list[Snapshot]]:
    hosts = [snapshot("web", [CLIENT], near), snapshot("db", [SERVER], far)]
    return list(match(survey(hosts, ["web"], ["db"], (5432,), {})).suspects), hosts


def run(near: list[Socket], far: list[Socket], *later: tuple[list[Socket], list[Socket]]) -> list[Confirmed]:
    """The findings if the dumps showed the first pair, and the brackets the later ones."""
    suspects, hosts = suspect_of(near, far)
    looks = [bracket(sights(hosts, {"web": one, "db": two}, suspects)) for one, two in later]
    return held(suspects, looks)[0]


def test_what_lasts_is_proven() -> None:
    alone = ([sock(ONE)], list[Socket]())
    (found,) = run(*alone, alone, alone)
    assert found.verdict is Verdict.MISSING_ON_SERVER and found.confidence is Confidence.PROVEN
    assert found.client == sock(ONE) and found.server is None


def test_what_heals_between_the_rounds_is_nothing() -> None:
    alone = ([sock(ONE)], list[Socket]())
    assert not run(*alone, alone, ([sock(ONE)], [sock(OTHER)]))


def test_a_port_that_is_used_again_is_another_connection() -> None:
    alone = ([sock(ONE)], list[Socket]())
    assert not run(*alone, alone, ([sock(ONE, cookie=2)], []))


def test_a_new_socket_at_the_other_end_is_another_connection() -> None:
    def stuck(cookie: int) -> tuple[list[Socket], list[Socket]]:
        return [sock(ONE)], [sock(OTHER, State.SYN_RECV, cookie)]

    assert not run(*stuck(5), stuck(5), stuck(6))
    (found,) = run(*stuck(5), stuck(5), stuck(5))
    assert found.verdict is Verdict.HANDSHAKE_STUCK


def test_a_survivor_that_changes_while_we_look_is_no_finding() -> None:
    suspects, hosts = suspect_of([sock(ONE)], [])
    there, gone = (
        sights(hosts, {"web": [sock(ONE, state)]}, suspects) for state in (State.ESTABLISHED, State.FIN_WAIT1)
    )
    assert held(suspects, [bracket(there, there, gone)] * 2) == ([], [], [])


def test_a_survivor_whose_socket_is_replaced_while_we_look_is_no_finding() -> None:
    suspects, hosts = suspect_of([sock(ONE)], [])
    one, two = (sights(hosts, {"web": [sock(ONE, cookie=cookie)]}, suspects) for cookie in (1, 2))
    assert held(suspects, [bracket(one, one, two)] * 2) == ([], [], [])


@pytest.mark.parametrize("blind", ["web", "db"])
def test_where_somebody_could_not_look_nothing_is_said(blind: str) -> None:
    suspects, hosts = suspect_of([sock(ONE)], [])
    seen = dict(sights(hosts, {"web": [sock(ONE)]}, suspects))
    blinded = {where: Absence.UNSEEN if where[0].host == blind else sight for where, sight in seen.items()}
    assert nothing_said(suspects, [bracket(seen), bracket(blinded)])
    without = {where: sight for where, sight in seen.items() if where[0].host != blind}
    assert nothing_said(suspects, [bracket(seen), bracket(without)])


def nothing_said(suspects: list[Suspect], looks: list[Bracket]) -> bool:
    found, unjudged, _ = held(suspects, looks)
    return not found and [one.suspect for one in unjudged] == suspects


def test_without_cookies_it_is_observed() -> None:
    alone = ([sock(ONE, cookie=None)], list[Socket]())
    (found,) = run(*alone, alone, alone)
    assert found.confidence is Confidence.OBSERVED


def test_without_cookies_another_inode_is_another_socket() -> None:
    assert not run(
        [sock(ONE, cookie=None)], [], ([sock(ONE, cookie=None, inode=5)], []), ([sock(ONE, cookie=None, inode=6)], [])
    )


def test_one_round_only_infers() -> None:
    alone = ([sock(ONE)], list[Socket]())
    (found,) = run(*alone, alone)
    assert found.confidence is Confidence.INFERRED


def test_a_state_that_moves_within_one_verdict_still_lasts() -> None:
    def half(state: State) -> tuple[list[Socket], list[Socket]]:
        return [sock(ONE, state)], [sock(OTHER, State.CLOSE_WAIT)]

    (found,) = run(*half(State.FIN_WAIT1), half(State.FIN_WAIT1), half(State.FIN_WAIT2))
    assert found.verdict is Verdict.HALF_CLOSED


def test_the_looks_begin_and_end_at_the_survivor() -> None:
    (gone_server,), _ = suspect_of([sock(ONE)], [])
    (gone_client,), _ = suspect_of([], [sock(OTHER)])
    assert list(questions([gone_server], second=False)) == ["web"]
    assert list(questions([gone_server], second=True)) == ["db"]
    assert list(questions([gone_client], second=False)) == ["db"]
    assert list(questions([gone_client], second=True)) == ["web"]


def test_what_changes_from_one_verdict_to_another_is_not_dropped() -> None:
    """It is one connection as long as an end of it stays; what a look cleared, or another socket, is silent."""
    suspects, hosts = suspect_of([sock(ONE)], [])

    def judged(*pairs: tuple[list[Socket], list[Socket]]) -> list[tuple[str, NetnsRef, State]]:
        looks = [bracket(sights(hosts, {"web": one, "db": two}, suspects)) for one, two in pairs]
        found, unjudged, _ = held(suspects, looks)
        assert not found
        return [(one.reason, one.survivor.place, one.survivor.looks[-1].state) for one in unjudged]  # type: ignore

    near, queued = [sock(ONE)], [sock(OTHER, inode=0, cookie=7)]
    web, db = (suspects[0].client.places[0], suspects[0].server.places[0])
    assert judged((near, queued), (near, [])) == [(Reason.CHANGING, web, State.ESTABLISHED)]
    assert judged((near, queued), ([], queued)) == [(Reason.CHANGING, db, State.ESTABLISHED)]
    assert judged((near, []), ([sock(ONE, State.FIN_WAIT1)], [])) == [(Reason.CHANGING, web, State.FIN_WAIT1)]
    assert judged((near, queued), ([sock(ONE, cookie=9)], [])) == []
    assert judged((near, queued), ([], [])) == []
    assert judged((near, queued), (near, [sock(OTHER, cookie=7)]), (near, [])) == []


def test_cleared_suspects_are_not_asked_about_again() -> None:
    suspects, hosts = suspect_of([sock(ONE)], [])
    matched = bracket(sights(hosts, {"web": [sock(ONE)], "db": [sock(OTHER)]}, suspects))
    assert not lasting(suspects, matched)
    alone = bracket(sights(hosts, {"web": [sock(ONE)]}, suspects))
    assert lasting(suspects, alone) == suspects


def test_two_sockets_that_claim_one_end_are_ambiguous() -> None:
    (suspect,), _ = suspect_of([sock(ONE)], [])
    twin = NetnsRef("db2", 1)
    twins = replace(suspect, server=replace(suspect.server, places=(*suspect.server.places, twin)))
    seen = {(NetnsRef("web", 1), ONE): sock(ONE), (NetnsRef("db", 1), OTHER): sock(OTHER), (twin, OTHER): sock(OTHER)}
    ((found,), _, _) = held([twins], [bracket(seen)] * 2)
    assert found.verdict is Verdict.AMBIGUOUS


QUEUED = replace(sock(OTHER, inode=0), send_q=0)


def trying(times: int, acked: int = 1) -> Socket:
    """A client's end whose data was sent again so many times."""
    return replace(end(acked, 0, 100, retransmits=times), timer=Timer.RETRANSMIT, retransmits=times)


def test_a_stall_lasts_without_progress() -> None:
    suspects, hosts = suspect_of([sock(ONE)], [])
    looks = [bracket(sights(hosts, {"web": [trying(times)], "db": [sock(OTHER)]}, suspects)) for times in (2, 3)]
    ((found,), _, _) = held(suspects, looks)
    assert (found.verdict, found.confidence) == (Verdict.STALLED, Confidence.PROVEN)
    assert lasting(suspects, looks[0]) == suspects
    moved = bracket(sights(hosts, {"web": [trying(3, acked=5)], "db": [sock(OTHER)]}, suspects))
    assert held(suspects, [looks[0], moved]) == ([], [], [])


def test_a_loss_that_heals_does_not_hide_what_lasts() -> None:
    """Retransmitting in one round, not in the other, and in the accept queue in both."""
    suspects, hosts = suspect_of([sock(ONE)], [])
    looks = [bracket(sights(hosts, {"web": [one], "db": [QUEUED]}, suspects)) for one in (trying(3), sock(ONE))]
    for order in (looks, looks[::-1]):
        ((found,), _, _) = held(suspects, order)
        assert found.verdict is Verdict.NEVER_ACCEPTED


def test_the_gravest_of_what_lasts_is_told() -> None:
    suspects, hosts = suspect_of([sock(ONE)], [])
    other = replace(QUEUED, info=end(9000, 0).info)
    stuck = bracket(sights(hosts, {"web": [trying(3)], "db": [QUEUED]}, suspects))
    worse = bracket(sights(hosts, {"web": [trying(3)], "db": [other]}, suspects))
    assert [one.verdict for one in held(suspects, [stuck, stuck])[0]] == [Verdict.STALLED]
    assert [one.verdict for one in held(suspects, [worse, worse])[0]] == [Verdict.DESYNCHRONIZED]
    assert [one.verdict for one in held(suspects, [worse, stuck])[0]] == [Verdict.STALLED]


AGES_MS = {"older": 9000, "younger": 100}


@pytest.mark.parametrize(("age", "expected"), [("older", 0), ("younger", 1), (None, 0)])
def test_what_waits_in_a_queue_that_moves_is_no_finding(age: str | None, expected: int) -> None:
    """Of two queues behind one port (SO_REUSEPORT), one may move and the other may not: accept() takes the oldest."""
    two = key(40001)

    def waiting(one: bytes, since_ms: int | None, inode: int = 0) -> Socket:
        numbers = None if since_ms is None else counted(last_data_sent_ms=since_ms)
        return replace(sock(address.mirror(one), inode=inode, cookie=one[-3]), info=numbers)

    near = [sock(ONE), sock(two, cookie=2)]
    left = waiting(ONE, 5000 if age else None)
    first = [left, waiting(two, AGES_MS[age] if age else None)]
    then = [left, waiting(two, None, inode=9)]
    assert len(run(near, first, (near, first), (near, first))) == 2
    assert (
        len([one for one in run(near, first, (near, first), (near, then)) if one.suspect.client.key == ONE]) == expected
    )
