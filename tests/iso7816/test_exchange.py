"""The exchange, with bytes alone: a card written from the standard, worked examples, hostile cards, options."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, cycle, islice, repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scardface import errors
from scardface._enums import Lengths, Protocol
from scardface.errors import CardCommunicationError, CardRemovedError, SCardError
from scardface.iso7816._apdu import C_APDU, R_APDU
from scardface.iso7816._atr import ATR
from scardface.iso7816._exchange import CardTraits, ExchangeOptions, exchange, resolve_lengths, run_steps, single_step_encoder
from scardface.iso7816._tpdu import encode_t0, response_class

T0, T1 = Protocol.T0, Protocol.T1
AUTO, EXTENDED, CHAINING, ENVELOPE, SHORT = Lengths.AUTO, Lengths.EXTENDED, Lengths.CHAINING, Lengths.ENVELOPE, Lengths.SHORT
SELECT = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xa0\x01", 256)
READ = C_APDU(0x00, 0xB0, 0x00, 0x00, b"", 256)


def run(
    card: Callable[[bytes], bytes],
    command: C_APDU,
    protocol: Protocol,
    lengths: Lengths = AUTO,
    options: ExchangeOptions | None = None,
) -> R_APDU:
    steps = exchange(command, protocol, lengths, options or ExchangeOptions())
    tpdu = next(steps)
    while True:
        try:
            tpdu = steps.send(card(tpdu))
        except StopIteration as end:
            response: R_APDU = end.value
            return response


PERIOD = bytes((i // 251 + i) & 0xFF for i in range(66000))


def pattern(size: int, start: int = 0) -> bytes:
    return PERIOD[start : start + size]


# A card of the standard -----------------------------------------------------------------------------------------------------------


class Card:
    """One application of a card, strict, from ISO/IEC 7816-3:2006, 12 and 7816-4:2020, 5: whatever it is asked, it does once, and
    has `content` to say to it.

    It says it in answers of `most` bytes, the rest by GET RESPONSE; ends it with `status`; if `insists`, it wants to be asked for
    exactly what it will send next, otherwise for that or less. It takes long commands in the one way that `takes` names.
    """

    def __init__(self, protocol: Protocol, content: bytes, *, most: int, status: int, insists: bool, takes: Lengths) -> None:
        self.protocol = protocol
        self.content = content
        self.most = most
        self.status = status.to_bytes(2, "big")
        self.insists = insists
        self.takes = takes
        self.done: list[tuple[int, int, int, int, bytes]] = []
        self.rest: bytes | None = None
        self.parts = b""
        self.envelopes = b""

    def __call__(self, text: bytes) -> bytes:
        header, data, ne = self.read(text)
        cla, ins, p1, p2 = header
        if ins == 0xC0 and not data:
            assert (p1, p2) == (0, 0)
            return self.say(self.rest, ne) if self.rest is not None else b"\x69\x85"
        self.rest = None
        if ins == 0xC2 and self.takes is ENVELOPE:
            assert (p1, p2) == (0, 0)
            self.envelopes += data
            if len(data) == 255:
                return b"\x90\x00"
            header, data, ne = self.read_t1(self.envelopes)
            self.envelopes = b""
            return self.act(header, data, None)
        if cla & 0x10 and self.takes is CHAINING:
            assert len(data) == 255, "each part but the last is full"
            assert self.protocol == T0 or not ne, "and has no Le"
            self.parts += data
            return b"\x90\x00"
        data, self.parts = self.parts + data, b""
        return self.act(header, data, ne)

    def read(self, text: bytes) -> tuple[bytes, bytes, int | None]:
        if self.protocol == T1:
            assert len(text) <= 261 or self.takes is EXTENDED
            return self.read_t1(text)
        header, p3, data = text[:4], text[4], text[5:]
        if data:
            assert len(data) == p3
            return header, data, None
        return header, b"", p3 or 256

    def read_t1(self, text: bytes) -> tuple[bytes, bytes, int | None]:
        header, body = text[:4], text[4:]
        if not body:
            return header, b"", None
        if len(body) == 1:
            return header, b"", body[0] or 256
        if body[0]:
            data, le = body[1 : 1 + body[0]], body[1 + body[0] :]
            assert len(data) == body[0]
            assert len(le) <= 1
            return header, data, (le[0] or 256) if le else None
        assert self.takes is not CHAINING, "extended length to a card that has none"
        if len(body) == 3:
            return header, b"", int.from_bytes(body[1:], "big") or 65536
        nc = int.from_bytes(body[1:3], "big")
        data, le = body[3 : 3 + nc], body[3 + nc :]
        assert len(data) == nc > 0
        assert len(le) in (0, 2)
        return header, data, (int.from_bytes(le, "big") or 65536) if le else None

    def act(self, header: bytes, data: bytes, ne: int | None) -> bytes:
        cla, ins, p1, p2 = header
        answer = self.say(self.content, ne)
        if answer[0] != 0x6C or len(answer) > 2:  # that would be a command aborted
            self.done.append((cla, ins, p1, p2, data))
        return answer

    def say(self, content: bytes, ne: int | None) -> bytes:
        if not content:
            return self.status
        if ne is None:
            self.rest = content
            return self.more()
        offer = min(len(content), self.most)
        # T=0 has no way to send less than was asked for; on T=1 only a card that insists minds.
        is_refused = self.insists or (ne > offer and self.protocol == T0)
        if is_refused and ne != offer <= 256:
            return bytes((0x6C, offer & 0xFF))
        now = content[: min(offer, ne)]
        self.rest = content[len(now) :]
        return now + (self.more() if self.rest else self.status)

    def more(self) -> bytes:
        assert self.rest
        return bytes((0x61, min(len(self.rest), self.most, 256) & 0xFF))


sizes = st.sampled_from([0, 1, 2, 5, 254, 255, 256, 257, 509, 510, 511, 512]) | st.integers(0, 1500)
long_sizes = st.integers(0, 65535) | st.sampled_from([65535, 65534, 65279, 503, 505, 248, 250, 758])


@dataclass(frozen=True)
class Situation:
    protocol: Protocol
    takes: Lengths
    cla: int
    ins: int
    nc: int
    ne: int
    size: int
    most: int
    insists: bool
    status: int
    lengths: Lengths


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    protocol = draw(st.sampled_from([T0, T1]))
    takes = draw(st.sampled_from([CHAINING, ENVELOPE] if protocol == T0 else [CHAINING, EXTENDED]))
    auto = takes in (ENVELOPE, EXTENDED) and draw(st.booleans())
    classes = [0x00, 0x01, 0x0C, 0x4F] if auto and protocol == T0 else [0x00, 0x01, 0x0C, 0x80, 0xA0, 0x4F, 0xC3]
    size = draw(sizes | long_sizes)
    shortest = size // 3000 + 1  # fewer bytes at a time, and the bound on steps ends it
    return Situation(
        protocol=protocol,
        takes=takes,
        cla=draw(st.sampled_from(classes)),
        ins=draw(st.sampled_from([0xA4, 0xB0, 0x20, 0xCA, 0x00, 0xFE])),
        nc=draw(sizes | long_sizes),
        ne=draw(st.sampled_from([0, 1, 2, 255, 256, 257, 511, 512, 1000, 65535, 65536]) | st.integers(0, 700)),
        size=size,
        most=draw(st.sampled_from([shortest, 255, 256, 256 if protocol == T0 else 65536]) | st.integers(shortest, 256)),
        insists=draw(st.booleans()),
        status=draw(st.sampled_from([0x9000, 0x6282, 0x9101])),
        lengths=AUTO if auto else takes,
    )


@pytest.mark.slow
@settings(max_examples=1000, derandomize=True)
@given(situations())
def test_everything_arrives_whole_and_once(case: Situation) -> None:
    data, content = pattern(case.nc), pattern(case.size, 77)
    card = Card(case.protocol, content, most=case.most, status=case.status, insists=case.insists, takes=case.takes)
    response = run(card, C_APDU(case.cla, case.ins, 1, 2, data, case.ne), case.protocol, case.lengths)
    assert card.done == [(case.cla, case.ins, 1, 2, data)]
    ne = case.ne
    all_there_is = ne in (0, 65536) or (ne == 256 and (case.nc <= 255 or case.lengths is CHAINING))
    if all_there_is or case.size <= ne:
        assert response == R_APDU.from_bytes(content + card.status)
    else:
        assert response.data == content[:ne]
        # 9000, unless the card would send all or nothing and so said its last word.
        assert response.sw12 == b"\x90\x00" or (case.insists and response.sw12 == card.status)


@pytest.mark.parametrize("ins", [0xA4, 0x20])
@pytest.mark.parametrize(
    ("protocol", "takes"), [(T0, CHAINING), (T0, ENVELOPE), (T1, CHAINING), (T1, EXTENDED)], ids=lambda value: value.name
)
def test_60000_bytes_there_and_32767_back(protocol: Protocol, takes: Lengths, ins: int) -> None:
    card = Card(protocol, pattern(32767), most=255, status=0x9000, insists=False, takes=takes)
    command = C_APDU(0x00, ins, 0, 0, pattern(60000, 5), 65536)
    assert run(card, command, protocol, takes) == R_APDU(pattern(32767), 0x90, 0x00)
    assert card.done == [(0x00, ins, 0, 0, command.data)]


# Worked examples ------------------------------------------------------------------------------------------------------------------


class Script:
    """A card that expects these commands, and answers each with what stands beside it."""

    def __init__(self, *lines: tuple[str, str]) -> None:
        self.lines = [(bytes.fromhex(command), bytes.fromhex(answer)) for command, answer in lines]

    def __call__(self, text: bytes) -> bytes:
        assert self.lines, f"one more: {text.hex()}"
        expected, answer = self.lines.pop(0)
        assert text.hex() == expected.hex()
        return answer

    def play(
        self, command: str | C_APDU, protocol: Protocol, lengths: Lengths = AUTO, options: ExchangeOptions | None = None
    ) -> str:
        apdu = command if isinstance(command, C_APDU) else C_APDU.fromhex(command)
        response = run(self, apdu, protocol, lengths, options)
        assert not self.lines, f"{len(self.lines)} answers were not asked for"
        return response.ashex()


EXAMPLES = {
    # EMV 4.3 Book 1, annex A: exchanges by T=0. The line's commands; what the caller gets.
    "case 1": ("00440000", [("0044000000", "9000")], "9000"),
    "case 2": ("00B0000003", [("00B0000003", "AABBCC9000")], "AABBCC9000"),
    "case 3": ("00D6000002AABB", [("00D6000002AABB", "9000")], "9000"),
    "case 4": ("00A4040002AABB00", [("00A4040002AABB", "6103"), ("00C0000003", "CCDDEE9000")], "CCDDEE9000"),
    "case 2, 6C": ("00B0000000", [("00B0000000", "6C03"), ("00B0000003", "AABBCC9000")], "AABBCC9000"),
    "case 2, 6C then 61": (
        "00B0000000",
        [("00B0000000", "6C03"), ("00B0000003", "AA6102"), ("00C0000002", "BBCC9000")],
        "AABBCC9000",
    ),
    "case 2, 61 at once": ("00B0000000", [("00B0000000", "6102"), ("00C0000002", "BBCC9000")], "BBCC9000"),
    "case 4, 61 then 6C": (
        "00A4040002AABB00",
        [("00A4040002AABB", "6110"), ("00C0000010", "6C03"), ("00C0000003", "CCDDEE9000")],
        "CCDDEE9000",
    ),
    "case 4, partial 61": (
        "00A4040002AABB00",
        [("00A4040002AABB", "6102"), ("00C0000002", "CCDD6101"), ("00C0000001", "EE9000")],
        "CCDDEE9000",
    ),
    "6C in the midst of collecting": (
        "00A4040002AABB00",
        [("00A4040002AABB", "6102"), ("00C0000002", "CCDD6105"), ("00C0000005", "6C01"), ("00C0000001", "EE9000")],
        "CCDDEE9000",
    ),
    "61 00 is 256": ("00A4040002AABB00", [("00A4040002AABB", "6100"), ("00C0000000", "00" * 256 + "9000")], "00" * 256 + "9000"),
    "6C 00 is 256": ("00B0000004", [("00B0000004", "6C00"), ("00B0000000", "11" * 256 + "9000")], "11" * 4 + "9000"),
    "late error after data": ("00A4040002AABB00", [("00A4040002AABB", "6102"), ("00C0000002", "CC6F00")], "CC6F00"),
    "late error, no more data": (
        "00A4040002AABB00",
        [("00A4040002AABB", "6102"), ("00C0000002", "CCDD6102"), ("00C0000002", "6581")],
        "CCDD6581",
    ),
    "warning with data": ("00B0000003", [("00B0000003", "AABB6282")], "AABB6282"),
    "warning with data, fetched": ("00A4040002AABB00", [("00A4040002AABB", "6102"), ("00C0000002", "CCDD6282")], "CCDD6282"),
    "error": ("00A4040002AABB00", [("00A4040002AABB", "6A82")], "6A82"),
    "case 4, nothing to say": ("00A4040002AABB00", [("00A4040002AABB", "9000")], "9000"),
    "case 1 to a card that has data": ("00440000", [("0044000000", "6C02"), ("0044000002", "AABB9000")], "AABB9000"),
    "case 3 to a card that has data": ("00D6000002AABB", [("00D6000002AABB", "6101"), ("00C0000001", "CC9000")], "CC9000"),
    "Ne ends it": (
        "00A4040002AABB03",
        [("00A4040002AABB", "6102"), ("00C0000002", "CCDD6109"), ("00C0000001", "EE6108")],
        "CCDDEE9000",
    ),
    "no more than is missing": ("00A4040002AABB03", [("00A4040002AABB", "6100"), ("00C0000003", "CCDDEE6100")], "CCDDEE9000"),
    "Ne reached at once": ("00B0000002", [("00B0000002", "AABB6107")], "AABB9000"),
    "the first Ne bytes are kept": (
        "00A4040002AABB02",
        [("00A4040002AABB", "6104"), ("00C0000002", "6C04"), ("00C0000004", "CCDDEEFF9000")],
        "CCDD9000",
    ),
    "Ne over 256, short": (
        "00B00000000101",
        [("00B0000000", "22" * 256 + "6103"), ("00C0000001", "336102")],
        "22" * 256 + "339000",
    ),
    "Ne over 256, less there": ("00B000000003E8", [("00B0000000", "6C02"), ("00B0000002", "AABB9000")], "AABB9000"),
}  # fmt: skip


@pytest.mark.parametrize(("command", "lines", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_worked_examples_on_t0(command: str, lines: list[tuple[str, str]], expected: str) -> None:
    assert Script(*lines).play(command, T0) == expected


@pytest.mark.parametrize(("command", "lines", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_the_same_answers_on_t1(command: str, lines: list[tuple[str, str]], expected: str) -> None:
    # The lines are T=0's; on T=1 the caller's command goes out with the Le it has, or the one that 6Cxx asked for.
    apdu = C_APDU.fromhex(command)
    lines = list(lines)
    for number, (line, answer) in enumerate(lines):
        if line[2:4] == "C0":
            break
        le = apdu.le if number == 0 else int(line[8:10], 16) or 256
        lines[number] = bytes(C_APDU(apdu.cla, apdu.ins, apdu.p1, apdu.p2, apdu.data, min(le, 256))).hex(), answer
    assert Script(*lines).play(command, T1, SHORT) == expected


def test_t1_passes_commands_as_they_are() -> None:
    assert Script(("00A4040002AABB00", "CC9000")).play("00A4040002AABB00", T1) == "CC9000"
    assert Script(("00B00000000400", "AA9000")).play("00B00000000400", T1, EXTENDED) == "AA9000"
    assert Script(("00B00000000000", "6C02"), ("00B0000002", "AABB9000")).play("00B00000000000", T1, EXTENDED) == "AABB9000"
    assert Script(("80D60000" + "02AABB", "6C01"), ("80D60000" + "02AABB01", "CC9000")).play("80D6000002AABB", T1) == "CC9000"


@pytest.mark.parametrize("protocol", [T1, Protocol.RAW, Protocol.UNDEFINED])
def test_what_took_one_step_is_left_as_it_came(protocol: Protocol) -> None:
    assert Script(("FFCA000004", "AABBCCDDEEFF779000")).play("FFCA000004", protocol) == "AABBCCDDEEFF779000"


def test_ne_256_in_an_extended_le_is_256() -> None:
    data = "00" * 256
    command = "00CB3FFF" + "000100" + data + "0100"
    script = Script((command, "11" * 256 + "6108"))
    assert script.play(command, T1, EXTENDED) == "11" * 256 + "9000"
    chained = Script(("10CB3FFFFF" + "00" * 255, "9000"), ("00CB3FFF010000", "11" * 256 + "6101"), ("00C0000001", "229000"))
    assert chained.play(command, T1, CHAINING) == "11" * 256 + "229000"


def test_ne_256_in_a_short_le_is_all_there_is() -> None:
    command = "00CB3FFFFF" + "00" * 255 + "00"
    lines = (command, "11" * 256 + "6101"), ("00C0000001", "22" + "9000")
    assert Script(*lines).play(command, T1, EXTENDED) == "11" * 256 + "229000"


def test_ne_65536_is_all_there_is_and_65535_is_not() -> None:
    lines = ("00B00000000000", "11" * 65536 + "6101"), ("00C0000001", "229000")
    assert Script(*lines).play("00B00000000000", T1) == "11" * 65536 + "229000"
    assert Script(("00B0000000FFFF", "11" * 65535 + "6101")).play("00B0000000FFFF", T1) == "11" * 65535 + "9000"


@pytest.mark.parametrize(("protocol", "last"), [(T0, "00DB3FFF2D"), (T1, "00DB3FFF2D")])
def test_command_chaining(protocol: Protocol, last: str) -> None:
    command = C_APDU(0x00, 0xDB, 0x3F, 0xFF, b"\x11" * 300)
    script = Script(("10DB3FFFFF" + "11" * 255, "9000"), (last + "11" * 45, "9000"))
    assert script.play(command, protocol, CHAINING) == "9000"


def test_chaining_is_by_full_parts() -> None:
    command = C_APDU(0x04, 0xDB, 0x3F, 0xFF, b"\x11" * 510, 256)
    parts = ("14DB3FFFFF" + "11" * 255, "9000"), ("04DB3FFFFF" + "11" * 255 + "00", "AA9000")
    assert Script(*parts).play(command, T1, CHAINING) == "AA9000"


@pytest.mark.parametrize("answer", ["6884", "6A80", "6C10", "6110", "AA9001"])
def test_a_chain_ends_with_a_part_that_is_not_answered_9000(answer: str) -> None:
    command = C_APDU(0x00, 0xDB, 0x3F, 0xFF, b"\x11" * 600)
    assert Script(("10DB3FFFFF" + "11" * 255, answer)).play(command, T1, CHAINING) == answer
    assert Script(("00C20000FF" + bytes(command)[:255].hex(), answer)).play(command, T0, ENVELOPE) == answer


def test_a_chain_whose_end_is_answered_6c_goes_out_whole_again() -> None:
    first = "10DB3FFFFF" + "11" * 255
    script = Script((first, "9000"), ("00DB3FFF011100", "6C02"), (first, "9000"), ("00DB3FFF011102", "AABB9000"))
    assert script.play(C_APDU(0x00, 0xDB, 0x3F, 0xFF, b"\x11" * 256, 256), T1, CHAINING) == "AABB9000"


@pytest.mark.parametrize("nc", [503, 248, 249, 247])
def test_envelope(nc: int) -> None:
    nc = nc if nc > 255 else nc + 510
    command = C_APDU(0x01, 0xDB, 0x3F, 0xFF, pattern(nc))
    encoded = bytes(command)
    assert encoded[4] == 0
    parts = [encoded[at : at + 255] for at in range(0, len(encoded), 255)]
    if len(parts[-1]) == 255:
        parts.append(b"")
    lines = [("01C20000" + bytes((len(part),)).hex() + part.hex(), "9000") for part in parts]
    lines[-1] = lines[-1][0], "6101"
    assert Script(*lines, ("01C0000001", "AA9000")).play(command, T0) == "AA9000"


def test_a_full_last_envelope_is_followed_by_an_empty_one() -> None:
    command = C_APDU(0x00, 0xDB, 0x3F, 0xFF, bytes(503))
    assert len(bytes(command)) == 510
    encoded = bytes(command).hex()
    lines = ("00C20000FF" + encoded[:510], "9000"), ("00C20000FF" + encoded[510:], "9000"), ("00C2000000", "9000")
    assert Script(*lines).play(command, T0, ENVELOPE) == "9000"


# Lengths --------------------------------------------------------------------------------------------------------------------------

LONG = C_APDU(0x00, 0xDB, 0x3F, 0xFF, bytes(256))


@pytest.mark.parametrize(
    ("command", "protocol", "lengths", "words"),
    [
        (LONG, T0, EXTENDED, "T=0 has no extended length.*ENVELOPE"),
        (READ, T0, EXTENDED, "T=0 has no extended length"),
        (LONG, T1, ENVELOPE, "ENVELOPE.*T=0 only.*EXTENDED"),
        (READ, T1, ENVELOPE, "ENVELOPE"),
        (LONG, T0, SHORT, "256 bytes.*SHORT"),
        (LONG, T1, SHORT, "256 bytes.*SHORT"),
        (C_APDU(0x10, 0xDB, data=bytes(256)), T1, CHAINING, "class 10.*bit 5.*parts"),
        (C_APDU(0xFF, 0xD6, data=bytes(256)), T1, CHAINING, "class FF.*bit 5.*EXTENDED"),
        (C_APDU(0x90, 0x3D, data=bytes(256)), T0, CHAINING, "class 90.*bit 5"),
    ],
)
def test_what_cannot_go_is_refused_before_anything_is_sent(
    command: C_APDU, protocol: Protocol, lengths: Lengths, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        exchange(command, protocol, lengths)


@pytest.mark.parametrize("lengths", [CHAINING, SHORT])
def test_short_commands_of_any_class_go(lengths: Lengths) -> None:
    assert Script(("90AF000001AA00", "9100")).play("90AF000001AA00", T1, lengths) == "9100"


@pytest.mark.parametrize("lengths", [AUTO, CHAINING, ENVELOPE, SHORT])
def test_255_bytes_go_as_they_are(lengths: Lengths) -> None:
    short = "00DB3FFFFF" + "11" * 255
    assert Script((short, "9000")).play(short + "00", T0, lengths) == "9000"
    if lengths is not ENVELOPE:
        assert Script((short + "00", "9000")).play(short + "00", T1, lengths) == "9000"


PLAIN = ATR.fromhex("3B80800101")
BOTH = ATR.fromhex("3BFD1300008131FE158073C021C057597562694B657940")
CHAINS = ATR.fromhex("3B8580018073000080F7")
EXTENDS = ATR.fromhex("3B858001807300004037")


@pytest.mark.parametrize(
    ("lengths", "atr", "protocol", "expected"),
    [
        *((AUTO, PLAIN, T1, AUTO), (AUTO, BOTH, T1, EXTENDED), (AUTO, CHAINS, T1, CHAINING), (AUTO, EXTENDS, T1, EXTENDED)),
        *((AUTO, PLAIN, T0, AUTO), (AUTO, BOTH, T0, CHAINING), (AUTO, CHAINS, T0, CHAINING), (AUTO, EXTENDS, T0, AUTO)),
        *((SHORT, BOTH, T1, SHORT), (EXTENDED, PLAIN, T1, EXTENDED), (ENVELOPE, BOTH, T0, ENVELOPE), (AUTO, b"", T1, AUTO)),
        *((AUTO, b"\xff" * 50, T0, AUTO), (AUTO, EXTENDS, Protocol.RAW, EXTENDED)),
    ],
)
def test_lengths_by_the_atr(lengths: Lengths, atr: bytes, protocol: Protocol, expected: Lengths) -> None:
    assert resolve_lengths(lengths, atr, protocol) is expected
    exchange(READ if expected is SHORT else LONG, protocol, expected).close()


@pytest.mark.parametrize("command", [LONG, C_APDU(0x00, 0xB0, le=300)])
@pytest.mark.parametrize("answer", [b"\x67\x00", b"\x67\x01"])
def test_a_card_that_refuses_extended_length_nobody_declared(command: C_APDU, answer: bytes) -> None:
    with pytest.raises(CardCommunicationError, match=r"extended length.*Lengths\.CHAINING"):
        run(lambda _: answer, command, T1, AUTO)
    assert run(lambda _: answer, command, T1, EXTENDED) == R_APDU.from_bytes(answer)


@pytest.mark.parametrize("answer", ["9000", "6A80", "6110", "6C02", "AABB9000"])
@pytest.mark.parametrize("command", [LONG, C_APDU(0x00, 0xB0, le=300)])
def test_a_card_that_has_answered_extended_length_takes_it(command: C_APDU, answer: str) -> None:
    traits = CardTraits()

    def exchanged(*answers: str) -> R_APDU:
        left = [bytes.fromhex(each) for each in answers]
        return run_steps(exchange(command, T1, AUTO, ExchangeOptions(), traits), lambda _: left.pop(0))

    with pytest.raises(CardCommunicationError, match="extended length"):
        exchanged("6700")
    exchanged(answer, "CC9000")
    assert traits.takes_extended
    assert exchanged("6700").sw == 0x6700
    assert exchanged("6702").sw == 0x6702


def test_short_commands_say_nothing_about_extended_length() -> None:
    traits = CardTraits()
    for answer in (b"\x90\x00", b"\x67\x00"):
        run_steps(exchange(SELECT, T1, AUTO, ExchangeOptions(), traits), lambda _, answer=answer: answer)  # type: ignore[misc]
    run_steps(exchange(LONG, T0, AUTO, ExchangeOptions(), traits), lambda _: b"\x90\x00")
    assert not traits.takes_extended
    assert single_step_encoder(T1, AUTO, ExchangeOptions())(LONG) is None, "no shortcut past what is learned"


@pytest.mark.parametrize("answer", ["6D00", "6E00", "6D02"])
def test_an_envelope_of_autos_that_is_refused_is_told(answer: str) -> None:
    refusal = bytes.fromhex(answer)
    with pytest.raises(CardCommunicationError, match=rf"{answer}.*ENVELOPE that Lengths\.AUTO chose.*lengths=Lengths\.CHAINING"):
        run(lambda _: refusal, LONG, T0, AUTO)
    assert run(lambda _: refusal, LONG, T0, ENVELOPE).sw12 == refusal, "the caller's own choice"
    last = iter([b"\x90\x00", refusal])
    assert run(lambda _: next(last), LONG, T0, AUTO).sw12 == refusal, "ENVELOPE was taken: it is about the command in it"
    assert run(lambda _: b"\x69\x82", LONG, T0, AUTO).sw == 0x6982


def test_wrong_length_of_a_short_command_is_a_status() -> None:
    for protocol in (T0, T1):
        assert run(lambda _: b"\x67\x00", SELECT, protocol).sw == 0x6700


@pytest.mark.parametrize("code", [errors.NOT_TRANSACTED, errors.INVALID_PARAMETER, 0x80100008])
def test_a_reader_that_refuses_extended_length(code: int) -> None:
    failure = errors.error_for(code, "SCardTransmit", "a reader")
    steps = exchange(LONG, T1)
    next(steps)
    with pytest.raises(CardCommunicationError, match=r"263 bytes.*extended length.*Lengths\.CHAINING") as told:
        steps.throw(failure)
    assert (told.value.code, told.value.call, told.value.reader, told.value.__cause__) == (
        code,
        "SCardTransmit",
        "a reader",
        failure,
    )


@pytest.mark.parametrize(
    ("command", "protocol", "step"),
    [(SELECT, T1, "00A40400, step 1 (command)"), (LONG, T0, "00DB3FFF, step 1 (part 1 of 2)")],
)
def test_a_step_that_failed_is_named(command: C_APDU, protocol: Protocol, step: str) -> None:
    failure = errors.error_for(errors.NOT_TRANSACTED, "SCardTransmit", "a reader")
    steps = exchange(command, protocol)
    next(steps)
    with pytest.raises(CardCommunicationError) as told:
        steps.throw(failure)
    assert str(told.value) == f"command {step}: failed [{failure}]"
    assert (told.value.code, told.value.call, told.value.reader) == (failure.code, failure.call, failure.reader)


@pytest.mark.parametrize(
    ("command", "protocol", "failure"),
    [
        (SELECT, T1, errors.error_for(errors.INVALID_PARAMETER, "SCardTransmit")),
        (C_APDU(0x00, 0x44), T0, errors.error_for(errors.RESET_CARD, "SCardTransmit")),
        (LONG, T1, CardRemovedError("gone")),
        (LONG, T1, errors.error_for(errors.INVALID_VALUE, "SCardTransmit")),
    ],
)
def test_other_failures_come_out_as_they_went_in(command: C_APDU, protocol: Protocol, failure: SCardError) -> None:
    steps = exchange(command, protocol)
    next(steps)
    with pytest.raises(SCardError) as out:
        steps.throw(failure)
    assert out.value is failure


# GET RESPONSE ---------------------------------------------------------------------------------------------------------------------

CLASSES = {
    **{cla: cla & 0x03 for cla in range(0x20)},
    **{cla: cla for cla in range(0x20, 0x40)},
    **{cla: 0x40 + cla % 16 for cla in range(0x40, 0x80)},
    **{cla: 0x80 + cla % 4 for cla in range(0x80, 0x90)},
    **{cla: cla for cla in range(0x90, 0xC0)},
    **{cla: 0xC0 + cla % 16 for cla in range(0xC0, 0xD0)},
    **{cla: cla for cla in range(0xD0, 0xE0)},
    **{cla: 0xC0 + cla % 16 for cla in range(0xE0, 0xF0)},
    **{cla: cla for cla in range(0xF0, 0x100)},
}


@pytest.mark.parametrize("protocol", [T0, T1])
def test_the_class_of_get_response(protocol: Protocol) -> None:
    assert len(CLASSES) == 256
    for cla, expected in CLASSES.items():
        assert response_class(cla) == expected
        answers = iter((b"\x61\x01", b"\xaa\x90\x00"))
        seen: list[bytes] = []

        def card(text: bytes, answers: Iterable[bytes] = answers, seen: list[bytes] = seen) -> bytes:
            seen.append(text)
            return next(iter(answers))

        run(card, C_APDU(cla, 0xA4, data=b"x", le=256), protocol)
        assert seen[1] == bytes((expected, 0xC0, 0, 0, 1))


def test_the_class_can_be_set() -> None:
    options = ExchangeOptions(response_class=0x42)
    script = Script(("00A4040002A001", "6101"), ("42C0000001", "AA9000"))
    assert script.play(SELECT, T0, AUTO, options) == "AA9000"
    script = Script(("42C20000FF" + bytes(LONG)[:255].hex(), "9000"), ("42C2000008" + "00" * 8, "9000"))
    assert script.play(LONG, T0, AUTO, options) == "9000"


@pytest.mark.parametrize("protocol", [T0, T1])
def test_another_instruction_can_fetch(protocol: Protocol) -> None:
    options = ExchangeOptions(response_instruction=0xA5)
    listing = "00A1000000"
    script = Script((listing, "AA6102"), ("00A5000002", "BB6C01"), ("00A5000001", "CC6101"), ("00A5000001", "DD9000"))
    with pytest.raises(AssertionError, match="answers were not asked for"):
        Script((listing, "AA9000"), ("00A5000002", "BB9000")).play(listing, protocol, AUTO, options)
    # (6Cxx brings no data; what came with it is not kept.)
    assert script.play(listing, protocol, AUTO, options) == "AACCDD9000"
    gsm = ExchangeOptions(response_instruction=0xA5, fetch_after=frozenset({0x9F}))
    assert Script((listing, "9F02"), ("00A5000002", "AABB9000")).play(listing, protocol, AUTO, gsm) == "AABB9000"


@pytest.mark.parametrize("protocol", [T0, T1])
@pytest.mark.parametrize("answer", ["6102", "6100", "AABB6102"])
def test_61_can_be_left_to_the_caller(protocol: Protocol, answer: str) -> None:
    options = ExchangeOptions(follow_61=False)
    for command in ("00A4040002A00100", "00A4040002A001", "00CA000010", "00440000"):
        line = (C_APDU.fromhex(command) if protocol == T1 else encode_t0(C_APDU.fromhex(command)), answer)
        assert Script((bytes(line[0]).hex(), answer)).play(command, protocol, AUTO, options) == answer
    fetch = "00C0000002"
    assert Script((fetch, "AABB9000")).play(fetch, protocol, AUTO, options) == "AABB9000", "the caller's own GET RESPONSE"
    assert Script(("00CA000010", "6C02"), ("00CA000002", "AABB6105")).play("00CA000010", protocol, AUTO, options) == "AABB6105"


def test_other_statuses_are_followed_though_61_is_not() -> None:
    options = ExchangeOptions(follow_61=False, fetch_after=frozenset({0x62, 0x9F}))
    select = "A0A40000023F00"
    assert Script((select, "9F02"), ("A0C0000002", "AABB9000")).play(select, T0, AUTO, options) == "AABB9000"
    assert Script((select, "9F02"), ("A0C0000002", "AABB6101")).play(select, T0, AUTO, options) == "AABB6101"
    assert Script((select, "6102")).play(select, T0, AUTO, options) == "6102"
    assert Script((select, "6282"), ("A0C0000000", "6C01"), ("A0C0000001", "AA9000")).play(select + "00", T0, AUTO, options) == (
        "AA6282"
    )


def test_gsm_9f_is_followed_when_asked_for() -> None:
    options = ExchangeOptions(fetch_after=frozenset({0x9F}))
    lines = ("A0A40000023F00", "9F16"), ("A0C0000016", "00" * 22 + "9000")
    assert Script(*lines).play("A0A40000023F00", T0, AUTO, options) == "00" * 22 + "9000"
    assert Script(lines[0]).play("A0A40000023F00", T0) == "9F16"
    both = ("A0A40000023F00", "6102"), ("A0C0000002", "AA9F01"), ("A0C0000001", "BB9000")
    assert Script(*both).play("A0A40000023F00", T0, AUTO, options) == "AABB9000"


@pytest.mark.parametrize("status", ["6283", "6310", "9000"])
def test_fetching_after_a_warning_when_asked_for(status: str) -> None:
    # EMV 4.3 Book 1, annex A, a case 4 command that ends in a warning.
    command, header = "00A4040002AABB00", "00A4040002AABB"
    options = ExchangeOptions(fetch_after=frozenset({0x62, 0x63, 0x90}))
    script = Script((header, status), ("00C0000000", "6C02"), ("00C0000002", "CCDD9000"))
    assert script.play(command, T0, AUTO, options) == "CCDD" + status
    assert Script((header, status)).play(command, T0) == status
    assert Script((header, status), ("00C0000000", "6985")).play(command, T0, AUTO, options) == status
    assert Script((header, status), ("00C0000000", "CC6581")).play(command, T0, AUTO, options) == "CC6581"
    assert Script((header, "EE" + status)).play(command, T0, AUTO, options) == "EE" + status
    assert Script((header, status)).play(header, T0, AUTO, options) == status, "no Ne, so nothing is expected"
    assert Script(("00B0000000", status)).play("00B0000000", T0, AUTO, options) == status, "no data, so Le was sent"
    assert Script((header, status), ("00C0000003", "CC6102"), ("00C0000002", "DDEE9000")).play(
        header + "03", T0, AUTO, options
    ) == ("CCDDEE" + status)


# Cards that cannot be trusted -----------------------------------------------------------------------------------------------------


class Counting:
    """A card that answers whatever comes next, and counts."""

    def __init__(self, answers: Iterable[bytes]) -> None:
        self.answers = iter(answers)
        self.count = 0

    def __call__(self, _: bytes) -> bytes:
        self.count += 1
        return next(self.answers)


HOSTILE: dict[str, tuple[Callable[[], Iterable[bytes]], str]] = {
    "6CFF": (lambda: repeat(b"\x6c\xff"), "6CFF"),
    "6C00": (lambda: repeat(b"\x6c\x00"), "6C00"),
    "two lengths in turn": (lambda: cycle((b"\x6c\x05", b"\x6c\x06")), "6C0[56]"),
    "6100, GET RESPONSE too": (lambda: repeat(b"\x61\x00"), r"step 2 \(GET RESPONSE\): 6100 and no data"),
    "61, then 6C for ever": (lambda: chain([b"\x61\x05"], repeat(b"\x6c\x04")), "GET RESPONSE with Le corrected.: 6C04 once more"),
    "61, then the same length": (lambda: chain([b"\x61\x05"], repeat(b"\x6c\x05")), r"step 2 \(GET RESPONSE\): 6C05 .* another Le"),
    "one byte": (lambda: repeat(b"\x90"), r"step 1 \(command\).*1 byte"),
    "nothing": (lambda: repeat(b""), r"step 1 \(command\).*0 bytes"),
    "one byte to GET RESPONSE": (lambda: chain([b"\x61\x05"], repeat(b"\x90")), r"step 2 \(GET RESPONSE\).*1 byte"),
    "a byte and 61 for ever": (lambda: repeat(b"\xaa\x61\x00"), "step 4096.*bound on steps"),
    "256 bytes and 61 for ever": (lambda: repeat(b"\xaa" * 256 + b"\x61\x00"), "step 25[78].*bound on bytes"),
    "a huge answer": (lambda: repeat(b"\xaa" * 200000 + b"\x90\x00"), "step 1.*bound on bytes"),
}


@pytest.mark.parametrize("protocol", [T0, T1])
@pytest.mark.parametrize("command", [READ, SELECT, C_APDU(0x00, 0x44), C_APDU(0x00, 0xD6, data=b"x")], ids=["2", "4", "1", "3"])
@pytest.mark.parametrize(("answers", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_cards_end_in_an_error_that_names_the_step(
    answers: Callable[[], Iterable[bytes]], words: str, command: C_APDU, protocol: Protocol
) -> None:
    card = Counting(answers())
    with pytest.raises(CardCommunicationError, match=words) as error:
        run(card, command, protocol)
    assert f"command {bytes(command)[:4].hex().upper()}, step {card.count} (" in str(error.value)


def test_hostile_parts() -> None:
    with pytest.raises(CardCommunicationError, match=r"step 2 \(part 2 of 3\): the answer has 1 byte"):
        run(Counting([b"\x90\x00", b"\x90"]), C_APDU(0x00, 0xDB, data=bytes(600)), T0, CHAINING)
    with pytest.raises(CardCommunicationError, match=r"step 3 \(last part\).*bound on bytes"):
        run(Counting(repeat(b"\xaa" * 30000 + b"\x90\x00")), C_APDU(0x00, 0xDB, data=bytes(600)), T0, CHAINING)


answers = st.one_of(
    st.binary(max_size=4),
    st.builds(
        lambda size, sw1, sw2: bytes(size) + bytes((sw1, sw2)),
        st.sampled_from([0, 0, 1, 2, 16, 256, 300]),
        st.sampled_from([0x61, 0x61, 0x61, 0x6C, 0x90, 0x9F, 0x62, 0x63, 0x67]),
        st.sampled_from([0, 0, 1, 2, 16, 255]),
    ),
)
commands = st.builds(
    C_APDU,
    cla=st.sampled_from([0x00, 0x41]),
    ins=st.integers(0, 255),
    data=st.sampled_from([0, 1, 255, 256, 1000]).map(bytes),
    le=st.sampled_from([0, 1, 5, 256, 257, 65536]),
)


@pytest.mark.slow
@settings(max_examples=1500, derandomize=True)
@given(
    commands,
    st.sampled_from([(T0, AUTO), (T0, CHAINING), (T1, AUTO), (T1, EXTENDED), (T1, CHAINING)]),
    st.lists(answers, min_size=1, max_size=6),
    st.sampled_from([frozenset(), frozenset({0x62, 0x63, 0x90, 0x9F})]),
)
def test_any_answers_end_within_the_bounds(
    command: C_APDU, way: tuple[Protocol, Lengths], script: list[bytes], fetch_after: frozenset[int]
) -> None:
    card = Counting(cycle(script))
    response = error = None
    try:
        response = run(card, command, *way, ExchangeOptions(max_steps=40, max_bytes=2000, fetch_after=fetch_after))
    except CardCommunicationError as raised:
        error = str(raised)
    assert error is None or f"step {card.count} (" in error
    assert response is None or len(response.data) <= 2000
    assert 1 <= card.count <= 40


@given(st.lists(answers, min_size=1, max_size=40))
def test_any_answers_end_when_a_status_comes(script: list[bytes]) -> None:
    card = Counting(chain(script, repeat(b"\x6f\x00")))
    with suppress(CardCommunicationError):
        run(card, READ, T0)
    assert card.count <= len(script) + 1


def test_bounds_can_be_set() -> None:
    endless = list(islice(repeat(b"\xaa\x61\x00"), 10))
    with pytest.raises(CardCommunicationError, match=r"step 3.*max_steps"):
        run(Counting(endless), READ, T0, AUTO, ExchangeOptions(max_steps=3))
    with pytest.raises(CardCommunicationError, match=r"step 4.*max_bytes"):
        run(Counting(endless), READ, T0, AUTO, ExchangeOptions(max_bytes=3))
    assert run(Counting([b"\x90\x00"]), READ, T1, AUTO, ExchangeOptions(max_steps=1, max_bytes=0)).is_successful()


def test_the_bound_on_bytes_is_65536_and_what_was_asked_for() -> None:
    def answer(size: int) -> Callable[[bytes], bytes]:
        return lambda _: bytes(size) + b"\x90\x00"

    assert len(run(answer(65546), C_APDU(le=10), T1).data) == 65546
    with pytest.raises(CardCommunicationError, match="bound"):
        run(answer(65547), C_APDU(le=10), T1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("response_instruction", 256), ("response_instruction", -1), ("response_instruction", 0x6C)),
        *(("max_steps", 0), ("max_bytes", -1), ("response_class", 256), ("response_class", -1)),
        *(("fetch_after", frozenset({0x61})), ("fetch_after", frozenset({0x9F, 0x6A}))),
    ],
)
def test_options_out_of_range_are_named(name: str, value: Any) -> None:
    fields: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=name):
        ExchangeOptions(**fields)


def test_options_in_range() -> None:
    for value in (0, 255):
        assert ExchangeOptions(response_class=value).response_class == value


# Secrets --------------------------------------------------------------------------------------------------------------------------

VERIFY = C_APDU(0x00, 0x20, 0x00, 0x81, b"\x31\x32\x33\x34")


@pytest.mark.parametrize("protocol", [T0, T1])
def test_a_response_knows_whether_its_command_was_secret(protocol: Protocol) -> None:
    decipher = C_APDU(0x00, 0x2A, 0x80, 0x86, b"\x00\x01", 256)
    assert repr(run(Counting([b"\x61\x02", b"\xca\xfe\x90\x00"]), decipher, protocol)) == "R_APDU(<2 bytes>, 0x90, 0x00)"
    assert "CAFE" in repr(run(Counting([b"\x61\x02", b"\xca\xfe\x90\x00"]), SELECT, protocol))


@pytest.mark.parametrize("answer", [b"", b"\x6c\x01", b"\x61\x00"])
def test_errors_do_not_show_data(answer: bytes) -> None:
    with pytest.raises(CardCommunicationError) as error:
        run(Counting(repeat(answer)), VERIFY, T0)
    assert "1234" not in str(error.value)
    assert "31323334" not in str(error.value)
