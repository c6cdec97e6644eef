"""Silence: churn, ports that are used again, and connections that come and go give no finding; true faults still do."""

from __future__ import annotations

from pathlib import Path

import msgspec
from lab.breaks import FAULTS, Scene
from lab.host import Driver, Lab
from lab.tool import Truth, assert_exactly, check, looks_amid, truth
from lab.waiting import until

from halfopen.inventory import read
from halfopen.plan import CheckPlan
from halfopen.run.fleet import Fleet, Options
from halfopen.run.live import report_of_run, run_checks

RUNS = 20
CHURN = 1000  # connections a second
CHURNED = 5000  # connections that come and go during the looks of one test
IDLE = 200


def quiet_and_loud(made: Lab) -> Driver:
    """Idle connections beside churn that outlasts the test."""
    # Or the client's host runs out of ports after half a minute, for each stays a minute in TIME_WAIT.
    made["web"].sysctl("ipv4/tcp_tw_reuse", 1)
    web, db = made["web"].driver(), made["db"].driver()
    listener = db.listen("10.7.0.2", 5000, 1024)
    web.connect("10.7.0.2", 5000, IDLE)
    db.accept(listener, IDLE)
    loud_server, loud_client = made["db"].driver(), made["web"].driver()
    loud_server.churn_server("10.7.0.2", 7000, 300)
    loud_client.churn_client("10.7.0.2", 7000, CHURN, 300)
    until(loud_client.churn_made)
    return loud_client


def test_churn_gives_no_finding(fresh_pair: Lab) -> None:
    loud = quiet_and_loud(fresh_pair)
    for _ in looks_amid(loud, RUNS, CHURNED):
        code, report = check(fresh_pair, "--settle", "0.5")
        assert_exactly(report, set())
        assert code == 0 and report["outcome"] == "clean"
        assert report["connections"] >= IDLE


def test_true_faults_are_found_among_churn(fresh_pair: Lab) -> None:
    expected: Truth = set()
    web, db = fresh_pair["web"], fresh_pair["db"]
    for number, fault in enumerate(("server_vanished", "client_vanished", "half_closed")):
        place = Scene(web, db, web.driver(), db.driver(), "10.7.0.2", "10.7.0.2", 6000 + number)
        expected |= FAULTS[fault](place)
    extra = Scene(web, db, web.driver(), db.driver(), "10.7.0.2", "10.7.0.2", 6100)
    clients, servers = extra.connected()
    extra.server.vanish(servers[:2])
    expected |= truth("missing-on-server", *extra.ends(clients[:2]))
    assert len(expected) == 11
    for _ in looks_amid(quiet_and_loud(fresh_pair), RUNS, CHURNED):
        code, report = check(fresh_pair, "--settle", "0.5")
        assert_exactly(report, expected)
        assert code == 1


def test_a_port_that_is_used_again_between_the_rounds_is_no_finding(fresh_pair: Lab) -> None:
    """The same tuple, a new socket every 0.3 s: each is another connection."""
    web, db = fresh_pair["web"].driver(), fresh_pair["db"].driver()
    db.churn_server("10.7.0.2", 7000, 60)
    web.reuse("10.7.0.2", 7000, ["10.7.0.1", 41000], 0.3, 50)
    for _ in range(5):
        _, report = check(fresh_pair, "--settle", "0.7")
        assert_exactly(report, set())


def test_a_fault_that_has_healed_is_no_finding(fresh_pair: Lab) -> None:
    """Connections waited for their accept, and have got it."""
    db, listener = waiting_for_accept(fresh_pair)
    db.accept(listener, 5)
    _, report = check(fresh_pair, "--settle", "0.3")
    assert_exactly(report, set())


def test_a_fault_that_heals_between_the_rounds_is_no_finding(fresh_pair: Lab, tmp_path: Path) -> None:
    """They get it after the first round and before the second."""
    db, listener = waiting_for_accept(fresh_pair)
    told = []

    def say(text: str) -> None:
        if "looking again" in text:
            told.append(text)
            db.accept(listener, 5)

    plan = CheckPlan("web -> db", ("web",), ("db",), settle=0.0)
    with Fleet(read(str(fresh_pair.inventory), {}, tmp_path), [plan], Options(), say) as hosts:
        hosts.begin()
        report = report_of_run(run_checks(hosts))
    assert_exactly(msgspec.to_builtins(report)["checks"][0], set())
    assert len(told) == 1 and told[0].startswith("5 suspects")


def waiting_for_accept(made: Lab) -> tuple[Driver, int]:
    """Five connections in the accept queue of db: its program, and the listener."""
    db = made["db"].driver()
    listener: int = db.listen("10.7.0.2", 5000, 64)
    made["web"].driver().connect("10.7.0.2", 5000, 5)
    until(lambda: made["db"].queue(5000) == 5)
    return db, listener
