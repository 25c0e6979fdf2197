"""Success words and `send_all` on an open card: both faces, with channels, layers, callbacks, T=0 and T=1, the real pcscd too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scardface import C_APDU, R_APDU, CardRemovedError, PinEntry, Protocol, ShareMode, StatusError
from scardface.errors import REMOVED_CARD
from scardface.testing import PinPad, PrivatePcscd, SimulatedPCSC
from tests.support.cards import BOTH, LogCard
from tests.support.faces import both_faces

pytestmark = pytest.mark.anyio

WORDS = ["9000", "91xx"]


class SwCard(LogCard):
    """Answers P1 P2 as its status word, 61xx with three bytes to be fetched; MANAGE CHANNEL, the reader's GET DATA as usual."""

    def __init__(self) -> None:
        super().__init__(BOTH)
        self.pulled_by: Callable[[], object] = lambda: None

    def process(self, command: bytes) -> bytes:
        super().process(command)
        cla, ins, p1, p2 = command[:4]
        if ins == 0x70:
            return b"\x01\x90\x00" if p1 == 0 else b"\x90\x00"
        if cla == 0xFF:
            return b"\1\2\3\4\x90\x00"
        if ins == 0xC0:
            return b"abc\x91\x01"
        if ins == 0xFE:
            self.pulled_by()
            return b"\x90\x00"
        return bytes((p1, p2))


def sw(word: int, cla: int = 0, data: bytes = b"") -> C_APDU:
    return C_APDU(cla, 0x10, word >> 8, word & 0xFF, data)


PULL = C_APDU(0, 0xFE)
"""The next exchange finds the card gone."""
FINE, PENDING, MORE, MISSING = map(sw, (0x9000, 0x9100, 0x91AF, 0x6A82))


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Reader")
        yield pcsc


@pytest.fixture
def card(pcsc: SimulatedPCSC) -> SwCard:
    card = SwCard()
    pcsc.insert("Reader", card)
    return card


class Words:
    """A layer that turns every answer into 9100, whatever it was."""

    def wrap(self, command: C_APDU) -> C_APDU:
        return command

    def unwrap(self, response: R_APDU) -> R_APDU:
        return R_APDU(response.data, 0x91, 0x00)


@both_faces
async def test_a_card_with_words_goes_on_over_them_on_pcscd(pcscd: PrivatePcscd, face: Any) -> None:
    card = SwCard()
    pcscd.insert(0, card)
    async with face.open(timeout=30, success=WORDS) as open_card:
        response = await open_card.send(FINE, PENDING, MORE, MISSING, FINE)
        assert (response.sw, len(card.commands)) == (0x6A82, 4)
        assert (await open_card.send(FINE, MORE)).check().sw == 0x91AF
        responses = await open_card.send_all(PENDING, MISSING, FINE)
        assert [each.sw for each in responses] == [0x9100, 0x6A82]
        with pytest.raises(StatusError, match=r"6A82.*; success is 9000, 91xx"):
            responses[-1].check()


@both_faces
@pytest.mark.parametrize("share", [ShareMode.EXCLUSIVE, ShareMode.SHARED])
@pytest.mark.parametrize("protocol", [Protocol.T0, Protocol.T1])
async def test_the_words_of_a_send_win(card: SwCard, face: Any, protocol: Protocol, share: ShareMode) -> None:
    async with face.open(timeout=5, success=["91xx"], protocols=protocol, share=share) as open_card:
        assert (await open_card.send(PENDING, FINE, PENDING)).sw == 0x9000
        assert not (await open_card.send(FINE)).is_successful()
        response = await open_card.send(FINE, MISSING, PENDING, success=["9000", "6A82"])
        assert response.sw == 0x9100
        assert not response.is_successful()
        assert response.is_successful_with(["91xx"])
        assert (await open_card.send(MISSING, success=lambda answer: answer.sw1 == 0x6A)).is_successful()
    async with face.open(timeout=5) as open_card:
        assert (await open_card.send(PENDING, FINE)).sw == 0x9100
        assert (await open_card.send(PENDING, FINE, success=WORDS)).sw == 0x9000


@both_faces
async def test_callbacks_see_what_was_judged(card: SwCard, face: Any) -> None:
    seen: list[tuple[int, bool]] = []

    def callback(command: C_APDU, response: R_APDU) -> None:
        seen.append((response.sw, response.is_successful()))

    async with face.open(timeout=5, success=["91xx"]) as open_card:
        await open_card.send(PENDING, MORE, FINE, PENDING, callback=callback)
        await open_card.send(FINE, PENDING, FINE, callback=callback, success=["9000"])
    assert seen == [(0x9100, True), (0x91AF, True), (0x9000, False), (0x9000, True), (0x9100, False)]


@both_faces
async def test_a_function_is_asked_once_for_each(card: SwCard, face: Any) -> None:
    asked: list[int] = []

    def rule(response: R_APDU) -> bool:
        asked.append(response.sw)
        return len(asked) < 3

    async with face.open(timeout=5, success=rule) as open_card:
        response = await open_card.send(MISSING, FINE, PENDING, MORE)
        assert not response.is_successful()
    assert asked == [0x6A82, 0x9000, 0x9100]


