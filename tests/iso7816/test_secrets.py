"""Which command's data or answer is a secret: an example for each row of the table, on both sides of its borders."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import C_APDU, Lengths, Protocol, ShareMode
from scardface._session.card_request import CardRequest
from scardface._session.exchanger import Exchanger
from scardface.iso7816._secrets import PUBLIC, SECRET, Row, SecretTracker, carries_secret, may_carry_secret

KEY = "FACEB00CCAFED00D"
AID = "A0000000871002FF49FF0589"

SECRETS = {
    "VERIFY": "00200081 04 31323334",
    "VERIFY, data object": "00210081 04 31323334",
    "CHANGE REFERENCE DATA": f"00240081 08 {KEY}",
    "CHANGE REFERENCE DATA of EMV, secured": f"8C240000 08 {KEY}",
    "DISABLE CHV": "A0260001 08 31323334FFFFFFFF",
    "ENABLE VERIFICATION REQUIREMENT": "00280081 04 31323334",
    "UNBLOCK CHV": f"A02C0000 08 {KEY}",
    "RESET RETRY COUNTER with the resetting code": f"002C0081 08 {KEY}",
    "EXTERNAL AUTHENTICATE": f"00820000 08 {KEY}",
    "MUTUAL AUTHENTICATE of an ePassport": f"00820000 08 {KEY} 28",
    "GENERAL AUTHENTICATE of PIV: decipher, ECDH": "0087119D 04 7C028200 00",
    "GENERAL AUTHENTICATE, even": "0086119D 04 7C028200 00",
    "LOAD KEYS": "FF820001 06 FFFFFFFFFFFF",
    "RUN GSM ALGORITHM": f"A0880000 08 {KEY}",
    "AUTHENTICATE, 3G": f"00880081 08 {KEY} 00",
    "AUTHENTICATE, GSM": f"00880080 08 {KEY} 00",
    "AUTHENTICATE, GBA": f"00880084 08 {KEY} 00",
    "AUTHENTICATE, odd": f"00890081 08 {KEY} 00",
    "AUTHENTICATE in channel 1": f"01880081 08 {KEY} 00",
    "GENERATE KEY/VPM": "A08E0000 02 0102",
    "PSO DECIPHER": f"002A8086 08 {KEY} 00",
    "PSO DECIPHER in a chain": f"102A8086 08 {KEY}",
    "PSO DECIPHER in channel 5": f"412A8086 08 {KEY} 00",
    "PSO DECIPHER of GlobalPlatform's classes": f"802A8084 08 {KEY} 00",
    "PSO ENCIPHER": f"002A8680 08 {KEY} 00",
    "PSO COMPUTE CRYPTOGRAPHIC CHECKSUM": f"002A8E80 08 {KEY} 00",
    "IMPORT CARD SECRET": f"00480000 08 {KEY}",
    "PUT DATA: resetting code": f"00DA00D3 08 {KEY}",
    "PUT DATA: AES key": f"00DA00D5 08 {KEY}",
    "PUT DATA: keys of secure messaging": f"00DA00F4 08 {KEY}",
    "PUT DATA: KDF-DO": f"00DA00F9 08 {KEY}",
    "PUT DATA: key import": f"00DB3FFF 0C 4D0AB600{KEY}",
    "PUT DATA: key import, a later part": f"10DB3FFF 08 {KEY}",
    "PUT DATA: key import elsewhere": f"00DB0000 0C 4D0AB600{KEY}",
    "PUT DATA: PIV's PRINTED": f"00DB3FFF 0F 5C035FC109530A8808{KEY[:12]}",
    "GET DATA: PIV's PRINTED": "00CB3FFF 05 5C035FC109 00",
    "PUT KEY": f"80D80181 08 {KEY}",
    "PUT KEY in channel 4": f"C0D80181 08 {KEY}",
    "STORE DATA: DES keys": f"80E28000 0B 800008{KEY}",
    "STORE DATA, not the last block": f"80E20000 0B 820108{KEY}",
    "STORE DATA of an eSIM: PrepareDownload": f"80E29100 0B BF2108{KEY}",
    "STORE DATA of an eSIM: segment": f"80E21105 0A 8708{KEY}",
    "ENVELOPE": "00C20000 05 0020000104",
    "ENVELOPE of a SIM": "80C20000 02 D100",
    "a PIN by pseudo-APDU": "FFC20106 03 010203",
    "TERMINAL RESPONSE": "80140000 05 8D03043132",
    "TERMINAL RESPONSE of a SIM": "A0140000 05 8D03043132",
    "MANAGE SECURE CHANNEL": f"80730000 08 {KEY}",
    "SUSPEND UICC": "80760000 00",
    "ChangeKey": f"90C40000 09 01{KEY} 00",
    "SetConfiguration": f"905C0000 09 01{KEY} 00",
    "UPDATE BINARY of a reader": f"FFD60003 08 {KEY}",
    "READ BINARY of a sector trailer": "FFB00007 10",
    "READ BINARY of a sector trailer, all": "FFB00007 00",
    "a MIFARE login through a PN53x": f"FF000000 0D D440016004{KEY}",
    "OATH PUT": f"00010000 0A 7308{KEY}",
    "OTP configuration": f"00010100 08 {KEY}",
    "YubiHSM Auth DELETE": f"00020000 0A 7B08{KEY}",
    "OATH SET CODE": f"00030000 0A 7308{KEY}",
    "YubiHSM Auth PUT MANAGEMENT KEY": f"00080000 0A 7B08{KEY}",
    "OATH VALIDATE": f"00A30000 0A 7508{KEY}",
    "OATH CALCULATE": f"00A20001 0A 7108{KEY}",
    "OATH CALCULATE ALL": f"00A40001 0A 7408{KEY}",
    "PIV IMPORT KEY": f"00FE119A 0A 0608{KEY}",
    "PIV SET MANAGEMENT KEY": f"00FFFFFF 08 {KEY}",
    "SELECT, secured": "0CA40400 02 3F00",
    "READ BINARY, secured in channel 4": "60B00000 03 970100 00",
    "GET STATUS, secured": f"84F28000 08 {KEY}",
    "GET STATUS, secured in channel 4": f"E0F28000 08 {KEY}",
}

HARMLESS = {
    "SELECT by name": f"00A4040C 0C {AID}",
    "SELECT by path": "00A40804 04 7FFF6F07 00",
    "SELECT by identifier": "00A40004 02 7420 00",
    "SELECT of a SIM": "A0A40000 02 7F20",
    "READ BINARY": "00B00000 00",
    "READ RECORD": "00B20104 00",
    "READ BINARY of a SIM": "A0B00000 09",
    "STATUS": "A0F20000 16",
    "GET DATA": "00CA006E 00",
    "GET DATA of PIV": "00CB3FFF 05 5C035FC105 00",
    "GET DATA of GlobalPlatform": "80CA0066 00",
    "GET STATUS": "80F24000 02 4F00 00",
    "GET CHALLENGE": "00840000 08",
    "MANAGE SECURITY ENVIRONMENT": "002241B6 03 840101",
    "MANAGE CHANNEL": "00700000 01",
    "SELECT DATA": "00A50204 06 60045C027F21",
    "DELETE FILE": "00E40000 02 5000",
    "GENERAL AUTHENTICATE of a reader": "FF860000 05 0100046000",
    "GET DATA (UID)": "FFCA0000 00",
    "READ BINARY of a reader": "FFB00004 10",
    "READ BINARY of a reader, one page": "FFB00003 04",
}
"""Shown everywhere."""

WRITTEN = {
    "INTERNAL AUTHENTICATE of EMV": "00880000 04 01020304 00",
    "INTERNAL AUTHENTICATE by a global key": "00880001 04 01020304 00",
    "PSO COMPUTE DIGITAL SIGNATURE": f"002A9E9A 08 {KEY} 00",
    "PSO HASH": f"002A9080 08 {KEY}",
    "PSO VERIFY CERTIFICATE": f"002A00BE 08 {KEY}",
    "GENERATE ASYMMETRIC KEY PAIR": "00478000 02 B600 00",
    "PUT DATA of a name": "00DA005B 03 414243",
    "PUT DATA of a certificate": "00DA7F21 03 308201",
    "PUT DATA of PIV": "00DB3FFF 0A 5C035FC1055303700100",
    "UPDATE BINARY": "00D60000 02 AABB",
    "UPDATE RECORD": "00DC0104 02 AABB",
    "APPEND RECORD": "00E20000 02 AABB",
    "CREATE FILE": "00E00000 02 6200",
    "INITIALIZE UPDATE": f"80500000 08 {KEY} 00",
    "INSTALL": "80E60C00 05 0000000000",
    "LOAD": "80E80000 04 C4820100",
    "STORE DATA of an eSIM: GetEuiccInfo1": "80E29100 03 BF2000 00",
    "STORE DATA of an eSIM: ProfileInfoList": "81E29100 03 BF2D00 00",
    "TERMINAL PROFILE": "80100000 04 FFFFFFFF",
    "FETCH": "80120000 20",
    "GET PROCESSING OPTIONS": "80A80000 02 8300 00",
    "GENERATE AC": f"80AE8000 08 {KEY} 00",
    "ReadData of DESFire": "90BD0000 07 01000000000000 00",
    "U2F REGISTER": "00010000 40" + "11" * 64,
    "U2F VERSION": "00030000 00",
    "OATH LIST": "00A10000 00",
    "direct command to a PN53x": "FF000000 03 D44A01",
    "LED of a reader": "FF004050 04 02020101",
}
"""No secret by any standard, so cassettes have them; not shown elsewhere, since nobody says that they are harmless."""


def command(text: str) -> C_APDU:
    return C_APDU.fromhex(text)


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_secrets(text: str) -> None:
    each = command(text)
    assert carries_secret(each)
    assert may_carry_secret(each)


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS)
def test_what_is_shown_everywhere(text: str) -> None:
    assert not carries_secret(command(text))
    assert not may_carry_secret(command(text))


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_what_cassettes_have_and_texts_do_not_show(text: str) -> None:
    assert not carries_secret(command(text))
    assert may_carry_secret(command(text))


def deciding(row: Row, each: C_APDU) -> bool:
    return each.ins in row.instructions and each.cla in row.classes and (row.applies is None or row.applies(each))


@pytest.mark.parametrize(("table", "examples"), [(SECRET, SECRETS), (PUBLIC, HARMLESS)])
def test_every_row_has_an_example(table: tuple[Row, ...], examples: dict[str, str]) -> None:
    """Which no other row would decide: without the row, a test above fails."""
    for row in table:
        own = [text for text in examples.values() if [other for other in table if deciding(other, command(text))] == [row]]
        assert own, row.what
        assert row.clause


@pytest.mark.parametrize("name", [name for name, text in SECRETS.items() if text.startswith("00") and "OATH" not in name])
@pytest.mark.parametrize("cla", [0x01, 0x03, 0x10, 0x13, 0x40, 0x4F, 0x50, 0x0C, 0x08, 0x60, 0x7F])
def test_channels_chains_and_secure_messaging_hide_no_less(name: str, cla: int) -> None:
    each = command(SECRETS[name])
    assert carries_secret(C_APDU(cla, each.ins, each.p1, each.p2, each.data, each.le))


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=80), st.integers(0, 65536))
def test_what_a_standard_says_to_be_secret_is_never_shown(header: bytes, data: bytes, le: int) -> None:
    each = C_APDU(*header, data, le)
    assert may_carry_secret(each) or not carries_secret(each)


# What hangs on the exchanges before.


def follow(*exchanges: tuple[str, int], rule: Any = carries_secret) -> list[bool]:
    tracker: SecretTracker[C_APDU] = SecretTracker(rule)
    return [tracker.hides(command(text), sw) for text, sw in exchanges]


def test_what_is_fetched_is_as_secret_as_what_left_it() -> None:
    authenticate, select = ("00880081 08" + KEY, 0x6110), ("00A40004 02 3F00", 0x6110)
    assert follow(authenticate, ("00C0000010", 0x9000)) == [True, True]
    assert follow(authenticate, ("00C0000010", 0x6104), ("00C0000004", 0x9000)) == [True, True, True]
    assert follow(authenticate, ("00A5000010", 0x9000)) == [True, True], "fetched by another instruction"
    assert follow(authenticate, ("00B0000010", 0x9000), ("00B0000010", 0x9000)) == [True, True, False]
    assert follow(("A0880000 10" + KEY * 2, 0x9F0C), ("A0C000000C", 0x9000)) == [True, True]
    assert follow(select, ("00C0000010", 0x9000)) == [False, False]
    assert follow(authenticate, select, ("00C0000010", 0x9000)) == [True, False, False]
    change_key = ("90C40000 0901" + KEY + "00", 0x91AF)
    assert follow(change_key, ("90AF0000 0201FF00", 0x9100), ("906A000000", 0x9100)) == [True, True, False]


def test_a_later_part_of_a_chain_is_as_secret_as_the_first() -> None:
    log_in = ("10000000 0D D440016004" + KEY, 0x9000)
    rest = "00000000 02 0102"
    assert follow(log_in, (rest, 0x9000), rule=lambda each: b"\xd4" in each.data) == [True, True]
    assert follow((rest, 0x9000), rule=lambda each: b"\xd4" in each.data) == [False]
    for other in ("00010000 02 0102", "01000000 02 0102", "00000100 02 0102", "00000001 02 0102"):
        assert follow(log_in, (other, 0x9000), rule=lambda each: b"\xd4" in each.data) == [True, False]


READ, UPDATE, RECORD = "00B0000021", "00D60000 02 07FF", "00B2010436"


@pytest.mark.parametrize(
    "path",
    [
        ["00A4040C 0C" + AID, "00A4000C 02 6F08"],
        ["00A4040C 0C" + AID, "00A40004 02 6F09"],
        ["00A4080C 04 7FFF6FE4"],
        ["A0A40000 02 3F00", "A0A40000 02 7F20", "A0A40000 02 6F20"],
        ["00A4040C 0C" + AID, "00A4000C 02 5F3B", "00A4000C 02 4F52"],
        ["00A4080C 06 7FFF5FC04F05"],
        ["00A4080C 02 7FFF", "00A4010C 02 5F3B", "00A4020C 02 4F20"],
        ["00A4080C 02 7FFF", "00A4090C 04 5FC04F03"],
        ["00A4080C 02 7F10", "00A4080C 04 7FFF6F08"],
    ],
)
def test_files_that_hold_keys(path: list[str]) -> None:
    selects = [(text, 0x9000) for text in path]
    for text in (READ, UPDATE, RECORD):
        assert follow(*selects, (text, 0x9000))[-1]
        assert follow(*selects, (text, 0x9000), rule=may_carry_secret)[-1]
    assert not follow(*selects, ("00A4000C 02 6F07", 0x9000), (READ, 0x9000))[-1]
    assert not follow(*selects[:-1], (selects[-1][0], 0x6A82), (READ, 0x9000))[-1], "it was not selected"
    assert follow(*selects[:-1], (selects[-1][0], 0x6120), ("00C0000020", 0x9000), (READ, 0x9000))[-1]
    assert not follow((READ, 0x9000))[-1]
    assert not follow(*selects, ("00A4040C 05 A000000003", 0x9000), (READ, 0x9000))[-1], "another application"


def test_files_that_hold_keys_by_their_short_identifier() -> None:
    usim = ("00A4040C 0C" + AID, 0x9000)
    assert follow(usim, ("00B0880021", 0x9000), ("00B0000021", 0x9000)) == [False, True, True]
    assert follow(usim, ("00B201C436", 0x9000))[-1]
    assert not follow(usim, ("00B0870009", 0x9000))[-1]
    assert not follow(("00B0880021", 0x9000))[-1], "of another application"


def test_each_channel_has_its_own_file() -> None:
    keys, other = ("00A4080C 04 7FFF6F08", 0x9000), ("01A4080C 04 7FFF6F07", 0x9000)
    assert follow(keys, other, ("01B0000021", 0x9000), (READ, 0x9000), ("41B0000021", 0x9000)) == [False, False, False, True, False]
    keys, other = ("41A4080C 04 7FFF6F08", 0x9000), ("42A4080C 04 7FFF6F07", 0x9000)
    assert follow(keys, other, ("42B0000021", 0x9000), ("41B0000021", 0x9000), (READ, 0x9000)) == [False, False, False, True, False]


def test_a_password_in_open_channel() -> None:
    for prefix in ("D01A", "D0811A"):
        tracker: SecretTracker[C_APDU] = SecretTracker(carries_secret)
        assert tracker.hides(command("8012000020"), 0x9000, bytes.fromhex(prefix + "810301400182028182"))
        assert not tracker.hides(command("8012000020"), 0x9000, bytes.fromhex(prefix + "810301210082028102"))
        for other in ("0012000020", "8011000020", "00CB000020"):
            assert not tracker.hides(command(other), 0x9000, bytes.fromhex(prefix + "810301400182028182"))


def test_the_trace_follows(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([b"\x90\0", b"\x90\0", bytes.fromhex(KEY) + b"\x90\0"])
    request = CardRequest.from_arguments(None, None, 1, None, False, ShareMode.SHARED, Protocol.T1, Lengths.AUTO)
    exchanger = Exchanger("A", request, lambda _: next(answers), lambda: None, lambda _: None)
    exchanger.configure(Protocol.T1, Lengths.AUTO)
    with caplog.at_level(logging.DEBUG, "scardface.apdu"):
        exchanger.run(exchanger.prepare([command("00A4040C 0C" + AID), command("00A4000C 02 6F08"), command("00B0000008")]))
    assert AID in caplog.text
    assert KEY not in caplog.text
    assert "00B00000 Ne=8 -> <8 bytes> 9000" in caplog.text
