"""Patterns of lines in any form: sockets, prompts, commands, and the signs that an output is incomplete."""

from __future__ import annotations

import re

SOCKET_LIKE = re.compile(
    r"(?i)\d\.\d+\.\d+\.\d+[.:]\d|\]:\d|::|(?<!\*)\*[.:]|:[0-9a-f]{4}\s|"
    r"\b(?:ESTAB|LISTEN|TIME.WAIT|CLOSE.WAIT|FIN.WAIT|LAST.ACK|CLOSING|SYN.(?:SENT|RE?CV)|tcp[46]?\s+[\d*\[])|"
    r"^\W*(?:\.{3}|\u2026)|\b(?:snip|omitted|truncated)\b"
)
"""What is in a line that may be a socket, in any form, or that replaces rows which somebody left out."""

INTERRUPTED = re.compile(
    r"-- ?More ?--.*|lines \d+-\d+.*|\^[CZ\\].*|(?:\[\d+\]\W*|.*: +\d+ )?(?:Killed|Terminated|Stopped)(?:\s.*)?|"
    r"etc\.?|[(\[<]?(?:and )?\d+ more(?: [a-z]+)?[)\]>]?\.?|"
    r".*(?:\bclosed by remote host\.?|\bBroken pipe|\bConnection reset by peer)|Timeout, server .* not responding\."
)
"""A whole line that is not part of any output: rows may be missing there or after it."""

PROMPT = re.compile(r"[$#%>`]\s*$")
"""How a last line ends that is a prompt, or the end of a block in a page, and needs no newline."""

FINISHED = re.compile(
    r"(?:[)\]>]|\s(?:ESTABLISHED|SYN_SENT|SYN_RECV|SYN_RCVD|SYN_RECEIVED|FIN_WAIT_?[12]|TIME_WAIT|CLOSE_WAIT|LAST_ACK|"
    r"CLOSING|LISTEN(?:ING)?))$"
)
"""How a line ends whose last word cannot go on. CLOSE could: CLOSE_WAIT."""

ZONE = r"(?:%[\w.-]{1,20})?"
ENDPOINT = (
    rf"(?:(?:\d+(?:\.\d+){{3}}|\[?[\da-f]*:[\da-f:.]{{1,40}}{ZONE}\]?|\*){ZONE}[.:](?:\d{{1,5}}|\*)"
    r"|[\dA-F]{8}(?:[\dA-F]{24})?:[\dA-F]{4})"
)
ENDS = re.compile(rf"(?<!\S){ENDPOINT}\s+{ENDPOINT}(?!\S)")
"""Both ends of a row: a second row shows by them on a line, though it has lost its first word."""

TAIL = re.compile(
    r"(?!\s*\d+\s+\d+\s+[\w%\[\]*]*[.:])\s*(?:(?=\S*[\d:\]])[0-9a-fA-F:.%\]]+(?=[\s(]|$)|"
    r"[0-9a-f]+(?=\s*$|\s+(?:<?--?>|cgroup:|v6only:|users:))|_[A-Z0-9])"
)
"""How a line begins that may be the rest of the one above it: half a port, a number, a cookie or a state."""

COMMAND = re.compile(
    r"""(?:^|[\s/|;&('"`$#%>])(?:ss|netstat(?:\.exe)?|lsof|watch|cat /proc/net/tcp6?)(?:[\s|;&)'"`].*)?$"""
)
PIPE = re.compile(r"(?<!\|)\|(?!\|).*")
WATCH = re.compile(r"Every \d[\d.,]*s: .*\d$")
TIME_OF_DAY = re.compile(r"(?<![\w:.])\d{1,2}:\d\d:\d\d(?![\w:])")
