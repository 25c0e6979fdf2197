"""Smart cards through PC/SC, asyncio-native: wait for a card, exchange commands with it, notice its removal.

::

    async with SCard(atr=rb"^\\x3b", timeout=30) as card:  # waits for a matching card, and opens it
        response = await card.send(C_APDU(0x00, 0xA4, 0x04, 0x00, b"\\xf0SCARDFACE", 256))
        print(response.check().data)  # StatusError unless 9000
        await card.wait()  # until it is taken out

`SCard` waits for a card that matches and opens it, `cards` is one card after the other; `ReaderMonitor` reports readers and cards;
`C_APDU` and `R_APDU` are commands and responses. `scardface.sync` has the same names without `await`. Beside them:
`scardface.iso7816` (commands by name, data objects, files, PINs), `scardface.pool` (open cards, lent), `scardface.scp03` (secure
channels), `scardface.contactless`, `scardface.tracing`, `scardface.replay`; `scardface.testing` has virtual cards and a daemon.

Loggers: "scardface" (a card is held by another program), "scardface.apdu" (exchanges, DEBUG, secrets left out), "scardface.pool"
(cards that are set aside), "scardface.watch" (the wait for PC/SC), "scardface.session" (failures of clean-ups, without effect).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy_names import load

if TYPE_CHECKING:
    from ._enums import Disposition, Lengths, Protocol, ShareMode
    from ._faces.card import cancel_all
    from ._faces.cards import cards
    from ._faces.monitor import ReaderMonitor
    from ._faces.queries import groups, readers, states
    from ._faces.scard import SCard
    from ._pcsc.events import (
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
    from ._pcsc.other_programs import other_programs
    from ._reader.attributes import Attribute
    from ._reader.features import EntryEnd, Feature, ReaderProperties, control_code
    from ._reader.pin_entry import PinEntry, PinFormat
    from ._reader.pin_pad import PadResult
    from ._session.card_request import serial
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
    from .iso7816._apdu import C_APDU, R_APDU, StatusError
    from .iso7816._atr import ATR
    from .iso7816._exchange import ExchangeOptions
    from .iso7816._layer import Layer

__version__ = "0.2.0"

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
    "cards",
    "control_code",
    "groups",
    "other_programs",
    "readers",
    "serial",
    "states",
]

_MODULES = {
    "iso7816._apdu": ("C_APDU", "R_APDU", "StatusError"),
    "iso7816._atr": ("ATR",),
    "_faces.queries": ("groups", "readers", "states"),
    "_reader.attributes": ("Attribute",),
    "_faces.card": ("cancel_all",),
    "_faces.cards": ("cards",),
    "_enums": ("Disposition", "Lengths", "Protocol", "ShareMode"),
    "_pcsc.events": (
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
    "iso7816._exchange": ("ExchangeOptions",),
    "_reader.features": ("EntryEnd", "Feature", "ReaderProperties", "control_code"),
    "_pcsc.other_programs": ("other_programs",),
    "iso7816._layer": ("Layer",),
    "_faces.monitor": ("ReaderMonitor",),
    "_reader.pin_entry": ("PinEntry", "PinFormat"),
    "_reader.pin_pad": ("PadResult",),
    "_faces.scard": ("SCard",),
    "_session.card_request": ("serial",),
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
"""Where each name lives. Its module is loaded when the name is first used, so importing the package costs next to nothing."""

if not TYPE_CHECKING:  # to a type checker, any name would be one then

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names:
                value = globals()[name] = load(f"{__name__}.{module}", name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
