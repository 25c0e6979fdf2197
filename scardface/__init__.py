"""Smart cards through PC/SC, asyncio-native: wait for a card, talk to it, hear it leave.

`SCard` waits for a card that matches and opens it; `ReaderMonitor` tells what comes and goes; `C_APDU` and `R_APDU` are commands
and responses. `scardface.sync` has the same words without `await`; `scardface.testing` has virtual cards and a private daemon.

Loggers: "scardface" (a card is held by another program), "scardface.apdu" (exchanges, DEBUG, secrets left out), "scardface.watch"
(the wait for PC/SC), "scardface.session" (clean-ups that found something gone).
"""

from __future__ import annotations

from collections.abc import Mapping

from . import _looks
from ._apdu import C_APDU, R_APDU, StatusError
from ._atr import ATR
from ._card import cancel_all
from ._enums import Disposition, Lengths, Protocol, ShareMode
from ._events import (
    CardInserted,
    CardRemoved,
    Event,
    EventsLost,
    ReaderAdded,
    ReaderRemoved,
    ReaderState,
    ServiceDown,
    ServiceUp,
)
from ._exchange import ExchangeOptions
from ._monitor import ReaderMonitor
from ._scard import SCard
from ._threads import in_thread
from .errors import (
    CardCommunicationError,
    CardRemovedError,
    CardResetError,
    CardTimeoutError,
    NoCardError,
    NoReaderError,
    ProtocolMismatchError,
    SCardError,
    ServiceUnavailableError,
    SharingViolationError,
    WaitCancelledError,
)

__version__ = "0.1.0"

__all__ = [
    "ATR",
    "C_APDU",
    "CardCommunicationError",
    "CardInserted",
    "CardRemoved",
    "CardRemovedError",
    "CardResetError",
    "CardTimeoutError",
    "Disposition",
    "Event",
    "EventsLost",
    "ExchangeOptions",
    "Lengths",
    "NoCardError",
    "NoReaderError",
    "Protocol",
    "ProtocolMismatchError",
    "R_APDU",
    "ReaderAdded",
    "ReaderMonitor",
    "ReaderRemoved",
    "ReaderState",
    "SCard",
    "SCardError",
    "ServiceDown",
    "ServiceUnavailableError",
    "ServiceUp",
    "ShareMode",
    "SharingViolationError",
    "StatusError",
    "WaitCancelledError",
    "cancel_all",
    "groups",
    "readers",
    "states",
]


async def readers(group: str | None = None) -> tuple[str, ...]:
    """The names of the readers plugged in, in PC/SC's order.

    Args:
        group: only those of this reader group, where PC/SC keeps groups (pcsc-lite does not).

    Raises:
        ServiceUnavailableError: no PC/SC service.
    """
    return await in_thread("scardface-look", lambda: _looks.list_readers(group))


async def groups() -> tuple[str, ...]:
    """The names of the reader groups.

    Raises:
        ServiceUnavailableError: no PC/SC service.
    """
    return await in_thread("scardface-look", _looks.list_groups)


async def states() -> Mapping[str, ReaderState]:
    """Reader name to `ReaderState`: one look at all readers, without a monitor.

    Raises:
        ServiceUnavailableError: no PC/SC service.
    """
    return await in_thread("scardface-look", _looks.list_states)
