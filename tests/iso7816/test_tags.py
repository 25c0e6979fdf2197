"""The names of tags: by themselves, and within something."""

from __future__ import annotations

import pytest

from scardface.iso7816._tags import is_likely, tag_name
from scardface.iso7816._tlv import parse_tlv


@pytest.mark.parametrize(
    ("tag", "parent", "name"),
    [
        ("6F", None, "file control information (FCI)"),
        ("84", None, ""),
        ("84", "6F", "DF name"),
        ("82", "62", "file descriptor"),
        ("82", "77", "application interchange profile"),
        ("87", "A5", "application priority indicator"),
        ("50", "A5", "application label"),
        ("9F36", None, "application transaction counter"),
        ("BF0C", "A5", "issuer's discretionary data"),
        ("DF8101", "6F", ""),
    ],
)
def test_a_name_depends_on_where_the_tag_is(tag: str, parent: str | None, name: str) -> None:
    assert tag_name(bytes.fromhex(tag), None if parent is None else bytes.fromhex(parent)) == name


@pytest.mark.parametrize(("data", "likely"), [("6F00", True), ("9F360200 01", True), ("", False), ("0101AA", False)])
def test_what_begins_with_a_known_tag_is_likely_meant_so(data: str, likely: bool) -> None:
    assert is_likely(parse_tlv(bytes.fromhex(data.replace(" ", "")))) is likely
