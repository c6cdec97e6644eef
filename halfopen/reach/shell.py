"""Reads a host without Python: a shell script over stdin uses what the host has (ss, /proc, netstat, lsof).

It reads whole tables: a look-up is one more table. A table is not taken at one instant and may skip a socket, so what
is not there is looked for twice, and a finding is `observed` and never `proven`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from halfopen import probe
from halfopen.errors import ErrorCode, HostError
from halfopen.evidence.probe import frames, wire
from halfopen.evidence.probe.hello import session_key
from halfopen.evidence.text import shell
from halfopen.evidence.text.parsed import ParsedText
from halfopen.model import HostFacts, InterfaceAddress, Process, Snapshot
from halfopen.reach.channel import Channel
from halfopen.reach.conversation import KernelNumbers, TableReader

READY = b"halfopen-shell\n"
COMMAND = "exec /bin/sh -c 'echo halfopen-shell; exec /bin/sh'"
"""Quoted for every login shell, csh included."""


def script() -> bytes:
    """What the shell is sent: its script, and the names of the settings that `counters` reads."""
    return probe.script() + f"sysctls='{' '.join(wire.SYSCTLS)}'\n".encode()


class ShellAgent(TableReader):
    """A `Conversation` with the shell of one host."""

    facts: HostFacts | None = None
    addresses: tuple[InterfaceAddress, ...] = ()
    session: bytes | None = None

    def __init__(self, host: str, channel: Channel, transport: str, deadline: float = float("inf")) -> None:
        self.host, self.channel, self.transport, self.deadline = host, channel, transport, deadline

    def start(self, wait: bool = False) -> None:
        """Sends the script. `wait`: nothing before the shell has said that it reads, for one that reads ahead."""
        if wait:
            seen = b""
            while READY not in seen:
                seen = (seen + self._receive())[-shell.PREAMBLE_LIMIT :]
        # Blank lines first: a login script that reads a line of stdin takes one of them.
        self.channel.send(b"\n" * 4 + script())

    def first_look(self, ports: Sequence[int]) -> Snapshot:
        """Who the host is, and its table."""
        sections = self._ask("facts table")
        parsed = shell.table_of(sections)
        self.facts, self.addresses, self.netns = shell.facts_of(sections, parsed)
        self.session = next((session_key(section.text) for section in sections if section.name == "session"), None)
        return self._snapshot(parsed, ports)

    def snapshot(self, ports: Sequence[int]) -> Snapshot:
        """One more table on the open session."""
        return self._snapshot(self._table(), ports)

    def evidence(self) -> KernelNumbers:
        """Counters and sysctls of the host's network namespace, now."""
        return shell.counters_of(self._ask("counters"))

    def owners(self, inodes: Sequence[int]) -> tuple[dict[int, Process], int]:
        """Inode -> process that holds it; 1 if some may not be readable, else 0."""
        found = shell.owners_of(self._ask("owners"), inodes)
        return found, 0 if self.facts is not None and self.facts.privileged else 1

    def close(self) -> None:
        """Ends the shell with its channel."""
        self.channel.close()

    def _table(self) -> ParsedText:
        return shell.table_of(self._ask("table"))

    def _snapshot(self, parsed: ParsedText, ports: Sequence[int]) -> Snapshot:
        namespace = parsed.namespace(self.addresses, frozenset(ports), self.netns)
        return Snapshot(self.host, self.facts, (namespace,), transport=self.transport)

    def _ask(self, words: str) -> list[shell.Section]:
        """One request and its sections."""
        nonce = secrets.token_hex(8)
        reader = shell.SectionReader(nonce.encode())
        self.channel.deadline = self.deadline
        self.channel.send(f"ask {nonce} {words}\n".encode())
        while not reader.done:
            reader.feed(self._receive())
        return reader.sections

    def _receive(self) -> bytes:
        data = self.channel.receive()
        if not data:
            said = self.channel.complaint().strip().splitlines()
            last = f": {said[-1][:300]}" if said else ""
            raise HostError(ErrorCode.TRUNCATED, f"the answer of the shell ends in the middle{last}", frames.RETRY)
        return data
