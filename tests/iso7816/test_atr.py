"""The Answer to Reset, on real ATRs and on bytes that only look like one."""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import reduce
from operator import xor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface._enums import Protocol
from scardface.iso7816._atr import ATR, Capabilities

YUBIKEY = ATR.fromhex("3BFD1300008131FE158073C021C057597562694B657940")
JCOP4 = ATR.fromhex("3BD518FF8191FE1FC38073C821100A")
CONTACTLESS = ATR.fromhex("3B80800101")


def with_historical(historical: bytes) -> ATR:
    """A T=1 card with these historical bytes and a right check character."""
    body = bytes((0x80 | len(historical), 0x01)) + historical
    return ATR(b"\x3b" + body + bytes((reduce(xor, body),)))


def test_parts_of_a_token() -> None:
    assert (YUBIKEY.ta, YUBIKEY.tb) == ((0x13, None, 0xFE), (0x00, None, 0x15))
    assert (YUBIKEY.tc, YUBIKEY.td) == ((0x00, None, None), (0x81, 0x31, None))
    assert YUBIKEY.protocols == Protocol.T1
    assert YUBIKEY.historical_bytes == bytes.fromhex("8073C021C057597562694B6579")
    assert (YUBIKEY.tck, YUBIKEY.is_tck_right, YUBIKEY.is_well_formed) == (0x40, True, True)
    assert YUBIKEY.capabilities == Capabilities(command_chaining=True, extended_length=True)


def test_protocols() -> None:
    assert CONTACTLESS.protocols == Protocol.T0 | Protocol.T1
    assert ATR.fromhex("3B00").protocols == Protocol.T0
    assert JCOP4.protocols == Protocol.T1
    assert ATR.fromhex("3B80 0E 8E").protocols == Protocol.UNDEFINED


def test_it_is_bytes() -> None:
    assert CONTACTLESS == b"\x3b\x80\x80\x01\x01"
    assert hash(CONTACTLESS) == hash(b"\x3b\x80\x80\x01\x01")
    assert CONTACTLESS.hex(" ") == "3b 80 80 01 01"
    assert type(CONTACTLESS) is ATR
    assert type(CONTACTLESS[1:]) is bytes
    assert ATR() == b""
    assert ATR(bytearray(b"\x3b")) == ATR(memoryview(b"\x3b")) == b"\x3b"


def test_it_is_shown_in_hex() -> None:
    assert repr(CONTACTLESS) == 'ATR.fromhex("3B 80 80 01 01")'
    assert eval(repr(CONTACTLESS), {"ATR": ATR}) == CONTACTLESS
    assert f"{CONTACTLESS}" == "3B 80 80 01 01"


def test_it_pickles_parsed_or_not() -> None:
    assert YUBIKEY.historical_bytes
    again = pickle.loads(pickle.dumps(YUBIKEY))
    assert (again, type(again), again.capabilities) == (YUBIKEY, ATR, YUBIKEY.capabilities)


@pytest.mark.parametrize("value", [5, "3B00", None, [0x3B, 0x00]])
def test_only_bytes(value: Any) -> None:
    with pytest.raises(TypeError, match="bytes"):
        ATR(value)


def test_check_character() -> None:
    assert CONTACTLESS.is_tck_right
    assert not ATR.fromhex("3B80800102").is_tck_right
    absent = ATR.fromhex("3B808001")  # due, for T=1 is named
    assert (absent.tck, absent.is_tck_right, absent.is_well_formed) == (None, False, False)
    not_due = ATR.fromhex("3B021450")  # T=0 alone
    assert (not_due.tck, not_due.is_tck_right, not_due.is_well_formed) == (None, True, True)
    assert ATR.fromhex("3B8000").is_tck_right  # T=0 alone, and named


@pytest.mark.parametrize("text", ["", "3B", "3BFF", "3B0514", "3B80", "3B8080", "00", "3C00", "3B0000FF", "FFFF"])
def test_what_cannot_be_an_atr_is_not_well_formed(text: str) -> None:
    atr = ATR.fromhex(text)
    assert not atr.is_well_formed
    assert atr.capabilities == Capabilities()


def test_what_cannot_be_parsed_has_no_parts() -> None:
    atr = ATR.fromhex("3BFF13")
    assert (atr.ta, atr.tb, atr.tc, atr.td, atr.historical_bytes, atr.tck) == ((), (), (), (), b"", None)
    assert (atr.protocols, atr.is_tck_right) == (Protocol.UNDEFINED, False)


def test_cut_off_in_the_historical_bytes() -> None:
    assert ATR.fromhex("3B051450").historical_bytes == b"\x14\x50"


@pytest.mark.parametrize(
    ("historical", "expected"),
    [
        ("8073C021C0", Capabilities(command_chaining=True, extended_length=True)),
        ("8073000080", Capabilities(command_chaining=True)),
        ("8073000040", Capabilities(extended_length=True)),
        ("8073000060", Capabilities(extended_length=True, extended_length_information=True)),
        ("807300000F", Capabilities(logical_channels=8)),
        ("8073000013", Capabilities(logical_channels=4)),
        ("8073000003", Capabilities()),  # nobody assigns channels, so there is one
        ("803180" + "73000080", Capabilities(command_chaining=True)),  # after another object
        ("0073000080" + "059000", Capabilities(command_chaining=True)),  # category 00: three status bytes end it
        ("00730000" + "809000", Capabilities()),  # the object reaches into them
        ("8072FFFF", Capabilities()),  # the third byte is not there
        ("8071FF", Capabilities()),
        ("80730000", Capabilities()),  # reaches over the end
        ("807F0000C0", Capabilities()),
        ("80740000C0", Capabilities()),
        ("1073000080", Capabilities()),  # category 10: a reference to EF.DIR
        ("80", Capabilities()),
        ("00", Capabilities()),
        ("", Capabilities()),
    ],
)
def test_capabilities(historical: str, expected: Capabilities) -> None:
    atr = with_historical(bytes.fromhex(historical))
    assert atr.historical_bytes == bytes.fromhex(historical)
    assert (atr.is_tck_right, atr.is_well_formed) == (True, True)
    assert atr.capabilities == expected


