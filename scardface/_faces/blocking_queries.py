"""One look at PC/SC without a monitor, blocking: the readers, their groups, their states.

Rules:

- A look has a context of its own, and a thread of its own: a call of PC/SC cannot be taken back, and before a frozen service it
  lasts (fact 23). Whoever asked waits in slices, so that Ctrl-C is heard, and no longer than the time given.
- A look that was given up goes on until the service answers. As long as it does, no other look of that PC/SC begins: a frozen
  service costs one thread, however often it is asked.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import copy_context
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from .._pcsc.backend import Backend, Context
from .._pcsc.default import default_backend
from .._pcsc.events import ReaderState, Reading
from .._pcsc.reader_states import all_readers
from .._session.card_request import seconds_of
from .._threads import forget_at_fork, in_thread, spawn
from ..errors import TIMEOUT, ServiceUnavailableError

logger = logging.getLogger("scardface.watch")

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a service has to answer, unless the caller says otherwise."""
_ONE_LOOK = 1.0
"""Seconds that `timeout=0` means: a service that is well has answered by then."""
_SLICE = 0.1 if sys.platform == "win32" else 1.0
"""Seconds of one slice of a wait: on Windows Ctrl-C does not break one."""
_LAST_WORD = 0.2
"""Seconds that a thread whose work is done has to be gone."""


class _Look(Generic[T]):
    """A look on its way."""

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

    def ends_by(self, deadline: float | None) -> bool:
        """Wait until it is over, or for the deadline (of `time.monotonic`; None: for ever); whether it is over."""
        while not self._ended.is_set():
            left = _SLICE if deadline is None else min(_SLICE, deadline - time.monotonic())
            if left <= 0:
                return False
            self._ended.wait(left)
        return True

    def answer(self) -> T:
        """What was seen, or the error that there was; once it is over."""
        self._thread.join(_LAST_WORD)
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self._error  # the frame in its traceback must not hold it
        return self._answer


_given_up: dict[Backend, _Look[Any]] = {}
"""The look that was given up last, by the PC/SC that did not answer it."""
forget_at_fork(_given_up.clear)


def _within(timeout: float | None, use: Callable[[Backend, Context], T]) -> T:
    """What `use` makes of a context of its own, within the time.

    Raises:
        ServiceUnavailableError: the time is over (code SCARD_E_TIMEOUT), or PC/SC says so.
    """
    seconds = seconds_of(timeout)
    deadline = None if seconds is None else time.monotonic() + (seconds or _ONE_LOOK)
    backend = default_backend()
    earlier = _given_up.get(backend)
    if earlier is not None:
        if not earlier.ends_by(deadline):
            raise _silence(seconds)
        _given_up.pop(backend, None)
    current = _Look(lambda: _with_context(backend, use))
    try:
        if not current.ends_by(deadline):
            raise _silence(seconds)
    finally:  # also where Ctrl-C ended the wait
        if not current.is_over:
            _given_up[backend] = current
    return current.answer()


def _silence(seconds: float | None) -> ServiceUnavailableError:
    words = f"the PC/SC service did not answer within {seconds or _ONE_LOOK:g} s: it hangs, or was stopped by a signal; restart it"
    return ServiceUnavailableError(words, TIMEOUT)


def _with_context(backend: Backend, use: Callable[[Backend, Context], T]) -> T:
    context = backend.establish()
    try:
        return use(backend, context)
    finally:
        try:
            context.release()
        except Exception as error:  # what was seen is no less true, whatever a backend raises
            logger.debug("after a look: %s", error)


def list_readers(group: str | None, timeout: float | None = PATIENCE) -> tuple[str, ...]:
    """The readers' names; of one group, where PC/SC keeps groups."""
    if group is not None and not isinstance(group, str):
        raise TypeError(f"group: a str or None is needed, not {type(group).__name__}")
    return _within(timeout, lambda _, context: context.list_readers(None if group is None else [group]))


def list_groups(timeout: float | None = PATIENCE) -> tuple[str, ...]:
    """The reader groups' names."""
    return _within(timeout, lambda _, context: context.list_reader_groups())


def list_states(timeout: float | None = PATIENCE) -> Mapping[str, ReaderState]:
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
