"""Redacted evidence names nobody, and is judged as the evidence that it comes from."""

from __future__ import annotations

import gzip
import io
import json
from enum import Enum
from importlib import resources
from ipaddress import ip_address
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from halfopen import address
from halfopen.__main__ import main
from halfopen.environment import Environment
from halfopen.errors import ErrorCode
from halfopen.evidence.redact import HIDDEN, HOW, Cipher, redacted
from halfopen.evidence.saved import Said, Saved, decode, encode
from halfopen.model import Process
from halfopen.plan import CheckPlan

RECORDED = resources.files("halfopen.demo").joinpath("recorded")
ELSEWHERE = {"app1": ("203.0.113.77",), "db1": ("2001:db8:acce::7",)}
SECRET = b"a secret of thirty two bytes...."


def recorded() -> list[Saved]:
    """The pair that ships with the package, with a name wherever a name can stand."""
    found = []
    for name in ("app1", "db1"):
        one = decode(RECORDED.joinpath(f"{name}.halfopen").read_bytes(), name)
        assert one.facts is not None
        facts = replace(
            one.facts,
            hostname=f"{name}.acme.example",
            kernel="6.1.0-acme-build",
            uid=4242,
            gaps=("the namespace of acme",),
        )
        owners = {
            number: Process(one.pid, "acme-app", "/opt/acme/app", "acme.service") for number, one in one.owners.items()
        }
        found.append(
            msgspec.structs.replace(
                one,
                facts=facts,
                owners=owners,
                notes=("acme",),
                run=None,
                addresses=(*one.addresses, *ELSEWHERE[name]),
            )
        )
    return found


def judged(files: list[Saved], folder: Any) -> dict[str, Any]:
    """What analyse says of them."""
    names = []
    for number, one in enumerate(files):
        (folder / f"{number}.halfopen").write_bytes(encode(one))
        names.append(f"{number}.halfopen")
    out, err = io.StringIO(), io.StringIO()
    code = main(["analyse", *names, "--format", "json"], Environment({}, folder, io.StringIO(), out, err))
    assert code in (0, 1), err.getvalue()
    report: dict[str, Any] = json.loads(out.getvalue())
    return report


def test_nothing_that_names_somebody_is_left() -> None:
    files = recorded()
    for before, after in zip(files, redacted(files, SECRET), strict=True):
        text = gzip.decompress(encode(after)).decode()
        for name in ("acme", "app1", "db1", "203.0.113.77", "4242", before.facts.boot_id if before.facts else ""):
            assert name and name not in text, name
        raw = msgspec.to_builtins(after, builtin_types=(bytes,))
        for space in before.namespaces:
            for one in space.addresses:
                if not address.is_loopback(one.address):
                    assert one.address not in all_bytes(raw)


def all_bytes(value: Any) -> bytes:
    """Every byte string in a tree, one after the other."""
    if isinstance(value, bytes):
        return value + b"|"
    if isinstance(value, dict):
        value = list(value.values())
    return b"".join(map(all_bytes, value)) if isinstance(value, list | tuple) else b""


def test_it_is_judged_as_what_it_comes_from(tmp_path: Any) -> None:
    files = recorded()
    (plain,), (hidden,) = judged(files, tmp_path)["checks"], judged(redacted(files, SECRET), tmp_path)["checks"]
    assert plain["findings"] and plain["outcome"] == hidden["outcome"]

    def shape(check: dict[str, Any]) -> list[Any]:
        return sorted(
            [
                one["verdict"],
                one["confidence"],
                one["connection"]["client"].rpartition(":")[2],
                one["connection"]["server"].rpartition(":")[2],
                [end and (end["state"], end["timer"], end["cookie"]) for end in (one["client"], one["server"])],
            ]
            for one in check["findings"]
        )

    def states(check: dict[str, Any]) -> list[Any]:
        return sorted(
            [str(row["client"]), str(row["server"]), str(row["verdict"]), row["count"]] for row in check["state_matrix"]
        )

    assert shape(plain) == shape(hidden)
    assert states(plain) == states(hidden) and plain["connections"] == hidden["connections"]


