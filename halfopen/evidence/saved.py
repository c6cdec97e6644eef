"""Evidence of a run in files, one a host: versioned, compressed, self-describing, and enough to judge it again.

`halfopen.snapshot/1` is gzip over JSON. Addresses and keys are base64 of their packed bytes, columns of a table are
base64 of their bytes. A file holds what one host said: its first dump, and its answers in every look of every bracket;
or, if nothing was judged, some moments, each with a dump and the sockets that it shows.
`addresses` are those that the inventory said lead to it. Bytes of a host that are not UTF-8 are stored as private-use
characters (see `CARRIED`), because JSON cannot hold them.

Fields may be added, each with a default, so that a file of any version of this schema can be read for ever. Fields
that this version does not know are left out. A word that it does not know (a state, an error code, a collector) is
refused, and the error names its path: otherwise its meaning would be guessed, and a guess be judged.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from halfopen import __version__, address
from halfopen.errors import ErrorCode, HostError, UsageError
from halfopen.model import (
    Absence,
    HostFacts,
    InterfaceAddress,
    Link,
    ListenSocket,
    LocalRoute,
    Namespace,
    NetnsRef,
    Observation,
    Process,
    Reply,
    Rewrites,
    Route,
    RouteQuery,
    Routing,
    Snapshot,
    Socket,
)
from halfopen.plan import CheckPlan
from halfopen.schema.kinds import Timestamp, TransportName
from halfopen.table import CountBlock, Table

SCHEMA = "halfopen.snapshot/1"
LIMIT = 1 << 30  # bytes after decompression


class SavedObservation(msgspec.Struct, frozen=True, array_like=True):
    """The answer to one look-up: a network namespace, the key that was asked for, and a socket or why there is none."""

    netns: int | None
    key: bytes
    absence: Absence | None
    socket: Socket | None


SavedObservations = tuple[SavedObservation, ...]
SavedRound = tuple[SavedObservations, SavedObservations, SavedObservations]


class SavedReply(msgspec.Struct, frozen=True, array_like=True):
    """What became of asking one socket: a network namespace, its key, and the reply."""

    netns: int | None
    key: bytes
    reply: Reply


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """The error that kept a host from answering."""

    code: ErrorCode
    message: str
    hint: str | None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The run that a file comes from: files with one `id` were taken together, by one clock.

    `checks` are those that the run judged, empty where it only collected. `elapsed_s` as its report says.
    """

    id: str
    started_at: Timestamp
    finished_at: Timestamp
    elapsed_s: float | None = None
    checks: tuple[CheckPlan, ...] = ()


class Head(msgspec.Struct, frozen=True, kw_only=True, rename={"schema_": "schema"}):
    """What every version of a file says: its schema, and the halfopen that wrote it."""

    schema_: str
    version: str


class SavedRoute(msgspec.Struct, frozen=True, array_like=True):
    """The route from a local address to a peer's; None if the host has none. `scope`: as in `RouteQuery`."""

    local: bytes
    peer: bytes
    scope: int
    route: Route | None


class SavedRouting(msgspec.Struct, frozen=True, kw_only=True):
    """Routes and interfaces of one network namespace."""

    netns: int | None
    routes: tuple[SavedRoute, ...]
    links: tuple[Link, ...]


