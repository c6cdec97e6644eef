"""Writes what the tests compare reports with: `python tests/make_golden.py`. No test writes it; read the difference.

With the word `readme` it makes the case of the lab's test_article for real, as root, and writes the README's report.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from report_examples import EXAMPLES, article, report

from halfopen.report.formats import FORMATS
from halfopen.report.view import View

GOLDEN = Path(__file__).parent / "golden"
SUFFIX = {
    "text": "txt",
    "markdown": "md",
    "junit": "xml",
    "html": "html",
    "github": "github.txt",
    "prometheus": "prom",
    "json": "json",
    "jsonl": "jsonl",
}
LARGE = ("article", "fleet", "hostile", "two-checks", "nothing-compared")
"""Examples whose JSON is left out: each finding of it is told in full, and reading it back is tested on all."""


PAIRS = [(name, form) for name in EXAMPLES for form in SUFFIX if name not in LARGE or not form.startswith("json")]
"""Examples, and the formats in which they are kept."""


def golden(name: str, form: str) -> tuple[Path, str]:
    """An example of a report in a format: the file that holds it, and what it should hold."""
    # A page lists every connection, so the article's is kept with fewer of them.
    made = report(article(39, 11)) if (name, form) == ("article", "html") else EXAMPLES[name]()
    return GOLDEN / f"{name}.{SUFFIX[form]}", FORMATS[form].render(made, View())


def reports() -> Iterator[tuple[Path, str]]:
    """All of them."""
    return (golden(name, form) for name, form in PAIRS)


def readme() -> Iterator[tuple[Path, str]]:
    """The README with the report of a burst that was just made."""
    from lab import test_article as article

    with TemporaryDirectory() as folder, article.in_one_burst(Path(folder)) as (made, _):
        head, _, tail = article.readme()
        yield article.README, head + article.rendered(article.checked(made), View(width=100)) + tail


if __name__ == "__main__":
    for path, text in readme() if sys.argv[1:] == ["readme"] else reports():
        path.write_text(text)
