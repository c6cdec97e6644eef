"""Files for `analyse`: which host and which moment each is of, and the judgement where one of them is pasted text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from halfopen import address
from halfopen.environment import Environment
from halfopen.errors import UsageError
from halfopen.evidence.recognise import LIMIT, recognise
from halfopen.evidence.saved import Saved, check_schema, decode, snapshot_of
from halfopen.evidence.told import Told
from halfopen.findings import Check
from halfopen.inventory import CheckPlan
from halfopen.judge.analyse import Policy, analyse
from halfopen.judge.case import HostEvidence
from halfopen.judge.join import conclude, join
from halfopen.judge.match import Matching
from halfopen.judge.moments import Moment, brackets, dialled, with_addresses
from halfopen.judge.rounds import through
from halfopen.judge.standing import Evidence
from halfopen.model import HostFacts, Snapshot
from halfopen.words import plural

GZIP = b"\x1f\x8b"
PROBLEMS_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One file: of which host, and what it holds; `saved` or `told`."""

    source: str
    host: str
    saved: Saved | None = None
    told: Told | None = None

    @cached_property
    def snapshot(self) -> Snapshot:
        """What it says of its host."""
        if self.saved is not None:
            return snapshot_of(self.saved)
        assert self.told is not None
        facts = HostFacts("", "", None, None, None, self.told.collector, gaps=self.told.gaps)
        return Snapshot(self.host, facts, (self.told.namespace(),), transport="file")


def exhibits(
    files: Sequence[str], clients: Sequence[str], servers: Sequence[str], environment: Environment
) -> tuple[list[Exhibit], list[Exhibit]]:
    """Arguments -> the files of each role, each read once. Texts of one role are moments of one host."""
    if clients or servers:
        names = (list(clients or files), list(servers or files))
    else:
        names = (list(files[:1]), list(files[1:] or files[:1]))
    if not names[0] or not names[1] or (clients and servers and files):
        raise UsageError(
            "name the client's file and the server's, and no other",
            "halfopen analyse CLIENT SERVER, or --client FILE --server FILE",
        )
    read = {name: read_file(name, environment) for name in dict.fromkeys((*names[0], *names[1]))}
    texts = [[name for name in side if isinstance(read[name], Told)] for side in names]
    if not clients and not servers and len(texts[1]) > 1:
        raise UsageError(
            "with more than two texts, say whose each is",
            f"halfopen analyse --client {files[0]} --server {files[1]} ...",
        )
    titles = [title(side, read) for side in names]
    if titles[0] == titles[1] and names[0] != names[1]:
        titles = ["client", "server"]
    made: dict[str, Exhibit] = {}
    for side, host in zip(names, titles, strict=True):
        for name in side:
            found = read[name]
            if isinstance(found, Saved):
                made.setdefault(name, Exhibit(name, found.host, saved=found))
            else:
                made.setdefault(name, Exhibit(name, host, told=found))
    return [made[name] for name in names[0]], [made[name] for name in names[1]]


def title(names: Sequence[str], read: Mapping[str, Saved | Told]) -> str:
    """What the host of one role's texts is called: as a snapshot beside them says, else as their first file."""
    hosts = {one.host for name in names if isinstance(one := read[name], Saved)}
    texts = [name for name in names if isinstance(read[name], Told)]
    if texts and len(hosts) > 1:
        raise UsageError(
            f"{texts[0]} could be of any of {', '.join(sorted(hosts))}", "analyse it with the snapshots of one host"
        )
    if hosts or not texts:
        return min(hosts)
    return "stdin" if texts[0] == "-" else Path(texts[0]).stem or texts[0]


def snapshot_file(name: str, environment: Environment) -> Saved:
    """One file that must be a snapshot, because no text tells what it is wanted for."""
    found = read_file(name, environment)
    if not isinstance(found, Saved):
        raise UsageError(f"{name} is no snapshot, and nothing else tells what a host translates", "halfopen collect")
    return found


