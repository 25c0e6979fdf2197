"""Single queries of PC/SC without a monitor, blocking: the readers, their groups, their states.

Rules:

- A query has a context of its own, and a thread of its own: a call of PC/SC cannot be cancelled, and does not return while the
  service is frozen (fact 23). The caller waits in slices, so that Ctrl-C is heard, and no longer than the time given.
- A query whose caller gave up goes on until the service answers. Until then no other query of that PC/SC begins: a frozen service
  costs one thread, however often it is asked.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import copy_context
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from .._pcsc.backend import Backend, Context
from .._pcsc.binding_choice import default_backend
from .._pcsc.events import ReaderState, Reading
from .._pcsc.reader_states import all_readers
from .._session.card_request import seconds_of
from .._threads import JOIN_TIMEOUT, SLICE, forget_at_fork, in_thread, spawn
from ..errors import TIMEOUT, ServiceUnavailableError

logger = logging.getLogger("scardface.watch")

T = TypeVar("T")

DEFAULT_TIMEOUT = 10.0
"""Seconds that a service has to answer, unless the caller says otherwise."""
_SHORTEST_TIMEOUT = 1.0
"""Seconds that the service has with `timeout=0`: one that works has answered by then."""


class _RunningQuery(Generic[T]):
    """A query in a thread of its own, and its outcome once the service has answered."""

    def __init__(self, job: Callable[[], T]) -> None:
        self._ended = threading.Event()
        self._answer: T
        self._error: BaseException | None = None
        self._thread = spawn("scardface-look", copy_context().run, self._run, job)

    def _run(self, job: Callable[[], T]) -> None:
        try:
            self._answer = job()
        except BaseException as error:
            self._error = error
        self._ended.set()

    @property
    def is_over(self) -> bool:
        """Whether the service has answered."""
        return self._ended.is_set()

    def wait_until(self, deadline: float | None) -> bool:
        """Wait until the service has answered, but not longer than `deadline` (monotonic; None: for ever).

        Returns:
            True: it has answered.
        """
        while not self._ended.is_set():
            left = SLICE if deadline is None else min(SLICE, deadline - time.monotonic())
            if left <= 0:
                return False
            self._ended.wait(left)
        return True

    def answer(self) -> T:
        """Return the result, or raise the error, of a query that `is_over`."""
        self._thread.join(JOIN_TIMEOUT)
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self._error  # the frame in its traceback must not hold it
        return self._answer


_given_up: dict[Backend, _RunningQuery[Any]] = {}
"""The last query whose caller gave up before the service had answered, by PC/SC."""
forget_at_fork(_given_up.clear)


def _within(timeout: float | None, use: Callable[[Backend, Context], T]) -> T:
    """Call `use` with a new context, in a thread of its own, and return its result.

    Raises:
        ServiceUnavailableError: the time is over (code SCARD_E_TIMEOUT), or PC/SC says so.
    """
    seconds = seconds_of(timeout)
    deadline = None if seconds is None else time.monotonic() + (seconds or _SHORTEST_TIMEOUT)
    backend = default_backend()
    earlier = _given_up.get(backend)
    if earlier is not None:
        if not earlier.wait_until(deadline):
            raise _no_answer_error(seconds)
        _given_up.pop(backend, None)
    current = _RunningQuery(lambda: _with_context(backend, use))
    try:
        if not current.wait_until(deadline):
            raise _no_answer_error(seconds)
    finally:  # also where Ctrl-C ended the wait
        if not current.is_over:
            _given_up[backend] = current
    return current.answer()


def _no_answer_error(seconds: float | None) -> ServiceUnavailableError:
    seconds = seconds or _SHORTEST_TIMEOUT
    words = f"the PC/SC service did not answer within {seconds:g} s: it hangs, or was stopped by a signal; restart it"
    return ServiceUnavailableError(words, TIMEOUT)


def _with_context(backend: Backend, use: Callable[[Backend, Context], T]) -> T:
    context = backend.establish()
    try:
        return use(backend, context)
    finally:
        try:
            context.release()
        except Exception as error:  # what was seen is no less true, whatever a backend raises
            logger.debug("after a query: %s", error)


def list_readers(group: str | None, timeout: float | None = DEFAULT_TIMEOUT) -> tuple[str, ...]:
    """The readers' names; of one group, where PC/SC keeps groups."""
    if group is not None and not isinstance(group, str):
        raise TypeError(f"group: a str or None is needed, not {type(group).__name__}")
    return _within(timeout, lambda _, context: context.list_readers(None if group is None else [group]))


def list_groups(timeout: float | None = DEFAULT_TIMEOUT) -> tuple[str, ...]:
    """The reader groups' names."""
    return _within(timeout, lambda _, context: context.list_reader_groups())


def list_states(timeout: float | None = DEFAULT_TIMEOUT) -> Mapping[str, ReaderState]:
    """Reader name to state."""
    readings: dict[str, Reading] = _within(timeout, lambda backend, context: all_readers(backend, context))
    return MappingProxyType({name: reading.state() for name, reading in readings.items()})


# How each face runs one of these.


async def in_own_thread(query: Callable[..., T], *args: object) -> T:
    """In a thread of its own, for event loops; a task that is cancelled leaves it there."""
    return await in_thread("scardface-look-wait", lambda: query(*args))


def in_this_thread(query: Callable[..., T], *args: object) -> T:
    """In the thread of the caller."""
    return query(*args)
