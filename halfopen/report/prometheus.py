"""Gauges of one run for the textfile collector of node_exporter, in the Prometheus text format.

Each verdict, cause and reason has its series in every run, so that an alert sees 0 and not nothing. How many findings
there are by verdict and by cause are two metrics, since a finding has one of each. Names follow
https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from msgspec import Struct

from halfopen.report.escape import Prometheus, metric_label
from halfopen.report.view import View
from halfopen.schema.report import CauseCode, Check, Listener, Outcome, Reason, Report, Severity, Verdict


class Metric(Struct):
    """A gauge with its series: labels -> value."""

    name: str
    about: str
    series: list[tuple[dict[str, str], float]] = []

    def lines(self) -> Iterator[Prometheus]:
        """Its head, and a line for each of its series."""
        yield Prometheus.literal("# HELP {} {}", metric_label(self.name), metric_label(self.about))
        yield Prometheus.literal("# TYPE {} gauge", metric_label(self.name))
        for labels, value in self.series:
            pairs = (Prometheus.literal('{}="{}"', metric_label(key), metric_label(one)) for key, one in labels.items())
            told = Prometheus.literal("{{{}}}", Prometheus.joined(",", pairs)) if labels else Prometheus.literal("")
            yield Prometheus.literal("{}{} {}", metric_label(self.name), told, metric_label(f"{value:.15g}"))


def render(report: Report, _: View) -> Prometheus:
    """All checks of the run; a metric without series is left out."""
    lines = [line for metric in metrics(report) if metric.series for line in metric.lines()]
    return Prometheus.literal("{}\n", Prometheus.joined("\n", lines))


def metrics(report: Report) -> list[Metric]:
    """What is told of a run, in the order of the file."""
    finished = datetime.fromisoformat(report.finished_at).timestamp()
    return [
        Metric("halfopen_build_info", "Version of halfopen.", [({"version": report.tool.version}, 1)]),
        Metric("halfopen_last_run_timestamp_seconds", "When the run ended.", [({}, finished)]),
        of_checks(report, "halfopen_check_exit_code", "Exit code of a check.", lambda check: [({}, check.exit_code)]),
        of_checks(report, "halfopen_check_outcome", "1 for the outcome that a check had.", outcomes),
        of_checks(report, "halfopen_check_duration_seconds", "Duration of the run.", durations),
        of_checks(report, "halfopen_host_complete", "1 for a host that was read completely.", hosts),
        of_checks(report, "halfopen_connections", "Connections compared.", lambda check: [({}, check.connections)]),
        of_checks(report, "halfopen_connections_agreeing", "Those that agree.", lambda check: [({}, check.agreeing)]),
        of_checks(report, "halfopen_connections_external", "Those that lead to no host of the check.", external),
        of_checks(report, "halfopen_connections_unjudged", "Those of which nothing is said.", unjudged),
        of_checks(report, "halfopen_findings", "Findings by verdict, those that are allowed left out.", verdicts),
        of_checks(report, "halfopen_findings_by_severity", "The same by severity.", severities),
        of_checks(report, "halfopen_findings_by_cause", "The same by the surest cause.", causes),
        of_checks(report, "halfopen_findings_allowed", "Findings that are allowed, by verdict.", allowed),
        of_checks(report, "halfopen_listener_queue", "Connections that wait to be accepted.", queues),
        of_checks(report, "halfopen_listener_backlog", "Limit of the accept queue: one more fits.", backlogs),
    ]


Series = Iterable[tuple[dict[str, str], float]]


def of_checks(report: Report, name: str, about: str, tell: Callable[[Check], Series]) -> Metric:
    """A metric of every check."""
    return Metric(name, about, [({"check": c.name, **more}, value) for c in report.checks for more, value in tell(c)])


def totals(label: str, every: Iterable[str], found: Iterable[str]) -> Series:
    """How often each word was found, 0 included."""
    counts = Counter(found)
    return [({label: word}, counts[word]) for word in every]


def outcomes(check: Check) -> Series:
    """Which of the outcomes it is."""
    return totals("outcome", Outcome, [check.outcome])


def durations(check: Check) -> Series:
    """None for files of no one run."""
    return [] if check.elapsed_s is None else [({}, check.elapsed_s)]


def hosts(check: Check) -> Series:
    """Each host of the check."""
    return [({"host": host.name}, float(host.complete)) for host in check.hosts]


def external(check: Check) -> Series:
    """By host: how many peers there are is not bounded."""
    counts = dict.fromkeys((host.name for host in check.hosts), 0)
    for row in check.external:
        counts[row.host] = counts.get(row.host, 0) + row.count
    return [({"host": host}, count) for host, count in counts.items()]


def unjudged(check: Check) -> Series:
    """By reason."""
    return totals("reason", Reason, (row.reason for row in check.unjudged))


def verdicts(check: Check) -> Series:
    """By verdict."""
    return totals("verdict", Verdict, (found.verdict for found in check.findings if not found.allowed))


def severities(check: Check) -> Series:
    """By severity."""
    return totals("severity", Severity, (found.severity for found in check.findings if not found.allowed))


def causes(check: Check) -> Series:
    """By cause."""
    counted = [found for found in check.findings if not found.allowed]
    return totals("cause", CauseCode, (found.cause.code for found in counted if found.cause is not None))


def allowed(check: Check) -> Series:
    """By verdict."""
    return totals("verdict", Verdict, (found.verdict for found in check.findings if found.allowed))


def queues(check: Check) -> Series:
    """Of the listeners that tell it."""
    return [(named(one), one.queue) for one in check.listeners if one.queue is not None]


def backlogs(check: Check) -> Series:
    """Of the listeners that tell it."""
    return [(named(one), one.backlog) for one in check.listeners if one.backlog is not None]


def named(listener: Listener) -> dict[str, str]:
    """The labels of a listener."""
    return {"host": listener.host, "address": listener.address, "port": str(listener.port)}
