"""A worker's card, and how the job that runs there gets it: `current_card`.

Rules:

- A worker has one card, opened for its first job and kept open between jobs. After each job it is reset, so that the next one finds
  no application selected and no PIN verified; after one that failed it is closed, and opened anew for the next.
- One job has it at a time; another one of the same worker waits.
- A job whose card goes (pulled, the reader unplugged, the service restarted) is not failed: it waits until its worker has left the
  scheduler, which runs it again elsewhere. One that may begin only once ends with a JobInterruptedError at once.
- Code of the sync face (`with`, in a job that is no coroutine) gets a card of the sync face, opened for it and closed after it.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from distributed import Reschedule, get_worker

from .. import CardRemovedError, CardResetError, NoReaderError, SCard, SCardError, ServiceUnavailableError, sync
from ..errors import REMOVED_CARD
from ._once import current_claim

if TYPE_CHECKING:
    from ..backend import Backend

logger = logging.getLogger("scardface.distributed")

Prepare: TypeAlias = Callable[[SCard], Awaitable[object]]

OPEN_TIMEOUT = 30.0
"""Seconds that a job waits for its worker's card to open: another program may hold it."""
NOTICED = 5.0
"""Seconds in which a removal that a command met is reported to the monitor as well; drivers are polled every 0.4 s (fact 12)."""
LEFT = 60.0
"""Seconds in which a worker whose card went has left the scheduler."""

_LOST = (CardRemovedError, CardResetError, NoReaderError, ServiceUnavailableError)
"""What a job sees of a card that goes. A reset is told from a removal by the monitor."""

_keepers: weakref.WeakKeyDictionary[Any, CardKeeper] = weakref.WeakKeyDictionary()


class CardKeeper:
    """The one card of one worker, from its insertion to its removal. It belongs to the event loop of its host.

    Attributes:
        reader: the reader that it is in.
        host: the name of the host.
        gone: set once the card has been taken out.
        left: set once the worker has left the scheduler.
        idle: set while no job runs.
    """

    def __init__(
        self, reader: str, host: str, *, gone: asyncio.Event, reset: bool, prepare: Prepare | None, backend: Backend | None
    ) -> None:
        """Make the keeper of the card in `reader`.

        Args:
            gone: set once the card has been taken out.
            reset: whether to reset the card between jobs.
            prepare: called with the open card before the first job, and after each reset.
            backend: the PC/SC to use; None: the default one.
        """
        self.reader, self.host = reader, host
        self.gone, self.left, self.idle = gone, asyncio.Event(), asyncio.Event()
        self.idle.set()
        self._jobs = 0
        self.loop = asyncio.get_running_loop()
        self._reset, self._prepare, self._backend = reset, prepare, backend
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None
        self._card: SCard | None = None
        self._ready = False
        self._opening: sync.CancelScope | None = None

    @contextmanager
    def job(self) -> Iterator[None]:
        """Around a job, which is waited for before its host stops."""
        self._jobs += 1
        self.idle.clear()
        try:
            yield
        finally:
            self._jobs -= 1
            if not self._jobs:
                self.idle.set()

    async def acquire(self) -> SCard:
        """The card, open and prepared, for this task alone until `release`.

        Raises:
            CardRemovedError: it has been taken out.
            SCardError: it cannot be opened, or be prepared.
            RuntimeError: this task has it already.
        """
        task = asyncio.current_task()
        if self._holder is task:
            raise RuntimeError("this task is inside 'async with current_card()' already: use the card that it has there")
        await self._lock.acquire()
        try:
            self._check()
            if self._card is None:
                self._card = await SCard(self.reader, timeout=OPEN_TIMEOUT, backend=self._backend)
                self._ready = False
                self._check()  # or it may be the next one in this reader
            if not self._ready:
                if self._prepare is not None:
                    await self._prepare(self._card)
                self._ready = True
        except BaseException:
            await self._give_back(failed=True)
            raise
        self._holder = task
        return self._card

    async def release(self, *, failed: bool) -> None:
        """Leave the card to the next job."""
        self._holder = None
        await self._give_back(failed=failed)

    async def _give_back(self, *, failed: bool) -> None:
        try:
            if failed:
                await self._close_card()
            elif self._reset and self._card is not None:
                self._ready = False
                try:
                    await self._card.reset()
                except SCardError as error:
                    logger.debug("reader %r: the card is opened anew: %s", self.reader, error)
                    await self._close_card()
        finally:
            self._lock.release()

    async def acquire_alone(self) -> None:
        """Keep other jobs away, with the card closed: for a job that opens it by the sync face."""
        await self._lock.acquire()
        try:
            self._check()
            await self._close_card()
        except BaseException:
            self._lock.release()
            raise

    def release_alone(self) -> None:
        """End of `acquire_alone`."""
        self._lock.release()

    def open_sync(self) -> sync.SCard:
        """The card of the sync face; for the thread of a job. `close` ends the wait for it."""
        with sync.cancellable() as scope:
            self._opening = scope
            try:
                self._check()
                card = sync.SCard(self.reader, timeout=OPEN_TIMEOUT, backend=self._backend)
            finally:
                self._opening = None
        try:
            self._check()
        except CardRemovedError:
            card.close()
            raise
        return card

    def _check(self) -> None:
        if self.gone.is_set():
            raise CardRemovedError(f"the card was taken out of reader {self.reader!r}", REMOVED_CARD, "SCardConnect", self.reader)

    async def has_gone(self, error: BaseException | None) -> bool:
        """Whether the card is gone, as far as the monitor notices within `NOTICED`.

        Args:
            error: what the job ended with.
        """
        if isinstance(error, _LOST):
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.gone.wait(), NOTICED)
        return self.gone.is_set()

    async def close(self) -> None:
        """Close the card; its worker has left."""
        self.left.set()
        opening = self._opening
        if opening is not None:
            opening.cancel()
        await self._close_card()

    async def _close_card(self) -> None:
        card, self._card, self._ready = self._card, None, False
        if card is not None:
            with suppress(SCardError):
                await card.aclose()


