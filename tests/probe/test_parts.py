"""What is sent is what is in the repository, whole, in parts that can be read, and the same under every Python."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from halfopen import probe
from halfopen.evidence.probe import asked, census, examination, frames, kernel, wire
from halfopen.probe import ask as sent_ask
from halfopen.probe import census as sent_census
from halfopen.probe import columns, head
from halfopen.probe import examination as sent_examination
from halfopen.probe.serve import ANSWERS

FOLDER = Path(probe.__file__).parent
MORE = {"check": (), "survey": probe.SURVEY, "ask": probe.ASKING}
ORDER = tuple(dict.fromkeys(probe.PARTS + probe.SURVEY + probe.ASKING))
OF_ITS_OWN = "netlink.socket.setsockopt(270, 12, 1)"  # on the probe's own socket: NETLINK_GET_STRICT_CHK
FORBIDDEN = ("subprocess", "fork", "os.system", "popen", '"w', "'w", "O_CREAT", "SOCK_DESTROY", "sendto", "kill")


def names_of(part: str) -> list[str]:
    """What a part defines for those behind it."""
    found = []
    for node in ast.parse((FOLDER / f"{part}.py").read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return found


def test_every_file_of_the_package_is_sent_and_fits_a_sitting() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.is_file()}
    assert files == {"__init__.py", "collect.sh", *(f"{name}.py" for name in ORDER)}
    assert {name: lines for name in files if (lines := len((FOLDER / name).read_text().splitlines())) >= 250} == {}


def test_no_name_is_defined_twice() -> None:
    names = [name for part in ORDER for name in names_of(part)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("part", ORDER)
def test_a_part_imports_the_parts_before_it_and_the_standard_library(part: str) -> None:
    before = {name: known for known in ORDER[: ORDER.index(part)] for name in names_of(known)}
    for node in ast.walk(ast.parse((FOLDER / f"{part}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("halfopen"):
            assert all(f"halfopen.probe.{before[one.name]}" == node.module and not one.asname for one in node.names)
        elif isinstance(node, ast.Import):
            assert not any(one.name.startswith("halfopen") for one in node.names)


@pytest.mark.parametrize("what", MORE)
def test_the_joined_text_is_the_parts_without_their_imports_of_each_other(what: str) -> None:
    text = probe.source(MORE[what]).decode()
    assert not re.search(r"(?m)^\s*(from|import) halfopen", text)
    lines = set(text.splitlines())
    for part in probe.PARTS + MORE[what]:
        source = (FOLDER / f"{part}.py").read_text()
        assert f"# ---- halfopen/probe/{part}.py" in lines
        assert all(line in lines for line in probe.IMPORTED.sub("", source).splitlines())
    assert ("HOLDERS" in text) == (what == "survey")  # a check never sends the survey
    others = text.replace(OF_ITS_OWN, "")
    assert ("setsockopt" in others) == (what == "ask")  # and nothing that could change a socket, unless it may ask


def test_every_python_compiles_it_and_needs_no_more_than_is_there(python: str) -> None:
    end = f"assert sorted(ANSWERS) == {sorted(ANSWERS)}; assert main\n"
    whole = probe.joined(ORDER) + end.encode()
    subprocess.run([python, "-I", "-S", "-B", "-"], input=whole, check=True)


def test_it_starts_no_process_and_writes_no_file() -> None:
    text = probe.joined(ORDER).decode()
    assert [word for word in FORBIDDEN if word in text] == []


def test_the_message_is_tied() -> None:
    """The two lists exist twice on purpose; this holds them together: layout of the message, verbs, frames, schema."""
    kinds = ("FIELDS", "BLOCK", "LISTENERS", "ROWS", "END", "ERROR", "TEXT")
    verbs = ("HELLO", "DUMP", "LOOK", "EVIDENCE", "OWNERS", "BYE", "TRANSLATIONS", "TABLE", "COUNT", "ROUTES")
    assert [getattr(head, name) for name in kinds] == [getattr(frames, name) for name in kinds]
    assert [getattr(head, name) for name in verbs] == [getattr(wire, name) for name in verbs]
    assert head.SCHEMA == wire.SCHEMA and 16 + kernel.MESSAGE.size == columns.ROW
    assert (sent_census.HOLDERS, sent_census.PROCESSES) == (census.HOLDERS, census.PROCESSES)
    assert sent_examination.EXAMINE == examination.EXAMINE
    assert (sent_ask.ASK, sent_ask.ENTRY.format) == (asked.ASK, asked.ENTRY.format)
    assert [getattr(sent_ask, code.name) for code in asked.CODES if code] == list(range(1, len(asked.CODES)))
