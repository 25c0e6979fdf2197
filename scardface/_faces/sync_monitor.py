"""The sync face: a monitor for scripts and threads.

Who owns what, who may call it from where, what ends it:

- The driver fills the monitor's queue from the block's start to its end; whatever interrupts the caller ends it. It does not refer
  to the monitor, so one that is thrown away, or whose `__exit__` was interrupted before its first step, ends, too.
- One thread at a time takes events. `close`, and leaving the block, come from any thread and from signal handlers; they end the
  iteration, and its wait.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import NoReturn, SupportsIndex

from .._pcsc.backend import Backend
from .._pcsc.binding_choice import backend_or_default
from .._pcsc.events import Event, ReaderState
from .._pcsc.no_copy import refuse_copy
from .._session.card_request import Groups, Names, ReaderFilter, seconds_of
from .._threads import WaitingThread, generation, no_op, retry_if_interrupted
from .._waiting.driver import Driver, driver_of, until_idle_blocking
from .._waiting.event_queue import EventQueue
from .._waiting.messages import Subscribed, Unsubscribed


class ReaderMonitor:
    """Events of readers and cards, initial state first: `with ReaderMonitor() as monitor:`, `for event in monitor:`.

    The same events as `scardface.ReaderMonitor`. Ctrl-C ends the iteration's wait. Leaving the block from another thread ends the
    iteration.

    Args:
        readers: exact names of readers to tell of, a str or an iterable of str; a compiled str pattern is searched in the name.
            None: all.
        groups: reader groups, a str or an iterable of str. None: no group is passed.
        backend: the PC/SC to watch; None: the default one when the monitor is entered.

    Raises:
        TypeError: an argument of a wrong type.
        RuntimeError: entered twice, used outside its block, by two consumers at once, or in a forked child.
    """

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self, protocol)

    def __init__(self, readers: Names = None, groups: Groups = None, *, backend: Backend | None = None) -> None:
        self._driver: Driver | None = None  # first: `__del__` looks at it, also where an argument is refused
        self._wanted = ReaderFilter.to_watch(readers, groups)
        self._backend = backend
        self._generation = generation()
        self._consumer = threading.Lock()
        self._caller = WaitingThread()
        self._events: EventQueue | None = None
        self._ended = False

    @property
    def state(self) -> Mapping[str, ReaderState]:
        """State by reader name, as it is after the event yielded last."""
        return {} if self._events is None else self._events.state

    def __enter__(self) -> ReaderMonitor:
        self._check_process()
        if self._events is not None:
            raise RuntimeError("a monitor is entered once; make another one")
        events = self._events = EventQueue(self._wanted, self._caller, no_op)
        backend = backend_or_default(self._backend)
        driver = self._driver = driver_of(backend)
        try:
            driver.submit(Subscribed(events, self._wanted.groups), backend)
            self._caller.run(lambda: events.begun or self._ended)
        except BaseException:
            retry_if_interrupted(self.close)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
        if self._driver is not None:
            until_idle_blocking(self._driver)

    def close(self) -> None:
        """End the monitor: an iteration in another thread ends, too. From any thread, and from signal handlers."""
        self._ended = True
        self._caller.post(no_op)
        if self._driver is not None:
            self._driver.tell(Unsubscribed(self._events))

    def __del__(self) -> None:
        """End a monitor that nobody has ended, with a ResourceWarning; nothing is waited for here."""
        if self._driver is not None and not self._ended and self._generation == generation():
            self.close()
            warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self, stacklevel=2)

    def __iter__(self) -> ReaderMonitor:
        return self

    def __next__(self) -> Event:
        event = self._next(None)
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event, as iterating yields it.

        Args:
            timeout: seconds; None, -1 and infinity: for ever; 0: only what is there already.

        Returns:
            None: the time is over, or the monitor has ended.

        Raises:
            TypeError, ValueError: no such number of seconds.
            RuntimeError: before the block, in a forked child, or while another thread takes events.
        """
        seconds = seconds_of(timeout)
        return self._next(None if seconds is None else time.monotonic() + seconds)

    def _next(self, deadline: float | None) -> Event | None:
        self._check_process()
        events = self._events
        if events is None:
            raise RuntimeError("use 'with ReaderMonitor() as monitor' before iterating")
        found: list[Event] = []

        def something() -> bool:
            event = None if self._ended else events.pop()
            if event is not None:
                found.append(event)
            return self._ended or event is not None

        taken = False
        try:
            [taken] = map(self._consumer.acquire, (False,))  # in one step for signal handlers, see RLock in _threads.py
            if not taken:
                raise RuntimeError("a monitor has one consumer; give each its own monitor")
            self._caller.run(something, deadline)
        finally:
            if taken:
                self._consumer.release()
        return found[0] if found else None

    def _check_process(self) -> None:
        if self._generation != generation():
            raise RuntimeError("this monitor was made before a fork and belongs to the parent process")
