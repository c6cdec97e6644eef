"""Files that a run writes: tried before it, whole, and nothing that exists is destroyed."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfopen.__main__ import main
from halfopen.environment import Environment
from halfopen.evidence.saved import decode

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the probe reads this machine on Linux")
ROOT = Path(__file__).parent.parent
CHECK = ("check", "local", "local", "--port", "1")


def run(*argv: str, folder: Path) -> tuple[int, str, str]:
    raw, err = io.BytesIO(), io.StringIO()
    out = io.TextIOWrapper(raw, write_through=True)
    code = main(argv, Environment({"HOME": str(folder)}, folder, io.StringIO(), out, err))
    out.flush()
    return int(code), raw.getvalue().decode(), err.getvalue()


def program(*argv: str, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The program as a process, with the descriptors of a shell."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=60, cwd=folder, env=environment, check=False, **options
    )


@pytest.fixture
def unreached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that were reached: none, unless a test fails."""
    names: list[str] = []
    monkeypatch.setattr("halfopen.run.fleet.Fleet.begin", lambda *_: names.append("a host"))
    return names


def device(path: Path, kind: int, major: int, minor: int) -> None:
    """A device of this test alone: one of the machine's own must not be lost if the program replaces it."""
    try:
        os.mknod(path, kind | 0o666, os.makedev(major, minor))
    except PermissionError:
        pytest.skip("only root makes devices")


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    device(tmp_path / "null.json", stat.S_IFCHR, 1, 3)
    code, out, err = run(*CHECK, "-o", "null.json", folder=tmp_path)
    assert (code, err) == (0, "") and out.startswith("clean")
    assert stat.S_ISCHR((tmp_path / "null.json").stat().st_mode)


def test_a_fifo_stays_a_fifo_and_its_reader_gets_the_report(tmp_path: Path) -> None:
    path = tmp_path / "pipe.json"
    os.mkfifo(path)
    read: list[str] = []

    def reader() -> None:
        time.sleep(0.3)  # later than the program: it waits for a reader
        read.append(path.read_text())

    thread = threading.Thread(target=reader)
    thread.start()
    code, out, err = run(*CHECK, "-o", "pipe.json", folder=tmp_path)
    thread.join(10)
    assert (code, err) == (0, "") and out.startswith("clean")
    assert json.loads(read[0])["outcome"] == "clean" and stat.S_ISFIFO(path.stat().st_mode)


def test_a_fifo_without_a_reader_is_refused_and_does_not_hang(tmp_path: Path, unreached: list[str]) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    began = time.monotonic()
    code, out, err = run(*CHECK, "--timeout", "0.3", "-o", "pipe.json", folder=tmp_path)
    assert time.monotonic() - began < 5
    assert (code, out, unreached) == (2, "", []) and "Nobody reads this FIFO: pipe.json cannot be written" in err


