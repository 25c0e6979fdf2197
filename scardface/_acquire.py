"""The acquisition: from the wish for a card to an open session, once.

Who owns what, who may call it from where, what ends it:

- `run` is one task's. `cancel` may come from any thread at any time, also before `run`, and from a signal handler.
- The acquisition, never a return value, owns what a connect brings: whoever leaves early leaves an order behind, and the connecting
  thread disconnects, releases and ends once the call has returned, however long PC/SC holds it (fact 4).
- A place in the waiters' table is taken before the first checkpoint, a look at PC/SC asked for, and then only the bell is waited
  for: it rings for the look, for an offered card, for a connect's outcome, and for `cancel`.
- One deadline, on the monotonic clock, over all of it. A card that came in the last moment counts; a cancellation comes before
  both.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import anyio

from ._backend import Backend
from ._enums import Protocol, ShareMode
from ._events import Snapshot
from ._holders import other_programs
from ._hub import Hub, hub_of
from ._queue import Table, table_of
from ._serials import readers_with
from ._session import Session
from ._threads import Bell, Worker, forget_at_fork, in_thread, spawn
from ._waiters import Waiter
from ._wanted import Wanted
from .errors import (
    CANCELLED,
    NO_READERS_AVAILABLE,
    NO_SMARTCARD,
    READER_UNAVAILABLE,
    REMOVED_CARD,
    RESET_CARD,
    SHARING_VIOLATION,
    TIMEOUT,
    UNKNOWN_READER,
    UNPOWERED_CARD,
    UNRESPONSIVE_CARD,
    CardTimeoutError,
    NoReaderError,
    SCardError,
    WaitCancelledError,
    again,
)

T = TypeVar("T")

logger = logging.getLogger("scardface")

_GO_ON = frozenset(
    {
        NO_SMARTCARD,
        READER_UNAVAILABLE,
        REMOVED_CARD,
        RESET_CARD,
        SHARING_VIOLATION,
        UNKNOWN_READER,
        UNPOWERED_CARD,
        UNRESPONSIVE_CARD,
    }
)
"""What a connect may answer without ending the wait: the card is gone, mute, being powered, or held; the reader went."""


_lock = threading.RLock()
"""Guards all acquisitions, for assignments only; a signal handler may cancel while its thread is in here."""


def _forget() -> None:
    global _lock
    _lock = threading.RLock()


forget_at_fork(_forget)


class Acquisition:
    """One wait for one card (see the head of this file). After `run`: `session`, and the `worker` whose thread opened it."""

    __slots__ = (
        "_bell",
        "_cancelled",
        "_claimed",
        "_error",
        "_lock",
        "_over",
        "_session",
        "_waiter",
        "_warned",
        "backend",
        "wanted",
        "worker",
    )

    def __init__(self, wanted: Wanted, backend: Backend) -> None:
        self.wanted = wanted
        self.backend = backend
        self.worker: Worker | None = None
        self._lock = _lock
        self._bell: Bell | None = None
        self._cancelled = False
        self._over = False  # nobody waits for a connect any more
        self._claimed = False
        self._session: Session | None = None
        self._error: BaseException | None = None
        self._warned = False
        self._waiter: Waiter | None = None

    @property
    def session(self) -> Session:
        """The open session."""
        assert self._session is not None, "not acquired"
        return self._session

    def cancel(self) -> None:
        """End the wait with WaitCancelledError; nothing once the card was handed out. From any thread."""
        with self._lock:
            if self._claimed:
                return
            self._cancelled = True
            bell = self._bell
        if bell is not None:
            bell.ring()

    def discard(self) -> None:
        """Whatever becomes of this acquisition, nobody wants it: end the wait, or close the card. From any thread."""
        with self._lock:
            session = self._session if self._claimed else None
        if session is not None:
            spawn("scardface-close", session.close)
        else:
            self.cancel()

    async def run(self, opened: Callable[[], T]) -> T:
        """Wait for the card and open it; return what `opened` says then.

        Raises:
            CardTimeoutError: the deadline passed.
            WaitCancelledError: `cancel` was called.
            NoReaderError, ServiceUnavailableError: at the start.
            SCardError: a connect failed in a way that waiting does not mend.
        """
        self._raise_if_cancelled()
        table, hub = table_of(self.backend), hub_of(self.backend)
        bell = Bell(hub.loop)
        waiter = self._waiter = Waiter(self.wanted, bell)
        table.join(waiter)
        hub.enter()
        try:
            with self._lock:
                self._bell = bell
            self._raise_if_cancelled()
            if self.wanted.timeout:
                with anyio.move_on_after(self.wanted.timeout):
                    await self._drive(table, hub, waiter, bell)
            else:
                await self._drive(table, hub, waiter, bell)
            self._claim(table, waiter)
        except BaseException as error:
            self._leave(table, hub, waiter)
            self._abandon()
            if not isinstance(error, GeneratorExit):  # then the coroutine is thrown away, perhaps with its loop
                await hub.quiet(cancelled=True)
            raise
        self._leave(table, hub, waiter)
        return opened()

    @staticmethod
    def _leave(table: Table, hub: Hub, waiter: Waiter) -> None:
        table.leave(waiter)
        hub.leave()

    async def _drive(self, table: Table, hub: Hub, waiter: Waiter, bell: Bell) -> None:
        """Return with a session, or when there is nothing more to try with a timeout of 0."""
        question = hub.ask(bell, self.wanted.readers.groups)
        while question.answer is None:
            await self._rung(bell)
        if self.wanted.readers.serial is not None and question.answer.error is None:
            await self._find(self.wanted.readers.serial)
        table.ready(waiter, self._readers(hub, question.answer))
        del question  # what follows may last
        while True:
            unsettled = table.settling(waiter)
            if unsettled:
                with anyio.move_on_after(unsettled):
                    await self._rung(bell)
                continue
            reader = table.take(waiter)
            if reader is not None:
                if await self._try(table, waiter, bell, reader):
                    return
            elif self.wanted.timeout == 0:
                return
            elif (retry_at := table.retry_at(waiter)) is None:
                await bell.rung()
                bell.renew()
                self._raise_if_cancelled()
            else:
                with anyio.move_on_after(max(0.0, retry_at - time.monotonic())):
                    await self._rung(bell)
                table.retry(waiter)

    async def _find(self, serial: str) -> None:
        """Find out which reader has the serial number that is wanted."""
        names = await in_thread("scardface-serial", lambda: readers_with(serial, self.backend))
        self.wanted = dataclasses.replace(self.wanted, readers=self.wanted.readers.found(names))
        self._raise_if_cancelled()

    def _readers(self, hub: Hub, snapshot: Snapshot) -> frozenset[str] | None:
        """The readers to watch: with pnp any, else those of the wish that are there now."""
        wanted = self.wanted
        if snapshot.error is not None:
            if not (wanted.pnp and self.backend.absent_service_means_no_reader):
                raise again(snapshot.error)
            return None
        if wanted.pnp:
            return None
        if snapshot.readers and not wanted.readers.named and wanted.readers.groups is None:
            return hub.names(snapshot)
        names = [name for name in snapshot.readers if wanted.readers.accepts(name)]
        if wanted.readers.groups is not None:
            names = [name for name in names if name in snapshot.groups[wanted.readers.groups]]
        if not names:
            there = ", ".join(repr(name) for name in snapshot.readers) or "none"
            which = "none of the readers asked for" if wanted.readers.named else "no reader"
            raise NoReaderError(
                f"{which} is plugged in (there: {there}); plug one in, or wait for one with pnp=True", NO_READERS_AVAILABLE
            )
        return frozenset(names)

    async def _rung(self, bell: Bell) -> None:
        await bell.wait()
        self._raise_if_cancelled()

    def _raise_if_cancelled(self) -> None:
        if self._cancelled:
            raise WaitCancelledError("cancel() ended the wait for a card", CANCELLED)

    # Connecting.

    async def _try(self, table: Table, waiter: Waiter, bell: Bell, reader: str) -> bool:
        """Connect in a thread of its own; whether the card is open now."""
        with self._lock:
            self._error = None
        worker = self.worker = Worker("scardface-card")
        worker.submit(lambda: self._connect(table, waiter, bell, reader))
        while self._session is None and self._error is None:
            await self._rung(bell)
        if self._session is not None:
            return True
        worker.finish()
        self.worker = None
        error = self._error
        if not isinstance(error, SCardError):
            raise error or AssertionError("a connect ended without an outcome")
        if error.code not in _GO_ON:
            raise error
        return False

    def _connect(self, table: Table, waiter: Waiter, bell: Bell, reader: str) -> None:
        """In the worker's thread: open the card; if nobody waits any more, close it again."""
        session: Session | None = None
        error: BaseException | None = None
        try:
            session = Session.open(self.backend, reader, self.wanted, lambda: table.free(waiter))
        except BaseException as failure:
            error = failure
        if session is None:
            table.settle(waiter, error)
        with self._lock:
            over = self._over
            if not over:
                self._session, self._error = session, error
        if session is not None:
            if over:
                session.close()
            table.settle(waiter, None, kept=not over)
        if not bell.ring():  # the loop is gone, and with it whoever would close the card
            self._abandon()
        if isinstance(error, SCardError) and error.code == SHARING_VIOLATION:
            self._warn(reader)

    def _warn(self, reader: str) -> None:
        if self._warned:
            return
        self._warned = True
        programs = ", ".join(other_programs()) or "not known (perhaps another user's program)"
        advice = "; share=ShareMode.SHARED joins programs that share it" if self.wanted.share is ShareMode.EXCLUSIVE else ""
        logger.warning("the card in %r is held by another program; programs with PC/SC open: %s%s", reader, programs, advice)

    # The end.

    def reconnect(self, share: ShareMode, protocols: Protocol | None) -> None:
        """Reconnect the open card, blocking, and have the table know how it is shared: at no time more freely than it is."""
        assert self._waiter is not None, "not acquired"
        session, table = self.session, table_of(self.backend)
        if share is ShareMode.EXCLUSIVE:
            table.reshare(self._waiter, share)
        try:
            session.reconnect(share, protocols)
        finally:
            table.reshare(self._waiter, session.share)

    def _claim(self, table: Table, waiter: Waiter) -> None:
        """Hand the card out, or say why there is none."""
        with self._lock:
            self._raise_if_cancelled()
            if self._session is not None:
                self._claimed = True
                return
        timeout = self.wanted.timeout
        raise CardTimeoutError(f"no matching card within {timeout:g} s; seen: {table.seen(waiter)}", TIMEOUT)

    def _abandon(self) -> None:
        """Leave an order behind for whatever a connect has brought or will bring."""
        with self._lock:
            self._over = True
            session, self._session = self._session, None
            worker, self.worker = self.worker, None
        if worker is not None:
            if session is not None:
                worker.submit(session.close)
            worker.finish()
