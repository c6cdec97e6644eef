"""Files answer the questions of an inquiry: the looks that a check saved, or tables that were taken at some moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import combinations

from msgspec import Struct
from msgspec.structs import replace

from halfopen import address
from halfopen.errors import HostError, UsageError
from halfopen.evidence.saved import (
    Saved,
    SavedRound,
    snapshot_of,
    unpack_counts,
    unpack_observations,
    unpack_replies,
    unpack_routing,
)
from halfopen.judge.assembly.check import analyse, notes_of
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.assembly.run_evidence import Evidence
from halfopen.judge.confirm.byte_counters import WIDE_LIMIT, Counts, counts_in
from halfopen.judge.confirm.dumps import (
    Moment,
    how_compared,
    in_tables,
    is_around,
    number_of_moments,
    seconds_between,
)
from halfopen.judge.inquiry import drive, inquire
from halfopen.judge.questions import (
    SIFT,
    Ask,
    Baseline,
    ByteCounts,
    Dump,
    Explain,
    Explanation,
    KernelState,
    LookUp,
    Pause,
    Routes,
    Snapshots,
    Translations,
)
from halfopen.model import Look, NetnsRef, Process, Reply, Routing, Unasked
from halfopen.plan import CheckPlan
from halfopen.schema.report import Check, Confidence


class Recorded(Struct, frozen=True):
    """What files hold of each host, by its name. Where there are no `looks`, `moments` are read instead.

    `looks`: for each round, the observations of its first, second and third look; `sift`: the same of the look before
    them. `pauses`: seconds before each round. `latest`: the last dump of a host, if it was dumped more than once.
    `replies`: what became of asking sockets; `quiet`: the looks at pairs that were silent, before it and after.
    """

    snapshots: Snapshots
    moments: Mapping[str, Sequence[Moment]]
    looks: Mapping[str, Sequence[SavedRound]] = {}
    sift: Mapping[str, SavedRound] = {}
    pauses: Sequence[float] = ()
    counts: Mapping[str, Counts] = {}
    before: Mapping[str, KernelState] = {}
    after: Mapping[str, Explanation] = {}
    latest: Snapshots = {}
    routing: Mapping[str, Mapping[NetnsRef, Routing]] = {}
    replies: Mapping[str, Mapping[tuple[NetnsRef, bytes], Reply]] = {}
    quiet: Mapping[str, SavedRound] = {}

    @property
    def has_looks(self) -> bool:
        """Whether exact look-ups of suspects were saved, or of pairs that were silent."""
        return any(self.looks.values()) or bool(self.sift) or bool(self.quiet)

    @property
    def rounds(self) -> int:
        """How many rounds of looks there are, or moments that all hosts have."""
        return max(map(len, self.looks.values())) if self.has_looks else number_of_moments(self.moments)

    def dump(self, question: Dump) -> Snapshots:
        """The first dump of each host, and the last one if it is asked for again."""
        younger = self.latest if question.known else {}
        return {name: younger.get(name, self.snapshots[name]) for name in question.ports}

    def translations(self, question: Translations) -> Snapshots:
        """What translated was saved with each dump."""
        return question.snapshots

    def baseline(self, question: Baseline) -> Mapping[str, KernelState]:
        """Counters of before the looks."""
        return {name: self.before[name] for name in question.hosts if name in self.before}

    def byte_counts(self, question: ByteCounts) -> Mapping[str, tuple[Counts, HostError | None]]:
        """The byte counters that were saved, of the hosts that gave any."""
        return {name: (self.counts[name], None) for name in question.asks if name in self.counts}

    def pause(self, question: Pause) -> float | None:
        """What had passed before that round, as far as the files tell; None if they hold no further one."""
        if question.number >= self.rounds:
            return None
        if not self.has_looks:
            passed = seconds_between(self.moments, question.number)
            return question.seconds if passed is None else passed
        return self.pauses[question.number] if question.number < len(self.pauses) else question.seconds

    def look(self, question: LookUp) -> Sequence[Look]:
        """The look of that round, as it was saved or as its moment shows it."""
        if not self.has_looks:
            wanted = [lookup for asked in question.wanted.values() for lookup in asked]
            return in_tables(self.moments, max(0, question.number), question.position, wanted)
        none: SavedRound = ((), (), ())
        found = []
        for name, snapshot in self.snapshots.items():
            rounds = [*self.looks.get(name, ()), none]
            taken = rounds[min(max(0, question.number), len(rounds) - 1)]
            if question.number == SIFT:
                taken = self.sift.get(name, taken)
            elif question.number >= self.rounds:
                taken = self.quiet.get(name, taken)
            found.append(Look(name, unpack_observations(name, taken[question.position]), snapshot.error))
        return found

    def routes(self, question: Routes) -> Mapping[str, tuple[Mapping[NetnsRef, Routing], HostError | None]]:
        """The routes that were saved, of the hosts that told any."""
        return {name: (self.routing[name], None) for name in question.wanted if name in self.routing}

    def ask(self, question: Ask) -> Mapping[str, tuple[Sequence[Reply], Mapping[int, Process]]]:
        """What became of it when it was asked: what is in a file cannot be asked any more."""
        left = Reply(Unasked.NO_PROBE)
        return {
            name: ([known.get((query.place, query.key), left) for query in queries], {})
            for name, queries in question.wanted.items()
            if (known := self.replies.get(name))
        }

    def explain(self, question: Explain) -> Mapping[str, Explanation]:
        """Counters of after the looks, and processes."""
        return {name: self.after[name] for name in question.inodes if name in self.after}


def recorded(files: Mapping[str, Saved]) -> Recorded:
    """Host -> its snapshot file. Looks at suspects count only where all files are of the run that made them."""
    runs = {saved.run.id if saved.run else name for name, saved in files.items()}
    snapshots = {name: snapshot_of(saved) for name, saved in files.items()}
    moments = {name: moments_of(saved, together=len(runs) == 1) for name, saved in files.items()}
    looked = files if len({saved.run.id for saved in files.values() if saved.run}) <= 1 else {}
    return Recorded(
        snapshots,
        moments,
        {name: saved.looks for name, saved in looked.items()},
        {name: saved.sift for name, saved in looked.items() if saved.sift is not None},
        max((saved.pauses for saved in looked.values()), key=len, default=()),
        {name: counts for name, saved in files.items() if (counts := counts_of(saved, moments[name]))},
        {name: KernelState(saved.before, saved.sysctls) for name, saved in files.items()},
        {name: Explanation(KernelState(saved.after, saved.sysctls), saved.owners) for name, saved in files.items()},
        {name: of_host[-1].snapshot for name, of_host in moments.items()},
        {name: unpack_routing(saved) for name, saved in files.items() if saved.routing},
        {name: unpack_replies(saved) for name, saved in looked.items() if saved.asked},
        {name: quiet_of(saved) for name, saved in looked.items() if saved.quiet or saved.dead},
    )


def quiet_of(saved: Saved) -> SavedRound:
    """The looks at pairs that were silent as those of one round; of two looks before it at one socket, the later."""
    before, between, after = saved.dead or ((), (), ())
    return (*saved.quiet, *before), between, after


def moments_of(saved: Saved, together: bool) -> list[Moment]:
    """The moments of one host. Of a file that does not say when its dumps were made only the first one counts, unless
    all files are of one run.
    """
    snapshot = snapshot_of(saved)
    later = [replace(snapshot, namespaces=namespaces) for namespaces in saved.later]
    if not saved.moments:
        return [Moment(snapshot), *map(Moment, later if together else ())]
    dumps = [snapshot, *later]
    return [
        Moment(
            dumps[min(number, len(dumps) - 1)],
            unpack_observations(saved.host, moment.sockets),
            seconds_of(moment.began),
            seconds_of(moment.ended),
            dumped=number < len(dumps),
        )
        for number, moment in enumerate(saved.moments)
    ]


def seconds_of(moment: str) -> float:
    """A time as files have it -> seconds since 1970. UsageError if it is none."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError as error:
        raise UsageError(f"{moment!r} in a snapshot is not a valid time") from error


