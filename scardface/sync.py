"""The sync face: the same words without `await`, for scripts and threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy_names import load

if TYPE_CHECKING:
    from ._enums import Disposition, Lengths, Protocol, ShareMode
    from ._faces.card import cancel_all
    from ._faces.sync_cards import cards
    from ._faces.sync_monitor import ReaderMonitor
    from ._faces.sync_pool import CardPool
    from ._faces.sync_queries import groups, readers, states
    from ._faces.sync_scard import SCard
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
    from ._threads import CancelScope, cancellable
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

__all__ = [
    "ATR",
    "Attribute",
    "C_APDU",
    "CancelScope",
    "CardCommunicationError",
    "CardInserted",
    "CardPool",
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
    "cancellable",
    "cards",
    "control_code",
    "groups",
    "other_programs",
    "readers",
    "serial",
    "states",
]

_MODULES = {
    "_faces.sync_cards": ("cards",),
    "_faces.sync_monitor": ("ReaderMonitor",),
    "_faces.sync_pool": ("CardPool",),
    "_faces.sync_queries": ("groups", "readers", "states"),
    "_faces.sync_scard": ("SCard",),
    "_threads": ("CancelScope", "cancellable"),
}
"""Where each name lives that is this face's own; the others are the package's. A module is loaded when its name is first used."""

if not TYPE_CHECKING:  # to a type checker, any name would be one then

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = next((f"{__package__}.{module}" for module, names in _MODULES.items() if name in names), __package__)
        value = globals()[name] = load(home, name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
