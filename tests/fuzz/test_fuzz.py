"""A short turn of every fuzzing target: its seeds and corpus, some thousand mutations of them, and large inputs.

`run.py` is the long turn, by hand. The same seed gives the same inputs, so that a failure comes again.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from fuzz.run import run, unpack
from fuzz.targets import TARGETS

pytestmark = pytest.mark.no_cover  # what is measured is slow, and nobody reads these branches by chance

RUNS = {"judged": 40}
MUTATIONS = 300
TOO_LONG = 30.0  # seconds of the processor: what is quadratic takes minutes, and a slow machine does not
LARGE = 64 << 10


@pytest.mark.parametrize("name", TARGETS)
def test_no_mutation_breaks_it(name: str, tmp_path: Path) -> None:
    if os.environ.get("CI") != "true":
        pytest.importorskip("atheris")
    unpack(name, tmp_path / "inputs")
    corpus = len(list((tmp_path / "inputs").iterdir()))
    done, broke = run(name, tmp_path, seconds=60, runs=corpus + RUNS.get(name, MUTATIONS), seed=1)
    assert broke == "", (tmp_path / "log").read_text()[-3000:]
    assert done >= corpus


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - {"judged"}))
def test_no_input_of_64_kib_takes_long(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    unpack(name, tmp_path)
    for path in sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_size)[-6:]:
        one = path.read_bytes()
        large = (one * (LARGE // max(1, len(one)) + 1))[:LARGE]
        began = time.process_time()
        with contextlib.suppress(*target.allowed):
            target.run(large)
        assert time.process_time() - began < TOO_LONG, path.name
