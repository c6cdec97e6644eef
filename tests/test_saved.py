"""Files of evidence: what is written can be read, by this version and every later one, or is refused in a sentence."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfopen import __version__
from halfopen.__main__ import main
from halfopen.environment import Environment
from halfopen.errors import UsageError
from halfopen.evidence.saved import CARRIED, Saved, decode, encode, to_json
from halfopen.model import Process

KEPT = Path(__file__).parent / "cases" / "snapshots"
RECORDED = resources.files("halfopen.demo").joinpath("recorded")


def one() -> Saved:
    return decode(RECORDED.joinpath("app1.halfopen").read_bytes(), "app1")


@given(st.binary(max_size=20), st.text(max_size=20))
def test_what_a_host_says_comes_back_byte_for_byte(raw: bytes, text: str) -> None:
    """Names of processes are bytes; characters that stand for such bytes are taken for them, and for nothing else."""
    text = "".join(sign for sign in text if ord(sign) not in CARRIED.values())
    told = (raw.decode("utf-8", "surrogateescape"), text)
    names = ["".join(sign for sign in name if ord(sign) not in CARRIED.values()) for name in told]
    saved = msgspec.structs.replace(one(), owners={n: Process(n, name, name, None) for n, name in enumerate(names)})
    assert decode(encode(saved), "again") == saved


def test_the_same_evidence_gives_the_same_bytes() -> None:
    assert encode(one()) == encode(one())


@pytest.mark.parametrize("name", sorted(path.name for path in KEPT.glob("*.json")))
def test_files_of_earlier_versions_are_judged_as_ever(name: str) -> None:
    """Each case is the truth of how the evidence was made, beside the files that its version wrote.

    too_early: what was made too, but a try was due on it in the evidence, and no look saw that fail.
    without_routes: the confidence of what lacks an end, where the way to it was not saved.
    """
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
    assert any("too early to say" in note for note in check["notes"]) == ("too_early" in case)
    assert {one["confidence"] for one in check["findings"]} <= {case["confidence"], case.get("without_routes")}


def test_damaged_and_foreign_files_are_refused_in_a_sentence() -> None:
    whole = encode(one())
    text = json.loads(gzip.decompress(whole))
    bad = {
        "cut off": whole[:-9],
        "more data after": whole + whole,
        "is not a valid snapshot": b"tcp ESTAB 0 0 10.0.0.1:22 10.0.0.2:40000",
        "Invalid enum value": gzip.compress(json.dumps({**text, "error": {**SAID, "code": "moon"}}).encode()),
        "missing required field": gzip.compress(b"{}"),
        "Expected `object`": gzip.compress(b"[" * 100_000),
        "maximum recursion depth": gzip.compress(to_json(one())[:-1] + b',"newer":' + b"[" * 100_000),
        "Input data was truncated": gzip.compress(to_json(one())[:-1]),
    }
    for words, data in bad.items():
        with pytest.raises(UsageError) as caught:
            decode(data, "it")
        assert words in caught.value.message
        assert caught.value.message.startswith("it")
    for at in range(0, len(whole), 97):
        damaged = whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
        try:
            assert decode(damaged, "it") == one()  # the head of gzip holds bytes that mean nothing
        except UsageError as error:
            assert error.message.startswith("it")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda file: file["facts"].update(collector="moon"), "$.facts.collector"),
        (lambda file: file.update(error={**SAID, "code": "moon"}), "$.error.code"),
        (lambda file: file["looks"][0][0][0][3].update(state="moon"), "$.looks[0][0][0][3].state"),
        (lambda file: file["looks"][0][0][0][3].update(timer="moon"), "$.looks[0][0][0][3].timer"),
    ],
)
def test_a_word_of_a_later_version_is_refused_with_its_place_and_who_can_read_it(
    change: Callable[[Any], None], place: str
) -> None:
    """Not left out: a socket without its state, or one less, would be judged as if the host had said so."""
    file = json.loads(to_json(one()))
    file["version"] = "0.7.0"
    change(file)
    with pytest.raises(UsageError) as caught:
        decode(gzip.compress(json.dumps(file).encode()), "db.halfopen")
    assert caught.value.message == f"db.halfopen: Invalid enum value 'moon' - at `{place}`"
    assert caught.value.hint == f"halfopen 0.7.0 wrote it and reads it; this is {__version__}"


@pytest.mark.parametrize("rest", [{}, {"facts": 7}], ids=["its fields are unknown", "its fields have changed"])
def test_a_file_of_another_major_version_is_refused_whatever_is_in_it(tmp_path: Path, rest: dict[str, Any]) -> None:
    head = {"schema": "halfopen.snapshot/2", "version": "2.0.0"}
    (tmp_path / "db.halfopen").write_bytes(gzip.compress(json.dumps({**head, **rest}).encode()))
    err = io.StringIO()
    code = main(["analyse", "db.halfopen"], Environment({}, tmp_path, io.StringIO(), io.StringIO(), err))
    assert code == 2
    assert "db.halfopen is 'halfopen.snapshot/2', this halfopen reads halfopen.snapshot/1" in err.getvalue()
    assert "halfopen 2.0.0 wrote it and reads it" in err.getvalue()


SAID: dict[str, str | None] = {"code": "timeout", "message": "", "hint": None}


ODD: dict[str, tuple[Callable[[Any], Any], str]] = {  # what is changed in a file, and what the error names
    "a port over 65535": (lambda file: file["namespaces"][0]["listeners"][0].update(port=70000), "port"),
    "a port below 0": (lambda file: file["namespaces"][0].update(covered_ports=[-1]), "covered_ports"),
    "a family that is none": (lambda file: file["namespaces"][0]["listeners"][0].update(family=77), "family"),
    "a negative inode": (lambda file: file["namespaces"][0]["listeners"][0].update(inode=-1), "inode"),
    "an address of 5 bytes": (
        lambda file: file["namespaces"][0]["addresses"][0].update(address=base64.b64encode(bytes(5)).decode()),
        "InterfaceAddress.address has 5 bytes",
    ),
    "an empty address of a listener": (
        lambda file: file["namespaces"][0]["listeners"][0].update(address=""),
        "ListenSocket.address has 0 bytes",
    ),
    "an address that is none": (lambda file: file.update(addresses=["ZA=="]), "addresses: not an IP address"),
    "a key of 11 bytes": (
        lambda file: file["looks"][0][0][0].__setitem__(1, base64.b64encode(bytes(11)).decode()),
        "SavedObservation.key has 11 bytes",
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_a_value_that_no_host_can_have_is_refused_with_its_name(what: str) -> None:
    change, named = ODD[what]
    file = msgspec.json.decode(to_json(one()))
    change(file)
    with pytest.raises(UsageError, match=f"^x: .*{re.escape(named)}"):
        decode(gzip.compress(msgspec.json.encode(file)), "x")
