"""Every wrong inventory is refused with the place of the error and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfopen.errors import UsageError
from halfopen.inventory import find, load, read

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
    "hosts.web1.address: '-oProxyCommand=x' is no name": ('[hosts.web1]\naddress="-oProxyCommand=x"', None),
    "hosts.web1.user: '$(id)' is no name": ('[hosts.web1]\naddress="x"\nuser="$(id)"', None),
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


def test_where_it_is_looked_for_and_whom_it_belongs_to(tmp_path: Path) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    own = home / ".config/halfopen"
    own.mkdir(parents=True)
    here.mkdir()
    variables = {"HOME": str(home)}
    assert find(None, variables, here) == (None, True)
    (own / "inventory.toml").write_text("")
    assert find(None, variables, here) == (own / "inventory.toml", True)
    (here / "inventory.toml").write_text("")
    assert find(None, variables, here) == (here / "inventory.toml", False)
    assert find("inventory.toml", variables, here) == (here / "inventory.toml", True)
    assert not read(None, variables, here).trusted
    with pytest.raises(UsageError, match="there is no inventory"):
        find("missing.toml", variables, here)
