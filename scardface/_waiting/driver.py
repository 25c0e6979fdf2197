"""The one thread that decides who gets which card, and the one queue into which everybody else puts messages.

Who owns what, who may call it from where, what ends it:

- `driver_of` returns the one `Driver` of a PC/SC. Its thread owns the dispatcher and the watcher, and calls neither PC/SC nor
  anything else that blocks.
- `submit` is for those who begin to wait: it starts the thread if none runs, and raises if none can be started. `tell` takes all
  other messages, and is signal-safe (see the package): it puts the message into a `SimpleQueue` while the thread runs, and drops it
  otherwise, for then nobody waits.
- What `leaving` returns puts its message also where the thread does not run: the next run takes it first. Until then, which may be
  for ever, it keeps nothing.
- Whether the thread runs is one dictionary entry, added and removed in single steps: who adds it starts the thread. The thread
  removes the entry, looks into the queue once more, and goes on if it can add the entry again. Meanwhile another entry says that
  it may go on, so that messages are taken. So nobody's message is lost as the thread ends: who began just then is served, and who
  left again just then is not waited for. Messages of those who begin stay in the queue, in their order, whoever is interrupted.
- The thread ends, and the watcher with it, when the last who waited has ended; `until_idle` waits for that. A watcher that PC/SC
  does not let go is used again instead of a second one.
- Offers and suspected removals are posted to the owner of the waiter, a loop or a thread. A loop that takes no posts any more has
  been closed, and all that waits there is dropped. Every `SWEEP_INTERVAL` seconds all owners are asked whether they are alive, and
  the sessions of cards whose removal is waited for whether they are valid.
- An exception in the thread (no thread for the watcher, a mistake) is given to all who wait, and the next one begins anew.

Five dictionaries are changed by signal-safe functions. Each entry belongs to one acquisition, and is added and removed in single
steps:

- `open_cards`: acquisitions whose card is open, with its reader and share mode.
- `connects`: offers whose connect is under way.
- `not_taken_over`: acquisitions that have opened a card which the face has not taken over yet.
- `without_outcome`: acquisitions that have begun and have neither a card nor an error yet.
- `first_queries`: acquisitions that query the readers themselves, because nobody was waiting when they began.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import current_thread
from typing import Any

from .._enums import ShareMode
from .._pcsc.backend import Backend
from .._pcsc.events import Snapshot
from .._threads import POLL_INTERVAL, ForkLock, Loop, forget_at_fork, log_safely, no_op, retry_if_interrupted, spawn, within_grace
from ..errors import SCardError
from . import watcher as watching
from .dispatcher import Dispatcher
from .messages import (
    CardOpened,
    ConnectStarted,
    Effect,
    End,
    Joined,
    Message,
    Notify,
    Offer,
    OwnerGone,
    RemovalAwaited,
    RemovalSuspected,
    SnapshotTaken,
    Subscribed,
    Waiter,
    Withdraw,
    Withdrawn,
)

logger = logging.getLogger("scardface.watch")

SWEEP_INTERVAL = 5.0
"""Seconds between two checks whether all owners are alive: a loop that is closed does not report it."""
SWEEP_INTERVAL_ON_JOIN = 0.5
"""The same after somebody has joined, who may want a card that a closed loop had."""
CANCEL_RETRY_INTERVAL = 0.1
"""Seconds until the watcher is called again after it could start no thread to cancel its wait."""


class IdleQuestion:
    """A message: is the driver idle? Its thread calls `answer`, with False as soon as others wait, with True once nobody does."""

    __slots__ = ("answer",)

    def __init__(self, answer: Callable[[bool], object]) -> None:
        self.answer = answer


class _Left:
    """A message: the caller of a wait has left it, and may not have come to say so; its `leave` is called here."""

    __slots__ = ("_wait",)

    def __init__(self, wait: Any) -> None:
        self._wait = weakref.ref(wait)

    def leave(self) -> None:
        wait = self._wait()
        if wait is not None:  # else it waits nowhere
            wait.leave()


class _WatcherMessage:
    """A message of a watcher's thread: a snapshot; None: the thread ends."""

    __slots__ = ("snapshot", "watcher")

    def __init__(self, watcher: watching.Watcher, snapshot: Snapshot | None) -> None:
        self.watcher = watcher
        self.snapshot = snapshot


