"""Smart cards through PC/SC, asyncio-native: wait for a card, talk to it, hear it leave.

`SCard` waits for a card that matches and opens it; `ReaderMonitor` tells what comes and goes; `C_APDU` and `R_APDU` are commands
and responses. `scardface.sync` has the same words without `await`; `scardface.testing` has virtual cards and a private daemon.

Loggers: "scardface" (a card is held by another program), "scardface.apdu" (exchanges, DEBUG, secrets left out), "scardface.watch"
(the wait for PC/SC), "scardface.session" (clean-ups that found something gone).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._apdu import C_APDU, R_APDU, StatusError
    from ._async_looks import groups, readers, states
    from ._atr import ATR
    from ._attributes import Attribute
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
    from ._features import EntryEnd, Feature, ReaderProperties, control_code
    from ._holders import other_programs
    from ._layer import Layer
    from ._monitor import ReaderMonitor
    from ._pin_entry import PinEntry, PinFormat
    from ._pin_pad import PadResult
    from ._scard import SCard
    from ._wanted import serial
    from .errors import (
        CardCommunicationError,
        CardRemovedError,
        CardResetError,
        CardTimeoutError,
        LayerClosedError,
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
    "Attribute",
    "C_APDU",
    "CardCommunicationError",
    "CardInserted",
    "CardRemoved",
    "CardRemovedError",
    "CardResetError",
    "CardTimeoutError",
    "Disposition",
    "EntryEnd",
    "Event",
    "EventsLost",
    "ExchangeOptions",
    "Feature",
    "Layer",
    "LayerClosedError",
    "Lengths",
    "NoCardError",
    "NoReaderError",
    "PadResult",
    "PinEntry",
    "PinFormat",
    "Protocol",
    "ProtocolMismatchError",
    "R_APDU",
    "ReaderAdded",
    "ReaderMonitor",
    "ReaderProperties",
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
    "control_code",
    "groups",
    "other_programs",
    "readers",
    "serial",
    "states",
]

_ROOMS = {
    "_apdu": ("C_APDU", "R_APDU", "StatusError"),
    "_atr": ("ATR",),
    "_async_looks": ("groups", "readers", "states"),
    "_attributes": ("Attribute",),
    "_card": ("cancel_all",),
    "_enums": ("Disposition", "Lengths", "Protocol", "ShareMode"),
    "_events": (
        "CardInserted",
        "CardRemoved",
        "Event",
        "EventsLost",
        "ReaderAdded",
        "ReaderRemoved",
        "ReaderState",
        "ServiceDown",
        "ServiceUp",
    ),
    "_exchange": ("ExchangeOptions",),
    "_features": ("EntryEnd", "Feature", "ReaderProperties", "control_code"),
    "_holders": ("other_programs",),
    "_layer": ("Layer",),
    "_monitor": ("ReaderMonitor",),
    "_pin_entry": ("PinEntry", "PinFormat"),
    "_pin_pad": ("PadResult",),
    "_scard": ("SCard",),
    "_wanted": ("serial",),
    "errors": (
        "CardCommunicationError",
        "CardRemovedError",
        "CardResetError",
        "CardTimeoutError",
        "LayerClosedError",
        "NoCardError",
        "NoReaderError",
        "ProtocolMismatchError",
        "SCardError",
        "ServiceUnavailableError",
        "SharingViolationError",
        "WaitCancelledError",
    ),
}
"""Where each name lives. Its room is loaded when the name is first used, so importing the package costs next to nothing."""

if not TYPE_CHECKING:  # to a type checker, any name would be one then

    def __getattr__(name: str) -> object:
        for room, names in _ROOMS.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f".{room}", __name__), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
