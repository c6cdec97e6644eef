"""What reads files of the user and of others: saved evidence, known_hosts, settings of ssh, inventories, conntrack."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from fuzz.envelope import records

from halfopen import api
from halfopen.errors import UsageError
from halfopen.evidence import saved
from halfopen.inventory import Doubt, load
from halfopen.judge.assembly.policy import Policy
from halfopen.plan import Inventory
from halfopen.probe import tracking
from halfopen.reach import known_hosts, settings

KEY = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32


def saved_file(data: bytes) -> None:
    """The JSON of a snapshot behind a valid gzip: what can be read can be written, and is then the same."""
    one = saved.decode(gzip.compress(data, 1, mtime=0), "x")
    saved.snapshot_of(one)
    assert saved.from_json(saved.to_json(one)) == one


@cache
def recorded() -> str:
    """The evidence of both hosts of the demo, as JSON: a list of two."""
    folder = resources.files("halfopen.demo").joinpath("recorded")
    texts = (gzip.decompress(folder.joinpath(f"{name}.halfopen").read_bytes()).decode() for name in ("app1", "db1"))
    return f"[{','.join(texts)}]"


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each place of a tree that holds something: its container, and its name or number there."""
    found = []
    names = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for name in names:
        found += [(value, name), *places(value[name])]
    return found


def edited(data: bytes) -> list[dict[str, Any]]:
    """Records -> the recorded evidence with as many edits: two bytes say where, the rest what stands there then."""
    files = json.loads(recorded())
    for kind, contents in list(records(data))[:20]:
        where = places(files)
        (at,), rest = struct.unpack("<H", contents[:2].ljust(2, b"\0")), contents[2:]
        holder, name = where[at % len(where)]
        other, there = where[int.from_bytes(rest[:2], "little") % len(where)]
        if holder is files:
            continue
        change = kind % 7
        if change == 0:
            holder[name] = base64.b64encode(rest).decode()
        elif change == 1:
            holder[name] = int.from_bytes(rest[:9], "little", signed=True)
        elif change == 2:
            holder[name] = rest.decode("utf-8", "replace")
        elif change == 3:
            holder[name] = None
        elif change == 4:
            holder[name] = json.loads(json.dumps(other[there]))
        elif change == 5:
            del holder[name]
        elif isinstance(holder, list):
            holder.insert(name, json.loads(json.dumps(holder[name])))
    return list(files)


def judged(data: bytes) -> None:
    """Two snapshots that lie, all the way to the report in every format."""
    texts = [json.dumps(one).encode() for one in edited(data)]
    files = {name: gzip.compress(text, 1, mtime=0) for name, text in zip("ab", texts, strict=True)}
    report = api.report_of_files(
        [*files], [], [], [], read_bytes=files.__getitem__, inventory=Inventory, policy=Policy()
    )
    assert report.exit_code in (0, 1, 3)
    json.loads(msgspec.json.encode(report))


def known(data: bytes) -> None:
    """known_hosts: never fails, and trusts no key that does not stand there."""
    found = known_hosts.load([("f", data)])
    assert len(found.entries) + len(found.warnings) <= data.count(b"\n") + 1
    for name, port in (("db1", 22), ("db1", 2222)):
        trust, rests_on = known_hosts.judge(found, name, port, "ssh-ed25519", KEY)
        assert (trust is known_hosts.Trust.KNOWN) <= any(one.key == KEY for one in rests_on)
        found.kinds(name, port), found.has_ca(name, port)


def ssh_output(data: bytes) -> None:
    """What `ssh -G` printed."""
    found = settings.from_options(settings.options_of(data), "db1", None, None)
    assert 0 < found.port < 65536 and found.user


def ssh_config(data: bytes) -> None:
    """A configuration of ssh, read where there is no ssh."""
    text = data.decode("utf-8", "surrogateescape")
    found = settings.from_options(settings.subset(text, "db1", "config"), "db1", None, None)
    assert 0 < found.port < 65536 and found.user


def inventory(data: bytes) -> None:
    """An inventory, as the user named it, and as it lies about."""
    text = data.decode("utf-8", "surrogateescape")
    refused = False
    for doubt in (None, Doubt("lies about")):
        try:
            load(text, "x", doubt)
            assert not refused, "what is refused of the user is refused of others"
        except UsageError:
            refused = True


def conntrack_lines(data: bytes) -> None:
    """/proc/net/nf_conntrack."""
    for line in data.split(b"\n"):
        for pair in tracking.conntrack_line(line):
            assert {len(key) for key in pair} <= {12, 36}


def target(data: bytes) -> None:
    """`[user@]host[:port]`."""
    _, host, port = settings.split_target(data.decode("utf-8", "surrogateescape"))
    assert host and not host.startswith("-") and (port is None or 0 < port < 65536)
