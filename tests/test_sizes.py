"""What can be read in a sitting: no room of the judgement, file or class grows beyond it."""

from __future__ import annotations

import ast
from pathlib import Path

import halfopen

HOME = Path(halfopen.__file__).parent
FILES = {path: path.read_text().splitlines() for path in sorted(HOME.rglob("*.py"))}
JUDGE = HOME / "judge"
ROOM, FILE, CLASS = 1700, 400, 200  # lines


def room_of(path: Path) -> str:
    return path.relative_to(JUDGE).parts[0]


def test_no_room_of_the_judgement_is_too_large() -> None:
    rooms: dict[str, int] = {}
    for path, lines in FILES.items():
        if path.is_relative_to(JUDGE):
            rooms[room_of(path)] = rooms.get(room_of(path), 0) + len(lines)
    assert len(rooms) > 5
    assert {room: lines for room, lines in rooms.items() if lines > ROOM} == {}


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
