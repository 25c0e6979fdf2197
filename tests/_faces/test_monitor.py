"""The monitor on a real daemon, the same on both faces."""

from __future__ import annotations

import sys
import threading
from typing import Any

import anyio
import pytest

from scardface import (
    CardInserted,
    CardRemoved,
    EventsLost,
    ReaderAdded,
    ReaderMonitor,
    ReaderRemoved,
    SCard,
    ServiceDown,
    ServiceUnavailableError,
    ServiceUp,
)
from scardface.testing import PrivatePcscd, _pcscd_process
from tests.support.cards import BOTH, T1, LogCard
from tests.support.faces import both_faces, off_loop

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]


async def hear(monitor: Any, count: int) -> list[Any]:
    """The next events."""
    heard: list[Any] = []
    with anyio.fail_after(20):
        async for event in monitor:
            heard.append(event)
            if len(heard) == count:
                break
    return heard


async def cycle(pcscd: PrivatePcscd, reader: int, card: LogCard) -> None:
    """In and out again, seen by PC/SC."""
    await off_loop(pcscd.insert, reader, card)
    await off_loop(pcscd.wait_for_card, reader)
    await off_loop(pcscd.remove, reader)
    await off_loop(pcscd.wait_for_removal, reader)


@both_faces
async def test_the_initial_state_comes_first(pcscd: PrivatePcscd, face: Any) -> None:
    await off_loop(pcscd.insert, 1, LogCard(BOTH))
    await off_loop(pcscd.wait_for_card, 1)
    async with face.monitor() as monitor:
        assert monitor.state == {}
        names = pcscd.readers
        assert await hear(monitor, 5) == [
            ReaderAdded(names[0], initial=True),
            ReaderAdded(names[1], initial=True),
            CardInserted(names[1], BOTH, initial=True),
            ReaderAdded(names[2], initial=True),
            ReaderAdded(names[3], initial=True),
        ]
        assert [state.present for state in monitor.state.values()] == [False, True, False, False]
        assert monitor.state[names[1]].atr == BOTH


@both_faces
async def test_every_change_arrives_once_and_in_order(pcscd: PrivatePcscd, face: Any) -> None:
    name = pcscd.readers[2]
    async with face.monitor(name) as monitor:
        assert await hear(monitor, 1) == [ReaderAdded(name, initial=True)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cycle, pcscd, 2, LogCard(T1))
            assert await hear(monitor, 1) == [CardInserted(name, T1)]
            assert monitor.state[name].present
            assert await hear(monitor, 1) == [CardRemoved(name)]
            assert not monitor.state[name].present
        for _ in range(3):
            await cycle(pcscd, 2, LogCard(T1))
            await cycle(pcscd, 0, LogCard(T1))  # not of this monitor's readers
        assert await hear(monitor, 6) == [CardInserted(name, T1), CardRemoved(name)] * 3


@both_faces
async def test_any_number_of_monitors(pcscd: PrivatePcscd, face: Any) -> None:
    async with face.monitor() as one, face.monitor() as two, face.monitor(pcscd.readers[0]) as three:
        await cycle(pcscd, 0, LogCard())
        events = [CardInserted(pcscd.readers[0], T1), CardRemoved(pcscd.readers[0])]
        assert (await hear(one, 6))[4:] == events
        assert (await hear(two, 6))[4:] == events
        assert (await hear(three, 3))[1:] == events


@both_faces
async def test_a_mute_card_has_no_atr(pcscd: PrivatePcscd, face: Any) -> None:
    name = pcscd.readers[0]
    async with face.monitor(name) as monitor:
        await hear(monitor, 1)
        await off_loop(pcscd.insert, 0, LogCard(b""))
        assert await hear(monitor, 1) == [CardInserted(name, b"")]
        assert monitor.state[name].mute


@both_faces
async def test_it_survives_the_daemon(pcscd: PrivatePcscd, face: Any) -> None:
    name = pcscd.readers[0]
    await off_loop(pcscd.insert, 0, LogCard())
    await off_loop(pcscd.wait_for_card, 0)
    async with face.monitor(name) as monitor:
        await hear(monitor, 2)
        for _ in range(2):
            await off_loop(pcscd.kill)
            down = await hear(monitor, 1)
            assert down == [ServiceDown()]
            assert isinstance(down[0].error, ServiceUnavailableError)
            assert monitor.state[name].present  # the service's end removes nothing
            await off_loop(pcscd.start)
            assert await hear(monitor, 3) == [ServiceUp(), CardRemoved(name), CardInserted(name, T1)]
        await off_loop(pcscd.stop)
        await off_loop(pcscd.remove, 0)
        assert await hear(monitor, 1) == [ServiceDown()]
        await off_loop(pcscd.start)
        assert await hear(monitor, 2) == [ServiceUp(), CardRemoved(name)]


