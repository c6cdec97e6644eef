"""Silence: churn, ports that are used again, and connections that come and go give no finding; true faults still do."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from lab.breaks import FAULTS, Scene
from lab.host import Lab
from lab.tool import Truth, assert_exactly, check, truth

RUNS = 20
CHURN = 1000  # connections a second
IDLE = 200


def quiet_and_loud(made: Lab) -> Any:
    """Idle connections beside churn that outlasts the test."""
    # Or the client's host runs out of ports after half a minute, for each stays a minute in TIME_WAIT.
    made["web"].sysctl("ipv4/tcp_tw_reuse", 1)
    web, db = made["web"].driver(), made["db"].driver()
    listener = db.listen("10.7.0.2", 5000, 1024)
    web.connect("10.7.0.2", 5000, IDLE)
    db.accept(listener, IDLE)
    loud_server, loud_client = made["db"].driver(), made["web"].driver()
    loud_server.churn_server("10.7.0.2", 7000, 170)
    loud_client.churn_client("10.7.0.2", 7000, CHURN, 160)
    time.sleep(0.5)
    return loud_client


def test_churn_gives_no_finding(fresh_pair: Lab) -> None:
    loud = quiet_and_loud(fresh_pair)
    began, before = time.monotonic(), loud.churn_made()
    for _ in range(RUNS):
        code, report = check(fresh_pair, "--settle", "0.5")
        assert_exactly(report, set())
        assert code == 0 and report["outcome"] == "clean"
        assert report["connections"] >= IDLE
    assert (loud.churn_made() - before) / (time.monotonic() - began) > 0.8 * CHURN


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
    quiet_and_loud(fresh_pair)
    for _ in range(RUNS):
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


@pytest.mark.parametrize("settle", ["0.3", "1.5"])
def test_a_fault_that_heals_between_the_rounds_is_no_finding(fresh_pair: Lab, settle: str) -> None:
    """Connections wait for their accept, and get it before the second round."""
    web, db = fresh_pair["web"].driver(), fresh_pair["db"].driver()
    listener = db.listen("10.7.0.2", 5000, 64)
    web.connect("10.7.0.2", 5000, 5)
    timer = threading.Timer(0.9 if settle == "1.5" else 0.0, db.accept, [listener, 5])
    timer.start()
    if settle == "0.3":
        timer.join()
    _, report = check(fresh_pair, "--settle", settle)
    timer.join()
    assert_exactly(report, set())
