"""The user's own ssh program: FIDO keys, certificates, ProxyCommand, ControlMaster, anything it can do.

We only set how strict it is, on every hop: no prompt, host keys by our own policy, no forwarding, no command from its
configuration. So jump hosts are spelled out as ProxyCommand: the inner ssh of `-J` would not get these options.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from halfopen.errors import ErrorCode, HostError
from halfopen.reach import handshakes, known_hosts
from halfopen.reach.host_keys import FILE_LIMIT
from halfopen.reach.known_hosts import host_name, removal
from halfopen.reach.names import UnresolvedError
from halfopen.reach.process import ProcessChannel
from halfopen.reach.settings import SSH_FOLDER
from halfopen.userfiles import anchored, read_regular


class Stop(Struct, frozen=True):
    """One host of the route, as it is named to ssh; what is None is left to the user's settings."""

    host: str
    port: int | None = None
    user: str | None = None
    identity_file: str | None = None
    known_hosts: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        """(host, port), by which handshakes are limited."""
        return self.host, self.port or 22


ExplainBoth = Callable[[str, str, int | None], HostError | None]
"""ssh's log, stderr and the exit status (None: unknown) -> a better error."""


class LoggedChannel(ProcessChannel):
    """An ssh whose own words are in a log, apart from stderr, where the host may imitate them.

    `argv` is given the log's path; `explain` both, in place of stderr alone.
    """

    def __init__(self, argv: Callable[[str], Sequence[str]], deadline: float, explain: ExplainBoth) -> None:
        import tempfile  # 7 ms with random, which a check without the ssh program never needs

        log, self.path = tempfile.mkstemp(prefix="halfopen-ssh-")
        self.log = os.fdopen(log, "rb")
        environment = {**os.environ, **QUIET}

        def both(said: str, status: int | None) -> HostError | None:
            return explain(self.words(), said, status)

        try:
            super().__init__(argv(self.path), deadline, both, environment, SSH_FOLDER)
        except BaseException:
            self.forget()
            self.log.close()
            raise

    def words(self) -> str:
        """What ssh has written so far, its last 64 KiB at the most."""
        if self.log.closed:
            return ""
        self.log.seek(max(0, os.fstat(self.log.fileno()).st_size - MOST_WORDS))
        return self.log.read(MOST_WORDS).decode("utf-8", "surrogateescape")

    def complaint(self) -> str:
        """The tail of stderr, which is the host's, and behind it what ssh said."""
        return super().complaint() + self.words()

    def forget(self) -> None:
        """Takes the name of the log away. By then every ssh on the way has it open."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108

    def close(self) -> None:
        """As it says there, and the log with it."""
        super().close()
        self.forget()
        self.log.close()


class OpensshConnection(Struct):
    """The ssh program to the last of `stops` through the others; each command is a run of it."""

    stops: tuple[Stop, ...]
    deadline: float
    connect_timeout: float
    accept_new: bool
    config: str | None = None
    note: str | None = None
    transport: str = "openssh"
    started: list[LoggedChannel] = []

    def run(self, command: str) -> LoggedChannel:
        """Start `command` by the user's login shell there and wait for its first output. Retries if throttled."""
        *jumps, last = (stop.address for stop in self.stops)
        for attempt in range(handshakes.TRIES):
            try:
                with handshakes.slots_through(jumps, self.deadline), handshakes.slot_at(last, self.deadline):
                    return self.start(command)
            except HostError as error:
                if not handshakes.again(error, attempt, self.deadline):
                    raise
        raise AssertionError("the last attempt raises")

    def start(self, command: str) -> LoggedChannel:
        """One attempt."""
        channel = LoggedChannel(lambda log: [*self.argv(log), command], self.deadline, self.explain)
        self.started.append(channel)
        # Beside its own limit for the handshake (ConnectTimeout), so that no login hangs until the end of the run.
        channel.deadline = min(self.deadline, time.monotonic() + PATIENCE * self.connect_timeout)
        try:
            channel.wait()
        except HostError as error:
            channel.close()
            if error.code is ErrorCode.TIMEOUT and "ssh: " not in error.message:
                error.message = f"{self.stops[-1].host} did not let us in: {error.message}"
                error.hint = f"a longer --connect-timeout; try: {self.by_hand()}"
            raise
        channel.forget()
        added = [line.strip() for line in channel.words().splitlines() if "Permanently added" in line]
        self.note = "; ".join(dict.fromkeys(([self.note] if self.note else []) + added)) or None
        channel.deadline = self.deadline
        return channel

    def argv(self, log: str | None = None) -> list[str]:
        """The whole command line but for the remote command; every ssh of it writes to one `log`."""
        proxy: str | None = None
        for stop in self.stops[:-1]:
            argv = [*self.options(stop, proxy, log), "-W", "[%h]:%p", "--", stop.host]
            # ssh expands %h and %p in a ProxyCommand; every other % stands for itself.
            proxy = shlex.join([word if word == "[%h]:%p" else word.replace("%", "%%") for word in argv])
        return [*self.options(self.stops[-1], proxy, log), "-T", "-a", "-x", "--", self.stops[-1].host]

    def options(self, stop: Stop, proxy: str | None, log: str | None) -> list[str]:
        """How one stop is to be reached."""
        argv = ["ssh", *(["-E", log] if log else []), *(["-F", self.config] if self.config else [])]
        argv += ["-l", stop.user] if stop.user else []
        argv += ["-p", str(stop.port)] if stop.port else []
        given = [
            "BatchMode=yes",
            f"StrictHostKeyChecking={'accept-new' if self.accept_new else 'yes'}",
            f"ConnectTimeout={max(1, round(self.connect_timeout))}",
            *ALWAYS,
        ]
        if stop.identity_file:
            argv += ["-i", stop.identity_file.replace("%", "%%")]
            given.append("IdentitiesOnly=yes")
        if stop.known_hosts:
            path = stop.known_hosts.replace("%", "%%")
            given += [f'UserKnownHostsFile="{path}"', "GlobalKnownHostsFile=none"]
        if proxy:
            given.append(f"ProxyCommand={proxy}")
        return argv + [word for option in given for word in ("-o", option)]

    def explain(self, said: str, beside: str, status: int | None) -> HostError | None:
        """What ssh wrote before it ended with 255, its own exit status -> the contract's code.

        What came `beside` its log is the host's, and decides nothing; it is shown where ssh is silent.
        """
        if status not in (255, None):
            return None
        unknown = UNRESOLVED.search(said)
        if unknown and not unknown["reason"].startswith("Temporary failure"):
            return UnresolvedError(unknown["name"], unknown["reason"])
        lines = [line.strip() for line in (said or beside).splitlines() if line.strip("@ \r")]
        found = next(((words, code) for words, code in SAID if words in said), None)
        if found is None and status is None:
            return None
        words, code = found or ("", ErrorCode.UNREACHABLE)
        offered, other = OFFERED.search(said), OFFENDING.search(said)
        if offered and other and offered["kind"] != other["kind"]:
            return HostError(
                ErrorCode.HOST_KEY_UNKNOWN,
                f"ssh: {self.stops[-1].host} offers {offered['kind']} {offered['key']}, a type of key that is not "
                f"known of it; known: {other['kind']} ({other['where']})",
                self.hint(ErrorCode.HOST_KEY_UNKNOWN, said),
            )
        line = next((line for line in lines if words in line), "it says nothing")
        if not words and lines:
            line = lines[-1]
        return HostError(code, f"ssh: {self.reason(code, line, said)}", self.hint(code, said))

    def reason(self, code: ErrorCode, line: str, said: str) -> str:
        """The line that says why, with the key and the line of known_hosts where ssh names them."""
        offered, offending = OFFERED.search(said), OFFENDING.search(said)
        if code is ErrorCode.HOST_KEY_MISMATCH and offered and offending:
            shown = f"{self.stops[-1].host} offers {offered['kind']} {offered['key']}"
            return f"{shown}, but {offending['where']} has another"
        unknown = next((text for text in said.splitlines() if "host key is known for" in text), None)
        return unknown.strip() if unknown and code is ErrorCode.HOST_KEY_UNKNOWN else line.removeprefix("ssh: ")

    def hint(self, code: ErrorCode, said: str) -> str:
        """What to type next."""
        offending = OFFENDING.search(said)
        if code is ErrorCode.HOST_KEY_MISMATCH and offending:
            file, _, line = offending["where"].rpartition(":")
            stop = self.stops[-1]
            name = host_name(stop.host, stop.port or 22)
            act = removal(file, name) if is_known_at(file, int(line), name) else f"look at line {line} of {file}"
            return f"if the host was reinstalled: {act}, then connect once with ssh; if not, somebody may be in between"
        if code is ErrorCode.HOST_KEY_UNKNOWN:
            return f"compare the fingerprint, then connect once with: {self.by_hand()}, or --host-keys accept-new"
        if code is ErrorCode.THROTTLED:
            return "its sshd may be out of MaxStartups or block this address: try again later, or a smaller --forks"
        return f"try: {self.by_hand('-v')}"

    def by_hand(self, *extra: str) -> str:
        """The ssh command that a user would type to see the same error."""
        stop = self.stops[-1]
        jumps = [f"{jump.user}@{jump.host}" if jump.user else jump.host for jump in self.stops[:-1]]
        argv = [
            "ssh",
            *extra,
            *(["-J", ",".join(jumps)] if jumps else []),
            *(["-p", str(stop.port)] if stop.port else []),
        ]
        argv += ["-i", stop.identity_file] if stop.identity_file else []
        return shlex.join([*argv, f"{stop.user}@{stop.host}" if stop.user else stop.host])

    def sockets(self, near: bool) -> list[bytes]:
        """Those of every ssh that runs for it, its ProxyCommands among them: they take a while to find."""
        wanted = near or len(self.stops) > 1
        return [key for channel in self.started for key in channel.sockets()] if wanted else []

    def close(self) -> None:
        """Terminate every ssh process, also those still connecting."""
        for channel in self.started:
            channel.close()


