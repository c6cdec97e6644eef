"""From a host of the inventory to an open conversation with the probe on it: the one way in for every command."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from halfopen.inventory import Host, Inventory
from halfopen.reach.agent import Agent, remote_command
from halfopen.reach.connect import ReachOptions, connect


class Closing(Protocol):
    """What whoever opened a host must close on the way out."""

    def close(self) -> None: ...


def open_agent(
    host: Host, inventory: Inventory, options: ReachOptions, timeout: float, keep: Callable[[Closing], object]
) -> Agent:
    """Reaches a host and starts an interpreter there that waits for the probe. HostError where that fails.

    `timeout` is seconds for one question. What must be closed goes to `keep` as soon as it exists, so that nothing
    stays open however this ends.
    """
    began = time.monotonic()
    connection = connect(host, inventory, options)
    keep(connection)
    channel = connection.run(remote_command(host.python))
    channel.deadline = min(options.deadline, began + max(timeout, options.connect_timeout))
    agent = Agent(
        host.name,
        channel,
        connection.transport,
        timeout,
        last_deadline=options.deadline,
        python=host.python,
        note=connection.note,
        connection=connection,
    )
    keep(agent)
    return agent


class Visit:
    """Hosts that are opened to ask them something once. A context manager: on its way out all are closed.

    Hosts may be opened by several threads at once.
    """

    def __init__(self, inventory: Inventory, options: ReachOptions, timeout: float) -> None:
        self.inventory, self.options, self.timeout = inventory, options, timeout
        self.opened: list[Closing] = []

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.opened:
            one.close()

    def open(self, host: Host) -> Agent:
        """An interpreter on this host that waits for the probe. HostError where that fails."""
        return open_agent(host, self.inventory, self.options, self.timeout, self.opened.append)