def read_file(name: str, environment: Environment) -> Saved | Told:
    """One file, or stdin as `-`."""
    try:
        data = from_stdin(environment) if name == "-" else (environment.folder / name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from error
    if data.startswith(GZIP):
        return check_schema(decode(data, name), name)
    return recognise(data, "stdin" if name == "-" else name)


def from_stdin(environment: Environment) -> bytes:
    """What is piped in."""
    raw = getattr(environment.stdin, "buffer", None)
    return raw.read(LIMIT + 1) if raw is not None else environment.stdin.read().encode("utf-8", "surrogateescape")


def judge_moments(
    files: Sequence[Exhibit], plan: CheckPlan, policy: Policy, addresses: Mapping[str, Sequence[str]]
) -> Check:
    """The judgement over one moment of each host, or two. `addresses`: host -> what an inventory says leads to it."""
    by_host: dict[str, list[Exhibit]] = {}
    for one in dict.fromkeys(files):
        by_host.setdefault(one.host, []).append(one)
    extra = {
        name: [address.parse(text) for text in (*addresses.get(name, ()), *(some[0].saved or NOTHING_SAID).addresses)]
        for name, some in by_host.items()
    }
    moments = {name: [moment_of(one) for one in some] for name, some in by_host.items()}
    snapshots = {name: first_of(some) for name, some in moments.items()}
    notes = [note for some in by_host.values() for one in some for note in notes_of(one)]
    guessed = False
    for name in plan.servers:
        if by_host[name][0].told is None:
            continue
        owned = {
            one.address for snapshot in snapshots.values() for space in snapshot.namespaces for one in space.addresses
        }
        owned |= {packed for some in extra.values() for packed in some}
        taken, doubts = dialled([snapshots[one] for one in plan.clients], snapshots[name], plan.ports, owned)
        snapshots[name] = with_addresses(snapshots[name], [one.packed for one in taken])
        guessed = guessed or bool(taken)
        notes += doubts
        notes += [
            f"{name}: {address.show(one.packed)} is taken for its address, because it listens on every address at port "
            f"{one.port} and no other is dialled there"
            for one in taken
        ]
    matching = conclude(plan, snapshots, extra, join(plan, snapshots, extra))
    looks = brackets(moments, matching.suspects)
    # With an address that was guessed, no number of moments makes more than a guess of it.
    suspects, used = through(matching.suspects, looks[:1] if guessed else looks)
    evidence = Evidence(
        snapshots,
        replace(matching, suspects=tuple(suspects)),
        used,
        {name: host_evidence(name, some) for name, some in by_host.items()},
        [how_compared(len(looks)), *notes],
        missing=nothing_compared(matching, plan),
    )
    return analyse(plan, evidence, policy)


def moment_of(one: Exhibit) -> Moment:
    """What a file says of its moment."""
    return Moment(one.snapshot, one.told.sockets if one.told is not None else {})


def first_of(moments: Sequence[Moment]) -> Snapshot:
    """The first moment of a host, with the addresses that any of its moments shows."""
    later = [one for moment in moments[1:] for space in moment.snapshot.namespaces for one in space.addresses]
    known = {one.address for space in moments[0].snapshot.namespaces for one in space.addresses}
    return with_addresses(moments[0].snapshot, sorted({one.address for one in later} - known))


def host_evidence(name: str, files: Sequence[Exhibit]) -> HostEvidence:
    """What the files of one host say beside its connections."""
    facts = files[0].snapshot.facts
    saved = files[0].saved or NOTHING_SAID
    holders = {handle: who for one in files if one.told is not None for handle, who in one.told.holders.items()}
    return HostEvidence(name, facts, saved.before, saved.after, saved.sysctls, saved.owners, holders)


def notes_of(one: Exhibit) -> list[str]:
    """What a reader must know of one file: the lines that were not understood, what it cannot tell, its addresses."""
    if one.told is None:
        return [f"{one.host}: {gap}" for gap in (one.saved.facts.gaps if one.saved and one.saved.facts else ())]
    problems = sorted(one.told.problems, key=lambda problem: not problem.hides)
    notes = [
        f"{one.source} line {problem.line}: {problem.why}: {problem.text}" for problem in problems[:PROBLEMS_SHOWN]
    ]
    if len(problems) > PROBLEMS_SHOWN:
        notes.append(f"{one.source}: {plural(len(problems) - PROBLEMS_SHOWN, 'line')} more not understood")
    notes += [f"{one.host}: {gap}" for gap in one.told.gaps]
    own = [address.show(packed) for packed in one.told.addresses()]
    shown = ", ".join(own[:6]) + (f" and {len(own) - 6} more" if len(own) > 6 else "")
    notes.append(f"{one.host}: {one.told.form} shows no addresses of interfaces; its sockets have {shown or 'none'}")
    return notes


def how_compared(moments: int) -> str:
    """How sure this can be."""
    if moments > 1:
        return f"{moments} moments of each host were compared, and only what is in all of them is told"
    return (
        "one moment of each host was compared: what opened or closed between the two looks the same as what is stuck. "
        "Take both again a few seconds later and give all four: --client A1 --client A2 --server B1 --server B2"
    )


def nothing_compared(matching: Matching, plan: CheckPlan) -> tuple[str, ...]:
    """Why nothing can be said where no connection has both addresses on these hosts: it may be that none is known."""
    if matching.suspects or matching.agreeing or matching.unjudged:
        return ()
    strays = sorted(matching.external.items(), key=lambda item: -item[1])
    where = "; ".join(f"{host} has {count} to {peer}" for (host, peer), count in strays[:3])
    return (
        f"nothing could be compared: no connection of {plan.clients[0]} leads to a known address of {plan.servers[0]}"
        + (f" ({where})" if where else ""),
    )


NOTHING_SAID = Saved(
    schema_="", version="", host="", transport="", taken_at="", facts=None, error=None, namespaces=(), owners={}
)
