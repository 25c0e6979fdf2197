"""docs/pcsc-facts.md and whoever cites it: every "fact N" is there, and what it calls tested is tested.

- A fact begins its line with its number; the numbers go up from 1 without a gap, which is also what Markdown needs to show them.
- A number is cited as "fact 10", "facts 11 and 13", "facts 28, 33 to 35", also over the end of a line.
- A fact is called tested if a test in tests/facts begins its docstring with its number, and only then.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FACTS = ROOT / "docs" / "pcsc-facts.md"
CITING = (
    "scardface",
    "tests",
    "examples",
    "benchmarks",
    "docs",
    ".ci",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "noxfile.py",
)

_NUMBER = re.compile(r"^(\d+)\. ", re.MULTILINE)
_BREAK = r"\s+(?:#\s+)?"  # also where a comment goes on in the next line
_CITED = re.compile(rf"\bfacts?{_BREAK}(\d+(?:(?:,|{_BREAK}and|{_BREAK}to|,{_BREAK}and){_BREAK}\d+)*)\b", re.IGNORECASE)


def facts() -> dict[int, str]:
    """The texts by number, in the file's order."""
    _, *rest = _NUMBER.split(FACTS.read_text(encoding="utf-8"))
    return {int(number): text for number, text in zip(rest[::2], rest[1::2], strict=True)}


def cited(text: str) -> set[int]:
    """The numbers that a text cites; a range cites all that it spans."""
    numbers: set[int] = set()
    for found in _CITED.finditer(text):
        for first, last in re.findall(rf"(\d+)(?:{_BREAK}to{_BREAK}(\d+))?", found[1]):
            numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def citing_files() -> Iterator[Path]:
    """The sources and texts that may cite facts."""
    for name in CITING:
        path = ROOT / name
        for each in [path] if path.is_file() else sorted(path.rglob("*")):
            if each.is_file() and (each.suffix in (".py", ".md", ".sh") or each.parent.name == ".ci"):
                yield each


def test_the_numbers_go_up_from_1() -> None:
    numbers = [int(number) for number in _NUMBER.findall(FACTS.read_text(encoding="utf-8"))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 81


def test_every_cited_fact_is_there() -> None:
    known, missing, found = facts().keys(), [], set()
    for path in citing_files():
        numbers = cited(path.read_text(encoding="utf-8"))
        found |= numbers
        missing += [f"{path.relative_to(ROOT)}: fact {number}" for number in sorted(numbers - known)]
    assert not missing, f"docs/pcsc-facts.md has no such facts: {', '.join(missing)}"
    assert len(found) > 40, "hardly anything cites them any more: does this test still read the references?"


def test_the_table_by_subject_names_every_fact() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([\d, to]+) \|$", FACTS.read_text(encoding="utf-8"), re.MULTILINE)
    named = set().union(*(cited(f"facts {numbers}") for _, numbers in rows))
    assert len(rows) > 5
    assert named == facts().keys()


def test_what_is_called_tested_is_tested() -> None:
    shown: set[int] = set()
    for path in sorted((ROOT / "tests" / "facts").glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                numbers = cited((ast.get_docstring(node) or "").partition(":")[0].partition(".")[0])
                assert numbers, f"{path.name}: {node.name} does not begin with the number of a fact"
                shown |= numbers
    told = {number for number, text in facts().items() if re.search(r"\(tested\b", text)}
    assert told == shown, f"told but not shown: {sorted(told - shown)}; shown but not told: {sorted(shown - told)}"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(fact {})", {10}),
        ("Fact {}.", {10}),
        ("facts {}, 33 to 35)", {10, 33, 34, 35}),
        ("(facts {} and 13: nothing)", {10, 13}),
        ("facts {}, 16, and 17", {10, 16, 17}),
        ("    # as in fact\n    # {} of them", {10}),
        ("facts {}\n    to 12, or 7", {10, 11, 12}),
        ("artifact {}, in fact, facts", set()),
    ],
)
def test_the_references_are_read(text: str, numbers: set[int]) -> None:
    """(A number in braces here, or this file would cite facts itself.)"""
    assert cited(text.format(10)) == numbers
