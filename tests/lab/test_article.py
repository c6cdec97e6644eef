"""The case that all this is about, as it comes about: a burst of 5000 connects to a program that does not accept.

Every setting is the kernel's default (SYN cookies on, somaxconn 4096), and no packet is dropped, changed or made up.
The link has latency, and all 5000 SYNs are under way before the first handshake completes. Linux answers 1001 of them
with a request socket, and the rest, the request queue being full, with a SYN cookie (net/ipv4/tcp_input.c
tcp_conn_request). The last ACKs come back in the same order: the first 1001 fill the accept queue (backlog 1000 holds
1001), and those that bring a cookie find it full and are dropped without a word (tcp_v4_syn_recv_sock). The client has
had its SYN-ACK, so to it all 5000 are established.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lab.host import Lab, lab
from lab.tool import Truth, assert_exactly, check, truth
from lab.tun import slow_link
from lab.waiting import until

from halfopen.report import text
from halfopen.report.view import View
from halfopen.schema.report import Report

CONNECTS, BACKLOG, QUEUED = 5000, 1000, 1001
README = Path(__file__).parents[2] / "README.md"
APP, DB = "10.0.1.5", "10.0.2.9"
# One way. The burst must be out before the first answer is back; SYNs are sent again after a second.
DELAYS = (0.2, 0.3, 0.4)


@contextmanager
def burst(folder: Path, delay: float) -> Iterator[tuple[Lab, Truth] | None]:
    """Two hosts after the burst, and the truth by the order of the connects; None if the burst was too slow."""
    with lab(folder, "app1", "db1") as made:
        app, db = made["app1"], made["db1"]
        slow_link(app, db, (APP, DB), delay)
        server, client = db.driver(), app.driver()
        server.be("orders")
        client.be("app")
        client.hurry()
        server.listen(DB, 5000, BACKLOG)
        clients = client.connect(DB, 5000, CONNECTS, 20.0)
        with suppress(AssertionError):  # until the last ACK is at its end, if they came in one
            until(lambda: counter(made, "ListenOverflows") >= CONNECTS - QUEUED, 10.0)
        local, far = client.local(clients), [f"{DB}:5000"] * CONNECTS
        # More would be SYNs that were sent again because this machine was slow to answer: they change nothing.
        in_one = counter(made, "SyncookiesSent") >= CONNECTS - QUEUED and Counter(db.ss().values()) == {"ESTAB": QUEUED}
        if not in_one:
            yield None
            return
        expected = truth("never-accepted", local[:QUEUED], far[:QUEUED])
        yield made, expected | truth("missing-on-server", local[QUEUED:], far[QUEUED:])


def counter(made: Lab, name: str) -> int:
    """A counter of db1, as its own `nstat` or `/proc/net/netstat` gives it."""
    names, values = made["db1"].run("grep", "^TcpExt:", "/proc/net/netstat").splitlines()
    return int(dict(zip(names.split(), values.split(), strict=True))[name])


@contextmanager
def in_one_burst(folder: Path) -> Iterator[tuple[Lab, Truth]]:
    """The case; over a slower link where this machine is too slow for the burst."""
    for delay in DELAYS:
        place = folder / str(delay)
        place.mkdir()
        with burst(place, delay) as case:
            if case is not None:
                yield case
                return
    raise AssertionError(f"5000 connects took longer than {2 * DELAYS[-1]} s on this machine")


def checked(made: Lab) -> dict[str, Any]:
    """What the tool says of it."""
    code, report = check(made, "--port", "5000", client="app1", server="db1")
    assert code == 1
    return report


@pytest.fixture(scope="module")
def article(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Truth]]:
    with in_one_burst(tmp_path_factory.mktemp("article")) as case:
        yield case


@pytest.fixture(scope="module")
def found(article: tuple[Lab, Truth]) -> dict[str, Any]:
    return checked(article[0])


def test_the_kernels_say_5000_here_and_1001_there(article: tuple[Lab, Truth]) -> None:
    made, _ = article
    assert Counter(made["app1"].ss().values()) == {"ESTAB": CONNECTS}
    assert Counter(made["db1"].ss().values()) == {"ESTAB": QUEUED}
    assert made["db1"].run("ss", "-Htln", "sport", "5000").split()[:3] == ["LISTEN", str(QUEUED), str(BACKLOG)]


def test_each_connection_is_found_with_its_verdict(article: tuple[Lab, Truth], found: dict[str, Any]) -> None:
    _, expected = article
    assert_exactly(found, expected, "observed")  # nobody can look into the slow link between them
    assert Counter(one["verdict"] for one in found["findings"]) == {"missing-on-server": 3999, "never-accepted": 1001}
    assert {one["severity"] for one in found["findings"]} == {"critical", "warning"}
    assert found["agreeing"] == 0 and found["connections"] == CONNECTS


def test_one_listener_is_named_and_its_queue_is_full(found: dict[str, Any]) -> None:
    (listener,) = found["listeners"]
    assert (listener["host"], listener["address"], listener["port"]) == ("db1", DB, 5000)
    assert (listener["queue"], listener["backlog"], listener["full"]) == (QUEUED, BACKLOG, True)
    assert listener["process"] and listener["pid"]
    assert {group["listener"] for group in found["groups"]} == {f"{DB}:5000"}
    assert [group["count"] for group in found["groups"]] == [3999, 1001]


def test_the_counters_say_cookies_and_overflows(found: dict[str, Any]) -> None:
    counters = {one["name"]: one["value"] for one in found["counters"] if one["host"] == "db1"}
    assert counters["SyncookiesSent"] >= 3999 and counters["ListenOverflows"] >= 3999


def test_both_groups_say_why_and_what_becomes_of_them(found: dict[str, Any]) -> None:
    missing, queued = found["groups"]
    assert (missing["cause"], missing["causes"]) == ("accept-queue-overflow", ["accept-queue-overflow"])
    assert "SYN cookie" in missing["why"][0]["summary"]
    assert missing["outlook"]["code"] == "never" and missing["outlook"]["within_s"] is None
    assert (queued["cause"], queued["causes"]) == ("application-not-accepting", ["application-not-accepting"])
    assert {one["cause"]["code"] for one in found["findings"]} == {missing["cause"], queued["cause"]}
    assert {one["outlook"]["code"] for one in found["findings"] if one["verdict"] == "missing-on-server"} == {"never"}


def test_what_speaks_for_it_are_the_numbers_of_this_case(found: dict[str, Any]) -> None:
    facts = [f"{fact['host']} {fact['fact']}" for fact in found["groups"][0]["evidence"]]
    for expected in ("1001 of 1000", "full", "somaxconn 4096", "ListenOverflows ", "SyncookiesSent "):
        assert any(expected in fact for fact in facts if fact.startswith("db1 ")), expected


def test_both_remedies_of_the_article_are_named(found: dict[str, Any]) -> None:
    """A larger backlog (or a program that accepts in time), and a client that does not wait to be spoken to."""
    steps = " ".join(found["groups"][0]["remedies"])
    for expected in ("backlog", "accept in a thread", "leave SYN cookies on", "client speak first", "SO_KEEPALIVE"):
        assert expected in steps, expected


@pytest.mark.parametrize(("width", "height"), [(80, 48), (120, 43)])
def test_the_text_of_it_is_one_screen_with_the_answer_first(found: dict[str, Any], width: int, height: int) -> None:
    answer = (
        "3999 half-open connections app1 -> db1:5000, all missing on the server;",
        "1001 more were never accepted",
    )
    lines = rendered(found, View(width=width)).splitlines()
    assert (lines[:2] == list(answer)) if width == 80 else (lines[0] == " ".join(answer))
    assert len(lines) < height and all(len(line) <= width for line in lines)
    shown = [line for line in lines if line.startswith(f"        {APP}:")]
    assert 2 <= len(shown) <= 6  # a few examples
    whole = rendered(found, View(width=width, all=True)).splitlines()
    assert sum(f" -> {DB}:5000" in line for line in whole) == CONNECTS


def test_the_readme_shows_what_is_printed(found: dict[str, Any]) -> None:
    _, shown, _ = readme()
    assert bare(shown) == bare(rendered(found, View(width=100))), "run: python tests/make_golden.py readme"


def readme() -> tuple[str, str, str]:
    """The README before the report of this case, the report as it is shown there, and what follows."""
    head, command, rest = README.read_text().partition("$ halfopen check app1 db1 --port 5000\n")
    shown, fence, tail = rest.partition("```\n")
    assert command and fence
    return head + command, shown, fence + tail


def bare(report: str) -> str:
    """A report without what differs from run to run (durations, ports, pids, counters), and so without line breaks."""
    lasting = r"(\d+m \d\ds|[\d.]+ s)"
    once = re.sub(rf"{lasting}( to {lasting})?", "T", " ".join(report.split()))
    return re.sub(rf"{APP}:\d+|pid \d+|proc/\d+|Sent \d+|Overflows \d+", "N", once)


def rendered(found: dict[str, Any], view: View) -> str:
    """The text of a check that was read as JSON."""
    report = {"schema": "", "tool": {"name": "", "version": ""}, "started_at": "", "finished_at": ""}
    whole = report | {"outcome": found["outcome"], "exit_code": found["exit_code"], "checks": [found]}
    return text.render(msgspec.convert(whole, Report), view)
