"""The acquisition under asyncio's own ways to end a task; the rest is in test_scard.py, and the table's rules in test_queue.py."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest

from scardface import CardTimeoutError, SCard, WaitCancelledError, cancel_all
from scardface.testing import PrivatePcscd
from tests.support.cards import LogCard
from tests.support.faces import off_loop

pytestmark = pytest.mark.usefixtures("no_leaks")


def waiting() -> int:
    from scardface._default import default_backend
    from scardface._queue import table_of

    return sum(len(line) for line in table_of(default_backend())._lines.values())


async def settled(count: int) -> None:
    async with asyncio.timeout(5) if hasattr(asyncio, "timeout") else _forever():
        while waiting() != count:
            await asyncio.sleep(0.001)


class _forever:  # Python 3.10 has no asyncio.timeout
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *exception: object) -> None: ...


async def hold() -> None:
    async with SCard():
        await asyncio.sleep(60)


@pytest.mark.asyncio
async def test_task_cancel(pcscd: PrivatePcscd) -> None:
    task = asyncio.create_task(hold())
    await settled(1)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waiting() == 0


@pytest.mark.asyncio
async def test_wait_for(pcscd: PrivatePcscd) -> None:
    with pytest.raises(asyncio.TimeoutError) as caught:
        await asyncio.wait_for(hold(), 0.1)
    assert not isinstance(caught.value, CardTimeoutError)
    with pytest.raises(CardTimeoutError):
        await asyncio.wait_for(SCard(timeout=0.05)._acquire(), 5)


@pytest.mark.asyncio
async def test_cancelled_while_the_card_is_open(pcscd: PrivatePcscd) -> None:
    await off_loop(pcscd.insert, 0, LogCard())
    await off_loop(pcscd.wait_for_card, 0)
    task = asyncio.create_task(hold())
    while not any(thread.name == "scardface-card" for thread in threading.enumerate()):
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with SCard(timeout=5):  # it was given back
        pass


@pytest.mark.asyncio
async def test_cancelled_at_random_moments_with_a_card_in(pcscd: PrivatePcscd) -> None:
    """The moment may be any: before the look, in the connect, when the card has just been opened. The card is never lost."""
    await off_loop(pcscd.insert, 0, LogCard())
    await off_loop(pcscd.wait_for_card, 0)
    for _ in range(150):
        task = asyncio.create_task(hold())
        await asyncio.sleep(random.random() * 0.008)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with SCard(timeout=5) as card:
        assert card.reader == pcscd.readers[0]


@pytest.mark.asyncio
async def test_cancel_and_deadline_are_told_apart(pcscd: PrivatePcscd) -> None:
    """However close they come, a cancel is a WaitCancelledError or came too late, a deadline is a CardTimeoutError."""
    ends = set()
    for _ in range(40):
        card = SCard(timeout=0.02)
        timer = threading.Timer(random.random() * 0.04, card.cancel)
        timer.start()
        try:
            await card
        except (WaitCancelledError, CardTimeoutError) as error:
            ends.add((type(error), error.code))
        timer.join()
    assert ends == {(WaitCancelledError, 0x80100002), (CardTimeoutError, 0x8010000A)}


def test_a_loop_that_is_closed_with_waiters_leaves_nothing(pcscd: PrivatePcscd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing an asyncio loop cancels nothing: the watcher finds out at the end of its slice, and the table at the next card."""
    monkeypatch.setattr("scardface._watch.SLICE", 200)
    loop = asyncio.new_event_loop()
    task = loop.create_task(hold())
    loop.run_until_complete(settled(1))
    loop.close()
    end = time.monotonic() + 5
    while any(thread.name == "scardface-watch" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)
    pcscd.insert(0, LogCard())
    pcscd.wait_for_card(0)

    async def take() -> str:
        async with SCard(timeout=5) as card:
            return card.reader

    assert asyncio.run(take()) == pcscd.readers[0]
    assert waiting() == 0
    task._log_destroy_pending = False  # type: ignore[attr-defined]  its coroutine is thrown away below, as at the exit
    task.get_coro().close()  # type: ignore[union-attr]


def test_asyncio_runs_end_waiters_of_their_own(pcscd: PrivatePcscd) -> None:
    async def main() -> None:
        task = asyncio.create_task(hold())
        await settled(1)
        del task  # asyncio.run cancels it

    for _ in range(3):
        asyncio.run(main())
    assert waiting() == 0


@pytest.mark.asyncio
async def test_loops_in_threads_share_one_line(pcscd: PrivatePcscd) -> None:
    """First come, first served over all event loops; and cancel_all reaches them all."""
    served: list[int] = []

    async def take(number: int) -> None:
        async with SCard(timeout=10):
            served.append(number)

    threads = []
    for number in range(6):
        thread = threading.Thread(target=asyncio.run, args=(take(number),))
        thread.start()
        threads.append(thread)
        await settled(number + 1)
    pcscd.insert(0, LogCard())
    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
    assert served == list(range(6))
    await asyncio.get_running_loop().shutdown_default_executor()


@pytest.mark.asyncio
async def test_cancel_all_reaches_all_loops(pcscd: PrivatePcscd) -> None:
    ended: list[type[BaseException]] = []

    async def take() -> None:
        try:
            await SCard()
        except WaitCancelledError as error:
            ended.append(type(error))

    threads = [threading.Thread(target=asyncio.run, args=(take(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    own = asyncio.create_task(take())
    await settled(4)
    cancel_all()
    await own
    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
    assert ended == [WaitCancelledError] * 4
    await asyncio.get_running_loop().shutdown_default_executor()


@pytest.mark.asyncio
async def test_a_wait_that_was_cancelled_before_registers_nothing() -> None:
    from scardface._hub import _hubs

    card = SCard()
    card.cancel()
    before = set(_hubs)
    with pytest.raises(WaitCancelledError):
        await card
    assert set(_hubs) == before
