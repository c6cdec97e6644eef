"""Writes the parts of docs/ that are made from tables: `python docs/make_docs.py`.

test_docs holds what is committed to it, so that documentation cannot drift.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from halfopen import cli
from halfopen.glossary import CONFIDENCES, MEANINGS, REASONS
from halfopen.glossary.causes import ABOUT, OUTLOOKS
from halfopen.judge.assembly.headline import meaning
from halfopen.matching.verdict.table import ABSENT, NO_END, SEVERITY, THE_TABLE, Accord, Answer, Seen
from halfopen.onehost.evidence_kinds import KINDS
from halfopen.report import schema
from halfopen.schema.report import CauseCode, Severity, Verdict
from halfopen.tcp import State

DOCS = Path(__file__).resolve().parent

ENDS: tuple[Seen, ...] = (*(state for state in State if state not in NO_END), ABSENT)


def verdicts(_: str) -> str:
    """The whole of verdicts.md."""
    parts = [HEAD, "| verdict | severity | in one clause |\n| --- | --- | --- |"]
    ranked = sorted(Verdict, key=lambda verdict: list(Severity).index(SEVERITY[verdict]))
    for verdict in ranked:
        parts[-1] += f"\n| [{verdict}](#{verdict}) | {SEVERITY[verdict]} | {meaning(verdict, None, None)} |"
    parts += [section(verdict) for verdict in ranked]
    parts += [MATRIX_HEAD, matrix(), CONFIDENCE_HEAD]
    parts += ["\n".join(f"- `{word}`: {text}" for word, text in CONFIDENCES.items())]
    parts += [REASONS_HEAD, "\n".join(f"- `{word}`: {text}" for word, text in REASONS.items())]
    return "\n\n".join(wrapped(part) for part in parts) + "\n"


def section(verdict: Verdict) -> str:
    """One verdict: severity, states, meaning, how it comes about, what to look at."""
    about = MEANINGS[verdict]
    parts = [f"## {verdict}", f"Severity: {SEVERITY[verdict]}."]
    parts += [about.beside] if about.beside else []
    parts += [states(verdict)] if verdict in THE_TABLE.values() else []
    parts += [about.says, "How it comes about:", bullets(about.arises), "What to look at next:", bullets(about.next)]
    return "\n\n".join(parts)


def causes(_: str) -> str:
    """The whole of causes.md."""
    parts = [CAUSES_HEAD, "| cause | in one sentence |\n| --- | --- |"]
    parts[-1] += "".join(f"\n| [{code}](#{code}) | {ABOUT[code].meaning} |" for code in CauseCode)
    for code in CauseCode:
        about = ABOUT[code]
        parts += [f"## {code}", about.meaning, about.story, f"Shown by: {lowered(about.evidence)}"]
        parts += [f"What to do: {lowered(about.remedy)}"]
    parts += [OUTLOOK_HEAD, "\n".join(f"- `{word}`: {text}" for word, text in OUTLOOKS.items())]
    return "\n\n".join(wrapped(part) for part in parts) + "\n"


def lowered(text: str) -> str:
    """A sentence that goes on after a colon; names such as ListenOverflows keep their capitals."""
    word = text.partition(" ")[0]
    return text[0].lower() + text[1:] if word[1:].islower() or len(word) == 1 else text


def states(verdict: Verdict) -> str:
    """The pairs of states that mean it, as sentences."""
    pairs = {(a, b) for a in ENDS for b in ENDS if THE_TABLE[a, b] is verdict}
    both = {pair for pair in pairs if pair[::-1] in pairs}
    lines = [f"- client {name(a)}, server {name(b)}" for a, b in ordered(pairs - both)]
    rest: dict[Seen, list[Seen]] = {}
    for a, b in ordered(both):
        if (b, a) not in ((x, y) for x, many in rest.items() for y in many):
            rest.setdefault(a, []).append(b)
    lines += [f"- {name(a)} with {' or '.join(map(name, many))}, in either order" for a, many in rest.items()]
    return "\n".join(["The two ends:", "", *lines])


def ordered(pairs: Iterable[tuple[Seen, Seen]]) -> list[tuple[Seen, Seen]]:
    """In the order of the states."""
    return sorted(pairs, key=lambda pair: (ENDS.index(pair[0]), ENDS.index(pair[1])))


def matrix() -> str:
    """THE TABLE as a table: the client's end downwards, the server's across."""
    lines = ["| client \\ server | " + " | ".join(name(end) for end in ENDS) + " |"]
    lines.append("|" + " --- |" * (len(ENDS) + 1))
    for client in ENDS:
        cells = [cell(THE_TABLE[client, server]) for server in ENDS]
        lines.append(f"| **{name(client)}** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(answer: Answer) -> str:
    """One answer in the matrix."""
    if isinstance(answer, Accord):
        return {Accord.AGREE: "agree", Accord.UNJUDGED: "not judged"}[answer]
    return f"[{answer}](#{answer})"


def name(seen: Seen) -> str:
    """A state as the reports spell it."""
    return "none" if seen is ABSENT else str(seen)


def bullets(sentences: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def wrapped(text: str) -> str:
    """Prose at 120 columns; tables and what is indented stay as they are."""
    out = []
    for line in text.split("\n"):
        indent = "  " if line.startswith("- ") else ""
        prose = line and not line.startswith(("|", "#", " "))
        out.append(textwrap.fill(line, 120, subsequent_indent=indent, **UNBROKEN) if prose else line)
    return "\n".join(out)


def reference(text: str) -> str:
    """reference.md, or another page, with its marked blocks made anew."""
    for word, make in BLOCKS.items():
        text = re.sub(rf"(?s)(<!-- made: {word} -->\n).*?(<!-- end -->)", rf"\1\n{escaped(make())}\n\n\2", text)
    return text


def escaped(text: str) -> str:
    """As the replacement of re.sub takes it."""
    return text.replace("\\", "\\\\")


def options() -> str:
    """Every command with its arguments and options, as argparse knows them."""
    shared = {key(action) for action in actions("check")} & {key(action) for action in actions("analyse")}
    parts = ["### Common options", rows(action for action in actions("check") if key(action) in shared)]
    for command, purpose in cli.COMMANDS.items():
        own = actions(command)
        common = shared <= {key(action) for action in own}
        parts += [f"### `{usage(command, common, shared)}`", f"{purpose[0].upper()}{purpose[1:]}."]
        parts += ["Takes the common options."] if common else []
        parts += [rows(action for action in own if not (common and key(action) in shared))]
    return "\n\n".join(part for part in parts if part)


def actions(command: str) -> list[argparse.Action]:
    """The arguments of a command, without --help."""
    parser = cli.build([command]).chosen()[list(cli.COMMANDS).index(command)]
    return [action for action in parser._actions if action.dest != "help"]


def key(action: argparse.Action) -> tuple[str, ...]:
    """What makes two actions of two commands one option."""
    return tuple(action.option_strings) or (f"<{action.dest}>",)


def usage(command: str, common: bool, shared: set[tuple[str, ...]]) -> str:
    """The command with its own arguments."""
    words = [f"halfopen {command}"]
    words += ["[options]"] if common else []
    for action in actions(command):
        if not action.option_strings:
            what = "|".join(action.choices) if action.choices else str(action.metavar)
            words.append({"*": f"[{what}...]", "+": f"{what}..."}.get(str(action.nargs), what))
    return " ".join(words)


def rows(found: Iterable[argparse.Action]) -> str:
    """A table of options."""
    lines = []
    for action in found:
        words = "\\|".join(action.choices) if action.choices else str(action.metavar or action.dest)
        value = "" if action.nargs == 0 else f" {words}"
        shown = ", ".join(f"`{option}{value}`" for option in action.option_strings) or f"`{words}`"
        lines.append(f"| {shown} | {action.help or ''} |")
    return "\n".join(["| option | meaning |", "| --- | --- |", *lines]) if lines else ""


def fields() -> str:
    """Every object of the JSON report with its fields and their types."""
    definitions = schema.report()["$defs"]
    parts = []
    for title in sorted(definitions, key=lambda one: one != "Report"):
        one = definitions[title]
        if "properties" not in one:
            continue
        said = " ".join(one.get("description", "").split()).replace("None", "null")
        parts += [f"### {title}", *([wrapped(said)] if said and "Base of" not in said else [])]
        table = [f"| `{field}` | {kind(of)} |" for field, of in one["properties"].items()]
        parts.append("\n".join(["| field | type |", "| --- | --- |", *table]))
    return "\n\n".join(parts)


def kind(of: dict[str, Any]) -> str:
    """A type of the schema in a few words."""
    if "anyOf" in of:
        return " or ".join(kind(one) for one in of["anyOf"])
    if "$ref" in of:
        target = of["$ref"].rpartition("/")[2]
        if target in PAGES_OF:
            return PAGES_OF[target]
        values = schema.report()["$defs"][target].get("enum")
        return ", ".join(f"`{one}`" for one in values) if values else f"[{target}](#{target.lower()})"
    if "enum" in of:
        return ", ".join(f"`{one}`" for one in of["enum"])
    if "format" in of:
        return str(of["format"])
    if of.get("type") == "array":
        return f"list of {kind(of['items'])}" if "items" in of else "list"
    if "const" in of:
        return f"`{of['const']}`"
    if of.get("type") == "object":
        return f"object of {kind(of['additionalProperties'])}" if of.get("additionalProperties") else "object"
    return str(of.get("type", "anything"))


def evidence() -> str:
    """What `doctor` looks for, and what its absence costs."""
    lines = ["| evidence | where it is missing | conclusions lost |", "| --- | --- | --- |"]
    for one in KINDS:
        ruled = ", ".join(f"`{code}`" for code in one.conclusions_lost)
        lines.append(f"| {one.evidence} | {one.costs} | {ruled} |")
    return "\n".join(lines)


def made() -> dict[Path, str]:
    """Every file that is made, or has parts that are: its path and what it should hold."""
    return {
        DOCS / file: make((DOCS / file).read_text() if (DOCS / file).exists() else "") for file, make in FILES.items()
    }


def write() -> None:
    """Brings docs/ up to date."""
    for path, text in made().items():
        path.write_text(text)


UNBROKEN: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}

HEAD = """\
# Verdicts

