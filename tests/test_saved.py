"""Files of evidence: what is written can be read, by this version and every later one, or is refused in a sentence."""

from __future__ import annotations

import gzip
import io
import json
from importlib import resources
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfopen.__main__ import main
from halfopen.environment import Environment
from halfopen.errors import UsageError
from halfopen.evidence.saved import CARRIED, Saved, decode, encode
from halfopen.model import Process

KEPT = Path(__file__).parent / "cases" / "snapshots"
RECORDED = resources.files("halfopen.demo").joinpath("recorded")


def one() -> Saved:
    return decode(RECORDED.joinpath("app1.halfopen").read_bytes(), "app1")


@given(st.binary(max_size=20), st.text(max_size=20))
def test_what_a_host_says_comes_back_byte_for_byte(raw: bytes, text: str) -> None:
    """Names of processes are bytes; characters that stand for such bytes are taken for them, and for nothing else."""
    text = "".join(sign for sign in text if ord(sign) not in CARRIED.values())
    names = (raw.decode("utf-8", "surrogateescape"), text)
    names = tuple("".join(sign for sign in name if ord(sign) not in CARRIED.values()) for name in names)
    saved = msgspec.structs.replace(one(), owners={n: Process(n, name, name, None) for n, name in enumerate(names)})
    assert decode(encode(saved), "again") == saved


def test_the_same_evidence_gives_the_same_bytes() -> None:
    assert encode(one()) == encode(one())


@pytest.mark.parametrize("name", sorted(path.name for path in KEPT.glob("*.json")))
def test_files_of_earlier_versions_are_judged_as_ever(name: str) -> None:
    """Each case is the truth of how the evidence was made, beside the files that its version wrote."""
    case = json.loads((KEPT / name).read_text())
    out, err = io.StringIO(), io.StringIO()
    code = main(["analyse", *case["files"], "--format", "json"], Environment({}, KEPT, io.StringIO(), out, err))
    assert code == case["exit_code"], err.getvalue()
    (check,) = json.loads(out.getvalue())["checks"]
    found = [[one["verdict"], one["connection"]["client"], one["connection"]["server"]] for one in check["findings"]]
    truth = case["truth"]
    if case["redacted"]:  # the ports are left
        found, truth = ([[one.rpartition(":")[2] for one in ends] for ends in some] for some in (found, truth))
    assert sorted(found) == sorted(truth)
    assert {one["confidence"] for one in check["findings"]} == {case["confidence"]}


def test_damaged_and_foreign_files_are_refused_in_a_sentence() -> None:
    whole = encode(one())
    text = json.loads(gzip.decompress(whole))
    bad = {
        "cut off": whole[:-9],
        "more stands behind": whole + whole,
        "is no snapshot": b"tcp ESTAB 0 0 10.0.0.1:22 10.0.0.2:40000",
        "unknown field": gzip.compress(json.dumps({**text, "verdicts": []}).encode()),
        "missing required field": gzip.compress(b"{}"),
        "Expected": gzip.compress(b"[" * 100_000),
    }
    for words, data in bad.items():
        with pytest.raises(UsageError) as caught:
            decode(data, "it")
        assert words in caught.value.message and caught.value.message.startswith("it")
    for at in range(0, len(whole), 97):
        damaged = whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
        try:
            assert decode(damaged, "it") == one()  # the head of gzip holds bytes that mean nothing
        except UsageError as error:
            assert error.message.startswith("it")
