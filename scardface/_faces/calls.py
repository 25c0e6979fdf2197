"""What an open card offers beside its exchanges, on the async face: transactions, resets, and the reader's own calls.

Who owns what, who may call it from where, what ends it:

- Every call of PC/SC happens in the card's thread, one hop each, in the order in which they were asked for.
- One task at a time: a call waits for its turn, and a transaction keeps the turn.
- A task that is cancelled leaves at once. What PC/SC cannot cancel (fact 4) ends in the card's thread, and is undone there.
"""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, cast, overload

from .._enums import Disposition, Protocol, ShareMode
from .._reader.attributes import NumberAttribute, TextAttribute, decode_attribute, encode_attribute
from .._reader.contactless import GET_ATS, GET_UID, ats, uid
from .._reader.features import ReaderProperties, features, properties
from .._reader.pin_entry import PinEntry
from .._reader.pin_pad import PadResult, modify, verify
from .._session.card_request import member
from .._session.card_state import best_effort
from .._session.session import Session
from .._threads import Loop, Reply
from .._waiting.acquisition import Acquisition
from ..iso7816._apdu import C_APDU, R_APDU
from ..iso7816._layer import Layer
from .card import Card, code_and_data, dword
from .card_lock import Turn
from .routes import Callback, Layered

T = TypeVar("T")

PLAIN_ENTRY = PinEntry()
"""4 to 8 digits as text, ended with the reader's key."""


