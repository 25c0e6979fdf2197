"""README.md's table of PC/SC's functions: each that pyscard's binding has is in it, and every name that it sends to exists.

The first column names the functions; in the second, whatever stands in backticks and has no `=` is a name of scardface, a method
that both faces have.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import scardface
from scardface import sync

README = Path(__file__).resolve().parents[2] / "README.md"
NAME = r"`([^`]+)`"
HEADING = "## Everything PC/SC offers"
ONE_FACE_ONLY = {"SCard.aclose": scardface, "SCard.close": sync}


class Row(NamedTuple):
    """A row of the table: the functions that it is about, the names that it sends to, and what it says."""

    functions: list[str]
    names: list[str]
    words: str


def rows(text: str) -> list[Row]:
    """The rows of the table below the heading."""
    assert f"\n{HEADING}\n" in f"\n{text}", f"README.md has no section {HEADING!r}"
    section = re.split(r"^## ", text.partition(HEADING)[2], maxsplit=1, flags=re.MULTILINE)[0]
    cells = [line.strip().strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    found = [Row(re.findall(NAME, row[0]), re.findall(NAME, row[1]), row[1].strip()) for row in cells if len(row) == 2]
    return [row for row in found if row.functions]


@pytest.fixture(scope="module")
def table() -> list[Row]:
    return rows(README.read_text(encoding="utf-8"))


def resolve(root: Any, dotted: str) -> Any:
    """What a dotted name stands for; AttributeError if there is no such thing."""
    for name in dotted.split("."):
        root = getattr(root, name)
    return root


def test_every_function_of_the_binding_is_in_the_table(table: list[Row]) -> None:
    from smartcard import scard

    offered = {name for name in dir(scard) if re.fullmatch(r"SCard[A-Z]\w+", name) and callable(getattr(scard, name))}
    named = [name for row in table for name in row.functions]
    assert len(offered) > 15
    assert offered <= set(named), f"not in the table: {sorted(offered - set(named))}"
    assert len(named) == len(set(named)), "a function is in it twice"
    assert not [name for name in named if not re.fullmatch(r"SCard[A-Z]\w+", name)]


def test_every_name_that_it_sends_to_exists(table: list[Row]) -> None:
    names = {name for row in table for name in row.names if "=" not in name}
    assert len(names) > 15
    for name in sorted(names):
        assert name.partition(".")[0] in scardface.__all__, f"{name} is not public"
        for face in [ONE_FACE_ONLY[name]] if name in ONE_FACE_ONLY else [scardface, sync]:
            resolve(face if "." in name else scardface, name)


def test_each_row_says_where_to_go_or_why_not(table: list[Row]) -> None:
    for row in table:
        assert row.names or row.words.startswith("not reached: "), f"{row.functions}: no name, and no reason"


def test_the_table_is_read() -> None:
    table = "| a | b |\n| --- | --- |\n| `SCardOne`, `SCardTwo` | `SCard.x` with `y=` |\n"
    text = f"# x\n\n{HEADING}\n\n{table}\n## More\n\n| `SCardNo` | `z` |\n"
    assert rows(text) == [Row(["SCardOne", "SCardTwo"], ["SCard.x", "y="], "`SCard.x` with `y=`")]
    with pytest.raises(AssertionError, match="has no section"):
        rows("# x\n")
