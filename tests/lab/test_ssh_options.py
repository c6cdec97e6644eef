"""Options of ssh_config against the real ssh and sshd: we are never laxer, and `auto` reaches what ssh reaches."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab.host import Lab, lab, sh
from lab.waiting import PATIENCE, until

from halfopen.errors import ErrorCode, HostError
from halfopen.plan import Host, Inventory
from halfopen.reach.connect import ReachOptions, connect

SERVERS: dict[int, str] = {
    2201: "HostKey {folder}/host_key",
    2202: "HostKey {folder}/host_rsa",
    2203: "HostKey {folder}/host_key\nKexAlgorithms ecdh-sha2-nistp256\nCiphers aes128-ctr\nMACs hmac-sha2-256",
    2204: "HostKey {folder}/host_key\nCiphers chacha20-poly1305@openssh.com\nKexAlgorithms curve25519-sha256",
    2205: "HostKey {folder}/host_key\nHostCertificate {folder}/host_key-cert.pub\nHostKeyAlgorithms *cert*",
    2206: "HostKey {folder}/host_key\nHostKey {folder}/host_rsa",
    2207: "HostKey {folder}/host_key\nBanner {folder}/banner",
}
"""Port -> what is particular of the sshd there."""

SSHD = """
ListenAddress {address}
Port {port}
AuthorizedKeysFile {folder}/authorized
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
PasswordAuthentication no
MaxStartups 100
LogLevel ERROR
"""


@dataclass
class Site:
    """The host, and the files that the options name."""

    lab: Lab

    @property
    def address(self) -> str:
        """Where its sshds listen."""
        return self.lab["db"].management

    def filled(self, text: str) -> str:
        """{folder}, {address}, and the public keys {ed}, {rsa} and {ca} filled in."""
        folder = self.lab.folder
        keys = {name: (folder / f"{file}.pub").read_text().strip() for name, file in KEYS.items()}
        return text.format(folder=folder, address=self.address, **keys)

    def config(self, number: int, port: int, lines: str, known: str) -> Path:
        """An ssh_config with these lines, for one sshd; what known_hosts says, if it is not said by the lines."""
        folder = self.lab.folder / f"case-{number}"
        folder.mkdir(exist_ok=True)
        (folder / "known").write_text(self.filled(known))
        text = ""
        if "UserKnownHostsFile" not in lines:
            text += f"\nUserKnownHostsFile {folder}/known"
        if "GlobalKnownHostsFile" not in lines:
            text += "\nGlobalKnownHostsFile none"
        if "IdentityFile" not in lines:
            text += f"\nIdentityFile {self.lab.folder}/user_key"
        text = f"{text}\n{self.filled(lines.replace('CASE', str(folder)))}"
        head = f"Host gate\nHostName {self.address}\nPort 2201\nHost there\nHostName {self.address}\nPort {port}\n"
        (folder / "config").write_text(f"{head}Host *\nUser root\nIdentityAgent none\n{text}\n")
        return folder / "config"


BANNER = """@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
The fingerprint for the ED25519 key sent by the remote host is
SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU.
Offending ED25519 key in /root/.ssh/known_hosts:1
ssh: Could not resolve hostname there: Name or service not known
Host key verification failed.
"""
"""What a server may say before anybody is let in, in the very words of ssh."""

KEYS = {"ed": "host_key", "rsa": "host_rsa", "ca": "authority", "other": "other"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with lab(tmp_path_factory.mktemp("lab"), "db") as made:
        folder = made.folder
        keys = {"host_rsa": "rsa -b 3072", "user_rsa": "rsa -b 2048", "authority": "ed25519", "other": "ed25519"}
        for name, kind in keys.items():
            sh("ssh-keygen", "-q", "-t", *kind.split(), "-N", "", "-f", str(folder / name))
        host = made["db"]
        signed = ("-s", str(folder / "authority"), "-I", "db", "-h", "-n", host.management)
        sh("ssh-keygen", "-q", *signed, str(folder / "host_key.pub"))
        (folder / "authorized").write_text("".join((folder / f"{n}.pub").read_text() for n in ("user_key", "user_rsa")))
        shutil.copy(folder / "user_key", folder / "user key")
        (folder / "banner").write_text(BANNER)
        for port, extra in SERVERS.items():
            path = folder / f"sshd-{port}"
            path.write_text((SSHD + extra + "\n").format(address=host.management, port=port, folder=folder))
            host.start("/usr/sbin/sshd", "-D", "-e", "-f", str(path), stderr=subprocess.DEVNULL)
        for port in SERVERS:
            until(lambda port=port: host.listens(port))  # type: ignore[misc]
        yield Site(made)


ED = "[{address}]:2201 {ed}\n[{address}]:2203 {ed}\n[{address}]:2204 {ed}\n[{address}]:2206 {ed}\n"
RSA = "[{address}]:2202 {rsa}\n"
USUAL = ED + RSA
BLANK = 'UserKnownHostsFile "CASE/a file" CASE/none'


@dataclass(frozen=True)
class Case:
    """Lines of ssh_config, whether ssh gets in with them, which sshd, and known_hosts. `make` prepares the folder."""

    lines: str
    reached: bool
    port: int = 2201
    known: str = USUAL
    make: Callable[[Path, Site], object] = lambda folder, site: None


def write(name: str, text: str) -> Callable[[Path, Site], object]:
    """Makes a file in the folder of the case."""
    return lambda folder, site: (folder / name).write_text(site.filled(text))


CASES: list[Case] = [
    Case("", True),
    Case("", True, 2202),
    Case("", True, 2206),
    # algorithms: what both have, what only ssh has, and what the two sides have not in common
    Case("Ciphers aes128-ctr", True, 2203),
    Case("Ciphers aes256-ctr", False, 2203),
    Case("Ciphers -aes128-ctr", False, 2203),
    Case("Ciphers ^aes256-ctr", True, 2203),
    Case("Ciphers chacha20-poly1305@openssh.com", True, 2204),
    Case("Ciphers aes256-ctr", False, 2204),
    Case("KexAlgorithms ecdh-sha2-nistp256", True, 2203),
    Case("KexAlgorithms ecdh-sha2-nistp384", False, 2203),
    Case("MACs hmac-sha2-256", True, 2203),
    Case("MACs hmac-sha2-512", False, 2203),
    Case("MACs umac-128@openssh.com", False, 2203),
    Case("HostKeyAlgorithms ssh-ed25519", True),
    Case("HostKeyAlgorithms ecdsa-sha2-nistp256", False),
    Case("HostKeyAlgorithms rsa-sha2-256", True, 2202),
    Case("HostKeyAlgorithms ssh-ed25519", False, 2202),
    Case("HostKeyAlgorithms rsa-sha2-256", False, 2206),
    Case("RequiredRSASize 3072", True, 2202),
    Case("RequiredRSASize 4096", False, 2202),
    # our own keys
    Case("PubkeyAcceptedAlgorithms ssh-ed25519", True),
    Case("PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256,rsa-sha2-256", False),
    Case("PubkeyAcceptedAlgorithms -ssh-ed25519*", False),
    Case("PubkeyAcceptedAlgorithms rsa-sha2-256\nIdentityFile {folder}/user_rsa", True),
    Case("PubkeyAcceptedAlgorithms ssh-ed25519\nIdentityFile {folder}/user_rsa", False),
    Case("RequiredRSASize 2048\nIdentityFile {folder}/user_rsa", True),
    Case("RequiredRSASize 3000\nIdentityFile {folder}/user_rsa", False),
    Case("PubkeyAuthentication no", False),
    Case("PreferredAuthentications password,keyboard-interactive", False),
    Case("PreferredAuthentications keyboard-interactive,publickey", True),
    Case("IdentitiesOnly yes", True),
    Case("IdentitiesOnly yes\nIdentityFile none", False),
    Case('IdentityFile "{folder}/user key"', True),
    Case("IdentityFile CASE/%h", True, make=lambda folder, site: copy_key(folder / site.address, site)),
    Case("IdentityFile CASE/bait", False, make=lambda folder, site: copy_key(folder / "bait", site, mode=0o644)),
    # known_hosts
    Case("", False, known=""),
    Case("UserKnownHostsFile none", False),
    Case("UserKnownHostsFile CASE/missing", False),
    Case("UserKnownHostsFile none\nGlobalKnownHostsFile CASE/known", True),
    Case(BLANK, True, make=write("a file", USUAL)),
    Case(BLANK, False, make=write("a", USUAL)),
    Case("UserKnownHostsFile CASE/%h", True, make=lambda folder, site: write(site.address, USUAL)(folder, site)),
    Case("", False, known=USUAL + "@revoked * {ed}\n"),
    Case("", False, known="@revoked [{address}]:2201 {ed}\n" + USUAL),
    Case("", True, known=USUAL + "@revoked * {rsa}\n"),
    Case("", True, known=USUAL + "@odd * {ed}\n"),
    Case("", False, known="[{address}]:2201 {other}\n"),
    Case("", True, known="[{address}]:2201 {other}\n[{address}]:2201 {ed}\n"),
    Case("", False, known="[{address}]:2201 {rsa}\n"),
    Case("", True, known="{address} {ed}\n"),
    Case("", False, known="{address} {other}\n"),
    Case("", False, known="{address} {ed}\n[{address}]:2201 {other}\n"),
    Case("", False, known="[{address}]:2202 {ed}\n"),
    Case("", False, known="@revoked {address} {ed}\n"),
    Case("", True, known="[10.213.*.*]:2201,!x {ed}\n"),
    Case("", True, known="*,![{address}]:2201 {ed}\n"),  # the name alone is not excluded
    Case("", False, known="*,![{address}]:2201,!{address} {ed}\n"),
    Case("", False, known="[{address}]:2201\x0bx {ed}\n"),
    Case("", False, known="x\x0b[{address}]:2201 {ed}\n"),
    Case("", True, known="# x\n\t [{address}]:2201\t {ed} and more\r\n"),
    Case("", True, known=USUAL, make=lambda folder, _: hashed(folder / "known")),
    Case("HostKeyAlias db", True, known="db {ed}\n"),
    Case("HostKeyAlias db", False, known=USUAL),
    Case("HostKeyAlias db", False, known="[db]:2201 {ed}\n"),
    Case("", True, 2205, known="@cert-authority [{address}]:2205 {ca}\n"),
    Case("", False, 2205, known="@cert-authority [{address}]:2205 {other}\n"),
    Case("", False, 2205, known="@cert-authority [{address}]:2205 {ca}\n@revoked * {ca}\n"),
    Case("RevokedHostKeys CASE/revoked", False, make=write("revoked", "{ed}\n")),
    Case("RevokedHostKeys CASE/revoked", True, make=write("revoked", "{rsa}\n")),
    Case("RevokedHostKeys CASE/missing", False),
    Case("RevokedHostKeys none", True),
    Case("KnownHostsCommand /bin/cat CASE/command\nUserKnownHostsFile none", True, make=write("command", ED)),
    Case("KnownHostsCommand /bin/cat CASE/command", False, make=write("command", "@revoked * {ed}\n")),
    Case("StrictHostKeyChecking no", False, known=""),
    Case("VerifyHostKeyDNS yes", False, known=""),
    Case("UpdateHostKeys yes", True, 2206),
    Case("HashKnownHosts yes\nCheckHostIP yes", True),
    # the way
    Case("AddressFamily inet", True),
    Case("AddressFamily inet6", False),
    Case("ProxyJump none", True),
    Case("Match originalhost there exec true\nProxyJump gate", True),
    Case("Match originalhost there\nProxyCommand ssh -F CASE/config -W [%h]:%p gate", True),
    Case("BindAddress 192.0.2.1", False),
    Case("CanonicalizeHostname yes\nCanonicalDomains example.invalid", True),
    # which lines hold
    Case("Match exec false\nCiphers aes256-ctr", True, 2203),
    Case("Match exec true\nCiphers aes256-ctr", False, 2203),
    Case("Match final\nCiphers aes256-ctr", False, 2203),
    Case("Match localuser nobody-at-all\nPubkeyAuthentication no", True),
    Case("Include CASE/more", False, make=write("more", "PubkeyAuthentication no\n")),
    Case("Include CASE/m*", False, 2203, make=write("more", "Ciphers aes256-ctr\n")),
    Case("Include CASE/missing", True),
    Case("Nonsense yes", False),
    Case("IgnoreUnknown Nonsense\nNonsense yes", True),
    Case("Port 2s", False),
    Case("IdentityFile", False),
]


def copy_key(path: Path, site: Site, mode: int = 0o600) -> None:
    """The user's key under another name."""
    shutil.copy(site.lab.folder / "user_key", path)
    path.chmod(mode)


