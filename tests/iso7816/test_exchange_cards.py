"""Long data, T=0 and cards that never end: `send` on a real daemon, the same on both faces. The bytes are test_exchange's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from scardface import C_APDU, R_APDU, CardCommunicationError, ExchangeOptions, Lengths, Protocol
from scardface.testing import FileCard, PrivatePcscd, VirtualCard
from tests.support.faces import both_faces, off_loop
from tests.support.long_cards import ASK, READ, STORE, EndlessCard, LongCard, pattern

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]

T0, T1 = Protocol.T0, Protocol.T1
LONG = pattern(60000)
LONG_ANSWER = pattern(32767)
STORE_LONG = C_APDU(0x00, STORE, 0x3F, 0xFF, LONG)
ASK_LONG = C_APDU(0x00, ASK, 0x3F, 0xFF, LONG, 65536)


async def put(pcscd: PrivatePcscd, *cards: VirtualCard) -> None:
    """Put cards into the first readers, so that PC/SC knows them."""
    for reader, card in enumerate(cards):
        await off_loop(pcscd.insert, reader, card)
    for reader in range(len(cards)):
        await off_loop(pcscd.wait_for_card, reader)


# Long data ------------------------------------------------------------------------------------------------------------------------


@both_faces
async def test_a_long_answer_arrives_whole_and_no_more_of_it_than_was_asked_for(pcscd: PrivatePcscd, face: Any) -> None:
    cards = (
        LongCard(T0, Lengths.SHORT, content=LONG_ANSWER),
        LongCard(T0, Lengths.SHORT, content=LONG_ANSWER, most=200),
        LongCard(T1, Lengths.CHAINING, content=LONG_ANSWER, declares=True),
        LongCard(T1, Lengths.EXTENDED, content=LONG_ANSWER, most=1000, declares=True),
    )
    await put(pcscd, *cards)
    for reader, virtual in zip(pcscd.readers, cards, strict=False):
        async with face.open(reader, timeout=30) as card:
            all_there_is = [C_APDU(0x00, READ, le=256), C_APDU(0x00, READ, le=65536), C_APDU(0x00, ASK, data=b"\x5c\x00", le=65536)]
            for command in (*all_there_is, C_APDU(0x00, READ, le=32767)):
                assert await card.send(command) == R_APDU(LONG_ANSWER, 0x90, 0x00)
            virtual.forget()
            assert await card.send(C_APDU(0x00, READ, le=1001)) == R_APDU(LONG_ANSWER[:1001], 0x90, 0x00)
            assert virtual.said == 1001
    assert [len(virtual.commands) for virtual in cards] == [4, 7, 4, 2]
    assert [virtual.commands[-1].hex() for virtual in cards] == ["00c00000e9", "00c0000001", "00c00000e9", "00c0000001"]


@both_faces
async def test_a_long_command_goes_the_way_that_the_atr_declares(pcscd: PrivatePcscd, face: Any) -> None:
    cards = (
        LongCard(T0, Lengths.CHAINING, content=LONG_ANSWER, declares=True),
        LongCard(T0, Lengths.ENVELOPE, content=LONG_ANSWER),
        LongCard(T1, Lengths.CHAINING, content=LONG_ANSWER, declares=True),
        LongCard(T1, Lengths.EXTENDED, content=LONG_ANSWER, most=65535, declares=True),
    )
    await put(pcscd, *cards)
    for reader, virtual in zip(pcscd.readers, cards, strict=False):
        async with face.open(reader, timeout=30) as card:
            assert await card.send(STORE_LONG, ASK_LONG) == R_APDU(LONG_ANSWER, 0x90, 0x00)
        assert virtual.done == [(STORE, LONG), (ASK, LONG)]
    # 60,000 bytes are 236 parts; the last ENVELOPE is no full one. 32,767 bytes are 128 parts; T=1 sends the first at once.
    assert [len(virtual.commands) for virtual in cards] == [236 + 236 + 128, 236 + 236 + 128, 236 + 236 + 127, 2]
    assert [virtual.commands[0][:5].hex() for virtual in cards] == ["10db3fffff", "00c20000ff", "10db3fffff", "00db3fff00"]


@both_faces
async def test_a_long_command_goes_the_way_that_lengths_says_or_not_at_all(pcscd: PrivatePcscd, face: Any) -> None:
    chains_t0, envelopes, chains_t1, extends = cards = (
        LongCard(T0, Lengths.CHAINING),
        LongCard(T0, Lengths.ENVELOPE),
        LongCard(T1, Lengths.CHAINING),
        LongCard(T1, Lengths.EXTENDED),
    )
    await put(pcscd, *cards)

    async def send(virtual: LongCard, lengths: Lengths, *batch: C_APDU) -> str:
        virtual.forget()
        async with face.open(pcscd.readers[cards.index(virtual)], timeout=30, lengths=lengths) as card:
            return str((await card.send(*(batch or [STORE_LONG]))).ashex())

    for virtual, lengths in zip(cards, (Lengths.CHAINING, Lengths.ENVELOPE, Lengths.CHAINING, Lengths.EXTENDED), strict=True):
        assert await send(virtual, lengths) == "9000"
        assert virtual.done == [(STORE, LONG)]

    # No ATR here says anything. On T=1 extended length goes out then, and where the card refuses it, an error says what to set.
    assert await send(extends, Lengths.AUTO) == "9000"
    with pytest.raises(CardCommunicationError, match=r"6700.*extended length: set lengths=Lengths\.CHAINING, or Lengths\.SHORT"):
        await send(chains_t1, Lengths.AUTO)
    assert len(chains_t1.commands) == 1
    # On T=0 ENVELOPE goes out, with the same. Where the caller has decided, a refusal is a status.
    assert await send(envelopes, Lengths.AUTO) == "9000"
    with pytest.raises(CardCommunicationError, match=r"6D00.*ENVELOPE that Lengths\.AUTO chose.*set lengths=Lengths\.CHAINING"):
        await send(chains_t0, Lengths.AUTO)
    assert len(chains_t0.commands) == 1
    assert await send(chains_t0, Lengths.ENVELOPE) == "6D00"
    assert await send(chains_t1, Lengths.EXTENDED) == "6700"
    assert await send(envelopes, Lengths.CHAINING) == "6884"
    assert [len(virtual.done) for virtual in (chains_t0, chains_t1, envelopes)] == [0, 0, 0]

    # What cannot go is refused before anything is sent, also what stands before it in the batch.
    short, chained = C_APDU(0x00, STORE, data=b"\x01"), C_APDU(0x10, STORE, data=bytes(256))
    for virtual, lengths, command, words in (
        (chains_t0, Lengths.EXTENDED, STORE_LONG, "T=0 has no extended length"),
        (chains_t0, Lengths.EXTENDED, short, "T=0 has no extended length"),
        (chains_t0, Lengths.SHORT, STORE_LONG, r"60000 bytes of data are more than Lengths\.SHORT takes"),
        (chains_t0, Lengths.CHAINING, chained, "cannot be chained in class 10"),
        (extends, Lengths.ENVELOPE, STORE_LONG, "ENVELOPE carries long commands on T=0 only"),
        (extends, Lengths.ENVELOPE, short, "ENVELOPE carries long commands on T=0 only"),
        (extends, Lengths.SHORT, STORE_LONG, r"60000 bytes of data are more than Lengths\.SHORT takes"),
        (extends, Lengths.CHAINING, chained, "cannot be chained in class 10"),
    ):
        with pytest.raises(ValueError, match=words):
            await send(virtual, lengths, short, command)
        assert virtual.commands == []


def test_the_page_has_a_row_for_each_way() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sending.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(Lengths.__members__)


# Options --------------------------------------------------------------------------------------------------------------------------


@both_faces
async def test_options_of_an_exchange(pcscd: PrivatePcscd, face: Any) -> None:
    plain, gsm, fetches_in_00 = cards = (
        LongCard(T0, Lengths.SHORT, content=LONG_ANSWER),
        LongCard(T0, Lengths.SHORT, content=pattern(22), more=0x9F, fetch_class=0xA0),
        LongCard(T1, Lengths.CHAINING, content=LONG_ANSWER, declares=True),
    )
    await put(pcscd, *cards)
    whole = R_APDU(LONG_ANSWER, 0x90, 0x00)

    async def send(virtual: LongCard, command: C_APDU, **options: Any) -> R_APDU:
        virtual.forget()
        reader = pcscd.readers[cards.index(virtual)]
        async with face.open(reader, timeout=30, options=ExchangeOptions(**options)) as card:
            response: R_APDU = await card.send(command)
            return response

    read = C_APDU(0x00, READ, le=65536)
    assert await send(plain, read, max_steps=128, max_bytes=32767) == whole
    with pytest.raises(CardCommunicationError, match=r"command 00B00000, step 127 \(GET RESPONSE\).*max_steps"):
        await send(plain, read, max_steps=127)
    assert len(plain.commands) == 127
    with pytest.raises(CardCommunicationError, match=r"command 00B00000, step 128 \(GET RESPONSE\).*max_bytes"):
        await send(plain, read, max_bytes=32766)

    select = C_APDU(0xA0, ASK, data=b"\x3f\x00")
    assert await send(gsm, select) == R_APDU(b"", 0x9F, 22)
    assert await send(gsm, select, fetch_after=frozenset({0x9F})) == R_APDU(pattern(22), 0x90, 0x00)

    status = C_APDU(0x80, ASK, data=b"\x4f\x00", le=256)
    assert await send(fetches_in_00, status) == R_APDU(LONG_ANSWER[:256], 0x6E, 0x00)
    assert await send(fetches_in_00, status, response_class=0x00) == whole


# Cards that cannot be trusted -----------------------------------------------------------------------------------------------------

ENDLESS = {
    b"\x6c\xff": r"step [12] \(command.*6CFF (once more|does not ask for another Le)",
    b"\x61\x00": r"step 2 \(GET RESPONSE\): 6100 and no data",
    bytes(256) + b"\x61\x00": r"step 258 \(GET RESPONSE\): .*max_bytes",
    b"\x90": r"step 1 \(command\).*1 byte",
}
"""What it answers, and what the error says: which step was the last."""


@both_faces
async def test_a_card_that_never_ends_is_left_and_can_be_used_again(pcscd: PrivatePcscd, face: Any) -> None:
    cards = [EndlessCard(T0), EndlessCard(T0), EndlessCard(T1), EndlessCard(T1)]
    commands = [C_APDU(0x00, READ, le=256), C_APDU(0x00, ASK, data=b"\x5c\x00", le=256)] * 2
    await put(pcscd, *cards)

    async def suffer(reader: str, virtual: EndlessCard, command: C_APDU) -> None:
        async with face.open(reader, timeout=30) as card:
            for answer, words in ENDLESS.items():
                virtual.always = answer
                with pytest.raises(CardCommunicationError, match=words):
                    await card.send(command)
                virtual.always = b"\xaa\x90\x00"
                assert await card.send(command) == R_APDU(b"\xaa", 0x90, 0x00)

    async with anyio.create_task_group() as tasks:
        for arguments in zip(pcscd.readers, cards, commands, strict=True):
            tasks.start_soon(suffer, *arguments)


# The same commands on both protocols ----------------------------------------------------------------------------------------------

APPLICATION = b"\xf0SCARDFACE"
FCI = bytes.fromhex("6F138201388302500084 0A") + APPLICATION
TEXT = b"Hello from a virtual card."
LONG_FILE = bytes(range(256)) * 4
RIGHT, WRONG = C_APDU(0x00, 0x20, 0x00, 0x01, b"1234"), C_APDU(0x00, 0x20, 0x00, 0x01, b"4321")
TRIES_LEFT = C_APDU(0x00, 0x20, 0x00, 0x01)


def read(p1: int, p2: int, le: int) -> C_APDU:
    return C_APDU(0x00, 0xB0, p1, p2, le=le)


def update(p1: int, p2: int, data: bytes) -> C_APDU:
    return C_APDU(0x00, 0xD6, p1, p2, data)


ALIKE: list[tuple[C_APDU, bytes, str]] = [
    # SELECT: with FCI, of any length and exactly; without (case 3, case 1, case 2); what is not there
    *((C_APDU(0x00, 0xA4, 0x04, 0x00, APPLICATION, le), FCI[:le], "9000") for le in (256, 65536, 300, len(FCI), 20, 1)),
    (C_APDU(0x00, 0xA4, 0x00, 0x0C), b"", "9000"),
    (C_APDU(0x00, 0xA4, 0x00, 0x00, le=256), bytes.fromhex("6F07 820138 83023F00"), "9000"),
    (C_APDU(0x00, 0xA4, 0x00, 0x00, b"\x7f\xff", 256), b"", "6A82"),
    *((C_APDU(0x00, 0xA4, 0x00, 0x00, b"\x3f", le), b"", "6700") for le in (256, 300)),
    (C_APDU(0x00, 0xA4, 0x01, 0x00, b"\x3f\x00"), b"", "6A86"),
    (C_APDU(0x00, 0xA4, 0x04, 0x0C, APPLICATION), b"", "9000"),
    # READ BINARY: nothing selected; up to 256 bytes at a time, exactly so many, all to the end; outside; behind the PIN
    (read(0x00, 0x00, 256), b"", "6986"),
    *((read(0x81, 0x00, le), TEXT[:le], "9000") for le in (256, 65536, len(TEXT), 5, 1)),
    *((read(0x82, 0x00, le), LONG_FILE[:le], "9000") for le in (256, 255, 1)),
    *((read(0x03, 0x00, le), LONG_FILE[768:][:le], "9000") for le in (65536, 256, 255)),
    *((read(0x03, 0xE8, le), LONG_FILE[1000:][:le], "9000") for le in (65536, 256, 24, 23)),
    (read(0x04, 0x00, 256), b"", "6B00"),
    (read(0x84, 0x00, 256), b"", "6A82"),
    (read(0x83, 0x00, 256), b"", "6982"),
    # VERIFY and what it opens
    (update(0x81, 0x00, b"J"), b"", "6982"),
    (TRIES_LEFT, b"", "63C3"),
    (WRONG, b"", "63C2"),
    (TRIES_LEFT, b"", "63C2"),
    (RIGHT, b"", "9000"),
    (TRIES_LEFT, b"", "9000"),
    (read(0x83, 0x00, 256), b"only after VERIFY", "9000"),
    (update(0x81, 0x00, b"J"), b"", "9000"),
    (read(0x81, 0x00, 256), b"J" + TEXT[1:], "9000"),
    (update(0x82, 0x00, bytes(255)), b"", "9000"),
    (read(0x82, 0x00, 256), bytes(255) + b"\xff", "9000"),
    (update(0x81, 0x19, b"!!"), b"", "6A84"),
    # unknown instruction and class, chaining that the card does not know
    (C_APDU(0x00, 0xCA, le=256), b"", "6D00"),
    (C_APDU(0x00, 0x44), b"", "6D00"),
    (C_APDU(0x80, 0xA4, 0x04, 0x00, APPLICATION, 256), b"", "6E00"),
    (C_APDU(0x10, 0xA4, 0x04, 0x00, APPLICATION), b"", "6884"),
    (C_APDU(0x00, 0x84, 0x01, 0x00, le=8), b"", "6A86"),
    # blocked
    *((WRONG, b"", f"63C{left}") for left in (2, 1, 0)),
    *((command, b"", "6983") for command in (WRONG, RIGHT, TRIES_LEFT)),
]
"""Command, and the response on either protocol."""

DIFFERENT: list[tuple[C_APDU, R_APDU, R_APDU]] = [
    # T=0 has no empty Le: without Ne, it fetches what T=1 leaves.
    (C_APDU(0x00, 0xA4, 0x04, 0x00, APPLICATION), R_APDU(FCI, 0x90, 0x00), R_APDU(b"", 0x90, 0x00)),
    # It cannot ask for more than 256 bytes, and this card has no more to say then.
    (read(0x82, 0x00, 1024), R_APDU(LONG_FILE[:256], 0x90, 0x00), R_APDU(LONG_FILE, 0x90, 0x00)),
    (read(0x82, 0x00, 65536), R_APDU(LONG_FILE[:256], 0x90, 0x00), R_APDU(LONG_FILE, 0x90, 0x00)),
    # The card cannot send less than it was asked for, so it says how much there is and is asked for that.
    (read(0x81, 0x00, 27), R_APDU(TEXT, 0x90, 0x00), R_APDU(TEXT, 0x62, 0x82)),
]
"""Command, and the responses on T=0 and T=1 where the protocol shows."""


@both_faces
async def test_the_same_commands_are_answered_alike_on_both_protocols(pcscd: PrivatePcscd, face: Any) -> None:
    await put(pcscd, FileCard(protocol=T0), FileCard(protocol=T1))
    async with face.open(pcscd.readers[0], timeout=30) as t0, face.open(pcscd.readers[1], timeout=30) as t1:
        assert (t0.protocol, t1.protocol) == (T0, T1)
        for command, on_t0, on_t1 in DIFFERENT:
            assert [await card.send(command) for card in (t0, t1)] == [on_t0, on_t1], command
        for card in (t0, t1):
            for command, data, status in ALIKE:
                assert await card.send(command) == R_APDU.from_bytes(data + bytes.fromhex(status)), (card.protocol, command)
            for ne in (1, 8, 255, 256):
                challenge = await card.send(C_APDU(0x00, 0x84, le=ne))
                assert (len(challenge.data), challenge.sw) == (ne, 0x9000)


# What a card does otherwise -------------------------------------------------------------------------------------------------------


class Oath(VirtualCard):
    """Answers in parts, as YubiKeys' OATH does: A5 fetches the rest, C0 is unknown."""

    WHOLE = pattern(600)

    def __init__(self, protocol: Protocol) -> None:
        self.atr = bytes.fromhex("3B800181" if protocol == T1 else "3B00")
        self._waits = protocol == T0
        self.commands: list[int] = []
        self._rest = b""

    def process(self, command: bytes) -> bytes:
        self.commands.append(command[1])
        if command[1] == 0xA1:
            self._rest = self.WHOLE
            if self._waits:  # data came, so the answer is to be fetched
                return b"\x61\x00"
        elif command[1] != 0xA5:
            return b"\x6d\x00"
        part, self._rest = self._rest[:256], self._rest[256:]
        return part + (bytes((0x61, min(len(self._rest), 256) & 0xFF)) if self._rest else b"\x90\x00")


