"""Which network namespaces of a host are its own, and what leads to each.

Any user can make a network namespace and give it whatever addresses he likes (`unshare -Urn`), so an address in one
says nothing by itself. A namespace counts if its user namespace belongs to whoever owns the host's, and a link leads to
it: a veth, or what it stands on, from a namespace that counts, or hardware of its own, which only the host's root can
give away. What was not asked (pasted text) is taken to count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from halfopen import address
from halfopen.model import InterfaceAddress, Link, Namespace, Snapshot
from halfopen.words import plural

LOOPBACK = 1  # the index of `lo` (LOOPBACK_IFINDEX of the kernel)
ROOT = 0
NAMES_SHOWN = 4

NOT_ENTERED = "their other end may be in a network namespace of {host} that could not be entered"

Ways = Mapping[int | None, frozenset[int] | None]
"""Inode of a namespace -> indexes of the host's own links and bridges that lead to it; None where nothing was asked."""


def believed(snapshot: Snapshot) -> Snapshot:
    """A snapshot without the namespaces of other users."""
    kept = tuple(space for space in snapshot.namespaces if not is_foreign(snapshot, space))
    return snapshot if len(kept) == len(snapshot.namespaces) else replace(snapshot, namespaces=kept)


def is_foreign(snapshot: Snapshot, space: Namespace) -> bool:
    """Whether a namespace belongs to a user who is neither root nor the owner of the host's own."""
    own = snapshot.namespaces[0]
    if space is own or space.reach is None or space.reach.owner is None:
        return False
    return space.reach.owner not in (ROOT, own.reach.owner if own.reach else None)


def ways_to(spaces: Sequence[Namespace]) -> Ways:
    """What leads to each namespace of a host, its own first; those that nothing leads to are not there."""
    if not spaces:
        return {}
    own, *others = spaces
    found: dict[int | None, frozenset[int] | None] = {own.netns: frozenset()}
    found.update((space.netns, None) for space in others if space.reach is None or space.reach.links is None)
    found.update((space.netns, frozenset()) for space in others if any(is_hardware(link) for link in links_of(space)))
    known = {space.netns for space in others}
    masters = {link.index: link.master for link in links_of(own)}
    joined: dict[int | None, set[tuple[int | None, int]]] = {}  # namespace -> (another, the link there)
    for space in spaces:
        for link in links_of(space):
            joined.setdefault(space.netns, set()).add((link.joined_netns, link.joined))
            joined.setdefault(link.joined_netns, set()).add((space.netns, link.index))
    growing = [own.netns]
    while growing:
        here = growing.pop()
        for there in {netns for netns, _ in joined.get(here, ())} & known - {own.netns}:
            before = found.get(there)
            more = {link for netns, link in joined[there] if netns == own.netns}
            doors = frozenset(more | {masters.get(link, 0) for link in more}) - {0}
            after = (before or frozenset()) | (doors if here == own.netns else found[here] or frozenset())
            if there not in found or (before is not None and after != before):
                found[there] = after
                growing.append(there)
    return found


def links_of(space: Namespace) -> tuple[Link, ...]:
    """The links of a namespace that lead out of it, as far as they were told."""
    return space.reach.links or () if space.reach else ()


def is_hardware(link: Link) -> bool:
    """Whether an interface is hardware, or what a virtual machine takes for it."""
    return not link.kind and not link.joined


def is_led_to(own: InterfaceAddress, ways: frozenset[int] | None) -> bool:
    """Whether the host's own namespace sends to this address by a link that leads to its namespace."""
    return ways is not None and own.route in ways


def is_linked(own: InterfaceAddress, ways: frozenset[int] | None) -> bool:
    """Whether an address stands on an interface that may be reached from outside its namespace."""
    return ways is None or own.links != (LOOPBACK,)


def unentered(
    links: Iterable[Link], addresses: Iterable[InterfaceAddress], entered: Collection[int | None]
) -> Iterator[Link]:
    """The links of a host's own namespace that lead to one that was not entered, though the host has it.

    A veth that is the way out of a container leads to one as well: it has an address, and belongs to no bridge.
    addresses: those of the host's own namespace. entered: inodes of the namespaces that were read.
    """
    addressed = {index for row in addresses if not address.is_link_local(row.address) for index in row.links}
    for link in links:
        inner = link.master or link.index not in addressed
        if link.kind == "veth" and inner and link.joined_netns not in entered:
            yield link


def unentered_of(snapshot: Snapshot) -> list[Link]:
    """The same of a snapshot."""
    if not snapshot.namespaces:
        return []
    own = snapshot.namespaces[0]
    return list(unentered(links_of(own), own.addresses, {space.netns for space in snapshot.namespaces}))


def gaps_of(snapshot: Snapshot) -> list[str]:
    """Sentences: which namespaces of a host were not read, and which were left out."""
    gaps = []
    hidden = sorted(link.name for link in unentered_of(snapshot))
    if hidden and snapshot.facts is not None and snapshot.facts.sees_namespaces:
        names = ", ".join(hidden[:NAMES_SHOWN]) + (" and others" if len(hidden) > NAMES_SHOWN else "")
        gaps.append(
            f"{plural(len(hidden), 'network namespace')} could not be entered (behind {names}): no process that is "
            "seen from here is in it, so what lives there is not known"
        )
    foreign = [len(space.table) for space in snapshot.namespaces if is_foreign(snapshot, space) and space.table]
    if foreign:
        gaps.append(
            f"{plural(sum(foreign), 'socket')} in {plural(len(foreign), 'network namespace')} of another user left "
            "out: any user can give such a namespace whatever addresses he likes"
        )
    return gaps
