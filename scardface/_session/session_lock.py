"""A session's lock: one call at a time, and the order to close. Blocking.

Rules of this room:

- A call from inside a batch's own callback is a RuntimeError, not a deadlock. So is one by a signal handler that has interrupted a
  call, but for `close`: that is an order, which the call that was interrupted carries out when it leaves.
- An exception of a signal handler, Ctrl-C first of all, may come between any two steps. It leaves no lock taken and nothing undone
  that a call does when it leaves, and a close that has begun is carried out.
- So what must be done stands in a `finally` itself, with a `try` before its first call: Python looks for signals where a function
  begins, where one has returned, and where a loop goes back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .._enums import Disposition
from .._rlock import RLock
from .card_state import SessionClosedError

T = TypeVar("T")

_INSIDE = "this card cannot be used from inside its own callback, or from a signal handler that interrupted a call of it"
_TRIES = 3
"""How often the end of a call, or a close, is begun where something interrupts it: once more than anybody presses Ctrl-C."""


class SessionLock:
    """See the head of this file.

    Args:
        enter: raises what keeps a call out.
        leave: is called when a call leaves. As the next, it may be called again where something interrupts it.
        disconnect: closes the card.
        freed: is called once the card is free.

    Attributes:
        closed: whether `close` has done its work.
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
        self._lock = RLock()  # so that a signal handler's `close` does not wait for what it interrupted
        self._inside = False  # a call is on its way
        self._calls_back = False  # its callback runs
        self._order: tuple[Disposition | None] | None = None  # to close, and how
        self.closed = False

    def call(self, call: Callable[..., T], *args: object) -> T:
        """`call(*args)` inside the lock.

        Raises:
            RuntimeError: this thread is inside already.
            SessionClosedError: it was closed, or will be.
        """
        with self._lock:
            if self._inside:
                raise RuntimeError(_INSIDE)
            try:
                self._inside = True
                if self._order is not None:
                    raise SessionClosedError("the card is closed")
                self._enter()
                return call(*args)
            finally:
                left, interrupt = _TRIES, None
                while left:
                    left -= 1
                    try:
                        self._leave()
                        self._inside = False
                        if self._order is not None:
                            self._carry_out()
                        left = 0
                    except BaseException as error:
                        interrupt = interrupt or error.with_traceback(None)  # whose frames may hold what is needed for another try
                self._inside = False
                if interrupt is not None:
                    try:
                        raise interrupt
                    finally:
                        del interrupt  # the frame in its traceback must not hold it

    def call_back(self, callback: Callable[..., object], *args: object) -> None:
        """A callback, from inside a call."""
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
        return self._inside and bool(self._lock._is_owned())  # type: ignore[attr-defined]  # what threading.Condition goes by

    def refuse_in_callback(self) -> None:
        """RuntimeError if this thread is inside a callback."""
        if self._calls_back:
            self.refuse_inside()

    def close(self, disposition: Disposition | None = None) -> None:
        """Disconnect and release; then the card is free. Waits for an exchange in flight. Does nothing the second time.

        From a signal handler that interrupted a call of its own thread it returns at once; the call closes when it leaves.

        Args:
            disposition: None: RESET after EXCLUSIVE, so that nobody inherits a verified PIN, else LEAVE.
        """
        if self._order is None:
            self._order = (disposition,)
        with self._lock:
            if not self._inside:
                self._carry_out()

    def _carry_out(self) -> None:
        """Carry the order to close out. What a signal handler raises meanwhile comes when all is done."""
        assert self._order is not None
        disposition, interrupt, left = self._order[0], None, _TRIES
        while left and not self.closed:
            left -= 1
            try:
                self._inside = True
                if left:  # else it is in vain; but others may try
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