class _DriverRun:
    """One run of the driver's thread, from the first message to the last waiter.

    It has been requested before the thread exists. Either the new thread claims it and carries it out, or the caller that
    requested it claims it, because it was interrupted or could start no thread.
    """

    __slots__ = ("_claims",)

    def __init__(self) -> None:
        self._claims: list[object] = []

    def claim(self, by: object) -> bool:
        """Claim the run. Returns True if `by` was the first to do so."""
        self._claims.append(by)
        return self._claims[0] is by


class Driver:
    """Runs the dispatcher of one PC/SC in a thread, and carries out what it decides."""

    def __init__(self) -> None:
        self.open_cards: dict[Waiter, tuple[str, ShareMode]] = {}
        self.without_outcome: dict[Waiter, None] = {}
        self.first_queries: dict[Waiter, None] = {}
        self.connects: dict[Offer, None] = {}
        self.not_taken_over: dict[Any, None] = {}
        self.serials: dict[str, str] = {}  # what readers answered, by name
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._runs: dict[int, _DriverRun] = {}  # the present run, under key 0; under their ids those that look whether they may end
        self._threads: tuple[threading.Thread, ...] = ()
        self._watcher: watching.Watcher | None = None
        self._watcher_thread: threading.Thread | None = None
        self._life = 0
        self._same_life = False  # the next watcher continues that life of the service
        self._message: Any = None  # the message being handled
        self._idle_questions: list[IdleQuestion] = []
        self._dispatcher = Dispatcher()

    # For everybody.

    def submit(self, message: Message, backend: Backend) -> None:
        """Take the message of somebody who begins to wait. Not signal-safe, since it may start a thread.

        Raises:
            SCardError: no thread can be started. Those whose messages were in the queue are told, and nobody waits.
        """
        run = _DriverRun()
        try:
            self._queue.put(message)
            if self._runs.setdefault(0, run) is run:
                self._start(run, backend)
        except BaseException as error:
            retry_if_interrupted(self._give_up, run, backend, error)
            raise

    def _start(self, run: _DriverRun, backend: Backend) -> None:
        self._threads = (*self.threads(), spawn("scardface-driver", self._run, run, backend))

    def _give_up(self, run: _DriverRun, backend: Backend, error: BaseException) -> None:
        """The caller of `submit` was interrupted, or no thread could be started: see to it that nobody waits for that run."""
        if not run.claim(self):
            return
        if self._runs.setdefault(0, run) is not run:
            self._runs.pop(id(run), None)  # an earlier interrupt has left it there
            return
        if not isinstance(error, Exception):  # an interrupt concerns its caller alone: another run for the others
            self._replace_run(backend)
            return
        while True:
            while not self._queue.empty():
                message = self._queue.get()
                if isinstance(message, IdleQuestion):
                    message.answer(True)
                elif isinstance(message, (Joined, Subscribed, RemovalAwaited)):  # the others begin nothing; some come of a failure
                    _fail_one(_sender_of(message), error)
            if self._ends(run):
                return

    def _replace_run(self, backend: Backend) -> None:
        """Start a run in the place of the present one, which nobody carries out."""
        run = _DriverRun()
        try:
            self._runs[0] = run
            self._start(run, backend)
        except BaseException as error:
            retry_if_interrupted(self._give_up, run, backend, error)
            raise

    def _ends(self, run: _DriverRun) -> bool:
        """End the run, unless a message has come meanwhile. False: it goes on, and has missed none."""
        self._runs[id(run)] = run
        del self._runs[0]
        ends = self._queue.empty() or self._runs.setdefault(0, run) is not run
        self._runs.pop(id(run))
        return ends

    def tell(self, message: Message | IdleQuestion) -> bool:
        """Take any other message; signal-safe.

        Returns:
            False: the thread does not run, so nobody waits and the message was dropped.
        """
        if not self._runs:
            return False
        self._queue.put(message)
        return self.running  # the run may have ended between the two steps without having taken it

    def leaving(self, wait: Any) -> Callable[[], object]:
        """What a thread that leaves a wait in a hurry calls first: a function of C, which puts one message into the queue.

        Before a function of Python takes its first step, Python looks for signals: where one Ctrl-C has ended a wait, the next one
        can keep its caller from calling `leave`.
        """
        return functools.partial(self._queue.put, _Left(wait))

    def close_abandoned_cards(self) -> None:
        """Close the cards that were opened for an event loop which was closed before the face could take them over."""
        for acquisition in list(self.not_taken_over):
            if not acquisition.owner.is_alive():
                acquisition.leave()

    @property
    def life(self) -> int | None:
        """The life of the service (see the glossary), as far as the driver knows; None: it does not know."""
        watcher = self._watcher  # once it has been told to stop another one may follow, which counts one more life
        return self._dispatcher.life if watcher is not None and watcher.goes_on else None

    @property
    def running(self) -> bool:
        """Whether the thread runs, so somebody waits."""
        return 0 in self._runs

    def threads(self) -> list[threading.Thread]:
        """The threads of driver and watcher that have not ended; once an `IdleQuestion` was answered True, they are about to."""
        watcher = self._watcher
        canceller = None if watcher is None else watcher.canceller
        return [thread for thread in (*self._threads, canceller) if thread is not None and thread.is_alive()]

    # In the driver's thread.

    def _run(self, run: _DriverRun, backend: Backend) -> None:
        if not run.claim(current_thread()):
            return
        while True:
            try:
                self._drive(backend)
            except BaseException as error:
                self._fail(error)
            questions, self._idle_questions = self._idle_questions, []
            if self._ends(run):
                for question in questions:
                    question.answer(True)
                return
            self._idle_questions = questions

    def _drive(self, backend: Backend) -> None:
        dispatcher = self._dispatcher
        for waiter, (reader, share) in list(self.open_cards.items()):
            dispatcher.handle(CardOpened(waiter, reader, share), time.monotonic())
        for offer in list(self.connects):
            dispatcher.handle(ConnectStarted(offer), time.monotonic())
        swept = time.monotonic()
        sweep_at = swept + SWEEP_INTERVAL
        while True:
            message = self._message = self._next_message(sweep_at)
            now = time.monotonic()
            if isinstance(message, Joined):
                sweep_at = min(sweep_at, swept + SWEEP_INTERVAL_ON_JOIN)
                if message.trying not in self.connects:  # that connect has ended since, and no message will say so
                    message = message._replace(trying=None)
            if isinstance(message, IdleQuestion):
                self._idle_questions.append(message)
            elif isinstance(message, _WatcherMessage):
                self._handle_snapshot(message, now)
            elif isinstance(message, _Left):
                message.leave()
            elif message is not None:
                self._carry_out(dispatcher.handle(message, now))
            wake_at = dispatcher.wake_at
            if wake_at is not None and wake_at <= now:
                self._carry_out(dispatcher.tick(now))
            if now >= sweep_at:
                swept, sweep_at = now, now + SWEEP_INTERVAL
                self._sweep()
            self._abandon_if_overdue(now)
            if dispatcher.needed:
                self._answer_idle_questions()
                self._run_watcher(backend)
            elif self._watcher is None:
                self._dispatcher, self._message = Dispatcher(), None
                return
            else:
                self._watcher.stop()

    def _next_message(self, sweep_at: float) -> Any:
        if not self._queue.empty():
            return self._queue.get()
        until = sweep_at if self._dispatcher.wake_at is None else min(sweep_at, self._dispatcher.wake_at)
        watcher = self._watcher
        if watcher is not None and watcher.cancel_failed:
            until = min(until, time.monotonic() + CANCEL_RETRY_INTERVAL)
        overdue_at = None if watcher is None else watcher.overdue_at
        if overdue_at is not None:
            until = min(until, overdue_at)
        try:
            return self._queue.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            return None

    def _run_watcher(self, backend: Backend) -> None:
        """See to it that a watcher runs, and that it knows which query is wanted."""
        dispatcher, watcher = self._dispatcher, self._watcher
        if watcher is None or not watcher.resume():
            if not self._same_life:
                dispatcher.forget_life()
            watcher = watching.Watcher(backend, self._life - self._same_life)
            self._same_life = False
            watcher.request_query(dispatcher.query_wanted, dispatcher.groups)
            thread = watcher.start(functools.partial(self._post_snapshot, watcher))
            self._threads = (*self.threads(), thread)
            self._watcher, self._watcher_thread = watcher, thread
        watcher.request_query(dispatcher.query_wanted, dispatcher.groups)

    def _abandon_if_overdue(self, now: float) -> None:
        """If PC/SC does not return from a status call, leave it the thread and the context, and go on with another watcher."""
        watcher = self._watcher
        overdue_at = None if watcher is None else watcher.overdue_at
        if watcher is None or overdue_at is None or now < overdue_at:
            return
        watcher.abandon()
        self._watcher = None
        self._threads = tuple(thread for thread in self._threads if thread is not self._watcher_thread)
        self._same_life = self._life > 0
        log_safely(
            logger.warning, "PC/SC does not return from SCardGetStatusChange: that call is abandoned, and another context is used"
        )

    def _post_snapshot(self, watcher: watching.Watcher, snapshot: Snapshot | None) -> None:
        """Called by a watcher, in its thread."""
        self._queue.put(_WatcherMessage(watcher, snapshot))

    def _handle_snapshot(self, message: _WatcherMessage, now: float) -> None:
        if message.watcher is not self._watcher:
            return  # from a watcher that was abandoned
        if message.snapshot is None:
            self._threads, self._watcher = tuple(self.threads()), None  # its last cancel may not have returned
            return
        self._life = message.snapshot.life
        self._carry_out(self._dispatcher.handle(SnapshotTaken(message.snapshot), now))

    def _answer_idle_questions(self) -> None:
        questions, self._idle_questions = self._idle_questions, []
        for question in questions:
            question.answer(False)

    def _carry_out(self, effects: list[Effect]) -> None:
        dispatcher = self._dispatcher
        for effect in effects:
            if isinstance(effect, Offer):
                self._post(effect.waiter.owner, effect.waiter.take, effect)
            elif isinstance(effect, End):
                error = effect.error
                error.__cause__ = effect.cause
                effect.waiter.end_with(error)
            elif isinstance(effect, Withdraw):
                if effect.offer.claim(effect):
                    self._carry_out(dispatcher.handle(Withdrawn(effect.offer), time.monotonic()))
            elif isinstance(effect, Notify):
                effect.listener.receive(effect.snapshot, effect.events, effect.first)
            elif isinstance(effect, RemovalSuspected):
                self._post(effect.removal.owner, effect.removal.suspect, effect.gone)

    def _post(self, owner: Any, callback: Callable[..., object], argument: object) -> None:
        if not owner.post(callback, argument):
            self._drop_owner(owner)

    def _drop_owner(self, owner: Any) -> None:
        for removal in self._dispatcher.removals():
            if removal.owner == owner:
                removal.close_session()
        self._carry_out(self._dispatcher.handle(OwnerGone(owner), time.monotonic()))

    def _sweep(self) -> None:
        """Find out what nobody reports: closed event loops, and cards whose reader was replaced."""
        self.close_abandoned_cards()
        for owner in self._dispatcher.owners():
            if isinstance(owner, Loop):
                owner.post(no_op)  # asyncio runs a signal's handler only when it wakes, if the signal came just before it slept
            if not owner.is_alive():
                self._drop_owner(owner)
        for removal in self._dispatcher.removals():  # a reader may have been replaced by one that shows the same
            self._post(removal.owner, removal.suspect, False)

    def _fail(self, error: BaseException) -> None:
        """End every wait with a copy of `error`, and begin anew with the next message."""
        if not isinstance(error, SCardError):
            log_safely(logger.error, "waiting for PC/SC failed, and begins anew with the next who waits", exc_info=error)
        waiters, listeners = self._dispatcher.all_waiting()
        if _sender_of(self._message) not in (*waiters, *listeners):
            listeners.append(_sender_of(self._message))
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None  # it ends by itself; its messages are ignored from now on
        self._dispatcher, self._message = Dispatcher(), None
        for waiting in (*waiters, *listeners):
            _fail_one(waiting, error)


