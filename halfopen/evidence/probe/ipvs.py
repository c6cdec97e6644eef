"""IPVS, a load balancer in Linux: text of /proc/net/ip_vs_conn and ip_vs -> what it translates. Pure.

A row of ip_vs_conn (net/netfilter/ipvs/ip_vs_conn.c ip_vs_conn_seq_show) is protocol, client, virtual address and real
server, each address with its port, in hexadecimal. How packets are handed on stands in ip_vs with each real server.
Only masquerading (Masq) changes the tuple; with direct routing or a tunnel the real server sees the one of the client.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from halfopen import address
from halfopen.evidence.probe.frames import broken

Endpoint = tuple[bytes, int]


def pairs(connections: str, services: str, known: Container[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The tuple of the first packet as it came and as it went on, of each TCP connection that IPVS translates.

    known: tuples of which connection tracking tells already where they went, source address included: those are left
    out. So is a connection whose port stays the same and whose real server is in `services` no more.
    """
    methods = dict(forwarding(services))
    for line in connections.splitlines()[1:]:
        words = line.split()
        if words[:1] != ["TCP"]:
            continue
        if len(words) < 9:
            raise broken("a connection of IPVS is cut")
        client, virtual, real = (endpoint(*words[at : at + 2]) for at in (1, 3, 5))
        if len({len(end[0]) for end in (client, virtual, real)}) > 1:
            continue  # a tunnel of another family
        before, after = address.make_key(*client, *virtual), address.make_key(*client, *real)
        is_masked = methods.get(real, "Masq" if virtual[1] != real[1] else "") == "Masq"
        if is_masked and before != after and before not in known:
            yield before, after


def forwarding(services: str) -> Iterator[tuple[Endpoint, str]]:
    """Real server -> how it is reached: Masq, Route, Tunnel or Local."""
    for line in services.splitlines():
        words = line.split()
        if words[:1] == ["->"] and len(words) > 2 and words[1][:1] in "[0123456789ABCDEF":
            packed, _, port = words[1].rpartition(":")
            yield endpoint(packed.strip("[]"), port), words[2]


def endpoint(packed: str, port: str) -> Endpoint:
    """An address and a port as the kernel writes them: `0A070001` or `fd07:0000:…`, and `1F90`."""
    try:
        found = address.parse(packed) if ":" in packed else bytes.fromhex(packed)
        number = int(port, 16)
    except ValueError as error:
        raise broken("an address of IPVS cannot be read") from error
    if len(found) not in (4, 16) or not 0 <= number < 1 << 16:
        raise broken("an address of IPVS cannot be read")
    return address.canonical(found), number
