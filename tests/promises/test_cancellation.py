"""The promise: a cancellation, by whatever means and at whatever moment, takes effect at once, and nothing is left: no thread, no
PC/SC context, no place in the line, no card held; the next wait works. What PC/SC holds for longer cleans up when PC/SC lets
go.

Proved here: a cancel at every await of every coroutine; 10,000 cancels at random moments (fewer in the usual run) by task, by
scope, by time-out, by `cancel`, `cancel_all`, the loop's end and Ctrl-C; a cancel that PC/SC loses; another program's
transaction in the way of every call that it blocks; a reader that hangs. Proved elsewhere: what a cancelled `send` still sends
(test_scard.py), cancel and deadline told apart (_waiting/test_acquisition.py), an interrupt at any moment (test_interrupts.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import scardface
from scardface import C_APDU, CardTimeoutError, ReaderMonitor, SCard, SCardError, ShareMode, WaitCancelledError, cancel_all, sync
from scardface._pcsc.backend import Backend
from scardface._pcsc.binding_choice import system_pcsc
from scardface._threads import spawn
from scardface.testing import PrivatePcscd, SimulatedPCSC
from scardface.testing._simulated_context import SimulatedContext
from tests.support.cancelling import by_scope, by_task
from tests.support.cards import ECHO, LogCard
from tests.support.faces import BACKENDS, off_loop
from tests.support.figures import spread, tell, times
from tests.support.interrupted import interrupt_if_wanted, wanted
from tests.support.waits import until, wait_until, waiters

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]

AGAIN = 1.0
"""Seconds until somebody presses Ctrl-C again."""


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    """A simulation with a card in the reader "in", and an empty reader."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("in")
        pcsc.add_reader("empty")
        pcsc.insert("in", LogCard())
        yield pcsc
        assert not waiters(pcsc)
        wait_until(lambda: not pcsc.open_contexts)


async def check(reader: str = "in", **kwargs: Any) -> None:
    """The card can be had and works."""
    async with SCard(reader, timeout=10, **kwargs) as card:
        assert (await card.send(C_APDU(0, ECHO, 0, 0, b"x"))).data == b"x"


# At every await.


async def life_with_a_card_that_is_in(pcsc: SimulatedPCSC) -> None:
    async with SCard("in") as card:
        await card.send(C_APDU(0, ECHO), C_APDU(0, ECHO))


async def life_with_a_card_that_comes(pcsc: SimulatedPCSC) -> None:
    pcsc.remove("in")
    over = threading.Event()

    def insert() -> None:
        wait_until(lambda: waiters(pcsc) or over.is_set())
        pcsc.insert("in", LogCard())

    thread = spawn("hand", insert)
    try:
        card = await SCard("in")
        await card.aclose()
    finally:
        over.set()
        thread.join()


async def life_of_every_call(pcsc: SimulatedPCSC) -> None:
    async def callback(command: Any, response: Any) -> None:
        await anyio.lowlevel.checkpoint()

    async with SCard("in") as card:
        await card.send(C_APDU(0, ECHO), C_APDU(0, ECHO), callback=callback)
        await card.transmit(b"\x00\x10\x00\x00")
        canceller = spawn("canceller", cancel_removals, card)
        try:
            with pytest.raises(WaitCancelledError):
                await card.wait()
        finally:
            canceller.join()


def cancel_removals(card: SCard) -> None:
    """`cancel()` from another thread, once a `wait` has begun; for a while."""
    with contextlib.suppress(AssertionError):  # the wait was cancelled before it began
        wait_until(lambda: card._removals, 0.02)
    card.cancel()


async def life_until_the_removal(pcsc: SimulatedPCSC) -> None:
    card = pcsc.cards["in"]
    async with SCard("in") as open_card:
        pcsc.remove("in")
        pcsc.insert("in", card)
        await open_card.wait()


async def life_of_transactions(pcsc: SimulatedPCSC) -> None:
    async with SCard("in", share=ShareMode.SHARED) as card:
        async with card.transaction(), card.transaction():
            await card.send(C_APDU(0, ECHO))
        await card.reset()
        await card.reconnect()
        with contextlib.suppress(SCardError):  # not every reader has it
            await card.attribute(0x00090303)
        with contextlib.suppress(SCardError):
            await card.control(0x42000D48)


