"""Each cause is named where its evidence is, and not where that is missing; outlooks reckon as the kernel does."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from diagnosis_cases import (
    BY_COOKIE,
    CLOSED,
    DEFAULTS,
    DEFERRED,
    FIRES,
    FULL,
    FULL_WINDOW,
    GONE,
    LISTENER,
    ONE,
    QUEUED,
    QUIET,
    REBOOTED,
    REPEATED,
    RETRYING,
    SILENCE,
    SILENT,
    SYN,
    TALKED,
    Given,
    V,
    end,
    far,
    request,
)
from evidence import sock
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import replace

from halfopen import address
from halfopen.glossary.causes import ABOUT
from halfopen.judge.advice import ADVICE
from halfopen.judge.advice.advised import advised, causes_of_all, outlook_of, remedies_of_all
from halfopen.judge.advice.commands import end_now, see_program
from halfopen.judge.advice.remedies import Remedy
from halfopen.judge.diagnosis.outlook import model_timeout
from halfopen.judge.diagnosis.rules import RULES
from halfopen.judge.signs.case import HostEvidence
from halfopen.model import Collector, ListenSocket, Process, Socket, TcpInfo
from halfopen.schema.report import CauseCode, Command, Confidence, OutlookCode, Verdict
from halfopen.tcp import State, Timer


@pytest.mark.parametrize("name", FIRES)
def test_a_cause_is_named_where_its_evidence_is(name: str) -> None:
    one, expected = FIRES[name]
    found = one.advised()
    assert set(found.diagnosis.codes) == expected
    for cause in found.causes:
        assert cause.evidence and cause.summary
        assert all(fact.host in one.names and fact.fact for fact in cause.evidence)
    assert found.outlook.summary


@pytest.mark.parametrize("name", SILENCE)
def test_a_rule_without_its_evidence_stays_silent(name: str) -> None:
    one, code = SILENCE[name]
    (rule,) = [rule for rule in RULES if rule.code is code]
    assert rule.find(one.case()) is None


def test_what_merely_fits_is_not_told_as_a_fact() -> None:
    """Counters are of a whole host, and a box between the hosts is seen by neither."""
    fits = {name for name, (given, _) in FIRES.items() if not any(one.decisive for one in given.advised().causes)}
    assert fits == {
        "the queue was full once, and cookies were lost as well: both",
        "the port has room and the SYN is lost: both",
        "a new SYN does not reach what an old connection left behind",
        "a new SYN and what an old connection left behind, and no count of answers",
        "sockets were dropped without a RST",
        "its program was started anew",
        "a second life that waits in the accept queue",
        "nothing listens any more",
        "nobody answers a SYN-ACK",
        "SYN-ACKs stopped arriving",
        "RSTs were sent",
        "the missing end may have timed out",
        "silent beyond 350 s",
        "silent beyond the host's own conntrack",
        "byte counts of two lives",
    }
    told = {cause.summary for name in fits for cause in FIRES[name][0].advised().causes if name.startswith("RST")}
    assert told == {"db has sent RSTs and dropped connections: this one may be among them, and its RST lost"}


def test_each_rule_is_seen_to_speak_and_to_be_silent() -> None:
    codes = {rule.code for rule in RULES}
    assert set().union(*(expected for _, expected in FIRES.values())) == codes
    assert {code for _, code in SILENCE.values()} == codes
    assert codes | {CauseCode.UNKNOWN} == set(CauseCode)


@pytest.mark.parametrize("verdict", Verdict)
def test_without_evidence_no_rule_guesses(verdict: Verdict) -> None:
    """States alone, from a host that tells no numbers: nothing but what the states themselves prove."""
    client = replace(sock(ONE), timer=None)
    server = far(client) if verdict in (V.STALLED, V.AMBIGUOUS, V.HANDSHAKE_STUCK) else None
    case = Given(verdict, client, server).case()
    bare = replace(
        case,
        client=HostEvidence("web"),
        server=HostEvidence("db"),
        listener=replace(LISTENER, queue=None, backlog=None),
    )
    (found,) = advised([bare])
    assert found.diagnosis.codes == ("unknown",)
    assert "tell" in found.causes[0].summary
    assert found.outlook.code in (OutlookCode.UNKNOWN, OutlookCode.NEVER)


def test_the_limit_of_the_queue_is_named() -> None:
    own = " ".join(BY_COOKIE.advised().remedies)
    assert "raise its listen() backlog: 128 now, somaxconn allows 4096" in own and "leave SYN cookies on" in own
    capped = " ".join(BY_COOKIE.without(sysctls={"somaxconn": 128}).advised().remedies)
    assert "which caps the backlog at 128, to 4096" in capped
    (command,) = typed(BY_COOKIE.without(sysctls={"somaxconn": 128}), "sysctl")
    assert (command.host, command.root) == ("db", True)
    assert shlex.join(command.argv) == "sh -c 'sysctl -w net.core.somaxconn=4096'"


def test_keepalive_is_advised_below_the_limit_that_was_seen() -> None:
    (text,) = [one for one in SILENT.advised().remedies if "SO_KEEPALIVE on web" in one]
    assert "TCP_KEEPIDLE=60" in text and "below the limit of 240 s" in text and "2h 11m" in text


def test_where_several_fit_it_is_said_what_tells_them_apart() -> None:
    several = GONE.without(counters={"EstabResets": 3, "OutRsts": 3, "TCPAbortOnTimeout": 3}).advised()
    assert several.diagnosis.codes == ("reset-lost", "path-dead")
    assert several.remedies[0].startswith("to tell which: the log of the program on db when web last heard of it")
    assert not [step for step in BY_COOKIE.advised().remedies if "to tell which" in step]


def test_what_two_causes_advise_is_said_once() -> None:
    both = SILENT.without(counters={"EstabResets": 3, "OutRsts": 3}).advised()
    assert both.diagnosis.codes == ("reset-lost", "middlebox-forgot")
    (keepalive,) = [step for step in both.remedies if "SO_KEEPALIVE" in step]
    assert "below the limit of 240 s" in keepalive


def test_the_end_that_waits_is_ended_and_never_a_request_socket() -> None:
    (command,) = typed(REPEATED, "-K")
    assert (command.host, command.root, command.why) == ("web", True, "end it now")
    assert shlex.join(command.argv) == "ss src 10.0.0.1:40000 dst 10.0.0.2:5432 -t -K"
    assert any("leave the SYN_RECV on db alone" in one for one in REPEATED.advised().remedies)
    for one in (QUEUED, CLOSED, SYN, Given(V.EMBRYONIC, None, request())):
        assert not typed(one, "-K")


def typed(given: Given, word: str) -> list[Command]:
    """The commands of a finding that have a word in them."""
    return [one for one in given.advised().commands if word in " ".join(one.argv).split()]


def test_a_link_local_connection_is_ended_on_its_link_or_not_at_all() -> None:
    both = [address.parse(text) for text in ("fe80::7:1", "fe80::7:2")]
    bound = replace(sock(address.make_key(both[0], 40000, both[1], 5432)), scope=3)
    (command,) = end_now(bound, HostEvidence("web"))
    assert shlex.join(command.argv) == "ss src '[fe80::7:1]:40000' dst '[fe80::7:2]:5432' dev = 3 -t -K"
    assert not [*end_now(replace(bound, scope=0), HostEvidence("web"))]


def test_an_end_in_another_namespace_is_ended_in_there_or_not_at_all() -> None:
    """The host's own namespace may have the same addresses."""
    inside = HostEvidence("web", owners={77: Process(4211, "app")}).within(4026532000)
    (command,) = end_now(sock(ONE), inside)
    assert command.argv[:2] == ("sh", "-c") and command.argv[2].startswith("nsenter --target 4211 --net ss src ")
    assert not [*end_now(sock(ONE, inode=0), inside)]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("java", "sh -c 'jstack 812'"),
        ("python3.11", "py-spy dump --pid 812"),
        ("postgres", "cat /proc/812/stack"),
        ("javascript", "cat /proc/812/stack"),
    ],
)
def test_a_program_is_asked_only_what_its_runtime_answers(name: str, line: str) -> None:
    (command,) = see_program(HostEvidence("db"), Process(812, name), "see it")
    assert shlex.join(command.argv) == line


