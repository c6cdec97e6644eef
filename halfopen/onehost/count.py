"""A census of one host -> the report of `count`: every socket in exactly one row, with the processes that hold it.

Sockets that several processes share make one row with all of them, so that rows add up to the host's sockets. What
waits in an accept queue has no descriptor and no process: it stands with the holders of its listener, set apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct, field

from halfopen import __version__, address
from halfopen.errors import ErrorCode, HostError, UsageError
from halfopen.evidence.probe.census import Census, Group, Listening
from halfopen.judge.assembly.check import stamp
from halfopen.judge.signs.case import is_full
from halfopen.model import HostFacts, Process
from halfopen.schema.count import SCHEMA, AcceptQueue, CountReport, Direction, Holder, HolderKind, Lsof, Row
from halfopen.schema.report import Tool
from halfopen.tcp import State
from halfopen.words import plural, ranges

MANY_PORTS, FEW_SOCKETS = 8, 3


class Asked(Struct, frozen=True):
    """What the user wanted to know, and of whom."""

    host: str
    transport: str
    pid: int | None
    ports: tuple[int, ...]
    taken_at: datetime
    note: str | None = None


class Held(Struct, frozen=True, order=True):
    """Who holds sockets: what rows are made by, beside direction and port."""

    holder_kind: HolderKind
    pids: tuple[int, ...] = ()
    uid: int | None = None


class Sum(Struct):
    """A row that grows."""

    states: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    descriptors: int = 0


def refuse(census: Census, asked: Asked) -> None:
    """Raises where nothing true can be said of the process that was asked for."""
    if asked.pid is None:
        return
    if not census.exists:
        raise UsageError(
            f"{asked.host} has no process {asked.pid}, or hides it from this user",
            f"halfopen count {asked.host} shows who holds sockets there",
        )
    if census.closed:
        raise HostError(
            ErrorCode.NEEDS_PRIVILEGE,
            f"{asked.host}: pid {asked.pid} belongs to another user, and what it holds is shown only to root",
            "sudo = true for this host in the inventory, or sudo halfopen for local",
        )
    if census.elsewhere:
        raise HostError(
            ErrorCode.UNSUPPORTED,
            f"{asked.host}: pid {asked.pid} is in another network namespace, most likely that of a container",
            f'a host with transport = "exec" and command = ["nsenter", "-t", "{asked.pid}", "-n", "sh"] looks there',
        )


def tally_of(census: Census, facts: HostFacts, netns: int | None, asked: Asked) -> CountReport:
    """The whole report."""
    blind = not facts.privileged
    sums: dict[tuple[Held, Direction, int | None], Sum] = {}
    for group in census.groups:
        held = holder_of(group, census, blind)
        if asked.pid is not None and asked.pid not in held.pids:
            continue
        row = sums.setdefault((held, Direction.IN if group.inbound else Direction.OUT, group.port), Sum())
        row.states[group.state] += group.sockets
        if group.waiting:
            row.waiting[group.state] += group.sockets
        row.descriptors += group.descriptors
    listeners = [listener for listener in census.listeners if asked.pid is None or asked.pid in listener.pids]
    for listener in listeners:
        row = sums.setdefault((listener_holder(listener, blind), Direction.IN, listener.socket.port), Sum())
        row.states[State.LISTEN] += 1
        row.descriptors += listener.descriptors
    rows = sorted((row_of(*key, found, census) for key, found in folded(sums).items()), key=order)
    states = total(row.states for row in rows)
    queued = sum(sum(row.accept_queue.values()) for row in rows)
    return CountReport(
        schema_=SCHEMA,
        tool=Tool(name="halfopen", version=__version__),
        host=asked.host,
        hostname=facts.hostname,
        kernel=facts.kernel,
        transport=asked.transport,
        collector=facts.collector,
        privileged=bool(facts.privileged),
        taken_at=stamp(asked.taken_at),
        netns=netns,
        pid=asked.pid,
        ports=asked.ports,
        headline=headline(asked, sum(states.values()), queued),
        sockets=sum(states.values()),
        states=states,
        accept_queue=queued,
        rows=tuple(rows),
        listeners=tuple(sorted((queue_of(listener, census, blind) for listener in listeners), key=fullest)),
        lsof=lsof(asked, rows),
        notes=tuple(notes(census, facts, asked, rows, listeners)),
    )


def holder_of(group: Group, census: Census, blind: bool) -> Held:
    """Who holds the sockets of a group; of what waits in an accept queue, who holds the listener."""
    if group.pids:
        return Held(HolderKind.PROCESS, group.pids)
    if group.waiting:
        found = waits_for(group, census.listeners)
        pids = tuple(sorted({pid for listener in found for pid in listener.pids}))
        return Held(HolderKind.PROCESS, pids) if pids else listener_holder(found[0], blind) if found else NOBODY
    if not group.has_inode:
        return NOBODY
    return Held(HolderKind.OTHER_USERS if blind else HolderKind.NOT_FOUND, uid=group.uid)


def listener_holder(listener: Listening, blind: bool) -> Held:
    """Who holds a listener."""
    if listener.pids:
        return Held(HolderKind.PROCESS, listener.pids)
    return Held(HolderKind.OTHER_USERS if blind else HolderKind.NOT_FOUND, uid=listener.socket.uid)


def waits_for(group: Group, listeners: Iterable[Listening]) -> list[Listening]:
    """The listeners whose accept queue a group may wait in: those with its family, port and very address, else the
    wildcard ones.

    A socket of a dual-stack listener is of the listener's family. More than one share the port by SO_REUSEPORT, and
    the kernel does not say which of them has taken a socket.
    """
    if group.waiting is None:
        return []
    family, local = group.waiting
    wanted = (group.port, family)
    same = [listener for listener in listeners if (listener.socket.port, listener.socket.family) == wanted]
    exact = [listener for listener in same if listener.socket.address == local]
    return exact or [listener for listener in same if address.is_unspecified(listener.socket.address)]


def folded(sums: Mapping[tuple[Held, Direction, int | None], Sum]) -> dict[tuple[Held, Direction, int | None], Sum]:
    """The same, where a holder has many ports with those of few sockets together under None.

    Ephemeral ports of peers would otherwise be a row each: a listener that has gone leaves nothing to know them by.
    """
    ports = Counter((held, direction) for held, direction, _ in sums)
    found: dict[tuple[Held, Direction, int | None], Sum] = {}
    for (held, direction, port), part in sums.items():
        few = ports[held, direction] > MANY_PORTS and part.states.total() < FEW_SOCKETS and not part.waiting
        row = found.setdefault((held, direction, None if few and not part.states[State.LISTEN] else port), Sum())
        row.states += part.states
        row.waiting += part.waiting
        row.descriptors += part.descriptors
    return found


def row_of(held: Held, direction: Direction, port: int | None, found: Sum, census: Census) -> Row:
    """One row, whole."""
    return Row(
        holder_kind=held.holder_kind,
        holders=holders(held.pids, census),
        uid=held.uid,
        direction=direction,
        port=port,
        sockets=found.states.total(),
        states=dict(found.states),
        accept_queue=dict(found.waiting),
        descriptors=found.descriptors,
    )


def queue_of(listener: Listening, census: Census, blind: bool) -> AcceptQueue:
    """A listener with its accept queue."""
    held = listener_holder(listener, blind)
    return AcceptQueue(
        address=address.show(listener.socket.address),
        port=listener.socket.port,
        holder_kind=held.holder_kind,
        holders=holders(held.pids, census),
        uid=held.uid,
        queue=listener.socket.queue,
        backlog=listener.socket.backlog,
        full=is_full(listener.socket),
    )


def holders(pids: Iterable[int], census: Census) -> tuple[Holder, ...]:
    """Processes by their pids; one that ended before its name was read has none."""
    found = [census.processes.get(pid) or Process(pid, "") for pid in pids]
    return tuple(
        Holder(pid=process.pid, process=process.name or None, command=process.command, unit=process.unit)
        for process in found
    )


def order(row: Row) -> tuple[int, int, int, int]:
    """Rows with processes first, the most sockets first."""
    pid = row.holders[0].pid if row.holders else row.uid or 0
    return HOLDER_KINDS.index(row.holder_kind), -row.sockets, pid, row.port or 0


def fullest(queue: AcceptQueue) -> tuple[bool, int, int, str]:
    """Listeners that take no more first, then the longest queues."""
    return not queue.full, -(queue.queue or 0), queue.port, queue.address


def headline(asked: Asked, sockets: int, queued: int) -> str:
    """The answer in one line."""
    where = " or ".join(f":{port}" for port in ranges(asked.ports))
    of = (f" of pid {asked.pid}" if asked.pid is not None else "") + (f" on {where}" if where else "")
    waiting = f", {queued} of them in an accept queue, where no lsof sees them" if queued else ""
    return f"{asked.host}: {plural(sockets, 'TCP socket')}{of}{waiting}"


def lsof(asked: Asked, rows: Iterable[Row]) -> Lsof:
    """What `lsof` shows to the same user: a line for each descriptor that it may see, and no socket without one."""
    ports = f":{','.join(ranges(asked.ports))}" if asked.ports else ""
    who = f" -a -p {asked.pid}" if asked.pid is not None else ""
    hidden: Counter[str] = Counter()
    shown = lines = 0
    for row in rows:
        queued = sum(row.accept_queue.values())
        hidden["accept queue"] += queued
        lines += row.descriptors
        if row.holder_kind is HolderKind.NOBODY:
            hidden.update({state if state in KERNEL_ONLY else f"{state} orphan": n for state, n in row.states.items()})
        elif row.holder_kind is HolderKind.PROCESS:
            shown += row.sockets - queued
        else:
            hidden[row.holder_kind] += row.sockets - queued
    hidden += Counter()  # without zeros
    return Lsof(command=f"lsof -nP{who} -iTCP{ports}", sockets=shown, lines=lines, hidden=dict(hidden))


def notes(
    census: Census, facts: HostFacts, asked: Asked, rows: Iterable[Row], listeners: Iterable[Listening]
) -> list[str]:
    """What a reader must know to read the numbers right."""
    found = [f"{asked.host}: {asked.note}"] if asked.note else []
    found += facts.gaps
    by_holder = Counter[HolderKind]()
    for row in rows:
        by_holder[row.holder_kind] += row.sockets
    if others := by_holder[HolderKind.OTHER_USERS]:
        found.append(
            f"{plural(others, 'socket')} of other users: their processes are named only to root (sudo = true for this "
            "host in the inventory, or sudo halfopen for local)"
        )
    if lost := by_holder[HolderKind.NOT_FOUND]:
        found.append(
            f"{plural(lost, 'socket')} with a descriptor but no visible process: held by the kernel or in "
            "another PID namespace, or opened while the processes were read"
            + (f"; {census.closed} processes could not be looked into" if census.closed else "")
        )
    shared = sorted({listener.socket.port for listener in listeners if len(siblings(listener, census)) > 1})
    if shared and any(row.accept_queue for row in rows if row.port in shared):
        found.append(
            f"several listeners share port {', '.join(ranges(shared))} (SO_REUSEPORT): the kernel does not say in "
            "whose queue a socket waits; the length of each queue is exact"
        )
    if census.elsewhere:
        found.append(
            f"{plural(census.elsewhere, 'other network namespace')} of this host (containers, most likely) not counted"
        )
    if asked.pid is not None:
        found.append(f"only pid {asked.pid} was looked into: others may share its sockets")
    return found


def siblings(listener: Listening, census: Census) -> list[Listening]:
    """The listeners with the same address and port, itself among them."""
    mark = (listener.socket.port, listener.socket.family, listener.socket.address)
    return [
        other for other in census.listeners if (other.socket.port, other.socket.family, other.socket.address) == mark
    ]


def total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sum of counts by state."""
    found: Counter[str] = Counter()
    for count in counts:
        found.update(count)
    return dict(found)


NOBODY = Held(HolderKind.NOBODY)
KERNEL_ONLY = (State.TIME_WAIT, State.SYN_RECV)
HOLDER_KINDS = (HolderKind.PROCESS, HolderKind.OTHER_USERS, HolderKind.NOT_FOUND, HolderKind.NOBODY)
