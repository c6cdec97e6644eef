"""The other ways to a host: the ssh program, an argv that starts a shell, and sudo; the same errors, as soon."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab.answering import answering
from lab.host import Lab, lab, sh
from lab.test_reach_faults import (
    HANGS,
    HURRIED,
    closing,
    dribble,
    endless,
    good,
    host_key,
    known,
    mute,
    other_key,
    run,
    stalled,
    with_profile,
)
from lab.waiting import PATIENCE, until


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts: web, db, and a bastion."""
    with lab(tmp_path_factory.mktemp("lab"), "web", "db", "bastion") as made:
        yield made


def by_ssh(site: Lab, **changes: str) -> str:
    """db by the ssh program."""
    return good(site, **{"transport": "openssh", **changes})


def error(site: Lab, db: str, *args: str, **env: str) -> dict[str, Any]:
    """The error of a host that cannot be read; exit 3 in time, with a hint."""
    code, found, took = run(site, db, *args, **env)
    assert code == 3 and took < PATIENCE and found["error"]["hint"], found
    assert "\n" not in found["error"]["message"]
    failure: dict[str, Any] = found["error"]
    return failure


def test_the_ssh_program_reads_a_host(site: Lab) -> None:
    code, db, _ = run(site, by_ssh(site))
    assert (code, db["complete"], db["transport"]) == (0, True, "openssh")


def test_an_unknown_host_key(site: Lab) -> None:
    path = known(site, "")
    found = error(site, by_ssh(site, known_hosts=path))
    assert found["code"] == "host-key-unknown" and "accept-new" in found["hint"] and "known" in found["message"]
    assert Path(path).read_text() == ""


def test_accept_new_adds_it_and_only_then(site: Lab, tmp_path: Path) -> None:
    path = tmp_path / "known hosts %h"
    code, _, _ = run(site, by_ssh(site, known_hosts=str(path)), "--host-keys", "accept-new")
    assert code == 0 and host_key(site).split()[1] in path.read_text()


def test_a_changed_host_key(site: Lab) -> None:
    path = known(site, f"{site['db'].management} {other_key(site)}\n")
    found = error(site, by_ssh(site, known_hosts=path), "--host-keys", "accept-new")
    assert found["code"] == "host-key-mismatch" and "ssh-keygen -y -f" in found["hint"]
    assert "SHA256:" in found["message"] and f"{path}:1" in found["message"]


def test_a_revoked_host_key(site: Lab) -> None:
    name = site["db"].management
    path = known(site, f"{name} {host_key(site)}\n@revoked {name} {host_key(site)}\n")
    assert error(site, by_ssh(site, known_hosts=path))["code"] == "host-key-revoked"


def test_a_host_key_of_another_type(site: Lab) -> None:
    path = known(site, f"{site['db'].management} {other_key(site, 'ecdsa')}\n")
    assert error(site, by_ssh(site, known_hosts=path))["code"] == "host-key-unknown"


def test_a_key_that_is_refused(site: Lab) -> None:
    other_key(site)
    found = error(site, by_ssh(site, identity_file=str(site.folder / "other_ed25519")))
    assert found["code"] == "auth-failed" and "ssh -v" in found["hint"] and "Permission denied" in found["message"]


def test_an_encrypted_key_without_a_terminal_is_never_asked_for(site: Lab, tmp_path: Path) -> None:
    path = tmp_path / "locked"
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path))
    asked = tmp_path / "asked"
    (tmp_path / "askpass").write_text(f"#!/bin/sh\ntouch {asked}\necho secret\n")
    (tmp_path / "askpass").chmod(0o755)
    env = {"SSH_ASKPASS": str(tmp_path / "askpass"), "DISPLAY": ":0", "SSH_ASKPASS_REQUIRE": "force"}
    assert error(site, by_ssh(site, identity_file=str(path)), **env)["code"] == "auth-failed"
    assert not asked.exists()


def test_a_port_where_nobody_listens(site: Lab) -> None:
    assert error(site, by_ssh(site, port="2"))["code"] == "connection-refused"


def test_a_name_that_does_not_resolve(site: Lab) -> None:
    assert error(site, by_ssh(site, address="no-such-host.invalid"))["code"] == "unreachable"


def test_a_host_that_is_off(site: Lab) -> None:
    site["db"].drop("tcp dport 22")
    try:
        assert error(site, by_ssh(site), *HURRIED)["code"] == "timeout"
    finally:
        site["db"].undrop()


