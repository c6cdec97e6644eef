"""Hosts that stop answering, each at another step: an error of their own in time, and the others' report whole."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from halfopen.demo import server as demo
from halfopen.reach.library import load_paramiko

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 16.0  # enough for the host that answers, on a machine that has much else to do
STARTING = 60.0  # seconds that Python itself may take on such a machine; what hangs does so for ten minutes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="local hosts are read by the probe")

STEPS = ("auth_publickey", "channel_request", "channel_exec_request")
"""Questions that an SSH server is asked, in order; one that hangs never comes back from one of them."""

SHELLS = {
    "silent": "exec sleep 600",
    "deaf": "exec sleep 600 < /dev/null",
    "dribbling": "while :; do echo welcome; sleep 0.2; done",
    "closing": "exec >&- 2>&-; sleep 600",
    # No Python for the probe, and then a shell that takes the script for the shell and says no more.
    "pythonless": """
        [ -e "$0.tried" ] && { echo halfopen-shell-is-here; echo halfopen-shell; exec sleep 600; }
        touch "$0.tried"; echo halfopen-shell-is-here; read -r line; echo halfopen: no python3 found >&2; exit 127""",
}
"""What an `exec` command may do in place of a shell."""

# The resolver of the C library cannot be told a deadline.
SLOW_RESOLVER = """
import socket, time
real = socket.getaddrinfo
socket.getaddrinfo = lambda name, *more, **how: time.sleep(600) if name == "slow" else real(name, *more, **how)
"""


class Hanging(demo.EmbeddedServer):
    """An SSH server that never comes back from one step."""

    def __init__(self, user_key: Any, step: str) -> None:
        self.step = step
        super().__init__(user_key)

    def interface(self) -> Any:
        made = super().interface()
        setattr(made, f"check_{self.step}", lambda *_: time.sleep(600))
        return made


def program(path: Path, text: str) -> str:
    """An executable file; its name."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def hung(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Name -> TOML of hosts that hang, each at another step."""
    folder = tmp_path_factory.mktemp("hung")
    key = load_paramiko().ECDSAKey.generate()
    key.write_private_key_file(str(folder / "key"))
    hosts, known = {}, ""
    with ExitStack() as stack:
        for step in STEPS:
            server = Hanging(key, step)
            stack.callback(server.close)
            known += f"[127.0.0.1]:{server.port} {server.public}\n"
            for way in ("paramiko", "openssh"):
                hosts[f"{step}-{way}"] = (
                    f'address = "127.0.0.1"\nport = {server.port}\nuser = "demo"\ntransport = "{way}"\n'
                    f'identity_file = "{folder}/key"\nknown_hosts = "{folder}/known"'
                )
        (folder / "known").write_text(known)
        for name, text in SHELLS.items():
            hosts[f"shell-{name}"] = f'transport = "exec"\ncommand = ["{program(folder / name, text)}"]'
        python = program(folder / "python", "exec sleep 600")
        hosts["local"] = f'transport = "local"\npython = "{python}"'
        hosts["resolver"] = 'address = "slow"\ntransport = "paramiko"'
        (folder / "sitecustomize.py").write_text(SLOW_RESOLVER)
        yield hosts


def run(folder: Path, hosts: Mapping[str, str], *argv: str, **env: str) -> tuple[int, Any, str, float]:
    """A command with an inventory of these hosts and `here`: exit code, its JSON if any, stderr, seconds."""
    tables = "".join(f"[hosts.{name}]\n{text}\n" for name, text in hosts.items())
    check = f'[checks.all]\nclient = {json.dumps(["here", *hosts])}\nserver = "here"\n'
    (folder / "hung.toml").write_text(f'[hosts.here]\ntransport = "local"\n{tables}{check}')
    options = ["--inventory", str(folder / "hung.toml"), "--timeout", str(TIMEOUT), "--connect-timeout", "2"]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "halfopen", *argv, *options, "--format", "json"],
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"} | env,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr, time.monotonic() - began


@pytest.fixture(scope="module")
def half_closed() -> Iterator[int]:
    """The port of a connection that one end has closed and the other has not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, listener.accept()[0]:
            client.shutdown(socket.SHUT_WR)
            yield port


def check_all(folder: Path, hosts: Mapping[str, str], port: int, **env: str) -> dict[str, Any]:
    """Host -> its error, of a check in which the finding of the sound host is there all the same, and in time."""
    argv = ["check", "all", "--port", str(port), "--settle", "0.1", "--fail-on", "warning", "--forks", "32"]
    code, report, _, took = run(folder, hosts, *argv, **env)
    (check,) = report["checks"]
    assert [one["verdict"] for one in check["findings"]] == ["half-closed"]
    assert code == 1 and took < TIMEOUT + 2 + STARTING
    found = {one["name"]: one for one in check["hosts"]}
    assert found["here"]["complete"] and found["here"]["error"] is None
    return {name: one["error"] for name, one in found.items() if name != "here"}


def test_all_at_once(hung: dict[str, str], half_closed: int, tmp_path: Path) -> None:
    folder = Path(hung["local"].split('"')[-2]).parent
    errors = check_all(tmp_path, hung, half_closed, PYTHONPATH=str(folder))
    codes = {name: error["code"] for name, error in errors.items()}
    assert codes.pop("shell-deaf") in ("timeout", "protocol-error")  # it may close its input before or after we write
    assert codes.pop("shell-closing") == "protocol-error" and set(codes.values()) == {"timeout"}, codes
    assert all(error["hint"] for error in errors.values())
    assert "started no command in 2 s" in errors["channel_exec_request-paramiko"]["message"]
    assert "not read in time" in errors["resolver"]["message"]


@pytest.mark.parametrize("command", ["count", "doctor"])
def test_who_asks_one_host_comes_back_too(command: str, hung: dict[str, str], tmp_path: Path) -> None:
    """After --connect-timeout, since nothing else waits for it."""
    code, report, err, took = run(tmp_path, hung, command, "channel_exec_request-paramiko")
    assert code == 3 and took < 2 + 2 + STARTING
    assert "started no command" in (err if command == "count" else report["hosts"][0]["error"]["message"])


def test_settings_that_ssh_does_not_find_in_time(half_closed: int, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin/ssh", "exec sleep 600")
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    errors = check_all(tmp_path, {"slow": 'address = "127.0.0.1"'}, half_closed, PATH=path)
    assert errors["slow"]["code"] == "timeout" and "ssh -G" in errors["slow"]["message"]
