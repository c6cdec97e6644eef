"""Text of ss, netstat, lsof and /proc/net/tcp: real output of one scene, whose truth is how it was made.

The files of cases/text were recorded on one machine with the program and version that their names give, over one set
of sockets: 10.7.0.1 talking to itself from ports 41001 to 41011. What other systems print is made after their manuals
here, and says so.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import KEYS, PORTS, V4

from halfopen import address
from halfopen.errors import UsageError
from halfopen.evidence.text.parsed import ParsedText
from halfopen.evidence.text.reading import read
from halfopen.evidence.text.recognise import FORMS, recognise
from halfopen.evidence.text.rows import endpoint
from halfopen.evidence.text.ss import SS
from halfopen.model import Collector, Socket
from halfopen.tcp import State, Timer

CASES = Path(__file__).with_name("cases") / "text"
A, LONG = "10.7.0.1", "[fd07:1234:5678:9abc:def0:1111:2222:3333]"

SCENE = {
    # client's end, server's end, client's state, server's state
    (f"{A}:41001", f"{A}:5000", "ESTABLISHED", "ESTABLISHED"),
    (f"{A}:41002", f"{A}:5000", "ESTABLISHED", "ESTABLISHED"),  # not accepted
    (f"{A}:41003", f"{A}:5001", "ESTABLISHED", "ESTABLISHED"),  # by a dual-stack listener
    (f"{LONG}:41004", f"{LONG}:5002", "ESTABLISHED", "ESTABLISHED"),
    ("[fd07::1]:41005", "[fd07::1]:5001", "ESTABLISHED", "ESTABLISHED"),
    (f"{A}:41006", f"{A}:5003", "FIN_WAIT2", "CLOSE_WAIT"),
    (f"{A}:41007", f"{A}:5003", None, "TIME_WAIT"),
    ("[fe80::7:1]:41008", "[fe80::7:1]:5001", "ESTABLISHED", "ESTABLISHED"),
    (f"{A}:41009", "10.7.0.99:5000", "SYN_SENT", None),
    (f"{A}:41010", f"{A}:5004", "ESTABLISHED", "SYN_RECV"),
    (f"{A}:41011", f"{A}:5005", "FIN_WAIT1", "ESTABLISHED"),
}
TRUTH = {
    end
    for client, server, near, far in SCENE
    for end in ((client, server, near), (server, client, far))
    if end[2] is not None
}
LISTENERS = {(A, 5000), ("::", 5001), (LONG[1:-1], 5002), ("0.0.0.0", 5003), (A, 5004), (A, 5005)}

UNHELD = {(f"{A}:5000", f"{A}:41002"), (f"{A}:5003", f"{A}:41007"), (f"{A}:5004", f"{A}:41010")}
BIG = {end for end in TRUTH if LONG in end[0]}
WITHOUT_ALL = {end for end in TRUTH if end[2] in ("SYN_RECV", "TIME_WAIT")}
CUT = {
    "net-tools-1.60-tan",
    "net-tools-1.60-tanp",
    "net-tools-2.10-tan",
    "net-tools-2.10-tanpeeo",
    "net-tools-2.10-tn",
}


def shown(told: ParsedText) -> set[tuple[str, str, str]]:
    """What a text tells, as the truth is written."""
    found = set()
    for key, one in told.sockets.items():
        local, local_port, peer, peer_port = address.split_key(key)
        found.add((address.endpoint(local, local_port), address.endpoint(peer, peer_port), str(one.state)))
    return found


def case(name: str) -> ParsedText:
    return recognise((CASES / f"{name}.txt").read_bytes(), name)


def socket_of(told: ParsedText, local: str, peer: str) -> Socket:
    near, far = address.parse_endpoint(local), address.parse_endpoint(peer)
    return told.sockets[address.make_key(*near, *far)]


@pytest.mark.parametrize("path", sorted(CASES.glob("*.txt")), ids=lambda path: path.stem)
def test_recorded_output_tells_the_scene(path: Path) -> None:
    told = recognise(path.read_bytes(), path.name)
    expected, listening = set(TRUTH), set(LISTENERS)
    if told.collector is Collector.LSOF:
        expected = {end for end in TRUTH if end[:2] not in UNHELD}
    if path.stem.endswith("-tn"):
        listening = set()
        expected -= WITHOUT_ALL if told.collector is Collector.SS else set()
    if path.stem in CUT:
        expected -= BIG
        listening -= {(LONG[1:-1], 5002)}
        assert any("may be cut" in problem.why for problem in told.problems)
    assert shown(told) == expected
    assert {(address.show(one.address), one.port) for one in told.listeners} == listening
    # Where something is missing, it says so: nothing can be concluded from what is not there.
    assert told.whole == (expected == TRUTH and bool(listening))
    assert told.whole or told.gaps


def test_ss_tells_timers_queues_owners_and_what_nobody_has_accepted() -> None:
    told = case("iproute2-6.1-ss-tanoeiOp")
    kept = socket_of(told, f"{A}:41001", f"{A}:5000")
    assert kept.timer is Timer.KEEPALIVE and kept.timer_expires_s == 119 * 60
    assert kept.uid == 0 and kept.inode and kept.cookie
    assert socket_of(told, f"{A}:5000", f"{A}:41001").recv_q == 5
    queued = socket_of(told, f"{A}:5000", f"{A}:41002")
    assert queued.inode == 0 and queued.timer is Timer.OFF and queued.key not in told.holders
    assert told.holders[kept.key].name == "python3"
    (listener,) = [one for one in told.listeners if one.port == 5000]
    assert (listener.queue, listener.backlog) == (1, 8)


@pytest.mark.parametrize("name", ["linux-6.18-proc-net-tcp", "net-tools-2.10-tanpeeo"])
def test_others_tell_what_they_have_and_name_what_not(name: str) -> None:
    told = case(name)
    queued = socket_of(told, f"{A}:5000", f"{A}:41002")
    assert queued.inode == 0 and queued.cookie is None
    resent = socket_of(told, f"{A}:41011", f"{A}:5005")
    assert resent.timer is Timer.RETRANSMIT and resent.retransmits and resent.send_q == 1
    assert any("cookies" in gap for gap in told.gaps)
    (listener,) = [one for one in told.listeners if one.port == 5000]
    assert listener.queue == 1 and listener.backlog is None


# Made after the manuals and sources of these systems, not recorded: netstat/inet.c of FreeBSD and macOS.
FREEBSD = """\
Active Internet connections (including servers)
Proto Recv-Q Send-Q Local Address          Foreign Address        (state)
tcp4       0      0 10.0.0.1.5432          10.0.0.2.40001         ESTABLISHED
tcp4       0     36 10.0.0.1.5432          10.0.0.2.40002         FIN_WAIT_1
tcp6       0      0 2001:db8::1.5432       2001:db8::2.40003      SYN_RCVD
tcp46      0      0 *.5432                 *.*                    LISTEN
udp4       0      0 *.514                  *.*
Active UNIX domain sockets
Address          Type   Recv-Q Send-Q            Inode             Conn             Refs          Nextref Addr
fffff80003c65000 stream      0      0                0 fffff80003c65100                0                0
"""
MACOS = """\
Active Internet connections (including servers)
Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)      rhiwat shiwat    pid   epid state
tcp4       0      0  10.0.0.1.5432          10.0.0.2.40001         ESTABLISHED  131072 131072    812      0 00102
tcp4       0     36  10.0.0.1.5432          10.0.0.2.40002         FIN_WAIT_1   131072 131072    812      0 00102
tcp6       0      0  2001:db8::1.5432       2001:db8::2.40003      SYN_RCVD     131072 131072    812      0 00102
tcp46      0      0  *.5432                 *.*                    LISTEN       131072 131072    812      0 00100
"""
WINDOWS = """\

