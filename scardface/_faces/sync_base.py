"""The base class of the sync `SCard` in `sync_scard.py`: the methods that differ from the async face by more than `await`.

Who owns what, who may call it from where, what ends it:

- Waiting (acquiring, `wait`) happens in the caller's own thread, in slices, until the driver or the card's thread says how it ends.
  The object that owns the wait exists before it begins, so whatever interrupts the caller, Ctrl-C first of all, ends it.
- Calls of an open card happen in the caller's own thread, too, one thread at a time: by the session's lock for a batch, by the
  card's lock, which its holder may take again, for a transaction's block.
- An open card owns a thread, the one that connected it. It closes the card, so that neither Ctrl-C nor a signal handler waits for
  PC/SC, and sends what is sent with a timeout, so that the caller can leave: what is under way then ends there, and the session's
  lock makes the next call wait for it.
- Only a transaction's begin has a thread of its own, where others share the card: it waits for them, and Ctrl-C should not have to.
  If its caller is interrupted, that thread undoes it when it comes back, and what the card was asked meanwhile waits.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

from .._enums import Disposition, ShareMode
from .._pcsc.backend import Backend
from .._pcsc.no_copy import refuse_copy
from .._session.card_errors import best_effort
from .._session.card_request import CardRequest, member, seconds_of
from .._session.exchanger import PreparedCommand
from .._session.session import Session
from .._threads import SLICE, RLock, WaitingThread, cancellable, get, retry_if_interrupted, spawn, uninterrupted
from .._waiting.acquisition import acquire_blocking
from .._waiting.driver import driver_of, until_idle_blocking
from .._waiting.messages import RefusedCards
from .._waiting.removal import wait_blocking
from ..errors import CANCELLED, CardRemovedError, CardTimeoutError, WaitCancelledError
from ..iso7816._apdu import C_APDU, R_APDU
from ..iso7816._judgement import Judgement, ends_batch
from ..iso7816._layer import Layer
from .card import NOT_THIS_CARD, Card, ignore_outcome
from .routes import Callback

CardT = TypeVar("CardT", bound="SyncBase")
T = TypeVar("T")

Answer: TypeAlias = R_APDU
"""What a `send` of this face returns."""
Answers: TypeAlias = list[R_APDU]
"""What a `send_all` of this face returns."""

Verdict: TypeAlias = object
"""What a `match` of this face returns."""

until_removed = wait_blocking


class _HeldTransactions(threading.local):
    """The sessions on which this thread is in a transaction."""

    sessions: tuple[Session, ...] = ()


_this_thread = _HeldTransactions()


def refuse_to_wait_for_itself(session: Session) -> None:
    """RuntimeError where this thread holds a transaction on the same card by another SCard: PC/SC would have it wait for ever."""
    for other in _this_thread.sessions:
        if other is not session and other.open_transactions and other.card_key == session.card_key:
            raise RuntimeError("this thread holds a transaction on the same card by another SCard: it would wait for itself")


class ThreadLock(RLock):  # type: ignore[misc]  # as RLock itself
    """Whose turn it is among the threads that use a card. A thread in a transaction may end without leaving the block."""

    __slots__ = ("_holder",)

    def __init__(self) -> None:
        self._holder: threading.Thread | None = None  # the thread that took it last

    def __enter__(self) -> bool:  # type: ignore[override]  # as in RLock
        this_thread = threading.current_thread()
        ended: threading.Thread | None = None
        while True:
            [taken] = map(self.acquire, (True,), (SLICE,))  # as RLock does
            if taken:
                self._holder = this_thread
                return taken
            ended = self._ended_holder(ended)

    def enter_until(self, deadline: float) -> bool:
        """As `__enter__`, with a deadline (monotonic), after which it is `_TooLate`."""
        this_thread = threading.current_thread()
        ended: threading.Thread | None = None
        while True:
            [taken] = map(self.acquire, (True,), (max(0.0, min(SLICE, deadline - time.monotonic())),))  # as RLock does
            if taken:
                self._holder = this_thread
                return taken
            ended = self._ended_holder(ended)
            if time.monotonic() >= deadline:
                raise _TooLate

    def _ended_holder(self, before: threading.Thread | None) -> threading.Thread | None:
        """The thread that took the lock last, if it has ended.

        Args:
            before: what this returned one slice ago. A thread that has let go and ended in that moment cannot be told from one that
                has not let go, but then the lock would have been taken since.
        """
        holder = self._holder
        if holder is None or holder.is_alive():
            return None
        if holder is before:
            raise RuntimeError(
                f"the thread {holder.name!r} began a transaction on this card and has ended without ending it: close the card"
            )
        return holder


def new_owner() -> WaitingThread:
    """Who waits in this thread."""
    return WaitingThread()


class Anywhere:
    """The owner of a wait whose end only sets a flag and wakes others: what is posted runs at once, in the thread that posts."""

    def post(self, callback: Callable[..., object], *args: object) -> bool:
        callback(*args)
        return True

    def is_alive(self) -> bool:
        return True


class _TooLate(Exception):
    """The deadline of a `send` has passed."""


class _TurnUntil:
    """`with card_lock`, with a deadline (monotonic): `_TooLate` if it has not been this thread's turn by then.

    `__exit__` is the lock's own, in C: Python looks for signals where one of ours would begin, and Ctrl-C there would leave the
    lock taken.
    """

    __slots__ = ("__exit__", "_deadline", "_lock")

    def __init__(self, lock: ThreadLock, deadline: float) -> None:
        self._lock = lock
        self._deadline = deadline
        self.__exit__ = lock.__exit__

    def __enter__(self) -> None:
        self._lock.enter_until(self._deadline)


class SyncBase(Card):
    """The base class of the sync SCard: it runs calls in the caller's thread, takes turns, acquires and closes."""

    _how_to_open = "its constructor opens it"
    _lock: ThreadLock
    _beginning: Beginning | None = None

    # Acquiring.

    def _init(self, card_request: CardRequest, backend: Backend | None, match: Callable[[Any], Any] | None = None) -> None:
        self._lock = ThreadLock()
        super()._init(card_request, backend, match)
        acquisition = self._begin()
        why: BaseException | None = None
        while True:
            try:
                acquire_blocking(acquisition, self._take_over)
                if self._closed:
                    raise WaitCancelledError("the card was closed while it was waited for", CANCELLED)
            except CardTimeoutError as error:
                error.__cause__ = error.__cause__ or why
                retry_if_interrupted(acquisition.leave)
                raise
            except BaseException:
                retry_if_interrupted(acquisition.leave)
                raise
            if self._match is None:
                return
            try:
                if self._matches(self._match) and not self._cancel_asked:
                    return
            except NOT_THIS_CARD as error:
                why = error
            except BaseException:
                if not self._closed:
                    retry_if_interrupted(self._hand_over_close, None, ignore_outcome)
                raise
            thread = self._refuse(why).thread
            while thread.is_alive():
                thread.join(SLICE)
            acquisition = self._begin_again(why)

    def _open(
        self, request: CardRequest, match: Callable[[Any], Any] | None, backend: Backend | None, refused: RefusedCards
    ) -> None:
        """Acquire a card as `__init__` would, but none of those refused."""
        self._refused = refused
        self._init(request, backend, match)

    def _matches(self, match: Callable[[Any], Any]) -> bool:
        verdict = match(self)
        if inspect.isawaitable(verdict):
            if inspect.iscoroutine(verdict):
                verdict.close()
            raise TypeError("match: a coroutine function cannot be awaited here; use scardface.SCard, or a plain function")
        return bool(verdict)

    def __enter__(self: CardT) -> CardT:
        self._require_session()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    # Calls and exchanges.

    def _run(self, job: Callable[[Session], T]) -> T:
        """One job in this thread, at its turn."""
        session = self._require_session()
        session.refuse_inside()
        refuse_to_wait_for_itself(session)
        with self._lock:
            return job(session)

    def _exchange(
        self,
        commands: list[C_APDU],
        callback: Callback | None,
        layer: Layer | None,
        judgement: Judgement | None,
        timeout: float | None = None,
    ) -> R_APDU:
        """Commands to the card: what `send` does."""
        session = self._require_session()
        refuse_to_wait_for_itself(session)
        if timeout is not None and (seconds := seconds_of(timeout)) is not None:
            session.refuse_inside()
            deadline, left_before = time.monotonic() + seconds, self._calls_left
            try:
                return self._exchange_until(deadline, session, commands, callback, layer, judgement)
            except _TooLate:
                raise self._too_late(timeout, self._calls_left > left_before) from None
        with self._lock:
            batch = session.prepare(commands, layer)  # with the lock: the one before may have changed the protocol
            response = session.send(batch, None if callback is None else plain_callback(callback), None, judgement)
        assert response is not None, "only an abandoned batch has no response"
        return response

    def _exchange_all(
        self, commands: list[C_APDU], layer: Layer | None, judgement: Judgement, timeout: float | None = None
    ) -> list[R_APDU]:
        """Commands to the card: what `send_all` does."""
        self._exchange(commands, None, layer, judgement, timeout)
        return judgement.responses or []

    def _exchange_until(
        self,
        deadline: float,
        session: Session,
        commands: list[C_APDU],
        callback: Callback | None,
        layer: Layer | None,
        judgement: Judgement | None,
    ) -> R_APDU:
        """As `_exchange`, in the card's own thread, which this one leaves alone at the deadline (monotonic)."""
        with _TurnUntil(self._lock, deadline):
            batch = session.prepare(commands, layer)
            if callback is None:
                return self._send_until(deadline, session, batch, judgement)
            return self._send_each_until(deadline, session, batch, plain_callback(callback), judgement)

    def _send_each_until(
        self,
        deadline: float,
        session: Session,
        batch: list[PreparedCommand],
        call: Callable[[C_APDU, R_APDU], object],
        judgement: Judgement | None,
    ) -> R_APDU:
        """Send the commands one by one, with the callback between them."""
        response: R_APDU | None = None
        for answered, prepared in enumerate(batch):
            try:
                response = self._send_until(deadline, session, [prepared], judgement)
            except CardRemovedError as error:
                error.answered = answered
                raise
            session.call_back(call, prepared[0], response)
            if ends_batch(response, judgement):
                break
        assert response is not None, "a batch has a command"
        return response

    def _send_until(self, deadline: float, session: Session, batch: list[PreparedCommand], judgement: Judgement | None) -> R_APDU:
        """Have the card's thread send a batch. Whatever ends the wait for it, what has not gone out by then does not."""
        worker, outcomes, left = self._worker, SimpleQueue[R_APDU | BaseException | None](), threading.Event()
        assert worker is not None
        if time.monotonic() >= deadline:
            raise _TooLate
        worker.submit(_send_in_thread, session, batch, judgement, left.is_set, outcomes)
        self._calls_left += 1
        try:
            while True:
                alive = worker.thread.is_alive()
                try:
                    outcome = outcomes.get(timeout=max(0.0, min(SLICE, deadline - time.monotonic())))
                    break
                except Empty:
                    if not alive:  # another thread has closed the card, and this batch came behind that
                        raise RuntimeError("the card is closed") from None
                    if time.monotonic() >= deadline:
                        raise _TooLate from None
        finally:
            left.set()
        self._calls_left = 0  # it has ended, and so has all that was before it
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                del outcome  # the frame in its traceback must not hold it
        assert outcome is not None, "only an abandoned batch has no response"
        return outcome

    def _send_best_effort(self, command: C_APDU) -> None:
        """Send a command whose outcome does not matter."""
        with suppress(Exception):
            self._exchange([command], None, None, None)

    # Transactions.

    def _transaction(self, disposition: Disposition) -> AbstractContextManager[None]:
        return _TransactionBlock(self._transaction_block(disposition))

    @contextmanager
    def _transaction_block(self, disposition: Disposition) -> Iterator[None]:
        session = self._require_session()
        session.refuse_inside()
        refuse_to_wait_for_itself(session)
        disposition = member("disposition", Disposition, disposition)
        beginning = Beginning(session, disposition)
        outside = _this_thread.sessions
        lost = False
        try:
            with self._lock:
                try:
                    self._beginning = beginning
                    beginning.wait()
                    _this_thread.sessions = (*outside, session)
                    yield
                    _this_thread.sessions = outside
                    if not self._closed:  # else the close has ended it
                        session.end_transaction(beginning, disposition)
                except GeneratorExit:  # thrown away: by a finalizer, at any moment and in any thread
                    session.abandon_transaction(beginning)
                    if session in _this_thread.sessions:
                        _this_thread.sessions = outside
                    lost = not self._lock._is_owned()  # type: ignore[attr-defined]
                    raise
                except BaseException:
                    _this_thread.sessions = outside
                    retry_if_interrupted(lambda: best_effort(beginning.leave))  # what went wrong is not hidden by what follows
                    raise
        except RuntimeError:
            if not lost:  # else the lock is another thread's, and cannot be given back here
                raise

    # The card's presence.

    @contextmanager
    def _while_present(self) -> Iterator[None]:
        removal = self._new_removal()
        leave_at_once = removal.driver.leaving(removal)
        self._begin_removal(removal)
        try:
            with cancellable() as scope:
                removal.begin(Anywhere(), lambda: scope.cancel() if removal.ended else None)
                try:
                    yield
                except WaitCancelledError:
                    if not removal.ended:
                        raise
        finally:
            leave_at_once()
            retry_if_interrupted(removal.leave)
            retry_if_interrupted(self._end_removal, removal)
            until_idle_blocking(removal.driver)
        if not removal.left:
            self._raise_removal(removal)

    # Closing.

    def close(self, disposition: Disposition | None = None) -> None:
        """Close the card; then offer it to the next waiter. Waits for an exchange in flight; does nothing the second time.

        Whatever interrupts it, Ctrl-C for instance, the card is closed. In a signal handler that has interrupted a call of this
        card it returns at once, and that call closes the card when it leaves; in a callback of the card's own `send` it is a
        RuntimeError.

        Args:
            disposition: what becomes of the card; None: RESET after EXCLUSIVE, so that nobody inherits a verified PIN, else LEAVE.
                While another program holds a transaction, everything but LEAVE waits for its end.
        """
        if disposition is not None:
            disposition = member("disposition", Disposition, disposition)
        self._check_process()
        session, acquisition = self._session, self._acquisition
        if session is not None:
            session.refuse_in_callback()
        if self._closed:
            return
        ended: SimpleQueue[Exception | None] = SimpleQueue()
        uninterrupted(self._hand_over_close, disposition, ended.put)
        if session is None or acquisition is None or (self._beginning is not None and self._beginning.pending):
            return  # where PC/SC still holds a call of an interrupted caller, the close comes behind it
        if session.is_inside():
            return  # a signal handler that interrupted a call of its own thread: the close comes behind that call
        error = None
        if self._worker is not None:
            error = _close_outcome(ended, self._worker.thread)
        until_idle_blocking(driver_of(acquisition.backend))
        if error is not None:
            raise error