@pytest.mark.parametrize("protocol", [T0, T1])
@both_faces
async def test_a_card_that_continues_with_another_instruction(pcscd: PrivatePcscd, face: Any, protocol: Protocol) -> None:
    await put(pcscd, Oath(protocol))
    listing = C_APDU(0x00, 0xA1, 0x00, 0x00, b"\x01", 256)
    options = ExchangeOptions(response_instruction=0xA5)
    async with face.open(pcscd.readers[0], timeout=30, options=options) as card:
        assert await card.send(listing) == R_APDU(Oath.WHOLE, 0x90, 0x00)
    async with face.open(pcscd.readers[0], timeout=30, options=ExchangeOptions(follow_61=False)) as card:
        response = await card.send(listing)
        data = response.data
        while response.sw1 == 0x61:
            response = await card.send(C_APDU(0x00, 0xA5, le=response.sw2 or 256))
            data += response.data
        assert (data, response.sw) == (Oath.WHOLE, 0x9000)


@both_faces
async def test_a_long_command_of_a_proprietary_class_on_t0(pcscd: PrivatePcscd, face: Any) -> None:
    """Nothing is sent, the commands before it in the batch included, and the card is as usable as before."""
    sim = LongCard(T0, Lengths.CHAINING)
    await put(pcscd, sim)
    async with face.open(pcscd.readers[0], timeout=30) as card:
        with pytest.raises(ValueError, match=r"class 80.*lengths=Lengths\.CHAINING"):
            await card.send(C_APDU(0x00, STORE, data=b"\x01"), C_APDU(0x80, STORE, data=bytes(300)))
        assert sim.commands == []
        assert (await card.send(C_APDU(0x00, STORE, data=b"\x01"))).sw == 0x9000
