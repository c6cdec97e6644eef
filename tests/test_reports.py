"""Every format says what the model says, the answer first, and nothing from a host acts in any of them."""

from __future__ import annotations

import ast
import json
import re
import shlex
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path

import make_golden
import msgspec
import mypy.api
import pytest
from evidence import key, sock
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from report_examples import (
    EXAMPLES,
    HOSTILE,
    PLAN,
    article,
    check,
    clean,
    fleet,
    incomplete,
    mixed,
    nothing_compared,
    report,
)

from halfopen import address
from halfopen.cli import build
from halfopen.errors import UsageError
from halfopen.judge.assembly.headline import target
from halfopen.judge.assembly.policy import Policy
from halfopen.plan import CheckPlan
from halfopen.report import escape
from halfopen.report.formats import COUNT_FORMATS, DOCTOR_FORMATS, FORMATS, format_for, named
from halfopen.report.schema import SCHEMAS
from halfopen.report.view import View, agreement
from halfopen.schema.report import Check, Command, Confidence, MatrixRow, Outcome, Report, Severity, Verdict
from halfopen.tcp import State

RENDERERS = Path(escape.__file__).parent
REFERENCE = Path(__file__).parent.parent / "docs" / "reference.md"


@pytest.mark.parametrize(("name", "form"), make_golden.PAIRS)
def test_reports_read_as_they_did(name: str, form: str) -> None:
    path, text = make_golden.golden(name, form)
    assert path.read_text() == text, "run: python tests/make_golden.py"


def test_golden_files_are_those_of_the_examples() -> None:
    assert sorted(make_golden.GOLDEN.iterdir()) == sorted(path for path, _ in make_golden.reports())


def test_the_first_line_is_the_answer() -> None:
    lines = {name: FORMATS["text"].render(make(), View()).splitlines()[0] for name, make in EXAMPLES.items()}
    assert lines["article"] == (
        "3999 half-open connections web -> db:5432, all missing on the server; 1001 more were never accepted"
    )
    assert lines["clean"] == "clean  web -> db:5432: 212 connections, both ends agree (2 hosts read completely, 2.1 s)"
    assert lines["incomplete"] == (
        "incomplete  web -> db:5432: db could not be read, so nothing can be said about its end"
    )
    assert lines["nothing-compared"].startswith(
        "clean, but nothing was compared  web -> db:5432: web has 40 connections to port 5432, all to 10.0.9.9, "
        "which is no address of db"
    )


def test_five_thousand_findings_are_less_than_a_screen_unless_asked() -> None:
    made = report(article())
    assert len(FORMATS["text"].render(made, View()).splitlines()) < 48
    assert len(FORMATS["text"].render(made, View(all=True)).splitlines()) > 5000
    assert len(FORMATS["text"].render(made, View(quiet=True)).splitlines()) == 1


def test_a_fleet_names_its_worst_pairs_first_and_still_fits() -> None:
    check = fleet()
    assert [(one.client, one.server, one.critical) for one in check.pairs[:2]] == [
        ("web11", "db1", 10),
        ("web10", "db1", 9),
    ]
    assert sum(one.critical for one in check.pairs) == len(check.findings) == sum(range(11))
    assert check.exit_code == 1 and "web12 could not be read" in " ".join(check.details)
    many = FORMATS["text"].render(report(fleet(40)), View())
    assert len(many.splitlines()) < 65
    assert [line.split()[3:] for line in many.splitlines()[7:17]] == [["10", "0", "0"]] * 10
    assert not clean().pairs


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_width_is_kept_and_no_address_is_cut(width: int) -> None:
    text = FORMATS["text"].render(report(article(), incomplete()), View(width=width))
    assert " 10.0.0.1:20000 " in text and "10.0.0.2:5432:" in text
    assert "10.0.0.1:20000 -> 10.0.0.2:5432" in FORMATS["text"].render(report(article()), View(width=width, all=True))
    tables = ("->", "connections", "ESTAB", "more:", "   web: ", " ss src ", "ssh-keygen")
    prose = [line for line in text.splitlines() if not any(word in line for word in tables)]
    assert all(len(line) <= max(width, 40) or " " not in line.strip() for line in prose)