WORDS = (
    "ss -K",
    "sysctl ",
    "nft ",
    "conntrack -",
    "tcpdump",
    "ip route",
    "py-spy",
    "jstack",
    "gdb",
    "kill ",
    "cat /proc",
)


@pytest.mark.parametrize("name", FIRES)
def test_remedies_are_prose_and_commands_are_harmless_wherever_they_are_cut(name: str) -> None:
    given_one, _ = FIRES[name]
    found = given_one.advised()
    told = [*found.remedies, *(one.summary for one in found.causes), found.outlook.summary]
    assert not [text for text in told if any(word in text for word in WORDS)]
    for command in found.commands:
        line = shlex.join(command.argv)
        assert command.host in given_one.names and tuple(shlex.split(line)) == command.argv
        for length in range(len(line)):
            try:
                words = shlex.split(line[:length])
            except ValueError:
                continue  # a quote is open: the shell waits for its end
            assert "-K" not in words and (words[:1] != ["sh"] or len(words) < 3)


@pytest.mark.parametrize("code", sorted(set(CauseCode) - {CauseCode.UNKNOWN}))
def test_every_cause_comes_with_something_to_do(code: CauseCode) -> None:
    given_ones = [one for one, codes in FIRES.values() if code in codes]
    assert given_ones
    for one in given_ones:
        steps = list(ADVICE[code].remedies(one.case()))
        assert steps and all(step.text if isinstance(step, Remedy) else step.argv for step in steps)


