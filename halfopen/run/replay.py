"""Files answer the questions of an inquiry: the looks that a check saved, or tables that were taken at some moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from halfopen import address
from halfopen.errors import HostError
from halfopen.evidence.saved import Saved, SavedRound, snapshot_of, unpack_counts, unpack_observations
from halfopen.judge.assembly.check import analyse, notes_of
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.confirm.byte_counters import WIDE_LIMIT, Counts
from halfopen.judge.confirm.dumps import Moment, how_compared, in_tables, number_of_moments
from halfopen.judge.inquiry import drive, inquire
from halfopen.judge.questions import (
    Ask,
    Baseline,
    ByteCounts,
    Dump,
    Explain,
    Explanation,
    KernelState,
    LookUp,
    Pause,
    Position,
    Routes,
    Snapshots,
    Translations,
)
from halfopen.model import Look, NetnsRef, Process, Reply, Routing
from halfopen.plan import CheckPlan
from halfopen.schema.report import Check


@dataclass(frozen=True, slots=True)
class Recorded:
    """What files hold of each host, by its name. Where there are no `looks`, the tables of `moments` are read instead.

    `looks`: for each round, the observations of its first, second and third look.
    """

    snapshots: Snapshots
    moments: Mapping[str, Sequence[Moment]]
    looks: Mapping[str, Sequence[SavedRound]] = field(default_factory=dict)
    counts: Mapping[str, Counts] = field(default_factory=dict)
    before: Mapping[str, KernelState] = field(default_factory=dict)
    after: Mapping[str, Explanation] = field(default_factory=dict)

    @property
    def has_looks(self) -> bool:
        """Whether exact look-ups were saved."""
        return any(self.looks.values())

    @property
    def rounds(self) -> int:
        """How many rounds of looks there are, or moments that all hosts have."""
        return max(map(len, self.looks.values())) if self.has_looks else number_of_moments(self.moments)

    def dump(self, question: Dump) -> Snapshots:
        """The first dump of each host, the same however often it is asked for."""
        return {name: self.snapshots[name] for name in question.ports}

    def translations(self, question: Translations) -> Snapshots:
        """What translated was saved with the first dump."""
        return question.snapshots

    def baseline(self, question: Baseline) -> Mapping[str, KernelState]:
        """Counters of before the looks."""
        return {name: self.before[name] for name in question.hosts if name in self.before}

    def byte_counts(self, question: ByteCounts) -> Mapping[str, tuple[Counts, HostError | None]]:
        """The byte counters that were saved, of the hosts that gave any."""
        return {name: (self.counts[name], None) for name in question.asks if name in self.counts}

    def pause(self, question: Pause) -> bool:
        """Whether the files hold a further round."""
        return question.number < self.rounds

    def look(self, question: LookUp) -> Sequence[Look]:
        """The look of that round, as it was saved or as the tables of its moment show it."""
        if not self.has_looks:
            wanted = [lookup for asked in question.wanted.values() for lookup in asked]
            return in_tables(self.moments, question.number, question.position is Position.AFTER, wanted)
        none: SavedRound = ((), (), ())
        found = []
        for name, snapshot in self.snapshots.items():
            rounds = self.looks.get(name, ())
            packed = (rounds[question.number] if question.number < len(rounds) else none)[question.position]
            found.append(Look(name, unpack_observations(name, packed), snapshot.error))
        return found

    def routes(self, _: Routes) -> Mapping[str, tuple[Mapping[NetnsRef, Routing], HostError | None]]:
        """None: files hold no routes."""
        return {}

    def ask(self, _: Ask) -> Mapping[str, tuple[Sequence[Reply], Mapping[int, Process]]]:
        """Nothing: what is in a file cannot be asked any more."""
        return {}

    def explain(self, question: Explain) -> Mapping[str, Explanation]:
        """Counters of after the looks, and processes."""
        return {name: self.after[name] for name in question.inodes if name in self.after}


def recorded(files: Mapping[str, Saved]) -> Recorded:
    """Host -> its snapshot file. Several tables of a host count as moments only where one run took those of all."""
    together = len({saved.run.id if saved.run else name for name, saved in files.items()}) == 1
    snapshots = {name: snapshot_of(saved) for name, saved in files.items()}
    later = {name: saved.later if together else () for name, saved in files.items()}
    return Recorded(
        snapshots,
        {
            name: [Moment(snapshot, {}), *(Moment(replace(snapshot, namespaces=spaces), {}) for spaces in later[name])]
            for name, snapshot in snapshots.items()
        },
        {name: saved.looks for name, saved in files.items()},
        {name: unpack_counts(saved) for name, saved in files.items() if saved.counts},
        {name: KernelState(saved.before, saved.sysctls) for name, saved in files.items()},
        {name: Explanation(KernelState(saved.after, saved.sysctls), saved.owners) for name, saved in files.items()},
    )


def judge_saved(files: Mapping[str, Saved], plan: CheckPlan, policy: Policy, elapsed_s: float | None = None) -> Check:
    """The judgement over snapshot files, as the run did it that they come from. `files`: those of the plan's hosts."""
    answers = recorded(files)
    plan = replace(plan, ask="never")  # what is in files cannot be asked any more
    extra = {name: [address.parse(text) for text in saved.addresses] for name, saved in files.items()}
    inquiry = inquire([plan], dict.fromkeys(files, ()), extra, None if answers.counts else WIDE_LIMIT)
    (evidence,) = drive(inquiry, answers).evidence
    notes = notes_of(plan, answers.snapshots, [(name, note) for name, saved in files.items() for note in saved.notes])
    if evidence.suspected and not answers.has_looks:
        notes = (how_compared(answers.rounds), *notes)
    return analyse(plan, replace(evidence, notes=notes, elapsed_s=elapsed_s), policy)