@pytest.mark.parametrize("behaviour", [mute, endless, dribble, stalled, closing])
def test_a_port_that_speaks_no_ssh_ends_in_time(site: Lab, behaviour: Callable[[socket.socket], None]) -> None:
    with answering(behaviour) as port:
        found = error(site, by_ssh(site, address="127.0.0.1", port=str(port)), *HURRIED)
    expected = {"closing": {"throttled"}, "endless": {"timeout", "protocol-error", "throttled"}}
    assert found["code"] in expected.get(behaviour.__name__, {"timeout"}), found


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_a_server_that_throttles_is_tried_again(site: Lab, transport: str) -> None:
    """The first two connections are closed before a word; the third is let through to db's sshd."""
    count = iter(range(100))

    def behaviour(sock: socket.socket) -> None:
        if next(count) < 2:
            sock.close()
            return
        with socket.create_connection((site["db"].management, 22)) as there:
            threading.Thread(target=pump, args=(sock, there), daemon=True).start()
            pump(there, sock)

    with answering(behaviour) as port:
        name = known(site, f"[127.0.0.1]:{port} {host_key(site)}\n")
        db = good(site, address="127.0.0.1", port=str(port), known_hosts=name, transport=transport)
        code, found, _ = run(site, db)
    assert (code, found["complete"], found["error"]) == (0, True, None)
    assert next(count) == 3


def test_an_interrupt_leaves_no_ssh_behind(site: Lab) -> None:
    knocked = threading.Event()

    def behaviour(sock: socket.socket) -> None:
        knocked.set()
        mute(sock)

    with answering(behaviour) as port:
        inventory = site.folder / "interrupted.toml"
        inventory.write_text(f"[hosts.db]\n{by_ssh(site, address='127.0.0.1', port=str(port))}\n")
        argv = [sys.executable, "-m", "halfopen", "check", "db", "db", "--inventory", str(inventory)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert knocked.wait(PATIENCE)
        assert left_over(port)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "") and "Traceback" not in err
    until(lambda: not left_over(port))  # a process that was killed is to be seen until its memory is given back


def left_over(port: int) -> list[str]:
    """Command lines of ssh programs to this port."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            found += [path.parent.name] if words[0] == b"ssh" and str(port).encode() in words else []
    return found


def pump(one: socket.socket, two: socket.socket) -> None:
    """Bytes from one to the other."""
    try:
        while data := one.recv(1 << 16):
            two.sendall(data)
        two.shutdown(socket.SHUT_WR)
    except OSError:
        return


def roads(site: Lab) -> None:
    """web leads to db, the bastion to web, and db's sshd is closed to us."""
    web, db, bastion = (site[name] for name in ("web", "db", "bastion"))
    bastion.run("ip", "route", "replace", web.management, "via", site.v4("web"), "dev", "data")
    web.run("ip", "route", "replace", db.management, "via", site.v4("db"), "dev", "data")
    db.drop("iifname mgmt tcp dport 22")


def test_jump_hosts_of_the_inventory_with_their_own_settings(site: Lab) -> None:
    """Names that ssh does not know, and a known_hosts file and a key that only the inventory names."""
    hops = f"\n[hosts.bastion]\n{good(site, 'bastion')}\n"
    roads(site)
    try:
        code, db, _ = run(site, by_ssh(site, jump="bastion,web") + hops, HOME="/nonexistent")
        assert (code, db["complete"], db["transport"]) == (0, True, "openssh")
        empty = known(site, "")
        strict = f"\n[hosts.bastion]\n{good(site, 'bastion', known_hosts=empty)}\n"
        assert error(site, by_ssh(site, jump="bastion,web") + strict)["code"] == "host-key-unknown"
        assert Path(empty).read_text() == ""
    finally:
        site["db"].undrop()


@pytest.mark.parametrize("transport", ["auto", "openssh"])
def test_jump_hosts_of_ssh_config(site: Lab, tmp_path: Path, transport: str) -> None:
    """db by web, and web by the bastion, as ~/.ssh/config says; nothing of it in the inventory."""
    with ssh_config(site, tmp_path, "Host db\n  ProxyJump web\nHost web\n  ProxyJump bastion\n"):
        roads(site)
        try:
            code, db, _ = run(site, f'address = "db"\ntransport = "{transport}"')
        finally:
            site["db"].undrop()
    assert (code, db["complete"]) == (0, True)
    assert db["transport"] == {"auto": "paramiko"}.get(transport, transport)


