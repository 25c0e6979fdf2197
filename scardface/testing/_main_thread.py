"""Calls of the simulated PC/SC from the main thread, where signal handlers run.

Rules:

- An exception of a signal handler leaves Python code that it interrupts half done: a lock taken, an exchange begun. The real PC/SC
  is C code, and a handler runs after the call has returned. Here it is the same: the call runs in another thread, and an exception
  of a handler is raised after the call has returned.
- A handler may itself call PC/SC during such a wait: each call in progress has a thread of its own. A thread without a call ends
  after `_IDLE` seconds.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .._threads import generation, spawn

F = TypeVar("F", bound=Callable[..., Any])


_IDLE = 0.2
"""Seconds after which a thread that has nothing to do ends."""
_SLICE = 0.05
"""Seconds of one slice of the main thread's wait: a signal that comes just before the wait does not end it."""
_Job = tuple[Callable[[], Any], "list[tuple[Any, BaseException | None]]", "SimpleQueue[None]"]
_Jobs = SimpleQueue["_Job | None"]


class CallThreads:
    """The threads in which one simulation runs calls of the main thread."""

    def __init__(self) -> None:
        self._all: list[_Jobs] = []
        self._idle: list[_Jobs] = []

    def run(self, call: Callable[[], Any]) -> Any:
        """Return or raise the outcome of `call()`; an exception of a signal handler is raised after it instead."""
        outcomes: list[tuple[Any, BaseException | None]] = []
        returned: SimpleQueue[None] = SimpleQueue()
        jobs: _Jobs | None = None
        asked, interrupt = False, None
        while not outcomes:
            try:
                if jobs is None:
                    jobs = self._idle.pop() if self._idle else self._make()
                if not asked:
                    asked = True
                    jobs.put((call, outcomes, returned))  # one step for signal handlers
                with contextlib.suppress(Empty):
                    returned.get(timeout=_SLICE)
            except BaseException as error:
                if jobs is None:
                    raise  # nothing has begun
                interrupt = interrupt or error
        if jobs is not None:
            self._idle.append(jobs)
        value, failure = outcomes.pop()
        if interrupt is not None:
            raise interrupt
        if failure is not None:
            raise failure
        return value

    def _make(self) -> _Jobs:
        jobs: _Jobs = SimpleQueue()
        self._all.append(jobs)
        spawn(f"{threading.current_thread().name}, simulated call", self._work, jobs)
        return jobs

    def close(self) -> None:
        """Let the threads end after their present calls."""
        self._idle.clear()
        while self._all:
            self._all.pop().put(None)

    def _work(self, jobs: _Jobs) -> None:
        while True:
            try:
                job = jobs.get(timeout=_IDLE)
            except Empty:
                if jobs in self._idle:
                    with contextlib.suppress(ValueError):  # it has just been taken for a call
                        self._idle.remove(jobs)
                        self._all.remove(jobs)
                        return
                continue
            if job is None:
                return
            call, outcomes, returned = job
            try:
                outcomes.append((call(), None))
            except BaseException as error:
                outcomes.append((None, error))
            returned.put(None)
            del job, call, outcomes, returned  # an idle thread keeps nothing alive


def uninterruptible(method: F) -> F:
    """A method of an object with a `_service`, during which signal handlers raise nothing in the main thread."""

    @functools.wraps(method)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        service = self._service
        if threading.get_ident() != threading.main_thread().ident or service.closed or service.generation != generation():
            return method(self, *args, **kwargs)
        return service.call_threads.run(lambda: method(self, *args, **kwargs))

    return called  # type: ignore[return-value]  # the same arguments, the same result
