"""The session: one open card, blocking.

Who owns what, who may call it from where, what ends it:

- A session owns its PC/SC context and its card handle. Any thread may call it; its lock lets one in at a time, for a whole batch,
  and PC/SC is never called outside the lock (fact 5: a second thread in one context freezes every PC/SC call of the process).
- The lock is not re-entrant: `send` from inside a batch's own callback is a RuntimeError, not a deadlock.
- `close` ends it: disconnect and release, then the word that the card is free. It is final, and never raises.
- On pcsc-lite the release is the disconnect: it resets the card of an EXCLUSIVE handle and leaves others as they are, which is just
  what a close wants. SCardDisconnect itself walks libpcsclite's list of contexts without its lock, while another thread may be
  releasing one: of 4 processes that did both for 8 s one crashed (1.9.9; 2.3.3 has the same code), without SCardDisconnect none.

What PC/SC's codes mean for an open card (facts 28, 33 to 35): a reader that is gone is a card that is gone; an exchange that
failed, or was answered with nothing, is a card that is gone if the reader says so within the time of a driver's poll, else bad
communication. A reset by somebody else stays a reset.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from ._apdu import C_APDU, R_APDU, redacted
from ._atr import ATR
from ._backend import ATTR_ATR_STRING, Backend, CardHandle, Context
from ._enums import Disposition, ShareMode, StateFlag
from ._events import CHANGED, Reading, same_card
from ._exchange import exchange, resolve_lengths
from ._wanted import Wanted
from .errors import (
    COMM_DATA_LOST,
    INVALID_VALUE,
    NO_SMARTCARD,
    NOT_TRANSACTED,
    READER_UNAVAILABLE,
    REMOVED_CARD,
    UNKNOWN_READER,
    CardCommunicationError,
    CardRemovedError,
    SCardError,
    ServiceUnavailableError,
    as_error,
)

logger = logging.getLogger("scardface.apdu")
_session_logger = logging.getLogger("scardface.session")

DRIVER_POLL = 500
"""Milliseconds after which a removal has been noticed: drivers are polled every 400 ms (fact 12)."""

_GONE = frozenset({REMOVED_CARD, READER_UNAVAILABLE, UNKNOWN_READER, NO_SMARTCARD})
_PERHAPS_GONE = frozenset({NOT_TRANSACTED, COMM_DATA_LOST, INVALID_VALUE})

Prepared: TypeAlias = "tuple[C_APDU, Generator[bytes, bytes, R_APDU]]"
"""A command of the caller's and the exchange that carries it, checked and not begun."""


class SessionClosedError(RuntimeError):
    """The card was closed."""