@contextmanager
def ssh_config(site: Lab, folder: Path, text: str) -> Iterator[None]:
    """The user's ~/.ssh/config for a while: ssh takes the home folder from the user database, so it is put there."""
    names = "".join(
        f"Host {name}\n  HostName {host.management}\n  HostKeyAlias {host.management}\n  User root\n"
        f"  IdentityFile {site.folder}/user_key\n  UserKnownHostsFile {site.folder}/known_hosts\n"
        for name, host in site.hosts.items()
    )
    path = Path("~/.ssh/config").expanduser()
    kept = path.read_bytes() if path.exists() else None
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(text + names + (kept or b"").decode())
    try:
        yield
    finally:
        if kept is None:
            path.unlink()
        else:
            path.write_bytes(kept)


def test_a_jump_host_that_leads_no_further(site: Lab) -> None:
    hops = f"\n[hosts.bastion]\n{good(site, 'bastion')}\n"
    for transport in ("openssh", "paramiko"):
        found = error(site, good(site, address="10.7.0.250", jump="bastion", transport=transport) + hops, *HURRIED)
        assert found["code"] in ("unreachable", "timeout"), transport


def test_auto_takes_the_ssh_program_for_a_certificate(site: Lab, tmp_path: Path) -> None:
    """db trusts a certificate authority for users, and no key of its own list."""
    for name in ("ca", "id"):
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name))
    sh("ssh-keygen", "-q", "-s", str(tmp_path / "ca"), "-I", "me", "-n", "root", str(tmp_path / "id.pub"))
    port = "2222"
    config = (site.folder / "db.sshd").read_text() + f"Port {port}\nTrustedUserCAKeys {tmp_path}/ca.pub\n"
    (tmp_path / "sshd").write_text(config.replace(f"{site.folder}/user_key.pub", "none"))
    site["db"].start("/usr/sbin/sshd", "-D", "-f", str(tmp_path / "sshd"))
    until(lambda: site["db"].listens(int(port)))
    path = known(site, f"[{site['db'].management}]:{port} {host_key(site)}\n")
    db = good(site, port=port, known_hosts=path, identity_file=str(tmp_path / "id"))
    code, found, _ = run(site, db)
    assert (code, found["transport"], found["complete"]) == (0, "openssh", True)
    found = error(site, db + '\ntransport = "paramiko"')
    assert found["code"] == "unsupported" and "certificate" in found["message"] and "openssh" in found["hint"]


def test_auto_takes_the_ssh_program_for_a_host_that_an_authority_vouches_for(site: Lab, tmp_path: Path) -> None:
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "ca"))
    for end in ("", ".pub"):
        (tmp_path / f"host{end}").write_bytes((site.folder / f"host_key{end}").read_bytes())
    (tmp_path / "host").chmod(0o600)
    sh(
        "ssh-keygen",
        "-q",
        "-s",
        str(tmp_path / "ca"),
        "-I",
        "db",
        "-h",
        "-n",
        site["db"].management,
        str(tmp_path / "host.pub"),
    )
    config = (site.folder / "db.sshd").read_text().replace(f"{site.folder}/host_key", str(tmp_path / "host"))
    (tmp_path / "sshd").write_text(config + f"Port 2223\nHostCertificate {tmp_path}/host-cert.pub\n")
    site["db"].start("/usr/sbin/sshd", "-D", "-f", str(tmp_path / "sshd"))
    until(lambda: site["db"].listens(2223))
    authority = " ".join((tmp_path / "ca.pub").read_text().split()[:2])
    path = known(site, f"@cert-authority [{site['db'].management}]:2223 {authority}\n")
    code, found, _ = run(site, good(site, port="2223", known_hosts=path))
    assert (code, found["transport"], found["complete"]) == (0, "openssh", True)


def test_the_run_of_a_login_that_hangs_ends_at_its_deadline(site: Lab) -> None:
    with_profile(site, "db", HANGS)
    try:
        assert error(site, by_ssh(site), *HURRIED)["code"] == "timeout"
    finally:
        site["db"].run("sh", "-c", "umount ~/.bashrc")


def test_a_host_without_python(site: Lab) -> None:
    assert error(site, by_ssh(site, python="python9"))["code"] == "no-interpreter"


# ---------------------------------------------------------------------------------------------------- exec


def by_exec(argv: list[str], **more: str) -> str:
    """db by a command that starts a shell in it."""
    rest = "".join(f"\n{key} = {json.dumps(value)}" for key, value in more.items())
    return f'transport = "exec"\ncommand = {json.dumps(argv)}{rest}'


def test_a_shell_that_nsenter_starts(site: Lab) -> None:
    code, db, _ = run(site, by_exec([*site["db"].enter(), "sh"]))
    assert (code, db["complete"], db["transport"], db["hostname"]) == (0, True, "exec", "db")


