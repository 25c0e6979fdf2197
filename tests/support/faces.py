"""One way to speak to both faces, so that one test holds them together.

`AsyncFace` passes through; `SyncFace` calls the sync face in a thread of its own for each call, as a program with threads would.
A cancelled `SyncFace` call calls `cancel()` on the card, which is what a thread can do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import pytest

import scardface
from scardface import sync
from scardface._threads import in_thread

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


class _SyncCard:
    def __init__(self, card: sync.SCard) -> None:
        self.card = card

    def __getattr__(self, name: str) -> Any:
        return getattr(self.card, name)

    async def send(self, *apdus: Any, **kwargs: Any) -> Any:
        return await off_loop(self.card.send, *apdus, **kwargs)

    async def transmit(self, data: bytes) -> bytes:
        return await off_loop(self.card.transmit, data)

    async def wait(self) -> None:
        await off_loop(self.card.wait)

    async def aclose(self) -> None:
        await off_loop(self.card.close)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Any]:
        block = self.card.channel()
        channel = await off_loop(block.__enter__)
        try:
            yield _SyncChannel(channel)
        except BaseException as error:
            await off_loop(_leave, block, error)
            raise
        await off_loop(block.__exit__, None, None, None)


class _SyncChannel:
    def __init__(self, channel: sync.Channel) -> None:
        self.number = channel.number
        self._channel = channel

    async def send(self, *apdus: Any, **kwargs: Any) -> Any:
        return await off_loop(self._channel.send, *apdus, **kwargs)


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
        try:
            card = await off_loop(_Began, began, *args, **kwargs)
        except anyio.get_cancelled_exc_class():
            for waiting in began:
                waiting.cancel()
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


BACKENDS: dict[str, Any] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "trio": ("trio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
}

both_faces = pytest.mark.parametrize(
    ("anyio_backend", "face"),
    [
        *(pytest.param(backend, AsyncFace(), id=f"async-{name}") for name, backend in BACKENDS.items()),
        pytest.param(BACKENDS["asyncio"], SyncFace(), id="sync"),  # its loop is its own: one of the test's will do
    ],
    indirect=["anyio_backend"],
)
"""The same test on the async face, on every backend, and on the sync face."""