COMMAND = "ss src 10.0.0.1:20000 dst 10.0.0.2:5432 -t -K"
LONG = ("ss", "src", "[2001:db8::1]:20000", "dst", "it's here", *["x" * 40] * 20, "-K")
HINT = "if the host was reinstalled: ssh-keygen -R 10.0.2.9; if not, somebody may be in between"


def lines_to_copy(form: str, text: str) -> list[str]:
    """The lines of a report that somebody would copy a command from."""
    if form == "junit":
        bodies = [one for tag in ("failure", "error", "system-out") for one in ET.fromstring(text).iter(tag)]
        text = "\n".join(one.text or "" for one in bodies)
    if form == "markdown":
        text = "\n".join(re.findall(r"(?ms)^```\n(.*?)\n```$", text))
    if form == "github":
        text = text.replace("%0A", "\n").replace("%25", "%")
    return [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize("form", ["text", "markdown", "junit", "github"])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_command_stands_whole_on_a_line_of_its_own(form: str, width: int) -> None:
    """As it is, however narrow the terminal and however long the command; copied, it is what it was."""
    made = report(article(), incomplete())
    lines = lines_to_copy(form, FORMATS[form].render(made, View(width=width)))
    assert lines.count(COMMAND) == 1 and lines.count("cat /proc/812/stack") == 1 and lines.count(HINT) == 1
    check = next(one for one in made.checks if one.groups)
    command = Command(host="web", root=True, why="try it", argv=LONG)
    groups = (msgspec.structs.replace(check.groups[0], commands=(command,)), *check.groups[1:])
    made = msgspec.structs.replace(made, checks=(msgspec.structs.replace(check, groups=groups),))
    lines = lines_to_copy(form, FORMATS[form].render(made, View(width=width)))
    assert [tuple(shlex.split(line)) for line in lines if line.startswith("ss ")] == [LONG]


@pytest.mark.parametrize("form", FORMATS)
def test_thousands_of_findings_have_one_command_as_an_example(form: str) -> None:
    text = FORMATS[form].render(report(article()), View(all=True)).replace("%0A", "\n")  # as GitHub shows it
    if form.startswith("json"):
        (check,) = json.loads(text)["checks"]
        assert [one["argv"] for one in check["groups"][0]["commands"]] == [COMMAND.split()]
        assert check["groups"][0]["commands"][0]["why"] == "end it now, each like this"
        ended = [one["commands"] for one in check["findings"] if one["verdict"] == "missing-on-server"]
        assert len({tuple(one["argv"]) for (one,) in ended}) == 3999
        return
    assert text.count("-t -K") == (form != "prometheus")
    assert form == "prometheus" or re.search(r"as root on web, to end it now, each like this:\s", text)


@pytest.mark.parametrize(
    ("plan", "policy", "reason"),
    [
        (PLAN, Policy(Severity.CRITICAL), "exit 1: 2 critical; 1 warning, below --fail-on critical"),
        (PLAN, Policy(Severity.WARNING), "exit 1: 2 critical; 1 warning"),
        (PLAN, Policy(None), "exit 0: 2 critical, --fail-on never; 1 warning, --fail-on never"),
        (
            replace(PLAN, max={"missing-on-server": 2}, allow=("never-accepted",)),
            Policy(Severity.CRITICAL),
            "exit 0: max missing-on-server=2 kept (2); 1 never-accepted allowed",
        ),
        (
            replace(PLAN, max={"missing-on-server": 1, "half-closed": 3}),
            Policy(Severity.CRITICAL),
            "exit 1: max half-closed=3 kept (0); max missing-on-server=1 exceeded (2); "
            "1 warning, below --fail-on critical",
        ),
        (replace(PLAN, require_connections=9), Policy(None), "exit 3: incomplete: "),
    ],
)
def test_the_last_line_says_why_the_exit_code_is_what_it_is(plan: CheckPlan, policy: Policy, reason: str) -> None:
    keys = [key(1), key(2), key(3)]
    made = check([sock(one) for one in keys], [sock(address.mirror(keys[2]), inode=0)], plan, policy)
    assert made.exit_reason.startswith(reason) and (len(made.exit_reason) == len(reason) or reason.endswith(": "))
    last = FORMATS["text"].render(report(made), View(width=200)).splitlines()[-1]
    assert last == made.exit_reason


def test_a_check_with_a_name_of_its_own_is_told_by_it() -> None:
    made = msgspec.structs.replace(clean(), name="web-to-db")
    assert FORMATS["text"].render(report(made), View()).startswith("web-to-db: clean  web -> db:5432")
    assert FORMATS["text"].render(report(clean()), View()).startswith("clean  web -> db:5432")


def test_where_ssh_goes_is_not_glued_to_the_port_of_the_service() -> None:
    assert target(("web",), ("ops@10.0.0.9:2222",), [5432]) == "web -> ops@10.0.0.9:2222 port 5432"
    assert target(("web",), ("db",), [5432]) == "web -> db:5432"


def test_the_headline_has_the_colour_of_its_gravest_finding() -> None:
    def colour(made: Check) -> str:
        return FORMATS["text"].render(report(made), View(colour=True)).partition("m")[0]

    assert colour(clean()) == "\x1b[1;32" and colour(incomplete()) == "\x1b[1;35" and colour(article()) == "\x1b[1;31"
    assert colour(check([sock(key(1))], [sock(address.mirror(key(1)), inode=0)])) == "\x1b[1;33"


def test_a_fence_is_longer_than_what_stands_in_it() -> None:
    first, line, last = escape.fenced(escape.command(["echo", "```"]))
    assert first == last == "````" and line == "echo '```'"


def test_what_is_not_proven_says_so_in_its_title() -> None:
    made = report(article(3, 0))
    assert "proven" not in titles(made)[0]
    (one,) = made.checks
    for word in (Confidence.OBSERVED, Confidence.INFERRED):
        groups = tuple(msgspec.structs.replace(group, confidence=word) for group in one.groups)
        weaker = msgspec.structs.replace(made, checks=(msgspec.structs.replace(one, groups=groups),))
        assert f"({word})" in titles(weaker)[0]


def titles(made: Report) -> list[str]:
    """The first line of each group."""
    text = FORMATS["text"].render(made, View())
    return [line for line in text.splitlines() if "missing-on-server 10.0.0.2:5432" in line]


def test_colour_only_where_it_is_wanted_and_never_alone() -> None:
    made = report(article())
    plain, coloured = (FORMATS["text"].render(made, View(colour=colour)) for colour in (False, True))
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def commands_of(text: str) -> list[tuple[str, str, str]]:
    """What the runner makes of the workflow commands in a log: message, level, title (its ActionCommand.cs)."""
    found = []
    for line in text.splitlines():
        command = re.fullmatch(r"::(error|warning|notice) title=([^:,]*)::(.*)", line)
        assert command is not None, line
        level, title, message = command.groups()
        title = title.replace("%3A", ":").replace("%2C", ",").replace("%25", "%")
        found.append((message.replace("%0A", "\n").replace("%25", "%"), level, title))
    return found


def test_annotations_read_back_as_what_was_said() -> None:
    made = EXAMPLES["hostile"]()
    said = commands_of(FORMATS["github"].render(made, View()))
    assert [level for _, level, _ in said] == ["error", "error", "warning"]
    (told,) = made.checks
    assert said[0][0] == told.headline and {title for *_, title in said} >= {"web -> db", "web -> db: never-accepted"}
    lines = said[1][0].splitlines()
    assert len(lines) == 5 + len(told.groups[0].remedies) and lines[-1] == COMMAND
    incomplete_one = commands_of(FORMATS["github"].render(report(incomplete()), View()))
    assert incomplete_one[0][0].splitlines()[-1] == HINT
    assert [level for _, level, _ in commands_of(FORMATS["github"].render(report(clean()), View()))] == ["notice"]


def test_groups_beyond_what_github_shows_are_told_in_number() -> None:
    crowd = msgspec.structs.replace(article(), groups=article().groups * 12)
    *lines, last = FORMATS["github"].render(report(crowd), View()).splitlines()
    levels = [level for _, level, _ in commands_of("\n".join(lines))]
    assert (levels.count("error"), levels.count("warning")) == (10, 10)
    assert last == "5 more groups in the job summary"


@pytest.mark.parametrize("name", EXAMPLES)
def test_gauges_read_back_as_what_was_found(name: str) -> None:
    made = EXAMPLES[name]()
    text = FORMATS["prometheus"].render(made, View())
    read: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP|TYPE) halfopen_\w+ \S.*", line)
            continue
        label = r'\w+="(?:[^"\\]|\\["\\n])*"'
        row = re.fullmatch(rf"(halfopen_\w+)(\{{{label}(?:,{label})*\}})? ([-\d.e+]+)", line)
        assert row is not None, line
        assert (row[1], row[2] or "") not in read
        read[row[1], row[2] or ""] = float(row[3])
    for told in made.checks:
        of_check = f'{{check="{told.name}"'
        counts = [read[name, more] for name, more in read if name == "halfopen_findings" and more.startswith(of_check)]
        assert sum(counts) == sum(not one.allowed for one in told.findings)
        assert len(counts) == len(Verdict)  # a verdict that was not found is 0, and not absent
        assert read["halfopen_connections", f"{of_check}}}"] == told.connections


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_text_acts_in_no_format(form: str) -> None:
    text = FORMATS[form].render(EXAMPLES["hostile"](), View(all=True))
    text.encode("utf-8")
    assert not [sign for sign in text if unicodedata.category(sign) in {"Cc", "Cf", "Cs"} and sign != "\n"]
    assert "<script>" not in text or form in ("text", "json", "jsonl")
    commands = text.splitlines() if form != "github" else [line for line, *_ in commands_of(text)]
    assert not [line for line in commands if line.startswith(("::error", "=cmd"))]
    if form == "markdown":
        prose = re.sub(r"(?ms)^```\n.*?^```$", "", text)
        assert "@all" not in text and "`" not in prose.replace("\\`", "") and "[red" not in text.replace("\\[red", "")
        cells = [line for line in text.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in cells}) == 1


