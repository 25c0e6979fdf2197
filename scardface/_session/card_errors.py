"""What PC/SC's error codes mean for an open card: is the card lost?

Rules (facts 28, 33 to 35):

- If the reader is gone, the card is gone. A reader that was opened without a card (DIRECT) has none to lose: the error of a command
  says that there is no card.
- An exchange that failed, or was answered with nothing, means that the card is gone if the reader says so within the time that a
  driver needs to notice; else it is a communication error.
- Another program's reset stays a reset, and a lost service a lost service. PROTO_MISMATCH from SCardTransmit is a reset, too:
  pcsc-lite has lost the protocol, and the mark of the reset with it if there was a reconnect in between (fact 62).
- The caller owns the context, and no other thread uses it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .._pcsc.backend import CardHandle, Context
from .._pcsc.events import Reading, same_card
from .._pcsc.reader_states import reader_state
from ..errors import (
    COMM_DATA_LOST,
    INVALID_VALUE,
    NO_SMARTCARD,
    NOT_TRANSACTED,
    PROTO_MISMATCH,
    READER_UNAVAILABLE,
    REMOVED_CARD,
    REMOVED_ON_WINDOWS,
    RESET_CARD,
    UNKNOWN_READER,
    CardRemovedError,
    CardResetError,
    NoCardError,
    NoReaderError,
    SCardError,
    ServiceUnavailableError,
    converted,
)

logger = logging.getLogger("scardface.session")

DRIVER_POLL = 500
"""Milliseconds after which a removal has been noticed: drivers are polled every 400 ms (fact 12)."""
_POLL_INTERVAL = 0.02
"""Seconds between two queries in that time. SCardGetStatusChange could wait for the event, but pcscd 2.5.3 now and then loses the
registration of one that waits, and libpcsclite then waits for ever for the answer when it ends. With four cards at once that
happened in 8 of 14 runs, and in none with polling."""

_GONE = frozenset({REMOVED_CARD, READER_UNAVAILABLE, UNKNOWN_READER, NO_SMARTCARD})
_NO_READER = frozenset({READER_UNAVAILABLE, UNKNOWN_READER})
_CARD_MAY_BE_GONE = frozenset({NOT_TRANSACTED, COMM_DATA_LOST, INVALID_VALUE, *REMOVED_ON_WINDOWS})


def translate(error: SCardError, handle: CardHandle, context: Context, reader: str, seen: Reading) -> SCardError:
    """The error to raise for an open card in place of `error`, which may be `error` itself.

    Args:
        handle: the connection to the card.
        seen: the reader's state when the card was opened.
    """
    if isinstance(error, CardRemovedError) and seen.present:
        return error
    if not seen.present and error.code not in _NO_READER and (error.call == "SCardTransmit" or error.code == RESET_CARD):
        return _without_card(error, context, reader)
    if error.code == PROTO_MISMATCH and error.call == "SCardTransmit" and handle.protocol:
        message = f"another program reset the card in reader {reader!r}; its selections and verified PINs are lost"
        return converted(CardResetError, error, message)
    if error.code == NO_SMARTCARD and not seen.present:
        return error
    may_be_gone = error.code in _CARD_MAY_BE_GONE
    if error.code in _GONE or (may_be_gone and (_is_gone(context, reader, seen) or _is_unplugged(handle, error))):
        return converted(CardRemovedError, error, f"the card was taken out of reader {reader!r}, or the reader unplugged")
    return error


def _without_card(error: SCardError, context: Context, reader: str) -> SCardError:
    """The error in place of `error`, in a reader that was opened without a card (DIRECT): commands fail there in various ways."""
    try:
        if isinstance(error, ServiceUnavailableError) or reader_state(context, reader).present:
            return error
    except SCardError:
        return error
    message = f"{error.call}: there is no card in reader {reader!r}, which was opened without one (ShareMode.DIRECT); insert one"
    return NoCardError(f"{message} (0x{error.code:08X})", error.code, error.call, error.reader)


def _is_unplugged(handle: CardHandle, error: SCardError) -> bool:
    """Whether the handle's reader is gone, though a reader of that name may be there again (fact 35)."""
    if error.code != INVALID_VALUE:
        return False
    try:
        handle.status()
    except SCardError as status:
        return status.code in _GONE or status.code == INVALID_VALUE
    return False


def _is_gone(context: Context, reader: str, seen: Reading) -> bool:
    """Whether the card is gone, as far as the driver notices within `DRIVER_POLL`."""
    end = time.monotonic() + DRIVER_POLL / 1000
    while seen.present:
        try:
            now = reader_state(context, reader)
        except NoReaderError as error:
            return error.reader == reader
        except SCardError:
            return False
        if not same_card(seen, now):
            return True
        if time.monotonic() >= end:
            break
        time.sleep(_POLL_INTERVAL)
    return False


class SessionClosedError(RuntimeError):
    """The card is closed."""


def best_effort(call: Callable[[], object]) -> None:
    """Run one step of a clean-up; a failure of PC/SC or a card that is closed already is logged, not raised."""
    try:
        call()
    except (SCardError, SessionClosedError) as error:
        logger.debug("at the close of a card: %s", error)
