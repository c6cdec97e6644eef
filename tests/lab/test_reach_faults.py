"""Every way in which a host cannot be reached: its code, a message with the next command, in time, and exit 3."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.answering import answering
from lab.host import Lab, lab, sh
from lab.waiting import PATIENCE, until

HURRIED = ("--connect-timeout", "5", "--timeout", "12")
"""For what ends by these alone: what db does then goes on for as long as anybody waits."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts: web, db, and a bastion."""
    with lab(tmp_path_factory.mktemp("lab"), "web", "db", "bastion") as made:
        yield made


def run(site: Lab, db: str, *args: str, **env: str) -> tuple[int, dict[str, Any], float]:
    """A check of web and of a db that the given TOML describes: exit code, db as the report has it, seconds."""
    web = site.inventory.read_text().split("\n[hosts.db]")[0]
    inventory = site.folder / f"faulty-{threading.get_ident()}.toml"
    inventory.write_text(f"{web}\n[hosts.db]\n{db}\n")
    began = time.monotonic()
    argv = [sys.executable, "-m", "halfopen", "check", "web", "db", "--inventory", str(inventory), "--format", "json"]
    done = subprocess.run(
        [*argv, "--timeout", "60", *args],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        stdin=subprocess.DEVNULL,
        env={**{key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"}, **env},
    )
    assert "Traceback" not in done.stderr, done.stderr
    (check,) = json.loads(done.stdout)["checks"]
    assert check["findings"] == [] and check["client"]["complete"]
    return done.returncode, check["server"], time.monotonic() - began


def good(site: Lab, name: str = "db", **changes: str) -> str:
    """The right description of a host, with changes."""
    values = {
        "address": site[name].management,
        "user": "root",
        "identity_file": str(site.folder / "user_key"),
        "known_hosts": str(site.folder / "known_hosts"),
        **changes,
    }
    return "\n".join(f"{key} = {value if value.isdigit() else json.dumps(value)}" for key, value in values.items())


def known(site: Lab, text: str) -> str:
    """A known_hosts file with this text."""
    path = site.folder / f"known-{abs(hash(text))}"
    path.write_text(text)
    return str(path)


def host_key(site: Lab) -> str:
    return " ".join((site.folder / "host_key.pub").read_text().split()[:2])


def other_key(site: Lab, kind: str = "ed25519") -> str:
    path = site.folder / f"other_{kind}"
    if not path.exists():
        sh("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path))
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def test_the_right_description_works(site: Lab) -> None:
    code, db, _ = run(site, good(site))
    assert code == 0 and db["complete"] and db["transport"] == "paramiko"


def test_an_unknown_host_key(site: Lab) -> None:
    path = known(site, "")
    code, db, _ = run(site, good(site, known_hosts=path))
    assert (code, db["error"]["code"]) == (3, "host-key-unknown")
    assert "SHA256:" in db["error"]["message"] and "accept-new" in db["error"]["hint"]
    assert Path(path).read_text() == ""


def test_accept_new_adds_it_and_only_then(site: Lab) -> None:
    path = site.folder / "fresh" / "known_hosts"
    code, _, _ = run(site, good(site, known_hosts=str(path)), "--host-keys", "accept-new")
    assert code == 0
    assert path.read_text().split()[1:] == host_key(site).split()  # its name may be hashed, as ssh_config has it
    assert sh("ssh-keygen", "-F", site["db"].management, "-f", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert run(site, good(site, known_hosts=str(path)))[0] == 0


def test_a_changed_host_key(site: Lab) -> None:
    path = known(site, f"{site['db'].management} {other_key(site)}\n")
    code, db, _ = run(site, good(site, known_hosts=path), "--host-keys", "accept-new")
    assert (code, db["error"]["code"]) == (3, "host-key-mismatch")
    assert db["error"]["message"].count("SHA256:") == 2 and "ssh-keygen" in db["error"]["hint"]
    assert Path(path).read_text() == f"{site['db'].management} {other_key(site)}\n"


def test_a_revoked_host_key(site: Lab) -> None:
    name = site["db"].management
    path = known(site, f"{name} {host_key(site)}\n@revoked {name} {host_key(site)}\n")
    code, db, _ = run(site, good(site, known_hosts=path))
    assert (code, db["error"]["code"]) == (3, "host-key-revoked")


def test_a_host_key_of_another_type(site: Lab) -> None:
    path = known(site, f"{site['db'].management} {other_key(site, 'ecdsa')}\n")
    code, db, _ = run(site, good(site, known_hosts=path))
    assert (code, db["error"]["code"]) == (3, "host-key-unknown")
    assert "a type of key that is not known" in db["error"]["message"]


def test_a_key_that_is_refused(site: Lab) -> None:
    other_key(site)
    code, db, _ = run(site, good(site, identity_file=str(site.folder / "other_ed25519")))
    assert (code, db["error"]["code"]) == (3, "auth-failed")
    assert "other_ed25519" in db["error"]["message"] and "ssh -v" in db["error"]["hint"]


def test_an_encrypted_key_without_a_terminal_is_never_asked_for(site: Lab) -> None:
    path = site.folder / "locked"
    if not path.exists():
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path))
    code, db, _ = run(site, good(site, identity_file=str(path)))
    assert (code, db["error"]["code"]) == (3, "auth-failed")
    assert f"ssh-add {path}" in db["error"]["message"]


def test_an_agent_that_hangs_does_not_hang_us(site: Lab, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        code, _, took = run(site, good(site), SSH_AUTH_SOCK=str(tmp_path / "agent"))
    assert code == 0 and took < PATIENCE


def test_twenty_keys_in_the_agent(site: Lab, tmp_path: Path) -> None:
    """sshd gives up after six; a key that the inventory names is tried first."""
    started = sh("ssh-agent", "-s", "-a", str(tmp_path / "agent"))
    pid = int(started.split("SSH_AGENT_PID=")[1].split(";")[0])
    env = {"SSH_AUTH_SOCK": str(tmp_path / "agent")}
    try:
        for number in range(20):
            sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / f"k{number}"))
            subprocess.run(["ssh-add", "-q", str(tmp_path / f"k{number}")], env={**os.environ, **env}, check=True)
        assert run(site, good(site), **env)[0] == 0
        without = good(site).replace(f'identity_file = "{site.folder}/user_key"\n', "")
        code, db, _ = run(site, without, **env, HOME=str(tmp_path))
    finally:
        os.kill(pid, 15)
    assert (code, db["error"]["code"]) == (3, "auth-failed")
    assert "agent key SHA256:" in db["error"]["message"] and "identity_file" in db["error"]["hint"]


def test_a_port_where_nobody_listens(site: Lab) -> None:
    code, db, _ = run(site, good(site, port="2"))
    assert (code, db["error"]["code"]) == (3, "connection-refused")


def test_a_name_that_does_not_resolve(site: Lab) -> None:
    code, db, _ = run(site, good(site, address="no-such-host.invalid"))
    assert (code, db["error"]["code"]) == (3, "unreachable")


def test_a_host_that_is_off(site: Lab) -> None:
    site["db"].drop("tcp dport 22")
    try:
        code, db, took = run(site, good(site), *HURRIED)
    finally:
        site["db"].undrop()
    assert (code, db["error"]["code"]) == (3, "timeout") and took < PATIENCE


def mute(sock: socket.socket) -> None:
    time.sleep(2 * PATIENCE)


def endless(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"no SSH here\r\n" * 1000)


def dribble(sock: socket.socket) -> None:
    for sign in itertools.cycle(b"SSH-2.0-slow"):
        sock.sendall(bytes([sign]))
        time.sleep(0.3)


def stalled(sock: socket.socket) -> None:
    sock.sendall(b"SSH-2.0-stalled\r\n")
    time.sleep(2 * PATIENCE)


def closing(sock: socket.socket) -> None:
    sock.close()


@pytest.mark.parametrize("behaviour", [mute, endless, dribble, stalled, closing])
def test_a_port_that_speaks_no_ssh_ends_in_time(site: Lab, behaviour: Callable[[socket.socket], None]) -> None:
    with answering(behaviour) as port:
        code, db, took = run(site, good(site, address="127.0.0.1", port=str(port)), *HURRIED)
    expected = {"closing": {"throttled"}, "endless": {"timeout", "protocol-error", "throttled"}}
    assert code == 3 and db["error"]["code"] in expected.get(behaviour.__name__, {"timeout"})
    assert took < PATIENCE and db["error"]["hint"]


def test_jump_hosts_lead_where_no_straight_way_does(site: Lab) -> None:
    """db's sshd is closed to us and open to web; web's, seen from the bastion, leads on."""
    web, db, bastion = (site[name] for name in ("web", "db", "bastion"))
    bastion.run("ip", "route", "replace", web.management, "via", site.v4("web"), "dev", "data")
    web.run("ip", "route", "replace", db.management, "via", site.v4("db"), "dev", "data")
    db.drop("iifname mgmt tcp dport 22")
    hops = f"\n[hosts.bastion]\n{good(site, 'bastion')}\n"
    try:
        straight, found, _ = run(site, good(site), "--connect-timeout", "5")
        assert (straight, found["error"]["code"]) == (3, "timeout")
        code, found, _ = run(site, good(site, jump="bastion,web") + hops)
        assert (code, found["complete"], found["transport"]) == (0, True, "paramiko")
    finally:
        db.undrop()


def test_an_error_at_a_jump_host_names_it(site: Lab) -> None:
    bad = f"\n[hosts.bastion]\n{good(site, 'bastion', port='2')}\n"
    code, db, _ = run(site, good(site, jump="bastion") + bad)
    assert (code, db["error"]["code"]) == (3, "connection-refused")
    assert "jump host" in db["error"]["message"]


def test_the_ssh_program_leads_there_too(site: Lab) -> None:
    code, db, _ = run(site, good(site, transport="openssh"))
    assert code == 0 and db["transport"] == "openssh"
    path = known(site, f"{site['db'].management} {other_key(site)}\n")
    code, db, _ = run(site, good(site, transport="openssh", known_hosts=path))
    assert (code, db["error"]["code"]) == (3, "host-key-mismatch")
    code, db, _ = run(site, good(site, transport="openssh", identity_file=str(site.folder / "other_ed25519")))
    assert (code, db["error"]["code"]) == (3, "auth-failed")


HANGS = "sleep 600 &\nsleep 600\n"
"""A profile that keeps a login from its command."""


def with_profile(site: Lab, name: str, text: str) -> None:
    """What bash reads before the command of an SSH session (it does when sshd starts it)."""
    (site.folder / f"{name}.bashrc").write_text(text)
    site[name].run(
        "sh", "-c", f"[ -e ~/.bashrc ] || touch ~/.bashrc; mount --bind {site.folder}/{name}.bashrc ~/.bashrc"
    )


def test_a_login_that_prints_and_reads_is_read_past(site: Lab) -> None:
    with_profile(
        site, "db", "echo 'Welcome to db'; printf '\\033[31mred\\033[0m'; read -t 1 line; echo \"got $line\"\n"
    )
    try:
        code, db, _ = run(site, good(site))
    finally:
        site["db"].run("sh", "-c", "umount ~/.bashrc")
    assert code == 0 and db["complete"]


def test_a_host_without_python_says_so(site: Lab) -> None:
    code, db, _ = run(site, good(site, python="python9"))
    assert (code, db["error"]["code"]) == (3, "no-interpreter")
    assert "python9" in db["error"]["message"]


def test_sudo_that_wants_a_password(site: Lab, tmp_path: Path) -> None:
    fake = site.folder / "sudo"
    fake.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    fake.chmod(0o755)
    site["db"].run("sh", "-c", f"touch /usr/local/bin/sudo; mount --bind {fake} /usr/local/bin/sudo")
    try:
        code, db, _ = run(site, good(site) + "\nsudo = true")
    finally:
        site["db"].run("umount", "/usr/local/bin/sudo")
        Path("/usr/local/bin/sudo").unlink(missing_ok=True)
    assert (code, db["error"]["code"]) == (3, "needs-privilege")


def test_a_flood_on_stderr_is_drained(site: Lab) -> None:
    with_profile(site, "db", "head -c 8000000 /dev/zero | tr '\\0' 'x' >&2\n")
    try:
        code, db, _ = run(site, good(site))
    finally:
        site["db"].run("sh", "-c", "umount ~/.bashrc")
    assert code == 0 and db["complete"]


def test_a_flood_on_stdout_is_refused(site: Lab) -> None:
    with_profile(site, "db", "head -c 100000000 /dev/zero | tr '\\0' 'x'\n")
    try:
        code, db, _ = run(site, good(site))
    finally:
        site["db"].run("sh", "-c", "umount ~/.bashrc")
    assert (code, db["error"]["code"]) == (3, "protocol-error")


def test_a_login_that_hangs_ends_at_the_deadline(site: Lab) -> None:
    with_profile(site, "db", HANGS)
    try:
        code, db, took = run(site, good(site), *HURRIED)
    finally:
        site["db"].run("sh", "-c", "umount ~/.bashrc")
    assert (code, db["error"]["code"]) == (3, "timeout") and took < PATIENCE


def test_nothing_stays_behind_on_the_host(site: Lab) -> None:
    run(site, good(site))
    # web's login is never made to hang by another test, which would hold the command line of its shell.
    until(lambda: "halfopen_input" not in site["web"].run("sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '"))
