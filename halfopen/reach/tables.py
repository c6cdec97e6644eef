"""Look-ups for those who can only read whole tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from halfopen.evidence.told import Told
from halfopen.model import Absence, Look, Sight, Wanted


def look_in(host: str, wanted: Sequence[Wanted], table: Callable[[], Told]) -> Look:
    """The sockets that were asked for, out of one more table.

    A table may skip a socket as others come and go, so what is not there is looked for in a second one; and where a
    table may lack rows, what is not there is unseen.
    """
    told = table()
    whole = told.whole
    found = {one.key: told.sockets.get(one.key) for one in wanted}
    if not all(found.values()):
        again = table()
        whole = whole and again.whole
        found = {key: seen or again.sockets.get(key) for key, seen in found.items()}
    absent: Sight = Absence.ABSENT if whole else Absence.UNSEEN
    return Look(host, {(one.place, one.key): found[one.key] or absent for one in wanted})
