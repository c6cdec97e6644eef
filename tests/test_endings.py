"""Every way the program can end from outside: streams that are closed or full, no working directory, signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab.waiting import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
MODULE = [sys.executable, "-m", "halfopen"]
SCRIPT = [str(Path(sys.executable).with_name("halfopen"))]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="streams and signals are those of POSIX")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="local hosts are read by the probe on Linux")


def shell(line: str, folder: Path = ROOT) -> tuple[int, str, str]:
    """Runs a line of shell in which `halfopen` is the program: exit code, stdout, stderr."""
    function = f'halfopen() {{ PYTHONPATH={ROOT} {sys.executable} -m halfopen "$@"; }}; '
    done = subprocess.run(["bash", "-c", function + line], capture_output=True, text=True, timeout=60, cwd=folder)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", ["schema report", "--help", "count --help", "explain", "--version"])
def test_a_report_that_cannot_be_written_is_exit_2_and_one_line(command: str) -> None:
    code, _, err = shell(f"halfopen {command} >&-")
    assert code == 2 and err.count("halfopen: ") == 1 and "stdout is closed" in err
    if Path("/dev/full").exists():
        code, _, err = shell(f"halfopen {command} > /dev/full")
        assert code == 2 and err.count("halfopen: ") == 1 and "stdout cannot be written: No space left" in err


@linux
@pytest.mark.parametrize(("stream", "argv"), [("stdout", ["schema", "report"]), ("stderr", ["explain", "xyz"])])
def test_a_full_pipe_that_does_not_block_is_waited_for(stream: str, argv: list[str]) -> None:
    """Whoever has the other end may have made it so, as programs do that read from several."""
    import fcntl  # which Windows does not have

    found = []
    for blocks in (True, False):
        reading, writing = os.pipe()
        full = b"x" * fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        os.write(writing, full)
        os.set_blocking(writing, blocks)
        process = subprocess.Popen([*MODULE, *argv], **{stream: writing}, cwd=ROOT)  # type: ignore[call-overload]
        os.close(writing)
        time.sleep(0 if blocks else 1)  # longer than it takes to begin
        with os.fdopen(reading, "rb") as file:
            found.append((file.read().removeprefix(full), process.wait(PATIENCE)))
    assert found[0] == found[1] and found[0][0]


@pytest.mark.parametrize("nowhere", ["2>&-", "2>/dev/full"])
def test_messages_that_nobody_can_be_told_change_no_exit_code(nowhere: str) -> None:
    assert shell(f"halfopen explain unknown {nowhere}")[0] == 0
    assert shell(f"halfopen explain xyz {nowhere}") == (2, "", "")


@linux
def test_a_stream_that_is_closed_is_not_taken_for_a_file_of_ours() -> None:
    """The first file that is opened would have its number: a socket, or a pipe to the probe."""
    code, out, err = shell("halfopen check local local --port 1 <&- 2>&-")
    assert (code, err) == (0, "") and out.startswith("clean, but nothing was compared")


def test_a_reader_who_leaves_is_130_and_quiet() -> None:
    code, _, err = shell("set -o pipefail; halfopen explain | true")
    assert (code, err) in ((130, ""), (0, ""))  # 0: all of it was in the pipe before its reader had gone
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*MODULE, "explain"], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writing)
    assert (done.returncode, done.stderr) == (130, "")


@linux
@pytest.mark.parametrize("nobody", ["> /dev/full", "| true"])
def test_evidence_is_saved_where_stdout_cannot_be_written(nobody: str, tmp_path: Path) -> None:
    code, _, _ = shell(f"set -o pipefail; halfopen check local local --port 1 --save {tmp_path}/ev {nobody}")
    assert code in (2, 130, 0)  # 0: all of it was in the pipe before its reader had gone
    assert [one.name for one in (tmp_path / "ev").iterdir()] == ["local.halfopen"]


@linux
def test_without_a_working_directory_only_what_is_relative_to_it_fails(tmp_path: Path) -> None:
    gone, file = tmp_path / "gone", tmp_path / "report.json"
    leave = f"mkdir {gone} && cd {gone} && rmdir {gone} &&"
    code, out, _ = shell(f"{leave} halfopen check local local --port 1 -o {file}", tmp_path)
    assert code == 0 and out.startswith("clean") and file.exists()
    for relative in ("check local local --port 1 -o report.json", "check --inventory x.toml"):
        code, _, err = shell(f"{leave} halfopen {relative}", tmp_path)
        assert code == 2 and "(deleted working directory)" in err


def test_a_bug_is_exit_4_even_where_its_details_cannot_be_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from test_cli import run

    monkeypatch.setattr("halfopen.cli.main", lambda *_: 1 // 0)
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: os.open(tmp_path / "no" / "such", os.O_RDONLY))
    code, _, err = run("check", folder=tmp_path)
    assert code == 4 and "ZeroDivisionError" in err and "Traceback" not in err


@pytest.mark.parametrize("program", [SCRIPT, MODULE], ids=["script", "module"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda one: one.name)
def test_a_signal_at_any_moment_of_the_start_is_130(program: list[str], number: signal.Signals) -> None:
    """But for the time in which only Python itself runs, which knows no better than to be killed, or to say so."""
    # At some moments of the start, and when it surely runs: it has connected, and waits for a banner.
    for delay in (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.21, 0.24, 0.27, None):
        with socket.create_server(("127.0.0.1", 0)) as mute:
            target = f"127.0.0.1:{mute.getsockname()[1]}"
            argv = [*program, "check", target, target]
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
            mute.settimeout(PATIENCE)
            reached = None
            if delay is None:
                reached = mute.accept()[0]
            else:
                time.sleep(delay)
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
            if reached is not None:
                reached.close()
        if process.returncode == 130:
            assert (out, err) == ("", "halfopen: interrupted\n")
        elif "KeyboardInterrupt" in err:
            # Python's own start was interrupted, or lost it and said so; or the import of our first module was.
            assert delay is not None and not re.search(rf'File "{ROOT}/halfopen/.*, in (?!<module>)', err), err
        else:
            assert delay is not None and (process.returncode, out, err) == (-number, "", ""), (process.returncode, err)


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As nohup has it."""
    code, out, err = shell('trap "" HUP; halfopen explain & sleep 0.05; kill -HUP $!; wait $!')
    assert (code, err) == (0, "") and "missing-on-server" in out


