"""A reader with a keypad, its features and properties, and a contactless card, on both faces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from scardface import (
    C_APDU,
    CardRemovedError,
    Feature,
    PadResult,
    PinEntry,
    PinFormat,
    ReaderProperties,
    SCardError,
    ShareMode,
    StatusError,
)
from scardface.testing import FileCard, PinPad, SimulatedPCSC, VirtualCard
from tests.support.faces import AsyncFace, SyncFace, both_faces
from tests.support.waits import until

VERIFY, CHANGE = C_APDU(0x00, 0x20, 0x00, 0x01), C_APDU(0x00, 0x24, 0x00, 0x01)
TWO_BLOCKS = bytes.fromhex("10  24 12 34 FF FF FF FF FF  25 56 78 9F FF FF FF FF")
"""Lc, then 1234 and 56789 in blocks of ISO 9564-1, format 2."""


class Tag(VirtualCard):
    """Its reader knows a UID, and no ATS."""

    def process(self, command: bytes) -> bytes:
        if command[:2] == b"\xff\xca":
            return b"\x04\x01\x02\x03\x90\x00" if command[2] == 0 else b"\x6a\x81"
        if command[1] == 0x24:
            return b"\x90\x00" if command[4:] == TWO_BLOCKS else b"\x6a\x80"
        return b"\x6d\x00"


@pytest.fixture
def pad() -> PinPad:
    return PinPad()


@pytest.fixture
def pcsc(pad: PinPad) -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Pad", controls=pad)
        yield pcsc


@both_faces
@pytest.mark.anyio
async def test_verify(face: AsyncFace | SyncFace, pcsc: SimulatedPCSC, pad: PinPad) -> None:
    pcsc.insert("Pad", FileCard(pin=b"1234"))
    async with face.open(timeout=30) as card:
        pad.type("1234", "9999")
        pad.press_cancel()
        pad.say_nothing()
        assert (await card.verify_pin_on_pad(VERIFY)).check().is_successful()
        wrong = await card.verify_pin_on_pad(VERIFY, PinEntry(max_length=12))
        assert isinstance(wrong, PadResult)
        assert (wrong.tries_left, wrong.meaning) == (2, "wrong PIN, 2 tries left")
        assert (await card.verify_pin_on_pad(VERIFY)).cancelled
        assert (await card.verify_pin_on_pad(VERIFY)).timed_out
        with pytest.raises(ValueError, match="no Le"):
            await card.verify_pin_on_pad(C_APDU(0x00, 0x20, 0x00, 0x01, le=1))
        assert pad.asked == ["PIN"] * 4


@both_faces
@pytest.mark.anyio
async def test_modify(face: AsyncFace | SyncFace, pcsc: SimulatedPCSC, pad: PinPad) -> None:
    pcsc.insert("Pad", Tag())
    async with face.open(timeout=30) as card:
        pad.type("1234", "56789", "56789", "1234", "56789", "56788")
        entry = PinEntry(format=PinFormat.ISO_9564_2)
        assert (await card.modify_pin_on_pad(CHANGE, entry)).is_successful()
        assert (await card.modify_pin_on_pad(CHANGE, entry)).different
        pad.type("1234")
        assert (await card.modify_pin_on_pad(CHANGE, entry, ask_current=False, confirm=False)).sw == 0x6A80
        assert pad.asked[-1] == "new PIN"


@both_faces
@pytest.mark.anyio
async def test_features_and_properties(face: AsyncFace | SyncFace, pcsc: SimulatedPCSC) -> None:
    pcsc.add_reader("Plain")
    async with face.open("Pad", timeout=0, share=ShareMode.DIRECT) as reader:
        assert Feature.VERIFY_PIN_DIRECT in await reader.features()
        assert (await reader.properties()).display_columns == 16
    async with face.open("Plain", timeout=0, share=ShareMode.DIRECT) as reader:
        assert await reader.features() == {}
        assert await reader.properties() == ReaderProperties()
        with pytest.raises(SCardError, match="no keypad") as caught:
            await reader.verify_pin_on_pad(VERIFY)
        assert caught.value.code == 0x8010001F


@both_faces
@pytest.mark.anyio
async def test_uid_and_ats(face: AsyncFace | SyncFace, pcsc: SimulatedPCSC) -> None:
    pcsc.insert("Pad", Tag())
    async with face.open(timeout=30) as card:
        assert await card.uid() == b"\x04\x01\x02\x03"
        with pytest.raises(StatusError, match="6A81: the reader does not know this for such a card"):
            await card.ats()


@pytest.mark.anyio
async def test_cancelled_while_the_user_hesitates(pcsc: SimulatedPCSC, pad: PinPad) -> None:
    pcsc.insert("Pad", FileCard(pin=b"1234"))
    async with AsyncFace().open(timeout=30) as card:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(card.verify_pin_on_pad, VERIFY)
            await until(lambda: pad.asked)
            tasks.cancel_scope.cancel()
        pad.type("1234")  # the user answers after all; the next command waits for that
        read: Any = await card.send(C_APDU(0x00, 0x20, 0x00, 0x01))
        assert read.is_successful()


@both_faces
@pytest.mark.anyio
async def test_a_card_that_goes_while_the_user_hesitates(face: AsyncFace | SyncFace, pcsc: SimulatedPCSC, pad: PinPad) -> None:
    pcsc.insert("Pad", FileCard(pin=b"1234"))
    async with face.open(timeout=30) as card, anyio.create_task_group() as tasks:

        async def pull() -> None:
            while not pad.asked:
                await anyio.sleep(0.01)
            await anyio.to_thread.run_sync(pcsc.remove, "Pad")
            pad.type("1234")

        tasks.start_soon(pull)
        with pytest.raises(CardRemovedError):
            await card.verify_pin_on_pad(VERIFY)
