"""Files that SSH goes by: none of them is looked for in the working directory, and none can hold a run up."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from halfopen.__main__ import main
from halfopen.demo.server import EmbeddedServer
from halfopen.environment import Environment
from halfopen.errors import ErrorCode, HostError
from halfopen.plan import Host, Inventory
from halfopen.reach.channel import Channel
from halfopen.reach.connect import ReachOptions, connect
from halfopen.reach.host_keys import FILE_LIMIT
from halfopen.reach.library import load_paramiko
from halfopen.reach.settings import from_options

WAYS = [
    "paramiko",
    pytest.param("openssh", marks=pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client")),
]
AUTO = [*WAYS, pytest.param("auto", marks=WAYS[1].marks)]  # type: ignore[attr-defined]


@dataclass
class Site:
    """A server on loopback, the key that it takes, and a stranger's working directory."""

    server: EmbeddedServer
    folder: Path
    work: Path

    def reach(
        self,
        way: str,
        *lines: str,
        key: str | None = None,
        seconds: float = 10,
        host_keys: str = "strict",
        note: bool = False,
    ) -> str:
        """What a command says that is run there, with these lines of ssh_config; `key` is the inventory's."""
        config = self.folder / "config"
        identity = () if any(line.startswith("Identity") for line in lines) else (f"IdentityFile {self.folder}/key",)
        config.write_text("\n".join((*lines, *identity)) + "\n")
        host = Host("there", "127.0.0.1", port=self.server.port, user="me", transport=way, identity_file=key)
        deadline = time.monotonic() + seconds
        connection = connect(host, Inventory(), ReachOptions(5, deadline, host_keys, config=str(config)))
        try:
            if connection.transport == "openssh":
                return f"{said(connection.run('echo here'))} by openssh"
            # It ends when it is spoken to: a server of paramiko may close the channel before it says that it runs.
            channel = connection.run("read word; echo here")
            channel.send(b"\n")
            return f"{said(channel)} by {connection.transport}" + (f" {connection.note}" if note else "")
        finally:
            connection.close()

    @property
    def line(self) -> str:
        """Of known_hosts."""
        return f"[127.0.0.1]:{self.server.port} {self.server.public}\n"


def said(channel: Channel) -> str:
    """All that a command prints."""
    found = b""
    while data := channel.receive():
        found += data
    return found.decode().strip()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder, work = tmp_path / "mine", tmp_path / "strangers"
    folder.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = load_paramiko().ECDSAKey.generate()
    key.write_private_key_file(str(folder / "key"))
    server = EmbeddedServer(key)
    site = Site(server, folder, work)
    (folder / "known").write_text(site.line)
    yield site
    server.close()


NOWHERE = "GlobalKnownHostsFile none"


@pytest.mark.parametrize("way", AUTO)
@pytest.mark.parametrize("name", ["none", "NONE", "known", "./known", "sub/known"])
def test_known_hosts_never_come_from_the_working_directory(way: str, name: str, site: Site) -> None:
    (site.work / name).parent.mkdir(exist_ok=True)
    (site.work / name).write_text(site.line)
    for lines in (
        (f"UserKnownHostsFile {name}", NOWHERE),
        ("UserKnownHostsFile none", f"GlobalKnownHostsFile {name}"),
        (f"UserKnownHostsFile {name if name.lower() == 'none' else f'/nonexistent {name}'}", NOWHERE),
    ):
        with pytest.raises(HostError) as caught:
            site.reach(way, *lines)
        assert caught.value.code is ErrorCode.HOST_KEY_UNKNOWN, caught.value.message
    assert site.reach(way, f"UserKnownHostsFile none\nGlobalKnownHostsFile {site.folder}/known").startswith("here")


BROKEN = "db9 ssh-ed25519 !!!\n@odd db9 ssh-ed25519 AAAA\n"


