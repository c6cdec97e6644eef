"""The program from outside: usage errors, exit codes, what is imported, and that nothing ends in a traceback."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab.waiting import PATIENCE

from halfopen.__main__ import main
from halfopen.cli import COMMANDS, build
from halfopen.environment import Environment
from halfopen.schema.report import CauseCode, Confidence, OutlookCode, Verdict

ROOT = Path(__file__).resolve().parent.parent


def run(*argv: str, folder: Path, **variables: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(argv, Environment({"HOME": str(folder), **variables}, folder, io.StringIO(), out, err))
    return int(code), out.getvalue(), err.getvalue()


TRUSTED = {"HALFOPEN_INVENTORY": "inventory.toml"}
INVENTORY = """
[hosts.web1]
address = "127.0.0.1"
[hosts.here]
transport = "local"
[checks.self]
client = "here"
server = "here"
"""

USAGE = {
    ("chekc",): "did you mean check?",
    ("check", "--prot", "80", "a", "b"): "did you mean --port?",
    ("check", "--port", "70000", "a", "b"): "'70000' is not a valid port",
    ("check", "--port", "80,nosuchservice", "a", "b"): "'nosuchservice' is not a valid port",
    ("check", "--port", "99999", "local", "local"): "halfopen check --help",
    ("check", "--transport", "paramkio", "a", "b"): "did you mean paramiko?",
    ("check", "--port", "9-3", "a", "b"): "'9-3' is not a valid port",
    ("check", "--port", "0-3", "a", "b"): "'0-3' is not a valid port",
    ("check", "--port", "1-99999", "a", "b"): "'1-99999' is not a valid port",
    ("check", "--port", "80,", "a", "b"): "'' is not a valid port",
    ("check", "--port=\0", "a", "b"): "is not a valid port",
    ("check", "a", "b", "--form", "json"): "did you mean --format?",
    ("check", "--inv", "x.toml"): "did you mean --inventory?",
    ("demo", "--max", "nonsense"): "halfopen demo --help",
    ("check", "--settle", "nan", "a", "b"): "not a valid number of seconds",
    ("check", "--max", "half-closed", "a", "b"): "VERDICT=N",
    ("check", "--max", "half-open=1", "a", "b"): "did you mean 'half-closed'",
    ("check", "--allow", "halfclosed", "a", "b"): "did you mean 'half-closed'",
    ("check", "-oProxyCommand=id", "web1"): "names no format",
    ("check", "--", "-oProxyCommand=id", "web1"): "is not a valid host name",
    ("check", "a"): "two names",
    ("check", "web1", "here", "web1"): "halfopen check CLIENT SERVER",
    ("check", "self", "web1"): "is a check and 'web1' is not",
    ("check", "--format", "yaml", "local", "local"): "is unknown",
    ("check", "-o", "x.pdf", "local", "local"): "names no format",
    ("check", "--inventory", "missing.toml"): "there is no inventory",
    ("analyse", "missing.halfopen"): "cannot be read",
    ("analyse",): "name the client's file",
    ("schema", "reprot"): "invalid choice",
    ("explain", "sny-cookie-ack-lost"): "did you mean 'syn-cookie-ack-lost'?",
    ("explain", "xyz"): "halfopen explain lists all",
    ("count",): "required: HOST",
    ("count", "web1", "--pid", "0"): "not a valid number",
    ("count", "web1", "--format", "junit"): "one of text, json",
    ("count", "web1", "-o", "x.md"): "names no format",
    ("doctor",): "required: HOST",
    ("doctor", "--", "-oProxyCommand=id"): "is not a valid host name",
}


@pytest.mark.parametrize("argv", USAGE, ids=" ".join)
def test_wrong_usage_is_exit_2_with_a_word_that_helps(argv: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(INVENTORY)
    code, out, err = run(*argv, folder=tmp_path, **TRUSTED)
    assert (code, out) == (2, "")
    assert USAGE[argv] in err and "Traceback" not in err and err.startswith("halfopen: ")


JUDGED = {
    "--port",
    "--rounds",
    "--fail-on",
    "--max",
    "--allow",
    "--require-connections",
    "--baseline",
    "--max-suspects",
}
SHOWN = {"--format", "--json", "-o", "--all", "-v", "-q", "--no-color"}
REACHING = {"--inventory", "--connect-timeout", "--timeout", "--jump", "--transport", "--host-keys"}
OFFERED = {
    "check": REACHING | JUDGED | SHOWN | {"--settle", "--forks", "--deep", "--ask", "--save", "--retry-for"},
    "collect": (
        (REACHING | {"--port", "--rounds", "--settle", "--forks", "-o"})
        | {"--local", "--redact", "--redact-with", "--print-probe", "--deep"}
    ),
    "analyse": JUDGED | SHOWN | {"--inventory", "--client", "--server", "--nat"},
    "diff": SHOWN - {"-v"},
    "count": REACHING | SHOWN | {"--port", "--pid"},
    "doctor": (REACHING | SHOWN | {"--forks"}) - {"--all"},
    "demo": SHOWN | {"--save"},
    "explain": set(),
    "config": {"--inventory"},
    "schema": set(),
}


ARGUMENTS = {"config": ("validate",), "schema": ("report",), "count": ("a",), "doctor": ("a",), "diff": ("a", "b")}
"""What a command needs beside its options."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_offers_the_options_that_it_uses_and_no_other(command: str, tmp_path: Path) -> None:
    sub = build([command]).chosen()[list(COMMANDS).index(command)]
    offered = {option for action in sub._actions for option in action.option_strings}
    assert offered - {"-h", "--help"} == OFFERED[command]
    for option in set().union(*OFFERED.values()) - OFFERED[command]:
        code, out, err = run(command, *ARGUMENTS.get(command, ()), option, folder=tmp_path)
        assert (code, out) == (2, "") and f"unrecognized arguments: {option}" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_not_abbreviated(command: str, tmp_path: Path) -> None:
    whole = {option for option in OFFERED[command] if option.startswith("--")}
    for short in {option[:-1] for option in whole} - whole:
        code, out, err = run(command, *ARGUMENTS.get(command, ()), short, folder=tmp_path)
        assert (code, out) == (2, "") and f"unrecognized arguments: {short}" in err and "did you mean --" in err


