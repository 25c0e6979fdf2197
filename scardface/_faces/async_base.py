"""The base class of the async `SCard` in `scard.py`: the methods that differ from the sync face by more than `await`.

Who owns what, who may call it from where, what ends it:

- An open card owns a thread, the one that connected it. Every PC/SC call of the card happens there, one hop for a whole batch, in
  the order in which they were asked for.
- Methods belong to the event loop that acquired the card; `cancel` is signal-safe (see `_waiting/__init__.py`).
- One task at a time, by the card's lock: a call waits for it, a transaction keeps it for its block.
- A task that is cancelled leaves at once. A batch whose caller left ends with its command in flight, in the thread, where the next
  batch waits for that; no lock is held for it here. What else PC/SC cannot cancel (fact 4) ends in the card's thread, too, and is
  undone there.
- `aclose` hands the close to the thread before it first waits, so that no cancellation loses it.
"""

from __future__ import annotations

import contextvars
import inspect
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio

from .._enums import Disposition
from .._pcsc.backend import Backend
from .._session.card_errors import best_effort
from .._session.card_request import CardRequest, member, seconds_of
from .._session.exchanger import PreparedCommand
from .._session.session import Session
from .._threads import Loop, Reply, retry_if_interrupted, until_ended, within_grace
from .._waiting.acquisition import acquire
from .._waiting.driver import driver_of, until_idle
from .._waiting.messages import RefusedCards
from .._waiting.removal import wait
from ..errors import CardRemovedError, CardTimeoutError
from ..iso7816._apdu import C_APDU, R_APDU
from ..iso7816._judgement import Judgement, ends_batch
from ..iso7816._layer import Layer
from .card import NOT_THIS_CARD, Card, ignore_outcome
from .card_lock import CardLock
from .routes import Callback

CardT = TypeVar("CardT", bound="AsyncBase")
T = TypeVar("T")

Answer: TypeAlias = Coroutine[Any, Any, R_APDU]
"""What a `send` of this face returns."""
Answers: TypeAlias = Coroutine[Any, Any, list[R_APDU]]
"""What a `send_all` of this face returns."""

Verdict: TypeAlias = Awaitable[object]
"""What a `match` of this face returns."""

until_removed = wait


def new_owner() -> Loop:
    """Who waits in this loop."""
    return Loop()


class _RunningCallback:
    """Marks the context of a running callback: batches on its card cannot start from there."""

    __slots__ = ("card", "outer", "running")

    def __init__(self, card: AsyncBase, outer: _RunningCallback | None) -> None:
        self.card = card
        self.outer = outer
        self.running = True


_inside: contextvars.ContextVar[_RunningCallback | None] = contextvars.ContextVar("scardface_inside", default=None)