def test_a_line_of_known_hosts_that_is_skipped_is_a_note_of_its_host_in_the_report(site: Site) -> None:
    (site.folder / "known").write_text(BROKEN + site.line)
    (site.folder / "sound").write_text(site.line)
    shared = f'address = "127.0.0.1"\nport = {site.server.port}\nuser = "me"\ntransport = "paramiko"\n'
    shared += f'identity_file = "{site.folder}/key"\n'
    tables = (f'[hosts.{name}]\n{shared}known_hosts = "{site.folder}/{name}"\n' for name in ("known", "sound"))
    (site.folder / "inventory.toml").write_text("".join(tables))
    out = io.StringIO()
    argv = ["check", "known", "sound", "--inventory", str(site.folder / "inventory.toml"), "--format", "json"]
    argv += ["--settle", "0", "--fail-on", "never", "--port", str(site.server.port)]
    main(argv, Environment({"HOME": str(site.folder)}, site.folder, io.StringIO(), out, io.StringIO()))
    (check,) = json.loads(out.getvalue())["checks"]
    assert {host["error"] for host in check["hosts"]} == {None}
    assert [note for note in check["notes"] if "known_hosts" in note or "skipped" in note] == [
        f"known: {site.folder}/known line 1 is skipped: the key cannot be decoded (and 1 more line)"
    ]


def test_a_host_key_that_is_unknown_for_a_skipped_line_says_so(site: Site) -> None:
    (site.folder / "known").write_text(BROKEN)
    with pytest.raises(HostError) as caught:
        site.reach("paramiko", f"UserKnownHostsFile {site.folder}/known", NOWHERE)
    assert caught.value.code is ErrorCode.HOST_KEY_UNKNOWN and "known line 1 is skipped" in caught.value.message


@pytest.mark.parametrize("kind", ["endless", "large", "folder", "fifo"])
def test_a_known_hosts_file_is_read_whole_or_not_at_all(kind: str, site: Site) -> None:
    path = site.folder / "odd"
    if kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "large":  # the line that revokes the key stands behind all that is read
        with path.open("w") as file:
            file.write(site.line)
            file.seek(FILE_LIMIT)
            file.write(f"\n@revoked {site.line}")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(HostError) as caught:
        site.reach("paramiko", f"UserKnownHostsFile {site.folder}/known {path}")
    assert caught.value.code is ErrorCode.HOST_KEY_UNKNOWN and f"{path} cannot be read" in caught.value.message
    path.unlink() if kind != "folder" else path.rmdir()
    path.symlink_to(os.devnull)
    assert site.reach("paramiko", f"UserKnownHostsFile {site.folder}/known {path}").startswith("here")


def test_where_no_file_is_left_to_keep_a_new_key_none_is_accepted(site: Site) -> None:
    with pytest.raises(HostError) as caught:
        site.reach("paramiko", "UserKnownHostsFile none", NOWHERE, host_keys="accept-new")
    assert caught.value.code is ErrorCode.HOST_KEY_UNKNOWN and "UserKnownHostsFile none" in (caught.value.hint or "")
    assert "accept-new" not in (caught.value.hint or "")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["none", "key", "./key", "."])
