"""A PIN that is not sent when it might use the last tries: both faces, the real pcscd."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from scardface import R_APDU, Protocol, StatusError, iso7816
from scardface.iso7816 import PinTriesError
from scardface.testing import FileCard, PrivatePcscd, SimulatedPCSC
from tests.support.faces import both_faces, off_loop
from tests.support.iso_card import IsoCard

pytestmark = pytest.mark.anyio

PIN, WRONG = b"1234", b"9999"


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Reader")
        yield pcsc


async def verify(face: Any, card: Any, pin: bytes = PIN, *, reference: int = 0x81, **kwargs: Any) -> Any:
    if face.name == "async":
        return await iso7816.verify_pin(card, reference, pin, **kwargs)
    return await off_loop(iso7816.verify_pin, card.card, reference, pin, **kwargs)


def sent(card: IsoCard) -> list[int]:
    """How many bytes of PIN each VERIFY had."""
    return [len(command[5:]) for command in card.commands if command[1] == 0x20]


@both_faces
async def test_the_last_try_is_kept_on_pcscd(pcscd: PrivatePcscd, face: Any) -> None:
    card = IsoCard(tries=3)
    pcscd.insert(0, card)
    async with face.open(timeout=30) as open_card:
        assert (await verify(face, open_card, WRONG)).sw == 0x63C2
        assert (await verify(face, open_card, WRONG)).sw == 0x63C1
        for _ in range(3):
            with pytest.raises(
                PinTriesError, match=r"the PIN was not sent: 1 try left, and 1 of them is kept \(keep=1\)"
            ) as caught:
                await verify(face, open_card, PIN)
        assert (caught.value.tries_left, caught.value.keep, caught.value.response.sw) == (1, 1, 0x63C1)
        assert (card.tries, card.verified) == (1, False)
        assert sent(card) == [0, 4, 0, 4, 0, 0, 0]
        assert (await verify(face, open_card, PIN, keep=0)).check().sw == 0x9000
        assert (card.tries, card.verified) == (3, True)


@both_faces
async def test_what_is_kept_is_the_callers(pcsc: SimulatedPCSC, face: Any) -> None:
    card = IsoCard(tries=3)
    pcsc.insert(0, card)
    async with face.open(timeout=5) as open_card:
        with pytest.raises(PinTriesError, match="3 tries left, and 3 of them are kept"):
            await verify(face, open_card, keep=3)
        assert not any(sent(card))
        assert (await verify(face, open_card, WRONG, keep=2)).sw == 0x63C2
        with pytest.raises(PinTriesError):
            await verify(face, open_card, keep=2)
        assert (await verify(face, open_card, WRONG, keep=0)).sw == 0x63C1
        assert (await verify(face, open_card, WRONG, keep=0)).sw == 0x63C0
        with pytest.raises(PinTriesError, match="no tries left: it is blocked") as caught:
            await verify(face, open_card, keep=0)
        assert caught.value.tries_left == 0
        assert sent(card)[-1] == 0


@both_faces
async def test_a_card_that_does_not_tell_is_asked_with_the_pin(pcsc: SimulatedPCSC, face: Any) -> None:
    card = IsoCard(tells=False, tries=1)
    pcsc.insert(0, card)
    async with face.open(timeout=5) as open_card:
        assert (await verify(face, open_card)).sw == 0x9000
        assert sent(card) == [0, 4]


@both_faces
async def test_a_verified_pin_is_compared_all_the_same(pcsc: SimulatedPCSC, face: Any) -> None:
    """Else any PIN would pass for the right one."""
    card = IsoCard()
    pcsc.insert(0, card)
    async with face.open(timeout=5, success=["9000", "63Cx"]) as open_card:
        assert (await verify(face, open_card)).sw == 0x9000
        assert (await verify(face, open_card, WRONG)).sw == 0x63C2


@both_faces
@pytest.mark.parametrize("protocol", [Protocol.T0, Protocol.T1])
async def test_the_file_card_of_the_package(pcsc: SimulatedPCSC, face: Any, protocol: Protocol) -> None:
    pcsc.insert(0, FileCard(tries=2, protocol=protocol))
    async with face.open(timeout=5) as open_card:
        assert (await verify(face, open_card, WRONG, reference=0x01)).sw == 0x63C1
        with pytest.raises(PinTriesError, match="1 try left"):
            await verify(face, open_card, reference=0x01)


@both_faces
async def test_the_pin_is_nowhere(pcsc: SimulatedPCSC, face: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    pcsc.insert(0, IsoCard(tries=2))
    pin = b"73194628"
    async with face.open(timeout=5) as open_card:
        response = await verify(face, open_card, pin)
        with pytest.raises(StatusError) as refused:
            response.check()
        with pytest.raises(PinTriesError) as kept:
            await verify(face, open_card, pin)
    shown = caplog.text + repr(response) + str(refused.value) + repr(kept.value) + str(kept.value)
    assert "20008100 <8 bytes>" in shown or "00200081 <8 bytes>" in shown
    assert "73194628" not in shown
    assert pin.hex() not in shown.lower()


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((0x81, b""), ValueError),
        ((0x81, "1234"), TypeError),
        ((0x81, bytes(256)), ValueError),
        ((0x81, 1234), TypeError),
        ((256, PIN), ValueError),
        ((0x81, PIN, -1), ValueError),
        ((0x81, PIN, 16), ValueError),
        ((0x81, PIN, True), TypeError),
    ],
)
def test_a_mistake_sends_nothing(args: Any, error: type[Exception]) -> None:
    class Never:
        def send(self, apdu: Any) -> R_APDU:
            raise AssertionError(apdu)

    with pytest.raises(error) as caught:
        iso7816.verify_pin(Never(), *args)
    assert "1234" not in str(caught.value)


def test_tries_of_any_response() -> None:
    assert [iso7816.tries_left(R_APDU(b"", sw >> 8, sw & 0xFF)) for sw in (0x63C3, 0x63C0, 0x6983, 0x9000, 0x6300)] == [
        3, 0, 0, None, None,
    ]  # fmt: skip


def test_the_error_can_be_pickled() -> None:
    error = PinTriesError(R_APDU(b"", 0x63, 0xC1), 1)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.tries_left, again.keep) == (str(error), 1, 1)
