"""What the tests of the probe share: each Python, and a probe to which netlink is refused."""

from __future__ import annotations

import pytest
from probe.conversation import PYTHONS

from halfopen import probe

NO_NETLINK = b"import _socket\ndef _refuse(*a, **k): raise OSError(97, 'refused')\n_socket.socket = _refuse\n"


@pytest.fixture(params=list(PYTHONS.values()), ids=list(PYTHONS))
def python(request: pytest.FixtureRequest) -> str:
    """The path of one interpreter."""
    return str(request.param)


@pytest.fixture(params=["netlink", "procfs"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the probe reads the sockets; by /proc, because netlink is refused to it, as in a strict container."""
    if request.param == "procfs":
        refuse_netlink(monkeypatch)
    return str(request.param)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Reading /proc, which is slow, is tried under the oldest and the newest Python; the kernel's answers under each."""
    paths = list(PYTHONS.values())
    ends = (paths[0], paths[-1])
    slow = [item for item in items if chosen(item, "way") == "procfs" and chosen(item, "python") not in (None, *ends)]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)


def chosen(item: pytest.Item, name: str) -> object:
    """The value of one parameter of a test; None where it has none."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(name) if callspec else None


def refuse_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a probe is sent whose netlink sockets are refused."""
    whole = probe.source
    monkeypatch.setattr("halfopen.probe.source", lambda more=(): NO_NETLINK + whole(more))
