"""The lab itself: its hosts are apart, and each recipe leaves what it says, by the word of `ss` in both hosts."""

from __future__ import annotations

import pytest
from lab.breaks import FAULTS, Scene
from lab.host import Lab
from lab.waiting import until

ENDS: dict[str, tuple[set[str | None], set[str | None]]] = {
    "missing-on-server": ({"ESTAB"}, {None}),
    "missing-on-client": ({None}, {"ESTAB"}),
    "handshake-stuck": ({"ESTAB"}, {"SYN-RECV"}),
    "never-accepted": ({"ESTAB"}, {"ESTAB"}),
    "half-closed": ({"FIN-WAIT-2"}, {"CLOSE-WAIT"}),
    "abandoned-close": ({None}, {"CLOSE-WAIT"}),
    "close-lost": ({"FIN-WAIT-1"}, {"ESTAB"}),
    "connect-unanswered": ({"SYN-SENT"}, {None}),
    "embryonic": ({None}, {"SYN-RECV"}),
    "closing-alone": ({"FIN-WAIT-1"}, {None}),
    "desynchronized": ({"SYN-SENT"}, {"ESTAB"}),
}


def test_hosts_are_apart(pair: Lab) -> None:
    web, db = pair["web"], pair["db"]
    assert web.run("cat", "/proc/sys/kernel/random/boot_id") != db.run("cat", "/proc/sys/kernel/random/boot_id")
    assert web.run("hostname").strip() == "web"
    marker = db.start("sleep", "4242")
    commands = ("sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '")
    until(lambda: "4242" in db.run(*commands))
    assert "4242" not in web.run(*commands)
    assert "netns" not in web.run("ls", "/run")
    marker.kill()


def test_ssh_answers_on_the_management_address_only(pair: Lab) -> None:
    listening = pair["db"].run("ss", "-Htln")
    assert f"{pair['db'].management}:22" in listening
    assert "10.7.0.2:22" not in listening and "0.0.0.0:22" not in listening


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "healthy"])
def test_a_recipe_leaves_what_it_says(fault: str, pair: Lab) -> None:
    web, db = pair["web"], pair["db"]
    port = 6000 + list(FAULTS).index(fault)
    place = Scene(web, db, web.driver(), db.driver(), "10.7.0.2", "10.7.0.2", port)
    made = FAULTS[fault](place)
    near, far = web.ss(), db.ss()
    for verdict, client, server in made:
        assert near.get((client, server)) in ENDS[verdict][0], verdict
        assert far.get((server, client)) in ENDS[verdict][1], verdict
