"""Connecting to a card, and reconnecting without taking another card for it. Blocking.

Rules:

- The reader's state is queried first, then SCardStatus is called on the handle: if that succeeds, the card that was seen is the
  card that is connected. A state from before the connect will do where SCardStatus tells the event counter, as pcsc-lite's does
  (fact 34): if it has not changed, no card has moved since.
- A card whose ATR offers T=0 and T=1, but which does not answer in the one that the reader chose, does not support one of them: it
  is opened with T=0 alone, and reset to clear what the first try left (ISO/IEC 7816-3:2006, 9; pcsc-lite answers UNRESPONSIVE_CARD
  to a failed PPS, PROTO_MISMATCH to a protocol that it cannot set).
- A program that has exited may have left its protocol, RAW above all, set until the card is powered off (fact 63). If the card
  offers what is asked for, and no program uses it, a DIRECT connection resets it. A card in use is not reset.
- SCardReconnect attaches to whatever card is in the reader by then (fact 34). The event counter shows whether it is the same; where
  it is unreliable (macOS) the ATR does, before a reset, after which a card may have another ATR.
- If another program resets the card in the middle of a connect or a reconnect, it is repeated: since the card has no protocol for a
  moment it may fail with PROTO_MISMATCH, a reconnect also with W_RESET_CARD. A reconnect that meets one reset after the other fails
  with W_RESET_CARD, whatever its last try was answered: that says what to do.
"""

from __future__ import annotations

from contextlib import suppress

from .._enums import Disposition, Protocol, ShareMode, StateFlag
from .._pcsc.backend import CardHandle, Context
from .._pcsc.events import Reading
from .._pcsc.reader_states import reader_state
from ..errors import (
    PROTO_MISMATCH,
    REMOVED_CARD,
    UNRESPONSIVE_CARD,
    CardRemovedError,
    CardResetError,
    ProtocolMismatchError,
    SCardError,
)
from ..iso7816._atr import ATR
from .card_errors import best_effort
from .card_request import ANY_PROTOCOL, CardRequest

_WRONG_PROTOCOL = frozenset({PROTO_MISMATCH, UNRESPONSIVE_CARD})
_IN_USE = int(StateFlag.INUSE | StateFlag.EXCLUSIVE)
RESETS = 4
"""How many resets by other programs in a row a reconnect survives."""


def connect(context: Context, reader: str, request: CardRequest) -> tuple[CardHandle, Protocol]:
    """Connect to the card in `reader`; blocks for as long as another program's transaction lasts (fact 4).

    Returns:
        The handle, and the protocols to ask for at a reconnect.
    """
    try:
        return _connect_beside_resets(context, reader, request), request.protocols
    except SCardError as error:
        if error.code not in _WRONG_PROTOCOL or request.share is ShareMode.DIRECT:
            raise
        now = reader_state(context, reader)
        offered = ATR(now.atr).protocols & request.protocols
        try:
            if request.protocols != ANY_PROTOCOL or offered != ANY_PROTOCOL:
                raise
            return _reset(context.connect(reader, request.share, Protocol.T0), request.share, Protocol.T0), Protocol.T0
        except SCardError as second:
            if second.code != PROTO_MISMATCH or not offered or now.flags & _IN_USE:
                raise
    handle = context.connect(reader, ShareMode.DIRECT, Protocol.UNDEFINED)
    return _reset(handle, request.share, request.protocols), request.protocols


def _connect_beside_resets(context: Context, reader: str, request: CardRequest) -> CardHandle:
    """SCardConnect, twice if need be: a mismatch may be another program's reset, and what is done about others resets the card."""
    with suppress(ProtocolMismatchError):
        return context.connect(reader, request.share, request.protocols)
    return context.connect(reader, request.share, request.protocols)


def _reset(handle: CardHandle, share: ShareMode, protocols: Protocol) -> CardHandle:
    """Reconnect with a reset."""
    try:
        handle.reconnect(share, protocols, Disposition.RESET)
    except BaseException:
        best_effort(lambda: handle.disconnect(Disposition.LEAVE))
        raise
    return handle


def identify(context: Context, handle: CardHandle, reader: str, seen: Reading | None) -> tuple[Reading, bytes]:
    """Which card has been connected: the reader's state with it in, and its ATR.

    Args:
        seen: the reader's state before the connect, in the same run of the service; None: not known.
    """
    if seen is not None and seen.present and seen.counter:
        status = handle.status()
        if status.state >> 16 == seen.counter and status.atr == seen.atr:
            return seen, status.atr
    now = reader_state(context, reader)
    return now, handle.status().atr


def reconnect(
    context: Context,
    handle: CardHandle,
    reader: str,
    seen: Reading,
    share: ShareMode,
    protocols: Protocol,
    disposition: Disposition,
) -> tuple[Reading, bytes]:
    """Reconnect to the card that was `seen`, and to no other.

    Returns:
        The reader's state now, and the card's ATR.

    Raises:
        CardRemovedError: the card was taken out. The handle may be connected to another one now, and must not be used.
        CardResetError: other programs have reset it again and again.
    """
    by_atr = seen.present and not seen.counter and disposition is not Disposition.LEAVE
    dispositions = [Disposition.LEAVE, disposition] if by_atr else [disposition]  # compare the ATR before the card is reset
    left = RESETS
    reset: CardResetError | None = None
    while True:
        try:
            with suppress(CardResetError):  # it stays with the handle until the reconnect
                handle.status()  # REMOVED_CARD stays as well, and a reconnect would clear it
            handle.reconnect(share, protocols, dispositions[0])
            done = dispositions[0]
            now = reader_state(context, reader)
            atr = handle.status().atr
        except (CardResetError, ProtocolMismatchError) as error:
            if isinstance(error, CardResetError):
                reset = error
            elif dispositions[0] is not Disposition.LEAVE:
                raise
            if not left:
                raise reset or error  # noqa: B904  the one before it is no cause
            left -= 1
            continue
        if seen.present and not _is_same_card(seen, now, done):
            raise CardRemovedError(
                f"the card was taken out of reader {reader!r}, and another was put in; a new SCard waits for it",
                REMOVED_CARD,
                "SCardReconnect",
                reader,
            )
        del dispositions[0]
        if not dispositions:
            return now, atr


def _is_same_card(seen: Reading, now: Reading, done: Disposition) -> bool:
    if not now.present or seen.counter != now.counter:
        return False
    return done is not Disposition.LEAVE or not (seen.atr and now.atr) or seen.atr == now.atr
