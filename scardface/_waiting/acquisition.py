"""One acquisition: from a card request to an open session.

Who owns what, who may call it from where, what ends it:

- `acquire` runs in one task, `acquire_blocking` in one thread. `cancel` and `leave` are signal-safe (see the package),
  also before `begin`.
- The first item of `_outcomes` is the outcome: the session that a connect has opened, or the error that the driver, `cancel` or
  `leave` has put there. A thread whose session comes second closes it again.
- The acquisition owns the open session until its face has taken it over. It is handed over by a call (`opened` of `acquire`), not
  by a return value, which an interrupt or a cancellation could lose.
- If nobody else waits, it makes a first query: in the thread that becomes the card's, without the driver, it queries the readers
  and connects at once. A dispatcher of its own decides then, by the same rules. If it gets no card in this way, it joins the
  waiters of the driver.
- An offered card is taken at the owner, and opened in a thread of its own. Before the session counts, it is checked: the card that
  was offered (by its event counter), the ATR, the protocol, the reader's serial number.
- One deadline, on the monotonic clock, for everything. The caller heeds it until the acquisition joins the waiters of the driver,
  the dispatcher from then on.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from typing import Any, Literal, TypeVar

from .._enums import Disposition, Protocol, ShareMode
from .._pcsc.backend import Backend, Context
from .._pcsc.events import Reading, Snapshot, same_card
from .._pcsc.no_copy import refuse_copy
from .._pcsc.other_programs import other_programs
from .._pcsc.reader_states import reader_states, usable_readers
from .._session.card_request import ANY_PROTOCOL, CardRequest
from .._session.serials import has_serial
from .._session.session import Session
from .._threads import Loop, Signal, WaitingThread, Worker, log_safely, no_op, retry_if_interrupted, spawn
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
    NO_CARDS,
    NO_READINGS,
    CardOpened,
    ConnectFinished,
    ConnectStarted,
    Disconnected,
    End,
    Failed,
    FirstQueryDone,
    Joined,
    Left,
    NameSet,
    Offer,
    ReadersChanged,
    RefusedCards,
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
"""The outcome after `leave`; nobody gets to see it."""


class Acquisition(Waiter):
    """The wait of one SCard for its card. After success it has the open `session`, and the `worker` whose thread opened it.

    Args:
        refused: the cards that are not wanted although they match, until they have been taken out.
        previous: the acquisition whose card was not the right one. This one goes on for it: in its place, until its deadline.
    """

    __slots__ = (
        "__weakref__",
        "_connect_under_way",
        "_has_followers",
        "_joined",
        "_outcomes",
        "_query_readings",
        "_query_summary",
        "_readers",
        "_refused_gone",
        "_refused_life",
        "_search",
        "_serial",
        "_wake",
        "_warned",
        "backend",
        "driver",
        "life",
        "worker",
    )

    __reduce_ex__ = refuse_copy

    def __init__(
        self,
        request: CardRequest,
        backend: Backend,
        refused: RefusedCards = NO_CARDS,
        previous: Acquisition | None = None,
    ) -> None:
        super().__init__()
        self.request = request
        self.number = 0
        self._refused, self._refused_life, self._refused_gone = refused
        self.life: int | None = None  # of the service, in which the card was opened, as far as is known
        self.backend = backend
        self.service_may_be_absent = backend.absent_service_means_no_reader
        self.driver: Driver | None = None
        self.worker: Worker | None = None
        self.owner: Any = None
        self._wake: Callable[[], object] = no_op
        self._outcomes: list[Session | BaseException] = []
        self._readers: NameSet | Literal["not known"] = "not known"  # the readers it waits for, by its own first query
        self._query_readings: Mapping[str, Reading] | None = None  # what that query saw, if only new cards are wanted
        if previous is not None:
            self.number, self.deadline = previous.number, previous.deadline
            self._query_readings = previous._query_readings
        self._query_summary: tuple[str, BaseException | None] | None = None  # what it saw, in words
        self._connect_under_way: Offer | None = None  # under way in its own first query
        self._has_followers = False  # younger waiters wait for the end of its first query
        self._joined = False
        self._search: SerialSearch | None = None
        self._serial = request.readers.serial
        self._warned: dict[str, Reading] | None = None  # the cards that a warning was logged for, by reader

    # Signal-safe.

    @property
    def ended(self) -> bool:
        """Whether there is an outcome: a session or an error."""
        return bool(self._outcomes)

    @property
    def session(self) -> Session:
        """The open session."""
        end = self._outcomes[0] if self._outcomes else None
        assert isinstance(end, Session), "not acquired"
        return end

    @property
    def refused(self) -> RefusedCards:
        """Those of the cards that are not wanted which were still in, as far as was seen."""
        return RefusedCards(self._refused, self._refused_life, self._refused_gone)

    @property
    def readings_before(self) -> Mapping[str, Reading]:
        """With `new_only`: the cards that were in when the wait began, and still were when this one was opened."""
        return self._query_readings or NO_READINGS

    def cancel(self) -> None:
        """End the wait with WaitCancelledError; without effect once the face has taken over the card."""
        self.end_with(WaitCancelledError(_CANCELLED, CANCELLED))
        end, worker = self._outcomes[0], self.worker
        if isinstance(end, Session) and worker is not None and self._take_over():
            worker.submit(end.close)
            worker.finish()

    def leave(self) -> None:
        """Nobody wants the card any more: end the wait, or have the card closed."""
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
        """As `end_with`, with a copy of `error`, which every waiter is given."""
        self.end_with(fresh_copy(error) if isinstance(error, SCardError) else error)

    def _take_over(self) -> bool:
        """Claim the open card. Returns True to the first caller only, who then uses or closes it."""
        driver = self.driver
        return driver is not None and driver.not_taken_over.pop(self, self) is None

    def _forget_owner(self) -> None:
        """Refer to no task and no loop any more."""
        if self.driver is not None:
            self.driver.not_taken_over.pop(self, None)
        self._wake = no_op
        if self.owner is not None:
            self.owner = NO_OWNER

    def _wake_up(self) -> bool:
        """Wake the caller, also if another thread has set the outcome: it may have been interrupted before it woke the caller.

        Returns False if the caller's loop is closed. A loop that is being closed accepts a post and loses it, so it is asked after
        the post whether it is alive.
        """
        owner = self.owner
        return owner is not None and owner.post(self._wake) and owner.is_alive()

    def _end_with(self, end: Session | BaseException) -> bool:
        """Add an outcome, unless there is one. Returns True if it is the first, which counts."""
        if not self._outcomes:  # else one more, with each cancel of an open card, would be kept as long as the card
            self._outcomes.append(end)  # one step, so that an interrupted caller may begin again
        driver = self.driver
        if driver is not None:
            driver.without_outcome.pop(self, None)
            driver.first_queries.pop(self, None)
            if not isinstance(end, Session):
                driver.tell(Left(self))
            search = self._search
            if search is not None:
                search.stop()
        return self._outcomes[0] is end

    # For the caller.

    def begin(self, owner: Any, wake: Callable[[], object]) -> None:
        """Ask for a card.

        Args:
            owner: the loop or thread of the caller, in which offers are taken.
            wake: called there when the wait may be over.

        Raises:
            SCardError: no thread can be started.
        """
        driver = driver_of(self.backend)
        self.driver, self.owner, self._wake = driver, owner, wake
        self.life = driver.life
        timeout = self.request.timeout
        if timeout == 0:
            timeout = SINGLE_QUERY_TIMEOUT + self.request.settle
        if not self.number or self.request.timeout == 0:
            self.deadline = math.inf if timeout is None else time.monotonic() + timeout
        self.number = self.number or next(_numbers)
        driver.close_abandoned_cards()
        if self._outcomes:
            return
        at_once = not driver.without_outcome
        driver.without_outcome[self] = None
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
        """When the caller has to call `expire`; None: not at all."""
        return None if self._joined or self.deadline == math.inf else self.deadline

    def expire(self) -> None:
        """The deadline has passed: end, unless the dispatcher handles it."""
        if self._joined or self._outcomes:
            return
        offer = self._connect_under_way
        if offer is not None and offer.claim(self):  # PC/SC does not return from the connect: the dispatcher goes on
            try:
                self._join(offer)
            except BaseException as error:
                self.end_with(error)
        elif offer is None:
            what = "a reader's serial number" if self._serial is not None else "the PC/SC service"
            timeout = self.request.timeout or 0
            self.end_with(CardTimeoutError(f"no matching card within {timeout:g} s; seen: {what} did not answer", TIMEOUT))

    def result(self) -> Session:
        """Return the session, which belongs to the face from now on, or raise the error."""
        end = self._outcomes[0]
        if isinstance(end, Session):
            if not self._take_over():
                raise WaitCancelledError(_CANCELLED, CANCELLED)
            self._forget_owner()
            return end
        try:
            raise end
        finally:
            del end  # else the frame in its traceback would refer to it

    def take(self, offer: Offer) -> None:
        """At the owner: take an offered card and have it opened."""
        driver = self.driver
        assert driver is not None
        if not offer.claim(self):  # too late; also if this wait has ended, other waiters of its owner can be offered cards
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
        """Reconnect the open card, blocking, and report its share mode.

        EXCLUSIVE is reported before the reconnect and SHARED after it, so that the dispatcher never believes the card more free
        than it is.
        """
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
        """Join the waiters of the driver."""
        driver = self.driver
        assert driver is not None
        older = []
        for other in list(driver.first_queries):
            if isinstance(other, Acquisition) and other.number < self.number:
                other._has_followers = True
                if other in driver.first_queries:
                    older.append(other)
        self._joined = True
        found = self._readers, trying, self._query_readings, self._query_summary
        driver.submit(Joined(self, tuple(older), *found, self.refused), self.backend)
        if self._outcomes:
            driver.tell(Left(self))

    # In a thread of its own, which becomes the card's.

    def _query_and_open(self, worker: Worker) -> None:
        """Query the readers and open a card that matches, or else join the waiters of the driver."""
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
        """Query the readers and try the cards that match. Returns True if one was opened."""
        context: Context | None = None
        used: Context | None
        failures: list[Failed] = []
        try:
            try:
                context = self.backend.establish()
                named = self.request.readers.names
                listed = named if named is not None and len(named) == 1 else context.list_readers()
                offer = self._card_at_once(driver, context, listed)
                if offer is not None:
                    used, context = context, None
                    failed = self._open_in_first_query(offer, worker, used)
                    if failed is None:
                        return self._has_opened_in(worker)
                    failures.append(failed)
                    context = self.backend.establish()
                mine = self._dispatcher_for_first_query(driver)
                if failures or listed is named:
                    listed = context.list_readers()
                usable, left_out = usable_readers(self.backend, listed)
                readings = reader_states(context, usable, self.backend.max_entries)
                groups = {names: frozenset(context.list_readers(names)) for names in mine.groups}
            except SCardError as error:
                if not failures and not self._keeps_waiting(error):  # with failures: the service was there as the wait began
                    raise
                self._join()
                return False
            effects = mine.handle(SnapshotTaken(Snapshot(mine.query_wanted, 1, None, readings, groups, left_out)), time.monotonic())
            self._readers = mine.readers_of(self)
            if self.request.new_only and self._query_readings is None:
                self._query_readings = readings
            while True:
                if not effects or self._outcomes or time.monotonic() >= self.deadline:
                    break
                effect = effects.pop(0)
                if isinstance(effect, End):
                    effect.error.__cause__ = effect.cause
                    raise effect.error
                if isinstance(effect, Offer):
                    failed = next((Failed(effect, each.error) for each in failures if _is_same_offer(each.offer, effect)), None)
                    if failed is None:
                        used, context = context, None
                        failed = self._open_in_first_query(effect, worker, used)
                        if failed is None:
                            return self._has_opened_in(worker)
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

    def _dispatcher_for_first_query(self, driver: Driver) -> Dispatcher:
        """A dispatcher for this acquisition alone, which knows what this process does with the readers."""
        mine = Dispatcher()
        now = time.monotonic()
        for waiter, (reader, share) in list(driver.open_cards.items()):
            mine.handle(CardOpened(waiter, reader, share), now)
        for offer in list(driver.connects):
            mine.handle(ConnectStarted(offer), now)
        mine.handle(Joined(self, readings=self._query_readings, refused=self.refused), now)
        return mine

    def _card_at_once(self, driver: Driver, context: Context, listed: Iterable[str]) -> Offer | None:
        """What a dispatcher would offer first in the plainest case; None: let a dispatcher decide.

        That is the first card that matches in readers that this process does not use.

        Args:
            listed: the readers in order; or the one that is asked for by its name, which need not be there.
        """
        request = self.request
        if request.share is ShareMode.DIRECT or request.settle or request.new_only or self._refused:
            return None
        if request.readers.groups is not None:
            return None
        usable, _ = usable_readers(self.backend, filter(request.readers.accepts, listed))
        used = {reader for reader, _ in list(driver.open_cards.values())} | {offer.reader for offer in list(driver.connects)}
        if not used.isdisjoint(usable):
            return None
        readings = reader_states(context, usable, self.backend.max_entries)
        for name, reading in readings.items():
            if not reading.present or reading.mute or (request.atr is not None and request.atr.search(reading.atr) is None):
                continue
            if self._outcomes or time.monotonic() >= self.deadline:
                return None
            self._readers = None if request.pnp or request.wait_for_reader else frozenset(readings)
            return Offer(self, name, reading, 1)
        return None

    def _has_opened_in(self, worker: Worker) -> bool:
        """Whether a card was opened in that thread, and not handed over to the driver."""
        return self.worker is worker and isinstance(self._outcomes[0], Session)

    def _keeps_waiting(self, error: SCardError) -> bool:
        """Whether to join the waiters of the driver although the first query failed."""
        request = self.request
        if isinstance(error, ServiceUnavailableError):
            if (
                request.wait_for_reader
            ):  # also a refusal, which may be the answer of a service that ends (fact 22): the driver asks again
                return True
            return error.code != SECURITY_VIOLATION and request.pnp and self.service_may_be_absent
        return request.timeout != 0

    def _open_in_first_query(self, offer: Offer, worker: Worker, context: Context | None) -> Failed | None:
        """Open a card of the first query. Return a message for its own dispatcher, or None: there is nothing more to do."""
        driver = self.driver
        assert driver is not None
        self._connect_under_way = offer
        driver.connects[offer] = None
        driver.tell(ConnectStarted(offer))
        try:
            error, opened = self._open(offer, worker, context)
            if opened:
                return None
            if not offer.claim(worker):  # `expire` has handed this connect over to the driver
                driver.tell(Failed(offer, error))
                return None
        finally:
            driver.connects.pop(offer, None)
            driver.tell(ConnectFinished(offer))
        self._connect_under_way = None
        if error is not None and not isinstance(error, SCardError):
            raise error
        return Failed(offer, error)

    def _open_offered(self, offer: Offer, worker: Worker) -> None:
        """Open an offered card, and report the result to the driver."""
        driver = self.driver
        assert driver is not None
        driver.connects[offer] = None
        self.life = offer.life
        error, opened = self._open(offer, worker, None)
        if not opened:
            worker.finish()
            if error is not None and not isinstance(error, SCardError):  # an error of the backend itself, which the caller is given
                self.end_with(error)
            self._warn(offer, error)
            driver.tell(Failed(offer, error))
        driver.connects.pop(offer, None)
        driver.tell(ConnectFinished(offer))
        self._warn_of_holder(offer, error)

    def _open(self, offer: Offer, worker: Worker, context: Context | None) -> tuple[BaseException | None, bool]:
        """Connect, check the card, then hand it over or close it again. Raises nothing.

        Returns:
            The error, if any; and True if the card could be opened and was the one offered.
        """
        driver = self.driver
        assert driver is not None
        session: Session | None = None
        try:
            session = Session.open(self.backend, offer.reader, self.request, self._on_disconnected, context, offer.reading)
            if not self._is_what_was_offered(session, offer):
                session.close(Disposition.LEAVE)
                return None, False
        except BaseException as error:  # including errors of the backend itself, and of a pattern
            if session is not None:
                _close(session)
            return error, False
        self.worker = worker
        if self.request.new_only:
            self._query_readings = offer.known
        driver.open_cards[self] = (session.reader, session.share)
        driver.tell(CardOpened(self, session.reader, session.share, offer if self._joined else None))
        driver.not_taken_over[self] = None
        wanted = self._end_with(session)
        if wanted and self._wake_up():
            return None, True
        # Nobody wants it, or the loop was closed; but the loop may have taken the card over before it was closed.
        if self._take_over() or not wanted:
            _close(session)
            worker.finish()
        return None, True

    def _on_disconnected(self) -> None:
        driver = self.driver
        if driver is not None and driver.open_cards.pop(self, None) is not None:
            driver.tell(Disconnected(self))

    def _is_what_was_offered(self, session: Session, offer: Offer) -> bool:
        """Whether the session has the card that was offered, and meets the request."""
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
        """Log once that a card could not be opened; before other cards are tried."""
        if isinstance(error, SCardError) and error.code != SHARING_VIOLATION and self._is_first_warning(offer):
            log_safely(logger.warning, "the card in %r could not be opened, and will be tried again: %s", offer.reader, error)

    def _warn_of_holder(self, offer: Offer, error: BaseException | None) -> None:
        """Log once that another program holds a card. (It takes a while to find out which.)"""
        if not isinstance(error, SCardError) or error.code != SHARING_VIOLATION or not self._is_first_warning(offer):
            return
        programs = ", ".join(other_programs()) or "not known (perhaps another user's program)"
        advice = "; share=ShareMode.SHARED joins programs that share it" if self.request.share is ShareMode.EXCLUSIVE else ""
        text = "the card in %r is held by another program; programs with PC/SC open: %s%s"
        log_safely(logger.warning, text, offer.reader, programs, advice)

    def _is_first_warning(self, offer: Offer) -> bool:
        """Whether there was no warning for this card yet, and somebody still waits."""
        if self._outcomes:
            return False
        warned = self._warned = self._warned or {}
        before = warned.get(offer.reader)
        if before is not None and same_card(before, offer.reading):
            return False
        warned[offer.reader] = offer.reading
        return True

    # A reader by its serial number.

    def _search_by_serial(self, search: SerialSearch) -> None:
        """In a thread of its own: find out which readers are meant, join the waiters of the driver, and follow changes."""
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
        """Wait for the readers of these names. Returns True if they are not the same as before."""
        before = self.request.readers
        readers = before.with_names(names)
        if readers == before:
            return False
        self.request = dataclasses.replace(self.request, readers=readers)
        return True


class _NoOwner:
    """The owner of an acquisition that has ended."""

    def post(self, callback: Callable[..., object], *args: object) -> bool:
        return False

    def is_alive(self) -> bool:
        return True


NO_OWNER = _NoOwner()


def _is_same_offer(one: Offer, other: Offer) -> bool:
    """Whether both are of the same card, which has stayed in its reader."""
    return one.reader == other.reader and same_card(one.reading, other.reading)


def _close(session: Session) -> None:
    """Close a card that was not handed over."""
    try:
        session.close()
    except Exception:  # an error of the backend itself, and there is nobody to give it to
        log_safely(logger.exception, "at the close of a card that nobody waits for any more")


def _release(context: Context) -> None:
    try:
        context.release()
    except SCardError as error:
        log_safely(logger.debug, "at the release of a context: %s", error)


# Waiting, in a task or in a thread.


async def acquire(acquisition: Acquisition, opened: Callable[[Session], T]) -> T:
    """Wait for the card; return `opened(session)`.

    Raises:
        CardTimeoutError: the deadline passed.
        WaitCancelledError: `cancel` was called.
        NoReaderError, ServiceUnavailableError: at the start, unless the request waits for that.
        SCardError: no thread can be started.
    """
    from anyio.lowlevel import checkpoint_if_cancelled

    loop = Loop()
    signal = loop.signal()
    try:
        await checkpoint_if_cancelled()
        acquisition.begin(loop, signal.set)
        deadline = acquisition.own_deadline
        if deadline is not None and not acquisition.ended:
            await until_signal(signal, deadline)
            acquisition.expire()
        while True:
            if acquisition.ended:
                break
            await signal.wait()
        return opened(acquisition.result())
    except BaseException as error:
        acquisition.leave()
        thrown_away = isinstance(error, GeneratorExit)  # perhaps with its loop: nothing can be awaited
        if not thrown_away and acquisition.driver is not None:
            await until_idle(acquisition.driver, cancelled=True)
        raise


async def until_signal(signal: Signal, deadline: float) -> None:
    """Return once the signal is set, or at the deadline."""
    import anyio

    scope = anyio.move_on_after(max(0.0, deadline - time.monotonic()))
    scope.__enter__()
    try:
        await signal.wait()
    except GeneratorExit as error:  # the coroutine is closed, perhaps with its loop, without which a scope cannot be left
        with suppress(RuntimeError):
            scope.__exit__(GeneratorExit, error, error.__traceback__)
        raise
    except BaseException as error:
        if not scope.__exit__(type(error), error, error.__traceback__):
            raise
    else:
        scope.__exit__(None, None, None)


def acquire_blocking(acquisition: Acquisition, opened: Callable[[Session], T]) -> T:
    """As `acquire`, in the calling thread; Ctrl-C ends the wait."""
    caller, driver = WaitingThread(), driver_of(acquisition.backend)
    leave_at_once = driver.leaving(acquisition)
    try:
        acquisition.begin(caller, no_op)
        caller.run(lambda: acquisition.ended, acquisition.own_deadline, acquisition.expire)
        return opened(acquisition.result())
    except BaseException as error:
        if not acquisition._outcomes or acquisition._outcomes[0] is not error:  # else it has ended with that, and said so
            leave_at_once()
        retry_if_interrupted(acquisition.leave)
        until_idle_blocking(driver)
        raise