def test_what_is_said_of_a_cause_in_general_names_no_command_to_type() -> None:
    assert not [code for code, about in ABOUT.items() if any(word in str(about) for word in WORDS)]


def test_many_findings_are_told_as_one() -> None:
    every = [replace(BY_COOKIE, client=end(idle_ms=1000 * number)).advised() for number in range(1, 400)]
    (cause,) = causes_of_all(every)
    assert cause.code == "accept-queue-overflow" and len(cause.evidence) == len(every[0].causes[0].evidence)
    found = [replace(SILENT, client=end(idle_ms=1000 * one, **TALKED)).advised() for one in (360, 400, 5000)]
    (cause,) = causes_of_all(found)
    facts = [fact.fact for fact in cause.evidence]
    assert "was silent for 6m 00s to 1h 23m, with no keepalive timer" in facts
    assert [one for one in facts if one.endswith("(1 of 3)")]
    assert len(remedies_of_all(every)) == len(every[0].remedies)
    assert not [one for one in remedies_of_all(every) if "end it now" in one]


def test_outlooks_that_differ_are_counted() -> None:
    asks = replace(GONE, client=end(timer=Timer.KEEPALIVE, timer_expires_s=30.0, **TALKED))
    told = outlook_of([one.advised().diagnosis.prospect for one in (GONE, GONE, asks)])
    assert told.code is OutlookCode.FAILS_ON_WRITE and told.within_s is None
    assert told.summary.startswith("2 of 3: ") and "1 of 3: ends by itself" in told.summary


