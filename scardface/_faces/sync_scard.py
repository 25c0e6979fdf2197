"""Generated from `scard.py` by `.ci/generate_sync.py`, which writes it anew: edit that file, not this one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import overload

from .._enums import Disposition, Lengths, Protocol, ShareMode
from .._pcsc.backend import Backend
from .._reader.attributes import NumberAttribute, TextAttribute, decode_attribute, encode_attribute
from .._reader.contactless import GET_ATS, GET_UID, ats, uid
from .._reader.features import ReaderProperties, query_features, query_properties
from .._reader.pin_entry import PinEntry
from .._reader.pin_pad import PadResult, modify, verify
from .._session.card_request import ANY_PROTOCOL, DEFAULT_OPTIONS, CardRequest, Groups, OnReset, Readers
from .._threads import retry_if_interrupted
from ..iso7816._apdu import C_APDU, R_APDU, Buffer, Success
from ..iso7816._channel import OPEN, close_command, opened
from ..iso7816._exchange import ExchangeOptions
from ..iso7816._layer import Layer
from .card import code_and_data, commands, dword, raw_command
from .routes import Callback, Channel, Layered
from .sync_base import Answer, Answers, SyncBase, Verdict, until_removed

PLAIN_ENTRY = PinEntry()
"""4 to 8 digits as text, ended with the reader's key."""


