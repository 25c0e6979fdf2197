"""The sync faces: the same words without `await`, for scripts and threads.

Who owns what, who may call it from where, what ends it:

- Waiting (acquiring, `wait`, a monitor) happens in the caller's own thread, in slices, until the driver or the card's thread says
  how it ends. The object that owns the wait exists before it begins, so whatever interrupts the caller, Ctrl-C first of all, ends
  it.
- An open card owns a thread, the one that connected it. It closes the card, so that neither Ctrl-C nor a signal handler waits for
  PC/SC.
- `send` and `transmit` call the blocking session in the caller's own thread. Several threads may share one card: the session's lock
  lets one batch in at a time.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import TracebackType

from ._enums import Disposition, Lengths, Protocol, ShareMode
from ._faces import queries
from ._faces.card import cancel_all, commands, raw_command
from ._faces.routes import Callback, Channel
from ._faces.scard import SCard as AsyncSCard
from ._faces.sync_calls import SyncCalls, refuse_to_wait_for_itself, with_arguments_of
from ._faces.sync_monitor import ReaderMonitor
from ._pcsc.backend import Backend
from ._pcsc.events import (
    CardInserted,
    CardRemoved,
    Event,
    EventsLost,
    ReaderAdded,
    ReaderRemoved,
    ReaderState,
    ServiceDown,
    ServiceUp,
)
from ._pcsc.other_programs import other_programs
from ._reader.attributes import Attribute
from ._reader.features import EntryEnd, Feature, ReaderProperties, control_code
from ._reader.pin_entry import PinEntry, PinFormat
from ._reader.pin_pad import PadResult
from ._rlock import RLock
from ._session.card_request import ANY_PROTOCOL, DEFAULT_OPTIONS, Groups, OnReset, Readers, member, serial
from ._session.session import Session
from ._threads import CancelScope, cancellable, retry_if_interrupted, uninterrupted
from ._waiting.acquisition import acquire_blocking
from ._waiting.driver import driver_of, until_idle_blocking
from ._waiting.removal import Removal, wait_blocking
from .errors import (
    CANCELLED,
    CardCommunicationError,
    CardRemovedError,
    CardResetError,
    CardTimeoutError,
    LayerClosedError,
    NoCardError,
    NoReaderError,
    ProtocolMismatchError,
    SCardError,
    ServiceUnavailableError,
    SharingViolationError,
    WaitCancelledError,
)
from .iso7816._apdu import C_APDU, R_APDU, Buffer, StatusError
from .iso7816._atr import ATR
from .iso7816._channel import OPEN, close_command, opened
from .iso7816._exchange import ExchangeOptions
from .iso7816._layer import Layer

_LAST_WORD = 0.2
"""Seconds that a thread whose work is done has to be gone."""

__all__ = [
    "ATR",
    "Attribute",
    "C_APDU",
    "CancelScope",
    "CardCommunicationError",
    "CardInserted",
    "CardRemoved",
    "CardRemovedError",
    "CardResetError",
    "CardTimeoutError",
    "Disposition",
    "EntryEnd",
    "Event",
    "EventsLost",
    "ExchangeOptions",
    "Feature",
    "Layer",
    "LayerClosedError",
    "Lengths",
    "NoCardError",
    "NoReaderError",
    "PadResult",
    "PinEntry",
    "PinFormat",
    "Protocol",
    "ProtocolMismatchError",
    "R_APDU",
    "ReaderAdded",
    "ReaderMonitor",
    "ReaderProperties",
    "ReaderRemoved",
    "ReaderState",
    "SCard",
    "SCardError",
    "ServiceDown",
    "ServiceUnavailableError",
    "ServiceUp",
    "ShareMode",
    "SharingViolationError",
    "StatusError",
    "WaitCancelledError",
    "cancel_all",
    "cancellable",
    "control_code",
    "groups",
    "other_programs",
    "readers",
    "serial",
    "states",
]


@with_arguments_of(AsyncSCard)
class SCard(SyncCalls):
    """A smart card: the constructor waits for one that matches and opens it; Ctrl-C ends the wait.

    `with SCard(...) as card:` or `close()` closes it. Several threads may share one card: exchanges never interleave. `cancel()`
    works from the moment that `__init__` began: a subclass that stores `self` first can be cancelled from another thread while it
    waits. One SCard is one acquisition. A card that is already in counts; waiters of the whole process are served oldest first.
    """

    _verb = "its constructor opens it"

    def __init__(
        self,
        readers: Readers = None,
        groups: Groups = None,
        timeout: float | None = -1,
        atr: bytes | re.Pattern[bytes] | None = None,
        pnp: bool = False,
        *,
        share: ShareMode = ShareMode.EXCLUSIVE,
        protocols: Protocol = ANY_PROTOCOL,
        lengths: Lengths = Lengths.AUTO,
        options: ExchangeOptions = DEFAULT_OPTIONS,
        settle: float = 0.0,
        new_only: bool = False,
        on_reset: OnReset = "raise",
        wait_for_reader: bool = False,
        backend: Backend | None = None,
    ) -> None:
        self._turn = RLock()
        self._wish(
            *(readers, groups, timeout, atr, pnp, share, protocols, lengths, options, settle, new_only, on_reset),
            *(wait_for_reader, backend),
        )
        request = self._begin()
        try:
            acquire_blocking(request, self._take)
            if self._closed:
                raise WaitCancelledError("the card was closed while it was waited for", CANCELLED)
        except BaseException:
            retry_if_interrupted(request.leave)
            raise

    def _take(self, session: Session) -> None:
        """Take over what the acquisition has opened."""
        assert self._request is not None
        self._session, self._worker = session, self._request.worker

    def __enter__(self) -> SCard:
        self._opened()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def send(self, *apdus: C_APDU | Buffer, callback: Callback | None = None) -> R_APDU:
        """Send commands in order; stop after the first whose final status is not 9000.

        The caller never sees 61xx, 6Cxx, T=0's missing Le or chaining (ISO 7816-4:2020, 5.3; ISO 7816-3:2006, 12). No other
        thread's exchange comes in between.

        On a card that is SHARED it holds a transaction from before its first step to after its last, so that no other program's
        command comes in between, nor between 61xx and GET RESPONSE or the parts of a chain. That is two more calls of PC/SC, and it
        waits for another program's transaction. Inside `transaction()` and with EXCLUSIVE there is nothing to add. With a callback
        there is one for each command, which has ended when the callback runs.

        Args:
            apdus: each a C_APDU, or an encoded command (re-encoded in the shortest form).
            callback: `callback(command, response)` after each of them, in this thread, before the next goes out. Its exception ends
                the batch. It cannot send on this card, and cannot be a coroutine function (TypeError). None: the exchange is logged
                at DEBUG by the logger "scardface.apdu", secrets left out.

        Returns:
            The last response.

        Raises:
            ValueError, TypeError: nothing or no command; raised before anything is sent.
            CardRemovedError, CardResetError, CardCommunicationError, ServiceUnavailableError: what became of the card.
            RuntimeError: the card is closed, or is called from inside its own callback.
        """
        return self._exchange(commands(apdus), callback, None)

    def _exchange(self, commands: list[C_APDU], callback: Callback | None, layer: Layer | None) -> R_APDU:
        session = self._opened()
        refuse_to_wait_for_itself(session)
        with self._turn:
            batch = session.prepare(commands, layer)  # at its turn: the one before may have changed the protocol
            response = session.send(batch, None if callback is None else _plain(callback))
        assert response is not None, "only an abandoned batch has no response"
        return response

    def transmit(self, data: bytes) -> bytes:
        """One raw exchange, verbatim: what the card answers to exactly these bytes, 61xx and 6Cxx included.

        Args:
            data: at least 4 bytes.

        Returns:
            Data and status word, at least 2 bytes.

        Raises:
            ValueError: shorter than that; and as `send`.
        """
        raw = raw_command(data)
        return self._do(lambda session: session.transmit(raw))

    @contextmanager
    def channel(self) -> Iterator[Channel[R_APDU]]:
        """Open a logical channel and close it at the end of the block (ISO 7816-4:2020, 11.1.2): `with card.channel() as ch`.

        Returns:
            What the block gets: `ch.send(...)` and `ch.layer(...)` as the card's, `ch.number` from 1 to 19.

        Raises:
            StatusError: the card refuses to open or to close it.
            CardCommunicationError: the card answers no channel number; and as `send`.
        """
        channel = Channel(self._exchange, opened(self.send(OPEN)))
        try:
            yield channel
        except BaseException:
            with suppress(Exception):  # what went wrong is not hidden by what follows
                self.send(close_command(channel.number))
            raise
        self.send(close_command(channel.number)).check()

    def wait(self) -> None:
        """Return once this card is gone: taken out, swapped, its reader unplugged; at once if it is already. Ctrl-C ends the wait.

        Raises:
            ServiceUnavailableError: the PC/SC service went, and the card's session with it.
            WaitCancelledError: `cancel()`, or the card was closed meanwhile.
            RuntimeError: the card is closed.
        """
        session, worker = self._opened(), self._worker
        assert self._request is not None
        assert worker is not None
        removal = Removal(session, self._request.backend, worker.submit)
        self._begin_removal(removal)
        try:
            wait_blocking(removal)
        finally:
            retry_if_interrupted(self._end_removal, removal)

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
        session, request = self._session, self._request
        if session is not None:
            session.refuse_in_callback()
        if self._closed:
            return
        ended: SimpleQueue[Exception | None] = SimpleQueue()
        uninterrupted(self._hand_over_close, disposition, ended.put)
        if session is None or request is None or (self._beginning is not None and self._beginning.pending):
            return  # where PC/SC still holds a call of an interrupted caller, the close comes behind it
        if session.is_inside():
            return  # a signal handler that interrupted a call of its own thread: the close comes behind that call
        error = None
        if self._worker is not None:
            error = _answer(ended, self._worker.thread)
            self._worker.thread.join(_LAST_WORD)
        until_idle_blocking(driver_of(request.backend))
        if error is not None:
            raise error

    def _hand_over_close(self, disposition: Disposition | None, ended: Callable[[Exception | None], object]) -> None:
        """Queue the close in the card's thread, where no Ctrl-C and no signal handler waits for it."""
        self._closed = True
        self._cancel_removals()
        session, worker = self._session, self._worker
        if session is not None and worker is not None:
            worker.submit(_close, session, disposition, ended)
            worker.finish()
        elif self._request is not None:
            self._request.cancel()  # a thread that still acquires

    def _close_from_collector(self) -> None:
        self._hand_over_close(None, _nothing)


