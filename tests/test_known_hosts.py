"""known_hosts as it is found in the wild: nothing in it stops us, and nothing in it lets a wrong key pass."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shlex
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.waiting import PATIENCE

from halfopen.reach.known_hosts import Trust, judge, load, matches, removal


def key(kind: str, content: bytes = b"k" * 32) -> tuple[bytes, str]:
    raw = struct.pack(">I", len(kind)) + kind.encode() + struct.pack(">I", len(content)) + content
    return raw, base64.b64encode(raw).decode()


ED, ED_TEXT = key("ssh-ed25519")
OTHER, OTHER_TEXT = key("ssh-ed25519", b"o" * 32)
RSA, RSA_TEXT = key("ssh-rsa")


def trust(text: str | bytes, host: str = "db1", port: int = 22, kind: str = "ssh-ed25519", blob: bytes = ED) -> Trust:
    data = text if isinstance(text, bytes) else text.encode()
    return judge(load([("known_hosts", data)]), host, port, kind, blob)[0]


def test_known_unknown_changed_and_of_another_type() -> None:
    assert trust(f"db1 ssh-ed25519 {ED_TEXT}") is Trust.KNOWN
    assert trust("") is Trust.UNKNOWN
    assert trust(f"db1 ssh-ed25519 {OTHER_TEXT}") is Trust.MISMATCH
    assert trust(f"db1 ssh-rsa {RSA_TEXT}") is Trust.OTHER_TYPE
    assert trust(f"db1 ssh-ed25519 {OTHER_TEXT}\ndb1 ssh-ed25519 {ED_TEXT}") is Trust.KNOWN


def test_a_revoked_key_is_refused_whatever_else_stands_there() -> None:
    assert trust(f"db1 ssh-ed25519 {ED_TEXT}\n@revoked * ssh-ed25519 {ED_TEXT}") is Trust.REVOKED
    assert trust(f"db1 ssh-ed25519 {ED_TEXT}\n@revoked * ssh-ed25519 {OTHER_TEXT}") is Trust.KNOWN


def test_a_corporate_file_is_read_past_its_oddities() -> None:
    text = (
        (
            f"# comment\n\n@cert-authority *.example.com ssh-rsa {RSA_TEXT}\n"
            f"db1  ssh-ed25519   {ED_TEXT} a comment\r\n@odd x y z\nshort line\n"
            "db2 ssh-ed25519 !!!\ndb3 ssh-ed25519 AAAA\n"
        ).encode()
        + b"caf\xe9 ssh-ed25519 "
        + ED_TEXT.encode()
    )
    found = load([("f", text)])
    assert trust(text) is Trust.KNOWN
    assert [warning.split(" is skipped")[0] for warning in found.warnings] == [f"f line {n}" for n in (5, 6, 7, 8)]
    assert found.note == "f line 5 is skipped: unknown marker @odd (and 3 more lines)"
    assert load([("f", text[: text.index(b"@odd")])]).note is None
    assert found.has_ca("www.example.com", 22) and not found.has_ca("db1", 22)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs the OpenSSH client")
def test_only_the_whole_command_takes_a_host_out_of_the_file(tmp_path: Path) -> None:
    file, text = tmp_path / "known hosts", f"db1 ssh-ed25519 {ED_TEXT}\n[db1]:2222 ssh-ed25519 {ED_TEXT}\n"
    file.write_text(text)
    argv = shlex.split(removal(str(file), "[db1]:2222"))
    for words in range(2, len(argv) + 1):
        assert [file.read_text(), *tmp_path.iterdir()] == [text, file]
        subprocess.run(argv[:words], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    assert file.read_text() == text.splitlines(keepends=True)[0]


def test_patterns_negation_ports_and_case() -> None:
    assert matches("*.example.com,!bad.example.com", "www.example.com")
    assert not matches("*.example.com,!bad.example.com", "bad.example.com")
    assert matches("db?", "db1") and not matches("db?", "db10")
    assert matches("[db1]:2222", "[db1]:2222")
    assert trust(f"[db1]:2222 ssh-ed25519 {ED_TEXT}", port=2222) is Trust.KNOWN
    assert trust(f"db1 ssh-ed25519 {ED_TEXT}", port=2222) is Trust.KNOWN  # as ssh has it
    assert trust(f"db1 ssh-ed25519 {OTHER_TEXT}", port=2222) is Trust.UNKNOWN
    assert trust(f"@revoked db1 ssh-ed25519 {ED_TEXT}", port=2222) is Trust.REVOKED
    assert trust(f"db1 ssh-ed25519 {ED_TEXT}\n[db1]:2222 ssh-ed25519 {OTHER_TEXT}", port=2222) is Trust.MISMATCH
    assert trust(f"DB1 ssh-ed25519 {ED_TEXT}", host="Db1") is Trust.KNOWN


def test_hashed_names() -> None:
    salt = b"s" * 20
    digest = hmac.new(salt, b"db1", hashlib.sha1).digest()
    name = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
    assert trust(f"{name} ssh-ed25519 {ED_TEXT}") is Trust.KNOWN
    assert trust(f"{name} ssh-ed25519 {ED_TEXT}", host="db2") is Trust.UNKNOWN
    assert trust(f"|1|x| ssh-ed25519 {ED_TEXT}") is Trust.UNKNOWN


def test_a_key_whose_type_is_not_what_its_line_says_is_skipped() -> None:
    assert trust(f"db1 ssh-ed25519 {RSA_TEXT}") is Trust.UNKNOWN


@given(st.binary(max_size=200))
def test_no_file_stops_us(data: bytes) -> None:
    assert trust(data) in (Trust.UNKNOWN, Trust.OTHER_TYPE, Trust.MISMATCH)