def set_keeper(worker: Any, keeper: CardKeeper) -> None:
    """From now on, jobs of this worker have this card."""
    _keepers[worker] = keeper


def keeper_here() -> CardKeeper:
    """The card of the worker that this job runs on.

    Raises:
        RuntimeError: this is no job, or its worker has no card.
    """
    try:
        worker = get_worker()
    except ValueError:
        raise RuntimeError("there is no current card here: a job has one, while it runs on a host that serves cards") from None
    keeper = _keepers.get(worker)
    if keeper is None:
        cure = "submit the job with scardface.distributed.submit, or with resources={'card': 1}"
        raise RuntimeError(f"the worker {worker.name!r} has no card: {cure}")
    return keeper


class _CurrentCard:
    """See `current_card`."""

    def __init__(self) -> None:
        self._keeper: CardKeeper | None = None
        self._sync_card: sync.SCard | None = None

    async def __aenter__(self) -> SCard:
        keeper = self._keeper = keeper_here()
        try:
            return await keeper.acquire()
        except SCardError as error:
            await _ended(keeper, error)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        keeper = self._keeper
        assert keeper is not None
        await keeper.release(failed=error is not None)
        await _ended(keeper, error)

    def __enter__(self) -> sync.SCard:
        keeper = self._keeper = keeper_here()
        _in_loop(keeper, keeper.acquire_alone())
        try:
            self._sync_card = keeper.open_sync()
        except BaseException as error:
            keeper.loop.call_soon_threadsafe(keeper.release_alone)
            if isinstance(error, SCardError):
                _in_loop(keeper, _ended(keeper, error))
            raise
        return self._sync_card

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        keeper, card = self._keeper, self._sync_card
        assert keeper is not None
        assert card is not None
        try:
            with suppress(SCardError):
                card.close()
        finally:
            keeper.loop.call_soon_threadsafe(keeper.release_alone)
        _in_loop(keeper, _ended(keeper, error))


def current_card() -> _CurrentCard:
    """The card of the worker that this job runs on, for a block: `async with current_card() as card:`.

    `card` is an `SCard`, open for this job alone. It stays open for the worker's next job, after a reset. In a job that is no
    coroutine it is `with current_card() as card:`, and a `scardface.sync.SCard`.

    If the card goes within the block, the job is run again on another card (its worker closes, or Dask's `Reschedule` is raised);
    one that was submitted with `once=True` ends with a JobInterruptedError.

    Raises (when entering):
        RuntimeError: this is no job, its worker has no card, or this task is inside such a block already.
        CardTimeoutError: another program holds the card.
        SCardError: it cannot be opened.
    """
    return _CurrentCard()


async def reached(stage: str) -> None:
    """Note how far a job got that may begin only once: `await reached("PIN verified")`. Returns when the scheduler has it.

    If the job is lost later, its JobInterruptedError has these words. In other jobs it does nothing.

    Args:
        stage: words of your own, not a secret: the scheduler keeps them until the job has ended.

    Raises:
        TypeError: no str.
        OSError: the scheduler cannot be reached.
    """
    if not isinstance(stage, str):
        raise TypeError(f"a stage is a str, not {type(stage).__name__}")
    claim = current_claim.get()
    if claim is not None:
        await claim.reached(stage)


async def leave_if_gone(keeper: CardKeeper) -> None:
    """Before a job begins: if the card has gone, wait until the scheduler has taken the job from this worker."""
    if keeper.gone.is_set():
        await _rescheduled(keeper, None)


async def _rescheduled(keeper: CardKeeper, error: Exception | None) -> NoReturn:
    # Only then has the scheduler taken the job from this worker, whose close cancels this task, if it is the job's own.
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(keeper.left.wait(), LEFT)
    raise Reschedule from error


async def _ended(keeper: CardKeeper, error: BaseException | None) -> None:
    """The end of a block that had the card; raises in place of `error` if the card has gone."""
    if error is None or not isinstance(error, Exception) or not await keeper.has_gone(error):
        return
    claim = current_claim.get()
    if claim is not None:
        raise claim.interrupted(f"the card was taken out of reader {keeper.reader!r} while the job ran") from error
    await _rescheduled(keeper, error)


def _in_loop(keeper: CardKeeper, work: Coroutine[Any, Any, None]) -> None:
    """Await in the host's loop, from the thread of a job, whose context goes along."""
    asyncio.run_coroutine_threadsafe(work, keeper.loop).result()
