"""JUnit XML for CI: a suite per check, with a test case for the check and, in a fleet, one for each pair of hosts.

Findings that fail the run are a failure, missing evidence is an error. The report of a check stands in its own case
once: in the failure or the error, which CI servers show first, else in the output.
"""

from __future__ import annotations

from typing import Any

from halfopen.errors import Exit
from halfopen.report.escape import Xml, xml, xml_document
from halfopen.report.lines import lines_of
from halfopen.report.view import View, is_fleet, severity_counts
from halfopen.schema.report import Check, Report, Severity


def render(report: Report, view: View) -> Xml:
    """The whole run. The case of a check has its duration, and those of its pairs have none of their own."""
    from junitparser import JUnitXml, TestSuite

    run = JUnitXml("halfopen")
    for check in report.checks:
        suite = TestSuite(xml(check.name))
        suite.timestamp = xml(report.started_at)
        suite.add_testcase(case_of(check, view))
        for case in cases_of_pairs(check):
            suite.add_testcase(case)
        run.add_testsuite(suite)
    return Xml.literal("{}\n", xml_document(run.tostring()))  # type: ignore[no-untyped-call]


def case_of(check: Check, view: View) -> Any:
    """One check: passed, failed with its headline, or in error for what could not be read."""
    from junitparser import Error, Failure, TestCase

    case = TestCase(xml(check.name), classname=xml("halfopen.check"), time=check.elapsed_s or 0.0)
    body = xml("\n".join(lines_of(check, View(width=view.width, all=view.all))))
    result: Any = None
    if check.exit_code == Exit.FINDINGS:
        result = Failure(xml(check.headline), xml("findings"))
    elif check.exit_code == Exit.INCOMPLETE:
        result = Error(xml(check.headline), xml("incomplete"))
    if result is None:
        case.system_out = body
    else:
        result.text = body
        case.result = [result]
    return case


def cases_of_pairs(check: Check) -> list[Any]:
    """The pairs of hosts of a fleet between which there are connections, each failed if its own findings fail it."""
    from junitparser import Failure, TestCase

    if not is_fleet(check):
        return []
    told = {(pair.client, pair.server): pair for pair in check.pairs}
    cases = []
    for hosts in sorted({(row.client_host, row.server_host) for row in check.state_matrix} | told.keys()):
        case = TestCase(xml(" -> ".join(hosts)), classname=xml(f"halfopen.check.{check.name}"), time=0.0)
        pair = told.get(hosts)
        counts = zip(severity_counts(pair), Severity, strict=True) if pair is not None else ()
        words = xml(", ".join(f"{count} {severity}" for count, severity in counts if count != "0"))
        if pair is not None and pair.fails:
            case.result = [Failure(words, xml("findings"))]
        elif words:
            case.system_out = words
        cases.append(case)
    return cases
