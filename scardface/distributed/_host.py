"""`CardHost`: serves the cards of this machine to a scheduler, each as a Dask worker of its own while it is in.

Rules:

- One reader, one task. It starts a worker when a card is put in and closes it when the card leaves, one after the other, whatever
  comes meanwhile; the monitor only says what is in.
- A worker that ends by itself (the scheduler went, or removed it) is started again while its card is in.
- Before anything is served the scheduler is asked for its versions, and again each time it was lost.
- Workers listen on the one address that leads to the scheduler, and their HTTP servers on loopback.
- When a card leaves, its worker is closed at once and the job that runs on it is cancelled: the scheduler runs it elsewhere.
- Leaving the block closes all workers, cards and the monitor, whatever the network does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from distributed import Worker
from distributed.comm import get_address_host
from distributed.core import Status
from distributed.security import Security
from distributed.utils import get_ip

from .. import ATR, CardInserted, CardRemoved, EventsLost, ReaderMonitor, ReaderRemoved, ServiceDown, ServiceUp
from ._cards import CardKeeper, Prepare, set_keeper
from ._errors import SchedulerUnavailableError, VersionMismatchError
from ._jobs import CARD
from ._scheduler import check_certificates, check_scheduler

if TYPE_CHECKING:
    from ..backend import Backend

logger = logging.getLogger("scardface.distributed")

AtrPattern: TypeAlias = "bytes | str | re.Pattern[bytes]"

TIMEOUT = 10.0
"""Seconds that a scheduler has to answer."""
TRIED_AGAIN = 1.0
"""Seconds between two tries to reach a scheduler that is not there: nothing tells when it comes."""
CLOSED = 5.0
"""Seconds that a job has to end in, once it was cancelled because its card left."""
FETCHED = 2.0
"""Seconds that a result which nobody fetches holds up the end of a host."""

_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}|\.\.|[ :])+")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class CardHost:
    """Serves the cards of this machine: `async with CardHost("tcp://scheduler:8786") as host: await host.wait()`.

    Each card is a Dask worker with one thread while it is in, with the resources `card` and each label whose pattern is found in
    its ATR. Restarts of the PC/SC service and of the scheduler, unplugged readers and pulled cards are survived.

    Args:
        scheduler: its address, "tcp://host:port" or "tls://host:port".
        host: the name of this host, for workers, errors and logs. None: that of the machine.
        readers: exact names of readers to serve, a str or an iterable of str; a compiled str pattern is searched in the name.
            None: all.
        atr: only cards in whose ATR it is found: a regular expression as bytes or a compiled one, or as str the first bytes in
            hexadecimal digits, `..` for any byte. None: all cards, mute ones excepted.
        labels: label to ATR, as `atr`: the cards that have it as a resource. A label has letters, digits, `.`, `_` and `-`.
        security: for "tls://", a `distributed.security.Security` with this host's certificate as `tls_worker_cert`. None: Dask's
            configuration.
        timeout: seconds that the scheduler has to answer.
        retry: whether to wait for a scheduler that is not there at the start. One that was there is always waited for.
        listen: the address to listen on; None: that of the interface which leads to the scheduler.
        reset: whether to reset the card after each job, so that the next one finds nothing selected and no PIN verified.
        prepare: `await prepare(card)`, before the first job with a card and after each reset.
        backend: the PC/SC to use; None: the default one.

    Raises (when entering):
        SchedulerUnavailableError: no scheduler answered in time.
        VersionMismatchError: the scheduler has another version of Dask.
        TypeError, ValueError: from the constructor, for an argument of a wrong type or form, or certificates that cannot be read.
    """

    def __init__(
        self,
        scheduler: str,
        *,
        host: str | None = None,
        readers: str | Iterable[str] | re.Pattern[str] | None = None,
        atr: AtrPattern | None = None,
        labels: Mapping[str, AtrPattern] | None = None,
        security: Security | None = None,
        timeout: float = TIMEOUT,
        retry: bool = False,
        listen: str | None = None,
        reset: bool = True,
        prepare: Prepare | None = None,
        backend: Backend | None = None,
    ) -> None:
        if not isinstance(scheduler, str):
            raise TypeError(f"scheduler is an address, a str, not {type(scheduler).__name__}")
        if not re.fullmatch(r"(tcp|tls)://.+:\d+", scheduler):
            raise ValueError(f"no address of a scheduler: {scheduler!r}; it is tcp://HOST:PORT or tls://HOST:PORT")
        if not timeout > 0:
            raise ValueError(f"timeout is seconds, more than 0, not {timeout!r}")
        if scheduler.startswith("tls:") and security is None:
            security = Security()
        if host is not None and not host:
            raise ValueError("host is a name, which is not empty")
        self.scheduler: str = scheduler
        self.host: str = socket.gethostname() if host is None else host
        self._monitor = ReaderMonitor(readers, backend=backend)
        self._atr = None if atr is None else atr_pattern("atr", atr)
        self._labels = {check_label(name): atr_pattern(f"label {name!r}", pattern) for name, pattern in (labels or {}).items()}
        self._security = Security() if security is None else security
        check_certificates(self._security, scheduler)
        self._timeout, self._retry, self._listen = timeout, retry, listen
        self._card_arguments: dict[str, Any] = {"reset": reset, "prepare": prepare, "backend": backend}
        self._slots: dict[str, _Slot] = {}
        self._workers: dict[str, str] = {}
        self._serving: dict[Any, CardKeeper] = {}
        self._draining = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._stack = contextlib.AsyncExitStack()
        self._folder = ""

    @property
    def workers(self) -> Mapping[str, str]:
        """The address of each worker that the scheduler has, by reader: a view."""
        return MappingProxyType(self._workers)

    async def wait(self) -> None:
        """Serve until this task is cancelled, or something cannot be survived.

        Raises:
            VersionMismatchError: the scheduler was restarted with another version of Dask.
            RuntimeError: it is not entered.
        """
        if self._failed is None:
            raise RuntimeError("use 'async with CardHost(...) as host' before waiting")
        await asyncio.shield(self._failed)

    async def drain(self, timeout: float) -> bool:
        """Begin no new job, and wait until those that run have ended and their results were fetched. Then leave the block.

        Args:
            timeout: seconds.

        Returns:
            Whether all have ended.
        """
        self._draining = True
        for worker in self._serving:
            if worker.status is Status.running:
                worker.status = Status.paused
        try:
            await asyncio.wait_for(self._idle(), timeout)
        except asyncio.TimeoutError:
            return False
        return True

    async def _idle(self) -> None:
        for worker, keeper in list(self._serving.items()):
            await keeper.idle.wait()
            fetched = time.monotonic() + FETCHED
            while worker.data and time.monotonic() < fetched:
                await asyncio.sleep(0.02)  # Dask has no event for it

    async def __aenter__(self) -> CardHost:
        if self._failed is not None:
            raise RuntimeError("a host is entered once; make another one")
        self._failed = asyncio.get_running_loop().create_future()
        await self._reach_scheduler(for_ever=self._retry)
        async with contextlib.AsyncExitStack() as stack:
            self._folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="scardface-host-", ignore_cleanup_errors=True))
            await stack.enter_async_context(self._monitor)
            stack.push_async_callback(self._end_tasks)
            self._start(self._follow())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None or self._failed is None:
            return
        if not self._failed.done():
            self._failed.set_exception(error)
            self._failed.exception()  # nobody may wait for it
        logger.error("host %r does not serve any more: %s", self.host, error)

    async def _end_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reach_scheduler(self, *, for_ever: bool) -> None:
        told = False
        while True:
            try:
                return await check_scheduler(self.scheduler, self._security, self._timeout, self.host)
            except SchedulerUnavailableError as error:
                if not for_ever:
                    raise
                if not told:
                    logger.warning("%s; it is waited for", error)
                    told = True
            await asyncio.sleep(TRIED_AGAIN)

    async def _follow(self) -> None:
        """Note what is in, by the monitor's events."""
        async for event in self._monitor:
            if isinstance(event, CardInserted):
                self._put(event.reader, event.atr)
            elif isinstance(event, (CardRemoved, ReaderRemoved)):
                self._take(event.reader)
            elif isinstance(event, (ServiceDown, EventsLost)):  # what is in then follows
                if isinstance(event, ServiceDown):
                    logger.warning("host %r: the PC/SC service is gone; its return is waited for", self.host)
                for reader in self._slots:
                    self._take(reader)
            elif isinstance(event, ServiceUp):
                logger.warning("host %r: the PC/SC service is back", self.host)

    def _put(self, reader: str, atr: ATR) -> None:
        if not atr or (self._atr is not None and self._atr.search(atr) is None):
            return
        slot = self._slots.get(reader)
        if slot is None:
            slot = self._slots[reader] = _Slot()
            self._start(self._serve(reader, slot))
        resources = {CARD: 1.0} | {label: 1.0 for label, pattern in self._labels.items() if pattern.search(atr) is not None}
        if slot.card is not None:
            slot.card.gone.set()
        slot.card = _Card(atr, resources)
        slot.changed.set()

    def _take(self, reader: str) -> None:
        slot = self._slots.get(reader)
        if slot is not None and slot.card is not None:
            slot.card.gone.set()
            slot.card = None
            slot.changed.set()

    async def _serve(self, reader: str, slot: _Slot) -> None:
        """Serve one reader's cards, one after the other."""
        while True:
            card = slot.card
            if card is None:
                slot.changed.clear()
                await slot.changed.wait()
                continue
            try:
                await self._serve_card(reader, card)
            except (SchedulerUnavailableError, VersionMismatchError):
                raise
            except Exception as error:  # Dask's workers fail to start in many ways
                logger.warning("host %r, reader %r: no worker: %s: %s", self.host, reader, type(error).__name__, error)
            if slot.card is card:  # the worker ended, or did not start
                await _either(card.gone.wait(), asyncio.sleep(TRIED_AGAIN))
                if not card.gone.is_set():
                    await _either(card.gone.wait(), self._reach_scheduler(for_ever=True))

    async def _serve_card(self, reader: str, card: _Card) -> None:
        """Have a worker for the card, until the card leaves or the worker ends."""
        if self._draining:
            await card.gone.wait()
            return
        keeper = CardKeeper(reader, self.host, gone=card.gone, **self._card_arguments)
        worker = self._new_worker(reader, card)
        set_keeper(worker, keeper)
        self._serving[worker] = keeper
        try:
            await _ended(asyncio.ensure_future(_started(worker)))
            if card.gone.is_set():
                return
            self._workers[reader] = worker.address
            logger.info("host %r, reader %r: card %s is served as %s", self.host, reader, card.atr, ", ".join(card.resources))
            await _either(card.gone.wait(), worker.finished())
            if not card.gone.is_set():
                logger.warning("host %r, reader %r: the worker has lost the scheduler", self.host, reader)
        finally:
            self._workers.pop(reader, None)
            self._serving.pop(worker, None)
            await _ended(asyncio.ensure_future(_close(worker, keeper)))
            logger.info("host %r, reader %r: the card is not served any more", self.host, reader)

    def _new_worker(self, reader: str, card: _Card) -> Any:
        address = self._listen or get_ip(get_address_host(self.scheduler))
        return Worker(
            self.scheduler,
            name=f"{self.host}/{reader}/{uuid.uuid4().hex[:8]}",  # one that was lost may not be forgotten yet
            nthreads=1,
            resources=card.resources,
            memory_limit=0,  # it is the process's, not a worker's
            security=self._security,
            host=address,
            dashboard_address="127.0.0.1:0",
            death_timeout=self._timeout,
            local_directory=self._folder,
        )