PLAUSIBLE = st.builds(lambda start, rest: start + bytes(rest), st.sampled_from([b"\x3b", b"\x3f", b""]), st.binary(max_size=40))


@given(st.binary(max_size=1000) | PLAUSIBLE | st.binary(max_size=15).map(lambda rest: with_historical(b"\x80" + rest[:14])))
def test_any_bytes_give_parts_or_none(octets: bytes) -> None:
    atr = ATR(octets)
    assert bytes(atr) == octets
    assert len(atr.ta) == len(atr.tb) == len(atr.tc) == len(atr.td)
    for value in (*atr.ta, *atr.tb, *atr.tc, *atr.td, atr.tck):
        assert value is None or 0 <= value <= 255
    assert atr.historical_bytes in octets
    assert len(atr.historical_bytes) <= 15
    assert 1 <= atr.capabilities.logical_channels <= 8
    assert atr.protocols in Protocol.T0 | Protocol.T1
    assert isinstance(atr.is_well_formed, bool)
    assert isinstance(atr.is_tck_right, bool)
    assert isinstance(str(atr) + repr(atr), str)


def test_pyscard_is_not_needed() -> None:
    code = """if True:
        import sys
        from scardface.iso7816._atr import ATR
        assert ATR.fromhex("3B800181").tck == 0x81
        assert not [name for name in sys.modules if name.partition(".")[0] == "smartcard"]
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("text", "tck", "right", "missing", "extra"),
    [
        ("3B800181", 0x81, True, "", ""),
        ("3B800180", 0x80, False, "", ""),
        ("3B8001", None, False, "TCK", ""),
        ("3B800181FF", 0x81, True, "", "FF"),
        ("3B8001819000", 0x81, True, "", "9000"),
        ("3B00", None, True, "", ""),
        ("3B0000", None, True, "", "00"),
        ("3B00FFFF", None, True, "", "FFFF"),
        ("3B8000FF", None, True, "", "FF"),
        ("3B0514", None, False, "4 of 5 historical bytes", ""),
        ("3B8181", None, False, "TD2", ""),
        ("3B10", None, False, "TA1", ""),
        ("3B", None, False, "T0", ""),
        ("", None, False, "TS", ""),
        # Of Debian's smartcard_list.txt: TCK lacking, and bytes behind it.
        ("3BFD9600008131204380318065B0831148C883009000", None, False, "TCK", ""),
        ("3B8C8001502752318100000000007181", None, False, "TCK", ""),
        ("3BFE9600008131FE45803180664090A5102E03830190006E9000", 0x6E, True, "", "9000"),
        ("3B96004121920000622433339000", 0x33, False, "", "9000"),
        ("3B801FC78031E073FE211163407163830790009A", 0x80, False, "", "31E073FE211163407163830790009A"),
    ],
)
def test_what_is_missing_and_what_is_too_much(text: str, tck: int | None, right: bool, missing: str, extra: str) -> None:
    atr = ATR.fromhex(text)
    assert (atr.tck, atr.is_tck_right, atr.missing, atr.extra.hex().upper()) == (tck, right, missing, extra)
    assert atr.is_well_formed == (not missing and not extra)


def test_another_first_byte_is_not_well_formed() -> None:
    atr = ATR.fromhex("3C800181")
    assert (atr.is_well_formed, atr.missing, atr.extra, atr.tck) == (False, "", b"", 0x81)
    assert ATR.fromhex("3F00").is_well_formed


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", (b"", (), b"", b"")),
        ("00059000", (b"\x00", (), b"", b"\x05\x90\x00")),
        ("000590", (b"\x00", (), b"\x05\x90", b"")),
        ("0031E0059000", (b"\x00", ((3, b"\xe0"),), b"", b"\x05\x90\x00")),
        ("0032E0059000", (b"\x00", (), b"\x32\xe0", b"\x05\x90\x00")),
        ("8031E07300", (b"\x80", ((3, b"\xe0"),), b"\x73\x00", b"")),
        ("1004", (b"\x10", (), b"\x04", b"")),
        ("4142", (b"\x41", (), b"\x42", b"")),
    ],
)
def test_historical_parts(text: str, parts: Any) -> None:
    historical = bytes.fromhex(text)
    assert ATR(bytes((0x3B, len(historical))) + historical).historical_parts == parts


@given(st.binary(max_size=60) | PLAUSIBLE)
def test_every_byte_has_one_place(octets: bytes) -> None:
    atr = ATR(octets)
    tck = b"" if atr.tck is None else bytes((atr.tck,))
    interface = bytes(each.octet for each in atr.interface_bytes)
    assert atr[:2] + interface + atr.historical_bytes + tck + atr.extra == octets
    parts = atr.historical_parts
    objects = b"".join(bytes((tag << 4 | len(value),)) + value for tag, value in parts.objects)
    assert parts.category + objects + parts.rest + parts.status == atr.historical_bytes
    for letter, column in zip("ABCD", (atr.ta, atr.tb, atr.tc, atr.td), strict=True):
        named = {f"T{letter}{number}": octet for number, octet in enumerate(column, 1) if octet is not None}
        mine = {each.name: each.octet for each in atr.interface_bytes if each.name[1] == letter}
        assert named == (mine if column else {})
