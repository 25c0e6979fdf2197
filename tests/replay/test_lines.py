"""The text of a cassette: what is written is read, what is edited by hand is understood, what is damaged is named by its line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import C_APDU, R_APDU, Protocol
from scardface.replay._lines import MalformedLineError, exchange_lines, head_lines, parse
from scardface.replay._tape import Exchange, Raw, Sent

HEAD = ["scardface cassette 1", "atr 3B800181", "protocol T1"]


def parsed(*lines: str) -> tuple[bytes, Protocol, tuple[Exchange, ...]]:
    return parse(list(enumerate(lines, 1)))


def damage_of(*lines: str) -> MalformedLineError | None:
    try:
        parsed(*lines)
    except MalformedLineError as damage:
        return damage
    return None


def only(line: str) -> Exchange:
    (exchange,) = parsed(*HEAD, line)[2]
    return exchange


def test_the_format_is_as_documented() -> None:
    select = C_APDU(0x00, 0xA4, 0x04, 0x00, bytes.fromhex("A000000308"), 256)
    exchanges: list[Exchange] = [
        Sent(select, R_APDU(b"\x6f\x10", 0x90, 0x00)),
        Sent(C_APDU(0x00, 0x20, 0x00, 0x01), R_APDU(b"", 0x63, 0xC2), hides_data=True),
        Sent(C_APDU(0x0C, 0xB0, 0x00, 0x00, b"", 256), R_APDU(bytes(16), 0x90, 0x00), hides_data=True, hides_response=True),
        Sent(C_APDU(0x00, 0x70, 0x80, 0x01), R_APDU(b"", 0x90, 0x00)),
        Raw(bytes.fromhex("00C0000010"), bytes.fromhex("6F109000")),
        Raw(bytes.fromhex("00870000"), bytes(4) + b"\x61\x10", hides_data=True, hides_response=True),
    ]
    assert head_lines(bytes.fromhex("3B800181"), Protocol.T1) == HEAD
    assert exchange_lines(exchanges) == [
        "00A40400 A000000308 Ne=256 -> 6F10 9000",
        "00200001 <secret> -> 63C2",
        "0CB00000 <secret> Ne=256 -> <16 bytes> 9000",
        "00708001 -> 9000",
        "raw 00C0000010 -> 6F10 9000",
        "raw 00870000 <secret> -> <4 bytes> 6110",
    ]


octet = st.integers(0, 255)
responses = st.builds(R_APDU, st.binary(max_size=300), octet, octet)
shown = st.builds(Sent, st.builds(C_APDU, octet, octet, octet, octet, st.binary(max_size=300), st.integers(0, 65536)), responses)
hidden = st.builds(
    lambda command, sw, size: Sent(command, R_APDU(bytes(size), 0x90, sw), True, size > 0),
    st.builds(C_APDU, octet, octet, octet, octet, le=st.integers(0, 65536)),
    octet,
    st.integers(0, 70000),
)
raw = st.builds(Raw, st.binary(min_size=4, max_size=300), st.binary(min_size=2, max_size=300))
hidden_raw = st.builds(
    lambda command, size: Raw(command, bytes(size) + b"\x90\x00", True, size > 0), st.binary(min_size=4, max_size=4), octet
)
protocols = st.sampled_from([Protocol.T0, Protocol.T1, Protocol.RAW])


@given(st.binary(max_size=33), protocols, st.lists(st.one_of(shown, hidden, raw, hidden_raw), max_size=5))
def test_what_is_written_is_read(atr: bytes, protocol: Protocol, exchanges: list[Any]) -> None:
    lines = [*head_lines(atr, protocol), *exchange_lines(exchanges)]
    read_atr, read_protocol, read = parsed(*lines)
    assert (read_atr, read_protocol) == (atr, protocol)
    for line, (before, after) in enumerate(zip(exchanges, read, strict=True), 4):
        assert after.line == line
        assert {**vars(after), "line": 0} == vars(before)


def test_a_card_without_a_protocol_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="T=0 or T=1"):
        head_lines(b"", Protocol.UNDEFINED)


def test_edited_by_hand() -> None:
    atr, protocol, exchanges = parsed(
        "",
        "# An example.",
        "scardface cassette 1   # the version of the format",
        "protocol T0",
        "atr 3b 80 01 81",
        "",
        "  00 a4 04 00  a0 00 00 00 03 08  Ne=256->6f 10 90 00   # SELECT",
        "00 20 00 01 <secret> -> 90 00",
        "\traw\t00 C0 00 00 10 -> 6F10 90 00",
        "Ne=4 00840000 -> 01020304 9000",
    )
    assert (atr, protocol) == (bytes.fromhex("3B800181"), Protocol.T0)
    assert exchange_lines(exchanges) == [
        "00A40400 A00000000308 Ne=256 -> 6F10 9000",
        "00200001 <secret> -> 9000",
        "raw 00C0000010 -> 6F10 9000",
        "00840000 Ne=4 -> 01020304 9000",
    ]
    assert [each.line for each in exchanges] == [7, 8, 9, 10]


def test_a_card_that_is_mute_has_no_atr() -> None:
    assert head_lines(b"", Protocol.T1) == ["scardface cassette 1", "atr", "protocol T1"]
    assert parsed("scardface cassette 1", "atr", "protocol T1") == (b"", Protocol.T1, ())


def test_secrecy_of_a_response_is_the_commands() -> None:
    assert "0A0B" not in repr(only("00DA0000 01 Ne=2 -> 0A0B 9000"))
    proprietary, reading = only("00DA0000 01 Ne=2 -> 0A0B 9000"), only("00B00000 Ne=2 -> 0A0B 9000")
    assert isinstance(proprietary, Sent)
    assert isinstance(reading, Sent)
    assert proprietary.response.secret
    assert not reading.response.secret


DAMAGED = [
    ([], 1, "the first line of a cassette is 'scardface cassette 1'"),
    (["# nothing else"], 1, "the first line of a cassette is 'scardface cassette 1'"),
    (["scardface casette 1", *HEAD[1:]], 1, "the first line of a cassette is 'scardface cassette 1'"),
    (["scardface cassette one", *HEAD[1:]], 1, "the first line of a cassette is 'scardface cassette 1'"),
    (["scardface cassette 2", *HEAD[1:]], 1, "version 2 of the format is not known here, 1 is"),
    ([*HEAD[:2]], 2, "there is no line 'protocol'"),
    ([HEAD[0], HEAD[2], "00B00000 -> 9000"], 3, "there is no line 'atr'"),
    ([HEAD[0]], 1, "there is no line 'atr'"),
    ([*HEAD, HEAD[1]], 4, "'atr' stands once, before the first exchange"),
    ([*HEAD, "00B00000 -> 9000", HEAD[2]], 5, "'protocol' stands once, before the first exchange"),
    ([HEAD[0], "atr 3B8", HEAD[2]], 2, "the ATR: not pairs of hexadecimal digits"),
    ([HEAD[0], "atr " + 34 * "00", HEAD[2]], 2, "an ATR has at most 33 bytes"),
    ([*HEAD[:2], "protocol T=1"], 3, "the protocol is one of T0, T1, RAW"),
    ([*HEAD[:2], "protocol"], 3, "the protocol is one of T0, T1, RAW"),
    ([*HEAD, "00B00000 9000"], 4, "an exchange is a command, '->' and a response"),
    ([*HEAD, "00B00000 -> 9000 -> 9000"], 4, "an exchange is a command, '->' and a response"),
    ([*HEAD, "00B0000 -> 9000"], 4, "the command: not pairs of hexadecimal digits"),
    ([*HEAD, "00B00000 <secrets> -> 9000"], 4, "the command: not pairs of hexadecimal digits"),
    ([*HEAD, "00B000 -> 9000"], 4, "a command begins with four bytes"),
    ([*HEAD, "-> 9000"], 4, "a command begins with four bytes"),
    ([*HEAD, "00B00000 01 <secret> -> 9000"], 4, "a command begins with four bytes"),
    ([*HEAD, "00B00000 Ne=x -> 9000"], 4, "Ne is written once, as a number of bytes: Ne=256"),
    ([*HEAD, "00B00000 Ne=1 Ne=1 -> 9000"], 4, "Ne is written once"),
    ([*HEAD, f"00B00000 Ne={5000 * '1'} -> 9000"], 4, "Ne is written once"),
    ([*HEAD, "00B00000 Ne=65537 -> 9000"], 4, "le is 0 to 65536"),
    ([*HEAD, f"00B00000 {65536 * '00'} -> 9000"], 4, "data"),
    ([*HEAD, "raw 00B00000 Ne=1 -> 9000"], 4, "a raw command has no Ne"),
    ([*HEAD, "raw 00B000 -> 9000"], 4, "a command begins with four bytes"),
    ([*HEAD, "00B00000 ->"], 4, "a response ends with a status word of two bytes"),
    ([*HEAD, "00B00000 -> 90"], 4, "a response ends with a status word of two bytes"),
    ([*HEAD, "00B00000 -> <4 bytes>"], 4, "a response ends with a status word of two bytes"),
    ([*HEAD, "00B00000 -> <4 bytes> 01 9000"], 4, "a response ends with a status word of two bytes"),
    ([*HEAD, "00B00000 -> <many bytes> 9000"], 4, "the response: not pairs of hexadecimal digits"),
    ([*HEAD, "00B00000 -> <999999 bytes> 9000"], 4, "the response: not pairs of hexadecimal digits"),
    ([*HEAD, "00B00000 -> 9G00"], 4, "the response: not pairs of hexadecimal digits"),
    ([*HEAD, "and so on"], 4, "an exchange is a command, '->' and a response"),
]


@pytest.mark.parametrize(("lines", "number", "words"), DAMAGED)
def test_damage_is_named_by_its_line(lines: list[str], number: int, words: str) -> None:
    with pytest.raises(MalformedLineError) as raised:
        parsed(*lines)
    assert words in str(raised.value)
    assert raised.value.line == number


@given(st.lists(st.text(alphabet="raw0123ABCg<>-=# Ne\tsecret", max_size=30), max_size=4))
def test_rubbish_is_damage_and_nothing_worse(lines: list[str]) -> None:
    damage = damage_of(*HEAD, *lines)
    if damage is not None:
        assert 4 <= damage.line <= 3 + len(lines)
        assert not [line for line in lines if len(line) > 12 and line in str(damage)]
