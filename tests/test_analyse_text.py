"""`halfopen analyse` on pasted text: what two texts allow to be said, and never more."""

from __future__ import annotations

import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from evidence import SERVER as SERVER_ADDRESS
from evidence import snapshot
from msgspec.structs import replace

from halfopen import cli
from halfopen.environment import Environment
from halfopen.errors import UsageError
from halfopen.judge.confirm.dumps import with_addresses
from halfopen.model import InterfaceAddress, Rewrites

HEAD = "State  Recv-Q Send-Q Local Address:Port Peer Address:Port\n"
SSH = "LISTEN 0 128 *:22 *:*\n"
SERVER = HEAD + SSH + "LISTEN 0 128 *:5432 *:*\n"


def ss(local: str, peer: str, state: str = "ESTAB", more: str = "") -> str:
    return f"{state} 0 0 {local} {peer} {more}\n"


def pair(ports: list[int], state: str = "ESTAB") -> str:
    return "".join(ss(f"10.0.1.5:{port}", "10.0.2.9:5432", state) for port in ports)


def mirrored(ports: list[int], state: str = "ESTAB") -> str:
    return "".join(ss("10.0.2.9:5432", f"10.0.1.5:{port}", state) for port in ports)


def put(folder: Path, **files: str | bytes) -> None:
    """Writes each text to a file of its name."""
    for name, text in files.items():
        (folder / f"{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())


def run(folder: Path, *argv: str, stdin: bytes = b"", **files: str | bytes) -> tuple[int, dict[str, Any]]:
    """`halfopen analyse` over these files -> exit code and the check of the JSON report."""
    put(folder, **files)
    out = io.StringIO()
    environment = Environment({}, folder, io.TextIOWrapper(io.BytesIO(stdin)), out, io.StringIO())
    code = cli.main(["analyse", *argv, "--format", "json"], environment)
    (check,) = json.loads(out.getvalue())["checks"]
    return code, check


def told(check: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(one["verdict"], one["connection"]["client"], one["confidence"]) for one in check["findings"]}


def test_one_moment_is_inferred_and_says_so(tmp_path: Path) -> None:
    code, check = run(tmp_path, "app1.txt", "db1.txt", app1=HEAD + SSH + pair([1, 2, 3]), db1=SERVER + mirrored([1]))
    assert code == 3
    assert told(check) == {("missing-on-server", f"10.0.1.5:{port}", "inferred") for port in (2, 3)}
    assert check["headline"].startswith("incomplete  app1 -> db1:5432: 2 findings only inferred")
    assert "2 half-open connections app1 -> db1:5432, all missing on the server" in check["headline"]
    assert check["headline"].endswith("inferred from one moment of each") and check["agreeing"] == 1
    assert any("what opened or closed between the two looks the same" in note for note in check["notes"])
    assert check["client"]["collector"] == "ss" and check["client"]["privileged"] is None
    assert check["client"]["kernel"] is None and check["client"]["hostname"] is None


def test_two_moments_of_each_are_observed_and_clear_what_moved(tmp_path: Path) -> None:
    files = {
        "a1": HEAD + SSH + pair([1, 2, 3, 4]),
        "b1": SERVER + mirrored([1]),
        "a2": HEAD + SSH + pair([1, 2, 4]),  # 3 is gone
        "b2": SERVER + mirrored([1, 4]),  # 4 has come
    }
    argv = ["--client", "a1.txt", "--client", "a2.txt", "--server", "b1.txt", "--server", "b2.txt"]
    put(tmp_path, **files)
    code, check = run(tmp_path, *argv)
    assert code == 1 and told(check) == {("missing-on-server", "10.0.1.5:2", "observed")}
    assert check["rounds"] == 2 and "inferred" not in check["headline"]


@pytest.mark.parametrize("again", ["a.txt", "./a.txt"])
def test_the_same_file_is_no_second_moment(again: str, tmp_path: Path) -> None:
    put(tmp_path, a=HEAD + SSH + pair([1]), b=SERVER)
    with pytest.raises(UsageError, match=r"a\.txt is given twice, and the same evidence twice proves nothing more"):
        run(tmp_path, "--client", "a.txt", "--client", again, "--server", "b.txt")


def test_a_copy_of_a_snapshot_is_no_second_moment(tmp_path: Path) -> None:
    taken = resources.files("halfopen.demo").joinpath("recorded", "app1.halfopen").read_bytes()
    put(tmp_path, a=taken, copy=taken, b=SERVER)
    with pytest.raises(UsageError, match=r"copy\.txt is a copy of a\.txt"):
        run(tmp_path, "--client", "a.txt", "--client", "copy.txt", "--server", "b.txt")


def test_a_text_that_may_be_a_copy_is_told(tmp_path: Path) -> None:
    argv = ["--client", "a1.txt", "--client", "a2.txt", "--server", "b1.txt", "--server", "b2.txt"]
    _, check = run(tmp_path, *argv, a1=HEAD + SSH + pair([1, 2]), a2=HEAD + SSH + pair([1]), b1=SERVER, b2=SERVER)
    notes = [note for note in check["notes"] if "byte for byte" in note]
    assert notes == ["b2.txt is the same as b1.txt, byte for byte: a copy of it proves nothing more"]


def test_one_file_may_be_of_both_roles(tmp_path: Path) -> None:
    both = SERVER + ss("127.0.0.1:1", "127.0.0.1:5432") + ss("127.0.0.1:5432", "127.0.0.1:1")
    assert run(tmp_path, "a.txt", "a.txt", a=both)[0] == 0


def test_cookies_of_a_text_prove_nothing_but_tell_a_reused_port(tmp_path: Path) -> None:
    def client(cookie: int) -> str:
        rows = ss("10.0.1.5:1", "10.0.2.9:5432", more="ino:1 sk:1")
        return HEAD + SSH + rows + ss("10.0.1.5:2", "10.0.2.9:5432", more=f"ino:{cookie} sk:{cookie:x}")

    server = SERVER + mirrored([9])
    argv = ["--client", "a1.txt", "--client", "a2.txt", "--server", "b1.txt", "--server", "b2.txt"]
    _, check = run(tmp_path, *argv, a1=client(7), a2=client(8), b1=server, b2=server + "\n")
    assert ("missing-on-server", "10.0.1.5:1", "observed") in told(check)
    assert "10.0.1.5:2" not in {one[1] for one in told(check)}


def test_agreement_is_clean(tmp_path: Path) -> None:
    code, check = run(tmp_path, "a.txt", "b.txt", a=HEAD + SSH + pair([1, 2]), b=SERVER + mirrored([1, 2]))
    assert (code, check["outcome"], check["connections"]) == (0, "clean", 2)


PARTS = {
    "ss without -a": HEAD + mirrored([1]),
    "listening sockets alone": SERVER,
    "a line that was cut": SERVER + mirrored([1]) + "ESTAB 0 0 10.0.2.9:5432\n",
    "a name in place of a port": SERVER + mirrored([1]) + "ESTAB 0 0 10.0.2.9:postgresql 10.0.1.5:2\n",
    "lsof": "postgres 8 pg 5u IPv4 77 0t0 TCP *:5432 (LISTEN)\n"
    "postgres 9 pg 6u IPv4 78 0t0 TCP 10.0.2.9:5432->10.0.1.5:1 (ESTABLISHED)\n",
    "netstat without -a": "tcp 0 0 10.0.2.9:5432 10.0.1.5:1 ESTABLISHED\n",
    "/proc/net/tcp without tcp6": "0: 0902000A:1538 0501000A:0001 01 00000000:00000000 00:00000000 00000000 0 0 5\n",
}


@pytest.mark.parametrize("part", PARTS)
def test_what_a_part_does_not_show_is_unseen_and_never_a_finding_nor_clean(part: str, tmp_path: Path) -> None:
    code, check = run(tmp_path, "a.txt", "b.txt", a=HEAD + SSH + pair([1, 2]), b=PARTS[part])
    assert (code, check["outcome"], check["findings"]) == (3, "incomplete", [])
    assert not check["server"]["complete"] and check["server"]["gaps"]
    # Nor where all that it does show agrees.
    code, check = run(tmp_path, "a.txt", "b.txt", a=HEAD + SSH + pair([1]), b=PARTS[part])
    assert (code, check["outcome"], check["findings"]) == (3, "incomplete", [])


def test_a_part_still_proves_what_both_ends_show(tmp_path: Path) -> None:
    server = HEAD + mirrored([1]) + mirrored([2], "CLOSE-WAIT")
    client = HEAD + pair([1]) + pair([2], "FIN-WAIT-2")
    code, check = run(tmp_path, "a.txt", "b.txt", a=client, b=server)
    assert code == 3 and told(check) == {("half-closed", "10.0.1.5:2", "inferred")}
    assert check["headline"].startswith("incomplete")


def test_texts_without_a_common_address_are_not_clean(tmp_path: Path) -> None:
    code, check = run(tmp_path, "a.txt", "b.txt", a=HEAD + SSH + pair([1]), b=SERVER + ss("10.0.3.3:22", "10.0.4.4:9"))
    # 10.0.2.9 is dialled and the server listens on any address, so it may be the server's: then 1 is missing there.
    assert code == 3 and told(check) == {("missing-on-server", "10.0.1.5:1", "inferred")}
    assert any("10.0.2.9 is taken for its address" in note for note in check["notes"])
    code, check = run(tmp_path, "a.txt", "c.txt", c=HEAD + SSH + ss("10.0.3.3:22", "10.0.4.4:9"))
    assert (code, check["outcome"], check["findings"]) == (3, "incomplete", [])
    assert "nothing could be compared" in check["headline"] and "10.0.2.9:5432" in check["headline"]


def test_of_two_addresses_that_are_dialled_none_is_guessed(tmp_path: Path) -> None:
    client = HEAD + SSH + pair([1]) + ss("10.0.1.5:2", "10.0.9.9:5432")
    code, check = run(tmp_path, "a.txt", "b.txt", a=client, b=SERVER + ss("10.0.3.3:22", "10.0.4.4:9"))
    assert (code, check["findings"]) == (3, [])
    assert any("2 addresses dialled there are its own" in note for note in check["notes"])


def test_a_guessed_address_stays_inferred_however_often_it_was_seen(tmp_path: Path) -> None:
    other = SERVER + ss("10.0.3.3:22", "10.0.4.4:9")
    files = {"a1": HEAD + SSH + pair([1]), "a2": HEAD + SSH + pair([1]) + "\n", "b1": other, "b2": other + "\n"}
    argv = ["--client", "a1.txt", "--client", "a2.txt", "--server", "b1.txt", "--server", "b2.txt"]
    put(tmp_path, **files)
    _, check = run(tmp_path, *argv)
    assert told(check) == {("missing-on-server", "10.0.1.5:1", "inferred")}


def test_an_inventory_says_which_addresses_are_whose(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[hosts.b]\naddress = "b"\naddresses = ["10.0.2.9"]\n')
    files = {
        "a": HEAD + SSH + pair([1]) + ss("10.0.1.5:2", "10.0.9.9:5432"),
        "b": SERVER + ss("1.1.1.1:22", "2.2.2.2:9"),
    }
    put(tmp_path, **files)
    _, check = run(tmp_path, "a.txt", "b.txt", "--inventory", "own.toml")
    assert told(check) == {("missing-on-server", "10.0.1.5:1", "inferred")}


def test_an_address_that_only_the_second_moment_shows_is_known(tmp_path: Path) -> None:
    files = {
        "a1": HEAD + SSH + pair([1, 2]),
        "a2": HEAD + SSH + pair([1, 2]) + "\n",
        "b1": SERVER + ss("10.0.3.3:22", "10.0.4.4:9") + ss("10.0.3.3:5432", "10.0.4.4:8"),
        "b2": SERVER + mirrored([2]),
    }
    argv = ["--client", "a1.txt", "--client", "a2.txt", "--server", "b1.txt", "--server", "b2.txt"]
    put(tmp_path, **files)
    _, check = run(tmp_path, *argv)
    assert told(check) == {("missing-on-server", "10.0.1.5:1", "observed")}


def test_time_wait_at_one_end_is_no_finding(tmp_path: Path) -> None:
    code, check = run(tmp_path, "a.txt", "b.txt", a=HEAD + SSH + pair([1], "TIME-WAIT"), b=SERVER + mirrored([2]))
    assert all(one[1] != "10.0.1.5:1" for one in told(check)) and code in (0, 3)


def test_queues_and_programs_of_a_text_are_in_the_report(tmp_path: Path) -> None:
    who = 'users:(("postgres",pid=8,fd=5))'
    server = HEAD + SSH + f"LISTEN 129 128 *:5432 *:* {who} ino:5 sk:5\n"
    server += ss("10.0.2.9:5432", "10.0.1.5:1", more="ino:0 sk:6")
    client = HEAD + SSH + ss("10.0.1.5:1", "10.0.2.9:5432", more='users:(("app",pid=7,fd=3)) ino:1 sk:1')
    _, check = run(tmp_path, "a.txt", "b.txt", a=client, b=server)
    (finding,) = check["findings"]
    assert finding["verdict"] == "never-accepted" and finding["client"]["process"] == "app"
    (listener,) = check["listeners"]
    assert (listener["process"], listener["pid"], listener["full"]) == ("postgres", 8, True)


def test_stdin_is_a_file(tmp_path: Path) -> None:
    text = (SERVER + mirrored([1])).encode()
    code, check = run(tmp_path, "--client", "a.txt", "--server", "-", stdin=text, a=HEAD + SSH + pair([1]))
    assert code == 0 and check["server"]["name"] == "stdin"


def test_different_programs_may_stand_against_each_other(tmp_path: Path) -> None:
    windows = "  TCP    10.0.1.5:1   10.0.2.9:5432  ESTABLISHED  812\n  TCP  0.0.0.0:135  0.0.0.0:0  LISTENING  9\n"
    bsd = "tcp4  0  0  10.0.2.9.5432  10.0.1.5.1  ESTABLISHED\ntcp4  0  0  *.5432  *.*  LISTEN\n"
    code, check = run(tmp_path, "a.txt", "b.txt", a=windows, b=bsd)
    assert (code, check["connections"], check["client"]["collector"]) == (0, 1, "netstat")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--client", "a.txt"], "name the client's file and the server's"),
        (["--client", "a.txt", "--server", "b.txt", "c.txt"], "and no other"),
        (["a.txt", "b.txt", "c.txt"], "say whose each is"),
        (["a.txt", "none.txt"], "cannot be read"),
        (["a.txt", "d.txt"], "that is understood"),
    ],
)
def test_wrong_arguments_are_told(argv: list[str], message: str, tmp_path: Path) -> None:
    text = HEAD + SSH + pair([1])
    with pytest.raises(UsageError, match=message):
        run(tmp_path, *argv, a=text, b=text, c=text, d="nothing of the sort")


def test_an_address_that_a_host_is_taken_to_have_changes_nothing_else_of_it() -> None:
    (space,) = snapshot("db", [], []).namespaces
    space = replace(space, tracked=3, forwards=True, rewrites=Rewrites())
    found = with_addresses(replace(snapshot("db", [], []), namespaces=(space,)), [SERVER_ADDRESS])
    assert found.namespaces == (replace(space, addresses=(InterfaceAddress(SERVER_ADDRESS, ()),)),)


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name, text in (("x", HEAD + SSH + pair([1])), ("y", SERVER + mirrored([1]))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ss.txt").write_text(text)
    code, check = run(tmp_path, "x/ss.txt", "y/ss.txt")
    assert code == 0 and (check["client"]["name"], check["server"]["name"]) == ("client", "server")