def test_files_of_several_runs_fit_by_their_secret() -> None:
    files = recorded()
    together = redacted(files, SECRET)
    assert [redacted([one], SECRET)[0] for one in files] == together
    assert redacted(files[:1], b"another secret, of other bytes..")[0] != together[0]


def test_errors_keep_their_code_alone() -> None:
    said = Said(code=ErrorCode.AUTH_FAILED, message="alice@db1 was refused", hint="ssh -v alice@db1")
    (one,) = redacted([msgspec.structs.replace(recorded()[0], error=said)], SECRET)
    assert one.error == Said(code=ErrorCode.AUTH_FAILED, message=HIDDEN, hint=None)


def test_the_hosts_of_a_check_are_those_of_the_files() -> None:
    plan = CheckPlan("acme", ("app1",), ("db1",), (5000,), nat=("db1",))
    files = redacted([msgspec.structs.replace(one, run=run(plan)) for one in recorded()], SECRET)
    assert files[0].run is not None
    (hidden,) = files[0].run.checks
    assert (hidden.clients, hidden.servers, hidden.nat) == ((files[0].host,), (files[1].host,), (files[1].host,))
    assert hidden.ports == (5000,) and "acme" not in hidden.name


def run(plan: CheckPlan) -> Any:
    from halfopen.evidence.saved import Run

    return Run(id="1", started_at="2026-01-01T00:00:00.000Z", finished_at="2026-01-01T00:00:01.000Z", checks=(plan,))


ADDRESSES = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)).map(address.canonical)


@given(ADDRESSES, ADDRESSES)
def test_two_addresses_never_become_one_and_keep_their_kind(one: bytes, two: bytes) -> None:
    cipher = Cipher(SECRET)
    there, other = cipher.address(one), cipher.address(two)
    assert (there == other) == (one == two)
    assert len(there) == len(one) and address.canonical(there) == there
    for kind in (address.is_loopback, address.is_link_local, address.is_unspecified):
        assert kind(there) == kind(one)
    if len(one) == 4:
        near, far = ip_address(one), ip_address(there)
        assert (near.is_multicast, near.is_loopback, near.is_link_local) == (
            far.is_multicast,
            far.is_loopback,
            far.is_link_local,
        )


def test_the_permutation_of_a_small_network_is_one() -> None:
    cipher = Cipher(SECRET)
    network = [bytes((192, 168, high, low)) for high in range(256) for low in range(256)]
    assert {cipher.address(one) for one in network} == set(network)
    assert sum(cipher.address(one) == one for one in network) < 20


def test_every_field_with_text_in_it_has_its_row() -> None:
    """A field that somebody adds must be thought about here, or it is hidden."""
    needed, rows = set(), {(name, field) for name, field in HOW}
    for kind in reachable(Saved, set()):
        for field, hint in get_type_hints(kind).items():
            if leaves(hint) & {str, bytes}:
                needed.add((kind.__name__, field))
    assert needed <= rows
    users = {(name, "uid") for name in ("HostFacts", "ListenSocket", "Socket")}
    assert rows - needed == {*users, ("Reach", "owner")}


def parts(hint: Any) -> list[Any]:
    """The types inside a type."""
    if get_origin(hint) in (tuple, dict, frozenset, list, Union, UnionType) or get_args(hint):
        return [part for one in get_args(hint) for part in parts(one)]
    return [hint]


def leaves(hint: Any) -> set[Any]:
    """The plain types of a field: enumerations are no text."""
    return {one for one in parts(hint) if isinstance(one, type) and not issubclass(one, Enum)}


def reachable(kind: Any, seen: set[Any]) -> set[Any]:
    """Every structure that a file may hold."""
    if kind not in seen and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        seen.add(kind)
        for hint in get_type_hints(kind).values():
            for one in parts(hint):
                reachable(one, seen)
    return seen