def _close_outcome(ended: SimpleQueue[Exception | None], thread: threading.Thread) -> Exception | None:
    """The outcome of this close, the last that the thread does, once it has ended; None if another close was queued first."""
    while True:
        thread.join(SLICE)
        if not thread.is_alive():
            return None if ended.empty() else ended.get()


def _send_in_thread(
    session: Session,
    batch: list[PreparedCommand],
    judgement: Judgement | None,
    is_abandoned: Callable[[], bool],
    outcomes: SimpleQueue[R_APDU | BaseException | None],
) -> None:
    """In the card's thread: send a batch, unless nobody waits for it any more."""
    outcome: R_APDU | BaseException | None
    try:
        outcome = None if is_abandoned() else session.send(batch, None, is_abandoned, judgement)
    except BaseException as error:
        outcome = error
    outcomes.put(outcome)


def plain_callback(callback: Callback) -> Callback:
    """`callback`, which must not be a coroutine function."""

    def call(command: C_APDU, response: R_APDU) -> None:
        result = callback(command, response)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError("callback: a coroutine function cannot be awaited here; use scardface.SCard, or a plain function")

    return call


class _TransactionBlock(AbstractContextManager[None]):
    """The context manager of a transaction. It leaves the block also if an exception interrupts `__enter__`.

    `with` itself calls `__exit__` only after `__enter__` has returned.
    """

    __reduce_ex__ = refuse_copy

    def __init__(self, block: AbstractContextManager[None]) -> None:
        self._block = block
        self._thread = threading.current_thread()

    def __enter__(self) -> None:
        self._thread = threading.current_thread()
        try:
            self._block.__enter__()
        except BaseException as error:
            self._block.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._thread is not threading.current_thread():
            raise RuntimeError("a transaction is ended by the thread that began it")
        return self._block.__exit__(kind, error, traceback)


