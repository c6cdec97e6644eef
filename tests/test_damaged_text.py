"""Text that was damaged on its way: glued, cut, wrapped, doubled, joined, shuffled.

What a damaged text still tells must be true, and what it no longer tells must be told: `whole` is False, and a line is
named. These hold for every text of cases/text, and for what other systems print, made after their manuals.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_analyse_text import run
from test_text_evidence import CASES, ELSEWHERE, shown

from halfopen.errors import UsageError
from halfopen.evidence.text.lsof import LSOF_FIELDS
from halfopen.evidence.text.parsed import ParsedText
from halfopen.evidence.text.patterns import TAIL
from halfopen.evidence.text.reading import read as parse
from halfopen.evidence.text.recognise import recognise

TEXTS = {path.stem: path.read_text() for path in sorted(CASES.glob("*.txt"))} | ELSEWHERE
SEVERAL_LINES = {name for name in TEXTS if name.endswith(("-tanoei", "-F"))}
"""Texts of which a row is more than one line."""
LAYOUTS = sorted(name for name in TEXTS if not re.search(r"iproute2-(?!3.10|6.1-)|1.60-tan$|2.10-tanW", name))
"""One text of each layout: what a version only spaces otherwise is left out where every byte is tried."""


def all_shown(told: ParsedText) -> set[tuple[str, ...]]:
    """Connections, and the ports of listeners: whether `*` is any address of IPv4 or IPv6, only a whole text tells."""
    return shown(told) | {(str(one.port),) for one in told.listeners}


def read(text: str) -> ParsedText | None:
    """What a text tells; None where it is refused, which it may be for a damage that leaves nothing to judge."""
    try:
        return recognise(text.encode("utf-8", "surrogateescape"), "x")
    except UsageError as error:
        assert error.message and error.hint
        return None


def holds(damaged: str, truth: ParsedText, at: int | None = None) -> ParsedText | None:
    """What holds of every damaged text; `at`: the line that must be named where something is missing."""
    told = read(damaged)
    if told is not None:
        assert all_shown(told) <= all_shown(truth), "invented"
        for key, one in told.sockets.items():
            for field in ("inode", "cookie", "timer", "retransmits", "uid"):
                assert getattr(one, field) in (None, getattr(truth.sockets[key], field)), f"invented {field}"
        if all_shown(told) != all_shown(truth):
            assert not told.whole, "lost in silence"
            assert at is None or any(one.line == at for one in told.problems)
    return told


@pytest.mark.parametrize("between", ["", " ", "\t"], ids=["nothing", "a blank", "a tab"])
@pytest.mark.parametrize("name", TEXTS)
def test_two_lines_on_one_are_refused_by_its_number(name: str, between: str) -> None:
    lines, truth = TEXTS[name].split("\n")[:-1], recognise(TEXTS[name].encode(), "x")
    for at in range(len(lines) - 1):
        glued = [*lines[:at], lines[at] + between + lines[at + 1], *lines[at + 2 :], ""]
        holds("\n".join(glued), truth, None if name in SEVERAL_LINES else at + 1)


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - SEVERAL_LINES - {"illumos"}))  # whose first word is an end
def test_a_row_that_stands_behind_another_without_its_first_word_is_not_lost(name: str) -> None:
    """As where a pager or a mail program has cut what stood between."""
    lines, truth = TEXTS[name].split("\n")[:-1], recognise(TEXTS[name].encode(), "x")
    for at in range(len(lines) - 1):
        rest = lines[at + 1].lstrip().partition(" ")[2].lstrip()
        glued = [*lines[:at], f"{lines[at]} {rest}", *lines[at + 2 :], ""]
        holds("\n".join(glued), truth, at + 1)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_text_cut_anywhere_invents_nothing_and_says_so(name: str) -> None:
    lines = TEXTS[name].split("\n")
    text = "\n".join([*lines[:2], *lines[-8:]] if name not in SEVERAL_LINES else lines)
    truth = recognise(text.encode(), "x")
    for cut in range(len(text) - (200 if name in SEVERAL_LINES else 500), len(text)):
        left, newline, line = text[:cut].rpartition("\n")
        if not line.strip():  # a text of fewer lines, which nothing tells from one that is whole
            continue
        told = holds(text[:cut], truth)
        # A few digits may belong to the line above, so that this one is in doubt as well.
        sure = read(left.rpartition("\n")[0] + newline) if TAIL.match(line) else read(left + newline)
        assert told is None or not told.whole
        assert told is None or sure is None or name in SEVERAL_LINES or all_shown(told) >= all_shown(sure)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_stands_there_twice_is_refused_with_the_line_of_the_second(name: str) -> None:
    for text in (TEXTS[name] * 2, TEXTS[name] + "\n" + TEXTS[name], TEXTS[name] + "root@db1:~# \n" + TEXTS[name]):
        with pytest.raises(UsageError, match="more than one moment") as caught:
            recognise(text.encode(), "two moments.txt")
        assert caught.value.hint and "tail -n +" in caught.value.hint and "'two moments.txt'" in caught.value.hint


def mini(name: str) -> Iterator[tuple[list[str], str]]:
    """What stands above the rows of a text, and each of its rows."""
    lines = TEXTS[name].split("\n")[:-1]
    rows = [at for at, line in enumerate(lines) if any(word in line for word in ("ESTAB", "WAIT", "LISTEN", ": "))]
    above = lines[: rows[0]] if rows else []
    return ((above, lines[at]) for at in rows[::4])


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - SEVERAL_LINES))
def test_a_row_that_was_wrapped_anywhere_is_never_another_row(name: str) -> None:
    for above, row in mini(name):
        try:
            truth = recognise("\n".join([*above, row, ""]).encode(), "x")
        except UsageError:
            continue
        for column in range(20, len(row.rstrip())):
            for tail in (row[column:], row[column:].lstrip(), "  " + row[column:].lstrip()):
                holds("\n".join([*above, row[:column], tail, ""]), truth)


@pytest.mark.parametrize("name", sorted(set(TEXTS) - SEVERAL_LINES))
def test_the_order_of_rows_and_the_ends_of_lines_mean_nothing(name: str) -> None:
    text = TEXTS[name]
    truth = recognise(text.encode(), "x")
    assert all_shown(recognise(text.replace("\n", "\r\n").encode(), "x")) == all_shown(truth)
    lines = text.split("\n")[:-1]
    head = 3 if name == "Windows" else 2
    for seed in range(5):
        rows = lines[head:]
        random.Random(seed).shuffle(rows)
        shuffled = recognise("\n".join([*lines[:head], *rows, ""]).encode(), "x")
        assert all_shown(shuffled) == all_shown(truth) and shuffled.whole == truth.whole


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_two_hosts_in_one_are_never_one_moment_with_more_than_both_have(name: str) -> None:
    other = TEXTS[name].replace("10.7.0.1", "10.8.0.1").replace("10.0.0.1", "10.0.0.8").replace("0100070A", "0100080A")
    told = read(TEXTS[name] + other)
    if told is not None:
        both = all_shown(recognise(TEXTS[name].encode(), "x")) | all_shown(recognise(other.encode(), "x"))
        assert all_shown(told) <= both


def table(heading: str, listener: str, row: str, separator: str = ":") -> Callable[[str, str, list[int], bool], str]:
    """How a program prints a host with connections from 10.0.1.5 at these ports to 10.0.2.9 at 5432."""

    def text(own: str, other: str, ports: list[int], server: bool) -> str:
        def line(port: int) -> str:
            ends = [f"{own}{separator}5432", f"{other}{separator}{port}"]
            return row.format(*(ends if server else [f"{own}{separator}{port}", f"{other}{separator}5432"]))

        return "\n".join([heading, listener, *map(line, ports), ""])

    return text


PROGRAMS = {
    "ss -tan": table(
        "State      Recv-Q Send-Q Local Address:Port  Peer Address:Port",
        "LISTEN     0      128    [::]:22             [::]:*",
        "ESTAB      0      0      {:<20}{}",
    ),
    "ss -tanoe": table(
        "State      Recv-Q Send-Q Local Address:Port  Peer Address:Port",
        "LISTEN     0      128    [::]:22             [::]:*             ino:5 sk:5 <->",
        'ESTAB      0      0      {:<20}{:<20}users:(("app",pid=42,fd=7)) timer:(keepalive,119min,0) ino:177 sk:1a <->',
    ),
    "netstat of Linux": table(
        "Proto Recv-Q Send-Q Local Address           Foreign Address         State",
        "tcp6       0      0 :::22                   :::*                    LISTEN",
        "tcp        0      0 {:<24}{:<24}ESTABLISHED",
    ),
    "netstat of a BSD": table(
        "Proto Recv-Q Send-Q Local Address          Foreign Address        (state)",
        "tcp46      0      0 *.22                   *.*                    LISTEN",
        "tcp4       0      0 {:<23}{:<23}ESTABLISHED",
        ".",
    ),
    "netstat of Windows": table(
        "  Proto  Local Address          Foreign Address        State           PID",
        "  TCP    [::]:22                [::]:0                 LISTENING       900",
        "  TCP    {:<23}{:<23}ESTABLISHED     812",
    ),
}


def damages(text: str) -> Iterator[str]:
    """Each way in which a text is damaged without a trace of a whole row."""
    lines = text.split("\n")[:-1]
    for at in range(len(lines) - 1):
        for between in ("", " "):
            yield "\n".join([*lines[:at], lines[at] + between + lines[at + 1], *lines[at + 2 :], ""])
    for column in range(40, len(lines[-1])):
        yield "\n".join([*lines[:-1], lines[-1][:column], lines[-1][column:], ""])
        yield "\n".join([*lines[:-2], lines[-2][:column], lines[-2][column:], lines[-1], ""])
    for cut in range(len(text) - 2 * len(lines[-1]), len(text)):
        if text[:cut].rpartition("\n")[2].strip():
            yield text[:cut]
    yield text * 2
    yield text + "\n".join(lines[2:-1]) + "\n"
    yield text.replace("\n", "\r")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_damaged_text_never_makes_a_finding_of_a_healthy_pair(program: str, tmp_path: Path) -> None:
    ports = [40001, 40012, 40123]
    client = PROGRAMS[program]("10.0.1.5", "10.0.2.9", ports, False)
    server = PROGRAMS[program]("10.0.2.9", "10.0.1.5", ports, True)
    assert run(tmp_path, "a.txt", "b.txt", a=client, b=server)[0] == 0
    texts = [(client, damaged) for damaged in damages(server)] + [(damaged, server) for damaged in damages(client)]
    for one, other in texts[:: 1 if program == "ss -tan" else 4]:
        try:
            code, check = run(tmp_path, "a.txt", "b.txt", a=one, b=other)
        except UsageError:
            continue
        assert check["findings"] == [], (one, other)
        assert code == 3 or check["connections"] == 3


def test_a_damaged_text_finds_no_more_in_a_broken_pair_than_the_whole_one(tmp_path: Path) -> None:
    program = PROGRAMS["ss -tan"]
    client = program("10.0.1.5", "10.0.2.9", [40001, 40012, 40123], False)
    server = program("10.0.2.9", "10.0.1.5", [40012, 40123], True)

    def missing(check: dict[str, list[dict[str, dict[str, str]]]]) -> set[str]:
        return {one["connection"]["client"] for one in check["findings"]}

    code, whole = run(tmp_path, "a.txt", "b.txt", a=client, b=server)
    assert code == 3 and missing(whole) == {"10.0.1.5:40001"}
    for damaged in damages(server):
        try:
            code, check = run(tmp_path, "a.txt", "b.txt", a=client, b=damaged)
        except UsageError:
            continue
        assert missing(check) <= missing(whole) and code == (1 if missing(check) else 3)


PASTED = CASES.with_name("pasted")
"""As people put them into issues and mails, with addresses of RFC 5737 in place of theirs."""


@pytest.mark.parametrize("server", ["35-truncated", "35-truncated-b"])
def test_of_a_text_that_was_cut_off_only_what_it_shows_is_judged(server: str, tmp_path: Path) -> None:
    files = {"a": (PASTED / "35-client.txt").read_bytes(), "b": (PASTED / f"{server}.txt").read_bytes()}
    code, check = run(tmp_path, "a.txt", "b.txt", **files)
    assert (code, check["findings"], check["agreeing"]) == (3, [], 1)
    assert any("b.txt line 4: the text ends within this line" in note for note in check["notes"])


def test_a_damaged_line_is_named_however_much_prose_stands_above_it(tmp_path: Path) -> None:
    files = {"a": (PASTED / "35-client.txt").read_bytes(), "b": (PASTED / "37-prose-then-damaged.txt").read_bytes()}
    code, check = run(tmp_path, "a.txt", "b.txt", **files)
    assert (code, check["findings"]) == (3, [])
    assert any("b.txt line 11: '4031x' is not a valid port number" in note for note in check["notes"])


@pytest.mark.parametrize(("name", "line"), [("33-netstat-c", 6), ("11-wazuh-client", 6)])
def test_several_moments_of_a_pasted_text_are_told_by_line(name: str, line: int) -> None:
    with pytest.raises(UsageError, match=f"^x line {line}: .* more than one moment"):
        recognise((PASTED / f"{name}.txt").read_bytes(), "x")


HEAD = "State Recv-Q Send-Q Local Address:Port Peer Address:Port\n"
LISTEN = "LISTEN 0 128 *:22 *:*\n"
ONE, TWO = "ESTAB 0 0 10.0.0.1:1 10.0.0.2:5432\n", "ESTAB 0 0 10.0.0.1:2 10.0.0.2:5432\n"
LSOF = "app 7 ops 5u IPv4 77 0t0 TCP 10.0.0.1:1->10.0.0.2:5432 (ESTABLISHED)\n"
NETSTAT = "Proto Recv-Q Send-Q Local Address Foreign Address State\n"
BEFORE = "tcp 0 0 10.0.0.1:1 10.0.0.2:5432 ESTABLISHED\ntcp 0 0 10.0.0.1:2 10.0.0.2:5432 ESTABLISHED\n"

KEPT = "LISTEN 0 128 *:22 *:* ino:5 sk:1a <->\n"

MOMENTS: dict[str, tuple[str, int]] = {  # a text, and the line that its second moment is told by
    "netstat -c": (NETSTAT + BEFORE + NETSTAT + BEFORE, 4),
    "netstat -c | grep": (BEFORE + BEFORE, 3),
    "a heading with nothing below it": (HEAD + ONE + TWO + HEAD, 4),
    "a command again": ("$ ss -tan | grep 5432\n" + ONE + "$ ss -tan | grep 5432\n" + TWO, 3),
    "a command again that printed nothing": ("ss -Htan\n" + ONE + "root@a:~# ss -Htan\n", 3),
    "date": (ONE + "Sat Mar 15 02:13:40 UTC 2025\n" + TWO, 2),
    "date and a heading": (HEAD + ONE + "Sat Mar 15 02:13:40 UTC 2025\n" + HEAD + TWO, 3),
    "watch": (
        "".join(
            f"Every 2.0s: ss -Htan     app1: Tue Jan  9 20:31:0{at} 2024\n\n{one}" for at, one in ((1, ONE), (3, TWO))
        ),
        4,
    ),
    "the same rows again": (ONE + TWO + ONE + TWO, 3),
    "one row in two states": (ONE + ONE.replace("ESTAB", "CLOSE-WAIT"), 2),
    "a row that waits for its end later": (ONE + TWO + ONE.replace("ESTAB", "TIME-WAIT"), 3),
    "one listener of which the inode tells": (KEPT + ONE + KEPT, 3),
    "the same listener again": (KEPT + ONE + KEPT + ONE, 3),
    "a listener below a connection": (LISTEN + ONE + LISTEN + TWO, 3),
    "listeners again": (LISTEN + LISTEN.replace("22", "25") + LISTEN + LISTEN.replace("22", "25") + ONE, 3),
    "a listener of netstat": (
        f"{NETSTAT}tcp 0 0 0.0.0.0:22 0.0.0.0:* LISTEN\n{BEFORE}tcp 0 0 0.0.0.0:22 0.0.0.0:* LISTEN\n",
        5,
    ),
    "lsof -r": (LSOF + "=======\n" + LSOF.replace("5u", "6u").replace(":1-", ":2-") + LSOF, 4),
    "lsof of a socket in two states": (LSOF + LSOF.replace("5u", "6u").replace("ESTABLISHED", "CLOSE_WAIT"), 2),
}


@pytest.mark.parametrize("what", MOMENTS)
def test_a_second_moment_is_refused_with_its_line(what: str) -> None:
    text, line = MOMENTS[what]
    with pytest.raises(UsageError, match=rf"^x line {line}: .*more than one moment") as caught:
        recognise(text.encode(), "x")
    assert caught.value.hint and f"head -n {line - 1} x > 1.txt; tail -n +{line} x > 2.txt" in caught.value.hint


ONE_MOMENT = {
    "a reused port beside its TIME-WAIT": ONE + ONE.replace("ESTAB", "TIME-WAIT") + TWO,
    "a row that the kernel gave twice, at the end of one piece and the beginning of the next": ONE + ONE + TWO,
    "other commands": "$ ss -lnt\n" + LISTEN + "$ ss -tan\n" + ONE + "[10:47:51] root@db1:~# exit\n",
    "a time before and after": "02:13:40\n" + ONE + TWO + "02:13:41\n",
    "several listeners at one port, told by their inodes": KEPT + ONE + KEPT.replace("ino:5", "ino:6") + TWO,
    "several listeners at one port": LISTEN + LISTEN + LISTEN + ONE,
    "several listeners at one port, at two addresses": (LISTEN + LISTEN.replace("*", "[::]")) * 2 + ONE,
    "several listeners at two ports of one list": (LISTEN + LISTEN.replace(":22", ":8022")) * 2 + ONE,
    "a socket that two processes hold": LSOF + LSOF.replace("app 7", "app 8") + LSOF.replace("5u", "9u"),
    "lsof -K": "".join(LSOF.replace("app 7 ", f"app 7 {tid} GC ") for tid in (71, 72, 73)),
}


@pytest.mark.parametrize("what", ONE_MOMENT)
def test_what_one_moment_may_show_is_no_second_one(what: str) -> None:
    told = recognise(ONE_MOMENT[what].encode(), "x")
    assert {one[0] for one in shown(told)} <= {"10.0.0.1:1", "10.0.0.1:2"} and told.second is None


def test_what_watch_cut_off_at_the_width_of_its_terminal_is_refused() -> None:
    heading = "Every 2.0s: ss -tan  Tue Jan  9 20:31:05 2024\n"
    row = f"ESTAB 0 0 10.0.0.1:22{'10.0.0.2:40':>{len(heading) - 22}}\n"
    told = recognise((heading + HEAD[:30] + "\n" + LISTEN + row + ONE).encode(), "x")
    assert [one.line for one in told.problems if one.hides] == [4] and {one[0] for one in shown(told)} == {"10.0.0.1:1"}
    assert not told.whole


def test_what_somebody_left_out_is_a_hole() -> None:
    for gap in ("...", "[...]", "\u2026", "<snip>", "(output omitted)"):
        assert not recognise((HEAD + LISTEN + ONE + gap + "\n" + TWO).encode(), "x").whole


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("$ ss -tan | head -3", "ss -tan"),
        ("$ ss -tan | grep -v 4000[12]", "ss -tan"),
        ("root@db1:~# ss -tan|head -3", "ss -tan"),
        ("$ ssh db1 ss -tan | head -3", "ss -tan"),
        ("$ ssh db1 'ss -tan' | head -3", "ss -tan"),
        ("$ ssh db1 'ss -tan | head -3'", "ss -tan"),
        ("$ (ss -tan) | head -3", "ss -tan"),
        ("$ netstat -tna | head -4", "netstat of Linux"),
        ("% netstat -an -p tcp | head -4", "netstat of a BSD"),
        ("C:\\Users\\x>netstat -ano | findstr 5432", "netstat of Windows"),
    ],
)
def test_what_a_pipe_kept_from_a_text_was_not_missing(command: str, program: str, tmp_path: Path) -> None:
    client = PROGRAMS[program]("10.0.1.5", "10.0.2.9", [40001, 40012], False)
    for ports in ([40001], []):
        server = f"{command}\n{PROGRAMS[program]('10.0.2.9', '10.0.1.5', ports, True)}"
        code, check = run(tmp_path, "a.txt", "b.txt", a=client, b=server)
        assert (code, check["findings"]) == (3, [])
        if ports:
            pipe = command[command.index("|") :]
            assert any(f"the command is piped (`{pipe}`), so rows may be missing" in note for note in check["notes"])


@pytest.mark.parametrize(
    "text",
    [
        "$ ss -tan\n" + HEAD + LISTEN + ONE + "$ ss -tan | wc -l\n3\n",
        "$ ss -tan || netstat -tan\n" + HEAD + LISTEN + ONE,
        "$ uptime | cut -c 1-9\n$ ss -tan\n" + HEAD + LISTEN + ONE,
    ],
)
def test_a_pipe_of_another_command_leaves_a_text_whole(text: str) -> None:
    assert recognise(text.encode(), "x").whole


@pytest.mark.parametrize(
    "sign",
    [
        "--More--",
        "--More--(50%)",
        "-- More --",
        "lines 1-3/23 8%",
        "^C",
        "^Croot@db1:~#",
        "Killed",
        "bash: line 1:  4242 Killed                  ss -tan",
        "[1]+  Stopped                 ss -tan",
        "Terminated",
        "etc.",
        "(2 more)",
        "Connection to db1 closed by remote host.",
        "client_loop: send disconnect: Broken pipe",
    ],
)
@pytest.mark.parametrize("program", ["ss -tan", "netstat of Linux", "netstat of Windows"])
def test_a_line_that_shows_an_interruption_is_a_hole(program: str, sign: str, tmp_path: Path) -> None:
    client = PROGRAMS[program]("10.0.1.5", "10.0.2.9", [40001, 40012], False)
    server = PROGRAMS[program]("10.0.2.9", "10.0.1.5", [40001], True)
    for end in ("\n", "\r\n", ""):
        code, check = run(tmp_path, "a.txt", "b.txt", a=client, b=f"{server}{sign}{end}")
        assert (code, check["findings"]) == (3, [])
        if end:
            note = f"line 4 shows that the text was interrupted (`{sign}`), so rows may be missing"
            assert any(note in one for one in check["notes"])


@pytest.mark.parametrize("end", ["logout", "Connection to db1 closed.", "root@db1:~# ^C", "Thanks, no more for now."])
def test_a_line_that_shows_the_end_of_a_session_is_no_hole(end: str) -> None:
    assert recognise(f"{HEAD}{LISTEN}{ONE}{end}\n".encode(), "x").whole


def test_a_last_line_without_a_newline_is_read_where_it_cannot_be_cut() -> None:
    for row, rest in (
        ("ESTAB 0 0 10.0.0.1:1 10.0.0.2:5432", " "),
        ("ESTAB 0 0 10.0.0.1:1 10.0.0.2:5432", ' users:(("app",pid=4'),
        ("tcp 0 0 10.0.0.1:1 10.0.0.2:5432 ESTABLISHED", ""),
        ("tcp4 0 0 10.0.0.1.1 10.0.0.2.5432 CLOSE_WAIT", ""),
    ):
        told = recognise((row + rest).encode(), "x")
        assert len(told.sockets) == 1 and not told.whole and told.problems == ()
        assert "its last line has no newline" in told.gaps[0]
    for row in (
        "tcp 0 0 10.0.0.1:1 10.0.0.2:5432 CLOSE",
        "tcp4 0 0 10.0.0.1.1 10.0.0.2.5432 ",
        "tcp4 0 0 10.0.0.1.1 *.5",
    ):
        with pytest.raises(UsageError, match=r"line 1 .*may be cut"):
            recognise(row.encode(), "x")


@pytest.mark.parametrize("text", ["p1 x", "p\x1e x", "u0\nf3 4"])
def test_a_last_line_that_is_cut_is_refused_where_no_other_is_a_row(text: str) -> None:
    told = parse(text, LSOF_FIELDS)
    assert not told.whole and [one.line for one in told.problems if one.hides] == [text.count("\n") + 1]


@pytest.mark.parametrize("end", ["root@db1:~# ", "[ops@api-9 ~]$", "C:\\Users\\x>", "```", "\n", "% "])
def test_a_prompt_at_the_end_needs_no_newline(end: str) -> None:
    assert recognise((HEAD + LISTEN + ONE + end).encode(), "x").whole


NAMES = {
    "ss": "iproute2-6.1-ss-tanoei",
    "netstat": "net-tools-2.10-tanpeeo",
    "lsof": "lsof-4.95",
    "lsof -F": "lsof-4.95-F",
    "/proc": "linux-6.18-proc-net-tcp",
} | {name: name for name in ELSEWHERE}

LARGE: dict[str, Callable[[str, int], str]] = {  # a row of the program and a size -> text that is hard to read
    "tabs behind a row": lambda row, size: row + "\t" * size + "x\n",
    "tabs behind each row": lambda row, size: (row + "\t" * 150 + "x\n") * (size // 150),
    "tabs before a word": lambda row, size: "\t" * size + "x\n",
    "other blanks": lambda row, size: row + "\v" * size + "x\n",
    "rows on one line": lambda row, size: f"{row} " * (size // 100) + "\n",
    "second lines": lambda row, size: row + "\n" + "\t cubic\n" * (size // 4),
    "fields of a process": lambda row, size: "p1\n" + "ca\n" * (size // 6) + "f1\ntIPv4\n" * (size // 12),
    "long fields": lambda row, size: "p1\nc" + "a" * (size // 2) + "\n" + "f1\n" * (size // 6),
    "processes": lambda row, size: f"{row} users:((" + '"",1,1),("' * (size // 9) + "\n",
    "digits": lambda row, size: f"{row} {'1' * size}\n",
    "dashes": lambda row, size: "- " * (size // 2) + "x\n",
}


def seconds(text: str) -> float:
    """Processor time for one text, the less of two."""
    found = []
    for _ in range(2):
        began = time.process_time()
        read(text)
        found.append(time.process_time() - began)
    return min(found)


@pytest.mark.parametrize("what", LARGE)
@pytest.mark.parametrize("name", NAMES)
def test_twice_the_text_takes_no_more_than_twice_the_work(name: str, what: str) -> None:
    text = TEXTS[NAMES[name]]
    row = next(line for line in text.splitlines() if "ESTAB" in line or " 01 " in line)
    for _ in range(3):  # where the machine was disturbed, once more
        few, many = (seconds(text + LARGE[what](row, size)) for size in (10_000, 40_000))
        if many < 8 * max(few, 0.01):  # its square would be 16 times
            return
    pytest.fail(f"{few:.3f} s, and for four times the text {many:.3f} s")
