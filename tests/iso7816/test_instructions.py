"""Instructions in words and back."""

from __future__ import annotations

import pytest

from scardface import C_APDU
from scardface.iso7816._instructions import INSTRUCTION_BY_NAME, instruction_name, usual_ne


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("00A40000", "SELECT"),
        ("01B00000", "READ BINARY"),
        ("FFCA0000", "GET DATA"),
        ("FF820000", "LOAD KEYS"),
        ("FFA40000", ""),
        ("90600000", ""),
    ],
)
def test_a_command_has_a_name(command: str, name: str) -> None:
    assert instruction_name(C_APDU.fromhex(command)) == name


def test_of_two_the_even_one_is_typed() -> None:
    assert INSTRUCTION_BY_NAME["read-binary"] == 0xB0
    assert INSTRUCTION_BY_NAME["verify"] == 0x20
    assert all(name == name.lower() and " " not in name for name in INSTRUCTION_BY_NAME)


@pytest.mark.parametrize(
    ("header", "ne"),
    [
        ("00A40400", 256),
        ("00A40004", 256),
        ("00A4040C", 0),
        ("00A4000C", 0),
        ("00A4080E", 0),  # the last or next occurrence, and no response
        ("00200001", 0),
        ("00B00000", 256),
        ("002A9E9A", 256),
        ("002A00BE", 0),
        ("00700000", 1),
        ("00708001", 0),
        ("00860000", 256),
        ("FF860000", 0),
        ("FFB00004", 256),
    ],
)
def test_what_brings_an_answer_asks_for_one(header: str, ne: int) -> None:
    assert usual_ne(*bytes.fromhex(header)) == ne
