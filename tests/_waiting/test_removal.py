"""The wait for a removal, on the simulation; on the real daemon and on both faces it is in test_scard.py."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from scardface import (
    CardRemovedError,
    Protocol,
    SCard,
    SCardError,
    ServiceUnavailableError,
    ShareMode,
    WaitCancelledError,
    errors,
    sync,
)
from scardface._faces import sync_base
from scardface._threads import WaitingThread
from scardface._waiting import driver as driving
from scardface._waiting import removal as removals
from scardface._waiting.driver import driver_of
from scardface._waiting.removal import RemovalWait
from scardface._waiting.watcher import Watcher
from scardface.testing import SimulatedPCSC
from tests.support.cards import LogCard
from tests.support.waits import until, wait_until

ROOT = Path(__file__).resolve().parents[2]

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


def watched(pcsc: SimulatedPCSC) -> bool:
    """Whether the watcher is blocked in PC/SC, with all questions answered, and some removal waited for."""
    dispatcher = driver_of(pcsc)._dispatcher
    return bool(pcsc._service._waits and dispatcher._removals and not dispatcher._unchecked_removals)


@pytest.mark.parametrize("how", ["removed", "swapped", "unplugged"])
async def test_ways_to_go(pcsc: SimulatedPCSC, how: str) -> None:
    with anyio.fail_after(5):
        async with SCard(timeout=5) as card, anyio.create_task_group() as tasks:
            tasks.start_soon(card.wait)
            await until(lambda: watched(pcsc))
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
        await until(lambda: watched(pcsc))
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
    """The same card is in, with the same counter, and the session is lost all the same: each wait says so, not the first alone."""
    async with SCard(timeout=5) as card:
        pcsc.stop_service()
        pcsc.start_service()
        for _ in range(3):
            with anyio.fail_after(5), pytest.raises(ServiceUnavailableError):
                await card.wait()
        with pytest.raises((ServiceUnavailableError, CardRemovedError)):
            await card.send(b"\x00\x10\x00\x00")


async def test_a_service_that_goes(pcsc: SimulatedPCSC) -> None:
    ended: list[object] = []
    async with SCard(timeout=5) as card, anyio.create_task_group() as tasks:
        tasks.start_soon(waits, card, ended)
        await until(lambda: watched(pcsc))
        pcsc.stop_service()
    assert ended == [ServiceUnavailableError]


@pytest.mark.parametrize("code", [errors.NO_MEMORY, errors.COMM_ERROR, errors.NO_SERVICE])
async def test_the_watchers_own_trouble_is_not_the_cards(pcsc: SimulatedPCSC, code: int) -> None:
    """It cannot get a context, at the start and during the wait; the card stays open, and its removal is noticed."""
    ended: list[object] = []
    async with SCard(timeout=5) as card, anyio.create_task_group() as tasks:
        pcsc.inject("SCardEstablishContext", code, 2)
        tasks.start_soon(waits, card, ended)
        await until(lambda: watched(pcsc))
        pcsc.inject("SCardListReaders", code)
        pcsc.add_reader("B")
        assert (await card.send(b"\x00\x10\x00\x00\x01x")).data == b"x"
        await until(lambda: "B" in driver_of(pcsc)._dispatcher._readers)
        assert ended == []
        pcsc.remove("A")
    assert ended == [None]


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
            await until(lambda: len(driver_of(pcsc)._dispatcher._removals) == 3)
            card.cancel()
        assert ended == [WaitCancelledError] * 3
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits, card, ended)
            await until(lambda: watched(pcsc))
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
        await until(lambda: watched(pcsc))
        pcsc.insert("A", LogCard())
        await anyio.wait_all_tasks_blocked()
        assert ended == []
        pcsc.remove_reader("A")
    assert ended == [None]


def test_a_thread_waits_for_a_removal_and_is_cancelled(pcsc: SimulatedPCSC) -> None:
    """Cancelled from another thread; the removal of the card ends with that."""
    with sync.SCard(timeout=5) as card:
        canceller = threading.Thread(target=lambda: (wait_until(lambda: watched(pcsc)), card.cancel()))
        canceller.start()
        with pytest.raises(WaitCancelledError):
            card.wait()
        canceller.join()
        remover = threading.Thread(target=lambda: (wait_until(lambda: watched(pcsc)), pcsc.remove("A")))
        remover.start()
        card.wait()
        remover.join()


def test_how_it_ends_is_decided_once(pcsc: SimulatedPCSC) -> None:
    """Also before it began; an error that several are given is a copy for each."""
    with sync.SCard(timeout=5) as card:
        assert card._session is not None
        removals = [RemovalWait(card._session, pcsc, lambda job: pytest.fail("nobody waits")) for _ in range(3)]
        error = errors.error_for(errors.NO_MEMORY, "", "")
        for removal in removals[:2]:
            removal.fail(error)
            removal.cancel()
            with pytest.raises(SCardError) as caught:
                removal.result()
            assert caught.value.code == errors.NO_MEMORY
            assert caught.value is not error
        removals[2].cancel()
        removals[2].begin(None, lambda: None)
        assert driver_of(pcsc).threads() == []


def test_a_close_just_before_the_wait_begins_ends_it(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a signal handler, or another thread: the card's thread, which would be asked, is gone by then."""
    card = sync.SCard("A")
    begin = card._begin_removal
    ended = threading.Event()

    def close_first(removal: RemovalWait) -> None:
        card.close()
        begin(removal)

    def fail_at_last() -> None:
        if not ended.wait(20):
            for removal in card._removals:
                removal.fail(AssertionError("it waits for ever"))

    monkeypatch.setattr(card, "_begin_removal", close_first)
    watchdog = threading.Thread(target=fail_at_last)
    watchdog.start()
    try:
        with pytest.raises(WaitCancelledError):
            card.wait()
    finally:
        ended.set()
        watchdog.join()


