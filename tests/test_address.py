"""Addresses are canonical, keys mirror, and the flow id is the one that others compute."""

from __future__ import annotations

import communityid
import pytest
from hypothesis import given
from strategies import KEYS

from halfopen import address


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
    ],
)
def test_an_address_has_one_form(text: str, shown: str) -> None:
    assert address.show(address.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.256", "example.net", "1.2.3.4:5", "::g", "\udcff"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        address.parse(text)


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.1:", "10.0.0.1:99999", "10.0.0.1:-1", ":80", "10.0.0.1:８０"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an"):
        address.parse_endpoint(text)


@given(KEYS)
def test_an_endpoint_reads_as_it_was_written(key: bytes) -> None:
    local, port, _, _ = address.split_key(key)
    assert address.parse_endpoint(address.endpoint(local, port)) == (address.canonical(local), port)


@given(KEYS)
def test_the_mirror_of_the_mirror_is_the_key(key: bytes) -> None:
    local, port, peer, peer_port = address.split_key(key)
    assert address.mirror(address.mirror(key)) == key == address.make_key(local, port, peer, peer_port)
    assert address.split_key(address.mirror(key)) == (peer, peer_port, local, port)


@given(KEYS)
def test_the_flow_id_is_the_communitys_and_the_same_from_both_ends(key: bytes) -> None:
    local, port, peer, peer_port = address.split_key(key)
    flow = communityid.FlowTuple.make_tcp(address.show(local), address.show(peer), port, peer_port)
    assert (
        address.community_id(key) == address.community_id(address.mirror(key)) == communityid.CommunityID().calc(flow)
    )


def test_special_addresses() -> None:
    assert address.is_loopback(address.parse("127.3.2.1")) and address.is_loopback(address.parse("::1"))
    assert not address.is_loopback(address.parse("128.0.0.1"))
    assert address.is_link_local(address.parse("febf::1")) and not address.is_link_local(address.parse("fec0::1"))
