"""Historical bytes in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import ATR
from scardface.iso7816._historical import explain_historical


def told(text: str) -> list[tuple[str, str]]:
    return [(octets.hex().upper(), words) for octets, words in explain_historical(with_historical(bytes.fromhex(text)))]


def with_historical(historical: bytes) -> ATR:
    return ATR(bytes((0x3B, len(historical))) + historical)


def test_a_file_card() -> None:
    assert told("80 31E8 73F42140") == [
        ("80", "category: COMPACT-TLV data objects"),
        (
            "31E8",
            "card service data: applications selected by full name, by partial name, data objects in EF.DIR, "
            "these files read by READ BINARY, an MF",
        ),
        (
            "73F42140",
            "card capabilities: DF selection by full name, by partial name, by path, by file identifier, short EF identifiers; "
            "proprietary write, data unit of 2 quartets, tag FF not allowed; extended length",
        ),
    ]


@pytest.mark.parametrize(
    ("text", "last", "words"),
    [
        ("80 8105", "8105", "status indicator: life cycle: operational, activated"),
        ("80 8104", "8104", "status indicator: life cycle: operational, deactivated"),
        ("80 810C", "810C", "status indicator: life cycle: terminated"),
        ("80 8103", "8103", "status indicator: life cycle: initialisation"),
        ("80 8120", "8120", "status indicator: life cycle: proprietary (20)"),
        ("80 8108", "8108", "status indicator: life cycle: reserved (08)"),
        ("80 829000", "829000", "status indicator: status 9000, success"),
        ("80 83 05 9000", "83059000", "status indicator: life cycle: operational, activated, status 9000, success"),
        ("80 84 05900000", "8405900000", "status indicator: 05 90 00 00"),
        ("80 12 276F", "12276F", "country code (ISO 3166-1) and national data: 27 6F "
         "(three digits of the country, then national data)"),
        ("80 F2 A000", "F2A000", "application identifier (AID): A0 00"),
        ("80 90", "90", "data object 9"),
        ("80 7100", "7100", "card capabilities: no way of selection"),
        ("80 7280 A1", "7280A1", "card capabilities: DF selection by full name; BER-TLV files, proprietary write, "
         "data unit of 2 quartets, tag FF not allowed"),
        ("80 73 80 11 00", "73801100", "card capabilities: DF selection by full name; one-time write, data unit of 2 quartets, "
         "tag FF allowed; no chaining, no extended length, one logical channel"),
        ("80 73 80 01 9B", "7380019B", "card capabilities: DF selection by full name; one-time write, data unit of 2 quartets, "
         "tag FF not allowed; command chaining, 4 logical channels, assigned by the card or the terminal"),
        ("80 73 80 01 0F", "7380010F", "card capabilities: DF selection by full name; one-time write, data unit of 2 quartets, "
         "tag FF not allowed; 8 or more logical channels, assigned by the terminal"),
        ("80 3103", "3103", "card service data: these files read by an unknown command, no MF"),
        ("80 43AABB", "43AABB", "a data object of 3 bytes, of which 2 are there"),
        ("80 45AABB", "45AABB", "a data object of 5 bytes, of which 2 are there"),
        ("10 04", "04", "DIR data reference"),
        ("10", "10", "category: a reference to DIR data"),
        ("85 01", "8501", "category reserved for future use"),
        ("41 42", "4142", "the manufacturer's own format: 'AB'"),
        ("00 059000", "059000", "status indicator: life cycle: operational, activated, status 9000, success"),
        ("00 000000", "000000", "status indicator: life cycle: no information, no status word"),
        ("00 31E8 059000", "059000", "status indicator: life cycle: operational, activated, status 9000, success"),
        ("00 0590", "0590", "too short for a status indicator of three bytes"),
        ("00", "00", "category: COMPACT-TLV data objects, then a status indicator of three bytes"),
    ],
)  # fmt: skip
def test_in_words(text: str, last: str, words: str) -> None:
    assert told(text)[-1] == (last, words)


def test_a_storage_card() -> None:
    _, (octets, words) = told("80 4F0CA00000030603000100000000")
    assert octets == "4F0CA00000030603000100000000"
    assert words == "a storage card, as a contactless reader tells of it (PC/SC part 3): standard 03, card 0001"
    _, (_, words) = told("80 4F0CA0000003060300")
    assert words == "a data object of 15 bytes, of which 8 are there"


@given(st.binary(max_size=15))
def test_every_byte_is_told_of_once_and_in_order(historical: bytes) -> None:
    parts = list(explain_historical(with_historical(historical)))
    assert b"".join(octets for octets, _ in parts) == historical
    assert all(words for _, words in parts)
