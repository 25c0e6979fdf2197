"""scardface._reader.attributes: pyscard's numbers, what a driver's bytes become, and that the types tell the truth."""

from __future__ import annotations

import sys
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import CardCommunicationError
from scardface._reader.attributes import Attribute, NumberAttribute, TextAttribute, decode_attribute, encode_attribute

TEXT = [Attribute(one) for one in get_args(TextAttribute)]
NUMBERS = [Attribute(one) for one in get_args(NumberAttribute)]
REST = [one for one in Attribute if one not in TEXT and one not in NUMBERS]


def test_numbers_are_pyscards(scard: Any) -> None:
    theirs = {name.removeprefix("SCARD_ATTR_"): getattr(scard, name) for name in dir(scard) if name.startswith("SCARD_ATTR_")}
    ours = {name: int(member) for name, member in Attribute.__members__.items()}
    assert theirs, "pyscard has no attributes any more"
    assert {name: ours.get(name) for name in theirs} == theirs
    if sys.platform != "win32":  # whose header has fewer of them
        assert not set(ours) - set(theirs), "not of pyscard"


def test_numbers_are_class_and_tag() -> None:
    """PC/SC part 3: the class in the upper half (the system's is 0x7FFF), the tag in the lower one."""
    assert {one >> 16 for one in Attribute} == {*range(1, 10), 0x7FFF}
    assert Attribute.ATR_STRING == 9 << 16 | 0x0303


def test_each_attribute_is_of_one_kind() -> None:
    assert not set(TEXT) & set(NUMBERS)
    assert {one.name for one in REST} == {"ATR_STRING", "ESC_RESET", "ESC_CANCEL", "ESC_AUTHREQUEST"}


@pytest.mark.parametrize("attribute", Attribute, ids=lambda one: one.name)
def test_the_types_agree_with_what_is_read(attribute: Attribute) -> None:
    kind = str if attribute in TEXT else int if attribute in NUMBERS else bytes
    assert type(decode_attribute(attribute, b"\x31\x00")) is kind


@pytest.mark.parametrize("attribute", [0x0001FFFF, 0, 1])
def test_unknown_attributes_are_bytes(attribute: int) -> None:
    assert decode_attribute(attribute, b"a\0") == b"a\0"
    assert encode_attribute(attribute, b"a\0") == b"a\0"
    with pytest.raises(TypeError, match=f"0x{attribute:08X}"):
        encode_attribute(attribute, "a")


class TestText:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (b"Gemalto\0", "Gemalto"),
            (b"Gemalto", "Gemalto"),
            (b"", ""),
            (b"\0", ""),
            (b"One\0Two\0", "One"),
            ("Müller\0".encode(), "Müller"),
            (b"M\xfcller", "M\ufffdller"),
        ],
    )
    def test_ends_at_its_nul(self, value: bytes, text: str) -> None:
        assert decode_attribute(Attribute.VENDOR_NAME, value) == text

    @pytest.mark.parametrize("attribute", [Attribute.DEVICE_FRIENDLY_NAME_W, Attribute.DEVICE_SYSTEM_NAME_W])
    def test_of_windows_has_two_bytes_a_character(self, attribute: Attribute) -> None:
        assert decode_attribute(attribute, b"O\0K\0\0\0") == "OK"
        assert decode_attribute(attribute, b"O\0K") == "O\ufffd"
        assert encode_attribute(attribute, "OK") == b"O\0K\0\0\0"

    @given(st.sampled_from(TEXT), st.binary(max_size=64))
    def test_never_raises(self, attribute: Attribute, value: bytes) -> None:
        text = decode_attribute(attribute, value)
        assert isinstance(text, str)
        assert "\0" not in text

    @given(st.sampled_from(TEXT), st.text(st.characters(exclude_characters="\0", codec="utf-8")))
    def test_comes_back_as_it_was_written(self, attribute: Attribute, text: str) -> None:
        assert decode_attribute(attribute, encode_attribute(attribute, text)) == text


class TestNumbers:
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
    def test_are_in_the_machines_order(self, size: int) -> None:
        assert decode_attribute(Attribute.CHANNEL_ID, (0x72).to_bytes(size, sys.byteorder)) == 0x72

    def test_a_version(self) -> None:
        value = bytes.fromhex("34 12 0A 02" if sys.byteorder == "little" else "02 0A 12 34")
        assert decode_attribute(Attribute.VENDOR_IFD_VERSION, value) == 0x020A1234

    @pytest.mark.parametrize("value", [b"", bytes(9)], ids=len)
    def test_of_no_size_are_the_drivers_mistake(self, value: bytes) -> None:
        with pytest.raises(CardCommunicationError, match=f"MAX_CLK: the driver answered {len(value)} bytes"):
            decode_attribute(Attribute.MAX_CLK, value)

    @given(st.sampled_from(NUMBERS), st.integers(0, 0xFF))
    def test_come_back_as_they_were_written(self, attribute: Attribute, value: int) -> None:
        written = encode_attribute(attribute, value)
        assert decode_attribute(attribute, written) == value
        assert len(written) in (1, 4)

    def test_have_the_size_that_the_part_says(self) -> None:
        assert encode_attribute(Attribute.ICC_PRESENCE, 2) == b"\x02"
        assert len(encode_attribute(Attribute.MAX_CLK, 0xFFFFFFFF)) == 4

    @pytest.mark.parametrize(
        ("attribute", "value", "range_"),
        [
            ("MAX_CLK", 1 << 32, "4 bytes is 0 to 4294967295, not 4294967296"),
            ("MAX_CLK", -1, "4 bytes is 0 to 4294967295, not -1"),
            ("ICC_PRESENCE", 256, "1 bytes is 0 to 255, not 256"),
        ],
    )
    def test_out_of_range(self, attribute: str, value: int, range_: str) -> None:
        with pytest.raises(ValueError, match=f"{attribute}: a number of {range_}"):
            encode_attribute(Attribute[attribute], value)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [(Attribute.VENDOR_NAME, 1), (Attribute.MAX_CLK, "1"), (Attribute.ATR_STRING, "3B00"), (Attribute.ATR_STRING, 1)],
)
def test_a_value_of_another_kind(attribute: Attribute, value: str | int) -> None:
    with pytest.raises(TypeError, match=f"{attribute.name} cannot be set to a {type(value).__name__}"):
        encode_attribute(attribute, value)


@pytest.mark.parametrize("attribute", Attribute, ids=lambda one: one.name)
def test_bytes_are_sent_as_they_are(attribute: Attribute) -> None:
    assert encode_attribute(attribute, b"\x01\x02") == b"\x01\x02"