def test_a_reader_that_stops_reading_does_not_hang_the_program(tmp_path: Path) -> None:
    """Its pipe is full: the rest of the report is said to be lost, and stdout has all of it."""
    os.mkfifo(tmp_path / "pipe.json")
    handle = os.open(tmp_path / "pipe.json", os.O_RDONLY | os.O_NONBLOCK)
    filler = os.open(tmp_path / "pipe.json", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(filler, bytes(4096))
    except BlockingIOError:
        pass
    code, out, err = run(*CHECK, "--timeout", "5", "-o", "pipe.json", folder=tmp_path)
    os.close(filler)
    os.close(handle)
    assert code == 3 and out.startswith("clean") and "Its reader takes nothing: pipe.json could not be written" in err


def test_a_command_of_the_shell_takes_a_report(tmp_path: Path) -> None:
    line = f"{sys.executable} -m halfopen {' '.join(CHECK)} --format json -o >(cat > copy) && sleep 0.5"
    done = program("bash", "-c", line, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "copy").read_text() == done.stdout != ""


def test_an_open_descriptor_goes_on_where_it_is(tmp_path: Path) -> None:
    """As /dev/stdout of a shell that has opened a file: opened again, it would begin at the start of that file."""
    (tmp_path / "link.json").symlink_to("/proc/self/fd/1")
    line = f"{sys.executable} -m halfopen {' '.join(CHECK)} --format json -o link.json > both"
    done = program("bash", "-c", f"{line} && ls -A", folder=tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "both\nlink.json\n")
    first, second = (tmp_path / "both").read_text().split("\n}\n", 1)
    assert json.loads(first + "}") == json.loads(second)


def test_a_descriptor_that_is_not_open_is_refused(tmp_path: Path, unreached: list[str]) -> None:
    code, out, err = run(*CHECK, "--format", "json", "-o", "/dev/fd/987", folder=tmp_path)
    assert (code, out, unreached) == (2, "", []) and "Bad file descriptor" in err


def test_a_symlink_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old.json").write_text("old")
    (tmp_path / "a.json").symlink_to("there/old.json")
    (tmp_path / "b.json").symlink_to("there/new.json")  # nothing is there yet
    assert run(*CHECK, "-o", "a.json", "-o", "b.json", folder=tmp_path)[0] == 0
    assert (tmp_path / "a.json").is_symlink() and (tmp_path / "b.json").is_symlink()
    assert sorted(one.name for one in (tmp_path / "there").iterdir()) == ["new.json", "old.json"]
    assert json.loads((tmp_path / "there" / "old.json").read_text())["outcome"] == "clean"


def test_a_file_with_two_names_stays_one_file(tmp_path: Path) -> None:
    old, other = tmp_path / "old.json", tmp_path / "other.json"
    old.write_text("old" * 10_000)  # longer than what comes
    other.hardlink_to(old)
    assert run(*CHECK, "-o", "old.json", folder=tmp_path)[0] == 0
    assert old.samefile(other) and json.loads(other.read_text())["outcome"] == "clean"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["old.json", "other.json"]


def test_the_mode_of_a_file_is_kept_and_a_new_one_is_private(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "old.json").chmod(0o644)
    assert run(*CHECK, "-o", "old.json", "-o", "new.json", folder=tmp_path)[0] == 0
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("old.json", "new.json")] == [0o644, 0o600]