class _Card:
    """One card, from its insertion to its removal."""

    def __init__(self, atr: ATR, resources: dict[str, float]) -> None:
        self.atr, self.resources = atr, resources
        self.gone = asyncio.Event()


class _Slot:
    """What is in one reader."""

    def __init__(self) -> None:
        self.card: _Card | None = None
        self.changed = asyncio.Event()


def atr_pattern(what: str, pattern: AtrPattern) -> re.Pattern[bytes]:
    """The compiled pattern for an ATR.

    Args:
        what: for errors: what it is.

    Raises:
        TypeError: of a wrong type.
        ValueError: no regular expression, or neither hexadecimal digits nor `..`.
    """
    if isinstance(pattern, re.Pattern):
        if not isinstance(pattern.pattern, bytes):
            raise TypeError(f"{what}: a pattern is searched in the ATR, so it must be a bytes pattern, not a str one")
        return pattern
    if isinstance(pattern, bytes):
        try:
            return re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise ValueError(f"{what}: no regular expression: {error}") from None
    if not isinstance(pattern, str):
        raise TypeError(f"{what}: bytes, str or a compiled pattern is needed, not {type(pattern).__name__}")
    if not _HEX.fullmatch(pattern):
        raise ValueError(f"{what}: {pattern!r} is not the beginning of an ATR in hexadecimal digits, '..' for any byte")
    pairs = re.findall(r"[0-9A-Fa-f]{2}|\.\.", pattern)
    return re.compile(b"^" + b"".join(b"." if pair == ".." else re.escape(bytes.fromhex(pair)) for pair in pairs), re.DOTALL)


