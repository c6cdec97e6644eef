"""JUnit XML for CI: a test case per check; findings that fail the run are a failure, missing evidence is an error."""

from __future__ import annotations

from typing import Any

from halfopen.errors import Exit
from halfopen.report.escape import Xml, xml, xml_document
from halfopen.report.lines import lines_of
from halfopen.report.view import View
from halfopen.schema.report import Check, Report


def render(report: Report, view: View) -> Xml:
    """One suite for the run."""
    from junitparser import JUnitXml, TestSuite

    suite = TestSuite(xml("halfopen"))
    suite.timestamp = xml(report.started_at)
    for check in report.checks:
        suite.add_testcase(case_of(check, view))
    run = JUnitXml("halfopen")
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
    if result is not None:
        result.text = body
        case.result = [result]
    case.system_out = body
    return case
