"""The sentences of the report: the headline of a check, and what a group of findings means, as tables of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from halfopen import address
from halfopen.schema.report import Finding, HostPair, HostReport, Severity, Verdict
from halfopen.words import plural


def target(clients: Sequence[str], servers: Sequence[str], ports: Iterable[int]) -> str:
    """`web1 -> db1:5432`, or `3 hosts -> db1` for a fleet."""
    sides = [names[0] if len(names) == 1 else plural(len(names), "host") for names in (clients, servers)]
    found = sorted(set(ports))
    return f"{sides[0]} -> {sides[1]}" + (f":{found[0]}" if len(found) == 1 else "")


def headline_of_findings(findings: Sequence[Finding], where: str) -> str:
    """`3999 half-open connections web1 -> db1:5432, all missing on the server; 1001 more were never accepted`."""
    grave = [one for one in findings if one.severity is Severity.CRITICAL]
    rest = [one for one in findings if one.severity is not Severity.CRITICAL]
    if not grave:
        counts = Counter(one.verdict for one in rest).most_common()
        first = f"{plural(counts[0][1], 'connection')} {where} {AFTER_COUNT[counts[0][0]][counts[0][1] != 1]}"
        return "; ".join([first, *(more(verdict, count) for verdict, count in counts[1:])])
    parts = Counter(one.verdict for one in grave).most_common()
    if len(parts) == 1:
        how = f"{'all ' if len(grave) > 1 else ''}{SHORT[parts[0][0]]}"
    else:
        how = ", ".join(f"{count} {SHORT[verdict]}" for verdict, count in parts)
    head = f"{plural(len(grave), 'half-open connection')} {where}, {how}"
    return "; ".join(
        [head, *(more(verdict, count) for verdict, count in Counter(o.verdict for o in rest).most_common())]
    )


def worst_pairs(findings: Iterable[tuple[str, str, Severity]]) -> tuple[HostPair, ...]:
    """Findings as (client's host, server's host, severity) -> pairs of hosts, those with the gravest and most first."""
    counts: dict[tuple[str, str], Counter[Severity]] = {}
    for client, server, severity in findings:
        counts.setdefault((client, server), Counter())[severity] += 1
    ranked = sorted(counts.items(), key=lambda one: ([-one[1][severity] for severity in Severity], one[0]))
    return tuple(
        HostPair(client=client, server=server, **{str(severity): count[severity] for severity in Severity})
        for (client, server), count in ranked
    )


def more(verdict: Verdict, count: int) -> str:
    """The part of a headline about a lesser verdict."""
    return f"{count} more {AFTER_COUNT[verdict][count != 1]}"


def meaning(verdict: Verdict, client: str | None, server: str | None) -> str:
    """What a verdict says of the two hosts, in one clause."""
    return MEANING[verdict].format(client=client or "the client", server=server or "the server")


def nothing_compared(
    where: str, hosts: Sequence[HostReport], strays: Sequence[tuple[str, str, int]], ports: Sequence[int]
) -> tuple[str, str]:
    """Headline and advice where no connection has both ends on the hosts. `strays`: host, peer, count elsewhere."""
    names = list(dict.fromkeys(one.name for one in hosts))
    to_port = [(host, peer, count) for host, peer, count in strays if not ports or port_of(peer) in ports]
    if not to_port:
        what = f" to port {', '.join(map(str, ports))}" if ports else ""
        return (
            f"clean, but nothing was compared  {where}: there is no connection{what} "
            + (f"between {' and '.join(names)}" if len(names) > 1 else f"from {names[0]} to itself"),
            "if there should be one, look whether the port is right; for CI, --require-connections 1",
        )
    host, peer, count = max(to_port, key=lambda one: one[2])
    shown = peer if not ports else peer.rpartition(":")[0].strip("[]")
    others = " or ".join(name for name in names if name != host) or host
    most = f"all to {shown}" if len(to_port) == 1 else f"most to {shown} ({count})"
    what = f" to port {', '.join(map(str, ports))}" if ports else ""
    total = sum(one[2] for one in to_port if one[0] == host)
    return (
        f"clean, but nothing was compared  {where}: {host} has {plural(total, 'connection')}{what}, {most}, "
        f"which is no address of {others}",
        f"if {shown} is a load balancer or VIP of {others}, add it to hosts.{others}.addresses; "
        "for CI, --require-connections 1",
    )


def port_of(endpoint: str) -> int | None:
    """The port of an endpoint, None for an address without one."""
    try:
        return address.parse_endpoint(endpoint)[1]
    except ValueError:
        return None


SHORT: dict[Verdict, str] = {
    Verdict.MISSING_ON_SERVER: "missing on the server",
    Verdict.MISSING_ON_CLIENT: "missing on the client",
    Verdict.HANDSHAKE_STUCK: "stuck in the handshake on the server",
    Verdict.DESYNCHRONIZED: "with ends that contradict each other",
    Verdict.STALLED: "stalled with unacknowledged data",
}

AFTER_COUNT: dict[Verdict, tuple[str, str]] = {
    Verdict.NEVER_ACCEPTED: ("was never accepted", "were never accepted"),
    Verdict.HALF_CLOSED: ("is half-closed", "are half-closed"),
    Verdict.ABANDONED_CLOSE: (
        "was left in CLOSE_WAIT by a peer that is gone",
        "were left in CLOSE_WAIT by a peer that is gone",
    ),
    Verdict.CLOSE_LOST: ("cannot close: its FIN does not get through", "cannot close: their FINs do not get through"),
    Verdict.CONNECT_UNANSWERED: ("gets no answer to its SYN", "get no answer to their SYN"),
    Verdict.CLOSING_ALONE: ("closes towards a peer that is gone", "close towards a peer that is gone"),
    Verdict.EMBRYONIC: ("waits in SYN_RECV for a client that is gone", "wait in SYN_RECV for clients that are gone"),
    Verdict.AMBIGUOUS: ("cannot be told apart", "cannot be told apart"),
}

MEANING: dict[Verdict, str] = {
    Verdict.MISSING_ON_SERVER: "established on {client}, unknown to {server}",
    Verdict.MISSING_ON_CLIENT: "established on {server}, unknown to {client}",
    Verdict.HANDSHAKE_STUCK: "established on {client}, still in the handshake on {server}",
    Verdict.DESYNCHRONIZED: "the ends on {client} and {server} cannot belong to one connection",
    Verdict.STALLED: "established on {client} and {server}, but data is not acknowledged",
    Verdict.NEVER_ACCEPTED: "established on both ends, but the program on {server} has not accepted it",
    Verdict.HALF_CLOSED: "one end has closed and the other, told so, has not",
    Verdict.ABANDONED_CLOSE: "one end waits for its program to close, and the other is gone",
    Verdict.CLOSE_LOST: "one end has closed, and the other does not learn of it",
    Verdict.CONNECT_UNANSWERED: "one end asks to connect and gets no answer",
    Verdict.CLOSING_ALONE: "one end closes towards a peer that is gone",
    Verdict.EMBRYONIC: "{server} waits for the handshake of a client that is gone",
    Verdict.AMBIGUOUS: "more than two sockets claim this connection",
}
