"""Connecting to a card, and reconnecting without taking another card for it. Blocking.

Rules of this room:

- The reader is looked at first, then the handle is asked: a status that is answered says that the card which was seen is the card
  that is connected.
- A card whose ATR offers T=0 and T=1 and which does not answer when the reader chose, lies about one of them: it is asked for T=0
  alone, with a reset that clears what the first try left (ISO/IEC 7816-3:2006, 9; pcsc-lite answers UNRESPONSIVE_CARD to a failed
  PPS, PROTO_MISMATCH to a protocol that it cannot set).
- A program that has left may have left its protocol behind, RAW first of all, until the card is powered off (fact 63). A card that
  offers what is asked for, and that nobody uses, is reset by a DIRECT connection. One that somebody uses is not.
- SCardReconnect attaches to whatever is in the reader by then (fact 34). The event counter tells; where it lies (macOS) the ATR
  does, before a reset, after which a card may answer otherwise.
- A reset by another in the middle of a reconnect belongs to it: it is done again.
"""

from __future__ import annotations

from contextlib import suppress

from .._enums import Disposition, Protocol, ShareMode, StateFlag
from .._pcsc.backend import CardHandle, Context
from .._pcsc.events import Reading
from .._pcsc.reader_states import reader_state
from ..errors import PROTO_MISMATCH, REMOVED_CARD, UNRESPONSIVE_CARD, CardRemovedError, CardResetError, SCardError
from ..iso7816._atr import ATR
from .card_request import ANY_PROTOCOL, CardRequest
from .card_state import best_effort

_LIES = frozenset({PROTO_MISMATCH, UNRESPONSIVE_CARD})
_IN_USE = int(StateFlag.INUSE | StateFlag.EXCLUSIVE)
RESETS = 4
"""How many resets by others, in a row, a reconnect outlasts."""


def connect(context: Context, reader: str, request: CardRequest) -> tuple[CardHandle, Protocol]:
    """Connect to the card in `reader`; blocks for as long as another program's transaction lasts (fact 4).

    Returns:
        The handle, and the protocols to ask for at a reconnect.
    """
    try:
        return context.connect(reader, request.share, request.protocols), request.protocols
    except SCardError as error:
        if error.code not in _LIES or request.share is ShareMode.DIRECT:
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


def _reset(handle: CardHandle, share: ShareMode, protocols: Protocol) -> CardHandle:
    """Reconnect with a reset."""
    try:
        handle.reconnect(share, protocols, Disposition.RESET)
    except BaseException:
        best_effort(lambda: handle.disconnect(Disposition.LEAVE))
        raise
    return handle


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
        What the reader shows now, and the card's ATR.

    Raises:
        CardRemovedError: the card was taken out. The handle may be connected to another one now, and must not be used.
    """
    unseen = seen.present and not seen.counter and disposition is not Disposition.LEAVE
    todo = [Disposition.LEAVE, disposition] if unseen else [disposition]  # the ATR tells, as long as nobody has reset the card
    left = RESETS
    while True:
        try:
            with suppress(CardResetError):  # it stays with the handle until the reconnect
                handle.status()  # REMOVED_CARD stays, too, and a reconnect would forget it
            handle.reconnect(share, protocols, todo[0])
            done = todo[0]
            now = reader_state(context, reader)
            atr = handle.status().atr
        except CardResetError:
            if not left:
                raise
            left -= 1
            continue
        if seen.present and not _same(seen, now, done):
            raise CardRemovedError(
                f"the card was taken out of reader {reader!r}, and another was put in; a new SCard waits for it",
                REMOVED_CARD,
                "SCardReconnect",
                reader,
            )
        del todo[0]
        if not todo:
            return now, atr


def _same(seen: Reading, now: Reading, done: Disposition) -> bool:
    if not now.present or seen.counter != now.counter:
        return False
    return done is not Disposition.LEAVE or not (seen.atr and now.atr) or seen.atr == now.atr
