"""scardface.testing._scp03_card: its own answers, byte by byte. What goes through a channel is in tests/test_scp03.py."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scardface import Protocol, scp03
from scardface.errors import pip_install
from scardface.testing import FileCard, Scp03Card, VirtualCard

KEYS = scp03.Keys(bytes(16), bytes(16))
SELECT_MF = "00 A4 00 00 02 3F 00 00"
INITIALIZE_UPDATE = "80 50 00 00 08 00 01 02 03 04 05 06 07 00"


def send(card: VirtualCard, command: str) -> str:
    return card.process(bytes.fromhex(command)).hex(" ").upper()


@pytest.fixture
def card() -> Scp03Card:
    return Scp03Card(FileCard(), KEYS)


@pytest.mark.parametrize(
    "arguments", [{"key_version": 0}, {"key_version": 256}, {"i": 0x72}, {"i": 0x40}, {"diversification_data": bytes(9)}]
)
def test_impossible_cards_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"key_version|i is|diversification_data"):
        Scp03Card(FileCard(), KEYS, **arguments)


def test_outside_of_a_session_it_is_the_card_inside(card: Scp03Card) -> None:
    assert card.atr == FileCard().atr
    assert send(card, SELECT_MF) == send(FileCard(), SELECT_MF)
    assert send(card, "00 44 00 00") == "6D 00"
    assert send(card, "FF CA 00 00 00") == send(FileCard(), "FF CA 00 00 00")
    assert send(card, "00 A4 00") == "67 00"
    assert send(card, "84 F2 00 00 08 00 00 00 00 00 00 00 00") == "69 82"
    assert send(card, "84 F2 00 00 09 00 00 00 00 00 00 00 00") == "67 00"
    assert card.level == 0


@pytest.mark.parametrize(("i", "length"), [(0x00, 29), (0x10, 32), (0x01, 45), (0x11, 48), (0x71, 48)])
def test_initialize_update(i: int, length: int) -> None:
    card = Scp03Card(FileCard(), KEYS, i=i, key_version=0x7F, diversification_data=b"0123456789")
    size = 16 if i & 1 else 8
    answers = [card.process(bytes((0x80, 0x50, 0, 0, size, *range(size), 0))) for _ in range(2)]
    assert [len(answer) for answer in answers] == [length + 2] * 2
    assert answers[0].startswith(b"0123456789\x7f\x03" + bytes((i,)))
    assert (answers[0] == answers[1]) == bool(i & 0x10)
    assert card.process(bytes((0x80, 0x50, 1, 0, size, *range(size), 0))) == b"\x6a\x88"
    assert card.process(bytes((0x80, 0x50, 0, 0, size + 1, *range(size + 1), 0))) == b"\x67\x00"


def test_a_wrong_host_cryptogram(card: Scp03Card) -> None:
    """With the right MAC."""
    answer = scp03.parse_initialize_update(card.process(bytes.fromhex(INITIALIZE_UPDATE))[:-2], 8)
    mac = scp03.derive(bytes(16), scp03.S_MAC, 16, bytes(range(8)) + answer.challenge)
    body = bytes.fromhex("8482010010") + bytes(8)
    assert card.process(body + scp03.cmac(mac, bytes(16), body)[:8]) == b"\x63\x00"
    assert card.sequence_counter == 0
    assert card.process(body + scp03.cmac(mac, bytes(16), body)[:8]) == b"\x69\x82"


@pytest.mark.parametrize(("level", "i"), [(0x00, 0x70), (0x02, 0x70), (0x31, 0x70), (0x11, 0x10), (0x33, 0x30)])
def test_levels_that_there_are_not(level: int, i: int) -> None:
    card = Scp03Card(FileCard(), KEYS, i=i)
    answer = scp03.parse_initialize_update(card.process(bytes.fromhex(INITIALIZE_UPDATE))[:-2], 8)
    session = scp03.SCP03(KEYS, level, bytes(range(8)), answer.challenge)
    assert card.process(bytes(session.external_authenticate())) == b"\x6a\x86"
    assert card.level == 0


def test_another_command_than_external_authenticate(card: Scp03Card) -> None:
    answer = scp03.parse_initialize_update(card.process(bytes.fromhex(INITIALIZE_UPDATE))[:-2], 8)
    session = scp03.SCP03(KEYS, 0x01, bytes(range(8)), answer.challenge)
    assert card.process(bytes(session.wrap(scp03.C_APDU(0x80, 0xF2)))) == b"\x69\x82"
    assert card.process(bytes(session.external_authenticate())) == b"\x69\x82"


def opened(card: Scp03Card) -> scp03.SCP03:
    answer = scp03.parse_initialize_update(card.process(bytes.fromhex(INITIALIZE_UPDATE))[:-2], 8)
    session = scp03.SCP03(KEYS, 0x03, bytes(range(8)), answer.challenge)
    assert card.process(bytes(session.external_authenticate())) == b"\x90\x00"
    return session


@pytest.mark.parametrize("plain", [b"\x00" * 16, b"123", b"\x80" + b"1" * 15])
def test_what_is_encrypted_wrongly(card: Scp03Card, plain: bytes) -> None:
    """With the right MAC."""
    session = opened(card)
    data = plain if len(plain) % 16 else scp03.encrypt(session._enc, session._icv(1), plain)
    body = bytes((0x84, 0xE2, 0, 0, len(data) + 8)) + data
    assert card.process(body + scp03.cmac(session._mac, session._chaining, body)[:8]) == b"\x69\x82"
    assert card.level == 0


@pytest.mark.parametrize("end", ["power_on", "power_off", "reset"])
def test_what_takes_the_power_away_ends_the_session(card: Scp03Card, end: str) -> None:
    opened(card)
    assert card.level == 3
    assert send(card, SELECT_MF) == "69 82"
    getattr(card, end)()
    assert card.level == 0
    assert send(card, SELECT_MF)[-5:] == "90 00"


def test_logical_channels(card: Scp03Card) -> None:
    assert send(card, "00 70 00 00 01") == "01 90 00"
    assert send(card, "00 70 00 03") == "90 00"
    assert send(card, "00 70 00 03") == "6A 81"
    assert send(card, "00 70 00 00 01") == "02 90 00"
    assert send(card, "00 70 00 14") == "6A 86"
    assert send(card, "00 70 40 00") == "6A 86"
    assert send(card, "00 70 80 04") == "6A 86"
    assert send(card, "01 A4 00 00 02 3F 00 00")[-5:] == "90 00"
    assert send(card, "40 A4 00 00 02 3F 00 00")[-5:] == "90 00"
    opened(card)
    assert send(card, SELECT_MF) == "69 82"
    assert send(card, "01 A4 00 00 02 3F 00 00")[-5:] == "90 00"
    for number in (1, 2, 3):
        assert send(card, f"00 70 80 0{number}") == "90 00"


def test_get_response_asks_for_what_there_is() -> None:
    card = Scp03Card(FileCard(protocol=Protocol.T0), KEYS)
    assert send(card, INITIALIZE_UPDATE[:-3]) == "61 20"
    assert send(card, "00 C0 00 00 21") == "6C 20"
    assert send(card, "00 C0 00 00 0A") == "00 " * 10 + "61 16"
    assert send(card, "00 C0 00 00 16")[-5:] == "90 00"
    assert send(card, "00 C0 00 00 16") == send(FileCard(protocol=Protocol.T0), "00 C0 00 00 16")
    assert send(card, INITIALIZE_UPDATE[:-3]) == "61 20"
    assert send(card, "00 A4 00 0C 02 3F 00") == "90 00"
    assert send(card, "00 C0 00 00 20") == "69 85"  # the command in between has discarded it
    assert send(card, "00 70 00 00 02") == "6C 01"
    assert send(card, "00 70 00 00 01") == "02 90 00"


@settings(deadline=None)
@given(
    protocol=st.sampled_from((Protocol.T0, Protocol.T1)),
    commands=st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=40),
            st.builds(
                lambda head, rest: bytes.fromhex(head) + rest,
                st.sampled_from(("8050", "8482", "84B0", "0070", "94E2")),
                st.binary(),
            ),
        ),
        max_size=5,
    ),
)
@example(protocol=Protocol.T0, commands=[b"\x14\x00\x00\x00\x01\x00"])
def test_it_answers_whatever_comes(protocol: Protocol, commands: list[bytes]) -> None:
    card = Scp03Card(FileCard(protocol=protocol), KEYS)
    for command in commands:
        assert len(card.process(command)) >= 2
    assert card.level == 0
    update = bytes.fromhex(INITIALIZE_UPDATE)[: None if protocol is Protocol.T1 else -1]
    card.process(update)  # may be taken for the end of a chain that one of them has begun
    assert card.process(update)[-2] in (0x90, 0x61)


def test_it_can_be_named_without_the_extra() -> None:
    program = (
        "import sys\nsys.modules['cryptography'] = None\nfrom scardface.testing import FileCard, Scp03Card\n"
        "try:\n    Scp03Card(FileCard(), None)\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"SCP03 needs the package cryptography: {pip_install('scp')}\n"
