"""scardface.testing._file_card: commands as bytes, answers as bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import ATR, Protocol
from scardface.testing import DF, EF, FileCard

NAME = b"\xf0SCARDFACE"
VERIFY_1234 = "00 20 00 01 04 31 32 33 34"


def send(card: FileCard, command: str) -> str:
    return card.process(bytes.fromhex(command)).hex(" ").upper()


def folders() -> DF:
    """MF: 0001, 1000 (A0 00 01: 0011, 1100 (A0 00 02: 0111)), 2000 (B0: 0021), 3000 (A0 00 03), 4000."""
    inner = DF(0x1100, b"\xa0\x00\x02", [EF(0x0111, b"111")])
    first = DF(0x1000, b"\xa0\x00\x01", [EF(0x0011, b"11", sfi=7), inner])
    second = DF(0x2000, b"\xb0", [EF(0x0021, b"21")])
    return DF(0x3F00, files=[EF(0x0001, b"1"), first, second, DF(0x3000, b"\xa0\x00\x03"), DF(0x4000)])


@pytest.fixture
def card() -> FileCard:
    return FileCard()


@pytest.fixture
def t0() -> FileCard:
    return FileCard(protocol=Protocol.T0)


@pytest.mark.parametrize("protocol", [Protocol.T0, Protocol.T1])
def test_the_atr_declares_exactly_the_protocol(protocol: Protocol) -> None:
    atr = ATR(FileCard(protocol=protocol).atr)
    assert atr.is_well_formed
    assert atr.is_tck_right
    assert (atr.tck is None) == (protocol is Protocol.T0)
    assert atr.protocols == protocol
    assert atr.capabilities.extended_length == (protocol is Protocol.T1)
    assert not atr.capabilities.command_chaining
    assert atr.capabilities.logical_channels == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"protocol": Protocol.RAW},
        {"protocol": Protocol.T0 | Protocol.T1},
        {"tries": 0},
        {"tries": 16},
        {"mf": DF(0x3F01)},
    ],
)
def test_impossible_cards_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"protocol|tries|3F00"):
        FileCard(**arguments)


def test_the_pin_is_not_shown() -> None:
    assert "1234" not in repr(FileCard(pin=b"1234"))


# SELECT


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("00 A4 00 00 02 3F 00 00", "6F 07 82 01 38 83 02 3F 00 90 00"),
        ("00 A4 00 04 02 3F 00 00", "62 07 82 01 38 83 02 3F 00 90 00"),
        ("00 A4 00 0C 02 3F 00 00", "90 00"),
        ("00 A4 00 0C 02 3F 00", "90 00"),
        ("00 A4 00 00 02 3F 00", "90 00"),  # no Le: no data
        ("00 A4 00 00", "90 00"),
        ("00 A4 00 00 00", "6F 07 82 01 38 83 02 3F 00 90 00"),
        ("00 A4 00 00 02 3F 00 09", "6F 07 82 01 38 83 02 3F 00 90 00"),
        ("00 A4 00 00 02 3F 00 08", "6C 09"),
        ("00 A4 00 00 00 00 02 3F 00 00 00", "6F 07 82 01 38 83 02 3F 00 90 00"),
        ("00 A4 00 00 02 2F 00 00", "6F 0E 80 02 00 17 82 01 01 83 02 2F 00 88 01 F0 90 00"),
        ("00 A4 04 00 0A F0 53 43 41 52 44 46 41 43 45 00", "6F 13 82 01 38 83 02 50 00 84 0A F0 53 43 41 52 44 46 41 43 45 90 00"),
        ("00 A4 04 00 03 F0 53 43 00", "6F 13 82 01 38 83 02 50 00 84 0A F0 53 43 41 52 44 46 41 43 45 90 00"),
        ("00 A4 08 0C 04 50 00 00 01", "90 00"),
        ("00 A4 00 08 02 3F 00", "6A 86"),
        ("00 A4 00 10 02 3F 00", "6A 86"),
        ("00 A4 00 02 02 3F 00", "6A 86"),
        ("00 A4 04 01 01 F0", "6A 86"),
        ("00 A4 02 00 02 3F 00", "6A 86"),
        ("00 A4 00 00 01 3F", "67 00"),
        ("00 A4 08 00 03 50 00 00", "67 00"),
        ("00 A4 08 00", "67 00"),
        ("00 A4 00 00 02 7F FF", "6A 82"),
        ("00 A4 08 00 02 3F 00", "6A 82"),
        ("00 A4 08 00 04 2F 00 00 01", "6A 82"),  # through a file
        ("00 A4 04 00 02 F0 00", "6A 82"),
        ("00 A4 04 00 0B F0 53 43 41 52 44 46 41 43 45 00", "6A 82"),
    ],
)
def test_select(card: FileCard, command: str, answer: str) -> None:
    assert send(card, command) == answer


SELECT_INNER = "00 A4 04 0C 03 A0 00 02"
READ_ALL = "00 B0 00 00 00"


@pytest.mark.parametrize(
    ("before", "identifier", "status"),
    [
        ("00 A4 00 00", "10 00", "90 00"),
        ("00 A4 00 00", "11 00", "6A 82"),
        ("00 A4 00 00", "00 11", "6A 82"),
        ("00 A4 04 0C 03 A0 00 01", "00 11", "90 00"),
        ("00 A4 04 0C 03 A0 00 01", "11 00", "90 00"),
        ("00 A4 04 0C 03 A0 00 01", "20 00", "90 00"),
        ("00 A4 04 0C 03 A0 00 01", "00 01", "6A 82"),
        (SELECT_INNER, "11 00", "90 00"),
        (SELECT_INNER, "10 00", "90 00"),
        (SELECT_INNER, "3F 00", "90 00"),
        (SELECT_INNER, "20 00", "6A 82"),
    ],
)
def test_which_identifiers_are_in_reach(before: str, identifier: str, status: str) -> None:
    card = FileCard(folders())
    assert send(card, before) == "90 00"
    assert send(card, f"00 A4 00 0C 02 {identifier}") == status


def test_a_file_selected_by_path_brings_its_folder() -> None:
    card = FileCard(folders())
    assert send(card, "00 A4 08 0C 06 10 00 11 00 01 11") == "90 00"
    assert card.process(bytes.fromhex(READ_ALL)) == b"111\x90\x00"
    assert send(card, "00 A4 00 0C 02 11 00") == "90 00"


def test_a_folder_selected_has_no_current_file() -> None:
    card = FileCard(folders())
    assert send(card, "00 A4 08 0C 02 00 01") == "90 00"
    assert send(card, "00 A4 08 0C 02 10 00") == "90 00"
    assert send(card, READ_ALL) == "69 86"


def test_what_is_not_found_changes_nothing() -> None:
    card = FileCard(folders())
    send(card, "00 A4 08 0C 02 00 01")
    assert send(card, "00 A4 00 0C 02 7F FF") == "6A 82"
    assert card.process(bytes.fromhex(READ_ALL)) == b"1\x90\x00"


def test_names_that_begin_alike_come_one_after_the_other() -> None:
    card = FileCard(folders())
    assert "10 00" in send(card, "00 A4 04 00 01 A0 00")
    assert "11 00" in send(card, "00 A4 04 02 01 A0 00")
    assert "30 00" in send(card, "00 A4 04 02 01 A0 00")
    assert send(card, "00 A4 04 02 01 A0 00") == "6A 82"
    assert send(card, "00 A4 04 02 01 B0 00") == "6A 82"  # the current one is not called so
    assert "10 00" in send(card, "00 A4 04 00 00")  # any name


# READ BINARY and UPDATE BINARY


def content(card: FileCard, file_id: int) -> bytes:
    """What is in a file of the example application."""
    application = next(file for file in card.mf.files if isinstance(file, DF))
    return next(file.content for file in application.files if isinstance(file, EF) and file.file_id == file_id)


@pytest.fixture
def application(card: FileCard) -> FileCard:
    assert send(card, "00 A4 04 0C 01 F0") == "90 00"
    return card


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("00 B0 81 00 05", "48 65 6C 6C 6F 90 00"),
        ("00 B0 81 01 02", "65 6C 90 00"),
        ("00 B0 81 19 02", "2E 62 82"),
        ("00 B0 81 19 00", "2E 90 00"),
        ("00 B0 81 19 00 00 00", "2E 90 00"),
        ("00 B0 81 1A 00", "6B 00"),
        ("00 B0 81 00", "67 00"),
        ("00 B0 83 00 00", "69 82"),
        ("00 B0 84 00 00", "6A 82"),
        ("00 B0 C1 00 00", "6A 86"),
        ("00 B0 A1 00 00", "6A 86"),
        ("00 B0 00 00 00", "69 86"),
    ],
)
def test_read_binary(application: FileCard, command: str, answer: str) -> None:
    assert send(application, command) == answer


def test_a_short_identifier_selects(application: FileCard) -> None:
    send(application, "00 B0 82 00 01")
    assert send(application, "00 B0 01 FF 02") == "FF 00 90 00"


@given(st.integers(0, 1023), st.integers(1, 2000))
def test_reading_is_a_slice(offset: int, le: int) -> None:
    card = FileCard()
    send(card, "00 A4 08 0C 04 50 00 00 02")
    whole = content(card, 2)
    answer = card.process(b"\x00\xb0" + offset.to_bytes(2, "big") + b"\x00" + le.to_bytes(2, "big"))
    warned = offset + le > len(whole) and le != 256
    assert answer == whole[offset : offset + le] + (b"\x62\x82" if warned else b"\x90\x00")


def test_extended_length_reads_all_at_once(application: FileCard) -> None:
    assert application.process(bytes.fromhex("00 B0 82 00 00 00 00")) == content(application, 2) + b"\x90\x00"
    assert len(application.process(bytes.fromhex("00 B0 82 00 00"))) == 256 + 2


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("00 D6 81 00 01 4A", "90 00"),
        ("00 D6 81 19 01 21", "90 00"),
        ("00 D6 81 19 02 21 21", "6A 84"),
        ("00 D6 81 1A 01 21", "6B 00"),
        ("00 D6 81 00", "67 00"),
        ("00 D6 84 00 01 00", "6A 82"),
    ],
)
def test_update_binary(application: FileCard, command: str, status: str) -> None:
    before = content(application, 1)
    assert send(application, command.replace("D6 84", "D6 81")) == "69 82"
    assert send(application, VERIFY_1234) == "90 00"
    assert send(application, command) == status
    assert (content(application, 1) != before) == (status == "90 00")
    assert len(content(application, 1)) == len(before)


@given(st.integers(0, 1023), st.binary(min_size=1, max_size=1024))
def test_what_was_written_is_read(offset: int, data: bytes) -> None:
    card = FileCard()
    send(card, "00 A4 08 0C 04 50 00 00 02")
    send(card, VERIFY_1234)
    before = content(card, 2)
    extended = b"\x00\xd6" + offset.to_bytes(2, "big") + b"\x00" + len(data).to_bytes(2, "big") + data
    if offset + len(data) > len(before):
        assert card.process(extended) == b"\x6a\x84"
        assert content(card, 2) == before
    else:
        assert card.process(extended) == b"\x90\x00"
        assert content(card, 2) == before[:offset] + data + before[offset + len(data) :]


# VERIFY and GET CHALLENGE


def test_verify_opens_until_the_power_goes(application: FileCard) -> None:
    assert send(application, "00 20 00 01") == "63 C3"
    assert send(application, VERIFY_1234) == "90 00"
    assert send(application, "00 20 00 01") == "90 00"
    assert application.process(bytes.fromhex("00 B0 83 00 00")) == b"only after VERIFY\x90\x00"
    application.reset()
    assert not application.verified
    assert send(application, "00 20 00 01") == "63 C3"
    assert send(application, READ_ALL) == "69 86"


def test_the_retry_counter(card: FileCard) -> None:
    wrong = "00 20 00 01 04 30 30 30 30"
    assert send(card, wrong) == "63 C2"
    assert send(card, VERIFY_1234) == "90 00"
    assert card.tries == 3
    assert [send(card, wrong) for _ in range(4)] == ["63 C2", "63 C1", "63 C0", "69 83"]
    assert not card.verified
    assert send(card, VERIFY_1234) == "69 83"
    assert send(card, "00 20 00 01") == "69 83"
    card.power_on()
    assert send(card, VERIFY_1234) == "69 83"


def test_a_wrong_pin_ends_the_verification(card: FileCard) -> None:
    send(card, VERIFY_1234)
    assert send(card, "00 20 00 01 03 31 32 33") == "63 C2"
    assert not card.verified


@pytest.mark.parametrize(("command", "status"), [("00 20 01 01", "6A 86"), ("00 20 00 00", "6A 88"), ("00 20 00 81", "6A 88")])
def test_verify_knows_one_pin(card: FileCard, command: str, status: str) -> None:
    assert send(card, command) == status
    assert card.tries == 3


def test_get_challenge(card: FileCard) -> None:
    first, second = (card.process(bytes.fromhex("00 84 00 00 08")) for _ in range(2))
    assert len(first) == len(second) == 10
    assert first != second
    assert len(card.process(bytes.fromhex("00 84 00 00 00"))) == 258
    assert send(card, "00 84 00 00") == "67 00"
    assert send(card, "00 84 00 00 00 01 01") == "67 00"
    assert send(card, "00 84 01 00 08") == "6A 86"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("00 C0 00 00 00", "6D 00"),
        ("00 CA 00 00 00", "6D 00"),
        ("80 A4 00 00", "6E 00"),
        ("01 A4 00 00", "6E 00"),
        ("10 A4 00 00", "68 84"),
        ("00 A4 00", "67 00"),
        ("00 A4 00 00 02 3F", "67 00"),
    ],
)
def test_what_a_t1_card_does_not_know(card: FileCard, command: str, status: str) -> None:
    assert send(card, command) == status


# T=0


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("00 A4 00 00", "67 00"),  # case 1 has a P3
        ("00 A4 00 0C 00", "90 00"),
        ("00 A4 00 0C 02 3F 00", "90 00"),
        ("00 A4 00 00 02 3F 00 00", "67 00"),  # Lc and Le
        ("00 A4 00 00 02 3F", "67 00"),
        ("00 A4 00 00 02", "67 00"),
        ("00 A4 00 00 00 00 02 3F 00", "67 00"),  # extended
        ("00 B0 9E 00 00 00 00", "67 00"),
        ("00 B0 9E 00 00", "6C 17"),
        ("00 B0 9E 00 18", "6C 17"),
        ("00 84 01 00 08", "6A 86"),
        ("00 C0 00 00 00", "69 85"),
        ("80 C0 00 00 00", "6E 00"),
        ("00 20 00 01 00", "63 C3"),
        ("00 CA 00 00 00", "6D 00"),
        ("80 A4 00 00 00", "6E 00"),
    ],
)
def test_t0_is_strict(t0: FileCard, command: str, status: str) -> None:
    assert send(t0, command) == status


def test_t0_sends_as_much_as_p3_says(t0: FileCard) -> None:
    assert send(t0, "00 B0 9E 02 02") == "4F 0A 90 00"
    assert len(t0.process(bytes.fromhex("00 B0 9E 00 17"))) == 0x17 + 2
    send(t0, "00 A4 04 0C 01 F0")
    assert len(t0.process(bytes.fromhex("00 B0 82 00 00"))) == 256 + 2


SELECT_MF = "00 A4 00 00 02 3F 00"
FCI = "6F 07 82 01 38 83 02 3F 00"


def test_t0_answers_are_fetched(t0: FileCard) -> None:
    assert send(t0, SELECT_MF) == "61 09"
    assert send(t0, "00 C0 00 00 09") == f"{FCI} 90 00"
    assert send(t0, "00 C0 00 00 09") == "69 85"


def test_t0_answers_can_be_fetched_in_parts(t0: FileCard) -> None:
    send(t0, SELECT_MF)
    assert send(t0, "00 C0 00 00 02") == "6F 07 61 07"
    assert send(t0, "00 C0 00 00 08") == "6C 07"
    assert send(t0, "00 C0 00 00 07") == "82 01 38 83 02 3F 00 90 00"


@pytest.mark.parametrize(("p3", "answer"), [("00", "6C 09"), ("0A", "6C 09")])
def test_t0_get_response_is_told_the_length(t0: FileCard, p3: str, answer: str) -> None:
    send(t0, SELECT_MF)
    assert send(t0, f"00 C0 00 00 {p3}") == answer
    assert send(t0, "00 C0 00 00 09") == f"{FCI} 90 00"


@pytest.mark.parametrize(
    "between", ["00 B0 9E 00 01", "00 20 00 01 00", "00 CA 00 00 00", "00 A4", "00 C0 00 00 01 00", "80 C0 00 00 01"]
)
def test_t0_answers_are_lost_when_another_command_comes(t0: FileCard, between: str) -> None:
    send(t0, SELECT_MF)
    send(t0, between)
    assert send(t0, "00 C0 00 00 09") == "69 85"


def test_t0_answers_are_lost_with_the_power(t0: FileCard) -> None:
    send(t0, SELECT_MF)
    t0.power_on()
    assert send(t0, "00 C0 00 00 09") == "69 85"


def over_t0(card: FileCard, header: bytes, data: bytes, le: int) -> bytes:
    """One command as a reader brings it over T=0: case 4 in two steps, a wrong Le corrected once."""
    answer = card.process(header + bytes((len(data) if data else le & 0xFF,)) + data)
    if answer[-2] == 0x6C and not data:
        answer = card.process(header + answer[-1:])
    if answer[-2] == 0x61 and data:
        answer = card.process(b"\x00\xc0\x00\x00" + answer[-1:]) if le else b"\x90\x00"
    return answer


COMMANDS = st.one_of(
    st.tuples(
        st.sampled_from([b"\x00\xa4\x00\x00", b"\x00\xa4\x00\x04", b"\x00\xa4\x00\x0c", b"\x00\xa4\x04\x00", b"\x00\xa4\x08\x00"]),
        st.sampled_from([b"\x3f\x00", b"\x2f\x00", b"\x50\x00", b"\x50\x00\x00\x02", b"\xf0", b"\xf1", b"\x50"]),
        st.sampled_from([0, 256]),
    ),
    st.tuples(
        st.sampled_from([b"\x00\xb0\x00\x00", b"\x00\xb0\x81\x05", b"\x00\xb0\x83\x00", b"\x00\xb0\x02\x00"]),
        st.just(b""),
        st.just(256),
    ),
    st.tuples(st.just(b"\x00\xd6\x81\x00"), st.binary(min_size=1, max_size=30), st.just(0)),
    st.tuples(st.just(b"\x00\x20\x00\x01"), st.sampled_from([b"1234", b"0000"]), st.just(0)),
)


@given(st.lists(COMMANDS, max_size=8))
def test_both_protocols_tell_the_same(commands: list[tuple[bytes, bytes, int]]) -> None:
    one, nought = FileCard(), FileCard(protocol=Protocol.T0)
    for header, data, le in commands:
        whole = header + (bytes((len(data),)) + data if data else b"") + (bytes((le & 0xFF,)) if le else b"")
        assert over_t0(nought, header, data, le) == one.process(whole)


@given(
    st.sampled_from([Protocol.T0, Protocol.T1]),
    st.lists(st.one_of(st.binary(), st.binary(min_size=3, max_size=9).map(lambda b: b"\0" + b))),
)
def test_any_bytes_are_answered(protocol: Protocol, commands: list[bytes]) -> None:
    card = FileCard(protocol=protocol)
    for command in commands:
        answer = card.process(command)
        assert len(answer) >= 2
        assert len(answer) <= 2 + (256 if protocol is Protocol.T0 else 32768)
        assert answer[-2] in {0x61, 0x62, 0x63, 0x67, 0x68, 0x69, 0x6A, 0x6B, 0x6C, 0x6D, 0x6E, 0x90}
