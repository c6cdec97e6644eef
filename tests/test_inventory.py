"""Every wrong inventory is refused with the place of the error and what would be right."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfopen.errors import UsageError
from halfopen.inventory import CHECK_KEYS, HOST_KEYS, Origin, find, load, read
from halfopen.plan import Inventory

GOOD = """
[defaults]
user = "ops"
[hosts.web1]
address = "web1.example.net"
tags = ["web"]
[hosts.web2]
address = "web2.example.net"
user = "root"
tags = ["web"]
[hosts.db1]
address = "[2001:db8::1]"
addresses = ["::ffff:203.0.113.7"]
"""


def test_defaults_selectors_and_canonical_addresses() -> None:
    found = load(
        GOOD
        + """
[checks.one]
client = "tag:web"
server = "db*"
ports = [5432]
allow = ["half-closed"]
max = { never-accepted = 10 }
"""
    )
    assert [host.user for host in found.hosts.values()] == ["ops", "root", "ops"]
    assert found.hosts["db1"].address == "2001:db8::1" and found.hosts["db1"].addresses == ("203.0.113.7",)
    check = found.checks["one"]
    assert check.clients == ("web1", "web2") and check.servers == ("db1",)
    assert check.max == {"never-accepted": 10} and check.rounds == 2 and check.settle == 1.5


def test_a_side_may_be_a_list_of_names_globs_and_tags_each_host_once() -> None:
    found = load(GOOD + '[checks.one]\nclient = ["web2", "tag:web", "w*"]\nserver = ["db?", "web1"]\nnat = "web*"\n')
    check = found.checks["one"]
    assert (check.clients, check.servers, check.nat) == (("web2", "web1"), ("db1", "web1"), ("web1", "web2"))


WRONG = {
    "hosts.web1.adress": ('[hosts.web1]\nadress = "x"', "did you mean 'address'?"),
    "hosts.web1.port must be a number from 1 to 65535, not 70000": ('[hosts.web1]\naddress="x"\nport=70000', None),
    "hosts.web1.port must be a number from 1 to 65535, not True": ('[hosts.web1]\naddress="x"\nport=true', None),
    "defaults.port": ('[defaults]\nport="22"\n[hosts.web1]\naddress="x"', None),
    "hosts.web1.address is missing": ("[hosts.web1]\nport=22", 'address = "web1.example.net"'),
    "hosts.web1.transport must be one of": ('[hosts.web1]\naddress="x"\ntransport="opensh"', "did you mean 'openssh'?"),
    "hosts.web1.command is missing": ('[hosts.web1]\ntransport="exec"', None),
    "hosts.web1.sudo must be true or false": ('[hosts.web1]\naddress="x"\nsudo=1', None),
    "hosts.web1.addresses[1] must be an IP address": ('[hosts.web1]\naddress="x"\naddresses=["::1","y"]', None),
    "hosts.web1.address: '-oProxyCommand=x' is not a valid name": ('[hosts.web1]\naddress="-oProxyCommand=x"', None),
    "hosts.web1.user: '$(id)' is not a valid name": ('[hosts.web1]\naddress="x"\nuser="$(id)"', None),
    "hosts.web1.user must be a string": ('[hosts.web1]\naddress="x"\nuser=""', None),
    "unknown key host": ('[host.web1]\naddress="x"', "did you mean 'hosts'?"),
    "leads in a circle": ('[hosts.a]\naddress="x"\njump="b"\n[hosts.b]\naddress="y"\njump="a"', None),
    "leads in a circle: a -> b -> a": (
        '[hosts.a]\naddress="x"\njump="c,b"\n[hosts.b]\naddress="y"\njump="c, a"\n[hosts.c]\naddress="z"',
        None,
    ),
    "checks.c.client: 'web3' selects no host": (GOOD + '[checks.c]\nclient="web3"\nserver="db1"', "did you mean 'web"),
    "checks.c.client: 'tag:wbe' selects no host": (GOOD + '[checks.c]\nclient="tag:wbe"\nserver="db1"', "'web'"),
    "checks.c.server is missing": (GOOD + '[checks.c]\nclient="web1"', None),
    "checks.c.allow[0] must be one of": (
        GOOD + '[checks.c]\nclient="web1"\nserver="db1"\nallow=["halfclosed"]',
        "half-closed",
    ),
    "checks.c.max.x must be one of": (GOOD + '[checks.c]\nclient="web1"\nserver="db1"\nmax={x=1}', None),
    "checks.c.settle must be seconds": (GOOD + '[checks.c]\nclient="web1"\nserver="db1"\nsettle=nan', None),
    "checks.c.rounds must be": (GOOD + '[checks.c]\nclient="web1"\nserver="db1"\nrounds=0', None),
    "checks.c.prots": (GOOD + '[checks.c]\nclient="web1"\nserver="db1"\nprots=[1]', "did you mean 'ports'?"),
    "is both a host and a check": (GOOD + '[checks.web1]\nclient="web1"\nserver="db1"', None),
    "at line 3": ('[hosts.a]\naddress="x"\naddress="y"\nport=1', None),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_inventory_is_refused_by_its_place(message: str) -> None:
    text, hint = WRONG[message]
    with pytest.raises(UsageError) as caught:
        load(text, "inventory.toml")
    assert message in caught.value.message and caught.value.message.startswith("inventory.toml: ")
    assert hint is None or hint in (caught.value.hint or "")


@given(st.text(max_size=60))
def test_no_text_is_anything_but_an_inventory_or_refused(text: str) -> None:
    try:
        load(text)
    except UsageError as error:
        assert error.message


def test_the_example_loads_as_it_stands() -> None:
    found = load(Path("inventory.example.toml").read_text(), "inventory.example.toml")
    assert found.checks["web-to-db"].clients == ("web1", "web2")


def test_where_it_is_looked_for(tmp_path: Path) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    own = home / ".config/halfopen"
    own.mkdir(parents=True)
    here.mkdir()
    variables = {"HOME": str(home)}
    assert find(None, variables, here) == (None, Origin.OWN) and read(None, variables, here) == Inventory()
    (own / "inventory.toml").write_text("")
    assert find(None, variables, here) == (own / "inventory.toml", Origin.OWN)
    assert find(None, {"XDG_CONFIG_HOME": str(home / ".config")}, here)[0] == own / "inventory.toml"
    assert read(None, variables, here).trusted
    (here / "inventory.toml").write_text("")
    assert find(None, variables, here) == (here / "inventory.toml", Origin.FOUND)
    assert find("inventory.toml", variables, here) == (here / "inventory.toml", Origin.NAMED)
    assert not read(None, variables, here).trusted and read("inventory.toml", variables, here).trusted
    with pytest.raises(UsageError, match="there is no inventory"):
        find("missing.toml", variables, here)


@pytest.mark.parametrize(
    "variables",
    [
        {"HOME": ""},
        {"HOME": "."},
        {"HOME": "~"},
        {"HOME": "", "XDG_CONFIG_HOME": ""},
        {"HOME": "/nonexistent", "XDG_CONFIG_HOME": ".config"},
        {"HOME": "/nonexistent", "XDG_CONFIG_HOME": "~/.config"},
    ],
    ids=str,
)
def test_the_config_folder_is_an_absolute_path_or_none(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".config/halfopen", "~/.config/halfopen"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "inventory.toml").write_text("")
    assert find(None, variables, tmp_path)[0] is None


SSH_CONFIG = """
Host = gate "inner"
  Port 2222
