"""Names are checked harder than ssh does, and the subset of ssh_config refuses what it does not understand."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from pathlib import Path

import pytest
from lab.waiting import PATIENCE
from msgspec.structs import replace

from halfopen.errors import ErrorCode, HostError, UsageError
from halfopen.inventory import load
from halfopen.reach import settings
from halfopen.reach.algorithms import rsa_bits
from halfopen.reach.connect import ReachOptions, hops_of, openssh
from halfopen.reach.library import load_paramiko
from halfopen.reach.settings import Lookup, from_options, options_of, split_target, subset

LONG = "db1:" + "9" * 5000  # more digits than Python reads


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("db1", (None, "db1", None)),
        ("ops@db1:2222", ("ops", "db1", 2222)),
        ("[2001:db8::1]:22", (None, "2001:db8::1", 22)),
        ("ops@[::1]", ("ops", "::1", None)),
        ("2001:db8::1", (None, "2001:db8::1", None)),
    ],
)
def test_a_target_is_read_as_ssh_users_write_it(text: str, parts: tuple[str | None, str, int | None]) -> None:
    assert split_target(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "-oProxyCommand=id",
        "a b",
        "$(id)",
        "x\\y",
        "a;b",
        "",
        "db1:0",
        "db1:99999",
        "[::1",
        "-l@db1",
        "db1\n",
        "%h",
        LONG,
    ],
)
def test_a_target_that_could_be_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        split_target(text)


CONFIG = """
Host web* !web9
  HostName %h.example.net
  User ops
Host *
  User nobody
  Port = 2222
  IdentityFile "~/.ssh/one"
  IdentityFile ~/.ssh/two
  ProxyJump bastion
