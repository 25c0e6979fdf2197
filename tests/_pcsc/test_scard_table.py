"""docs/pcsc-functions.md: each function that pyscard's binding has is in its table, and every name that it sends to exists.

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

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pcsc-functions.md"
NAME = r"`([^`]+)`"
ONE_FACE_ONLY = {"SCard.aclose": scardface, "SCard.close": sync}


class Row(NamedTuple):
    """A row of the table: the functions that it is about, the names that it sends to, and what it says."""

    functions: list[str]
    names: list[str]
    words: str


def rows(text: str) -> list[Row]:
    """The rows of the table."""
    cells = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    found = [Row(re.findall(NAME, row[0]), re.findall(NAME, row[1]), row[1].strip()) for row in cells if len(row) == 2]
    return [row for row in found if row.functions]


@pytest.fixture(scope="module")
def table() -> list[Row]:
    return rows(PAGE.read_text(encoding="utf-8"))


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
    assert rows(f"# x\n\n{table}\nAnd so on.\n") == [Row(["SCardOne", "SCardTwo"], ["SCard.x", "y="], "`SCard.x` with `y=`")]