def _answer(ended: SimpleQueue[Exception | None], thread: threading.Thread) -> Exception | None:
    """What came of a close; None if another's, of a thread or a signal handler, came first: behind it the card's thread ends."""
    while True:
        alive = thread.is_alive()
        try:
            return ended.get(timeout=_LAST_WORD)
        except Empty:
            if not alive:
                return None


def _nothing(error: Exception | None) -> None:
    """Nobody waits for the close."""


def _close(session: Session, disposition: Disposition | None, ended: Callable[[Exception | None], object]) -> None:
    """In the card's thread."""
    try:
        session.close(disposition)
    except Exception as error:  # a backend's own
        ended(error)
    else:
        ended(None)


def _plain(callback: Callback) -> Callback:
    """`callback`, which must not be a coroutine function."""

    def call(command: C_APDU, response: R_APDU) -> None:
        result = callback(command, response)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError("callback: a coroutine function cannot be awaited here; use scardface.SCard, or a plain function")

    return call


def readers(group: str | None = None, *, timeout: float | None = queries.PATIENCE) -> tuple[str, ...]:
    """The names of the readers plugged in, in PC/SC's order.

    Args:
        group: only those of this reader group, where PC/SC keeps groups (pcsc-lite does not).
        timeout: seconds that the service has to answer. 0: 1 s; None and -1: for ever.

    Raises:
        ServiceUnavailableError: no PC/SC service, or none that answers within `timeout`.
    """
    return queries.list_readers(group, timeout)


def groups(*, timeout: float | None = queries.PATIENCE) -> tuple[str, ...]:
    """The names of the reader groups.

    Args:
        timeout: seconds that the service has to answer. 0: 1 s; None and -1: for ever.

    Raises:
        ServiceUnavailableError: no PC/SC service, or none that answers within `timeout`.
    """
    return queries.list_groups(timeout)


def states(*, timeout: float | None = queries.PATIENCE) -> Mapping[str, ReaderState]:
    """Reader name to `ReaderState`: one look at all readers, without a monitor.

    Args:
        timeout: seconds that the service has to answer. 0: 1 s; None and -1: for ever.

    Raises:
        ServiceUnavailableError: no PC/SC service, or none that answers within `timeout`.
    """
    return queries.list_states(timeout)