def test_keys_never_come_from_the_working_directory(way: str, name: str, site: Site) -> None:
    if name != ".":
        shutil.copy(site.folder / "key", site.work / name)
    known = f"UserKnownHostsFile {site.folder}/known"
    with pytest.raises(HostError) as caught:
        site.reach(way, known, f"IdentityFile {name}")
    assert caught.value.code is ErrorCode.AUTH_FAILED


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs ssh-agent")
@pytest.mark.parametrize("way", WAYS)
def test_no_agent_of_the_working_directory_is_asked(way: str, site: Site) -> None:
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", "agent"], cwd=site.work, stdout=subprocess.DEVNULL)
    try:
        while not (site.work / "agent").exists():
            time.sleep(0.01)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(site.work / "agent")}
        subprocess.run(["ssh-add", "-q", str(site.folder / "key")], env=environment, check=True)
        known = f"UserKnownHostsFile {site.folder}/known"
        with pytest.raises(HostError) as caught:
            site.reach(way, known, "IdentityFile none", "IdentityAgent agent")
        assert caught.value.code is ErrorCode.AUTH_FAILED
        assert site.reach(way, known, "IdentityFile none", f"IdentityAgent {site.work}/agent").startswith("here")
    finally:
        agent.terminate()
        agent.wait()


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client")
@pytest.mark.parametrize("way", ["auto", "openssh"])
def test_the_users_ssh_runs_no_program_of_the_working_directory(way: str, site: Site) -> None:
    evil = site.work / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {site.work}/ran\n")
    evil.chmod(0o755)
    with pytest.raises(HostError):
        site.reach(way, "ProxyCommand ./evil", "Match exec ./evil", "User other", seconds=1)
    assert not (site.work / "ran").exists()


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client")
def test_revoked_host_keys_are_left_to_ssh(site: Site) -> None:
    known = f"UserKnownHostsFile {site.folder}/known"
    revoked = site.folder / "revoked"
    revoked.write_text(f"{site.server.public}\n")
    lines = (known, f"RevokedHostKeys {revoked}")
    with pytest.raises(HostError) as caught:
        site.reach("auto", *lines)
    assert caught.value.code is ErrorCode.HOST_KEY_REVOKED
    with pytest.raises(HostError) as caught:
        site.reach("paramiko", *lines)
    assert caught.value.code is ErrorCode.UNSUPPORTED and "RevokedHostKeys" in caught.value.message
    assert caught.value.hint == 'transport = "openssh"'
    revoked.write_text("")
    assert site.reach("auto", *lines) == "here by openssh"
    assert site.reach("auto", known, "RevokedHostKeys none") == "here by paramiko"


def test_an_option_that_is_none_is_nothing() -> None:
    options = {"userknownhostsfile": ["none"], "globalknownhostsfile": ["None"], "identityfile": ["none"]}
    found = from_options({**options, "revokedhostkeys": ["none"]}, "db1", None, None)
    assert (found.known_hosts, found.identity_files, found.new_keys, found.beyond_us) == ((), (), None, None)
    assert from_options({}, "db1", None, None).new_keys == "~/.ssh/known_hosts"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["fifo", "endless", "large", "folder", "fifo beside it"])
def test_a_key_file_of_the_inventory_is_a_regular_file_and_no_large_one(way: str, kind: str, site: Site) -> None:
    path = site.folder / "odd"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("no key")
        os.mkfifo(path.with_name("odd.pub"))
    with pytest.raises(HostError) as caught:
        site.reach(way, f"UserKnownHostsFile {site.folder}/known", key=str(path))
    assert caught.value.code is ErrorCode.AUTH_FAILED and str(path) in caught.value.message


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs the OpenSSH client")
@pytest.mark.parametrize("hashing", ["yes", "no"])
def test_a_new_key_is_added_as_the_settings_have_it_and_said(hashing: str, site: Site) -> None:
    path = site.folder / "new"
    said = site.reach(
        "paramiko",
        f"UserKnownHostsFile {path}",
        NOWHERE,
        f"HashKnownHosts {hashing}",
        host_keys="accept-new",
        note=True,
    )
    assert f"[127.0.0.1]:{site.server.port} was not known" in said and str(path) in said and "SHA256:" in said
    assert path.read_text().startswith("|1|") == (hashing == "yes")
    found = subprocess.run(
        ["ssh-keygen", "-F", f"[127.0.0.1]:{site.server.port}", "-f", str(path)], capture_output=True
    )
    assert site.server.public.encode() in found.stdout
    assert site.reach("paramiko", f"UserKnownHostsFile {path}", NOWHERE, note=True) == "here by paramiko None"
