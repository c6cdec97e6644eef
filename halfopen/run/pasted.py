"""Pasted text, or text beside snapshots, as evidence of hosts: which moment a file is of, and what it cannot tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.evidence.saved import Saved, snapshot_of
from halfopen.evidence.text.parsed import ParsedText
from halfopen.judge.assembly.check import analyse
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.assembly.run_evidence import Evidence
from halfopen.judge.confirm.dumps import Moment, dialled, how_compared, with_addresses
from halfopen.judge.inquiry import drive, inquire
from halfopen.judge.questions import (
    Explanation,
    KernelState,
)
from halfopen.model import HostFacts, NetnsRef, Snapshot
from halfopen.plan import CheckPlan
from halfopen.run.replay import Recorded, moments_of
from halfopen.schema.report import Check, Confidence
from halfopen.words import plural

PROBLEMS_SHOWN = 5


class Exhibit(Struct, frozen=True, eq=False, dict=True):
    """One file: its name, its host, and what it holds; either `saved` or `parsed`.

    `same`: the name of an earlier text of this host that is the same byte for byte.
    """

    source: str
    host: str
    saved: Saved | None = None
    parsed: ParsedText | None = None
    same: str | None = None

    @cached_property
    def snapshot(self) -> Snapshot:
        """The host as this file shows it."""
        if self.saved is not None:
            return snapshot_of(self.saved)
        assert self.parsed is not None
        facts = HostFacts("", "", None, None, None, self.parsed.collector, gaps=self.parsed.gaps)
        return Snapshot(self.host, facts, (self.parsed.namespace(),), transport="file")


def judge_texts(
    files: Sequence[Exhibit], plan: CheckPlan, policy: Policy, addresses: Mapping[str, Sequence[str]]
) -> Check:
    """The judgement of one moment of each host, or two. `addresses`: host -> further addresses that lead to it."""
    by_host: dict[str, list[Exhibit]] = {}
    for file in dict.fromkeys(files):
        by_host.setdefault(file.host, []).append(file)
    extra = {
        name: [
            address.parse(text)
            for text in (*addresses.get(name, ()), *(some[0].saved.addresses if some[0].saved else ()))
        ]
        for name, some in by_host.items()
    }
    moments = {name: [moment_of(file) for file in some] for name, some in by_host.items()}
    snapshots = {name: first_of(some) for name, some in moments.items()}
    notes = [note for some in by_host.values() for file in some for note in notes_of(file)]
    guessed = False
    for name in plan.servers:
        if by_host[name][0].parsed is None:
            continue
        owned = {
            interface.address
            for snapshot in snapshots.values()
            for space in snapshot.namespaces
            for interface in space.addresses
        }
        owned |= {packed for some in extra.values() for packed in some}
        taken, doubts = dialled([snapshots[client] for client in plan.clients], snapshots[name], plan.ports, owned)
        snapshots[name] = with_addresses(snapshots[name], [peer.packed for peer in taken])
        guessed = guessed or bool(taken)
        notes += doubts
        notes += [
            f"{name}: {address.show(peer.packed)} is taken for its address, because it listens on every address at "
            f"port {peer.port} and no other is dialled there"
            for peer in taken
        ]
    answers = Recorded(
        snapshots,
        moments,
        before={name: kernel_before(some[0]) for name, some in by_host.items()},
        after={name: explanation(some) for name, some in by_host.items()},
    )
    if guessed:  # with a guessed address the result stays a guess, however many moments there are
        plan = replace(plan, rounds=1)
    (evidence,) = drive(inquire([plan], dict.fromkeys(snapshots, ()), extra, 0), answers).evidence
    timeless = (
        [UNDATED] if answers.rounds > 1 and any(file.parsed for some in by_host.values() for file in some) else []
    )
    notes = [how_compared(answers.rounds), *timeless, *notes]
    evidence = replace(
        evidence,
        notes=notes,
        missing=nothing_compared(evidence, plan),
        at_most=Confidence.OBSERVED,
        unconfirmed=(GUESSED,) if guessed else (ONE_MOMENT,) if answers.rounds < 2 else (),
    )
    return analyse(plan, evidence, policy)


def moment_of(file: Exhibit) -> Moment:
    """The moment that a file was taken at."""
    if file.saved is not None:
        return moments_of(file.saved, together=False)[0]
    assert file.parsed is not None
    place = NetnsRef(file.host)
    return Moment(file.snapshot, {(place, key): socket for key, socket in file.parsed.sockets.items()})


def first_of(moments: Sequence[Moment]) -> Snapshot:
    """The first moment of a host, with the addresses that any of its moments shows."""
    first, *later = (
        {interface.address for space in moment.snapshot.namespaces for interface in space.addresses}
        for moment in moments
    )
    return with_addresses(moments[0].snapshot, sorted(set().union(*later) - first))


def kernel_before(file: Exhibit) -> KernelState:
    """The kernel counters of a host's first file; a text has none."""
    return KernelState(file.saved.before, file.saved.sysctls) if file.saved is not None else KernelState()