OUTLOOKS: dict[str, tuple[Given, OutlookCode, float | None]] = {
    "waits to be spoken to": (BY_COOKIE, OutlookCode.NEVER, None),
    "waits for an answer": (
        GONE.without(client=end(**TALKED, last_data_sent_ms=1000, last_data_recv_ms=2000)),
        OutlookCode.NEVER,
        None,
    ),
    "its turn to speak": (
        GONE.without(client=end(**TALKED, last_data_sent_ms=2000, last_data_recv_ms=1000)),
        OutlookCode.FAILS_ON_WRITE,
        None,
    ),
    "a server that has answered waits for the next question": (
        Given(V.MISSING_ON_CLIENT, None, far(end(**TALKED))),
        OutlookCode.NEVER,
        None,
    ),
    # Asked within 30 s, then 9 probes 75 s apart.
    "keepalive asks": (
        GONE.without(client=end(timer=Timer.KEEPALIVE, timer_expires_s=30.0, **TALKED)),
        OutlookCode.HEALS,
        30 + 9 * 75,
    ),
    "keepalive has asked 4 times": (
        GONE.without(client=end(timer=Timer.KEEPALIVE, timer_expires_s=30.0, retransmits=4, **TALKED)),
        OutlookCode.HEALS,
        30 + 5 * 75,
    ),
    # SYN-ACKs at 1, 3, 7, 15, 31 s, forgotten at 63 s: two repeated, 3 s until the next.
    "a request socket alone": (Given(V.EMBRYONIC, None, request()), OutlookCode.HEALS, 3 + 8 + 16 + 32),
    # SYNs each second up to the fifth, then 2, 4, 8, 16, 32, and 64 s until ETIMEDOUT.
    "a connect": (SYN, OutlookCode.HEALS, 0.1 + 1 + 2 + 4 + 8 + 16 + 32 + 64),
    "a connect before Linux 6.5": (
        SYN.without(
            client=end(State.SYN_SENT, Timer.RETRANSMIT, retransmits=3, rto_us=8_000_000),
            sysctls={"tcp_syn_linear_timeouts": 0},
        ),
        OutlookCode.HEALS,
        0.1 + 16 + 32 + 64,
    ),
    "deferred": (DEFERRED, OutlookCode.HEALS, None),
    "nobody closes": (CLOSED, OutlookCode.NEVER, None),
    "nobody accepts": (QUEUED, OutlookCode.UNKNOWN, None),
    "a FIN_WAIT2 without a program": (
        Given(V.CLOSING_ALONE, end(State.FIN_WAIT2, Timer.TIMEWAIT, inode=0, timer_expires_s=42.0)),
        OutlookCode.HEALS,
        42.0,
    ),
}


@pytest.mark.parametrize("name", OUTLOOKS)
def test_outlooks(name: str) -> None:
    one, code, within = OUTLOOKS[name]
    found = one.advised().outlook
    assert (found.code, found.within_s) == (code, pytest.approx(within) if within else None)


def test_retransmission_is_given_up_when_the_kernel_does() -> None:
    """tcp_retries2 = 15 is 924.6 s of model_timeout, noticed by the timer that runs at most 120 s later."""
    assert model_timeout(15, 120.0) == pytest.approx(924.6)
    assert model_timeout(8, 120.0) == pytest.approx(102.2)
    for again in range(1, 10):
        rto = 0.2 * 2**again
        one = end(timer=Timer.RETRANSMIT, retransmits=again, backoff=again, rto_us=int(rto * 1e6), **TALKED)
        given = Given(V.MISSING_ON_SERVER, replace(one, timer_expires_s=rto))
        within = given.advised().outlook.within_s
        # Since the first repetition it is the same whenever we look: 0.4 + 0.8 + ... + 102.4 s, and then 120 s each.
        assert within is not None
        assert within + sum(0.2 * 2**i for i in range(1, again)) == pytest.approx(204.4 + 7 * 120, abs=1)


def test_an_orphan_is_given_up_sooner() -> None:
    alone = replace(RETRYING, state=State.FIN_WAIT1, send_q=1)
    held, orphan = (Given(V.CLOSING_ALONE, replace(alone, inode=inode)).advised().outlook.within_s for inode in (77, 0))
    assert held is not None and orphan is not None and orphan < 110 < 900 < held


def test_settings_that_could_not_be_read_give_no_time() -> None:
    case = Given(V.EMBRYONIC, None, request()).case()
    found = advised([replace(case, server=replace(case.server, sysctls={}))])[0].outlook
    assert (found.code, found.within_s) == (OutlookCode.UNKNOWN, None)
    assert found.summary.endswith("after a time that depends on sysctls of db, which could not be read")