@given(st.text(max_size=400))
def test_no_text_survives_an_escape_with_anything_that_acts(text: str) -> None:
    for made in (escape.terminal(text), escape.markdown(text), escape.xml(text.replace("\n", ""))):
        assert not [sign for sign in made if unicodedata.category(sign) in escape.HIDDEN]
    assert "<" not in escape.markdown(text)


FORGETFUL = {
    "an f-string": 'f"- {check.headline}"',
    "text of a host": "check.headline",
    "another medium": "terminal(check.headline)",
    "a call of the type": "Markdown(check.headline)",
    "a part that is not escaped": 'Markdown.literal("- {}", check.headline)',
    "a part of another medium": 'Markdown.literal("- {}", terminal(check.headline))',
    "lines that are not escaped": 'Markdown.joined(", ", [check.headline])',
    "a join of strings": '"".join([markdown(check.headline)])',
}
ESCAPING = 'Markdown.literal("- {} {}", markdown(check.headline), 3)'


def test_a_renderer_that_forgets_to_escape_does_not_type_check(tmp_path: Path) -> None:
    lines = [
        "from halfopen.report.escape import Markdown, markdown, terminal",
        "from halfopen.schema.report import Check",
        *(
            f"def render{number}(check: Check) -> Markdown: return {made}"
            for number, made in enumerate((ESCAPING, *FORGETFUL.values()))
        ),
    ]
    renderer = tmp_path / "renderer.py"
    renderer.write_text("\n".join(lines) + "\n")
    said, failed, _ = mypy.api.run(["--strict", "--config-file=", "--cache-dir", str(tmp_path), str(renderer)])
    refused = {int(number) for number in re.findall(r"renderer\.py:(\d+): error:", said)}
    assert refused == set(range(4, 4 + len(FORGETFUL))), said + failed


