"""The headline of a check: its answer in one line. The words of each verdict stand in the glossary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from halfopen import address
from halfopen.glossary import MEANINGS
from halfopen.judge.assembly.policy import SEVERITIES
from halfopen.matching.verdict.table import SEVERITY
from halfopen.plan import CheckPlan
from halfopen.schema.report import Confidence, Finding, Group, HostReport, MatrixRow, Outcome, Severity, Verdict
from halfopen.words import duration, plural, ranges


def headline_of(
    plan: CheckPlan,
    findings: Sequence[Finding],
    groups: Sequence[Group],
    rows: Sequence[MatrixRow],
    missing: Sequence[str],
    hosts: Sequence[HostReport],
    connections: int,
    tolerated: int,
    outcome: Outcome,
    external: Mapping[tuple[str, str], int],
    elapsed_s: float | None,
    rounds: int,
) -> tuple[str, tuple[str, ...]]:
    """The answer in one line, and the lines that must be shown beside it.

    rows: the state matrix. missing: reasons why the check is incomplete. connections: those compared, findings among
    them. tolerated: those that were not judged for a reason that the check allows. external: (host, peer) -> sockets
    that lead to no host of the check. elapsed_s: duration of the check in seconds. rounds: how often suspects were
    looked at.
    """
    counted = [
        (finding, groups[finding.group]) for finding in findings if not finding.allowed and finding.group is not None
    ]
    # A TIME_WAIT alone is what an earlier connection left behind.
    connected = [row for row in rows if row.verdict or (row.client and row.server)]
    directions = {runs_against(row.client_host, row.server_host, plan) for row in connected}
    where = target_of(plan, [finding for finding, _ in counted], directions == {True})
    where += " and back" if len(directions) > 1 else ""
    if counted:
        head = headline_of_directions(counted, directions, plan)
        if all(finding.confidence is Confidence.INFERRED for finding, _ in counted):
            head += "; inferred from one moment of each" if rounds < 2 else "; inferred"
        if outcome is Outcome.INCOMPLETE:
            head, missing = f"incomplete  {where}: {missing[0]}; {head}", missing[1:]
        return head, tuple(f"incomplete: {reason}" for reason in missing)
    if missing:
        tail = ", so nothing can be said about its end" if "could not be read" in missing[0] else ""
        return f"incomplete  {where}: {missing[0]}{tail}", tuple(missing[1:])
    if not connections and not tolerated:
        head, advice = nothing_compared(where, hosts, external, plan.ports)
        return head, (advice,)
    took = f", {duration(elapsed_s)}" if elapsed_s is not None else ""
    read = f"({plural(len(hosts), 'host')} read completely{took})"
    allowed = f"; {len(findings)} more allowed" if findings else ""
    allowed += f"; {tolerated} more not judged, which is allowed" if tolerated else ""
    agreeing = plural(connections - len(findings), "connection")
    return f"clean  {where}: {agreeing}, both ends agree{allowed} {read}", ()


def headline_of_directions(
    counted: Sequence[tuple[Finding, Group]], directions: Iterable[bool], plan: CheckPlan
) -> str:
    """One headline per direction (see `runs_against`) that has findings, joined; the gravest direction first."""
    heads = []
    for against in sorted(directions):
        findings = [
            finding for finding, group in counted if runs_against(group.client_host, group.server_host, plan) is against
        ]
        if findings:
            gravest = min(SEVERITIES.index(finding.severity) for finding in findings)
            heads.append((gravest, headline_of_findings(findings, target_of(plan, findings, against))))
    return "; ".join(text for _, text in sorted(heads, key=lambda head: head[0]))


def runs_against(client: str | None, server: str | None, plan: CheckPlan) -> bool:
    """Whether a connection between these hosts runs against the order in which the check names them.

    A host under `nat` stands for an end behind it.
    """
    return client not in (*plan.clients, *plan.nat) or server not in (*plan.servers, *plan.nat)


def target_of(plan: CheckPlan, findings: Sequence[Finding], against: bool) -> str:
    """Who connects to whom, and the port if there is one only. `against`: in the reverse of the check's order."""
    ports = plan.ports or [port for finding in findings if (port := port_of(finding.connection.server)) is not None]
    return target(*((plan.servers, plan.clients) if against else (plan.clients, plan.servers)), ports)


