"""What an open card offers beside its exchanges, on both faces: real pcscd where it can be had, else the simulation."""

from __future__ import annotations

import sys
import time
from typing import Any

import anyio
import pytest

from scardface import (
    C_APDU,
    Attribute,
    CardRemovedError,
    CardResetError,
    Disposition,
    Feature,
    NoCardError,
    PinEntry,
    Protocol,
    SCard,
    SCardError,
    ShareMode,
    StatusError,
    errors,
)
from scardface.testing import FileCard, PinPad, PrivatePcscd, SimulatedPCSC
from tests.support import foreign as other
from tests.support.cards import BOTH, ECHO, GATE, T1, LogCard
from tests.support.conformance import rounds
from tests.support.faces import both_faces, off_loop
from tests.support.foreign import Foreign, ForeignError

pytestmark = pytest.mark.anyio

ECHOED = C_APDU(0, ECHO, 0, 0, b"ab")
SHARED = ShareMode.SHARED
POWERED = 0.4
"""Seconds for which pcscd leaves a card that nobody uses powered at least: two of its looks at a reader that it has to poll."""
T0_ONLY = bytes.fromhex("3B00")


async def echo(card: Any) -> bytes:
    data: bytes = (await card.send(ECHOED)).check().data
    return data


# Transactions.


@both_faces
async def test_another_program_waits_out_our_transaction(pcscd: PrivatePcscd, foreign: Foreign, face: Any) -> None:
    """It connects before, since a connect waits, too; its command goes out once ours has ended, and not before."""
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    async with face.open(timeout=30, share=SHARED) as card:
        await off_loop(foreign.connect, card.reader, other.SHARED)
        async with card.transaction():
            foreign.ask("transmit", data=bytes([0, 0xEE, 0, 0]).hex())
            for _ in range(20):
                assert await echo(card) == b"ab"
            await anyio.sleep(0.3)  # ample for a command that does not wait
            assert await echo(card) == b"ab"
            assert not any(command[1] == 0xEE for command in virtual.commands)
        await off_loop(foreign.answer)
        assert [command[1] for command in virtual.commands] == [ECHO] * 21 + [0xEE]


@both_faces
async def test_we_wait_out_anothers_transaction(pcscd: PrivatePcscd, foreign: Foreign, face: Any) -> None:
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    async with face.open(timeout=30, share=SHARED) as card, anyio.create_task_group() as tasks:
        await off_loop(foreign.connect, card.reader, other.SHARED)
        await off_loop(foreign.begin)
        began = anyio.Event()

        async def ours() -> None:
            async with card.transaction():
                began.set()
                await echo(card)

        tasks.start_soon(ours)
        for _ in range(5):
            await off_loop(foreign.transmit, bytes([0, 0xEE, 0, 0]))
            await anyio.sleep(0.05)
        assert not began.is_set()
        await off_loop(foreign.end)
        with anyio.fail_after(30):
            await began.wait()
    assert [command[1] for command in virtual.commands] == [0xEE] * 5 + [ECHO]