def test_only_an_escaper_makes_escaped_text() -> None:
    for medium in (escape.Terminal, escape.Markdown, escape.Xml, escape.Json):
        with pytest.raises(TypeError, match="made by the escapers"):
            medium("text")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted(RENDERERS.rglob("*.py")), ids=lambda path: path.stem)
def test_what_is_not_escaped_is_a_literal_in_the_source(path: Path) -> None:
    """`literal` and `joined` take words of our own, and what is written out in the call is ours."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    ours = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in ("literal", "joined")]
    words = [call.args[0] for call in ours]
    assert [ast.unparse(word) for word in words if not (isinstance(word, ast.Constant))] == []
    if path.stem != "escape":
        assert not re.search(r"__new__|\bcast\(", path.read_text())


def test_a_format_whose_renderer_returns_plain_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfopen.report.text.render", lambda report, view: report.checks[0].headline)
    with pytest.raises(TypeError, match="no escaper made"):
        FORMATS["text"].render(EXAMPLES["hostile"](), View())


@given(st.text(max_size=50))
def test_junit_is_well_formed_whatever_a_host_says(process: str) -> None:
    ET.fromstring(FORMATS["junit"].render(report(article(1, 1, process)), View()))


def test_junit_fails_for_findings_and_errs_for_what_is_missing() -> None:
    cases = {
        one.get("name"): {child.tag for child in one}
        for one in ET.fromstring(FORMATS["junit"].render(report(article()), View())).iter("testcase")
    }
    assert cases == {"web -> db": {"failure"}}
    root = ET.fromstring(FORMATS["junit"].render(report(incomplete()), View()))
    assert [child.tag for child in next(root.iter("testcase"))] == ["error"]
    root = ET.fromstring(FORMATS["junit"].render(report(clean()), View()))
    assert [child.tag for child in next(root.iter("testcase"))] == ["system-out"]


def test_junit_has_a_case_for_each_pair_of_a_fleet_which_fails_by_itself() -> None:
    root = ET.fromstring(FORMATS["junit"].render(report(fleet(), clean()), View()))
    suites = {one.get("name"): list(one.iter("testcase")) for one in root.iter("testsuite")}
    assert [len(cases) for cases in suites.values()] == [1 + 11 * 2, 1]
    pairs = {one.get("name"): one for one in suites["fleet"][1:]}
    # The first client lacks nothing, and of db2 nobody does; each next one of db1 lacks one more.
    assert {name for name, one in pairs.items() if one.find("failure") is not None} == {
        f"web{number} -> db1" for number in range(2, 12)
    }
    assert pairs["web3 -> db1"].find("failure").get("message") == "2 critical"  # type: ignore[union-attr]
    assert {one.get("classname") for one in pairs.values()} == {"halfopen.check.fleet"}
    assert FORMATS["junit"].render(report(fleet()), View()).count("worst pairs") == 1


def test_json_is_the_contract_and_reads_back() -> None:
    made = EXAMPLES["hostile"]()
    text = FORMATS["json"].render(made, View())
    data = json.loads(text)
    assert text.isascii() and data["schema"] == "halfopen.report/1"
    assert data["checks"][0]["findings"][0]["client"]["process"] == HOSTILE
    clean_text = FORMATS["json"].render(EXAMPLES["article"](), View())
    assert msgspec.json.decode(clean_text.encode(), type=Report) == EXAMPLES["article"]()
    assert FORMATS["jsonl"].render(made, View()).count("\n") == 1


CONTRACT = {
    "report": "schema tool started_at finished_at outcome exit_code checks",
    "check": "name client server rounds connections state_matrix unjudged listeners counters external"
    " findings groups notes",
    "host": "name hostname addresses kernel uptime_s transport collector complete privileged error sockets states gaps",
    "finding": "id verdict severity confidence connection client server translation cause outlook remedies commands",
    "command": "host root why argv",
    "cause": "code summary evidence",
    "evidence": "host fact value",
    "outlook": "code within_s summary",
    "end": "host local peer state pid process netns cookie recv_q send_q timer bytes_sent bytes_received idle_s",
    "listener": "host address port process pid queue backlog full",
    "group": "verdict cause listener client_process server_process count examples",
    "connection": "client server community_id",
}


def test_every_name_of_the_contract_is_there() -> None:
    data = json.loads(FORMATS["json"].render(EXAMPLES["article"](), View()))
    (one,) = data["checks"]
    parts = {
        "report": data,
        "check": one,
        "host": one["client"],
        "finding": one["findings"][0],
        "command": one["findings"][0]["commands"][0],
        "cause": one["findings"][0]["cause"],
        "evidence": one["findings"][0]["cause"]["evidence"][0],
        "outlook": one["findings"][0]["outlook"],
        "end": one["findings"][0]["client"],
        "listener": one["listeners"][0],
        "group": one["groups"][0],
        "connection": one["findings"][0]["connection"],
    }
    assert {name for name, words in CONTRACT.items() if not set(words.split()) <= parts[name].keys()} == set()
    assert one["state_matrix"][0] | {"client": "ESTABLISHED", "server": None, "count": 3999} == one["state_matrix"][0]
    assert one["counters"][0] == {"host": "db", "name": "ListenOverflows", "value": 12, "delta": 0, "netns": None}
    assert one["listeners"][0]["full"] is True


@pytest.mark.parametrize("what", SCHEMAS)
def test_a_schema_is_whole(what: str) -> None:
    found = SCHEMAS[what]()
    assert found["$schema"].endswith("2020-12/schema")
    references = re.findall(r'"#/\$defs/([^"]+)"', json.dumps(found))
    assert set(references) <= set(found.get("$defs", {}))


def test_exit_codes() -> None:
    assert report(clean()).exit_code == 0
    assert report(article()).exit_code == 1
    assert report(incomplete()).exit_code == 3
    assert report(clean(), incomplete()).exit_code == 3
    assert report(article(), incomplete()).exit_code == 1
    assert mixed().exit_code == 1
    none = check([sock(key(1))], [], policy=Policy(None))
    assert none.exit_code == 0 and none.outcome is Outcome.FINDINGS
    never = article(0, 3)
    assert never.exit_code == 0 and never.outcome is Outcome.FINDINGS


@pytest.mark.parametrize(("limit", "code"), [(2, 1), (3, 0)])
def test_max_tolerates_so_many_and_no_more(limit: int, code: int) -> None:
    near = [sock(key(port), cookie=port) for port in (1, 2, 3)]
    assert check(near, [], replace(PLAN, max={"missing-on-server": limit})).exit_code == code


def test_what_is_allowed_is_shown_and_fails_nothing() -> None:
    made = check([sock(key(1))], [], replace(PLAN, allow=("missing-on-server",)))
    assert made.exit_code == 0 and made.outcome is Outcome.CLEAN and len(made.findings) == 1
    assert "1 more allowed" in made.headline


def test_a_warning_fails_where_that_is_asked() -> None:
    assert article(0, 1).exit_code == 0
    keys = [key(1)]
    far = [sock(address.mirror(keys[0]), inode=0)]
    assert check([sock(keys[0])], far, policy=Policy(Severity.WARNING)).exit_code == 1


def test_required_connections_that_are_not_there_are_incomplete() -> None:
    assert check([], [], replace(PLAN, require_connections=1)).exit_code == 3
    assert nothing_compared().exit_code == 0


@pytest.mark.parametrize(
    ("states", "connections", "code"),
    [
        ((State.ESTABLISHED, State.ESTABLISHED), 1, 0),
        ((State.TIME_WAIT, None), 0, 3),
        ((None, State.TIME_WAIT), 0, 3),
        ((State.FIN_WAIT2, State.TIME_WAIT), 1, 3),
    ],
)
def test_only_what_is_established_at_both_ends_is_a_connection_that_is_required(
    states: tuple[State | None, State | None], connections: int, code: int
) -> None:
    near = [sock(key(1), states[0])] if states[0] else []
    far = [sock(address.mirror(key(1)), states[1])] if states[1] else []
    made = check(near, far, replace(PLAN, require_connections=1))
    assert (made.connections, made.agreeing, made.exit_code) == (connections, connections, code)
    if code:
        assert "0 connections established at both ends, 1 required" in made.headline
    assert check(near, far, PLAN).exit_code == 0


def test_a_pair_with_a_finding_is_established_all_the_same() -> None:
    near, far = [sock(key(1))], [sock(address.mirror(key(1)), inode=0)]
    made = check(near, far, replace(PLAN, require_connections=1))
    assert len(made.findings) == 1 and made.exit_code == 0


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_a_way_that_the_inventory_vouches_for_is_said_beside_the_findings(form: str) -> None:
    said = "direct: you vouch that nothing between the two translates or answers"
    for near, shown in ([sock(key(1))], True), ([], False):
        made = check(near, [], replace(PLAN, direct=True))
        assert made.direct and bool(made.findings) is shown
        assert (said in FORMATS[form].render(report(made), View())) is shown
    assert not check([sock(key(1))], []).direct


def test_formats_are_found_by_suffix_or_name() -> None:
    assert format_for("x.md", None) is FORMATS["markdown"]
    assert format_for("x.json", "text") is FORMATS["json"]
    assert format_for("x", "junit") is FORMATS["junit"]
    with pytest.raises(UsageError, match="names no format"):
        format_for("x.pdf", None)
    with pytest.raises(UsageError, match="unknown"):
        named("yaml")


FORMATS_OF = {"check": FORMATS, "count": COUNT_FORMATS, "doctor": DOCTOR_FORMATS}


@pytest.mark.parametrize("command", FORMATS_OF)
def test_help_offers_the_formats_that_there_are(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build([command]).parse_args([command, "--help"])
    offered = re.search(r"--format F\s+(.*?); default", " ".join(capsys.readouterr().out.split()))
    assert offered and re.split(r", | or ", offered[1]) == list(FORMATS_OF[command])


def test_the_reference_lists_the_formats_that_there_are() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| (?:`(\.\w+)`)? ?\|", REFERENCE.read_text())
    assert rows == [(name, *(form.suffixes or ("",))) for name, form in FORMATS.items()]


def test_what_agrees_is_one_sentence() -> None:
    states = {**msgspec.structs.asdict(clean().state_matrix[0]), "verdict": None}
    row = MatrixRow(**states)
    leftover = msgspec.structs.replace(row, client="TIME_WAIT", server=None)
    wrong = msgspec.structs.replace(row, server=None, verdict=Verdict.MISSING_ON_SERVER)

    def said(agreeing: int, *rows: MatrixRow) -> str | None:
        return agreement(msgspec.structs.replace(clean(), agreeing=agreeing, state_matrix=rows))

    assert said(212, row, leftover) == "212 connections agree (212 ESTABLISHED)"
    assert said(1, msgspec.structs.replace(row, count=1), wrong) == "1 more connection agrees (1 ESTABLISHED)"
    assert said(0, leftover) is None
