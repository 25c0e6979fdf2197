"""The hub: who shares the watcher, who hears what, and that nothing outlives the last user. On the simulation."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from scardface import SCard, _hub
from scardface._events import CardInserted, Event, ReaderAdded, Snapshot
from scardface._hub import Hub, hub_of
from scardface._threads import Bell, Loop
from scardface.testing import SimulatedPCSC
from tests.support.cards import LogCard

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        yield simulated


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "scardface-watch"]


async def answer(hub: Hub, groups: tuple[str, ...] | None = None) -> Snapshot:
    bell = Bell(Loop())
    question = hub.ask(bell, groups)
    with anyio.fail_after(5):
        while question.answer is None:
            await bell.wait()
    return question.answer


async def leave(hub: Hub) -> None:
    hub.leave()
    await hub.quiet()


async def test_users_share_one_watcher_and_the_last_one_ends_it(pcsc: SimulatedPCSC) -> None:
    hub = hub_of(pcsc)
    assert hub_of(pcsc) is hub
    for _ in range(3):
        hub.enter()
    assert len(watchers()) == 1
    assert list((await answer(hub)).readers) == ["A"]
    await leave(hub)
    await leave(hub)
    assert list((await answer(hub)).readers) == ["A"]
    await leave(hub)
    assert watchers() == []
    assert pcsc.open_contexts == 0
    await hub.quiet()
    assert hub_of(pcsc) is not hub


async def test_a_user_who_comes_while_the_last_one_leaves(pcsc: SimulatedPCSC) -> None:
    for _ in range(50):
        hub = hub_of(pcsc)
        hub.enter()
        await answer(hub)
        hub.leave()
        hub.enter()
        assert list((await answer(hub)).readers) == ["A"]
        assert len(watchers()) <= 2  # one may just be ending
        await leave(hub)
        assert watchers() == []


async def test_who_waits_for_the_end_is_not_kept_by_a_new_user(pcsc: SimulatedPCSC) -> None:
    hub = hub_of(pcsc)
    hub.enter()
    await answer(hub)
    hub.leave()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hub.quiet)
        await anyio.lowlevel.checkpoint()
        hub.enter()
    await answer(hub)
    await leave(hub)


async def test_each_backend_has_its_own(pcsc: SimulatedPCSC) -> None:
    other = SimulatedPCSC()
    mine, its = hub_of(pcsc), hub_of(other)
    for hub in (mine, its):
        hub.enter()
    assert list((await answer(mine)).readers) == ["A"]
    assert list((await answer(its)).readers) == []
    assert len(watchers()) == 2
    for hub in (mine, its):
        await leave(hub)
    other.close()


async def test_groups_are_told_apart(pcsc: SimulatedPCSC) -> None:
    hub = hub_of(pcsc)
    hub.enter()
    assert (await answer(hub, ("g", "h"))).groups == {("g", "h"): frozenset({"A"})}
    await leave(hub)


async def test_subscribers_hear_each_change_with_its_events(pcsc: SimulatedPCSC) -> None:
    heard: list[list[Event]] = []
    bell = Bell(Loop())

    def hear(snapshot: Snapshot, events: list[Event], dropped: int) -> None:
        assert dropped == 0
        heard.append(events)
        bell.strike()

    hub = hub_of(pcsc)
    hub.enter()
    await answer(hub)
    hub.subscribe("me", hear)
    pcsc.add_reader("B")
    while not heard:
        await bell.wait()
    card = LogCard()
    pcsc.insert("B", card)
    while len(heard) < 2:
        await bell.wait()
    hub.unsubscribe("me")
    hub.unsubscribe("me")
    pcsc.remove("B")
    await answer(hub)
    assert heard == [[ReaderAdded("B")], [CardInserted("B", card.atr)]]  # type: ignore[arg-type]
    await leave(hub)


async def test_a_loop_that_does_not_turn_drops_looks_and_counts_them(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hub, "MOST_PENDING", 5)
    told: list[int] = []
    hub = hub_of(pcsc)
    hub._pending = type(hub._pending)(maxlen=5)
    hub.enter()
    await answer(hub)
    hub.subscribe("me", lambda snapshot, events, dropped: told.append(dropped))
    snapshot = await answer(hub)
    told.clear()
    for _ in range(12):
        assert hub._arrive(snapshot)  # as the watcher's thread would
    with anyio.fail_after(5):
        while not told:
            await anyio.lowlevel.checkpoint()
    assert told == [7, 0, 0, 0, 0]
    await leave(hub)


async def test_cancelled_the_last_user_waits_shortly(pcsc: SimulatedPCSC) -> None:
    """A PC/SC that hangs keeps its thread, which is a daemon and ends when PC/SC lets it."""
    pcsc.latency = {"SCardListReaders": 1.0}
    hub = hub_of(pcsc)
    hub.enter()
    hub.ask(Bell(Loop()))
    await anyio.sleep(0.05)
    started = time.monotonic()
    hub.leave()
    await hub.quiet(cancelled=True)
    assert time.monotonic() - started < 0.9  # 0.2 s
    pcsc.latency = 0.0
    await hub.quiet()


async def test_one_that_has_not_heeded_its_stop_is_taken_up_again(pcsc: SimulatedPCSC) -> None:
    pcsc.latency = {"SCardListReaders": 0.3}
    hub = hub_of(pcsc)
    for _ in range(5):
        hub.enter()
        await anyio.sleep(0.01)
        hub.leave()
    assert len(watchers()) == 1
    pcsc.latency = 0.0
    await hub.quiet()


async def test_a_closed_card_leaves_no_hub_behind(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", LogCard())
    before = dict(_hub._hubs)
    async with SCard(timeout=5):
        pass
    assert _hub._hubs == before
    await _hub.quiet(pcsc)
    assert _hub._hubs == before


def test_a_loop_that_is_gone_takes_its_hub_along(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scardface._watch.SLICE", 50)
    before = dict(_hub._hubs)
    loop = asyncio.new_event_loop()

    async def enter() -> Any:
        hub = hub_of(pcsc)
        hub.enter()
        await answer(hub)

    loop.run_until_complete(enter())
    assert len(_hub._hubs) == len(before) + 1
    loop.close()
    end = time.monotonic() + 5
    while watchers() or len(_hub._hubs) > len(before):
        assert time.monotonic() < end
        time.sleep(0.005)