def test_a_shell_in_a_named_network_namespace(site: Lab) -> None:
    name = f"halfopen{os.getpid()}"
    sh("ip", "netns", "attach", name, str(site["db"].pid))
    try:
        code, db, _ = run(site, by_exec(["ip", "netns", "exec", name, "sh"]))
    finally:
        sh("ip", "netns", "delete", name)
    assert (code, db["complete"]) == (0, True) and site.v4("db") in db["addresses"]


EXEC = {
    "unreachable": (["no-such-program", "sh"], "no-such-program"),
    "unreachable by its own word": (
        ["sh", "-c", "echo 'Error: No such container: web' >&2; exit 1"],
        "No such container",
    ),
    "unreachable without a word": (["false"], "exit status 1"),
    "no-interpreter": (["env", "-i", "PATH=/nowhere", "/bin/sh"], "no python9"),
    "timeout": (["sleep", "600"], "no answer in time"),
    "protocol-error": (["head", "-c", "50000000", "/dev/zero"], "arrived before"),
}


@pytest.mark.parametrize("what", EXEC)
def test_a_command_that_starts_no_shell(site: Lab, what: str) -> None:
    argv, words = EXEC[what]
    more = {"python": "python9"} if what == "no-interpreter" else {}
    found = error(site, by_exec(argv, **more), *(HURRIED if what == "timeout" else ()))
    assert found["code"] == what.split(" ")[0] and words in found["message"]


# ---------------------------------------------------------------------------------------------------- sudo


@pytest.fixture
def ops(site: Lab) -> Iterator[Callable[[str], None]]:
    """A user `ops` on db, root's neighbour, and what sudo lets it do."""
    if not Path("/usr/bin/sudo").exists() and os.environ.get("CI") != "true":
        pytest.skip("sudo is not installed")
    db, folder = site["db"], site.folder
    (folder / "passwd").write_text(Path("/etc/passwd").read_text() + "ops:x:4242:4242::/tmp:/bin/sh\n")
    (folder / "group").write_text(Path("/etc/group").read_text() + "ops:x:4242:\n")
    (folder / "shadow").write_text(Path("/etc/shadow").read_text() + "ops:*:19000:0:99999:7:::\n")
    (folder / "sudoers").write_text("root ALL=(ALL) ALL\n")
    (folder / "sudoers").chmod(0o440)
    for name in ("passwd", "group", "shadow", "sudoers"):
        db.run("mount", "--bind", str(folder / name), f"/etc/{name}")
    # Where a user other than root may read it.
    db.run("install", "-m", "644", str(folder / "user_key.pub"), "/run/ops.pub")
    config = (folder / "db.sshd").read_text().replace(f"{folder}/user_key.pub", "/run/ops.pub")
    (folder / "ops.sshd").write_text(config + "Port 2224\n")
    sshd = db.start("/usr/sbin/sshd", "-D", "-f", str(folder / "ops.sshd"))
    until(lambda: db.listens(2224))

    def allow(line: str) -> None:
        (folder / "sudoers").chmod(0o640)
        (folder / "sudoers").write_text(f"root ALL=(ALL) ALL\n{line}\n")
        (folder / "sudoers").chmod(0o440)

    yield allow
    sshd.terminate()
    for name in ("passwd", "group", "shadow", "sudoers"):
        db.run("umount", f"/etc/{name}")


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_sudo_makes_a_user_root_or_says_that_it_does_not(site: Lab, ops: Callable[[str], None], transport: str) -> None:
    path = known(site, f"[{site['db'].management}]:2224 {host_key(site)}\n")
    db = good(site, user="ops", transport=transport, port="2224", known_hosts=path)
    code, plain, _ = run(site, db)
    assert (code, plain["privileged"]) == (0, False)
    ops("ops ALL=(ALL) NOPASSWD: ALL")
    code, root, _ = run(site, db + "\nsudo = true")
    assert (code, root["privileged"], root["complete"]) == (0, True, True), root["error"]
    for line in ("", "ops ALL=(ALL) ALL"):
        ops(line)
        found = error(site, db + "\nsudo = true")
        assert found["code"] == "needs-privilege" and "sudoers" in found["hint"]


def test_sudo_that_is_not_there(site: Lab) -> None:
    with_profile(site, "db", "PATH=/nowhere\n")
    try:
        found = error(site, good(site) + "\nsudo = true")
    finally:
        site["db"].run("sh", "-c", "umount ~/.bashrc")
    assert found["code"] == "needs-privilege"
