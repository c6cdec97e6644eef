"""A locked key on a real terminal: asked for once, not shown, three tries, and given back however it ends."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from halfopen.demo.server import EmbeddedServer
from halfopen.errors import ErrorCode, HostError
from halfopen.reach import authentication
from halfopen.reach.authentication import parse_key
from halfopen.reach.library import Patience, load_paramiko

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the probe reads this machine")

PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
SECRET = "correct horse"
QUESTION = "passphrase of "
CONTROLLING = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
PATIENCE = 60.0


@dataclass
class Terminal:
    """A pseudo-terminal with halfopen on it, and all that it has shown."""

    master: int
    slave: int
    process: subprocess.Popen[bytes]
    shown: str = field(default="", init=False)

    def until(self, text: str, times: int = 1, seconds: float = PATIENCE) -> None:
        """Waits until a text was shown so often."""
        end = time.monotonic() + seconds
        while self.shown.count(text) < times:
            assert self.look(end - time.monotonic()), f"no {text!r} in {self.shown!r}"

    def look(self, seconds: float) -> bool:
        """Takes what is shown next; whether anything was."""
        ready, _, _ = select.select([self.master], [], [], max(0.0, seconds))
        if ready:
            with contextlib.suppress(OSError):
                self.shown += os.read(self.master, 1 << 16).decode()
        return bool(ready)

    def type(self, text: str) -> None:
        """Keys are pressed."""
        os.write(self.master, text.encode())

    def end(self) -> int:
        """The exit code, when all has been shown."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < end
            self.look(0.05)
        while self.look(0.05):
            pass
        return self.process.returncode

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, after all that has moved and cleared the cursor's line."""
        lines, column = [""], 0
        for token in re.findall(r"\x1b\[K|.", self.shown, re.DOTALL):
            if token == "\r":
                column = 0
            elif token == "\n":
                lines.append("")
                column = 0
            elif token == "\x1b[K":
                lines[-1] = lines[-1][:column]
            else:
                lines[-1] = lines[-1][:column] + token + lines[-1][column + 1 :]
                column += 1
        return lines


