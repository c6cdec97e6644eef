"""The lab needs root, namespaces and sshd: where they lack it is skipped, but never in CI."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from lab.host import Lab, lab, needs


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    lacking = needs()
    for item in items:
        if "lab" in item.path.parts:
            item.add_marker(pytest.mark.lab)
            if shared := shared_labs(item):
                item.add_marker(pytest.mark.xdist_group(shared))
            if lacking and os.environ.get("CI") != "true":
                item.add_marker(pytest.mark.skip(reason=f"the lab needs {', '.join(lacking)}"))


def shared_labs(item: pytest.Function) -> str:
    """What a test shares with others of its module, "" if nothing: it is built once, so they run in one process."""
    defined = item._fixtureinfo.name2fixturedefs
    names = sorted(name for name, fixtures in defined.items() if fixtures[-1].scope == "module")
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return " ".join([item.path.stem, *(str(parameters[name]) for name in names if name in parameters)] if names else [])


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
