"""Nothing for a terminal to obey."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface.cli._printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Leser ü 0", "Leser ü 0"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\x07\r\tb", "a\\x07\\r\\tb"),
        ("a\nb", "a\nb"),
        ("\u202e", "\\u202e"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_nothing_is_left_to_obey(text: str) -> None:
    assert all(char.isprintable() for char in printable(text).replace("\n", ""))