def test_a_timer_that_could_not_be_read_is_not_said_to_be_absent() -> None:
    bare = replace(end(), info=None)
    silent, unread = (GONE.without(client=replace(bare, timer=timer)) for timer in (Timer.OFF, None))
    tail = "; what the program waits for cannot be determined"
    assert silent.advised().outlook.summary == f"web: no timer runs{tail}"
    assert unread.advised().outlook.summary == f"web: its timer could not be read{tail}"


def test_keepalive_says_when_it_probes_and_what_an_answer_does() -> None:
    probed = GONE.without(client=end(timer=Timer.KEEPALIVE, timer_expires_s=12.0, **TALKED)).advised().outlook.summary
    assert "web sends a keepalive probe in 12 s; a RST ends it then, no answer ends it within " in probed


NUMBERS = st.sampled_from([0, 1, 2, 7, 40, 1000, 700_000, 2**32 - 1])
KNOWN = [name for name in TcpInfo.__struct_fields__ if name not in ("options", "ca_state")]
SINCE_41 = {one.name for one in structs.fields(TcpInfo) if one.default is None}


@st.composite
def any_end(draw: st.DrawFn) -> Socket | None:
    """Any socket that a kernel, or a collector that knows less, may show; or none."""
    if draw(st.booleans()) and draw(st.booleans()):
        return None
    fields: dict[str, Any] = {
        name: draw(NUMBERS | st.none()) if name in SINCE_41 else draw(st.sampled_from([0, 1, 3, 15, 200_000]))
        for name in draw(st.lists(st.sampled_from(KNOWN), unique=True, max_size=8))
    }
    fields["backoff"] = draw(st.integers(0, 255))
    maybe = NUMBERS | st.none()
    made = end(draw(st.sampled_from(State)), idle_ms=draw(NUMBERS), **fields)
    made = replace(
        made, timer=draw(st.sampled_from(Timer) | st.none()), timer_expires_s=draw(st.floats(0, 1e6) | st.none())
    )
    made = replace(made, retransmits=draw(st.integers(0, 255) | st.none()), recv_q=draw(maybe), send_q=draw(maybe))
    return replace(made, inode=draw(maybe), info=made.info if draw(st.booleans()) else None)


@settings(max_examples=300)
@given(
    st.sampled_from(Verdict),
    any_end(),
    any_end(),
    st.sampled_from([None, LISTENER, FULL, replace(LISTENER, backlog=None), replace(FULL, queue=None)]),
    st.dictionaries(st.sampled_from(sorted(QUIET)), NUMBERS),
    st.dictionaries(st.sampled_from(sorted(DEFAULTS)), st.sampled_from([0, 1, 8, 255, 10**20, -1])),
    st.tuples(st.none() | st.floats(0, 1e9), st.none() | st.floats(0, 1e9)),
)
def test_whatever_a_kernel_shows_is_explained_or_unknown(
    verdict: Verdict,
    client: Socket | None,
    server: Socket | None,
    listener: ListenSocket | None,
    counters: dict[str, int],
    sysctls: dict[str, int],
    uptimes: tuple[float | None, float | None],
) -> None:
    """No evidence makes the report fail, and what it says holds no word of Python."""
    given_one = Given(verdict, client, far(server) if server else None, listener, counters, sysctls=sysctls)
    found = replace(given_one, uptimes=uptimes).advised()
    assert found.diagnosis.codes and ("unknown" not in found.diagnosis.codes or found.diagnosis.codes == ("unknown",))
    assert len(set(found.diagnosis.codes)) == len(found.diagnosis.codes)
    told = [found.outlook.summary, *found.remedies, *(one.summary for one in found.causes)]
    told += [fact.fact for one in found.causes for fact in one.evidence]
    assert all(text and "None" not in text and "nan" not in text and len(text) < 300 for text in told), told
    assert found.outlook.within_s is None or 0 <= found.outlook.within_s < float("inf")
    assert (found.outlook.code is OutlookCode.HEALS) or found.outlook.within_s is None
    assert causes_of_all([found, found]) and outlook_of([found.diagnosis.prospect] * 2).summary