class AsyncCalls(Card):
    """The part of the async SCard that the head of this file tells of."""

    _turn: Turn
    _loop: Loop

    def _refuse_inside(self) -> None:
        """RuntimeError from inside the callback of this card's own `send`."""
        raise NotImplementedError

    async def _do(self, job: Callable[[Session], T]) -> T:
        """One job in the card's thread, at this task's turn; nothing of it happens if the task has left before."""
        session = self._opened()
        self._refuse_inside()
        level = await self._turn.take()
        try:
            reply: Reply[T] = Reply(self._loop)
            return await self._hop(reply, lambda: reply.run_if_awaited(lambda: job(session)))
        finally:
            self._turn.give(level)

    async def _hop(self, reply: Reply[T], job: Callable[..., object], *args: object) -> T:
        """One hop into the card's thread and back, in the caller's context variables."""
        self._opened()  # it may have been closed while this task waited for its turn
        self._later(job, *args)
        return await reply.get()

    def _later(self, job: Callable[..., object], *args: object) -> None:
        """Leave a job for the card's thread."""
        worker = self._worker
        assert worker is not None
        worker.submit(contextvars.copy_context().run, job, *args)

    @asynccontextmanager
    async def transaction(self, disposition: Disposition = Disposition.LEAVE) -> AsyncIterator[None]:
        """A block in which nobody else reaches the card: no other program, no other task or thread of this one.

        `async with card.transaction():`, or `with` on the sync face (SCardBeginTransaction, SCardEndTransaction). It waits for
        another program's transaction. The task (thread) that holds it may send as ever, and begin another one inside. So may tasks
        that are started inside (`gather`, a TaskGroup), in turn, until the block ends; threads that are started inside wait. It
        ends on every way out of the block, also in another task than began it.

        Cancelled while it waits, it leaves at once; PC/SC cannot be told, so the card stays busy until it has begun and was ended
        again.

        Windows resets a card that idles in a transaction for 5 s, and ends the transaction: the next call is a CardResetError.

        Args:
            disposition: what becomes of the card at the end. After RESET or UNPOWER this card goes on with the card as it is then.

        Raises:
            CardRemovedError, CardResetError, ServiceUnavailableError: what became of the card; not at the end of the block.
            RuntimeError: the card is not open, or is called from inside its own callback.
        """
        session = self._opened()
        self._refuse_inside()
        disposition = member("disposition", Disposition, disposition)
        transaction = object()
        outer = await self._turn.take()
        try:
            await self._begin_transaction(session, transaction)
            level = self._turn.begin(outer)
        except BaseException:
            self._turn.give(outer)
            raise
        try:
            yield
            self._turn.end(level)
            await self._turn.idle(level)
            if not self._closed:  # else the close has ended it
                end: Reply[None] = Reply(self._loop)
                await self._hop(end, end.run, session.end, transaction, disposition)
        except GeneratorExit:  # thrown away, perhaps with its loop
            self._later(best_effort, lambda: session.end(transaction, disposition))
            with suppress(RuntimeError):
                self._turn.leave(level)
            raise
        except BaseException:
            # Handed over rather than awaited: no cancellation loses it, and what went wrong is not hidden by what follows.
            self._later(best_effort, lambda: session.end(transaction, disposition))
            self._turn.leave(level)
            raise
        self._turn.leave(level)

    async def _begin_transaction(self, session: Session, transaction: object) -> None:
        """Begin one; cancelled, have it ended again."""
        reply: Reply[None] = Reply(self._loop)
        try:
            await self._hop(reply, lambda: reply.run_if_awaited(lambda: session.begin(transaction)))
        except BaseException:
            self._later(best_effort, lambda: session.end(transaction, Disposition.LEAVE))
            raise

    async def reset(self, cold: bool = False) -> None:
        """Reset the card; `atr` and `protocol` are what it answers then. Waits for another program's transaction to end.

        What was selected and verified is gone, for other programs, too, which are told (SCardReconnect; ISO/IEC 7816-3:2006, 6.2).
        On Windows it ends a transaction, which is begun again: another program may come in between.

        Args:
            cold: power it down and up; else a warm reset.

        Raises:
            CardRemovedError: it was taken out; a card that took its place is not touched further.
            SCardError: it does not answer. And as `send`.
        """
        disposition = Disposition.UNPOWER if cold else Disposition.RESET
        await self._do(lambda session: session.reset(disposition))

    async def reconnect(self, share: ShareMode | None = None, protocols: Protocol | None = None) -> None:
        """Connect to the same card anew, leaving it as it is: after a CardResetError, to share it otherwise, to speak otherwise.

        For EXCLUSIVE it waits until all others have left (pcsc-lite; Windows raises SharingViolationError).

        Args:
            share: None: as now.
            protocols: None: as asked for before. T0 for a card that names T=1 in its ATR and cannot do it.

        Raises:
            CardRemovedError: the card was taken out; one that took its place is not spoken to.
            ProtocolMismatchError: the card, or another program that uses it, speaks another protocol.
            CardResetError: it was inside a transaction, which Windows ends then: it was begun again, but another program may have
                been in between. Or others went on resetting the card: several resets in a row are outlasted.
            RuntimeError: another share mode, inside a transaction. And as `send`.
        """
        share, protocols = self._checked(share, protocols)
        request = cast(Acquisition, self._request)
        await self._do(lambda session: request.reconnect(session.share if share is None else share, protocols))

    async def control(self, code: int, data: bytes = b"") -> bytes:
        """A command for the reader itself, SCardControl; it does not wait for another program's transaction.

        Args:
            code: the control code, on this platform; `control_code` makes those of PC/SC part 10.
            data: what goes with it.

        Returns:
            The reader's answer, at most 65,548 bytes.

        Raises:
            SharingViolationError: another program holds a transaction.
            SCardError: the reader does not know the code. And as `send`.
        """
        code, octets = code_and_data(code, data)
        return await self._do(lambda session: session.control(code, octets))

    @overload
    async def attribute(self, attribute: TextAttribute) -> str: ...
    @overload
    async def attribute(self, attribute: NumberAttribute) -> int: ...
    @overload
    async def attribute(self, attribute: int) -> str | int | bytes: ...
    async def attribute(self, attribute: int) -> str | int | bytes:
        """What the reader says of itself or its card, SCardGetAttrib (PC/SC part 3, 3.1).

        Args:
            attribute: an `Attribute`, or a vendor's number.

        Returns:
            Text and numbers as such, others, and those of no known type, as bytes; see `Attribute`.

        Raises:
            SharingViolationError: another program holds a transaction.
            SCardError: the reader does not have it. And as `send`.
        """
        number = dword("attribute", attribute)
        return decode_attribute(number, await self._do(lambda session: session.get_attribute(number)))

    async def set_attribute(self, attribute: int, value: str | int | bytes) -> None:
        """Set an attribute of the reader, SCardSetAttrib (PC/SC part 3, 3.1). Few drivers have one that can be set.

        Args:
            attribute: an `Attribute`, or a vendor's number.
            value: of the type that `attribute` returns.

        Raises:
            TypeError, ValueError: a value of another type or size.
            SharingViolationError: another program holds a transaction.
            SCardError: the reader does not take it. And as `send`.
        """
        number, octets = dword("attribute", attribute), encode_attribute(attribute, value)
        await self._do(lambda session: session.set_attribute(number, octets))

    async def features(self) -> Mapping[int, int]:
        """What the reader can do beyond PC/SC's calls (PC/SC part 10, 2.02.09, 2.2).

        Returns:
            Control code by `Feature`, or by the number of one that has no name here; empty if the reader has none.

        Raises:
            CardCommunicationError: the reader's answer makes no sense. And as `control`.
        """
        return await self._do(lambda session: session.control_exchange(features()))

    async def properties(self) -> ReaderProperties:
        """The reader's properties: its display, its keypad's limits, its maker (PC/SC part 10, 2.02.09, 2.6).

        Returns:
            What the reader tells; what it does not tell is None.

        Raises:
            CardCommunicationError: the reader's answer makes no sense. And as `control`.
        """
        return await self._do(lambda session: session.control_exchange(properties()))

    async def verify_pin_on_pad(self, command: C_APDU, entry: PinEntry = PLAIN_ENTRY) -> PadResult:
        """Have the user enter a PIN on the reader's keypad, and the card verify it (PC/SC part 10, 2.02.09, 2.5.2).

        The PIN never reaches this machine. It takes as long as the user does: cancelled, it leaves at once, and the card is busy
        until the entry has ended. In a script, Ctrl-C is heard then.

        Args:
            command: the VERIFY command, `C_APDU(0x00, 0x20, 0x00, 0x81)`; the reader writes the PIN into its data, or into a block
                of `entry`'s making if it has none.
            entry: how the digits are written, how many there may be, what ends the entry, how long it may take.

        Returns:
            The card's status word, or the reader's: `is_successful()`, `cancelled`, `timed_out`, `tries_left`, `meaning`.

        Raises:
            ValueError: the command and `entry` do not fit; before anything is sent.
            SCardError: the reader has no keypad (UNSUPPORTED_FEATURE). And as `control`.
        """
        exchange = verify(command, entry)
        return await self._do(lambda session: session.control_exchange(exchange))

    async def modify_pin_on_pad(
        self,
        command: C_APDU,
        entry: PinEntry = PLAIN_ENTRY,
        *,
        ask_current: bool = True,
        confirm: bool = True,
        current_offset: int = 0,
        new_offset: int | None = None,
    ) -> PadResult:
        """Have the user enter a new PIN on the reader's keypad, and the card take it (PC/SC part 10, 2.02.09, 2.5.3).

        Args:
            command: the CHANGE REFERENCE DATA command, `C_APDU(0x00, 0x24, 0x00, 0x81)`, or RESET RETRY COUNTER.
            entry: as for `verify_pin_on_pad`.
            ask_current: whether the current PIN is asked for, too.
            confirm: whether the new PIN is asked for twice.
            current_offset: bytes of the data before the block of the current PIN.
            new_offset: bytes of the data before the block of the new PIN; None: behind the current one's.

        Returns:
            As `verify_pin_on_pad`.

        Raises:
            ValueError: the command and the rest do not fit; before anything is sent.
            SCardError: the reader has no keypad (UNSUPPORTED_FEATURE). And as `control`.
        """
        exchange = modify(
            command, entry, ask_current=ask_current, confirm=confirm, current_offset=current_offset, new_offset=new_offset
        )
        return await self._do(lambda session: session.control_exchange(exchange))

    async def uid(self) -> bytes:
        """The UID (PUPI, IDm) of a contactless card, as its reader knows it (PC/SC part 3, 2.01.09, 3.2.2.1.3): 4 to 10 bytes.

        It is no secret and no proof: tags can be made with any UID, and phones change theirs.

        Raises:
            StatusError: the reader does not tell; it is none for contactless cards, mostly.
            CardCommunicationError: it tells nothing. And as `send`.
        """
        return uid(await self._exchange([GET_UID], None, None))

    async def ats(self) -> bytes:
        """The ATS of a contactless card (ISO/IEC 14443-4, 5.2), or its historical bytes, by reader (PC/SC part 3, 3.2.2.1.3).

        Raises:
            StatusError: the reader does not tell, or the card has none. And as `send`.
        """
        return ats(await self._exchange([GET_ATS], None, None))

    def layer(self, layer: Layer) -> Layered[Coroutine[Any, Any, R_APDU]]:
        """The card through a layer, such as secure messaging: `secure = card.layer(layer)`, then `await secure.send(...)`.

        Args:
            layer: an object with two methods that do no I/O: `wrap(command)` returns the C_APDU that goes out for the caller's,
                `unwrap(response)` the R_APDU that the caller sees. Each is called once for each command, at its turn, in the
                thread that speaks to the card. `unwrap` also hears the card's last word of an exchange that fails, a bare status
                for instance; if the card had none, what this method returned is closed (LayerClosedError), and a new secure channel
                is needed.

        Raises:
            TypeError: `layer` has no such methods.
        """
        return Layered(self._exchange, layer)

    async def _exchange(self, commands: list[C_APDU], callback: Callback | None, layer: Layer | None) -> R_APDU:
        """Commands to the card: what `send` does."""
        raise NotImplementedError
