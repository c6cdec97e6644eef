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


def refuse_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a probe is sent whose netlink sockets are refused."""
    whole = probe.source
    monkeypatch.setattr("halfopen.probe.source", lambda more=(): NO_NETLINK + whole(more))
