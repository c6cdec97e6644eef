"""Look-ups in whole tables, for hosts where single sockets cannot be asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from halfopen.model import Absence, Look, Lookup, Observation, Socket

if TYPE_CHECKING:
    from halfopen.evidence.text.parsed import ParsedText


def look_in(host: str, wanted: Sequence[Lookup], table: Callable[[], ParsedText | None]) -> Look:
    """The sockets that were asked for, out of one more table; `table` gives None where it could not be read.

    A table may skip a socket as others come and go, so what is not there is looked for in a second one; and where a
    table may lack rows, or was not read, what is not there is unseen.
    """
    found: dict[bytes, Socket | None] = {lookup.key: None for lookup in wanted}
    whole = True
    for _ in range(2):
        if not all(found.values()):
            parsed = table()
            whole = whole and parsed is not None and parsed.whole
            found = {key: seen or (parsed.sockets.get(key) if parsed else None) for key, seen in found.items()}
    absent: Observation = Absence.ABSENT if whole else Absence.UNSEEN
    return Look(host, {(lookup.place, lookup.key): found[lookup.key] or absent for lookup in wanted})
