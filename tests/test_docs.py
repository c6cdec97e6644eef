"""The documentation says what the tables, the command line and the inventory say, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import make_docs
import pytest

from halfopen import cli
from halfopen.errors import ErrorCode, Exit
from halfopen.glossary import CONFIDENCES, MEANINGS
from halfopen.glossary.causes import ABOUT, OUTLOOKS
from halfopen.inventory import CHECK_KEYS, HOST_KEYS, UNTRUSTED
from halfopen.matching.verdict.table import THE_TABLE
from halfopen.report.formats import FORMATS
from halfopen.schema.report import CauseCode, Confidence, OutlookCode, Verdict

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def under(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its level."""
    level = heading.partition(" ")[0]
    return text.partition(f"\n{heading}\n")[2].partition(f"\n{level} ")[0]


@pytest.mark.parametrize("name", make_docs.FILES)
def test_what_is_made_from_tables_is_as_the_tables_are(name: str) -> None:
    path = make_docs.DOCS / name
    assert path.read_text() == make_docs.made()[path], "run: python docs/make_docs.py"


def test_every_verdict_and_confidence_is_explained() -> None:
    assert set(MEANINGS) == set(Verdict) and set(CONFIDENCES) == set(Confidence)
    for one in MEANINGS.values():
        assert one.says.endswith(".") and one.arises and one.next


def test_every_cause_and_every_outlook_has_a_meaning_in_whole_sentences() -> None:
    assert set(ABOUT) == set(CauseCode) and set(OUTLOOKS) == set(OutlookCode)
    for about in ABOUT.values():
        assert all(text.endswith(".") for text in (about.meaning, about.story, about.evidence, about.remedy))


def test_what_no_pair_of_states_means_says_what_decides() -> None:
    by_states = set(THE_TABLE.values())
    assert {one for one in Verdict if MEANINGS[one].beside} == {one for one in Verdict if one not in by_states}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_option_has_a_meaning(command: str) -> None:
    assert f"halfopen {command}" in page("reference.md")
    for one in make_docs.actions(command):
        assert one.help, one.option_strings or one.dest


def test_every_key_of_the_inventory_is_in_the_reference_and_the_example() -> None:
    section = under(page("reference.md"), "## Inventory")
    example = (ROOT / "inventory.example.toml").read_text()
    for key in (*HOST_KEYS, *CHECK_KEYS):
        assert f"| `{key}` |" in section, key
        assert re.search(rf"(?m)^(# )?{key} = .+ # \w", example), key


def test_what_a_strangers_inventory_may_set_is_in_the_docs() -> None:
    taken = under(page("reference.md"), "## Inventory").partition("| key |")[0]
    refused = under(page("reaching-hosts.md"), "## What an inventory in the working directory cannot do")
    for key in HOST_KEYS:
        assert f"`{key}`" in taken if key in UNTRUSTED else f"`{key}`" in refused, key
    for key in set(CHECK_KEYS) - set(UNTRUSTED):
        assert f"`{key}`" in refused and f"`{key}`" in taken.partition("- of checks: every key")[2], key


def test_every_exit_code_error_code_and_format_is_in_the_docs() -> None:
    codes, errors = under(page("reference.md"), "## Exit codes"), page("reaching-hosts.md")
    assert set(re.findall(r"(?m)^\| (\d+) \|", codes)) == {str(int(one)) for one in Exit}
    assert [one for one in ErrorCode if f"| `{one}` |" not in errors] == []
    assert [one for one in FORMATS if f"| `{one}` |" not in page("reference.md")] == []


def commands() -> list[str]:
    """Every command of halfopen in a fenced block of the documentation."""
    blocks = [block for path in PAGES for block in re.findall(r"(?s)\n```\w*\n(.*?)\n```", path.read_text())]
    found = [re.fullmatch(r"(?:\$ )?(halfopen .+)", line) for block in blocks for line in block.splitlines()]
    return sorted({one[1] for one in found if one})


@pytest.mark.parametrize("line", commands())
def test_every_command_in_the_docs_is_one(line: str) -> None:
    _, *argv = shlex.split(line, comments=True)
    assert cli.build(argv[:1]).parse_args(argv).command == argv[0]


def anchors(text: str) -> set[str]:
    """The anchors that headings get."""
    titles = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_relative_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        if not found.is_file() or (anchor and anchor not in anchors(found.read_text())):
            broken.append(target)
    assert broken == []
