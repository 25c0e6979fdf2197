"""Bytes as people read them."""

from __future__ import annotations

from scardface.iso7816._readable import digits, is_text, legible


def test_digits_and_text() -> None:
    assert digits(b"\x00\xa4") == "00 A4"
    assert legible(b"a\x00\x7fz") == "a..z"


def test_text_is_all_text_or_none() -> None:
    assert [is_text(data) for data in (b"abc", b"", b"a\x00", b"\x7f")] == [True, False, False, False]
