"""The promise: whatever is plugged in and out, at any moment, the last reader too, every change that PC/SC reports arrives once
and in order, and what is known in the end is so.

Proved here: 1,000 insertions and removals at full speed (fewer in the usual run), each waited for by a monitor, in every
dialect of the simulation; a swap that no query saw; readers, the last one too, that go under a waiter, a monitor, an open card
and its `wait`, at every call of PC/SC. Proved elsewhere: hot plug as such (testing/test_simulated_pcsc.py, test_watcher.py),
swaps on a real pcscd (test_scard.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from scardface import (
    ATR,
    C_APDU,
    CardInserted,
    CardRemoved,
    CardRemovedError,
    ReaderAdded,
    ReaderMonitor,
    ReaderRemoved,
    SCard,
    ServiceDown,
    ServiceUnavailableError,
    ServiceUp,
)
from scardface.testing import SimulatedPCSC
from tests.support.cards import BOTH, ECHO, T1, LogCard
from tests.support.faces import both_faces
from tests.support.figures import tell, times
from tests.support.waits import until, wait_until, waiters

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]

DIALECTS = ("pcsclite", "pcsclite-1.9", "windows", "macos")
BOUND = 30.0
"""Seconds that an event may take."""


@pytest.fixture(params=DIALECTS)
def pcsc(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedPCSC]:
    """A simulation with one reader, of each dialect."""
    monkeypatch.setattr(
        "scardface._waiting.watcher.LIST_INTERVAL_MS", 20
    )  # where nothing reports readers (macOS), they are listed so often
    monkeypatch.setattr("scardface._waiting.watcher.SLICE_MS", 100)  # and what a call cannot report (1.9), the next one does
    with SimulatedPCSC(request.param) as pcsc:
        pcsc.add_reader("A")
        yield pcsc
        assert not waiters(pcsc)
        wait_until(lambda: not pcsc.open_contexts)


async def expect_events(monitor: Any, *expected: Any) -> None:
    """The next events of a monitor are these."""
    for event in expected:
        with anyio.fail_after(BOUND):
            assert await monitor.__anext__() == event


def nothing_more(monitor: ReaderMonitor) -> bool:
    """Whether a monitor has told all."""
    assert monitor._events is not None
    return not monitor._events._queue


async def test_every_insertion_and_removal_at_full_speed(pcsc: SimulatedPCSC) -> None:
    count = times(100, 1_000)
    async with ReaderMonitor() as monitor:
        await expect_events(monitor, ReaderAdded("A", initial=True))
        begin = time.perf_counter()
        for number in range(count):
            atr = (T1, BOTH)[number % 2]
            pcsc.insert("A", LogCard(atr))
            await expect_events(monitor, CardInserted("A", ATR(atr)))
            assert monitor.state["A"].atr == atr
            pcsc.remove("A")
            await expect_events(monitor, CardRemoved("A"))
            assert not monitor.state["A"].present
        took = time.perf_counter() - begin
        assert nothing_more(monitor)
    tell(f"{count} insertions and removals, each received before the next: {took:.2f} s, {took / count / 2 * 1e6:.0f} us each")


async def test_readers_at_full_speed(pcsc: SimulatedPCSC) -> None:
    """Plugged and unplugged, with a card in, beside one that stays."""
    count = times(15, 200)
    async with ReaderMonitor() as monitor:
        await expect_events(monitor, ReaderAdded("A", initial=True))
        for _ in range(count):
            pcsc.add_reader("B")
            await expect_events(monitor, ReaderAdded("B"))
            pcsc.insert("B", LogCard())
            await expect_events(monitor, CardInserted("B", ATR(T1)))
            pcsc.remove_reader("B")
            await expect_events(monitor, CardRemoved("B"), ReaderRemoved("B"))
            assert list(monitor.state) == ["A"]
        assert nothing_more(monitor)


async def test_the_last_reader_again_and_again(pcsc: SimulatedPCSC) -> None:
    """Under a monitor and a waiter; on Windows the service goes along, and comes back."""
    windows = pcsc.absent_service_means_no_reader
    acquired = []

    async def acquire() -> None:
        async with SCard(pnp=True, timeout=30) as card:
            acquired.append(card.reader)
            await card.wait()

    async with ReaderMonitor() as monitor:
        await expect_events(monitor, ReaderAdded("A", initial=True))
        for number in range(times(3, 30)):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(acquire)
                await until(lambda: waiters(pcsc))
                pcsc.remove_reader("A")
                await expect_events(monitor, *([ServiceDown()] if windows else [ReaderRemoved("A")]))
                pcsc.add_reader("A")
                await expect_events(monitor, *([ServiceUp()] if windows else [ReaderAdded("A")]))
                pcsc.insert("A", LogCard())
                await expect_events(monitor, CardInserted("A", ATR(T1)))
                with anyio.fail_after(BOUND):
                    while len(acquired) == number:
                        await anyio.sleep(0.002)
                pcsc.remove("A")
                await expect_events(monitor, CardRemoved("A"))
        assert nothing_more(monitor)


@both_faces
async def test_a_reader_that_goes_under_an_open_card(pcsc: SimulatedPCSC, face: Any) -> None:
    """The last one, in use: `wait` returns, the next command is told that the card is gone; the service's end is told as such."""
    windows = pcsc.absent_service_means_no_reader
    pcsc.insert("A", LogCard())
    async with face.open(timeout=30) as card:
        await card.send(C_APDU(0, ECHO))
        waited: list[object] = []

        async def wait() -> None:
            try:
                waited.append(await card.wait())
            except ServiceUnavailableError as error:
                waited.append(error)

        with anyio.fail_after(BOUND):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await until(lambda: card._removals)
                pcsc.remove_reader("A")
        assert waited == [None] or windows
        with pytest.raises(ServiceUnavailableError if windows else CardRemovedError):
            await card.send(C_APDU(0, ECHO))
    pcsc.add_reader("A")
    pcsc.insert("A", LogCard())
    async with face.open("A", timeout=30) as again:
        await again.send(C_APDU(0, ECHO))


