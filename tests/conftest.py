"""Shared by all tests."""

from __future__ import annotations

import os
import re
import signal

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's matter.
settings.register_profile("here", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")
# Nothing of the user's own may change what a test sees.
os.environ.pop("HALFOPEN_INVENTORY", None)
# A job behind a shell, or under nohup, ignores these, and so would every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

PROBED = [f"3.{minor}" for minor in range(6, 14)]
"""The versions of Python that the probe is meant for, and that can be had today."""


LONG = (
    "causes",
    "ways",
    "ssh_options",
    "check",
    "article",
    "saved_moments",
    "nat",
    "ask",
    "soak",
    "poor_hosts",
    "counters",
)
"""Files of the lab that take longest: they begin first, or one of them ends long after all others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The lab first, whose tests wait, and of it the longest; the order within a file stays."""
    order = {f"test_{name}.py": number for number, name in enumerate(LONG)}

    def place(item: pytest.Item) -> tuple[bool, int]:
        return "lab" not in item.path.parts, order.get(item.path.name, len(order))

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says under which versions of Python the probe was tested."""
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.stats.get(kind, ())]
    found = {word for one in reports if "tests/probe/" in one.nodeid for word in re.findall(r"3\.\d+", one.nodeid)}
    if found:
        missing = [version for version in PROBED if version not in found]
        ran = ", ".join(sorted(found, key=lambda version: int(version[2:])))
        terminalreporter.write_line(
            f"probe tested under Python {ran}" + (f"; not at hand: {', '.join(missing)}" if missing else "")
        )
