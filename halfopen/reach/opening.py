"""From a host of the inventory to an open conversation with the probe on it: used by every command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from halfopen.errors import HostError
from halfopen.plan import Host, Inventory
from halfopen.reach.agent import Agent
from halfopen.reach.barrier import attempt, gather
from halfopen.reach.channel import Connection
from halfopen.reach.connect import ReachOptions, connect
from halfopen.reach.exchange import remote_command
from halfopen.reach.names import UnresolvedError, misspelt

if TYPE_CHECKING:
    from halfopen.reach.shell import ShellAgent

R = TypeVar("R")


class Closing(Protocol):
    """A connection or a conversation that must be closed in the end."""

    def close(self) -> None: ...


class Opened:
    """All connections and conversations of a run, from any thread, to be closed together at its end."""

    def __init__(self) -> None:
        self.lock, self.found, self.over = threading.Lock(), list[Closing](), False

    def keep(self, opened: Closing) -> None:
        """Registers one, to be closed with the others; closes it now if they have been closed already."""
        with self.lock:
            if not self.over:
                self.found.append(opened)
                return
        opened.close()

    def close(self) -> None:
        """Closes all at once, so that a host that does not answer holds up nobody."""
        with self.lock:
            self.over = True
        threads = [threading.Thread(target=opened.close, daemon=True) for opened in reversed(self.found)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + FAREWELL
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def open_agent(host: Host, inventory: Inventory, options: ReachOptions, opened: Opened) -> Agent:
    """Reaches a host and starts an interpreter there that waits for the probe. HostError where that fails.

    What must be closed goes to `opened` as soon as it exists, so that nothing stays open however this ends.
    UsageError for a name of the command line that is misspelt.
    """
    try:
        connection = connect(host, inventory, options)
        opened.keep(connection)
        channel = connection.run(remote_command(host.python))
    except UnresolvedError as error:
        raise misspelt(error, host, inventory) or error from error
    channel.deadline = options.deadline
    agent = Agent(
        host.name,
        channel,
        connection.transport,
        options.deadline,
        python=host.python,
    )
    agent.note, agent.connection = connection.note, connection
    opened.keep(agent)
    return agent


def open_shell(host: Host, connection: Connection, deadline: float, opened: Opened) -> ShellAgent:
    """Starts the shell script on a connection that is open already. HostError where that fails."""
    from halfopen.reach.shell import COMMAND, ShellAgent  # and its decoders, which few hosts need

    channel = connection.run(COMMAND)
    channel.deadline = deadline
    agent = ShellAgent(host.name, channel, connection.transport, deadline)
    opened.keep(agent)
    agent.start(wait=host.transport == "exec")
    return agent


class Threads:
    """Threads that wait for hosts, and all that they open. A context manager: on its way out everything is closed."""

    def __init__(self, forks: int) -> None:
        self.opened = Opened()
        self.pool = ThreadPoolExecutor(max(1, forks), thread_name_prefix="host")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.close()
        self.pool.shutdown(wait=False, cancel_futures=True)  # a host that does not answer must not delay Ctrl-C


class Visit(Threads):
    """Hosts that are opened to ask them something once, several at a time."""

    def __init__(self, inventory: Inventory, options: ReachOptions, forks: int) -> None:
        super().__init__(forks)
        self.inventory, self.options = inventory, options

    def open(self, host: Host) -> Agent:
        """An interpreter on this host that waits for the probe. HostError where that fails."""
        return open_agent(host, self.inventory, self.options, self.opened)

    def ask(self, hosts: Iterable[Host], question: Callable[[Host], R]) -> list[R | HostError]:
        """A question to every host at once, which opens it; the answers in the order asked, or why there is none."""
        futures = [self.pool.submit(attempt, partial(question, host)) for host in hosts]
        return gather(futures, self.options.deadline)


FAREWELL = 0.9
"""Seconds for all that is open to close."""
