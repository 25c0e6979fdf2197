"""The session: one open card, blocking.

Ownership, threads and the end:

- A session owns its PC/SC context and its card handle. Any thread may call it; its lock admits one at a time, for a whole batch,
  and PC/SC is never called outside the lock (fact 5: a second thread in one context freezes every PC/SC call of the process).
- Where other programs may share the card, `send` holds a transaction from before its first step to after its last, so that no other
  program's command comes in between (fact 64). Inside a transaction of the caller, `send` uses that one.
- A transaction of the caller spans several calls, so the lock is not held for it: the face decides who else may call meanwhile.
  Only the outermost transaction reaches PC/SC.
- `close` ends the session: transactions, connection, context, then the report that the card is free. It is final, and never raises.
- On pcsc-lite, releasing the context disconnects: it resets the card of an EXCLUSIVE handle and leaves other cards as they are,
  which is what a close needs. Any other disposition takes SCardDisconnect, which resets once no other program's transaction is in
  the way.
- If a reconnect finds another card, the session's card is lost for good: nothing is sent to a card that was not acquired.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from .._enums import Disposition, Protocol, ShareMode
from .._pcsc.backend import ATTR_ATR_STRING, Backend, CardHandle, Context, reconnect_ends_transaction
from .._pcsc.events import Reading
from .._pcsc.no_copy import refuse_copy
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
from ..iso7816._judgement import Judgement, ends_batch
from . import trace_hook
from .card_errors import best_effort, translate
from .card_request import CardRequest
from .connect import connect, identify, reconnect
from .exchanger import Exchanger, IsAbandoned, PreparedCommand, ResponseCallback
from .pin_watch import PinWatch
from .session_lock import SessionLock
from .trace_hook import Kind, Step, Traffic
from .transactions import Transactions

logger = logging.getLogger("scardface.session")

T = TypeVar("T")

_CALLS_OF_THE_READER = frozenset({"SCardControl", "SCardGetAttrib", "SCardSetAttrib"})
"""Calls whose failure says nothing of the card."""
_LEFT_ALONE = 0.005
"""Seconds after another program's reset in which that program can connect again."""
_MAX_LEFTOVER_TRANSACTIONS = 16
"""The most transactions that are ended when a handle that was EXCLUSIVE becomes shared; pcsc-lite may keep some."""