def hashed(path: Path) -> None:
    """known_hosts as `ssh-keygen -H` makes it."""
    sh("ssh-keygen", "-q", "-H", "-f", str(path))


def by_ssh(config: Path) -> tuple[bool, str]:
    """Whether the real ssh gets in, and what it says."""
    argv = ["ssh", "-F", str(config), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "there", "echo here"]
    environment = {key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"}
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, env=environment, cwd="/"
    )
    return done.stdout == "here\n", done.stderr


def by_us(config: Path, way: str) -> tuple[bool, str]:
    """Whether we get in, and what is said."""
    host = Host("there", "there", transport=way)
    try:
        connection = connect(host, Inventory(), ReachOptions(10, time.monotonic() + PATIENCE, config=str(config)))
    except HostError as error:
        return False, error.message
    try:
        channel = connection.run("echo here")
        return channel.receive() == b"here\n", connection.note or ""
    except HostError as error:
        return False, error.message
    finally:
        connection.close()


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{n}-{CASES[n].lines[:40]}-{CASES[n].port}")
def test_we_are_never_laxer_than_ssh(number: int, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[number]
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    config = site.config(number, case.port, case.lines, case.known)
    case.make(config.parent, site)
    before = (config.parent / "known").read_bytes()
    reached, said = by_ssh(config)
    assert reached == case.reached, said  # or the case does not show what it is there for
    ours = {"auto": by_us(config, "auto")}
    assert ours["auto"][0] == reached, ours
    # What `auto` was refused, the library alone must be refused too; where it got in, so must the ssh program.
    other = "openssh" if reached else "paramiko"
    assert by_us(config, other)[0] == reached, other
    assert (config.parent / "known").read_bytes() == before


def test_words_of_ssh_that_a_host_says_are_none_of_ssh(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A banner that imitates ssh yields no `ssh-keygen -R`; the true refusal is told."""
    config = site.config(len(CASES), 2207, "IdentityFile {folder}/other", "[{address}]:2207 {ed}\n")
    assert BANNER.splitlines()[3] in by_ssh(config)[1]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    host = Host("there", "there", transport="openssh")
    with pytest.raises(HostError) as caught:
        connect(host, Inventory(), ReachOptions(10, time.monotonic() + PATIENCE, config=str(config))).run("true")
    assert caught.value.code is ErrorCode.AUTH_FAILED and "Permission denied (" in caught.value.message
    assert "ssh-keygen" not in str(caught.value.hint) and not [*tmp_path.iterdir()]


def test_a_line_is_taken_out_only_if_it_is_there(site: Site) -> None:
    """The name of an alias is not that of the host, which -R would be given."""
    for lines, known, act in (
        ("", "[{address}]:2201 {other}\n", "ssh-keygen"),
        ("HostKeyAlias db", "db {other}\n", "look at line 1 of "),
    ):
        config = site.config(len(CASES) + 1, 2201, lines, known)
        host = Host("db", site.address, port=2201, transport="openssh")
        with pytest.raises(HostError) as caught:
            connect(host, Inventory(), ReachOptions(10, time.monotonic() + PATIENCE, config=str(config))).run("true")
        assert caught.value.code is ErrorCode.HOST_KEY_MISMATCH and act in str(caught.value.hint)


def test_a_new_key_that_the_ssh_program_adds_is_said(site: Site) -> None:
    config = site.config(len(CASES) + 2, 2201, "", "")
    host = Host("there", "there", transport="openssh")
    options = ReachOptions(10, time.monotonic() + PATIENCE, "accept-new", config=str(config))
    connection = connect(host, Inventory(), options)
    connection.run("echo here")
    assert "Permanently added" in str(connection.note) and site.address in str(connection.note)
    connection.close()
