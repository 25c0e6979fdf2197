"""A session's lock: one call at a time, and a request to close. Blocking.

Rules:

- A call from inside a batch's own callback is a RuntimeError, not a deadlock. So is a call from a signal handler that has
  interrupted a call, except `close`: it is noted, and the interrupted call closes the card when it returns.
- An exception raised by a signal handler (Ctrl-C above all) may come between any two steps. The lock is released all the same, what
  a call does when it returns is done, and a close that has begun is completed.
- So what must be done stands directly in a `finally`, with a `try` before its first call: CPython checks for signals when a
  function begins, after one has returned, and when a loop jumps back. PyPy does before any step; a second `finally` is for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .._enums import Disposition
from .._threads import RLock
from .card_errors import SessionClosedError

T = TypeVar("T")

_INSIDE = "this card cannot be used from inside its own callback, or from a signal handler that interrupted a call of it"
_TRIES = 3
"""How often the end of a call, or a close, is tried if it is interrupted: more often than a user presses Ctrl-C meanwhile."""


class SessionLock:
    """The lock of one session; see the module's docstring.

    Args:
        enter: called when a call begins; raises to refuse it.
        leave: called when a call ends. It may be called again if it is interrupted, and so may `disconnect`.
        disconnect: closes the card.
        freed: called once the card is free.

    Attributes:
        closed: whether `close` is complete.
    """

    def __init__(
        self,
        enter: Callable[[], object],
        leave: Callable[[], object],
        disconnect: Callable[[Disposition | None], object],
        freed: Callable[[], object],
    ) -> None:
        self._enter = enter
        self._leave = leave
        self._disconnect = disconnect
        self._freed = freed
        self._lock = RLock()  # so that a signal handler's `close` does not wait for the call it interrupted
        self._inside = False  # a call is in progress
        self._calls_back = False  # its callback is running
        self._close_order: tuple[Disposition | None] | None = None  # a close was requested, with this disposition
        self.closed = False

    def call(self, call: Callable[..., T], *args: object) -> T:
        """`call(*args)` inside the lock.

        Raises:
            RuntimeError: this thread is inside a call already.
            SessionClosedError: the session is closed, or about to be.
        """
        with self._lock:
            if self._inside:
                raise RuntimeError(_INSIDE)
            try:
                try:
                    self._inside = True
                    if self._close_order is not None:
                        raise SessionClosedError("the card is closed")
                    self._enter()
                    return call(*args)
                finally:
                    interrupt = None
                    for _ in range(_TRIES):
                        try:
                            self._end()
                            break
                        except BaseException as error:  # its frames may hold objects that another try needs
                            interrupt = interrupt or error.with_traceback(None)
                    self._inside = False
                    if interrupt is not None:
                        try:
                            raise interrupt
                        finally:
                            del interrupt  # the frame in its traceback must not hold it
            finally:
                if self._inside:  # PyPy's interrupt came before the `try` of the end above
                    self._end()

    def _end(self) -> None:
        """What a call does when it returns."""
        self._leave()
        self._inside = False
        if self._close_order is not None:
            self._close_now()

    def call_back(self, callback: Callable[..., object], *args: object) -> None:
        """Run a callback from inside a call."""
        try:
            self._calls_back = True
            callback(*args)
        finally:
            self._calls_back = False

    def refuse_inside(self) -> None:
        """RuntimeError if this thread is inside a call: it would wait for itself."""
        if self.is_inside():
            raise RuntimeError(_INSIDE)

    def is_inside(self) -> bool:
        """Whether this thread is inside a call: in its callback, or in a signal handler that interrupted it."""
        return self._inside and bool(self._lock._is_owned())  # type: ignore[attr-defined]  # as threading.Condition does

    def refuse_in_callback(self) -> None:
        """RuntimeError if this thread is inside a callback."""
        if self._calls_back:
            self.refuse_inside()

    def close(self, disposition: Disposition | None = None) -> None:
        """Disconnect and release, then report the card free. Waits for an exchange in flight. A second call does nothing.

        In a signal handler that interrupted a call of its own thread it returns at once; that call closes when it returns.

        Args:
            disposition: None: RESET after EXCLUSIVE, so that the next program does not get a verified PIN, else LEAVE.
        """
        if self._close_order is None:
            self._close_order = (disposition,)
        with self._lock:
            if not self._inside:
                self._close_now()

    def _close_now(self) -> None:
        """Carry out the requested close. An exception that a signal handler raises meanwhile is raised at the end."""
        assert self._close_order is not None
        disposition, interrupt, left = self._close_order[0], None, _TRIES
        while left and not self.closed:
            left -= 1
            try:
                self._inside = True
                if left:  # after the last try the card only counts as free
                    self._disconnect(disposition)
                self._freed()
                self.closed = True
            except BaseException as error:
                interrupt = interrupt or error.with_traceback(None)
        self.closed, self._inside = True, False
        if interrupt is not None:
            try:
                raise interrupt
            finally:
                del interrupt
