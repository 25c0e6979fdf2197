"""One wait for an open card to be removed.

Who owns what, who may call it from where, what ends it:

- `wait` runs in one task, `wait_blocking` in one thread. `cancel` and `leave` are signal-safe (see the package).
- The dispatcher only suspects that the card is gone: readers do not show that a session was lost when the service restarted, and an
  error of the watcher's need not be the card's. So the session is asked, in the card's own thread, without waiting for other
  programs; also at the start, since the last snapshot may be older than the wait.
- The outcome is the first item of `_outcomes`. A wait that was left has one of its own: the driver may have heard of it, and left
  the wait, before the caller has taken its next step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._pcsc.backend import Backend
from .._session.card_errors import SessionClosedError, best_effort
from .._session.session import Session
from .._threads import Loop, WaitingThread, no_op, retry_if_interrupted
from ..errors import CANCELLED, CardRemovedError, SCardError, ServiceUnavailableError, WaitCancelledError, fresh_copy
from .driver import driver_of, until_idle, until_idle_blocking
from .messages import RemovalAwaited, Unsubscribed

_LEFT = WaitCancelledError("the wait for the card's removal was given up", CANCELLED)
"""The outcome after `leave`."""


class RemovalWait:
    """One wait for the removal of an open card.

    Args:
        submit: runs a job in the card's thread.
    """

    def __init__(self, session: Session, backend: Backend, submit: Callable[[Callable[[], None]], object]) -> None:
        self._session = session
        self._backend = backend
        self._submit = submit
        self.driver = driver_of(backend)
        self.owner: Any = None
        self._wake: Callable[[], object] = no_op
        self._outcomes: list[BaseException | None] = []
        self._asking = False

    @property
    def ended(self) -> bool:
        """Whether the wait is over."""
        return bool(self._outcomes)

    @property
    def left(self) -> bool:
        """Whether it was given up before it was over."""
        return bool(self._outcomes) and self._outcomes[0] is _LEFT

    def cancel(self) -> None:
        """End the wait with WaitCancelledError."""
        self._end_with(WaitCancelledError("cancel() or a close ended the wait for the card's removal", CANCELLED))

    def fail(self, error: BaseException) -> None:
        """End the wait with a copy of `error`, which every waiter is given."""
        self._end_with(fresh_copy(error) if isinstance(error, SCardError) else error)

    def _end_with(self, end: BaseException | None) -> None:
        if not self._outcomes:
            self._outcomes.append(end)
        self.driver.tell(Unsubscribed(self))
        if self.owner is not None:
            self.owner.post(self._wake)

    def begin(self, owner: Any, wake: Callable[[], object]) -> None:
        """Begin to wait; `wake` is called at the owner when the wait may be over."""
        self.owner, self._wake = owner, wake
        if not self._outcomes:
            self.driver.submit(RemovalAwaited(self, self._session.reader, self._session.reading), self._backend)
            self.suspect(False)
        if self._outcomes:
            self.leave()

    def leave(self) -> None:
        """Give the wait up."""
        if not self._outcomes:
            self._outcomes.append(_LEFT)
        self.driver.tell(Unsubscribed(self))

    def close_session(self) -> None:
        """The loop was closed during the wait, so nobody can use the card any more: close it."""
        self._submit(lambda: best_effort(self._session.close))

    def suspect(self, gone: bool) -> None:
        """Have the session asked. `gone`: the reader shows that the card is gone, so it is, unless the service stopped."""
        if not self._outcomes and (gone or not self._asking):
            self._asking = True
            self._submit(lambda: self._ask(gone))

    def _ask(self, gone: bool) -> None:
        """In the card's thread."""
        self._asking = False
        if self._outcomes:
            return
        try:
            self._session.check()
        except CardRemovedError:
            self._end_with(None)
        except ServiceUnavailableError as error:
            self._end_with(error)
        except SessionClosedError:
            self.cancel()
        except Exception as error:  # an error of the backend itself
            self._end_with(error)
        else:
            if gone:
                self._end_with(None)

    def result(self) -> None:
        """Return if the card is gone, or raise why the wait has ended."""
        end = self._outcomes[0]
        if end is not None:
            try:
                raise fresh_copy(_LEFT) if end is _LEFT else end  # else all tracebacks would gather at that one
            finally:
                del end  # else the frame in its traceback would refer to it


async def wait(removal: RemovalWait) -> None:
    """Return when the card is gone.

    Raises:
        ServiceUnavailableError: the service stopped, and the session ended with it.
        WaitCancelledError: `cancel` was called.
    """
    loop = Loop()
    signal = loop.signal()
    try:
        removal.begin(loop, signal.set)
        while True:
            if removal.ended:
                break
            await signal.wait()
    except GeneratorExit:  # the coroutine is closed, perhaps with its loop: nothing can be awaited
        removal.leave()
        raise
    except BaseException:
        removal.leave()
        await until_idle(removal.driver, cancelled=True)
        raise
    await until_idle(removal.driver, cancelled=True)
    removal.result()


def wait_blocking(removal: RemovalWait) -> None:
    """As `wait`, in the calling thread; Ctrl-C ends the wait."""
    caller = WaitingThread()
    leave_at_once = removal.driver.leaving(removal)
    try:
        removal.begin(caller, no_op)
        caller.run(lambda: removal.ended)
    except BaseException:
        leave_at_once()
        retry_if_interrupted(removal.leave)
        until_idle_blocking(removal.driver)
        raise
    until_idle_blocking(removal.driver)
    removal.result()
