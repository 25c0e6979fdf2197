"""The one thread that decides who gets which card, and the one queue into which everybody else puts messages.

Who owns what, who may call it from where, what ends it:

- `driver_of` gives the one `Driver` of a PC/SC. Its thread owns the dispatcher and the watcher, and calls neither PC/SC nor
  anything else that waits.
- `submit` is for those who begin to wait: it starts the thread if none runs, and raises if none can be started. `tell` is for all
  other messages and comes from anywhere, finalizers and signal handlers included: it only puts into a `SimpleQueue`, and only while
  the thread runs (without it, nobody waits for anything).
- Whether the thread runs is one entry of a dictionary, set and taken out in single steps: who sets it starts the thread; the thread
  takes it out, looks into the queue once more, and goes on if it may set it again. So no message is lost between its last look and
  its end.
- It ends, with the watcher, after the last who waited has left; `WhenIdle` tells when. A watcher that PC/SC holds is taken up again
  rather than doubled.
- What it has for somebody is posted to that one's loop or thread. A loop that takes no posts any more is dropped with all that
  waits there; now and then all are asked whether they still live, and open cards whose removal is waited for whether they do.
- An exception of its own (a thread that cannot be started, a mistake) is told to all who wait, and the next one starts anew.

Five plain dictionaries are everybody's, an entry each by the request that it stands for, added and taken out in single steps:
`open_cards`, `connects` (those that are in flight), `undelivered` (those whose card is open and not yet taken over), `unserved`
(those who have neither a card nor an error yet) and `first_queries` (those who look by themselves, since nobody was waiting when
they came).
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

import anyio

from .._enums import ShareMode
from .._pcsc.backend import Backend
from .._pcsc.events import Snapshot
from .._threads import POLL_INTERVAL, ForkLock, Loop, forget_at_fork, log_safely, retry_if_interrupted, spawn, within_grace
from ..errors import SCardError
from . import watcher as watching
from .dispatcher import Dispatcher
from .messages import (
    Connecting,
    Effect,
    End,
    Joined,
    Message,
    Notify,
    Offer,
    Opened,
    OwnerGone,
    RemovalSuspected,
    SnapshotTaken,
    Waiter,
    Withdraw,
    Withdrawn,
)

logger = logging.getLogger("scardface.watch")

SWEEP_INTERVAL = 5.0
"""Seconds between two questions to all loops whether they still live; one that was closed says nothing by itself."""
SWEEP_INTERVAL_ON_JOIN = 0.5
"""The same, when somebody comes who may want what a loop had that was closed."""
CANCEL_RETRY_INTERVAL = 0.1
"""Seconds until the watcher is asked again, where no thread could be started to interrupt it."""


class WhenIdle:
    """A message: the driver's thread calls `answer`, with False as soon as others wait here, with True once nobody does."""

    __slots__ = ("answer",)

    def __init__(self, answer: Callable[[bool], object]) -> None:
        self.answer = answer


class _WatcherMessage:
    """A message of a watcher's thread: what it saw; None: it ends."""

    __slots__ = ("snapshot", "watcher")

    def __init__(self, watcher: watching.Watcher, snapshot: Snapshot | None) -> None:
        self.watcher = watcher
        self.snapshot = snapshot


class _Run:
    """One run of the driver's thread: `claim` says once whether the thread runs it, or its starter has given it up."""

    __slots__ = ("_claims",)

    def __init__(self) -> None:
        self._claims: list[object] = []

    def claim(self, by: object) -> bool:
        """Whether `by` is the first who asks."""
        self._claims.append(by)
        return self._claims[0] is by