@both_faces
async def test_other_tasks_wait_and_the_holder_may_nest(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    begun = anyio.Event()

    async def intrude(card: Any) -> None:
        await begun.wait()
        await card.transmit(bytes([0, 0xEE, 0, 0]))

    async with face.open(timeout=30, share=SHARED) as card, anyio.create_task_group() as tasks:
        tasks.start_soon(intrude, card)
        async with card.transaction():
            begun.set()
            await anyio.sleep(0.1)
            async with card.transaction():
                await echo(card)
            await card.transmit(bytes([0, 0xAA, 0, 0]))
            await anyio.sleep(0.1)
    assert [command[1] for command in virtual.commands] == [ECHO, 0xAA, 0xEE]


@both_faces
async def test_a_transaction_ends_on_every_way_out(pcscd: PrivatePcscd, foreign: Foreign, face: Any) -> None:
    pcscd.insert(0, LogCard(BOTH))
    async with face.open(timeout=30, share=SHARED) as card:
        await off_loop(foreign.connect, card.reader, other.SHARED)
        with pytest.raises(ZeroDivisionError):
            async with card.transaction():
                raise ZeroDivisionError
        await off_loop(foreign.transmit, bytes([0, 0, 0, 0]))
        with anyio.CancelScope() as scope:
            async with card.transaction():
                scope.cancel()
                await anyio.sleep(1)
        await off_loop(foreign.transmit, bytes([0, 0, 0, 0]))
        async with card.transaction():
            await card.aclose()
        await off_loop(foreign.transmit, bytes([0, 0, 0, 0]))  # no reset: a release inside a transaction would be one (fact 31)


async def test_a_cancelled_transaction_leaves_at_once_and_is_undone(
    pcscd: PrivatePcscd, foreign: Foreign, anyio_backend: Any
) -> None:
    """The card is busy until the begin has come back."""
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    async with SCard(timeout=30, share=SHARED) as card:
        await off_loop(foreign.connect, card.reader, other.SHARED)
        await off_loop(foreign.begin)
        with anyio.move_on_after(0.1) as scope:
            async with card.transaction():
                pytest.fail("another program holds the card")
        assert scope.cancelled_caught
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(echo, card)
            await anyio.sleep(0.3)
            assert virtual.commands == []
            await off_loop(foreign.end)
        assert len(virtual.commands) == 1
        await off_loop(foreign.transmit, bytes([0, 0, 0, 0]))  # nothing holds it any more


@both_faces
async def test_a_transaction_may_end_with_a_reset(pcscd: PrivatePcscd, foreign: Foreign, face: Any) -> None:
    """The other program hears of it; the card that asked for it goes on."""
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    async with face.open(timeout=30, share=SHARED) as card:
        await off_loop(foreign.connect, card.reader, other.SHARED)
        async with card.transaction(Disposition.RESET):
            await echo(card)
        assert virtual.resets == 1
        assert await echo(card) == b"ab"
        with pytest.raises(ForeignError) as caught:
            await off_loop(foreign.transmit, bytes([0, 0, 0, 0]))
        assert caught.value.code == errors.RESET_CARD


@both_faces
async def test_a_card_that_leaves_ends_its_transaction(pcscd: PrivatePcscd, face: Any) -> None:
    """Nothing is said at the end of the block about a card that had done its work."""
    pcscd.insert(0, LogCard(BOTH))
    async with face.open(timeout=30, share=SHARED) as card:
        async with card.transaction():
            await echo(card)
            await off_loop(pcscd.remove, 0)
            await card.wait()
        with pytest.raises(CardRemovedError):
            async with card.transaction():
                pytest.fail("there is no card")


@both_faces
async def test_a_transaction_on_a_card_that_was_reset(pcscd: PrivatePcscd, foreign: Foreign, face: Any) -> None:
    pcscd.insert(0, LogCard(BOTH))
    async with face.open(timeout=30, share=SHARED) as card:
        await off_loop(foreign.connect, card.reader, other.SHARED)
        await off_loop(foreign.disconnect, other.RESET)
        with pytest.raises(CardResetError):
            async with card.transaction():
                pytest.fail("it was reset")
        await card.reconnect()
        async with card.transaction():
            assert await echo(card) == b"ab"


@both_faces
async def test_what_cannot_be_done_inside(pcscd: PrivatePcscd, face: Any) -> None:
    pcscd.insert(0, LogCard(BOTH))
    async with face.open(timeout=30, share=SHARED) as card:
        async with card.transaction():
            with pytest.raises(RuntimeError, match="inside a transaction"):
                await card.reconnect(share=ShareMode.EXCLUSIVE)
        with pytest.raises(ValueError, match="disposition"):
            async with card.transaction(9):
                pytest.fail("no such disposition")
        await card.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            async with card.transaction():
                pytest.fail("it is closed")


async def test_a_callback_cannot_use_its_card(pcscd: PrivatePcscd, anyio_backend: Any) -> None:
    pcscd.insert(0, LogCard(BOTH))
    async with SCard(timeout=30) as card:

        async def callback(*_: object) -> None:
            for call in (card.reset, card.reconnect, lambda: card.control(1), lambda: card.attribute(1)):
                with pytest.raises(RuntimeError, match="callback"):
                    await call()
            with pytest.raises(RuntimeError, match="callback"):
                async with card.transaction():
                    pytest.fail("a deadlock")

        await card.send(ECHOED, callback=callback)


# Resets, reconnects, dispositions.


@both_faces
async def test_reset(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    async with face.open(timeout=30) as card:
        powered = virtual.power_ons
        await card.reset()
        assert (virtual.resets, virtual.power_ons) == (1, powered)
        await card.reset(cold=True)
        assert virtual.power_ons == powered + 1
        assert await echo(card) == b"ab"
        assert card.atr == BOTH


@both_faces
async def test_what_a_card_answers_to_a_reset_counts(face: Any) -> None:
    class Warm(LogCard):
        def reset(self) -> None:
            self.atr = T0_ONLY

    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Warm(BOTH))
        async with face.open(timeout=30) as card:
            assert (card.atr, card.protocol) == (BOTH, Protocol.T1)
            await card.reset()
            assert (card.atr, card.protocol) == (T0_ONLY, Protocol.T0)


@both_faces
async def test_a_swapped_card_is_not_touched(pcscd: PrivatePcscd, face: Any) -> None:
    """Neither by a reset nor by anything after it."""
    pcscd.insert(0, LogCard(BOTH))
    async with face.open(timeout=30) as card:
        await off_loop(pcscd.remove, 0)
        await card.wait()
        second = LogCard(T1)
        await off_loop(pcscd.insert, 0, second)
        await off_loop(pcscd.wait_for_card, 0)
        for call in (card.reset, card.reconnect, lambda: card.send(ECHOED)):
            with pytest.raises(CardRemovedError):
                await call()
    assert (second.resets, second.commands) == (0, [])


@both_faces
async def test_reconnect_shares_otherwise(pcscd: PrivatePcscd, foreign: Foreign, face: Any) -> None:
    pcscd.insert(0, LogCard(BOTH))
    async with face.open(timeout=30) as card:
        with pytest.raises(ForeignError) as caught:
            await off_loop(foreign.connect, card.reader, other.SHARED)
        assert caught.value.code == errors.SHARING_VIOLATION
        await card.reconnect(share=SHARED)
        assert card.share is SHARED
        async with face.open(timeout=30, share=SHARED) as twin:  # this process's own table knows, too
            assert await echo(twin) == b"ab"
        await off_loop(foreign.connect, card.reader, other.SHARED)
        await off_loop(foreign.transmit, bytes([0, 0, 0, 0]))
        await off_loop(foreign.disconnect)
        await card.reconnect(share=ShareMode.EXCLUSIVE)
        assert card.share is ShareMode.EXCLUSIVE
        with pytest.raises(ForeignError):
            await off_loop(foreign.connect, card.reader, other.SHARED)
        assert await echo(card) == b"ab"


@both_faces
async def test_reconnect_speaks_otherwise(pcscd: PrivatePcscd, face: Any) -> None:
    pcscd.insert(0, LogCard(BOTH))
    async with face.open(timeout=30) as card:
        assert card.protocol == Protocol.T1
        await card.reset()
        await card.reconnect(protocols=Protocol.T1)
        for wrong in (Protocol.UNDEFINED, Protocol.T0 | Protocol.RAW):
            with pytest.raises(ValueError, match="protocols"):
                await card.reconnect(protocols=wrong)
        with pytest.raises(ValueError, match="share"):
            await card.reconnect(share=7)
        assert await echo(card) == b"ab"


@both_faces
async def test_a_reader_opened_without_a_card_takes_the_one_that_comes(pcscd: PrivatePcscd, face: Any) -> None:
    async with face.open(pcscd.readers[0], timeout=30, share=ShareMode.DIRECT, protocols=Protocol.UNDEFINED) as card:
        assert card.protocol == Protocol.UNDEFINED
        with pytest.raises(NoCardError):
            await card.reconnect(share=SHARED, protocols=Protocol.T1)
        await off_loop(pcscd.insert, 0, LogCard(BOTH))
        await off_loop(pcscd.wait_for_card, 0)
        await card.reconnect(share=SHARED, protocols=Protocol.T1)
        assert (card.protocol, card.atr, card.share) == (Protocol.T1, BOTH, SHARED)
        assert await echo(card) == b"ab"


@pytest.mark.parametrize(
    ("share", "disposition", "reset", "off"),
    [
        (ShareMode.EXCLUSIVE, None, True, False),
        (ShareMode.EXCLUSIVE, Disposition.LEAVE, False, False),
        (ShareMode.EXCLUSIVE, Disposition.RESET, True, False),
        (SHARED, None, False, False),
        (SHARED, Disposition.LEAVE, False, False),
        (SHARED, Disposition.RESET, True, False),
        (SHARED, Disposition.UNPOWER, False, True),
    ],
)
@both_faces
async def test_what_becomes_of_the_card_at_the_close(
    pcscd: PrivatePcscd, face: Any, share: ShareMode, disposition: Disposition | None, reset: bool, off: bool
) -> None:
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    for _ in rounds():
        async with face.open(timeout=30, share=share) as card:
            on, resets = virtual.power_ons, virtual.resets
            in_use = time.monotonic()
            await card.aclose(disposition)
            assert virtual.resets == resets + int(reset)
        async with face.open(timeout=30) as card:
            assert await echo(card) == b"ab"
            again = virtual.power_ons - on
            if off or time.monotonic() - in_use < POWERED:  # else pcscd may have powered it down for itself
                break
    assert again == int(off)


@both_faces
async def test_no_such_disposition(pcscd: PrivatePcscd, face: Any) -> None:
    pcscd.insert(0, LogCard(BOTH))
    async with face.open(timeout=30) as card:
        with pytest.raises(ValueError, match="disposition"):
            await card.aclose(9)
        assert await echo(card) == b"ab"


# Resets by others.


@both_faces
async def test_on_reset_reconnect_begins_the_command_anew(pcscd: PrivatePcscd, foreign: Foreign, face: Any) -> None:
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    async with face.open(timeout=30, share=SHARED, on_reset="reconnect") as card:
        for _ in range(3):
            await off_loop(foreign.connect, card.reader, other.SHARED)
            await off_loop(foreign.disconnect, other.RESET)
            assert await echo(card) == b"ab"
    assert (virtual.resets, len(virtual.commands)) == (3, 3)


@both_faces
async def test_on_reset_does_not_go_on_for_ever(face: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        async with face.open(timeout=30, share=SHARED, on_reset="reconnect") as card:
            pcsc.inject("SCardTransmit", errors.RESET_CARD, times=10)
            with pytest.raises(CardResetError):
                await echo(card)


@pytest.mark.slow
@both_faces
async def test_a_card_pulled_in_a_batch_says_how_many_were_answered(face: Any) -> None:
    virtual = LogCard()

    async def pull(pcsc: SimulatedPCSC) -> None:
        assert await off_loop(virtual.reached.wait, 5)
        pcsc.remove("A")
        virtual.gate.set()

    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", virtual)
        async with face.open(timeout=30) as card, anyio.create_task_group() as tasks:
            tasks.start_soon(pull, pcsc)
            with pytest.raises(CardRemovedError, match="2 of the commands") as caught:
                await card.send(ECHOED, ECHOED, C_APDU(0, GATE), ECHOED)
            assert caught.value.answered == 2


@both_faces
async def test_a_card_pulled_between_commands_says_how_many_were_answered(face: Any) -> None:
    answered: list[object] = []

    def callback(*exchange: object) -> None:
        answered.append(exchange)
        if len(answered) == 2:
            pcsc.remove("A")

    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        async with face.open(timeout=30) as card:
            with pytest.raises(CardRemovedError, match="2 of the commands") as caught:
                await card.send(ECHOED, ECHOED, ECHOED, callback=callback)
            assert caught.value.answered == 2
            with pytest.raises(CardRemovedError) as caught:
                await card.send(ECHOED)
            assert "sent together" not in str(caught.value)
            assert caught.value.answered == 0
            with pytest.raises(CardRemovedError) as caught:
                await card.transmit(bytes(4))
            assert caught.value.answered is None


# The reader.


@both_faces
async def test_what_a_virtual_reader_does_not_have(pcscd: PrivatePcscd, face: Any) -> None:
    pcscd.insert(0, LogCard(BOTH))
    async with face.open(timeout=30) as card:
        with pytest.raises(SCardError) as caught:
            await card.control(0x42000D48)
        assert (caught.value.call, caught.value.reader) == ("SCardControl", card.reader)
        with pytest.raises(SCardError) as caught:
            await card.attribute(0x00010100)
        assert caught.value.call == "SCardGetAttrib"
        with pytest.raises(SCardError) as caught:
            await card.set_attribute(0x00010100, "a name")
        assert caught.value.call == "SCardSetAttrib"
        assert await echo(card) == b"ab"


@both_faces
async def test_a_control_and_attributes_that_are_none(face: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        async with face.open(timeout=30) as card:
            for code in (-1, 1 << 32):
                with pytest.raises(ValueError, match="code"):
                    await card.control(code)
                with pytest.raises(ValueError, match="attribute"):
                    await card.attribute(code)
            for wrong in ("1", 1.0, True):
                with pytest.raises(TypeError, match="code"):
                    await card.control(wrong)
            with pytest.raises(TypeError, match="bytes"):
                await card.control(1, "data")
            with pytest.raises(ValueError, match="65548"):
                await card.control(1, bytes(65549))
            assert pcsc.calls.get("SCardControl", 0) == 0


VERIFY = C_APDU(0x00, 0x20, 0x00, 0x01)


@both_faces
async def test_a_pin_on_a_pad(face: Any) -> None:
    """Right, wrong, cancelled, and nobody there."""
    pad = PinPad()
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Pad", controls=pad)
        pcsc.insert("Pad", FileCard())
        async with face.open(timeout=30) as card:
            assert Feature.VERIFY_PIN_DIRECT in await card.features()
            assert (await card.properties()).max_pin_size == 15
            pad.type("9999")
            result = await card.verify_pin_on_pad(VERIFY)
            assert (result.entered, result.is_successful(), result.tries_left) == (True, False, 2)
            assert result.meaning == "wrong PIN, 2 tries left"
            pad.press_cancel()
            result = await card.verify_pin_on_pad(VERIFY)
            assert (result.cancelled, result.entered) == (True, False)
            pad.say_nothing()
            result = await card.verify_pin_on_pad(VERIFY, PinEntry(timeout=1))
            assert (result.timed_out, result.entered) == (True, False)
            pad.type("1234")
            assert (await card.verify_pin_on_pad(VERIFY)).check().entered


@both_faces
async def test_a_reader_without_a_pad(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    async with face.open(timeout=30) as card:
        assert await card.features() == {}
        for call in (card.verify_pin_on_pad, card.modify_pin_on_pad):
            with pytest.raises(SCardError, match="no keypad"):
                await call(VERIFY)
        with pytest.raises(ValueError, match="PIN block"):
            await card.verify_pin_on_pad(C_APDU(0, 0x20, 0, 1, b"1"))
        assert virtual.commands == []


class Tag(LogCard):
    """A contactless tag, as its reader shows it."""

    def process(self, command: bytes) -> bytes:
        if command[:4] == bytes.fromhex("FFCA0000"):
            return bytes.fromhex("04A1B2C3D4E5F6 9000")
        if command[:4] == bytes.fromhex("FFCA0100"):
            return bytes.fromhex("6A81")
        return super().process(command)


@both_faces
async def test_a_contactless_tag(pcscd: PrivatePcscd, face: Any) -> None:
    pcscd.insert(0, Tag(BOTH))
    async with face.open(timeout=30) as card:
        assert (await card.uid()).hex() == "04a1b2c3d4e5f6"
        with pytest.raises(StatusError, match="does not know this"):
            await card.ats()


@both_faces
async def test_a_readers_attributes(face: Any) -> None:
    with SimulatedPCSC() as pcsc:
        channel = 0x00200005.to_bytes(4, sys.byteorder)
        pcsc.add_reader("A", attributes={Attribute.VENDOR_NAME: b"ACME\0", Attribute.CHANNEL_ID: channel})
        pcsc.insert("A", LogCard())
        async with face.open(timeout=30) as card:
            assert await card.attribute(Attribute.VENDOR_NAME) == "ACME"
            assert await card.attribute(Attribute.CHANNEL_ID) == 0x00200005
            await card.set_attribute(Attribute.VENDOR_NAME, "Other")
            assert await card.attribute(Attribute.VENDOR_NAME) == "Other"
            with pytest.raises(TypeError):
                await card.set_attribute(Attribute.VENDOR_NAME, 5)
