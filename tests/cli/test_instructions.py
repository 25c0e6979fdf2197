"""Instructions in words and back."""

from __future__ import annotations

import pytest

from scardface import C_APDU
from scardface.cli._instructions import TYPED, name_of, usual_ne


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
    assert name_of(C_APDU.fromhex(command)) == name


def test_of_two_the_even_one_is_typed() -> None:
    assert TYPED["read-binary"] == 0xB0
    assert TYPED["verify"] == 0x20
    assert all(name == name.lower() and " " not in name for name in TYPED)


def test_what_brings_an_answer_asks_for_one() -> None:
    assert usual_ne(TYPED["select"]) == 256
    assert usual_ne(TYPED["verify"]) == 0
