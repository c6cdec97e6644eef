"""`halfopen collect` on this machine: what it writes, where, and what wrong usage gets."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from halfopen import probe
from halfopen.__main__ import main
from halfopen.environment import Environment
from halfopen.evidence.saved import decode
from halfopen.files import save_hosts
from halfopen.reach import shell
from halfopen.reach.exchange import remote_command

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="this machine is read by the probe on Linux")


def run(*argv: str, folder: Path, **variables: str) -> tuple[int, bytes, str]:
    raw, err = io.BytesIO(), io.StringIO()
    out = io.TextIOWrapper(raw)
    code = main(argv, Environment({"HOME": str(folder), **variables}, folder, io.StringIO(), out, err))
    out.flush()
    return int(code), raw.getvalue(), err.getvalue()


@LINUX
def test_local_needs_neither_inventory_nor_ssh(tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text("this is no inventory")
    code, out, err = run("collect", "--local", "-o", "there", folder=tmp_path)
    assert (code, err) == (0, "")
    (path,) = (tmp_path / "there").iterdir()
    assert out.decode().split() == [f"there/{path.name}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    saved = decode(path.read_bytes(), path.name)
    assert saved.host == os.uname().nodename and path.name == f"{saved.host}.halfopen"
    assert saved.error is None and len(saved.namespaces) >= 1 and saved.sysctls and saved.before


@LINUX
def test_a_file_or_stdout_may_take_the_one_snapshot(tmp_path: Path) -> None:
    assert run("collect", "--local", "-o", "mine.halfopen", folder=tmp_path)[0] == 0
    code, out, _ = run("collect", "--local", "-o", "-", folder=tmp_path)
    assert code == 0
    assert decode(out, "stdout").host == decode((tmp_path / "mine.halfopen").read_bytes(), "file").host
    assert [one.name for one in tmp_path.iterdir()] == ["mine.halfopen"]


@LINUX
def test_a_host_that_cannot_be_read_has_a_file_that_says_why(tmp_path: Path) -> None:
    code, out, err = run("collect", "local", "127.0.0.1:1", folder=tmp_path)
    assert code == 3 and out.decode().split() == ["local.halfopen", "127.0.0.1_1.halfopen"]
    assert "connection-refused" in err and "Traceback" not in err
    code, out, _ = run("analyse", "local.halfopen", "127.0.0.1_1.halfopen", folder=tmp_path)
    assert code == 3 and b"connection-refused" in out


@LINUX
def test_two_rounds_are_two_dumps(tmp_path: Path) -> None:
    run("collect", "--local", "--rounds", "3", "--settle", "0", "-o", "x.halfopen", folder=tmp_path)
    saved = decode((tmp_path / "x.halfopen").read_bytes(), "x")
    assert len(saved.later) == 2 and saved.before.keys() == saved.after.keys()


@LINUX
def test_redacted_files_carry_no_name_either(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef0123456789abcdef\n")
    for _ in range(2):
        assert run("collect", "--local", "--redact-with", "secret", "-o", "out", folder=tmp_path)[0] == 0
    path, again = sorted((tmp_path / "out").iterdir(), key=lambda one: len(one.name))
    assert again.name == f"{path.stem}-2.halfopen"
    assert path.name.startswith("host-") and decode(path.read_bytes(), "it").redacted
    assert run("collect", "--local", "--redact", "-o", "out", folder=tmp_path)[0] == 0
    assert len(list((tmp_path / "out").iterdir())) == 3


@LINUX
def test_whose_redacted_file_is_whose_is_said_here_and_nowhere_else(tmp_path: Path) -> None:
    code, out, err = run("collect", "local", "127.0.0.1:1", "--redact", folder=tmp_path)
    names = out.decode().split()
    assert code == 3 and all(name.startswith("host-") for name in names)
    assert f"local is {names[0].removesuffix('.halfopen')} in its file" in err
    assert "127.0.0.1:1: connection-refused: 127.0.0.1 refuses connections to port 1" in err
    assert "refuses" not in repr(decode((tmp_path / names[1]).read_bytes(), "it"))


def test_all_that_can_be_sent_is_printed_as_it_is_sent(tmp_path: Path) -> None:
    code, out, _ = run("collect", "--print-probe", folder=tmp_path)
    sent = (
        probe.source(),
        probe.joined(probe.SURVEY),
        probe.joined(probe.ASKING),
        shell.script(),
        shell.COMMAND.encode(),
    )
    assert code == 0 and all(one in out for one in (*sent, remote_command(None).encode()))
    assert probe.source(probe.SURVEY) == probe.source() + b"\n\n" + probe.joined(probe.SURVEY)
    headings = [line for line in out.decode().splitlines() if line.startswith("# What comes over its stdin")]
    assert len(headings) == 2


USAGE = {
    ("collect",): "halfopen collect --local",
    ("collect", "--local", "web1"): "this machine alone",
    ("collect", "-oProxyCommand=id", "--", "-x"): "is not a valid host name",
    ("collect", "tag:web"): "selects no host",
    ("collect", "a", "b", "-o", "-"): "-o DIR",
    ("collect", "--local", "--redact-with", "missing"): "cannot be read",
    ("collect", "--local", "--redact-with", "short"): "too short",
    ("collect", "--rounds", "0", "local"): "is not a valid number",
}


@pytest.mark.parametrize("argv", USAGE, ids=" ".join)
def test_wrong_usage_is_exit_2_with_a_word_that_helps(argv: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "short").write_text("abc")
    code, out, err = run(*argv, folder=tmp_path)
    assert (code, out) == (2, b"") and USAGE[argv] in err and "Traceback" not in err


def test_two_hosts_never_share_a_file(tmp_path: Path) -> None:
    names = ["a:b", "a_b", "../a_b", "a/b", ".hidden", ""]
    written = save_hosts(tmp_path, {name: name.encode() for name in names})
    assert [path.read_bytes().decode() for path in written] == names
    assert all(path.parent == tmp_path and not path.name.startswith(".") for path in written)


@LINUX
def test_a_dead_disk_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run("collect", "--local", "-o", "file/folder", folder=tmp_path)
    assert code == 2 and "Traceback" not in err and "cannot be made" in err
    code, out, err = run("check", "local", "local", "--port", "1", "--save", "file/folder", folder=tmp_path)
    assert (code, out) == (2, b"") and "cannot be made" in err  # before the run, so no report is lost with it


def test_collect_without_a_host_imports_no_ssh() -> None:
    code = (
        "import sys\nfrom halfopen.__main__ import main\nfrom halfopen.environment import here\n"
        "main(['collect', '--print-probe'], here())\nprint('paramiko' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "False"
