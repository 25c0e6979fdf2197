"""Commands and responses: the seven encodings, against the JDK's javax.smartcardio; what is shown and what is not.

The tables under data/ come from OpenJDK 17 by data/CommandApduTables.java. It differs from the contract nowhere: every row counts.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface.iso7816._apdu import C_APDU, R_APDU, StatusError, redacted
from scardface.iso7816._secrets import may_carry_secret

DATA = Path(__file__).parents[1] / "data"
SELECT = C_APDU(0x00, 0xA4, 0x04, 0x00, bytes.fromhex("A000000308"), 256)
VERIFY = C_APDU(0x00, 0x20, 0x00, 0x81, b"1234")


def pattern(factor: int, start: int, size: int) -> bytes:
    period = bytes((i * factor + start) & 0xFF for i in range(0x100))
    return (period * (size // 0x100 + 1))[:size]


def fields(name: str, value: Any) -> dict[str, Any]:
    return {name: value}


def command_of(header: str, data: bytes, le: int) -> C_APDU:
    cla, ins, p1, p2 = bytes.fromhex(header)
    return C_APDU(cla, ins, p1, p2, data, le)


def rows(name: str) -> Iterator[tuple[list[str], list[str]]]:
    for line in (DATA / name).read_text("ascii").splitlines():
        if not line.startswith("#"):
            given_, _, expected = line.partition(" -> ")
            yield given_.split(), expected.split()


def test_encoding_agrees_with_the_jdk() -> None:
    count = 0
    for (header, nc, ne), (length, first, last, check) in rows("apdu_encode.txt"):
        size = int(nc)
        data = pattern(31, size, size)
        command = command_of(header, data, int(ne))
        encoded = bytes(command)
        found = len(encoded), encoded[:8].hex().upper(), encoded[-3:].hex().upper(), crc32(encoded)
        assert found == (int(length), first, last, int(check, 16)), (header, nc, ne)
        assert C_APDU.from_bytes(encoded) == command
        count += 1
    assert count == 1300


def test_decoding_agrees_with_the_jdk() -> None:
    count = refused = 0
    for shape, expected in rows("apdu_parse.txt"):
        length, *special, last_but_one, last = map(int, shape)
        text = bytearray(pattern(7, length, length))
        text[4:7] = bytes(special)[: max(0, length - 4)]
        if length > 8:
            text[-2:] = last_but_one, last
        try:
            command = C_APDU.from_bytes(text)
        except ValueError:
            found = ["refused"]
            refused += 1
        else:
            found = [str(len(command.data)), str(command.le), f"{crc32(command.data):08X}"]
            assert bytes((command.cla, command.ins, command.p1, command.p2)) == text[:4]
        assert found == expected, shape
        count += 1
    assert count == 4500
    assert 1000 < refused < 4000


@pytest.mark.parametrize(
    ("encoded", "nc", "ne"),
    [
        ("00A40000", 0, 0),
        ("00A4000000", 0, 256),
        ("00A40000FF", 0, 255),
        ("00A400000155", 1, 0),
        ("00A40000015500", 1, 256),
        ("00A40000000000", 0, 65536),
        ("00A40000000001", 0, 1),
        ("00A4000000000155", 1, 0),
        ("00A40000000001550000", 1, 65536),
        ("00A40000000001550100", 1, 256),
        ("ff a4 00 00", 0, 0),
    ],
)
def test_every_form_is_decoded(encoded: str, nc: int, ne: int) -> None:
    command = C_APDU.fromhex(encoded)
    assert (command.data, command.le) == (b"\x55" * nc, ne)


@pytest.mark.parametrize(
    "encoded",
    [
        *("", "00A400", "00A4000002AA", "00A4000001AABBCC"),
        *("00A400000000", "00A4000000000000", "00A40000000002AA", "00A40000000001AABB", "00A40000000001AABBCCDD", "00A40000zz"),
    ],
)
def test_malformed_commands_are_refused(encoded: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        C_APDU.fromhex(encoded)


def test_a_refusal_does_not_show_the_bytes() -> None:
    with pytest.raises(ValueError, match="malformed") as refusal:
        C_APDU.from_bytes(b"\x00\x20\x00\x81\x03secret")
    assert "secret" not in str(refusal.value)
    assert b"secret".hex() not in str(refusal.value).lower()


@given(
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=600),
    st.integers(0, 65536) | st.integers(0, 300),
)
def test_what_is_encoded_is_decoded(cla: int, ins: int, data: bytes, le: int) -> None:
    command = C_APDU(cla, ins, 1, 2, data, le)
    again = C_APDU.from_bytes(bytes(command))
    assert (again, hash(again), again.le, again.data) == (command, hash(command), le, data)


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(text: bytes) -> None:
    try:
        command = C_APDU.from_bytes(text)
    except ValueError:
        return
    assert len(bytes(command)) <= len(text)
    assert C_APDU.from_bytes(bytes(command)) == command


@pytest.mark.parametrize("name", ["cla", "ins", "p1", "p2"])
@pytest.mark.parametrize("value", [-1, 256])
def test_a_byte_out_of_range_is_named(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{name} "):
        C_APDU(**fields(name, value))


@pytest.mark.parametrize("value", [-1, 65537])
def test_le_out_of_range_is_named(value: int) -> None:
    with pytest.raises(ValueError, match=r"^le "):
        C_APDU(le=value)


def test_too_much_data_is_named() -> None:
    assert len(bytes(C_APDU(data=bytes(65535)))) == 65542
    with pytest.raises(ValueError, match=r"^data "):
        C_APDU(data=bytes(65536))


@pytest.mark.parametrize(("name", "value"), [("cla", "0"), ("le", 1.0), ("data", "1234"), ("data", 4), ("data", [1, 2])])
def test_wrong_kinds_are_named(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} "):
        C_APDU(**fields(name, value))


@pytest.mark.parametrize("kind", [C_APDU, R_APDU])
def test_only_bytes_are_decoded(kind: Any) -> None:
    with pytest.raises(TypeError, match="bytes"):
        kind.from_bytes("00A40000")


def test_bytes_like_data_is_copied() -> None:
    buffer = bytearray(b"ab")
    command, response = C_APDU(data=buffer), R_APDU(memoryview(buffer), 0x90, 0x00)
    buffer[0] = 0
    assert command.data == response.data == b"ab"
    assert type(command.data) is type(response.data) is bytes


def test_no_le_reads_0() -> None:
    assert C_APDU().le == C_APDU(le=None).le == C_APDU(le=0).le == 0
    assert C_APDU() == C_APDU(le=0)


@pytest.mark.parametrize("apdu", [SELECT, R_APDU(b"\x6f\x10", 0x90, 0x00, secret=True)])
def test_values_are_fixed_hashable_and_pickle(apdu: C_APDU | R_APDU) -> None:
    with pytest.raises(AttributeError, match="cannot be changed"):
        apdu.data = b""
    with pytest.raises(AttributeError, match="cannot be changed"):
        del apdu.data
    assert not hasattr(apdu, "__dict__")
    again = pickle.loads(pickle.dumps(apdu))
    assert (again, hash(again), repr(again)) == (apdu, hash(apdu), repr(apdu))
    assert {apdu: 1}[again] == 1


def test_equality_is_by_all_fields() -> None:
    others: dict[str, Any] = {"cla": 1, "ins": 1, "p1": 1, "p2": 1, "data": b"x", "le": 1}
    for name, value in others.items():
        assert C_APDU(**fields(name, value)) != C_APDU()
    assert C_APDU() != (0, 0, 0, 0, b"", 0)
    assert R_APDU(b"a", 0x90, 0x00) != b"a\x90\x00"
    assert R_APDU(b"a", 0x90, 0x00) != R_APDU(b"a", 0x90, 0x01)
    assert R_APDU(b"a", 0x90, 0x00) == R_APDU(b"a", 0x90, 0x00, secret=True)


def test_response_parts() -> None:
    response = R_APDU.from_bytes(b"\x6f\x10\x6a\x82")
    assert (response.data, response.sw1, response.sw2) == (b"\x6f\x10", 0x6A, 0x82)
    assert (response.sw, response.sw12, response.ashex()) == (0x6A82, b"\x6a\x82", "6F106A82")
    assert bytes(response) == b"\x6f\x10\x6a\x82"
    assert response.meaning == "file or application not found"
    assert not response.is_successful()
    assert not R_APDU(b"", 0x90, 0x01).is_successful()
    assert R_APDU(b"", 0x90, 0x00).is_successful()
    assert R_APDU.from_bytes(b"\xff\xff") == R_APDU(b"", 0xFF, 0xFF)


@pytest.mark.parametrize("text", [b"", b"\x90"])
def test_a_response_has_two_bytes(text: bytes) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        R_APDU.from_bytes(text)


@pytest.mark.parametrize(("name", "sw1", "sw2"), [("sw1", 256, 0), ("sw2", 0, -1)])
def test_response_fields_are_named(name: str, sw1: int, sw2: int) -> None:
    with pytest.raises(ValueError, match=rf"^{name} "):
        R_APDU(b"", sw1, sw2)


def test_check() -> None:
    good = R_APDU(b"", 0x90, 0x00)
    assert good.check() is good
    bad = R_APDU(b"data", 0x6A, 0x82)
    with pytest.raises(StatusError, match="6A82: file or application not found") as error:
        bad.check()
    assert error.value.response is bad
    assert not isinstance(error.value, OSError)
    again = pickle.loads(pickle.dumps(error.value))
    assert (again.response, str(again), type(again)) == (bad, str(error.value), StatusError)


def test_repr_can_be_read_back() -> None:
    for command in (SELECT, C_APDU(0xFF, 0xCA, 0, 0, b"", 256), C_APDU(0x00, 0x20)):
        assert eval(repr(command), {"C_APDU": C_APDU, "bytes": bytes}) == command
    assert repr(SELECT) == 'C_APDU(0x00, 0xA4, 0x04, 0x00, bytes.fromhex("A000000308"), 0x100)'
    response = R_APDU(b"\x6f", 0x90, 0x00)
    assert eval(repr(response), {"R_APDU": R_APDU, "bytes": bytes}) == response


def test_redaction() -> None:
    assert repr(VERIFY) == "C_APDU(0x00, 0x20, 0x00, 0x81, <4 bytes>, 0)"
    assert repr(R_APDU(b"1234", 0x90, 0x00, secret=True)) == "R_APDU(<4 bytes>, 0x90, 0x00)"
    assert redacted(VERIFY) == "00200081 <4 bytes>"
    assert redacted(SELECT) == "00A40400 A000000308 Ne=256"
    assert redacted(C_APDU(0, 0x20, 0, 0x81)) == "00200081"
    assert redacted(R_APDU(b"\x6f\x10", 0x90, 0x00)) == "6F10 9000"
    assert redacted(R_APDU(b"\x6f\x10", 0x90, 0x00, secret=True)) == "<2 bytes> 9000"
    assert redacted(R_APDU(b"", 0x63, 0xC2, secret=True)) == "63C2"


@pytest.mark.parametrize(
    "header",
    [
        *("00200081", "00210081", "00240081", "00250000", "002C0081", "002D0000", "00260081", "00280081"),  # PINs
        *("00820001", "00860000", "00870000", "00880000", "00890000"),  # authentication: cryptograms, session keys
        *("002A8086", "002B0000", "00480000"),  # what is deciphered, imported secrets
        *("00C20000", "00C00000"),  # ENVELOPE and GET RESPONSE carry any of these
        *("00D60000", "00D70000", "00DA0101", "00DB3FFF", "00DC0104", "00E20000"),  # what is written may be a key
        *("04A40400", "08B00000", "0CA40400", "0CB00000", "60A40400", "6FB00000"),  # secured messages
        *("10200081", "41200081", "5F2A8086"),  # in a chain, in channels
        *("A0200001", "A0240001", "A02C0000", "A0880000"),  # GSM: CHV, RUN GSM ALGORITHM
        *("80D80081", "84CA0066", "80E28800", "84820000"),  # GlobalPlatform: PUT KEY, secured messages, STORE DATA
        *("FF820000", "FF000000", "FFD60003", "FFC20001"),  # PC/SC part 3: LOAD KEYS, escapes, sector trailers, transparent
        *("90C40000", "90AF0000", "903D0000", "00010000", "00FFFFFF", "20A40000"),  # proprietary, unknown, reserved class
    ],
)
def test_what_may_carry_a_secret_is_not_shown(header: str) -> None:
    command = command_of(header, b"\xca\xfe\xba\xbe", 256)
    assert may_carry_secret(command)
    assert "CAFE" not in (repr(command) + redacted(command)).upper()
    assert header in redacted(command)


@pytest.mark.parametrize(
    "header",
    [
        *("00A40400", "01A4040C", "10A40400", "4FA40400", "00B00000", "03B00000", "00B2010C", "00CA0101", "00CB3FFF", "00840000"),
        *("00708000", "002241A6", "80CA0066", "80F24000", "A0A40000", "A0B00000", "FFCA0000", "FFB00004", "FF860000"),
    ],
)
def test_what_names_or_reads_is_shown(header: str) -> None:
    command = command_of(header, b"\xca\xfe\xba\xbe", 256)
    assert not may_carry_secret(command)
    assert "CAFEBABE" in repr(command)
    assert redacted(command) == f"{header} CAFEBABE Ne=256"
