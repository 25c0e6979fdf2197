"""`settle` and `new_only`, on both faces; the dispatcher's rules of them are in test_dispatcher.py."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from scardface import CardTimeoutError, SCard, ShareMode
from scardface._waiting.driver import driver_of
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.cards import LogCard
from tests.support.faces import both_faces, off_loop
from tests.support.waits import SEEN, until, waiters

pytestmark = pytest.mark.anyio


@both_faces
async def test_new_only(pcscd: PrivatePcscd, face: Any) -> None:
    pcscd.insert(0, LogCard())
    pcscd.wait_for_card(0)
    with pytest.raises(CardTimeoutError):
        async with face.open(timeout=0, new_only=True):
            pytest.fail("it was in")
    second = LogCard(bytes.fromhex("3B00"))

    async def put_in() -> None:
        await until(waiters)  # it has looked
        await off_loop(pcscd.insert, 1, second)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put_in)
        async with face.open(timeout=30, new_only=True) as card:
            assert (card.reader, card.atr) == (pcscd.readers[1], second.atr)


@pytest.mark.slow
@both_faces
async def test_a_card_that_bounces_is_opened_once_it_has_settled(face: Any) -> None:
    """Two taps reported for one: the first is not connected to."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")

        async def tap() -> None:
            await until(lambda: waiters(pcsc))
            for _ in range(3):
                pcsc.insert("A", LogCard())
                await until(lambda: any(each.present for each in driver_of(pcsc)._dispatcher._last.readers.values()))
                pcsc.remove("A")
            pcsc.insert("A", LogCard())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tap)
            async with face.open(timeout=30, settle=SEEN) as card:
                assert pcsc.calls["SCardConnect"] == 1
                assert (await card.send(bytes(4))).sw == 0x9000


@both_faces
async def test_a_card_that_never_settles_is_a_timeout(face: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        with pytest.raises(CardTimeoutError):
            async with face.open(timeout=0.1, settle=30):
                pytest.fail("too early")
        assert pcsc.calls.get("SCardConnect", 0) == 0


async def test_cancelled_while_it_settles_another_gets_it(anyio_backend: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        with anyio.move_on_after(0.1) as scope:
            async with SCard(settle=30):
                pytest.fail("too early")
        assert scope.cancelled_caught
        async with SCard(timeout=30):
            pass


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"settle": -1}, "settle"),
        ({"settle": 61}, "settle: 0 to 60"),
        ({"settle": float("nan")}, "settle"),
        ({"on_reset": "ignore"}, "on_reset: 'ignore'"),
        ({"share": ShareMode.DIRECT, "settle": 1.0}, "DIRECT"),
        ({"share": ShareMode.DIRECT, "new_only": True}, "DIRECT"),
    ],
)
async def test_arguments_that_make_no_sense(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SCard(**arguments)


@pytest.mark.parametrize("settle", [None, "1", True])
async def test_a_settling_time_that_is_no_number(settle: Any) -> None:
    with pytest.raises(TypeError, match="settle"):
        SCard(settle=settle)