def _sender_of(message: Any) -> Any:
    """The waiter, listener or removal wait of a message; None: the message has none."""
    return next((getattr(message, name) for name in ("waiter", "listener", "removal") if hasattr(message, name)), None)


def _fail_one(waiting: Any, error: BaseException) -> None:
    if waiting is not None:
        waiting.fail(error)


_drivers: dict[int, tuple[object, Driver]] = {}
_drivers_lock = ForkLock()  # for the dictionary alone; re-entrant for signal handlers


def driver_of(backend: Backend) -> Driver:
    """The one driver of `backend`, which need not be hashable."""
    key = id(backend)
    with _drivers_lock.current:
        found = _drivers.get(key)
        if found is not None and _backend_of(found[0]) is backend:
            return found[1]
        driver = Driver()
        try:
            held: object = weakref.ref(backend, functools.partial(_drivers.pop, key))
        except TypeError:  # it takes no weak references: kept for the life of the process
            held = backend
        _drivers[key] = held, driver
        return driver


def waiters() -> int:
    """How many acquisitions of this process have no outcome yet, on all backends."""
    with _drivers_lock.current:
        return sum(len(driver.without_outcome) for _, driver in list(_drivers.values()))


def _backend_of(held: object) -> object:
    return held() if isinstance(held, weakref.ref) else held


