"""Calls of the simulated PC/SC in the main thread, where signal handlers run.

Rules:

- Python code that a signal handler's exception interrupts leaves what it was about half done: a lock, a card that was spoken to.
  The real PC/SC is called in C, and a handler runs when the call has returned. So it is here: the call runs in another thread, and
  what a handler raises meanwhile comes when it has returned.
- A handler may call PC/SC itself, from inside such a wait: each call that is on its way has a thread of its own. They end
  when nothing has been called for a moment.
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
"""Seconds of one slice of the main thread's wait: a signal that comes just before it begins does not break it."""
_Job = tuple[Callable[[], Any], "list[tuple[Any, BaseException | None]]", "SimpleQueue[None]"]
_Jobs = SimpleQueue["_Job | None"]


class Callers:
    """The threads that call for the main thread, of one simulation."""

    def __init__(self) -> None:
        self._all: list[_Jobs] = []
        self._idle: list[_Jobs] = []

    def run(self, call: Callable[[], Any]) -> Any:
        """`call()`, and only then what signal handlers raise."""
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
                    jobs.put((call, outcomes, returned))  # in C: nothing comes in between
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
        """End the threads, once what they do has returned."""
        self._idle.clear()
        while self._all:
            self._all.pop().put(None)

    def _work(self, jobs: _Jobs) -> None:
        while True:
            try:
                job = jobs.get(timeout=_IDLE)
            except Empty:
                if jobs in self._idle:
                    with contextlib.suppress(ValueError):  # somebody has just taken it
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
            del job, call, outcomes, returned  # an idle thread holds on to nothing


def as_in_c(method: F) -> F:
    """A method of an object with a `_service`, which the main thread does not leave before it has returned."""

    @functools.wraps(method)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        service = self._service
        if threading.get_ident() != threading.main_thread().ident or service.closed or service.generation != generation():
            return method(self, *args, **kwargs)
        return service.callers.run(lambda: method(self, *args, **kwargs))

    return called  # type: ignore[return-value]  # the same arguments, the same result