@pytest.mark.slow
@pytest.mark.parametrize("then", ["free", "held by another program"])
async def test_a_reader_that_was_swapped_between_two_queries(
    pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Another one of the same name counts from the start, so that it may show the same, down to who uses it: the session knows."""
    if then != "free":
        monkeypatch.setattr(driving, "SWEEP_INTERVAL", 0.05)
    swapping, swapped, block = threading.Event(), threading.Event(), Watcher._wait_for_change

    def slow(*arguments: Any) -> None:
        block(*arguments)
        if swapping.is_set():  # else it is a query that somebody wants
            swapped.wait(20)

    monkeypatch.setattr(Watcher, "_wait_for_change", slow)
    with anyio.fail_after(20):
        async with SCard(timeout=5) as card, anyio.create_task_group() as tasks:
            tasks.start_soon(card.wait)
            await until(lambda: watched(pcsc))
            other = pcsc.establish()
            swapping.set()
            pcsc.remove_reader("A")
            pcsc.add_reader("A")
            pcsc.insert("A", LogCard())
            if then != "free":
                other.connect("A", ShareMode.EXCLUSIVE, Protocol.T0 | Protocol.T1)
            swapped.set()
        other.release()


@pytest.mark.parametrize("how", ["wait", "while_present"])
def test_a_second_interrupt_where_the_wait_is_left(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """It comes as the function begins that would leave the wait: before its first step, where Python looks for signals."""

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with sync.SCard(timeout=5, share=ShareMode.SHARED) as card:
        monkeypatch.setattr(WaitingThread, "_run", interrupted)
        monkeypatch.setattr(removals, "retry_if_interrupted", interrupted)
        monkeypatch.setattr(sync_base, "retry_if_interrupted", interrupted)
        with pytest.raises(KeyboardInterrupt), card.while_present() if how == "while_present" else contextlib.nullcontext():
            card.wait()
        wait_until(lambda: not driver_of(pcsc).running)
        monkeypatch.undo()


SLEEPER = """
import asyncio, signal, threading, time
from scardface import SCard
from scardface._waiting import driver
from scardface.testing import FileCard, SimulatedPCSC

driver.SWEEP_INTERVAL = 0.05

def interrupt():
    time.sleep(0.3)  # the loop sleeps by now; if it does not, there is less to prove
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

async def main():
    async with SCard() as card:
        threading.Thread(target=interrupt).start()
        await card.wait()

with SimulatedPCSC() as pcsc:
    pcsc.add_reader("A")
    pcsc.insert("A", FileCard())
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("handled")
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals come to the main thread there")
def test_a_signal_that_came_just_before_the_loop_slept_is_handled() -> None:
    """asyncio's own loop sleeps on then: here the signal comes to another thread, which does not wake it either."""
    done = subprocess.run([sys.executable, "-c", SLEEPER], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "handled\n"
