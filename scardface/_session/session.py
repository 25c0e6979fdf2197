"""The session: one open card, blocking.

Who owns what, who may call it from where, what ends it:

- A session owns its PC/SC context and its card handle. Any thread may call it; its lock lets one in at a time, for a whole batch,
  and PC/SC is never called outside the lock (fact 5: a second thread in one context freezes every PC/SC call of the process).
- Where others share the card, `send` holds a transaction from before its first step to after its last, so that nobody else's
  command comes in between (fact 64). Inside a transaction of the caller's it has one.
- A transaction of the caller's spans several calls, so the lock is not held for it: who else may call meanwhile is the face's to
  say. PC/SC is told of the outermost alone.
- `close` ends it: transactions, connection, context, then the word that the card is free. It is final, and never raises.
- On pcsc-lite the release is the disconnect: it resets the card of an EXCLUSIVE handle and leaves others as they are, which is just
  what a close wants. Any other disposition takes SCardDisconnect, which resets once no other program's transaction is in the way.
- A card found to be another one after a reconnect is lost for good: nothing is sent to a card that nobody chose.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from .._enums import Disposition, Protocol, ShareMode
from .._pcsc.backend import ATTR_ATR_STRING, Backend, CardHandle, Context, reconnect_ends_transaction
from .._pcsc.events import Reading
from .._pcsc.ownership import refuse_copy
from .._pcsc.reader_states import reader_state
from .._reader.control_exchange import ControlExchange, run
from ..errors import (
    COMM_DATA_LOST,
    NOT_TRANSACTED,
    RESET_CARD,
    CardCommunicationError,
    CardRemovedError,
    CardResetError,
    SCardError,
    ServiceUnavailableError,
    fresh_copy,
)
from ..iso7816._apdu import C_APDU, R_APDU
from ..iso7816._atr import ATR
from ..iso7816._exchange import resolve_lengths
from .card_request import CardRequest
from .card_state import best_effort, translate
from .connect import connect, reconnect
from .exchanger import Asker, Exchanger, Hearer, Prepared
from .session_lock import SessionLock
from .transactions import Transactions

logger = logging.getLogger("scardface.session")

T = TypeVar("T")

_MOST_ENDS = 16
"""How many transactions pcsc-lite may have left behind in a handle that was EXCLUSIVE, at most."""


class Session:
    """One open card (see the head of this file). Made by `open`."""

    __reduce_ex__ = refuse_copy

    def __init__(
        self,
        context: Context,
        handle: CardHandle,
        protocols: Protocol,
        reader: str,
        reading: Reading,
        atr: bytes,
        request: CardRequest,
        freed: Callable[[], None] | None = None,
        release_disconnects: bool = False,
        reconnect_ends_transaction: bool = False,
    ) -> None:
        self._context = context
        self._handle = handle
        self._protocols = protocols
        self._request = request
        self._exchanger = Exchanger(reader, request, self._transmit, self._come_back)
        self.prepare = self._exchanger.prepare
        self._transactions = Transactions(handle, self._translate, self._come_back)
        self.open_transactions = self._transactions.begun  # the caller's that have not ended
        self._reset_told = False
        self._lock = SessionLock(self._enter, self._transactions.let_go, self._disconnect, freed or _nothing)
        self._lost: CardRemovedError | None = None
        self._release_disconnects = release_disconnects
        self._reconnect_ends_transaction = reconnect_ends_transaction
        self.reader = reader
        self.card_key = 0, reader  # the same for all sessions on one card of one PC/SC
        self.share = request.share
        self._settle(reading, atr)

    def _settle(self, reading: Reading, atr: bytes) -> None:
        """Take what a connect or reconnect has found; `reading` tells this card from the next."""
        self.reading = reading
        self.atr = ATR(atr)
        self.protocol = self._handle.protocol
        self.lengths = resolve_lengths(self._request.lengths, self.atr, self.protocol)
        # DIRECT is shared on pcsc-lite (fact 26); without a protocol there is no command to protect.
        self._shares = self.share is not ShareMode.EXCLUSIVE and self.protocol != Protocol.UNDEFINED
        self._exchanger.settle(self.protocol, self.lengths)

    @classmethod
    def open(
        cls, backend: Backend, reader: str, request: CardRequest, freed: Callable[[], None], context: Context | None = None
    ) -> Session:
        """Connect to the card in `reader`; blocks for as long as another program's transaction lasts (fact 4).

        Args:
            freed: called by `close` once the card is disconnected.
            context: a context to connect in, the session's from now on; None: a new one.
        """
        if context is None:
            context = backend.establish()
        try:
            handle, protocols = connect(context, reader, request)
            try:
                reading = reader_state(context, reader)
                atr = handle.status().atr
                ways = backend.release_disconnects, reconnect_ends_transaction(backend)
                session = cls(context, handle, protocols, reader, reading, atr, request, freed, *ways)
                session.card_key = id(backend), reader
                return session
            except BaseException:
                if not backend.release_disconnects:
                    best_effort(lambda: handle.disconnect(Disposition.LEAVE))
                raise
        except BaseException:
            best_effort(context.release)
            raise

    def _enter(self) -> None:
        if self._lost is not None:
            raise fresh_copy(self._lost)
        self._transactions.end_given_up()

    def refuse_inside(self) -> None:
        """RuntimeError if this thread is inside a call: it would wait for itself."""
        self._lock.refuse_inside()

    def is_inside(self) -> bool:
        """Whether this thread is inside a call."""
        return self._lock.is_inside()

    def refuse_in_callback(self) -> None:
        """RuntimeError if this thread is inside a batch's callback."""
        self._lock.refuse_in_callback()

    # Exchanges.

    def send(self, batch: Sequence[Prepared], callback: Hearer | None = None, abandoned: Asker | None = None) -> R_APDU | None:
        """Exchange the commands in order, up to the first whose final status is not 9000; see `Exchanger.run`.

        Args:
            callback: called after each command, before the next goes out, outside a transaction that `send` has begun.
        """
        if callback is None:
            return self._lock.call(self._send, batch, abandoned)
        return self._lock.call(self._send_each, batch, callback, abandoned)

    def _send(self, batch: Sequence[Prepared], abandoned: Asker | None) -> R_APDU | None:
        """Commands with nobody else's in between."""
        self._protect(batch[0][2])
        response = self._exchanger.run(batch, abandoned)
        self._transactions.let_go()
        return response

    def _send_each(self, batch: Sequence[Prepared], callback: Hearer, abandoned: Asker | None) -> R_APDU | None:
        response: R_APDU | None = None
        for answered, prepared in enumerate(batch):
            try:
                response = self._send([prepared], abandoned)
            except CardRemovedError as error:
                error.answered = answered
                raise
            if response is None:
                return None
            self._lock.call_back(callback, prepared[0], response)
            if response.sw != 0x9000:
                break
        return response

    def send_one(self, command: C_APDU) -> R_APDU | None:
        """`send` for one plain command; see `Exchanger.run_one`."""
        return self._lock.call(self._send_one, command)

    def _send_one(self, command: C_APDU) -> R_APDU | None:
        way = self._exchanger.short_way(command)
        if way is None:
            return None
        self._protect(False)
        response = self._exchanger.run_one(command, way)
        self._transactions.let_go()
        return response

    def _protect(self, recovers: bool) -> None:
        """Have a transaction for what follows, where others share the card; it ends with the call at the latest."""
        if self._shares:
            try:
                self._transactions.hold(recovers)
            except CardRemovedError as error:
                error.answered = 0
                raise

    def transmit(self, data: bytes) -> bytes:
        """One raw exchange, as it is."""
        return self._lock.call(self._transmit_one, data)

    def _transmit_one(self, data: bytes) -> bytes:
        if self._transactions.begun:
            self._transactions.hold()  # a reconnect that failed may have ended it
        return self._transmit(data)

    def _transmit(self, data: bytes) -> bytes:
        try:
            answer = self._handle.transmit(data)
        except SCardError as error:
            raise self._translate(error) from error
        if len(answer) >= 2:
            return answer
        short = CardCommunicationError(
            f"SCardTransmit on reader {self.reader!r}: an answer of {len(answer)} bytes, where a status word has two; "
            "the card may have been pulled, or be broken",
            COMM_DATA_LOST,
            "SCardTransmit",
            self.reader,
        )
        raise self._translate(short)

    def _translate(self, error: SCardError) -> SCardError:
        failure = translate(error, self._handle, self._context, self.reader, self.reading)
        self._reset_told = self._reset_told or isinstance(failure, CardResetError)
        return failure

    def _pcsc_call(self, call: Callable[..., T], *args: object) -> T:
        """One call of PC/SC; its failure as it is for an open card."""
        try:
            return call(*args)
        except SCardError as error:
            failure = self._translate(error)
            if failure is error:
                raise
            raise failure from error

    # Transactions.

    def begin(self, transaction: object) -> None:
        """SCardBeginTransaction: waits for another's transaction to end, and nothing cancels that (fact 4). They nest.

        Args:
            transaction: made by the caller before, to name it by. Interrupted, a caller calls `end` with it.
        """
        self._lock.call(self._transactions.begin, transaction, self._request.on_reset == "reconnect")

    def end(self, transaction: object, disposition: Disposition) -> None:
        """SCardEndTransaction; never waits. One that is over with its card, its service or (Windows) a reconnect is over.

        The reset of SCardEndTransaction would turn against our own handle as well; that of SCardReconnect does not (fact 33).

        Args:
            transaction: which one, as told to `begin`; nothing happens if it has ended, so an interrupted caller may end it again.
        """
        try:
            self._lock.call(self._end, transaction, disposition)
        except (CardRemovedError, ServiceUnavailableError) as error:
            logger.debug("at the end of a transaction: %s", error)

    def _end(self, transaction: object, disposition: Disposition) -> None:
        if transaction not in self._transactions.begun:
            return
        told = self._reset_told
        try:
            if disposition in (Disposition.RESET, Disposition.UNPOWER):
                self._reattach(self.share, self._protocols, disposition)
        finally:
            self._transactions.begun.remove(transaction)
        error = self._transactions.let_go()
        if error is not None and error.code != NOT_TRANSACTED and not (told and isinstance(error, CardResetError)):
            raise self._translate(error) from error

    def abandon(self, transaction: object) -> None:
        """Have a transaction ended by whoever calls next. Takes no lock and calls no PC/SC: finalizers may call it."""
        self._transactions.given_up.put(transaction)

    # The connection.

    def reset(self, disposition: Disposition) -> None:
        """SCardReconnect with a RESET (warm) or UNPOWER (cold); waits for another's transaction to end."""
        self._lock.call(self._reattach, self.share, self._protocols, disposition)

    def reconnect(self, share: ShareMode, protocols: Protocol | None) -> None:
        """SCardReconnect, which leaves the card as it is; waits for another's transaction, and to be alone for EXCLUSIVE.

        Args:
            protocols: None: those that were asked for before.

        Raises:
            RuntimeError: another share mode, inside a transaction.
            CardResetError: it has ended a transaction (Windows), which was begun again.
        """
        if self._transactions.begun and share is not self.share:
            raise RuntimeError("the share mode cannot change inside a transaction")
        self._lock.call(self._reconnect, share, self._protocols if protocols is None else protocols)

    def _reconnect(self, share: ShareMode, protocols: Protocol) -> None:
        if self._reattach(share, protocols, Disposition.LEAVE) and self._transactions.begun:
            raise CardResetError(
                f"the reconnect on reader {self.reader!r} has ended the transaction, which was begun again: another program may "
                "have used the card in between; what was selected and verified may be gone",
                RESET_CARD,
                "SCardReconnect",
                self.reader,
            )

    def _come_back(self) -> None:
        """Reconnect after a reset by another, to go on as before."""
        self._reconnect(self.share, self._protocols)

    def _reattach(self, share: ShareMode, protocols: Protocol, disposition: Disposition) -> bool:
        """SCardReconnect; whether it has ended PC/SC's transaction (fact 32), which was begun again."""
        transactions = self._transactions
        broke = transactions.held and self._reconnect_ends_transaction and self.share is not ShareMode.EXCLUSIVE
        try:
            reading, atr = reconnect(self._context, self._handle, self.reader, self.reading, share, protocols, disposition)
        except SCardError as error:
            transactions.held = transactions.held and not broke
            failure = self._translate(error)
            if isinstance(failure, CardRemovedError):
                self._lost = failure
            if failure is error:
                raise
            raise failure from error
        if transactions.owed or (self.share is ShareMode.EXCLUSIVE and share is not ShareMode.EXCLUSIVE):
            self._unlock()
        self.share, self._protocols = share, protocols
        self._settle(reading, atr)
        self._reset_told = False
        if broke:
            transactions.held = False
            transactions.hold()
        return broke

    def _unlock(self) -> None:
        """pcsc-lite keeps the lock of a handle that was EXCLUSIVE until its transactions have ended."""
        self._transactions.owed = False
        try:
            for _ in range(_MOST_ENDS):
                self._handle.end_transaction(Disposition.LEAVE)
        except SCardError as error:
            logger.debug("no transaction is left: %s", error)

    # The reader.

    def control_exchange(self, exchange: ControlExchange[T]) -> T:
        """Several control commands (SCardControl). They never wait: SHARING_VIOLATION in another's transaction (fact 4)."""
        return self._lock.call(lambda: self._pcsc_call(lambda: run(exchange, self._handle.control)))

    def control(self, code: int, data: bytes) -> bytes:
        """SCardControl."""
        return self._lock.call(lambda: self._pcsc_call(self._handle.control, code, data))

    def get_attribute(self, attribute: int) -> bytes:
        """SCardGetAttrib."""
        return self._lock.call(lambda: self._pcsc_call(self._handle.get_attribute, attribute))

    def set_attribute(self, attribute: int, value: bytes) -> None:
        """SCardSetAttrib."""
        self._lock.call(lambda: self._pcsc_call(self._handle.set_attribute, attribute, value))

    def check(self) -> None:
        """Raise if the card, its reader or the service is known to be lost. Never waits for another program."""
        try:
            self.get_attribute(ATTR_ATR_STRING)
        except (CardRemovedError, ServiceUnavailableError):
            raise
        except SCardError as error:
            # It says nothing about the card: a driver without the attribute, another's transaction, a reset.
            logger.debug("the card is there, as far as is known: %s", error)

    # The end.

    @property
    def closed(self) -> bool:
        """Whether `close` has done its work."""
        return self._lock.closed

    def close(self, disposition: Disposition | None = None) -> None:
        """Disconnect and release; then the card is free. See `SessionLock.close`."""
        self._lock.close(disposition)

    def _disconnect(self, disposition: Disposition | None) -> None:
        """Each step may be taken again, where something interrupted it: what is gone already is."""
        usual = Disposition.RESET if self.share is ShareMode.EXCLUSIVE else Disposition.LEAVE
        if disposition is None:
            disposition = usual
        self._transactions.begun.clear()
        self._transactions.let_go()  # a context released inside one has the card reset (fact 31)
        if disposition is not usual or not self._release_disconnects:
            if disposition is not Disposition.LEAVE:
                best_effort(self._handle.begin_transaction)  # a disconnect that waits would keep others waiting
            best_effort(lambda: self._handle.disconnect(disposition))
        best_effort(self._context.release)


def _nothing() -> None:
    """Nobody waits for this card."""