async def life_of_a_monitor(pcsc: SimulatedPCSC) -> None:
    async with ReaderMonitor() as monitor:
        for _ in range(3):
            await monitor.__anext__()
        pcsc.insert("empty", pcsc.remove("in"))
        for _ in range(2):
            await monitor.__anext__()


async def life_of_looks(pcsc: SimulatedPCSC) -> None:
    await scardface.readers()
    await scardface.groups()
    await scardface.states()


LIVES = {
    function.__name__: function
    for function in (
        life_with_a_card_that_is_in,
        life_with_a_card_that_comes,
        life_of_every_call,
        life_until_the_removal,
        life_of_transactions,
        life_of_a_monitor,
        life_of_looks,
    )
}


@pytest.mark.parametrize("life", list(LIVES))
@pytest.mark.parametrize(
    ("anyio_backend", "cancelled"),
    [
        pytest.param(BACKENDS["asyncio"], by_task, id="task-asyncio"),
        pytest.param(BACKENDS["asyncio"], by_scope, id="scope-asyncio"),
        *(pytest.param(BACKENDS[kind], by_task, id=f"task-{kind}") for kind in ("uvloop",) if kind in BACKENDS),
        pytest.param(BACKENDS["trio"], by_scope, id="scope-trio"),
    ],
    indirect=["anyio_backend"],
)
async def test_at_every_await(
    pcsc: SimulatedPCSC, cancelled: Callable[[Coroutine[Any, Any, None], int], Awaitable[bool]], life: str
) -> None:
    at = 1
    with anyio.fail_after(60):
        while await cancelled(LIVES[life](pcsc), at):
            await until(lambda: not waiters() and not pcsc.open_contexts)
            if "in" not in pcsc.cards:
                pcsc.insert("in", pcsc.remove("empty") if pcsc.cards else LogCard())
            await check()
            at += 1
    assert at > 2  # it was cancelled at more awaits than one
    tell(f"{life}: cancelled at each of {at - 1} awaits")


# At random moments.


