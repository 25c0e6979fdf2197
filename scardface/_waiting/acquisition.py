"""One acquisition, from the wish for a card to its open session.

Who owns what, who may call it from where, what ends it:

- `acquire` is one task's, `acquire_blocking` one thread's. `cancel` and `leave` come from any thread at any time, from finalizers
  and signal handlers, also before it began; they only append, post and tell.
- How it ends is decided once, by whoever appends to `_outcomes` first: the thread that opened the card, the driver with an error,
  `cancel`, or the caller that leaves. Who opened a card and was not the first closes it again.
- The request, never a return value, owns the card until its face has taken it over.
- With nobody waiting it looks and connects at once, in the thread that will be the card's, and tells the driver nothing. A
  dispatcher of its own decides there, by the same rules. What it cannot have at once it waits for with the others.
- An offered card is taken in the request's own loop or thread, and opened in a thread of its own. What was opened is checked before
  it counts: the same card as was offered (its event counter), its ATR, its protocol, its reader's serial number.
- One deadline, on the monotonic clock, over all of it: the caller's until it waits with the others, the dispatcher's from then on.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import Any, Literal, TypeVar

import anyio
import anyio.lowlevel

from .._enums import Disposition, Protocol, ShareMode
from .._pcsc.backend import Backend, Context
from .._pcsc.events import Reading, Snapshot, same_card
from .._pcsc.other_programs import other_programs
from .._pcsc.ownership import refuse_copy
from .._pcsc.reader_states import reader_states, usable_readers
from .._session.card_request import ANY_PROTOCOL, CardRequest
from .._session.serials import has_serial
from .._session.session import Session
from .._threads import Loop, Signal, WaitingThread, Worker, log_safely, retry_if_interrupted, spawn
from ..errors import (
    CANCELLED,
    SECURITY_VIOLATION,
    SHARING_VIOLATION,
    TIMEOUT,
    CardTimeoutError,
    SCardError,
    ServiceUnavailableError,
    WaitCancelledError,
    fresh_copy,
)
from .dispatcher import SINGLE_QUERY_TIMEOUT, Dispatcher
from .driver import Driver, driver_of, until_idle, until_idle_blocking
from .messages import (
    Connected,
    Connecting,
    Disconnected,
    End,
    Failed,
    FirstQueryDone,
    Joined,
    Left,
    Names,
    Offer,
    Opened,
    ReadersChanged,
    Responsive,
    ShareModeChanged,
    SnapshotTaken,
    Waiter,
    Withdrawn,
)
from .serial_search import SerialSearch

T = TypeVar("T")

logger = logging.getLogger("scardface")

_numbers = itertools.count(1)
_CANCELLED = "cancel() ended the wait for a card"
_LEFT = WaitCancelledError("the wait for a card was given up", CANCELLED)
"""How a request ends whose caller has left: nobody is told of it."""


class Acquisition(Waiter):
    """See the head of this file. Once it has ended well: `session`, and the `worker` whose thread opened it."""

    __slots__ = (
        "_connecting",
        "_has_followers",
        "_joined",
        "_outcomes",
        "_query_readings",
        "_query_summary",
        "_readers",
        "_search",
        "_serial",
        "_wake",
        "_warned",
        "backend",
        "driver",
        "worker",
    )

    __reduce_ex__ = refuse_copy

    def __init__(self, request: CardRequest, backend: Backend) -> None:
        super().__init__()
        self.request = request
        self.backend = backend
        self.service_may_be_absent = backend.absent_service_means_no_reader
        self.driver: Driver | None = None
        self.worker: Worker | None = None
        self.owner: Any = None
        self._wake: Callable[[], object] = _no_op
        self._outcomes: list[Session | BaseException] = []
        self._readers: Names | Literal["not known"] = "not known"  # those meant, by its own first look
        self._query_readings: Mapping[str, Reading] | None = None  # what was in then, if only new cards are wanted
        self._query_summary: tuple[str, BaseException | None] | None = None  # what was seen then
        self._connecting: Offer | None = None  # in its own first look
        self._has_followers = False  # others were told to stand behind it
        self._joined = False
        self._search: SerialSearch | None = None
        self._serial = request.readers.serial
        self._warned: dict[str, Reading] | None = None  # the cards that were warned of, by reader

    # From any thread, any loop, finalizers and signal handlers.

    @property
    def ended(self) -> bool:
        """Whether there is a card, an error, or nobody who wants either."""
        return bool(self._outcomes)

    @property
    def session(self) -> Session:
        """The open session."""
        end = self._outcomes[0] if self._outcomes else None
        assert isinstance(end, Session), "not acquired"
        return end

    def cancel(self) -> None:
        """End the wait with WaitCancelledError; nothing once its face has the card."""
        self.end_with(WaitCancelledError(_CANCELLED, CANCELLED))
        end, worker = self._outcomes[0], self.worker
        if isinstance(end, Session) and worker is not None and self._take_over():
            worker.submit(end.close)
            worker.finish()

    def leave(self) -> None:
        """Whatever becomes of this acquisition, nobody wants it: end the wait, or have the card closed."""
        self._end_with(_LEFT)
        end, worker = self._outcomes[0], self.worker
        if isinstance(end, Session) and worker is not None:
            worker.submit(end.close)
            worker.finish()
        self._forget_owner()

    def end_with(self, error: BaseException) -> None:
        """End the wait with an error, if it has not ended."""
        self._end_with(error)
        self._wake_up()

    def fail(self, error: BaseException) -> None:
        """As `end_with`, with an error that several are told of."""
        self.end_with(fresh_copy(error) if isinstance(error, SCardError) else error)

    def _take_over(self) -> bool:
        """Whether the open card is the asker's to use or to close: true once, for its face or for whoever gives it up."""
        driver = self.driver
        return driver is not None and driver.undelivered.pop(self, self) is None

    def _forget_owner(self) -> None:
        """What is kept of this request keeps no task and no loop."""
        if self.driver is not None:
            self.driver.undelivered.pop(self, None)
        self._wake = _no_op
        if self.owner is not None:
            self.owner = NO_OWNER

    def _wake_up(self) -> bool:
        """Wake the caller; also if it was somebody else who decided: that one may have been interrupted in between.

        A loop that is just being closed takes a post and loses it, so it is asked behind the post.
        """
        owner = self.owner
        return owner is not None and owner.post(self._wake) and owner.is_alive()

    def _end_with(self, end: Session | BaseException) -> bool:
        """Whether this end is the one that counts."""
        self._outcomes.append(end)  # one step: whoever is interrupted behind it may begin again
        driver = self.driver
        if driver is not None:
            driver.unserved.pop(self, None)
            driver.first_queries.pop(self, None)
            if not isinstance(end, Session):
                driver.tell(Left(self))
            search = self._search
            if search is not None:
                search.stop()
        return self._outcomes[0] is end

    # The caller's.

    def begin(self, owner: Any, wake: Callable[[], object]) -> None:
        """Ask for a card.

        Args:
            home: the loop or thread in which offers are taken.
            wake: called there when the wait may be over.

        Raises:
            SCardError: no thread can be started.
        """
        driver = driver_of(self.backend)
        self.driver, self.owner, self._wake, self.number = driver, owner, wake, next(_numbers)
        timeout = self.request.timeout
        if timeout == 0:
            timeout = SINGLE_QUERY_TIMEOUT + self.request.settle
        self.deadline = math.inf if timeout is None else time.monotonic() + timeout
        driver.take_back_undelivered()
        if self._outcomes:
            return
        at_once = not driver.unserved
        driver.unserved[self] = None
        if self._serial is not None:
            search = SerialSearch(self._serial, self.backend, driver, self.request.wait_for_reader, lambda: self.ended)
            self._search = search
            spawn("scardface-serial", self._search_by_serial, search)
        elif at_once:
            driver.first_queries[self] = None
            Worker("scardface-card", self._query_and_open)
        else:
            self._join()
        if self._outcomes and not isinstance(self._outcomes[0], Session):  # cancelled meanwhile
            self.leave()

    @property
    def own_deadline(self) -> float | None:
        """Until when the caller has to see to the deadline itself, with `expire`; None: it need not."""
        return None if self._joined or self.deadline == math.inf else self.deadline

    def expire(self) -> None:
        """The deadline has come: end, unless the dispatcher sees to it."""
        if self._joined or self._outcomes:
            return
        offer = self._connecting
        if offer is not None and offer.claim(self):  # PC/SC holds the connect: from here on the dispatcher has to know of it
            try:
                self._join(offer)
            except BaseException as error:
                self.end_with(error)
        elif offer is None:
            what = "a reader's serial number" if self._serial is not None else "the PC/SC service"
            timeout = self.request.timeout or 0
            self.end_with(CardTimeoutError(f"no matching card within {timeout:g} s; seen: {what} did not answer", TIMEOUT))

    def result(self) -> Session:
        """The open session, which is the face's from now on, or the error."""
        end = self._outcomes[0]
        if isinstance(end, Session):
            if not self._take_over():
                raise WaitCancelledError(_CANCELLED, CANCELLED)
            self._forget_owner()
            return end
        try:
            raise end
        finally:
            del end  # the frame in its traceback must not hold it

    def take(self, offer: Offer) -> None:
        """At home: take an offered card and have it opened."""
        driver = self.driver
        assert driver is not None
        if not offer.claim(self):  # too late; also where it has ended meanwhile, the others who live here are served again
            driver.tell(Responsive(offer.owner))
        elif self._outcomes:
            driver.tell(Withdrawn(offer))
        else:
            try:
                Worker("scardface-card", functools.partial(self._open_offered, offer))
            except BaseException as error:
                self.end_with(error)
                driver.tell(Withdrawn(offer))

    def reconnect(self, share: ShareMode, protocols: Protocol | None) -> None:
        """Reconnect the open card, blocking, and have others know how it is shared: at no time more freely than it is."""
        if share is ShareMode.EXCLUSIVE:
            self._share(share)
        try:
            self.session.reconnect(share, protocols)
        finally:
            self._share(self.session.share)

    def _share(self, share: ShareMode) -> None:
        driver = self.driver
        if driver is not None and self in driver.open_cards:
            driver.open_cards[self] = (self.session.reader, share)
            driver.tell(ShareModeChanged(self, share))

    def _join(self, trying: Offer | None = None) -> None:
        """Wait with the others."""
        driver = self.driver
        assert driver is not None
        older = []
        for other in list(driver.first_queries):
            if isinstance(other, Acquisition) and other.number < self.number:
                other._has_followers = True
                if other in driver.first_queries:
                    older.append(other)
        self._joined = True
        driver.submit(Joined(self, tuple(older), self._readers, trying, self._query_readings, self._query_summary), self.backend)
        if self._outcomes:
            driver.tell(Left(self))

    # In a thread of its own, which becomes the card's.

    def _query_and_open(self, worker: Worker) -> None:
        """Look, and open what suits; else wait with the others."""
        driver = self.driver
        assert driver is not None
        opened = False
        try:
            opened = self._first_query(driver, worker)
        except BaseException as error:
            self.end_with(error)
        driver.first_queries.pop(self, None)
        if self._has_followers:
            driver.tell(FirstQueryDone(self))
        if not opened:
            worker.finish()

    def _first_query(self, driver: Driver, worker: Worker) -> bool:
        """Whether a card has been opened."""
        mine = Dispatcher()  # by the same rules, for this one look
        now = time.monotonic()
        for waiter, (reader, share) in list(driver.open_cards.items()):
            mine.handle(Opened(waiter, reader, share), now)
        for offer in list(driver.connects):
            mine.handle(Connecting(offer), now)
        mine.handle(Joined(self), now)
        context: Context | None = None
        failures: list[Failed] = []
        try:
            try:
                context = self.backend.establish()
                usable, left_out = usable_readers(self.backend, context.list_readers())
                readings = reader_states(context, usable, self.backend.max_entries)
                groups = {names: frozenset(context.list_readers(names)) for names in mine.groups}
            except SCardError as error:
                if not self._keeps_waiting(error):
                    raise
                self._join()
                return False
            effects = mine.handle(SnapshotTaken(Snapshot(mine.query_wanted, 1, None, readings, groups, left_out)), now)
            self._readers = mine.readers_of(self)
            if self.request.new_only:
                self._query_readings = readings
            while effects and not self._outcomes:
                effect = effects.pop(0)
                if isinstance(effect, End):
                    effect.error.__cause__ = effect.cause
                    raise effect.error
                if isinstance(effect, Offer):
                    used, context = context, None
                    failed = self._open_in_first_query(effect, worker, used)
                    if failed is None:
                        return self.worker is worker and isinstance(self._outcomes[0], Session)
                    failures.append(failed)
                    self._warn(failed.offer, failed.error)
                    effects += mine.handle(failed, time.monotonic())
        finally:
            if context is not None:
                _release(context)
        if not self._outcomes and not self._joined:
            self._query_summary = mine.summary_of(self)
            self._join()
        for failed in failures:
            self._warn_of_holder(failed.offer, failed.error)
        return False

    def _keeps_waiting(self, error: SCardError) -> bool:
        """Whether the wait goes on though the first look failed."""
        request = self.request
        if isinstance(error, ServiceUnavailableError):
            absent = error.code != SECURITY_VIOLATION  # else it is there, and refuses this program
            return absent and (request.wait_for_reader or (request.pnp and self.service_may_be_absent))
        return request.timeout != 0

    def _open_in_first_query(self, offer: Offer, worker: Worker, context: Context | None) -> Failed | None:
        """Open a card of the first look; what its own dispatcher has to hear, or None if it is over."""
        driver = self.driver
        assert driver is not None
        self._connecting = offer
        driver.connects[offer] = None
        driver.tell(Connecting(offer))
        try:
            error, opened = self._open(offer, worker, context)
            if opened:
                return None
            if not offer.claim(worker):  # its time ran out meanwhile, and the driver was told of this connect
                driver.tell(Failed(offer, error))
                return None
        finally:
            driver.connects.pop(offer, None)
            driver.tell(Connected(offer))
        self._connecting = None
        if error is not None and not isinstance(error, SCardError):
            raise error
        return Failed(offer, error)

    def _open_offered(self, offer: Offer, worker: Worker) -> None:
        """Open an offered card; the driver hears what came of it."""
        driver = self.driver
        assert driver is not None
        driver.connects[offer] = None
        error, opened = self._open(offer, worker, None)
        if not opened:
            worker.finish()
            if error is not None and not isinstance(error, SCardError):  # a backend's own, which its caller is told
                self.end_with(error)
            self._warn(offer, error)
            driver.tell(Failed(offer, error))
        driver.connects.pop(offer, None)
        driver.tell(Connected(offer))
        self._warn_of_holder(offer, error)

    def _open(self, offer: Offer, worker: Worker, context: Context | None) -> tuple[BaseException | None, bool]:
        """Connect, check, hand over, or close again; raises nothing. The error, and whether the card was open, if for a moment."""
        driver = self.driver
        assert driver is not None
        session: Session | None = None
        try:
            session = Session.open(self.backend, offer.reader, self.request, self._disconnected, context)
            if not self._is_what_was_offered(session, offer):
                session.close(Disposition.LEAVE)
                return None, False
        except BaseException as error:  # a backend's own exceptions, too, and those of a pattern
            if session is not None:
                _close(session)
            return error, False
        self.worker = worker
        driver.open_cards[self] = (session.reader, session.share)
        driver.tell(Opened(self, session.reader, session.share, offer if self._joined else None))
        driver.undelivered[self] = None
        wanted = self._end_with(session)
        if wanted and self._wake_up():
            return None, True
        # Nobody wants it, or the loop is gone; a loop may also have taken the card over, and have been closed since.
        if self._take_over() or not wanted:
            _close(session)
            worker.finish()
        return None, True

    def _disconnected(self) -> None:
        driver = self.driver
        if driver is not None and driver.open_cards.pop(self, None) is not None:
            driver.tell(Disconnected(self))

    def _is_what_was_offered(self, session: Session, offer: Offer) -> bool:
        """Whether what was opened is what was offered and wanted."""
        request = self.request
        if request.share is ShareMode.DIRECT:
            return self._serial is None or has_serial(self._serial, session.reader, session.get_attribute)
        if session.reading.present and offer.reading.present and not same_card(offer.reading, session.reading):
            return False
        if request.atr is not None and request.atr.search(session.atr) is None:
            return False
        if request.protocols in (Protocol.T0, Protocol.T1, ANY_PROTOCOL) and not session.protocol & request.protocols:
            return False
        return self._serial is None or has_serial(self._serial, session.reader, session.get_attribute)

    def _warn(self, offer: Offer, error: BaseException | None) -> None:
        """Tell once of a card that cannot be had, though others may be: before any of them is looked for."""
        if isinstance(error, SCardError) and error.code != SHARING_VIOLATION and self._is_first_warning(offer):
            log_safely(logger.warning, "the card in %r could not be opened, and is waited for: %s", offer.reader, error)

    def _warn_of_holder(self, offer: Offer, error: BaseException | None) -> None:
        """Tell once of a card that another program holds; who that is takes a while to find out."""
        if not isinstance(error, SCardError) or error.code != SHARING_VIOLATION or not self._is_first_warning(offer):
            return
        programs = ", ".join(other_programs()) or "not known (perhaps another user's program)"
        advice = "; share=ShareMode.SHARED joins programs that share it" if self.request.share is ShareMode.EXCLUSIVE else ""
        words = "the card in %r is held by another program; programs with PC/SC open: %s%s"
        log_safely(logger.warning, words, offer.reader, programs, advice)

    def _is_first_warning(self, offer: Offer) -> bool:
        """Whether this card has not been warned of yet, and somebody still waits."""
        if self._outcomes:
            return False
        told = self._warned = self._warned or {}
        before = told.get(offer.reader)
        if before is not None and same_card(before, offer.reading):
            return False
        told[offer.reader] = offer.reading
        return True

    # A reader by its serial number.

    def _search_by_serial(self, search: SerialSearch) -> None:
        """In a thread of its own: find out which readers are meant, wait with the others, and follow changes meanwhile."""
        driver = self.driver
        assert driver is not None
        try:
            with closing(search.results()) as results:
                self._set_readers(next(results))
                self._join()
                for names in results:
                    if self._set_readers(names):
                        driver.tell(ReadersChanged(self))
        except BaseException as error:
            self.end_with(error)

    def _set_readers(self, names: frozenset[str]) -> bool:
        """Wait for the readers of these names; whether they are others than before."""
        before = self.request.readers
        readers = before.found(names)
        if readers == before:
            return False
        self.request = dataclasses.replace(self.request, readers=readers)
        return True


