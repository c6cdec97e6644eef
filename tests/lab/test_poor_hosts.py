"""Hosts that give less: an ordinary user whom /proc hides its neighbours from, and the oldest Python there is."""

from __future__ import annotations

from pathlib import Path

from lab.breaks import FAULTS, Scene
from lab.host import Lab
from lab.tool import NOBODY, assert_exactly, check, exec_inventory
from probe.conversation import PYTHONS


def broken(made: Lab) -> tuple[Scene, set[tuple[str, str, str]]]:
    web, db = made["web"], made["db"]
    place = Scene(web, db, web.driver(), db.driver(), made.v4("db"), made.v4("db"), 5000)
    return place, FAULTS["server_vanished"](place)


def test_whom_proc_hides_its_neighbours_from_still_proves_and_names_the_gap(fresh_pair: Lab, tmp_path: Path) -> None:
    place, expected = broken(fresh_pair)
    for name in ("web", "db"):
        fresh_pair[name].run("mount", "-o", "remount,hidepid=2", "/proc")
    parts = [Path(exec_inventory(fresh_pair, name, *NOBODY)).read_text() for name in ("web", "db")]
    (tmp_path / "poor.toml").write_text("".join(parts))
    code, report = check(fresh_pair, "--port", str(place.port), "--inventory", str(tmp_path / "poor.toml"))
    assert_exactly(report, expected)
    assert code == 1 and all(one["client"]["pid"] is None for one in report["findings"])
    assert any("other users" in note for note in report["notes"])


def test_the_oldest_python_sees_the_same(fresh_pair: Lab, tmp_path: Path) -> None:
    place, expected = broken(fresh_pair)
    oldest = next(iter(PYTHONS.values()))
    text = fresh_pair.inventory.read_text()
    for name in ("web", "db"):
        text = text.replace(f"[hosts.{name}]\n", f'[hosts.{name}]\npython = "{oldest}"\n')
    (tmp_path / "old.toml").write_text(text)
    code, report = check(fresh_pair, "--port", str(place.port), "--inventory", str(tmp_path / "old.toml"))
    assert_exactly(report, expected)
    assert code == 1 and text.count(oldest) == 2
