"""Brackets from whole dumps, for evidence that was taken without anybody to ask again.

A dump has no cookies, and dumps of two hosts are not one instant, so such a bracket proves nothing: what holds in one
moment is `inferred`, what holds in several that were taken together is `observed`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from halfopen import address
from halfopen.judge.match import Suspect
from halfopen.judge.rounds import Bracket
from halfopen.model import Absence, Namespace, Place, Sight, Snapshot, Socket
from halfopen.table import NO_INODE, TIMER_MASK
from halfopen.tcp import TIMER_NUMBERS, State, state_of


def dumped(suspects: Sequence[Suspect], moments: Sequence[Mapping[str, Snapshot]]) -> list[Bracket]:
    """One bracket for each moment, which is a dump of every host: its three looks are one and the same."""
    wanted = {(place, ask.key) for one in suspects for ask in (one.client, one.server) for place in ask.places}
    brackets = []
    for moment in moments:
        sights = sights_of(wanted, moment)
        errors = {name: one.error for name, one in moment.items() if one.error is not None}
        brackets.append(Bracket(sights, sights, sights, errors))
    return brackets


def sights_of(wanted: set[tuple[Place, bytes]], moment: Mapping[str, Snapshot]) -> dict[tuple[Place, bytes], Sight]:
    """What the dumps of one moment show at these places."""
    spaces = {Place(name, space.netns): space for name, one in moment.items() for space in one.namespaces}
    found: dict[tuple[Place, bytes], Sight] = {
        (place, key): Absence.ABSENT if place in spaces and covers(spaces[place], key) else Absence.UNSEEN
        for place, key in wanted
    }
    for place in {place for place, _ in wanted} & spaces.keys():
        for block in spaces[place].table.blocks:
            for key, number, marks in block.rows():
                if (place, key) in found and (state := state_of(number)) is not None:
                    found[place, key] = later(
                        found[place, key], socket_of(key, state, block.family, block.scope, marks)
                    )
    return found


def covers(space: Namespace, key: bytes) -> bool:
    """Whether a socket with this key would be in the dump if there were one."""
    _, local_port, _, peer_port = address.split_key(key)
    return space.whole and (not space.covered_ports or bool({local_port, peer_port} & space.covered_ports))


def later(one: Sight, two: Socket) -> Sight:
    """Of two rows of one key the one that counts: a TIME_WAIT may stand beside its successor."""
    return one if isinstance(one, Socket) and two.state is State.TIME_WAIT else two


def socket_of(key: bytes, state: State, family: int, scope: int, marks: int) -> Socket:
    """A row of a dump as a socket: what it does not hold is unknown."""
    return Socket(
        key=key,
        state=state,
        family=family,
        scope=scope,
        timer=TIMER_NUMBERS.get(marks & TIMER_MASK),
        inode=0 if marks & NO_INODE else None,
    )