class SavedMoment(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a host that was only collected: a look-up of each of its sockets, after a dump.

    `began`, `ended`: of the dump and the look-ups of all hosts of the run, by the clock of the machine that asked them.
    The last of several has no dump: it looks once more for the sockets of the one before, when every host has answered.
    """

    began: Timestamp
    ended: Timestamp
    sockets: SavedObservations


class Saved(Head, frozen=True, kw_only=True):
    """One host's evidence. `looks`: for each bracket, the observations of its first, second and third look.

    `counts`: byte counters of the wide look, for each network namespace that gave them.
    `later`: whole dumps after the first, each begun when every host of the run had ended the one before.
    `notes`: what the run had to say about this host.
    `pauses`: seconds waited before each bracket of `looks`. `sift`: the look before them, at suspects that the dumps
    alone had made; None if there was none, or if the dump is younger.
    `moments`: for the first dump and each of `later`, what look-ups of its sockets showed, and a last one. `unlooked`:
    of how many sockets of a dump at most no look-up was made, because there are too many.
    `routing`: where packets to the peers of sockets go, for each network namespace that told it.
    `asked`: the replies of its sockets that were asked. `quiet`: the look that tells how long pairs which agree were
    silent; `dead`: the look at those of them that did not answer.
    """

    host: str
    transport: TransportName
    taken_at: Timestamp
    facts: HostFacts | None
    error: Said | None
    namespaces: tuple[Namespace, ...]
    addresses: tuple[str, ...] = ()
    looks: tuple[SavedRound, ...] = ()
    counts: tuple[tuple[int | None, tuple[CountBlock, ...]], ...] = ()
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    sysctls: dict[str, int] = {}
    owners: dict[int, Process] = {}
    later: tuple[tuple[Namespace, ...], ...] = ()
    notes: tuple[str, ...] = ()
    run: Run | None = None
    redacted: bool = False
    pauses: tuple[float, ...] = ()
    sift: SavedRound | None = None
    moments: tuple[SavedMoment, ...] = ()
    unlooked: int = 0
    routing: tuple[SavedRouting, ...] = ()
    asked: tuple[SavedReply, ...] = ()
    quiet: SavedObservations = ()
    dead: SavedRound | None = None


def pack_observations(host: str, observations: Mapping[tuple[NetnsRef, bytes], Observation]) -> SavedObservations:
    """The observations of one host, out of those of all hosts."""
    return tuple(
        SavedObservation(
            namespace.netns,
            key,
            found if isinstance(found, Absence) else None,
            found if isinstance(found, Socket) else None,
        )
        for (namespace, key), found in observations.items()
        if namespace.host == host
    )


def unpack_observations(host: str, saved: SavedObservations) -> dict[tuple[NetnsRef, bytes], Observation]:
    """The inverse. Neither a socket nor an absence: the look-up was refused, so the socket is unseen."""
    return {
        (NetnsRef(host, found.netns), found.key): (
            found.socket if found.socket is not None else found.absence or Absence.UNSEEN
        )
        for found in saved
    }


def pack_counts(
    host: str, counts: Mapping[NetnsRef, Sequence[CountBlock]]
) -> tuple[tuple[int | None, tuple[CountBlock, ...]], ...]:
    """The byte counters of one host, by the inode of their network namespace (None: the only one known)."""
    return tuple((namespace.netns, tuple(blocks)) for namespace, blocks in counts.items() if namespace.host == host)


def unpack_counts(saved: Saved) -> dict[NetnsRef, tuple[CountBlock, ...]]:
    """The inverse."""
    return {NetnsRef(saved.host, netns): blocks for netns, blocks in saved.counts}


def pack_routing(host: str, routing: Mapping[NetnsRef, Routing]) -> tuple[SavedRouting, ...]:
    """The routes of one host, out of those of all hosts."""
    return tuple(
        SavedRouting(
            netns=place.netns,
            routes=tuple(
                SavedRoute(query.local, query.peer, query.scope, route) for query, route in found.routes.items()
            ),
            links=tuple(found.links.values()),
        )
        for place, found in routing.items()
        if place.host == host
    )


def unpack_routing(saved: Saved) -> dict[NetnsRef, Routing]:
    """The inverse."""
    return {
        place: Routing(
            {RouteQuery(place, one.local, one.peer, one.scope): one.route for one in found.routes},
            {link.index: link for link in found.links},
        )
        for found in saved.routing
        for place in (NetnsRef(saved.host, found.netns),)
    }


def pack_replies(host: str, replies: Mapping[tuple[NetnsRef, bytes], Reply]) -> tuple[SavedReply, ...]:
    """The replies of one host, out of those of all hosts."""
    return tuple(SavedReply(place.netns, key, reply) for (place, key), reply in replies.items() if place.host == host)


def unpack_replies(saved: Saved) -> dict[tuple[NetnsRef, bytes], Reply]:
    """The inverse."""
    return {(NetnsRef(saved.host, one.netns), one.key): one.reply for one in saved.asked}


def encode(saved: Saved) -> bytes:
    """A file's bytes; the same evidence gives the same bytes."""
    return gzip.compress(to_json(saved), compresslevel=6, mtime=0)


def to_json(saved: Saved) -> bytes:
    """The JSON text of a file."""
    try:
        return msgspec.json.encode(saved)
    except UnicodeEncodeError:  # bytes of a host that are not UTF-8
        return msgspec.json.encode(translated(msgspec.to_builtins(saved, builtin_types=(bytes,)), CARRIED))


def from_json(text: bytes) -> Saved:
    """JSON text -> the evidence. DecodeError of msgspec for what is not such a text."""
    saved = msgspec.json.decode(text, type=Saved)
    if not any(sign in text for sign in CARRIED_UTF8):
        return saved
    plain = translated(
        msgspec.to_builtins(saved, builtin_types=(bytes,)), {there: here for here, there in CARRIED.items()}
    )
    return msgspec.convert(plain, Saved, builtin_types=(bytes,))


def translated(value: Any, table: Mapping[int, int]) -> Any:
    """A value with the characters of every string in it replaced by a table, as str.translate does."""
    if isinstance(value, str):
        return value.translate(table)
    if isinstance(value, dict):
        return {translated(key, table): translated(item, table) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [translated(item, table) for item in value]
    return value


def decode(data: bytes, name: str) -> Saved:
    """A file's bytes -> what it holds. UsageError names the file and what is wrong in it."""
    hint = f"it should be {SCHEMA}"
    try:
        unpacker = zlib.decompressobj(wbits=31)
        text = unpacker.decompress(data, LIMIT)
        if unpacker.unconsumed_tail:
            raise UsageError(f"{name}: more than {LIMIT >> 30} GiB when unpacked", "is it a snapshot of halfopen?")
        if not unpacker.eof:
            raise UsageError(f"{name}: the file is cut off", "copy it again")
        if unpacker.unused_data:
            raise UsageError(f"{name}: there is more data after the snapshot", "each snapshot needs a file of its own")
        head = check_schema(msgspec.json.decode(text, type=Head), name)
        hint = f"halfopen {head.version} wrote it and reads it; this is {__version__}"
        saved = from_json(text)
        refuse_odd_sizes(saved, name)
        return saved
    except zlib.error as error:
        raise UsageError(
            f"{name} is not a valid snapshot: {error}", "snapshots are written by halfopen collect"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{name}: {error}", hint) from error


def refuse_odd_sizes(saved: Saved, name: str) -> None:
    """UsageError for what can be no address, no key and no pairs of keys: msgspec knows no such sizes."""
    for text in saved.addresses:
        try:
            address.parse(text)
        except ValueError as error:
            raise UsageError(f"{name}: addresses: {error}", "the file was changed after halfopen wrote it") from error
    for value in parts_of(saved):
        for field, fits in SIZES.get(type(value), {}).items():
            held = getattr(value, field)
            for one in held if isinstance(held, tuple) else (held,):
                if one is not None and not fits(len(one)):
                    raise UsageError(
                        f"{name}: {type(value).__name__}.{field} has {len(one)} bytes, which is no size of it",
                        "the file was changed after halfopen wrote it",
                    )


def parts_of(value: Any) -> Iterator[Any]:
    """All structs below one. Of leaves the fields are left out: tables check themselves, and others hold none."""
    if isinstance(value, tuple):
        for one in value:
            yield from parts_of(one)
    elif isinstance(value, msgspec.Struct):
        yield value
        if not isinstance(value, LEAVES):
            for field in value.__struct_fields__:
                yield from parts_of(getattr(value, field))


def snapshot_of(saved: Saved) -> Snapshot:
    """A file -> the first dump of its host, or the error that kept it from answering."""
    error = HostError(saved.error.code, saved.error.message, saved.error.hint) if saved.error else None
    return Snapshot(saved.host, saved.facts, saved.namespaces, error=error, transport=saved.transport)


def run_of(files: Sequence[Saved | None]) -> Run | None:
    """The run that all these files come from (None: a file of another kind), if they are all that its checks need."""
    runs = [file.run for file in files if file is not None and file.run is not None]
    if len(runs) < len(files) or len({run.id for run in runs}) != 1 or not runs[0].checks:
        return None
    here = {file.host for file in files if file is not None}
    needed = {name for plan in runs[0].checks for name in (*plan.clients, *plan.servers, *plan.nat)}
    return runs[0] if here >= needed else None


AnyHead = TypeVar("AnyHead", bound=Head)


def check_schema(head: AnyHead, name: str) -> AnyHead:
    """The head, if this version can read its schema; else UsageError."""
    if head.schema_ != SCHEMA:
        raise UsageError(
            f"{name} is {head.schema_!r}, this halfopen reads {SCHEMA}",
            f"halfopen {head.version} wrote it and reads it; this is {__version__}",
        )
    return head


CARRIED = {0xDC00 + byte: 0x10FF00 + byte for byte in range(0x80, 0x100)}
"""Lone surrogates, which stand for bytes that are not UTF-8 (surrogateescape) -> the last private-use characters."""
CARRIED_UTF8 = (b"\xf4\x8f\xbe", b"\xf4\x8f\xbf", b"\\udbff", b"\\uDBFF")

LEAVES = (Socket, ListenSocket, Process, Table, CountBlock, Rewrites, CheckPlan)


def is_address(size: int) -> bool:
    """Whether an address has so many bytes."""
    return size in (4, 16)


def is_key(size: int) -> bool:
    """Whether a key has so many bytes."""
    return size in (address.V4_KEY, address.V6_KEY)


SIZES: dict[type, dict[str, Callable[[int], bool]]] = {
    Socket: {"key": is_key},
    SavedObservation: {"key": is_key},
    ListenSocket: {"address": is_address},
    InterfaceAddress: {"address": is_address},
    LocalRoute: {"address": is_address},
    SavedRoute: {"local": is_address, "peer": is_address},
    Route: {"gateway": is_address},
    Rewrites: {
        "narrow": lambda size: size % (2 * address.V4_KEY) == 0,
        "wide": lambda size: size % (2 * address.V6_KEY) == 0,
        "nowhere": is_address,
    },
}
"""Struct -> field -> whether its bytes, or those of each of a tuple, may be so many."""
