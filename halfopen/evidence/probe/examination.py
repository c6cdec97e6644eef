"""The answer to EXAMINE -> numbers by name: an errno (0: can be read), a count, or a size. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from halfopen.evidence.probe.frames import number, text
from halfopen.evidence.probe.reach import decode_link
from halfopen.evidence.probe.wire import NAME_LIMIT
from halfopen.model import HostFacts, InterfaceAddress, Link

EXAMINE = 21


class Examination(Struct, frozen=True):
    """What one host can be asked for. A name that is missing was not tried.

    links: those that lead out of its own network namespace; addresses: those of its own network namespace.
    """

    facts: HostFacts
    numbers: Mapping[str, int] = {}
    hidepid: str | None = None
    links: tuple[Link, ...] = ()
    addresses: tuple[InterfaceAddress, ...] = ()

    def number(self, name: str) -> int | None:
        """One of the numbers, None if it was not tried."""
        return self.numbers.get(name)

    def may(self, *names: str) -> bool:
        """Whether one of these attempts succeeded."""
        return any(self.numbers.get(name) == 0 for name in names)


def decode(
    fields: Sequence[tuple[str, bytes]], facts: HostFacts, addresses: tuple[InterfaceAddress, ...] = ()
) -> Examination:
    """Fields of the answer -> Examination; a value that is not a number is left out, as if it had not been tried.

    facts, addresses: what the host said when it was greeted.
    """
    numbers = {name: found for name, value in fields if (found := number(value)) is not None and name != "hidepid"}
    hidepid = next((text(value, NAME_LIMIT) for name, value in fields if name == "hidepid"), None)
    links = tuple(decode_link(value) for name, value in fields if name == "link")
    return Examination(facts, numbers, hidepid, links, addresses)
