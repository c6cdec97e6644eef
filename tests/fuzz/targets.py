"""Each parser with what it may raise, and inputs to begin with. `python tests/fuzz/run.py` runs them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz import file_targets as files
from fuzz import probe_targets as probe
from fuzz import text_targets as texts
from fuzz.envelope import record

from halfopen.errors import HostError, UsageError
from halfopen.evidence.probe import asked, kernel
from halfopen.evidence.text.forms import TextFormat
from halfopen.evidence.text.lsof import LSOF, LSOF_FIELDS
from halfopen.evidence.text.netstat import BSD, ILLUMOS, LINUX, WINDOWS
from halfopen.evidence.text.procfs import PROCFS
from halfopen.evidence.text.ss import SS
from halfopen.probe.head import Refused

CASES = Path(__file__).parent.parent / "cases"


@dataclass(frozen=True)
class Target:
    """`run` takes any bytes and returns, or raises one of `allowed`; everything else is a bug."""

    run: Callable[[bytes], None]
    allowed: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]]


def from_texts(*patterns: str) -> Callable[[], list[bytes]]:
    """Recorded output of programs, the first lines of each."""

    def seeds() -> list[bytes]:
        found = [path for pattern in patterns for path in sorted((CASES / "text").glob(pattern))]
        return [b"".join(path.read_bytes().splitlines(keepends=True)[:12]) for path in found]

    return seeds


def message(key: bytes, state: int = 1) -> bytes:
    """A message of sock_diag with TCP_INFO."""
    width = (len(key) - 4) // 2
    ends = [key[:width], key[width : 2 * width]]
    head = kernel.MESSAGE.pack(
        2 if width == 4 else 10, state, 2, 0, key[-4:-2], key[-2:], *ends, 0, b"\5" + bytes(7), 9, 0, 0, 0, 77
    )  # fmt: skip
    return head + kernel.ATTRIBUTE.pack(244, 2) + bytes(range(240))


def look(status: int, said: bytes = b"") -> bytes:
    """One answer to LOOK."""
    return struct.pack(">BH", status, len(said)) + said


def columns(key: bytes, more: int = 0) -> bytes:
    """A BLOCK of one row."""
    width = (len(key) - 4) // 2
    head = struct.pack(">BBII", 2 if width == 4 else 10, width, 0, 1)
    return head + b"\1\0" + key[-4:] + key[: 2 * width] + bytes(more)


BLOCK, LISTENERS, ROWS, FIELDS, TEXT = (kind - 1 for kind in (2, 3, 4, 1, 7))
"""Kinds of records, by the type of frame that they become."""

LINK = struct.pack(">IIIQ", 2, 0, 3, 0) + b"\4eth0\6\2\0\0\0\0\1\4veth"
PROCESS = struct.pack(">IHHHH", 4242, 4, 8, 5, 6) + b"app\nnode\0app0::/\nS 1000"
COUNTERS = b"TcpExt: SyncookiesSent ListenDrops\nTcpExt: 1 22\n"
SNMP = b"Tcp: RtoAlgorithm MaxConn\nTcp: 1 -1\n"
TCP4 = (CASES / "text" / "linux-6.18-proc-net-tcp.txt").read_bytes()
IPVS = (
    b"Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
    b"TCP 0A070001 9C40 0A070002 1F90 0AF40007 1388 ESTABLISHED     895\n"
)
IPVS_SERVICES = b"TCP  0A070002:1F90 rr\n  -> 0AF40007:1388      Masq    1      1          0\n"
IF_INET6 = b"fd070000000000000000000000000001 02 40 00 80     data\n"
FIB_TRIE = b"Local:\n  +-- 0.0.0.0/0 3 0 5\n           |-- 10.7.0.1\n              /32 host LOCAL\n"


def fields_of(answer: str, some: dict[str, bytes]) -> bytes:
    """Fields of an answer as records."""
    return b"".join(record(probe.NAMES[answer].index(name), value) for name, value in some.items())


NAMESPACE = {
    "netns": b"4026531999", "address": struct.pack(">BBI", 4, 24, 2) + b"\x0a\7\0\1", "tracked": b"3", "owner": b"0",
    "links": b"", "link": LINK, "route": b"\0\0\0\2\x0a\7\0\2", "local": b"\x18\x7f\0\0\0", "redirects": b"",
}  # fmt: skip
LISTENER = kernel.MESSAGE.pack(2, 10, 0, 0, b"\x15\x38", b"\0\0", bytes(16), bytes(16), 0, b"\1" * 8, 0, 3, 128, 0, 9)
HELLO = {
    "capabilities": b"3fffffffff", "hostname": b"db1", "kernel": b"6.1.0", "boot_id": b"x-y", "uptime": b"12.5",
    "address": NAMESPACE["address"], "tracked": b"", "forwards": b"1", "fib_trie": FIB_TRIE, "if_inet6": IF_INET6,
}  # fmt: skip
SHELL = {
    "uname": b"Linux db 6.1.0", "id": b"0", "netns": b"net:[4026531840]", "boot_id": b"x-y", "uptime": b"12.5 1.0",
    "ip": b"1: lo    inet 127.0.0.1/8 scope host lo\n2: eth0    inet6 fd07::1/64 scope global",
    "ifconfig": b"eth0: flags=1\n\tinet addr:10.0.0.1 Bcast", "snmp": SNMP + COUNTERS, "sysctls": b"net.core.x 5",
    "descriptors": b"/proc/4242/fd:\nlr-x 1 root root 64 Jan 1 3 -> socket:[77]", "names": b"/proc/4242/comm:app",
    "states": b"/proc/4242/status:State:\tT (stopped)",
}  # fmt: skip
TOML = (
    b'[defaults]\nuser="ops"\n[hosts.web1]\naddress="web1.example.net"\nport=22\njump="db1"\ntags=["web"]\n'
    b'addresses=["203.0.113.7"]\n[hosts.db1]\naddress="10.0.2.9"\ntransport="exec"\ncommand=["sh"]\n[checks.a]\n'
    b'client=["web*","tag:web"]\nserver="db1"\nports=[5432]\nmax={never-accepted=10}\nsettle=1.5\nallow=["stalled"]\n'
)
KNOWN_HOSTS = (
    b"# x\n*.example.net,!bad,db1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr\n"
    b"@revoked * ssh-rsa AAAAB3NzaC1yc2EAAAABIw==\n|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= "
    b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr\n[db1]:2222 x y\n"
)
SSH_OUTPUT = (
    b"host db1\nuser ops\nhostname db1.example.net\nport 2222\nidentitiesonly yes\nproxyjump a,b@c:1\n"
    b"userknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2\nidentityfile ~/.ssh/id\nidentityagent none\n"
)
SSH_CONFIG = b'Host db* !db9\n  HostName x\n  Port = 22\n IdentityFile "~/.ssh/one"\nHost *\n ProxyJump none\n'
TRACKED = (
    b"ipv4     2 tcp      6 431999 ESTABLISHED src=10.7.0.1 dst=10.7.0.2 sport=40000 dport=8080 src=10.9.0.1 "
    b"dst=10.7.0.1 sport=80 dport=40000 [ASSURED] mark=0 zone=0 use=2\n"
    b"ipv6     10 tcp      6 9 TIME_WAIT src=fd07::1 dst=fd07::2 sport=1 dport=2 "
    b"src=fd07::2 dst=fd07::1 sport=2 dport=1\n"
)
REPLY = asked.HEAD.pack(0, 0, 0, 1, 250, 104, 104) + b"\1" * 208

PROBE, FILE = (HostError,), (UsageError,)


def of_text(form: TextFormat, *patterns: str) -> Target:
    """A form of text: nothing may be raised."""
    return Target(texts.of_form(form), (), from_texts(*patterns))


TARGETS: dict[str, Target] = {
    "frames": Target(probe.raw_frames, PROBE, lambda: [b"\x10" + bytes(13)]),
    "hello": Target(probe.greeting, PROBE, lambda: [fields_of("hello", HELLO)]),
    "dump": Target(
        probe.dump,
        PROBE,
        lambda: [
            b"\0"
            + record(BLOCK, columns(probe.KEY4))
            + record(LISTENERS, LISTENER)
            + record(FIELDS, fields_of("dump", NAMESPACE))
            + record(BLOCK, columns(probe.KEY6)),
            b"\1" + record(TEXT, b"\2" + TCP4) + record(FIELDS, fields_of("dump", {"refused": b"1", "netns": b"5"})),
        ],
    ),
    "table": Target(probe.table, PROBE, lambda: [record(TEXT, b"\2" + TCP4[:800]), record(TEXT, b"\x0a" + TCP4)]),
    "look-ups": Target(
        probe.looks,
        PROBE,
        lambda: [record(ROWS, look(1, message(probe.KEY4)) + look(1, message(probe.KEY6)) + look(0) + look(2))],
    ),
    "translations": Target(
        probe.translations,
        PROBE,
        lambda: [
            record(FIELDS, fields_of("translations", {"netns": b"0", "inner": b"3", "nowhere": b"\x0a\0\0\1"}))
            + record(ROWS, b"\x0c" + probe.KEY4 * 2)
            + record(ROWS, b"\x24" + probe.KEY6 * 2)
            + record(FIELDS, fields_of("translations", {"netns": b"0", "ip_vs_conn": IPVS, "ip_vs": IPVS_SERVICES}))
        ],
    ),
    "counters": Target(
        probe.counts, PROBE, lambda: [record(BLOCK, columns(probe.KEY4, 20)) + record(BLOCK, columns(probe.KEY6, 20))]
    ),
    "holders": Target(
        probe.holders,
        PROBE,
        lambda: [
            record(BLOCK, columns(probe.KEY4, 8))
            + record(LISTENERS, LISTENER)
            + record(
                FIELDS,
                fields_of(
                    "census",
                    {
                        "held": struct.pack(">IQQ", 4242, 77, 9),
                        "ephemeral": b"32768\t60999",
                        "process": PROCESS,
                        "unreadable": b"3",
                    },
                ),
            ),
        ],
    ),
    "evidence": Target(
        probe.evidence,
        PROBE,
        lambda: [
            fields_of(
                "evidence",
                {
                    "/proc/net/netstat": COUNTERS,
                    "/proc/net/snmp": SNMP,
                    "/proc/sys/net/core/somaxconn": b"4096",
                },
            )
            + fields_of("evidence", {"netns": b"5", "age": b"77", "/proc/net/snmp": SNMP}),
        ],
    ),
    "owners": Target(probe.owners, PROBE, lambda: [fields_of("owners", {"owner": bytes(8) + PROCESS})]),
    "routes": Target(
        probe.ways,
        PROBE,
        lambda: [
            fields_of(
                "routes",
                {
                    "netns": b"1",
                    "route": struct.pack(">IHBI", 0, 0, 1, 2) + b"\x0a\0\0\7",
                    "link": LINK,
                    "neighbour": struct.pack(">IHB", 2, 2, 4) + b"\x0a\0\0\7" + b"\2\0\0\0\0\1",
                },
            )
        ],
    ),
    "replies": Target(probe.replies, PROBE, lambda: [record(0, REPLY) + record(0, b"\0\1" + REPLY[2:])]),
    "examination": Target(
        probe.examined, PROBE, lambda: [fields_of("examination", {"ctnetlink": b"0", "hidepid": b"2", "link": LINK})]
    ),
    "shell": Target(
        probe.told_by_shell,
        PROBE,
        lambda: [
            b"".join(record(probe.SECTIONS.index(name), value) for name, value in (SHELL | {program: text}).items())
            for program, text in zip(("tcp", "ss", "netstat", "lsof"), shell_texts(), strict=True)
        ],
    ),
    "shell stream": Target(probe.raw_shell, PROBE, lambda: [b"\x10uname 0 5\nLinux\n0123456789abcdef end 0 5\nuname"]),
    "pasted text": Target(texts.pasted, FILE, from_texts("*-tan.txt", "lsof-4.95*")),
    "ss": of_text(SS, "*-ss-*"),
    "netstat of Linux": of_text(LINUX, "*tools*", "busybox*"),
    "netstat of BSD": Target(texts.of_form(BSD), (), lambda: elsewhere("FreeBSD", "macOS")),
    "netstat of Windows": Target(texts.of_form(WINDOWS), (), lambda: elsewhere("Windows")),
    "netstat of illumos": Target(texts.of_form(ILLUMOS), (), lambda: elsewhere("illumos")),
    "lsof": of_text(LSOF, "lsof-4.95.txt"),
    "lsof -F": of_text(LSOF_FIELDS, "lsof-4.95-F.txt"),
    "proc": of_text(PROCFS, "linux*"),
    "saved": Target(
        files.saved_file,
        FILE,
        lambda: [gzip.decompress(path.read_bytes()) for path in sorted((CASES / "snapshots").glob("*.halfopen"))],
    ),
    "judged": Target(files.judged, FILE, lambda: [b"", *(record(kind, b"\x40\0abcdefgh") for kind in range(7))]),
    "known_hosts": Target(files.known, (), lambda: [KNOWN_HOSTS]),
    "ssh -G": Target(files.ssh_output, PROBE, lambda: [SSH_OUTPUT]),
    "ssh_config": Target(files.ssh_config, PROBE, lambda: [SSH_CONFIG]),
    "inventory": Target(files.inventory, FILE, lambda: [TOML]),
    "host names": Target(files.target, FILE, lambda: [b"ops@[2001:db8::1]:22", b"db1:22"]),
    "conntrack": Target(files.conntrack_lines, (Refused,), lambda: [TRACKED]),
}


def shell_texts() -> list[bytes]:
    """What each program that a shell may find prints."""
    names = ("linux-6.18-proc-net-tcp", "iproute2-6.1-ss-tanoe", "net-tools-2.10-tanpeeo", "lsof-4.95-F")
    return [b"".join((CASES / "text" / f"{name}.txt").read_bytes().splitlines(keepends=True)[:9]) for name in names]


def elsewhere(*systems: str) -> list[bytes]:
    """What netstat prints on systems of which no output was recorded."""
    from test_text_evidence import ELSEWHERE

    return [ELSEWHERE[system].encode() for system in systems]