Active Connections

  Proto  Local Address          Foreign Address        State           PID
  TCP    0.0.0.0:5432           0.0.0.0:0              LISTENING       812
  TCP    10.0.0.1:5432          10.0.0.2:40001         ESTABLISHED     812
  TCP    10.0.0.1:5432          10.0.0.2:40002         FIN_WAIT_1      812
  TCP    [2001:db8::1]:5432     [2001:db8::2]:40003    SYN_RECEIVED    812
  TCP    [::]:5432              [::]:0                 LISTENING       812
  UDP    0.0.0.0:123            *:*                                    900
"""
ILLUMOS = """\

UDP: IPv4
   Local Address        Remote Address      State
-------------------- -------------------- ----------
      *.123                               Idle

TCP: IPv4
   Local Address        Remote Address    Swind Send-Q Rwind Recv-Q    State
-------------------- -------------------- ----- ------ ----- ------ -----------
      *.5432               *.*                0      0 128000      0 LISTEN
10.0.0.1.5432        10.0.0.2.40001       64128      0 128872      0 ESTABLISHED
10.0.0.1.5432        10.0.0.2.40002       64128     36 128872      0 FIN_WAIT_1

TCP: IPv6
   Local Address                     Remote Address                 Swind Send-Q Rwind Recv-Q   State      If
