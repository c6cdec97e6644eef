"""What a rule says that it reads is what it reads: `doctor` derives from it what an absence costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from diagnosis_cases import (
    BY_COOKIE,
    COOKIE_LOST,
    FIRES,
    FULL,
    FULL_WINDOW,
    QUEUED,
    REBOOTED,
    REPEATED,
    RETRYING,
    SILENCE,
    SILENT,
    Given,
    end,
    far,
)
from msgspec.structs import replace

from halfopen.evidence.probe.wire import SYSCTLS, encode_evidence
from halfopen.judge.advice import ADVICE
from halfopen.judge.advice.advised import advised
from halfopen.judge.assembly.sections import COUNTERS
from halfopen.judge.diagnosis import outlook
from halfopen.judge.diagnosis.diagnose import diagnose
from halfopen.judge.diagnosis.outlook import prospect_of
from halfopen.judge.diagnosis.rules import RULES
from halfopen.judge.diagnosis.rules.rule import Rule, Source
from halfopen.judge.signs.case import Case, HostEvidence
from halfopen.model import Collector, Socket
from halfopen.reach import shell
from halfopen.schema.report import CauseCode
from halfopen.tcp import State, Timer

MORE: dict[str, Given] = {
    "a cookie before a reboot": COOKIE_LOST.without(uptimes=(86400.0, 60.0)),
    "a SYN-ACK that keepalive may have answered": COOKIE_LOST.without(
        client=end(timer=Timer.KEEPALIVE, segs_in=3, total_retrans=2)
    ),
    "cookies when there is room": COOKIE_LOST.without(sysctls={"tcp_syncookies": 2}),
    "repeated before a reboot": FIRES["the server gave up after repeating its SYN-ACK"][0].without(
        uptimes=(86400.0, 60.0)
    ),
    "resets before a reboot": REBOOTED.without(counters={"OutRsts": 3, "EstabResets": 3}),
    "silent for long before a reboot": SILENT.without(uptimes=(86400.0, 60.0)),
    "a listener of its own limit": BY_COOKIE.without(sysctls={"somaxconn": 128}),
    "nobody reads, and the program is known": FULL_WINDOW.without(server=far(end(recv_q=65000, inode=500))),
    "nobody accepts, and the queue is full": QUEUED.without(listener=FULL),
    "an orphan sends its FIN again": FULL_WINDOW.without(
        client=replace(RETRYING, state=State.FIN_WAIT1, send_q=1, inode=0)
    ),
    "repeated, while another queue overflows": REPEATED.without(deltas={"ListenOverflows": 1}),
}
CASES: dict[str, Given] = {name: one for name, (one, _) in (FIRES | SILENCE).items()} | MORE


def of_hosts(case: Case, change: Callable[[HostEvidence], HostEvidence]) -> Case:
    """The same with both hosts changed."""
    return replace(case, client=change(case.client), server=change(case.server))


def of_ends(case: Case, change: Callable[[Socket], Socket]) -> Case:
    """The same with both ends changed."""
    client, server = (one and change(one) for one in (case.held.client, case.held.server))
    return replace(case, held=replace(case.held, client=client, server=server))


def without_listeners(case: Case) -> Case:
    """From a source that lists no listeners, as tcpdump does."""
    blind = of_hosts(case, lambda host: replace(host, facts=host.facts and replace(host.facts, collector=CAPTURE)))
    return replace(blind, listener=None)


CAPTURE = Collector.CAPTURE
REMOVED: dict[Source, Callable[[Case], Case]] = {
    Source.COUNTERS: lambda case: of_hosts(case, lambda host: replace(host, before={}, after={})),
    Source.SYSCTLS: lambda case: of_hosts(case, lambda host: replace(host, sysctls={})),
    Source.TCP_INFO: lambda case: of_ends(case, lambda one: replace(one, info=None)),
    Source.TIMERS: lambda case: of_ends(
        case, lambda one: replace(one, timer=None, timer_expires_s=None, retransmits=None)
    ),
    Source.LISTENERS: without_listeners,
    Source.BACKLOGS: lambda case: replace(case, listener=case.listener and replace(case.listener, backlog=None)),
    Source.UPTIME: lambda case: of_hosts(
        case, lambda host: replace(host, facts=host.facts and replace(host.facts, uptime_s=None))
    ),
    Source.PROCESSES: lambda case: of_hosts(case, lambda host: replace(host, owners={}, holders={})),
}
"""A case as it is where no host gives this source."""


def both(rule: Rule, source: Source) -> Iterator[tuple[object, object]]:
    """What a rule says of each case, with a source and without it."""
    for one in CASES.values():
        yield rule.find(one.case()), rule.find(REMOVED[source](one.case()))


RULE_AND_SOURCE = [(rule, source) for rule in RULES for source in Source]


@pytest.mark.parametrize(("rule", "source"), RULE_AND_SOURCE, ids=lambda one: str(getattr(one, "code", one)))
def test_a_rule_reads_the_sources_that_it_names(rule: Rule, source: Source) -> None:
    """Without a vital one it never fires; without a useful one it fires, and something changes; else nothing does."""
    fires = [given.case() for given in CASES.values() if rule.find(given.case())]
    still = [case for case in fires if rule.find(REMOVED[source](case))]
    changed = [one for one, other in both(rule, source) if one != other]
    assert fires
    if source in rule.needs.vital:
        assert not still
    elif source in rule.needs.useful:
        assert still and changed
    else:
        assert not changed


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_names_of_counters_and_settings_stand_with_their_source(rule: Rule) -> None:
    needs = rule.needs
    assert not {*needs.vital} & {*needs.useful}
    assert bool(needs.counters) == (Source.COUNTERS in (*needs.vital, *needs.useful))
    assert bool(needs.sysctls) == (Source.SYSCTLS in (*needs.vital, *needs.useful))


class Recorder(dict[str, int]):
    """Counters or sysctls that remember what they were asked for."""

    def __init__(self, values: dict[str, int]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: int | None = None) -> int | None:  # type: ignore[override]
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> int:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)


def recorded(case: Case, names: str) -> tuple[Case, list[Recorder]]:
    """A case whose counters or sysctls remember, and they."""
    kept: list[Recorder] = []

    def change(host: HostEvidence) -> HostEvidence:
        fields: dict[str, Any] = {name: Recorder(dict(getattr(host, name))) for name in names.split()}
        kept.extend(fields.values())
        return replace(host, **fields)

    return of_hosts(case, change), kept


def asked(read: Callable[[Case], object], names: str, cases: Iterable[Given] = CASES.values()) -> set[str]:
    """What is asked for in any of the cases."""
    found: set[str] = set()
    for one in cases:
        case, recorders = recorded(one.case(), names)
        read(case)
        found.update(*(recorder.asked for recorder in recorders))
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_reads_the_counters_and_settings_that_it_names(rule: Rule) -> None:
    assert asked(rule.find, "before after") == {*rule.needs.counters}
    assert asked(rule.find, "sysctls") == {*rule.needs.sysctls}


@pytest.mark.parametrize("code", ADVICE)
def test_advice_reads_the_counters_and_settings_that_it_names(code: CauseCode) -> None:
    advice, found = ADVICE[code], [one for one in CASES.values() if code in diagnose([one.case()])[0].codes]
    assert asked(lambda case: [*advice.remedies(case)], "before after", found) == {*advice.counters}
    of_outlook = {*outlook.SYSCTLS_READ}
    assert asked(lambda case: [*advice.remedies(case)], "sysctls", found) | of_outlook == {*advice.sysctls} | of_outlook


def test_the_outlook_reads_the_settings_that_it_names() -> None:
    assert asked(prospect_of, "sysctls") == {*outlook.SYSCTLS_READ}
    assert not asked(prospect_of, "before after")


def test_hosts_are_asked_for_the_settings_that_are_read_and_no_others() -> None:
    """The probe and the shell collector both take SYSCTLS."""
    read = {name for rule in RULES for name in rule.needs.sysctls} | {*outlook.SYSCTLS_READ}
    read |= {name for advice in ADVICE.values() for name in advice.sysctls}
    assert {path.rpartition("/")[2] for path in SYSCTLS} == read
    assert asked(lambda case: advised([case]), "sysctls") <= read
    assert encode_evidence([0]).endswith("\n".join(SYSCTLS).encode()) and " ".join(SYSCTLS).encode() in shell.script()


def test_a_report_has_every_counter_that_a_rule_or_its_advice_reads() -> None:
    read = {name for rule in RULES for name in rule.needs.counters}
    read |= {name for advice in ADVICE.values() for name in advice.counters}
    assert read <= {*COUNTERS}
    assert asked(lambda case: advised([case]), "before after") <= read
