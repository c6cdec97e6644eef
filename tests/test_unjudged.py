"""What is not judged is a row each with its reason, what leads elsewhere is counted once, and reports show both."""

from __future__ import annotations

from pathlib import Path

import pytest
from evidence import CLIENT, SERVER, key, sights, snapshot, sock
from msgspec.structs import replace
from report_examples import PLAN, report
from test_analyse_text import HEAD, SSH, mirrored, pair, run

from halfopen import address
from halfopen.errors import ErrorCode, HostError
from halfopen.glossary import REASONS
from halfopen.judge.assembly.check import analyse
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.assembly.run_evidence import Evidence
from halfopen.judge.confirm.bracket import Bracket
from halfopen.matching.pairing.match import match
from halfopen.matching.places.addresses import survey
from halfopen.model import Collector, Snapshot
from halfopen.report import markdown, text
from halfopen.report.view import View
from halfopen.schema.report import Check, Outcome, Reason, Severity
from halfopen.tcp import State

ONE = key(40000)
AWAY = key(40001, 443, server=address.parse("198.51.100.4"))


def checked(web: Snapshot, db: Snapshot, allow: tuple[str, ...] = (), lost: bool = False) -> Check:
    """A check of two dumps. `lost`: db failed when its suspects were looked up."""
    plan = replace(PLAN, ports=(), allow=allow)
    snapshots = {"web": web, "db": db}
    matching = match(survey([web, db], plan.clients, plan.servers, (), {}))
    errors = {"db": HostError(ErrorCode.TIMEOUT, "it does not answer", None)} if lost else {}
    seen = sights([web] if lost else [web, db], {"web": [sock(ONE)]}, matching.suspects)
    if lost:
        seen = {end: sight for end, sight in seen.items() if end[0].host == "web"}
    brackets = [Bracket(seen, seen, seen, errors)] if matching.suspects else []
    return analyse(plan, Evidence(snapshots, matching, brackets), Policy(Severity.CRITICAL))


def partial(host: Snapshot, collector: Collector, damaged: bool = False) -> Snapshot:
    """The host as if its only namespace had been read in part."""
    assert host.facts is not None
    spaces = tuple(replace(space, whole=False, damaged=damaged) for space in host.namespaces)
    return replace(host, facts=replace(host.facts, collector=collector), namespaces=spaces)


WEB, DB = snapshot("web", [CLIENT], [sock(ONE), sock(AWAY)]), snapshot("db", [SERVER], [])


@pytest.mark.parametrize(
    ("db", "lost", "reason"),
    [
        (partial(DB, Collector.NETLINK), False, Reason.NAMESPACE_NOT_ENTERED),
        (partial(DB, Collector.LSOF), False, Reason.NOT_SHOWN_BY_SOURCE),
        (partial(DB, Collector.SS, damaged=True), False, Reason.ROW_DAMAGED),
        (DB, True, Reason.NOT_SHOWN_BY_SOURCE),
    ],
)
def test_whatever_keeps_a_connection_from_being_judged_is_a_row_with_its_reason(
    db: Snapshot, lost: bool, reason: Reason
) -> None:
    check = checked(WEB, db, lost=lost)
    assert (check.findings, check.outcome, check.exit_code) == ((), Outcome.INCOMPLETE, 3)
    (row,) = check.unjudged
    assert (row.client, row.server) == ("10.0.0.1:40000", "10.0.0.2:5432")
    assert (row.host, row.state, row.reason) == ("web", "ESTABLISHED", reason)


def test_every_reason_has_words() -> None:
    assert set(REASONS) == set(Reason)


def test_what_is_allowed_does_not_count_but_a_host_that_was_read_in_part_still_does() -> None:
    db = partial(DB, Collector.LSOF)
    assert any("could not be judged" in line for line in (checked(WEB, db).headline, *checked(WEB, db).details))
    check = checked(WEB, db, allow=("not-shown-by-source",))
    assert len(check.unjudged) == 1 and check.exit_code == 3
    assert check.headline == "incomplete  web -> db: db was read in part"


def test_reports_give_a_count_or_all_rows() -> None:
    found = report(checked(WEB, partial(DB, Collector.LSOF)))
    count = "1 connection not judged (1 not-shown-by-source)"
    row = "10.0.0.1:40000 -> 10.0.0.2:5432   web: ESTABLISHED   not-shown-by-source"
    assert count in text.render(found, View()) and row not in text.render(found, View())
    assert row in text.render(found, View(all=True))
    assert count in markdown.render(found, View())
    assert "### not judged" in markdown.render(found, View(all=True))


def test_a_clean_report_says_how_many_connections_lead_elsewhere() -> None:
    found = report(checked(WEB, snapshot("db", [SERVER], [sock(address.mirror(ONE))])))
    assert found.outcome is Outcome.CLEAN
    for shown in (text.render(found, View()), markdown.render(found, View())):
        assert "1 connection of web leads elsewhere and was not judged" in shown


def test_a_host_with_both_roles_has_each_of_them_once() -> None:
    check = match(survey([WEB, DB], ["web", "db"], ["db", "web"], (), {}))
    assert check.external == {("web", "198.51.100.4:443"): 1}
    alone = match(survey([WEB], ["web"], ["web"], (), {}))
    assert alone.external == {("web", "10.0.0.2:5432"): 1, ("web", "198.51.100.4:443"): 1}


def test_a_text_that_is_cut_leaves_rows_and_not_findings(tmp_path: Path) -> None:
    cut = HEAD + SSH + mirrored([1])
    code, check = run(tmp_path, "app1.txt", "db1.txt", app1=HEAD + SSH + pair([1, 2, 3]), db1=cut.rstrip("\n"))
    assert code == 3 and check["findings"] == []
    assert {one["reason"] for one in check["unjudged"]} == {"row-damaged"} and len(check["unjudged"]) >= 2


def test_what_closed_connections_left_behind_is_nothing_that_was_compared() -> None:
    web = snapshot("web", [CLIENT], [sock(ONE, State.TIME_WAIT), sock(key(40002))])
    db = snapshot("db", [SERVER], [sock(address.mirror(key(40002)))])
    assert match(survey([web, db], ["web"], ["db"], (), {})).compared == 1
