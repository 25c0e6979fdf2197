"""The session: one open card, blocking.

Who owns what, who may call it from where, what ends it:

- A session owns its PC/SC context and its card handle. Any thread may call it; its lock lets one in at a time, for a whole batch,
  and PC/SC is never called outside the lock (fact 5: a second thread in one context freezes every PC/SC call of the process).
- The lock is not re-entrant: `send` from inside a batch's own callback is a RuntimeError, not a deadlock.
- A transaction spans several calls, so the lock is not held for it: who else may call meanwhile is the face's to say.
- `close` ends it: transactions, connection, context, then the word that the card is free. It is final, and never raises.
- On pcsc-lite the release is the disconnect: it resets the card of an EXCLUSIVE handle and leaves others as they are, which is just
  what a close wants. Any other disposition takes SCardDisconnect, which resets once no other program's transaction is in the way.
- A card found to be another one after a reconnect is lost for good: nothing is sent to a card that nobody chose.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import TypeVar

from ._apdu import C_APDU, R_APDU
from ._atr import ATR
from ._backend import ATTR_ATR_STRING, Backend, CardHandle, Context
from ._connect import connect, reconnect
from ._dialogue import Dialogue, converse
from ._enums import Disposition, Protocol, ShareMode
from ._events import Reading
from ._exchange import resolve_lengths
from ._exchanger import Asker, Exchanger, Hearer, Prepared
from ._loss import SessionClosedError, explained, quietly
from ._reader_states import reader_state
from ._wanted import Wanted
from .errors import (
    COMM_DATA_LOST,
    NOT_TRANSACTED,
    CardCommunicationError,
    CardRemovedError,
    SCardError,
    ServiceUnavailableError,
    again,
)

logger = logging.getLogger("scardface.session")

T = TypeVar("T")

_MOST_ENDS = 16
"""How many transactions pcsc-lite may have left behind in a handle that was EXCLUSIVE, at most."""


class Session:
    """One open card (see the head of this file). Made by `open`."""

    def __init__(
        self,
        context: Context,
        handle: CardHandle,
        protocols: Protocol,
        reader: str,
        reading: Reading,
        atr: bytes,
        wanted: Wanted,
        freed: Callable[[], None] | None = None,
        release_disconnects: bool = False,
    ) -> None:
        self._context = context
        self._handle = handle
        self._protocols = protocols
        self._wanted = wanted
        self._exchanger = Exchanger(reader, wanted, self._transmit, self._come_back)
        self.prepare = self._exchanger.prepare
        self._lock = threading.Lock()
        self._owner = 0  # the thread inside the lock
        self._begun = 0  # transactions that have not ended
        self._closed = False
        self._lost: CardRemovedError | None = None
        self._freed = freed or _nothing
        self._release_disconnects = release_disconnects
        self.reader = reader
        self.share = wanted.share
        self._settle(reading, atr)

    def _settle(self, reading: Reading, atr: bytes) -> None:
        """Take what a connect or reconnect has found; `reading` tells this card from the next."""
        self.reading = reading
        self.atr = ATR(atr)
        self.protocol = self._handle.protocol
        self.lengths = resolve_lengths(self._wanted.lengths, self.atr, self.protocol)
        self._exchanger.settle(self.protocol, self.lengths)

    @classmethod
    def open(cls, backend: Backend, reader: str, wanted: Wanted, freed: Callable[[], None]) -> Session:
        """Connect to the card in `reader`; blocks for as long as another program's transaction lasts (fact 4).

        Args:
            freed: called by `close` once the card is disconnected.
        """
        context = backend.establish()
        try:
            handle, protocols = connect(context, reader, wanted)
            try:
                reading = reader_state(context, reader)
                atr = handle.status().atr
                return cls(context, handle, protocols, reader, reading, atr, wanted, freed, backend.release_disconnects)
            except BaseException:
                if not backend.release_disconnects:
                    quietly(lambda: handle.disconnect(Disposition.LEAVE))
                raise
        except BaseException:
            quietly(context.release)
            raise

    def _inside(self, call: Callable[..., T], *args: object) -> T:
        """`call` inside the lock. A closed session, or one whose card is lost, lets nobody in.

        `with` takes the lock and answers for it in one step, so that no Ctrl-C comes in between and leaves it taken.
        """
        self.refuse_inside()
        with self._lock:
            try:
                self._owner = get_ident()
                if self._closed:
                    raise SessionClosedError("the card is closed")
                if self._lost is not None:
                    raise again(self._lost)
                return call(*args)
            finally:
                self._owner = 0

    def refuse_inside(self) -> None:
        """RuntimeError if this thread is inside a batch: it would wait for itself."""
        if self._owner == get_ident():
            raise RuntimeError("this card cannot be used from inside its own callback")

    # Exchanges.

    def send(self, batch: Sequence[Prepared], callback: Hearer | None = None, abandoned: Asker | None = None) -> R_APDU | None:
        """Exchange the commands in order, up to the first whose final status is not 9000; see `Exchanger.run`."""
        return self._inside(self._exchanger.run, batch, callback, abandoned)

    def send_one(self, command: C_APDU) -> R_APDU | None:
        """`send` for one plain command; see `Exchanger.run_one`."""
        return self._inside(self._exchanger.run_one, command)

    def transmit(self, data: bytes) -> bytes:
        """One raw exchange, as it is."""
        return self._inside(self._transmit, data)

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

    def _explained(self, error: SCardError) -> SCardError:
        return explained(error, self._handle, self._context, self.reader, self.reading)

    def _told(self, call: Callable[..., T], *args: object) -> T:
        """One call of PC/SC; its failure as it is for an open card."""
        try:
            return call(*args)
        except SCardError as error:
            failure = self._explained(error)
            if failure is error:
                raise
            raise failure from error

    # Transactions.

    def begin(self) -> int:
        """SCardBeginTransaction: waits for another's transaction to end, and nothing cancels that (fact 4). They nest.

        Returns:
            How many there are now: the number of this one, for `end`.
        """
        return self._inside(self._begin)

    def _begin(self) -> int:
        self._told(self._handle.begin_transaction)
        self._begun += 1
        return self._begun

    def end(self, number: int, disposition: Disposition) -> None:
        """SCardEndTransaction; never waits. One that is over with its card, its service or (Windows) a reconnect is over.

        The reset of SCardEndTransaction would turn against our own handle as well; that of SCardReconnect does not (fact 33).

        Args:
            number: which one, from `begin`; nothing happens if it has ended, so an interrupted caller may end it again.
        """
        try:
            self._inside(self._end, number, disposition)
        except (CardRemovedError, ServiceUnavailableError) as error:
            logger.debug("at the end of a transaction: %s", error)

    def _end(self, number: int, disposition: Disposition) -> None:
        if self._begun < number:
            return
        try:
            if disposition in (Disposition.RESET, Disposition.UNPOWER):
                self._reattach(self.share, self._protocols, disposition)
                disposition = Disposition.LEAVE
        finally:
            try:
                self._handle.end_transaction(disposition)
            except SCardError as error:
                if error.code != NOT_TRANSACTED:
                    raise self._explained(error) from error
                logger.debug("no transaction is left: %s", error)
            finally:
                self._begun = number - 1

    # The connection.

    def reset(self, disposition: Disposition) -> None:
        """SCardReconnect with a RESET (warm) or UNPOWER (cold); waits for another's transaction to end."""
        self._inside(self._reattach, self.share, self._protocols, disposition)

    def reconnect(self, share: ShareMode, protocols: Protocol | None) -> None:
        """SCardReconnect, which leaves the card as it is; waits for another's transaction, and to be alone for EXCLUSIVE.

        Args:
            protocols: None: those that were asked for before.

        Raises:
            RuntimeError: another share mode, inside a transaction.
        """
        if self._begun and share is not self.share:
            raise RuntimeError("the share mode cannot change inside a transaction")
        protocols = self._protocols if protocols is None else protocols
        self._inside(self._reattach, share, protocols, Disposition.LEAVE)

    def _reattach(self, share: ShareMode, protocols: Protocol, disposition: Disposition) -> None:
        try:
            reading, atr = reconnect(self._context, self._handle, self.reader, self.reading, share, protocols, disposition)
        except SCardError as error:
            failure = self._explained(error)
            if isinstance(failure, CardRemovedError):
                self._lost = failure
            raise failure from error
        if self.share is ShareMode.EXCLUSIVE and share is not ShareMode.EXCLUSIVE:
            self._unlock()
        self.share, self._protocols = share, protocols
        self._settle(reading, atr)

    def _come_back(self) -> None:
        """Reconnect after a reset by another, to go on as before."""
        self._reattach(self.share, self._protocols, Disposition.LEAVE)

    def _unlock(self) -> None:
        """pcsc-lite keeps the lock of a handle that was EXCLUSIVE until its transactions have ended."""
        try:
            for _ in range(_MOST_ENDS):
                self._handle.end_transaction(Disposition.LEAVE)
        except SCardError as error:
            logger.debug("no transaction is left: %s", error)

    # The reader.

    def converse(self, dialogue: Dialogue[T]) -> T:
        """Run a talk with the reader. These calls never wait: SHARING_VIOLATION in another's transaction (fact 4)."""
        return self._inside(lambda: self._told(lambda: converse(dialogue, self._handle.control)))

    def control(self, code: int, data: bytes) -> bytes:
        """SCardControl."""
        return self._inside(lambda: self._told(self._handle.control, code, data))

    def get_attribute(self, attribute: int) -> bytes:
        """SCardGetAttrib."""
        return self._inside(lambda: self._told(self._handle.get_attribute, attribute))

    def set_attribute(self, attribute: int, value: bytes) -> None:
        """SCardSetAttrib."""
        self._inside(lambda: self._told(self._handle.set_attribute, attribute, value))

    def check(self) -> None:
        """Raise if the card, its reader or the service is known to be lost. Never waits for another program."""
        try:
            self.get_attribute(ATTR_ATR_STRING)
        except (CardRemovedError, ServiceUnavailableError):
            raise
        except SCardError as error:
            # It says nothing about the card: a driver without the attribute, another's transaction, a reset.
            logger.debug("the card is there, as far as is known: %s", error)

    def close(self, disposition: Disposition | None = None) -> None:
        """Disconnect and release; then the card is free. Waits for an exchange in flight. Does nothing the second time.

        Args:
            disposition: None: RESET after EXCLUSIVE, so that nobody inherits a verified PIN, else LEAVE.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            usual = Disposition.RESET if self.share is ShareMode.EXCLUSIVE else Disposition.LEAVE
            if disposition is None:
                disposition = usual
            for _ in range(self._begun):  # a context released inside one has the card reset (fact 31)
                quietly(lambda: self._handle.end_transaction(Disposition.LEAVE))
            if disposition is not usual or not self._release_disconnects:
                if disposition is not Disposition.LEAVE:
                    quietly(self._handle.begin_transaction)  # a disconnect that waits would keep others waiting
                quietly(lambda: self._handle.disconnect(disposition))
            quietly(self._context.release)
            self._freed()


def _nothing() -> None:
    """Nobody waits for this card."""
