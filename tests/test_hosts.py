"""Open conversations of a run: what becomes of a host that has answered and then does no more."""

from __future__ import annotations

from threading import Event

from lab.waiting import PATIENCE

from halfopen.hosts import Hosts, Options
from halfopen.inventory import CheckPlan, Host, Inventory


class Silent:
    """A host that says nothing until it is let go."""

    deadline = 0.0

    def __init__(self) -> None:
        self.released = Event()

    def evidence(self) -> None:
        self.released.wait(PATIENCE)

    def owners(self, _: object) -> tuple[dict[int, object], int]:
        self.released.wait(PATIENCE)
        return {}, 0


def test_what_a_host_that_is_late_leaves_unknown_is_said() -> None:
    inventory = Inventory({name: Host(name, name) for name in ("late", "never")})
    with Hosts(inventory, [CheckPlan("x", ("late",), ("never",))], Options(timeout=0.5)) as hosts:
        silent = Silent()
        hosts.agents["late"] = silent  # type: ignore[assignment]
        assert hosts.counters(["late", "never"]) == {}
        assert hosts.owners_of("late", [7]) == hosts.owners_of("never", [7]) == {}
        silent.released.set()
        words = ("its counters", "the processes")
        assert [(name, note.partition(" could")[0]) for name, note in hosts.notes] == [("late", one) for one in words]