def test_nothing_is_ended_on_an_inference() -> None:
    case = GONE.case()
    inferred = replace(case, held=replace(case.held, confidence=Confidence.INFERRED))
    ending = [[step for step in advised([one])[0].commands if "-K" in step.argv] for one in (case, inferred)]
    assert len(ending[0]) == 1 and not ending[1]


@pytest.mark.parametrize(("events", "decisive"), [(179, False), (185, True)])
def test_a_cause_is_certain_only_if_its_counters_cover_all_findings(events: int, decisive: bool) -> None:
    counters = {"SyncookiesSent": events, "SyncookiesRecv": events, "ListenOverflows": events}
    told = causes_of_all(advised([BY_COOKIE.without(counters=counters).case()] * 185))
    assert [(one.code, one.decisive) for one in told] == [("accept-queue-overflow", decisive)]
    short = "SyncookiesSent explains at most 179 of 185 such connections"
    assert [fact.fact for fact in told[0].evidence if "explains" in fact.fact] == ([] if decisive else [short])


def test_a_few_events_do_not_explain_thousands() -> None:
    lost = GONE.without(counters={"EstabResets": 2, "OutRsts": 2})
    codes = [{one.diagnosis.codes for one in advised([lost.case()] * count)} for count in (2, 3, 3000)]
    assert codes == [{("reset-lost",)}, {("reset-lost",)}, {("unknown",)}]


@pytest.mark.parametrize("given_one", [QUEUED, CLOSED, FULL_WINDOW], ids=["accept", "close", "read"])
def test_a_program_that_is_stopped_is_said_to_be_and_continued(given_one: Given) -> None:
    case = given_one.case()
    stopped = replace(case.server, owners={one: Process(812, "postgres", stopped=True) for one in (77, 500)})
    (found,) = advised([replace(case, server=stopped)])
    assert "is stopped (state T" in found.causes[0].summary
    (command,) = [one for one in found.commands if "CONT" in " ".join(one.argv)]
    assert (command.host, command.argv) == ("db", ("sh", "-c", "kill -CONT 812"))
    assert not [step for step in found.remedies if "stack dump" in step]
    assert not [one for one in found.commands if "/proc/812/stack" in one.argv]


NEVER_WHILE: dict[str, Given] = {
    "a SYN-ACK is due": REPEATED,
    "a FIN is sent again": Given(V.CLOSE_LOST, replace(RETRYING, state=State.FIN_WAIT1, send_q=1), far(end())),
    "a window is probed": FULL_WINDOW,
}


@pytest.mark.parametrize("name", NEVER_WHILE)
def test_nothing_is_for_ever_while_a_timer_runs(name: str) -> None:
    assert NEVER_WHILE[name].advised().outlook.code is OutlookCode.UNKNOWN


def asks(first_s: float, **sysctls: int) -> Given:
    """A client whose keepalive asks after so many seconds."""
    return GONE.without(
        client=end(timer=Timer.KEEPALIVE, timer_expires_s=first_s, **TALKED),
        listener=None,
        sysctls=sysctls,
    )


@pytest.mark.parametrize(
    ("given_one", "expected"),
    [
        (asks(14.0, tcp_keepalive_intvl=5), None),
        (
            asks(14.0),
            "SO_KEEPALIVE on web",
        ),
        (asks(14.0).without(client=end(timer=Timer.OFF, **TALKED)), "SO_KEEPALIVE alone takes 2h 11m"),
        (Given(V.STALLED, RETRYING, far(end())), "TCP_USER_TIMEOUT=60000"),
        (SYN.without(listener=FULL, counters={"ListenOverflows": 3}), "before it connects"),
        (FULL_WINDOW, "TCP_USER_TIMEOUT=60000"),
        (
            FULL_WINDOW.without(client=end(State.FIN_WAIT1, Timer.PROBE, inode=0, retransmits=0)),
            "reset_timedout_connection",
        ),
        (Given(V.CLOSING_ALONE, replace(RETRYING, state=State.FIN_WAIT1, inode=0)), None),
    ],
    ids=["soon", "late", "no timer", "retransmits", "connects", "window", "window of an orphan", "orphan"],
)
def test_what_notices_sooner_fits_the_timer_that_runs(given_one: Given, expected: str | None) -> None:
    found = [one for one in given_one.advised().remedies if "TCP_USER_TIMEOUT" in one or "nginx" in one]
    assert len(found) == (expected is not None) and all(str(expected) in one for one in found)
    assert not [
        one
        for one in found
        if "SO_KEEPALIVE" in one and given_one.client and given_one.client.timer is Timer.RETRANSMIT
    ]


