"""A scheduler, a host on a simulated PC/SC, and a client, all in the event loop of the test.

Where the package distributed is not installed, test_init.py alone is read; it says so once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from scardface.testing import SimulatedPCSC, VirtualCard
from tests.support.cards import LogCard

if TYPE_CHECKING:
    from distributed import Client, Scheduler

    from scardface.distributed import CardHost

collect_ignore_glob = ["test_[!i]*.py"] if find_spec("distributed") is None else []

BOUND = 60.0
"""Seconds that a wait may take which a hang would exceed."""

Maker = Callable[[], AbstractAsyncContextManager["Fleet"]]


class Fleet:
    """What a test has of it."""

    def __init__(self, pcsc: SimulatedPCSC, scheduler: Scheduler, client: Client) -> None:
        self.pcsc, self.scheduler, self.client = pcsc, scheduler, client

    def host(self, **arguments: Any) -> CardHost:
        """A host of this PC/SC, to be entered."""
        from scardface.distributed import CardHost

        return CardHost(self.scheduler.address, **{"host": "here", "backend": self.pcsc, **arguments})

    def insert(self, reader: str, card: VirtualCard | None = None) -> VirtualCard:
        """Put a card in."""
        card = LogCard() if card is None else card
        self.pcsc.insert(reader, card)
        return card

    async def served(self, count: int) -> None:
        """Wait until the scheduler has so many workers."""
        while len(self.scheduler.workers) != count:
            await asyncio.sleep(0.01)


@pytest.fixture
def anyio_backend() -> str:
    """Dask needs asyncio."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _offload_thread() -> None:
    """Dask starts one thread with the first long message and keeps it for the life of the process."""
    if find_spec("distributed") is not None:
        from distributed.utils import _offload_executor

        _offload_executor.submit(int).result()


@asynccontextmanager
async def _fleet() -> AsyncIterator[Fleet]:
    from distributed import Client, Scheduler

    with SimulatedPCSC() as pcsc:
        for name in ("A", "B"):
            pcsc.add_reader(name)
        async with (
            Scheduler(host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0") as scheduler,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            yield Fleet(pcsc, scheduler, client)


@pytest.fixture
def fleet() -> Maker:
    """Makes one in the test's own loop: `async with fleet() as fleet:`."""
    return _fleet