@pytest.mark.skipif(sys.platform == "win32", reason="the daemon that names its readers is started by another process there")
@both_faces
async def test_readers_that_went_with_the_daemon(pcscd: PrivatePcscd, face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are in their places: libpcsclite 2.5 cannot read of fewer (fact 67)."""
    names = pcscd.readers
    async with face.monitor() as monitor:
        await hear(monitor, 4)
        await off_loop(pcscd.stop)
        monkeypatch.setattr(_pcscd_process, "_entry_name", lambda number: f"Virtual PCD {2 * number}")
        await off_loop(pcscd.start, 4)
        others = pcscd.readers
        assert others == (*names[:2], "Virtual PCD 2 00 00", "Virtual PCD 2 00 01")
        gone = [ReaderRemoved(names[2]), ReaderRemoved(names[3])]
        assert await hear(monitor, 6) == [ServiceDown(), ServiceUp(), *gone, ReaderAdded(others[2]), ReaderAdded(others[3])]
        assert tuple(monitor.state) == others


@both_faces
async def test_without_a_service_it_starts_and_tells(pcscd: PrivatePcscd, face: Any) -> None:
    await off_loop(pcscd.stop)
    async with face.monitor(pcscd.readers[3]) as monitor:
        assert await hear(monitor, 1) == [ServiceDown(initial=True)]
        await off_loop(pcscd.start)
        assert await hear(monitor, 2) == [ServiceUp(), ReaderAdded(pcscd.readers[3])]


@both_faces
async def test_who_uses_a_card_changes_silently(pcscd: PrivatePcscd, face: Any) -> None:
    name = pcscd.readers[0]
    await off_loop(pcscd.insert, 0, LogCard())
    await off_loop(pcscd.wait_for_card, 0)
    async with face.monitor(name) as monitor:
        await hear(monitor, 2)
        async with face.open(timeout=5), face.monitor(name) as second:
            await hear(second, 2)
            assert second.state[name].exclusive
            assert monitor.state[name].exclusive  # seen by the look that the second one asked for


async def test_one_consumer_and_only_in_the_block(pcscd: PrivatePcscd) -> None:
    monitor = ReaderMonitor()
    with pytest.raises(RuntimeError, match="async with"):
        await monitor.__anext__()
    async with monitor:
        await hear(monitor, 4)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear, monitor, 1)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="one consumer"):
                await monitor.__anext__()
            tasks.cancel_scope.cancel()
        with pytest.raises(RuntimeError, match="entered once"):
            await monitor.__aenter__()
    assert [event async for event in monitor] == []


async def test_leaving_the_block_ends_a_consumer_that_waits(pcscd: PrivatePcscd) -> None:
    heard: list[Any] = []

    async def consume() -> None:
        async for event in monitor:
            heard.append(event)

    async with anyio.create_task_group() as tasks, ReaderMonitor() as monitor:
        tasks.start_soon(consume)
        while len(heard) < 4:
            await anyio.sleep(0.001)
    assert len(heard) == 4


async def test_a_monitor_that_falls_behind_gets_the_state_afresh(pcscd: PrivatePcscd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scardface._waiting.event_queue.MAX_EVENTS", 7)
    names = pcscd.readers
    async with ReaderMonitor() as slow, ReaderMonitor() as quick:
        await hear(quick, 4)
        for _ in range(2):
            await cycle(pcscd, 0, LogCard())
            assert await hear(quick, 2) == [CardInserted(names[0], T1), CardRemoved(names[0])]
        events = await hear(slow, 5)
        assert events == [EventsLost(8), *(ReaderAdded(name, initial=True) for name in names)]
        await cycle(pcscd, 0, LogCard())
        assert await hear(slow, 2) == [CardInserted(names[0], T1), CardRemoved(names[0])]


async def test_a_monitor_and_waiting_cards_share_one_watcher(pcscd: PrivatePcscd) -> None:
    async with ReaderMonitor(), anyio.create_task_group() as tasks:

        async def wait() -> None:
            async with SCard():
                pytest.fail("there is no card")

        for _ in range(3):
            tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert len([thread for thread in threading.enumerate() if thread.name == "scardface-watch"]) == 1
        tasks.cancel_scope.cancel()


async def test_cancelled_while_it_is_entered(pcscd: PrivatePcscd) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with ReaderMonitor():
            pytest.fail("it was cancelled before")
