"""Lone ends whose other end may live behind a host of the check that has forgotten what it translates.

Which hosts translate is known here: those that the check names under `nat`, and hosts with containers. So a socket of
the other side that fits is no guess at an unknown box: both ends live, and only which belong together is not known.
Where none fits, the end is missing, and the host that forgot is the cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from halfopen.matching.missing.lone_end import Endpoint, LoneEnd
from halfopen.matching.missing.way import Network, has_no_route, is_relayed
from halfopen.matching.pairing.connection import EndQuery, Loss, Suspect
from halfopen.schema.report import Reason

STANDINS = 2000  # sockets that are looked at in place of one missing end


class Forgetting(Struct):
    """The lone ends of a check.

    of_role: whether they are a client's -> all. of_server: (that, the server's endpoint) -> those of this server.
    gone: whether they are a client's -> those whose entry is gone.
    """

    network: Network
    lones: Sequence[LoneEnd]
    of_role: dict[bool, list[LoneEnd]] = {}
    of_server: dict[tuple[bool, Endpoint], list[LoneEnd]] = {}
    gone: dict[bool, list[LoneEnd]] = {}

    def __post_init__(self) -> None:
        for lone in self.lones:
            self.of_role.setdefault(lone.is_client, []).append(lone)
            self.of_server.setdefault((lone.is_client, lone.server), []).append(lone)
            if lone.suspect.loss is Loss.ENTRY_GONE:
                self.gone.setdefault(lone.is_client, []).append(lone)

    def told(self, lone: LoneEnd, suspect: Suspect) -> Suspect:
        """The suspect of a lone end with what is known of a forgotten translation. `suspect`: with its other doubts."""
        if suspect.doubt is not None and not suspect.standins:
            return suspect
        if suspect.loss is None and self.was_translated(lone):
            suspect = replace(suspect, loss=Loss.ENTRY_GONE)
        fitting = list(islice(self.fitting(lone), STANDINS + 1))
        is_limited = any(space.covered_ports for one in self.network.snapshots.values() for space in one.namespaces)
        if suspect.loss is Loss.ENTRY_GONE and is_limited and lone.suspect.loss is Loss.ENTRY_GONE:
            # Its other end may be at a port that was not read.
            host = self.far_host(lone)
            return replace(suspect, doubt=OTHER_PORT.format(host=host), reason=Reason.TRANSLATION_GONE, standins=())
        if not fitting:
            return suspect
        rows = [other.row for other in fitting[:STANDINS]]
        more = (EndQuery((row.place,), row.key, row.scope) for row in rows)
        return replace(
            suspect,
            doubt=FORGOTTEN.format(host=fitting[0].row.place.host),
            reason=Reason.TRANSLATION_GONE,
            standins=tuple(dict.fromkeys((*suspect.standins, *more))) if len(fitting) <= STANDINS else (),
        )

    def fitting(self, lone: LoneEnd) -> Iterator[LoneEnd]:
        """The lone ends that may be the other end of a connection that a host of the check has translated."""
        other_role = not lone.is_client
        if lone.suspect.loss is Loss.ENTRY_GONE:
            yield from self.of_role.get(other_role, ())
            return
        yield from self.gone.get(other_role, ())
        for other in self.of_server.get((other_role, lone.server), ()):
            client, server = (lone, other) if lone.is_client else (other, lone)
            if (
                other.suspect.loss is not Loss.ENTRY_GONE
                and self.is_container(client)
                and any(netns.host == client.row.place.host for netns in server.suspect.client.places)
            ):
                yield other

    def is_container(self, lone: LoneEnd) -> bool:
        """Whether an end is in a container of a host that tracks connections."""
        place = lone.row.place
        spaces = self.network.snapshots[place.host].namespaces
        return bool(spaces) and spaces[0].netns != place.netns and spaces[0].tracked != 0

    def was_translated(self, lone: LoneEnd) -> bool:
        """Whether a client's own address cannot have reached the server: its host has no route to it."""
        return (
            lone.is_client
            and (bool(self.network.plan.nat) or self.is_container(lone))
            and has_no_route(lone.suspect.server, self.network)
            and not is_relayed(lone.suspect, lone.row.place, lone.is_client, self.network)
        )

    def far_host(self, lone: LoneEnd) -> str:
        """The host that was asked for the missing end."""
        return (lone.suspect.server if lone.is_client else lone.suspect.client).places[0].host


FORGOTTEN = (
    "their other end is not there, and the entry that would say where it is is gone; but {host} has sockets that could "
    "be theirs"
)
OTHER_PORT = (
    "{host} has forgotten where it led them, and only some ports were read: run the check without --port, or with the "
    "port behind it as well"
)