--------------------------------- --------------------------------- ----- ------ ----- ------ ----------- -----
2001:db8::1.5432                  2001:db8::2.40003                 64128      0 128872      0 SYN_RCVD
"""
ELSEWHERE = {"FreeBSD": FREEBSD, "macOS": MACOS, "Windows": WINDOWS, "illumos": ILLUMOS}


@pytest.mark.parametrize("system", ELSEWHERE)
def test_netstat_of_other_systems_is_read_as_its_manual_says(system: str) -> None:
    told = recognise(ELSEWHERE[system].encode(), system)
    assert shown(told) == {
        ("10.0.0.1:5432", "10.0.0.2:40001", "ESTABLISHED"),
        ("10.0.0.1:5432", "10.0.0.2:40002", "FIN_WAIT1"),
        ("[2001:db8::1]:5432", "[2001:db8::2]:40003", "SYN_RECV"),
    }
    assert {one.port for one in told.listeners} == {5432} and told.problems == () and told.whole
    if system != "Windows":
        assert socket_of(told, "10.0.0.1:5432", "10.0.0.2:40002").send_q == 36


def test_illumos_names_processes_with_u() -> None:
    text = (
        "   Local Address        Remote Address      User    Pid       Command     Swind Send-Q Rwind Recv-Q    State\n"
        "-------------------- --------------------  ------ ------- --------------- ----- ------ ----- ------ --------\n"
        "10.0.0.1.22          10.0.0.2.40001        root     531 sshd    134664     51  128872     7 ESTABLISHED\n"
        "10.0.0.1.22          10.0.0.2.40001        af       533 sshd    134664     51  128872     7 ESTABLISHED\n"
        "      *.*                  *.*             root          9 x                0      0  49152      0 IDLE\n"
    )
    told = recognise(text.encode(), "x")
    (one,), (who,) = told.sockets.values(), told.holders.values()
    assert (one.send_q, one.recv_q, who.pid, who.name) == (51, 7, 531, "sshd") and told.problems == ()


@pytest.mark.parametrize("address", ["2001:db8:1:2::ab", "fe80::1234:56%em"])
def test_an_address_that_bsd_may_have_cut_is_a_hole(address: str) -> None:
    """inet6print cuts the address to sixteen signs and then adds the port."""
    row = f"tcp6 0 0 {address}.5432 2001:db8::2.40004 ESTABLISHED\n"
    told = recognise((FREEBSD + row).encode(), "x")
    assert not told.whole and "may be cut" in told.problems[0].why
    wide = FREEBSD + row + "tcp6 0 0 2001:db8:1111:2222::1.5432 2001:db8::2.40005 ESTABLISHED\n"
    assert recognise(wide.encode(), "x").problems == ()


def test_windows_names_processes_by_number_or_by_the_line_below() -> None:
    told = recognise(WINDOWS.encode("utf-16"), "powershell")
    (who,) = {one for key, one in told.holders.items() if len(key) == address.V4_KEY}
    assert (who.pid, who.name) == (812, "")
    with_names = WINDOWS.replace(
        "40001         ESTABLISHED     812", "40001         ESTABLISHED     812\n [postgres.exe]"
    )
    told = recognise(with_names.replace("\n", "\r\n").encode(), "netstat -anob")
    assert told.problems == ()
    assert told.holders[socket_of(told, "10.0.0.1:5432", "10.0.0.2:40001").key].name == "postgres.exe"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_each_form_alone_claims_its_text(form: object) -> None:
    texts = [path.read_text() for path in CASES.glob("*.txt")] + list(ELSEWHERE.values())
    claimed = [text for text in texts if form.claims.search(text)]  # type: ignore[attr-defined]
    assert claimed
    for text in claimed:
        assert [one for one in FORMS if one.claims.search(text)] == [form]


def test_two_forms_in_one_text_are_refused() -> None:
    both = (CASES / "iproute2-6.1-ss-tan.txt").read_text() + (CASES / "net-tools-2.10-tan.txt").read_text()
    with pytest.raises(UsageError, match="ss and netstat of Linux in one text"):
        recognise(both.encode(), "both")


@pytest.mark.parametrize("text", ["", "hello\n", "a,b,c\n1,2,3\n", '{"x": 1}', "\0\0\0\0", "10.0.0.1 -> 10.0.0.2\n"])
def test_what_nobody_claims_is_refused_with_what_is_understood(text: str) -> None:
    with pytest.raises(UsageError, match="a text that is understood") as caught:
        recognise(text.encode(), "x.txt")
    assert caught.value.hint and "ss -tanoe" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ESTAB 0 0 10.0.0.1:ssh 10.0.0.2:40000", "not a valid port number"),
        ("ESTAB 0 0 db.example.net:22 10.0.0.2:40000", "not a valid address"),
        ("ESTAB 0 0 10.0.0.1:22", "not a line of ss"),
        ("ESTAB 0 0 10.0.0.1:99999 10.0.0.2:40000", "not a valid port number"),
        ("ESTAB 0 0 10.0.0.1:22 [2001:db8::1]:40000", "two families"),
        ("ESTAB 0 0 10.0.0.256:22 10.0.0.2:40000", "not a valid address"),
        ("0 0 10.0.0.1:22 10.0.0.2:40000", "no State column"),
        ("ESTABLISHED? 10.0.0.1:22 10.0.0.2:40000", "not a line of ss"),
    ],
)
def test_a_malformed_line_is_told_with_its_number_and_takes_away_the_word_of_what_is_absent(
    line: str, why: str
) -> None:
    good = (CASES / "iproute2-6.1-ss-tan.txt").read_text()
    told = recognise(f"{good}{line}\n".encode(), "x")
    (problem,) = told.problems
    assert problem.line == good.count("\n") + 1 and why in problem.why and problem.hides
    assert not told.whole and shown(told) == TRUTH


def test_a_text_of_ipv4_alone_says_what_may_be_missing() -> None:
    """ss -4 and netstat -4 leave out what a dual-stack listener accepted, IPv4 though it is."""
    lines = (CASES / "iproute2-6.1-ss-tan.txt").read_text().splitlines()
    told = recognise("\n".join(line for line in lines if "[" not in line and "*:5001" not in line).encode(), "x")
    assert any("dual-stack" in gap for gap in told.gaps)
    assert not any("dual-stack" in gap for gap in case("iproute2-6.1-ss-tan").gaps)


def test_a_prompt_or_a_remark_is_told_and_hides_nothing() -> None:
    good = (CASES / "iproute2-6.1-ss-tan.txt").read_text()
    told = recognise(f"root@db1:~# ss -tan\n{good}root@db1:~# exit\n".encode(), "x")
    assert [one.line for one in told.problems] == [1, good.count("\n") + 2] and told.whole


def test_an_indented_paste_is_read() -> None:
    good = (CASES / "iproute2-6.1-ss-tanoei.txt").read_text()
    indented = "".join(f"    {line}\n" for line in good.splitlines())
    assert shown(recognise(indented.encode(), "x")) == TRUTH


@given(st.integers(1, 3000))
def test_a_text_that_is_cut_off_gains_nothing(cut: int) -> None:
    """Whatever is left: no socket that was not there, and a row that was cut is told or gone with all its line."""
    text = (CASES / "iproute2-6.1-ss-tan.txt").read_text()[:-cut]
    try:
        told = recognise(text.encode(), "x")
    except UsageError:
        return
    assert shown(told) <= TRUTH
    assert not told.whole or text.endswith("\n")


@given(st.binary(max_size=300), st.sampled_from(sorted(path.stem for path in CASES.glob("*.txt"))))
def test_garbage_between_the_lines_never_makes_a_socket(garbage: bytes, name: str) -> None:
    if b"41" in garbage:
        return
    lines = (CASES / f"{name}.txt").read_bytes().split(b"\n")
    try:
        told = recognise(b"\n".join([*lines[:4], garbage, *lines[4:]]), "x")
    except UsageError:
        return
    assert shown(told) <= TRUTH


def test_a_process_name_that_looks_like_the_rest_of_the_line_stays_a_name() -> None:
    """A name has 15 bytes, and whoever runs the process chose them."""
    row = 'ESTAB 0 0 10.0.0.1:22 10.0.0.2:40000 users:(("{}",pid=4242,fd=3)) ino:7 sk:8\n'
    for name in ('a",pid=1,fd=1))', "x ino:0 sk:1 ", "\x1b[2J\udcff", "timer:(on,1,9)", 'a" users:(("b"'):
        told = recognise(row.format(name).encode("utf-8", "surrogateescape"), "x")
        (one,), (who,) = told.sockets.values(), told.holders.values()
        assert (who.pid, who.name, one.inode, one.cookie, one.timer) == (4242, name, 7, 8, None)


def test_huge_texts_and_lines_are_bounded() -> None:
    good = (CASES / "iproute2-6.1-ss-tan.txt").read_text()
    told = recognise(f"{good}ESTAB 0 0 {'1' * (1 << 20)}:1 2:2\n".encode(), "x")
    assert told.problems[0].why.startswith("longer than") and len(told.problems[0].text) <= 120
    told = recognise((good + "ESTAB 0 0 x:1 y:2\n" * 5000).encode(), "x")
    assert len(told.problems) == 1000 and "5000 lines" in told.gaps[0]


def test_a_timer_that_is_due_is_a_timer() -> None:
    """ss prints nothing for no time left."""
    told = recognise(b"FIN-WAIT-1 0 1 10.0.0.1:1 10.0.0.2:2 timer:(on,,4) ino:1 sk:1\n", "x")
    (one,) = told.sockets.values()
    assert (one.timer, one.timer_expires_s, one.retransmits) == (Timer.RETRANSMIT, 0.0, 4)


HOSTILE = {
    "blank lines": "\n" * 100_000,
    "blanks": "tcp 0 0 1.1.1.1:1 2.2.2.2:2 ESTABLISHED" + " " * 60_000 + "!\n",
    "blanks in Windows": "  TCP    10.0.0.1:1  10.0.0.2:2  ESTABLISHED  7" + " " * 60_000 + "x\n",
    "colons": "tcp 0 0 " + ":" * 60_000 + "\n",
    "dots": "tcp4 0 0 " + "1." * 30_000 + "\n",
    "fields": "p1\n" * 50_000,
    "names": "ESTAB 0 0 1.1.1.1:1 2.2.2.2:2 " + 'users:((" ' * 6_000 + "\n",
    "brackets": "ESTAB 0 0 1.1.1.1:1 2.2.2.2:2 " + "timer:(" * 9_000 + "\n",
    "one word": "x" * 60_000 + "\n",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("name", ["iproute2-6.1-ss-tan", "net-tools-2.10-tan", "lsof-4.95", "lsof-4.95-F"])
def test_hostile_text_takes_no_longer_than_its_length(what: str, name: str) -> None:
    """Patterns with two ways to share out the same signs would take its square; the timeout is far above either."""
    good = (CASES / f"{name}.txt").read_text()
    for text in (good + HOSTILE[what] * 2, HOSTILE[what] * 2 + good):
        try:
            told = recognise(text.encode(), "x")
        except UsageError:
            continue
        # Fields of lsof belong to what stands before them, so that a line in between may spoil a socket.
        assert shown(told) >= shown(case(name)) or told.problems


@given(st.sampled_from(sorted(CASES.glob("*.txt"))), st.data())
def test_a_changed_byte_is_never_a_crash(path: Path, data: st.DataObject) -> None:
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        recognise(bytes(raw), "x").namespace()
    except UsageError as error:
        assert error.message


@st.composite
def rows(draw: st.DrawFn) -> Socket:
    """A socket with all that ss -tanoe prints."""
    state = draw(st.sampled_from([state for state in State if state not in (State.LISTEN, State.CLOSE)]))
    timer = draw(st.sampled_from([Timer.RETRANSMIT, Timer.KEEPALIVE, Timer.TIMEWAIT, Timer.PROBE]))
    u32 = st.integers(0, 2**32 - 1)
    key = draw(KEYS.filter(lambda key: not address.is_unspecified(address.split_key(key)[2])))
    return Socket(
        key=key,
        state=state,
        family=2 if len(key) == address.V4_KEY else 10,
        timer=timer,
        timer_expires_s=draw(st.integers(1, 10**6)) / 1000,
        retransmits=draw(st.integers(0, 255)),
        recv_q=draw(u32),
        send_q=draw(u32),
        uid=draw(u32),
        inode=draw(u32),
        cookie=draw(st.integers(0, 2**64 - 1)),
    )


def as_ss(one: Socket) -> str:
    """A row as misc/ss.c writes it: print_ms_timer, and uid only where it is not 0."""
    names = {
        State.ESTABLISHED: "ESTAB",
        State.FIN_WAIT1: "FIN-WAIT-1",
        State.FIN_WAIT2: "FIN-WAIT-2",
    }
    timers = {Timer.RETRANSMIT: "on", Timer.PROBE: "persist"}
    local, local_port, peer, peer_port = address.split_key(one.key)
    assert one.timer and one.timer_expires_s
    left = round(one.timer_expires_s * 1000)
    minutes, left = divmod(left, 60000)
    seconds, milliseconds = divmod(left, 1000)
    text = f"{minutes}min" if minutes else ""
    if seconds:
        milliseconds = 0 if seconds > 9 else milliseconds
        text += f"{seconds}{'.' if milliseconds else 'sec'}"
    if milliseconds:
        text += f"{milliseconds:03}ms"
    uid = f"uid:{one.uid} " if one.uid else ""
    return (
        f"{names.get(one.state, one.state.replace('_', '-'))} {one.recv_q} {one.send_q} "
        f"{address.endpoint(local, local_port)} {address.endpoint(peer, peer_port)} "
        f"timer:({timers.get(one.timer, one.timer)},{text},{one.retransmits}) {uid}ino:{one.inode} sk:{one.cookie:x}"
    )


@given(st.lists(rows(), min_size=1, max_size=20, unique_by=lambda one: one.key))
def test_rows_rendered_as_ss_text_are_read_back(sockets: list[Socket]) -> None:
    told = recognise("".join(f"{as_ss(one)}\n" for one in sockets).encode(), "x")
    assert told.problems == ()
    for one in sockets:
        back = told.sockets[one.key]
        assert back.timer_expires_s is not None and one.timer_expires_s is not None
        # Above nine seconds ss leaves out what is below one.
        assert abs(back.timer_expires_s - one.timer_expires_s) < 1
        assert replace(back, timer_expires_s=one.timer_expires_s) == one


@given(V4, PORTS, st.sampled_from([":", "."]))
def test_endpoints_are_read_back_with_either_separator(packed: bytes, port: int, separator: str) -> None:
    assert endpoint(f"{address.show(packed)}{separator}{port}", separator, b"") == (packed, port)


def test_listeners_that_share_an_address_and_port_are_all_kept() -> None:
    lines = [f"LISTEN {queue} 8 10.0.0.1:80 0.0.0.0:* ino:{inode} sk:1" for queue, inode in ((2, 77), (5, 78), (5, 78))]
    told = read("State Recv-Q Send-Q Local Address:Port Peer Address:Port\n" + "\n".join(lines), SS)
    assert sorted((one.queue, one.inode) for one in told.listeners) == [(2, 77), (5, 78)]
