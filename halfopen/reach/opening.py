"""From a host of the inventory to an open conversation with the probe on it: the one way in for every command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from halfopen.errors import HostError
from halfopen.plan import Host, Inventory
from halfopen.reach.agent import Agent, remote_command
from halfopen.reach.barrier import barrier, late, too_late
from halfopen.reach.connect import ReachOptions, connect

R = TypeVar("R")


class Closing(Protocol):
    """What whoever opened a host must close on the way out."""

    def close(self) -> None: ...


class Opened:
    """What must be closed on the way out, by whichever thread it was opened and however late."""

    def __init__(self) -> None:
        self.lock, self.found, self.over = threading.Lock(), list[Closing](), False

    def keep(self, one: Closing) -> None:
        """Closes it at the end, or now if that has been."""
        with self.lock:
            if not self.over:
                self.found.append(one)
                return
        one.close()

    def close(self) -> None:
        """Closes all at once, so that a host that does not answer to a farewell keeps nobody waiting."""
        with self.lock:
            self.over = True
        threads = [threading.Thread(target=one.close, daemon=True) for one in reversed(self.found)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + FAREWELL
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def open_agent(host: Host, inventory: Inventory, options: ReachOptions, opened: Opened) -> Agent:
    """Reaches a host and starts an interpreter there that waits for the probe. HostError where that fails.

    What must be closed goes to `opened` as soon as it exists, so that nothing stays open however this ends.
    """
    connection = connect(host, inventory, options)
    opened.keep(connection)
    channel = connection.run(remote_command(host.python))
    channel.deadline = options.deadline
    agent = Agent(
        host.name,
        channel,
        connection.transport,
        options.deadline,
        python=host.python,
        note=connection.note,
        connection=connection,
    )
    opened.keep(agent)
    return agent


class Visit:
    """Hosts that are opened to ask them something once. A context manager: on its way out all are closed.

    Hosts may be opened by several threads at once.
    """

    def __init__(self, inventory: Inventory, options: ReachOptions, forks: int) -> None:
        self.inventory, self.options, self.opened = inventory, options, Opened()
        self.pool = ThreadPoolExecutor(forks, thread_name_prefix="host")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.close()
        self.pool.shutdown(wait=False, cancel_futures=True)  # a host that says nothing must not hold up Ctrl-C

    def open(self, host: Host) -> Agent:
        """An interpreter on this host that waits for the probe. HostError where that fails."""
        return open_agent(host, self.inventory, self.options, self.opened)

    def ask(self, hosts: Iterable[Host], question: Callable[[Host], R]) -> list[R | HostError]:
        """A question to every host at once, which opens it; the answers in the order asked, or why there is none."""
        futures = [self.pool.submit(question, host) for host in hosts]
        missing = late(futures, self.options.deadline)
        answers: list[R | HostError] = []
        for one in futures:
            try:
                with barrier():
                    answers.append(too_late() if one in missing else one.result())
            except HostError as error:
                answers.append(error)
        return answers


FAREWELL = 0.9
"""Seconds for all that is open to close."""