def test_ports_are_numbers_ranges_and_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getservbyname", lambda *asked: {("http", "tcp"): 80, ("ms-sql-s", "tcp"): 1433}[asked])
    argv = ["check", "a", "b", "--port", "5432,8000-8002", "--port", "http", "--port", "8001", "--port", "ms-sql-s"]
    assert build(["check"]).parse_args(argv).port == [5432, 8000, 8001, 8002, 80, 8001, 1433]
    assert len(build(["count"]).parse_args(["count", "a", "--port", "1-65535"]).port) == 65535


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="local hosts are read by the probe on Linux")
@pytest.mark.parametrize("command", [("check", "local", "local"), ("count", "local")], ids=" ".join)
def test_all_ports_by_a_range_are_more_than_the_kernels_filter_takes(command: tuple[str, ...], tmp_path: Path) -> None:
    _, out, err = run(*command, "--port", "1-65535", "--json", folder=tmp_path)
    assert err == "" and json.loads(out)["schema"] == f"halfopen.{'report' if command[0] == 'check' else 'count'}/1"
    assert command[0] == "count" or json.loads(out)["checks"][0]["client"]["error"] is None


@pytest.mark.parametrize(
    ("argv", "code", "hint"),
    [
        (("count", "webb1"), 2, "did you mean 'web1'?"),
        (("check", "web1", "lokal"), 2, "did you mean 'local'?"),
        (("doctor", "ops@webb1:22"), 2, "did you mean 'web1'?"),
        (("count", "webb1", "--jump", "web1"), 3, ""),  # where it leads is the jump host's to say
        (("count", "web2x.example.net"), 3, "how it is spelled"),
        (("count", "renamed1"), 3, "how it is spelled"),  # the inventory means it
    ],
)
@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_a_misspelt_host_is_wrong_usage_and_another_name_that_does_not_resolve_is_not(
    argv: tuple[str, ...], code: int, hint: str, transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = '[hosts.web1]\naddress = "127.0.0.1"\nport = 1\n[hosts.renamed1]\naddress = "renamed"\n'
    (tmp_path / "inventory.toml").write_text(inventory)
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    ssh = tmp_path / "ssh"
    ssh.write_text(
        '#!/bin/sh\n[ "$1" = -G ] && exit 0\n'
        'for name in "$@"; do [ "$before" = -- ] && break; before=$name; done\n'
        'case "$*" in *ProxyCommand=*) exit 255;; esac\n'
        'echo "ssh: Could not resolve hostname $name: Name or service not known" >> "$2"\nexit 255\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def create_connection(target: tuple[str, int], *_: object) -> socket.socket:
        raise ConnectionRefusedError if target[0] == "127.0.0.1" else unknown

    monkeypatch.setattr("halfopen.reach.paramiko.socket.create_connection", create_connection)
    found, out, err = run(*argv, "--transport", transport, folder=tmp_path, **TRUSTED)
    assert (found, out) == (code, "") and hint in err


def test_a_name_server_that_does_not_answer_says_nothing_of_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inventory.toml").write_text(INVENTORY)

    def create_connection(*_: object) -> socket.socket:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr("halfopen.reach.paramiko.socket.create_connection", create_connection)
    code, _, err = run("count", "webb1", "--transport", "paramiko", folder=tmp_path, **TRUSTED)
    assert code == 3 and "cannot be looked up: Temporary failure" in err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="local hosts are read by the probe on Linux")
def test_ports_of_a_range_are_told_as_a_range(tmp_path: Path) -> None:
    _, out, _ = run("check", "local", "local", "--port", "1-3,7", folder=tmp_path)
    assert "there is no connection to port 1-3, 7 from local to itself" in out
    _, out, _ = run("count", "local", "--port", "1-3,7", folder=tmp_path)
    assert out.startswith("local: 0 TCP sockets on :1-3 or :7\n") and "lsof -nP -iTCP:1-3,7 would" in out


def test_every_word_of_a_report_is_explained(tmp_path: Path) -> None:
    code, everything, _ = run("explain", folder=tmp_path)
    assert code == 0
    for word in (*Verdict, *CauseCode, *OutlookCode, *Confidence):
        assert f"  {word} " in everything
        code, out, _ = run("explain", word, folder=tmp_path)
        assert code == 0 and out.startswith(f"{word}  (") and "`" not in out
    assert run("explain", "unknown", folder=tmp_path)[1].count("unknown  (") == 2


def test_with_nothing_to_check_it_says_what_to_type(tmp_path: Path) -> None:
    code, _, err = run("check", folder=tmp_path)
    assert code == 2 and "halfopen check CLIENT SERVER" in err


READERS = (
    ("check",),
    ("check", "app1", "app1"),
    ("check", "other", "app*"),
    ("check", "127.0.0.1:1", "127.0.0.1:1"),
    ("count", "app1"),
    ("doctor", "app1"),
    ("collect", "app1"),
    ("config", "show"),
    ("config", "validate"),
    ("analyse", "a.txt", "b.txt"),
)
TEXT = "State Recv-Q Send-Q Local Address:Port Peer Address:Port\nESTAB 0 0 10.0.0.1:4000 10.0.0.2:80\n"


@pytest.mark.parametrize("argv", READERS, ids=" ".join)
@pytest.mark.parametrize(
    "way",
    [
        'transport = "local"',
        'address = "127.0.0.1"\nport = 1\npython = "./evil"',
        'transport = "exec"\ncommand = ["./evil"]',
        'address = "127.0.0.1"\nport = 1\nsudo = true',
    ],
)
@pytest.mark.parametrize("table", ["hosts.app1", "defaults"])
def test_a_strangers_file_runs_nothing(
    table: str, way: str, argv: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a command would do with it: it is refused as a whole, with the key and what lifts that."""
    monkeypatch.chdir(tmp_path)
    evil = tmp_path / "evil"
    evil.write_text("#!/bin/sh\ntouch ran\n")
    evil.chmod(0o755)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(TEXT)
    python = "" if "python" in way else 'python = "./evil"\n'
    (tmp_path / "inventory.toml").write_text(
        f'[{table}]\n{way}\n{python}[hosts.other]\naddress = "127.0.0.1"\nport = 1\n'
        + ('[hosts.app1]\naddress = "x"\n' if table == "defaults" else "")
        + '[checks.c]\nclient = "app1"\nserver = "app1"\n'
    )
    code, out, err = run(*argv, folder=tmp_path)
    assert (code, out) == (2, "") and f"{table}." in err and "merely lies in the working directory" in err
    assert f"if you trust it: --inventory {tmp_path}/inventory.toml" in err
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="local hosts are read by the probe on Linux")
def test_what_the_user_names_is_taken_as_it_says(tmp_path: Path) -> None:
    """The other side of the test before: the same file runs the same program where it was named."""
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    evil.chmod(0o755)
    (tmp_path / "inventory.toml").write_text(f'[hosts.app1]\ntransport = "local"\npython = "{evil}"\n')
    assert run("count", "app1", "--inventory", "inventory.toml", folder=tmp_path)[0] == 3
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("variables", [{"HOME": ""}, {"HOME": "."}, {"XDG_CONFIG_HOME": ".config"}], ids=str)
def test_a_strangers_folder_is_not_the_config_folder(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".config/halfopen").mkdir(parents=True)
    text = '[hosts.app1]\ntransport = "exec"\ncommand = ["touch", "ran"]\n'
    (tmp_path / ".config/halfopen/inventory.toml").write_text(text)
    out, err = io.StringIO(), io.StringIO()
    environment = Environment({"HOME": "/nonexistent", **variables}, tmp_path, io.StringIO(), out, err)
    assert main(("config", "show"), environment) == 0 and json.loads(out.getvalue())["source"] is None
    assert main(("check", "app1", "app1", "--connect-timeout", "3"), environment) == 3
    assert not (tmp_path / "ran").exists()


def test_a_jump_of_a_strangers_file_leads_through_the_users_ssh_config(tmp_path: Path) -> None:
    text = '[hosts.a]\naddress = "127.0.0.1"\nport = 1\njump = "gate"\n'
    (tmp_path / "inventory.toml").write_text(text)
    code, _, err = run("check", "a", "a", folder=tmp_path)
    assert code == 2 and "hosts.a.jump = 'gate'" in err and "a Host of ~/.ssh/config" in err
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host gate\n")
    assert run("config", "validate", folder=tmp_path)[0] == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="local hosts are read by the probe on Linux")
def test_a_command_that_ends_before_it_has_read_its_input_says_why(tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text('[hosts.x]\ntransport = "local"\npython = "python9"\n')
    code, out, _ = run("check", "x", "x", folder=tmp_path, **TRUSTED)
    assert code == 3 and "no-interpreter: no python9 on the host" in out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="local hosts are read by the probe on Linux")
def test_local_is_read_without_ssh_and_files_are_private(tmp_path: Path) -> None:
    outputs = [str(tmp_path / name) for name in ("a.md", "b.json", "c.xml")]
    code, out, _ = run(
        "check", "local", "local", "--port", "1", *(word for name in outputs for word in ("-o", name)), folder=tmp_path
    )
    assert code == 0 and out.startswith("clean, but nothing was compared")
    assert [stat.S_IMODE(Path(name).stat().st_mode) for name in outputs] == [0o600] * 3
    assert json.loads(Path(outputs[1]).read_text())["outcome"] == "clean"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.md", "b.json", "c.xml"]
    assert run("check", "local", "local", "--port", "1", "--require-connections", "1", folder=tmp_path)[0] == 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="local hosts are read by the probe on Linux")
def test_what_an_inventory_requires_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(INVENTORY + "ports = [1]\nrequire_connections = 1\n")
    argv = ["check", "self", "--inventory", str(path)]
    codes = [run(*argv, *more, folder=tmp_path)[0] for more in ((), ("--require-connections", "0"))]
    assert codes == [3, 0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="local hosts are read by the probe on Linux")
@pytest.mark.parametrize("command", ["count", "doctor"])
def test_count_and_doctor_work_on_this_machine_without_ssh(command: str, tmp_path: Path) -> None:
    outputs = [str(tmp_path / name) for name in ("a.txt", "b.json")]
    code, out, err = run(command, "local", *(word for name in outputs for word in ("-o", name)), folder=tmp_path)
    assert (code, err) == (0, "") and out.startswith("local") and out == Path(outputs[0]).read_text()
    assert json.loads(Path(outputs[1]).read_text())["schema"] == f"halfopen.{command}/1"
    assert [stat.S_IMODE(Path(name).stat().st_mode) for name in outputs] == [0o600] * 2


def test_a_host_that_cannot_be_counted_is_exit_3_and_no_number(tmp_path: Path) -> None:
    code, out, err = run("count", "nosuch.invalid", "--connect-timeout", "5", folder=tmp_path)
    assert (code, out) == (3, "") and "nosuch.invalid" in err and "Traceback" not in err


def test_globs_and_tags_name_many_hosts_of_the_command_line(tmp_path: Path) -> None:
    tables = [f'[hosts.here{number}]\ntransport = "local"\ntags = ["odd"]' for number in (1, 3)]
    (tmp_path / "inventory.toml").write_text("\n".join(tables))
    code, out, _ = run("check", "here*", "tag:odd", "--port", "1", "--format", "json", folder=tmp_path, **TRUSTED)
    (check,) = json.loads(out)["checks"]
    assert code == 0 and check["name"] == "here* -> tag:odd"
    # Both names are selected, and are this one machine.
    assert [one["name"] for one in check["hosts"]] == ["here1"]
    assert any(note.startswith("here1 and here3 are one machine") for note in check["notes"])
    code, _, err = run("check", "here1", "tag:od", folder=tmp_path, **TRUSTED)
    assert code == 2 and "selects no host" in err and "did you mean 'odd'" in err


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    code, _, err = run("check", "local", "local", "--port", "1", "-o", "no/such/folder/x.json", folder=tmp_path)
    assert code == 2 and "cannot be written" in err


def test_a_bug_is_exit_4_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfopen.cli.main", lambda *_: 1 // 0)
    code, _, err = run("check", folder=tmp_path)
    assert code == 4 and "Traceback" not in err
    kept = Path(re.findall(r"\S+halfopen-bug-\S+", err)[0])
    assert "ZeroDivisionError" in kept.read_text()
    kept.unlink()


def test_config_shows_and_validates(tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(INVENTORY)
    code, out, _ = run("config", "show", folder=tmp_path, **TRUSTED)
    assert code == 0 and json.loads(out)["checks"]["self"]["clients"] == ["here"] and json.loads(out)["trusted"]
    assert "2 hosts, 1 checks" in run("config", "validate", folder=tmp_path, **TRUSTED)[1]
    (tmp_path / "inventory.toml").write_text('[hosts.web1]\naddress = "127.0.0.1"')
    code, out, _ = run("config", "show", folder=tmp_path)
    assert code == 0 and not json.loads(out)["trusted"] and "1 hosts" in run("config", "validate", folder=tmp_path)[1]
    (tmp_path / "inventory.toml").write_text("[hosts]\nx = 1")
    assert run("config", "validate", folder=tmp_path)[0] == 2


HEAVY = {"paramiko", "cryptography", "tabulate", "psutil", "junitparser", "asyncio"}


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["check", "--help"],
        ["analyse", "missing"],
        ["schema", "report"],
        ["count", "--help"],
        ["doctor", "--help"],
        ["explain"],
    ],
)
def test_what_needs_no_host_imports_no_ssh(argv: list[str]) -> None:
    code = (
        "import sys\nfrom halfopen.__main__ import main\nfrom halfopen.environment import here\n"
        f"try: main({argv!r}, here())\nexcept SystemExit: pass\n"
        "print(sorted(set(sys.modules) & " + repr(HEAVY) + "), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"


UNUSED = {
    "asyncio",
    "email",
    "importlib.metadata",
    "importlib.resources",
    "junitparser",
    "paramiko",
    "tempfile",
    "zipfile",
}


def test_a_clean_check_imports_nothing_that_it_does_not_use() -> None:
    """What this machine reads of itself, as text; SSH imports more."""
    code = (
        "import sys\nfrom halfopen.__main__ import main\nfrom halfopen.environment import here\n"
        "done = main(['check', 'local', 'local', '--port', '9'], here())\n"
        f"print(done, sorted(set(sys.modules) & {UNUSED!r}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] in ("0 []", "3 []"), done.stderr


@pytest.mark.parametrize("command", ["check", "doctor"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_is_130_without_a_traceback(number: int, command: str, tmp_path: Path) -> None:
    """Even while it waits for a host that does not speak."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        target = f"127.0.0.1:{mute.getsockname()[1]}"
        argv = [sys.executable, "-m", "halfopen", command, target, target]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        mute.accept()
        time.sleep(0.2)  # by then it mostly waits for the first word of the host; any other moment is as good
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err and "interrupted" in err


def test_a_closed_pipe_is_quiet() -> None:
    argv = f"{sys.executable} -m halfopen schema report | head -c 1"
    done = subprocess.run(["sh", "-c", argv], capture_output=True, text=True, cwd=ROOT)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_readme_and_ci_run_the_same_test_command() -> None:
    readme, script = (ROOT / "README.md").read_text(), (ROOT / ".ci/run").read_text()
    commands = re.findall(r"<!-- (demo|tests) -->\n```\n(.+)\n```", readme)
    assert [name for name, _ in commands] == ["demo", "tests"]
    assert "halfopen demo" in commands[0][1] and "pytest" in commands[1][1]
    (found,) = re.findall(r"^test_command=.+$", script, re.MULTILINE)
    said = subprocess.run(["bash", "-c", f'{found}; echo "$test_command"'], capture_output=True, text=True, cwd=ROOT)
    assert said.stdout == commands[1][1] + "\n" and 'bash -c "$test_command"' in script


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="breaks connections by Linux's rules")
def test_the_demo_finds_what_it_made() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "halfopen", "demo"], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "exactly what was made" in done.stderr
    assert done.stdout.startswith("5 half-open connections app1 -> db1")
    assert "never-accepted" in done.stdout and "half-closed" in done.stdout


def test_elsewhere_the_demo_analyses_a_recorded_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    code, out, err = run("demo", folder=tmp_path)
    assert code == 0 and "recorded pair" in err
    assert out.startswith("5 half-open connections app1 -> db1")


@pytest.mark.parametrize("command", [("count", "local"), ("check", "local", "db1"), ("doctor", "local")])
def test_a_strangers_file_does_not_say_what_local_is(command: tuple[str, ...], tmp_path: Path) -> None:
    text = '[hosts.local]\naddress = "127.0.0.1"\nport = 1\n[hosts.db1]\naddress = "10.0.0.9"\n'
    (tmp_path / "inventory.toml").write_text(text)
    code, _, err = run(*command, folder=tmp_path)
    assert code == 2 and "hosts.local is not taken" in err and "--inventory" in err


@pytest.mark.parametrize(
    ("variables", "wanted", "coloured"),
    [
        ({}, True, False),  # a file is no terminal
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colour_is_forced_and_forbidden_by_the_usual_variables(
    variables: dict[str, str], wanted: bool, coloured: bool, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w") as out:
        assert Environment(variables, tmp_path, sys.stdin, out, out).colour(wanted) is coloured