class AsyncBase(Card):
    """The base class of the async SCard: it runs calls in the card's thread, takes turns, acquires and closes."""

    _how_to_open = "use 'async with SCard(...)' or 'await SCard(...)'"
    _loop: Loop
    _lock: CardLock
    _match_scope: anyio.CancelScope | None = None  # in which `match` is asked
    _ended: anyio.Event | None = None  # set when the close is done
    _close_error: Exception | None = None

    # Acquiring.

    def __await__(self: CardT) -> Generator[Any, None, CardT]:
        return self._acquire().__await__()

    # Coroutine functions are what all editors understand here; one of them would cost each waiting task 200 bytes.
    if TYPE_CHECKING:

        async def __aenter__(self: CardT) -> CardT: ...
    else:

        def __aenter__(self):
            return self._acquire()

        # What a script that took the wrong face gets; type checkers see no `__enter__`, and refuse the block.
        def __enter__(self):
            raise TypeError("this SCard is opened by `async with`; scripts take the one of `from scardface.sync import SCard`")

        __exit__ = __enter__  # `with` looks for both before it calls the first

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, GeneratorExit):  # the coroutine is thrown away: nothing can be awaited any more
            if not self._closed:
                self._hand_over_close(None, ignore_outcome)
            return
        await self._aclose(None, cancelled=kind is not None and issubclass(kind, anyio.get_cancelled_exc_class()))

    def _acquire(self: CardT) -> Coroutine[Any, Any, CardT]:
        if self._match is not None:
            return self._acquire_matching(self._match)
        return acquire(self._begin(), self._on_acquired)

    async def _acquire_matching(self: CardT, match: Callable[[Any], Any]) -> CardT:
        """As `_acquire`; each card that matches otherwise is asked once while it is in."""
        acquisition = self._begin()
        why: BaseException | None = None
        while True:
            try:
                await acquire(acquisition, self._on_acquired)
            except CardTimeoutError as error:
                error.__cause__ = error.__cause__ or why
                raise
            left = math.inf if self._card_request.timeout == 0 else acquisition.deadline - time.monotonic()
            scope = self._match_scope = anyio.CancelScope(deadline=anyio.current_time() + left)
            matches = False
            try:
                with scope:
                    verdict = match(self)
                    matches = bool(await verdict if inspect.isawaitable(verdict) else verdict)
            except NOT_THIS_CARD as error:
                why = error
            except BaseException as error:
                if not self._closed:
                    self._hand_over_close(None, ignore_outcome)
                if not isinstance(error, GeneratorExit) and self._worker is not None:
                    await within_grace(partial(until_ended, [self._worker.thread]), cancelled=True)
                raise
            finally:
                self._match_scope = None
            if matches and not self._cancel_asked and not scope.cancel_called:
                return self
            await within_grace(partial(until_ended, [self._refuse(why).thread]))
            acquisition = self._begin_again(why)

    def _cancel_match(self) -> None:
        scope = self._match_scope
        if scope is not None:
            self._loop.post(scope.cancel)

    async def _open(
        self, request: CardRequest, match: Callable[[Any], Any] | None, backend: Backend | None, refused: RefusedCards
    ) -> None:
        """Acquire a card as `__init__` and `await` would, but none of those refused."""
        self._refused = refused
        self._init(request, backend, match)
        await self._acquire()

    def _on_acquired(self: CardT, session: Session) -> CardT:
        self._loop = Loop()
        self._lock = CardLock(self._loop, session.card_key)
        self._take_over(session)
        return self

    # Calls.

    async def _run(self, job: Callable[[Session], T]) -> T:
        """One job in the card's thread, at this task's turn; nothing of it happens if the task has left before."""
        session = self._require_session()
        self._refuse_inside()
        level = await self._lock.acquire()
        try:
            reply: Reply[T] = Reply(self._loop)
            return await self._in_card_thread(reply, lambda: reply.run_if_awaited(lambda: job(session)))
        finally:
            self._lock.release(level)

    async def _in_card_thread(self, reply: Reply[T], job: Callable[..., object], *args: object) -> T:
        """One hop into the card's thread and back, in the caller's context variables."""
        if self._closed:  # while this task waited for the lock
            raise RuntimeError("the card is closed")
        self._submit(job, *args)
        try:
            return await reply.get()
        finally:
            self._calls_left += reply.abandoned

    def _submit(self, job: Callable[..., object], *args: object) -> None:
        """Leave a job for the card's thread."""
        worker = self._worker
        assert worker is not None
        worker.submit(contextvars.copy_context().run, job, *args)

    def _refuse_inside(self) -> None:
        """RuntimeError from inside the callback of this card's own `send`."""
        inside = _inside.get()
        while inside is not None:
            if inside.card is self and inside.running:
                raise RuntimeError("this card cannot be used from inside its own callback")
            inside = inside.outer

    # Exchanges.

    async def _exchange(
        self,
        commands: list[C_APDU],
        callback: Callback | None,
        layer: Layer | None,
        judgement: Judgement | None,
        timeout: float | None = None,
    ) -> R_APDU:
        """Commands to the card: what `send` does."""
        if timeout is not None:
            left_before = self._calls_left
            with anyio.move_on_after(seconds_of(timeout)):
                return await self._exchange(commands, callback, layer, judgement)
            raise self._too_late(timeout, self._calls_left > left_before)
        session = self._require_session()
        self._refuse_inside()
        level = await self._lock.acquire()
        try:
            batch = session.prepare(commands, layer)  # with the lock: the one before may have changed the protocol
            if callback is None:
                return await self._send(session, batch, judgement)
            return await self._send_each(session, batch, callback, judgement)
        finally:
            self._lock.release(level)

    async def _exchange_all(
        self, commands: list[C_APDU], layer: Layer | None, judgement: Judgement, timeout: float | None = None
    ) -> list[R_APDU]:
        """Commands to the card: what `send_all` does."""
        await self._exchange(commands, None, layer, judgement, timeout)
        return judgement.responses or []

    async def _send(self, session: Session, batch: list[PreparedCommand], judgement: Judgement | None) -> R_APDU:
        reply: Reply[R_APDU | None] = Reply(self._loop)
        response = await self._in_card_thread(reply, reply.run, session.send, batch, None, reply.is_abandoned, judgement)
        assert response is not None, "only an abandoned batch has no response, and nobody awaits that one"
        return response

    async def _send_each(
        self, session: Session, batch: list[PreparedCommand], callback: Callback, judgement: Judgement | None
    ) -> R_APDU:
        """A hop for each command, since the callback runs in this task before the next goes out."""
        response: R_APDU | None = None
        for answered, prepared in enumerate(batch):
            try:
                response = await self._send(session, [prepared], judgement)
            except CardRemovedError as error:
                error.answered = answered
                raise
            await self._call_back(callback, prepared[0], response)
            if ends_batch(response, judgement):
                break
        assert response is not None, "a batch has a command"
        return response

    async def _call_back(self, callback: Callback, command: C_APDU, response: R_APDU) -> None:
        inside = _RunningCallback(self, _inside.get())
        token = _inside.set(inside)
        try:
            result = callback(command, response)
            if inspect.isawaitable(result):
                await result
        finally:
            inside.running = False  # tasks that the callback started may send later
            _inside.reset(token)

    def _send_best_effort(self, command: C_APDU) -> None:
        """Have a command sent whose outcome does not matter. It is handed over, so that no cancellation loses it."""
        session = self._session
        if session is not None and not self._closed:
            self._submit(lambda: best_effort(lambda: session.send(session.prepare([command]))))

    # Transactions.

    @asynccontextmanager
    async def _transaction(self, disposition: Disposition) -> AsyncIterator[None]:
        session = self._require_session()
        self._refuse_inside()
        disposition = member("disposition", Disposition, disposition)
        transaction = object()
        outer = await self._lock.acquire()
        try:
            await self._begin_transaction(session, transaction)
            level = self._lock.begin_transaction(outer)
        except BaseException:
            self._lock.release(outer)
            raise
        try:
            yield
            self._lock.end_transaction(level)
            await self._lock.wait_until_idle(level)
            if not self._closed:  # else the close has ended it
                end: Reply[None] = Reply(self._loop)
                await self._in_card_thread(end, end.run, session.end_transaction, transaction, disposition)
        except GeneratorExit:  # thrown away, perhaps with its loop
            self._submit(best_effort, lambda: session.end_transaction(transaction, disposition))
            with suppress(RuntimeError):
                self._lock.leave_transaction(level)
            raise
        except BaseException:
            # Handed over rather than awaited: no cancellation loses it, and what went wrong is not hidden by what follows.
            self._submit(best_effort, lambda: session.end_transaction(transaction, disposition))
            self._lock.leave_transaction(level)
            raise
        self._lock.leave_transaction(level)

    async def _begin_transaction(self, session: Session, transaction: object) -> None:
        """Begin one; cancelled, have it ended again."""
        reply: Reply[None] = Reply(self._loop)
        try:
            await self._in_card_thread(reply, lambda: reply.run_if_awaited(lambda: session.begin_transaction(transaction)))
        except BaseException:
            self._submit(best_effort, lambda: session.end_transaction(transaction, Disposition.LEAVE))
            raise

    # The card's presence.

    @asynccontextmanager
    async def _while_present(self) -> AsyncIterator[None]:
        removal = self._new_removal()
        self._begin_removal(removal)
        scope = anyio.CancelScope()

        def wake() -> None:
            if removal.ended:
                scope.cancel()

        def leave() -> bool:
            """Give the wait up; whether it had ended."""
            ended = removal.ended
            retry_if_interrupted(self._end_removal, removal)
            removal.leave()
            return ended

        scope.__enter__()
        try:
            removal.begin(Loop(), wake)
            wake()
            yield
        except GeneratorExit as error:  # thrown away, perhaps with its loop, without which a scope cannot be left
            leave()
            with suppress(RuntimeError):
                scope.__exit__(GeneratorExit, error, error.__traceback__)
            raise
        except BaseException as error:
            ended = leave()
            cancelled_here = scope.__exit__(type(error), error, error.__traceback__)
            await until_idle(removal.driver, cancelled=True)
            if not (ended and cancelled_here):
                raise
        else:
            ended = leave()
            scope.__exit__(None, None, None)
            await until_idle(removal.driver, cancelled=True)
        if ended:
            self._raise_removal(removal)

    # Closing.

    async def aclose(self, disposition: Disposition | None = None) -> None:
        """Close the card; then offer it to the next waiter. Does nothing the second time.

        Returns when its thread and its PC/SC context are gone; cancelled, within 0.2 s, and the thread finishes by itself.

        Args:
            disposition: what becomes of the card; None: RESET after EXCLUSIVE, so that nobody inherits a verified PIN, else LEAVE.
                While another program holds a transaction, everything but LEAVE waits for its end.
        """
        if disposition is not None:
            disposition = member("disposition", Disposition, disposition)
        await self._aclose(disposition, cancelled=False)

    async def _aclose(self, disposition: Disposition | None, *, cancelled: bool) -> None:
        self._check_process()
        if not self._closed:
            loop, done = Loop(), anyio.Event()

            def closed(error: Exception | None) -> None:
                self._close_error = error
                loop.post(done.set)

            self._ended = done
            self._hand_over_close(disposition, closed)
        worker, acquisition = self._worker, self._acquisition
        if worker is None or acquisition is None or self._ended is None:
            return
        ended = self._ended

        async def nothing_left() -> None:
            await ended.wait()
            await until_ended([worker.thread])
            await until_idle(driver_of(acquisition.backend))

        await within_grace(nothing_left, cancelled=cancelled)
        error, self._close_error = self._close_error, None
        if error is not None and not cancelled:
            raise error
