"""The hub: one for each event loop and backend. It runs the watcher while anybody needs it and brings its looks into the loop.

Who owns what, who may call it from where, what ends it:

- A hub belongs to its loop. All methods are called there, but for `_arrive`, the watcher's way in, which only appends and posts.
- It owns the watcher and its thread. The first user starts them, the last one ends them and waits for that. A watcher that has
  not yet heeded its stop is taken up again rather than replaced, so that a frozen service costs one thread (fact 23).
- The waiters' table hears of each snapshot first, in the watcher's thread: no loop need turn for a card to find its waiter.
- Snapshots reach the loop through a bounded queue with one wake-up pending; `diff` runs once for all subscribers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import TypeAlias

import anyio

from ._backend import Backend
from ._events import Event, Snapshot, diff
from ._queue import table_of
from ._threads import Bell, Loop, forget_at_fork, gone, settle
from ._watch import Watcher, start

Subscriber: TypeAlias = Callable[[Snapshot, "list[Event]", int], None]
"""Takes a snapshot, what happened since the one before, and how many snapshots were dropped between the two."""

MOST_PENDING = 10_000
"""Snapshots that wait for a loop that does not turn; older ones are dropped, and counted."""


class Question:
    """A fresh look that somebody asked for; `answer` is there once the bell was rung for it."""

    __slots__ = ("answer", "bell", "number")

    def __init__(self, number: int, bell: Bell) -> None:
        self.number = number
        self.bell = bell
        self.answer: Snapshot | None = None


class Hub:
    """See the head of this file. Made by `hub_of`."""

    def __init__(self, backend: Backend, loop: Loop) -> None:
        self._backend = backend
        self.loop = loop
        self._table = table_of(backend)
        self._users = 0
        self._watcher: Watcher | None = None
        self._threads: list[threading.Thread] = []  # the watcher's, and that of one before it that is just ending
        self._calmed = anyio.Event()
        self._questions: deque[Question] = deque()  # by number
        self._names: tuple[object, frozenset[str]] = (None, frozenset())
        self._subscribers: dict[object, Subscriber] = {}
        self._pending: deque[Snapshot] = deque(maxlen=MOST_PENDING)
        self._dropped = 0
        self._posted = False
        self._current: Snapshot | None = None

    def enter(self) -> None:
        """Need the watcher from now on, until `leave`."""
        self._users += 1
        if self._users == 1:
            self._calm()
        if self._watcher is None or not self._watcher.resume():
            watcher = self._watcher = Watcher(self._backend, self._arrive, self._alive)
            self._current = None
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(start(watcher, lambda: self._over(watcher)))

    def leave(self) -> None:
        """Need the watcher no more; the last one stops it."""
        self._users -= 1
        if not self._users and self._watcher is not None:
            self._watcher.stop()

    async def quiet(self, *, cancelled: bool = False) -> None:
        """Return when nobody's wait is left behind: the watcher is needed, or its thread is gone. Cancelled, within 0.2 s."""
        if not self._users:
            await settle(self._quieted, cancelled=cancelled)

    async def _quieted(self) -> None:
        watcher = self._watcher
        if watcher is not None:
            await self._calmed.wait()
        if not self._users:
            canceller = watcher.canceller() if watcher is not None else None
            await gone(self._threads if canceller is None else [*self._threads, canceller])

    def _calm(self) -> None:
        """Wake those who wait for the watcher's end: it ended, or is needed again."""
        self._calmed.set()
        self._calmed = anyio.Event()

    def ask(self, bell: Bell, groups: tuple[str, ...] | None = None) -> Question:
        """Ask for a fresh look, with the readers of `groups` told apart; the bell rings when it is there."""
        watcher = self._watcher
        assert watcher is not None, "enter first"
        if groups is not None:
            watcher.want_groups(groups)
        question = Question(0, bell)
        self._questions.append(question)
        question.number = watcher.ask()
        return question

    def names(self, snapshot: Snapshot) -> frozenset[str]:
        """The names of all readers, made once a look: ten thousand waiters share them."""
        if self._names[0] is not snapshot.readers:
            self._names = snapshot.readers, frozenset(snapshot.readers)
        return self._names[1]

    def subscribe(self, key: object, subscriber: Subscriber) -> None:
        """Have `subscriber` called in the loop with each snapshot; it may neither raise nor wait."""
        self._subscribers[key] = subscriber

    def unsubscribe(self, key: object) -> None:
        """Undo `subscribe`."""
        self._subscribers.pop(key, None)

    # The watcher's way in, in its thread.

    def _arrive(self, snapshot: Snapshot) -> bool:
        self._table.publish(snapshot)
        if len(self._pending) == MOST_PENDING:
            self._dropped += 1
        self._pending.append(snapshot)
        if self._posted:
            return True
        self._posted = True
        return self.loop.post(self._deliver)

    def _alive(self) -> bool:
        return self.loop.is_alive()

    def _over(self, watcher: Watcher) -> None:
        if not self.loop.post(self._end, watcher):
            with _hubs_lock:
                _hubs.pop((self.loop.token, self._backend), None)

    # In the loop.

    def _deliver(self) -> None:
        self._posted = False
        while self._pending:
            snapshot = self._pending.popleft()
            dropped, self._dropped = self._dropped, 0
            events = [] if self._current is None else diff(self._current, snapshot)
            self._current = snapshot
            for subscriber in list(self._subscribers.values()):
                subscriber(snapshot, events, dropped)
            while self._questions and self._questions[0].number <= snapshot.number:
                question = self._questions.popleft()
                question.answer = snapshot
                question.bell.strike()

    def _end(self, watcher: Watcher) -> None:
        if self._watcher is not watcher:
            return
        self._watcher = None
        self._calm()
        with _hubs_lock:
            if not self._users:
                _hubs.pop((self.loop.token, self._backend), None)


_hubs: dict[tuple[Hashable, Backend], Hub] = {}
_hubs_lock = threading.Lock()


def hub_of(backend: Backend) -> Hub:
    """The running loop's hub for `backend`."""
    loop = Loop()
    with _hubs_lock:
        hub = _hubs.get((loop.token, backend))
        if hub is None:
            hub = _hubs[loop.token, backend] = Hub(backend, loop)
        return hub


async def quiet(backend: Backend) -> None:
    """Return when the running loop has no wait of `backend` left behind; makes no hub where there is none."""
    with _hubs_lock:
        hub = _hubs.get((Loop().token, backend))
    if hub is not None:
        await hub.quiet()


def _forget() -> None:
    global _hubs_lock
    _hubs_lock = threading.Lock()
    _hubs.clear()


forget_at_fork(_forget)