def is_known_at(file: str, line: int, name: str) -> bool:
    """Whether a line of known_hosts is one of this name, so that `ssh-keygen -R` would take it away."""
    try:
        data = read_regular(anchored(file), FILE_LIMIT)
    except OSError:
        return False
    entries = known_hosts.load([(file, data)]).entries
    return any(entry.line == line and known_hosts.matches(entry.hosts, name) for entry in entries)


PATIENCE = 3
MOST_WORDS = 1 << 16  # bytes of one log
QUIET = {"LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never", "SHELL": "/bin/sh"}
"""ssh writes English messages, never prompts, and runs a ProxyCommand by a shell whose quoting is known."""

ALWAYS = (
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "RemoteCommand=none",
    "UpdateHostKeys=no",
    "LogLevel=INFO",
)
OFFERED = re.compile(
    r"The fingerprint for the (?P<kind>\S+) key sent by the remote host is\s+(?P<key>SHA256:[A-Za-z0-9+/]+)"
)
UNRESOLVED = re.compile(r"Could not resolve hostname (?P<name>\S+): (?P<reason>[^\r\n]+)")
OFFENDING = re.compile(r"Offending (?P<kind>\S+) key in (?P<where>.+:\d+)")

SAID: tuple[tuple[str, ErrorCode], ...] = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", ErrorCode.HOST_KEY_MISMATCH),
    ("is revoked", ErrorCode.HOST_KEY_REVOKED),
    ("marked as revoked", ErrorCode.HOST_KEY_REVOKED),
    ("revoked by file", ErrorCode.HOST_KEY_REVOKED),
    ("Host key verification failed", ErrorCode.HOST_KEY_UNKNOWN),
    ("Too many authentication failures", ErrorCode.AUTH_FAILED),
    ("Permission denied (", ErrorCode.AUTH_FAILED),
    ("Could not resolve hostname", ErrorCode.UNREACHABLE),
    ("open failed: ", ErrorCode.UNREACHABLE),  # a jump host that cannot connect any further
    ("No route to host", ErrorCode.UNREACHABLE),
    ("Network is unreachable", ErrorCode.UNREACHABLE),
    ("Connection refused", ErrorCode.CONNECTION_REFUSED),
    ("Bad server host key: ", ErrorCode.UNSUPPORTED),  # it is shorter than RequiredRSASize
    ("Connection timed out", ErrorCode.TIMEOUT),
    ("Operation timed out", ErrorCode.TIMEOUT),
    ("no matching ", ErrorCode.UNSUPPORTED),
    ("Bad configuration option", ErrorCode.UNSUPPORTED),
    ("Unsupported option", ErrorCode.UNSUPPORTED),
    ("invalid characters", ErrorCode.PROTOCOL_ERROR),  # what answers is no SSH
    ("Not allowed at this time", ErrorCode.THROTTLED),
    ("kex_exchange_identification: ", ErrorCode.THROTTLED),
    ("Connection closed by ", ErrorCode.THROTTLED),
    ("Connection reset by ", ErrorCode.THROTTLED),
)
"""Message of ssh, as it was seen -> code. Of several messages, the one that is higher in this table is the cause."""