class Driver:
    """See the head of this file."""

    def __init__(self) -> None:
        self.open_cards: dict[Waiter, tuple[str, ShareMode]] = {}
        self.unserved: dict[Waiter, None] = {}
        self.first_queries: dict[Waiter, None] = {}
        self.connects: dict[Offer, None] = {}
        self.undelivered: dict[Any, None] = {}
        self.serials: dict[str, str] = {}  # what readers said of themselves, by name
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._runs: dict[int, _Run] = {}  # the one that is under way
        self._threads: tuple[threading.Thread, ...] = ()
        self._watcher: watching.Watcher | None = None
        self._watcher_thread: threading.Thread | None = None  # the watcher's
        self._life = 0
        self._same_life = False  # the next watcher goes on with that life
        self._message: Any = None  # the one that is being handled
        self._idle_questions: list[WhenIdle] = []
        self._dispatcher = Dispatcher()

    # From anywhere.

    def submit(self, message: Message, backend: Backend) -> None:
        """Take the message of somebody who begins to wait.

        Raises:
            SCardError: no thread can be started; nobody waits then.
        """
        run = _Run()
        try:
            self._queue.put(message)
            self._start(run, backend)
        except BaseException as error:
            retry_if_interrupted(self._give_up, run, backend, error)
            raise

    def _start(self, run: _Run, backend: Backend) -> None:
        if self._runs.setdefault(0, run) is run:
            self._threads = (*self.threads(), spawn("scardface-driver", self._run, run, backend))

    def _give_up(self, run: _Run, backend: Backend, error: BaseException) -> None:
        """The starter of a run was interrupted, or has no thread: nobody else may wait for it."""
        if self._runs.setdefault(0, run) is not run or not run.claim(self):
            return
        messages = []
        while not self._queue.empty():
            messages.append(self._queue.get())
        del self._runs[0]
        if not isinstance(error, Exception):  # an interrupt is nobody else's: for them it is begun again
            for message in messages:
                self.submit(message, backend)
            return
        for message in messages:
            _fail_one(_sender_of(message), error)

    def tell(self, message: Message | WhenIdle) -> bool:
        """Take any other message; False, and it means nothing to anybody, if nobody waits for anything."""
        if not self._runs:
            return False
        self._queue.put(message)
        return bool(self._runs)  # else the run may have ended between the two, without having seen it

    def take_back_undelivered(self) -> None:
        """Have the cards closed that were opened for tasks whose loops were closed before they could take them over."""
        for request in list(self.undelivered):
            if not request.owner.is_alive():
                request.leave()

    @property
    def running(self) -> bool:
        """Whether the thread runs, for whoever waits."""
        return bool(self._runs)

    def threads(self) -> list[threading.Thread]:
        """The threads that have not ended, of which `WhenIdle` says that they are about to."""
        watcher = self._watcher
        canceller = None if watcher is None else watcher.canceller
        return [thread for thread in (*self._threads, canceller) if thread is not None and thread.is_alive()]

    # In the driver's thread.

    def _run(self, run: _Run, backend: Backend) -> None:
        if not run.claim(current_thread()):
            return
        while True:
            try:
                self._drive(backend)
            except BaseException as error:
                self._fail(error)
            questions, self._idle_questions = self._idle_questions, []
            del self._runs[0]
            if self._queue.empty() or self._runs.setdefault(0, run) is not run:
                for question in questions:
                    question.answer(True)
                return
            self._idle_questions = questions

    def _drive(self, backend: Backend) -> None:
        dispatcher = self._dispatcher
        for waiter, (reader, share) in list(self.open_cards.items()):
            dispatcher.handle(Opened(waiter, reader, share), time.monotonic())
        for offer in list(self.connects):
            dispatcher.handle(Connecting(offer), time.monotonic())
        swept = time.monotonic()
        sweep_at = swept + SWEEP_INTERVAL
        while True:
            message = self._message = self._next_message(sweep_at)
            now = time.monotonic()
            if isinstance(message, Joined):
                sweep_at = min(sweep_at, swept + SWEEP_INTERVAL_ON_JOIN)
            if isinstance(message, WhenIdle):
                self._idle_questions.append(message)
            elif isinstance(message, _WatcherMessage):
                self._handle_snapshot(message, now)
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
        """Have the watcher run, and look as often as is wanted."""
        dispatcher, watcher = self._dispatcher, self._watcher
        if watcher is None or not watcher.resume():
            watcher = watching.Watcher(backend, self._life - self._same_life)
            self._same_life = False
            watcher.request_query(dispatcher.query_wanted, dispatcher.groups)
            thread = watcher.start(functools.partial(self._post_snapshot, watcher))
            self._threads = (*self.threads(), thread)
            self._watcher, self._watcher_thread = watcher, thread
        watcher.request_query(dispatcher.query_wanted, dispatcher.groups)

    def _abandon_if_overdue(self, now: float) -> None:
        """A status call that PC/SC does not give back is left to it, with its thread and its context; another watcher goes on."""
        watcher = self._watcher
        overdue_at = None if watcher is None else watcher.overdue_at
        if watcher is None or overdue_at is None or now < overdue_at:
            return
        watcher.abandon()
        self._watcher = None
        self._threads = tuple(thread for thread in self._threads if thread is not self._watcher_thread)
        self._same_life = self._life > 0
        log_safely(logger.warning, "PC/SC holds a call of SCardGetStatusChange: it is left alone, and another context watches on")

    def _post_snapshot(self, watcher: watching.Watcher, snapshot: Snapshot | None) -> None:
        """The watcher's way in, in its thread."""
        self._queue.put(_WatcherMessage(watcher, snapshot))

    def _handle_snapshot(self, message: _WatcherMessage, now: float) -> None:
        if message.watcher is not self._watcher:
            return  # one that was given up
        if message.snapshot is None:
            self._watcher = None
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
            self._owner_gone(owner)

    def _owner_gone(self, owner: Any) -> None:
        for removal in self._dispatcher.removals():
            if removal.owner == owner:
                removal.close_session()
        self._carry_out(self._dispatcher.handle(OwnerGone(owner), time.monotonic()))

    def _sweep(self) -> None:
        """The net under all that nobody reports."""
        self.take_back_undelivered()
        for owner in self._dispatcher.owners():
            if isinstance(owner, Loop):  # asyncio's own hears a signal that came just before it slept when it turns next
                owner.post(_no_op)
            if not owner.is_alive():
                self._owner_gone(owner)
        for removal in self._dispatcher.removals():  # another reader may have the same name and show the same
            self._post(removal.owner, removal.suspect, False)

    def _fail(self, error: BaseException) -> None:
        """Tell all who wait, and be as new."""
        if not isinstance(error, SCardError):
            log_safely(logger.error, "the wait for PC/SC failed, and starts anew with the next who waits", exc_info=error)
        waiters, listeners = self._dispatcher.all_waiting()
        if _sender_of(self._message) not in (*waiters, *listeners):
            listeners.append(_sender_of(self._message))
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None  # it ends by itself; what it says from now on, nobody asked for
        self._dispatcher, self._message = Dispatcher(), None
        for waiting in (*waiters, *listeners):
            _fail_one(waiting, error)


