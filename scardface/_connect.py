"""Connecting to a card, and reconnecting without taking another card for it. Blocking.

Rules of this room:

- The reader is looked at first, then the handle is asked: a status that is answered says that the card which was seen is the card
  that is connected.
- A card whose ATR offers T=0 and T=1 and which does not answer when the reader chose, lies about one of them: it is asked for T=0
  alone, with a reset that clears what the first try left (ISO/IEC 7816-3:2006, 9; pcsc-lite answers UNRESPONSIVE_CARD to a failed
  PPS, PROTO_MISMATCH to a protocol that it cannot set).
- SCardReconnect attaches to whatever is in the reader by then (fact 34). The event counter tells; where it lies (macOS) the ATR
  does, unless a reset was asked for, after which a card may answer otherwise.
"""

from __future__ import annotations

from contextlib import suppress

from ._atr import ATR
from ._backend import CardHandle, Context
from ._enums import Disposition, Protocol, ShareMode
from ._events import Reading
from ._reader_states import reader_state
from ._wanted import ANY_PROTOCOL, Wanted
from .errors import PROTO_MISMATCH, REMOVED_CARD, UNRESPONSIVE_CARD, CardRemovedError, CardResetError, SCardError

_LIES = frozenset({PROTO_MISMATCH, UNRESPONSIVE_CARD})


def connect(context: Context, reader: str, wanted: Wanted) -> tuple[CardHandle, Protocol]:
    """Connect to the card in `reader`; blocks for as long as another program's transaction lasts (fact 4).

    Returns:
        The handle, and the protocols to ask for at a reconnect.
    """
    try:
        return context.connect(reader, wanted.share, wanted.protocols), wanted.protocols
    except SCardError as error:
        if (
            error.code not in _LIES
            or wanted.protocols != ANY_PROTOCOL
            or ATR(reader_state(context, reader).atr).protocols != ANY_PROTOCOL
        ):
            raise
    handle = context.connect(reader, wanted.share, Protocol.T0)
    handle.reconnect(wanted.share, Protocol.T0, Disposition.RESET)
    return handle, Protocol.T0


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
    with suppress(CardResetError):  # it stays with the handle until the reconnect
        handle.status()  # REMOVED_CARD stays, too, and a reconnect would forget it
    handle.reconnect(share, protocols, disposition)
    now = reader_state(context, reader)
    atr = handle.status().atr
    if seen.present and not _same(seen, now, disposition):
        raise CardRemovedError(
            f"the card was taken out of reader {reader!r}, and another was put in; a new SCard waits for it",
            REMOVED_CARD,
            "SCardReconnect",
            reader,
        )
    return now, atr


def _same(seen: Reading, now: Reading, disposition: Disposition) -> bool:
    if not now.present or seen.counter != now.counter:
        return False
    return disposition is not Disposition.LEAVE or not (seen.atr and now.atr) or seen.atr == now.atr
