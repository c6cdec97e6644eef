"""What to do about a finding: a row for each cause, which reads the same evidence as the rules and decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from halfopen.judge.advice import causes
from halfopen.judge.advice.remedies import KEEPALIVE_SYSCTLS, Remedy, Step, end_it
from halfopen.judge.diagnosis.rules.rule import Reason
from halfopen.judge.signs.case import Case
from halfopen.matching.verdict.traits import TRAITS
from halfopen.schema.report import CauseCode, Command


class Advice(Struct, frozen=True):
    """What to do about one cause. `counters` and `sysctls`: which of them it reads, by the names of `HostEvidence`.

    Settings that the outlook reads are not among them: what notices sooner is compared with that.
    """

    remedies: Callable[[Case], Iterable[Step]]
    counters: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()


def advice_for(case: Case, reasons: Sequence[Reason]) -> tuple[Step, ...]:
    """What to do, in the order of the causes, each once; last how to end what is left of the connection."""
    codes = {reason.code for reason in reasons}
    found = [step for reason in reasons for step in ADVICE[reason.code].remedies(case)]
    steps: list[Step] = [*said_once(step for step in found if isinstance(step, Remedy))]
    steps += dict.fromkeys(step for step in found if isinstance(step, Command))
    teller = TRAITS[case.held.verdict].teller
    if teller is not None and len(reasons) > 1 and not any(reason.decisive for reason in reasons):
        steps.insert(0, Remedy(f"to tell which: {teller.format(case.client.name, case.server.name)}"))
    # What is by design is not to be ended.
    return tuple(steps) if CauseCode.DEFERRED_ACCEPT in codes else (*steps, *end_it(case))


def said_once(remedies: Iterable[Remedy]) -> Iterable[Remedy]:
    """Of those that advise the same, the one that says most."""
    by_topic: dict[str, Remedy] = {}
    for remedy in remedies:
        topic = remedy.topic or remedy.text
        if topic not in by_topic or len(remedy.text) > len(by_topic[topic].text):
            by_topic[topic] = remedy
    return by_topic.values()


ADVICE: dict[CauseCode, Advice] = {
    CauseCode.ACCEPT_QUEUE_OVERFLOW: Advice(
        causes.remedies_of_overflow, ("SyncookiesSent",), ("somaxconn", *KEEPALIVE_SYSCTLS)
    ),
    CauseCode.SYN_COOKIE_ACK_LOST: Advice(causes.remedies_of_lost_ack, sysctls=("tcp_syncookies", *KEEPALIVE_SYSCTLS)),
    CauseCode.FINAL_ACK_LOST: Advice(causes.remedies_of_lost_ack, sysctls=("tcp_syncookies", *KEEPALIVE_SYSCTLS)),
    CauseCode.DEFERRED_ACCEPT: Advice(causes.remedies_of_deferral),
    CauseCode.PEER_REBOOTED: Advice(causes.remedies_of_reboot, sysctls=KEEPALIVE_SYSCTLS),
    CauseCode.PEER_VANISHED: Advice(causes.remedies_of_reboot, sysctls=KEEPALIVE_SYSCTLS),
    CauseCode.RESET_LOST: Advice(causes.remedies_of_reset, sysctls=KEEPALIVE_SYSCTLS),
    CauseCode.MIDDLEBOX_FORGOT: Advice(causes.remedies_of_middlebox, sysctls=KEEPALIVE_SYSCTLS),
    CauseCode.PATH_DEAD: Advice(causes.remedies_of_path, sysctls=KEEPALIVE_SYSCTLS),
    CauseCode.APPLICATION_NOT_ACCEPTING: Advice(causes.remedies_of_not_accepting, sysctls=("somaxconn",)),
    CauseCode.APPLICATION_NOT_CLOSING: Advice(causes.remedies_of_not_closing),
    CauseCode.APPLICATION_NOT_READING: Advice(causes.remedies_of_not_reading),
    CauseCode.CONNECTION_REFUSED_SILENTLY: Advice(causes.remedies_of_refusal),
    CauseCode.TUPLE_REUSED: Advice(causes.remedies_of_reuse),
    CauseCode.UNKNOWN: Advice(causes.remedies_of_unknown),
}
