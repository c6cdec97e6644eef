"""The page for a browser: well formed, alone, small, and every step of the contract with its drawing."""

from __future__ import annotations

import importlib.util
from html.parser import HTMLParser

import pytest
from report_examples import EXAMPLES, article, report

from halfopen.errors import UsageError
from halfopen.judge.assembly.steps import STEPS
from halfopen.report.formats import FORMATS, format_for, named
from halfopen.report.html.ladder import DRAWN
from halfopen.report.view import View
from halfopen.schema.report import CauseCode, StepCode

VOID = ("meta", "br")


class Page(HTMLParser):
    """Walks a page: its ids, its links, its tags, and whether each one is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.references += [(value or "").removeprefix("#") for name, value in attrs if name == "href"]
        self.references += [one for name, value in attrs if name == "aria-labelledby" for one in (value or "").split()]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_page_is_well_formed_and_loads_nothing(name: str) -> None:
    text = FORMATS["html"].render(EXAMPLES[name](), View())
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    names = {name for name, _ in page.attributes}
    assert not names & {"src", "style"} and not [name for name in names if name.startswith("on")]
    assert "://" not in text and "@import" not in text and "url(" not in text
    assert "default-src 'none'" in text


def test_hostile_names_stay_text() -> None:
    text = FORMATS["html"].render(report(article(2, 1, "\"><script>alert('1')</script>\u202e&amp;{{ 7*7 }}")), View())
    page = Page(text)
    assert "script" not in page.tags and "\u202e" not in text
    assert "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;\\u202e&amp;amp;{{ 7*7 }}" in text


def test_five_thousand_findings_are_under_three_megabytes() -> None:
    made = EXAMPLES["article"]()
    text = FORMATS["html"].render(made, View())
    assert len(text.encode()) < 3_000_000
    assert {one.id for check in made.checks for one in check.findings} <= {
        one.rpartition("-")[2] for one in Page(text).ids
    }


def test_every_step_has_a_drawing_and_every_cause_its_steps() -> None:
    assert set(DRAWN) == set(StepCode)
    assert set(STEPS) == set(CauseCode)


def test_the_steps_of_the_article_are_those_of_a_syn_cookie() -> None:
    lost, waiting = EXAMPLES["article"]().checks[0].groups
    assert lost.steps == (StepCode.SYN, StepCode.COOKIE, StepCode.ACK_DROPPED, StepCode.SILENCE)
    assert waiting.steps == (StepCode.SYN, StepCode.SYN_ACK, StepCode.ACK, StepCode.QUEUED)


def test_without_its_package_the_format_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="jinja2") as refused:
        named("html")
    assert refused.value.hint == "pip install 'halfopen[html]'"
    with pytest.raises(UsageError, match="jinja2"):
        format_for("report.html", None)