def test_a_second_signal_does_not_cut_short_what_closes() -> None:
    code, out, err = signalled(CLOSES, signal.SIGHUP, signal.SIGTERM)
    assert (code, out) == (130, "closing\nclosed\n"), err


def signalled(program: str, *numbers: signal.Signals) -> tuple[int, str, str]:
    """Sends each signal to a Python program when it has written its next line; its exit status and streams."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = []
    for number in numbers:
        lines.append(process.stdout.readline())
        process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, "".join([*lines[1:], out]), err


CLOSES = f"""
import os, sys, time
sys.path.insert(0, "{ROOT}")
import halfopen.cli, halfopen.__main__ as program
def command(*_):
    try:
        os.write(1, b"begun\\n")
        time.sleep(600)
    finally:
        os.write(1, b"closing\\n")
        time.sleep(0.6)
        os.write(1, b"closed\\n")
halfopen.cli.main = command
program.run()
"""


def test_an_interrupt_that_a_library_swallows_ends_all_the_same() -> None:
    swallows = CLOSES.replace(
        "        time.sleep(600)\n", "        time.sleep(600)\n    except BaseException:\n        time.sleep(600)\n"
    )
    assert signalled(swallows, signal.SIGTERM) == (130, "", "halfopen: interrupted\n")


IMPORTS = f"""
import os, sys, time
sys.path[:0] = ["{ROOT}", sys.argv[1]]
import halfopen.cli, halfopen.__main__ as program
def command(*_):
    import loses_what_is_raised
    os.write(1, b"imported\\n")
    for _ in range(25):  # less than CLOSING, behind which the process ends whatever has become of the interrupt
        time.sleep(0.1)
    os.write(1, b"went on\\n")
halfopen.cli.main = command
program.run()
"""


def test_an_interrupt_while_a_module_is_imported_waits_for_its_end(tmp_path: Path) -> None:
    """A module written in C may lose it: so did one in a hundred Ctrl-C within the first tenth of a second."""
    module = (
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(0.1)\nexcept BaseException:\n    pass\n"
    )
    (tmp_path / "loses_what_is_raised.py").write_text(module)
    done = subprocess.run([sys.executable, "-c", IMPORTS, tmp_path], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (130, "imported\n", "halfopen: interrupted\n")