def _no_op() -> None:
    """To have a loop turn."""


def _sender_of(message: Any) -> Any:
    """Who waits, by the message with which it began to."""
    return next((getattr(message, name) for name in ("waiter", "listener", "removal") if hasattr(message, name)), None)


def _fail_one(waiting: Any, error: BaseException) -> None:
    if waiting is not None:
        waiting.fail(error)


_drivers: dict[int, tuple[object, Driver]] = {}
_drivers_lock = ForkLock()  # for the dictionary alone; a signal handler may come while its thread is in here


def driver_of(backend: Backend) -> Driver:
    """The one driver of `backend`, whatever kind of object that is."""
    key = id(backend)
    with _drivers_lock.current:
        found = _drivers.get(key)
        if found is not None and _backend_of(found[0]) is backend:
            return found[1]
        driver = Driver()
        try:
            held: object = weakref.ref(backend, lambda _: _drivers.pop(key, None))
        except TypeError:  # no place for weak references: kept as long as the process
            held = backend
        _drivers[key] = held, driver
        return driver


def _backend_of(held: object) -> object:
    return held() if isinstance(held, weakref.ref) else held


forget_at_fork(_drivers.clear)


# How nothing is left behind.


async def until_idle(driver: Driver, *, cancelled: bool = False) -> None:
    """Return when somebody else waits here, or when nobody does and no thread is left; cancelled, within 0.2 s."""
    loop = Loop()
    signal = loop.signal()
    answers: list[bool] = []

    def answer(idle: bool) -> None:
        answers.append(idle)
        loop.post(signal.set)

    async def wait() -> None:
        if driver.tell(WhenIdle(answer)):
            await signal.wait()
            if not answers[0]:
                return
        for thread in driver.threads():
            while thread.is_alive() and not driver.running:  # a new run is somebody else's
                await anyio.sleep(POLL_INTERVAL)

    if driver.threads():
        await within_grace(wait, cancelled=cancelled)


def until_idle_blocking(driver: Driver, seconds: float = 0.2) -> None:
    """As `until_idle`, in the calling thread, for so many seconds at most."""
    until = time.monotonic() + seconds
    answers: SimpleQueue[bool] = SimpleQueue()
    if driver.tell(WhenIdle(answers.put)):
        try:
            idle = answers.get(timeout=seconds)
        except Empty:
            idle = False
        if not idle:
            return
    for thread in driver.threads():
        if not driver.running:  # a new run is somebody else's
            thread.join(max(0.0, until - time.monotonic()))
