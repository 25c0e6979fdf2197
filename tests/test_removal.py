"""The wait for a removal, on the simulation; on the real daemon and on both faces it is in test_scard.py."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from scardface import SCard, ServiceUnavailableError, ShareMode, WaitCancelledError, errors
from scardface.testing import SimulatedPCSC
from tests.support.cards import LogCard

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        simulated.insert("A", LogCard())
        yield simulated
        assert simulated.open_contexts == 0


async def waits(card: SCard, ended: list[object]) -> None:
    try:
        await card.wait()
    except Exception as error:
        ended.append(type(error))
    else:
        ended.append(None)


@pytest.mark.parametrize("how", ["removed", "swapped", "unplugged"])
async def test_ways_to_go(pcsc: SimulatedPCSC, how: str) -> None:
    with anyio.fail_after(5):
        async with SCard(timeout=5) as card, anyio.create_task_group() as tasks:
            tasks.start_soon(card.wait)
            await anyio.wait_all_tasks_blocked()
            if how == "unplugged":
                pcsc.remove_reader("A")
            else:
                pcsc.remove("A")
            if how == "swapped":
                pcsc.insert("A", LogCard())


async def test_gone_before_the_wait_began(pcsc: SimulatedPCSC) -> None:
    async with SCard(timeout=5) as card:
        pcsc.remove("A")
        pcsc.insert("A", LogCard())
        with anyio.fail_after(5):
            await card.wait()


async def test_another_reader_and_another_user_are_none_of_its_business(pcsc: SimulatedPCSC) -> None:
    ended: list[object] = []
    async with SCard(timeout=5, share=ShareMode.SHARED) as card, anyio.create_task_group() as tasks:
        tasks.start_soon(waits, card, ended)
        await anyio.wait_all_tasks_blocked()
        pcsc.add_reader("B")
        pcsc.insert("B", LogCard())
        async with SCard("A", timeout=5, share=ShareMode.SHARED):
            pass
        pcsc.remove("B")
        await anyio.wait_all_tasks_blocked()
        assert ended == []
        pcsc.remove("A")
    assert ended == [None]


async def test_a_service_that_restarted_before_the_wait_began(pcsc: SimulatedPCSC) -> None:
    """The same card is in, with the same counter, and the session is lost all the same."""
    async with SCard(timeout=5) as card:
        pcsc.stop_service()
        pcsc.start_service()
        with anyio.fail_after(5), pytest.raises(ServiceUnavailableError):
            await card.wait()


async def test_a_service_that_goes(pcsc: SimulatedPCSC) -> None:
    ended: list[object] = []
    async with SCard(timeout=5) as card, anyio.create_task_group() as tasks:
        tasks.start_soon(waits, card, ended)
        await anyio.wait_all_tasks_blocked()
        pcsc.stop_service()
    assert ended == [ServiceUnavailableError]


async def test_the_session_itself_knows_first(pcsc: SimulatedPCSC) -> None:
    async with SCard(timeout=5) as card:
        pcsc.inject("SCardGetAttrib", errors.REMOVED_CARD)
        with anyio.fail_after(5):
            await card.wait()


async def test_cancelled_and_closed(pcsc: SimulatedPCSC) -> None:
    ended: list[object] = []
    async with SCard(timeout=5) as card:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(waits, card, ended)
            await anyio.wait_all_tasks_blocked()
            card.cancel()
        assert ended == [WaitCancelledError] * 3
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits, card, ended)
            await anyio.wait_all_tasks_blocked()
            await card.aclose()
        assert ended == [WaitCancelledError] * 4


async def test_the_task_is_cancelled(pcsc: SimulatedPCSC) -> None:
    async with SCard(timeout=5) as card:
        for _ in range(20):
            with anyio.move_on_after(0.002):
                await card.wait()
        assert (await card.send(b"\x00\x10\x00\x00\x01x")).data == b"x"


async def test_a_reader_opened_directly_has_only_itself_to_lose(pcsc: SimulatedPCSC) -> None:
    pcsc.remove("A")
    ended: list[object] = []
    async with SCard(timeout=5, share=ShareMode.DIRECT) as card, anyio.create_task_group() as tasks:
        tasks.start_soon(waits, card, ended)
        await anyio.wait_all_tasks_blocked()
        pcsc.insert("A", LogCard())
        await anyio.wait_all_tasks_blocked()
        assert ended == []
        pcsc.remove_reader("A")
    assert ended == [None]