class SCard(SyncBase):
    """A smart card: the constructor waits for one that matches and opens it; Ctrl-C ends the wait.

    `with SCard(...) as card:` or `close()` closes it. Several threads may share one card: exchanges never interleave. `cancel()`
    works from the moment that `__init__` began: a subclass that stores `self` first can be cancelled from another thread while it
    waits. One SCard is one acquisition. A card that is already in counts; waiters of the whole process are served oldest first.

    Args:
        readers: exact names of readers to watch, a str or an iterable of str; a compiled str pattern is searched in the name;
            `serial("...")` is the reader with that serial number. None: all readers.
        groups: reader groups to watch, a str or an iterable of str. None: no group is passed (pcsc-lite ignores groups).
        timeout: seconds for the whole acquisition, connecting included. None, -1, inf: for ever. 0: one look and one try at each
            card that matches.
        atr: a regular expression as bytes, searched in the ATR (`^` anchors it), compiled with re.DOTALL; or a compiled bytes
            pattern. It is matched once per ATR and is not bounded: it is your own code. Its end is `\\Z`, since `$` also matches
            before a final byte 0A.
        pnp: follow the readers that are plugged in and out, whichever they are, and no reader at all is waited out; `readers` and
            `groups` are ignored, with a UserWarning. `wait_for_reader` waits for those asked for.
        share: EXCLUSIVE never joins another program (scdaemon, a browser) and resets the card at the close; SHARED joins those
            who share, and leaves the card as it is; DIRECT opens the reader, with a card or without one (`atr` must be None).
        protocols: `Protocol.T0 | Protocol.T1` lets the reader choose by the ATR.
        lengths: how long commands and answers reach the card.
        options: how far an exchange may go (steps, bytes), and what it may fetch beyond the standard's rules.
        settle: seconds, 0 to 60, that a card must have been in without a change before it is opened; 0.05 for contactless readers
            that report a tap twice.
        new_only: ignore the cards that are in when the wait starts, until they have been taken out.
        on_reset: "raise" a CardResetError when another program has reset the card; "reconnect": reconnect, and send the command
            that met the reset once more, from its beginning. For those alone who keep no state on the card: what was selected and
            verified is gone without a word. Not for commands that go through a layer.
        wait_for_reader: readers that are asked for and are plugged in later, under whatever name, are waited for, and so is a
            service that is not there yet. False: the readers present at the start are watched, and none is a NoReaderError at once.
        success: which status words are no failure, so that a batch goes on after them: patterns of four characters, `x` for any
            digit, `["9000", "91xx"]`. They are all that succeeds, 9000 is not implied. Or a function of the response, which is
            called once for each, in the thread that speaks to the card. None: 9000.
        match: chooses a card by what is on it: `match(card)`, with the card open, says whether it is the right one. Each card that
            meets all else is asked once while it is in. One that goes meanwhile, or for which it raises an SCardError or a
            StatusError, is not the right one; other exceptions end the wait. None: any card.
        backend: the PC/SC to use; None: the default one at the start of the acquisition.

    Raises (when acquiring):
        CardTimeoutError: the time ran out; the text says what was seen. Its `__cause__` is what was wrong with a card that could
            not be opened: that ends no wait while there is time, and is tried again.
        WaitCancelledError: `cancel()` or `cancel_all()`.
        NoReaderError: no reader at the start (never with pnp or wait_for_reader).
        ServiceUnavailableError: no PC/SC service at the start (not with wait_for_reader), or it refuses this program.
        SCardError: no thread can be started, or PC/SC failed at the start with a timeout of 0.
        TypeError, ValueError: from the constructor, for an argument of a wrong type or range.
    """

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
        success: Success | None = None,
        match: Callable[[SCard], Verdict] | None = None,
        backend: Backend | None = None,
    ) -> None:
        card_request = CardRequest.from_arguments(
            readers=readers,
            groups=groups,
            timeout=timeout,
            atr=atr,
            pnp=pnp,
            share=share,
            protocols=protocols,
            lengths=lengths,
            options=options,
            settle=settle,
            new_only=new_only,
            on_reset=on_reset,
            wait_for_reader=wait_for_reader,
            success=success,
        )
        self._init(card_request, backend, match)

    def send(
        self,
        *apdus: C_APDU | Buffer,
        callback: Callback | None = None,
        success: Success | None = None,
        timeout: float | None = None,
    ) -> R_APDU:
        """Send commands in order; stop after the first whose final status is no success: not 9000, unless `success` says more.

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
            success: which status words are no failure of these commands, in place of the card's own `success`.
            timeout: seconds for all of it, waiting for its turn included; None: for ever. Then it is left as if it were cancelled:
                the command in flight ends in the card's thread, no later one goes out, and the next `send` waits for that.

        Returns:
            The last response; `is_successful` and `check` judge it by the same words.

        Raises:
            ValueError, TypeError: nothing or no command; raised before anything is sent.
            CardTimeoutError: the time ran out.
            CardRemovedError, CardResetError, CardCommunicationError, ServiceUnavailableError: what became of the card.
            RuntimeError: the card is closed, is called from inside its own callback, or would wait for a transaction of its own
                thread.
        """
        judgement = self._judgement if success is None else self._judged_by(success)
        return self._exchange(commands(apdus), callback, None, judgement, timeout)

    def send_all(
        self, *apdus: C_APDU | Buffer, stop: bool = True, success: Success | None = None, timeout: float | None = None
    ) -> list[R_APDU]:
        """As `send`, with every response: `responses = card.send_all(first, second)`.

        Args:
            apdus: as for `send`.
            stop: stop after the first response that is no success, which is the last of the list then; False: send all of them.
            success: as for `send`.
            timeout: as for `send`.

        Returns:
            The responses in the order of the commands, one at least.

        Raises:
            CardRemovedError: the responses before are lost; `answered` is their number. And as `send`.
        """
        return self._exchange_all(commands(apdus), None, self._kept_and_judged_by(success, stop), timeout)

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
        return self._run(lambda session: session.transmit(raw))

    @contextmanager
    def channel(self) -> Iterator[Channel[Answer, Answers]]:
        """Open a logical channel and close it at the end of the block (ISO 7816-4:2020, 11.1.2): `with card.channel() as ch`.

        Returns:
            What the block gets: `ch.send(...)` and `ch.layer(...)` as the card's, `ch.number` from 1 to 19.

        Raises:
            StatusError: the card refuses to open or to close it.
            CardCommunicationError: the card answers no channel number; and as `send`.
        """
        channel = Channel(self, opened(self._exchange([OPEN], None, None, None)))
        try:
            yield channel
        except BaseException:
            self._send_best_effort(close_command(channel.number))  # what went wrong is not hidden by what follows
            raise
        response = self._exchange([close_command(channel.number)], None, None, None)
        response.check()

    def layer(self, layer: Layer) -> Layered[Answer, Answers]:
        """The card through a layer, such as secure messaging: `secure = card.layer(layer)`, then `secure.send(...)`.

        Args:
            layer: an object with two methods that do no I/O: `wrap(command)` returns the C_APDU that goes out for the caller's,
                `unwrap(response)` the R_APDU that the caller sees. Each is called once for each command, at its turn, in the
                thread that speaks to the card. `unwrap` also hears the card's last word of an exchange that fails, a bare status
                for instance; if the card had none, what this method returned is closed (LayerClosedError), and a new secure channel
                is needed. It may also have `withdraw()`, which takes back the last `wrap`, of a command that cannot be sent or
                that the card never had whole, and `rewrap(command, ne)`, which wraps one anew with Le = `ne` after 6Cxx, once.

        Raises:
            TypeError: `layer` has no such methods.
        """
        return Layered(self, layer)

    def transaction(self, disposition: Disposition = Disposition.LEAVE) -> AbstractContextManager[None]:
        """A block in which nobody else reaches the card: no other program, no other thread of this one.

        `with card.transaction():` (SCardBeginTransaction, SCardEndTransaction). It waits for another program's transaction. The
        thread that holds it may send as ever, and begin another one inside; threads that are started inside wait. It ends on every
        way out of the block.

        Ctrl-C ends its wait at once; PC/SC cannot be told, so the card stays busy until it has begun and was ended again.

        Windows resets a card that idles in a transaction for 5 s, and ends the transaction: the next call is a CardResetError.

        Args:
            disposition: what becomes of the card at the end. After RESET or UNPOWER this card goes on with the card as it is then.

        Raises:
            CardRemovedError, CardResetError, ServiceUnavailableError: what became of the card; not at the end of the block.
            RuntimeError: the card is not open, or is called from inside its own callback.
        """
        return self._transaction(disposition)

    def while_present(self) -> AbstractContextManager[None]:
        """A block that ends when the card leaves: `with card.while_present():`.

        When the card, its reader or the service goes, the block raises. What the library waits for in it (another card, an event)
        ends at once, and a `send` by itself; other code goes on, and the block raises at its end.

        Raises:
            CardRemovedError: the card was taken out, swapped, or its reader unplugged, be it before the block.
            ServiceUnavailableError: the PC/SC service went, and the card's session with it.
            WaitCancelledError: `cancel()`, or the card was closed meanwhile.
            RuntimeError: the card is not open.
        """
        return self._while_present()

    def wait(self) -> None:
        """Return once this card is gone: taken out, swapped, its reader unplugged; at once if it is already. Ctrl-C ends the wait.

        Raises:
            ServiceUnavailableError: the PC/SC service went, and the card's session with it.
            WaitCancelledError: `cancel()`, or the card was closed meanwhile.
            RuntimeError: the card is not open.
        """
        removal = self._new_removal()
        self._begin_removal(removal)
        try:
            until_removed(removal)
        finally:
            retry_if_interrupted(self._end_removal, removal)

    def reset(self, cold: bool = False) -> None:
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
        self._run(lambda session: session.reset(disposition))

    def reconnect(self, share: ShareMode | None = None, protocols: Protocol | None = None) -> None:
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
        self._run(lambda session: self._reconnect(session, share, protocols))

    def control(self, code: int, data: bytes = b"") -> bytes:
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
        return self._run(lambda session: session.control(code, octets))

    @overload
    def attribute(self, attribute: TextAttribute) -> str: ...
    @overload
    def attribute(self, attribute: NumberAttribute) -> int: ...
    @overload
    def attribute(self, attribute: int) -> str | int | bytes: ...
    def attribute(self, attribute: int) -> str | int | bytes:
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
        return decode_attribute(number, self._run(lambda session: session.get_attribute(number)))

    def set_attribute(self, attribute: int, value: str | int | bytes) -> None:
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
        self._run(lambda session: session.set_attribute(number, octets))

    def features(self) -> Mapping[int, int]:
        """What the reader can do beyond PC/SC's calls (PC/SC part 10, 2.02.09, 2.2).

        Returns:
            Control code by `Feature`, or by the number of one that has no name here; empty if the reader has none.

        Raises:
            CardCommunicationError: the reader's answer makes no sense. And as `control`.
        """
        return self._run(lambda session: session.control_exchange(query_features()))

    def properties(self) -> ReaderProperties:
        """The reader's properties: its display, its keypad's limits, its maker (PC/SC part 10, 2.02.09, 2.6).

        Returns:
            What the reader tells; what it does not tell is None.

        Raises:
            CardCommunicationError: the reader's answer makes no sense. And as `control`.
        """
        return self._run(lambda session: session.control_exchange(query_properties()))

    def verify_pin_on_pad(self, command: C_APDU, entry: PinEntry = PLAIN_ENTRY) -> PadResult:
        """Have the user enter a PIN on the reader's keypad, and the card verify it (PC/SC part 10, 2.02.09, 2.5.2).

        The PIN never reaches this machine. It takes as long as the user does; Ctrl-C is heard when the entry has ended.

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
        return self._judged(self._run(lambda session: session.control_exchange(exchange)))

    def modify_pin_on_pad(
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
        return self._judged(self._run(lambda session: session.control_exchange(exchange)))

    def uid(self) -> bytes:
        """The UID (PUPI, IDm) of a contactless card, as its reader knows it (PC/SC part 3, 2.01.09, 3.2.2.1.3): 4 to 10 bytes.

        It is no secret and no proof: tags can be made with any UID, and phones change theirs.

        Raises:
            StatusError: the reader does not tell; it is none for contactless cards, mostly.
            CardCommunicationError: it tells nothing. And as `send`.
        """
        return uid(self._exchange([GET_UID], None, None, None))

    def ats(self) -> bytes:
        """The ATS of a contactless card (ISO/IEC 14443-4, 5.2), or its historical bytes, by reader (PC/SC part 3, 3.2.2.1.3).

        Raises:
            StatusError: the reader does not tell, or the card has none. And as `send`.
        """
        return ats(self._exchange([GET_ATS], None, None, None))
