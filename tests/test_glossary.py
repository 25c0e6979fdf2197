"""docs/glossary.md: terms that the pages and the docstrings use, each once, each table in order."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLES = [
    re.findall(r"^\| (?!---)(.+?) \| (.+?) \|$", table, re.MULTILINE)
    for table in (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("| term | meaning |\n")[1:]
]
ROWS = [row for table in TABLES for row in table]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_links_to_it() -> None:
    assert "](docs/glossary.md)" in README


def test_terms_are_in_order_and_explained_once() -> None:
    assert len(TABLES) == 2, "the field's terms, and the code's own words"
    for table in TABLES:
        terms = [term for term, _ in table]
        assert terms == sorted(terms, key=str.casefold)
    single = [each for term, _ in ROWS for each in term.split(", ")]
    assert len(single) == len(set(single))
    assert all(meaning.endswith(".") for _, meaning in ROWS)


def test_terms_are_used() -> None:
    """In the code, the README or the other pages: a term that nobody meets needs no explanation."""
    places = [*(ROOT / "scardface").rglob("*.py"), ROOT / "README.md"]
    places += [path for path in (ROOT / "docs").glob("*.md") if path.name != "glossary.md"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in places).casefold()
    assert len(ROWS) > 30
    unused = [each for term, _ in ROWS for each in term.split(", ") if each.casefold() not in text]
    assert not unused
