"""File control information: what real cards say, and that nothing but a TLVError ever leaves."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface.iso7816 import FileControl, Structure, TLVError


@pytest.mark.parametrize(
    ("digits", "said"),
    [
        # A transparent file of a German eID card's kind, an FCP of a UICC's with records, a DF with a name.
        ("6F0D 8002012C 820101 8302011E 880108".replace(" ", ""), {"size": 300, "structure": Structure.TRANSPARENT, "sfi": 1}),
        (
            "6217 8205 42210026 0A 8302 6F3A 8A0105 8002017C 880150".replace(" ", ""),
            {"structure": Structure.LINEAR_FIXED, "record_size": 38, "record_count": 10, "file_id": 0x6F3A, "sfi": 10},
        ),
        ("6F13 820138 83025000 840AF0534341524446414345".replace(" ", ""), {"is_df": True, "name": b"\xf0SCARDFACE"}),
        ("6F07 8405A000000308".replace(" ", ""), {"is_df": True, "name": bytes.fromhex("A000000308"), "structure": None}),
        ("6206 8203 46 21 1E".replace(" ", "")[:4] + "8203" + "46211E", {"structure": Structure.CYCLIC, "record_size": 30}),
        ("8104 00010000 820101".replace(" ", ""), {"size": 0x10000, "structure": Structure.TRANSPARENT}),
        ("6F09 6207 80020100 820101".replace(" ", ""), {"size": 256, "structure": Structure.TRANSPARENT}),
        ("6F04 83026F07".replace(" ", ""), {"sfi": 7, "file_id": 0x6F07}),
        ("6F06 83026F07 8800".replace(" ", ""), {"sfi": None}),
        ("6F04 83026F1F".replace(" ", ""), {"sfi": None}),
        ("6F03 820139".replace(" ", ""), {"is_df": False, "structure": None}),
        ("6F04 82020141".replace(" ", ""), {"data_unit": 2}),
        ("", {"size": None, "structure": None, "is_df": None}),
    ],
)
def test_what_cards_say(digits: str, said: dict[str, Any]) -> None:
    control = FileControl.from_bytes(_with_right_length(bytes.fromhex(digits)))
    assert {name: getattr(control, name) for name in said} == said


def _with_right_length(data: bytes) -> bytes:
    return data[:1] + bytes((len(data) - 2,)) + data[2:] if data[:1] in (b"\x6f", b"\x62") else data


@pytest.mark.parametrize(
    ("digits", "name"),
    [
        ("8000", "size"),
        ("80050000000001", "size"),
        ("8301AA", "file_id"),
        ("8203020121", "record_count"),
        ("8A020000", "life_cycle"),
    ],
)
def test_a_length_that_is_none_counts_as_not_there(digits: str, name: str) -> None:
    assert getattr(FileControl.from_bytes(bytes.fromhex(digits)), name) is None


def test_what_is_no_tlv_is_an_error() -> None:
    with pytest.raises(TLVError):
        FileControl.from_bytes(b"\x6f\x05\x80")


@given(st.binary(max_size=300) | st.binary(max_size=120).map(lambda rest: b"\x6f" + bytes((len(rest),)) + rest))
def test_any_bytes_are_understood_or_a_tlv_error(data: bytes) -> None:
    with contextlib.suppress(TLVError):
        control = FileControl.from_bytes(data)
        assert control.size is None or 0 <= control.size <= 0xFFFFFFFF
        assert control.sfi is None or 1 <= control.sfi <= 30
        assert control.record_count is None or control.record_count <= 0xFFFF