forget_at_fork(_drivers.clear)


# Waiting until nothing is left behind.


async def until_idle(driver: Driver, *, cancelled: bool = False) -> None:
    """Return when nobody waits and no thread is left, or as soon as others wait; once the task is cancelled, within 0.2 s."""
    loop = Loop()
    signal = loop.signal()
    answers: list[bool] = []

    def answer(idle: bool) -> None:
        answers.append(idle)
        loop.post(signal.set)

    async def wait() -> None:
        import anyio

        if driver.tell(IdleQuestion(answer)):
            await signal.wait()
            if not answers[0]:
                return
        for thread in driver.threads():
            while thread.is_alive() and not driver.running:  # a new run belongs to somebody else
                await anyio.sleep(POLL_INTERVAL)

    if driver.threads():
        await within_grace(wait, cancelled=cancelled)


def until_idle_blocking(driver: Driver, seconds: float = 0.2) -> None:
    """As `until_idle`, in the calling thread, for at most so many seconds."""
    until = time.monotonic() + seconds
    answers: SimpleQueue[bool] = SimpleQueue()
    if driver.tell(IdleQuestion(answers.put)):
        try:
            idle = answers.get(timeout=seconds)
        except Empty:
            idle = False
        if not idle:
            return
    for thread in driver.threads():
        if not driver.running:  # a new run belongs to somebody else
            thread.join(max(0.0, until - time.monotonic()))
