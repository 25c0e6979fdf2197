"""One way to speak to both faces, so that one test holds them together.

`AsyncFace` passes through; `SyncFace` calls the sync face in a thread of its own for each call, as a program with threads would.
A cancelled `SyncFace` call calls `cancel()` on the card, which is what a thread can do.
"""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import pytest

import scardface
from scardface import sync
from scardface._threads import Reply, Worker, in_thread, until_ended
from scardface.pool import CardPool
from tests.support.figures import FULL

T = TypeVar("T")


async def off_loop(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run a blocking call in a daemon thread that ends with it."""
    return await in_thread("test", lambda: call(*args, **kwargs))


class AsyncFace:
    """scardface.SCard as it is."""

    name = "async"

    @asynccontextmanager
    async def open(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with scardface.SCard(*args, **kwargs) as card:
            yield card

    @asynccontextmanager
    async def monitor(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with scardface.ReaderMonitor(*args, **kwargs) as monitor:
            yield monitor

    def cards(self, *args: Any, **kwargs: Any) -> Any:
        return scardface.cards(*args, **kwargs)

    def pool(self, *args: Any, **kwargs: Any) -> Any:
        return CardPool(*args, **kwargs)

    @staticmethod
    def prepare(function: Callable[[Any], object], *commands: Any) -> Callable[[Any], Any]:
        """A `prepare` that calls `function`, and then sends the commands."""

        async def prepare(card: Any) -> None:
            function(card)
            for command in commands:
                (await card.send(command)).check()

        return prepare

    @staticmethod
    def match(function: Callable[[bytes], bool], command: Any) -> Any:
        """A `match` that asks the card."""

        async def match(card: Any) -> bool:
            return function((await card.send(command)).check().data)

        return match


class _SyncCards:
    """An iteration over cards of the sync face."""

    def __init__(self, cards: Any) -> None:
        self.cards = cards

    def __aiter__(self) -> _SyncCards:
        return self

    async def __anext__(self) -> Any:
        try:
            card = await off_loop(next, self.cards, None)
        except anyio.get_cancelled_exc_class():
            self.cards.close()
            raise
        if card is None:
            raise StopAsyncIteration
        return _SyncCard(card)

    async def aclose(self) -> None:
        await off_loop(self.cards.close)


class _SyncPool:
    """A pool of the sync face."""

    def __init__(self, pool: sync.CardPool) -> None:
        self.pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)

    async def open(self) -> None:
        await _cancellably(self.pool.open, lambda _: self.pool.close())

    async def aclose(self) -> None:
        await off_loop(self.pool.close)

    async def __aenter__(self) -> _SyncPool:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.aclose()

    @asynccontextmanager
    async def card(self, timeout: float | None = None) -> AsyncIterator[Any]:
        """A task that is cancelled gives the card back, as a thread would whose wait is ended."""
        loan = self.pool.card(timeout)
        card = await _cancellably(loan.__enter__, lambda _: loan.__exit__(None, None, None))
        try:
            yield _SyncCard(card)
        finally:
            with anyio.CancelScope(shield=True):
                await off_loop(loan.__exit__, None, None, None)


async def _cancellably(call: Callable[[], T], undo: Callable[[T], object]) -> T:
    """Run a call in a thread; if the task is cancelled, end its waits there, and undo what it has done."""
    scopes: list[sync.CancelScope] = []
    done: list[T] = []
    left: list[bool] = []

    def run() -> T:
        with sync.cancellable() as scope:
            scopes.append(scope)
            result = call()
        done.append(result)
        if left and done:
            undo(done.pop())
        return result

    try:
        return await off_loop(run)
    except anyio.get_cancelled_exc_class():
        left.append(True)
        for scope in scopes:
            scope.cancel()
        with anyio.CancelScope(shield=True):
            if done:
                await off_loop(undo, done.pop())
        raise


class _SyncCard:
    """A sync card whose methods are awaited. A task calls them from threads; inside a transaction, from that one's thread."""

    def __init__(self, card: sync.SCard) -> None:
        self.card = card
        self._threads: dict[int, Worker] = {}  # of the tasks that hold a transaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self.card, name)

    async def _call(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        worker = self._threads.get(anyio.get_current_task().id)
        if worker is None:
            return await off_loop(call, *args, **kwargs)
        reply: Reply[T] = Reply()
        worker.submit(lambda: reply.run(lambda: call(*args, **kwargs)))
        return await reply.get()

    async def send(self, *apdus: Any, **kwargs: Any) -> Any:
        return await self._call(self.card.send, *apdus, **kwargs)

    async def send_all(self, *apdus: Any, **kwargs: Any) -> Any:
        return await self._call(self.card.send_all, *apdus, **kwargs)

    async def transmit(self, data: bytes) -> bytes:
        return await self._call(self.card.transmit, data)

    async def reset(self, **kwargs: Any) -> None:
        await self._call(self.card.reset, **kwargs)

    async def reconnect(self, **kwargs: Any) -> None:
        await self._call(self.card.reconnect, **kwargs)

    async def control(self, *args: Any) -> bytes:
        return await self._call(self.card.control, *args)

    async def attribute(self, attribute: Any) -> Any:
        return await self._call(self.card.attribute, attribute)

    async def set_attribute(self, *args: Any) -> None:
        await self._call(self.card.set_attribute, *args)

    async def features(self) -> Any:
        return await self._call(self.card.features)

    async def properties(self) -> Any:
        return await self._call(self.card.properties)

    async def verify_pin_on_pad(self, *args: Any, **kwargs: Any) -> Any:
        return await self._call(self.card.verify_pin_on_pad, *args, **kwargs)

    async def modify_pin_on_pad(self, *args: Any, **kwargs: Any) -> Any:
        return await self._call(self.card.modify_pin_on_pad, *args, **kwargs)

    async def uid(self) -> bytes:
        return await self._call(self.card.uid)

    async def ats(self) -> bytes:
        return await self._call(self.card.ats)

    async def wait(self) -> None:
        await self._call(self.card.wait)

    async def aclose(self, *args: Any) -> None:
        await self._call(self.card.close, *args)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Any]:
        block = self.card.channel()
        channel = await self._call(block.__enter__)
        try:
            yield _SyncRoute(self, channel)
        except BaseException as error:
            await self._call(_leave, block, error)
            raise
        await self._call(block.__exit__, None, None, None)

    @asynccontextmanager
    async def transaction(self, *args: Any) -> AsyncIterator[None]:
        """A cancelled one, which a thread cannot be, is left to its thread."""
        task = anyio.get_current_task().id
        outermost = task not in self._threads
        worker = self._threads.setdefault(task, Worker("test")) if outermost else self._threads[task]
        block = self.card.transaction(*args)
        try:
            await self._call(block.__enter__)
        except BaseException:
            if outermost:
                worker.submit(lambda: block.__exit__(None, None, None))
                worker.finish()
                del self._threads[task]
            raise
        try:
            try:
                yield
            except BaseException as error:
                with anyio.CancelScope(shield=True):
                    await self._call(_leave, block, error)
                raise
            await self._call(block.__exit__, None, None, None)
        finally:
            if outermost:
                worker.finish()
                del self._threads[task]
                with anyio.CancelScope(shield=True):
                    await until_ended([worker.thread])

    def layer(self, layer: Any) -> Any:
        return _SyncRoute(self, self.card.layer(layer))


class _SyncRoute:
    """A channel, or the card through a layer."""

    def __init__(self, card: _SyncCard, route: Any) -> None:
        self._card = card
        self._route = route

    @property
    def number(self) -> int:
        number: int = self._route.number
        return number

    def layer(self, layer: Any) -> Any:
        return _SyncRoute(self._card, self._route.layer(layer))

    async def send(self, *apdus: Any, **kwargs: Any) -> Any:
        return await self._card._call(self._route.send, *apdus, **kwargs)

    async def send_all(self, *apdus: Any, **kwargs: Any) -> Any:
        return await self._card._call(self._route.send_all, *apdus, **kwargs)


def _leave(block: Any, error: BaseException) -> None:
    assert not block.__exit__(type(error), error, error.__traceback__)


class _Began(sync.SCard):
    """A sync SCard that tells of itself before it waits."""

    def __init__(self, began: list[Any], *args: Any, **kwargs: Any) -> None:
        began.append(self)
        super().__init__(*args, **kwargs)


class _SyncMonitor:
    def __init__(self, monitor: sync.ReaderMonitor) -> None:
        self.monitor = monitor

    @property
    def state(self) -> Any:
        return self.monitor.state

    def __aiter__(self) -> _SyncMonitor:
        return self

    async def __anext__(self) -> Any:
        event = await off_loop(next, self.monitor, None)
        if event is None:
            raise StopAsyncIteration
        return event


class SyncFace:
    """scardface.sync.SCard, from threads."""

    name = "sync"

    @asynccontextmanager
    async def open(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        began: list[sync.SCard] = []
        opened: list[sync.SCard] = []
        left: list[bool] = []

        def acquire() -> sync.SCard:
            card = _Began(began, *args, **kwargs)
            opened.append(card)
            if left:  # it was there before the cancel: then it is this thread's to close
                card.close()
            return card

        try:
            card = await off_loop(acquire)
        except anyio.get_cancelled_exc_class():
            left.append(True)
            for waiting in began:
                waiting.cancel()
            with anyio.CancelScope(shield=True):
                for forgotten in opened:
                    await off_loop(forgotten.close)
            raise
        try:
            yield _SyncCard(card)
        finally:
            with anyio.CancelScope(shield=True):
                await off_loop(card.close)

    @asynccontextmanager
    async def monitor(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        monitor = sync.ReaderMonitor(*args, **kwargs)
        await off_loop(monitor.__enter__)
        try:
            yield _SyncMonitor(monitor)
        finally:
            with anyio.CancelScope(shield=True):
                await off_loop(monitor.__exit__, None, None, None)

    def cards(self, *args: Any, **kwargs: Any) -> Any:
        return _SyncCards(sync.cards(*args, **kwargs))

    def pool(self, *args: Any, **kwargs: Any) -> Any:
        return _SyncPool(sync.CardPool(*args, **kwargs))

    @staticmethod
    def prepare(function: Callable[[Any], object], *commands: Any) -> Callable[[Any], Any]:
        """As `AsyncFace.prepare`."""

        def prepare(card: Any) -> None:
            function(card)
            for command in commands:
                card.send(command).check()

        return prepare

    @staticmethod
    def match(function: Callable[[bytes], bool], command: Any) -> Any:
        """As `AsyncFace.match`."""
        return lambda card: function(card.send(command).check().data)


BACKENDS: dict[str, Any] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "trio": ("trio", {}),
    **({"uvloop": ("asyncio", {"use_uvloop": True})} if importlib.util.find_spec("uvloop") else {}),
}
"""What a test can be run on, as `anyio.run` takes it. uvloop has no wheels for some platforms."""

both_faces = pytest.mark.both_faces
"""The same test on the async face and on the sync face: see `loops_and_faces`."""

_SYNC = pytest.param(BACKENDS["asyncio"], SyncFace(), id="sync")  # its loop is its own: one of the test's will do


def loops_and_faces(metafunc: pytest.Metafunc) -> pytest.MarkDecorator | None:
    """What a test is run with, for `pytest_generate_tests`; None: what it says itself.

    On the simulation an async test runs on every event loop. The real daemon knows nothing of event loops, and each test with it
    waits half a second for the driver's next poll: there a test runs on one of them, which depends on the test's name, so that each
    has its share; so it does on the simulation where the run is to be quick. When figures are wanted, it runs on all.
    """
    names, given = metafunc.fixturenames, metafunc.definition.iter_markers("parametrize")
    faces = metafunc.definition.get_closest_marker("both_faces") is not None
    one = ("pcscd" in names or metafunc.config.getoption("--quick")) and not FULL
    if not faces and (not one or "anyio_backend" not in names or any("anyio_backend" in mark.args[0] for mark in given)):
        return None
    kinds = list(BACKENDS)
    if one:
        kinds = [kinds[zlib.crc32(metafunc.definition.nodeid.encode()) % len(kinds)]]
    if not faces:
        return pytest.mark.parametrize("anyio_backend", [BACKENDS[kind] for kind in kinds], ids=kinds, indirect=True)
    both = [*(pytest.param(BACKENDS[kind], AsyncFace(), id=f"async-{kind}") for kind in kinds), _SYNC]
    return pytest.mark.parametrize(("anyio_backend", "face"), both, indirect=["anyio_backend"])