class Beginning:
    """The begin of a transaction; also the transaction's key in the session.

    If others share the card, it happens in a thread of its own, which undoes it if its caller has left meanwhile.
    """

    def __init__(self, session: Session, disposition: Disposition) -> None:
        self._session = session
        self._disposition = disposition
        self._begun = self._left = False  # each is set before the other is looked at: one of the two sees both
        self._thread: threading.Thread | None = None
        self._returned = False
        self._outcome: SimpleQueue[BaseException | None] = SimpleQueue()

    @property
    def pending(self) -> bool:
        """Whether PC/SC still holds the thread, which may live on for a moment after that."""
        return self._thread is not None and not self._returned

    def wait(self) -> None:
        """Return once the transaction has begun."""
        if self._session.share is ShareMode.EXCLUSIVE:
            self._begun = True
            self._session.begin_transaction(self)
            return
        self._thread = spawn("scardface-begin", self._begin)
        error = get(self._outcome)
        if error is not None:
            try:
                raise error
            finally:
                del error  # the frame in its traceback must not hold it

    def leave(self) -> None:
        """End it, or have it ended once it has begun."""
        self._left = True
        if self._begun:
            self._session.end_transaction(self, self._disposition)

    def _begin(self) -> None:
        error: BaseException | None = None
        try:
            self._session.begin_transaction(self)
            self._begun = True
        except BaseException as failure:
            error = failure
        if self._begun and self._left:
            best_effort(lambda: self._session.end_transaction(self, Disposition.LEAVE))
        self._returned = True
        self._outcome.put(error)
