"""Commands as people write them; above all, that no PIN is sent in a wrong place."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import C_APDU
from scardface.cli._apdu_text import ApduTextError, lines, needs_pin, parse, pieces
from scardface.cli._exchanges import notation


def pin() -> bytes:
    return b"1234"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("00A40000", C_APDU(0x00, 0xA4)),
        ("00A40000023F00", C_APDU(0x00, 0xA4, 0, 0, b"\x3f\x00")),
        ("00 a4 00 00 02 3f 00 00", C_APDU(0x00, 0xA4, 0, 0, b"\x3f\x00", 256)),
        ("00:A4:00:00:02:3F:00", C_APDU(0x00, 0xA4, 0, 0, b"\x3f\x00")),
        ("00B08100 Ne=65536", C_APDU(0x00, 0xB0, 0x81, 0, b"", 65536)),
        ("00A40000 3F00 Ne=256", C_APDU(0x00, 0xA4, 0, 0, b"\x3f\x00", 256)),
        ("00A40000 3F 00 Ne=0", C_APDU(0x00, 0xA4, 0, 0, b"\x3f\x00")),
        ("00A40400 F0534341524446414345", C_APDU(0x00, 0xA4, 4, 0, b"\xf0SCARDFACE")),
        ("00:a4:04:00 f0:53:43", C_APDU(0x00, 0xA4, 4, 0, b"\xf0SC")),
        ("00A40000 0001", C_APDU(0x00, 0xA4, 0, 0, b"\0\1")),
        ("00D60000 " + "41" * 300, C_APDU(0x00, 0xD6, 0, 0, b"A" * 300)),
        ("00A40000 023F00", C_APDU(0x00, 0xA4, 0, 0, b"\x3f\x00")),  # an encoding goes before
        ("00A40000 10", C_APDU(0x00, 0xA4, 0, 0, b"", 16)),
        ("00A40000 0431323334 Ne=0", C_APDU(0x00, 0xA4, 0, 0, b"\x041234")),
        ("00200001 31323334 Ne=0", C_APDU(0x00, 0x20, 0, 1, b"1234")),
        ("select 04 00 A000000308", C_APDU(0x00, 0xA4, 4, 0, bytes.fromhex("A000000308"), 256)),
        ("SELECT 0400 A000000308 Ne=0", C_APDU(0x00, 0xA4, 4, 0, bytes.fromhex("A000000308"))),
        ("80 get-data 9F 7F", C_APDU(0x80, 0xCA, 0x9F, 0x7F, b"", 256)),
        ("select 04 0C", C_APDU(0x00, 0xA4, 4, 0x0C)),
        ("select 040C A000000308", C_APDU(0x00, 0xA4, 4, 0x0C, bytes.fromhex("A000000308"))),
        ("select 04 0C A000000308 Ne=256", C_APDU(0x00, 0xA4, 4, 0x0C, bytes.fromhex("A000000308"), 256)),
        ("manage-channel", C_APDU(0x00, 0x70, 0, 0, b"", 1)),
        ("get-challenge Ne=8", C_APDU(0x00, 0x84, 0, 0, b"", 8)),
        ("verify 00 01 PIN", C_APDU(0x00, 0x20, 0, 1, b"1234")),
        ("00200001 PIN", C_APDU(0x00, 0x20, 0, 1, b"1234")),
        ("00 20 00 01 PIN", C_APDU(0x00, 0x20, 0, 1, b"1234")),
        ("0020000104PIN", C_APDU(0x00, 0x20, 0, 1, b"1234")),
        ("00200080PIN:8", C_APDU(0x00, 0x20, 0, 0x80, b"1234\xff\xff\xff\xff")),
        ("00200080 PIN FFFF", C_APDU(0x00, 0x20, 0, 0x80, b"1234\xff\xff")),
        ("0020000106 PIN FFFF", C_APDU(0x00, 0x20, 0, 1, b"1234\xff\xff")),
    ],
)
def test_what_is_meant(text: str, command: C_APDU) -> None:
    assert parse(text, pin) == command


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lengths do not fit"),
        ("00A4", "lengths do not fit"),
        ("00A4000", "one of them is missing"),
        ("hello", "a command is hexadecimal digits"),
        ("00A40000 0x3F", "a command is hexadecimal digits"),
        ("00A4000003 3F00", "lengths do not fit"),
        ("00A40000023F00 Ne=256", "a header that stands apart"),
        ("00 A4 00 00 Ne=256", "a header that stands apart"),
        ("00B08100 Ne=65537", "le is 0 to 65536"),
        ("select 04", "P1 and P2"),
        ("8000 select 04 00", "its class, one byte"),
        ("00200001 PIN PIN", "once"),
        ("00A40000 Ne=1 Ne=2", "a command is hexadecimal digits"),
        ("0020000104 04 PIN", "right behind the header"),
        ("0020000108 PIN", "right behind the header"),
        ("002000 PIN", "right behind the header"),
        ("PIN", "right behind the header"),
        ("00200001 PIN:3", "more than 3 bytes"),
        ("verify 00 01 05 PIN", "right behind the header"),
    ],
)
def test_what_is_no_command(text: str, words: str) -> None:
    with pytest.raises(ApduTextError, match=words):
        parse(text, pin)


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("00D68100 0541424344", "Ne= has to say so: '00A40000 3F00 Ne=0'"),  # one byte is missing, or the length is wrong
        ("00D68100 0541424344454647", "Ne= has to say so"),  # two too many, besides Le
        ("00D68100 05 41424344", "Ne= has to say so"),
        ("00D68100 F0 41 42", "Ne= has to say so"),
        ("00200001 31323334", "the word PIN, which is asked for: '00200001 PIN', or has Ne=0"),
        ("00240000 3132333435363738", "the word PIN"),
        ("0C200001 31323334", "the word PIN"),  # secure messaging: not known
    ],
)
def test_data_apart_that_may_be_a_length_or_a_secret_need_ne(text: str, way: str) -> None:
    with pytest.raises(ApduTextError, match="lengths do not fit") as failed:
        parse(text)
    assert way in str(failed.value)
    assert parse(f"{text} Ne=0").data


@given(st.builds(C_APDU, *[st.integers(0, 255)] * 4, st.binary(max_size=300), st.sampled_from((0, 0, 1, 256, 65536))))
def test_what_is_printed_is_read_back(command: C_APDU) -> None:
    assert parse(notation(command, False)) == command


def test_ne_is_printed_where_it_is_needed() -> None:
    assert notation(C_APDU(0x00, 0xA4, 4, 0, b"\xf0SCARDFACE"), False) == "00A40400 F0534341524446414345"
    assert notation(C_APDU(0x00, 0xA4, 0, 0, b"\2\x3f\0"), False) == "00A40000 023F00 Ne=0"
    assert notation(C_APDU(0x00, 0x20, 0, 1, b"1234"), True) == "00200001 <4 bytes>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slect 04 00 A000000308", "'slect' is no command's name; did you mean 'select'?"),
        ("80 getdata 9F 7F", "'getdata' is no command's name; did you mean 'get-data'"),
        ("read 00 00", "did you mean 'read-binary' or 'read-record'?"),
        ("READ_BINARY", "'READ_BIN...' is no command's name; did you mean 'read-binary'"),
        ("chanel", "did you mean 'channel'?"),
        ("select 04 00 F0SCARD", "'F0SCARD' is wrong: a command is hexadecimal digits"),
        ("select 0x04 00", "'0x04' is wrong: "),
        ("00A40400 F0 SC", "'SC' is wrong: "),
        ("00A40400 F053 434", "'434' is wrong: a byte is two"),
        ("00A40400 Ne=x", "'Ne=x' is wrong: "),
    ],
)
def test_the_piece_that_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(ApduTextError, match=f"^.*{re.escape(words)}"):
        parse(text, own=["channel"])


@pytest.mark.parametrize(
    "text",
    [
        "00200001 12x4",
        "verify 00 01 12x4",
        "verify 12x4",
        "verify 00 01 123",
        "00200001 PIN 12x4",
        "00 20 00 01 12x4",
        "0 20 00 01 12x4",
        "00240000 3132 12x4",
        "80200001 12x4",
        "00D60000 12x4",
        "0CA40000 12x4",
        "12x4",
        "00 12x4",
        "00A40000 PIN 12x4",
    ],
)
def test_no_error_names_what_may_be_a_pin(text: str) -> None:
    with pytest.raises(ApduTextError) as failed:
        parse(text, pin)
    assert not re.search("12x4|123|3132", str(failed.value))


@pytest.mark.parametrize("text", ["verify9", "00A4 9x", "00A40000 9x"])
def test_nothing_is_named_where_all_may_be_a_pin(text: str) -> None:
    with pytest.raises(ApduTextError, match="'"):
        parse(text)
    with pytest.raises(ApduTextError, match=r"^a command is hexadecimal digits"):
        parse(text, may_be_pin=True)


def test_without_somebody_to_ask_there_is_no_pin() -> None:
    assert needs_pin("00200001 PIN")
    assert not needs_pin("00200001")
    with pytest.raises(ApduTextError, match="--pin-prompt"):
        parse("00200001 PIN")


@pytest.mark.parametrize("text", ["00200001 31323334", "0020000105 31323334", "0020000131323334", "00200001 3132333"])
def test_no_error_repeats_a_pin(text: str) -> None:
    with pytest.raises(ApduTextError) as failed:
        parse(text)
    assert not re.search(r"31|32|49|1234", str(failed.value))


def test_no_error_repeats_what_was_asked_for() -> None:
    for text in ("0020000109 PIN", "00200001 PIN:2"):
        with pytest.raises(ApduTextError) as failed:
            parse(text, pin)
        assert "1234" not in str(failed.value)
        assert "4 bytes" not in str(failed.value)


@given(st.text(max_size=60))
def test_any_text_is_a_command_or_refused(text: str) -> None:
    with contextlib.suppress(ApduTextError):
        assert isinstance(parse(text, pin), C_APDU)


@given(
    st.builds(
        C_APDU,
        *[st.integers(0, 255)] * 4,
        st.binary(max_size=300),
        st.integers(0, 65536),
    )
)
def test_what_is_encoded_is_read(command: C_APDU) -> None:
    assert parse(bytes(command).hex()) == command
    header = bytes((command.cla, command.ins, command.p1, command.p2)).hex()
    assert parse(f"{header} {command.data.hex()} Ne={command.le}") == command


def test_scripts_have_comments() -> None:
    assert lines("# head\n\n00A40000 # first\r\n  00B00000  \n#\n") == [(3, "00A40000"), (4, "00B00000")]


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ((), ()),
        (("00A40000", "00B0000000"), ("00A40000", "00B0000000")),
        (("00", "A4", "00", "00"), ("00 A4 00 00",)),
        (("select", "04", "00", "A000000308"), ("select 04 00 A000000308",)),
        (("00A40000", "3F00", "Ne=256"), ("00A40000 3F00 Ne=256",)),
        (("select 00 00", "00B0000000"), ("select 00 00", "00B0000000")),
        (("00", "20", "00", "01", "PIN"), ("00 20 00 01 PIN",)),
        (("select", "0400", "A0", "00", "00", "03", "08", "Ne=0"), ("select 0400 A0 00 00 03 08 Ne=0",)),
        (("80", "get-data", "9F", "7F"), ("80 get-data 9F 7F",)),
        (("00", "20", "00", "01", "04", "PIN"), ("00 20 00 01 04 PIN",)),
        (("00200001", "PIN"), ("00200001 PIN",)),
        (("0020000104", "PIN"), ("0020000104 PIN",)),
        (("00200080", "PIN", "FFFF"), ("00200080 PIN FFFF",)),
        (("0020000104PIN", "00B0000000"), ("0020000104PIN", "00B0000000")),
        (("00A4000002", "3F00", "Ne=256"), ("00A4000002", "3F00", "Ne=256")),
        (("00200080", "PIN:8"), ("00200080 PIN:8",)),
        (("verify", "00", "01", "PIN"), ("verify 00 01 PIN",)),
        (("00A40000", "3F", "00", "Ne=256"), ("00A40000 3F 00 Ne=256",)),
        (("00B08100", "Ne=16"), ("00B08100 Ne=16",)),
        (("select", "get-challenge", "00B0000000"), ("select", "get-challenge", "00B0000000")),
        (("00A4", "00A40000023F00"), ("00A4", "00A40000023F00")),
        (("00A40000023F00", "00A4"), ("00A40000023F00", "00A4")),
        (("00A40000", "3F00"), ("00A40000", "3F00")),
        (("00A4000002", "3F00"), ("00A4000002", "3F00")),
        (("00A4", "0000023F00"), ("00A4", "0000023F00")),
        (("00", "A4", "00A40000"), ("00", "A4", "00A40000")),
        (("00A4", "3F00", "Ne=256"), ("00A4", "3F00", "Ne=256")),
    ],
)
def test_words_of_a_command_line(words: tuple[str, ...], texts: tuple[str, ...]) -> None:
    assert pieces(words) == texts


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("select", "04", "00", "A000000308", "00B0810000"), "'00B08100...'"),
        (("select", "00B0810000", "00A4"), "'00A4'"),
        (("00A40000", "3F00", "00B08100", "Ne=256"), "'00B08100'"),
        (("80", "get-data", "9F", "7F", "00", "B0810000"), "'B0810000'"),
    ],
)
def test_two_commands_are_never_made_one(words: tuple[str, ...], named: str) -> None:
    with pytest.raises(ApduTextError, match=r"stands behind a command of several words") as failed:
        pieces(words)
    assert str(failed.value).startswith(named)