def target(clients: Sequence[str], servers: Sequence[str], ports: Iterable[int]) -> str:
    """`web1 -> db1:5432`, `3 hosts -> db1` for a fleet, or `web1 (client) -> web1:5432 (server)` within one host.

    A name with a colon reads `ops@db1:2222 port 5432`.
    """
    sides = [names[0] if len(names) == 1 else plural(len(names), "host") for names in (clients, servers)]
    roles = (" (client)", " (server)") if len(clients) == 1 and clients == servers else ("", "")
    distinct = sorted(set(ports))
    # `ops@db1:2222` is where SSH goes, and no port of the service may stand behind it.
    glue = " port " if ":" in sides[1] else ":"
    port = f"{glue}{distinct[0]}" if len(distinct) == 1 else ""
    return f"{sides[0]}{roles[0]} -> {sides[1]}{port}{roles[1]}"


def headline_of_findings(findings: Sequence[Finding], where: str) -> str:
    """`3999 half-open connections web1 -> db1:5432, all missing on the server; 1001 more were never accepted`."""
    half_open = [finding for finding in findings if is_half_open(finding)]
    critical = [finding.verdict for finding in half_open]
    others = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    lesser = Counter(finding.verdict for finding in others if not is_half_open(finding)).most_common()
    if not critical:
        (verdict, count), *lesser = lesser
        head = f"{plural(count, 'connection')} {where} {words_after(verdict, count)}"
    else:
        verdicts = Counter(critical).most_common()
        if len(verdicts) == 1:
            how = f"{'all ' if len(critical) > 1 else ''}{words_after(*verdicts[0])}"
        else:
            how = ", ".join(f"{count} {words_after(verdict, count)}" for verdict, count in verdicts)
        head = f"{plural(len(critical), 'half-open connection')} {where}, {how}"
    return "; ".join([head, *(f"{count} more {words_after(verdict, count)}" for verdict, count in lesser)])


def is_half_open(finding: Finding) -> bool:
    """Whether a critical finding is that by its verdict, and not because nobody is accepted any more."""
    return finding.severity is SEVERITY[finding.verdict] is Severity.CRITICAL


def words_after(verdict: Verdict, count: int) -> str:
    """What follows a number of connections with this verdict."""
    return MEANINGS[verdict].counted[count != 1]


def meaning(verdict: Verdict, client: str | None, server: str | None) -> str:
    """What a verdict says of two hosts in one clause; None, or one host twice: "the client", "the server"."""
    if client == server:
        client = server = None
    return MEANINGS[verdict].clause.format(client=client or "the client", server=server or "the server")


def nothing_compared(
    where: str, hosts: Sequence[HostReport], external: Mapping[tuple[str, str], int], ports: Sequence[int]
) -> tuple[str, str]:
    """Headline and advice where no connection has both ends on the hosts. `external`: (host, peer) -> connections."""
    names = list(dict.fromkeys(host.name for host in hosts))
    to_port = [(host, peer, count) for (host, peer), count in external.items() if not ports or port_of(peer) in ports]
    what = f" to port {', '.join(ranges(ports))}" if ports else ""
    if not to_port:
        return (
            f"clean, but nothing was compared  {where}: there is no connection{what} "
            + (f"between {' and '.join(names)}" if len(names) > 1 else f"from {names[0]} to itself"),
            "if there should be one, look whether the port is right; for CI, --require-connections 1",
        )
    host, peer, count = max(to_port, key=lambda row: row[2])
    shown = peer if not ports else peer.rpartition(":")[0].strip("[]")
    others = " or ".join(name for name in names if name != host) or host
    most = f"all to {shown}" if len(to_port) == 1 else f"most to {shown} ({count})"
    total = sum(count for name, _, count in to_port if name == host)
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
