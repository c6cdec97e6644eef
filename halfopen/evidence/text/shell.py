"""Answers of the shell script that reads hosts without Python -> evidence. Pure.

An answer is sections: a line `NONCE name status length`, then so many bytes; the last is called `end` and names the
others. What is cut off, or has another length than it says, is an error and never a missing socket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from halfopen import address
from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe import frames, hello, proc, wire
from halfopen.evidence.text.forms import TextFormat
from halfopen.evidence.text.lsof import LSOF_FIELDS
from halfopen.evidence.text.netstat import BSD, ILLUMOS, LINUX
from halfopen.evidence.text.parsed import ParsedText
from halfopen.evidence.text.procfs import PROCFS, read_addresses, read_tables
from halfopen.evidence.text.reading import read
from halfopen.evidence.text.ss import SS
from halfopen.model import HostFacts, InterfaceAddress, ListenSocket, Process, Socket

PREAMBLE_LIMIT = 1 << 18
SECTION_LIMIT = 256 << 20
HEAD_LIMIT = 200


class Section(Struct, frozen=True):
    """What one command printed, and its exit status."""

    name: str
    status: int
    text: str  # without the newlines at its end, which a shell takes off: that nothing is cut, the length proves


class SectionReader(Struct):
    """Bytes as they arrive -> the sections of one answer. `done` once the last has come."""

    nonce: bytes
    buffer: bytearray = field(default_factory=bytearray)
    sections: list[Section] = []
    skipped: int = 0
    done: bool = False

    def feed(self, data: bytes) -> None:
        """Adds `data`. HostError for anything that is not such an answer."""
        self.buffer += data
        while not self.done and self._take():
            pass

    def _take(self) -> bool:
        """Takes one whole section off the buffer, if there is one."""
        mark = b"\n" + self.nonce + b" "
        at = self.buffer.find(mark)
        if not self.sections and at != 0:  # whatever a login prints before the first section
            keep = at if at >= 0 else max(0, len(self.buffer) - len(mark))
            self.skipped += keep
            if self.skipped > PREAMBLE_LIMIT:
                raise HostError(
                    ErrorCode.PROTOCOL_ERROR,
                    f"more than {PREAMBLE_LIMIT >> 10} KiB arrived before the first answer of the shell",
                    "check what the login shell of that user prints when it is not interactive",
                )
            del self.buffer[:keep]
            at = 0 if at >= 0 else -1
        if self.sections and at != 0 and len(self.buffer) >= len(mark):
            raise broken("a section is longer than it says")
        end = self.buffer.find(b"\n", 1)
        if at != 0 or end < 0:
            if len(self.buffer) > HEAD_LIMIT and at == 0:
                raise broken("a section without a head")
            return False
        head = HEAD.fullmatch(bytes(self.buffer[len(mark) : end]))
        if head is None:
            raise broken("a section without a head")
        length = int(head[3])
        if length > SECTION_LIMIT:
            raise HostError(ErrorCode.TOO_LARGE, f"the host announces {length} bytes of text", "name the --port")
        if len(self.buffer) < end + 1 + length:
            return False
        text = bytes(self.buffer[end + 1 : end + 1 + length]).decode("utf-8", "surrogateescape")
        self.sections.append(Section(head[1].decode(), int(head[2]), text))
        del self.buffer[: end + 1 + length]
        if self.sections[-1].name == "end":
            if text.split() != [section.name for section in self.sections[:-1]]:
                raise HostError(
                    ErrorCode.TRUNCATED,
                    "the answer of the shell does not have the sections that it names",
                    frames.RETRY,
                )
            self.done = True
        return True


def broken(what: str) -> HostError:
    """The error for a stream that is not what the script writes."""
    return HostError(ErrorCode.PROTOCOL_ERROR, f"the answer of the shell is damaged: {what}", frames.RETRY)


def table_of(sections: Iterable[Section]) -> ParsedText:
    """Sections -> the sockets. HostError where no section is the output of a program that shows them."""
    texts = {section.name: section.text for section in sections if section.name in FORMS and section.status == 0}
    if "tcp" in texts:
        return read_tables(texts["tcp"], None if "no-tcp6" in texts else texts.get("tcp6", ""))
    for name, text in texts.items():
        claims = [form for form in FORMS[name] if form.claims.search(text)]
        if len(claims) == 1:
            return read(text + "\n", claims[0], command_known=True)
    raise HostError(
        ErrorCode.NO_INTERPRETER,
        "no python3 on the host, and none of ss, /proc/net/tcp, netstat and lsof could be used",
        'set python = "/path/to/python3" for this host in the inventory, or install iproute2 there',
    )


def facts_of(
    sections: Iterable[Section], parsed: ParsedText
) -> tuple[HostFacts, tuple[InterfaceAddress, ...], int | None]:
    """Sections -> facts of the host, its addresses, and the inode of its network namespace (None: not shown)."""
    texts = {section.name: section.text for section in sections if section.status == 0 or section.name == "ifconfig"}
    names = texts.get("uname", "").split()
    uid = frames.number(texts.get("id", "").encode("utf-8", "replace"))
    addresses = tuple(addresses_of(texts))
    netns = re.search(r"net:\[(\d{1,20})\]", texts.get("netns", ""))
    gaps = [f"no python3 there could run the probe, so its sockets come from {parsed.form}", *parsed.gaps]
    gaps.append("only the network namespace of the login is read: containers have others")
    if not hello.has_ipv4(addresses):
        gaps.append(hello.NO_IPV4)
    addresses = hello.with_addresses_of(addresses, parsed.addresses())
    facts = HostFacts(
        hostname=names[1][: wire.NAME_LIMIT] if len(names) == 3 else "",
        kernel=names[2][: wire.NAME_LIMIT] if len(names) == 3 else "",
        boot_id=texts.get("boot_id", "").strip()[:64] or None,
        uptime_s=frames.decimal(texts.get("uptime", "").partition(" ")[0].encode("utf-8", "replace")),
        privileged=None if uid is None else uid == 0,
        collector=parsed.collector,
        uid=uid,
        gaps=tuple(gaps),
    )
    return facts, addresses, frames.number(netns[1].encode()) if netns else None


def addresses_of(texts: Mapping[str, str]) -> list[InterfaceAddress]:
    """From `ip -o addr`, /proc/net/fib_trie and if_inet6, or `ifconfig -a`."""
    found: dict[bytes, set[int]] = {}
    for index, text in [(int(match[1]), match[2]) for match in IP_ADDR.finditer(texts.get("ip", ""))]:
        add_address(found, text, index)
    for text in IFCONFIG.findall(texts.get("ifconfig", "")):
        add_address(found, text, 0)
    for packed, _, index in read_addresses(texts.get("fib_trie", ""), texts.get("if_inet6", "")):
        found.setdefault(packed, set()).add(index)
    return [InterfaceAddress(packed, tuple(sorted(links - {0}))) for packed, links in sorted(found.items())]


def add_address(found: dict[bytes, set[int]], text: str, index: int) -> None:
    """Adds one address with its interface index (0: unknown). Text that is not an address is left out."""
    try:
        found.setdefault(address.parse(text), set()).add(index)
    except ValueError:
        return


def counters_of(sections: Iterable[Section]) -> tuple[dict[str, int], dict[str, int]]:
    """Counters and sysctls, as `proc.decode_evidence` gives them."""
    counters: dict[str, int] = {}
    sysctls: dict[str, int] = {}
    for section in sections:
        if section.name in ("netstat", "snmp"):
            counters |= proc.decode_counters(section.text.encode("utf-8", "surrogateescape"))
        elif section.name == "sysctls":
            for line in section.text.splitlines():
                name, _, value = line.partition(" ")
                found = frames.number(value.encode("utf-8", "replace"))
                if (
                    found is not None and "/" not in name
                ):  # a slash would mean another namespace, as in `proc.decode_evidence`
                    sysctls[name] = found
    return counters, sysctls


def owners_of(sections: Iterable[Section], wanted: Iterable[int]) -> dict[int, Process]:
    """Inode -> process, of the inodes that are wanted."""
    asked, found = set(wanted), {}
    texts = {section.name: section.text for section in sections}
    if "ss" in texts:
        parsed = read(texts["ss"] + "\n", SS, command_known=True)
        ends: list[Socket | ListenSocket] = [*parsed.sockets.values(), *parsed.listeners]
        for end in ends:
            named = end.key if isinstance(end, Socket) else end.address + end.port.to_bytes(2, "big")
            if end.inode in asked and end.inode and named in parsed.holders:
                found[end.inode] = parsed.holders[named]
    names = {int(pid): name for pid, name in COMM.findall(texts.get("names", ""))}
    pid = 0
    for line in texts.get("descriptors", "").splitlines():
        folder, link = re.match(r"/proc/(\d{1,10})/fd:", line), re.search(r" -> socket:\[(\d{1,20})\]$", line)
        if folder:
            pid = int(folder[1])
        elif link and int(link[1]) in asked:
            found.setdefault(int(link[1]), Process(pid, names.get(pid, "")))
    states = {int(pid): proc.is_stopped(state.encode()) for pid, state in STATE.findall(texts.get("states", ""))}
    return {inode: replace(process, stopped=states.get(process.pid)) for inode, process in found.items()}


HEAD = re.compile(rb"([a-z0-9_-]{1,20}) (\d{1,3}) (\d{1,10})")
IP_ADDR = re.compile(r"(?m)^(\d{1,9}):\s+\S+\s+inet6?\s+([0-9A-Fa-f.:]{2,45})")
IFCONFIG = re.compile(r"\binet6?\s+(?:addr:\s*)?([0-9A-Fa-f.:]{2,45})")
STATE = re.compile(r"(?m)^/proc/(\d{1,10})/status:State:\s*([A-Za-z])")
COMM = re.compile(r"(?m)^/proc/(\d{1,10})/comm:(.{1,15})$")

FORMS: dict[str, tuple[TextFormat, ...]] = {
    "ss": (SS,),
    "tcp": (PROCFS,),
    "tcp6": (PROCFS,),
    "no-tcp6": (PROCFS,),
    "netstat": (LINUX, BSD, ILLUMOS),
    "lsof": (LSOF_FIELDS,),
}
