"""A host that changes ports by a rule without connection tracking: no table tells of it, on one link too."""

from __future__ import annotations

import pytest
from lab.host import Lab
from lab.tool import check

RULES = """
add table ip plain
add chain ip plain in { type filter hook prerouting priority -300; }
add chain ip plain out { type filter hook output priority -300; }
add rule ip plain in tcp dport 80 tcp dport set 8080
add rule ip plain out tcp sport 8080 tcp sport set 80
"""


@pytest.mark.parametrize("spoken", [False, True], ids=["silent", "spoken"])
def test_what_a_rule_rewrites_is_never_proven_to_be_missing(fresh_pair: Lab, spoken: bool) -> None:
    """Two healthy connections, each seen at another port by the two ends, and one whose server's end is gone."""
    web, db = fresh_pair["web"], fresh_pair["db"]
    db.run("nft", RULES)
    client, server = web.driver(), db.driver()
    listener = server.listen("10.7.0.2", 8080, 16)
    clients = client.connect("10.7.0.2", 80, 3)
    servers = server.accept(listener, 3)
    if spoken:
        client.send(clients, 5)
        server.receive(servers, 5)
    assert not any("8080" in " ".join(pair) for pair in web.ss())
    server.vanish(servers[:1])
    code, report = check(fresh_pair, "--settle", "0.5")
    proven = [one for one in report["findings"] if one["confidence"] != "inferred"]
    assert code == 1 and len(proven) == 1
    assert proven[0]["verdict"] == "missing-on-server" and proven[0]["connection"]["server"] == "10.7.0.2:80"
    gone = proven[0]["connection"]["client"]
    assert not any(gone in " ".join(pair) for pair in db.ss())
    for one in report["findings"]:
        assert one is proven[0] or (one["candidate"] and one["connection"]["client"] != gone)
