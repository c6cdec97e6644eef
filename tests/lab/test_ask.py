"""`--ask` on real hosts: what it brings, that nobody notices who is well, and that nothing is sent without it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lab.breaks import COUNT, Scene
from lab.host import DRIVER, Driver, Lab, lab
from lab.test_answered import PORT, sidecar
from lab.test_nat import as_nobody
from lab.tool import NOBODY, assert_exactly, check, found, truth
from lab.waiting import PATIENCE, until

from halfopen.evidence.redact import redacted
from halfopen.evidence.saved import decode, encode
from halfopen.inventory import read
from halfopen.judge.assembly.policy import Policy
from halfopen.plan import CheckPlan
from halfopen.run.fleet import Fleet, Options
from halfopen.run.live import report_of_run, run_checks
from halfopen.run.replay import judge_saved
from halfopen.run.save import saved

SILENT_MS = 1500  # in place of a minute
OTHER = 6000  # another port


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db") as made:
        yield made


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, "web", "db", "twin") as made:
        yield made


def scene(made: Lab, port: int = PORT) -> Scene:
    web, db = made["web"], made["db"]
    return Scene(web, db, web.driver(), db.driver(), made.v4("db"), made.v4("db"), port)


def check_idle(made: Lab, monkeypatch: pytest.MonkeyPatch, *silent: tuple[Any, list[int]]) -> dict[str, Any]:
    """The report of `check --ask idle` once these sockets of these drivers were silent for long enough."""
    monkeypatch.setattr("halfopen.judge.confirm.asked.SILENT_MS", SILENT_MS)
    until(lambda: all(driver.silent_ms(numbers) > SILENT_MS for driver, numbers in silent))
    plan = CheckPlan("web -> db", ("web",), ("db",), ask="idle")
    with Fleet(read(str(made.inventory), {}, made.folder), [plan], Options()) as hosts:
        hosts.begin()
        run = run_checks(hosts)
    report = report_of_run(run)
    files = {name: decode(data, name) for name, data in saved(run).items()}
    again = judge_saved(files, plan, Policy(), run.elapsed_s)
    (checked,) = msgspec.to_builtins(report)["checks"]
    assert msgspec.to_builtins(again) == checked  # what was asked is told by the files as well
    assert isinstance(checked, dict)
    return checked


def works(one: Scene, clients: list[int], servers: list[int]) -> bool:
    """Whether both ends of each can still say something to each other."""
    one.client.send(clients, 7)
    one.server.receive(servers, 7)
    one.server.send(servers, 9)
    one.client.receive(clients, 9)
    return True


def assert_asked(report: dict[str, Any], answer: str, probes: int) -> None:
    questions = [question for one in report["findings"] for question in one["asked"]]
    assert [(one["host"], one["answer"], one["probes"]) for one in questions] == [("web", answer, probes)] * COUNT


def test_nothing_is_sent_unless_it_is_asked_for(two: Lab) -> None:
    one = scene(two)
    clients, servers = one.connected()
    one.server.vanish(servers)
    before = one.client.sent_segments(clients), one.client.options(clients)
    _, report = check(two)
    assert_exactly(report, truth("missing-on-server", *one.ends(clients)))
    assert (one.client.sent_segments(clients), one.client.options(clients)) == before
    assert one.client.reads(clients) == ["BlockingIOError"] * COUNT
    assert {tuple(finding["asked"]) for finding in report["findings"]} == {()}


def test_a_peer_that_is_gone_answers_by_rst_and_the_program_goes_on(two: Lab) -> None:
    one = scene(two)
    clients, servers = one.connected()
    one.server.vanish(servers)
    expected = truth("missing-on-server", *one.ends(clients))
    code, report = check(two, "--ask", "suspects")
    assert_exactly(report, expected)
    assert code == 1
    assert_asked(report, "rst", 1)
    # The RSTs that the questions drew are no sign that one was lost before.
    assert "reset-lost" not in {finding["cause"]["code"] for finding in report["findings"]}
    assert all(finding["asked"][0]["ended"] and finding["client"]["process"] for finding in report["findings"])
    assert f"web: sent one keepalive probe on {COUNT} connections" in report["notes"]
    assert one.client.reads(clients) == ["ConnectionResetError"] * COUNT
    one.client.close(clients)
    again = scene(two, OTHER)
    again.client = one.client
    assert works(again, *again.connected())
    code, report = check(two)
    assert (code, report["findings"]) == (0, [])


def test_what_was_answered_is_told_by_the_files_as_well(two: Lab, tmp_path: Path) -> None:
    one = scene(two)
    _, servers = one.connected()
    one.server.vanish(servers)
    code, report = check(two, "--ask", "suspects", "--save", str(tmp_path / "saved"))
    assert code == 1
    files = [str(tmp_path / "saved" / f"{name}.halfopen") for name in ("web", "db")]
    argv = [sys.executable, "-m", "halfopen", "analyse", *files, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    (again,) = json.loads(done.stdout)["checks"]
    assert again == report
    hidden = [str(tmp_path / f"{name}.halfopen") for name in ("web", "db")]
    for file, to in zip(files, hidden, strict=True):
        (found,) = redacted([decode(Path(file).read_bytes(), file)], b"secret")
        Path(to).write_bytes(encode(found))
    argv = [sys.executable, "-m", "halfopen", "analyse", *hidden, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    (again,) = json.loads(done.stdout)["checks"]
    assert [(found["verdict"], found["asked"][0]["answer"]) for found in again["findings"]] == [
        ("missing-on-server", "rst")
    ] * COUNT


def test_without_proof_of_the_way_one_round_is_proven_by_a_rst(two: Lab) -> None:
    one = scene(two)
    clients, servers = one.connected()
    one.server.vanish(servers)
    _, report = check(two, "--ask", "suspects", "--rounds", "1")
    assert_exactly(report, truth("missing-on-server", *one.ends(clients)))


def test_a_path_that_died_in_silence(two: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside healthy pairs, which notice nothing."""
    dead, well = scene(two), scene(two, OTHER)
    ends, others = dead.connected(), well.connected()
    dead.to_server("")
    dead.to_client("")
    before = dead.client.options(ends[0]), well.client.options(others[0])
    code, report = check(two)
    assert (code, report["outcome"]) == (0, "clean")
    report = check_idle(two, monkeypatch, (dead.client, ends[0]), (well.client, others[0]))
    assert_exactly(report, truth("stalled", *dead.ends(ends[0])))
    assert_asked(report, "silence", 3)
    assert {one["cause"]["code"] for one in report["findings"]} == {"path-dead"}
    assert report["agreeing"] == COUNT
    assert f"web: sent one keepalive probe on {COUNT} connections, 3 on {COUNT}" in report["notes"]
    assert (dead.client.options(ends[0]), well.client.options(others[0])) == before
    assert "timer" not in two["web"].run("ss", "-Htno", f"( dport = :{PORT} or dport = :{OTHER} )")
    assert works(well, *others)
    for name in ("web", "db"):
        two[name].undrop()
    assert works(dead, *ends)