class _NoOwner:
    """The home of a request that is over."""

    def post(self, callback: Callable[..., object], *args: object) -> bool:
        return False

    def is_alive(self) -> bool:
        return True


NO_OWNER = _NoOwner()


def _no_op() -> None:
    """Nobody has to be woken yet."""


def _close(session: Session) -> None:
    """Close a card that nobody has been given."""
    try:
        session.close()
    except Exception:  # a backend's own, and nobody is there to be told
        log_safely(logger.exception, "at the close of a card that nobody wanted")


def _release(context: Context) -> None:
    try:
        context.release()
    except SCardError as error:
        log_safely(logger.debug, "after a look: %s", error)


# How a task, or a thread, waits for it.


async def acquire(request: Acquisition, opened: Callable[[Session], T]) -> T:
    """Wait for the card; return what `opened` says of its session.

    Raises:
        CardTimeoutError: the deadline passed.
        WaitCancelledError: `cancel` was called.
        NoReaderError, ServiceUnavailableError: at the start.
        SCardError: no thread can be started.
    """
    loop = Loop()
    signal = loop.signal()
    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
        request.begin(loop, signal.set)
        deadline = request.own_deadline
        if deadline is not None and not request.ended:
            await _until(signal, deadline)
            request.expire()
        while not request.ended:
            await signal.wait()
        return opened(request.result())
    except BaseException as error:
        request.leave()
        if not isinstance(error, GeneratorExit) and request.driver is not None:  # else it is thrown away, perhaps with its loop
            await until_idle(request.driver, cancelled=True)
        raise


async def _until(signal: Signal, deadline: float) -> None:
    """Return once the signal is set, or at the deadline."""
    scope = anyio.move_on_after(max(0.0, deadline - time.monotonic()))
    scope.__enter__()
    try:
        await signal.wait()
    except GeneratorExit as error:  # thrown away, perhaps with its loop: a scope cannot be left without one
        with suppress(RuntimeError):
            scope.__exit__(GeneratorExit, error, error.__traceback__)
        raise
    except BaseException as error:
        if not scope.__exit__(type(error), error, error.__traceback__):
            raise
    else:
        scope.__exit__(None, None, None)


def acquire_blocking(request: Acquisition, opened: Callable[[Session], T]) -> T:
    """As `acquire`, in the calling thread; Ctrl-C ends the wait."""
    caller = WaitingThread()
    try:
        request.begin(caller, _no_op)
        caller.run(lambda: request.ended, request.own_deadline, request.expire)
        return opened(request.result())
    except BaseException:
        retry_if_interrupted(request.leave)
        if request.driver is not None:
            until_idle_blocking(request.driver)
        raise
