"""The report as one page for a browser: no script, nothing loaded, and everything in it also without colour.

Pictures are drawn from the report by `ladder` and `pictures`; the page itself is the template beside this file.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from halfopen.glossary import CONFIDENCES
from halfopen.report.escape import Html, html_page
from halfopen.report.html import pictures
from halfopen.report.html.ladder import ladder
from halfopen.report.view import (
    View,
    agreement,
    cause_phrase,
    disagreeing,
    effort,
    elsewhere,
    end_phrase,
    end_states,
    ends_of,
    headings,
    is_fleet,
    programs,
    purpose,
    severity_counts,
    state,
    unjudged_count,
    unjudged_phrase,
)
from halfopen.schema.report import CauseCode, Check, Confidence, Finding, Group, HostReport, Listener, MatrixRow, Report
from halfopen.words import duration, plural


def render(report: Report, view: View) -> Html:
    """All checks on one page: the answer, a line for each group, then each check."""
    style = (Path(__file__).parent / STYLE).read_text(encoding="utf-8").removesuffix("\n")
    return html_page(
        __name__,
        "page.html.j2",
        {
            "report": report,
            "style_file": STYLE,
            "style_digest": base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            "signs": SIGNS,
            "finished": report.finished_at[:19].replace("T", " "),
            "answer": answer(report),
            "checks": [of_check(check, number, report, view) for number, check in enumerate(report.checks, 1)],
            "duration": duration,
            "plural": plural,
        },
    )


def answer(report: Report) -> str:
    """The answer in one sentence: that of the only check, or how many checks are as they are."""
    if len(report.checks) == 1:
        return report.checks[0].headline
    findings = sum(not one.allowed for check in report.checks for one in check.findings)
    outcomes = Counter(str(check.outcome) for check in report.checks)
    told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    return f"{plural(findings, 'connection')} that the two ends disagree about, in {len(report.checks)} checks ({told})"


def of_check(check: Check, number: int, report: Report, view: View) -> Mapping[str, object]:
    """What the page shows of one check. number: its own on the page."""
    rows = disagreeing(check)
    heads = headings(check, rows)
    members: dict[int | None, list[Finding]] = {}
    for finding in check.findings:
        members.setdefault(finding.group, []).append(finding)
    return {
        "it": check,
        "id": f"c{number}",
        "effort": effort(check).removeprefix(" in "),
        "hosts": [(host, roles(check, host), facts(host)) for host in check.hosts],
        "agreement": agreement(check),
        "disagree": len(check.findings),
        "grid": None if is_fleet(check) or not rows else grid(check, heads),
        "rows": [(end_states(row, heads), row) for row in rows],
        "heads": heads,
        "pairs": [(pair, severity_counts(pair)) for pair in check.pairs],
        "groups": [
            of_group(check, group, f"{number}-{at}", members.get(at - 1, []), report)
            for at, group in enumerate(check.groups, 1)
        ],
        "elsewhere": elsewhere(check),
        "unjudged": unjudged_count(check) if check.unjudged else None,
        "unjudged_rows": [unjudged_phrase(row) for row in (check.unjudged if view.all else check.unjudged[:UNJUDGED])],
        "gaps": [(host.name, gap) for host in check.hosts for gap in host.gaps],
    }


def roles(check: Check, host: HostReport) -> str:
    """What a host is in the check, where it is of two hosts or only translates."""
    if host.name in check.nat:
        return "translates between them"
    if is_fleet(check):
        return "host"
    same = [role for role, one in (("client", check.client), ("server", check.server)) if one.name == host.name]
    return " and ".join(same) or "host"


def facts(host: HostReport) -> list[tuple[str, str]]:
    """What is known of a host, each with its name; what is not known is left out."""
    if host.error:
        return [("error", str(host.error.code)), ("", host.error.message)]
    states = ", ".join(f"{count} {name}" for name, count in host.states.items())
    up = f", up {duration(host.uptime_s)}" if host.uptime_s is not None else ""
    rights = {True: ", as root", False: ", not as root", None: ""}[host.privileged]
    found = [
        ("sockets", f"{host.sockets}{f' ({states})' if states else ''}" if host.sockets is not None else ""),
        ("kernel", f"Linux {host.kernel}{up}" if host.kernel else up.removeprefix(", ")),
        ("booted", f"{host.booted_at[:19].replace('T', ' ')} UTC, by its clock" if host.booted_at else ""),
        ("counters", f"of the last {duration(host.counting_s)}" if host.counting_s is not None else ""),
        ("read by", f"{host.collector} over {host.transport}{rights}" if host.collector else ""),
        ("addresses", ", ".join(host.addresses)),
    ]
    return [(name, value) for name, value in found if value]


def grid(check: Check, heads: tuple[str, str]) -> Mapping[str, object]:
    """The state matrix of two hosts: a row for each state of the client's end, a column for each of the server's."""

    def column(row: MatrixRow) -> str:
        return end_states(row, heads)[1] if row.in_accept_queue else state(row.server)

    cells: dict[tuple[str, str], list[MatrixRow]] = {}
    for row in check.state_matrix:
        cells.setdefault((state(row.client), column(row)), []).append(row)
    lefts = list(dict.fromkeys(left for left, _ in cells))
    tops = list(dict.fromkeys(top for _, top in cells))
    return {"tops": tops, "rows": [(left, [cells.get((left, top), []) for top in tops]) for left in lefts]}


def of_group(check: Check, group: Group, number: str, members: list[Finding], report: Report) -> Mapping[str, object]:
    """What the page shows of one group. number: its own on the page. members: its findings."""
    silent = pictures.heard(members)
    since = pictures.since(silent, len(members)) if silent else None
    if since and check.elapsed_s is not None and silent[-1] - silent[0] < ONE_EVENT:
        then = datetime.fromisoformat(report.finished_at) - timedelta(seconds=silent[-1])
        since += f" That was at about {then:%Y-%m-%d %H:%M:%S} UTC."
    listener = next((one for one in check.listeners if serves(one, group)), None)
    return {
        "it": group,
        "id": f"g{number}",
        "label": number.replace("-", "."),
        "programs": programs(group),
        "picture": ladder(group, number),
        "perhaps": bool(group.why) and not group.why[0].decisive and group.cause != CauseCode.UNKNOWN,
        "proof": pictures.looks(check, group) if check.pauses_s and group.client_first is not None else None,
        "proof_words": pictures.looked(group),
        "meaning": CONFIDENCES[Confidence(group.confidence)],
        "cookies": cookies(members),
        "why": [(cause_phrase(cause), cause) for cause in group.why],
        "gauge": pictures.gauge(listener) if listener else None,
        "listener": listener,
        "since": since,
        "histogram": pictures.histogram(silent, since) if since and len(silent) > 1 else None,
        "commands": [(purpose(command), shlex.join(command.argv)) for command in group.commands],
        "heads": [name for name, _ in ends_of(members[0], group)] if members else [],
        "connections": [(one, [end_phrase(end) for _, end in ends_of(one, group)]) for one in members],
    }


def serves(listener: Listener, group: Group) -> bool:
    """Whether a listener is the one of a group: on its server, with its port, and its address or that of all."""
    if group.listener is None or listener.host != group.server_host:
        return False
    where, _, port = group.listener.rpartition(":")
    return port == str(listener.port) and listener.address in (where.strip("[]"), "0.0.0.0", "::")  # noqa: S104 - compared


def cookies(members: list[Finding]) -> str | None:
    """The kernel's numbers of the first sockets of a group; None where none is known."""
    told = [f"{end.cookie} on {end.host}" for one in members for end in (one.client, one.server) if end and end.cookie]
    if not told:
        return None
    more = f" and {len(told) - COOKIES} more, with the connections" if len(told) > COOKIES else ""
    return f"{', '.join(told[:COOKIES])}{more}"


STYLE = "style.css"
SIGNS = {"critical": "●", "warning": "▲", "info": "◆"}
COOKIES = 3
UNJUDGED = 200  # rows, unless all are asked for
ONE_EVENT = 60.0  # seconds within which all were heard last, so that one time can be named
