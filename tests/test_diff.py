"""What became of the findings of one report until the next, and what a baseline takes out of the exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from evidence import key, sock
from msgspec import structs
from msgspec.structs import replace
from report_examples import HOSTILE, PLAN, article, check, incomplete, report

from halfopen import address
from halfopen.cli import main
from halfopen.compare import difference
from halfopen.environment import Environment
from halfopen.judge.assembly.policy import Policy
from halfopen.report.formats import DIFF_FORMATS, FORMATS
from halfopen.report.view import View
from halfopen.schema.diff import DiffReport
from halfopen.schema.report import Check, Reason, Report, Severity, UnjudgedRow, Verdict
from halfopen.tcp import State


def lone(*ports: int, queued: int = 0) -> Check:
    """Connections that the server does not know, by their ports; and so many that nobody accepts."""
    waiting = [key(40000 + number) for number in range(queued)]
    near = [sock(key(port), cookie=port) for port in ports] + [sock(one) for one in waiting]
    return check(near, [sock(address.mirror(one), inode=0) for one in waiting])


def between(old: Check | Report, new: Check | Report) -> DiffReport:
    """The difference of two checks."""
    old, new = (one if isinstance(one, Report) else report(one) for one in (old, new))
    return difference(old, new, ("old.json", "new.json"))


def ports(findings: tuple[object, ...]) -> list[str]:
    return sorted(one.connection.client.rpartition(":")[2] for one in findings)  # type: ignore[attr-defined]


def test_findings_appear_stay_and_go() -> None:
    found = between(lone(1, 2), lone(2, 3))
    assert (ports(found.appeared), ports(found.still), ports(found.gone), found.unknown) == (["3"], ["2"], ["1"], ())
    assert found.exit_code == 1 and found.headline == "1 finding appeared, 1 still there, 1 gone"
    assert between(lone(1, 2), lone(1, 2)).headline == "nothing appeared, 2 still there"
    assert between(lone(1, 2), lone(2)).exit_code == 0


def test_what_the_new_report_has_not_read_is_not_gone() -> None:
    found = between(lone(20000, 2), incomplete())
    assert (ports(found.unknown), found.gone, found.exit_code) == (["2", "20000"], (), 3)
    assert found.headline.startswith("incomplete")
    left = lone()
    row = UnjudgedRow(
        client="10.0.0.1:2", server="10.0.0.2:5432", host="web", state=State.ESTABLISHED, reason=Reason.CHANGING
    )
    found = between(lone(1, 2), structs.replace(left, unjudged=(row,)))
    assert (ports(found.unknown), ports(found.gone), found.exit_code) == (["2"], ["1"], 3)
    elsewhere = structs.replace(left, hosts=tuple(structs.replace(one, name=one.name + "2") for one in left.hosts))
    assert between(lone(1), elsewhere).exit_code == 3


def test_a_connection_that_is_used_again_is_another_one() -> None:
    again = check([sock(key(1), cookie=99)], [])
    found = between(lone(1), again)
    assert (len(found.appeared), len(found.gone), len(found.still)) == (1, 1, 0)


def test_another_verdict_is_told() -> None:
    closing = check([sock(key(1), State.FIN_WAIT2, cookie=1)], [])
    found = between(lone(1), closing)
    assert [(one.was, one.finding.verdict) for one in found.became] == [
        (Verdict.MISSING_ON_SERVER, Verdict.CLOSING_ALONE)
    ]
    assert "closing-alone, was missing-on-server" in DIFF_FORMATS["text"].render(found, View())


def test_what_is_allowed_appears_and_does_not_fail() -> None:
    plan = replace(PLAN, allow=("missing-on-server",))
    found = between(lone(), check([sock(key(1), cookie=1)], [], plan))
    assert len(found.appeared) == 1 and found.exit_code == 0


def test_queues_and_counters_are_told_where_they_differ() -> None:
    old, new = lone(1, queued=1), lone(1, queued=3)
    grown = structs.replace(
        new, counters=tuple(structs.replace(one, value=one.value + 5) for one in new.counters[:1]) + new.counters[1:]
    )
    found = between(old, grown)
    assert [(one.host, one.old, one.new) for one in found.queues] == [("db", 1, 3)]
    assert [(one.new - one.old, one.restarted) for one in found.counters] == [(5, False)]
    assert [one.restarted for one in between(grown, old).counters] == [True]


@pytest.mark.parametrize("form", DIFF_FORMATS)
def test_every_format_says_it_and_nothing_of_a_host_acts(form: str) -> None:
    hostile = article(30, 1, HOSTILE)
    text = DIFF_FORMATS[form].render(between(lone(1), hostile), View())
    assert "\x1b" not in text and "\u202e" not in text and "31 finding" in text
    if form == "markdown":
        assert "<script>" not in text
    if form != "json":
        assert "and 11 more" in text
        assert "and 11 more" not in DIFF_FORMATS[form].render(between(lone(1), hostile), View(all=True))


def run(folder: Path, *argv: str) -> int:
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        return main(argv, Environment({}, folder, sys.stdin, out, err))


def test_the_command_reads_two_reports(tmp_path: Path) -> None:
    for name, one in (("old", lone(1)), ("new", lone(1, 2))):
        (tmp_path / f"{name}.json").write_text(FORMATS["json"].render(report(one), View()))
    assert run(tmp_path, "diff", "old.json", "new.json", "--json") == 1
    data = json.loads((tmp_path / "out").read_text())
    assert (data["schema"], data["exit_code"], len(data["appeared"])) == ("halfopen.diff/1", 1, 1)
    assert run(tmp_path, "diff", "old.json", "old.json", "-o", "d.md") == 0
    assert (tmp_path / "d.md").read_text().startswith("## nothing appeared")


def test_a_baseline_takes_what_it_has_out_of_the_exit_code() -> None:
    old = lone(1, 2)
    known = Policy(Severity.CRITICAL, frozenset(one.id for one in old.findings))
    near = [sock(key(port), cookie=port) for port in (1, 2)]
    same = check(near, [], policy=known)
    assert (same.exit_code, same.outcome, [one.known for one in same.findings]) == (0, "findings", [True, True])
    assert "2 of 2 findings stand in the baseline: not counted" in same.notes
    more = check([*near, sock(key(3), cookie=3)], [], policy=known)
    assert (more.exit_code, [one.known for one in more.findings]) == (1, [True, True, False])
    limited = replace(PLAN, max={"missing-on-server": 1})
    assert check(near, [], limited, known).exit_code == 0
    assert check([*near, *(sock(key(port), cookie=port) for port in (3, 4))], [], limited, known).exit_code == 1
