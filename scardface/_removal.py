"""The wait for an open card's removal, once.

Who owns what, who may call it from where, what ends it:

- `run` is one task's. `cancel` may come from any thread at any time.
- It hears the hub's snapshots from the first fresh one on; an older one may be from before the card was in.
- A service that restarted before the wait began shows the same card under a session that is lost. So the session itself is asked
  once, in a thread, never waiting for another program (fact 4).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ._backend import Backend
from ._events import Event, Snapshot, same_card
from ._hub import Hub, Question, hub_of
from ._loss import SessionClosedError
from ._session import Session
from ._threads import Bell, Loop
from .errors import CANCELLED, CardRemovedError, SCardError, ServiceUnavailableError, WaitCancelledError, again


class Removal:
    """One wait for one card to go (see the head of this file).

    Args:
        submit: runs a blocking job in the background: the card's thread, or one of its own.
    """

    def __init__(self, session: Session, backend: Backend, submit: Callable[[Callable[[], None]], object]) -> None:
        self._session = session
        self._backend = backend
        self._submit = submit
        self._lock = threading.RLock()
        self._bell: Bell | None = None
        self._cancelled = False
        self._gone = False
        self._error: SCardError | None = None
        self._question: Question | None = None

    def cancel(self) -> None:
        """End the wait with WaitCancelledError. From any thread."""
        with self._lock:
            self._cancelled = True
            bell = self._bell
        if bell is not None:
            bell.ring()

    async def run(self) -> None:
        """Return when the card is gone.

        Raises:
            ServiceUnavailableError: the service went, and the session with it.
            WaitCancelledError: `cancel` was called.
        """
        bell = Bell(Loop())
        with self._lock:
            self._bell = bell
        hub = hub_of(self._backend)
        hub.enter()
        hub.subscribe(self, self._hear)
        try:
            self._question = hub.ask(bell)
            self._submit(self._probe)
            while not (self._gone or self._error or self._cancelled):
                await bell.wait()
        except GeneratorExit:  # the coroutine is thrown away, perhaps with its loop: nothing can be awaited
            self._leave(hub)
            raise
        except BaseException:
            self._leave(hub)
            await hub.quiet(cancelled=True)
            raise
        self._leave(hub)
        await hub.quiet(cancelled=True)
        if self._cancelled:
            raise WaitCancelledError("cancel() or a close ended the wait for the card's removal", CANCELLED)
        if self._error is not None:
            raise again(self._error)

    def _leave(self, hub: Hub) -> None:
        hub.unsubscribe(self)
        hub.leave()

    def _probe(self) -> None:
        """In a thread: ask the session itself."""
        try:
            self._session.check()
        except CardRemovedError:
            self._gone = True
        except ServiceUnavailableError as error:
            self._error = error
        except SessionClosedError:
            self._cancelled = True
        bell = self._bell
        if bell is not None:
            bell.ring()

    def _hear(self, snapshot: Snapshot, events: list[Event], dropped: int) -> None:
        """In the loop: judge a snapshot that is fresh enough."""
        if self._question is None or snapshot.number < self._question.number:
            return
        reading = snapshot.readers.get(self._session.reader)
        if snapshot.error is not None:
            self._error = snapshot.error
        elif reading is None or (self._session.reading.present and not same_card(self._session.reading, reading)):
            self._gone = True
        else:
            return
        if self._bell is not None:
            self._bell.strike()
