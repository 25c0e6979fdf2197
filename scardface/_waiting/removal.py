"""One wait for an open card to go.

Who owns what, who may call it from where, what ends it:

- `wait` is one task's, `wait_blocking` one thread's. `cancel` comes from any thread at any time, from signal handlers, too.
- The dispatcher only suspects: what the readers show says nothing about a session that was lost when the service restarted, and the
  watcher's trouble with PC/SC is not the card's. So the session itself is asked, in the card's own thread, never waiting for
  another program; at the start as well, since an older look may be from before.
- How it ends is decided once, by whoever appends to `_outcomes` first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._pcsc.backend import Backend
from .._session.card_state import SessionClosedError, best_effort
from .._session.session import Session
from .._threads import Loop, WaitingThread, retry_if_interrupted
from ..errors import CANCELLED, CardRemovedError, SCardError, ServiceUnavailableError, WaitCancelledError, fresh_copy
from .driver import driver_of, until_idle, until_idle_blocking
from .messages import RemovalAwaited, Unsubscribed


class Removal:
    """See the head of this file.

    Args:
        submit: runs a job in the card's thread.
    """

    def __init__(self, session: Session, backend: Backend, submit: Callable[[Callable[[], None]], object]) -> None:
        self._session = session
        self._backend = backend
        self._submit = submit
        self.driver = driver_of(backend)
        self.owner: Any = None
        self._wake: Callable[[], object] = _no_op
        self._outcomes: list[BaseException | None] = []
        self._asking = False

    @property
    def ended(self) -> bool:
        """Whether the wait is over."""
        return bool(self._outcomes)

    def cancel(self) -> None:
        """End the wait with WaitCancelledError."""
        self._end_with(WaitCancelledError("cancel() or a close ended the wait for the card's removal", CANCELLED))

    def fail(self, error: BaseException) -> None:
        """End the wait with an error that several are told of."""
        self._end_with(fresh_copy(error) if isinstance(error, SCardError) else error)

    def _end_with(self, end: BaseException | None) -> None:
        self._outcomes.append(end)
        self.driver.tell(Unsubscribed(self))
        if self.owner is not None:
            self.owner.post(self._wake)

    def begin(self, owner: Any, wake: Callable[[], object]) -> None:
        """Wait from now on; `wake` is called at home when it is over."""
        self.owner, self._wake = owner, wake
        if not self._outcomes:
            self.driver.submit(RemovalAwaited(self, self._session.reader, self._session.reading), self._backend)
            self.suspect(False)
        if self._outcomes:
            self.leave()

    def leave(self) -> None:
        """Nobody waits any more."""
        self._outcomes.append(None)
        self.driver.tell(Unsubscribed(self))

    def close_session(self) -> None:
        """The loop was closed under the wait, and its card can never be used again: have it closed."""
        self._submit(lambda: best_effort(self._session.close))

    def suspect(self, gone: bool) -> None:
        """At home: have the session asked; a card that is `gone`, by what its reader shows, is gone unless its service is."""
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
        except Exception as error:  # a backend's own
            self._end_with(error)
        else:
            if gone:
                self._end_with(None)

    def result(self) -> None:
        """Return if the card is gone, or raise why the wait has ended."""
        end = self._outcomes[0]
        if end is not None:
            try:
                raise end
            finally:
                del end  # the frame in its traceback must not hold it


def _no_op() -> None:
    """Nobody has to be woken."""


async def wait(removal: Removal) -> None:
    """Return when the card is gone.

    Raises:
        ServiceUnavailableError: the service went, and the session with it.
        WaitCancelledError: `cancel` was called.
    """
    loop = Loop()
    signal = loop.signal()
    try:
        removal.begin(loop, signal.set)
        while not removal.ended:
            await signal.wait()
    except GeneratorExit:  # the coroutine is thrown away, perhaps with its loop: nothing can be awaited
        removal.leave()
        raise
    except BaseException:
        removal.leave()
        await until_idle(removal.driver, cancelled=True)
        raise
    await until_idle(removal.driver, cancelled=True)
    removal.result()


def wait_blocking(removal: Removal) -> None:
    """As `wait`, in the calling thread; Ctrl-C ends the wait."""
    caller = WaitingThread()
    try:
        removal.begin(caller, _no_op)
        caller.run(lambda: removal.ended)
    finally:
        retry_if_interrupted(removal.leave)
        until_idle_blocking(removal.driver)
    removal.result()