def check_label(label: str) -> str:
    """The label, if it can be one.

    Raises:
        TypeError: no str.
        ValueError: of another form, or "card", which all cards have.
    """
    if not isinstance(label, str):
        raise TypeError(f"a label is a str, not {type(label).__name__}")
    if not _LABEL.fullmatch(label):
        raise ValueError(f"no label: {label!r}; it has up to 64 letters, digits, '.', '_' and '-', a letter or digit first")
    if label == CARD:
        raise ValueError("the label 'card' is that of all cards; choose another one")
    return label


async def _started(worker: Any) -> None:
    await worker


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for the end of a task, also if this one is cancelled meanwhile. A worker whose start is cancelled stays known to the
    scheduler, which goes on giving it jobs; one whose close is, stays half open. Both end by themselves, by Dask's timeouts.
    """
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # nobody asks for it any more
        raise cancelled
    task.result()


async def _either(*waits: Any) -> None:
    """Wait for the first of two, and cancel the other; raises what the second ended with, if it ended."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[1].done():
            tasks[1].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _close(worker: Any, keeper: CardKeeper) -> None:
    try:
        await worker.close(timeout=CLOSED, executor_wait=False, nanny=False, reason="scardface-card-left")
    except Exception as error:  # of a worker that was not started, or whose scheduler does not answer
        logger.debug("closing a worker: %s: %s", type(error).__name__, error)
    await keeper.close()
