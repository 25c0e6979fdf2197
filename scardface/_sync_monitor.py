"""The sync face: a monitor for scripts and threads.

Who owns what, who may call it from where, what ends it:

- The watch runs in the loop thread of `_runner` from the block's start to its end; whatever interrupts the caller ends it.
- One thread at a time takes events. Leaving the block from another thread ends its iteration.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from queue import SimpleQueue
from types import TracebackType

import anyio

from ._backend import Backend
from ._default import default_backend
from ._events import Event, ReaderState
from ._feed import Feed
from ._monitor import ReaderMonitor as AsyncReaderMonitor
from ._monitor import Watch
from ._runner import SLICE, Pending, get, insist, start
from ._sync_calls import with_arguments_of
from ._threads import generation
from ._wanted import Groups, Names, ReaderFilter


@with_arguments_of(AsyncReaderMonitor)
class ReaderMonitor:
    """Events of readers and cards, initial state first: `with ReaderMonitor() as monitor:`, `for event in monitor:`.

    The same events as `scardface.ReaderMonitor`. Ctrl-C ends the iteration's wait. Leaving the block from
    another thread ends the iteration.
    """

    def __init__(self, readers: Names = None, groups: Groups = None, *, backend: Backend | None = None) -> None:
        self._wanted = ReaderFilter.to_watch(readers, groups)
        self._backend = backend
        self._generation = generation()
        self._something = threading.Event()
        self._consumer = threading.Lock()
        self._feed: Feed | None = None
        self._pending: Pending | None = None
        self._ended = False

    @property
    def state(self) -> Mapping[str, ReaderState]:
        """State by reader name, as it is after the event yielded last."""
        return {} if self._feed is None else self._feed.state

    def __enter__(self) -> ReaderMonitor:
        if self._generation != generation():
            raise RuntimeError("this monitor was made before a fork and belongs to the parent process")
        if self._feed is not None:
            raise RuntimeError("a monitor is entered once; make another one")
        self._feed = Feed(self._wanted, self._something.set)
        watch = Watch(self._feed, self._wanted.groups, self._backend or default_backend())
        entered: SimpleQueue[BaseException | None] = SimpleQueue()

        async def job() -> None:
            try:
                await watch.open()
                entered.put(None)
                await anyio.sleep_forever()
            finally:
                await watch.close(cancelled=True)

        try:
            self._pending = Pending(job)
            start(self._pending)
            get(entered)
        except BaseException:
            insist(self._end)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._something.set()
        if self._pending is not None:
            self._pending.cancel()
            self._pending.settle()

    def __iter__(self) -> ReaderMonitor:
        return self

    def __next__(self) -> Event:
        feed = self._feed
        if feed is None:
            raise RuntimeError("use 'with ReaderMonitor() as monitor' before iterating")
        if not self._consumer.acquire(blocking=False):
            raise RuntimeError("a monitor has one consumer; give each its own monitor")
        try:
            while not self._ended:
                self._something.clear()
                event = feed.pop()
                if event is not None:
                    return event
                if not self._ended:
                    self._something.wait(SLICE)
        finally:
            self._consumer.release()
        raise StopIteration
