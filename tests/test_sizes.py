"""What can be read in a sitting: no room of matching and judgement, file or class grows beyond it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import halfopen

HOME = Path(halfopen.__file__).parent
FILES = {path: path.read_text().splitlines() for path in sorted(HOME.rglob("*.py"))}
ROOM, FILE, CLASS = 1700, 400, 200  # lines
ROOMS = 5  # in `matching` or `judge`


def lines_of_rooms(package: str) -> dict[str, int]:
    """Lines of each package directly within halfopen/PACKAGE."""
    home = HOME / package
    return {
        room.name: sum(len(lines) for path, lines in FILES.items() if path.is_relative_to(room))
        for room in sorted(home.iterdir())
        if (room / "__init__.py").exists()
    }


@pytest.mark.parametrize("package", ["matching", "judge"])
def test_matching_and_judgement_have_few_rooms_and_none_is_too_large(package: str) -> None:
    rooms = lines_of_rooms(package)
    assert 1 < len(rooms) <= ROOMS
    assert {room: lines for room, lines in rooms.items() if not 0 < lines <= ROOM} == {}


def test_no_file_is_too_long() -> None:
    assert len(FILES) > 100
    assert {str(path): len(lines) for path, lines in FILES.items() if len(lines) > FILE} == {}


def test_no_class_is_too_long() -> None:
    classes = {
        f"{path}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, lines in FILES.items()
        for node in ast.walk(ast.parse("\n".join(lines)))
        if isinstance(node, ast.ClassDef)
    }
    assert len(classes) > 100
    assert {name: lines for name, lines in classes.items() if lines > CLASS} == {}