<!-- Made by docs/make_docs.py from the tables that judge (halfopen/matching, halfopen/judge). Do not edit it here. -->

A verdict is about one connection, seen from both ends. "none" means that the host was asked for exactly this socket \
and has it not. A socket that could not be looked for gives no verdict: the check is then incomplete. How a verdict is \
reached is told in [How it knows](how-it-knows.md).

A run fails (exit 1) for findings at or above `--fail-on`, which is `critical` unless it is set to another severity."""

MATRIX_HEAD = """\
## All pairs of states

The client's end is in the first column, the server's in the first line. "agree" is no finding, except that two \
ESTABLISHED ends are `never-accepted` where the server's is still in the accept queue. A LISTEN or CLOSE socket is no \
end of a connection and counts as none. Only what lasts is a finding: a pair that changes from look to look is none."""

CONFIDENCE_HEAD = "## Confidence"

REASONS_HEAD = """\
## Connections that are not judged

They stand in the JSON report under `unjudged`, `--all` prints them, and they make a check incomplete (exit 3). \
`allow` in the inventory and `--allow` take these reasons as well."""

CAUSES_HEAD = """\
# Causes

<!-- Made by docs/make_docs.py from the words of the causes (halfopen/glossary/causes.py). Do not edit it here. -->

A cause says why a connection is as the [verdict](verdicts.md) says. Each has one rule, and a rule that lacks its \
evidence stays silent: counters that could not be read, or a kernel that does not tell, make no cause. Where more than \
one fits, all are named with what speaks for each; where one was seen in the act, those that merely fit are left out. \
`halfopen explain CAUSE` prints the same."""

OUTLOOK_HEAD = """\
## Outlook

What becomes of a connection if nobody acts, reckoned from the timers of both ends and the sysctls of their hosts as \
the kernel does. A program's own TCP_USER_TIMEOUT, TCP_SYNCNT or TCP_KEEPINTVL cannot be seen from outside."""

PAGES_OF = {
    "Verdict": "[verdict](verdicts.md)",
    "CauseCode": "[cause](causes.md)",
    "OutlookCode": "[outlook](causes.md#outlook)",
}
BLOCKS: dict[str, Callable[[], str]] = {"options": options, "fields": fields, "evidence": evidence}
FILES: dict[str, Callable[[str], str]] = {
    "verdicts.md": verdicts,
    "causes.md": causes,
    "reference.md": reference,
    "commands.md": reference,
}

if __name__ == "__main__":
    write()
