"""What a check costs the hosts it reads: nothing but the dump, as long as there is nothing to report.

The probe runs under an interpreter that records each file it opens, each folder it lists, each process it starts, and
what it reads from its input: see `witness`.
"""

from __future__ import annotations

import re
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.host import Lab, lab
from lab.tool import check

from halfopen import probe
from halfopen.evidence.probe.wire import DUMP, EVIDENCE, HELLO, LOOK, OWNERS, ROUTES

WITNESS = Path(__file__).with_name("witness.py")
PER_PROGRAM, PROGRAMS = 10_000, 10
NAMES = ("web", "db")


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """100,000 healthy connections, accepted, between two hosts whose probes are recorded."""
    with lab(tmp_path_factory.mktemp("crowd"), *NAMES) as made:
        for port in range(5000, 5000 + PROGRAMS):
            web, db = made["web"].driver(), made["db"].driver()
            listener = db.listen("10.7.0.2", port, 1024)
            for _ in range(PER_PROGRAM // 500):
                web.connect("10.7.0.2", port, 500)
                db.accept(listener, 500)
        made.inventory.write_text(with_witness(made))
        yield made


def with_witness(made: Lab) -> str:
    """The inventory of a lab, with the witness as the interpreter of each host."""
    for name in NAMES:
        interpreter = made.folder / f"{name}.python"
        interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {WITNESS} {made.folder}/{name} "$@"\n')
        interpreter.chmod(0o755)
    folder = made.folder
    return re.sub(r"\[hosts\.(\w+)\]\n", rf'[hosts.\1]\npython = "{folder}/\1.python"\n', made.inventory.read_text())


def record(made: Lab, name: str) -> tuple[list[int], list[str]]:
    """The verbs that arrived at a host, in order, and what its probe did in /proc or beside its own process."""
    sent = (made.folder / f"{name}.input").read_bytes()
    source = zlib.compress(probe.source(), 9)
    assert sent.startswith(source)
    verbs, at = [], len(source) + 8
    while at + 5 <= len(sent):
        verb, length = struct.unpack_from(">BI", sent, at)
        verbs.append(verb)
        at += 5 + length
    did = (made.folder / f"{name}.events").read_text().splitlines()
    for kind in ("events", "input"):
        (made.folder / f"{name}.{kind}").unlink()
    return verbs, [one for one in did if "/proc" in one or one.startswith(("os.fork", "os.exec", "os.posix_spawn"))]


GREETING = {
    "open /proc/net/ip_vs_conn",
    "open /proc/self/ns/net",  # whose namespace it is
    "open /proc/self/status",
    "open /proc/sys/kernel/random/boot_id",
    "open /proc/sys/net/ipv4/ip_forward",
    "open /proc/sys/net/ipv6/conf/all/forwarding",
    "open /proc/sys/net/netfilter/nf_conntrack_count",
    "open /proc/uptime",
    "os.listdir /proc/",  # as root: which network namespaces there are, one link a process
}
"""What is looked at whatever sockets there are: nothing of any process, and no descriptor."""


def test_without_a_finding_a_host_pays_for_nothing_but_the_dump(crowd: Lab) -> None:
    code, report = check(crowd)
    assert (code, report["outcome"]) == (0, "clean")
    assert report["connections"] == report["agreeing"] == PER_PROGRAM * PROGRAMS
    for name in NAMES:
        verbs, did = record(crowd, name)
        assert verbs == [HELLO, DUMP] and set(did) == GREETING
        assert did.count("os.listdir /proc/") == 1


def test_with_a_finding_its_process_is_looked_for_and_the_record_shows_it(crowd: Lab) -> None:
    web, db = crowd["web"].driver(), crowd["db"].driver()
    listener = db.listen("10.7.0.2", 4000, 8)
    web.connect("10.7.0.2", 4000)
    db.vanish(db.accept(listener))
    code, report = check(crowd, "--settle", "0")
    assert code == 1 and len(report["findings"]) == 1
    verbs, did = record(crowd, "web")
    assert set(verbs) == {HELLO, DUMP, EVIDENCE, LOOK, ROUTES, OWNERS}
    assert "open /proc/net/netstat" in did and any(re.fullmatch(r"os\.listdir /proc/\d+/fd/?", one) for one in did)