class Storm:
    """Lives, each cancelled at a random moment in a random way.

    Args:
        readers: one with a card in it, and an empty one.
        longest: seconds from a life's begin to its cancel, at most; that is about as long as it takes to open a card.

    Attributes:
        late: seconds from each cancel to the end of the life.
        ends: how often each way was taken.
    """

    def __init__(self, backend: Backend, readers: Sequence[str], longest: float, anyio_backend: Any) -> None:
        self._backend = backend
        self._asyncio = anyio_backend[0] == "asyncio"
        self._readers = readers
        self._longest = longest
        self.late: list[float] = []
        self._cancellers: list[threading.Thread] = []
        self.ends: Counter[str] = Counter()

    def _moment(self) -> float:
        """Seconds; half of them in the first half of a millisecond, where PC/SC's wait has not begun, or is just about to."""
        return random.choice((0.0005, self._longest)) * random.random()

    def _card(self, timeout: float = -1) -> SCard:
        return SCard(random.choice(self._readers), timeout=timeout, share=ShareMode.SHARED, backend=self._backend)

    async def _wait(self, card: SCard) -> None:
        with contextlib.suppress(WaitCancelledError):  # of `cancel_all`, if not of its own `cancel`
            async with card:
                await card.send(C_APDU(0, ECHO), C_APDU(0, ECHO))
                await card.wait()

    async def _use(self, card: SCard) -> None:
        with contextlib.suppress(WaitCancelledError):
            async with card:
                while True:
                    await card.send(C_APDU(0, ECHO), C_APDU(0, ECHO), callback=lambda command, response: None)

    async def _watch(self, card: SCard) -> None:
        async with ReaderMonitor(backend=self._backend) as monitor:
            async for _ in monitor:
                pass

    def _any(self) -> Coroutine[Any, Any, None]:
        return random.choice((self._wait, self._use, self._watch))(self._card())

    async def by_scope(self) -> float:
        """A cancel scope."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._any)
            await anyio.sleep(self._moment())
            told = time.monotonic()
            tasks.cancel_scope.cancel()
        return told

    async def by_timeout(self) -> float:
        """A time-out around it."""
        end = self._moment()
        told = time.monotonic() + end
        with anyio.move_on_after(end):
            await self._any()
        return told

    async def by_task(self) -> float:
        """asyncio's own way."""
        task = asyncio.ensure_future(self._any())
        await asyncio.sleep(self._moment())
        told = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
        return told

    async def by_deadline(self) -> float:
        """The acquisition's own time-out, with nothing to find."""
        end = self._moment()
        told = time.monotonic() + end
        with contextlib.suppress(CardTimeoutError, WaitCancelledError):
            async with SCard(self._readers[1], timeout=end, backend=self._backend):
                pass
        return told

    async def _by_call(self, cancel: Callable[[SCard], None]) -> float:
        """A plain function, in this thread or another. Between acquisition and `wait` it has nothing to end, so it is repeated."""
        card, ended = self._card(), anyio.Event()

        async def live() -> None:
            await self._wait(card)
            ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live)
            await anyio.sleep(self._moment())
            told = time.monotonic()
            while not ended.is_set():
                if random.random() < 0.5:
                    cancel(card)
                else:
                    self._cancellers.append(spawn("canceller", cancel, card))
                with anyio.move_on_after(0.002):
                    await ended.wait()
        return told

    async def by_cancel(self) -> float:
        """`cancel`."""
        return await self._by_call(SCard.cancel)

    async def by_cancel_all(self) -> float:
        """`cancel_all`, which ends other lives, too."""
        return await self._by_call(lambda card: cancel_all())

    async def run(self, count: int, at_once: int) -> None:
        """So many lives, some at a time; alone, each end is that of the watcher, too."""
        ways = [self.by_scope, self.by_timeout, self.by_deadline, self.by_cancel, self.by_cancel_all]
        if self._asyncio:
            ways.append(self.by_task)
        left = iter(range(count))

        async def live() -> None:
            for _ in left:
                way = random.choice(ways)
                with anyio.fail_after(30):
                    told = await way()
                self.late.append(time.monotonic() - told)
                self.ends[way.__name__] += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(live)
        # A late `cancel_all` ends whatever comes next, too; before its first step a thread has no name in threading's list.
        await until(lambda: not any(thread.is_alive() for thread in self._cancellers))


@pytest.mark.parametrize("at_once", [1, 20])
async def test_a_storm_on_the_simulation(pcsc: SimulatedPCSC, anyio_backend: Any, at_once: int) -> None:
    storm = Storm(pcsc, ("in", "empty"), 0.006, anyio_backend)
    await storm.run(times(300, 5_000), at_once)
    await until(lambda: not pcsc.open_contexts)
    await check()
    tell(f"{len(storm.late)} cancels, {at_once} at once, simulated: done {spread(storm.late)}; {dict(storm.ends)}")


@pytest.mark.parametrize("at_once", [1, 20])
async def test_a_storm_on_pcscd(pcscd: PrivatePcscd, anyio_backend: Any, at_once: int) -> None:
    await off_loop(pcscd.insert, 0, LogCard())
    await off_loop(pcscd.wait_for_card, 0)
    storm = Storm(system_pcsc(), pcscd.readers, 0.02, anyio_backend)
    await storm.run(times(100, 1_000), at_once)
    await check(pcscd.readers[0])
    tell(f"{len(storm.late)} cancels, {at_once} at once, pcscd: done {spread(storm.late)}; {dict(storm.ends)}")