async def test_a_reader_that_comes_back_under_a_card_that_was_not_closed(pcsc: SimulatedPCSC) -> None:
    """The old handle died with the old reader (fact 35): it is in nobody's way."""
    pcsc.add_reader("stays")
    pcsc.insert("A", LogCard())
    async with SCard("A", timeout=30) as old, ReaderMonitor() as monitor:
        await expect_events(
            monitor, ReaderAdded("A", initial=True), CardInserted("A", ATR(T1), initial=True), ReaderAdded("stays", initial=True)
        )
        pcsc.remove_reader("A")
        await expect_events(monitor, CardRemoved("A"), ReaderRemoved("A"))
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        async with SCard("A", timeout=30) as new:
            await new.send(C_APDU(0, ECHO))
            with pytest.raises(CardRemovedError):
                await old.send(C_APDU(0, ECHO))


async def test_a_swap_between_two_queries(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """The waiting call is held up while the card is swapped: its counter tells of two changes, or on macOS the other ATR does."""
    pcsc.insert("A", LogCard(T1))
    begin_call = pcsc._service.begin_call
    swaps: list[bytes] = []

    def begin(call: str) -> int:
        if call == "SCardGetStatusChange" and swaps:
            swap = swaps.pop()
            pcsc.remove("A")
            pcsc.insert("A", LogCard(swap))
        return begin_call(call)

    async with ReaderMonitor() as monitor:
        await expect_events(monitor, ReaderAdded("A", initial=True), CardInserted("A", ATR(T1), initial=True))
        monkeypatch.setattr(pcsc._service, "begin_call", begin)
        for atr in (BOTH, T1, BOTH):
            swaps.append(atr)
            await expect_events(monitor, CardRemoved("A"), CardInserted("A", ATR(atr)))
        assert nothing_more(monitor)