def explanation(files: Sequence[Exhibit]) -> Explanation:
    """Kernel counters, sysctls and processes in the files of one host."""
    saved = files[0].saved
    holders = {handle: who for file in files if file.parsed is not None for handle, who in file.parsed.holders.items()}
    if saved is None:
        return Explanation(holders=holders)
    return Explanation(KernelState(saved.after, saved.sysctls), saved.owners, holders)


def notes_of(file: Exhibit) -> list[str]:
    """What a reader must know of one file: lines that were not understood, what it cannot show, its addresses."""
    if file.parsed is None:
        return [f"{file.host}: {gap}" for gap in (file.saved.facts.gaps if file.saved and file.saved.facts else ())]
    problems = sorted(file.parsed.problems, key=lambda problem: not problem.hides)
    notes = [
        f"{file.source} line {problem.line}: {problem.why}: {problem.text}" for problem in problems[:PROBLEMS_SHOWN]
    ]
    if len(problems) > PROBLEMS_SHOWN:
        notes.append(f"{file.source}: {plural(len(problems) - PROBLEMS_SHOWN, 'line')} more not understood")
    # Of a quiet host two texts may well be the same: nothing in them says when they were taken.
    if file.same is not None:
        notes.append(f"{file.source} is the same as {file.same}, byte for byte: a copy of it proves nothing more")
    notes += [f"{file.host}: {gap}" for gap in file.parsed.gaps]
    own = [address.show(packed) for packed in file.parsed.addresses()]
    shown = ", ".join(own[:6]) + (f" and {len(own) - 6} more" if len(own) > 6 else "")
    notes.append(
        f"{file.host}: {file.parsed.form} shows no addresses of interfaces; its sockets have {shown or 'none'}"
    )
    return notes


def nothing_compared(evidence: Evidence, plan: CheckPlan) -> tuple[str, ...]:
    """Why nothing could be compared, if so: no connection has both addresses on these hosts, as far as known."""
    matching = evidence.matching
    if evidence.suspected or matching.compared or matching.unjudged:
        return ()
    strays = sorted(matching.external.items(), key=lambda item: -item[1])
    where = "; ".join(f"{host} has {count} to {peer}" for (host, peer), count in strays[:3])
    return (
        f"nothing could be compared: no connection of {plan.clients[0]} leads to a known address of {plan.servers[0]}"
        + (f" ({where})" if where else ""),
    )


ONE_MOMENT = (
    "one moment of each host shows what may be stuck and not what lasts (take both again a few seconds later and give "
    "all four: --client A1 --client A2 --server B1 --server B2)"
)
UNDATED = (
    "a text does not tell when it was taken: this is right if each host's first was taken before the other's last, "
    "else what was closed in between looks half-open"
)
GUESSED = "an address was guessed (hosts.NAME.addresses in an inventory tells it)"