class Session:
    """One open card; see the module's docstring. Made by `open`.

    Attributes:
        failure: what the card failed with, first or for good, since this was set to None.
        resets: how often the card was reset since it was opened, as far as is known; a reset may be counted twice.
    """

    __reduce_ex__ = refuse_copy

    def __init__(
        self,
        backend: Backend,
        context: Context,
        handle: CardHandle,
        protocols: Protocol,
        reader: str,
        reading: Reading,
        atr: bytes,
        request: CardRequest,
        freed: Callable[[], None],
    ) -> None:
        self._context = context
        self._handle = handle
        self._protocols = protocols
        self._request = request
        self._exchanger = Exchanger(reader, request, self._transmit, self._reconnect_after_reset, self._note)
        self.prepare = self._exchanger.prepare
        self._transactions = Transactions(handle, self._translate, self._reconnect_after_reset)
        self.open_transactions = self._transactions.open  # the caller's, which have not ended
        self._reset_reported = self._removal_told = False
        self.resets = 0
        self.failure: SCardError | None = None
        self._lock = SessionLock(self._enter, self._transactions.release, self._disconnect, freed)
        self._lost: CardRemovedError | None = None
        self._release_disconnects = backend.release_disconnects
        self._reconnect_ends_transaction = reconnect_ends_transaction(backend)
        self.reader = reader
        self.card_key = id(backend), reader  # the same for all sessions on one card of one PC/SC
        self.share = request.share
        self._update(reading, atr)

    def _update(self, reading: Reading, atr: bytes) -> None:
        """Store what a connect or reconnect has found; `reading` tells this card from the next one."""
        self.reading = reading
        self.atr = ATR(atr)
        self.protocol = self._handle.protocol
        self.lengths = resolve_lengths(self._request.lengths, self.atr, self.protocol)
        # DIRECT is shared on pcsc-lite (fact 26); without a protocol no command can be sent.
        self._needs_transaction = self.share is not ShareMode.EXCLUSIVE and self.protocol != Protocol.UNDEFINED
        self._exchanger.configure(self.protocol, self.lengths)

    @classmethod
    def open(
        cls,
        backend: Backend,
        reader: str,
        request: CardRequest,
        freed: Callable[[], None],
        context: Context | None = None,
        seen: Reading | None = None,
    ) -> Session:
        """Connect to the card in `reader`; blocks for as long as another program's transaction lasts (fact 4).

        Args:
            freed: called by `close` once the card is disconnected.
            context: a context to connect in, which the session owns from now on; None: a new one.
            seen: the reader's state shortly before, which spares a call if it still holds; None: not known.
        """
        if not trace_hook.receivers:
            return cls._open(backend, reader, request, freed, context, seen)
        at = time.monotonic()
        try:
            session = cls._open(backend, reader, request, freed, context, seen)
        except BaseException as error:
            step = Step(at, time.monotonic() - at, b"", b"", error)
            trace_hook.tell(Traffic(reader, "connect", request.share.name, (step,), error=error))
            raise
        step = Step(at, time.monotonic() - at, b"", bytes(session.atr))
        trace_hook.tell(Traffic(reader, "connect", f"{session.share.name} {session.protocol.name}", (step,)))
        return session

    @classmethod
    def _open(
        cls,
        backend: Backend,
        reader: str,
        request: CardRequest,
        freed: Callable[[], None],
        context: Context | None,
        seen: Reading | None,
    ) -> Session:
        if context is None:
            context = backend.establish()
        try:
            handle, protocols = connect(context, reader, request)
            try:
                reading, atr = identify(context, handle, reader, seen)
                return cls(backend, context, handle, protocols, reader, reading, atr, request, freed)
            except BaseException:
                if not backend.release_disconnects:
                    best_effort(lambda: handle.disconnect(Disposition.LEAVE))
                raise
        except BaseException:
            best_effort(context.release)
            raise

    # For those who keep cards open.

    def watch_pins(self, pins: PinWatch) -> None:
        """Have `pins` told of each command before and after it is sent."""
        self._exchanger.pins = pins

    def _enter(self) -> None:
        if self._lost is not None:
            raise fresh_copy(self._lost)
        self._transactions.end_abandoned()

    def refuse_inside(self) -> None:
        """RuntimeError if this thread is inside a call of this session: it would wait for itself."""
        self._lock.refuse_inside()

    def is_inside(self) -> bool:
        """Whether this thread is inside a call."""
        return self._lock.is_inside()

    def refuse_in_callback(self) -> None:
        """RuntimeError if this thread is inside a batch's callback."""
        self._lock.refuse_in_callback()

    # Commands.

    def send(
        self,
        batch: Sequence[PreparedCommand],
        callback: ResponseCallback | None = None,
        abandoned: IsAbandoned | None = None,
        judgement: Judgement | None = None,
    ) -> R_APDU | None:
        """Exchange the commands in order, up to the first whose final status is not a success; see `Exchanger.run`.

        Args:
            callback: called after each command, before the next goes out, outside a transaction that `send` has begun.
        """
        try:
            if callback is None:
                return self._lock.call(self._send, batch, abandoned, judgement)
            return self._lock.call(self._send_each, batch, callback, abandoned, judgement)
        except CardRemovedError as error:
            error.answered = error.answered or 0  # None: it was gone before the first
            raise

    def _send(self, batch: Sequence[PreparedCommand], abandoned: IsAbandoned | None, judgement: Judgement | None) -> R_APDU | None:
        """Exchange commands with no other program's command in between."""
        _, _, repeatable = batch[0]
        self._begin_own_transaction(ignore_reset=repeatable)
        response = self._exchanger.run(batch, abandoned, judgement)
        self._transactions.release()
        return response

    def _send_each(
        self,
        batch: Sequence[PreparedCommand],
        callback: ResponseCallback,
        abandoned: IsAbandoned | None,
        judgement: Judgement | None,
    ) -> R_APDU | None:
        response: R_APDU | None = None
        for answered, prepared in enumerate(batch):
            try:
                response = self._send([prepared], abandoned, judgement)
            except CardRemovedError as error:
                error.answered = answered
                raise
            if response is None:
                return None
            self._lock.call_back(callback, prepared[0], response)
            if ends_batch(response, judgement):
                break
        return response

    def call_back(self, callback: ResponseCallback, command: C_APDU, response: R_APDU) -> None:
        """Run the callback of a batch that is sent command by command; from inside it the card cannot be used."""
        self._lock.call(self._lock.call_back, callback, command, response)

    def _begin_own_transaction(self, ignore_reset: bool) -> None:
        """Begin a transaction for what follows, where other programs may share the card; it ends with the call at the latest."""
        if self._needs_transaction:
            self._transactions.acquire(ignore_reset)

    def transmit(self, data: bytes) -> bytes:
        """One raw exchange: the bytes as they are."""
        return self._lock.call(self._transmit_one, data)

    def _transmit_one(self, data: bytes) -> bytes:
        if self._transactions.open:
            self._transactions.acquire()  # a reconnect that failed may have ended it
        return self._exchanger.transmit(data)

    def _transmit(self, data: bytes) -> bytes:
        try:
            if trace_hook.receivers:
                answer = trace_hook.timed(self._exchanger.steps, data, self._handle.transmit, data)
            else:
                answer = self._handle.transmit(data)
        except SCardError as error:
            raise self._translate(error)  # noqa: B904  it has its cause
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
        """The error to raise in the place of one of PC/SC, which is its cause unless it is the same: causes must have an end."""
        failure = translate(error, self._handle, self._context, self.reader, self.reading)
        if failure is not error:
            failure.__cause__ = error
        if trace_hook.receivers and isinstance(failure, CardRemovedError) and not self._removal_told:
            self._removal_told = True
            trace_hook.tell(Traffic(self.reader, "removal", "", (), error=failure))
        self._note(failure)
        if isinstance(failure, CardResetError):
            self._reset_reported = True
            self.resets += 1
        return failure

    def _note(self, failure: SCardError) -> None:
        of_the_card = isinstance(failure, CardResetError) or failure.call not in _CALLS_OF_THE_READER
        if isinstance(failure, (CardRemovedError, ServiceUnavailableError)) or (self.failure is None and of_the_card):
            self.failure = failure

    def _pcsc_call(self, call: Callable[..., T], *args: object) -> T:
        """One call of PC/SC; its error is translated."""
        try:
            return call(*args)
        except SCardError as error:
            raise self._translate(error)  # noqa: B904  it has its cause

    # Transactions.

    def begin_transaction(self, transaction: object) -> None:
        """SCardBeginTransaction: waits for another program's transaction, and nothing cancels that (fact 4). They nest.

        Args:
            transaction: any object of the caller that identifies it. If the call is interrupted, the caller calls `end_transaction`
                with it.
        """
        self._lock.call(self._transactions.begin, transaction, self._request.on_reset == "reconnect")

    def end_transaction(self, transaction: object, disposition: Disposition) -> None:
        """SCardEndTransaction; never waits, and raises nothing if the card, the service or (Windows) a reconnect has ended it
        before.

        A reset by SCardEndTransaction would be reported to this handle, too; one by SCardReconnect is not (fact 33).

        Args:
            transaction: as given to `begin_transaction`. Nothing happens if it has ended, so an interrupted caller may end it
                again.
        """
        try:
            self._lock.call(self._end_transaction, transaction, disposition)
        except (CardRemovedError, ServiceUnavailableError) as error:
            logger.debug("at the end of a transaction: %s", error)

    def _end_transaction(self, transaction: object, disposition: Disposition) -> None:
        if transaction not in self._transactions.open:
            return
        reported = self._reset_reported
        try:
            if disposition in (Disposition.RESET, Disposition.UNPOWER):
                self._reconnect_handle(self.share, self._protocols, disposition)
        finally:
            self._transactions.open.remove(transaction)
        error = self._transactions.release()
        if error is not None and error.code != NOT_TRANSACTED and not (reported and isinstance(error, CardResetError)):
            raise self._translate(error)

    def abandon_transaction(self, transaction: object) -> None:
        """Leave a transaction to be ended by the next call. Takes no lock and calls no PC/SC: finalizers may call it."""
        self._transactions.abandoned_ids.put(transaction)

    # The connection.

    def reset(self, disposition: Disposition) -> None:
        """SCardReconnect with a RESET (warm) or UNPOWER (cold); waits for another's transaction to end."""
        self._lock.call(self._reconnect_handle, self.share, self._protocols, disposition)

    def reconnect(self, share: ShareMode, protocols: Protocol | None) -> None:
        """SCardReconnect with LEAVE; waits for another program's transaction, and for EXCLUSIVE until all others have disconnected.

        Args:
            protocols: None: those asked for before.

        Raises:
            RuntimeError: another share mode, inside a transaction.
            CardResetError: the reconnect has ended a transaction (Windows), which was begun again.
        """
        if self._transactions.open and share is not self.share:
            raise RuntimeError("the share mode cannot change inside a transaction")
        self._lock.call(self._reconnect, share, self._protocols if protocols is None else protocols)

    def _reconnect(self, share: ShareMode, protocols: Protocol) -> None:
        if self._reconnect_handle(share, protocols, Disposition.LEAVE) and self._transactions.open:
            raise CardResetError(
                f"the reconnect on reader {self.reader!r} has ended the transaction, which was begun again: another program may "
                "have used the card in between; what was selected and verified may be gone",
                RESET_CARD,
                "SCardReconnect",
                self.reader,
            )

    def _reconnect_after_reset(self) -> None:
        """Reconnect after another program's reset, to go on as before; then leave the card alone for a moment.

        Who has reset a card goes on with it. If that program finds it in a transaction, it asks again only every 100 ms (fact 30),
        and a card that is sent to without a pause is hardly ever free then.
        """
        self._reconnect(self.share, self._protocols)
        if not self._transactions.held:
            time.sleep(_LEFT_ALONE)

    def _reconnect_handle(self, share: ShareMode, protocols: Protocol, disposition: Disposition) -> bool:
        """SCardReconnect. Returns whether that has ended PC/SC's transaction (fact 32), which was begun again."""
        transactions = self._transactions
        broke = transactions.held and self._reconnect_ends_transaction and self.share is not ShareMode.EXCLUSIVE
        args = self._context, self._handle, self.reader, self.reading, share, protocols, disposition
        try:
            if trace_hook.receivers:
                kind: Kind = "reconnect" if disposition is Disposition.LEAVE else "reset"
                reading, atr = trace_hook.tell_call(
                    self.reader, kind, f"{share.name} {disposition.name}", b"", False, reconnect, *args
                )
            else:
                reading, atr = reconnect(*args)
        except SCardError as error:
            transactions.held = transactions.held and not broke
            failure = self._translate(error)
            if isinstance(failure, CardRemovedError):
                self._lost = failure
            raise failure  # noqa: B904  it has its cause
        if transactions.end_refused or (self.share is ShareMode.EXCLUSIVE and share is not ShareMode.EXCLUSIVE):
            self._end_leftover_transactions()
        self.share, self._protocols = share, protocols
        self._update(reading, atr)
        self._reset_reported = False
        if disposition is not Disposition.LEAVE:
            self.resets += 1
        if broke:
            transactions.held = False
            transactions.acquire()
        return broke

    def _end_leftover_transactions(self) -> None:
        """pcsc-lite keeps the lock of a handle that was EXCLUSIVE until its transactions have ended."""
        self._transactions.end_refused = False
        try:
            for _ in range(_MAX_LEFTOVER_TRANSACTIONS):
                self._handle.end_transaction(Disposition.LEAVE)
        except SCardError as error:
            logger.debug("no transaction is left: %s", error)

    # The reader.

    def control_exchange(self, exchange: ControlExchange[T]) -> T:
        """Several control commands (SCardControl). They never wait: SHARING_VIOLATION in another's transaction (fact 4)."""
        return self._lock.call(lambda: self._pcsc_call(lambda: run(exchange, self._control)))

    def control(self, code: int, data: bytes) -> bytes:
        """SCardControl."""
        return self._lock.call(lambda: self._pcsc_call(self._control, code, data))

    def _control(self, code: int, data: bytes) -> bytes:
        if not trace_hook.receivers:
            return self._handle.control(code, data)
        # What a driver's own commands carry is not known, so it counts as secret.
        result: bytes = trace_hook.tell_call(self.reader, "control", f"{code:#010x}", data, True, self._handle.control, code, data)
        return result

    def get_attribute(self, attribute: int) -> bytes:
        """SCardGetAttrib."""
        return self._lock.call(lambda: self._pcsc_call(self._attribute, attribute))

    def _attribute(self, attribute: int) -> bytes:
        if not trace_hook.receivers:
            return self._handle.get_attribute(attribute)
        result: bytes = trace_hook.tell_call(
            self.reader, "attribute", f"{attribute:#010x}", b"", False, self._handle.get_attribute, attribute
        )
        return result

    def set_attribute(self, attribute: int, value: bytes) -> None:
        """SCardSetAttrib."""
        self._lock.call(lambda: self._pcsc_call(self._handle.set_attribute, attribute, value))

    def check(self) -> None:
        """Raise if the card, its reader or the service is lost, as far as PC/SC knows. Never waits for another program."""
        try:
            self.get_attribute(ATTR_ATR_STRING)
        except (CardRemovedError, ServiceUnavailableError):
            raise
        except SCardError as error:
            # Not about the card's presence: the driver lacks the attribute, another program's transaction, a reset.
            logger.debug("the card is there, as far as is known: %s", error)

    # The end.

    @property
    def closed(self) -> bool:
        """Whether `close` is complete."""
        return self._lock.closed

    def close(self, disposition: Disposition | None = None) -> None:
        """Disconnect and release, then report the card free. See `SessionLock.close`."""
        self._lock.close(disposition)

    def _disconnect(self, disposition: Disposition | None) -> None:
        """Disconnect and release. If it is interrupted it is called again, and steps that are done already fail without harm."""
        usual = Disposition.RESET if self.share is ShareMode.EXCLUSIVE else Disposition.LEAVE
        if disposition is None:
            disposition = usual
        at = time.monotonic()
        self._transactions.open.clear()
        self._transactions.release()  # a context released inside one has the card reset (fact 31)
        if disposition is not usual or not self._release_disconnects:
            if disposition is not Disposition.LEAVE:
                best_effort(self._handle.begin_transaction)  # a disconnect that waits for a transaction would block other calls
            best_effort(lambda: self._handle.disconnect(disposition))
        best_effort(self._context.release)
        if trace_hook.receivers:
            trace_hook.tell(Traffic(self.reader, "disconnect", disposition.name, (Step(at, time.monotonic() - at, b"", b""),)))
