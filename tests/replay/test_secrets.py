"""What is hidden in a cassette, and what is not."""

from __future__ import annotations

import pytest

from scardface import C_APDU
from scardface.iso7816 import _secrets
from scardface.replay import carries_secret, may_carry_secret

HIDDEN = {
    "VERIFY": "00200001 04 31323334",
    "VERIFY with a data object": "00210001 05 5F2E02AABB",
    "VERIFY, GSM": "A0200001 08 31323334FFFFFFFF",
    "VERIFY, in a chain": "10200001 04 31323334",
    "VERIFY, in channel 5": "41200001 04 31323334",
    "CHANGE REFERENCE DATA": "00240001 08 3132333435363738",
    "CHANGE REFERENCE DATA with a data object": "00250001 08 3132333435363738",
    "DISABLE VERIFICATION REQUIREMENT": "00260001 04 31323334",
    "ENABLE VERIFICATION REQUIREMENT": "00280001 04 31323334",
    "RESET RETRY COUNTER": "002C0001 08 3132333435363738",
    "RESET RETRY COUNTER with a data object": "002D0001 08 3132333435363738",
    "EXTERNAL AUTHENTICATE": "00820001 08 0102030405060708",
    "MUTUAL AUTHENTICATE": "00820001 08 0102030405060708 08",
    "EXTERNAL AUTHENTICATE, GlobalPlatform": "84820100 10 000102030405060708090A0B0C0D0E0F",
    "GENERAL AUTHENTICATE": "0087039B 04 7C028000 00",
    "GENERAL AUTHENTICATE, even": "0086039B 04 7C028000 00",
    "ENVELOPE": "00C20000 05 0020000104",
    "ENVELOPE with a data object": "00C30000 05 0020000104",
    "PUT KEY": "80D80181 03 010203",
    "LOAD KEYS": "FF820000 06 FFFFFFFFFFFF",
    "UPDATE BINARY of a reader's, perhaps of a sector trailer": "FFD60003 04 FFFFFFFF",
    "a PIN by pseudo-APDU": "FFC20106 03 010203",
    "secured": "0CB00000 03 970100 00",
    "secured in its own way": "04A40400 02 3F00",
    "secured in channel 4": "60B00000 03 970100 00",
    "secured, GlobalPlatform": "84F28000 0A 4F0001020304050607AA",
    "secured, GlobalPlatform, in channel 4": "E0F28000 0A 4F0001020304050607AA",
}

SHOWN = {
    "SELECT": "00A40400 05 A000000308 00",
    "READ BINARY": "00B00000 00",
    "READ BINARY in a chain, in channel 19": "5FB00000 00",
    "UPDATE BINARY": "00D60000 02 AABB",
    "PUT DATA": "00DA0101 02 AABB",
    "UPDATE RECORD; D8 is PUT KEY in other classes only": "00D80101 02 AABB",
    "GET CHALLENGE": "00840000 08",
    "INTERNAL AUTHENTICATE": "00880000 08 0102030405060708 00",
    "GET RESPONSE": "00C00000 10",
    "GET DATA, GlobalPlatform": "80CA9F7F 00",
    "INITIALIZE UPDATE, GlobalPlatform": "80500000 08 0102030405060708 00",
    "DESFire": "905A0000 03 000000 00",
    "Calypso": "94B20104 00",
    "SELECT, GSM": "A0A40000 02 3F00",
    "GET DATA (UID)": "FFCA0000 00",
    "GENERAL AUTHENTICATE of PC/SC part 3: by a key's number": "FF860000 05 0100046000",
    "D8 of a reader's": "FFD80000 02 AABB",
}


def command(text: str) -> C_APDU:
    return C_APDU.fromhex(text)


@pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN)
def test_hidden(text: str) -> None:
    assert carries_secret(command(text))


@pytest.mark.parametrize("text", SHOWN.values(), ids=SHOWN)
def test_shown(text: str) -> None:
    assert not carries_secret(command(text))


@pytest.mark.parametrize("cla", range(256))
def test_a_pin_is_hidden_in_every_class(cla: int) -> None:
    assert all(carries_secret(C_APDU(cla, ins, 0, 1, b"1234")) for ins in (0x20, 0x21, 0x24, 0x25, 0x2C, 0x2D, 0x82, 0x87, 0xC2))


def test_the_other_rule_is_the_traces() -> None:
    every = [C_APDU(cla, ins) for cla in range(256) for ins in range(256)]
    assert [may_carry_secret(each) for each in every] == [_secrets.may_carry_secret(each) for each in every]
    assert may_carry_secret(command(SHOWN["UPDATE BINARY"]))
    assert not may_carry_secret(command(SHOWN["SELECT"]))
