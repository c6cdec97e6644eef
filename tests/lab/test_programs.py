"""Real servers under load on a path that loses packets: nothing is found that is not so. `programs.py` tries more."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab.programs import is_loaded, looked, lose, under_load

SHORT = ("redis", "nginx")  # what .ci/run installs


@pytest.mark.parametrize("name", SHORT)
def test_a_real_server_on_a_lossy_path_is_healthy(name: str, tmp_path: Path) -> None:
    with under_load(tmp_path, name, 200) as (made, port):
        lose(made, port, 2.0)
        done = looked(made, 3, 20.0)
        assert done.compared >= 10 and done.false == []
        assert is_loaded(made, port)