def test_the_owner_of_a_file_is_kept(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    (tmp_path / "old.json").write_text("old")
    os.chown(tmp_path / "old.json", 65534, 65534)
    assert run(*CHECK, "-o", "old.json", folder=tmp_path)[0] == 0
    assert (tmp_path / "old.json").stat().st_uid == 65534


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from halfopen.files import write_whole

    (tmp_path / "old").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fchmod", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "old", b"new")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("old", "old")]


UNWRITABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no/such/folder/x.json": (lambda _: None, "No such file or directory"),
    "file/x.json": (lambda folder: (folder / "file").write_text(""), "Not a directory"),
    "folder.json": (lambda folder: (folder / "folder.json").mkdir(), "Is a folder"),
    "loop.json": (lambda folder: (folder / "loop.json").symlink_to("loop.json"), "symbolic links"),
    "/proc/version.json": (lambda _: None, "No such file or directory"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_cannot_be_written_is_said_before_any_host_is_reached(
    name: str, tmp_path: Path, unreached: list[str]
) -> None:
    make, reason = UNWRITABLE[name]
    make(tmp_path)
    code, out, err = run(*CHECK, "-o", name, folder=tmp_path)
    assert (code, out, unreached) == (2, "", [])
    assert reason in err and f"{name} cannot be written" in err


@pytest.mark.parametrize("command", ["count", "doctor"])
def test_the_other_reports_are_tried_as_well(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfopen.commands.reaching.visit", lambda *_: pytest.fail("a host was reached"))
    code, out, err = run(command, "local", "-o", "no/such/folder/x.json", folder=tmp_path)
    assert (code, out) == (2, "") and "cannot be written" in err


def test_a_disk_that_is_not_there_is_not_overwritten(tmp_path: Path, unreached: list[str]) -> None:
    device(tmp_path / "disk.json", stat.S_IFBLK, 7, 250)
    code, out, err = run(*CHECK, "-o", "disk.json", folder=tmp_path)
    assert (code, out, unreached) == (2, "", []) and "Is a block device" in err


@pytest.mark.parametrize(
    "names", [("a.json", "a.json"), ("a.json", "./b/../a.json"), ("a.json", "link.json"), ("a.json", "hard.json")]
)
def test_two_outputs_to_one_file_are_refused(names: tuple[str, str], tmp_path: Path, unreached: list[str]) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "link.json").symlink_to("a.json")
    if "hard.json" in names:
        (tmp_path / "a.json").write_text("old")
        os.link(tmp_path / "a.json", tmp_path / "hard.json")
    code, out, err = run(*CHECK, *(word for name in names for word in ("-o", name)), folder=tmp_path)
    assert (code, out, unreached) == (2, "", []) and f"-o {names[0]} and -o {names[1]} are one file" in err


def test_what_fails_after_the_run_costs_no_other_report(tmp_path: Path) -> None:
    """A full device is only noticed when it is written: stdout and the other files have the report by then."""
    device(tmp_path / "full.json", stat.S_IFCHR, 1, 7)
    code, out, err = run(*CHECK, "-o", "full.json", "-o", "good.json", folder=tmp_path)
    assert code == 3 and out.startswith("clean")
    assert "No space left on device: full.json could not be written" in err
    assert json.loads((tmp_path / "good.json").read_text())["exit_code"] == 0


@pytest.mark.parametrize(("code", "expected"), [(0, 3), (1, 1), (3, 3)])
def test_a_lost_output_is_never_0_and_hides_no_finding(code: int, expected: int, tmp_path: Path) -> None:
    from halfopen.commands.deliver import save

    err = io.StringIO()
    environment = Environment({}, tmp_path, io.StringIO(), io.StringIO(), err)
    assert save(tmp_path / "gone", {"web1": b""}, code, environment) == expected
    assert "gone could not be written" in err.getvalue()


def test_files_are_written_though_stdout_is_closed(tmp_path: Path) -> None:
    line = f"{sys.executable} -m halfopen {' '.join(CHECK)} -o kept.json >/dev/full"
    program("bash", "-c", line, folder=tmp_path)
    assert json.loads((tmp_path / "kept.json").read_text())["outcome"] == "clean"


def test_earlier_evidence_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(*CHECK, "--save", "kept", folder=tmp_path)[0] == 0
    (path,) = (tmp_path / "kept").iterdir()
    before = path.read_bytes()
    monkeypatch.setattr("halfopen.run.fleet.Fleet.begin", lambda *_: pytest.fail("a host was reached"))
    for argv in ((*CHECK, "--save", "kept"), ("collect", "local", "-o", "kept")):
        code, out, err = run(*argv, folder=tmp_path)
        assert (code, out) == (2, "") and "local.halfopen is in" in err and "another folder" in err
    assert path.read_bytes() == before and len(list((tmp_path / "kept").iterdir())) == 1


def test_nor_is_that_of_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "db1.halfopen").write_text("earlier")
    monkeypatch.setattr("halfopen.demo.breaks.build", lambda: pytest.fail("connections were broken"))
    code, out, err = run("demo", "--save", ".", folder=tmp_path)
    assert (code, out) == (2, "") and "db1.halfopen is in" in err


def test_a_host_that_names_itself_gets_a_name_that_is_free(tmp_path: Path) -> None:
    """What it is called is known when it has been read, and its evidence cannot be read again."""
    name = os.uname().nodename
    (tmp_path / f"{name}.halfopen").write_text("earlier")
    code, out, _ = run("collect", "--local", folder=tmp_path)
    assert (code, out) == (0, f"{name}-2.halfopen\n")
    assert (tmp_path / f"{name}.halfopen").read_text() == "earlier"
    assert decode((tmp_path / f"{name}-2.halfopen").read_bytes(), "it").host == name


def test_evidence_of_one_host_goes_through_a_pipe(tmp_path: Path) -> None:
    line = f"{sys.executable} -m halfopen collect --local -o >(cat > copy) && sleep 0.5"
    done = program("bash", "-c", line, folder=tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert decode((tmp_path / "copy").read_bytes(), "copy").host == os.uname().nodename


def test_no_output_replaces_what_is_read(tmp_path: Path) -> None:
    heading = "State Recv-Q Send-Q Local Address:Port Peer Address:Port\n"
    own = tmp_path / "own.txt"
    own.write_text(f"{heading}ESTAB 0 0 10.0.0.1:40000 10.0.0.2:5432\n")
    (tmp_path / "srv.txt").write_text(f"{heading}ESTAB 0 0 10.0.0.2:5432 10.0.0.1:40000\n")
    (tmp_path / "link.txt").symlink_to(own)
    before = own.read_bytes()
    for output in ("own.txt", "link.txt"):
        code, _, err = run("analyse", "own.txt", "srv.txt", "-o", output, folder=tmp_path)
        assert code == 2 and "the evidence in own.txt" in err and own.read_bytes() == before


def test_a_report_on_stdout_is_not_replaced_by_an_output(tmp_path: Path) -> None:
    line = f"{sys.executable} -m halfopen {' '.join(CHECK)} --format json -o r.json > r.json"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "stdout and -o r.json are one file" in done.stderr
