"""The differences between PC/SC implementations, as far as docs/pcsc-facts.md has them; everything else is the same for all.

Rules:

- A dialect states properties; no code of the simulation depends on a dialect's name.
- Only pcsc-lite was measured; Windows and macOS follow their documentation and other programs' bug reports.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ..errors import (
    COMM_ERROR,
    NO_SERVICE,
    REMOVED_CARD,
    RESET_CARD,
    SERVICE_STOPPED,
    SYSTEM_CANCELLED,
    UNSUPPORTED_FEATURE,
)


class PlugAndPlay(enum.Enum):
    """What the plug-and-play entry of a status call is (fact 19)."""

    EVENTS = enum.auto()
    """Its upper half counts changes of the reader list; passed back, it reports changes between calls. pcsc-lite from 2.3 on."""
    NOW = enum.auto()
    """It reports changes during the call only, and its upper half is 0. pcsc-lite before 2.3."""
    READERS = enum.auto()
    """Its upper half is the number of readers; a call with another number returns at once. Windows."""
    NONE = enum.auto()
    """There is none: the entry is unknown. macOS."""


class Dialect(NamedTuple):
    """The properties of one implementation."""

    platform: str | None = None
    """Whose error codes it answers, as `sys.platform` names it; None: those of the present platform."""
    plug_and_play: PlugAndPlay = PlugAndPlay.EVENTS
    needs_reader: bool = False
    """The service stops with the last reader and starts with the first (fact 48)."""
    counts_cards: bool = True
    """The upper half of a reader's state counts insertions and removals (facts 10, 49)."""
    zero_is_no_count: bool = True
    """A counter of 0 that is passed back is not compared (fact 10)."""
    direct_is_exclusive: bool = False
    """ShareMode.DIRECT is exclusive (fact 26)."""
    reconnect_ends_transaction: bool = False
    """Fact 32."""
    longest_idle: float = 0.0
    """Seconds without a call on its handle after which a transaction is ended, by a reset (fact 32); 0: never."""
    release_disconnects: bool = True
    """Releasing a context disconnects its handles (fact 31)."""
    removed: int = REMOVED_CARD
    """What a handle answers after its card was removed (fact 34)."""
    unsupported: int = UNSUPPORTED_FEATURE
    """SCARD_E_UNSUPPORTED_FEATURE (fact 21)."""
    wait_lost: int = COMM_ERROR
    """What a blocked call answers when the service stops (facts 22, 48)."""
    session_lost: int = NO_SERVICE
    """What calls on an old context answer from then on."""


DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "pcsclite": Dialect(),
        "pcsclite-1.9": Dialect(plug_and_play=PlugAndPlay.NOW),
        "windows": Dialect(
            platform="win32",
            plug_and_play=PlugAndPlay.READERS,
            needs_reader=True,
            zero_is_no_count=False,
            direct_is_exclusive=True,
            reconnect_ends_transaction=True,
            longest_idle=5.0,
            release_disconnects=False,
            unsupported=0x80100022,
            wait_lost=SYSTEM_CANCELLED,
            session_lost=SERVICE_STOPPED,
        ),
        "macos": Dialect(
            platform="darwin", plug_and_play=PlugAndPlay.NONE, counts_cards=False, release_disconnects=False, removed=RESET_CARD
        ),
    }
)
