"""SIMPLE-TLV: round trips, and that nothing but a TLVError ever leaves."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface.iso7816 import SimpleObject, TLVError, build_simple_tlv, parse_simple_tlv

OBJECTS = st.lists(st.tuples(st.integers(1, 254), st.binary(max_size=600)), max_size=8)
PADDING = st.lists(st.sampled_from([0x00, 0xFF]), max_size=4).map(bytes)


@given(OBJECTS, PADDING)
def test_what_is_built_is_read_again(objects: list[tuple[int, bytes]], padding: bytes) -> None:
    built = padding + b"".join(build_simple_tlv(tag, value) + padding for tag, value in objects)
    assert parse_simple_tlv(built) == tuple(SimpleObject(tag, value) for tag, value in objects)


@pytest.mark.parametrize(("size", "head"), [(0, "0100"), (254, "01FE"), (255, "01FF00FF"), (65535, "01FFFFFF")])
def test_lengths_of_one_byte_and_of_three(size: int, head: str) -> None:
    built = build_simple_tlv(1, bytes(size))
    assert built == bytes.fromhex(head) + bytes(size)
    assert parse_simple_tlv(built) == (SimpleObject(1, bytes(size)),)


def test_a_long_length_for_few_bytes_is_read() -> None:
    assert parse_simple_tlv(bytes.fromhex("01FF0002ABCD")) == (SimpleObject(1, b"\xab\xcd"),)


@given(st.binary(max_size=300))
def test_any_bytes_are_objects_or_a_tlv_error(data: bytes) -> None:
    with contextlib.suppress(TLVError):
        assert sum(len(each.value) + 2 for each in parse_simple_tlv(data)) <= len(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("01", "a tag without a length"),
        ("0102AB", "a length of 2, and 1 bytes follow it"),
        ("01FF00", "a length lacks its last byte"),
        ("01FFFFFF", "a length of 65535"),
    ],
)
def test_what_is_none_says_why(data: str, words: str) -> None:
    with pytest.raises(TLVError, match=words):
        parse_simple_tlv(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("tag", "value", "error"), [(0, b"", ValueError), (255, b"", ValueError), (1, bytes(65536), ValueError), (1, "ab", TypeError)]
)
def test_what_cannot_be_built_is_refused(tag: int, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        build_simple_tlv(tag, value)
