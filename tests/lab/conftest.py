"""The lab needs root, namespaces and sshd: where they lack it is skipped, but never in CI."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from lab.host import Lab, lab, needs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = needs()
    for item in items:
        if "lab" in item.path.parts:
            item.add_marker(pytest.mark.lab)
            if lacking and os.environ.get("CI") != "true":
                item.add_marker(pytest.mark.skip(reason=f"the lab needs {', '.join(lacking)}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and "lab" in item.path.parts and os.environ.get("CI") == "true":
        report.outcome, report.longrepr = "failed", f"not run, and in CI that is a failure: {report.longrepr}"
    return report


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts, web and db, on one link."""
    with lab(tmp_path_factory.mktemp("lab"), "web", "db") as made:
        yield made


@pytest.fixture
def fresh_pair(tmp_path: Path) -> Iterator[Lab]:
    """Two hosts for one test alone."""
    with lab(tmp_path, "web", "db") as made:
        yield made