def test_a_stopped_program_answers_since_its_kernel_does(two: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    one = scene(two)
    ends = one.connected()
    pid = str(one.server.pid())
    two["db"].run("kill", "-STOP", pid)
    report = check_idle(two, monkeypatch, (one.client, ends[0]))
    two["db"].run("kill", "-CONT", pid)
    assert_exactly(report, set())
    assert (report["outcome"], report["agreeing"]) == ("clean", COUNT)
    assert f"web: sent one keepalive probe on {COUNT} connections" in report["notes"]
    assert works(one, *ends)


def test_a_local_proxy_that_nobody_may_see_answers(two: Lab) -> None:
    """Idle ends of one user's program that lead to it; that user may not see what translates, but may ask."""
    with_ptrace = two.folder / "python-that-may-ask"
    rights = "--inh-caps +sys_ptrace --ambient-caps +sys_ptrace"
    with_ptrace.write_text(f'#!/bin/sh\nexec {" ".join(NOBODY)} {rights} {sys.executable} "$@"\n')
    with_ptrace.chmod(0o755)
    text = two.inventory.read_text()
    two.inventory.write_text(text.replace("[hosts.web]\n", f'[hosts.web]\npython = "{with_ptrace}"\n'))
    sidecar(two["web"], two.v4("db"))
    one = scene(two)
    program = two["web"].start(*NOBODY, sys.executable, str(DRIVER), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    one.client = Driver(program)
    listener = one.server.listen("0.0.0.0", PORT, 64)
    clients = one.client.connect(two.v4("db"), PORT, COUNT)
    one.server.accept(listener, COUNT)
    before = one.client.options(clients)
    code, report = check(two, "--ask", "suspects")
    assert (code, report["findings"]) == (3, [])
    assert {(row["client"], row["reason"]) for row in report["unjudged"]} == {
        (end, "answered-elsewhere") for end in one.client.local(clients)
    }
    assert one.client.options(clients) == before and one.client.reads(clients) == ["BlockingIOError"] * COUNT


def test_another_host_with_the_address_answers(three: Lab) -> None:
    for name in ("db", "twin"):
        three[name].run("ip", "addr", "add", "10.7.0.50/32", "dev", "lo")
    (link,) = json.loads(three["twin"].run("ip", "-json", "link", "show", "data"))
    three["web"].run("ip", "neigh", "replace", "10.7.0.50", "lladdr", link["address"], "dev", "data")
    three["web"].run("ip", "route", "add", "10.7.0.50/32", "dev", "data")
    three["db"].driver().listen("0.0.0.0", PORT, 8)
    web, twin = three["web"].driver(), three["twin"].driver()
    listener = twin.listen("0.0.0.0", PORT, 8)
    clients = web.connect("10.7.0.50", PORT, COUNT)
    servers = twin.accept(listener, COUNT)
    _, report = check(three, "--ask", "suspects")
    assert report["findings"] == []
    assert {row["reason"] for row in report["unjudged"]} == {"answered-elsewhere"}
    web.send(clients, 5)
    twin.receive(servers, 5)


def test_who_may_not_be_asked_is_left_alone_and_said(two: Lab) -> None:
    one = scene(two)
    clients, servers = one.connected()
    one.client.user_timeout(clients, 60_000)
    one.client.keepalive(clients)
    one.server.vanish(servers)
    before = one.client.sent_segments(clients), one.client.options(clients)
    _, report = check(two, "--ask", "suspects")
    assert_exactly(report, truth("missing-on-server", *one.ends(clients)))
    assert (one.client.sent_segments(clients), one.client.options(clients)) == before
    (note,) = [note for note in report["notes"] if "not asked" in note]
    assert note.startswith(f"web: {COUNT} connections not asked: TCP_USER_TIMEOUT with a keepalive of its own")


def test_without_root_nobody_is_asked_and_it_is_said(two: Lab) -> None:
    as_nobody(two, "web")
    one = scene(two)
    clients, servers = one.connected()
    one.server.vanish(servers)
    before = one.client.sent_segments(clients)
    _, report = check(two, "--ask", "suspects")
    assert found(report) == truth("missing-on-server", *one.ends(clients))
    assert one.client.sent_segments(clients) == before
    (note,) = [note for note in report["notes"] if "not asked" in note]
    assert note.startswith(f"web: {COUNT} connections not asked: the kernel refuses a copy of the socket (errno 13)")


def test_what_the_inventory_says_holds_too(two: Lab) -> None:
    one = scene(two)
    clients, servers = one.connected()
    one.server.vanish(servers)
    two.inventory.write_text(
        two.inventory.read_text() + '\n[checks.asks]\nclient = "web"\nserver = "db"\nask = "suspects"\n'
    )
    argv = [sys.executable, "-m", "halfopen", "check", "asks", "--inventory", str(two.inventory), "--json"]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    (report,) = json.loads(run.stdout)["checks"]
    assert_exactly(report, truth("missing-on-server", *one.ends(clients)))
    assert_asked(report, "rst", 1)