class Session:
    """One open card (see the head of this file). Made by `open`."""

    def __init__(self, context: Context, handle: CardHandle, reader: str, reading: Reading, atr: bytes, wanted: Wanted) -> None:
        self._context = context
        self._handle = handle
        self._wanted = wanted
        self._lock = threading.Lock()
        self._owner = 0  # the thread inside the lock
        self._closed = False
        self._freed: Callable[[], None] = _nothing
        self._release_disconnects = False
        self.reader = reader
        self.reading = reading
        """What the reader showed at the time of the connect: tells this card from the next."""
        self.atr = ATR(atr)
        self.protocol = handle.protocol
        self.lengths = resolve_lengths(wanted.lengths, self.atr, self.protocol)

    @classmethod
    def open(cls, backend: Backend, reader: str, wanted: Wanted, freed: Callable[[], None]) -> Session:
        """Connect to the card in `reader`; blocks for as long as another program's transaction lasts (fact 4).

        Args:
            freed: called by `close` once the card is disconnected.
        """
        context = backend.establish()
        try:
            handle = context.connect(reader, wanted.share, wanted.protocols)
            try:
                # In this order: a status that is answered says that the card which was read is the card that is connected.
                entry = context.get_status_change(0, [(reader, StateFlag.UNAWARE)]).entries[0]
                atr = handle.status().atr
                session = cls(context, handle, reader, Reading.of(entry.state, entry.atr), atr, wanted)
                session._freed = freed
                session._release_disconnects = backend.release_disconnects
                return session
            except BaseException:
                if not backend.release_disconnects:
                    quietly(lambda: handle.disconnect(Disposition.LEAVE))
                raise
        except BaseException:
            quietly(context.release)
            raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock. A closed session lets nobody in."""
        me = threading.get_ident()
        if self._owner == me:
            raise RuntimeError("send() and transmit() on this card cannot be called from inside its own callback")
        with self._lock:
            if self._closed:
                raise SessionClosedError("the card is closed")
            self._owner = me
            try:
                yield
            finally:
                self._owner = 0

    def prepare(self, commands: Sequence[C_APDU]) -> list[Prepared]:
        """The exchanges of `commands`.

        Raises:
            ValueError: one of them cannot be sent to this card; nothing has been sent.
        """
        return [(command, exchange(command, self.protocol, self.lengths, self._wanted.options)) for command in commands]

    def send(
        self,
        batch: Sequence[Prepared],
        callback: Callable[[C_APDU, R_APDU], object] | None = None,
        abandoned: Callable[[], bool] | None = None,
    ) -> R_APDU | None:
        """Exchange the commands in order, up to the first whose final status is not 9000.

        Args:
            batch: at least one command, from `prepare`.
            callback: called after each command, before the next goes out.
            abandoned: asked before each command; True ends the batch.

        Returns:
            The last response; None if the batch was abandoned before its first command.
        """
        response: R_APDU | None = None
        with self._alone():
            for command, steps in batch:
                if abandoned is not None and abandoned():
                    break
                response = self._exchange(steps)
                if logger.isEnabledFor(logging.DEBUG):
                    logger.debug("%s: %s -> %s", self.reader, redacted(command), redacted(response))
                if callback is not None:
                    callback(command, response)
                if response.sw != 0x9000:
                    break
        return response

    def _exchange(self, steps: Generator[bytes, bytes, R_APDU]) -> R_APDU:
        try:
            data = next(steps)
            while True:
                try:
                    answer = self._transmit(data)
                except SCardError as error:
                    data = steps.throw(error)  # it knows which step that was
                else:
                    data = steps.send(answer)
        except StopIteration as end:
            response: R_APDU = end.value
            return response
        except CardCommunicationError as error:  # what the exchange itself found wrong knows no reader
            if error.reader:
                raise
            raise CardCommunicationError(f"reader {self.reader!r}: {error}", error.code, error.call, self.reader) from error

    def transmit(self, data: bytes) -> bytes:
        """One raw exchange, as it is."""
        with self._alone():
            return self._transmit(data)

    def _transmit(self, data: bytes) -> bytes:
        try:
            answer = self._handle.transmit(data)
        except SCardError as error:
            raise self._explained(error) from error
        if len(answer) >= 2:
            return answer
        short = CardCommunicationError(
            f"SCardTransmit on reader {self.reader!r}: an answer of {len(answer)} bytes, where a status word has two; "
            "the card may have been pulled, or be broken",
            COMM_DATA_LOST,
            "SCardTransmit",
            self.reader,
        )
        raise self._explained(short)

    def check(self) -> None:
        """Raise if the card, its reader or the service is known to be lost. Never waits for another program."""
        with self._alone():
            try:
                self._handle.get_attribute(ATTR_ATR_STRING)
            except SCardError as error:
                explained = self._explained(error)
                if isinstance(explained, (CardRemovedError, ServiceUnavailableError)):
                    raise explained from error
                # Anything else says nothing about the card: a driver without the attribute, another's transaction, a reset.

    def _explained(self, error: SCardError) -> SCardError:
        """`error` as it is for an open card."""
        if isinstance(error, CardRemovedError):
            return error
        if error.code in _GONE or (error.code in _PERHAPS_GONE and self._is_gone()):
            return as_error(CardRemovedError, error, f"the card was taken out of reader {self.reader!r}, or the reader unplugged")
        return error

    def _is_gone(self) -> bool:
        """Whether the card is gone, or goes within the time that a driver needs to notice."""
        seen = self.reading
        state = seen.counter << 16 | seen.flags
        end = time.monotonic() + DRIVER_POLL / 1000
        while seen.present:
            left = max(0, int(1000 * (end - time.monotonic())))
            try:
                change = self._context.get_status_change(left, [(self.reader, state)])
            except SCardError as error:
                return error.code in _GONE
            entry = change.entries[0]
            if not same_card(seen, Reading.of(entry.state, entry.atr)):
                return True
            if change.timed_out or not left:
                break
            state = entry.state & ~CHANGED  # only who else uses it changed
        return False

    def close(self, disposition: Disposition | None = None) -> None:
        """Disconnect and release; then the card is free. Waits for an exchange in flight. Does nothing the second time.

        Args:
            disposition: None: RESET after EXCLUSIVE, so that nobody inherits a verified PIN, else LEAVE.
        """
        usual = Disposition.RESET if self._wanted.share is ShareMode.EXCLUSIVE else Disposition.LEAVE
        if disposition is None:
            disposition = usual
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if disposition is not usual or not self._release_disconnects:
                quietly(lambda: self._handle.disconnect(disposition))
            quietly(self._context.release)
            self._freed()


def quietly(call: Callable[[], object]) -> None:
    """A step of a clean-up: what is gone already needs none."""
    try:
        call()
    except (SCardError, SessionClosedError) as error:
        _session_logger.debug("at the close of a card: %s", error)


def _nothing() -> None:
    """Nobody waits for this card."""
