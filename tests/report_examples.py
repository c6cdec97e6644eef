"""Reports made through the real judgement from evidence made by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

from evidence import CLIENT, SERVER, bracket, info, key, one_link, sights, snapshot, sock, untranslated
from msgspec import structs
from msgspec.structs import replace

from halfopen import address
from halfopen.errors import ErrorCode, HostError
from halfopen.judge.assembly.check import analyse, report_of
from halfopen.judge.assembly.policy import Policy
from halfopen.judge.assembly.run_evidence import Evidence
from halfopen.judge.signs.case import HostEvidence
from halfopen.matching.pairing.match import match
from halfopen.matching.places.addresses import survey
from halfopen.model import ListenSocket, Process, Snapshot, Socket
from halfopen.plan import CheckPlan
from halfopen.schema.report import Check, Report, Severity
from halfopen.tcp import State, Timer

HOSTILE = "ev\n\x1b[2J\udcff<script>`|::error::[red]\u202e=cmd @all"
PLAN = CheckPlan("web -> db", ("web",), ("db",), (5432,))
MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def check(
    near: list[Socket],
    far: list[Socket],
    plan: CheckPlan = PLAN,
    policy: Policy | None = None,
    process: str = "app",
    error: HostError | None = None,
    overflows: int = 0,
) -> Check:
    """A check of web and db where both dumps and all looks show these sockets. `overflows`: of db during the looks."""
    web = snapshot("web", [CLIENT], near, ports=plan.ports)
    queue = sum(one.inode == 0 for one in far)
    db = snapshot("db", [SERVER], far, [ListenSocket(SERVER, 5432, 2, 0, queue, 2, 0, 500)], ports=plan.ports)
    if error:
        db = Snapshot("db", None, error=error)
    snapshots = {"web": web, "db": db}
    snapshots = {name: untranslated(one) for name, one in snapshots.items()}
    matching = match(survey(list(snapshots.values()), plan.clients, plan.servers, plan.ports, {}))
    seen = bracket(sights([one for one in (web, db) if one.namespaces], {"web": near, "db": far}, matching.suspects))
    brackets = [seen, seen] if matching.suspects else []
    after = {"ListenOverflows": 12, "SyncookiesSent": 9, "SyncookiesRecv": 9}
    settings = {"tcp_keepalive_time": 7200, "tcp_keepalive_intvl": 75, "tcp_keepalive_probes": 9, "somaxconn": 4096}
    hosts = {
        "web": HostEvidence("web", web.facts, sysctls=settings, owners={77: Process(4211, process)}),
        "db": HostEvidence(
            "db",
            db.facts,
            {**after, "ListenOverflows": 12 - overflows},
            after,
            settings,
            owners={500: Process(812, "postgres")},
        ),
    }
    used = hosts if matching.suspects else {}
    routing = one_link(plan, snapshots, matching.suspects)
    evidence = Evidence(snapshots, matching, brackets, used, elapsed_s=2.1, routing=routing)
    return analyse(plan, evidence, policy or Policy(Severity.CRITICAL))


@cache
def article(count: int = 3999, queued: int = 1001, process: str = "app") -> Check:
    """Established on the client and unknown to the server, beside those that nobody accepts."""
    keys = [key(20000 + number) for number in range(count + queued)]
    near = [replace(sock(one, cookie=at), info=info(300_000 + at), timer=Timer.OFF) for at, one in enumerate(keys)]
    far = [sock(address.mirror(one), cookie=number, inode=0) for number, one in enumerate(keys[count:])]
    return check(near, far, process=process)


def clean() -> Check:
    """Both ends agree."""
    keys = [key(20000 + number) for number in range(212)]
    return check([sock(one) for one in keys], [sock(address.mirror(one)) for one in keys])


def incomplete() -> Check:
    """One host's key has changed."""
    error = HostError(
        ErrorCode.HOST_KEY_MISMATCH,
        "10.0.2.9 offers ssh-ed25519 SHA256:abc, but known_hosts line 14 has SHA256:def",
        "if the host was reinstalled: ssh-keygen -R 10.0.2.9; if not, somebody may be in between",
    )
    return check([sock(key(20000))], [], error=error)


def nothing_compared() -> Check:
    """The client's connections lead to another address."""
    away = address.parse("10.0.9.9")
    return check([sock(key(20000 + number, server=away)) for number in range(40)], [])


def mixed() -> Check:
    """A little of everything, and a verdict that is allowed."""
    states = [(State.ESTABLISHED, State.SYN_RECV), (State.FIN_WAIT2, State.CLOSE_WAIT), (State.SYN_SENT, None)]
    near = [sock(key(30000 + number), state) for number, (state, _) in enumerate(states)]
    far = [sock(address.mirror(key(30000 + number)), state) for number, (_, state) in enumerate(states) if state]
    return check(near, far, replace(PLAN, allow=("half-closed",)), overflows=2)


@cache
def fleet(clients: int = 12) -> Check:
    """Clients of two servers, each with a fault more than the one before it; the last client cannot be read."""
    names = [f"web{number}" for number in range(1, clients + 1)]
    homes = {name: address.parse(f"10.0.1.{number}") for number, name in enumerate(names, 1)}
    servers = {"db1": address.parse("10.0.2.1"), "db2": address.parse("10.0.2.2")}
    sockets: dict[str, list[Socket]] = {name: [] for name in (*names, *servers)}
    for number, name in enumerate(names[:-1]):
        for server, home in servers.items():
            for port in range(20000, 20010):
                one = key(port, client=homes[name], server=home)
                sockets[name].append(sock(one, cookie=port))
                if port - 20000 >= number * (server == "db1"):
                    sockets[server].append(sock(address.mirror(one), cookie=port + 1))
    snapshots = {name: snapshot(name, [home], sockets[name]) for name, home in {**homes, **servers}.items()}
    error = HostError(ErrorCode.TIMEOUT, "10.213.0.50 port 22 did not answer", "is the host up, and port right?")
    snapshots[names[-1]] = Snapshot(names[-1], None, error=error)
    plan = CheckPlan("fleet", tuple(names), tuple(servers), (5432,))
    snapshots = {name: untranslated(one) for name, one in snapshots.items()}
    matching = match(survey(list(snapshots.values()), plan.clients, plan.servers, plan.ports, {}))
    read = [one for one in snapshots.values() if one.namespaces]
    seen = bracket(sights(read, {one.host: sockets[one.host] for one in read}, matching.suspects))
    routing = one_link(plan, snapshots, matching.suspects)
    evidence = Evidence(snapshots, matching, [seen, seen], elapsed_s=3.0, routing=routing)
    return analyse(plan, evidence, Policy(Severity.CRITICAL))


def report(*checks: Check) -> Report:
    """Checks as one report."""
    return report_of(checks, MOMENT, MOMENT)


EXAMPLES: dict[str, Callable[[], Report]] = {
    "article": lambda: report(article()),
    "clean": lambda: report(clean()),
    "incomplete": lambda: report(incomplete()),
    "nothing-compared": lambda: report(nothing_compared()),
    "mixed": lambda: report(mixed()),
    "two-checks": lambda: report(clean(), structs.replace(incomplete(), name="web -> db, again")),
    "fleet": lambda: report(fleet()),
    "hostile": lambda: report(article(2, 1, HOSTILE)),
}