def test_a_backlog_is_raised_only_where_the_queue_is_full() -> None:
    told = [" ".join(QUEUED.without(listener=one).advised().remedies) for one in (replace(FULL, queue=20), FULL)]
    assert ["backlog" in text for text in told] == [False, True]


def test_who_took_over_an_address_did_not_restart() -> None:
    """The old owner's sockets stand in the same check."""
    case = replace(REBOOTED.case(), former="db0")
    (found,) = advised([case])
    assert found.diagnosis.codes == ("peer-vanished",)
    assert found.causes[0].summary == "10.0.0.2 has moved from db0 to db, which never had this connection"


def replace_info(one: Socket, **fields: Any) -> TcpInfo:
    """The numbers of a socket with these fields changed."""
    assert one.info is not None
    return structs.replace(one.info, **fields)


PROBES = end(timer=Timer.PROBE, retransmits=4, send_q=100, snd_wnd=65535, snd_mss=1448, **TALKED)
AGAIN = replace(end(), timer=Timer.RETRANSMIT, retransmits=9, send_q=5, info=None)


def told(given_one: Given) -> str:
    """All that a finding says."""
    found = given_one.advised()
    facts = [fact.fact for one in found.causes for fact in one.evidence]
    return " | ".join([*(one.summary for one in found.causes), *facts, found.outlook.summary, *found.remedies])


@pytest.mark.parametrize(
    ("given_one", "said", "unsaid"),
    [
        (Given(V.STALLED, PROBES, far(end(**TALKED))), "(OUTPUT chain)", "closed window"),
        (
            Given(V.STALLED, replace(PROBES, info=replace_info(PROBES, snd_wnd=None)), far(end(**TALKED))),
            "(OUTPUT chain)",
            "closed window",
        ),
        (
            Given(V.STALLED, replace(PROBES, info=replace_info(PROBES, snd_wnd=0)), far(end())),
            "closed window",
            "OUTPUT",
        ),
        (FULL_WINDOW, "the FIN of web waits behind what it has not read", "SO_KEEPALIVE"),
        (
            FULL_WINDOW.without(client=end(State.FIN_WAIT1, Timer.PROBE, retransmits=0, send_q=None)),
            "read",
            " with 0 more",
        ),
        (Given(V.STALLED, AGAIN, far(end())), "again 9 times", " in 0.0 s"),
        (GONE.without(client=end(timer=None, **TALKED)), "its timer could not be read", "no timer"),
        (CLOSED, "has not read the end of the stream", "unread"),
        (CLOSED.without(server=far(end(State.CLOSE_WAIT, inode=500, recv_q=8))), "has left 7 bytes unread", "8 bytes"),
        (
            CLOSED.without(server=far(end(State.CLOSE_WAIT, inode=500, recv_q=8)), collector=Collector.NETSTAT),
            "has left 8 bytes unread",
            "7 bytes",
        ),
        (GONE.without(client=replace(end(), info=None)), "would", "it needs netlink"),
    ],
    ids=[
        "kept in",
        "kept in, old kernel",
        "closed window",
        "FIN behind data",
        "no send queue",
        "no times",
        "no timer read",
        "FIN alone",
        "FIN and data",
        "a system that counts no FIN",
        "netlink was there",
    ],
)
def test_what_is_said_is_what_the_evidence_says(given_one: Given, said: str, unsaid: str) -> None:
    text = told(given_one)
    assert said in text and unsaid not in text, text