@contextlib.contextmanager
def on_a_terminal(folder: Path, *argv: str) -> Iterator[Terminal]:
    """A program with a pseudo-terminal of its own, and without an agent."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLING, *argv],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"},
        start_new_session=True,
    )
    try:
        yield Terminal(master, slave, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


@dataclass
class Site:
    """Hosts on loopback: two that take a locked key, and one that takes an open one and answers meanwhile."""

    folder: Path
    servers: list[EmbeddedServer]

    def collect(self, *names: str) -> contextlib.AbstractContextManager[Terminal]:
        """halfopen on a terminal of its own."""
        command = [sys.executable, "-m", "halfopen", "collect", "--inventory", "hosts.toml", "-o", "out", *names]
        return on_a_terminal(self.folder, *command)

    def all_wait(self) -> None:
        """Until every host has been reached, and those with the locked key need it."""
        end = time.monotonic() + PATIENCE
        while not all(one.transports and one.transports[0].active for one in self.servers):
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    paramiko = load_paramiko()
    secret, plain = ed25519.Ed25519PrivateKey.generate(), paramiko.ECDSAKey.generate()
    (tmp_path / "locked").write_bytes(locked(secret))
    (tmp_path / "locked").chmod(0o600)
    plain.write_private_key_file(str(tmp_path / "plain"))
    locked_key = parse_key(paramiko, locked(secret).decode(), SECRET.encode())
    hosts = {"one": ("locked", locked_key), "two": ("locked", locked_key), "quick": ("plain", plain)}
    servers = {name: EmbeddedServer(key) for name, (_, key) in hosts.items()}
    known = "".join(f"[127.0.0.1]:{one.port} {one.public}\n" for one in servers.values())
    (tmp_path / "known").write_text(known)
    tables = [
        f'[hosts.{name}]\naddress = "127.0.0.1"\nport = {servers[name].port}\nuser = "me"\ntransport = "paramiko"\n'
        f'identity_file = "{key}"\nknown_hosts = "known"\n'
        for name, (key, _) in hosts.items()
    ]
    (tmp_path / "hosts.toml").write_text("\n".join(tables))
    yield Site(tmp_path, list(servers.values()))
    for one in servers.values():
        one.close()


def locked(key: PrivateKey) -> bytes:
    """A key as ssh-keygen writes it with a passphrase."""
    lock = serialization.BestAvailableEncryption(SECRET.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, lock)


def test_one_question_for_two_hosts_and_nothing_over_it(site: Site) -> None:
    with site.collect("one", "two", "quick") as terminal:
        terminal.until(QUESTION)
        site.all_wait()
        while terminal.look(2):  # the host that answers meanwhile is told of later
            pass
        assert terminal.shown.endswith(f"{QUESTION}{site.folder}/locked: ") and not terminal.echoes
        terminal.type(f"{SECRET}\n")
        assert terminal.end() == 0, terminal.shown
        assert terminal.shown.count(QUESTION) == 1 and SECRET not in terminal.shown
        assert f"{QUESTION}{site.folder}/locked: " in terminal.lines
        assert "of 3 hosts read" in terminal.shown.split(QUESTION)[1] and terminal.echoes
    assert sorted(one.name for one in (site.folder / "out").iterdir()) == [
        "one.halfopen",
        "quick.halfopen",
        "two.halfopen",
    ]


def test_a_wrong_passphrase_is_asked_for_again(site: Site) -> None:
    with site.collect("one", "two") as terminal:
        terminal.until(QUESTION)
        terminal.type("wrong\n")
        terminal.until(QUESTION, 2)
        terminal.type(f"{SECRET}\n")
        assert terminal.end() == 0, terminal.shown
        assert terminal.shown.count(QUESTION) == 2 and f"that was wrong; {QUESTION}" in terminal.shown
        assert SECRET not in terminal.shown


def test_what_is_typed_ahead_is_not_shown_either(site: Site) -> None:
    with site.collect("one", "two") as terminal:
        terminal.until(QUESTION)
        terminal.type(f"typo\n{SECRET}\n")
        assert terminal.end() == 0, terminal.shown
        assert "typo" not in terminal.shown and SECRET not in terminal.shown


def test_after_three_wrong_ones_both_hosts_are_refused(site: Site) -> None:
    with site.collect("one", "two") as terminal:
        for times, word in enumerate(("alpha", "beta", "gamma"), 1):
            terminal.until(QUESTION, times)
            terminal.type(f"{word}\n")
        assert terminal.end() == 3, terminal.shown
        assert terminal.shown.count(QUESTION) == 3 and terminal.echoes
        for name in ("one", "two"):
            assert re.search(
                rf"{name}: auth-failed: .*locked \(encrypted, and no passphrase opened it\)", terminal.shown
            )
        assert not any(word in terminal.shown for word in ("alpha", "beta", "gamma"))


def test_no_passphrase_is_no_key_and_no_further_question(site: Site) -> None:
    with site.collect("one", "two") as terminal:
        terminal.until(QUESTION)
        terminal.type("\n")
        assert terminal.end() == 3 and terminal.shown.count(QUESTION) == 1
        assert terminal.shown.count("auth-failed") == 2


def test_the_terminal_is_given_back_when_the_run_is_interrupted(site: Site) -> None:
    with site.collect("one", "two") as terminal:
        terminal.until(QUESTION)
        assert not terminal.echoes
        terminal.type("\x03")
        assert terminal.end() == 130 and terminal.echoes, terminal.shown


ASKING = """
import time
from halfopen.environment import secrets_asked
with secrets_asked(time.monotonic() + 1) as ask:
    print(ask("first: "), ask("second: "), flush=True)
"""


def test_a_question_that_nobody_answers_ends_at_its_deadline(tmp_path: Path) -> None:
    with on_a_terminal(tmp_path, sys.executable, "-c", ASKING) as terminal:
        assert terminal.end() == 0 and terminal.echoes
        assert terminal.lines[:3] == ["first: ", "second: ", "None None"]


def test_and_is_a_time_out_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "asked_for", lambda *_: None)
    for _ in range(2):
        with pytest.raises(HostError, match="nobody gave the passphrase of key in time") as caught:
            authentication.unlocked(None, Path("key"), "text", Patience(10, time.monotonic()))
        assert caught.value.code is ErrorCode.TIMEOUT
    assert "text" not in authentication.UNLOCKED


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_locked_key_of_each_type(kind: str) -> None:
    made: dict[str, Callable[[], PrivateKey]] = {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
    }
    paramiko, text = load_paramiko(), locked(made[kind]()).decode()
    with pytest.raises(paramiko.PasswordRequiredException):
        parse_key(paramiko, text, None)
    assert parse_key(paramiko, text, b"wrong") is None
    assert kind in parse_key(paramiko, text, SECRET.encode()).get_name()
    assert parse_key(paramiko, "no key", None) is None
