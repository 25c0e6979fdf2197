"""ATRs byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scardface import ATR
from scardface.iso7816._interface import explain_atr


def told(text: str) -> dict[str, str]:
    """Name to meaning; of several rows of one name, the last."""
    return {row.name: row.meaning for row in explain_atr(bytes.fromhex(text))}


def test_every_byte_of_a_card_with_both_protocols() -> None:
    rows = explain_atr(bytes.fromhex("3BDF18FFC08131FE4564650000000000000000009000 00".replace(" ", "")))
    assert [(row.name, row.octets.hex().upper()) for row in rows[:9]] == [
        ("TS", "3B"),
        ("T0", "DF"),
        ("TA1", "18"),
        ("TC1", "FF"),
        ("TD1", "C0"),
        ("TC2", "81"),
        ("TD2", "31"),
        ("TA3", "FE"),
        ("TB3", "45"),
    ]
    words = {row.name: row.meaning for row in rows}
    assert words["T0"] == "TA1, TC1, TD1 follow; 15 historical bytes"
    assert words["TC1"] == "extra guard time: as short as the protocol allows"
    assert words["TD1"] == "protocol T=0, bytes at a time, offered first; TC2, TD2 follow"
    assert words["TC2"] == "T=0 waiting time: WI 129, 123,840 bits times Fi/F"
    assert words["TD2"] == "protocol T=1, blocks; TA3, TB3 follow"
    assert words["TA3"] == "T=1: the card takes blocks of up to 254 bytes (IFSC)"
    assert words["TB3"] == "T=1 waiting times: BWI 4 for blocks, CWI 5 for characters"


@pytest.mark.parametrize(
    ("octet", "words"),
    [
        ("11", "Fi 372, Di 1: 372 clock cycles a bit; 10,752 bit/s at 4 MHz, 13,440 bit/s at the highest clock, 5 MHz"),
        ("96", "Fi 512, Di 32: 16 clock cycles a bit; 250,000 bit/s at 4 MHz, 312,500 bit/s at the highest clock, 5 MHz"),
        ("A9", "Fi 768, Di 20: 38.4 clock cycles a bit; 104,166 bit/s at 4 MHz, 195,312 bit/s at the highest clock, 7.5 MHz"),
        ("70", "clock rate and baud rate factors, reserved values"),
        ("1F", "clock rate and baud rate factors, reserved values"),
    ],
)
def test_the_speed(octet: str, words: str) -> None:
    assert told(f"3B10{octet}")["TA1"] == words


@pytest.mark.parametrize(
    ("atr", "name", "words"),
    [
        ("3B2000", "TB1", "programming voltage (deprecated, to be ignored): none is needed"),
        ("3B2025", "TB1", "programming voltage (deprecated, to be ignored)"),
        ("3B4000", "TC1", "extra guard time: none"),
        ("3B4002", "TC1", "extra guard time: 2 bits more between characters"),
        ("3B801081", "TA2", "specific mode, protocol T=1; the card cannot change it; parameters from these interface bytes"),
        (
            "3B801011",
            "TA2",
            "specific mode, protocol T=1; the card can change it after a reset; parameters as the reader knows them",
        ),
        ("3B802032", "TB2", "programming voltage in tenths of a volt (deprecated, to be ignored)"),
        ("3B804000", "TC2", "T=0 waiting time: reserved value 0"),
        ("3B80811100", "TA3", "T=1: block size, a reserved value"),
        ("3B80814101", "TC3", "T=1: blocks are checked by CRC"),
        ("3B80814100", "TC3", "T=1: blocks are checked by LRC"),
        ("3B80801FC7", "TA3", "clock stop: no preference; voltage classes: A (5 V), B (3 V), C (1.8 V)"),
        ("3B80801F08", "TA3", "clock stop: not supported; voltage classes: none that is known"),
        ("3B80802F00", "TB3", "contact C6 is not used"),
        ("3B80802F80", "TB3", "contact C6 is used as the manufacturer says"),
        ("3B80802F01", "TB3", "contact C6 is used as a standard says"),
        ("3B80804F00", "TC3", "reserved"),
        ("3B80801E00", "TA3", "a parameter of T=14"),
        ("3B800E", "TD1", "protocol T=14, not standardised, offered first; no interface bytes follow"),
        ("3B8005", "TD1", "protocol T=5, offered first; no interface bytes follow"),
        ("3F00", "TS", "inverse convention: low is 1, b8 first"),
        ("4700", "TS", "neither 3B nor 3F: not the ATR of a card of ISO/IEC 7816-3"),
        ("3B00", "T0", "no interface bytes follow; 0 historical bytes"),
    ],
)
def test_each_byte_in_words(atr: str, name: str, words: str) -> None:
    assert told(atr)[name] == words


@pytest.mark.parametrize(
    ("atr", "name", "words"),
    [
        ("", "missing", "no ATR at all: the card is mute, or there is none"),
        ("3B", "missing", "T0, which says what follows"),
        ("3B10", "missing", "TA1, which was announced"),
        ("3B0380", "missing", "2 of 3 historical bytes"),
        ("3B800181", "missing", None),
        ("3B8001", "missing", "TCK, the check character, which has to be there"),
        ("3B800182", "TCK", "check character, wrong: it should be 81"),
        ("3B80018100", "extra", "more bytes than were announced"),
        ("3B0000", "extra", "more bytes than were announced"),
    ],
)
def test_what_is_wrong_is_told(atr: str, name: str, words: str | None) -> None:
    assert told(atr).get(name) == words


def test_a_right_check_character() -> None:
    assert told("3B800181")["TCK"] == "check character, right"


@given(st.binary(max_size=40))
@example(b"\x3b" + b"\xff" * 39)
def test_every_byte_is_told_of_once_and_in_order(atr: bytes) -> None:
    rows = explain_atr(atr)
    assert b"".join(row.octets for row in rows) == atr
    assert all(row.meaning and row.name for row in rows)


@given(st.binary(max_size=40) | st.binary(max_size=38).map(lambda rest: b"\x3b" + rest))
@example(bytes.fromhex("3B8F8001804F0CA000000306030001000000006A9000"))
@example(bytes.fromhex("3B8001"))
@example(bytes.fromhex("3B0000"))
def test_the_rows_and_the_atr_say_the_same(octets: bytes) -> None:
    atr, rows = ATR(octets), explain_atr(octets)
    names = [row.name for row in rows]
    assert atr.is_well_formed == (octets[:1] in (b"\x3b", b"\x3f") and not {"missing", "extra"} & set(names))
    checks = [row for row in rows if row.name == "TCK"]
    assert [row.octets[0] for row in checks] == ([] if atr.tck is None else [atr.tck])
    if checks:
        assert atr.is_tck_right == (checks[0].meaning == "check character, right")
    else:
        assert atr.is_tck_right == ("missing" not in names)
    assert b"".join(row.octets for row in rows if row.name == "historical") == atr.historical_bytes
    if "missing" not in names:
        for letter, column in zip("ABCD", (atr.ta, atr.tb, atr.tc, atr.td), strict=True):
            for number, octet in enumerate(column, 1):
                assert [row.octets[0] for row in rows if row.name == f"T{letter}{number}"] == ([] if octet is None else [octet])