@pytest.mark.parametrize("anyio_backend", [BACKENDS["asyncio"]], ids=["asyncio"], indirect=True)
async def test_a_cancel_that_pcsc_loses(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just before the blocked call begins SCardCancel does nothing (fact 1): here it begins once the first cancel was lost."""
    wait, cancel = SimulatedContext.get_status_change, SimulatedContext.cancel
    armed, about_to_wait, lost = threading.Event(), threading.Event(), threading.Event()

    def wait_late(self: SimulatedContext, timeout: int, entries: Any) -> Any:
        if timeout and armed.is_set():
            armed.clear()
            about_to_wait.set()
            assert lost.wait(30), "nobody cancels"
        return wait(self, timeout, entries)

    def cancel_early(self: SimulatedContext) -> None:
        cancel(self)
        lost.set()

    monkeypatch.setattr("scardface._waiting.watcher.SLICE_MS", 600_000)  # the wait's own end helps nobody
    monkeypatch.setattr(SimulatedContext, "get_status_change", wait_late)
    monkeypatch.setattr(SimulatedContext, "cancel", cancel_early)
    late, card = [], pcsc.cards["in"]
    for number in range(times(20, 500)):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(SCard("empty")._acquire)
            await until(lambda: waiters(pcsc))
            for event in (about_to_wait, lost):
                event.clear()
            armed.set()
            if pcsc.cards:  # so that the present call returns, and another begins
                card = pcsc.remove("in")
            else:
                pcsc.insert("in", card)
            await until(about_to_wait.is_set)
            begin = time.monotonic()
            tasks.cancel_scope.cancel()
        await until(lambda: not pcsc.open_contexts)
        late.append(time.monotonic() - begin)
        assert lost.is_set(), number
    tell(f"{len(late)} cancels lost by PC/SC: the waiting thread is gone {spread(late)} later")


# The loop's end, and Ctrl-C.


async def wait_and_end(seconds: float, reader: str) -> None:
    """Leave tasks behind that wait, use, and watch."""

    async def hold() -> None:
        async with SCard(reader) as card:
            await card.wait()

    async def watch() -> None:
        async with ReaderMonitor() as monitor:
            async for _ in monitor:
                pass

    async with anyio.create_task_group() as tasks:
        for life in (hold, watch, hold):
            tasks.start_soon(life)
        await anyio.sleep(seconds)
        raise EndOfLoop


class EndOfLoop(Exception):
    """The main task of a loop fails, and takes the others along."""


def test_a_loop_that_ends_under_its_tasks(pcsc: SimulatedPCSC, anyio_backend: Any) -> None:
    """`anyio.run`, `asyncio.run`, `trio.run` end all tasks with their main one."""
    backend, options = anyio_backend
    for _ in range(times(20, 300)):
        with pytest.RaisesGroup(EndOfLoop):
            moment, reader = random.random() * 0.006, random.choice(("in", "empty"))
            anyio.run(wait_and_end, moment, reader, backend=backend, backend_options=options)
        wait_until(lambda: not waiters())
    wait_until(lambda: not pcsc.open_contexts)


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be had at a random moment there")
@pytest.mark.filterwarnings("ignore:unclosed <SCard:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("reader", ["empty", "in"])
def test_ctrl_c_at_random_moments(pcsc: SimulatedPCSC, reader: str) -> None:
    """While a card is waited for, opened, and its removal waited for.

    Between the constructor's return and the assignment nobody has the card: it warns then, and closes itself all the same. Python
    drops an interrupt that meets it in a finalizer, so one that has no effect is repeated.
    """
    count, late = times(20, 500), []
    before = signal.signal(signal.SIGALRM, interrupt_if_wanted)
    try:
        for _ in range(count):
            moment = 0.0001 + random.random() * 0.004
            end, card = time.monotonic() + moment, None
            wanted.append(True)
            try:
                signal.setitimer(signal.ITIMER_REAL, moment, AGAIN)
                card = sync.SCard(reader)
                card.wait()
            except KeyboardInterrupt:
                wanted.clear()
                signal.setitimer(signal.ITIMER_REAL, 0)
                late.append(time.monotonic() - end)
            if card is not None:
                card.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(late) == count
    wait_until(lambda: not pcsc.open_contexts)
    with sync.SCard("in", timeout=10) as again:
        again.send(C_APDU(0, ECHO))
    tell(f"{count} times Ctrl-C, reader {reader!r}: out {spread(late)} later")