"""


def test_the_subset_follows_the_first_value() -> None:
    options = subset(CONFIG.replace("%h", "x"), "web1", "config")
    found = from_options(options, "web1", None, None)
    assert (found.host, found.user, found.port) == ("x.example.net", "ops", 2222)
    assert found.identity_files == ("~/.ssh/one", "~/.ssh/two") and found.jump == ("bastion",)
    assert from_options(subset(CONFIG, "web9", "c"), "web9", None, None).user == "nobody"


@pytest.mark.parametrize("line", ["Match exec true", "Include other"])
def test_the_subset_refuses_what_needs_ssh(line: str) -> None:
    with pytest.raises(HostError, match="line 2"):
        subset(f"Host *\n{line}\n", "web1", "config")


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client")
def test_ssh_resolves_where_there_is_an_ssh(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host db1\n HostName 10.9.9.9\n Port 2200\n User ops\n IdentitiesOnly yes\n ProxyCommand nc %h %p\n"
    )
    found = Lookup("db1", str(config)).settings()
    assert (found.host, found.port, found.user, found.identities_only) == ("10.9.9.9", 2200, "ops", True)
    assert found.beyond_us == "its settings have ProxyCommand"
    assert Lookup("root@db1:22", str(config)).settings().user == "root"


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client")
def test_what_ssh_refuses_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n Nonsense yes\n")
    with pytest.raises(HostError, match="ssh refuses"):
        Lookup("db1", str(config)).settings()


def test_without_an_ssh_the_subset_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    config = tmp_path / "config"
    config.write_text(CONFIG.replace("%h", "web1"))
    assert Lookup("web1", str(config)).settings().host == "web1.example.net"


def test_the_ssh_program_is_told_where_the_jump_hosts_of_the_inventory_are() -> None:
    gate = '[hosts.gate]\naddress = "2001:db8::1"\nuser = "me"\nport = 2222'
    found = load(f'[hosts.db]\naddress = "db1"\njump = "gate,ops@far"\n{gate}')
    made = openssh(found.hosts["db"], found, ReachOptions(PATIENCE, time.monotonic() + PATIENCE))
    assert [(one.user, one.host, one.port) for one in made.stops] == [
        ("me", "2001:db8::1", 2222),
        ("ops", "far", None),
        (None, "db1", None),
    ]
    argv = made.argv()
    assert argv[-2:] == ["--", "db1"] and "-J" not in argv


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("jump", [None, "bastion"])
def test_an_entry_of_an_inventory_takes_no_place_of_a_jump_host_of_ssh_config(
    trusted: bool, jump: str | None, tmp_path: Path
) -> None:
    """A stranger's `hosts.bastion` would choose the way; the user's own is meant where `--jump` names it."""
    config = tmp_path / "config"
    config.write_text("Host db1\n ProxyJump bastion\nHost bastion\n HostName bastion.example.org\n")
    text = '[hosts.bastion]\naddress = "other.example.net"\n[hosts.db1]\naddress = "db1"\n'
    found = replace(load(text), trusted=trusted)
    options = ReachOptions(PATIENCE, time.monotonic() + PATIENCE, jump=jump, config=str(config))
    own = trusted and jump is not None
    stops = openssh(found.hosts["db1"], found, options).stops
    assert [one.host for one in stops] == ["other.example.net" if own else "bastion", "db1"]
    hops = hops_of(found.hosts["db1"], found, options)
    assert [one.host for one in hops] == ["other.example.net" if own else "bastion.example.org", "db1"]


def test_every_ssh_on_the_way_is_as_strict_as_the_last(tmp_path: Path) -> None:
    """Spelled out as ProxyCommand, one inside the other, through the quoting of a shell and the % of ssh."""
    text = "".join(
        f'[hosts.{name}]\naddress = "{name}.example"\nidentity_file = "/k e%y/{name}"\nknown_hosts = "/known {name}"\n'
        for name in ("one", "two", "db")
    )
    found = load(text.replace('address = "db.example"', 'address = "db.example"\njump = "one,two"'))
    argv = openssh(found.hosts["db"], found, ReachOptions(PATIENCE, time.monotonic() + PATIENCE)).argv()
    for depth, name in enumerate(("db", "two", "one")):
        assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"} <= set(argv)
        assert argv[argv.index("-i") + 1] == f"/k e%%y/{name}" and f'UserKnownHostsFile="/known {name}"' in argv
        assert f"{name}.example" in argv and ("-W" in argv) == (depth > 0)
        proxies = [one.removeprefix("ProxyCommand=") for one in argv if one.startswith("ProxyCommand=")]
        assert len(proxies) == (name != "one")
        if proxies:
            # What ssh does with it: the % of its own level, then a shell.
            said = proxies[0].replace("%%", "\0").replace("%h", "H").replace("%p", "P").replace("\0", "%")
            argv = shlex.split(said)
            assert argv[argv.index("-W") + 1] == "[H]:P"


@pytest.mark.parametrize("port", ["ssh", "22=", "0", "65536", "-1", "\u0662\u0662", "9" * 5000])
def test_a_port_of_ssh_that_is_none_is_an_error_of_that_host(port: str) -> None:
    with pytest.raises(HostError, match="in the ssh settings of db1 is not a number from 1 to 65535"):
        from_options(options_of(f"user ops\nport {port}\n".encode()), "db1", None, None)
    assert from_options(options_of(f"user ops\nport {port}\n".encode()), "db1", None, 2222).port == 2222


@pytest.mark.parametrize("option", ["IdentityFile", "Port", "HostName ="])
def test_an_option_without_a_value_is_named_with_its_line(option: str) -> None:
    with pytest.raises(HostError, match="config line 2 is not a valid option and its value"):
        subset(f"Host *\n{option}\n", "db1", "config")


def test_without_an_ssh_the_files_of_the_user_and_the_machine_are_read_as_ssh_trusts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    machine = tmp_path / "machine"
    monkeypatch.setattr(settings, "SYSTEM_CONFIG", machine)
    own = tmp_path / ".ssh/config"
    own.parent.mkdir()
    own.write_text("Host db1\nPort 2201\n")
    machine.write_text(f"Include {tmp_path}/none/*.conf\nHost *\nPort 2202\nPubkeyAuthentication no\n")
    found = Lookup("db1").settings()
    assert (found.port, found.beyond_us) == (2201, "its settings have PubkeyAuthentication no")
    machine.write_text(f"Include {own}\n")
    with pytest.raises(HostError, match="Include"):
        Lookup("db1").settings()
    machine.unlink()
    own.chmod(0o666)
    with pytest.raises(HostError, match="others may write"):
        Lookup("db1").settings()
    own.unlink()
    os.mkfifo(own)
    with pytest.raises(HostError, match="not a regular file"):
        Lookup("db1").settings()


@pytest.mark.parametrize("line", ["Port 2s", "Port", "IdentityFile", 'IdentityFile "x', "RequiredRSASize many"])
def test_without_an_ssh_a_line_that_is_wrong_is_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "config").write_text(f"Host *\n{line}\n")
    with pytest.raises(HostError) as caught:
        Lookup("db1", str(tmp_path / "config")).settings()
    assert caught.value.code is ErrorCode.UNSUPPORTED


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("Ciphers +aes128-cbc", "its Ciphers change a list that only ssh knows"),
        ("PubkeyAcceptedKeyTypes -ssh-rsa", "its PubkeyAcceptedAlgorithms change a list that only ssh knows"),
        ("UserKnownHostsFile ~/.ssh/known.d/%k", "only ssh can tell which file ~/.ssh/known.d/%k is"),
        ("IdentityFile ${KEYS}/id", "only ssh can tell which file ${KEYS}/id is"),
        ("CheckHostIP yes", "its settings have CheckHostIP yes"),
        ("AddressFamily inet", "its settings have AddressFamily inet"),
        ("AddressFamily any", None),
        ("CheckHostIP no", None),
        ("KnownHostsCommand none", None),
        ("ProxyCommand nc --password secret %h", "its settings have ProxyCommand"),
        ("Ciphers aes256-ctr", None),
    ],
)
def test_what_only_ssh_can_follow_is_left_to_it(line: str, why: str | None) -> None:
    assert from_options(subset(f"Host *\n{line}\n", "db1", "c"), "db1", None, None).beyond_us == why


def test_the_length_of_an_rsa_key_is_that_of_its_modulus() -> None:
    assert rsa_bits(load_paramiko().RSAKey.generate(2048).asbytes()) == 2048
    assert rsa_bits(b"") == rsa_bits(b"\xff" * 9) == 0
