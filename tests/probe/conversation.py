"""Runs the probe under any interpreter and talks to it with the real agent, without a network."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from lab.waiting import PATIENCE

from halfopen.reach.agent import Agent
from halfopen.reach.exchange import remote_command


def interpreters() -> dict[str, str]:
    """Every Python from 3.6 on that is installed here: minor version -> path, oldest first."""
    found: dict[str, str] = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [Path("/usr/bin"), Path("/usr/local/bin"), Path(sys.executable).parent, *pyenv.glob("versions/3.*/bin")]
    for path in [path for folder in folders for path in sorted(folder.glob("python3*"))]:
        if re.fullmatch(r"python3(\.\d+)?", path.name):
            run = subprocess.run([path, "-c", "import sys;print('%d.%d'%sys.version_info[:2])"], capture_output=True)
            version = run.stdout.decode().strip()
            if run.returncode == 0 and minor(version) >= 6:
                found.setdefault(version, str(path))
    return {version: found[version] for version in sorted(found, key=minor)}


def minor(version: str) -> int:
    """11 of 3.11."""
    return int(version.partition(".")[2])


def expected() -> list[str]:
    """The versions under which the probe must be tested here: HALFOPEN_PYTHONS, else the one that runs this."""
    return os.environ.get("HALFOPEN_PYTHONS", "{}.{}".format(*sys.version_info[:2])).split()


PYTHONS = interpreters()


class PipeChannel:
    """A channel to a command on this machine, with blocking pipes: tests end by their own time limit."""

    def __init__(self, argv: list[str]) -> None:
        self.deadline = 0.0
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )

    def send(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)

    def receive(self) -> bytes:
        assert self.process.stdout
        return self.process.stdout.read(1 << 20) or b""

    def complaint(self) -> str:
        return ""

    def exit_status(self) -> int | None:
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(PATIENCE)


def open_probe(python: str, wrap: list[str] | None = None) -> Agent:
    """The probe under this interpreter, behind a command that runs a shell if one is given."""
    shell = shutil.which("sh") or "/bin/sh"
    return Agent("here", PipeChannel([*(wrap or []), shell, "-c", remote_command(python)]), "local", python=python)


def bind_apart(listener: socket.socket, host: str) -> None:
    """Binds to a port that no client is given (below ip_local_port_range): what is counted there is the test's own."""
    for port in random.sample(range(20_000, 30_000), 10_000):
        with contextlib.suppress(OSError):
            listener.bind((host, port))
            return
    raise AssertionError("no port is free")
