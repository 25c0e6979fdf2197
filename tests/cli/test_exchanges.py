"""How an exchange is shown, and what of it is not."""

from __future__ import annotations

import json

import pytest

from scardface import C_APDU, R_APDU
from scardface.cli._exchanges import data_objects, notation, print_exchange
from scardface.cli._options import OutputOptions
from scardface.cli._output import console

SELECT = C_APDU.fromhex("00A404000AF053434152444641434500")
FCI = bytes.fromhex("6F13820138830250 00840AF0534341524446414345".replace(" ", ""))
VERIFY = C_APDU.fromhex("002000010431323334")
DECIPHER = C_APDU.fromhex("002A808602AABB00")


def shown(
    capsys: pytest.CaptureFixture[str], command: C_APDU, response: bytes, *, as_json: bool = False, secrets: bool = False
) -> str:
    capsys.readouterr()
    print_exchange(OutputOptions(as_json, secrets), console(), "Reader \x1b[31m", command, R_APDU.from_bytes(response))
    return capsys.readouterr().out


def test_hex_text_tree_and_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, SELECT, FCI + b"\x90\x00") == (
        "> 00A40400 F0534341524446414345 Ne=256   SELECT\n"
        "  0000  6F 13 82 01 38 83 02 50 00 84 0A F0 53 43 41 52  o...8..P....SCAR\n"
        "  0010  44 46 41 43 45                                   DFACE\n"
        "6F file control information (FCI)\n"
        '├── 82 file descriptor: 38 "8"\n'
        "├── 83 file identifier: 50 00\n"
        "└── 84 DF name: F0 53 43 41 52 44 46 41 43 45\n"
        "< 9000 success\n"
    )


def test_no_data_no_name_bad_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, C_APDU(0x90, 0x60), b"\x6d\x00") == "> 90600000\n< 6D00 instruction not supported or invalid\n"


def test_a_missing_le_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    hint = "< 6700 wrong length (it has no Le; Ne=256 behind it asks for what there is)\n"
    assert shown(capsys, C_APDU(0x00, 0xB0, 0x81), b"\x67\x00").endswith(hint)
    for command in (C_APDU(0x00, 0xB0, 0x81, 0, b"", 3), C_APDU(0x00, 0x44), C_APDU(0x00, 0xA4, 0, 0, b"\x3f\0")):
        assert shown(capsys, command, b"\x67\x00").endswith("< 6700 wrong length\n")
    assert "Le" not in shown(capsys, C_APDU(0x00, 0xB0, 0x81), b"\x6a\x82")


def test_a_contactless_readers_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert "< 6300 authentication failed" in shown(capsys, C_APDU.fromhex("FF860000050100046000"), b"\x63\x00")


def test_damaged_and_empty_objects(capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(capsys, SELECT, bytes.fromhex("6F050403AABB CC 6F020401 5000 9000".replace(" ", "")))
    assert "6F file control information (FCI): 04 01 (a length of 1, and 0 bytes follow it)" in told
    assert "50 application label, empty" in told
    assert "04: AA BB CC" in told


@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_are_not_shown_unless_asked_for(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(capsys, VERIFY, b"\x63\xc2", as_json=as_json) + shown(capsys, DECIPHER, b"secret\x90\x00", as_json=as_json)
    assert "31323334" not in told
    assert "AABB" not in told
    assert "secret" not in told.replace("--show-secrets", "")
    assert b"secret".hex().upper() not in told.replace(" ", "")
    assert "00200001 <4 bytes>" in told
    asked = shown(capsys, VERIFY, b"\x63\xc2", as_json=as_json, secrets=True)
    asked += shown(capsys, DECIPHER, b"secret\x90\x00", as_json=as_json, secrets=True)
    assert "31323334" in asked
    assert "secret" in asked


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(shown(capsys, SELECT, FCI + b"\x90\x00", as_json=True)) == {
        "reader": "Reader \x1b[31m",
        "command": "00A40400 F0534341524446414345 Ne=256",
        "name": "SELECT",
        "data": FCI.hex().upper(),
        "length": 21,
        "text": None,
        "sw": "9000",
        "meaning": "success",
        "hidden": False,
        "tlv": [
            {
                "tag": "6F",
                "name": "file control information (FCI)",
                "children": [
                    {"tag": "82", "name": "file descriptor", "value": "38"},
                    {"tag": "83", "name": "file identifier", "value": "5000"},
                    {"tag": "84", "name": "DF name", "value": "F0534341524446414345"},
                ],
            }
        ],
    }
    hidden = json.loads(shown(capsys, DECIPHER, FCI + b"\x90\x00", as_json=True))
    assert (hidden["data"], hidden["length"], hidden["text"], hidden["hidden"], hidden["tlv"]) == (None, 21, None, True, [])
    assert json.loads(shown(capsys, C_APDU(0, 0xB0, le=256), b"Hi\x90\x00", as_json=True))["text"] == "Hi"


def test_notation_is_what_can_be_typed() -> None:
    assert notation(C_APDU(0, 0xA4, 0, 0, b"\x3f\x00", 256), hidden=False) == "00A40000 3F00 Ne=256"
    assert notation(VERIFY, hidden=True) == "00200001 <4 bytes>"


def test_most_bytes_are_no_data_objects() -> None:
    assert data_objects(b"Hello") == ()
    assert data_objects(b"\x01\x01\xaa") == ()
    assert len(data_objects(FCI)) == 1
