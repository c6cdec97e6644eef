"""The public face for programs: the same reports as the commands, errors that are raised, and nothing printed."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

import halfopen
from halfopen import options
from halfopen.api import analyse, check, load
from halfopen.schema.report import Outcome, Severity, Verdict

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "halfopen/demo/recorded"
PAIR = [RECORDED / "app1.halfopen", RECORDED / "db1.halfopen"]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="local hosts are read by the probe on Linux")


def command(*argv: object, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command itself, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "halfopen", *map(str, argv)], capture_output=True, text=True, cwd=folder, timeout=60
    )


def test_analyse_load_and_the_command_give_one_report(tmp_path: Path) -> None:
    report = analyse(*PAIR)
    assert command("analyse", *PAIR, "-o", tmp_path / "report.json").returncode == report.exit_code == 1
    found = load(tmp_path / "report.json")  # of files that no run has taken together: their report has its own times
    assert structs.replace(found, started_at=report.started_at, finished_at=report.finished_at) == report
    assert report.outcome is Outcome.FINDINGS and isinstance(report, halfopen.Report)


def test_files_may_be_named_by_role_and_what_fails_may_be_said() -> None:
    report = analyse(client=PAIR[0], server=[str(PAIR[1])], fail_on="never", allow=["half-closed"])
    (found,) = report.checks
    assert {one.severity for one in found.findings} == {*Severity} - {Severity.INFO}
    assert report.exit_code in (0, 3) and any(one.allowed for one in found.findings)
    assert all(one.allowed == (one.verdict is Verdict.HALF_CLOSED) for one in found.findings)
    assert analyse(*PAIR, max={"missing-on-server": 100}).exit_code == 1  # there are others
    assert analyse(*PAIR, ports=[1]).checks[0].connections == 0


@linux
def test_a_check_prints_nothing_and_says_of_a_host_why_it_was_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check("local", "local", ports=[1]).outcome is Outcome.CLEAN
    (tmp_path / "own.toml").write_text('[hosts.a]\ntransport = "local"\npython = "python9"\n')
    report = check("a", "a", inventory=tmp_path / "own.toml")
    assert report.exit_code == 3 and report.checks[0].client.error is not None
    assert report.checks[0].client.error.code == "no-interpreter"
    assert capfd.readouterr() == ("", "")


WRONG = {
    "ports": ({"ports": [70000]}, "ports must be a number from 1 to 65535, not 70000"),
    "a service is no number here": ({"ports": "ssh"}, "ports must be a number"),
    "rounds": ({"rounds": 0}, "rounds must be a number from 1"),
    "settle": ({"settle": float("nan")}, "settle must be seconds"),
    "timeout": ({"timeout": -1}, "timeout must be seconds from 0"),
    "forks": ({"forks": 0}, "forks must be a number from 1"),
    "fail_on": ({"fail_on": "grave"}, "'grave' is not a valid fail_on"),
    "transport": ({"transport": "opensh"}, "'opensh' is not a valid transport"),
    "host_keys": ({"host_keys": "no"}, "'no' is not a valid host_keys"),
    "allow": ({"allow": ["half-open"]}, "'half-open' is not a valid verdict to allow"),
    "max": ({"max": {"half-open": 1}}, "'half-open' is not a valid verdict to set a maximum for"),
    "max of a verdict": ({"max": {"stalled": -1}}, "max.stalled must be a number"),
    "inventory": ({"inventory": "missing.toml"}, "there is no inventory"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_raised_before_any_host_is_reached(name: str) -> None:
    given, message = WRONG[name]
    with pytest.raises(halfopen.UsageError, match=re.escape(message)):
        check("local", "local", **given)  # type: ignore[arg-type]


def saved(folder: Path) -> tuple[Path, dict[str, object]]:
    """A report in a file, and what it holds."""
    path = folder / "report.json"
    assert command("analyse", *PAIR, "-o", path).returncode == 1
    return path, json.loads(path.read_text())


def test_newer_fields_of_a_report_are_left_out_and_bytes_that_are_no_text_kept(tmp_path: Path) -> None:
    path, data = saved(tmp_path)
    before = load(path)
    data["newer"] = {"a": 1}
    data["checks"][0]["newer"] = [1]  # type: ignore[index]
    path.write_text(json.dumps(data))
    assert load(path) == before
    data["checks"][0]["headline"] = "\udcff"  # type: ignore[index]
    path.write_text(json.dumps(data))
    assert load(path).checks[0].headline == "\udcff"


def test_what_is_no_report_is_raised_with_the_file_and_the_place(tmp_path: Path) -> None:
    path, data = saved(tmp_path)
    texts = {
        json.dumps({**data, "exit_code": "1"}): r"Expected `int`, got `str` - at `\$\.exit_code`",
        json.dumps({**data, "schema": "halfopen.report/2"}): r"its schema is 'halfopen.report/2'",
        json.dumps([data]): "its schema is None",
        "{": "not a valid JSON report: .* line 1 column 2",
        "[" * 100_000: "not a valid JSON report",
    }
    for text, message in texts.items():
        path.write_text(text)
        with pytest.raises(halfopen.UsageError, match=message) as caught:
            load(path)
        assert str(path) in caught.value.message and caught.value.hint
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(halfopen.HalfopenError, match="not a valid JSON report"):
        load(path)
    with pytest.raises(halfopen.UsageError, match="cannot be read"):
        load(tmp_path / "missing.json")
    with pytest.raises(halfopen.UsageError, match="cannot be read"):
        analyse(tmp_path / "missing.halfopen")


def test_import_halfopen_costs_nothing_until_it_is_used() -> None:
    code = (
        "import sys; before = set(sys.modules); import halfopen; "
        "print(sorted(set(sys.modules) - before)); halfopen.load; print('halfopen.api' in sys.modules); "
        "print('paramiko' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['halfopen']", "True", "False"]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = halfopen.nothing
    assert all(getattr(halfopen, name) for name in halfopen.__all__)


def test_the_arguments_of_a_check_are_the_options_of_the_command() -> None:
    names = (*options.REACH, *options.JUDGE, "--rounds", "--settle", "--forks", "--deep", "--ask")
    wanted = {name.removeprefix("--").replace("-", "_") for name in names}
    assert set(inspect.signature(check).parameters) == {"client", "server", "ports", *wanted}


@linux
def test_the_examples_of_the_documentation_run(tmp_path: Path) -> None:
    first, second = re.findall(r"(?s)```python\n(.*?)```", (ROOT / "docs/api.md").read_text())
    done = subprocess.run([sys.executable, "-c", first], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stderr == "" and done.stdout.startswith("clean 0\nclean, but nothing was compared")
    done = subprocess.run([sys.executable, "-c", second], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stderr == "" and done.stdout.startswith("report.json cannot be read: No such file")