HOST *.corp web? !gone ops@gate # comment
Include more/*.conf config
"""

# (value, whether a file that may be a stranger's can set it)
HOST_VALUES: dict[str, list[tuple[str, bool]]] = {
    "address": [('"10.0.2.9"', True)],
    "port": [("22", True)],
    "user": [('"ops"', True)],
    "addresses": [('["203.0.113.7"]', True)],
    "tags": [('["web"]', True)],
    "identity_file": [('"~/.ssh/id"', False)],
    "known_hosts": [('"~/.ssh/known_hosts"', False)],
    "sudo": [("true", False), ("false", False)],
    "python": [('"python3"', False)],
    "command": [('["sh"]', False)],
    "transport": [
        ('"auto"', True),
        ('"paramiko"', True),
        ('"openssh"', True),
        ('"local"', False),
        ('"exec"', False),
    ],
    "jump": [
        *((f'"{name}"', True) for name in ("gate", "inner", "gate, inner", "included")),
        *(
            (f'"{name}"', False)
            for name in ("ops@gate", "gate:22", "gate,stranger.example", "web1", "x.corp", "*.corp")
        ),
        *((f'"{name}"', False) for name in ("gone", "comment", "stranger.example", "docker://gate", "unowned")),
    ],
}
CHECK_VALUES = {
    "client": '"own"',
    "server": '["o*"]',
    "ports": "[5432]",
    "nat": '"own"',
    "direct": "true",
    "settle": "0",
    "rounds": "3",
    "allow": '["half-closed"]',
    "max": "{ half-closed = 1 }",
    "require_connections": "1",
    "ask": '"suspects"',
}
REFUSED_OF_CHECKS = {"ask", "direct"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder whose ssh_config has some hosts, some of them in files that it includes."""
    folder = tmp_path / "home"
    (folder / ".ssh/more").mkdir(parents=True)
    (folder / ".config/halfopen").mkdir(parents=True)
    (folder / ".ssh/config").write_text(SSH_CONFIG)
    (folder / ".ssh/more/a.conf").write_text("Host included\n")
    (folder / ".ssh/more/b.conf").write_text("Host unowned\n")
    (folder / ".ssh/more/b.conf").chmod(0o666)
    return folder


def from_everywhere(text: str, home: Path, folder: Path) -> dict[str, str | None]:
    """What is said of a text as the inventory in each place that it can come from, None where it is taken."""
    lying, own = folder / "inventory.toml", home / ".config/halfopen/inventory.toml"

    def said(named: str | None) -> str | None:
        try:
            read(named, {"HOME": str(home)}, folder)
        except UsageError as error:
            return f"{error.message}\n{error.hint}"
        return None

    lying.write_text(text)
    found = {"lying": said(None), "named": said("inventory.toml")}
    lying.unlink()
    own.write_text(text)
    found["own"] = said(None)
    for mode in (0o664, 0o646):
        own.chmod(mode)
        found[f"{mode:o}"] = said(None)
        assert said(str(own)) is None
    own.chmod(0o600)
    if os.getuid() == 0:
        os.chown(own, 65534, -1)
        found["another user's"] = said(None)
    own.unlink()
    return found


@pytest.mark.parametrize("place", ["hosts.own", "defaults"])
@pytest.mark.parametrize(("key", "value", "taken"), [(key, *one) for key in HOST_VALUES for one in HOST_VALUES[key]])
def test_which_keys_of_a_host_a_strangers_file_may_set(
    place: str, key: str, value: str, taken: bool, home: Path, tmp_path: Path
) -> None:
    text = f"[{place}]\n{key} = {value}\n"
    text += "[hosts.own]\n" if place == "defaults" else ""
    text += 'address = "own.example"\n' if key != "address" or place == "defaults" else ""
    ready = text.replace('"exec"\n', '"exec"\ncommand = ["sh"]\n')
    for origin, said in from_everywhere(ready, home, tmp_path).items():
        if taken or origin in ("named", "own"):
            assert said is None, origin
        else:
            path = re.escape(f"{place}.{key}")
            assert said and re.search(rf"{path}( = .+)? is not taken from an inventory that ", said), origin
            assert "\nif you trust it: --inventory /" in said
            assert ("working directory" in said) == (origin == "lying")


@pytest.mark.parametrize("key", CHECK_VALUES)
def test_which_keys_of_a_check_a_strangers_file_may_set(key: str, home: Path, tmp_path: Path) -> None:
    lines = {"client": '"own"', "server": '"own"'} | {key: CHECK_VALUES[key]}
    text = '[hosts.own]\naddress = "x"\n[checks.c]\n' + "".join(f"{one} = {lines[one]}\n" for one in lines)
    said = from_everywhere(text, home, tmp_path)
    refused = {origin: why for origin, why in said.items() if why}
    strange = said.keys() - {"named", "own"} if key in REFUSED_OF_CHECKS else set()
    assert refused.keys() == strange
    assert all(f"checks.c.{key} is not taken from an inventory that " in why for why in refused.values())


def test_the_tables_of_what_a_stranger_may_set_have_every_key() -> None:
    assert set(HOST_VALUES) == set(HOST_KEYS) and set(CHECK_VALUES) == set(CHECK_KEYS)


def test_a_jump_never_leads_through_an_entry_of_the_same_strangers_file(home: Path, tmp_path: Path) -> None:
    """Though the user's ssh_config has a host of that name: the entry would take its place."""
    text = '[hosts.a]\naddress = "x"\njump = "gate"\n[hosts.gate]\naddress = "stranger.example"\n'
    said = from_everywhere(text, home, tmp_path)
    assert said["lying"] and "hosts.a.jump = 'gate' is not taken" in said["lying"] and said["named"] is None


def test_files_of_an_inventory_are_looked_for_beside_it(home: Path, tmp_path: Path) -> None:
    """And not in the working directory, where anybody may have put one of that name."""
    text = '[hosts.a]\naddress = "x"\nidentity_file = "keys/id"\nknown_hosts = "~/.ssh/known"\n'
    own = home / ".config/halfopen/inventory.toml"
    own.write_text(text)
    host = read(None, {"HOME": str(home)}, tmp_path).hosts["a"]
    assert (host.identity_file, host.known_hosts) == (str(own.parent / "keys/id"), "~/.ssh/known")


def test_an_inventory_without_an_end_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "inventory.toml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match="larger than"):
        read(None, {"HOME": str(tmp_path)}, tmp_path)