@both_faces
async def test_what_a_function_raises_ends_the_batch(card: SwCard, face: Any) -> None:
    def rule(response: R_APDU) -> bool:
        raise LookupError("no such word")

    async with face.open(timeout=5) as open_card:
        with pytest.raises(LookupError, match="no such word"):
            await open_card.send(FINE, PENDING, success=rule)
        assert len(card.commands) == 1
        assert (await open_card.send(FINE)).is_successful()


@both_faces
async def test_the_status_after_fetching_is_what_counts(card: SwCard, face: Any) -> None:
    async with face.open(timeout=5, success=["91xx"]) as open_card:
        response = await open_card.send(sw(0x6103), PENDING)
        assert response.sw == 0x9100
        [first, _] = await open_card.send_all(sw(0x6103), PENDING)
        assert (first.data, first.sw) == (b"abc", 0x9101)


@both_faces
async def test_send_all_says_which_one_failed(card: SwCard, face: Any) -> None:
    async with face.open(timeout=5) as open_card:
        responses = await open_card.send_all(FINE, MISSING, FINE)
        assert [each.sw for each in responses] == [0x9000, 0x6A82]
        responses = await open_card.send_all(FINE, MISSING, FINE, stop=False)
        assert [each.sw for each in responses] == [0x9000, 0x6A82, 0x9000]
        assert [each.is_successful() for each in responses] == [True, False, True]
        responses = await open_card.send_all(FINE, MISSING, FINE, success=["6A82"])
        assert [each.is_successful() for each in responses] == [False]
        with pytest.raises(ValueError, match="at least one"):
            await open_card.send_all()


@both_faces
async def test_a_card_that_goes_says_how_many_had_been_answered(pcsc: SimulatedPCSC, card: SwCard, face: Any) -> None:
    async with face.open(timeout=5) as open_card:
        card.pulled_by = lambda: pcsc.inject("SCardTransmit", REMOVED_CARD)
        with pytest.raises(CardRemovedError) as caught:
            await open_card.send_all(FINE, PULL, FINE)
        assert caught.value.answered == 2


@both_faces
async def test_channels_and_layers_follow(card: SwCard, face: Any) -> None:
    async with face.open(timeout=5, success=["91xx"]) as open_card:
        async with open_card.channel() as channel:  # 9000 to MANAGE CHANNEL is a success, whatever the words
            assert (await channel.send(PENDING, FINE, PENDING)).sw == 0x9000
            assert [each.sw for each in await channel.send_all(PENDING, FINE, PENDING, stop=False)] == [0x9100, 0x9000, 0x9100]
            assert (await channel.send(FINE, PENDING, success=["9000"])).sw == 0x9100
            layered = channel.layer(Words())
            assert (await layered.send(FINE, MISSING, success=["9100"])).check().sw == 0x9100
            assert all(command[0] == 1 for command in card.commands[1:])
        layered = open_card.layer(Words())
        assert (await layered.send(MISSING, MISSING)).check().sw == 0x9100
        assert [each.sw for each in await layered.send_all(MISSING, FINE, success=["6A82"])] == [0x9100]


@both_faces
async def test_what_the_reader_answers_is_judged_by_its_own_standard(card: SwCard, face: Any) -> None:
    async with face.open(timeout=5, success=["91xx"]) as open_card:
        assert await open_card.uid() == b"\1\2\3\4"
        assert await open_card.ats() == b"\1\2\3\4"


@both_faces
async def test_a_pin_entry_is_judged_by_the_cards_words(face: Any) -> None:
    class Sim(LogCard):
        def process(self, command: bytes) -> bytes:
            return b"\x91\x10"

    with SimulatedPCSC() as pcsc:
        pad = PinPad()
        pcsc.add_reader("Pad", controls=pad)
        pcsc.insert("Pad", Sim())
        async with face.open(timeout=5, success=["91xx", "64xx"]) as open_card:
            pad.type("1234")
            result = await open_card.verify_pin_on_pad(C_APDU(0, 0x20, 0, 1), PinEntry())
            assert result.check().sw == 0x9110
            pad.press_cancel()
            result = await open_card.verify_pin_on_pad(C_APDU(0, 0x20, 0, 1), PinEntry())
            assert result.cancelled
            assert not result.is_successful()


@both_faces
@pytest.mark.parametrize("success", ["9000", [], ["90"], 0x9000])
async def test_a_mistake_is_told_before_anything_is_sent(card: SwCard, face: Any, success: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="success"):
        async with face.open(timeout=5, success=success):
            pass
    async with face.open(timeout=5) as open_card:
        with pytest.raises((TypeError, ValueError), match="success"):
            await open_card.send(FINE, success=success)
        with pytest.raises((TypeError, ValueError), match="success"):
            await open_card.send_all(FINE, success=success)
        assert not card.commands