def counts_of(saved: Saved, moments: Sequence[Moment]) -> Counts:
    """The byte counters of a host: those of a check, or what the look-ups of its last dump show."""
    if saved.counts or not saved.moments:
        return unpack_counts(saved)
    return counts_in([moment for moment in moments if moment.dumped][-1].observations)


def apart(files: Mapping[str, Saved], moments: Mapping[str, Sequence[Moment]]) -> frozenset[tuple[str, str]]:
    """Pairs of hosts, either order, whose files are of two runs and not of the same time: no look at the one is known
    to lie between two looks at the other.
    """
    found = set()
    for one, other in combinations([name for name, saved in files.items() if saved.error is None], 2):
        run, other_run = files[one].run, files[other].run
        if run is not None and other_run is not None and run.id == other_run.id:
            continue
        if not (is_around(moments[one], moments[other]) and is_around(moments[other], moments[one])):
            found |= {(one, other), (other, one)}
    return frozenset(found)


def judge_saved(files: Mapping[str, Saved], plan: CheckPlan, policy: Policy, elapsed_s: float | None = None) -> Check:
    """The judgement over snapshot files, as the run did it that they come from. `files`: those of the plan's hosts."""
    answers = recorded(files)
    if not answers.replies:
        plan = replace(plan, ask="never")  # what is in files cannot be asked any more
    extra = {name: [address.parse(text) for text in saved.addresses] for name, saved in files.items()}
    inquiry = inquire([plan], dict.fromkeys(files, ()), extra, None if counts_all(files) else WIDE_LIMIT)
    (evidence,) = drive(inquiry, answers).evidence
    notes = notes_of(plan, answers.snapshots, [(name, note) for name, saved in files.items() for note in saved.notes])
    evidence = replace(evidence, notes=notes, elapsed_s=elapsed_s)
    if not answers.has_looks:
        evidence = as_collected(evidence, apart(files, answers.moments), answers.rounds)
    return analyse(plan, evidence, policy)


def counts_all(files: Mapping[str, Saved]) -> bool:
    """Whether files hold byte counters of every pair: of a check that read them, or of all sockets."""
    return any(saved.counts for saved in files.values()) or all(
        saved.moments and not saved.unlooked for saved in files.values() if saved.error is None
    )


def as_collected(evidence: Evidence, apart: frozenset[tuple[str, str]], moments: int) -> Evidence:
    """Evidence of so many moments, with how sure what rests on it can be. `apart`: see `apart`."""
    return replace(
        evidence,
        notes=(how_compared(moments), *evidence.notes) if evidence.suspected else evidence.notes,
        at_most=Confidence.OBSERVED,
        apart=apart if moments > 1 else frozenset(),
        unconfirmed=(ONE_MOMENT,) if moments < 2 else (APART,) if apart else (),
    )


ONE_MOMENT = "one moment of each host shows what may be stuck and not what lasts (halfopen collect takes two)"
APART = (
    "the files were not taken at the same time, so what was closed in between looks the same as what is stuck "
    "(take them together: halfopen collect HOST HOST, or on each host with a longer --settle)"
)
